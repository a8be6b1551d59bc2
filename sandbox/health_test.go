package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// visited returns a sandbox that shoppers have visited: two reached the portal, and four did not.
func visited(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	c := &servertest.Clock{}
	now := c.Now().UTC()
	c.Add(now.Truncate(24 * time.Hour).Add(27*time.Hour + 10*time.Minute).Sub(now)) // 12:10 in Tokyo, with no day or hour about to end
	s := startWith(t, sandbox.Options{Now: c.Now})
	clickSigned(t, s, pat)
	clickSigned(t, s, "6100200300600")
	clickSigned(t, s, robin)
	clickSigned(t, s, robin)
	clickSigned(t, s, "")
	if err := s.Switch("down", true); err != nil {
		t.Fatal(err)
	}
	clickSigned(t, s, "6100200300700")
	if err := s.Switch("down", false); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHealthByKeyboardAndTouch: the chart can be read without a mouse, its numbers can be saved, and what a merchant
// has chosen stays when the part is drawn again.
func TestHealthByKeyboardAndTouch(t *testing.T) {
	t.Parallel()
	s := visited(t)
	m := newMerchant(t, s, chromium(t))
	inspector{m.ctx}.call(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{
		"source": "navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'));",
	})
	m.open("#health .bar")
	until(t, "the store's time zone is known", func() bool { return strings.Contains(m.reads("#health"), "time zone Asia/Tokyo") })
	for _, want := range []string{
		"Of 6 visits, 2 reached the portal, 2 signed in.", "2 had no subscription in Recharge.", "1 left at the store’s sign-in.",
		"1 was asked to try again in a moment.",
	} {
		if got := m.reads("#health"); !strings.Contains(got, want) {
			t.Errorf("health reads %q; want %q in it", got, want)
		}
	}
	reading := func() string { return m.reads("#reading") }
	if got := reading(); !strings.Contains(got, "Visits: 6") {
		t.Errorf("the current hour reads %q; want 6 visits", got)
	}
	if got := m.attribute("#bar", "max"); got != "23" {
		t.Errorf("the slider goes up to %s; want 23, as the bars do", got)
	}
	do(t, m.ctx, chromedp.Focus(css("#bar"), m.app()))
	m.key(kb.Home)
	until(t, "the first hour is read", func() bool { return strings.HasPrefix(reading(), "00:00 – Visits:") })
	first := reading()
	do(t, m.ctx, chromedp.Click(css(".bar:nth-child(2)"), m.app()))
	until(t, "the hour that was tapped is read", func() bool { return reading() != first && strings.HasPrefix(reading(), "01:00 – Visits:") })

	do(t, m.ctx, chromedp.Focus(css("#period-7"), m.app()))
	m.key(kb.Enter)
	m.sees(`#period-7[aria-pressed="true"]:focus`)
	if got := m.attribute("#bar", "max"); got != "6" {
		t.Errorf("the chart of 7 days goes up to bar %s; want 6", got)
	}
	do(t, m.ctx, chromedp.Focus(css("#visits-details summary"), m.app()))
	m.key(kb.Enter)
	m.sees("#visits-table tbody tr:nth-child(7)")

	// This frame may not use the clipboard, so what would be copied is shown, and selected.
	do(t, m.ctx, chromedp.Focus(css("#support-copy"), m.app()))
	m.key(kb.Enter)
	m.sees("#for-support[open] #support-text")
	if got := m.reads("#support-text"); !strings.Contains(got, s.Shop()) || !strings.Contains(got, "6 visits") {
		t.Errorf("the text for support is %q; want the store and its visits", got)
	}

	folder := t.TempDir()
	inspector{m.ctx}.call(t, "Page.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": folder})
	do(t, m.ctx, chromedp.Focus(css("[data-save]"), m.app()))
	m.key(kb.Enter)
	until(t, "the numbers are saved", func() bool {
		file, _ := os.ReadFile(filepath.Join(folder, "visits-7.csv"))
		return strings.HasPrefix(string(file), "start,visits,") && strings.Contains(string(file), "T00:00:00+09:00,6,2,2,1,0,2,1,0,0,0\n")
	})
	picture(t, m.ctx, "health", 1200, 900)
	picture(t, m.ctx, "health-phone", 390, 844)
}

// TestHealthForEveryone checks Health with axe, on a phone and on a large screen, light and dark.
func TestHealthForEveryone(t *testing.T) {
	t.Parallel()
	s := visited(t)
	in := newInspector(t)
	for _, scheme := range schemes() {
		in.prefer(t, scheme)
		in.open(t, s.AppURL()+"/?embedded=1&shop="+s.Shop()+"&id_token="+s.Store.SessionToken(sandbox.ClientID))
		do(t, in.ctx, chromedp.WaitVisible(css("#health .bar")), chromedp.Click(css("#visits-details summary")), chromedp.Click(css("#for-support summary")))
		in.inspect(t, "health, "+scheme)
		crop(t, in.ctx, "health-chart-"+scheme, "#health figure")
	}
}

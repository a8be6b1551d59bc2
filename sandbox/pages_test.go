package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// watchShift sums up, from a page's first moment, everything that moves without the visitor's doing. It is
// the browser's own measure (CLS).
const watchShift = `window.shift = 0; window.moved = [];
new PerformanceObserver(list => {
  for (const one of list.getEntries()) {
    if (one.hadRecentInput) continue;
    window.shift += one.value;
    window.moved.push(...one.sources.map(source => source.node?.outerHTML?.slice(0, 120) ?? ''));
  }
}).observe({type: 'layout-shift', buffered: true});`

type shifted struct {
	Shift float64
	Moved []string
}

// TestLayoutDoesNotShift measures the store's pages on a phone, for everybody whom the block and the embed tell
// apart: a visitor, a subscriber and a shopper without a subscription. Each page is opened twice, since the
// second one already knows what the first has learned.
func TestLayoutDoesNotShift(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	for theme, classic := range themes() {
		if !suite.Runs(theme, "modern", "classic") {
			continue
		}
		s := startWith(t, sandbox.Options{Classic: classic})
		for _, shopper := range []string{"", "Pat Doe", "Robin Roe"} {
			t.Run(theme+" "+shopper, func(t *testing.T) {
				w := newWalker(t, s, machine)
				in := inspector{w.ctx}
				do(t, w.ctx, chromedp.EmulateViewport(390, 844))
				if shopper != "" {
					w.account(shopper)
				}
				in.call(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchShift})
				// Slow enough for a paint before the scripts and the answer about the shopper arrive.
				in.call(t, "Network.enable", nil)
				in.call(t, "Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": 150, "downloadThroughput": 60_000, "uploadThroughput": 60_000})
				for _, page := range []string{"/", "/", "/account", "/account", "/apps/subscriptions?ms_tried=1"} {
					if page != "/" && shopper == "" || strings.HasPrefix(page, "/apps") && shopper != "Robin Roe" {
						continue
					}
					w.open(page)
					got := read(t, w.ctx, chromedp.Evaluate[shifted](`(async () => {
						if (document.readyState !== 'complete') await new Promise(done => addEventListener('load', done, {once: true}));
						await new Promise(done => setTimeout(done, 900));
						return {Shift: window.shift, Moved: window.moved};
					})()`, chromedp.EvalAwaitPromise))
					if got.Shift >= 0.01 {
						t.Errorf("%s shifts by %.4f; want less than 0.01; moved: %q", page, got.Shift, got.Moved)
					}
					t.Logf("%s shifts by %.4f", page, got.Shift)
				}
			})
		}
	}
	t.Run("the measure works", func(t *testing.T) {
		w := newWalker(t, start(t), machine)
		inspector{w.ctx}.call(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchShift + `
			addEventListener('load', () => setTimeout(() => { document.body.prepend(Object.assign(document.createElement('div'), {style: 'height:200px'})); }, 300));`})
		w.open("/")
		w.until("a shift", func() bool { return read(t, w.ctx, chromedp.Evaluate[float64](`window.shift`)) >= 0.01 })
	})
}

// TestTabsHaveTitles checks that the browser's tab has the page's title and the store's name, whatever the
// theme makes of an app's page.
func TestTabsHaveTitles(t *testing.T) {
	t.Parallel()
	s, ctx := start(t), browser(t)
	do(t, ctx, chromedp.Navigate(s.Store.URL))
	for state, want := range map[string]string{
		"not-a-subscriber": "No subscriptions found – Sandbox Coffee",
		"unavailable":      "Your subscriptions cannot be opened right now – Sandbox Coffee",
		"forbidden":        "This link did not work",
		"link-used":        "This link did not work – Sandbox Coffee",
	} {
		do(t, ctx, chromedp.Navigate(galleryPage(s, state, "en", "light")))
		if got := read(t, ctx, chromedp.Title()); got != want {
			t.Errorf("%s: the tab says %q; want %q", state, got, want)
		}
	}
}

// TestPagesAtTwiceTheSize checks every page at 200 % zoom, which halves the width of a small window, in the
// languages with the longest words: nothing is cut off or out of the window, and there is one button.
func TestPagesAtTwiceTheSize(t *testing.T) {
	t.Parallel()
	s, in := start(t), newInspector(t)
	in.open(t, s.Store.URL)
	// A window of 640 px at 200 % has 320 CSS px, each drawn as two.
	zoom := emulation.SetDeviceMetricsOverrideParams{Width: 320, Height: 400, DeviceScaleFactor: 2}
	if _, err := chromedp.Call(in.ctx, emulation.SetDeviceMetricsOverride, zoom); err != nil {
		t.Fatal(err)
	}
	for _, state := range outcomes() {
		for _, language := range suite.Pick([]string{"en", "de", "fi", "ar"}, []string{"de", "ar"}) {
			for _, scheme := range schemes() {
				page := fmt.Sprintf("%s, %s, %s", state, language, scheme)
				in.turnTo(t, galleryPage(s, state, language, scheme))
				in.measure(t, page)
				buttons := read(t, in.ctx, chromedp.Evaluate[int](`document.querySelectorAll('main .button, .manage-subscriptions-page .button').length`))
				if buttons > 1 || buttons == 0 && state != "forward" && state != "link-forbidden" {
					t.Errorf("%s has %d buttons; want 1", page, buttons)
				}
			}
		}
	}
}

package sandbox_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestPictures takes the pictures of README and docs, and others for review.
func TestPictures(t *testing.T) {
	t.Parallel()
	if os.Getenv("SCREENSHOTS") == "" && !suite.Whole() {
		suite.Missing(t, "SCREENSHOTS names no folder for the pictures")
	}
	ctx := browser(t)
	s := start(t)
	at := func(path string, shown css) {
		do(t, ctx, chromedp.Navigate(s.Store.URL+path), chromedp.WaitVisible(shown))
	}

	do(t, ctx, chromedp.EmulateViewport(900, 700))
	at("/", "#menu-subscriptions")
	crop(t, ctx, "menu", ".site-header")
	signIn(t, ctx, s, pat)
	at("/", ".shopify-app-block")
	crop(t, ctx, "block", "section:has(.shopify-app-block)")

	at("/account", "#manage-subscriptions")
	do(t, ctx, chromedp.Click(css("#sandbox summary")))
	picture(t, ctx, "sandbox", 1200, 800)
	picture(t, ctx, "sandbox-phone", 390, 844)
	do(t, ctx, chromedp.Click(css("#manage-subscriptions")), chromedp.WaitVisible(css(`main[data-portal="open"]`)))
	picture(t, ctx, "portal", 1200, 800)
	picture(t, ctx, "portal-phone", 390, 844)

	do(t, ctx, chromedp.EmulateViewport(1400, 900))
	at("/sandbox/gallery?state=not-a-subscriber", "section iframe")
	crop(t, ctx, "gallery", "section")
	picture(t, ctx, "gallery-page", 1400, 900)
	at("/sandbox/gallery?state=unavailable&language=all", "section iframe")
	picture(t, ctx, "gallery-languages", 1400, 900)

	day(t, ctx)
	older := startWith(t, sandbox.Options{Classic: true})
	do(t, ctx, chromedp.EmulateViewport(1000, 600))
	do(t, ctx,
		chromedp.Navigate(older.Store.URL+"/account/login"),
		chromedp.Click(css(`[data-shopper="`+pat+`"]`)),
		chromedp.WaitVisible(css(`.account-nav a[href*="/apps/subscriptions"]`)), // from the app embed
	)
	crop(t, ctx, "account-menu", "main")
}

// crop saves a screenshot of one element if SCREENSHOTS names a folder.
func crop(t *testing.T, ctx context.Context, name string, element css) {
	t.Helper()
	save(t, name, read(t, ctx, chromedp.Screenshot(element)))
}

// listing takes a picture for docs/listing/, in the size that Shopify wants, with an element in view.
func (m *merchant) listing(name string, element css) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.EmulateViewport(1600, 900), chromedp.ScrollIntoView(element, m.app()))
	save(m.t, "listing-"+name, read(m.t, m.ctx, chromedp.CaptureScreenshot()))
}

// save writes a picture if SCREENSHOTS names a folder.
func save(t *testing.T, name string, png []byte) {
	t.Helper()
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// day takes the picture of a store's last 24 hours.
func day(t *testing.T, ctx context.Context) {
	t.Helper()
	c := &servertest.Clock{}
	now := c.Now().UTC()
	c.Add(now.Truncate(24 * time.Hour).Add(38*time.Hour + 10*time.Minute).Sub(now)) // 23:10 in Tokyo, where the browser is
	s := startWith(t, sandbox.Options{Now: c.Now})
	for hour := range 24 {
		if hour == 9 || hour == 15 {
			if err := s.Switch("down", hour == 9); err != nil {
				t.Fatal(err)
			}
		}
		for click := range 3 + 5*(hour%7) {
			clickSigned(t, s, []string{pat, "6100200300600", robin}[click%7%3])
		}
		if os.Getenv("SCREENSHOTS") != "" {
			time.Sleep(1200 * time.Millisecond) // counters are written once a second, into the current hour
		}
		c.Add(time.Hour)
	}
	m := &merchant{&walker{t, s, ctx}}
	do(t, ctx, chromedp.EmulateViewport(1000, 900))
	m.open(`#health .bar`)
	do(t, ctx, chromedp.ScrollIntoView(css("#health figure"), m.app()))
	picture(t, ctx, "install-health", 1000, 900)
	m.listing("health", "#health")
}

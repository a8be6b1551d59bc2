package sandbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// visit signs a visitor in at the headless storefront.
func visit(t *testing.T, ctx context.Context, at, name string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(at+"/"), chromedp.Click(css(`[data-visitor="`+name+`"]`)), chromedp.WaitVisible(css("#asked-link")))
}

// TestHeadlessStore: in a storefront without a theme, either button takes signed-in customers to
// their own portals. Customers without a subscription see a page that says so.
func TestHeadlessStore(t *testing.T) {
	t.Parallel()
	c := &servertest.Clock{}
	s := startWith(t, sandbox.Options{Headless: true, Now: c.Now})
	at, _ := s.Headless()
	machine := chromium(t)
	for _, name := range []string{"clock", "secret", "signin", "shop"} {
		if err := s.Switch(name, true); err == nil {
			t.Errorf("there is a switch %q; want none for Shopify's app proxy, which this store's shoppers do not use", name)
		}
	}
	for name, full := range map[string]string{"pat": "Pat Doe", "kim": "Kim Lee"} {
		for _, button := range []css{"#signed-link", "#asked-link"} {
			ctx := window(t, machine)
			visit(t, ctx, at, name)
			do(t, ctx, chromedp.Click(button), chromedp.WaitVisible(css(`main[data-portal="open"]`)))
			if got := read(t, ctx, chromedp.Text(css("main"))); !strings.Contains(got, full) {
				t.Errorf("by %s the portal reads %q; want the portal of %s", button, got, full)
			}
		}
	}
	ctx := window(t, machine)
	visit(t, ctx, at, "robin")
	picture(t, ctx, "headless", 1000, 900)
	do(t, ctx, chromedp.Click(css("#signed-link")), chromedp.WaitVisible(css(`main[data-outcome="not_a_subscriber"]`)))
	picture(t, ctx, "headless-page", 1000, 700)
	used := read(t, ctx, chromedp.Location())
	do(t, ctx, chromedp.Navigate(used), chromedp.WaitVisible(css(`main[data-outcome="not_a_subscriber"]`))) // a double click
	for says, later := range map[string]time.Duration{"already been used": 11 * time.Second, "too old": 5 * time.Minute} {
		c.Set(later)
		do(t, ctx, chromedp.Navigate(used), chromedp.WaitVisible(css(`main[data-outcome="forbidden"]`)))
		if got := read(t, ctx, chromedp.Text(css("main"))); !strings.Contains(got, says) || !strings.Contains(got, "reload the page") || !strings.Contains(got, "Back to the store") {
			t.Errorf("%v later the link shows %q; want that it is %s, and what to do", later, got, says)
		}
	}
	c.Set(0)
	do(t, ctx, chromedp.Navigate(at+"/"), chromedp.Click(css("#asked-link")), chromedp.WaitVisible(css(`.problem`)))
	if got := read(t, ctx, chromedp.Text(css(".problem"))); !strings.Contains(got, "No subscriptions") {
		t.Errorf("the storefront says %q; want that there are no subscriptions", got)
	}
}

// TestHeadlessPages checks that everyone can read and use the storefront and the pages behind its
// links, narrow and wide, light and dark.
func TestHeadlessPages(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Headless: true})
	at, _ := s.Headless()
	in := newInspector(t)
	for _, scheme := range schemes() {
		in.prefer(t, scheme)
		in.open(t, at+"/")
		in.inspect(t, "the headless storefront, "+scheme)
		do(t, in.ctx, chromedp.Click(css(`[data-visitor="robin"]`)), chromedp.WaitVisible(css("#asked-link")))
		in.inspect(t, "its account page, "+scheme)
		do(t, in.ctx, chromedp.Click(css("#signed-link")), chromedp.WaitVisible(css(`main[data-outcome]`)))
		in.inspect(t, "a page behind a signed link, "+scheme)
		do(t, in.ctx, chromedp.Navigate(at+"/"), chromedp.Click(css(`form[action="/logout"] button`)), chromedp.WaitVisible(css(`[data-visitor]`)))
	}
}

// TestMerchantMakesKeys: in the app home, a merchant creates a key, which is shown once, and
// revokes it.
func TestMerchantMakesKeys(t *testing.T) {
	t.Parallel()
	s := start(t)
	m := newMerchant(t, s, chromium(t))
	m.open("#connection")
	m.goes("Keys", `#keys [data-keys="none"]`)
	m.types("#key-name", "Our server")
	m.clicks(`form[data-post="/app/keys"] button`)
	m.sees("#new-key")
	if key := m.reads("#new-key"); !strings.HasPrefix(key, "mspk_sandbox-coffee_") {
		t.Errorf("the app home shows %q; want a key of this store's", key)
	}
	picture(t, m.ctx, "install-keys", 1200, 2600)
	m.open("#connection")
	m.goes("Keys", `#keys [data-keys="some"]`)
	if got := m.reads("#keys"); !strings.Contains(got, "Our server") || strings.Contains(got, "mspk_") {
		t.Errorf("after a reload the app home reads %q; want the key's name alone", got)
	}
	m.clicks("#keys [data-dialog]")
	m.clicks(`#keys dialog[open] form[data-post="/app/keys/revoke"] button`)
	m.sees(`#keys [data-keys="none"]`)
	if got := m.reads("#keys"); !strings.Contains(got, "Revoked.") {
		t.Errorf("the app home reads %q; want that it is revoked", got)
	}
}

package sandbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestSetupWalk follows a merchant who has only docs/merchants.md and the app home from an empty store to a shopper's
// first click, with the keyboard alone. Each step says what to do next.
func TestSetupWalk(t *testing.T) {
	t.Parallel()
	for look, test := range map[string]struct {
		width  int64
		scheme string
	}{
		"phone, dark": {390, "dark"}, "desktop, light": {1280, "light"},
	} {
		if !suite.Runs(look, "phone, dark") {
			continue
		}
		t.Run(look, func(t *testing.T) {
			s := startWith(t, sandbox.Options{New: true})
			machine := chromium(t)
			m := newMerchant(t, s, machine)
			features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: test.scheme}}
			if _, err := chromedp.Call(m.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
				t.Fatal(err)
			}
			do(t, m.ctx, chromedp.EmulateViewport(test.width, 844), chromedp.Navigate(s.Store.URL+"/admin"))
			m.tabs("[data-install]")
			m.key(kb.Enter)
			do(t, m.ctx, chromedp.WaitVisible(css("#install")))
			m.tabs("#install")
			m.key(kb.Enter)
			do(t, m.ctx, chromedp.WaitVisible(css("iframe#app")))

			m.sees("#step-connect[open] #token")
			m.tabs("#token")
			for _, token := range []string{s.Tokens.Admin, s.Tokens.Storefront, s.Tokens.Secret} {
				do(t, m.ctx, chromedp.KeyEvent(token))
				m.key(kb.Tab)
			}
			m.key(kb.Enter)
			m.sees(`[data-result="saved"]`)

			m.focused("#open-link")
			m.sees("#step-link[open] #setup-path")
			m.tabs("#setup-copy")
			do(t, m.ctx, chromedp.SetAttributeValue(css("#setup-copy"), "data-before", "", m.app()))
			m.focused("#setup-copy:not([data-before])") // when it is drawn again
			m.tabs("#open-try")
			m.key(kb.Enter)
			m.sees("#step-try[open] a[data-store]")
			m.sees("#step-link:not([open])")
			m.tabs("#setup-try")
			m.key(kb.Enter)
			m.sees("#customer")
			m.tabs("#customer")
			do(t, m.ctx, chromedp.KeyEvent(pat+kb.Enter))
			m.sees(`#tried [data-result="redirected"]`)

			do(t, m.ctx, chromedp.Navigate(s.Store.URL+"/admin"))
			m.tabs(`a[href^="/admin/apps/"]`)
			m.key(kb.Enter)
			m.sees(`[data-step="link"].now`)
			m.sees(`[data-step="try"].done`)
			shopper := newWalker(t, s, machine)
			signIn(t, shopper.ctx, s, pat)
			do(t, shopper.ctx, chromedp.Click(css("#menu-subscriptions")), chromedp.WaitVisible(css(`main[data-portal="open"][data-customer="Pat Doe"]`)))

			m.sees("#setup-done:not([open])") // by itself
			m.open("s-section:has(#health) + s-section #setup-done")
		})
	}
}

// tabs presses the Tab key until an element has the focus, in the admin or in the app home.
func (m *merchant) tabs(to css) {
	m.t.Helper()
	for range 60 {
		m.key(kb.Tab)
		for range 3 { // the focus can move a moment after the key
			if m.has(to + ":focus") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	m.t.Fatalf("the Tab key does not reach %s in %q", to, m.text())
}

// has reports whether an element is in the admin or in the app home right now. In a frame that is just being
// replaced, nothing is.
func (m *merchant) has(element css) bool {
	ctx, cancel := context.WithTimeout(m.ctx, time.Second)
	defer cancel()
	here := func(element css, in ...chromedp.QueryOption) []*chromedp.Node {
		nodes, err := chromedp.Run(ctx, chromedp.Nodes(element, append(in, chromedp.AtLeast(0))...))
		if err != nil {
			return nil
		}
		return nodes
	}
	frames := here("iframe#app")
	return len(here(element)) > 0 || len(frames) > 0 && len(here(element, chromedp.FromNode(frames[0]))) > 0
}

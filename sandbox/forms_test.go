package sandbox_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// focused waits until an element of the app home has the focus.
func (m *merchant) focused(want css) {
	m.t.Helper()
	m.sees(want + ":focus")
}

// TestSaveBar: changed settings have the admin's save bar until they are saved or discarded, also after a refusal.
func TestSaveBar(t *testing.T) {
	t.Parallel()
	m := newMerchant(t, start(t), chromium(t))
	m.open(`[data-state="connected"]`)
	m.goes("Settings", "#settings")
	bar := func(shown bool) {
		t.Helper()
		until(t, "the save bar", func() bool {
			return read(t, m.ctx, chromedp.Evaluate[bool]("!document.getElementById('save-bar').hidden")) == shown
		})
	}
	before := m.attribute("#page", "value")
	do(t, m.ctx, chromedp.Click(css("#edit-detected summary"), m.app()), chromedp.SendKeys(css("#page"), "x", m.app()))
	bar(true)
	picture(t, m.ctx, "save-bar", 1100, 1100)
	do(t, m.ctx, chromedp.Click(css("#discard")))
	bar(false)
	if got := read(t, m.ctx, chromedp.Value(css("#page"), m.app())); got != before {
		t.Errorf("discarded, the field has %q; want it as before", got)
	}
	m.types("#page", "https://www.example.com/pages/")
	do(t, m.ctx, chromedp.SendKeys(css("#page"), "1", m.app()), chromedp.Click(css("#save")))
	m.focused(`#page[aria-invalid="true"][aria-describedby="page-problem page-help"]`)
	if got := m.reads(".field + #page-problem"); !strings.Contains(got, "must be on shopify.com") {
		t.Errorf("at the field it reads %q; want what is wrong with it", got)
	}
	bar(true)
	picture(t, m.ctx, "save-bar-refused", 1100, 1100)
	picture(t, m.ctx, "save-bar-refused-phone", 390, 844)
	do(t, m.ctx, chromedp.SendKeys(css("#page"), "2", m.app()))
	m.sees("#page:not([aria-invalid])")
	m.types("#page", "https://shopify.com/1234567890/account/pages/")
	do(t, m.ctx, chromedp.SendKeys(css("#page"), "1", m.app()), chromedp.Click(css("#save")))
	m.focused(`#settings .note.good[role="status"]`)
	bar(false)
}

// TestSure: what cannot be undone is asked for again, with Cancel first, and the focus is never lost. Only keys are
// used.
func TestSure(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{New: true})
	m := newMerchant(t, s, chromium(t))
	do(t, m.ctx, chromedp.Navigate(s.Store.URL+"/admin"), chromedp.Click(css("[data-install]")), chromedp.Click(css("#install")), chromedp.WaitVisible(css("iframe#app")))
	m.sees("#token")
	m.types("#token", "strfnt_1")
	do(t, m.ctx, chromedp.Focus(css("#token"), m.app()))
	m.key(kb.Enter)
	m.focused(`#token[aria-invalid="true"]`)
	if got := m.reads("#token-problem"); !strings.Contains(got, "has a Storefront token in it") {
		t.Errorf("at the field it reads %q; want what is wrong with it", got)
	}
	picture(t, m.ctx, "connect-refused", 1100, 1300)
	m.paste(s.Tokens)
	m.focused("#open-link")
	m.goes("Keys", "#key-name")
	do(t, m.ctx, chromedp.Focus(css("#key-name"), m.app()))
	m.key(" ")
	m.key(kb.Enter)
	m.focused(`#key-name[aria-invalid="true"]`)
	m.types("#key-name", "Hydrogen")
	m.key(kb.Enter)
	m.focused(`[data-copy="new-key"]`)
	sure := func(open, dialog, name string) {
		t.Helper()
		do(t, m.ctx, chromedp.Focus(css(open), m.app()))
		m.key(kb.Enter)
		m.focused(css(dialog + `[open] .other`))
		picture(t, m.ctx, name, 1100, 900)
		picture(t, m.ctx, name+"-phone", 390, 844)
		m.key(kb.Escape)
		m.focused(css(open))
		m.key(kb.Enter)
		m.focused(css(dialog + `[open] .other`))
		m.key(" ")
		m.focused(css(open))
		m.key(kb.Enter)
		m.focused(css(dialog + `[open] .other`))
		m.key(kb.Tab)
		m.key(kb.Enter)
		m.focused(`.note.good[role="status"]`)
	}
	sure(`#keys .links button`, "#keys dialog", "sure-revoke")
	m.sees(`[data-keys="none"]`)
	m.goes("Settings", "#settings")
	sure("#disconnect", "#sure-disconnect", "sure-disconnect")
	m.sees(`[data-state="not_connected"]`)
}

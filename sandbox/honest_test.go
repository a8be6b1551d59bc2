package sandbox_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestHonestConnection walks through what the app home says about a Storefront token that Recharge does not take, and
// about a webhook secret before and after a message has shown what it is worth, on a phone and on a desktop.
func TestHonestConnection(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	for name, size := range map[string][2]int64{"phone": {390, 844}, "desktop": {1280, 900}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWith(t, sandbox.Options{New: true})
			m := newMerchant(t, s, machine)
			do(t, m.ctx, chromedp.EmulateViewport(size[0], size[1]), chromedp.Navigate(s.Store.URL+"/admin"),
				chromedp.Click(css("[data-install]")), chromedp.Click(css("#install")), chromedp.WaitVisible(css("iframe#app")))
			m.sees(`[data-state="not_connected"]`)

			pasted := s.Tokens
			pasted.Storefront, pasted.Secret = "strfnt_of_another_store", "nonsense"
			m.paste(pasted)
			m.sees(`[data-check="sessions"][data-state="failed"]`)
			m.sees(`[data-result="not_saved"]`)
			picture(t, m.ctx, "honest-refused-"+name, size[0], size[1])
			for field, want := range map[css]string{"#token": pasted.Admin, "#storefront": pasted.Storefront, "#secret": pasted.Secret} {
				if got := read(t, m.ctx, chromedp.Value(field, m.app())); got != want {
					t.Errorf("after the refusal, %s has %q; want %q, as typed", field, got, want)
				}
			}
			m.sees(`#storefront[aria-invalid="true"]:focus`)
			m.clicks(`button[name="without"]`)
			m.sees(`[data-result="saved"]`)
			m.sees(`[data-check="webhooks"][data-state="warned"]`)
			m.sees(`[data-state="connected"]`)
			for _, want := range []string{"Recharge may ask them to sign in", "do not match the API Client Secret"} {
				if got := m.text(); !strings.Contains(got, want) {
					t.Errorf("saved without the Storefront token, it reads %q; want %q", got, want)
				}
			}
			picture(t, m.ctx, "honest-without-"+name, size[0], size[1])

			m.goes("Settings", "#settings")
			until(t, "the settings say what the messages have shown", func() bool { return strings.Contains(m.reads("#settings"), "do not match the API Client Secret") })
			const form = `details:has([data-post="/app/connect"])`
			do(t, m.ctx, chromedp.Click(css(form+" summary"), m.app()))
			m.types("#secret", s.Tokens.Secret)
			m.types("#storefront", s.Tokens.Storefront)
			picture(t, m.ctx, "honest-again-"+name, size[0], size[1])
			m.clicks(form + ` button`)
			m.sees(`[data-check="webhooks"][data-state="passed"]`)
			m.sees(`[data-result="saved"].good`)
			until(t, "the settings say that a message was verified", func() bool { return strings.Contains(m.reads("#settings"), "a message from Recharge was verified") })
			picture(t, m.ctx, "honest-proven-"+name, size[0], size[1])
		})
	}
}

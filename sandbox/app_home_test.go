package sandbox_test

import (
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// fingers lists the controls that are lower than 44 px. A link in a sentence may be as low as its words, and a radio
// button is as high as its label.
const fingers = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
  .map(el => el.type === "radio" ? el.labels[0] : el)
  .filter(el => el.checkVisibility({visibilityProperty: true}) && el.getBoundingClientRect().height < 43.9)
  .filter(el => getComputedStyle(el).display !== "inline" || ![...el.parentNode.childNodes].some(node => node.nodeType === Node.TEXT_NODE && /\p{L}/u.test(node.data)))
  .map(el => el.getBoundingClientRect().height + " px: " + el.outerHTML.slice(0, 120))`

// appHome is the app home in a window of its own, since axe does not look inside frames.
type appHome struct {
	inspector
	s      *sandbox.Sandbox
	scheme string
}

// page opens a page of the app home. App Bridge works only in a frame, so this adds the session token itself.
func (h appHome) page(t *testing.T, path string, shows css) {
	t.Helper()
	token := h.s.Store.SessionToken(sandbox.ClientID)
	h.resize(t, wide)
	h.open(t, h.s.AppURL()+path+"?embedded=1&shop="+h.s.Shop()+"&id_token="+token)
	do(t, h.ctx, chromedp.Evaluate[chromedp.Void](`{
		const plain = window.fetch;
		window.fetch = (to, init) => plain(to, {...init, headers: {...init?.headers, Authorization: 'Bearer ' + `+quoted(token)+`}});
	}`), chromedp.WaitVisible(shows))
}

// looks checks what is shown: with axe, at 320 px and at twice the size, for fingers and with the Tab key.
func (h appHome) looks(t *testing.T, name string, dialog bool) {
	t.Helper()
	name = h.scheme + ", " + name
	h.inspect(t, name)
	for _, low := range read(t, h.ctx, chromedp.Evaluate[[]string](fingers)) {
		t.Errorf("%s: too low for a finger: %s", name, low)
	}
	picture(t, h.ctx, "home-"+name, 390, 844)
	h.resize(t, wide/2)
	h.measure(t, name+", at 200 %")
	h.resize(t, wide)
	if !dialog { // which keeps the Tab key
		h.tab(t, name)
	}
	picture(t, h.ctx, "home-"+name+"-wide", wide, 900)
}

// TestAppHomeForEveryone checks every page of the app home, in the states that a merchant sees from the first visit on.
// Dark is without Polaris, which is always light.
func TestAppHomeForEveryone(t *testing.T) {
	t.Parallel()
	for _, scheme := range schemes() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := startWith(t, sandbox.Options{New: true})
			s.Store.Install(sandbox.ClientID)
			h := appHome{newInspector(t), s, scheme}
			h.prefer(t, scheme)
			if scheme == "dark" {
				block := network.SetBlockedURLsParams{URLPatterns: []*network.BlockPattern{{URLPattern: "*://*:*/*polaris-*.js", Block: true}}}
				if _, err := chromedp.Call(h.ctx, network.SetBlockedURLs, block); err != nil {
					t.Fatal(err)
				}
			}
			fill := func(field css, text string) {
				t.Helper()
				do(t, h.ctx, chromedp.SetValue(field, text))
			}
			press := func(button, shows css) {
				t.Helper()
				do(t, h.ctx, chromedp.Click(button+":not(:disabled)"), chromedp.WaitVisible(shows))
			}
			h.page(t, "/", "#token")
			h.looks(t, "nothing connected", false)
			for path, shows := range map[string]css{"/campaigns": "h1", "/try": "#customer", "/keys": `[data-keys="none"]`, "/settings": `a[data-page]`} {
				h.page(t, path, shows)
				h.looks(t, "nothing connected, "+path[1:], false)
			}
			h.page(t, "/", "#token")
			fill("#token", "strfnt_1")
			press("#connect-form p:last-child button", "#token-problem")
			h.looks(t, "a wrong token", false)

			s.Recharge.SetUnity(true)
			fill("#token", s.Tokens.Admin)
			fill("#storefront", s.Tokens.Storefront)
			press("#connect-form p:last-child button", `#step-portal[open]`)
			press(`[name="portal"][value="unity"]`, "#unity-page")
			press("#step-portal button", "#page-problem")
			h.looks(t, "which portal", false)
			s.Recharge.SetUnity(false)
			press(`[name="portal"][value="affinity"]`, "#step-portal button")
			press("#step-portal button", "#step-link[open]")
			h.looks(t, "the link", false)
			press("#open-try", "#step-try[open]")
			h.looks(t, "try it", false)

			h.page(t, "/keys", "#key-name")
			fill("#key-name", "Hydrogen")
			press("#keys form button", "#new-key")
			h.looks(t, "a new key", false)
			press("#keys [data-dialog]", "dialog[open]")
			h.looks(t, "revoke", true)

			h.page(t, "/settings", "#settings")
			press("#edit-detected summary", "#page")
			press("#paste-tokens summary", "#token")
			fill("#page", "https://www.example.com/pages/1")
			press("#edit-detected button", "#page-problem")
			h.looks(t, "refused settings", false)
			press("#disconnect", "#sure-disconnect[open]")
			h.looks(t, "disconnect", true)

			h.page(t, "/try", "#customer")
			fill("#customer", pat)
			press(tryForm+" button", "#tried [data-result]")
			h.looks(t, "tried", false)
			clickSigned(t, s, pat)
			until(t, "the setup is complete", func() bool {
				h.page(t, "/", "#health")
				return read(t, h.ctx, chromedp.Evaluate[bool](`!!document.getElementById("setup-done")`))
			})
			h.looks(t, "complete", false)
		})
	}
}

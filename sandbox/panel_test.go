package sandbox_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// three starts the stores of the sandbox: the current one, the older one and the headless one.
func three(t *testing.T) (coffee, roastery, tea *sandbox.Sandbox) {
	t.Helper()
	log := t.Output()
	all, err := sandbox.StartAll(t.Context(), sandbox.Options{Log: log}, sandbox.Options{Classic: true}, sandbox.Options{Headless: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all[0].Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return all[0], all[1], all[2]
}

// TestPanelIsOnEveryPage opens each kind of page, finds the panel first, opens it by keyboard, and presses a button.
func TestPanelIsOnEveryPage(t *testing.T) {
	t.Parallel()
	coffee, roastery, tea := three(t)
	headless, _ := tea.Headless()
	ctx := browser(t)
	signIn(t, ctx, coffee, pat)
	for i, page := range []struct{ fault, address, back string }{
		{"", coffee.Store.URL + "/", "/"},
		{"", coffee.Store.URL + "/fr/collections/all", "/fr/collections/all"},
		{"", coffee.Store.URL + "/apps/subscriptions", "/account"},
		{"secret", coffee.Store.URL + "/apps/subscriptions", "/account"}, // forbidden
		{"", coffee.Store.URL + "/tools/recurring/get-subscription-access", "/account"},
		{"", coffee.Store.URL + "/admin", "/admin"},
		{"", coffee.Store.AccountURL + "/orders", "/orders"},
		{"", roastery.Store.URL + "/", "/"},
		{"", headless + "/", "/"},
	} {
		if page.fault != "" {
			if err := coffee.Switch(page.fault, true); err != nil {
				t.Fatal(err)
			}
		}
		do(t, ctx, chromedp.Navigate(page.address))
		first := read(t, ctx, chromedp.Evaluate[string](`document.body.firstElementChild.id`))
		if first != "sandbox" {
			t.Errorf("%s begins with %q; want the panel", page.address, first)
			continue
		}
		do(t, ctx,
			chromedp.Focus(css("#sandbox summary")), chromedp.KeyEvent("\r"), chromedp.WaitVisible(css(`[data-switch="off"]`)),
		)
		picture(t, ctx, fmt.Sprintf("panel-%d", i), 390, 844)
		do(t, ctx, chromedp.Focus(css(`[data-switch="off"]`)), chromedp.KeyEvent("\r"))
		want := page.address[:strings.Index(page.address[len("http://"):], "/")+len("http://")] + page.back + "#sandbox-switches"
		until(t, "back at "+want, func() bool { return read(t, ctx, chromedp.Location()) == want })
		do(t, ctx, chromedp.WaitVisible(css(`[data-switch="off"]`)), chromedp.WaitNotPresent(css("#sandbox [data-switched]")))
	}
}

// TestPanelsKnowTheirStore: each panel shows the last click of its own store, also one that was refused, and links to
// the other stores.
func TestPanelsKnowTheirStore(t *testing.T) {
	t.Parallel()
	coffee, roastery, tea := three(t)
	headless, _ := tea.Headless()
	homes := []string{coffee.Store.URL + "/", roastery.Store.URL + "/", headless + "/"}
	outcomes := func(want ...string) {
		t.Helper()
		for i, home := range homes {
			got := page(t, home)
			if want[i] == "" && !strings.Contains(got, "No click yet") || want[i] != "" && !strings.Contains(got, `data-last-outcome="`+want[i]+`"`) {
				t.Errorf("the panel of store %d does not show %q as its last click", i, want[i])
			}
			for _, other := range homes {
				if linked := strings.Contains(got, `<a href="`+other+`">Sandbox`); linked != (other != home) {
					t.Errorf("%s has a link to %s: %v", home, other, linked)
				}
			}
		}
	}
	outcomes("", "", "")
	pat := newPerson(t, coffee, pat)
	pat.get("/apps/subscriptions")
	outcomes("redirected", "", "")
	if err := roastery.Switch("secret", true); err != nil {
		t.Fatal(err)
	}
	page(t, roastery.Store.URL+"/apps/subscriptions")
	outcomes("redirected", "forbidden", "")
	page(t, coffee.AppURL()+"/go?link=nonsense")
	outcomes("redirected", "forbidden", "forbidden")
	pat.press("shop", "true")
	pat.get("/apps/subscriptions/orders")
	outcomes("not_connected", "forbidden", "forbidden")
	pat.post("/sandbox/switch", map[string][]string{"name": {"off"}})
	pat.get("/apps/subscriptions/orders")
	outcomes("redirected", "forbidden", "forbidden")
}

// page returns a page as someone sees it who has no cookie.
func page(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get(address)
	return (&person{t: t}).body(response, err)
}

// TestPanelForEveryone inspects the open panel on each kind of page, on a phone and on a large screen, light and dark.
func TestPanelForEveryone(t *testing.T) {
	t.Parallel()
	coffee, roastery, tea := three(t)
	headless, _ := tea.Headless()
	in := newInspector(t)
	for _, address := range []string{coffee.Store.URL + "/", roastery.Store.URL + "/", coffee.Store.URL + "/admin", headless + "/"} {
		for _, scheme := range schemes() {
			in.prefer(t, scheme)
			in.open(t, address+"#sandbox-switches") // which opens it
			do(t, in.ctx, chromedp.WaitVisible(css(`[data-switch="off"]`)))
			in.inspect(t, "the panel of "+address+", "+scheme)
			in.tab(t, "the panel of "+address+", "+scheme)
			picture(t, in.ctx, "panel-"+scheme+"-"+strings.Trim(strings.TrimPrefix(address, "http://127.0.0.1:"), "/0123456789"), 1200, 800)
		}
	}
}

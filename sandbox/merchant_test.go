package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// merchant is a person in the admin of a store.
type merchant struct{ *walker }

func newMerchant(t *testing.T, s *sandbox.Sandbox, machine context.Context) *merchant {
	t.Helper()
	return &merchant{newWalker(t, s, machine)}
}

// app selects the frame with the app home.
func (m *merchant) app() chromedp.QueryOption {
	m.t.Helper()
	frames := read(m.t, m.ctx, chromedp.Nodes(css("iframe#app")))
	return chromedp.FromNode(frames[0])
}

// open opens the app in the admin, and waits for an element in it.
func (m *merchant) open(want css) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.Navigate(m.s.Store.URL+"/admin"), chromedp.Click(css(`a[href^="/admin/apps/"]`)), chromedp.WaitVisible(css("iframe#app")))
	m.sees(want)
}

// goes follows a link of the app that the admin shows, and waits for an element of its page.
func (m *merchant) goes(label string, want css) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll('#app-nav a')].find((a) => a.textContent === `+quoted(label)+`).click()`))
	m.sees(want)
}

// sees waits for an element in the frame, which may reload meanwhile.
func (m *merchant) sees(want css) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("the app home reads %q", m.text())
		}
	}()
	until(m.t, "the app home shows "+string(want), func() bool {
		ctx, cancel := context.WithTimeout(m.ctx, time.Second)
		defer cancel()
		return chromedp.Do(ctx, chromedp.WaitVisible(want, m.app())) == nil
	})
}

func (m *merchant) reads(from css) string {
	m.t.Helper()
	return read(m.t, m.ctx, chromedp.Text(from, m.app()))
}

// types replaces the text of a field.
func (m *merchant) types(field css, text string) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.SetValue(field, text, m.app()))
}

// text returns what the frame shows right now, or "" if it is loading.
func (m *merchant) text() string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Text(css("body"), m.app()))
	return text
}

// clicks clicks a button once it is enabled. The app home disables the button of a form until the
// answer is complete, and a browser drops a click on a disabled button.
func (m *merchant) clicks(button css) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.Click(button+":enabled", m.app()))
}

// paste pastes tokens and connects.
func (m *merchant) paste(tokens sandbox.Tokens) {
	m.t.Helper()
	m.types("#token", tokens.Admin)
	m.types("#storefront", tokens.Storefront)
	m.types("#secret", tokens.Secret)
	m.clicks(`form[data-post="/app/connect"] button`)
}

// opensWithPath opens the app home once the server has noted the path of the last click.
func (m *merchant) opensWithPath(want string) {
	m.t.Helper()
	until(m.t, "the app home shows the path", func() bool {
		m.open("#connection .facts")
		return strings.Contains(m.reads("#connection .facts"), want)
	})
}

// savesPath opens the app home, which saves the path where the theme's block reads it.
func (m *merchant) savesPath(want string) {
	m.t.Helper()
	m.opensWithPath(want)
	until(m.t, "the app home has saved the path", func() bool {
		return m.s.Store.Metafield("manage_subscriptions.path") == want
	})
}

// TestHomeWithoutDirectAPI: if Shopify does not let the app home save the path, the merchant does not
// notice, and the block keeps the path that it has. The next visit makes up for it.
func TestHomeWithoutDirectAPI(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Path: "/a/renamed"})
	s.Store.SetFaults(func(f *shopifytest.Faults) { f.NoDirectAPI = true })
	m := newMerchant(t, s, chromium(t))
	clickSigned(t, s, pat)
	m.opensWithPath("/a/renamed")
	m.goes("Try it", "#customer")
	m.types("#customer", robin)
	m.clicks(`form[data-post="/app/try"] button`)
	m.sees(`#tried [data-result]`)
	if got := s.Store.Metafield("manage_subscriptions.path"); got != "" || strings.Contains(m.text(), "can’t") {
		t.Errorf("saved %q, and the app home reads %q; want nothing saved, and no complaint", got, m.text())
	}
	s.Store.SetFaults(func(f *shopifytest.Faults) { f.NoDirectAPI = false })
	m.savesPath("/a/renamed")
}

// TestMerchant follows a merchant's whole journey: install, connect with a wrong token and then the
// right one, try a customer, go to the store as that shopper and land in the portal, and uninstall.
func TestMerchant(t *testing.T) {
	t.Parallel()
	c := &servertest.Clock{}
	stores, err := sandbox.StartAll(t.Context(), sandbox.Options{Now: c.Now, Log: t.Output()}, sandbox.Options{Classic: true, New: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stores[0].Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	}()
	coffee, roastery := stores[0], stores[1]
	machine := chromium(t)
	m := newMerchant(t, roastery, machine)
	before := tags(roastery.Held())
	do(t, m.ctx, chromedp.Navigate(roastery.Store.URL+"/"), chromedp.WaitVisible(css("main")))
	inStore := `[...document.body.children].filter((part) => part.id !== 'sandbox').map((part) => part.outerHTML).join('')`
	if page := read(t, m.ctx, chromedp.Evaluate[string](inStore)); strings.Contains(page, "apps/subscriptions") || strings.Contains(page, "menu-subscriptions") {
		t.Error("a store that has not installed the app links to it")
	}

	do(t, m.ctx, chromedp.Navigate(roastery.Store.URL+"/admin"), chromedp.Click(css("[data-install]")), chromedp.WaitVisible(css("#install")))
	picture(t, m.ctx, "install-approve", 1000, 480)
	do(t, m.ctx, chromedp.Click(css("#install")), chromedp.WaitVisible(css("iframe#app")))
	m.sees(`[data-state="not_connected"]`)

	wrong := roastery.Tokens
	wrong.Admin = "sk_test_mistyped"
	m.paste(wrong)
	m.sees(`[data-result="not_saved"]`)
	if got := m.reads(`[data-check="token"][data-state="failed"]`); !strings.Contains(got, "Recharge does not know this token") || !strings.Contains(got, "Tools & apps → API tokens") {
		t.Errorf("with a wrong token it reads %q; want what is wrong, and where to click", got)
	}
	m.paste(coffee.Tokens)
	m.sees(`[data-check="store"]`)
	if got := m.reads(`[data-check="store"][data-state="failed"]`); !strings.Contains(got, "belongs to another store") {
		t.Errorf("with another store's token it reads %q; want that said", got)
	}

	m.paste(roastery.Tokens)
	m.sees(`[data-result="saved"]`)
	for _, check := range []string{"token", "store", "customers", "sessions", "portal", "accounts", "webhooks"} {
		m.sees(css(`[data-check="` + check + `"][data-state="passed"]`))
	}
	m.sees(`[data-state="connected"]`)
	if got := m.reads("#connection"); !strings.Contains(got, roastery.Store.URL+"/tools/recurring/portal/") || !strings.Contains(got, "legacy") || !strings.Contains(got, "signed in") {
		t.Errorf("connected, it reads %q; want the portal, legacy accounts and signed in", got)
	}
	m.sees("#step-link[open] #setup-embed") // its accounts have no menu of their own
	do(t, m.ctx, chromedp.EmulateViewport(1000, 980), chromedp.ScrollIntoView(css("#connect-heading"), m.app()))
	picture(t, m.ctx, "install-connect", 1000, 980)
	m.listing("connect", "#connect-heading")

	m.goes("Try it", "#customer")
	m.types("#customer", pat)
	// Right after the checks of connecting there may be no calls left for a try.
	until(t, "a try ends in the portal", func() bool {
		m.clicks(`form[data-post="/app/try"] button`)
		m.sees(`#tried [data-result]`)
		return strings.Contains(m.reads("#tried"), "in the portal, signed in")
	})
	tried := m.reads("#tried")
	for _, secret := range []string{"1f2e3d4c5b6a7988", "token=", roastery.Tokens.Admin} {
		if strings.Contains(tried, secret) {
			t.Errorf("a try shows %q", secret)
		}
	}
	if len(roastery.Recharge.Openings()) != 0 {
		t.Error("a try has opened the portal")
	}
	do(t, m.ctx, chromedp.EmulateViewport(1000, 640), chromedp.ScrollIntoView(css("#tried"), m.app()))
	picture(t, m.ctx, "install-try", 1000, 640)
	m.listing("try", "#tried")

	shopper := newWalker(t, roastery, machine)
	do(t, shopper.ctx,
		chromedp.Navigate(roastery.Store.URL+"/account"),
		chromedp.Click(css(`[data-shopper="`+pat+`"]`)),
		chromedp.WaitNotPresent(css("[data-shopper]")), // the sign-in page has the menu too
		chromedp.WaitVisible(css("#menu-subscriptions")),
		chromedp.Click(css("#menu-subscriptions")),
		chromedp.WaitVisible(css(`main[data-portal="open"][data-customer="Pat Doe"]`)),
	)
	if openings := coffee.Recharge.Openings(); len(openings) != 0 {
		t.Errorf("the other store's portal opened: %v", openings)
	}
	// The page requests its numbers itself.
	m.goes("Manage Subscriptions", "#health")
	do(t, m.ctx, chromedp.WaitVisible(css(`#health [data-headline]`), m.app()))
	until(t, "the click is counted", func() bool {
		return strings.Contains(m.reads("#health"), "Of 1 visit, 1 reached the portal, 1 signed in.")
	})

	connected := tags(roastery.Held())
	do(t, m.ctx, chromedp.Navigate(roastery.Store.URL+"/admin"), chromedp.Click(css("[data-uninstall]")), chromedp.WaitVisible(css("[data-install]")))
	until(t, "the server has heard of it", func() bool {
		deliveries := roastery.Store.WebhookDeliveries()
		return len(deliveries) > 0 && deliveries[len(deliveries)-1].Status == http.StatusOK
	})
	// A click that Shopify still forwards, and one after the app is installed again.
	if got := clickSigned(t, roastery, pat); !strings.Contains(got, `data-outcome="not_connected"`) {
		t.Errorf("the next click is answered by %s; want not_connected", got)
	}
	until(t, "no webhook is left at Recharge", func() bool { return len(roastery.Recharge.Webhooks()) == 0 })
	c.Add(80 * time.Second)
	until(t, "Redis holds nothing of the shop", func() bool { return slices.Equal(tags(roastery.Held()), before) })
	if slices.Equal(connected, before) {
		t.Errorf("connected, Redis held no more than before: %q", connected)
	}
	roastery.Store.Install(sandbox.ClientID)
	do(t, shopper.ctx, chromedp.Navigate(roastery.Store.URL+"/apps/subscriptions"), chromedp.WaitVisible(css(`[data-outcome="not_connected"]`)))
}

// TestHomeBounces: without a session token, the app home gets one from App Bridge, and then a new
// one for each call.
func TestHomeBounces(t *testing.T) {
	t.Parallel()
	c := &servertest.Clock{}
	s := startWith(t, sandbox.Options{Now: c.Now})
	s.Store.SetFaults(func(f *shopifytest.Faults) { f.NoIDToken = true })
	m := &merchant{&walker{t, s, window(t, chromium(t))}} // the browser reports each 401, after which App Bridge tries again
	m.open(`[data-state="connected"]`)
	c.Add(5 * time.Minute) // the token that it was loaded with expired long ago
	m.goes("Try it", "#customer")
	m.types("#customer", robin)
	m.clicks(`form[data-post="/app/try"] button`)
	m.sees(`[data-result="not_a_subscriber"]`)
	m.goes("Manage Subscriptions", `a[href*="addAppBlockId"]`)
	editor := read(t, m.ctx, chromedp.AttributeValue(css(`a[href*="addAppBlockId"]`), "href", m.app())).Value
	do(t, m.ctx, chromedp.Navigate(editor), chromedp.WaitVisible(css("main code")))
	if got := read(t, m.ctx, chromedp.Text(css("main"))); !strings.Contains(got, "the block manage-subscriptions of Manage Subscriptions added") {
		t.Errorf("the link into the theme editor leads to %q", got)
	}
}

// TestInstallFromOutside: the form on the app's own address leads to Shopify's install link and
// from there into the admin. If the app is installed, the form opens it.
func TestInstallFromOutside(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{New: true})
	m := newMerchant(t, s, chromium(t))
	outside := func() {
		do(t, m.ctx, chromedp.Navigate(s.AppURL()+"/"), chromedp.SendKeys(css("#shop"), s.Shop()), chromedp.Click(css("button")))
	}
	outside()
	do(t, m.ctx, chromedp.WaitVisible(css("#install")), chromedp.Click(css("#install")), chromedp.WaitVisible(css("iframe#app")))
	m.sees(`[data-state="not_connected"]`)
	m.paste(s.Tokens)
	m.sees(`[data-result="saved"]`)
	m.sees(`[data-state="connected"]`)
	outside()
	do(t, m.ctx, chromedp.WaitVisible(css("iframe#app")))
	m.sees(`[data-state="connected"]`)
}

// tags returns the pseudonyms of the shops that Redis has data of.
func tags(held map[string]string) []string {
	var all []string
	for key := range held {
		if _, rest, ok := strings.Cut(key, "{"); ok {
			tag, kind, _ := strings.Cut(rest, "}:")
			if kind != "b" && !strings.HasPrefix(kind, "x:") { // the token's bucket and, for two minutes, the marks of the uninstall and of messages
				all = append(all, tag)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// clickSigned sends a click to the server as Shopify would.
func clickSigned(t *testing.T, s *sandbox.Sandbox, customer string) string {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", s.AppURL()+"/apps/subscriptions?"+s.SignedQuery(customer), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(response.StatusCode, " ", string(body))
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not in half a minute: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

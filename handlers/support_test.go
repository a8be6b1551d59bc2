package handlers_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

var supportLink = regexp.MustCompile(`id="support-link">([^<]+)<`)

// switchSupport turns links for support of a shop on or off.
func switchSupport(f *servertest.Fixture, shop, on string) string {
	f.T.Helper()
	_, body := f.AppHome("/app/support", f.SessionToken(servertest.ForShop(shop)), url.Values{"on": {on}})
	return body
}

// makeSupport makes a link for support, and returns its path, "" if none was made, and the answer.
func makeSupport(f *servertest.Fixture, shop, customer string) (path, body string) {
	f.T.Helper()
	form := url.Values{"customer": {customer}, "support": {"1"}}
	_, body = f.AppHome("/app/try", f.SessionToken(servertest.ForShop(shop)), form)
	link := supportLink.FindStringSubmatch(body)
	if link == nil {
		return "", body
	}
	address, err := url.Parse(html.UnescapeString(link[1]))
	if err != nil {
		f.T.Fatal(err)
	}
	return "/go/support?" + address.RawQuery, body
}

// openSupport follows a link for support as a browser does.
func openSupport(f *servertest.Fixture, path string, headers ...string) servertest.Answer {
	f.T.Helper()
	return f.FollowLink(path, append([]string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, headers...)...)
}

// TestSupportLink checks that a merchant's staff can open a customer's portal once, if the merchant wants
// that, and that the log says who made the link and nothing about the customer.
func TestSupportLink(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*servertest.Fixture{
		"many stores": servertest.Connected(t), "one store, without API keys": servertest.Start(t),
	} {
		link, body := makeSupport(f, servertest.Shop, servertest.Pat)
		if link != "" || strings.Contains(body, "Make a link for support") || !strings.Contains(body, "No link was made") {
			t.Errorf("%s, off: %s; want no link", name, body)
		}
		if body := switchSupport(f, servertest.Shop, "1"); !strings.Contains(body, "are <b>on</b>") {
			t.Errorf("%s: %s; want them on", name, body)
		}
		_, body = f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}})
		if strings.Contains(body, "support-link") || !strings.Contains(body, "Make a link for support") {
			t.Errorf("%s, tried: %s; want the button, and no link", name, body)
		}
		for _, customer := range []string{servertest.Pat, "pat@example.test"} {
			link, body = makeSupport(f, servertest.Shop, customer)
			made := f.Log.Last("support link made")
			if link == "" || made["by"] != "42" || made["shop"] != servertest.Shop || made["request_id"] == nil {
				t.Fatalf("%s: %v %s; want a link, and who made it in the log", name, made, body)
			}
			got := openSupport(f, link)
			if got.Outcome() != "redirected" || got.Line["channel"] != "support" || got.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s: %d %v %s; want the portal", name, got.Status, got.Line, got.Body)
			}
			if opened := f.Log.Last("support link opened"); opened["link"] != made["request_id"] || opened["request_id"] != got.Line["request_id"] {
				t.Errorf("%s: made as %v, opened as %v in the click %v; want them to name each other", name, made, opened, got.Line)
			}
			if opened := f.Open(f.Shopper(""), got.Location); opened.Customer.ID != servertest.PatsRecord {
				t.Errorf("%s: opened %+v; want Pat's portal", name, opened)
			}
			again := openSupport(f, link, "User-Agent", "another browser")
			if again.Status != http.StatusForbidden || !strings.Contains(again.Body, "already been used") || strings.Contains(again.Body, "link for support") {
				t.Errorf("%s, again: %d %s; want it refused, without a word about support", name, again.Status, again.Body)
			}
		}
		for _, customer := range []string{servertest.Robin, "nobody@example.test", "x"} {
			if link, body := makeSupport(f, servertest.Shop, customer); link != "" {
				t.Errorf("%s, %s: %s; want no link, since it would open no portal", name, customer, body)
			}
		}
		nobody := f.SessionToken(func(c jwt.MapClaims) { delete(c, "sub") })
		if _, body := f.AppHome("/app/try", nobody, url.Values{"customer": {servertest.Pat}, "support": {"1"}}); strings.Contains(body, "support-link") {
			t.Errorf("%s, by nobody: %s; want no link", name, body)
		}
	}
}

// TestSupportLinkEnds checks everything that ends a link for support which has not been opened.
func TestSupportLinkEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ends  func(*servertest.Fixture)
		opens bool
	}{
		"nothing":      {func(*servertest.Fixture) {}, true},
		"nine minutes": {func(f *servertest.Fixture) { f.Clock.Add(9 * time.Minute) }, true},
		"ten minutes":  {func(f *servertest.Fixture) { f.Clock.Add(10 * time.Minute) }, false},
		"switched off": {func(f *servertest.Fixture) { switchSupport(f, servertest.Shop, "") }, false},
		"off and on": {func(f *servertest.Fixture) {
			switchSupport(f, servertest.Shop, "")
			switchSupport(f, servertest.Shop, "1")
		}, false},
		"on once more": {func(f *servertest.Fixture) { switchSupport(f, servertest.Shop, "1") }, true},
		"disconnected": {func(f *servertest.Fixture) { f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}) }, false},
		"connected anew": {func(f *servertest.Fixture) {
			f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{})
			f.Connect()
		}, false},
		"uninstalled": {func(f *servertest.Fixture) {
			f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
		}, false},
		"erased": {func(f *servertest.Fixture) {
			f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Connected(t)
			switchSupport(f, servertest.Shop, "1")
			link, body := makeSupport(f, servertest.Shop, servertest.Pat)
			if link == "" {
				t.Fatalf("no link: %s", body)
			}
			test.ends(f)
			got := openSupport(f, link)
			if opens := got.Status == http.StatusFound; opens != test.opens || !opens && got.Status != http.StatusForbidden {
				t.Errorf("%d %v %s; want opens = %v", got.Status, got.Line, got.Body, test.opens)
			}
		})
	}
}

// TestSupportErased checks that no link for support is made for an erased customer before their own next click.
func TestSupportErased(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	switchSupport(f, servertest.Shop, "1")
	f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if link, body := makeSupport(f, servertest.Shop, servertest.Pat); link != "" || !strings.Contains(body, "was erased") {
		t.Errorf("erased: %s; want no link", body)
	}
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions").Outcome(); got != "redirected" {
		t.Fatalf("the customer's own click = %s", got)
	}
	if link, body := makeSupport(f, servertest.Shop, servertest.Pat); link == "" {
		t.Errorf("after a click of their own: %s; want a link", body)
	}
}

// TestSupportLinkForged checks that only the server makes links for support, each for one customer of one store, and
// that they are not the links which an API key signs.
func TestSupportLinkForged(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), servertest.ConnectForm())
	switchSupport(f, servertest.Shop, "1")
	switchSupport(f, otherShop, "1")
	key := f.MakeKey(servertest.Shop, "middleware")
	good, body := makeSupport(f, servertest.Shop, servertest.Pat)
	if good == "" {
		t.Fatalf("no link: %s", body)
	}
	byKey := f.SignedLink("by-key", servertest.Pat)
	with := func(name, value string) string {
		query, _ := url.ParseQuery(strings.TrimPrefix(good, "/go/support?"))
		query.Set(name, value)
		return "/go/support?" + query.Encode()
	}
	unsigned, err := portallink.Parse(strings.TrimPrefix(good, "/go/support?"))
	if err != nil {
		t.Fatal(err)
	}
	empty, _ := unsigned.Query(portallink.Secret{})
	others := otherStores(f, unsigned)
	f.Calls()
	for name, path := range map[string]string{
		"an API key's link":         strings.Replace(f.SignLink(key, byKey), "/go?", "/go/support?", 1),
		"as an API key's link":      strings.Replace(good, "/go/support?", "/go?", 1),
		"signed with nothing":       "/go/support?" + empty,
		"another customer":          with("customer", servertest.Sam),
		"another store":             with("shop", otherShop),
		"longer":                    with("expires", fmt.Sprint(unsigned.Expires.Unix()+30)),
		"another nonce":             with("nonce", strings.Repeat("x", 16)),
		"a store without the app":   with("shop", "nobody.myshopify.com"),
		"nothing":                   "/go/support",
		"another store's signature": others,
	} {
		got := openSupport(f, path, "Accept-Language", "en")
		if got.Status != http.StatusForbidden || got.Outcome() != "forbidden" || got.Line["shop"] != nil || strings.Contains(got.Body, "link for support") {
			t.Errorf("%s: %d %v %s; want it refused like any other", name, got.Status, got.Line, got.Body)
		}
	}
	for _, header := range [][]string{
		{"Sec-Purpose", "prefetch"}, {"Sec-Fetch-Dest", "iframe"},
		{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}, // the preview that a chat makes
	} {
		if got := openSupport(f, good, header...); got.Status != http.StatusForbidden {
			t.Errorf("%v: %d; want it refused", header, got.Status)
		}
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("what was refused made the calls %v; want none", calls)
	}
	if got := openSupport(f, good); got.Outcome() != "redirected" {
		t.Errorf("the link itself: %d %v; want it still unused", got.Status, got.Line)
	}
}

// otherStores returns a link that another store's signature is put under.
func otherStores(f *servertest.Fixture, unsigned portallink.Signed) string {
	link, body := makeSupport(f, otherShop, servertest.Pat)
	if link == "" {
		f.T.Fatalf("the other store makes no link: %s", body)
	}
	query, _ := url.ParseQuery(strings.TrimPrefix(link, "/go/support?"))
	query.Set("shop", unsigned.Shop)
	return "/go/support?" + query.Encode()
}

// TestSupportLinkGuard checks that a link for support passes the same guard, and opens nothing without Redis.
func TestSupportLinkGuard(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	switchSupport(f, servertest.Shop, "1")
	person := f.PutRecord(servertest.Subscribers(1)[0])
	moved, body := makeSupport(f, servertest.Shop, person.ShopifyCustomerID)
	f.MoveRecord(person.ID, "6123")
	if got := openSupport(f, moved); moved == "" || got.Outcome() != "not_a_subscriber" {
		t.Errorf("after the record moved: %d %v %s; want nothing opened", got.Status, got.Line, body)
	}
	f.Clock.Add(2 * time.Hour) // what is cached of Pat is no longer used
	link, _ := makeSupport(f, servertest.Shop, servertest.Pat)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.ForeignPortal = true })
	if got := openSupport(f, link); got.Outcome() != "redirected_by_hash" || !strings.Contains(got.Location, servertest.PatsHash) {
		t.Errorf("with another customer's portal: %d %v; want Pat's own, by hash", got.Status, got.Line)
	}
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} })
	link, _ = makeSupport(f, servertest.Shop, servertest.Sam)
	f.Redis.Stop()
	if got := openSupport(f, link); got.Status == http.StatusFound {
		t.Errorf("without Redis: %d %v; want it closed, since nobody knows whether it was used", got.Status, got.Line)
	}
}

// TestSupportMerchants checks that a store switches only its own links, and only once it is connected.
func TestSupportMerchants(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	if body := switchSupport(f, otherShop, "1"); !strings.Contains(body, "Connect Recharge first") {
		t.Errorf("not connected: %s", body)
	}
	switchSupport(f, servertest.Shop, "1")
	f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), servertest.ConnectForm())
	if link, body := makeSupport(f, otherShop, servertest.Pat); link != "" {
		t.Errorf("the other store, off: %s; want no link", body)
	}
	if made := f.Log.Last("support links switched"); made["by"] != "42" || made["on"] != true {
		t.Errorf("switched: %v; want who did it in the log", made)
	}
}

// TestOwnPagesNameTheStore checks that a page for a signed link has what the admin has told of its store, and
// that nobody else's staff can write there.
func TestOwnPagesNameTheStore(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*servertest.Fixture{
		"many stores": servertest.Connected(t), "one store": servertest.Start(t),
	} {
		switchSupport(f, servertest.Shop, "1")
		used, _ := makeSupport(f, servertest.Shop, servertest.Pat)
		openSupport(f, used)
		f.AppHome("/app/contact", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"name": {"Evil"}, "email": {"evil@example.test"}})
		for _, told := range []struct{ name, email, shown, mail string }{
			{"", "", strings.TrimPrefix(f.Store.URL, "http://"), ""},
			{"Bean & <b>Leaf</b>", "hi+there@example.test", "Bean &amp; &lt;b&gt;Leaf&lt;/b&gt;", "mailto:hi&#43;there@example.test?subject="},
			{"Bean", "javascript:alert(1)", "Bean", ""},
			{"Bean", "a?bcc=b@example.test", "Bean", ""},
			{strings.Repeat("x", 201), "Pat <pat@example.test>", strings.TrimPrefix(f.Store.URL, "http://"), ""},
		} {
			f.AppHome("/app/contact", f.SessionToken(servertest.ForShop(servertest.Shop)), url.Values{"name": {told.name}, "email": {told.email}})
			got := openSupport(f, used, "User-Agent", "another browser", "Accept-Language", "en")
			shown := strings.Contains(got.Body, `<p class="store"><bdi>`+told.shown+`</bdi>`)
			if !shown || strings.Contains(got.Body, "mailto:") != (told.mail != "") || !strings.Contains(got.Body, told.mail) || strings.Contains(got.Body, "Evil") {
				t.Errorf("%s, told %+v: %s; want %q and %q", name, told, got.Body, told.shown, told.mail)
			}
		}
	}
}

package handlers_test

import (
	"manage-subscriptions/internal/servertest"

	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
)

const ()

// TestPortalLinks: a middleware gets the link of whom it names, which opens that
// customer's portal.
func TestPortalLinks(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	for _, test := range []struct {
		name, key, body string
		calls           map[string]int
		page            string
	}{
		{"first ever", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"warm", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), map[string]int{}, "subscriptions"},
		{"the old key, as the Customer Account API names customers", servertest.OldAPIKey, servertest.ByShopifyID("gid://shopify/Customer/" + servertest.Pat), map[string]int{}, "subscriptions"},
		{"another page", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","destination":"orders","locale":"fr"}`, map[string]int{}, "orders"},
		{"by Recharge's id", servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord), map[string]int{"customer": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"by Recharge's id, warm", servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord), map[string]int{}, "subscriptions"},
	} {
		f.Calls()
		got := f.PostLink(test.key, test.body)
		if calls := f.Calls(); !maps.Equal(calls, test.calls) {
			t.Errorf("%s: the calls %v; want %v", test.name, calls, test.calls)
		}
		if got.Status != http.StatusOK || !got.SignedIn || got.ExpiresAt == nil || !got.ExpiresAt.After(f.Clock.Now()) {
			t.Errorf("%s: %d %s; want a signed-in link, with when it is over", test.name, got.Status, got.Body)
			continue
		}
		opened := f.Open(f.Shopper(""), got.URL)
		if opened.Customer.ID != servertest.PatsRecord || opened.Page != test.page {
			t.Errorf("%s: %s opened %+v; want Pat's %s", test.name, got.URL, opened, test.page)
		}
		if line := f.Log.Last("click"); line["outcome"] != "redirected" || line["channel"] != "api" {
			t.Errorf("%s: the log says %v; want a click by the api", test.name, line)
		}
	}
}

// TestSignedLinks: a link that a middleware has signed opens the portal of whom it
// names, once.
func TestSignedLinks(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	for i, test := range []struct {
		name, key, customer, destination string
	}{
		{"by Shopify's id", servertest.APIKey, servertest.Pat, ""},
		{"the old key", servertest.OldAPIKey, servertest.Pat, "orders"},
		{"as the Customer Account API names customers", servertest.APIKey, "gid://shopify/Customer/" + servertest.Pat, ""},
		{"by Recharge's id", servertest.APIKey, "recharge:70100200", "payment-methods"},
	} {
		link := f.SignedLink(fmt.Sprint("n", i), test.customer)
		link.Destination = test.destination
		path := f.SignLink(test.key, link)
		got := f.FollowLink(path+"&utm_source=mail", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
		if got.Status != http.StatusFound || got.Outcome() != "redirected" || got.Line["channel"] != "go" {
			t.Errorf("%s: %d %v %s; want the portal", test.name, got.Status, got.Line, got.Body)
			continue
		}
		if opened := f.Open(f.Shopper(""), got.Location); opened.Customer.ID != servertest.PatsRecord {
			t.Errorf("%s: opened %+v; want Pat's portal", test.name, opened)
		}
		f.Calls()
		if again := f.FollowLink(path); again.Status != http.StatusForbidden || len(f.Calls()) != 0 {
			t.Errorf("%s, again: %d %s; want it refused", test.name, again.Status, again.Body)
		}
	}
}

// TestSignedLinkEnds: the outcomes have pages of our own, in the shopper's language.
func TestSignedLinkEnds(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	for i, test := range []struct {
		name, customer, locale, accept string
		broken                         func(*rechargetest.Faults)
		outcome, want                  string
	}{
		{"never subscribed", servertest.Robin, "", "fr-CH, fr;q=0.9, en;q=0.8", nil, "not_a_subscriber", `<html lang="fr"`},
		{"two records", servertest.Kim, "ar", "fr", nil, "not_a_subscriber", `dir="rtl"`},
		{"no such record", "recharge:999", "", "xx", nil, "not_a_subscriber", `<html lang="en"`},
		{"Recharge down", servertest.Sam, "", "de", func(x *rechargetest.Faults) { x.Down = true }, "unavailable", `<html lang="de"`},
	} {
		if test.broken != nil {
			f.Recharge.SetFaults(test.broken)
		}
		link := f.SignedLink(fmt.Sprint("n", i), test.customer)
		link.Locale = test.locale
		got := f.FollowLink(f.SignLink(servertest.APIKey, link), "Accept-Language", test.accept)
		if got.Status != http.StatusOK || got.Outcome() != test.outcome || !strings.Contains(got.Body, test.want) || !strings.Contains(got.Body, `data-outcome="`+test.outcome+`"`) {
			t.Errorf("%s: %d %s %s; want %s with %s", test.name, got.Status, got.Outcome(), got.Body, test.outcome, test.want)
		}
		if policy := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy %q; want one that lets nothing in", test.name, policy)
		}
		if !strings.Contains(got.Body, fmt.Sprint(got.Line["request_id"])) || !strings.Contains(got.Body, f.Store.URL+"/") {
			t.Errorf("%s: %s; want the request's id and a way back to the store", test.name, got.Body)
		}
	}
}

// TestPortalLinkProblems: each outcome is a type of problem that says what to do.
func TestPortalLinkProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, key, body string
		broken          func(*servertest.Fixture)
		change          func(*config.Settings)
		status          int
		problem         string
	}{
		{"never subscribed", servertest.APIKey, servertest.ByShopifyID(servertest.Robin), nil, nil, 404, "not_a_subscriber"},
		{"no such record", servertest.APIKey, servertest.ByRechargeID(999), nil, nil, 404, "not_a_subscriber"},
		{"two records", servertest.APIKey, servertest.ByShopifyID(servertest.Kim), nil, nil, 404, "not_a_subscriber"},
		{"Recharge down", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), func(f *servertest.Fixture) { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }, nil, 503, "unavailable"},
		{"not connected", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), nil, func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, 409, "not_connected"},
		{"wrong key", servertest.APIKey + "x", servertest.ByShopifyID(servertest.Pat), nil, nil, 403, "forbidden"},
		{"no key", "", servertest.ByShopifyID(servertest.Pat), nil, nil, 403, "forbidden"},
		{"wrong key, bad body", servertest.APIKey + "x", `{`, nil, nil, 403, "forbidden"},
		{"no body", servertest.APIKey, ``, nil, nil, 400, "invalid_request"},
		{"nobody", servertest.APIKey, `{}`, nil, nil, 400, "invalid_request"},
		{"both", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","recharge_customer_id":70100200}`, nil, nil, 400, "invalid_request"},
		{"twice", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","shopify_customer_id":"` + servertest.Robin + `"}`, nil, nil, 400, "invalid_request"},
		{"in other letters", servertest.APIKey, `{"Shopify_Customer_Id":"` + servertest.Pat + `"}`, nil, nil, 400, "invalid_request"},
		{"a number as Shopify's", servertest.APIKey, `{"shopify_customer_id":` + servertest.Pat + `}`, nil, nil, 400, "invalid_request"},
		{"text as Recharge's", servertest.APIKey, `{"recharge_customer_id":"70100200"}`, nil, nil, 400, "invalid_request"},
		{"a fraction", servertest.APIKey, `{"recharge_customer_id":70100200.0}`, nil, nil, 400, "invalid_request"},
		{"a power", servertest.APIKey, `{"recharge_customer_id":7e7}`, nil, nil, 400, "invalid_request"},
		{"too large", servertest.APIKey, `{"recharge_customer_id":9999999999999999999}`, nil, nil, 400, "invalid_request"},
		{"below nothing", servertest.APIKey, `{"recharge_customer_id":-1}`, nil, nil, 400, "invalid_request"},
		{"a list", servertest.APIKey, `{"shopify_customer_id":["` + servertest.Pat + `"]}`, nil, nil, 400, "invalid_request"},
		{"two objects", servertest.APIKey, servertest.ByShopifyID(servertest.Pat) + servertest.ByShopifyID(servertest.Robin), nil, nil, 400, "invalid_request"},
		{"a slip", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","where":"orders"}`, nil, nil, 400, "invalid_request"},
		{"no text", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","locale":7}`, nil, nil, 400, "invalid_request"},
		{"too long", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","destination":"` + strings.Repeat("a", 5000) + `"}`, nil, nil, 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := []func(*config.Settings){servertest.WithAPIKeys}
			if test.change != nil {
				settings = append(settings, test.change)
			}
			f := servertest.Start(t, settings...)
			if test.broken != nil {
				test.broken(f)
			}
			got := f.PostLink(test.key, test.body)
			if got.Status != test.status || got.Type != "urn:manage-subscriptions:problem:"+test.problem || got.Detail == "" || got.URL != "" {
				t.Errorf("POST %s = %d %s; want %d and a problem %s", test.body, got.Status, got.Body, test.status, test.problem)
			}
			if media := got.Header.Get("Content-Type"); media != "application/problem+json" {
				t.Errorf("POST %s is answered in %s; want application/problem+json", test.body, media)
			}
			if wait := got.Header.Get("Retry-After"); (wait != "") != (test.status == 503) {
				t.Errorf("POST %s: Retry-After %q", test.body, wait)
			}
		})
	}
}

// TestPortalLinkByHash: with Recharge down, whoever is known goes on by hash.
func TestPortalLinkByHash(t *testing.T) {
	for _, body := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(servertest.PatsRecord)} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		f.PostLink(servertest.APIKey, body)
		f.Clock.Add(2 * time.Hour) // link and session are over
		f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
		got := f.PostLink(servertest.APIKey, body)
		if got.Status != http.StatusOK || got.SignedIn || got.ExpiresAt != nil || !strings.Contains(got.URL, "/portal/1f2e3d4c5b6a7988/") {
			t.Errorf("POST %s = %d %s; want Pat's link by hash", body, got.Status, got.Body)
		}
	}
}

// TestNoKeyNoRoute: without a key there are no such routes.
func TestNoKeyNoRoute(t *testing.T) {
	f := servertest.Start(t)
	if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusNotFound {
		t.Errorf("POST without PORTAL_API_KEY = %d; want 404", got.Status)
	}
	if got := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))); got.Status != http.StatusNotFound {
		t.Errorf("GET /go without PORTAL_API_KEY = %d; want 404", got.Status)
	}
}

// TestVouchedAnswers: both routes are closed to scripts of other sites, set no cookie
// and let nothing be kept.
func TestVouchedAnswers(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	link := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	for name, header := range map[string]http.Header{
		"POST":           f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat), "Origin", "https://evil.example").Header,
		"POST, refused":  f.PostLink("", servertest.ByShopifyID(servertest.Pat), "Origin", "https://evil.example").Header,
		"GET /go":        f.FollowLink(link, "Origin", "https://evil.example").Header,
		"GET /go, again": f.FollowLink(link, "Origin", "https://evil.example").Header,
	} {
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Set-Cookie"} {
			if got := header.Get(name); got != "" {
				t.Errorf("%s: %s: %s; want none", name, name, got)
			}
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v; want no-store and no-referrer", name, header)
		}
	}
	for _, path := range []string{"/api/portal-links", "/go"} {
		request, _ := http.NewRequest(http.MethodOptions, "http://"+f.Public+path, nil)
		request.Header.Set("Origin", "https://evil.example")
		request.Header.Set("Access-Control-Request-Method", "POST")
		request.Header.Set("Access-Control-Request-Headers", "authorization")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for name := range response.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("OPTIONS %s allows by %s; want that nothing is allowed", path, name)
			}
		}
	}
}

// TestSignedLinkRefused: what is not signed as it stands, not of this time, or used
// before, opens nothing, and nothing is asked for it.
func TestSignedLinkRefused(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("warm", servertest.Pat))) // Pat is remembered, with a link
	good := f.SignedLink("good", servertest.Pat)
	text := f.SignLink(servertest.APIKey, good)
	with := func(edit func(url.Values)) string {
		query, _ := url.ParseQuery(strings.TrimPrefix(text, "/go?"))
		edit(query)
		return "/go?" + query.Encode()
	}
	expiring := func(in time.Duration) string {
		link := good
		link.Expires = f.Clock.Now().Add(in)
		return f.SignLink(servertest.APIKey, link)
	}
	f.Calls()
	for name, path := range map[string]string{
		"wrong key":             f.SignLink("another-key-0123456789", good),
		"over":                  expiring(-time.Second),
		"valid for too long":    expiring(5*time.Minute + 2*time.Second),
		"another customer":      with(func(q url.Values) { q.Set("customer", servertest.Sam) }),
		"Recharge's id instead": with(func(q url.Values) { q.Set("customer", "recharge:"+servertest.Pat) }),
		"another shop":          with(func(q url.Values) { q.Set("shop", otherShop) }),
		"another page":          with(func(q url.Values) { q.Set("destination", "orders") }),
		"a language":            with(func(q url.Values) { q.Set("locale", "fr") }),
		"longer":                with(func(q url.Values) { q.Set("expires", fmt.Sprint(good.Expires.Unix()+30)) }),
		"another nonce":         with(func(q url.Values) { q.Set("nonce", strings.Repeat("x", 16)) }),
		"re-split":              with(func(q url.Values) { q.Set("customer", servertest.Pat[:5]); q.Set("destination", servertest.Pat[5:]) }),
		"no signature":          with(func(q url.Values) { q.Del("signature") }),
		"two signatures":        with(func(q url.Values) { q.Add("signature", q.Get("signature")) }),
		"two customers":         with(func(q url.Values) { q.Add("customer", servertest.Sam) }),
		"no nonce":              with(func(q url.Values) { q.Del("nonce") }),
		"in capitals":           with(func(q url.Values) { q.Set("signature", strings.ToUpper(q.Get("signature"))) }),
		"a malformed pair":      text + "&%zz=1",
		"a semicolon":           text + ";a=1",
		"nothing":               "/go",
	} {
		got := f.FollowLink(path, "Accept-Language", "de")
		if got.Status != http.StatusForbidden || got.Outcome() != "forbidden" || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/plain") || !strings.Contains(got.Body, "nicht mehr gültig") {
			t.Errorf("%s: %d %s %s; want it refused", name, got.Status, got.Outcome(), got.Body)
		}
	}
	for name, headers := range map[string][]string{
		"fetched ahead":      {"Sec-Purpose", "prefetch;prerender"},
		"fetched ahead, too": {"Purpose", "prefetch"},
		"by a script":        {"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
		"in a frame":         {"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"},
	} {
		if got := f.FollowLink(text, headers...); got.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s; want it refused", name, got.Status, got.Body)
		}
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("what was refused made the calls %v; want none", calls)
	}
	if got := f.FollowLink(text); got.Status != http.StatusFound {
		t.Errorf("the link itself: %d %s; want that it was not used up", got.Status, got.Body)
	}
}

// TestSignedLinkWithoutRedis: where it cannot be told whether a link was used, it
// opens nothing.
func TestSignedLinkWithoutRedis(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	path := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	f.FollowLink(path) // Pat is remembered, also by the process
	f.Redis.Stop()
	for _, path := range []string{path, f.SignLink(servertest.APIKey, f.SignedLink("m", servertest.Pat))} {
		if got := f.FollowLink(path); got.Status != http.StatusOK || got.Outcome() != "unavailable" || got.Location != "" {
			t.Errorf("GET /go without Redis = %d %s %s; want unavailable", got.Status, got.Outcome(), got.Location)
		}
	}
	if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK {
		t.Errorf("POST without Redis = %d %s; want a link", got.Status, got.Body)
	}
}

// TestSomeoneElsesRecord: Recharge answers with another customer's record than the one
// that was asked for. It opens nothing, not even what was known before.
func TestSomeoneElsesRecord(t *testing.T) {
	for _, known := range []bool{false, true} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		if known {
			f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
			f.Clock.Add(48 * time.Hour)
		}
		f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.OtherRecord = true })
		got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
		if got.Status != http.StatusServiceUnavailable || got.URL != "" {
			t.Errorf("POST, known %v = %d %s; want unavailable", known, got.Status, got.Body)
		}
		if line := f.Log.Last("click"); line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["cause"]), "someone else's") {
			t.Errorf("the log says %v; want an error", line)
		}
		if got := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("n", "recharge:70100200"))); got.Location != "" {
			t.Errorf("GET /go, known %v, leads to %s; want nowhere", known, got.Location)
		}
	}
}

// TestKeysOfTheAppHome: a merchant makes a key, which is shown once and kept as a hash,
// and revokes it; from then on it does for nothing, on no server.
func TestKeysOfTheAppHome(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	if got := f.PostLink("mspk_fixture-shop_"+strings.Repeat("A", 26), servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST to a shop without keys = %d; want 403", got.Status)
	}
	key := f.MakeKey(servertest.Shop, "Hydrogen")
	other := f.MakeKey(servertest.Shop, "Python")
	beside := f.Instance(nil, servertest.ManyStores)
	if got := f.PostLink(key, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK || !got.SignedIn {
		t.Errorf("POST with a new key = %d %s; want a link", got.Status, got.Body)
	}
	if got := f.FollowLink(f.SignLink(key, f.SignedLink("a", servertest.Pat))); got.Status != http.StatusFound {
		t.Errorf("GET /go signed with a new key = %d %s; want the portal", got.Status, got.Body)
	}
	if _, page := f.AppHome("/app/keys", f.SessionToken(nil), nil); strings.Contains(page, key) || !strings.Contains(page, "Hydrogen") {
		t.Errorf("the app home shows %s; want the key's name and not the key", page)
	}
	for name, value := range f.Redis.Dump() {
		if strings.Contains(value, key) || strings.Contains(value, "Hydrogen") {
			t.Errorf("Redis holds a key or its name in the open at %s", name)
		}
	}
	if strings.Contains(f.Log.String(), key) {
		t.Error("the log holds a key")
	}
	signed := f.SignLink(key, f.SignedLink("b", servertest.Pat))
	f.RevokeKey(servertest.Shop, "Hydrogen")
	f.Connect() // does not bring it back
	for _, public := range []string{f.Public, beside.Public} {
		f.Public = public
		if got := f.PostLink(key, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden || got.Type != "urn:manage-subscriptions:problem:forbidden" {
			t.Errorf("POST with a revoked key = %d %s; want 403", got.Status, got.Body)
		}
		if got := f.FollowLink(signed); got.Status != http.StatusForbidden {
			t.Errorf("GET /go signed with a revoked key = %d %s; want 403", got.Status, got.Body)
		}
		if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK {
			t.Errorf("POST with the other key = %d %s; want a link", got.Status, got.Body)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 51), "a\x00b"} {
		if _, body := f.AppHome("/app/keys", f.SessionToken(nil), url.Values{"name": {name}}); !strings.Contains(body, "Not made") {
			t.Errorf("a key called %q: %s; want that it is not made", name, body)
		}
	}
	for i := range 9 {
		f.MakeKey(servertest.Shop, fmt.Sprint("more", i))
	}
	if _, body := f.AppHome("/app/keys", f.SessionToken(nil), url.Values{"name": {"one more"}}); !strings.Contains(body, "there are ten keys") {
		t.Errorf("an eleventh key: %s; want that it is not made", body)
	}
	if _, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Fatalf("disconnect: %s", body)
	}
	if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST after the shop has disconnected = %d; want 403", got.Status)
	}
	f.Connect()
	if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST with a key of before = %d; want 403", got.Status)
	}
}

// TestKeyOfAnotherShop: a key of one shop's does nothing for another's customers,
// whatever a request says.
func TestKeyOfAnotherShop(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: servertest.RechargeSecret, SigningKey: servertest.SigningKey(), Now: f.Clock.Now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: servertest.Sam, FirstName: "Samira", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.Recharge, other)
	defer front.Close()
	other.SetPortalBase(f.Store.URL + "/tools/other/portal/")
	f.Restart(func() {}, servertest.ManyStores, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.Connect()
	if _, body := f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	ours, theirs := f.MakeKey(servertest.Shop, "ours"), f.MakeKey(otherShop, "theirs")
	if got := f.PostLink(theirs, servertest.ByShopifyID(servertest.Sam)); got.Status != http.StatusOK || !strings.Contains(got.URL, "9f8e7d6c5b4a3210") {
		t.Errorf("their key for their Sam = %d %s; want their Sam's link", got.Status, got.Body)
	}
	if got := f.PostLink(ours, servertest.ByShopifyID(servertest.Sam)); got.Status != http.StatusOK || !strings.Contains(got.URL, "70100301a1b2c3d4e5f60718") {
		t.Errorf("our key for our Sam = %d %s; want our Sam's link", got.Status, got.Body)
	}
	for name, got := range map[string]servertest.LinkAnswer{
		"their customer's Recharge id":    f.PostLink(ours, servertest.ByRechargeID(80100200)),
		"our customer's, with their key":  f.PostLink(theirs, servertest.ByRechargeID(servertest.PatsRecord)),
		"our customer at Shopify, theirs": f.PostLink(theirs, servertest.ByShopifyID(servertest.Pat)),
	} {
		if got.Status != http.StatusNotFound || got.URL != "" {
			t.Errorf("%s = %d %s; want that there is no such customer", name, got.Status, got.Body)
		}
	}
	// Their secret under our shop's name, and our name in their key.
	forged := strings.Replace(theirs, "mspk_other-shop_", "mspk_fixture-shop_", 1)
	if got := f.PostLink(forged, servertest.ByShopifyID(servertest.Sam)); forged == theirs || got.Status != http.StatusForbidden {
		t.Errorf("their key with our name = %d %s; want 403", got.Status, got.Body)
	}
	link := f.SignedLink("x", servertest.Sam)
	for _, key := range []string{theirs, forged} {
		if got := f.FollowLink(f.SignLink(key, link)); got.Status != http.StatusForbidden {
			t.Errorf("our Sam's link signed with their key = %d %s; want 403", got.Status, got.Location)
		}
	}
	link.Shop = otherShop
	if got := f.FollowLink(f.SignLink(ours, link)); got.Status != http.StatusForbidden {
		t.Errorf("their Sam's link signed with our key = %d %s; want 403", got.Status, got.Location)
	}
	if got := f.FollowLink(f.SignLink(theirs, link)); !strings.Contains(got.Location, "9f8e7d6c5b4a3210") {
		t.Errorf("their Sam's link signed with their key leads to %q; want their Sam's portal", got.Location)
	}
}

// TestErasedByRechargesID: an order to erase names Shopify's customer; what is
// remembered of the same person by Recharge's id goes, too, and of others stays.
func TestErasedByRechargesID(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.PostLink(servertest.APIKey, servertest.ByRechargeID(70100301)) // Sam's
	sams := f.CachedShoppers()
	f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
	if len(sams) != 1 || len(f.CachedShoppers()) != 2 {
		t.Fatalf("Redis holds %q; want one entry each", f.CachedShoppers())
	}
	f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if left := f.CachedShoppers(); !slices.Equal(left, sams) {
		t.Errorf("Redis holds %q; want what is Sam's, %q", left, sams)
	}
}

// TestRechargeTellsByID: what changes in Recharge is known at once of those, too, who
// are known by Recharge's id.
func TestRechargeTellsByID(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	f.ClickAll(servertest.Pat, "") // the same person, known by Shopify's id
	f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord))
	f.Recharge.ChangeCustomer(servertest.Changed(servertest.Customers()[1], func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
	f.Until("the new hash is known", func() bool {
		return strings.Contains(f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord)).URL, "/abcdabcdabcdabcd/")
	})
	f.Recharge.DeleteCustomer(servertest.PatsRecord)
	f.Until("nobody is known", func() bool {
		return f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord)).Status == http.StatusNotFound
	})
}

// TestIDsDoNotMix: one customer's id at Shopify is another's at Recharge. What is known
// of the one is never taken for the other, in whichever order they come.
func TestIDsDoNotMix(t *testing.T) {
	const both = int64(6100200300400) // Pat's at Shopify
	for _, first := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(both)} {
		f := &servertest.Fixture{T: t, Clock: &servertest.Clock{}, Log: &servertest.Logs{}, Redis: storetest.Redis(t), Customers: append(servertest.Customers(), rechargetest.Customer{
			ID: both, Hash: "feedfeedfeedfeed", FirstName: "Some", LastName: "Namesake", Subscriptions: servertest.Customers()[1].Subscriptions,
		})}
		f.Begin("new", "/apps/subscriptions", servertest.WithAPIKeys)
		f.PostLink(servertest.APIKey, first)
		for range 2 {
			if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); !strings.Contains(got.URL, "/1f2e3d4c5b6a7988/") {
				t.Errorf("by Shopify's id: %d %s; want Pat's link", got.Status, got.Body)
			}
			if got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(both)); !strings.Contains(got.URL, "/feedfeedfeedfeed/") {
				t.Errorf("by Recharge's id: %d %s; want the namesake's link", got.Status, got.Body)
			}
		}
	}
}

// TestByRechargesIDNeverAnother: whatever Recharge answers, whoever is named by
// Recharge's id gets their own portal or none.
func TestByRechargesIDNeverAnother(t *testing.T) {
	for name, set := range map[string]func(*rechargetest.Faults){
		"a session for someone else": func(x *rechargetest.Faults) { x.ForeignSession = true },
		"a link for someone else":    func(x *rechargetest.Faults) { x.ForeignPortal = true },
		"someone else's record":      func(x *rechargetest.Faults) { x.OtherRecord = true },
		"all of these":               func(x *rechargetest.Faults) { x.ForeignSession, x.ForeignPortal, x.OtherRecord = true, true, true },
	} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		f.Recharge.SetFaults(set)
		for i := range 2 {
			got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
			link := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink(fmt.Sprint("n", i), "recharge:70100200")))
			for _, url := range []string{got.URL, link.Location} {
				if url != "" && (!strings.Contains(url, "/1f2e3d4c5b6a7988/") || strings.Contains(url, "token=")) {
					t.Errorf("%s: %s; want Pat's link by hash or none", name, url)
				}
			}
		}
	}
}

// TestSimultaneousLinks: of a link that is followed many times at once, on two
// servers, one visit gets in.
func TestSimultaneousLinks(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	beside := f.Instance(nil, servertest.WithAPIKeys)
	path := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	var all sync.WaitGroup
	var in atomic.Int32
	for i := range 20 {
		all.Go(func() {
			public := []string{f.Public, beside.Public}[i%2]
			request, _ := http.NewRequest(http.MethodGet, "http://"+public+path, nil)
			response, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			if response.StatusCode == http.StatusFound {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if got := in.Load(); got != 1 {
		t.Errorf("%d of 20 visits got in; want 1", got)
	}
}

// TestRefusedSharesNothing: who has no key gets nothing of what somebody with a key is
// being answered at the same time.
func TestRefusedSharesNothing(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 300 * time.Millisecond })
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			mine := []string{key, "mspk_fixture-shop_" + strings.Repeat("A", 26)}[i%2]
			request, _ := http.NewRequest(http.MethodPost, "http://"+f.Public+"/api/portal-links", strings.NewReader(servertest.ByShopifyID(servertest.Pat)))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+mine)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			if want := []int{http.StatusOK, http.StatusForbidden}[i%2]; response.StatusCode != want {
				t.Errorf("call %d = %d; want %d", i, response.StatusCode, want)
			}
		})
	}
	all.Wait()
}

// TestWarmPostInOneTrip: a warm POST costs no call to Recharge and one round trip to
// Redis, where merchants make the keys, too.
func TestWarmPostInOneTrip(t *testing.T) {
	redis := storetest.Redis(t)
	passed := countTrips(t, redis.Addr)
	f := &servertest.Fixture{T: t, Clock: &servertest.Clock{}, Log: &servertest.Logs{}, Redis: redis, Customers: servertest.Customers()}
	through := func(s *config.Settings) { s.RedisURL = "redis://" + passed.address }
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores, through)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	for _, body := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(servertest.PatsRecord)} {
		f.PostLink(key, body)
		f.Calls()
		var trips []int64
		for range 9 { // a chore may come in between: the least tells
			before := passed.trips.Load()
			if got := f.PostLink(key, body); got.Status != http.StatusOK || !got.SignedIn {
				t.Fatalf("POST %s = %d %s; want a link", body, got.Status, got.Body)
			}
			trips = append(trips, passed.trips.Load()-before)
		}
		if calls := f.Calls(); len(calls) != 0 || slices.Min(trips) != 1 {
			t.Errorf("warm POSTs %s made the calls %v and the trips %v; want none, and one each", body, calls, trips)
		}
	}
}

// trips is a way to Redis that counts how often an answer follows a request.
type trips struct {
	address string
	trips   atomic.Int64
}

func countTrips(t *testing.T, to string) *trips {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &trips{address: listener.Addr().String()}
	var passing sync.WaitGroup
	t.Cleanup(func() { listener.Close(); passing.Wait() })
	pass := func(to, from net.Conn, saw func()) {
		defer func() { to.Close(); from.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			saw()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	passing.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			var asked atomic.Bool
			passing.Go(func() { pass(out, in, func() { asked.Store(true) }) })
			passing.Go(func() {
				pass(in, out, func() {
					if asked.Swap(false) {
						counted.trips.Add(1)
					}
				})
			})
		}
	})
	return counted
}

// TestVisitorLeaves: a shopper who is gone before the answer has used the link; that
// Redis was asked for somebody who has left is no fault of Redis'.
func TestVisitorLeaves(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat))
	for i := range 50 {
		path := f.SignLink(servertest.APIKey, f.SignedLink(fmt.Sprint("n", i), servertest.Pat))
		connection, err := net.Dial("tcp", f.Public)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(connection, "GET "+path+" HTTP/1.1\r\nHost: app.example\r\n\r\n")
		_ = connection.(*net.TCPConn).CloseWrite() // the server takes this for a client that is gone
		answer, err := io.ReadAll(connection)
		connection.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 302") {
			t.Fatalf("visit %d: %.100q, %v; want the portal", i, answer, err)
		}
	}
}

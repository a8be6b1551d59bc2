package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge/rechargetest"
)

const (
	portalKey    = "fixture-portal-key-0123456789"
	oldPortalKey = "fixture-old-portal-key-0123456789"
	patsRecord   = int64(70100200)
)

// withKeys is a store whose middleware has keys.
func withKeys(s *config.Settings) { s.PortalAPIKey = portalKey + "," + oldPortalKey }

// apiAnswer is what POST /api/portal-links says.
type apiAnswer struct {
	status int
	header http.Header
	body   string

	URL       string     `json:"url"`
	ExpiresAt *time.Time `json:"expires_at"`
	SignedIn  bool       `json:"signed_in"`
	Type      string     `json:"type"`
	Detail    string     `json:"detail"`
}

// post asks for a link, as a middleware does.
func (f *fixture) post(key, body string, headers ...string) apiAnswer {
	f.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+f.public+"/api/portal-links", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	a := apiAnswer{status: response.StatusCode, header: response.Header, body: string(raw)}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a); err != nil {
			f.t.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

func byShopify(id string) string { return `{"shopify_customer_id":"` + id + `"}` }

func byRecharge(id int64) string { return fmt.Sprintf(`{"recharge_customer_id":%d}`, id) }

// signedLink is a link of the shop's middleware, before it is signed.
func (f *fixture) signedLink(nonce, customer string) portallink.Signed {
	return portallink.Signed{
		Link:    portallink.Link{Shop: shop, Customer: customer},
		Expires: f.clock.now().Add(4 * time.Minute), Nonce: nonce + strings.Repeat("0", 16),
	}
}

// sign is the path of a link.
func (f *fixture) sign(key string, link portallink.Signed) string {
	f.t.Helper()
	query, err := link.Query(portallink.SecretOf(key))
	if err != nil {
		f.t.Fatal(err)
	}
	return "/go?" + query
}

// follow opens a path of the program's and follows nothing.
func (f *fixture) follow(path string, headers ...string) answer {
	f.t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+f.public+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer{status: response.StatusCode, location: response.Header.Get("Location"), header: response.Header, body: string(body), line: f.log.last("click")}
}

// TestPortalLinks: a middleware gets the link of whom it names, which opens that
// customer's portal.
func TestPortalLinks(t *testing.T) {
	f := start(t, withKeys)
	for _, test := range []struct {
		name, key, body string
		calls           map[string]int
		page            string
	}{
		{"first ever", portalKey, byShopify(pat), map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"warm", portalKey, byShopify(pat), map[string]int{}, "subscriptions"},
		{"the old key, as the Customer Account API names customers", oldPortalKey, byShopify("gid://shopify/Customer/" + pat), map[string]int{}, "subscriptions"},
		{"another page", portalKey, `{"shopify_customer_id":"` + pat + `","destination":"orders","locale":"fr"}`, map[string]int{}, "orders"},
		{"by Recharge's id", portalKey, byRecharge(patsRecord), map[string]int{"customer": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"by Recharge's id, warm", portalKey, byRecharge(patsRecord), map[string]int{}, "subscriptions"},
	} {
		f.calls()
		got := f.post(test.key, test.body)
		if calls := f.calls(); !maps.Equal(calls, test.calls) {
			t.Errorf("%s: the calls %v; want %v", test.name, calls, test.calls)
		}
		if got.status != http.StatusOK || !got.SignedIn || got.ExpiresAt == nil || !got.ExpiresAt.After(f.clock.now()) {
			t.Errorf("%s: %d %s; want a signed-in link, with when it is over", test.name, got.status, got.body)
			continue
		}
		opened := f.opening(f.shopper(""), got.URL)
		if opened.Customer.ID != patsRecord || opened.Page != test.page {
			t.Errorf("%s: %s opened %+v; want Pat's %s", test.name, got.URL, opened, test.page)
		}
		if line := f.log.last("click"); line["outcome"] != "redirected" || line["channel"] != "api" {
			t.Errorf("%s: the log says %v; want a click by the api", test.name, line)
		}
	}
}

// TestSignedLinks: a link that a middleware has signed opens the portal of whom it
// names, once.
func TestSignedLinks(t *testing.T) {
	f := start(t, withKeys)
	for i, test := range []struct {
		name, key, customer, destination string
	}{
		{"by Shopify's id", portalKey, pat, ""},
		{"the old key", oldPortalKey, pat, "orders"},
		{"as the Customer Account API names customers", portalKey, "gid://shopify/Customer/" + pat, ""},
		{"by Recharge's id", portalKey, "recharge:70100200", "payment-methods"},
	} {
		link := f.signedLink(fmt.Sprint("n", i), test.customer)
		link.Destination = test.destination
		path := f.sign(test.key, link)
		got := f.follow(path+"&utm_source=mail", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
		if got.status != http.StatusFound || got.outcome() != "redirected" || got.line["channel"] != "go" {
			t.Errorf("%s: %d %v %s; want the portal", test.name, got.status, got.line, got.body)
			continue
		}
		if opened := f.opening(f.shopper(""), got.location); opened.Customer.ID != patsRecord {
			t.Errorf("%s: opened %+v; want Pat's portal", test.name, opened)
		}
		f.calls()
		if again := f.follow(path); again.status != http.StatusForbidden || len(f.calls()) != 0 {
			t.Errorf("%s, again: %d %s; want it refused", test.name, again.status, again.body)
		}
	}
}

// TestSignedLinkEnds: the outcomes have pages of our own, in the shopper's language.
func TestSignedLinkEnds(t *testing.T) {
	f := start(t, withKeys)
	for i, test := range []struct {
		name, customer, locale, accept string
		broken                         func(*rechargetest.Faults)
		outcome, want                  string
	}{
		{"never subscribed", robin, "", "fr-CH, fr;q=0.9, en;q=0.8", nil, "not_a_subscriber", `<html lang="fr"`},
		{"two records", kim, "ar", "fr", nil, "not_a_subscriber", `dir="rtl"`},
		{"no such record", "recharge:999", "", "xx", nil, "not_a_subscriber", `<html lang="en"`},
		{"Recharge down", sam, "", "de", func(x *rechargetest.Faults) { x.Down = true }, "unavailable", `<html lang="de"`},
	} {
		if test.broken != nil {
			f.recharge.SetFaults(test.broken)
		}
		link := f.signedLink(fmt.Sprint("n", i), test.customer)
		link.Locale = test.locale
		got := f.follow(f.sign(portalKey, link), "Accept-Language", test.accept)
		if got.status != http.StatusOK || got.outcome() != test.outcome || !strings.Contains(got.body, test.want) || !strings.Contains(got.body, `data-outcome="`+test.outcome+`"`) {
			t.Errorf("%s: %d %s %s; want %s with %s", test.name, got.status, got.outcome(), got.body, test.outcome, test.want)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy %q; want one that lets nothing in", test.name, policy)
		}
		if !strings.Contains(got.body, fmt.Sprint(got.line["request_id"])) || !strings.Contains(got.body, f.store.URL+"/") {
			t.Errorf("%s: %s; want the request's id and a way back to the store", test.name, got.body)
		}
	}
}

// TestPortalLinkProblems: each outcome is a type of problem that says what to do.
func TestPortalLinkProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, key, body string
		broken          func(*fixture)
		change          func(*config.Settings)
		status          int
		problem         string
	}{
		{"never subscribed", portalKey, byShopify(robin), nil, nil, 404, "not_a_subscriber"},
		{"no such record", portalKey, byRecharge(999), nil, nil, 404, "not_a_subscriber"},
		{"two records", portalKey, byShopify(kim), nil, nil, 404, "not_a_subscriber"},
		{"Recharge down", portalKey, byShopify(pat), func(f *fixture) { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }, nil, 503, "unavailable"},
		{"not connected", portalKey, byShopify(pat), nil, func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, 409, "not_connected"},
		{"wrong key", portalKey + "x", byShopify(pat), nil, nil, 403, "forbidden"},
		{"no key", "", byShopify(pat), nil, nil, 403, "forbidden"},
		{"wrong key, bad body", portalKey + "x", `{`, nil, nil, 403, "forbidden"},
		{"no body", portalKey, ``, nil, nil, 400, "invalid_request"},
		{"nobody", portalKey, `{}`, nil, nil, 400, "invalid_request"},
		{"both", portalKey, `{"shopify_customer_id":"` + pat + `","recharge_customer_id":70100200}`, nil, nil, 400, "invalid_request"},
		{"twice", portalKey, `{"shopify_customer_id":"` + pat + `","shopify_customer_id":"` + robin + `"}`, nil, nil, 400, "invalid_request"},
		{"in other letters", portalKey, `{"Shopify_Customer_Id":"` + pat + `"}`, nil, nil, 400, "invalid_request"},
		{"a number as Shopify's", portalKey, `{"shopify_customer_id":` + pat + `}`, nil, nil, 400, "invalid_request"},
		{"text as Recharge's", portalKey, `{"recharge_customer_id":"70100200"}`, nil, nil, 400, "invalid_request"},
		{"a fraction", portalKey, `{"recharge_customer_id":70100200.0}`, nil, nil, 400, "invalid_request"},
		{"a power", portalKey, `{"recharge_customer_id":7e7}`, nil, nil, 400, "invalid_request"},
		{"too large", portalKey, `{"recharge_customer_id":9999999999999999999}`, nil, nil, 400, "invalid_request"},
		{"below nothing", portalKey, `{"recharge_customer_id":-1}`, nil, nil, 400, "invalid_request"},
		{"a list", portalKey, `{"shopify_customer_id":["` + pat + `"]}`, nil, nil, 400, "invalid_request"},
		{"two objects", portalKey, byShopify(pat) + byShopify(robin), nil, nil, 400, "invalid_request"},
		{"a slip", portalKey, `{"shopify_customer_id":"` + pat + `","where":"orders"}`, nil, nil, 400, "invalid_request"},
		{"no text", portalKey, `{"shopify_customer_id":"` + pat + `","locale":7}`, nil, nil, 400, "invalid_request"},
		{"too long", portalKey, `{"shopify_customer_id":"` + pat + `","destination":"` + strings.Repeat("a", 5000) + `"}`, nil, nil, 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := []func(*config.Settings){withKeys}
			if test.change != nil {
				settings = append(settings, test.change)
			}
			f := start(t, settings...)
			if test.broken != nil {
				test.broken(f)
			}
			got := f.post(test.key, test.body)
			if got.status != test.status || got.Type != "urn:manage-subscriptions:problem:"+test.problem || got.Detail == "" || got.URL != "" {
				t.Errorf("POST %s = %d %s; want %d and a problem %s", test.body, got.status, got.body, test.status, test.problem)
			}
			if media := got.header.Get("Content-Type"); media != "application/problem+json" {
				t.Errorf("POST %s is answered in %s; want application/problem+json", test.body, media)
			}
			if wait := got.header.Get("Retry-After"); (wait != "") != (test.status == 503) {
				t.Errorf("POST %s: Retry-After %q", test.body, wait)
			}
		})
	}
}

// TestPortalLinkByHash: with Recharge down, whoever is known goes on by hash.
func TestPortalLinkByHash(t *testing.T) {
	for _, body := range []string{byShopify(pat), byRecharge(patsRecord)} {
		f := start(t, withKeys)
		f.post(portalKey, body)
		f.clock.add(2 * time.Hour) // link and session are over
		f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
		got := f.post(portalKey, body)
		if got.status != http.StatusOK || got.SignedIn || got.ExpiresAt != nil || !strings.Contains(got.URL, "/portal/1f2e3d4c5b6a7988/") {
			t.Errorf("POST %s = %d %s; want Pat's link by hash", body, got.status, got.body)
		}
	}
}

// TestNoKeyNoRoute: without a key there are no such routes.
func TestNoKeyNoRoute(t *testing.T) {
	f := start(t)
	if got := f.post(portalKey, byShopify(pat)); got.status != http.StatusNotFound {
		t.Errorf("POST without PORTAL_API_KEY = %d; want 404", got.status)
	}
	if got := f.follow(f.sign(portalKey, f.signedLink("n", pat))); got.status != http.StatusNotFound {
		t.Errorf("GET /go without PORTAL_API_KEY = %d; want 404", got.status)
	}
}

// TestVouchedAnswers: both routes are closed to scripts of other sites, set no cookie
// and let nothing be kept.
func TestVouchedAnswers(t *testing.T) {
	f := start(t, withKeys)
	link := f.sign(portalKey, f.signedLink("n", pat))
	for name, header := range map[string]http.Header{
		"POST":           f.post(portalKey, byShopify(pat), "Origin", "https://evil.example").header,
		"POST, refused":  f.post("", byShopify(pat), "Origin", "https://evil.example").header,
		"GET /go":        f.follow(link, "Origin", "https://evil.example").header,
		"GET /go, again": f.follow(link, "Origin", "https://evil.example").header,
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
		request, _ := http.NewRequest(http.MethodOptions, "http://"+f.public+path, nil)
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
	f := start(t, withKeys)
	f.follow(f.sign(portalKey, f.signedLink("warm", pat))) // Pat is remembered, with a link
	good := f.signedLink("good", pat)
	text := f.sign(portalKey, good)
	with := func(edit func(url.Values)) string {
		query, _ := url.ParseQuery(strings.TrimPrefix(text, "/go?"))
		edit(query)
		return "/go?" + query.Encode()
	}
	expiring := func(in time.Duration) string {
		link := good
		link.Expires = f.clock.now().Add(in)
		return f.sign(portalKey, link)
	}
	f.calls()
	for name, path := range map[string]string{
		"wrong key":             f.sign("another-key-0123456789", good),
		"over":                  expiring(-time.Second),
		"valid for too long":    expiring(5*time.Minute + 2*time.Second),
		"another customer":      with(func(q url.Values) { q.Set("customer", sam) }),
		"Recharge's id instead": with(func(q url.Values) { q.Set("customer", "recharge:"+pat) }),
		"another shop":          with(func(q url.Values) { q.Set("shop", otherShop) }),
		"another page":          with(func(q url.Values) { q.Set("destination", "orders") }),
		"a language":            with(func(q url.Values) { q.Set("locale", "fr") }),
		"longer":                with(func(q url.Values) { q.Set("expires", fmt.Sprint(good.Expires.Unix()+30)) }),
		"another nonce":         with(func(q url.Values) { q.Set("nonce", strings.Repeat("x", 16)) }),
		"re-split":              with(func(q url.Values) { q.Set("customer", pat[:5]); q.Set("destination", pat[5:]) }),
		"no signature":          with(func(q url.Values) { q.Del("signature") }),
		"two signatures":        with(func(q url.Values) { q.Add("signature", q.Get("signature")) }),
		"two customers":         with(func(q url.Values) { q.Add("customer", sam) }),
		"no nonce":              with(func(q url.Values) { q.Del("nonce") }),
		"in capitals":           with(func(q url.Values) { q.Set("signature", strings.ToUpper(q.Get("signature"))) }),
		"a malformed pair":      text + "&%zz=1",
		"a semicolon":           text + ";a=1",
		"nothing":               "/go",
	} {
		got := f.follow(path, "Accept-Language", "de")
		if got.status != http.StatusForbidden || got.outcome() != "forbidden" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") || !strings.Contains(got.body, "nicht mehr gültig") {
			t.Errorf("%s: %d %s %s; want it refused", name, got.status, got.outcome(), got.body)
		}
	}
	for name, headers := range map[string][]string{
		"fetched ahead":      {"Sec-Purpose", "prefetch;prerender"},
		"fetched ahead, too": {"Purpose", "prefetch"},
		"by a script":        {"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
		"in a frame":         {"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"},
	} {
		if got := f.follow(text, headers...); got.status != http.StatusForbidden {
			t.Errorf("%s: %d %s; want it refused", name, got.status, got.body)
		}
	}
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("what was refused made the calls %v; want none", calls)
	}
	if got := f.follow(text); got.status != http.StatusFound {
		t.Errorf("the link itself: %d %s; want that it was not used up", got.status, got.body)
	}
}

// TestSignedLinkWithoutRedis: where it cannot be told whether a link was used, it
// opens nothing.
func TestSignedLinkWithoutRedis(t *testing.T) {
	f := start(t, withKeys)
	path := f.sign(portalKey, f.signedLink("n", pat))
	f.follow(path) // Pat is remembered, also by the process
	f.redis.Stop()
	for _, path := range []string{path, f.sign(portalKey, f.signedLink("m", pat))} {
		if got := f.follow(path); got.status != http.StatusOK || got.outcome() != "unavailable" || got.location != "" {
			t.Errorf("GET /go without Redis = %d %s %s; want unavailable", got.status, got.outcome(), got.location)
		}
	}
	if got := f.post(portalKey, byShopify(pat)); got.status != http.StatusOK {
		t.Errorf("POST without Redis = %d %s; want a link", got.status, got.body)
	}
}

// TestSomeoneElsesRecord: Recharge answers with another customer's record than the one
// that was asked for. It opens nothing, not even what was known before.
func TestSomeoneElsesRecord(t *testing.T) {
	for _, known := range []bool{false, true} {
		f := start(t, withKeys)
		if known {
			f.post(portalKey, byRecharge(patsRecord))
			f.clock.add(48 * time.Hour)
		}
		f.recharge.SetFaults(func(x *rechargetest.Faults) { x.OtherRecord = true })
		got := f.post(portalKey, byRecharge(patsRecord))
		if got.status != http.StatusServiceUnavailable || got.URL != "" {
			t.Errorf("POST, known %v = %d %s; want unavailable", known, got.status, got.body)
		}
		if line := f.log.last("click"); line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["cause"]), "someone else's") {
			t.Errorf("the log says %v; want an error", line)
		}
		if got := f.follow(f.sign(portalKey, f.signedLink("n", "recharge:70100200"))); got.location != "" {
			t.Errorf("GET /go, known %v, leads to %s; want nowhere", known, got.location)
		}
	}
}

var madeKey = regexp.MustCompile(`id="new-key">([^<]+)<`)

// makeKey makes a key in the app home of a shop.
func (f *fixture) makeKey(shop, name string) string {
	f.t.Helper()
	response, body := f.ask("/app/keys", f.sessionToken(of(shop)), url.Values{"name": {name}})
	key := madeKey.FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || key == nil {
		f.t.Fatalf("make a key: %d %s", response.StatusCode, body)
	}
	return key[1]
}

// revoke revokes the key of that name.
func (f *fixture) revoke(shop, name string) {
	f.t.Helper()
	_, page := f.ask("/app/keys", f.sessionToken(of(shop)), nil)
	id := regexp.MustCompile(`(?s)<span>` + name + `</span>.*?name="id" value="([^"]+)"`).FindStringSubmatch(page)
	if id == nil {
		f.t.Fatalf("the app home has no key %q: %s", name, page)
	}
	if response, body := f.ask("/app/keys/revoke", f.sessionToken(of(shop)), url.Values{"id": {id[1]}}); response.StatusCode != http.StatusOK || !strings.Contains(body, "Revoked.") {
		f.t.Fatalf("revoke: %d %s", response.StatusCode, body)
	}
}

// TestKeysOfTheAppHome: a merchant makes a key, which is shown once and kept as a hash,
// and revokes it; from then on it does for nothing, on no server.
func TestKeysOfTheAppHome(t *testing.T) {
	f := start(t, many)
	f.connect()
	if got := f.post("mspk_fixture-shop_"+strings.Repeat("A", 26), byShopify(pat)); got.status != http.StatusForbidden {
		t.Errorf("POST to a shop without keys = %d; want 403", got.status)
	}
	key := f.makeKey(shop, "Hydrogen")
	other := f.makeKey(shop, "Python")
	beside := f.instance(nil, many)
	if got := f.post(key, byShopify(pat)); got.status != http.StatusOK || !got.SignedIn {
		t.Errorf("POST with a new key = %d %s; want a link", got.status, got.body)
	}
	if got := f.follow(f.sign(key, f.signedLink("a", pat))); got.status != http.StatusFound {
		t.Errorf("GET /go signed with a new key = %d %s; want the portal", got.status, got.body)
	}
	if _, page := f.ask("/app/keys", f.sessionToken(nil), nil); strings.Contains(page, key) || !strings.Contains(page, "Hydrogen") {
		t.Errorf("the app home shows %s; want the key's name and not the key", page)
	}
	for name, value := range f.redis.Dump() {
		if strings.Contains(value, key) || strings.Contains(value, "Hydrogen") {
			t.Errorf("Redis holds a key or its name in the open at %s", name)
		}
	}
	if strings.Contains(f.log.String(), key) {
		t.Error("the log holds a key")
	}
	signed := f.sign(key, f.signedLink("b", pat))
	f.revoke(shop, "Hydrogen")
	f.connect() // does not bring it back
	for _, public := range []string{f.public, beside.public} {
		f.public = public
		if got := f.post(key, byShopify(pat)); got.status != http.StatusForbidden || got.Type != "urn:manage-subscriptions:problem:forbidden" {
			t.Errorf("POST with a revoked key = %d %s; want 403", got.status, got.body)
		}
		if got := f.follow(signed); got.status != http.StatusForbidden {
			t.Errorf("GET /go signed with a revoked key = %d %s; want 403", got.status, got.body)
		}
		if got := f.post(other, byShopify(pat)); got.status != http.StatusOK {
			t.Errorf("POST with the other key = %d %s; want a link", got.status, got.body)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 51), "a\x00b"} {
		if _, body := f.ask("/app/keys", f.sessionToken(nil), url.Values{"name": {name}}); !strings.Contains(body, "Not made") {
			t.Errorf("a key called %q: %s; want that it is not made", name, body)
		}
	}
	for i := range 9 {
		f.makeKey(shop, fmt.Sprint("more", i))
	}
	if _, body := f.ask("/app/keys", f.sessionToken(nil), url.Values{"name": {"one more"}}); !strings.Contains(body, "there are ten keys") {
		t.Errorf("an eleventh key: %s; want that it is not made", body)
	}
	if _, body := f.ask("/app/disconnect", f.sessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Fatalf("disconnect: %s", body)
	}
	if got := f.post(other, byShopify(pat)); got.status != http.StatusForbidden {
		t.Errorf("POST after the shop has disconnected = %d; want 403", got.status)
	}
	f.connect()
	if got := f.post(other, byShopify(pat)); got.status != http.StatusForbidden {
		t.Errorf("POST with a key of before = %d; want 403", got.status)
	}
}

// TestKeyOfAnotherShop: a key of one shop's does nothing for another's customers,
// whatever a request says.
func TestKeyOfAnotherShop(t *testing.T) {
	f := start(t, many)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: rcSecret, SigningKey: signingKey(), Now: f.clock.now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: sam, FirstName: "Samira", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.recharge, other)
	defer front.Close()
	other.SetPortalBase(f.store.URL + "/tools/other/portal/")
	f.restart(func() {}, many, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.connect()
	if _, body := f.ask("/app/connect", f.sessionToken(of(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	ours, theirs := f.makeKey(shop, "ours"), f.makeKey(otherShop, "theirs")
	if got := f.post(theirs, byShopify(sam)); got.status != http.StatusOK || !strings.Contains(got.URL, "9f8e7d6c5b4a3210") {
		t.Errorf("their key for their Sam = %d %s; want their Sam's link", got.status, got.body)
	}
	if got := f.post(ours, byShopify(sam)); got.status != http.StatusOK || !strings.Contains(got.URL, "70100301a1b2c3d4e5f60718") {
		t.Errorf("our key for our Sam = %d %s; want our Sam's link", got.status, got.body)
	}
	for name, got := range map[string]apiAnswer{
		"their customer's Recharge id":    f.post(ours, byRecharge(80100200)),
		"our customer's, with their key":  f.post(theirs, byRecharge(patsRecord)),
		"our customer at Shopify, theirs": f.post(theirs, byShopify(pat)),
	} {
		if got.status != http.StatusNotFound || got.URL != "" {
			t.Errorf("%s = %d %s; want that there is no such customer", name, got.status, got.body)
		}
	}
	// Their secret under our shop's name, and our name in their key.
	forged := strings.Replace(theirs, "mspk_other-shop_", "mspk_fixture-shop_", 1)
	if got := f.post(forged, byShopify(sam)); forged == theirs || got.status != http.StatusForbidden {
		t.Errorf("their key with our name = %d %s; want 403", got.status, got.body)
	}
	link := f.signedLink("x", sam)
	for _, key := range []string{theirs, forged} {
		if got := f.follow(f.sign(key, link)); got.status != http.StatusForbidden {
			t.Errorf("our Sam's link signed with their key = %d %s; want 403", got.status, got.location)
		}
	}
	link.Shop = otherShop
	if got := f.follow(f.sign(ours, link)); got.status != http.StatusForbidden {
		t.Errorf("their Sam's link signed with our key = %d %s; want 403", got.status, got.location)
	}
	if got := f.follow(f.sign(theirs, link)); !strings.Contains(got.location, "9f8e7d6c5b4a3210") {
		t.Errorf("their Sam's link signed with their key leads to %q; want their Sam's portal", got.location)
	}
}

// TestErasedByRechargesID: an order to erase names Shopify's customer; what is
// remembered of the same person by Recharge's id goes, too, and of others stays.
func TestErasedByRechargesID(t *testing.T) {
	f := start(t, withKeys)
	f.post(portalKey, byRecharge(70100301)) // Sam's
	sams := f.remembered()
	f.post(portalKey, byRecharge(patsRecord))
	if len(sams) != 1 || len(f.remembered()) != 2 {
		t.Fatalf("Redis holds %q; want one entry each", f.remembered())
	}
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if left := f.remembered(); !slices.Equal(left, sams) {
		t.Errorf("Redis holds %q; want what is Sam's, %q", left, sams)
	}
}

// TestRechargeTellsByID: what changes in Recharge is known at once of those, too, who
// are known by Recharge's id.
func TestRechargeTellsByID(t *testing.T) {
	t.Parallel()
	f := start(t, many)
	f.connect()
	key := f.makeKey(shop, "server")
	f.clicked(pat, "") // the same person, known by Shopify's id
	f.post(key, byRecharge(patsRecord))
	f.recharge.ChangeCustomer(change(customers()[1], func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
	f.until("the new hash is known", func() bool { return strings.Contains(f.post(key, byRecharge(patsRecord)).URL, "/abcdabcdabcdabcd/") })
	f.recharge.DeleteCustomer(patsRecord)
	f.until("nobody is known", func() bool { return f.post(key, byRecharge(patsRecord)).status == http.StatusNotFound })
}

// TestIDsDoNotMix: one customer's id at Shopify is another's at Recharge. What is known
// of the one is never taken for the other, in whichever order they come.
func TestIDsDoNotMix(t *testing.T) {
	const both = int64(6100200300400) // Pat's at Shopify
	for _, first := range []string{byShopify(pat), byRecharge(both)} {
		f := &fixture{t: t, clock: &clock{}, log: &logs{}, redis: storetest.Redis(t), people: append(customers(), rechargetest.Customer{
			ID: both, Hash: "feedfeedfeedfeed", FirstName: "Some", LastName: "Namesake", Subscriptions: customers()[1].Subscriptions,
		})}
		f.begin("new", "/apps/subscriptions", withKeys)
		f.post(portalKey, first)
		for range 2 {
			if got := f.post(portalKey, byShopify(pat)); !strings.Contains(got.URL, "/1f2e3d4c5b6a7988/") {
				t.Errorf("by Shopify's id: %d %s; want Pat's link", got.status, got.body)
			}
			if got := f.post(portalKey, byRecharge(both)); !strings.Contains(got.URL, "/feedfeedfeedfeed/") {
				t.Errorf("by Recharge's id: %d %s; want the namesake's link", got.status, got.body)
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
		f := start(t, withKeys)
		f.recharge.SetFaults(set)
		for i := range 2 {
			got := f.post(portalKey, byRecharge(patsRecord))
			link := f.follow(f.sign(portalKey, f.signedLink(fmt.Sprint("n", i), "recharge:70100200")))
			for _, url := range []string{got.URL, link.location} {
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
	f := start(t, withKeys)
	beside := f.instance(nil, withKeys)
	path := f.sign(portalKey, f.signedLink("n", pat))
	var all sync.WaitGroup
	var in atomic.Int32
	for i := range 20 {
		all.Go(func() {
			public := []string{f.public, beside.public}[i%2]
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
	f := start(t, many)
	f.connect()
	key := f.makeKey(shop, "server")
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 300 * time.Millisecond })
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			mine := []string{key, "mspk_fixture-shop_" + strings.Repeat("A", 26)}[i%2]
			request, _ := http.NewRequest(http.MethodPost, "http://"+f.public+"/api/portal-links", strings.NewReader(byShopify(pat)))
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
	f := &fixture{t: t, clock: &clock{}, log: &logs{}, redis: redis, people: customers()}
	through := func(s *config.Settings) { s.RedisURL = "redis://" + passed.address }
	f.begin("new", "/apps/subscriptions", many, through)
	f.connect()
	key := f.makeKey(shop, "server")
	for _, body := range []string{byShopify(pat), byRecharge(patsRecord)} {
		f.post(key, body)
		f.calls()
		var trips []int64
		for range 9 { // a chore may come in between: the least tells
			before := passed.trips.Load()
			if got := f.post(key, body); got.status != http.StatusOK || !got.SignedIn {
				t.Fatalf("POST %s = %d %s; want a link", body, got.status, got.body)
			}
			trips = append(trips, passed.trips.Load()-before)
		}
		if calls := f.calls(); len(calls) != 0 || slices.Min(trips) != 1 {
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
	f := start(t, withKeys)
	f.post(portalKey, byShopify(pat))
	for i := range 50 {
		path := f.sign(portalKey, f.signedLink(fmt.Sprint("n", i), pat))
		connection, err := net.Dial("tcp", f.public)
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

package rechargetest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

func TestSessionToken(t *testing.T) {
	t.Parallel()
	for _, storefront := range []string{"", "strfnt"} {
		w := newWorld(t, func(o *rechargetest.Options) { o.StorefrontToken = storefront })
		r := w.call(http.MethodPost, "/customers/70100200/sessions", adminToken, "X-Recharge-Storefront-Access-Token", storefront)
		s := decode[map[string]map[string]any](t, r)["customer_session"]
		if len(s) != 2 || s["customer_id"] != float64(pat.ID) {
			t.Errorf("customer_session = %v; want apiToken and customer_id %d", s, pat.ID)
		}
		token, _ := s["apiToken"].(string)
		claims := jwt.MapClaims{}
		parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
		if err != nil || parsed.Method != jwt.SigningMethodRS256 {
			t.Fatalf("ParseUnverified(%q) = %v, %v; want RS256", token, parsed, err)
		}
		want := jwt.MapClaims{
			"ver": 1.0, "store_id": 3344622769.0, "api_token_id": 20001.0, "storefront_access_token_id": nil,
			"iat": 1735689600.0, "exp": 1735693200.0, "customer_id": float64(pat.ID), "redact_pii": false,
			"scopes": []any{"customer_portal_access", "read_customers", "read_subscriptions"},
		}
		if storefront != "" {
			want["storefront_access_token_id"] = 30003.0
		}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	}
}

func TestSessionBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, want := range map[string]int{`{}`: 200, `{"customer_id":1}`: 200, ``: 400, `[]`: 400, `{`: 400} {
		req := w.request(http.MethodPost, "/customers/70100200/sessions", adminToken)
		req.Body, req.ContentLength = http.NoBody, 0
		if body != "" {
			withBody, err := http.NewRequestWithContext(t.Context(), http.MethodPost, req.URL.String(), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			withBody.Header = req.Header
			req = withBody
		}
		got, err := w.do(req)
		if err != nil || got.Status != want {
			t.Errorf("POST sessions %q = %d, %v; want %d", body, got.Status, err, want)
		}
	}
}

func TestPortalAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.access(pat, "&page_destination=subscriptions")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(got.TempToken) {
		t.Errorf("temp_token = %q; want 32 hex digits", got.TempToken)
	}
	want := access{
		BaseURL: w.URL + "/portal/", CustomerHash: pat.Hash, ExpiresAt: "2025-01-02T00:00:00",
		PortalURL: w.URL + "/portal/" + pat.Hash + "/subscriptions?token=" + got.TempToken, TempToken: got.TempToken,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("portal_access (-want +got):\n%s", diff)
	}

	w.SetPortalBase("https://store.example/tools/recurring/portal")
	for _, tt := range []struct{ query, want string }{
		{"", "schedule?token="},
		{"&page_destination=subscriptions", "subscriptions?token="},
		{"&page_destination=delivery_schedule", "schedule?token="},
		{"&page_destination=orders", "orders?token="},
		{"&page_destination=shipping", "addresses?token="},
		{"&page_destination=payment_methods", "payment_methods?token="},
		{"&page_destination=overview", "overview?token="},
		{"&page_destination=https://evil.example", "schedule?token="},
		{"&locale=fr", "schedule?token="},
	} {
		a := w.access(pat, tt.query)
		if want := "https://store.example/tools/recurring/portal/" + pat.Hash + "/" + tt.want; !strings.HasPrefix(a.PortalURL, want) {
			t.Errorf("portal_url for %q = %q; want %q...", tt.query, a.PortalURL, want)
		}
		if got, want := strings.HasSuffix(a.PortalURL, "&locale=fr"), strings.Contains(tt.query, "locale"); got != want {
			t.Errorf("portal_url for %q = %q; locale in it: %v, want %v", tt.query, a.PortalURL, got, want)
		}
	}

	session := w.session(pat)
	for query, want := range map[string]int{
		"":                               422,
		"?shop_url=other.myshopify.com":  422,
		"?shop_url=" + shop:              200,
		"?shop_url=" + shop + "&locale=": 200,
	} {
		if got := w.call(http.MethodGet, "/portal_access"+query, session).Status; got != want {
			t.Errorf("GET /portal_access%s = %d; want %d", query, got, want)
		}
	}
	if got := w.call(http.MethodGet, "/customers", session).Status; got != 401 {
		t.Errorf("GET /customers by session token = %d; want 401", got)
	}
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*world)
		want int
	}{
		{"a second before", func(w *world) { w.advance(rechargetest.SessionLife - time.Second) }, 200},
		{"after an hour", func(w *world) { w.advance(rechargetest.SessionLife) }, 401},
		{"by hand", func(w *world) { w.ExpireSessions() }, 401},
		{"customer gone", func(w *world) { w.SetCustomers([]rechargetest.Customer{sam}) }, 401},
	} {
		w := newWorld(t)
		session := w.session(pat)
		tt.end(w)
		if got := w.call(http.MethodGet, "/portal_access?shop_url="+shop, session); got.Status != tt.want {
			t.Errorf("%s: portal_access = %d %s; want %d", tt.name, got.Status, got.Body, tt.want)
		}
	}
}

// attributes reads the data-... attributes of the page's main element.
func attributes(body string) map[string]string {
	found := map[string]string{}
	main := regexp.MustCompile(`<main [^>]*>`).FindString(body)
	for _, m := range regexp.MustCompile(`data-([a-z]+)="([^"]*)"`).FindAllStringSubmatch(main, -1) {
		found[m[1]] = m[2]
	}
	return found
}

func openedBy(how, page, locale string) map[string]string {
	return map[string]string{"portal": "open", "customer": "Pat Doe", "page": page, "how": how, "locale": locale}
}

func TestHostedPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expired := w.access(pat, "").TempToken
	w.advance(rechargetest.LinkLife)
	token, others := w.access(pat, "").TempToken, w.access(sam, "").TempToken
	if id, live := w.LinkOwner(token); id != pat.ID || !live {
		t.Errorf("LinkOwner = %d, %v; want %d", id, live, pat.ID)
	}
	for _, dead := range []string{expired, "", "00112233445566778899aabbccddeeff"} {
		if id, live := w.LinkOwner(dead); live {
			t.Errorf("LinkOwner(%q) = %d, live; want a dead token", dead, id)
		}
	}
	closed := map[string]string{"portal": "closed", "locale": ""}
	missing := map[string]string{"portal": "missing", "locale": ""}
	tests := []struct {
		path       string
		wantStatus int
		want       map[string]string
	}{
		{"/portal/" + pat.Hash + "/subscriptions?token=" + token, 200, openedBy("token", "subscriptions", "")},
		{"/portal/" + pat.Hash + "/subscriptions?token=" + token, 200, openedBy("token", "subscriptions", "")}, // still works
		{"/portal/" + pat.Hash + "/schedule/?token=" + token + "&locale=fr", 200, openedBy("token", "schedule", "fr")},
		{"/portal/" + pat.Hash + "?token=" + token, 200, openedBy("token", "schedule", "")},
		{"/portal/" + pat.Hash + "/subscriptions/50500600?token=" + token, 200, openedBy("token", "subscriptions/50500600", "")},
		{"/portal/" + pat.Hash + "/subscriptions/50500600/cancel?token=" + token, 200, openedBy("token", "subscriptions/50500600/cancel", "")},
		{"/portal/" + pat.Hash + "/subscriptions/50500700?token=" + token, 200, openedBy("token", "subscriptions/50500700", "")},
		{"/portal/" + pat.Hash + "/subscriptions", 200, closed},
		{"/portal/" + pat.Hash + "/subscriptions?token=00112233445566778899aabbccddeeff", 200, closed},
		{"/portal/" + pat.Hash + "/subscriptions?token=" + expired, 200, closed},
		{"/portal/" + pat.Hash + "/subscriptions?token=" + others, 200, closed},
		{"/portal/" + sam.Hash + "/subscriptions?token=" + token, 200, closed},
		{"/portal/nobody/subscriptions?token=" + token, 200, closed},
		{"/portal/" + pat.Hash + "/nowhere?token=" + token, 404, missing},
		{"/portal/" + pat.Hash + "/nowhere", 404, missing},
		{"/portal/" + pat.Hash + "/orders/1?token=" + token, 404, missing},
		{"/portal/" + pat.Hash + "/subscriptions/x?token=" + token, 404, missing},
		{"/portal/", 404, missing},
	}
	for _, tt := range tests {
		got := w.call(http.MethodGet, tt.path, "")
		if got.Status != tt.wantStatus {
			t.Errorf("GET %s = %d; want %d", tt.path, got.Status, tt.wantStatus)
		}
		if diff := cmp.Diff(tt.want, attributes(got.Body)); diff != "" {
			t.Errorf("GET %s (-want +got):\n%s", tt.path, diff)
		}
		if got.Header.Get("Referrer-Policy") != "no-referrer" || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: header %v; want no-referrer and no-store", tt.path, got.Header)
		}
		if tt.want["portal"] == "open" != strings.Contains(got.Body, pat.Email) {
			t.Errorf("GET %s: the e-mail address must be on an opened page, and on no other", tt.path)
		}
	}
	if got := w.call(http.MethodPost, "/portal/"+pat.Hash+"/subscriptions?token="+token, "").Status; got != 405 {
		t.Errorf("POST = %d; want 405", got)
	}
	w.ExpireSessions()
	if got := attributes(w.call(http.MethodGet, "/portal/"+pat.Hash+"/orders?token="+token, "").Body)["portal"]; got != "closed" {
		t.Errorf("portal after ExpireSessions is %s; want closed", got)
	}
}

// TestTaskPages: the pages beside the portal open with a token of the customer who is named, and lead back to
// addresses of the store only.
func TestTaskPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPortalBase("https://www.brand.example/tools/recurring/portal/")
	token, others := w.access(pat, "").TempToken, w.access(sam, "").TempToken
	closed := map[string]string{"portal": "closed", "locale": ""}
	missing := map[string]string{"portal": "missing", "locale": ""}
	cancel, account := "/pages/"+pat.Hash+"/subscriptions/50500600/cancel", "/pages/account/payment-methods"
	for _, tt := range []struct {
		path string
		want map[string]string
		back string
	}{
		{cancel + "?token=" + token + "&subscription=50500600", openedBy("token", "subscriptions/50500600/cancel", ""), ""},
		{cancel + "?token=" + token + "&subscription=50500600&redirect_to=https%3A%2F%2Fwww.brand.example%2Fapps%2Fx", openedBy("token", "subscriptions/50500600/cancel", ""), "https://www.brand.example/apps/x"},
		{cancel + "?token=" + token + "&subscription=50500600&redirect_to=https%3A%2F%2Fevil.example%2F", openedBy("token", "subscriptions/50500600/cancel", ""), ""},
		{cancel + "?token=" + token + "&subscription=50500600&redirect_to=%2Fapps%2Fx", openedBy("token", "subscriptions/50500600/cancel", ""), ""},
		{cancel + "?token=" + token, missing, ""},
		{cancel + "?token=" + token + "&subscription=1", missing, ""},
		{cancel + "?subscription=50500600", closed, ""},
		{cancel + "?token=" + others + "&subscription=50500600", closed, ""},
		{account + "?token=" + token + "&hash=" + pat.Hash + "&locale=fr", openedBy("token", "account/payment-methods", "fr"), ""},
		{account + "?token=" + token, closed, ""},
		{account + "?token=" + others + "&hash=" + pat.Hash, closed, ""},
		{"/pages/" + pat.Hash + "/gifts/7?token=" + token + "&redirect_to=https%3A%2F%2F" + shop + "%2F", openedBy("token", "gifts/7", ""), "https://" + shop + "/"},
		{"/pages/" + pat.Hash + "/gifts?token=" + token, missing, ""},
		{"/pages/" + pat.Hash + "/subscriptions?token=" + token, missing, ""},
		{"/pages/" + pat.Hash + "/subscriptions/50500600?token=" + token, missing, ""},
		{"/portal/" + pat.Hash + "/gifts/7?token=" + token, missing, ""},
		{"/pages/", missing, ""},
	} {
		got := w.call(http.MethodGet, tt.path, "")
		if diff := cmp.Diff(tt.want, attributes(got.Body)); diff != "" {
			t.Errorf("GET %s (-want +got):\n%s", tt.path, diff)
		}
		if leads := strings.Contains(got.Body, " data-back>"); leads != (tt.back != "") || leads && !strings.Contains(got.Body, `<a href="`+tt.back+`" data-back>`) {
			t.Errorf("GET %s: the page leads back: %v; want %q", tt.path, leads, tt.back)
		}
	}
}

func TestHostedPortalContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.access(pat, "").TempToken
	base := "/portal/" + pat.Hash + "/"
	for _, tt := range []struct{ page, want string }{
		{"subscriptions", `data-subscription="50500600"`},
		{"subscriptions", "House blend"},
		{"subscriptions", `<a href="` + base + `orders?token=` + token + `"`},
		{"subscriptions", `<a href="` + base + `subscriptions?token=` + token + `" aria-current="page"`},
		{"subscriptions/50500600", `data-subscription="50500600"`},
		{"subscriptions/50500600/cancel", "Do you want to cancel"},
		{"subscriptions/50500700", `data-subscription="missing"`},
		{"orders", "This emulator keeps none."},
	} {
		if got := w.call(http.MethodGet, base+tt.page+"?token="+token, "").Body; !strings.Contains(got, tt.want) {
			t.Errorf("page %q does not contain %q:\n%s", tt.page, tt.want, got)
		}
	}
}

func TestOpenings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.access(pat, "").TempToken
	w.call(http.MethodGet, "/portal/"+pat.Hash+"/subscriptions/50500600/cancel?locale=de-CH&token="+token, "")
	w.call(http.MethodGet, "/portal/"+pat.Hash+"/subscriptions", "") // closed
	w.call(http.MethodHead, "/portal/"+pat.Hash+"/subscriptions?token="+token, "")
	w.call(http.MethodGet, "/portal/"+pat.Hash+"/nowhere?token="+token, "")
	w.call(http.MethodGet, w.forwarded("/portal/"+pat.Hash+"/orders", "", pat.ShopifyCustomerID), "")
	want := []rechargetest.Opening{
		{Customer: pat, Page: "subscriptions/50500600/cancel", How: rechargetest.HowToken, Locale: "de-CH", At: w.Now()},
		{Customer: pat, Page: "orders", How: rechargetest.HowStorefront, At: w.Now()},
	}
	if diff := cmp.Diff(want, w.Openings()); diff != "" {
		t.Errorf("Openings() (-want +got):\n%s", diff)
	}
}

const pathPrefix = "/tools/recurring"

// sign adds Shopify's signature to a query, with its own implementation.
func sign(secret string, q url.Values) string {
	var message string
	names := []string{"locale", "logged_in_customer_id", "path_prefix", "returned", "shop", "timestamp", "token"} // in order
	for _, name := range names {
		if q.Has(name) {
			message += name + "=" + q.Get(name)
		}
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(message))
	return q.Encode() + "&signature=" + hex.EncodeToString(mac.Sum(nil))
}

// forwarded returns the request that the storefront sends here when a browser requests pathPrefix + path.
func (w *world) forwarded(path, query, customer string, change ...func(url.Values)) string {
	w.t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		w.t.Fatal(err)
	}
	q.Set("shop", shop)
	q.Set("logged_in_customer_id", customer)
	q.Set("path_prefix", pathPrefix)
	q.Set("timestamp", strconv.FormatInt(w.Now().Unix(), 10))
	for _, f := range change {
		f(q)
	}
	return "/proxy" + path + "?" + sign(clientSecret, q)
}

func TestProxiedPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expired := w.access(pat, "").TempToken
	w.advance(rechargetest.LinkLife)
	token, others := w.access(pat, "").TempToken, w.access(sam, "").TempToken
	subscriptions := "/portal/" + pat.Hash + "/subscriptions"
	login := "/customer_authentication/login?return_to="
	closed := map[string]string{"portal": "closed", "locale": ""}
	tests := []struct {
		name, path, query, customer string
		wantStatus                  int
		want                        map[string]string
		wantLocation                string
	}{
		{"token", subscriptions, "token=" + token, "", 200, openedBy("token", "subscriptions", ""), ""},
		{"token, other's login", subscriptions, "token=" + token, sam.ShopifyCustomerID, 200, openedBy("token", "subscriptions", ""), ""},
		{"login", subscriptions, "locale=fr", pat.ShopifyCustomerID, 200, openedBy("storefront", "subscriptions", "fr"), ""},
		{"login, dead token", subscriptions, "token=" + expired, pat.ShopifyCustomerID, 200, openedBy("storefront", "subscriptions", ""), ""},
		{"other's login", subscriptions, "", sam.ShopifyCustomerID, 200, closed, ""},
		{"other's login and token", subscriptions, "token=" + others, sam.ShopifyCustomerID, 200, closed, ""},
		{"stranger's login", subscriptions, "", "1", 200, closed, ""},
		{"customer without a store account", "/portal/" + noShopify.Hash + "/orders", "", "1", 200, closed, ""},
		{"nobody, customer without a store account", "/portal/" + noShopify.Hash + "/orders", "", "", 302, map[string]string{},
			login + url.QueryEscape(pathPrefix+"/portal/"+noShopify.Hash+"/orders")},
		{"no such hash", "/portal/nobody/subscriptions", "", pat.ShopifyCustomerID, 200, closed, ""},
		{"nobody", subscriptions, "", "", 302, map[string]string{}, login + url.QueryEscape(pathPrefix+subscriptions)},
		{"nobody, dead token", subscriptions, "locale=fr&token=" + expired, "", 302, map[string]string{},
			login + url.QueryEscape(pathPrefix+subscriptions+"?locale=fr")},
		{"unknown page", "/portal/" + pat.Hash + "/nowhere", "", pat.ShopifyCustomerID, 404, map[string]string{"portal": "missing", "locale": ""}, ""},
		{"unknown path", "/elsewhere", "", pat.ShopifyCustomerID, 404, map[string]string{"portal": "missing", "locale": ""}, ""},
		{"access link", "/get-subscription-access", "", pat.ShopifyCustomerID, 302, map[string]string{}, pathPrefix + subscriptions},
		{"access link, nobody", "/get-subscription-access", "", "", 302, map[string]string{},
			login + url.QueryEscape(pathPrefix+"/get-subscription-access?returned=1")},
		{"access link, nobody after signing in", "/get-subscription-access", "returned=1", "", 200, closed, ""},
		{"access link, stranger", "/get-subscription-access", "", "1", 200, map[string]string{"portal": "none", "locale": ""}, ""},
	}
	for _, tt := range tests {
		got := w.call(http.MethodGet, w.forwarded(tt.path, tt.query, tt.customer), "")
		if location := got.Header.Get("Location"); got.Status != tt.wantStatus || location != tt.wantLocation {
			t.Errorf("%s = %d, Location %q; want %d, %q", tt.name, got.Status, location, tt.wantStatus, tt.wantLocation)
		}
		if diff := cmp.Diff(tt.want, attributes(got.Body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if got.Header.Get("Referrer-Policy") != "no-referrer" || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: header %v; want no-referrer and no-store", tt.name, got.Header)
		}
	}

	body := w.call(http.MethodGet, w.forwarded(subscriptions, "", pat.ShopifyCustomerID), "").Body
	if want := `<a href="` + pathPrefix + "/portal/" + pat.Hash + `/orders"`; !strings.Contains(body, want) {
		t.Errorf("proxied page does not contain %q:\n%s", want, body)
	}
	if got := len(w.Requests()); got != 6 { // for the sessions and links above
		t.Errorf("%d requests recorded; want 6: portal pages are no API calls", got)
	}
}

func TestForwardedSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := "/portal/" + pat.Hash + "/subscriptions"
	at := func(d time.Duration) func(url.Values) {
		return func(q url.Values) { q.Set("timestamp", strconv.FormatInt(w.Now().Add(d).Unix(), 10)) }
	}
	set := func(name, value string) func(url.Values) { return func(q url.Values) { q.Set(name, value) } }
	del := func(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }
	good := w.forwarded(path, "", pat.ShopifyCustomerID)
	for _, tt := range []struct {
		name, target string
		want         int
	}{
		{"good", good, 200},
		{"no query", "/proxy" + path, 403},
		{"unsigned", good[:strings.Index(good, "&signature=")], 403},
		{"changed", strings.Replace(good, pat.ShopifyCustomerID, sam.ShopifyCustomerID, 1), 403},
		{"extended", good + "&extra=1", 403},
		{"repeated", good + "&logged_in_customer_id=" + sam.ShopifyCustomerID, 403},
		{"malformed", good + "&a;b", 403},
		{"90 s old", w.forwarded(path, "", pat.ShopifyCustomerID, at(-90*time.Second)), 200},
		{"91 s old", w.forwarded(path, "", pat.ShopifyCustomerID, at(-91*time.Second)), 403},
		{"91 s early", w.forwarded(path, "", pat.ShopifyCustomerID, at(91*time.Second)), 403},
		{"no time", w.forwarded(path, "", pat.ShopifyCustomerID, set("timestamp", "x")), 403},
		{"other shop", w.forwarded(path, "", pat.ShopifyCustomerID, set("shop", "other.myshopify.com")), 403},
		{"no customer parameter", w.forwarded(path, "", "", del("logged_in_customer_id")), 403},
		{"prefix of another site", w.forwarded(path, "", "", set("path_prefix", "//evil.example")), 403},
	} {
		if got := w.call(http.MethodGet, tt.target, ""); got.Status != tt.want {
			t.Errorf("%s = %d; want %d", tt.name, got.Status, tt.want)
		}
	}

	unset := newWorld(t, func(o *rechargetest.Options) { o.ClientSecret = "" })
	q := url.Values{"shop": {shop}, "logged_in_customer_id": {"1"}, "path_prefix": {pathPrefix}, "timestamp": {"1735689600"}}
	if got := unset.call(http.MethodGet, "/proxy"+path+"?"+sign("", q), "").Status; got != 403 {
		t.Errorf("signed with no secret = %d; want 403", got)
	}
}

// TestShopifyVector is the example from Shopify's documentation, with its repeated parameter.
func TestShopifyVector(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *rechargetest.Options) {
		o.ClientSecret, o.Shop = "hush", "shop-name.myshopify.com"
		o.Now = func() time.Time { return time.Unix(1317327555, 0) }
	})
	const query = "extra=1&extra=2&shop=shop-name.myshopify.com&logged_in_customer_id=1&path_prefix=%2Fapps%2Fawesome_reviews" +
		"&timestamp=1317327555&signature="
	for signature, want := range map[string]int{
		"4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddb": 200,
		"4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddc": 403,
	} {
		if got := w.call(http.MethodGet, "/proxy/get-subscription-access?"+query+signature, "").Status; got != want {
			t.Errorf("signature %q = %d; want %d", signature, got, want)
		}
	}
}

// TestAccessLinkPrefersSubscriber has two records of one shopper, the first without subscriptions.
func TestAccessLinkPrefersSubscriber(t *testing.T) {
	t.Parallel()
	stale := rechargetest.Customer{ID: 1, Hash: "stale", ShopifyCustomerID: pat.ShopifyCustomerID}
	w := newWorld(t, func(o *rechargetest.Options) { o.Customers = []rechargetest.Customer{stale, pat} })
	got := w.call(http.MethodGet, w.forwarded("/get-subscription-access", "", pat.ShopifyCustomerID), "").Header.Get("Location")
	if want := pathPrefix + "/portal/" + pat.Hash + "/subscriptions"; got != want {
		t.Errorf("Location = %q; want %q", got, want)
	}
}

func TestPagesEscape(t *testing.T) {
	t.Parallel()
	evil := pat
	evil.FirstName = `"><script>alert(1)</script>`
	w := newWorld(t, func(o *rechargetest.Options) { o.Customers = []rechargetest.Customer{evil} })
	token := w.access(evil, "").TempToken
	body := w.call(http.MethodGet, "/portal/"+pat.Hash+"/overview?locale=%22%3E%3Cscript%3E&token="+token, "").Body
	if strings.Contains(body, "<script") {
		t.Errorf("page holds a script:\n%s", body)
	}
	if got := attributes(body)["locale"]; got != "" {
		t.Errorf("locale that is no language tag = %q; want none", got)
	}
}

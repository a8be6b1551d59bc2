package recharge_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

const foreignID = 70999001

func TestCreateSession(t *testing.T) {
	t.Parallel()
	session := func(members string) string { return `{"customer_session":{` + members + `}}` }
	token := func(jwt string) string { return session(`"apiToken":"` + jwt + `","customer_id":70100200`) }
	claims := func(customer string, exp time.Time) string {
		return fmt.Sprintf(`{"exp":%d,"customer_id":%s}`, exp.Unix(), customer)
	}
	payload := fixture(t, "session_jwt_payload")
	inTenMinutes := jwtOf(claims("70100200", issued.Add(10*time.Minute)))
	inADay := jwtOf(claims("70100200", issued.Add(24*time.Hour)))
	over := jwtOf(claims("70100200", issued.Add(-time.Hour)))
	endless := jwtOf(`{"customer_id":70100200}`)
	foreign := jwtOf(claims("70999001", issued.Add(time.Hour)))
	foreignText := jwtOf(claims(`"70999001"`, issued.Add(time.Hour)))
	ownText := jwtOf(claims(`"70100200"`, issued.Add(time.Hour)))

	// A session is not used in its last minute.
	anHour := issued.Add(59 * time.Minute)
	opaque := func(expires time.Time) recharge.Session {
		return recharge.Session{Token: opaqueSession, Expires: expires}
	}
	tests := []struct {
		name   string
		body   string
		want   recharge.Session
		reason recharge.Reason
	}{
		// Recharge's documents spell each of these in two ways.
		{"session_camel", fixture(t, "session_camel"), opaque(anHour), ""},
		{"session_snake", fixture(t, "session_snake"), opaque(anHour), ""},
		{"customer_id as text", session(`"apiToken":"header.payload.signature","customer_id":"70100200"`), opaque(anHour), ""},
		{"customerId", session(`"apiToken":"header.payload.signature","customerId":70100200`), opaque(anHour), ""},
		{"customerId as text", session(`"api_token":"header.payload.signature","customerId":"70100200"`), opaque(anHour), ""},
		{"no customer id", session(`"apiToken":"header.payload.signature"`), opaque(anHour), ""},
		{"customer id null", session(`"apiToken":"header.payload.signature","customer_id":null`), opaque(anHour), ""},
		{"both spellings", session(`"apiToken":"header.payload.signature","api_token":"other"`), opaque(anHour), ""},
		{"one spelling empty", session(`"apiToken":"","api_token":"header.payload.signature"`), opaque(anHour), ""},

		// The token's own expiry counts, but not beyond the documented lifetime.
		{"session_jwt_payload", token(jwtOf(payload)), recharge.Session{Token: jwtOf(payload), Expires: anHour}, ""},
		{"JWT of ten minutes", token(inTenMinutes), recharge.Session{Token: inTenMinutes, Expires: issued.Add(9 * time.Minute)}, ""},
		{"JWT of a day", token(inADay), recharge.Session{Token: inADay, Expires: anHour}, ""},
		{"JWT that is over", token(over), recharge.Session{Token: over, Expires: issued.Add(-61 * time.Minute)}, ""},
		{"JWT without end", token(endless), recharge.Session{Token: endless, Expires: anHour}, ""},
		{"JWT with the id as text", token(ownText), recharge.Session{Token: ownText, Expires: anHour}, ""},

		// Someone else's session is never used, in whatever field it says so.
		{"foreign customer_id", session(`"apiToken":"header.payload.signature","customer_id":70999001`), recharge.Session{}, recharge.Foreign},
		{"foreign customer_id as text", session(`"apiToken":"header.payload.signature","customer_id":"70999001"`), recharge.Session{}, recharge.Foreign},
		{"foreign customerId", session(`"api_token":"header.payload.signature","customerId":70999001`), recharge.Session{}, recharge.Foreign},
		{"one id own, one foreign", session(`"apiToken":"header.payload.signature","customer_id":70100200,"customerId":70999001`), recharge.Session{}, recharge.Foreign},
		{"JWT of another", token(foreign), recharge.Session{}, recharge.Foreign},
		{"JWT of another, id as text", token(foreignText), recharge.Session{}, recharge.Foreign},
		{"JWT of another, no other id", session(`"apiToken":"` + foreign + `"`), recharge.Session{}, recharge.Foreign},

		{"nothing", `{}`, recharge.Session{}, recharge.Malformed},
		{"null", `null`, recharge.Session{}, recharge.Malformed},
		{"session null", `{"customer_session":null}`, recharge.Session{}, recharge.Malformed},
		{"session empty", session(``), recharge.Session{}, recharge.Malformed},
		{"token empty", session(`"apiToken":"","customer_id":70100200`), recharge.Session{}, recharge.Malformed},
		{"token null", session(`"apiToken":null`), recharge.Session{}, recharge.Malformed},
		{"token a number", session(`"apiToken":1`), recharge.Session{}, recharge.Malformed},
		{"customer id no number", session(`"apiToken":"header.payload.signature","customer_id":"x"`), recharge.Session{}, recharge.Malformed},
		{"customer id a list", session(`"apiToken":"header.payload.signature","customer_id":[70100200]`), recharge.Session{}, recharge.Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, status := range []int{http.StatusOK, http.StatusCreated} {
				srv := newScript(t, answer{status: status, body: test.body})
				got, err := createSession(t.Context(), newClient(t, srv.URL), pat())
				checkReason(t, "CreateSession", err, test.reason)
				if got.Token != test.want.Token || !got.Expires.Equal(test.want.Expires) {
					t.Errorf("CreateSession of %s = %+v; want %+v", test.body, got, test.want)
				}
				if n := len(srv.requests()); n != 1 {
					t.Errorf("%d calls; want 1", n)
				}
			}
		})
	}
}

// TestForeignJWTWithOddParts: a token that names someone else is refused, even
// if something else in it cannot be read.
func TestForeignJWTWithOddParts(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"exp is text":           jwtOf(`{"exp":"soon","customer_id":70999001}`),
		"iat is text":           jwtOf(`{"iat":"now","customer_id":70999001}`),
		"algorithm unknown":     jwtWith(`{"alg":"RS1024","typ":"JWT"}`, `{"customer_id":70999001}`),
		"algorithm not named":   jwtWith(`{"typ":"JWT"}`, `{"customer_id":70999001}`),
		"issuer is not text":    jwtOf(`{"iss":1,"customer_id":70999001}`),
		"audience is an object": jwtOf(`{"aud":{},"customer_id":70999001}`),
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(`{"customer_session":{"apiToken":"`+token+`"}}`))
			_, err := createSession(t.Context(), newClient(t, srv.URL), pat())
			checkReason(t, "CreateSession", err, recharge.Foreign)
		})
	}
}

func TestCreateSessionAsks(t *testing.T) {
	t.Parallel()
	for _, storefront := range []string{"", storefrontToken} {
		srv := newScript(t, says(fixture(t, "session_camel")))
		c := newClient(t, srv.URL, func(o *recharge.Options) { o.StorefrontToken = storefront })
		_, err := createSession(t.Context(), c, pat())
		checkReason(t, "CreateSession", err, "")
		got := srv.requests()[0]
		if got.method != http.MethodPost || got.path != "/customers/70100200/sessions" || got.query != "" || got.body != "{}" {
			t.Errorf("asked %s %s?%s with body %q; want POST /customers/70100200/sessions with {}", got.method, got.path, got.query, got.body)
		}
		want := map[string][]string{
			"X-Recharge-Access-Token":            {adminToken},
			"X-Recharge-Version":                 {"2021-11"},
			"Accept":                             {"application/json"},
			"Content-Type":                       {"application/json"},
			"X-Recharge-Storefront-Access-Token": nil,
		}
		if storefront != "" {
			want["X-Recharge-Storefront-Access-Token"] = []string{storefront}
		}
		for name, values := range want {
			if !cmp.Equal(got.header.Values(name), values) {
				t.Errorf("with storefront token %q, header %s = %q; want %q", storefront, name, got.header.Values(name), values)
			}
		}
	}
}

// portal returns an emulated Recharge with two customers, and a client for it. The portal is the
// emulator's own, on loopback.
func portal(t *testing.T, now *clock) (*rechargetest.Server, *recharge.Client) {
	t.Helper()
	srv := rechargetest.NewServer(rechargetest.Options{
		Shop:            shop,
		Tokens:          []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers", "write_session"}, Burst: 1000}},
		StorefrontToken: storefrontToken,
		Customers: []rechargetest.Customer{
			{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID, Subscriptions: []rechargetest.Subscription{{ID: 50500600}}},
			{ID: foreignID, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999"},
		},
		Now: now.Now,
	})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL, func(o *recharge.Options) {
		o.Now, o.StorefrontToken, o.Burst = now.Now, storefrontToken, 1000
		o.PortalURL = mustURL(t, srv.URL+"/portal/")
	})
	return srv, c
}

func mustSession(t *testing.T, c *recharge.Client, customer recharge.Customer) recharge.Session {
	t.Helper()
	session, err := createSession(t.Context(), c, customer)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// open follows a link as a browser would.
func open(t *testing.T, link string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

func TestLinkOpensThePortal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		to    recharge.Destination
		asked string // page_destination
		page  string
	}{
		{"overview", "overview", "overview"},
		{"subscriptions", "subscriptions", "subscriptions"},
		{"schedule", "delivery_schedule", "schedule"},
		{"orders", "orders", "orders"},
		{"addresses", "shipping", "addresses"},
		{"payment-methods", "payment_methods", "payment_methods"},
		// Recharge makes no link into a subscription; the client does.
		{"subscriptions/50500600", "subscriptions", "subscriptions/50500600"},
		{"subscriptions/50500600/cancel", "subscriptions", "subscriptions/50500600/cancel"},
		{"payment-method/update", "payment_methods", "account/payment-methods"},
		{"gifts/7", "overview", "gifts/7"},
		{"gifts", "overview", "overview"},
	}
	srv, c := portal(t, newClock())
	session := mustSession(t, c, pat())
	for _, test := range tests {
		for _, locale := range []recharge.Locale{"", "fr", "pt-BR"} {
			what := fmt.Sprintf("PortalAccess(%q, %q)", test.to, locale)
			srv.ResetRequests()
			before := len(srv.Openings())
			link, err := portalLink(t.Context(), c, pat(), session, recharge.Visit{To: test.to, Locale: locale})
			checkReason(t, what, err, "")
			if err != nil {
				continue
			}
			query := srv.Requests()[0].Query
			want := url.Values{"shop_url": {shop}, "page_destination": {test.asked}}
			if locale != "" {
				want.Set("locale", string(locale))
			}
			if !cmp.Equal(query, want) {
				t.Errorf("%s asked %v; want %v", what, query, want)
			}
			open(t, link.URL)
			openings := srv.Openings()
			if len(openings) != before+1 {
				t.Errorf("%s = %s, which opens no portal", what, link.URL)
				continue
			}
			got := openings[before]
			if got.Customer.ID != rechargeID || got.Page != test.page || got.How != rechargetest.HowToken || got.Locale != string(locale) {
				t.Errorf("%s opened %q of customer %d by %s in %q; want %q of %d by %s in %q",
					what, got.Page, got.Customer.ID, got.How, got.Locale, test.page, rechargeID, rechargetest.HowToken, locale)
			}
			if !link.Expires.Equal(issued.Add(rechargetest.LinkLife)) {
				t.Errorf("%s expires %v; want %v", what, link.Expires, issued.Add(rechargetest.LinkLife))
			}
		}
	}
}

func TestPortalAccessAsks(t *testing.T) {
	t.Parallel()
	srv := newScript(t, says(fixture(t, "portal_access_recharge_hosted")))
	c := newClient(t, srv.URL, func(o *recharge.Options) { o.StorefrontToken = storefrontToken })
	_, err := portalLink(t.Context(), c, pat(), recharge.Session{Token: opaqueSession}, visit(recharge.Subscriptions))
	checkReason(t, "PortalAccess", err, "")
	got := srv.requests()[0]
	if got.method != http.MethodGet || got.path != "/portal_access" {
		t.Errorf("asked %s %s; want GET /portal_access", got.method, got.path)
	}
	for name, want := range map[string][]string{
		"X-Recharge-Access-Token":            {opaqueSession}, // not the admin token
		"X-Recharge-Storefront-Access-Token": nil,
		"X-Recharge-Version":                 {"2021-11"},
		"Accept":                             {"application/json"},
		"X-Recharge-App":                     {"storefront-client"}, // as the SDK
		"X-Recharge-Sdk-App-Name":            {"manage-subscriptions"},
	} {
		if !cmp.Equal(got.header.Values(name), want) {
			t.Errorf("header %s = %q; want %q", name, got.header.Values(name), want)
		}
	}
}

func TestPortalAccessFromFixtures(t *testing.T) {
	t.Parallel()
	const (
		hosted  = "https://admin.rechargeapps.com/portal/" + hash
		proxied = "https://fixture-shop.example/tools/recurring/portal/" + hash
		token   = "?token=" + portalToken
	)
	// Host names that contain "portal" detect a replacement by text.
	const branded = "https://portal.brand.example/tools/recurring/portal/"
	hostedBy := func(base string) string {
		return edited(t, "portal_access_recharge_hosted", "https://admin.rechargeapps.com/portal/", base)
	}
	midnight := time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	expiring := func(at string) string {
		return edited(t, "portal_access_recharge_hosted", `"2025-01-02T00:00:00"`, at)
	}
	tests := []struct {
		name    string
		body    string
		portal  string // RECHARGE_PORTAL_URL, if not the default
		to      recharge.Destination
		locale  recharge.Locale
		want    string
		expires time.Time
	}{
		{"hosted", fixture(t, "portal_access_recharge_hosted"), "", "schedule", "", hosted + "/schedule" + token, midnight},
		{"proxied", fixture(t, "portal_access_shopify_proxied"), "", "subscriptions", "", proxied + "/subscriptions" + token, midnight},
		{"hosted, single", fixture(t, "portal_access_recharge_hosted"), "", "subscriptions/50500600", "", hosted + "/subscriptions/50500600" + token, midnight},
		{
			"proxied, cancel", fixture(t, "portal_access_shopify_proxied"), "", "subscriptions/50500600/cancel", "",
			"https://fixture-shop.example/tools/recurring/pages/" + hash + "/subscriptions/50500600/cancel?redirect_to=https%3A%2F%2Ffixture-shop.example%2F&subscription=50500600&token=" + portalToken, midnight,
		},
		{
			"hosted, failed payment", fixture(t, "portal_access_recharge_hosted"), "", "payment-method/update", "",
			"https://admin.rechargeapps.com/pages/account/payment-methods?hash=" + hash + "&token=" + portalToken, midnight,
		},
		{"single in French", fixture(t, "portal_access_recharge_hosted"), "", "subscriptions/50500600", "fr", hosted + "/subscriptions/50500600?locale=fr&token=" + portalToken, midnight},
		{"no slash at the end of the base", edited(t, "portal_access_recharge_hosted", `/portal/"`, `/portal"`), "", "subscriptions/1", "", hosted + "/subscriptions/1" + token, midnight},
		{"no portal_url", edited(t, "portal_access_recharge_hosted", `"portal_url":`, `"portal_uri":`), "", "addresses", "", hosted + "/addresses" + token, midnight},
		{"portal in the host", hostedBy(branded), branded, "schedule", "", branded + hash + "/schedule" + token, midnight},
		{"portal in the host, single", hostedBy(branded), branded, "subscriptions/1/cancel", "", "https://portal.brand.example/tools/recurring/pages/" + hash + "/subscriptions/1/cancel?redirect_to=https%3A%2F%2Fportal.brand.example%2F&subscription=1&token=" + portalToken, midnight},
		{
			"portal in Recharge's host, single", hostedBy("https://portal-shop.admin.rechargeapps.com/portal/"), "", "subscriptions/1", "",
			"https://portal-shop.admin.rechargeapps.com/portal/" + hash + "/subscriptions/1" + token, midnight,
		},
		{"expiry in another zone", expiring(`"2025-01-01T19:00:00-05:00"`), "", "schedule", "", hosted + "/schedule" + token, midnight},
		{"expiry with a fraction", expiring(`"2025-01-02T00:00:00.000Z"`), "", "schedule", "", hosted + "/schedule" + token, midnight},
		{"no expiry", expiring(`null`), "", "schedule", "", hosted + "/schedule" + token, time.Time{}},
		{"expiry not readable", expiring(`"tomorrow"`), "", "schedule", "", hosted + "/schedule" + token, time.Time{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(test.body))
			c := newClient(t, srv.URL, func(o *recharge.Options) {
				if test.portal != "" {
					o.PortalURL = mustURL(t, test.portal)
				}
			})
			got, err := portalLink(t.Context(), c, pat(), recharge.Session{Token: opaqueSession}, recharge.Visit{To: test.to, Locale: test.locale})
			checkReason(t, "PortalAccess", err, "")
			if got.URL != test.want || !got.Expires.Equal(test.expires) {
				t.Errorf("PortalAccess(%q, %q) = %v; want %s until %v", test.to, test.locale, got, test.want, test.expires)
			}
		})
	}
}

func TestPortalAccessRefuses(t *testing.T) {
	t.Parallel()
	hosted := func(from, to string) string { return edited(t, "portal_access_recharge_hosted", from, to) }
	// alone leaves only base_url to build links from.
	alone := func(from, to string) string {
		return strings.Replace(hosted(from, to), `"portal_url":`, `"portal_uri":`, 1)
	}
	const single = "subscriptions/50500600"
	tests := []struct {
		name   string
		body   string
		to     recharge.Destination
		reason recharge.Reason
	}{
		{"another customer_hash", hosted(`"customer_hash":"1f2e3d4c5b6a7988"`, `"customer_hash":"aaaabbbbccccdddd"`), "schedule", recharge.Foreign},
		{"customer_hash in another case", hosted(`"customer_hash":"1f2e3d4c5b6a7988"`, `"customer_hash":"1F2E3D4C5B6A7988"`), "schedule", recharge.Foreign},
		{"all of another", hosted(hash, "aaaabbbbccccdddd"), "schedule", recharge.Foreign},
		{"all of another, single", hosted(hash, "aaaabbbbccccdddd"), single, recharge.Foreign},
		{"portal_url of another", hosted("portal/"+hash, "portal/aaaabbbbccccdddd"), "schedule", recharge.LinkRefused},
		{"portal_url elsewhere", hosted("admin.rechargeapps.com/portal/1", "admin.rechargeapps.com.evil.example/portal/1"), "schedule", recharge.LinkRefused},
		{"base_url elsewhere, single", alone("admin.rechargeapps.com/portal/", "evil.example/portal/"), single, recharge.LinkRefused},
		{"base_url not https, single", alone("https://admin", "http://admin"), single, recharge.LinkRefused},
		{"base_url relative, single", alone("https://admin.rechargeapps.com", ""), single, recharge.LinkRefused},
		{"base_url with a user, single", alone("https://admin", "https://x@admin"), single, recharge.LinkRefused},
		{"base_url with a fragment, single", alone(`/portal/"`, `/portal/#x"`), single, recharge.LinkRefused},

		{"no portal_url, no base_url", fmt.Sprintf(`{"customer_hash":%q,"temp_token":%q}`, hash, portalToken), "schedule", recharge.Malformed},
		{"no portal_url, no token", fmt.Sprintf(`{"customer_hash":%q,"base_url":"https://admin.rechargeapps.com/portal/"}`, hash), "schedule", recharge.Malformed},
		{"only the hash", fmt.Sprintf(`{"customer_hash":%q}`, hash), "schedule", recharge.Malformed},
		{"no token, single", hosted(`"temp_token":`, `"temporary_token":`), single, recharge.Malformed},
		{"no base_url, single", alone(`"base_url":`, `"base":`), single, recharge.Malformed},
		{"base_url null, single", alone(`"base_url":"https://admin.rechargeapps.com/portal/"`, `"base_url":null`), single, recharge.Malformed},
		{"base_url no URL, single", alone(`"base_url":"https://admin`, `"base_url":"https://%zz`), single, recharge.LinkRefused},
		{"portal_url a number", hosted(`"portal_url":`, `"portal_url":1,"x":`), "schedule", recharge.Malformed},
		{"customer_hash a number", hosted(`"customer_hash":"1f2e3d4c5b6a7988"`, `"customer_hash":1`), "schedule", recharge.Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(test.body))
			got, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, visit(test.to))
			checkReason(t, "PortalAccess", err, test.reason)
			if got != (recharge.Link{}) {
				t.Errorf("PortalAccess = %v; want no link beside an error", got)
			}
		})
	}
}

// TestPortalAccessWithoutHash: an answer without a hash is malformed, but not the alert that
// another customer's is.
func TestPortalAccessWithoutHash(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no customer_hash":    edited(t, "portal_access_recharge_hosted", `"customer_hash":`, `"hash":`),
		"customer_hash null":  edited(t, "portal_access_recharge_hosted", `"customer_hash":"1f2e3d4c5b6a7988"`, `"customer_hash":null`),
		"customer_hash empty": edited(t, "portal_access_recharge_hosted", `"customer_hash":"1f2e3d4c5b6a7988"`, `"customer_hash":""`),
		"nothing":             `{}`,
		"null":                `null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(body))
			_, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, visit("schedule"))
			checkReason(t, "PortalAccess", err, recharge.Malformed)
		})
	}
}

// TestPortalAccessRetryStartsAfresh: a hash from an unreadable answer does not count for the next
// one.
func TestPortalAccessRetryStartsAfresh(t *testing.T) {
	t.Parallel()
	unreadable := edited(t, "portal_access_recharge_hosted", `"2025-01-02T00:00:00"`, `1735776000`)
	nameless := edited(t, "portal_access_recharge_hosted", `"customer_hash":`, `"hash":`)
	srv := newScript(t, says(unreadable), says(nameless))
	got, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, visit("subscriptions/1"))
	checkSilent(t, "PortalAccess", err)
	if err == nil {
		t.Errorf("PortalAccess = %v, though the answer names no customer; want an error", got)
	}
}

// TestAccess: the access from PortalAccess makes the links to all other destinations, if Recharge
// sends its parts and the guard allows the links. The part before the hash in Recharge's own link
// is preferred to base_url.
func TestAccess(t *testing.T) {
	t.Parallel()
	hosted := func(from, to string) string { return edited(t, "portal_access_recharge_hosted", from, to) }
	const base = "https://admin.rechargeapps.com/portal/"
	whole := recharge.Access{Base: base, TempToken: portalToken, Expires: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)}
	tests := []struct {
		name, body string
		want       recharge.Access
	}{
		{"whole", fixture(t, "portal_access_recharge_hosted"), whole},
		{"no portal_url", hosted(`"portal_url":`, `"portal_uri":`), whole},
		{"no base_url", hosted(`"base_url":`, `"base":`), whole},
		{"no temp_token", hosted(`"temp_token":`, `"temporary_token":`), recharge.Access{}},
		{"base_url no URL", hosted(`"base_url":"https://admin`, `"base_url":"https://%zz`), whole},
		{"base_url elsewhere", hosted(`"base_url":"https://admin.rechargeapps.com`, `"base_url":"https://evil.example`), whole},
	}
	for _, test := range tests {
		c := newClient(t, newScript(t, says(test.body)).URL)
		got, link, err := c.PortalAccess(t.Context(), free(c), pat(), recharge.Session{Token: opaqueSession}, visit("schedule"))
		checkReason(t, test.name+": PortalAccess", err, "")
		if got.Base != test.want.Base || got.TempToken != test.want.TempToken || !got.Expires.Equal(test.want.Expires) {
			t.Errorf("%s: PortalAccess = %q, %q, %v; want %q, %q, %v",
				test.name, got.Base, got.TempToken, got.Expires, test.want.Base, test.want.TempToken, test.want.Expires)
		}
		if want := base + hash + "/schedule?token=" + portalToken; link.URL != want {
			t.Errorf("%s: link %q; want %q", test.name, link.URL, want)
		}
		if test.want.Base == "" {
			continue
		}
		link, err = c.SignedInLink(pat(), got, recharge.Visit{To: "orders", Locale: "fr"})
		checkReason(t, test.name+": SignedInLink", err, "")
		if want := base + hash + "/orders?locale=fr&token=" + portalToken; link.URL != want {
			t.Errorf("%s: SignedInLink = %q; want %q", test.name, link.URL, want)
		}
	}
}

// TestOneAccessOpensAllPages: at an emulated Recharge, the access from one call opens every page.
func TestOneAccessOpensAllPages(t *testing.T) {
	t.Parallel()
	srv, c := portal(t, newClock())
	access, _, err := c.PortalAccess(t.Context(), free(c), pat(), mustSession(t, c, pat()), visit("overview"))
	checkReason(t, "PortalAccess", err, "")
	calls := len(srv.Requests())
	for to, page := range map[recharge.Destination]string{
		"overview": "overview", "subscriptions": "subscriptions", "schedule": "schedule", "orders": "orders", "addresses": "addresses",
		"payment-methods": "payment_methods", "subscriptions/50500600": "subscriptions/50500600",
		"subscriptions/50500600/cancel": "subscriptions/50500600/cancel", "payment-method/update": "account/payment-methods", "gifts/7": "gifts/7", "gifts": "overview",
	} {
		before := len(srv.Openings())
		link, err := c.SignedInLink(pat(), access, recharge.Visit{To: to, Locale: "fr", Country: "CA"})
		checkReason(t, "SignedInLink", err, "")
		open(t, link.URL)
		openings := srv.Openings()
		if len(openings) != before+1 {
			t.Fatalf("the link to %q opens no portal", to)
		}
		if got := openings[before]; got.Customer.ID != rechargeID || got.Page != page || got.How != rechargetest.HowToken || got.Locale != "fr" {
			t.Errorf("the link to %q opened %+v; want %q", to, got, page)
		}
	}
	if n := len(srv.Requests()) - calls; n != 0 {
		t.Errorf("SignedInLink made %d calls; want 0", n)
	}
}

// TestUnknownLocaleOrCountry: an unknown one is no reason to sign the shopper out. Without either
// there is nothing to leave out.
func TestUnknownLocaleOrCountry(t *testing.T) {
	t.Parallel()
	good := says(fixture(t, "portal_access_recharge_hosted"))
	for _, status := range []int{400, 422} {
		refused := answer{status: status, body: "{}"}
		for _, test := range []struct {
			visit recharge.Visit
			query string // of the first call, besides the parameters that each has
			calls int
		}{
			{recharge.Visit{To: "orders", Locale: "fr"}, "locale=fr&", 2},
			{recharge.Visit{To: "orders", Country: "CA"}, "region_country=CA&", 2},
			{recharge.Visit{To: "orders", Locale: "fr", Country: "CA"}, "locale=fr&region_country=CA&", 2},
			{visit("orders"), "", 1},
		} {
			what := fmt.Sprintf("%d: PortalAccess(%+v)", status, test.visit)
			srv := newScript(t, refused, good)
			_, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, test.visit)
			if calls := srv.requests(); len(calls) != test.calls {
				t.Errorf("%s made %d calls; want %d", what, len(calls), test.calls)
			}
			if test.calls == 1 {
				checkReason(t, what, err, map[int]recharge.Reason{400: recharge.BadRequest, 422: recharge.Invalid}[status])
				continue
			}
			checkReason(t, what, err, "")
			for i, extra := range []string{test.query, ""} {
				got, err := url.ParseQuery(srv.requests()[i].query)
				want, err2 := url.ParseQuery(extra + "page_destination=orders&shop_url=" + shop)
				if err != nil || err2 != nil || !cmp.Equal(got, want) {
					t.Errorf("%s, call %d asked %v; want %v", what, i+1, got, want)
				}
			}
		}
		// The way back does not depend on either.
		srv, back := newScript(t, refused, good), recharge.Visit{To: "gifts/7", Country: "CA", Return: "/apps/abo"}
		link, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, back)
		if err != nil || !strings.HasSuffix(link.URL, "/gifts/7?redirect_to=https%3A%2F%2Ffixture-shop.example%2Fapps%2Fabo&token="+portalToken) {
			t.Errorf("PortalAccess(%+v) = %v, %v; want the way back, without the country", back, link, err)
		}
		// Both calls are refused, so the second refusal is the result.
		srv = newScript(t, refused)
		_, err = portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, recharge.Visit{To: "orders", Country: "CA"})
		if err == nil || len(srv.requests()) != 2 {
			t.Errorf("%d twice: PortalAccess = %v after %d calls; want it to fail after 2", status, err, len(srv.requests()))
		}
	}
}

func TestSessionsAtAnEmulatedRecharge(t *testing.T) {
	t.Parallel()
	link := func(ctx context.Context, c *recharge.Client, s recharge.Session) error {
		_, err := portalLink(ctx, c, pat(), s, visit(recharge.Subscriptions))
		return err
	}
	t.Run("session of an hour", func(t *testing.T) {
		t.Parallel()
		for _, snake := range []bool{false, true} {
			srv, c := portal(t, newClock())
			srv.SetFaults(func(f *rechargetest.Faults) { f.SnakeCaseSession, f.ZonedExpiry = snake, snake })
			session := mustSession(t, c, pat())
			if want := issued.Add(59 * time.Minute); !session.Expires.Equal(want) {
				t.Errorf("Expires = %v; want %v", session.Expires, want)
			}
			got, err := portalLink(t.Context(), c, pat(), session, visit(recharge.Subscriptions))
			checkReason(t, "PortalAccess", err, "")
			if want := issued.Add(rechargetest.LinkLife); !got.Expires.Equal(want) {
				t.Errorf("link expires %v; want %v", got.Expires, want)
			}
		}
	})
	t.Run("no storefront token", func(t *testing.T) {
		t.Parallel()
		srv, _ := portal(t, newClock())
		_, err := createSession(t.Context(), newClient(t, srv.URL), pat())
		checkReason(t, "CreateSession", err, recharge.Unauthorized)
	})
	t.Run("customer gone", func(t *testing.T) {
		t.Parallel()
		_, c := portal(t, newClock())
		_, err := createSession(t.Context(), c, recharge.Customer{ID: 1, Hash: hash})
		checkReason(t, "CreateSession", err, recharge.NotFound)
	})
	t.Run("scope missing", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		srv.SetFaults(func(f *rechargetest.Faults) { f.RefuseSessions = true })
		_, err := createSession(t.Context(), c, pat())
		checkReason(t, "CreateSession", err, recharge.Forbidden)
	})
	t.Run("another customer's session", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		srv.SetFaults(func(f *rechargetest.Faults) { f.ForeignSession = true })
		_, err := createSession(t.Context(), c, pat())
		checkReason(t, "CreateSession", err, recharge.Foreign)
	})
	t.Run("another customer's portal", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		session := mustSession(t, c, pat())
		srv.SetFaults(func(f *rechargetest.Faults) { f.ForeignPortal = true })
		checkReason(t, "PortalAccess", link(t.Context(), c, session), recharge.Foreign)
	})
	t.Run("session of another customer used", func(t *testing.T) {
		t.Parallel()
		_, c := portal(t, newClock())
		session := mustSession(t, c, recharge.Customer{ID: foreignID, Hash: "aaaabbbbccccdddd"})
		checkReason(t, "PortalAccess", link(t.Context(), c, session), recharge.Foreign)
	})
	t.Run("unknown session", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		checkReason(t, "PortalAccess", link(t.Context(), c, recharge.Session{Token: opaqueSession}), recharge.Unauthorized)
		checkReason(t, "PortalAccess", link(t.Context(), c, recharge.Session{}), recharge.Unauthorized)
		if n := len(srv.Requests()); n != 2 {
			t.Errorf("%d calls; want 2: a refused session is not tried again", n)
		}
	})
	t.Run("session that Recharge has ended", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		session := mustSession(t, c, pat())
		srv.ExpireSessions()
		checkReason(t, "PortalAccess", link(t.Context(), c, session), recharge.Unauthorized)
	})
	t.Run("session that is over", func(t *testing.T) {
		t.Parallel()
		now := newClock()
		_, c := portal(t, now)
		session := mustSession(t, c, pat())
		now.Advance(session.Expires.Sub(now.Now()))
		checkReason(t, "PortalAccess at the session's end", link(t.Context(), c, session), "")
		now.Advance(time.Minute)
		checkReason(t, "PortalAccess a minute later", link(t.Context(), c, session), recharge.Unauthorized)
	})
	t.Run("portal access refused", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		session := mustSession(t, c, pat())
		srv.SetFaults(func(f *rechargetest.Faults) { f.RefusePortalAccess = true })
		checkReason(t, "PortalAccess", link(t.Context(), c, session), recharge.Unauthorized)
	})
	t.Run("another shop", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		session := mustSession(t, c, pat())
		other := newClient(t, srv.URL, func(o *recharge.Options) { o.Shop = "other-shop.myshopify.com" })
		checkReason(t, "PortalAccess", link(t.Context(), other, session), recharge.Invalid)
	})
	t.Run("portal on a host that is not configured", func(t *testing.T) {
		t.Parallel()
		srv, c := portal(t, newClock())
		srv.SetPortalBase("https://portal.brand.example/tools/recurring/portal/")
		session := mustSession(t, c, pat())
		checkReason(t, "PortalAccess", link(t.Context(), c, session), recharge.LinkRefused)
	})
}

// TestSessionPathIsOneSegment: the id is a number, so nothing in it can change the path.
func TestSessionPathIsOneSegment(t *testing.T) {
	t.Parallel()
	srv := newScript(t, answer{status: 404, body: fixture(t, "error_404")})
	c := newClient(t, srv.URL+"/base/")
	for _, id := range []int64{1, -1, 0, 1<<63 - 1} {
		_, err := createSession(t.Context(), c, recharge.Customer{ID: id, Hash: hash})
		checkReason(t, "CreateSession", err, recharge.NotFound)
		calls := srv.requests()
		if got, want := calls[len(calls)-1].path, "/base/customers/"+strconv.FormatInt(id, 10)+"/sessions"; got != want {
			t.Errorf("CreateSession of %d asked %s; want %s", id, got, want)
		}
	}
}

package recharge_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// answering returns a client whose every call gets the same answer.
func answering(t testing.TB, body string, change ...func(*recharge.Options)) *recharge.Client {
	c := newClient(t, pipesURL, change...)
	c.AnswerBy(roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}))
	return c
}

// FuzzLink: for any answer, only links that keep the guard's promise for the requested customer are
// returned.
func FuzzLink(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", "[]", `{"customer_hash":"` + hash + `","portal_url":"` + portalURL + hash + `/subscriptions?token=` + portalToken + `"}`,
		`{"customer_hash":"` + hash + `","base_url":"` + portalURL + `","temp_token":"` + portalToken + `","expires_at":"2025-01-01T00:00:00"}`,
		`{"customer_hash":"` + hash + `","base_url":"//evil.example/","temp_token":"a"}`, `{"customer_hash":"` + hash + `","base_url":"https://evil.example/` + hash + `","temp_token":"a&b"}`,
		`{"customer_hash":"` + hash + `","portal_url":"https://a.rechargeapps.com.evil.example/` + hash + `"}`, `{"customer_hash":"other","portal_url":"` + portalURL + `other"}`,
		`{"customer_hash":"` + hash + `","portal_url":"` + portalURL + "..\\/" + hash + `"}`, `{"customer_hash":1,"portal_url":{}}`, `{"customer_hash":"` + hash + `","base_url":"javascript:` + hash + `/","temp_token":"a"}`,
	} {
		f.Add(body, "orders", "fr")
		f.Add(body, "subscriptions/1/cancel", "")
		f.Add(body, "payment-method/update", "")
	}
	portal := mustURL(f, portalURL)
	f.Fuzz(func(t *testing.T, body, to, locale string) {
		synctest.Test(t, func(t *testing.T) {
			c := answering(t, body)
			v := recharge.Visit{To: recharge.ParseDestination(to), Locale: recharge.ParseLocale(locale), Country: recharge.ParseCountry(locale)}
			access, link, err := c.PortalAccess(t.Context(), free(c), pat(), recharge.Session{Token: opaqueSession}, v)
			if err != nil {
				checkSilent(t, "PortalAccess", err)
				if link != (recharge.Link{}) || access != (recharge.Access{}) {
					t.Errorf("PortalAccess = %+v beside %v", link, err)
				}
				return
			}
			if access != (recharge.Access{}) {
				built, err := c.SignedInLink(pat(), access, v)
				if broken := promiseBroken(built.URL, hash, portal); err != nil || broken != "" {
					t.Errorf("%q gives an access to %q, %v; but %s", body, built.URL, err, broken)
				}
			}
			if broken := promiseBroken(link.URL, hash, portal); broken != "" {
				t.Errorf("%q gives the link %q; but %s", body, link.URL, broken)
			}
		})
	})
}

// FuzzSession: no answer leads to another customer's session or to a panic.
func FuzzSession(f *testing.F) {
	for _, name := range []string{"session_snake", "error_404"} {
		f.Add(fixture(f, name))
	}
	for _, body := range []string{
		"", "{}", "null", `{"customer_session":null}`, `{"customer_session":{"apiToken":"a.b.c"}}`, `{"customer_session":{"api_token":"a.eyJleHAiOjFlOTksImN1c3RvbWVyX2lkIjoxfQ.c"}}`,
		`{"customer_session":{"apiToken":"a","customer_id":70100200,"customerId":"70100201"}}`, `{"customer_session":{"apiToken":"a","customer_id":1e3}}`, `{"customer_session":{"apiToken":["a"]}}`,
		`{"customer_session":{"apiToken":"a.eyJleHAiOi0xfQ.c","customer_id":"70100200"}}`, `{"customer_session":{"apiToken":"a.` + strings.Repeat("A", 4096) + `.c"}}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		synctest.Test(t, func(t *testing.T) {
			session, err := createSession(t.Context(), answering(t, body), pat())
			if err != nil {
				checkSilent(t, "CreateSession", err)
				if session != (recharge.Session{}) {
					t.Errorf("CreateSession of %q = a session beside %v", body, err)
				}
				return
			}
			if session.Token == "" || session.Expires.After(issued.Add(60*60*1e9)) {
				t.Errorf("CreateSession of %q = %+v; want a token, for an hour at most", body, session)
			}
		})
	})
}

var recordHash = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// FuzzPage: for any page, only usable records are kept.
func FuzzPage(f *testing.F) {
	for _, name := range []string{"customers_one_match_2021_11", "customers_empty_2021_11", "customers_filter_ignored_TRAP", "customers_2021_01", "error_404"} {
		f.Add(fixture(f, name), "")
	}
	f.Add(`{"customers":[{"id":"1","hash":"../x","external_customer_id":{"ecommerce":"1"}}],"next_cursor":1}`, "c&limit=9")
	f.Add(`{"customers":null,"next_cursor":{}}`, "\x00")
	f.Fuzz(func(t *testing.T, body, cursor string) {
		synctest.Test(t, func(t *testing.T) {
			page, err := customerPage(t.Context(), answering(t, body), cursor)
			if err != nil {
				checkSilent(t, "CustomerPage", err)
				return
			}
			if len(page.Records) > page.Read {
				t.Errorf("CustomerPage of %q = %d records of %d", body, len(page.Records), page.Read)
			}
			for _, record := range page.Records {
				if record.Customer.ID <= 0 || !recordHash.MatchString(record.Customer.Hash) || record.ShopifyID == "" || strings.Trim(record.ShopifyID, "0123456789") != "" {
					t.Errorf("CustomerPage of %q keeps %+v", body, record)
				}
			}
		})
	})
}

// FuzzPortalURL: an accepted portal address is valid and parses to itself, and links below it keep
// the guard's promise.
func FuzzPortalURL(f *testing.F) {
	for _, seed := range []string{
		"", portalURL, "https://a.example", "http://a.example", "http://127.0.0.1:1/x", "https://a.example/../x", "https://a.example//x", "https://a.example\\x", "https://u@a.example/", "https://A.Example/P",
		"https://a.example/%2e%2e/", "https://a.example:1/", "https:a.example", "//a.example/", "https://a.example/?q", "https://a.example/#f", "http://localhost", "https://[::1]/", "https://1.2.3.4/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		local := mustURL(t, pipesURL)
		u, err := recharge.ParsePortalURL(text, local)
		if err != nil {
			return
		}
		again, err := recharge.ParsePortalURL(u.String(), local)
		if err != nil || again.String() != u.String() || !strings.HasSuffix(u.Path, "/") {
			t.Fatalf("ParsePortalURL(%q) = %q, and again %v, %v", text, u, again, err)
		}
		link, err := newClient(t, pipesURL, func(o *recharge.Options) { o.PortalURL = u }).LinkByHash(pat(), visit(recharge.Subscriptions))
		if err != nil {
			t.Fatalf("LinkByHash below %q = %v", u, err)
		}
		if broken := promiseBroken(link.URL, hash, u); broken != "" {
			t.Errorf("ParsePortalURL(%q) makes the link %q; but %s", text, link.URL, broken)
		}
	})
}

// FuzzDestination: a visitor's destination and locale get into a link only if they have their
// shape, and change nothing else in it.
func FuzzDestination(f *testing.F) {
	for _, seed := range []string{"", "orders", "subscriptions/1", "subscriptions/1/cancel", "../x", "//evil.example", "subscriptions/1/../2", "subscriptions/1\n", "Orders", "orders?x", "\xff"} {
		f.Add(seed, "fr")
		f.Add("orders", seed)
	}
	f.Add("orders", "pt-BR")
	portal := mustURL(f, portalURL)
	c := newClient(f, pipesURL, func(o *recharge.Options) { o.PortalURL = portal })
	f.Fuzz(func(t *testing.T, to, locale string) {
		destination, language := recharge.ParseDestination(to), recharge.ParseLocale(locale)
		if string(destination) != to && destination != recharge.Subscriptions || string(language) != locale && language != "" {
			t.Errorf("ParseDestination(%q) = %q, ParseLocale(%q) = %q; want what is written, or the default", to, destination, locale, language)
		}
		link, err := c.LinkByHash(pat(), recharge.Visit{To: destination, Locale: language})
		if err != nil {
			t.Fatalf("LinkByHash to %q in %q = %v", destination, language, err)
		}
		u, err := url.Parse(link.URL)
		if err != nil || u.Host != portal.Host || !strings.HasPrefix(u.Path, portal.Path+hash+"/") || strings.Contains(u.Path, "..") || u.Query().Get("locale") != string(language) {
			t.Errorf("LinkByHash to %q in %q = %q", to, locale, link.URL)
		}
	})
}

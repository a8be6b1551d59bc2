package shopify

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// FuzzCallback: what is taken of a query that comes back from Shopify has its
// shape, whoever signed it; and nothing is taken that was not signed.
func FuzzCallback(f *testing.F) {
	for _, seed := range []string{
		"", "code=abc&shop=some-shop.myshopify.com&state=ABC&timestamp=1337178173", "code=abc&code=d&shop=some-shop.myshopify.com&state=ABC&timestamp=1337178173",
		"code=abc&host=YWRtaW4=&shop=some-shop.myshopify.com&state=ABC&timestamp=1337178173", "code=a%26b&shop=evil.example&state=%zz&timestamp=1",
		"code=abc&shop=some-shop.myshopify.com%26state%3DABC&state=A&timestamp=1337178173", "signature=1&hmac=2", "a;b", "code=abc&shop=some-shop.myshopify.com&state=ABC&timestamp=1337178263",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, message string, sign bool) {
		query := message
		if sign {
			query += "&hmac=" + hmacOf("hush", message)
		}
		got, err := grant(t, []string{"other", "hush"}, "").VerifyCallback(query)
		if err != nil {
			if !errors.Is(err, ErrNoGrant) || got != (Callback{}) {
				t.Errorf("VerifyCallback(%q) = %+v, %v; want nothing, and ErrNoGrant", query, got, err)
			}
			return
		}
		if _, err := ParseShop(string(got.Shop)); err != nil || got.Code == "" || got.State == "" || strings.ContainsAny(got.Code+got.State, "&=%# \r\n") {
			t.Errorf("VerifyCallback(%q) = %+v; want a shop, a code and a state in their shapes", query, got)
		}
		values, _ := url.ParseQuery(query)
		if len(values["hmac"]) != 1 || values.Get("shop") != string(got.Shop) || values.Get("code") != got.Code || values.Get("state") != got.State {
			t.Errorf("VerifyCallback(%q) = %+v; want what stands in the query", query, got)
		}
		if !sign && values.Get("hmac") == "" {
			t.Errorf("VerifyCallback(%q) takes what nobody has signed", query)
		}
	})
}

// FuzzSignIn: whatever a store's sign-in redirects to, the next address to be
// looked at is a sign-in again, by the same scheme.
func FuzzSignIn(f *testing.F) {
	for _, to := range []string{"", "/account/login", "https://brand.example/account/login", "http://brand.example/account/login", "//evil.example/account/login", "https://shopify.com/1/account", "file:///account/login", "https://account.brand.example/", "/password", "javascript:/account/login", "https://a@b/account/login"} {
		f.Add(to, `<form action="/account/login">`)
	}
	from := &url.URL{Scheme: "https", Host: "some-shop.myshopify.com", Path: "/account/login"}
	f.Fuzz(func(t *testing.T, location, page string) {
		if got := readLogin(page); got != "" && got != "legacy" {
			t.Errorf("readLogin(%q) = %q", page, got)
		}
		to, err := from.Parse(location)
		if err != nil {
			return
		}
		found, next, err := readRedirect(from, to)
		if err != nil || found != "" && found != "new" || found != "" && next != "" {
			t.Errorf("readRedirect(%q) = %q, %q, %v", location, found, next, err)
		}
		if u, err := url.Parse(next); next != "" && (err != nil || u.Scheme != "https" || !strings.HasSuffix(u.Path, "/account/login")) {
			t.Errorf("readRedirect(%q) goes on to %q; want a sign-in, by https", location, next)
		}
	})
}

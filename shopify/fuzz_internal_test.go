package shopify

import (
	"net/url"
	"strings"
	"testing"
)

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

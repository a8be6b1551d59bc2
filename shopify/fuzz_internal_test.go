package shopify

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzSignIn: wherever a store's sign-in redirects, an address is followed only if it is a sign-in
// with the same scheme.
func FuzzSignIn(f *testing.F) {
	for _, to := range []string{"", "/account/login", "https://brand.example/account/login", "http://brand.example/account/login", "//evil.example/account/login", "https://shopify.com/1/account", "file:///account/login", "https://account.brand.example/", "/password", "javascript:/account/login", "https://a@b/account/login"} {
		f.Add(to)
	}
	from := &url.URL{Scheme: "https", Host: "some-shop.myshopify.com", Path: "/account/login"}
	f.Fuzz(func(t *testing.T, location string) {
		to, err := from.Parse(location)
		if err != nil {
			return
		}
		var seen Accounts
		signIn := strings.HasSuffix(to.Path, "/account/login") || strings.HasPrefix(to.Path, "/customer_authentication/")
		if seen.follow(from, to) && (seen.Host != "" || to.Scheme != "https" || !signIn) {
			t.Errorf("follow(%q) shows %v, and goes on there; want a sign-in, by https", location, seen)
		}
	})
}

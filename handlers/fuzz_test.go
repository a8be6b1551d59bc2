package handlers

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

var prefixShape = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,4}$`)

// FuzzReturn checks that the sign-in always returns to a path of the store, with only our own
// parameters, whatever path and query a visitor sends.
func FuzzReturn(f *testing.F) {
	for _, seed := range []string{"", "orders", "//evil.example", "../x", "subscriptions/1/cancel", "\r\nX: 1", "fr", "pt-BR", "fr&x=1", "\xff"} {
		f.Add("/apps/subscriptions", seed, seed, seed)
		f.Add("/fr/apps/subscriptions", "orders", seed, "ca")
	}
	f.Fuzz(func(t *testing.T, prefix, destination, locale, country string) {
		if !prefixShape.MatchString(prefix) {
			return // Verify refuses it
		}
		var a clickRequest
		a.read(shopify.ProxyRequest{PathPrefix: prefix, Destination: destination, Query: url.Values{"locale": {locale}, "country": {country}}})
		back, err := url.Parse(a.back())
		if err != nil || back.Scheme != "" || back.Host != "" || !strings.HasPrefix(back.Path, prefix) || back.Query().Get(returned) != "1" {
			t.Fatalf("the way back of %q, %q, %q, %q is %q", prefix, destination, locale, country, a.back())
		}
		for name, values := range back.Query() {
			kept := map[string]string{returned: "1", "locale": string(recharge.ParseLocale(locale)), "country": string(recharge.ParseCountry(country))}[name]
			if len(values) != 1 || kept == "" || values[0] != kept {
				t.Errorf("the way back of %q, %q is %q; want nothing in its query but ours", locale, country, a.back())
			}
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(back.Path, prefix), "/")
		if rest != "" && string(recharge.ParseDestination(rest)) != rest {
			t.Errorf("the way back of %q is %q; want a destination in it", destination, a.back())
		}
		if root := localePrefix(a.path()); root != "" && !strings.HasPrefix(a.path(), root+"/") {
			t.Errorf("localePrefix(%q) = %q", a.path(), root)
		}
	})
}

package recharge_test

import (
	"net/url"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// TestAccountPage: only Shopify's host, the shop's, and the one where the store's customers have their
// accounts may have Recharge's page.
func TestAccountPage(t *testing.T) {
	app := &url.URL{Scheme: "https", Host: "app.brand.com"}
	for name, test := range map[string]struct{ text, host, want string }{
		"Shopify's":            {"https://shopify.com/1234/account/pages/0199-ab", "account.brand.com", "https://shopify.com/1234/account/pages/0199-ab"},
		"the shop's":           {"https://my-store.myshopify.com/account/pages/1", "shopify.com", "https://my-store.myshopify.com/account/pages/1"},
		"the store's accounts": {"https://Account.Brand.com/pages/1/", "account.brand.com", "https://account.brand.com/pages/1"},
		"with a query":         {"https://shopify.com/1/account/pages/2?locale=en&x=/../#top", "shopify.com", "https://shopify.com/1/account/pages/2"},
		"not known yet":        {"https://account.brand.com/pages/1", "", "https://account.brand.com/pages/1"},
		"another host":         {"https://account.evil.com/pages/1", "account.brand.com", ""},
		"a suffix":             {"https://shopify.com.evil.com/pages/1", "account.brand.com", ""},
		"a prefix":             {"https://evilshopify.com/pages/1", "account.brand.com", ""},
		"a user":               {"https://shopify.com@evil.com/pages/1", "account.brand.com", ""},
		"a port":               {"https://shopify.com:8443/pages/1", "shopify.com", ""},
		"a backslash":          {`https://evil.com\@shopify.com/pages/1`, "shopify.com", ""},
		"dots":                 {"https://shopify.com/1/account/pages/../../2", "shopify.com", ""},
		"http":                 {"http://shopify.com/1/account/pages/2", "shopify.com", ""},
		"a script":             {"javascript:alert(1)//shopify.com/", "", ""},
		"private":              {"https://127.0.0.1/pages/1", "", ""},
		"nothing":              {"", "shopify.com", ""},
	} {
		page, err := recharge.ParseAccountPage(test.text, "my-store.myshopify.com", test.host, app)
		got := ""
		if err == nil {
			got = page.String()
		}
		if got != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
}

// TestAccountLink: each destination leads to a page of the same account, in the visit's language.
func TestAccountLink(t *testing.T) {
	for base, account := range map[string]string{
		"https://shopify.com/1234/account/pages/0199-ab": "https://shopify.com/1234/account",
		"https://account.brand.com/pages/0199-ab":        "https://account.brand.com",
	} {
		c := newClient(t, pipesURL, func(o *recharge.Options) { o.AccountPage, _ = url.Parse(base) })
		for to, want := range map[recharge.Destination]string{
			"subscriptions": base, "overview": base, "subscriptions/12/cancel": base, "gifts": base,
			"orders": account + "/orders", "schedule": account + "/orders", "addresses": account + "/profile",
			"payment-methods": account + "/profile", "payment-method/update": account + "/profile",
		} {
			got := c.AccountLink(recharge.Visit{To: to, Locale: "fr", Country: "CA"})
			if got.URL != want+"?locale=fr&region_country=CA" || !got.Expires.IsZero() {
				t.Errorf("%s at %s = %v; want %s", to, base, got, want)
			}
		}
	}
	c := newClient(t, pipesURL, func(o *recharge.Options) {
		o.AccountPage = &url.URL{Scheme: "https", Host: "shopify.com", Path: "/elsewhere"}
	})
	if got := c.AccountLink(visit("orders")).URL; got != "https://shopify.com/elsewhere" {
		t.Errorf("orders, from an address without a known shape = %q; want that address", got)
	}
}

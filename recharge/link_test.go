package recharge_test

import (
	"fmt"
	"testing"

	"manage-subscriptions/recharge"
)

func TestParseDestination(t *testing.T) {
	t.Parallel()
	known := []string{
		"overview", "subscriptions", "schedule", "orders", "addresses", "payment-methods",
		"subscriptions/1", "subscriptions/50500600", "subscriptions/9223372036854775807", "subscriptions/50500600/cancel",
	}
	for _, s := range known {
		if got := recharge.ParseDestination(s); got != recharge.Destination(s) {
			t.Errorf("ParseDestination(%q) = %q; want %q", s, got, s)
		}
	}
	// Whatever else a link says, the shopper still gets somewhere.
	unknown := []string{
		"", "/", "nowhere", "Subscriptions", " subscriptions", "subscriptions ", "subscriptions\n", "subscriptions/", "/subscriptions",
		"subscriptions/x", "subscriptions/1/", "subscriptions/1/skip", "subscriptions/1/cancel/", "subscriptions/1/cancel\n", "subscriptions/1\n",
		"subscriptions/-1", "subscriptions/1.5", "subscriptions/12345678901234567890", "subscriptions/..", "subscriptions/../orders",
		"subscriptions/1/../../x", "subscriptions/1%2fcancel", "subscriptions/١", "subscriptions//cancel", "subscriptions/1?x=1", "subscriptions/1#x",
		"orders/1", "payment_methods", "delivery_schedule", "shipping", "../overview", "//evil.example", "https://evil.example", "overview?x=1", "\x00", "\xff",
	}
	for _, s := range unknown {
		if got := recharge.ParseDestination(s); got != recharge.Subscriptions {
			t.Errorf("ParseDestination(%q) = %q; want %q", s, got, recharge.Subscriptions)
		}
	}
}

func TestParseLocale(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"fr", "EN", "fil", "pt-BR", "zh-Hant", "zh-Hant-TW", "es-419", "sr-Latn-RS"} {
		if got := recharge.ParseLocale(s); got != recharge.Locale(s) {
			t.Errorf("ParseLocale(%q) = %q; want %q", s, got, s)
		}
	}
	for _, s := range []string{
		"", "f", "french", "fr_FR", "fr-", "-fr", "fr-F", "fr--FR", "fr-FR-x", "zh-Hant-TW-x", "zh-Hant-TW-abc", "fr-123456789", "12", "fr ", " fr", "fr\n", "fr,en", "fr;q=1",
		"fr&token=x", "fr?x", "fr#x", "../fr", "fr/FR", "fr%2d", "fŕ", "*", "\x00", "\xff",
	} {
		if got := recharge.ParseLocale(s); got != "" {
			t.Errorf("ParseLocale(%q) = %q; want none", s, got)
		}
	}
}

func TestLinkByHash(t *testing.T) {
	t.Parallel()
	paths := map[recharge.Destination]string{
		"overview":                      "overview",
		"subscriptions":                 "subscriptions",
		"schedule":                      "schedule",
		"orders":                        "orders",
		"addresses":                     "addresses",
		"payment-methods":               "payment_methods",
		"subscriptions/50500600":        "subscriptions/50500600",
		"subscriptions/50500600/cancel": "subscriptions/50500600/cancel",
	}
	// Nobody listens there: these links need no call.
	const nowhere = "http://127.0.0.1:1"
	for _, portal := range []string{
		portalURL,
		"https://fixture-shop.myshopify.com/tools/recurring/portal/",
		"https://fixture-shop-sp.admin.rechargeapps.com/portal/",
		"https://portal.brand.example/tools/recurring/portal/",
		"http://127.0.0.1:8080/portal/", // the sandbox's
	} {
		c := newClient(t, nowhere, func(o *recharge.Options) { o.PortalURL = mustURL(t, portal) })
		for to, path := range paths {
			for locale, query := range map[recharge.Locale]string{"": "", "fr": "?locale=fr", "pt-BR": "?locale=pt-BR"} {
				what := fmt.Sprintf("LinkByHash(%q, %q)", to, locale)
				got, err := c.LinkByHash(pat(), to, locale)
				checkReason(t, what, err, "")
				if want := (recharge.Link{URL: portal + hash + "/" + path + query}); got != want {
					t.Errorf("%s = %v; want %v", what, got, want)
				}
				if !c.Allows(got, pat()) {
					t.Errorf("Allows(%s) = false; want true", what)
				}
			}
		}
	}
}

// TestLinkByHashRefuses: no remembered value gets around the guard either.
func TestLinkByHashRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	for _, h := range []string{"", ".", "..", "../x", "a/b", "/", "a%2fb", "%2e%2e", "a b", "a\\b", "a?b", "é", "a\tb", "\x00"} {
		got, err := c.LinkByHash(recharge.Customer{ID: rechargeID, Hash: h}, recharge.Subscriptions, "")
		checkReason(t, fmt.Sprintf("LinkByHash of hash %q", h), err, recharge.LinkRefused)
		if got != (recharge.Link{}) {
			t.Errorf("LinkByHash of hash %q = %v; want no link beside an error", h, got)
		}
	}
	// Not made by ParseDestination.
	for _, to := range []recharge.Destination{"x/../../other", "../../../x", "a/..%2f..%2fb", "a/\\b"} {
		_, err := c.LinkByHash(pat(), to, "")
		checkReason(t, fmt.Sprintf("LinkByHash(%q)", to), err, recharge.LinkRefused)
	}
}

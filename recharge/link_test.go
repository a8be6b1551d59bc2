package recharge_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

func TestParseDestination(t *testing.T) {
	t.Parallel()
	known := []string{
		"overview", "subscriptions", "schedule", "orders", "addresses", "payment-methods",
		"subscriptions/1", "subscriptions/50500600", "subscriptions/9223372036854775807", "subscriptions/50500600/cancel",
		"payment-method/update", "gifts", "gifts/1", "gifts/9223372036854775807",
	}
	for _, s := range known {
		if got := recharge.ParseDestination(s); got != recharge.Destination(s) {
			t.Errorf("ParseDestination(%q) = %q; want %q", s, got, s)
		}
	}
	// For anything else, the shopper still gets somewhere.
	unknown := []string{
		"", "/", "nowhere", "Subscriptions", " subscriptions", "subscriptions ", "subscriptions\n", "subscriptions/", "/subscriptions",
		"subscriptions/x", "subscriptions/1/", "subscriptions/1/skip", "subscriptions/1/cancel/", "subscriptions/1/cancel\n", "subscriptions/1\n",
		"subscriptions/-1", "subscriptions/1.5", "subscriptions/12345678901234567890", "subscriptions/..", "subscriptions/../orders",
		"subscriptions/1/../../x", "subscriptions/1%2fcancel", "subscriptions/١", "subscriptions//cancel", "subscriptions/1?x=1", "subscriptions/1#x",
		"payment-method", "payment-method/", "payment-methods/update", "payment-method/1", "payment-method/update/", "account/payment-methods",
		"gift", "gifts/", "gifts/x", "gifts/1/", "gifts/1/2", "gifts/1/cancel", "gifts/..", "gifts/12345678901234567890", "gifts\n",
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

func TestParseCountry(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]recharge.Country{"FR": "FR", "fr": "FR", "gB": "GB"} {
		if got := recharge.ParseCountry(s); got != want {
			t.Errorf("ParseCountry(%q) = %q; want %q", s, got, want)
		}
	}
	for _, s := range []string{
		"", "F", "FRA", "F1", "12", " FR", "FR ", "FR\n", "F R", "FR&x=1", "é", "fŕ", "ſs", "%20", "../", "\x00\x00", "\xff\xff",
	} {
		if got := recharge.ParseCountry(s); got != "" {
			t.Errorf("ParseCountry(%q) = %q; want none", s, got)
		}
	}
}

// TestAccessIsRedacted: an access opens a portal, so nothing may print it.
func TestAccessIsRedacted(t *testing.T) {
	t.Parallel()
	access := recharge.Access{Base: portalURL, TempToken: portalToken, Expires: issued}
	var logged bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&logged, nil), slog.NewTextHandler(&logged, nil)} {
		slog.New(handler).Info("", "access", access, "pointer", &access)
	}
	encoded, err := json.Marshal(map[string]any{"access": access, "inside": struct{ A recharge.Access }{access}})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{logged.String(), string(encoded), access.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, access), fmt.Sprintf(verb, &access), fmt.Sprintf(verb, []recharge.Access{access}))
	}
	for _, text := range texts {
		if !strings.Contains(text, "[redacted]") || strings.Contains(text, portalToken) || strings.Contains(text, "fixture-shop") {
			t.Errorf("printed: %s; want [redacted]", text)
		}
	}
}

// TestSignedInLink: one access makes the links to all destinations, without a call.
func TestSignedInLink(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	access := recharge.Access{Base: portalURL, TempToken: "a&b=c", Expires: issued}
	for v, want := range map[recharge.Visit]string{
		{To: "subscriptions"}:                         "/subscriptions?token=a%26b%3Dc",
		{To: "payment-methods", Locale: "pt-BR"}:      "/payment_methods?locale=pt-BR&token=a%26b%3Dc",
		{To: "subscriptions/5", Country: "CA"}:        "/subscriptions/5?region_country=CA&token=a%26b%3Dc",
		{To: "schedule", Locale: "fr", Country: "CA"}: "/schedule?locale=fr&region_country=CA&token=a%26b%3Dc",
		{To: "gifts", Return: "/apps/subscriptions"}:  "/overview?token=a%26b%3Dc",
	} {
		got, err := c.SignedInLink(pat(), access, v)
		checkReason(t, fmt.Sprintf("SignedInLink(%+v)", v), err, "")
		if want := (recharge.Link{URL: portalURL + hash + want, Expires: issued}); got != want {
			t.Errorf("SignedInLink(%+v) = %+v; want %+v", v, got, want)
		}
	}
	got, err := c.LinkByHash(pat(), recharge.Visit{To: "orders", Locale: "fr", Country: "CA"})
	if want := portalURL + hash + "/orders?locale=fr&region_country=CA"; err != nil || got.URL != want {
		t.Errorf("LinkByHash = %v, %v; want %s", got, err, want)
	}
}

// TestTaskLinks: where the portal's path ends in the segment portal, a link to a page for a task is as
// Recharge's SDK makes it. Elsewhere it leads to the nearest page of the portal.
func TestTaskLinks(t *testing.T) {
	t.Parallel()
	const token = "token=" + portalToken
	for base, beside := range map[string]string{
		"https://fixture-shop.example/tools/recurring/portal/":        "https://fixture-shop.example/tools/recurring/pages/",
		"https://fixture-shop.example/tools/recurring/portal":         "https://fixture-shop.example/tools/recurring/pages/",
		"https://fixture-shop.myshopify.com/tools/recurring/portal/":  "https://fixture-shop.myshopify.com/tools/recurring/pages/",
		"https://admin.rechargeapps.com/portal/":                      "https://admin.rechargeapps.com/pages/",
		"https://portal-shop.admin.rechargeapps.com/portal/":          "https://portal-shop.admin.rechargeapps.com/pages/",
		"https://portal.rechargeapps.com/portal/portal/":              "https://portal.rechargeapps.com/portal/pages/",
		"https://portal.rechargeapps.com/portal/customer/":            "",
		"https://portal.rechargeapps.com/":                            "",
		"https://portal.rechargeapps.com":                             "",
		"https://admin.rechargeapps.com/myportal/":                    "",
		"https://admin.rechargeapps.com/portals/":                     "",
		"https://admin.rechargeapps.com/Portal/":                      "",
		"https://fixture-shop.example/tools/recurring/portal/portal2": "",
	} {
		c := newClient(t, "http://127.0.0.1:1")
		for v, page := range map[recharge.Visit][2]string{
			{To: "subscriptions/5/cancel"}:                                           {hash + "/subscriptions/5/cancel?redirect_to=https%3A%2F%2Ffixture-shop.example%2F&subscription=5&" + token, hash + "/subscriptions/5/cancel?" + token},
			{To: "subscriptions/5/cancel", Locale: "fr", Return: "/apps/abo?a=b&c"}:  {hash + "/subscriptions/5/cancel?locale=fr&redirect_to=https%3A%2F%2Ffixture-shop.example%2Fapps%2Fabo%3Fa%3Db%26c&subscription=5&" + token, hash + "/subscriptions/5/cancel?locale=fr&" + token},
			{To: "gifts/7", Country: "CA", Return: "https://fixture-shop.example/x"}: {hash + "/gifts/7?redirect_to=https%3A%2F%2Ffixture-shop.example%2Fx&region_country=CA&" + token, hash + "/overview?region_country=CA&" + token},
			{To: "payment-method/update", Return: "/apps/subscriptions"}:             {"account/payment-methods?hash=" + hash + "&" + token, hash + "/payment_methods?" + token},
		} {
			want := beside + page[0]
			if beside == "" {
				want = strings.TrimSuffix(base, "/") + "/" + page[1]
			}
			got, err := c.SignedInLink(pat(), recharge.Access{Base: base, TempToken: portalToken}, v)
			checkReason(t, fmt.Sprintf("SignedInLink(%q, %+v)", base, v), err, "")
			if got.URL != want {
				t.Errorf("SignedInLink(%q, %+v) = %q; want %q", base, v, got.URL, want)
			}
		}
	}
}

// TestWayBack: a way back is on the store's own host, or on its portal's, but never on Recharge's.
func TestWayBack(t *testing.T) {
	t.Parallel()
	const branded, home = "https://www.brand.example/tools/recurring/portal/", "https://www.brand.example/"
	for _, test := range []struct{ portal, to, want string }{
		{branded, "", home},
		{branded, "/", home},
		{branded, "/apps/subscriptions", home + "apps/subscriptions"},
		{branded, "/apps/subscriptions?country=CA&locale=fr", home + "apps/subscriptions?country=CA&locale=fr"},
		{branded, "https://www.brand.example/account?x=1#a", "https://www.brand.example/account?x=1#a"},
		{branded, "https://fixture-shop.myshopify.com/a", "https://fixture-shop.myshopify.com/a"},
		{portalURL, "/apps/subscriptions", "https://fixture-shop.example/apps/subscriptions"},
		// Recharge hosts these portals, or somebody else does.
		{"https://admin.rechargeapps.com/portal/", "/apps/subscriptions", "https://fixture-shop.myshopify.com/apps/subscriptions"},
		{"https://subscriptions.brand.example/portal/", "/apps/subscriptions", "https://fixture-shop.myshopify.com/apps/subscriptions"},
		{"https://subscriptions.brand.example/portal/", "https://subscriptions.brand.example/a", "https://subscriptions.brand.example/a"},
		{"https://admin.rechargeapps.com/portal/", "https://admin.rechargeapps.com/portal/" + hash, "https://fixture-shop.myshopify.com/"},
		{"http://127.0.0.1:8080/tools/recurring/portal/", "/apps/subscriptions", "http://127.0.0.1:8080/apps/subscriptions"},
		// For these, the store's home page.
		{branded, "https://evil.example/", home},
		{branded, "//evil.example/", home},
		{branded, "///evil.example/", home + "//evil.example/"}, // a path
		{branded, "https://www.brand.example.evil.example/", home},
		{branded, "https://evil.example/?https://www.brand.example/", home},
		{branded, "https://www.brand.example@evil.example/", home},
		{branded, "https://user@www.brand.example/", home},
		{branded, "https://www.brand.example:8443/", home},
		{branded, "http://www.brand.example/", home},
		{branded, "https://admin.rechargeapps.com/", home},
		{branded, "https:www.brand.example/", home},
		{branded, "https:", home},
		{branded, "javascript:alert(1)", home},
		{branded, "data:text/html,x", home},
		{branded, "/\\evil.example", home},
		{branded, "\\\\evil.example", home},
		{branded, "/\t/evil.example", home},
		{branded, "/a b", home},
		{branded, "/%zz", home},
		{branded, "https://[::1", home},
		{branded, "/é", home},
	} {
		c := newClient(t, "http://127.0.0.1:1", func(o *recharge.Options) { o.PortalURL = mustURL(t, test.portal) })
		if got := c.WayBack(test.to); got != test.want {
			t.Errorf("portal %s: WayBack(%q) = %q; want %q", test.portal, test.to, got, test.want)
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
		"payment-method/update":         "payment_methods",
		"gifts":                         "overview",
		"gifts/7":                       "overview",
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
				got, err := c.LinkByHash(pat(), recharge.Visit{To: to, Locale: locale})
				checkReason(t, what, err, "")
				if want := (recharge.Link{URL: portal + hash + "/" + path + query}); got != want {
					t.Errorf("%s = %v; want %v", what, got, want)
				}
			}
		}
	}
}

// TestLinkByHashRefuses: the guard also refuses bad cached values.
func TestLinkByHashRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	for _, h := range []string{"", ".", "..", "../x", "a/b", "/", "a%2fb", "%2e%2e", "a b", "a\\b", "a?b", "é", "a\tb", "\x00"} {
		got, err := c.LinkByHash(recharge.Customer{ID: rechargeID, Hash: h}, visit(recharge.Subscriptions))
		checkReason(t, fmt.Sprintf("LinkByHash of hash %q", h), err, recharge.LinkRefused)
		if got != (recharge.Link{}) {
			t.Errorf("LinkByHash of hash %q = %v; want no link beside an error", h, got)
		}
	}
	// Not made by ParseDestination.
	for _, to := range []recharge.Destination{"x/../../other", "../../../x", "a/..%2f..%2fb", "a/\\b"} {
		_, err := c.LinkByHash(pat(), visit(to))
		checkReason(t, fmt.Sprintf("LinkByHash(%q)", to), err, recharge.LinkRefused)
	}
}

package server_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/shopify/shopifytest"
)

// attacks are texts that would be something else than text, if they were let.
// What Liquid makes of some of them is the word "drawn", which none contains.
func attacks() map[string]string {
	return map[string]string{
		"script":       `"><script>alert(1)</script>`,
		"single quote": `'><img src=x onerror=alert(1)>`,
		"double quote": `" onmouseover="alert(1)" x="`,
		"end of page":  `</a></li></ul></section></main><h1>gone</h1>`,
		"output":       `{{ 'dr' | append: 'awn' }}`,
		"tag":          `{% assign x = 'dr' %}{{ x }}awn`,
		"open output":  `{{`,
		"open tag":     `{%`,
		"layout":       `{% layout none %}`,
		"raw":          `{% raw %}{% comment %}`,
		"string":       `' | append: 'x' }}{{ 'dr' | append: 'awn`,
		"address":      `//evil.example/javascript:alert(1)`,
		"control":      "\x00\r\nSet-Cookie: a=b\u2028\u202e",
		"10 kB":        strings.Repeat(`{{ "<'text'`, 900),
	}
}

// TestRequestsAreInert sends all of that by every way that a visitor has into a
// page, and draws each page with the Liquid engine.
func TestRequestsAreInert(t *testing.T) {
	ways := map[string]func(attack string) string{
		"destination": func(attack string) string { return "/" + url.PathEscape(attack) },
		"path":        func(attack string) string { return "/subscriptions/" + url.PathEscape(attack) + "/cancel/" },
		"locale":      func(attack string) string { return "/orders?locale=" + url.QueryEscape(attack) },
		"marker":      func(attack string) string { return "?ms_returned=" + url.QueryEscape(attack) },
		"return path": func(attack string) string { return "?return_to=" + url.QueryEscape(attack) },
		"name":        func(attack string) string { return "?" + url.QueryEscape(attack) + "=1" },
	}
	for _, page := range []struct {
		name, who, query string
		breaks           func(*fixture)
		set              func(*config.Settings)
	}{
		{name: "sign_in_failed", query: "ms_returned=1"},
		{name: "not_a_subscriber", who: robin},
		{name: "unavailable", who: pat, breaks: func(f *fixture) { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }},
		{name: "not_connected", who: pat, set: func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }},
		{name: "redirected", who: pat, set: func(s *config.Settings) { s.Redirect = "page" }},
		{name: "sign_in", set: func(s *config.Settings) { s.Redirect = "page" }},
	} {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, func(s *config.Settings) {
				if page.set != nil {
					page.set(s)
				}
			})
			if page.breaks != nil {
				page.breaks(f)
			}
			shopper := f.shopper(page.who)
			clean := f.click(shopper, withMark("/apps/subscriptions/orders", page.query))
			want := elements(t, clean.body)
			for way, path := range ways {
				for name, attack := range attacks() {
					got := f.click(shopper, withMark("/apps/subscriptions"+path(attack), page.query))
					if way == "marker" && page.name == "sign_in" {
						continue // that is sign_in_failed, which has its own turn
					}
					f.inert(page.name+", "+way+", "+name, attack, got, want)
				}
			}
		})
	}
}

// TestMerchantsTextIsInert: what a merchant has typed in the admin is text, too.
func TestMerchantsTextIsInert(t *testing.T) {
	t.Parallel()
	f := start(t)
	want := elements(t, f.click(f.shopper(robin), "/apps/subscriptions").body)
	for name, attack := range attacks() {
		store := shopifytest.NewServer(shopifytest.Options{
			Shop: shop, Name: attack, Email: attack, Now: f.clock.now,
			Shoppers: []shopifytest.Shopper{{ID: robin, FirstName: attack, LastName: attack, Email: attack}},
			Apps:     []shopifytest.App{{PathPrefix: "/apps/subscriptions", ProxyURL: "http://" + f.public + "/apps/subscriptions", Secret: appSecret}},
		})
		other := *f
		other.store = store
		f.inert(name, attack, other.click(other.shopper(robin), "/apps/subscriptions"), want)
		store.Close()
	}
}

func withMark(path, query string) string {
	if query == "" || strings.Contains(path, "ms_returned") {
		return path
	}
	if strings.Contains(path, "?") {
		return path + "&" + query
	}
	return path + "?" + query
}

// inert finds the page's own elements and attributes in it, and no others, and
// nothing that Liquid has worked out.
func (f *fixture) inert(what, attack string, got answer, want []string) {
	f.t.Helper()
	if got.status != http.StatusOK {
		f.t.Errorf("%s: %d %.300s; want the page", what, got.status, got.body)
		return
	}
	if have := elements(f.t, got.body); !slices.Equal(have, want) {
		f.t.Errorf("%s: the page has the elements %v; want %v", what, have, want)
	}
	if strings.Contains(got.body, "drawn") {
		f.t.Errorf("%s: Liquid has read %.80q: %s", what, attack, got.body)
	}
	if got.header.Get("Set-Cookie") != "" {
		f.t.Errorf("%s: the answer sets a cookie", what)
	}
	root, err := html.Parse(strings.NewReader(got.body))
	if err != nil {
		f.t.Fatal(err)
	}
	for node := range root.Descendants() {
		for _, attribute := range node.Attr {
			if attribute.Key != "href" && attribute.Key != "src" && attribute.Key != "action" {
				continue
			}
			if strings.HasPrefix(attribute.Val, "mailto:") {
				continue // whatever follows, it is mail
			}
			target, err := url.Parse(attribute.Val)
			if err != nil || target.Scheme == "javascript" || target.Host == "evil.example" {
				f.t.Errorf("%s: <%s %s=%q>; want nothing that leads away or runs", what, node.Data, attribute.Key, attribute.Val)
			}
		}
	}
}

// elements are what an attack would change in a page.
func elements(t *testing.T, page string) []string {
	t.Helper()
	found, err := shopifytest.Elements(page)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

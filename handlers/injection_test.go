package handlers_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// attacks returns texts that try to be more than text. Liquid would turn some of them into "drawn",
// a word that none of those contains.
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

// TestRequestsAreInert sends all attacks in every place where a visitor's input can reach a page,
// and renders each page with the Liquid engine.
func TestRequestsAreInert(t *testing.T) {
	t.Parallel()
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
		breaks           func(*servertest.Fixture)
		set              func(*config.Settings)
	}{
		{name: "sign_in_failed", query: "ms_returned=1"},
		{name: "not_a_subscriber", who: servertest.Robin},
		{name: "unavailable", who: servertest.Pat, breaks: func(f *servertest.Fixture) { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }},
		{name: "not_connected", who: servertest.Pat, set: func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }},
		{name: "redirected", who: servertest.Pat, set: func(s *config.Settings) { s.Redirect = "page" }},
		{name: "sign_in", set: func(s *config.Settings) { s.Redirect = "page" }},
	} {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, func(s *config.Settings) {
				if page.set != nil {
					page.set(s)
				}
			})
			if page.breaks != nil {
				page.breaks(f)
			}
			shopper := f.Shopper(page.who)
			clean := f.Click(shopper, withMark("/apps/subscriptions/orders", page.query))
			want := elements(t, clean.Body)
			for way, path := range ways {
				for name, attack := range attacks() {
					got := f.Click(shopper, withMark("/apps/subscriptions"+path(attack), page.query))
					if way == "marker" && page.name == "sign_in" {
						continue // this is sign_in_failed, which has its own case
					}
					inert(f, page.name+", "+way+", "+name, attack, got, want)
				}
			}
		})
	}
}

// TestMerchantsTextIsInert does the same with what a merchant types in the admin.
func TestMerchantsTextIsInert(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	want := elements(t, f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions").Body)
	for name, attack := range attacks() {
		store := shopifytest.NewServer(shopifytest.Options{
			Shop: servertest.Shop, Name: attack, Email: attack, Now: f.Clock.Now,
			Shoppers: []shopifytest.Shopper{{ID: servertest.Robin, FirstName: attack, LastName: attack, Email: attack}},
			Apps:     []shopifytest.App{{PathPrefix: "/apps/subscriptions", ProxyURL: "http://" + f.Public + "/apps/subscriptions", Secret: servertest.AppSecret}},
		})
		other := *f
		other.Store = store
		inert(f, name, attack, other.Click(other.Shopper(servertest.Robin), "/apps/subscriptions"), want)
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

// inert checks that a page has exactly its own elements, only safe addresses, and nothing that
// Liquid has evaluated.
func inert(f *servertest.Fixture, what, attack string, got servertest.Answer, want []string) {
	f.T.Helper()
	if got.Status != http.StatusOK {
		f.T.Errorf("%s: %d %.300s; want the page", what, got.Status, got.Body)
		return
	}
	if have := elements(f.T, got.Body); !slices.Equal(have, want) {
		f.T.Errorf("%s: the page has the elements %v; want %v", what, have, want)
	}
	if strings.Contains(got.Body, "drawn") {
		f.T.Errorf("%s: Liquid has read %.80q: %s", what, attack, got.Body)
	}
	if got.Header.Get("Set-Cookie") != "" {
		f.T.Errorf("%s: the answer sets a cookie", what)
	}
	root, err := html.Parse(strings.NewReader(got.Body))
	if err != nil {
		f.T.Fatal(err)
	}
	for node := range root.Descendants() {
		for _, attribute := range node.Attr {
			if attribute.Key != "href" && attribute.Key != "src" && attribute.Key != "action" {
				continue
			}
			if strings.HasPrefix(attribute.Val, "mailto:") {
				continue // it only opens a mail program
			}
			target, err := url.Parse(attribute.Val)
			if err != nil || target.Scheme == "javascript" || target.Host == "evil.example" {
				f.T.Errorf("%s: <%s %s=%q>; want nothing that leads away or runs", what, node.Data, attribute.Key, attribute.Val)
			}
		}
	}
}

// elements returns the parts of a page that an attack would change.
func elements(t *testing.T, page string) []string {
	t.Helper()
	found, err := shopifytest.Elements(page)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

package extensions_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"manage-subscriptions/extensions"
	"manage-subscriptions/shopify/shopifytest"
)

const pat = "6100200300400"

// drawn returns a page of a store with the extension, for a signed-in shopper or, if customer is
// "", for nobody.
func drawn(t *testing.T, o shopifytest.Options, customer, path string) string {
	t.Helper()
	o.Shop, o.Accounts, o.Extension = "fixture-shop.myshopify.com", "legacy", extensions.Theme()
	o.Shoppers = []shopifytest.Shopper{{ID: pat, FirstName: "Pat"}}
	store := shopifytest.NewServer(o)
	defer store.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := http.Client{Jar: jar}
	if customer != "" {
		response, err := browser.PostForm(store.URL+"/account/login", url.Values{"customer": {customer}, "return_to": {"/"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	response, err := browser.Get(store.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if failed := store.LiquidErrors(); len(failed) > 0 {
		t.Errorf("Liquid errors: %q", failed)
	}
	return string(page)
}

func withBlock(settings map[string]any) shopifytest.Options {
	return shopifytest.Options{Blocks: []shopifytest.Block{{ID: "1", Name: "manage-subscriptions", Page: "/", Settings: settings}}}
}

func withEmbed(settings map[string]any) shopifytest.Options {
	return shopifytest.Options{Theme: "classic", Embeds: []shopifytest.Block{{ID: "1", Name: "account-link", Settings: settings}}}
}

// TestLinks checks where the extension's links lead, by its settings and the language.
func TestLinks(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]any
		path     string
		want     string
	}{
		{"as it is", nil, "/", `href="/apps/subscriptions?locale=en"`},
		{"another page", map[string]any{"destination": "payment-methods"}, "/", `href="/apps/subscriptions/payment-methods?locale=en"`},
		{"in French", map[string]any{"destination": "orders"}, "/fr/", `href="/fr/apps/subscriptions/orders?locale=fr"`},
		{"in Brazil", nil, "/pt-br/", `href="/pt-br/apps/subscriptions?locale=pt-BR"`},
		{"renamed", map[string]any{"prefix": "tools", "subpath": " my_subs-1 "}, "/", `href="/tools/my_subs-1?locale=en"`},
		{"no name", map[string]any{"subpath": ""}, "/", `href="/apps/subscriptions?locale=en"`},
		{"strange name", map[string]any{"subpath": "//evil.example/?a=b"}, "/", `href="/apps/evil.example%3Fa%3Db?locale=en"`},
	} {
		for kind, options := range map[string]shopifytest.Options{"block": withBlock(tt.settings), "embed": withEmbed(tt.settings)} {
			if page := drawn(t, options, pat, tt.path); !strings.Contains(page, tt.want) {
				t.Errorf("%s, %s: %s; want %s in it", kind, tt.name, page, tt.want)
			}
		}
	}
}

// TestAudienceWithoutScript checks who sees the block before any script runs.
func TestAudienceWithoutScript(t *testing.T) {
	for _, tt := range []struct {
		audience, customer string
		want, asks         bool
	}{
		{"everyone", "", true, false}, {"everyone", pat, true, false},
		{"signed_in", "", false, false}, {"signed_in", pat, true, false},
		{"subscribers", "", false, false}, {"subscribers", pat, true, true},
	} {
		page := drawn(t, withBlock(map[string]any{"audience": tt.audience}), tt.customer, "/")
		if got := strings.Contains(page, ">Manage subscriptions</a>"); got != tt.want {
			t.Errorf("for %s, customer %q: shown is %v; want %v", tt.audience, tt.customer, got, tt.want)
		}
		if got := strings.Contains(page, `data-manage-subscriptions-status="/apps/subscriptions/status"`); got != tt.asks {
			t.Errorf("for %s, customer %q: asks is %v; want %v", tt.audience, tt.customer, got, tt.asks)
		}
		if extension := strings.SplitN(page, `class="manage-subscriptions"`, 2); len(extension) == 2 {
			if tag, _, _ := strings.Cut(extension[1], ">"); strings.Contains(tag, pat) {
				t.Errorf("for %s: the block shows the customer's id: %s", tt.audience, tag)
			}
		}
	}
}

// TestSettingsAreInert: what a merchant types is shown as text and cannot change where a link leads.
func TestSettingsAreInert(t *testing.T) {
	for kind, with := range map[string]func(map[string]any) shopifytest.Options{"block": withBlock, "embed": withEmbed} {
		want := shape(t, drawn(t, with(map[string]any{"audience": "subscribers"}), pat, "/account"))
		if kind == "block" {
			want = shape(t, drawn(t, with(map[string]any{"audience": "subscribers"}), pat, "/"))
		}
		for _, attack := range []string{
			`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `" onmouseover="alert(1)`, `</a></p></main>`, `</template><h1>`, `<!--`,
			`{{ 'dr' | append: 'awn' }}`, `{% assign x = 'dr' %}{{ x }}awn`, `{{`, `{%`, `%}`, `javascript:alert(1)`, `//evil.example/`, `/\evil.example`, `../../evil`,
			strings.Repeat(`{{ "<'text'`, 900),
		} {
			settings := map[string]any{"audience": "subscribers", "text": attack, "subpath": attack}
			if kind == "embed" {
				settings["selector"] = attack
			}
			path := map[string]string{"block": "/", "embed": "/account"}[kind]
			page := drawn(t, with(settings), pat, path)
			if got := shape(t, page); !slices.Equal(got, want) {
				t.Errorf("%s with %.80q has the elements %v; want %v", kind, attack, got, want)
			}
			if strings.Contains(page, "drawn") {
				t.Errorf("%s with %.80q was read as Liquid", kind, attack)
			}
			for _, link := range links(t, page) {
				if strings.HasPrefix(link, "//") || strings.HasPrefix(link, `/\`) || strings.HasPrefix(link, "javascript:") || strings.Contains(link, "/../") {
					t.Errorf("%s with %.80q leads to %q", kind, attack, link)
				}
			}
		}
	}
}

// shape returns the elements of a page, which an injection would change.
func shape(t *testing.T, page string) []string {
	t.Helper()
	found, err := shopifytest.Elements(page)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func links(t *testing.T, page string) []string {
	t.Helper()
	var found []string
	for node := range root(t, page).Descendants() {
		for _, attribute := range node.Attr {
			if attribute.Key == "href" {
				found = append(found, attribute.Val)
			}
		}
	}
	return found
}

func root(t *testing.T, page string) *html.Node {
	t.Helper()
	node, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return node
}

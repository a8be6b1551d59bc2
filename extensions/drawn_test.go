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

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
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

// TestLinks checks where the extension's links lead, by its settings, the language and the country.
func TestLinks(t *testing.T) {
	for _, tt := range []struct {
		name        string
		destination string
		country     string
		path        string
		want        string
	}{
		{"as it is", "", "", "/", `href="/apps/subscriptions?locale=en"`},
		{"another page", "payment-methods", "", "/", `href="/apps/subscriptions/payment-methods?locale=en"`},
		{"a page below a page", "payment-method/update", "", "/", `href="/apps/subscriptions/payment-method/update?locale=en"`},
		{"in French", "orders", "", "/fr/", `href="/fr/apps/subscriptions/orders?locale=fr"`},
		{"in Brazil", "", "BR", "/pt-br/", `href="/pt-br/apps/subscriptions?locale=pt-BR&amp;country=BR"`},
	} {
		settings := map[string]any{}
		if tt.destination != "" {
			settings["destination"] = tt.destination
		}
		for kind, options := range map[string]shopifytest.Options{"block": withBlock(settings), "embed": withEmbed(settings)} {
			options.Country = tt.country
			if page := drawn(t, options, pat, tt.path); !strings.Contains(page, tt.want) {
				t.Errorf("%s, %s: %s; want %s in it", kind, tt.name, page, tt.want)
			}
		}
	}
}

// TestRenamedPath: the links follow the path that the app home has saved, and no other text leads
// them astray.
func TestRenamedPath(t *testing.T) {
	const plain = "/apps/subscriptions"
	for saved, want := range map[string]string{
		"":                    plain,
		"/tools/my_subs-1":    "/tools/my_subs-1",
		"/a/x":                "/a/x",
		"/community/Abo":      "/community/Abo",
		"/apps/subscriptions": plain,
		"/apps/abo/":          "/apps/abo", // Liquid drops empty parts at the end
		"/apps":               plain,
		"/apps/":              plain,
		"/fr/apps/abo":        plain,
		"/apps/abo/more":      plain,
		"/account/logout":     plain,
		"/ap/subscriptions":   plain,
		"apps/abo":            plain,
		"//evil.example":      plain,
		"//evil.example/apps": plain,
		"/apps//evil":         plain,
		"/apps/..":            plain,
		"/apps/a b":           plain,
		"/apps/a?b":           plain,
		`/apps/"><script>`:    plain,
		`/\evil.example/x`:    plain,
		"javascript:alert(1)": plain,
		"https://evil.test/x": plain,
	} {
		for kind, options := range map[string]shopifytest.Options{
			"block": withBlock(map[string]any{"audience": "subscribers"}), "embed": withEmbed(map[string]any{"audience": "subscribers"}),
		} {
			options.Metafields = map[string]string{"manage_subscriptions.path": saved}
			page := drawn(t, options, pat, "/fr/")
			for _, want := range []string{`href="/fr` + want + `?locale=fr"`, `data-manage-subscriptions-status="/fr` + want + `/status"`} {
				if !strings.Contains(page, want) {
					t.Errorf("%s, saved %q: %s; want %s in it", kind, saved, page, want)
				}
			}
		}
	}
}

// TestLayout checks the block's own settings. Untouched, they leave the theme's variables alone.
func TestLayout(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]any
		want     string
	}{
		{"untouched", nil, `<p class="manage-subscriptions"  data-shopify`},
		{"the defaults, chosen", map[string]any{"alignment": "theme", "width": "natural", "above": 16, "below": 16}, `<p class="manage-subscriptions"  data-shopify`},
		{"aligned", map[string]any{"alignment": "center"}, `<p class="manage-subscriptions manage-subscriptions--center" style="text-align: center;" `},
		{"spaced", map[string]any{"above": 0, "below": 40}, `<p class="manage-subscriptions" style="margin-block: 0px 40px;" `},
		{"wide", map[string]any{"width": "full"}, `<p class="manage-subscriptions manage-subscriptions--full" `},
		{"all", map[string]any{"width": "full", "alignment": "end", "above": 4}, `<p class="manage-subscriptions manage-subscriptions--full manage-subscriptions--end" style="text-align: end;margin-block: 4px 16px;" `},
	} {
		if page := drawn(t, withBlock(tt.settings), "", "/"); !strings.Contains(page, tt.want) {
			t.Errorf("%s: %s; want %s in it", tt.name, page, tt.want)
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
			settings := map[string]any{"audience": "subscribers", "text": attack}
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

package shopifytest

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// extension is a small theme app extension. A block named in sources has that Liquid before its schema.
func extension(sources map[string]string) fstest.MapFS {
	files := fstest.MapFS{
		"assets/app.css":          {Data: []byte("p {}")},
		"assets/app.js":           {Data: []byte("0")},
		"assets/more.js":          {Data: []byte("1")},
		"snippets/who.liquid":     {Data: []byte("{% doc %}Says {% render 'who' %}{% enddoc %}{{ name }}|{{ outer }}|{{ block.id }}|{{ shop.name }}")},
		"snippets/app.liquid":     {Data: []byte("({{ app.metafields.ours.path.value }})")},
		"snippets/loop.liquid":    {Data: []byte("{% render 'loop' %}")},
		"locales/en.default.json": {Data: []byte(`{"a":{"only_en":"English","hi":"Hi {{ name }}","hi_html":"<b>{{ name }}</b>","both":"en"}}`)},
		"locales/pt.json":         {Data: []byte(`{"a":{"only_pt":"Português","both":"pt"}}`)},
		"locales/pt-BR.json":      {Data: []byte(`{"a":{"both":"pt-BR"}}`)},
	}
	add := func(name, target, source string) {
		files["blocks/"+name+".liquid"] = &fstest.MapFile{Data: []byte(source + `
{% schema %}
{
  "name": "t:name", "target": "` + target + `", "stylesheet": "app.css", "javascript": "app.js",
  "settings": [
    {"type": "header", "content": "Text"},
    {"type": "text", "id": "label", "default": "Manage"},
    {"type": "text", "id": "title"},
    {"type": "checkbox", "id": "on"},
    {"type": "select", "id": "style", "options": [{"value": "link"}, {"value": "button"}]},
    {"type": "range", "id": "space", "default": 16},
    {"type": "product", "id": "product"}
  ]
}
{% endschema %}`)}
	}
	add("section", "section", "[section {{ block.id }}]")
	add("foot", "body", "[foot {{ block.id }} {{ request.page_type }}]")
	add("meta", "head", `<meta name="app" content="{{ block.id }}">`)
	for name, source := range sources {
		add(name, "section", source)
	}
	return files
}

// drawBlock returns the store, and what a block with this Liquid prints on its home page under a locale's root.
func drawBlock(t *testing.T, root, source string, settings map[string]any) (string, *Server) {
	t.Helper()
	s := start(t, Options{
		Name:      "Bean & Co",
		Country:   "CA",
		Extension: extension(map[string]string{"it": "[[" + source + "]]"}),
		Blocks:    []Block{{ID: "b1", Name: "it", Page: "/", Settings: settings}},
	}, func(http.ResponseWriter, *http.Request) {})
	_, page := get(t, browser(t), s.URL+root+"/")
	_, after, found := strings.Cut(page, "[[")
	text, _, closed := strings.Cut(after, "]]")
	if !found || !closed {
		return page, s
	}
	return text, s
}

func TestBlockLiquid(t *testing.T) {
	tests := []struct {
		name, root, source string
		settings           map[string]any
		want               string
	}{
		{"defaults", "", "{{ block.settings.label }}|{{ block.settings.title }}|{{ block.settings.on }}|{{ block.settings.style }}|{{ block.settings.space }}|{{ block.settings.product }}", nil, "Manage||false|link|16|"},
		{"settings over defaults", "", "{{ block.settings.label }}|{{ block.settings.on }}|{{ block.settings.style }}", map[string]any{"label": "", "on": true}, "|true|link"},
		{"block", "", "{{ block.id }} {{ block.shopify_attributes }}", nil, `b1 data-shopify-editor-block="{&quot;id&quot;:&quot;b1&quot;}"`},
		{"request", "/fr", "{{ request.page_type }} {{ request.locale.primary }} {{ request.locale.root_url }} {{ request.design_mode }} {{ request.path }}", nil, "index false /fr false /fr/"},
		{"primary locale", "", "{{ request.locale.primary }} {{ request.locale.root_url }}", nil, "true /"},

		{"t", "", "{{ 'a.both' | t }}", nil, "en"},
		{"t of the region", "/pt-br", "{{ 'a.both' | t }}", nil, "pt-BR"},
		{"t falls back to the language", "/pt-br", "{{ 'a.only_pt' | t }}", nil, "Português"},
		{"t falls back to English", "/pt-br", "{{ 'a.only_en' | t }}", nil, "English"},
		{"t of a region without file", "/pt-pt", "{{ 'a.both' | t }}", nil, "pt"},
		{"t of a language without file", "/zh-tw", "{{ 'a.both' | t }}", nil, "en"},
		{"t escapes what is put in", "", "{{ 'a.hi' | t: name: block.settings.label }}", map[string]any{"label": "<i>&"}, "Hi &lt;i&gt;&amp;"},
		{"t of HTML does not", "", "{{ 'a.hi_html' | t: name: '<i>' }}", nil, "<b><i></b>"},
		{"t over several lines", "", "{{ 'a.hi' | t:\n  name: 'x' }}", nil, "Hi x"},
		{"t assigned", "", "{% assign n = 'a.hi' | t: name: 'a: b, c: d' %}{{ n }}", nil, "Hi a: b, c: d"},

		{"render", "", "{% assign outer = 1 %}{% render 'who', name: block.settings.label %}", nil, "Manage|||Bean & Co"},
		{"render over several lines", "", "{%- render 'who',\n  name: 'a, b',\n  other: 2\n-%}", nil, "a, b|||Bean & Co"},
		{"render keeps what it assigns", "", "{% render 'who', outer: 1 %}{{ outer }}", nil, "|1||Bean & Co"},

		{"blank", "", "{% if block.settings.title == blank %}1{% endif %}{% if block.settings.on == blank %}2{% endif %}{% if block.settings.none == blank %}3{% endif %}{% if ' ' == blank %}4{% endif %}{% if block.settings.label == blank %}5{% endif %}", nil, "1234"},
		{"not blank", "", "{% unless block.settings.title != blank %}1{% endunless %}{% if block.settings.label != blank and blank == nil %}2{% endif %}", nil, "12"},
		{"inline comment", "", "a {%- # b {{ c -%} d", nil, "ad"},
		{"doc", "", "a{% doc %} {{ 'x' | nothing }} {% enddoc %}b", nil, "ab"},
		{"comment", "", "a {%- comment -%} {{ x {%- endcomment %} b", nil, "a b"},
		{"raw is left alone", "", "{% raw %}{{ 'a' | t:\n x: 1 }}{% # %}{% if a == blank %}{% endraw %}", nil, "{{ 'a' | t:\n x: 1 }}{% # %}{% if a == blank %}"},
		{"text is left alone", "", "x == blank, t: name: 1", nil, "x == blank, t: name: 1"},
		{"empty output", "", "a{{}}b{{- -}}c", nil, "abc"},

		{"asset_url", "", "{{ 'app.js' | asset_url }}", nil, "/cdn/extensions/assets/app.js"},
		{"stylesheet_tag", "", "{{ 'app.css' | asset_url | stylesheet_tag: preload: true }}", nil, `<link href="/cdn/extensions/assets/app.css" rel="stylesheet" type="text/css" media="all">`},
		{"script_tag", "", "{{ 'app.js' | asset_url | script_tag }}", nil, `<script src="/cdn/extensions/assets/app.js" type="text/javascript"></script>`},
		{"localization", "/pt-br", "{{ localization.country.iso_code }} {{ localization.language.iso_code }}", nil, "CA pt-BR"},
		{"digests", "", "{{ 'a' | md5 }} {{ 'a' | sha256 | slice: 0, 8 }}", nil, "0cc175b9c0f1b6a831c399e269772661 ca978112"},
		{"of the library", "", "{{ '<' | escape }}{{ 'a b' | url_encode }}{{ nothing | default: 'd' }}{{ 'x' | json }}", nil, `&lt;a+bd"x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, s := drawBlock(t, tt.root, tt.source, tt.settings)
			if got != tt.want {
				t.Errorf("%q printed %q; want %q", tt.source, got, tt.want)
			}
			if errs := s.LiquidErrors(); len(errs) > 0 {
				t.Errorf("LiquidErrors() = %q; want none", errs)
			}
		})
	}
}

func TestLiquidErrorStandsInPlace(t *testing.T) {
	tests := []struct {
		name, source string
		want         string
	}{
		{"filter", "\n{{ 'a' | no_such }}", `Liquid error (line 2): undefined filter "no_such" in blocks/it.liquid`},
		{"tag", "{% no_such %}", `Liquid error (line 1): undefined tag "no_such" in blocks/it.liquid`},
		{"lines below comments", "{% doc %}\n\n{% enddoc %}{% no_such %}", "Liquid error (line 3)"},
		{"never closed", "{{ 'a'", "Liquid error: syntax error: never closed: \"{{ 'a']]"},
		{"raw never closed", "{% raw %}", "Liquid error: syntax error: raw is never closed"},
		{"no snippet", "{% render 'none' %}", "snippets/none.liquid: file does not exist"},
		{"arguments", "{% render 'who' with shop as name %}", "cannot read"},
		{"arguments of a snippet", "{% render 'who', name %}", "cannot read"},
		{"snippet in itself", "{% render 'loop' %}", "nesting too deep"},
		{"no asset", "{{ 'none.js' | asset_url }}", "assets/none.js"},
		{"include", "{% include 'who' %}", "include"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page, s := drawBlock(t, "", tt.source, nil)
			_, after, found := strings.Cut(page, `data-block-handle="it">`)
			shown, _, _ := strings.Cut(after, "</div>")
			errs := s.LiquidErrors()
			if len(errs) != 1 || !strings.Contains(errs[0], tt.want) || !strings.HasPrefix(errs[0], "Liquid error") {
				t.Fatalf("LiquidErrors() = %q; want one, with %q", errs, tt.want)
			}
			unescape := strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&")
			if !found || unescape.Replace(shown) != errs[0] {
				t.Errorf("block shows %q; want %q", shown, errs[0])
			}
			if !strings.Contains(page, "This month") {
				t.Error("the rest of the page is gone")
			}
		})
	}
}

func TestMissingTranslationIsReported(t *testing.T) {
	tests := []struct{ source, want, reported string }{
		{"{{ 'a.none' | t }}", "Translation missing: fr.a.none", "Translation missing: fr.a.none"},
		{"{{ 'a' | t }}", "Translation missing: fr.a", "Translation missing: fr.a"},
		{"{{ 'a.hi' | t }}", "Hi {{ name }}", "Translation a.hi is not given its name"},
	}
	for _, tt := range tests {
		got, s := drawBlock(t, "/fr", tt.source, nil)
		if got != tt.want {
			t.Errorf("%q printed %q; want %q", tt.source, got, tt.want)
		}
		if diff := cmp.Diff([]string{tt.reported}, s.LiquidErrors()); diff != "" {
			t.Errorf("LiquidErrors after %q (-want +got):\n%s", tt.source, diff)
		}
	}
}

func TestBlocksAndEmbedsHaveTheirPlaces(t *testing.T) {
	for _, kind := range []struct{ theme, accounts, login string }{
		{"modern", "new", newLoginPath},
		{"modern", "legacy", legacyLoginPath},
		{"classic", "new", newLoginPath},
		{"classic", "legacy", legacyLoginPath},
	} {
		t.Run(kind.theme+" "+kind.accounts, func(t *testing.T) {
			s := start(t, Options{
				Theme: kind.theme, Accounts: kind.accounts, Extension: extension(nil),
				Blocks: []Block{{ID: "h1", Name: "section", Page: "/"}, {ID: "a1", Name: "section", Page: "/account"}, {ID: "h2", Name: "section", Page: "/"}},
				Embeds: []Block{{ID: "e1", Name: "foot"}, {ID: "e2", Name: "meta"}},
			}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/liquid")
				_, _ = w.Write([]byte("<p>app</p>"))
			})
			c := browser(t)
			signInAs(t, c, s.URL+kind.login, ada().ID, "/")
			tests := []struct {
				path, pageType string
				blocks         []string // in the modern theme
			}{
				{"/", "index", []string{"h1", "h2"}},
				{"/fr", "index", []string{"h1", "h2"}},
				{"/account", "customers/account", []string{"a1"}},
				{"/account/addresses", "customers/addresses", nil},
				{"/collections/all", "collection", nil},
				{"/none", "404", nil},
				{prefix, "", nil},
			}
			for _, tt := range tests {
				_, page := get(t, c, s.URL+tt.path)
				var blocks []string
				for _, id := range []string{"h1", "a1", "h2"} {
					if strings.Contains(page, "[section "+id+"]") {
						blocks = append(blocks, id)
					}
				}
				slices.Sort(blocks)
				want := tt.blocks
				if kind.theme == "classic" {
					want = nil
				}
				if diff := cmp.Diff(want, blocks); diff != "" {
					t.Errorf("%s: blocks (-want +got):\n%s", tt.path, diff)
				}
				head, body, _ := strings.Cut(page, "</head>")
				if !strings.Contains(head, `<meta name="app" content="e2">`) {
					t.Errorf("%s: no head embed:\n%s", tt.path, head)
				}
				_, end, _ := strings.Cut(body, "</footer>")
				if want := "[foot e1 " + tt.pageType + "]"; !strings.Contains(end, `<div id="shopify-block-e1" class="shopify-block shopify-app-block"`) || !strings.Contains(end, want) {
					t.Errorf("%s: no %q after the footer:\n%s", tt.path, want, end)
				}
				for _, asset := range []string{`<link rel="stylesheet" href="/cdn/extensions/assets/app.css"`, `<script src="/cdn/extensions/assets/app.js" defer>`} {
					if n := strings.Count(page, asset); n != 1 || !strings.Contains(head, asset) {
						t.Errorf("%s: %s is there %d times; want once, in the head", tt.path, asset, n)
					}
				}
			}
			if errs := s.LiquidErrors(); len(errs) > 0 {
				t.Errorf("LiquidErrors() = %q; want none", errs)
			}
		})
	}
}

func TestAssets(t *testing.T) {
	s := start(t, Options{Extension: extension(nil)}, func(http.ResponseWriter, *http.Request) {})
	tests := []struct {
		path     string
		want     int
		wantType string
	}{
		{"app.css", 200, "text/css; charset=utf-8"},
		{"app.js", 200, "text/javascript; charset=utf-8"},
		{"none.js", 404, "text/html; charset=utf-8"},
		{"", 404, "text/html; charset=utf-8"},
		{"../blocks/section.liquid", 404, "text/html; charset=utf-8"},
		{"%2e%2e/blocks/section.liquid", 404, "text/html; charset=utf-8"},
	}
	for _, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = strings.TrimPrefix(s.URL, "http:") + assetPath + tt.path // unchanged, including ".."
		res, _ := do(t, browser(t), req)
		if got := res.Header.Get("Content-Type"); res.StatusCode != tt.want || got != tt.wantType {
			t.Errorf("GET %s = %d %s; want %d %s", tt.path, res.StatusCode, got, tt.want, tt.wantType)
		}
	}
	none := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	if res, _ := get(t, browser(t), none.URL+assetPath+"app.css"); res.StatusCode != 404 {
		t.Errorf("an asset without extension = %d; want 404", res.StatusCode)
	}
}

// TestExtensionIsReadAnew edits a block while the store runs, first with valid Liquid, then with a mistake.
func TestExtensionIsReadAnew(t *testing.T) {
	files := extension(nil)
	s := start(t, Options{Extension: files, Blocks: []Block{{ID: "b1", Name: "section", Page: "/"}}}, func(http.ResponseWriter, *http.Request) {})
	c := browser(t)
	tests := []struct{ source, want string }{
		{"[edited]{% schema %}{}{% endschema %}", "[edited]"},
		{"[edited]", "Liquid error: blocks/section.liquid has no schema"},
		{"{% schema %}{,}{% endschema %}", "Liquid error: schema of blocks/section.liquid: "},
		{`{% schema %}{"stylesheet":"none.css"}{% endschema %}`, "Liquid error: asset: "},
	}
	for _, tt := range tests {
		files["blocks/section.liquid"].Data = []byte(tt.source)
		if _, page := get(t, c, s.URL); !strings.Contains(page, tt.want) {
			t.Errorf("page with %q has no %q", tt.source, tt.want)
		}
	}
}

func TestWrongExtensionPanics(t *testing.T) {
	broken := extension(nil)
	broken["locales/en.default.json"] = &fstest.MapFile{Data: []byte("{,}")}
	tests := []struct {
		name string
		opts Options
	}{
		{"no extension", Options{Blocks: []Block{{Name: "section", Page: "/"}}}},
		{"no file", Options{Extension: extension(nil), Blocks: []Block{{Name: "none", Page: "/"}}}},
		{"no slot", Options{Extension: extension(nil), Blocks: []Block{{Name: "section", Page: "/collections/all"}}}},
		{"embed as a block", Options{Extension: extension(nil), Blocks: []Block{{Name: "foot", Page: "/"}}}},
		{"block as an embed", Options{Extension: extension(nil), Embeds: []Block{{Name: "section"}}}},
		{"setting", Options{Extension: extension(nil), Embeds: []Block{{Name: "foot", Settings: map[string]any{"lable": "x"}}}}},
		{"locale", Options{Extension: broken}},
		{"theme", Options{Theme: "dawn"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			defer func() {
				if recover() == nil {
					t.Error("NewServerOn returned; want a panic")
				}
			}()
			tt.opts.Shop = shopDomain
			NewServerOn(l, tt.opts).Close()
		})
	}
}

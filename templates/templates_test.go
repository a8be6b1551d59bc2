package templates

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

func load(t *testing.T) *Pages {
	t.Helper()
	return Load()
}

// store returns an emulated store, which renders pages.
func store(t *testing.T, o shopifytest.Options) *shopifytest.Server {
	t.Helper()
	o.Shop = "fixture-shop.myshopify.com"
	s := shopifytest.NewServer(o)
	t.Cleanup(s.Close)
	return s
}

// draw returns a page as the store renders it.
func draw(t *testing.T, s *shopifytest.Server, locale, name string, page Page) string {
	t.Helper()
	source, err := load(t).Liquid(name, page)
	if err != nil {
		t.Fatalf("Liquid(%q): %v", name, err)
	}
	drawn, err := s.Draw(shopifytest.Look{Locale: locale}, source)
	if err != nil {
		t.Fatalf("draw %s in %q: %v", name, locale, err)
	}
	return string(drawn)
}

func page() Page {
	return Page{
		RequestID: "abc123defg",
		Path:      "/apps/subscriptions/orders?locale=fr",
		Again:     "/apps/subscriptions/orders?locale=fr&ms_tried=1",
		SignIn:    "/customer_authentication/login?return_to=",
		Return:    "%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1",
		ByEmail:   "/tools/recurring/get-subscription-access",
		First:     WayAgain,
	}
}

// TestPagesNameTheNextStep checks that each page says what happened and what to do next, with links
// into the store's pages in that language.
func TestPagesNameTheNextStep(t *testing.T) {
	s := store(t, shopifytest.Options{Name: "Fixture & Sons", Email: "owner@fixture.example"})
	const contact = `href="mailto:owner@fixture.example?subject=Manage%20Subscriptions%20abc123defg"`
	for _, tt := range []struct {
		locale, name string
		want         []string
	}{
		{"en", "sign_in_failed", []string{`href="/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1"`, `href="/tools/recurring/get-subscription-access"`, contact, `href="/"`}},
		{"fr", "sign_in_failed", []string{`href="/customer_authentication/login?return_to=%2Ffr%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1"`}},
		{"en", "not_a_subscriber", []string{`href="/collections/all"`, `href="/account/logout?return_url=%2fapps%2fsubscriptions%2forders%3flocale%3dfr"`, `href="/apps/subscriptions/orders?locale=fr&amp;ms_tried=1"`, `href="/tools/recurring/get-subscription-access"`, contact, `href="/"`}},
		{"pt-BR", "not_a_subscriber", []string{`href="/pt-br/collections/all"`, `href="/pt-br/account/logout?return_url=%2Fpt-br%2fapps%2fsubscriptions%2forders%3flocale%3dfr"`, `href="/pt-br/apps/subscriptions/orders?locale=fr&amp;ms_tried=1"`, `href="/pt-br/"`}},
		{"en", "unavailable", []string{`href="/apps/subscriptions/orders?locale=fr&amp;ms_tried=1"`, `href="/tools/recurring/get-subscription-access"`, contact, `href="/"`}},
		{"fr", "unavailable", []string{`href="/fr/apps/subscriptions/orders?locale=fr&amp;ms_tried=1"`, `href="/fr/"`}},
		{"en", "not_connected", []string{contact, `href="/"`}},
	} {
		drawn := draw(t, s, tt.locale, tt.name, page())
		for _, part := range append(tt.want, `data-outcome="`+tt.name+`"`, "abc123defg", "<bdi>Fixture &amp; Sons</bdi>") {
			if !strings.Contains(drawn, part) {
				t.Errorf("%s in %s = %s; want %s in it", tt.name, tt.locale, drawn, part)
			}
		}
	}
	if _, err := load(t).Liquid("nonsense", page()); err == nil {
		t.Error("Liquid(nonsense) = nil; want an error")
	}
}

// TestPagesHaveOneButton checks that each page has exactly one button, that it comes before every other way
// on, and that it is the way that the page's First names.
func TestPagesHaveOneButton(t *testing.T) {
	s := store(t, shopifytest.Options{Name: "Fixture Shop", Email: "owner@fixture.example"})
	english := choose(load(t).byTag, english).Texts
	for _, tt := range []struct{ name, first, want string }{
		{"not_a_subscriber", WayAgain, "not_a_subscriber.again"},
		{"not_a_subscriber", WayOtherAccount, "not_a_subscriber.other"},
		{"not_a_subscriber", WayByEmail, "by_email"},
		{"unavailable", WayAgain, "unavailable.action"},
		{"unavailable", WayByEmail, "by_email"},
		{"sign_in_failed", WayAgain, "sign_in_failed.action"},
		{"not_connected", WayAgain, "home"},
	} {
		page := page()
		page.First = tt.first
		drawn := draw(t, s, "en", tt.name, page)
		buttons := regexp.MustCompile(`<a class="button btn"[^>]*>([^<]*)</a>`).FindAllStringSubmatch(drawn, -1)
		if len(buttons) != 1 || buttons[0][1] != english[tt.want] {
			t.Errorf("%s with %q first has the buttons %q; want one, %q", tt.name, tt.first, buttons, english[tt.want])
		}
		if first := regexp.MustCompile(`(?s)<ul.*?<a ([^>]*)>`).FindStringSubmatch(drawn); first == nil || !strings.Contains(first[1], "button") {
			t.Errorf("%s with %q first begins with %q; want the button", tt.name, tt.first, first)
		}
		if ways := strings.Count(drawn, english["by_email"]); tt.name != "not_connected" && ways != 1 {
			t.Errorf("%s with %q first has %d ways by e-mail; want 1", tt.name, tt.first, ways)
		}
	}
}

// TestGermanUsesOneForm checks that the German texts call the reader "du", as Shopify's do.
func TestGermanUsesOneForm(t *testing.T) {
	formal := regexp.MustCompile(`\b(Sie|Ihnen|Ihr|Ihre|Ihren|Ihrem|Ihrer)\b`)
	for key, text := range choose(load(t).byTag, "de").Texts {
		if word := formal.FindString(text); word != "" {
			t.Errorf("%s has %q: %s", key, word, text)
		}
	}
}

// TestPagesOfferNothingThatIsNotThere checks that a page has no link by e-mail if Recharge has no
// such page, and no empty links.
func TestPagesOfferNothingThatIsNotThere(t *testing.T) {
	s := store(t, shopifytest.Options{Name: "Fixture Shop"})
	for _, name := range names() {
		drawn := draw(t, s, "en", name, Page{RequestID: "abc123defg", Path: "/apps/subscriptions", Again: "/apps/subscriptions", SignIn: "/account/login"})
		for _, part := range []string{"mailto:", "/tools/recurring", `href=""`} {
			if strings.Contains(drawn, part) {
				t.Errorf("%s = %s; want no %s in it", name, drawn, part)
			}
		}
		if !strings.Contains(drawn, `href="/"`) {
			t.Errorf("%s = %s; want a way on", name, drawn)
		}
	}
}

// TestLanguage checks that a page uses the asked language, or that language without its region, or
// English, and that the page that forwards uses the same.
func TestLanguage(t *testing.T) {
	s := store(t, shopifytest.Options{Name: "Fixture Shop"})
	for _, tt := range []struct{ asked, want, direction string }{
		{"en", "en", "ltr"}, {"en-GB", "en", "ltr"}, {"fr", "fr", "ltr"}, {"fr-CA", "fr", "ltr"},
		{"pt-BR", "pt-BR", "ltr"}, {"pt-PT", "pt-PT", "ltr"}, {"pt", "pt-PT", "ltr"}, {"pt-AO", "pt-PT", "ltr"},
		{"zh-CN", "zh-CN", "ltr"}, {"zh-TW", "zh-TW", "ltr"}, {"zh-HK", "zh-TW", "ltr"}, {"zh-SG", "zh-CN", "ltr"},
		{"no", "nb", "ltr"}, {"nn", "nb", "ltr"}, {"nb", "nb", "ltr"},
		{"ar", "ar", "rtl"}, {"ar-EG", "ar", "rtl"}, {"he", "he", "rtl"},
		{"is", "en", "ltr"}, {"uk", "en", "ltr"},
	} {
		drawn := draw(t, s, tt.asked, "unavailable", page())
		if want := `lang="` + tt.want + `" dir="` + tt.direction + `" aria-labelledby`; !strings.Contains(drawn, want) {
			t.Errorf("the page in %q = %s; want %s in it", tt.asked, drawn, want)
		}
		if title := choose(load(t).byTag, tt.want).Texts["unavailable.title"]; !strings.Contains(drawn, ">"+title+"</h1>") {
			t.Errorf("the page in %q = %s; want the title %q", tt.asked, drawn, title)
		}
		forward, err := load(t).Forward("https://portal.example/", tt.asked)
		if want := `<html lang="` + tt.want + `" dir="` + tt.direction + `">`; err != nil || !strings.Contains(string(forward), want) {
			t.Errorf("Forward in %q = %s, %v; want %s in it", tt.asked, forward, err, want)
		}
	}
	for _, tag := range []string{"", "-", "x", "en_US", "123"} {
		if got := choose(load(t).byTag, tag).Code; got != "en" {
			t.Errorf("choose(%q) = %q; want en", tag, got)
		}
	}
}

// TestEveryTextIsDrawn checks that each page shows all of its texts in each language.
func TestEveryTextIsDrawn(t *testing.T) {
	t.Parallel()
	s := store(t, shopifytest.Options{Name: "Fixture Shop", Email: "owner@fixture.example"})
	blank := strings.NewReplacer("{shop}", "<bdi>Fixture Shop</bdi>", "{id}", "<bdi>abc123defg</bdi>")
	for _, c := range load(t).catalogues {
		for _, name := range names() {
			drawn := draw(t, s, c.Code, name, page())
			for key, text := range c.Texts {
				if of, _, owned := strings.Cut(key, "."); owned && of == name && !strings.Contains(drawn, blank.Replace(text)) {
					t.Errorf("%s in %s = %s; want %s in it", name, c.Code, drawn, key)
				}
			}
			if left := regexp.MustCompile(`ms_|\{|\}\}`).FindString(cutStyle(drawn)); left != "" {
				t.Errorf("%s in %s = %s; want no %q left", name, c.Code, drawn, left)
			}
		}
	}
}

func cutStyle(page string) string {
	return regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`).ReplaceAllString(strings.NewReplacer("ms_returned", "", "ms_tried", "").Replace(page), "")
}

// TestCatalogues checks that all languages have the same texts, and that each text is used.
func TestCatalogues(t *testing.T) {
	files := map[string]map[string]string{}
	names, err := fs.Glob(locales, "locales/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		raw, err := locales.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var texts map[string]string
		strict := json.NewDecoder(bytes.NewReader(raw))
		if err := strict.Decode(&texts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		files[strings.TrimSuffix(path.Base(name), ".json")] = texts
	}
	shipped := []string{"cs", "da", "de", "en", "es", "fi", "fr", "it", "ja", "ko", "nb", "nl", "pl", "pt-BR", "pt-PT", "sv", "th", "tr", "vi", "zh-CN", "zh-TW"}
	for _, code := range shipped {
		if files[code] == nil {
			t.Errorf("there is no locales/%s.json, a language of Shopify's themes", code)
		}
	}
	english := files["en"]
	gaps := regexp.MustCompile(`\{[^}]*\}`)
	for code, texts := range files {
		for key, text := range texts {
			want, known := english[key]
			if !known {
				t.Errorf("locales/%s.json has %q, which en.json does not", code, key)
			}
			if got, want := gaps.FindAllString(text, -1), gaps.FindAllString(want, -1); !slices.Equal(got, want) {
				t.Errorf("locales/%s.json: %q has the gaps %v; want %v", code, key, got, want)
			}
			if strings.TrimSpace(text) != text || text == "" || strings.ContainsAny(gaps.ReplaceAllString(text, ""), "{}<>\"'") {
				t.Errorf("locales/%s.json: %q is %q; want a plain text", code, key, text)
			}
		}
		for key := range english {
			if texts[key] == "" {
				t.Errorf("locales/%s.json lacks %q", code, key)
			}
		}
	}
	for key := range maps.Keys(english) {
		if !used(t, key) {
			t.Errorf("no page uses %q", key)
		}
	}
}

// used reports whether a page shows a text.
func used(t *testing.T, key string) bool {
	t.Helper()
	of, _, owned := strings.Cut(key, ".")
	if of == "forbidden" {
		return strings.Contains(forbidden(t, english), choose(load(t).byTag, english).Texts[key])
	}
	use := "{{ " + variable(key) + " }}"
	sources := []string{"pages/frame.liquid", "pages/" + of + ".liquid"}
	if of == "forward" {
		sources, use = []string{"forward.html"}, `{{index .Texts "`+key+`"}}`
	}
	if !owned {
		var err error
		if sources, err = fs.Glob(files, "pages/*.liquid"); err != nil {
			t.Fatal(err)
		}
	}
	for _, source := range sources {
		raw, err := files.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(use)) {
			return true
		}
	}
	return false
}

// forbidden returns all pages for a forbidden click, in one language.
func forbidden(t *testing.T, language string) string {
	t.Helper()
	var all strings.Builder
	for _, page := range []OwnPage{{Storefront: true}, {}, {Reason: "used", Home: "/"}, {Reason: "expired", Home: "/"}} {
		page.RequestID, page.Languages = "abc123defg", language
		drawn, err := load(t).Own("forbidden", page)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(drawn)
	}
	return all.String()
}

// TestForbiddenTextsAreDrawn checks that the pages for forbidden clicks show each text in each
// language, with the request id and a way on.
func TestForbiddenTextsAreDrawn(t *testing.T) {
	for _, c := range load(t).catalogues {
		drawn := forbidden(t, c.Code)
		for key, text := range c.Texts {
			if strings.HasPrefix(key, "forbidden.") && !strings.Contains(drawn, ">"+text+"<") {
				t.Errorf("forbidden in %s = %s; want %s in it", c.Code, drawn, key)
			}
		}
		for _, part := range []string{`<html lang="` + c.Code + `" dir="` + c.Direction() + `">`, "<bdi>abc123defg</bdi>", `<a class="button" href="?">`, `<a href="/account">`, `<a href="/">`} {
			if !strings.Contains(drawn, part) {
				t.Errorf("forbidden in %s = %s; want %s in it", c.Code, drawn, part)
			}
		}
	}
	if _, err := load(t).Own("forbidden", OwnPage{Reason: "nonsense"}); err == nil {
		t.Error("Own for the reason nonsense = nil; want an error")
	}
}

// TestInputIsInert checks that nothing from a request or a merchant's settings becomes HTML or
// Liquid in a page.
func TestInputIsInert(t *testing.T) {
	t.Parallel()
	plain := store(t, shopifytest.Options{Name: "x", Email: "x"})
	want := map[string][]string{}
	for _, name := range names() {
		want[name] = shape(t, draw(t, plain, "en", name, Page{RequestID: "x", Path: "/x", Again: "/x", SignIn: "/x", Return: "x", ByEmail: "/x"}))
		if elsewhere := draw(t, plain, "en", name, Page{Path: "//evil.example/", Again: "//evil.example/", SignIn: `/\evil.example`, Return: "evil", ByEmail: "https://evil.example"}); strings.Contains(elsewhere, "evil") {
			t.Errorf("%s leads off the store: %s", name, elsewhere)
		}
	}
	for i, attack := range []string{
		`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</section></main><h1>gone</h1>`, `javascript:alert(1)`, `" onmouseover="alert(1)`, `<!--`,
		`{{ 'dr' | append: 'awn' }}`, `{% assign x = 'dr' %}{{ x }}awn`, `{{{{ 'dr' | append: 'awn' }}}}`, `{%- layout none -%}`, `{% raw %}`, `{% comment %}`, `{{`, `{%`, `}}`, `%}`,
		`' | append: 'drawn' | append: '`, `'%}{{ 'drawn`, "\x00\xff\u2028", strings.Repeat(`{{"<'`, 2500),
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			hostile := store(t, shopifytest.Options{Name: attack, Email: attack})
			for _, name := range names() {
				drawn := draw(t, hostile, "en", name, Page{RequestID: attack, Path: "/x" + attack, Again: "/x" + attack, First: attack, SignIn: "/x" + attack, Return: attack, ByEmail: "/x" + attack})
				if got := shape(t, drawn); !slices.Equal(got, want[name]) {
					t.Errorf("%s with %.80q has other elements than without:\n%v\n%v\n%.5000s", name, attack, got, want[name], drawn)
				}
				if strings.Contains(drawn, "drawn") && !strings.Contains(attack, "drawn") {
					t.Errorf("%s with %.80q was read as Liquid: %.5000s", name, attack, drawn)
				}
				if scripted := regexp.MustCompile(`href="\s*javascript:`).FindString(drawn); scripted != "" {
					t.Errorf("%s with %.80q has %s", name, attack, scripted)
				}
			}
		})
	}
}

// shape returns the elements of a page, which an attack would change.
func shape(t *testing.T, page string) []string {
	t.Helper()
	found, err := shopifytest.Elements(page)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestForwardCannotBeBrokenOutOf(t *testing.T) {
	pages := load(t)
	want := shape(t, forward(t, pages, "https://portal.example/"))
	for _, attack := range []string{
		`https://portal.example/a?token=1&b="><script>alert(1)</script>`, `https://portal.example/;url=javascript:alert(1)`, `javascript:alert(1)`, `data:text/html,<script>alert(1)</script>`,
		`"><script>`, `'`, `0;url=https://evil.example`, strings.Repeat(`<'">`, 2500),
	} {
		page := forward(t, pages, attack)
		if got := shape(t, page); !slices.Equal(got, want) {
			t.Errorf("Forward(%.80q) has other elements: %.2000s", attack, page)
		}
		for _, opening := range []string{`href="javascript:`, `href="data:`, `url=javascript:`, `url=data:`} {
			if strings.Contains(page, opening) && !strings.HasPrefix(attack, "https:") {
				t.Errorf("Forward(%.80q) = %.2000s; want no %s", attack, page, opening)
			}
		}
	}
	const link = "https://portal.example/a?token=1&amp;b=2"
	if page := forward(t, pages, "https://portal.example/a?token=1&b=2"); strings.Count(page, link) != 2 {
		t.Errorf("Forward = %s; want the target twice, in the refresh and in the link", page)
	}
}

func forward(t *testing.T, pages *Pages, target string) string {
	t.Helper()
	page, err := pages.Forward(target, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

package shopifytest

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	htmlTag = regexp.MustCompile(`<html[^>]*>`)
	mainTag = regexp.MustCompile(`(?s)<main .*</main>`)
	idTag   = regexp.MustCompile(` id="([^"]*)"`)
	heading = regexp.MustCompile(`<h1[ >]`)
)

func drawn(t *testing.T, s *Server, look Look, source string) string {
	t.Helper()
	page, err := s.Draw(look, []byte(source))
	if err != nil {
		t.Fatalf("Draw(%+v): %v", look, err)
	}
	return string(page)
}

func TestDraw(t *testing.T) {
	pat := Shopper{FirstName: "Pat"}
	const source = "[{{ request.locale.iso_code }} {{ request.path }} {{ request.page_type }} {{ routes.root_url }} {{ customer.first_name }}]"
	tests := []struct {
		name          string
		look          Look
		html, printed string
		foreign       bool // the theme's words are not in the page's language
	}{
		{"nothing asked for", Look{}, `<html lang="en">`, "[en /apps/subscriptions  / ]", false},
		{"English", Look{Locale: "en"}, `<html lang="en">`, "[en /apps/subscriptions  / ]", false},
		{"locale", Look{Locale: "fr"}, `<html lang="fr">`, "[fr /fr/apps/subscriptions  /fr ]", true},
		{"region", Look{Locale: "pt-BR"}, `<html lang="pt-BR">`, "[pt-BR /pt-br/apps/subscriptions  /pt-br ]", true},
		{"path", Look{Locale: "zh-TW", Path: "/a/b/c"}, `<html lang="zh-TW">`, "[zh-TW /zh-tw/a/b/c  /zh-tw ]", true},
		{"light", Look{Scheme: "light"}, `<html lang="en" data-scheme="light">`, "[en /apps/subscriptions  / ]", false},
		{"right to left, dark", Look{Locale: "ar", Scheme: "dark"}, `<html lang="ar" dir="rtl" data-scheme="dark">`, "[ar /ar/apps/subscriptions  /ar ]", true},
		{"Hebrew", Look{Locale: "he"}, `<html lang="he" dir="rtl">`, "[he /he/apps/subscriptions  /he ]", true},
		{"Persian", Look{Locale: "fa"}, `<html lang="fa" dir="rtl">`, "[fa /fa/apps/subscriptions  /fa ]", true},
		{"Urdu in Pakistan", Look{Locale: "ur-PK"}, `<html lang="ur-PK" dir="rtl">`, "[ur-PK /ur-pk/apps/subscriptions  /ur-pk ]", true},
		{"shopper", Look{Shopper: &pat}, `<html lang="en">`, "[en /apps/subscriptions  / Pat]", false},
	}
	for _, theme := range []string{"", "modern", "classic"} {
		s := start(t, Options{Theme: theme}, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
		for _, tt := range tests {
			t.Run(theme+" "+tt.name, func(t *testing.T) {
				page := drawn(t, s, tt.look, source)
				if got := htmlTag.FindString(page); got != tt.html {
					t.Errorf("page has %s; want %s", got, tt.html)
				}
				if !strings.Contains(mainTag.FindString(page), tt.printed) {
					t.Errorf("main has no %q:\n%s", tt.printed, page)
				}
				for _, own := range []string{`<header class="site-header"`, `<footer class="site-footer"`} {
					if got := strings.Contains(page, own+` lang="en">`); got != tt.foreign {
						t.Errorf("%s is marked as English = %t; want %t", own, got, tt.foreign)
					}
				}
				if got, want := strings.Contains(page, `id="sign-out"`), tt.look.Shopper != nil; got != want {
					t.Errorf("signed in = %t; want %t", got, want)
				}
			})
		}
	}
}

func TestDrawRefuses(t *testing.T) {
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	tests := []struct {
		look   Look
		source string
	}{
		{Look{Locale: "french"}, ""},
		{Look{Locale: "pt-br"}, ""},
		{Look{Locale: "../x"}, ""},
		{Look{Scheme: "sepia"}, ""},
		{Look{}, "{% if %}"},
	}
	for _, tt := range tests {
		if page, err := s.Draw(tt.look, []byte(tt.source)); err == nil {
			t.Errorf("Draw(%+v, %q) = %q; want an error", tt.look, tt.source, page)
		}
	}
}

func TestDrawIsWhatTheProxyAnswers(t *testing.T) {
	for _, theme := range []string{"modern", "classic"} {
		const source = "<h1>{{ shop.name }}</h1>"
		s := start(t, Options{
			Theme:     theme,
			Extension: extension(nil), Embeds: []Block{{ID: "e1", Name: "foot"}},
		}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/liquid")
			_, _ = w.Write([]byte(source))
		})
		_, want := get(t, browser(t), s.URL+"/fr"+prefix+"?preview_scheme=dark")
		if diff := cmp.Diff(want, drawn(t, s, Look{Locale: "fr", Scheme: "dark"}, source)); diff != "" {
			t.Errorf("%s: Draw differs from the proxy (-proxy +Draw):\n%s", theme, diff)
		}
		if got := drawn(t, s, Look{}, "{% layout none %}x"); got != "x" {
			t.Errorf("%s: Draw of a page without layout = %q; want x", theme, got)
		}
	}
}

func TestPreviewSchemeIsTheThemes(t *testing.T) {
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	tests := []struct{ query, want string }{
		{"", `<html lang="en">`},
		{"?preview_scheme=light", `<html lang="en" data-scheme="light">`},
		{"?a=1&preview_scheme=dark", `<html lang="en" data-scheme="dark">`},
		{"?preview_scheme=%22%3E", `<html lang="en">`},
	}
	for _, tt := range tests {
		if _, page := get(t, browser(t), s.URL+"/"+tt.query); htmlTag.FindString(page) != tt.want {
			t.Errorf("GET /%s has %s; want %s", tt.query, htmlTag.FindString(page), tt.want)
		}
	}
	get(t, browser(t), s.URL+prefix+"?preview_scheme=dark")
	if got := parse(t, lastForwarded(t, s).Query).Get("preview_scheme"); got != "dark" {
		t.Errorf("the app got preview_scheme %q; want dark", got)
	}
}

// TestPagesOfTheThemes checks what every page has, and the ids that other tests find their way by.
func TestPagesOfTheThemes(t *testing.T) {
	tests := []struct {
		theme, accounts, path string
		ids                   []string // signed in, in the order of the page
		has                   string
	}{
		{"modern", "new", "/", []string{"menu-subscriptions", "account", "sign-out", "MainContent"}, `class="button"`},
		{"modern", "new", "/account", []string{"menu-subscriptions", "account", "sign-out", "MainContent", "manage-subscriptions"}, `<a class="button" id="manage-subscriptions" href="/apps/subscriptions">`},
		{"modern", "legacy", "/account", []string{"menu-subscriptions", "account", "sign-out", "MainContent", "manage-subscriptions"}, ""},
		{"modern", "new", "/account/addresses", []string{"menu-subscriptions", "account", "sign-out", "MainContent"}, ""},
		{"modern", "new", "/collections/all", []string{"menu-subscriptions", "account", "sign-out", "MainContent"}, ""},
		{"modern", "new", "/nothing", []string{"menu-subscriptions", "account", "sign-out", "MainContent"}, ""},
		{"modern", "new", prefix, []string{"menu-subscriptions", "account", "sign-out", "MainContent"}, ""},
		{"classic", "legacy", "/", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, `class="btn"`},
		{"classic", "legacy", "/account", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, `<a href="/account/logout">Log out</a>`},
		{"classic", "legacy", "/fr/account", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, `<a href="/fr/account/logout">Log out</a>`},
		{"classic", "new", "/account", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent", "manage-subscriptions"}, `<a class="btn" id="manage-subscriptions"`},
		{"classic", "legacy", "/account/addresses", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, ""},
		{"classic", "legacy", "/collections/all", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, ""},
		{"classic", "legacy", "/nothing", []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, `class="btn"`},
		{"classic", "legacy", prefix, []string{"account-menu", "account", "sign-out", "menu-subscriptions", "MainContent"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.theme+" "+tt.accounts+" "+tt.path, func(t *testing.T) {
			s := start(t, Options{Theme: tt.theme, Accounts: tt.accounts}, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			login := newLoginPath
			if tt.accounts == "legacy" {
				login = legacyLoginPath
			}
			c := browser(t)
			_, out := getAll(t, c, s.URL+login)
			themed := tt.accounts == "legacy" // otherwise the sign-in is on the account host
			if strings.Contains(out, `id="sign-in"`) != themed || !strings.Contains(out, `data-shopper="1001"`) {
				t.Errorf("sign-in page has no shoppers, or #sign-in is not %t:\n%s", themed, out)
			}
			signInAs(t, c, s.URL+login, ada().ID, "/")
			_, page := get(t, c, s.URL+tt.path)
			for _, page := range []string{out, page} {
				if n := len(heading.FindAllString(page, -1)); n != 1 {
					t.Errorf("page has %d h1; want 1", n)
				}
			}
			var ids []string
			for _, m := range idTag.FindAllStringSubmatch(page, -1) {
				ids = append(ids, m[1])
			}
			if diff := cmp.Diff(tt.ids, ids); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			if !strings.Contains(page, tt.has) {
				t.Errorf("page has no %s:\n%s", tt.has, page)
			}
		})
	}
}

func TestClassicMenusDoNotKnowTheApp(t *testing.T) {
	s := start(t, Options{Theme: "classic", Accounts: "legacy"}, func(http.ResponseWriter, *http.Request) {})
	c := browser(t)
	if res, _ := get(t, c, s.URL+"/account/addresses"); res.Header.Get("Location") != legacyLoginPath {
		t.Errorf("addresses signed out lead to %q; want %s", res.Header.Get("Location"), legacyLoginPath)
	}
	signInAs(t, c, s.URL+legacyLoginPath, ada().ID, "/")
	_, page := get(t, c, s.URL+"/account")
	for _, menu := range []*regexp.Regexp{
		regexp.MustCompile(`(?s)<details class="account-menu".*?</details>`),
		regexp.MustCompile(`(?s)<nav class="account-nav".*?</nav>`),
	} {
		found := menu.FindString(page)
		if !strings.Contains(found, `/account/logout">Log out</a>`) || strings.Contains(found, prefix) {
			t.Errorf("account menu has no Log out, or has the app:\n%s", found)
		}
	}
}

// TestThemesMirror: the stylesheets must not use left and right.
func TestThemesMirror(t *testing.T) {
	physical := regexp.MustCompile(`(?:margin|padding|border|inset)-(?:left|right)\b|\b(?:left|right)\s*[:;]`)
	for _, theme := range []string{"modern", "classic"} {
		css, err := templates.ReadFile("templates/" + theme + "/theme.css")
		if err != nil {
			t.Fatal(err)
		}
		if found := physical.FindAllString(string(css), -1); len(found) > 0 {
			t.Errorf("%s: theme.css says %q; want words that mirror", theme, found)
		}
	}
}

func TestThemesHaveTheirOwnButtons(t *testing.T) {
	tests := []struct{ theme, button, other string }{
		{"modern", "\n.button", ".btn"},
		{"classic", "\n.btn", ".button"},
	}
	for _, tt := range tests {
		s := start(t, Options{Theme: tt.theme}, func(http.ResponseWriter, *http.Request) {})
		_, css := get(t, browser(t), s.URL+"/assets/theme.css")
		if !strings.Contains(css, tt.button) || !strings.Contains(css, tt.button+"--secondary") || strings.Contains(css, tt.other) {
			t.Errorf("%s: theme.css does not style %q alone", tt.theme, tt.button)
		}
	}
}

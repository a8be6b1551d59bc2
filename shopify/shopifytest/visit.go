package shopifytest

import (
	"net/http"
	"strings"
)

// A visit is what the store knows about a request before it chooses a page.
type visit struct {
	full    string   // escaped path as the browser sent it
	root    string   // locale prefix, "/fr", or ""
	path    string   // escaped path without the locale prefix
	locale  string   // ISO code, "fr", "pt-BR"
	host    string   // "127.0.0.1:40123"
	scheme  string   // "light" or "dark" if the colours are forced, else ""
	shopper *Shopper // nil if not signed in
}

func (s *Server) visit(r *http.Request) visit {
	v := visit{full: r.URL.EscapedPath(), locale: english, host: r.Host, shopper: s.signedIn(r, s.cookie)}
	v.path = v.full
	if asked := r.URL.Query().Get("preview_scheme"); validScheme(asked) {
		v.scheme = asked
	}
	if root, rest, ok := cutLocale(v.full); ok {
		v.root, v.path, v.locale = root, rest, isoCode(root)
	}
	return v
}

// cutLocale splits "/pt-br/account" into "/pt-br" and "/account".
func cutLocale(path string) (root, rest string, ok bool) {
	segment, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	language, region, hasRegion := strings.Cut(segment, "-")
	if !twoLetters(language) || hasRegion && !twoLetters(region) {
		return "", path, false
	}
	return "/" + segment, "/" + rest, true
}

func twoLetters(s string) bool {
	return len(s) == 2 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

func isoCode(root string) string {
	language, region, ok := strings.Cut(strings.TrimPrefix(root, "/"), "-")
	if !ok {
		return language
	}
	return language + "-" + strings.ToUpper(region)
}

package shopifytest

import (
	"fmt"
	"strings"
)

// A Look describes how to draw a page. The zero value is an English page for a shopper who is not signed in.
type Look struct {
	Locale  string   // "fr", "pt-BR"; "en" if empty
	Scheme  string   // "light" or "dark" forces the theme's colours; if empty, the browser's preference decides
	Shopper *Shopper // the signed-in shopper, or nil
	Path    string   // path on the storefront without a locale prefix; the first app's path if empty
}

// Draw returns an app's Liquid page inside the theme, as the proxy would answer it, but without a request. A page
// with {% layout none %} comes without the theme. Addresses in the page are relative to the store's host.
func (s *Server) Draw(look Look, source []byte) ([]byte, error) {
	if look.Scheme != "" && !validScheme(look.Scheme) {
		return nil, fmt.Errorf("scheme %q is neither light nor dark", look.Scheme)
	}
	v := visit{
		path: look.Path, locale: english, host: strings.TrimPrefix(s.URL, "http://"),
		scheme: look.Scheme, shopper: look.Shopper,
	}
	if look.Locale != "" && look.Locale != english {
		root, _, ok := cutLocale("/" + strings.ToLower(look.Locale))
		if !ok || isoCode(root) != look.Locale {
			return nil, fmt.Errorf("locale %q is not one like fr or pt-BR", look.Locale)
		}
		v.root, v.locale = root, look.Locale
	}
	if v.path == "" {
		v.path = "/"
		if apps := s.installed(); len(apps) > 0 {
			v.path = apps[0].PathPrefix
		}
	}
	v.full = v.root + v.path
	return s.draw(v, source)
}

func validScheme(scheme string) bool {
	return scheme == "light" || scheme == "dark"
}

package handlers_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// browserReads returns what a browser's URLSearchParams.get reads: the first value of that name, and
// every pair, however it is escaped. https://url.spec.whatwg.org/#urlencoded-parsing
func browserReads(query, name string) (value string, ok bool) {
	for pair := range strings.SplitSeq(query, "&") {
		before, after, _ := strings.Cut(pair, "=")
		if pair != "" && unescapedByBrowser(before) == name {
			return unescapedByBrowser(after), true
		}
	}
	return "", false
}

// unescapedByBrowser leaves what is no escape as it is.
func unescapedByBrowser(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		size := 1
		if len(text) > 2 && text[0] == '%' {
			size = 3
		}
		if plain, err := url.QueryUnescape(text[:size]); err == nil {
			out.WriteString(plain)
		} else {
			size = 1
			out.WriteByte(text[0])
		}
		text = text[size:]
	}
	return out.String()
}

// TestAppBridgeGoesHome sends generated requests, most of them hostile, to every address that could
// be a page with App Bridge. The shopify-reload of such a page, as a browser reads it, is a page of the
// app home. No answer repeats a session token or lets its address be a referrer. The fixture searches
// the log for session tokens.
func TestAppBridgeGoesHome(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	const home = "https://app.example/"
	own := regexp.MustCompile(`^https://app\.example/(campaigns|try|keys|settings|)(\?.*)?$`)
	token, escaped, shop := f.SessionToken(nil), url.QueryEscape(home), "shop="+servertest.Shop
	one := func(all ...string) *rapid.Generator[string] { return rapid.SampledFrom(all) }
	methods := one("GET", "GET", "GET", "HEAD", "POST")
	paths := one("/", "/", "/settings", "/keys", "/app/bounce", "/app/bounce", "/app/bounce", "/app/bounce", "//", "/app", "/app/", "/app/bounce/",
		"//app/bounce", "/APP/BOUNCE", "/app%2Fbounce", "/%61pp/bounce", "/app/./bounce", "/app/install")
	starts := one(shop, shop+"&embedded=1", shop+"&embedded=1&id_token="+token, shop+"&id_token="+token[1:], "shop=evil",
		"shop="+otherShop+"&id_token="+token, "id_token="+token+"&id_token="+token)
	separators, signs := one("&", "&", "&", ";", "&&", "&;"), one("=", "=", "=", "", "==")
	names := one("shopify-reload", "shopify-reload", "shopify-reload", "shopify%2Dreload", "Shopify-Reload", "shopify%252Dreload",
		"shopify-reload%00", "shopify-reload+", "%EF%BB%BFshopify-reload", "a;shopify-reload", "id_token", "ms_bounced", "%zz", "")
	values := one(home, home, home, escaped, escaped, escaped+"%3Fshop=x", escaped+"%3Fshopify-reload="+home, "https://evil/",
		"https%3A%2F%2Fevil%2F%3F", "https%3A%2F%2Fevil%2F%zz", "%2F%2Fevil", "https%3A%2F%2Fapp.example%40evil%2F",
		"https%3A%2F%2Fapp.example", "HTTPS%3A%2F%2FAPP.EXAMPLE%2F", "%09"+escaped, "+"+home, "%00"+home, home+"%0d%0aX:1",
		home+"settings", escaped+"settings%3Fshop=x", escaped+"go", home+"?%ff", home+"+", home+"..%2F", home+"%23", strings.Repeat("a", 8000), token, "")
	loaded, refused := 0, 0
	attack := func(t *rapid.T) {
		query := starts.Draw(t, "start")
		for range rapid.IntRange(0, 3).Draw(t, "pairs") {
			query += separators.Draw(t, "separator") + names.Draw(t, "name") + signs.Draw(t, "sign") + values.Draw(t, "value")
		}
		response, body := f.Request(methods.Draw(t, "method"), f.Public, paths.Draw(t, "path")+"?"+query)
		if response.StatusCode == http.StatusBadRequest {
			refused++
		}
		if strings.Contains(body, "app-bridge.js") {
			loaded++
			if reload, ok := browserReads(query, "shopify-reload"); ok && !own.MatchString(reload) {
				t.Errorf("a page with App Bridge goes to %q", reload)
			}
		}
		to := response.Header.Get("Location")
		if strings.Contains(to+body, token[1:]) {
			t.Errorf("the answer repeats the token: Location %q, %s", to, body)
		}
		if to != "" && !strings.HasPrefix(to, "/app/bounce?") && !strings.HasPrefix(to, "https://admin.shopify.com/store/") {
			t.Errorf("Location = %q; want the bounce or the store's admin", to)
		}
		if got := response.Header.Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("%d, Referrer-Policy = %q; want no-referrer", response.StatusCode, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			attack(t)
		}
	})
	if loaded == 0 || refused == 0 {
		t.Errorf("%d answers load App Bridge, and %d are 400; want some of both", loaded, refused)
	}
}

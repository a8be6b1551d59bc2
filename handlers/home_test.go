package handlers

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

func TestHome(t *testing.T) {
	e := echo.New()
	RegisterHome(e)
	get := func(method, path string) *httptest.ResponseRecorder {
		response := httptest.NewRecorder()
		e.ServeHTTP(response, httptest.NewRequest(method, path, nil))
		return response
	}
	response := get(http.MethodGet, "/")
	page, policy := response.Body.String(), response.Header().Get("Content-Security-Policy")
	if response.Code != http.StatusOK || response.Header().Get("Content-Type") != "text/html; charset=UTF-8" {
		t.Errorf("GET / = %d %s; want 200 text/html", response.Code, response.Header().Get("Content-Type"))
	}
	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(page, -1)
	if len(styles) != 1 {
		t.Fatalf("the page has %d styles; want the one that the policy names", len(styles))
	}
	sum := sha256.Sum256([]byte(styles[0][1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; script-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if policy != want {
		t.Errorf("Content-Security-Policy = %q; want %q", policy, want)
	}
	if !strings.Contains(page, `<html lang="en">`) || !strings.Contains(page, "<code>/apps/subscriptions</code>") {
		t.Errorf("page = %s; want English with the link to the portal", page)
	}
	for _, strange := range []string{"<script", "<link", "<img", "src=", "href=", "url(", "style=", "onclick", "http:", "https:", "{{"} {
		if strings.Contains(page, strange) {
			t.Errorf("the page holds %q; want one that asks for nothing", strange)
		}
	}
	// What Shopify adds when a merchant opens the app.
	asked := get(http.MethodGet, "/?shop=a.myshopify.com&host=YQ&hmac=00&timestamp=1")
	if asked.Code != http.StatusOK || asked.Body.String() != page {
		t.Errorf("GET / with parameters = %d %q; want the same page", asked.Code, asked.Body)
	}
	if got := get(http.MethodHead, "/").Code; got != http.StatusOK {
		t.Errorf("HEAD / = %d; want 200", got)
	}
	for _, path := range []string{"//", "/index.html", "/home", "/x"} {
		if got := get(http.MethodGet, path).Code; got != http.StatusNotFound {
			t.Errorf("GET %s = %d; want 404", path, got)
		}
	}
	if got := get(http.MethodPost, "/").Code; got != http.StatusMethodNotAllowed {
		t.Errorf("POST / = %d; want 405", got)
	}
}

package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// TestInstall checks that people who open the app outside the admin are sent to Shopify's install
// link, which contains only the shop from the request.
func TestInstall(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	want := "https://admin.shopify.com/store/" + strings.TrimSuffix(servertest.Shop, ".myshopify.com") + "/oauth/install?client_id=" + servertest.ClientID
	for _, path := range []string{
		"/?shop=" + servertest.Shop, "/?shop=" + servertest.Shop + "&hmac=00&timestamp=1&host=evil", "/?shop=" + servertest.Shop + "&client_id=evil",
		"/app/install?shop=" + servertest.Shop, "/app/install?shop=" + url.QueryEscape(" "+strings.ToUpper(servertest.Shop[:1])+servertest.Shop[1:]+"\n"),
	} {
		response, _ := f.AppHome(path, "", nil)
		if got := response.Header.Get("Location"); response.StatusCode != http.StatusFound || got != want || response.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s = %d %q; want 302 to %q, and no cookie", path, response.StatusCode, got, want)
		}
	}
	for _, shop := range []string{"", "evil.example", "evil.example/.myshopify.com", "x@evil.example%23.myshopify.com", servertest.Shop + "/evil", servertest.Shop + "%00"} {
		for path, status := range map[string]int{"/": http.StatusOK, "/app/install": http.StatusBadRequest} {
			response, body := f.AppHome(path+"?shop="+shop, "", nil)
			if response.StatusCode != status || !strings.Contains(body, `class="outside"`) || response.Header.Get("Location") != "" {
				t.Errorf("%s with the shop %q = %d; want %d, and the page for outside", path, shop, response.StatusCode, status)
			}
		}
	}
}

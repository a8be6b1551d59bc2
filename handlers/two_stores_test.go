package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// TestTwoStores has two stores whose shoppers have the same Shopify customer id. Each shopper must
// get their own portal.
func TestTwoStores(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: servertest.RechargeSecret, SigningKey: servertest.SigningKey(), Now: f.Clock.Now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: servertest.Pat, FirstName: "Patricia", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.Recharge, other)
	defer front.Close()
	otherStore := shopifytest.NewServer(shopifytest.Options{Shop: otherShop, Now: f.Clock.Now, Shoppers: []shopifytest.Shopper{{ID: servertest.Pat, FirstName: "Patricia"}}})
	defer otherStore.Close()
	other.SetPortalBase(otherStore.URL + "/tools/recurring/portal/")
	f.Restart(func() {}, servertest.ManyStores, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.Connect()
	// One store's token must not work for the other.
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"token": {token}}); !strings.Contains(body, `data-result="not_saved"`) || !strings.Contains(body, "belongs to another store") {
		t.Errorf("the other store's token: %s; want it refused", body)
	}
	if _, body := f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	for range 3 { // new, cached, and with a link to reuse
		for _, test := range []struct {
			store string
			query string
			want  string
		}{
			{servertest.Shop, f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), f.Store.URL + "/tools/recurring/portal/1f2e3d4c5b6a7988/"},
			{otherShop, otherStore.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), otherStore.URL + "/tools/recurring/portal/9f8e7d6c5b4a3210/"},
		} {
			response, body := f.Request("GET", f.Public, "/apps/subscriptions?"+test.query)
			if to := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.HasPrefix(to, test.want) {
				t.Errorf("%s: %d %q %s; want %s…", test.store, response.StatusCode, to, body, test.want)
			}
		}
	}
}

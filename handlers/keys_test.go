package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// TestKeysOfTheAppHome makes a key, which is shown once and stored as a hash, and revokes it. Then
// no server accepts it.
func TestKeysOfTheAppHome(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	if got := f.PostLink("mspk_fixture-shop_"+strings.Repeat("A", 26), servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST to a shop without keys = %d; want 403", got.Status)
	}
	key := f.MakeKey(servertest.Shop, "Hydrogen")
	other := f.MakeKey(servertest.Shop, "Python")
	beside := f.Instance(server.Options{}, servertest.ManyStores)
	if got := f.PostLink(key, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK || !got.SignedIn {
		t.Errorf("POST with a new key = %d %s; want a link", got.Status, got.Body)
	}
	if got := f.FollowLink(f.SignLink(key, f.SignedLink("a", servertest.Pat))); got.Status != http.StatusFound {
		t.Errorf("GET /go signed with a new key = %d %s; want the portal", got.Status, got.Body)
	}
	if _, page := f.AppHome("/app/keys", f.SessionToken(nil), nil); strings.Contains(page, key) || !strings.Contains(page, "Hydrogen") {
		t.Errorf("the app home shows %s; want the key's name and not the key", page)
	}
	for name, value := range f.Redis.Dump() {
		if strings.Contains(value, key) || strings.Contains(value, "Hydrogen") {
			t.Errorf("Redis holds a key or its name in the open at %s", name)
		}
	}
	if strings.Contains(f.Log.String(), key) {
		t.Error("the log holds a key")
	}
	signed := f.SignLink(key, f.SignedLink("b", servertest.Pat))
	f.RevokeKey(servertest.Shop, "Hydrogen")
	f.Connect() // must not bring it back
	for _, public := range []string{f.Public, beside.Public} {
		f.Ask(public)
		if got := f.PostLink(key, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden || got.Type != "urn:manage-subscriptions:problem:forbidden" {
			t.Errorf("POST with a revoked key = %d %s; want 403", got.Status, got.Body)
		}
		if got := f.FollowLink(signed); got.Status != http.StatusForbidden {
			t.Errorf("GET /go signed with a revoked key = %d %s; want 403", got.Status, got.Body)
		}
		if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK {
			t.Errorf("POST with the other key = %d %s; want a link", got.Status, got.Body)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 51), "a\x00b"} {
		if _, body := f.AppHome("/app/keys", f.SessionToken(nil), url.Values{"name": {name}}); !strings.Contains(body, "Not made") {
			t.Errorf("a key called %q: %s; want that it is not made", name, body)
		}
	}
	for i := range 9 {
		f.MakeKey(servertest.Shop, fmt.Sprint("more", i))
	}
	if _, body := f.AppHome("/app/keys", f.SessionToken(nil), url.Values{"name": {"one more"}}); !strings.Contains(body, "there are ten keys") {
		t.Errorf("an eleventh key: %s; want that it is not made", body)
	}
	if _, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Fatalf("disconnect: %s", body)
	}
	if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST after the shop has disconnected = %d; want 403", got.Status)
	}
	f.Connect()
	if got := f.PostLink(other, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusForbidden {
		t.Errorf("POST with a key of before = %d; want 403", got.Status)
	}
}

// TestKeyOfAnotherShop checks that a shop's key does not work for another shop's customers,
// whatever the request contains.
func TestKeyOfAnotherShop(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: servertest.RechargeSecret, SigningKey: servertest.SigningKey(), Now: f.Clock.Now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: servertest.Sam, FirstName: "Samira", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.Recharge, other)
	defer front.Close()
	other.SetPortalBase(f.Store.URL + "/tools/other/portal/")
	f.Restart(func() {}, servertest.ManyStores, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.Connect()
	if _, body := f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	ours, theirs := f.MakeKey(servertest.Shop, "ours"), f.MakeKey(otherShop, "theirs")
	if got := f.PostLink(theirs, servertest.ByShopifyID(servertest.Sam)); got.Status != http.StatusOK || !strings.Contains(got.URL, "9f8e7d6c5b4a3210") {
		t.Errorf("their key for their Sam = %d %s; want their Sam's link", got.Status, got.Body)
	}
	if got := f.PostLink(ours, servertest.ByShopifyID(servertest.Sam)); got.Status != http.StatusOK || !strings.Contains(got.URL, "70100301a1b2c3d4e5f60718") {
		t.Errorf("our key for our Sam = %d %s; want our Sam's link", got.Status, got.Body)
	}
	for name, got := range map[string]servertest.LinkAnswer{
		"their customer's Recharge id":    f.PostLink(ours, servertest.ByRechargeID(80100200)),
		"our customer's, with their key":  f.PostLink(theirs, servertest.ByRechargeID(servertest.PatsRecord)),
		"our customer at Shopify, theirs": f.PostLink(theirs, servertest.ByShopifyID(servertest.Pat)),
	} {
		if got.Status != http.StatusNotFound || got.URL != "" {
			t.Errorf("%s = %d %s; want that there is no such customer", name, got.Status, got.Body)
		}
	}
	// Their secret with our shop's name in the key.
	forged := strings.Replace(theirs, "mspk_other-shop_", "mspk_fixture-shop_", 1)
	if got := f.PostLink(forged, servertest.ByShopifyID(servertest.Sam)); forged == theirs || got.Status != http.StatusForbidden {
		t.Errorf("their key with our name = %d %s; want 403", got.Status, got.Body)
	}
	link := f.SignedLink("x", servertest.Sam)
	for _, key := range []string{theirs, forged} {
		if got := f.FollowLink(f.SignLink(key, link)); got.Status != http.StatusForbidden {
			t.Errorf("our Sam's link signed with their key = %d %s; want 403", got.Status, got.Location)
		}
	}
	link.Shop = otherShop
	if got := f.FollowLink(f.SignLink(ours, link)); got.Status != http.StatusForbidden {
		t.Errorf("their Sam's link signed with our key = %d %s; want 403", got.Status, got.Location)
	}
	if got := f.FollowLink(f.SignLink(theirs, link)); !strings.Contains(got.Location, "9f8e7d6c5b4a3210") {
		t.Errorf("their Sam's link signed with their key leads to %q; want their Sam's portal", got.Location)
	}
}

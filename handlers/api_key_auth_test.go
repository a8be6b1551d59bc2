package handlers

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// FuzzBody checks that an accepted body names exactly one customer, by one of the two ids in its
// exact form, and nothing unknown.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"shopify_customer_id":"7123456789012"}`, `{"recharge_customer_id":18819267,"destination":"orders","locale":"fr"}`,
		`{"shopify_customer_id":"gid://shopify/Customer/1"}`, `{"shopify_customer_id":"1","shopify_customer_id":"2"}`,
		`{"recharge_customer_id":1e3}`, `{"recharge_customer_id":1.0}`, `{"recharge_customer_id":9223372036854775808}`,
		`{"recharge_customer_id":null}`, `{"shopify_customer_id":{}}`, `{}{}`, `[]`, `{"\u0073hopify_customer_id":"1"}`, `{"destination":null}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		who, visit, err := readBody(body)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%q is refused with %q", body, err)
			}
			return
		}
		var loose map[string]any
		if json.Unmarshal(body, &loose) != nil {
			t.Fatalf("%q is accepted, but is not JSON", body)
		}
		if (who.Customer == "") == (who.RechargeID == 0) || who.RechargeID < 0 || len(who.Customer) > 20 || who.Shop != "" {
			t.Errorf("%q names %+v", body, who)
		}
		if again, _, err := readBody(body); err != nil || again != who || visit.To == "" {
			t.Errorf("%q is read as %+v, %+v and then as %+v, %v", body, who, visit, again, err)
		}
	})
}

// FuzzKeyOfShop checks that a shop's key names that shop, and that nothing without the shape of a
// key names any.
func FuzzKeyOfShop(f *testing.F) {
	f.Add("fixture-shop", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	f.Add("a_b", "AAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("", "")
	merchants, err := portal.NewMerchants(nil, portal.Settings{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	auth := &APIKeyAuth{Merchant: &merchant.Service{Resolver: &portal.Resolver{Merchants: merchants}}}
	f.Fuzz(func(t *testing.T, name, random string) {
		shop, err := shopify.ShopOfHandle(name)
		found, keyErr := auth.shopOfKey("mspk_" + name + "_" + random)
		if keyErr == nil && (err != nil || found != shop || merchant.NewKey(shop, random) != "mspk_"+name+"_"+random) {
			t.Errorf("the key of %q and %q names %q", name, random, found)
		}
	})
}

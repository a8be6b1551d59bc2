package shopify_test

import (
	"errors"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// FuzzWebhook: no input makes VerifyWebhook panic, every accepted webhook is signed, and its shop
// and customer are well-formed.
func FuzzWebhook(f *testing.F) {
	for _, topic := range []string{"customers/data_request", "customers/redact", "shop/redact", "app/uninstalled", "orders/create", "", "a/b\n", "//"} {
		for _, body := range []string{
			"", "{}", "[]", "null", "{", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":6100200300400}}`, `{"myshopify_domain":"fixture-shop.myshopify.com"}`,
			`{"shop_domain":"*.myshopify.com"}`, `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":1e3}}`, `{"SHOP_DOMAIN":"a.myshopify.com","shop_domain":"b.myshopify.com","customer":[]}`,
		} {
			f.Add(topic, webhookID, "2026-01-01T00:00:00Z", body, true)
		}
	}
	f.Add("shop/redact", "a b", "now", `{"shop_domain":"fixture-shop.myshopify.com"}`, false)
	v := newVerifier(f, "hush")
	f.Fuzz(func(t *testing.T, topic, id, at, body string, sign bool) {
		signature := webhookSignature("other", body)
		if sign {
			signature = webhookSignature("hush", body)
		}
		header := webhookHeader(topic, id, signature)
		header.Set("X-Shopify-Triggered-At", at)
		got, err := v.VerifyWebhook(header, []byte(body))
		switch {
		case err != nil && !errors.Is(err, shopify.ErrForged) && !errors.Is(err, shopify.ErrMalformed):
			t.Errorf("VerifyWebhook of %q = %v; want one of its two errors", body, err)
		case !sign && !errors.Is(err, shopify.ErrForged):
			t.Errorf("VerifyWebhook of %q = %v; want it forged", body, err)
		case errors.Is(err, shopify.ErrForged) && got != (shopify.Webhook{}):
			t.Errorf("VerifyWebhook of %q = %+v beside %v", body, got, err)
		}
		if err != nil {
			return
		}
		if _, bad := shopify.ParseShop(string(got.Shop)); got.Shop != "" && bad != nil {
			t.Errorf("VerifyWebhook of %q names the shop %q", body, got.Shop)
		}
		if got.Topic == shopify.CustomersRedact && (got.Customer == "" || len(got.Customer) > 20) {
			t.Errorf("VerifyWebhook of %q names the shopper %q", body, got.Customer)
		}
	})
}

package shopify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// webhookHeader returns a webhook's headers. An empty one is left out.
func webhookHeader(topic, id, signature string) http.Header {
	header := http.Header{"X-Shopify-Shop-Domain": {"www.brand.example"}, "X-Shopify-Api-Version": {"2026-07"}}
	for name, value := range map[string]string{"X-Shopify-Topic": topic, "X-Shopify-Webhook-Id": id, "X-Shopify-Hmac-Sha256": signature} {
		if value != "" {
			header.Set(name, value)
		}
	}
	return header
}

func webhookSignature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func newVerifier(t testing.TB, secrets ...string) *shopify.Verifier {
	t.Helper()
	v, err := shopify.NewVerifier(secrets, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const webhookID = "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"

// TestVerifyWebhookVectors checks signatures against the test vectors of Shopify's own libraries.
func TestVerifyWebhookVectors(t *testing.T) {
	for _, test := range []struct {
		name, secret, body, signature string
		forged                        bool
	}{
		{"go-shopify", "hush", `"my secret message"`, "hMTq0K2x7oyOjoBwGYeTj5oxfnaVYXzbanUG9aajpKI=", false},
		{"go-shopify, a line feed more", "hush", `"my secret message"` + "\n", "hMTq0K2x7oyOjoBwGYeTj5oxfnaVYXzbanUG9aajpKI=", true},
		{"shopify_app", "secret", "foo=anything", "yCGX/RrK4fcuNtr3ztk5tQGsOBjcAzHpGLdMUrbV8yI=", false},
		{"shopify_app, other body", "secret", "foo=another", "yCGX/RrK4fcuNtr3ztk5tQGsOBjcAzHpGLdMUrbV8yI=", true},
		{"shopify_app, other secret", "hush", "foo=anything", "yCGX/RrK4fcuNtr3ztk5tQGsOBjcAzHpGLdMUrbV8yI=", true},
	} {
		_, err := newVerifier(t, test.secret).VerifyWebhook(webhookHeader("orders/create", webhookID, test.signature), []byte(test.body))
		if errors.Is(err, shopify.ErrForged) != test.forged || !test.forged && err != nil {
			t.Errorf("%s: VerifyWebhook(%q) = %v; want forged: %v", test.name, test.body, err, test.forged)
		}
	}
}

// TestVerifyWebhookSecrets: during a rotation, either secret may sign.
func TestVerifyWebhookSecrets(t *testing.T) {
	v := newVerifier(t, "new", "old")
	for secret, want := range map[string]error{"new": nil, "old": nil, "older": shopify.ErrForged, "": shopify.ErrForged} {
		_, err := v.VerifyWebhook(webhookHeader("orders/create", webhookID, webhookSignature(secret, "{}")), []byte("{}"))
		if !errors.Is(err, want) {
			t.Errorf("VerifyWebhook, signed with %q = %v; want %v", secret, err, want)
		}
	}
}

func TestVerifyWebhookRefuses(t *testing.T) {
	const body = `{"shop_domain":"fixture-shop.myshopify.com"}`
	signature := webhookSignature("hush", body)
	for name, header := range map[string]http.Header{
		"nothing":              {},
		"no topic":             webhookHeader("", webhookID, signature),
		"no id":                webhookHeader("shop/redact", "", signature),
		"no signature":         webhookHeader("shop/redact", webhookID, ""),
		"topic of two lines":   webhookHeader("shop/redact\nx", webhookID, signature),
		"topic too long":       webhookHeader("shop/"+strings.Repeat("r", 41), webhookID, signature),
		"id of two words":      webhookHeader("shop/redact", "a b", signature),
		"id too long":          webhookHeader("shop/redact", strings.Repeat("a", 65), signature),
		"signature cut":        webhookHeader("shop/redact", webhookID, signature[:43]),
		"signature in hex":     webhookHeader("shop/redact", webhookID, strings.Repeat("0a", 32)),
		"signature, and more":  webhookHeader("shop/redact", webhookID, signature+"="),
		"signature, lowercase": webhookHeader("shop/redact", webhookID, strings.ToLower(signature)),
	} {
		got, err := newVerifier(t, "hush").VerifyWebhook(header, []byte(body))
		if !errors.Is(err, shopify.ErrForged) || got != (shopify.Webhook{}) {
			t.Errorf("%s: VerifyWebhook = %+v, %v; want an empty webhook and ErrForged", name, got, err)
		}
	}
}

func TestVerifyWebhookReads(t *testing.T) {
	const shop = "fixture-shop.myshopify.com"
	for _, test := range []struct {
		topic, body string
		want        shopify.Webhook // always has the topic and the ID
		err         error
	}{
		{"customers/data_request", `{"shop_id":1,"shop_domain":"fixture-shop.myshopify.com","customer":{"id":6100200300400,"email":"pat@example.test"},"data_request":{"id":9}}`, shopify.Webhook{Shop: shop}, nil},
		{"customers/redact", `{"shop_id":1,"shop_domain":"fixture-shop.myshopify.com","customer":{"id":6100200300400,"email":"pat@example.test"},"orders_to_redact":[]}`, shopify.Webhook{Shop: shop, Customer: "6100200300400"}, nil},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":"6100200300400"}}`, shopify.Webhook{Shop: shop, Customer: "6100200300400"}, nil},
		// Somebody who had no account has no id.
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":null,"email":"pat@example.test"}}`, shopify.Webhook{Shop: shop}, nil},
		{"shop/redact", `{"shop_id":1,"shop_domain":"fixture-shop.myshopify.com"}`, shopify.Webhook{Shop: shop}, nil},
		{"shop/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":null}`, shopify.Webhook{Shop: shop}, nil},
		{"app/uninstalled", `{"id":1,"domain":"www.brand.example","myshopify_domain":"fixture-shop.myshopify.com"}`, shopify.Webhook{Shop: shop}, nil},
		{"orders/create", `not JSON`, shopify.Webhook{}, nil},

		{"app/uninstalled", `{"id":1,"domain":"www.brand.example"}`, shopify.Webhook{}, shopify.ErrMalformed},
		{"app/uninstalled", `{"shop_domain":"fixture-shop.myshopify.com"}`, shopify.Webhook{}, shopify.ErrMalformed},
		{"shop/redact", `{"myshopify_domain":"fixture-shop.myshopify.com"}`, shopify.Webhook{}, shopify.ErrMalformed},
		{"shop/redact", `{"shop_domain":"www.brand.example"}`, shopify.Webhook{}, shopify.ErrMalformed},
		{"shop/redact", `{"shop_domain":"*.myshopify.com"}`, shopify.Webhook{}, shopify.ErrMalformed},
		{"shop/redact", ``, shopify.Webhook{}, shopify.ErrMalformed},
		{"shop/redact", `[]`, shopify.Webhook{}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com"}`, shopify.Webhook{Shop: shop}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":null}`, shopify.Webhook{Shop: shop}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":0}}`, shopify.Webhook{Shop: shop}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":1e3}}`, shopify.Webhook{Shop: shop}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":-5}}`, shopify.Webhook{Shop: shop}, shopify.ErrMalformed},
		{"customers/redact", `{"shop_domain":"fixture-shop.myshopify.com","customer":{"id":"pat@example.test"}}`, shopify.Webhook{}, shopify.ErrMalformed},
	} {
		test.want.Topic, test.want.ID = shopify.Topic(test.topic), webhookID
		got, err := newVerifier(t, "hush").VerifyWebhook(webhookHeader(test.topic, webhookID, webhookSignature("hush", test.body)), []byte(test.body))
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("VerifyWebhook(%s, %s) = %+v, %v; want %+v, %v", test.topic, test.body, got, err, test.want, test.err)
		}
		if err != nil && (strings.Contains(err.Error(), "pat") || strings.Contains(err.Error(), "brand")) {
			t.Errorf("VerifyWebhook(%s, %s) = %v; want nothing of the body in it", test.topic, test.body, err)
		}
	}
}

// TestCheckWebhookHeader: a request that does not look like a webhook from Shopify is rejected
// before its body is read.
func TestCheckWebhookHeader(t *testing.T) {
	good := map[string]string{"X-Shopify-Topic": "shop/redact", "X-Shopify-Webhook-Id": "b54557e4-bdd9", "X-Shopify-Hmac-Sha256": strings.Repeat("A", 43) + "="}
	header := func(change func(http.Header)) http.Header {
		h := http.Header{}
		for name, value := range good {
			h.Set(name, value)
		}
		change(h)
		return h
	}
	if err := shopify.CheckWebhookHeader(header(func(http.Header) {})); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name := range good {
		for what, change := range map[string]func(http.Header){
			"missing": func(h http.Header) { h.Del(name) }, "twice": func(h http.Header) { h.Add(name, good[name]) },
			"empty": func(h http.Header) { h.Set(name, "") }, "strange": func(h http.Header) { h.Set(name, "<b>\n") }, "long": func(h http.Header) { h.Set(name, strings.Repeat("a", 500)) },
		} {
			if err := shopify.CheckWebhookHeader(header(change)); !errors.Is(err, shopify.ErrForged) {
				t.Errorf("%s %s: %v; want it refused", name, what, err)
			}
		}
	}
}

// TestTriggered: the time of the event is read if it is sent.
func TestTriggered(t *testing.T) {
	v, err := shopify.NewVerifier([]string{"hush"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"shop_id":1,"shop_domain":"some-shop.myshopify.com"}`
	mac := hmac.New(sha256.New, []byte("hush"))
	mac.Write([]byte(body))
	for said, want := range map[string]time.Time{
		"2026-11-23T12:00:00.5Z": time.Date(2026, 11, 23, 12, 0, 0, 5e8, time.UTC), "2026-11-23T13:00:00+01:00": time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		"": {}, "yesterday": {},
	} {
		header := http.Header{}
		for name, value := range map[string]string{
			"X-Shopify-Topic": "shop/redact", "X-Shopify-Webhook-Id": "1", "X-Shopify-Hmac-Sha256": base64.StdEncoding.EncodeToString(mac.Sum(nil)), "X-Shopify-Triggered-At": said,
		} {
			header.Set(name, value)
		}
		if got, err := v.VerifyWebhook(header, []byte(body)); err != nil || !got.Triggered.Equal(want) {
			t.Errorf("X-Shopify-Triggered-At %q: %v, %v; want %v", said, got.Triggered, err, want)
		}
	}
}

package handlers

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	redistest "github.com/alicebob/miniredis/v2/server"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const webhookSecret = "fixture-app-secret"

// webhooks returns the route alone, on a Redis at addr, or on the embedded one if addr is "".
func webhooks(t *testing.T, addr string) (*echo.Echo, *bytes.Buffer) {
	t.Helper()
	options := store.Options{Keys: [][]byte{make([]byte, 32)}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if addr != "" {
		options.Redis = &redis.UniversalOptions{Addrs: []string{addr}}
	}
	s, err := store.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	verifier, err := shopify.NewVerifier([]string{webhookSecret}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	e := echo.New()
	e.HTTPErrorHandler = Errors(log)
	service := &merchant.Service{Resolver: &portal.Resolver{Store: s, Now: time.Now}, Recorder: &portal.Recorder{Meter: noMeter{}}, Log: log}
	(&ShopifyWebhooks{Verifier: verifier, Merchant: service}).Register(e)
	return e, &out
}

// post sends a webhook, signed with secret.
func post(e *echo.Echo, topic, body, secret string) *httptest.ResponseRecorder {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	request := httptest.NewRequest(http.MethodPost, "/webhooks/shopify", strings.NewReader(body))
	request.Header.Set("X-Shopify-Topic", topic)
	request.Header.Set("X-Shopify-Webhook-Id", "b54557e4")
	request.Header.Set("X-Shopify-Hmac-Sha256", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	response := httptest.NewRecorder()
	e.ServeHTTP(response, request)
	return response
}

// TestWebhooks checks the answer to each webhook and its single line in the log, which has nothing
// from the body except the shop.
func TestWebhooks(t *testing.T) {
	const (
		ofShop     = `{"shop_domain":"a.myshopify.com","shop_id":1}`
		ofCustomer = `{"shop_domain":"a.myshopify.com","customer":{"id":6100200300400,"email":"pat@example.test"}}`
	)
	type line struct{ Level, Msg, Topic, Shop, Did, Cause string }
	for _, test := range []struct {
		name, topic, body, secret string
		status                    int
		want                      line
	}{
		{"data request", "customers/data_request", ofCustomer, webhookSecret, 200, line{Level: "INFO", Topic: "customers/data_request", Shop: "a.myshopify.com", Did: "nothing_to_tell"}},
		{"erase shopper", "customers/redact", ofCustomer, webhookSecret, 200, line{Level: "INFO", Topic: "customers/redact", Shop: "a.myshopify.com", Did: "erased_shopper"}},
		{"erase a shopper without an account", "customers/redact", `{"shop_domain":"a.myshopify.com","customer":{"id":null}}`, webhookSecret, 200, line{Level: "INFO", Topic: "customers/redact", Shop: "a.myshopify.com", Did: "ignored"}},
		{"erase shop", "shop/redact", ofShop, webhookSecret, 200, line{Level: "INFO", Topic: "shop/redact", Shop: "a.myshopify.com", Did: "erased_shop"}},
		{"uninstalled", "app/uninstalled", `{"domain":"a.example","myshopify_domain":"a.myshopify.com","email":"pat@example.test"}`, webhookSecret, 200, line{Level: "INFO", Topic: "app/uninstalled", Shop: "a.myshopify.com", Did: "erased_shop"}},
		{"unknown topic", "orders/create", `{"email":"pat@example.test"}`, webhookSecret, 200, line{Level: "INFO", Topic: "orders/create", Did: "ignored"}},
		{"as long as may be", "orders/create", strings.Repeat("x", 256<<10), webhookSecret, 200, line{Level: "INFO", Topic: "orders/create", Did: "ignored"}},
		{"too long", "orders/create", strings.Repeat("x", 256<<10+1), webhookSecret, 413, line{Level: "INFO", Cause: "body not read: http: request body too large"}},
		{"forged", "customers/redact", ofCustomer, "another secret", 401, line{Level: "INFO", Cause: "webhook is not Shopify's: X-Shopify-Hmac-Sha256"}},
		{"no topic", "", ofShop, webhookSecret, 401, line{Level: "INFO", Cause: "webhook is not Shopify's: X-Shopify-Topic"}},
		{"malformed", "customers/redact", `{"shop_domain":"a.myshopify.com","customer":{"id":"pat@example.test"}}`, webhookSecret, 400, line{Level: "ERROR", Topic: "customers/redact", Cause: "webhook's body is not that of its topic: JSON"}},
		{"no shop", "shop/redact", `{"shop_domain":"pat@example.test"}`, webhookSecret, 400, line{Level: "ERROR", Topic: "shop/redact", Cause: "webhook's body is not that of its topic: shop"}},
		{"no customer", "customers/redact", ofShop, webhookSecret, 400, line{Level: "ERROR", Topic: "customers/redact", Shop: "a.myshopify.com", Cause: "webhook's body is not that of its topic: customer"}},
	} {
		e, log := webhooks(t, "")
		response := post(e, test.topic, test.body, test.secret)
		body := http.StatusText(test.status) + "\n"
		if test.status == 200 {
			body = ""
		}
		if response.Code != test.status || response.Body.String() != body {
			t.Errorf("%s: %d %q; want %d %q", test.name, response.Code, response.Body, test.status, body)
		}
		if kind := response.Header().Get("Content-Type"); kind != "" && kind != "text/plain; charset=utf-8" {
			t.Errorf("%s: Content-Type = %q; want plain text", test.name, kind)
		}
		var got line
		if err := json.Unmarshal(log.Bytes(), &got); err != nil {
			t.Errorf("%s: log %q: %v; want one line", test.name, log, err)
		}
		test.want.Msg = "webhook"
		if got != test.want {
			t.Errorf("%s: logged %+v; want %+v", test.name, got, test.want)
		}
		for _, secret := range []string{"6100200300400", "pat@"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%s: the log holds %q: %s", test.name, secret, log)
			}
		}
	}
}

func TestWebhooksTakePostOnly(t *testing.T) {
	e, _ := webhooks(t, "")
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
		response := httptest.NewRecorder()
		e.ServeHTTP(response, httptest.NewRequest(method, "/webhooks/shopify", nil))
		if response.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s = %d; want 405", method, response.Code)
		}
	}
}

// TestWebhookWithoutRedis checks that an erasure that failed is not confirmed, so that Shopify
// sends the webhook again.
func TestWebhookWithoutRedis(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	for topic, body := range map[string]string{
		"customers/redact": `{"shop_domain":"a.myshopify.com","customer":{"id":1}}`,
		"shop/redact":      `{"shop_domain":"a.myshopify.com"}`,
		"app/uninstalled":  `{"myshopify_domain":"a.myshopify.com"}`,
	} {
		e, log := webhooks(t, addr)
		if got := post(e, topic, body, webhookSecret).Code; got != http.StatusInternalServerError {
			t.Errorf("%s without Redis = %d; want 500", topic, got)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"level":"ERROR","msg":"webhook"`) {
			t.Errorf("%s without Redis logs %q; want one error", topic, got)
		}
	}
}

// TestWebhookEndsInTime checks the timeout, with a Redis that never answers.
func TestWebhookEndsInTime(t *testing.T) {
	t.Parallel()
	silent, err := redistest.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	over := make(chan struct{})
	defer close(over)
	silent.SetPreHook(func(*redistest.Peer, string, ...string) bool { <-over; return true })
	e, _ := webhooks(t, silent.Addr().String())
	begun := time.Now()
	got := post(e, "shop/redact", `{"shop_domain":"a.myshopify.com"}`, webhookSecret).Code
	if took := time.Since(begun); got != http.StatusInternalServerError || took > 4*time.Second {
		t.Errorf("a webhook that hangs = %d after %v; want 500 after about a second", got, took)
	}
}

package servertest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// WithWebhooks sets the secret that signs Recharge's webhooks, for one store.
func WithWebhooks(s *config.Settings) { s.RechargeClientSecret = WebhookSecret }

// Deliver delivers a webhook about a record to one of the servers, as Recharge would, to
// the registered address and with both signatures. It returns the status of the answer,
// and may be called from any goroutine. The webhook for a deleted record has only its id.
func (f *Fixture) Deliver(server, topic string, c rechargetest.Customer) int {
	f.T.Helper()
	customer := map[string]any{"id": c.ID}
	if topic != "customer/deleted" {
		customer["hash"], customer["email"], customer["subscriptions_active_count"] = c.Hash, c.Email, len(c.Subscriptions)
		customer["external_customer_id"] = map[string]any{"ecommerce": c.ShopifyCustomerID}
	}
	body, err := json.Marshal(map[string]any{"customer": customer})
	if err != nil {
		f.T.Error(err)
		return 0
	}
	addresses := f.Recharge.Webhooks()[topic]
	if len(addresses) == 0 {
		f.T.Errorf("no webhook is registered for %s", topic)
		return 0
	}
	address, err := url.Parse(addresses[0])
	if err != nil {
		f.T.Error(err)
		return 0
	}
	to := "http://" + server + address.EscapedPath()
	request, err := http.NewRequest(http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		f.T.Error(err)
		return 0
	}
	older := sha256.Sum256(append([]byte(WebhookSecret), body...))
	seconds := fmt.Sprint(f.Clock.Now().Unix())
	newer := hmac.New(sha256.New, []byte(WebhookSecret))
	newer.Write([]byte(seconds + "." + string(body)))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Recharge-Topic": topic, "X-Recharge-Hmac-Sha256": hex.EncodeToString(older[:]),
		"X-Recharge-Webhook-Timestamp": seconds,
		"X-Recharge-Webhook-Signature": "t=" + seconds + ",v1=" + hex.EncodeToString(newer.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.T.Errorf("deliver %s: %v", topic, err)
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// MustDeliver fails the test unless the answer is 200. Recharge would repeat the webhook
// after any other answer.
func (f *Fixture) MustDeliver(server, topic string, c rechargetest.Customer) {
	f.T.Helper()
	if status := f.Deliver(server, topic, c); status != http.StatusOK {
		f.T.Fatalf("%s is answered %d; want 200", topic, status)
	}
}

// Webhook sends a webhook like Shopify's, signed with secret, and returns the answer.
func (f *Fixture) Webhook(path, topic, body, secret string, id ...string) (*http.Response, string) {
	f.T.Helper()
	return f.WebhookAt(path, topic, body, secret, f.Clock.Now(), id...)
}

// WebhookAt sends a webhook about an event at the time triggered.
func (f *Fixture) WebhookAt(
	path, topic, body, secret string, triggered time.Time, id ...string,
) (*http.Response, string) {
	f.T.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+f.Public+path, strings.NewReader(body))
	if err != nil {
		f.T.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": Shop,
		"X-Shopify-Webhook-Id":   append(id, topicID(topic))[0],
		"X-Shopify-Api-Version":  "2026-07",
		"X-Shopify-Triggered-At": triggered.UTC().Format(time.RFC3339Nano),
		"X-Shopify-Hmac-Sha256":  base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	return response, string(text)
}

// topicID returns a webhook's id. Each topic has one, as if the webhook were repeated.
func topicID(topic string) string {
	return "b54557e4-" + strings.NewReplacer("/", "-", "_", "-").Replace(topic)
}

// ShopBody returns the body of shop/redact, as Shopify documents it.
func ShopBody() string { return fmt.Sprintf(`{"shop_id":954889,"shop_domain":%q}`, Shop) }

// ShopperBody returns the body of customers/redact and customers/data_request.
func ShopperBody(id string) string {
	const customer = `{"id":%s,"email":"pat@example.test","phone":"555-0100"}`
	return fmt.Sprintf(`{"shop_id":954889,"shop_domain":%q,"customer":`+customer+`,"orders_to_redact":[]}`, Shop, id)
}

// UninstalledBody returns the body of app/uninstalled.
func UninstalledBody() string {
	const owner = `"email":"owner@fixture.example","domain":"www.brand.example"`
	return fmt.Sprintf(`{"id":954889,"name":"Fixture Shop",`+owner+`,"myshopify_domain":%q}`, Shop)
}

package shopify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"
)

// Topic is the kind of event that a webhook reports.
type Topic string

// The topics that shopify.app.toml asks for.
const (
	CustomersDataRequest Topic = "customers/data_request" // a shopper asks for their data
	CustomersRedact      Topic = "customers/redact"       // a shopper asks for its erasure
	ShopRedact           Topic = "shop/redact"            // 48 hours after the app was uninstalled
	AppUninstalled       Topic = "app/uninstalled"
)

// Webhook is a message from Shopify about a shop that has the app, or had it.
type Webhook struct {
	Topic    Topic
	ID       string     // the same if Shopify sends it again
	Shop     Shop       // "" for a topic that is not listed above
	Customer CustomerID // with CustomersRedact
	// Triggered is the time of the event, the same if Shopify sends it again, and zero if missing.
	// It is not signed.
	Triggered time.Time
}

// The errors of VerifyWebhook. They quote nothing from the body.
var (
	ErrForged    = errors.New("webhook is not Shopify's")
	ErrMalformed = errors.New("webhook's body is not that of its topic")
)

// The shapes of the headers that are logged. Compiled once and never changed.
var (
	topicShape     = regexp.MustCompile(`^[a-z_]{1,40}(/[a-z_]{1,40}){1,3}$`)
	webhookIDShape = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	digestShape    = regexp.MustCompile(`^[A-Za-z0-9+/]{43}=$`)
)

// CheckWebhookHeader rejects a request that cannot be a webhook before its body is read. Its error
// is ErrForged.
func CheckWebhookHeader(header http.Header) error {
	for _, of := range []struct {
		name  string
		shape *regexp.Regexp
	}{
		{"X-Shopify-Topic", topicShape}, {"X-Shopify-Webhook-Id", webhookIDShape}, {"X-Shopify-Hmac-Sha256", digestShape},
	} {
		if values := header.Values(of.name); len(values) != 1 || !of.shape.MatchString(values[0]) {
			return fmt.Errorf("%w: %s", ErrForged, of.name)
		}
	}
	return nil
}

// VerifyWebhook reads a webhook from its headers and its raw body. Its error is ErrForged, or
// ErrMalformed with the topic and the ID set.
//
// Only the body is signed, so the shop is read from the body and not from X-Shopify-Shop-Domain.
// The topic cannot be verified. A body replayed under another topic can make us forget the shop in
// it, which costs some calls to Recharge and nothing else.
//
// go-shopify computes the signature. It would accept an empty secret, which NewVerifier rejects,
// and read a body of any length, which the caller limits.
// https://shopify.dev/docs/apps/build/webhooks/verify-deliveries
func (v *Verifier) VerifyWebhook(header http.Header, body []byte) (Webhook, error) {
	if err := CheckWebhookHeader(header); err != nil {
		return Webhook{}, err
	}
	if !v.signedBody(header, body) {
		return Webhook{}, fmt.Errorf("%w: X-Shopify-Hmac-Sha256", ErrForged)
	}
	webhook := Webhook{Topic: Topic(header.Get("X-Shopify-Topic")), ID: header.Get("X-Shopify-Webhook-Id")}
	webhook.Triggered, _ = time.Parse(time.RFC3339Nano, header.Get("X-Shopify-Triggered-At"))
	return webhook, webhook.read(body)
}

// signedBody tries every secret even after a match, so that its timing reveals nothing.
func (v *Verifier) signedBody(header http.Header, body []byte) bool {
	found := false
	for _, app := range v.apps {
		request := &http.Request{Header: header, Body: io.NopCloser(bytes.NewReader(body))}
		found = app.VerifyWebhookRequest(request) || found
	}
	return found
}

// read reads the fields that the body has for its topic. It ignores the body of an unlisted topic.
// https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
func (w *Webhook) read(body []byte) error {
	var message struct {
		Shop      string `json:"shop_domain"`      // in the compliance topics
		Myshopify string `json:"myshopify_domain"` // in app/uninstalled, whose body is a Shop
		Customer  struct {
			ID *json.Number `json:"id"` // null for somebody who had no account
		} `json:"customer"`
	}
	message.Customer.ID = new(json.Number) // stays empty if the body has none; null makes it nil
	switch w.Topic {
	case AppUninstalled, CustomersDataRequest, CustomersRedact, ShopRedact:
	default:
		return nil
	}
	// Shopify signs other texts with the same secret: session tokens, and addresses with text that
	// a merchant can choose. None begins with a brace. Addresses are signed in sorted order, and a
	// brace sorts after every letter.
	if !bytes.HasPrefix(body, []byte("{")) || json.Unmarshal(body, &message) != nil {
		return fmt.Errorf("%w: JSON", ErrMalformed)
	}
	if w.Topic == AppUninstalled {
		message.Shop = message.Myshopify
	}
	var err error
	if w.Shop, err = ParseShop(message.Shop); err != nil {
		return fmt.Errorf("%w: shop", ErrMalformed)
	}
	if id := message.Customer.ID; w.Topic == CustomersRedact && id != nil {
		if w.Customer, err = ParseCustomerID(id.String()); err != nil {
			return fmt.Errorf("%w: customer", ErrMalformed)
		}
	}
	return nil
}

package recharge

// This file verifies and reads Recharge's webhooks, and registers the addresses that receive them.

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Topic is what a webhook is about.
type Topic string

// The topics that mean something other than a changed customer.
const (
	TopicUpcoming    Topic = "charge/upcoming"
	TopicDeleted     Topic = "customer/deleted"
	TopicUninstalled Topic = "recharge/uninstalled"
)

// UninstalledPath is appended to the address for TopicUninstalled, since neither its
// body nor a header that names the topic is documented.
const UninstalledPath = "/uninstalled"

// webhookAge is how far a webhook's time may be from ours. Recharge tries to deliver a webhook for
// two days.
const webhookAge = 48 * time.Hour

// maxWebhookPages is the most pages of webhooks that are read. A token has at most ten webhooks per
// topic.
const maxWebhookPages = 20

// Webhook is a message from Recharge. If ID is set, that customer is new, has changed or was
// deleted, or will soon be charged and has not changed if Topic is TopicUpcoming. If Topic is
// TopicUninstalled, the store has left Recharge. Otherwise it can be ignored.
type Webhook struct {
	Topic    Topic  // "" if unknown
	ID       int64  // Recharge's id of the customer
	Customer string // Shopify's id; "" if the customer has none or was deleted
}

// The errors of VerifyWebhook. They quote nothing from the body.
var (
	ErrForgedWebhook    = errors.New("webhook is not Recharge's")
	ErrMalformedWebhook = errors.New("webhook's body cannot be read")
)

// The shapes of the values that are verified.
var (
	topicShape     = regexp.MustCompile(`^[a-z_]{1,40}(/[a-z_]{1,40}){1,3}$`)
	signatureShape = regexp.MustCompile(`^t=([0-9]{1,12}),v1=([0-9a-f]{64})$`)
	shopifyIDShape = regexp.MustCompile(`^[0-9]{0,20}$`)
	webhookHeaders = [...]string{
		"X-Recharge-Webhook-Signature", "X-Recharge-Webhook-Timestamp", "X-Recharge-Hmac-Sha256", "X-Recharge-Topic",
	}
)

// VerifyWebhook verifies and reads a webhook from its headers and raw body. secret is the token's
// API client secret. topic is the topic that the address stands for, or "".
//
// Recharge signs in two ways and sends both signatures. The newer one is an HMAC over time and
// body. If its header is present, even malformed, only that one counts, so that a forger cannot
// choose the weaker one.
//
// The older one is SHA-256 of secret and body. A forger who has seen one webhook can extend it
// without the secret. The forged body is the old one, some padding, and any text. The padding
// begins with 0x80 and contains zero bytes, which JSON never does, so anything but a single JSON
// text is refused.
func VerifyWebhook(secret string, header http.Header, body []byte, topic Topic, now time.Time) (Webhook, error) {
	if secret == "" {
		return Webhook{}, fmt.Errorf("%w: no secret", ErrForgedWebhook)
	}
	for _, name := range webhookHeaders {
		if len(header.Values(name)) > 1 {
			return Webhook{}, fmt.Errorf("%w: %s twice", ErrForgedWebhook, name)
		}
	}
	if err := signedWebhook(secret, header, body, now); err != nil {
		return Webhook{}, fmt.Errorf("%w: %w", ErrForgedWebhook, err)
	}
	if told := header.Get("X-Recharge-Topic"); topic == "" && topicShape.MatchString(told) {
		topic = Topic(told)
	}
	return readWebhook(topic, body)
}

// signedWebhook returns nil for a good signature, or else what is wrong, mostly a header's name.
func signedWebhook(secret string, header http.Header, body []byte, now time.Time) error {
	const newer, older = "X-Recharge-Webhook-Signature", "X-Recharge-Hmac-Sha256"
	if _, ok := header[newer]; !ok {
		sum := sha256.Sum256(append([]byte(secret), body...))
		if !hmac.Equal([]byte(hex.EncodeToString(sum[:])), []byte(header.Get(older))) {
			return errors.New(older)
		}
		return nil
	}
	parts, timestamp := signatureShape.FindStringSubmatch(header.Get(newer)), header.Get("X-Recharge-Webhook-Timestamp")
	if parts == nil || timestamp != "" && timestamp != parts[1] {
		return errors.New(newer)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(parts[1] + "."))
	mac.Write(body)
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(parts[2])) {
		return errors.New(newer)
	}
	seconds, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > webhookAge {
		return errors.New("too old, or from the future")
	}
	return nil
}

// readWebhook goes by the topic, or by the body if the topic is unknown. It refuses a body that is
// not exactly one JSON object, except that the body of TopicUninstalled may be empty, because it is
// not documented.
func readWebhook(topic Topic, body []byte) (Webhook, error) {
	webhook := Webhook{Topic: topic}
	var message map[string]json.RawMessage
	if len(body) > 0 && json.Unmarshal(body, &message) != nil {
		return webhook, fmt.Errorf("%w: JSON", ErrMalformedWebhook)
	}
	if topic == "" && message["customer"] == nil && message["charge"] != nil { // no other charge is asked for
		topic = TopicUpcoming
	}
	customer, ok := message["customer"]
	switch {
	case topic == TopicUninstalled:
		// The topic and the address are not signed, so a body about something else does not count.
		for _, other := range []string{"customer", "subscription", "order", "charge", "address"} {
			if message[other] != nil {
				return webhook, fmt.Errorf("%w: about a %s", ErrMalformedWebhook, other)
			}
		}
		return webhook, nil
	case topic == TopicUpcoming:
		var charge map[string]json.RawMessage
		_ = json.Unmarshal(message["charge"], &charge) // without a customer it is refused below
		webhook.Topic, customer = TopicUpcoming, charge["customer"]
	case topic == "" && len(body) > 0 && !ok, topic != "" && !strings.HasPrefix(string(topic), "customer/"):
		return webhook, nil // about something other than a customer
	}
	err := webhook.about(customer)
	return webhook, err
}

// about reads the customer whom a webhook is about.
func (w *Webhook) about(customer json.RawMessage) error {
	var record customerRecord
	if json.Unmarshal(customer, &record) != nil || record.ID <= 0 ||
		!shopifyIDShape.MatchString(string(record.External.Ecommerce)) {
		return fmt.Errorf("%w: not a customer", ErrMalformedWebhook)
	}
	w.ID = int64(record.ID)
	if w.Topic != TopicDeleted {
		w.Customer = string(record.External.Ecommerce)
	}
	return nil
}

// registered is a webhook as Recharge lists it.
type registered struct {
	ID      number `json:"id"`
	Address string `json:"address"`
	Topic   Topic  `json:"topic"`
}

// webhooks returns all webhooks that were registered with the client's token.
func (c *Client) webhooks(ctx context.Context, g *Grant) ([]registered, error) {
	var all []registered
	query := url.Values{"limit": {"250"}}
	for range maxWebhookPages {
		page, err := do[struct {
			Webhooks *[]registered `json:"webhooks"`
			Next     string        `json:"next_cursor"`
		}](ctx, c, g, c.get(Normal, query, "webhooks"))
		if err == nil && page.Webhooks == nil {
			err = malformed("webhooks")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *page.Webhooks...)
		if page.Next == "" {
			break
		}
		query.Set("cursor", page.Next)
	}
	return all, nil
}

// TestWebhook lets Recharge send a message about no customer in particular to the webhook for address. Its
// priority is Normal. Errors: NotFound if there is no such webhook, or no such tests.
func (c *Client) TestWebhook(ctx context.Context, g *Grant, address string) error {
	all, err := c.webhooks(ctx, g)
	if err != nil {
		return err
	}
	for _, w := range all {
		if w.Address == address && w.Topic == "customer/updated" {
			test := c.get(Normal, nil, "webhooks", strconv.FormatInt(int64(w.ID), 10), "test")
			test.method, test.body = http.MethodPost, "{}"
			_, err := do[struct{}](ctx, c, g, test)
			return err
		}
	}
	return &Error{Endpoint: "webhooks", Reason: NotFound}
}

// KeepWebhooks makes sure that each topic is registered exactly once for address, or not at all if
// address is "". upcoming adds TopicUpcoming, for which the token needs the scope read_orders. It
// removes those of ours that are duplicates or have another address, and leaves all others alone.
// It makes one call if there is nothing to do. A topic that Recharge refuses does not stop the
// others. Its priority is Normal.
func (c *Client) KeepWebhooks(
	ctx context.Context, g *Grant, address string, upcoming bool, ours func(address string) bool,
) error {
	missing := map[Topic]string{}
	if address != "" {
		missing[TopicUninstalled] = address + UninstalledPath
		for _, topic := range []Topic{
			"customer/created", "customer/updated", "customer/activated", "customer/deactivated", TopicDeleted,
		} {
			missing[topic] = address
		}
		if upcoming {
			missing[TopicUpcoming] = address
		}
	}
	all, err := c.webhooks(ctx, g)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range all {
		switch {
		case !ours(w.Address):
		case missing[w.Topic] == w.Address:
			delete(missing, w.Topic)
		default:
			remove := c.get(Normal, nil, "webhooks", strconv.FormatInt(int64(w.ID), 10))
			remove.method = http.MethodDelete
			if _, err := do[struct{}](ctx, c, g, remove); !Is(err, NotFound) { // unless already gone
				errs = append(errs, err)
			}
		}
	}
	for topic, to := range missing {
		body, _ := json.Marshal(map[string]string{"topic": string(topic), "address": to}) // cannot fail
		add := c.get(Normal, nil, "webhooks")
		add.method, add.body = http.MethodPost, string(body)
		_, err := do[struct{}](ctx, c, g, add)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

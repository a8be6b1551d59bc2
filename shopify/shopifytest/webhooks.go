package shopifytest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	webhookTimeout = 5 * time.Second // for the app to answer a webhook
	webhookRetries = 8
	webhookSpan    = 4 * time.Hour // in which the retries are made
	webhookVersion = "2026-07"
)

// A WebhookDelivery is one attempt to deliver a webhook.
type WebhookDelivery struct {
	Topic, ID string
	Try       int // from 1
	Status    int // of the answer, or 0 if there was none
	At        time.Time
}

// Redact sends customers/redact for one of the store's shoppers to every app that was ever registered.
func (s *Server) Redact(customerID string) { s.aboutCustomer("customers/redact", customerID) }

// RequestData sends customers/data_request.
func (s *Server) RequestData(customerID string) {
	s.aboutCustomer("customers/data_request", customerID)
}

// RedactShop sends shop/redact, which Shopify sends two days after an app was uninstalled.
func (s *Server) RedactShop() {
	s.toAll("shop/redact", map[string]any{"shop_id": shopID, "shop_domain": s.opts.Shop})
}

func (s *Server) aboutCustomer(topic, customerID string) {
	id, err := strconv.ParseUint(customerID, 10, 64)
	if err != nil {
		return
	}
	shopper, _ := s.findShopper(customerID)
	body := map[string]any{
		"shop_id": shopID, "shop_domain": s.opts.Shop,
		"customer": map[string]any{"id": id, "email": shopper.Email, "phone": nil},
	}
	if topic == "customers/redact" {
		body["orders_to_redact"] = []int{}
	} else {
		body["orders_requested"], body["data_request"] = []int{}, map[string]int{"id": 9999}
	}
	s.toAll(topic, body)
}

func (s *Server) toAll(topic string, body any) {
	for _, p := range s.known() {
		s.sendWebhook(p.PartnerApp, topic, body)
	}
}

// WebhookDeliveries returns the newest 1000 attempts to deliver a webhook, oldest first.
func (s *Server) WebhookDeliveries() []WebhookDelivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deliveries[max(0, len(s.deliveries)-historyLimit):])
}

// sendWebhook starts the delivery of a message, and returns at once.
func (s *Server) sendWebhook(app PartnerApp, topic string, message any) {
	body, err := json.Marshal(message)
	if err != nil || app.Webhooks == "" {
		return
	}
	times := 1
	if s.Faults().WebhooksTwice {
		times = 2
	}
	id, event, at := randomID(), randomID(), s.opts.Now()
	for range times {
		if !s.enter() {
			return
		}
		go func() {
			defer s.running.Done()
			s.deliver(app, topic, id, event, at, body)
		}()
	}
}

// deliver tries until the answer is 200 to 299, or the retries are used up. A retry is the same
// message with the same ID.
func (s *Server) deliver(app PartnerApp, topic, id, event string, at time.Time, body []byte) {
	for try := 1; ; try++ {
		status := s.post(app, topic, id, event, at, body)
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.deliveries = append(s.deliveries, WebhookDelivery{topic, id, try, status, s.opts.Now()})
		s.mu.Unlock()
		if status >= 200 && status <= 299 || try > webhookRetries {
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(s.opts.WebhookRetry(try)):
		}
	}
}

func (s *Server) post(app PartnerApp, topic, id, event string, at time.Time, body []byte) (status int) {
	ctx, cancel := context.WithTimeout(s.ctx, webhookTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, app.Webhooks, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	secret := app.Secret
	switch faults := s.Faults(); {
	case faults.WrongSecret:
		secret = "not the " + secret
	case faults.OldSecret:
		secret = app.OldSecret
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	for name, value := range map[string]string{
		"Content-Type":           "application/json",
		"User-Agent":             "shopifytest",
		"X-Shopify-Topic":        topic,
		"X-Shopify-Shop-Domain":  s.opts.Shop,
		"X-Shopify-Api-Version":  webhookVersion,
		"X-Shopify-Webhook-Id":   id,
		"X-Shopify-Event-Id":     event,
		"X-Shopify-Triggered-At": at.UTC().Format(time.RFC3339Nano),
		"X-Shopify-Hmac-Sha256":  base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	response, err := s.backend.RoundTrip(request) // does not follow redirects, so a 3xx is a failure
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	return response.StatusCode
}

// retries returns ever longer pauses, the last of which ends after four hours.
func retries(try int) time.Duration {
	return webhookSpan * time.Duration(2*try-1) / (webhookRetries * webhookRetries)
}

package handlers

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// webhookTimeout is below the 5 seconds that Shopify and Recharge wait for an answer.
const webhookTimeout = 4 * time.Second

// webhookSize is larger than any body of the topics that we subscribe to. The longest bodies list a
// customer's orders, or are a whole customer.
const webhookSize = 256 << 10

var errUnread = errors.New("body not read")

func readWebhook(c echo.Context) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, webhookSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return body, nil
}

// webhookLine is a webhook's line in the log. It holds neither the body nor a customer's id.
type webhookLine struct {
	from  portal.Sender
	topic string       // "" if not verified or not sent
	id    string       // the sender's id of the message, if it has one
	shop  shopify.Shop // "" if not verified
	did   string       // "" if nothing
	level slog.Level   // if nothing failed
}

// answer answers a webhook, counts it and writes its log line. For hours, senders retry webhooks
// that did not get a 200, and they may repeat one that did. A malformed body gets a 400, because a
// 200 would mean that we handled it.
func (l webhookLine) answer(c echo.Context, m *merchant.Service, err error) error {
	status := webhookStatus(err)
	attributes := []slog.Attr{slog.Int("status", status), slog.String("from", string(l.from))}
	if err != nil {
		l.did, l.level = "", slog.LevelInfo
		if l.topic != "" || status == http.StatusInternalServerError { // it was signed, or the fault is ours
			l.level = slog.LevelError
		}
		attributes = append(attributes, slog.String("cause", err.Error()))
	}
	for _, of := range []struct{ key, value string }{
		{"topic", l.topic}, {"webhook_id", l.id}, {"shop", string(l.shop)}, {"did", l.did},
	} {
		if of.value != "" {
			attributes = append(attributes, slog.String(of.key, of.value))
		}
	}
	m.Log.LogAttrs(c.Request().Context(), l.level, "webhook", attributes...)
	m.Recorder.Meter.Webhook(l.from, status)
	if err != nil {
		return echo.NewHTTPError(status)
	}
	return c.NoContent(http.StatusOK)
}

func webhookStatus(err error) int {
	switch _, tooLarge := errors.AsType[*http.MaxBytesError](err); {
	case err == nil:
		return http.StatusOK
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errUnread), errors.Is(err, shopify.ErrMalformed), errors.Is(err, recharge.ErrMalformedWebhook):
		return http.StatusBadRequest
	case errors.Is(err, shopify.ErrForged), errors.Is(err, recharge.ErrForgedWebhook), errors.Is(err, errNoSuchAddress):
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

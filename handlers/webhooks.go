package handlers

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/merchant"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// webhookSize is above any body of a topic that we ask for: the longest lists a customer's
// orders, or is a whole customer.
const webhookSize = 256 << 10

var errUnread = errors.New("body not read")

func readWebhook(c echo.Context) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, webhookSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return body, nil
}

// webhookLine is what the log says of a webhook. It holds neither the body nor a
// customer's id.
type webhookLine struct {
	from  portal.Sender
	topic string       // "": not verified, or not said
	id    string       // the sender's, of the message; "" none
	shop  shopify.Shop // "": not proven
	did   string       // "": nothing
	level slog.Level   // if all went well
}

// answer answers a webhook, counts it, and writes its one line. Senders repeat, for hours,
// what is not answered by 200, and may repeat what was. A body that says nothing we
// understand is answered by 400: 200 would say that it was done.
func (l webhookLine) answer(c echo.Context, m *merchant.Service, err error) error {
	status := webhookStatus(err)
	attributes := []slog.Attr{slog.Int("status", status)}
	if l.from == portal.SentByRecharge {
		attributes = append(attributes, slog.String("from", string(l.from)))
	}
	if err != nil {
		l.did, l.level = "", slog.LevelInfo
		if l.topic != "" || status == http.StatusInternalServerError { // it was signed, and was not done
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
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errUnread), errors.Is(err, shopify.ErrMalformed), errors.Is(err, recharge.ErrMalformedWebhook):
		return http.StatusBadRequest
	case errors.Is(err, shopify.ErrForged), errors.Is(err, recharge.ErrForgedWebhook), errors.Is(err, errNoSuchAddress):
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

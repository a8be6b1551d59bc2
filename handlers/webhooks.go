package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// webhookSize is far above any body of a topic that we ask for.
const webhookSize = 1 << 20

// Webhooks answers what Shopify has to say of shops and shoppers: that
// something of them is to be erased, or to be told.
//
// There is nothing to tell: all that is kept, for a time, to save calls, the
// merchant has in Recharge.
type Webhooks struct {
	Verifier *shopify.Verifier
	Store    *store.Store
	Timeout  time.Duration // of one webhook; Shopify waits 5 s
	Log      *slog.Logger
}

// Register adds the route.
func (w *Webhooks) Register(e *echo.Echo) { e.POST("/webhooks/shopify", w.handle) }

// handle answers a webhook and writes its one line in the log. Shopify sends
// again, for four hours, what is not answered by 200; as erasing twice is the
// same as once, no message has to be remembered. A body that says nothing we
// understand is answered by 400: to say 200 would be to say that it was done.
func (w *Webhooks) handle(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), w.Timeout)
	defer cancel()
	webhook, err := w.read(c)
	did := ""
	if err == nil {
		did, err = w.do(ctx, webhook)
	}
	status := statusOf(err)
	w.log(ctx, webhook, did, status, err)
	if status != http.StatusOK {
		return echo.NewHTTPError(status)
	}
	return c.NoContent(http.StatusOK)
}

func (w *Webhooks) read(c echo.Context) (shopify.Webhook, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, webhookSize))
	if err != nil {
		return shopify.Webhook{}, fmt.Errorf("%w: %w", errUnread, err)
	}
	return w.Verifier.VerifyWebhook(c.Request().Header, body)
}

// do does what a webhook asks for, and says what that was. Another shop than the
// one that is configured here can have installed the app: its name is as good.
func (w *Webhooks) do(ctx context.Context, webhook shopify.Webhook) (string, error) {
	switch webhook.Topic {
	case shopify.CustomersDataRequest:
		return "nothing_to_tell", nil
	case shopify.CustomersRedact:
		return "erased_shopper", w.Store.EraseShopper(ctx, store.Shopper{Shop: webhook.Shop, Customer: webhook.Customer})
	case shopify.ShopRedact, shopify.AppUninstalled:
		return "erased_shop", w.Store.EraseShop(ctx, webhook.Shop)
	}
	return "ignored", nil
}

var errUnread = errors.New("body not read")

func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errUnread), errors.Is(err, shopify.ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, shopify.ErrForged):
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

// log makes an error of what Shopify has signed and was not done. It holds
// neither the body nor a customer's id.
func (w *Webhooks) log(ctx context.Context, webhook shopify.Webhook, did string, status int, err error) {
	level := slog.LevelInfo
	attributes := []slog.Attr{slog.Int("status", status)}
	if err == nil {
		attributes = append(attributes, slog.String("did", did))
	} else {
		attributes = append(attributes, slog.String("cause", err.Error()))
	}
	if webhook.Topic != "" {
		if err != nil {
			level = slog.LevelError
		}
		attributes = append(attributes, slog.String("topic", string(webhook.Topic)), slog.String("webhook_id", webhook.ID))
	}
	if webhook.Shop != "" {
		attributes = append(attributes, slog.String("shop", string(webhook.Shop)))
	}
	w.Log.LogAttrs(ctx, level, "webhook", attributes...)
}

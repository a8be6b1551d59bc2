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

	"manage-subscriptions/merchant"
	"manage-subscriptions/portal"
	"manage-subscriptions/shopify"
)

const (
	// webhookSize is above any body of a topic that we ask for: the longest lists
	// a customer's orders, or is a whole customer.
	webhookSize = 256 << 10
	// redactDelay is how long after an uninstall Shopify sends shop/redact.
	// https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
	redactDelay = 48 * time.Hour
)

// ShopifyWebhooks answers what Shopify has to say of shops and shoppers: that
// something of them is to be erased, or to be told.
//
// There is nothing to tell: all that is kept, for a time, to save calls, the
// merchant has in Recharge.
type ShopifyWebhooks struct {
	Verifier *shopify.Verifier
	Merchant *merchant.Service
	Timeout  time.Duration // of one webhook; Shopify waits 5 s
}

// Register adds the route.
func (w *ShopifyWebhooks) Register(e *echo.Echo) { e.POST("/webhooks/shopify", w.handle) }

// handle answers a webhook and writes its one line in the log. Shopify sends
// again, for four hours, what is not answered by 200, and may send twice what
// was. A body that says nothing we understand is answered by 400: to say 200
// would be to say that it was done.
func (w *ShopifyWebhooks) handle(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), w.Timeout)
	defer cancel()
	webhook, err := w.read(c)
	did := ""
	if err == nil {
		did, err = w.do(ctx, webhook)
	}
	status := statusOf(err)
	w.log(ctx, webhook, did, status, err)
	w.Merchant.Recorder.Meter.Webhook(portal.SentByShopify, status)
	if status != http.StatusOK {
		return echo.NewHTTPError(status)
	}
	return c.NoContent(http.StatusOK)
}

// read looks at the headers first: a body is only read of who knows what they
// look like.
func (w *ShopifyWebhooks) read(c echo.Context) (shopify.Webhook, error) {
	if err := shopify.CheckWebhookHeader(c.Request().Header); err != nil {
		return shopify.Webhook{}, err
	}
	body, err := readWebhook(c)
	if err != nil {
		return shopify.Webhook{}, err
	}
	return w.Verifier.VerifyWebhook(c.Request().Header, body)
}

func readWebhook(c echo.Context) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, webhookSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return body, nil
}

// do does what a webhook asks for, and says what that was. Shopify may send it twice:
// that does the same. Another shop than the one that is configured here can have
// installed the app: its name is as good.
func (w *ShopifyWebhooks) do(ctx context.Context, webhook shopify.Webhook) (string, error) {
	at := webhook.Triggered
	if at.IsZero() || at.After(w.Merchant.Now()) {
		at = w.Merchant.Now()
	}
	switch {
	case webhook.Shop == "":
		return "ignored", nil // a topic that is not ours: nothing of it is kept
	case webhook.Topic == shopify.CustomersDataRequest:
		return "nothing_to_tell", nil
	case webhook.Topic == shopify.CustomersRedact:
		return "erased_shopper", w.Merchant.Store.Redact(ctx, webhook.Shop, webhook.Customer)
	case webhook.Topic == shopify.AppUninstalled:
		return "erased_shop", w.Merchant.Uninstalled(ctx, webhook.Shop, at)
	case webhook.Topic == shopify.ShopRedact:
		// It is about the installation that ended two days ago: a merchant who has
		// come back since stays connected.
		return "erased_shop", w.Merchant.Uninstalled(ctx, webhook.Shop, at.Add(-redactDelay))
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
func (w *ShopifyWebhooks) log(ctx context.Context, webhook shopify.Webhook, did string, status int, err error) {
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
	w.Merchant.Log.LogAttrs(ctx, level, "webhook", attributes...)
}

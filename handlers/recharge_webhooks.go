package handlers

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// RechargeWebhooks answers Recharge's webhooks about a shop's customers. They can arrive late or
// twice, so they only invalidate what is cached.
type RechargeWebhooks struct {
	Merchant *merchant.Service
}

// Register adds the routes.
func (w *RechargeWebhooks) Register(e *echo.Echo) {
	for _, path := range []string{"", "/:handle/:key"} {
		e.POST(merchant.WebhookPath+path, w.handle)
		e.POST(merchant.WebhookPath+path+recharge.UninstalledPath, w.handle)
	}
}

var errNoSuchAddress = errors.New("no such address, or not connected")

// sender is the shop that a webhook's address belongs to.
type sender struct {
	shop   shopify.Shop
	secret string
	record *store.Record // has the secret; nil if it is the configured store's
}

func (w *RechargeWebhooks) handle(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), webhookTimeout)
	defer cancel()
	from, err := w.from(ctx, c.Param("handle"), c.Param("key"))
	var webhook recharge.Webhook
	if err == nil {
		webhook, err = w.read(c, from)
	}
	if err == nil {
		err = w.do(ctx, from, webhook)
	}
	if err == nil && webhook.Topic != recharge.TopicUpcoming { // which proves nothing about webhooks of changes
		err = w.Merchant.Store.WebhookVerified(ctx, from.shop, from.secret)
	}
	line := webhookLine{
		from: portal.SentByRecharge, topic: string(webhook.Topic), shop: from.shop,
		level: slog.LevelDebug, // a store's customers change all day
	}
	switch {
	case err == nil:
		w.Merchant.Store.Count(from.shop, portal.WebhooksTaken, 1)
	case from.shop != "" && errors.Is(err, recharge.ErrForgedWebhook): // the sender knows the address
		w.Merchant.Store.Count(from.shop, portal.WebhooksRefused, 1)
		if failed := w.Merchant.Store.WebhookRefused(ctx, from.shop, from.secret); failed != nil {
			w.Merchant.Log.InfoContext(ctx, "refused webhook not recorded", "shop", string(from.shop), "cause", failed)
		}
	}
	if err == nil && webhook.Topic == recharge.TopicUninstalled {
		line.did, line.level = "disconnected", slog.LevelWarn
	}
	return line.answer(c, w.Merchant, err)
}

// from finds the shop by the webhook's address. It refuses an unknown address like a bad signature,
// so that nobody can find out which shops exist.
func (w *RechargeWebhooks) from(ctx context.Context, handle, key string) (sender, error) {
	if own := w.Merchant.Merchants.Own(); own != "" {
		connection := w.Merchant.Merchants.Connection(own, nil)
		if handle != "" || connection == nil || connection.ClientSecret == "" {
			return sender{}, errNoSuchAddress
		}
		return sender{own, connection.ClientSecret, nil}, nil
	}
	shop, err := shopify.ShopOfHandle(handle)
	if err != nil {
		return sender{}, errNoSuchAddress
	}
	record, err := w.Merchant.Store.Record(ctx, shop)
	if err != nil {
		return sender{}, err
	}
	if !record.Connected() {
		return sender{}, errNoSuchAddress
	}
	connection := record.Connection
	if connection.WebhookKey == "" || connection.ClientSecret == "" ||
		subtle.ConstantTimeCompare([]byte(connection.WebhookKey), []byte(key)) != 1 {
		return sender{}, errNoSuchAddress
	}
	return sender{shop, connection.ClientSecret, record}, nil
}

func (w *RechargeWebhooks) read(c echo.Context, from sender) (recharge.Webhook, error) {
	body, err := readWebhook(c)
	if err != nil {
		return recharge.Webhook{}, err
	}
	topic := recharge.Topic("")
	if strings.HasSuffix(c.Path(), recharge.UninstalledPath) {
		topic = recharge.TopicUninstalled
	}
	return recharge.VerifyWebhook(from.secret, c.Request().Header, body, topic, w.Merchant.Now())
}

func (w *RechargeWebhooks) do(ctx context.Context, from sender, webhook recharge.Webhook) error {
	switch {
	case webhook.Topic == recharge.TopicUpcoming:
		if w.Merchant.Importer == nil {
			return nil
		}
		return w.Merchant.Importer.Upcoming(ctx, from.shop, shopify.CustomerID(webhook.Customer))
	case webhook.ID != 0:
		change := store.Change{ID: webhook.ID, Customer: shopify.CustomerID(webhook.Customer)}
		if err := w.Merchant.ApplyCustomerChange(ctx, from.shop, change); err != nil {
			return err
		}
		if w.Merchant.Importer != nil && change.Customer != "" {
			w.Merchant.Importer.Update(from.shop, change)
		}
		return nil
	case webhook.Topic == recharge.TopicUninstalled:
		return w.Merchant.RechargeUninstalled(ctx, from.shop, from.record)
	}
	return nil
}

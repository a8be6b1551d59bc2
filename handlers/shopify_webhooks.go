package handlers

import (
	"context"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// redactDelay is how long after an uninstall Shopify sends shop/redact.
// https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
const redactDelay = 48 * time.Hour

// ShopifyWebhooks answers Shopify's webhooks, which ask us to erase or to report data about shops
// and shoppers. There is nothing to report, because we only cache, for a limited time, data that
// the merchant has in Recharge.
type ShopifyWebhooks struct {
	Verifier *shopify.Verifier
	Merchant *merchant.Service
}

// Register adds the route.
func (w *ShopifyWebhooks) Register(e *echo.Echo) { e.POST("/webhooks/shopify", w.handle) }

func (w *ShopifyWebhooks) handle(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), webhookTimeout)
	defer cancel()
	webhook, err := w.read(c)
	line := webhookLine{from: portal.SentByShopify, topic: string(webhook.Topic), id: webhook.ID, shop: webhook.Shop}
	if err == nil {
		line.did, err = w.do(ctx, webhook)
	}
	return line.answer(c, w.Merchant, err)
}

// read checks the headers first, so that it reads no body if their format is wrong.
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

// do carries out a webhook and returns what it did, for the log. It can run twice, because Shopify
// may send a webhook twice. It accepts every shop, because shops other than the configured one can
// also install the app.
func (w *ShopifyWebhooks) do(ctx context.Context, webhook shopify.Webhook) (string, error) {
	at := webhook.Triggered
	if at.IsZero() || at.After(w.Merchant.Now()) {
		at = w.Merchant.Now()
	}
	switch {
	case webhook.Shop == "", webhook.Topic == shopify.CustomersRedact && webhook.Customer == "":
		return "ignored", nil // not one of our topics, or about somebody who had no account
	case webhook.Topic == shopify.CustomersDataRequest:
		return "nothing_to_tell", nil
	case webhook.Topic == shopify.CustomersRedact:
		return "erased_shopper", w.Merchant.Store.Redact(ctx, webhook.Shop, webhook.Customer)
	case webhook.Topic == shopify.AppUninstalled:
		return "erased_shop", w.Merchant.Uninstalled(ctx, webhook.Shop, at)
	case webhook.Topic == shopify.ShopRedact:
		// This is about the installation that ended two days ago. A merchant who has installed the
		// app again since then stays connected.
		return "erased_shop", w.Merchant.Uninstalled(ctx, webhook.Shop, at.Add(-redactDelay))
	}
	return "ignored", nil
}

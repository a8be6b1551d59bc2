package handlers

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/importer"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// rechargeWebhooks is where Recharge tells what has changed: there for the one
// store that is configured here, else below it at an address of the shop's own.
const rechargeWebhooks = "/webhooks/recharge"

// RechargeWebhooks answers what Recharge has to say of a shop's customers. What
// it says may be old, or said twice: it only ever makes us forget.
type RechargeWebhooks struct {
	Store    *store.Store
	Resolver *portal.Resolver
	Recorder *portal.Recorder
	Secret   string // of the one store that is configured here; "": its webhooks are refused
	AppURL   *url.URL
	Timeout  time.Duration // of one webhook; Recharge waits 5 s
	Log      *slog.Logger
	Now      func() time.Time
	Importer *importer.Importer // looks changed customers up in the background; nil: nobody does
}

// Register adds the routes.
func (w *RechargeWebhooks) Register(e *echo.Echo) {
	for _, path := range []string{"", "/:handle/:key"} {
		e.POST(rechargeWebhooks+path, w.handle)
		e.POST(rechargeWebhooks+path+recharge.UninstalledPath, w.handle)
	}
}

// own is the one store that is configured here; "": many.
func (w *RechargeWebhooks) own() shopify.Shop { return w.Resolver.Merchants.Own() }

// Address is where Recharge tells what has changed in a shop.
func (w *RechargeWebhooks) Address(shop shopify.Shop, key string) string {
	if shop == w.own() {
		return w.AppURL.JoinPath(rechargeWebhooks).String()
	}
	return w.AppURL.JoinPath(rechargeWebhooks, shop.Handle(), key).String()
}

// Ours tells an address that this server has had, or could have had, for a shop:
// the keys of earlier connections are not known any more.
func (w *RechargeWebhooks) Ours(shop shopify.Shop) func(string) bool {
	base := w.Address(shop, "")
	return func(address string) bool {
		return address == strings.TrimSuffix(base, "/") || strings.HasPrefix(address, strings.TrimSuffix(base, "/")+"/")
	}
}

var errNoSuchAddress = errors.New("no such address, or not connected")

// teller is the shop whose address a webhook came to.
type teller struct {
	shop   shopify.Shop
	secret string
	record *store.Record // that the secret is of; nil: of the one store's configuration
}

func (w *RechargeWebhooks) handle(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), w.Timeout)
	defer cancel()
	from, err := w.from(ctx, c.Param("handle"), c.Param("key"))
	var webhook recharge.Webhook
	if err == nil {
		webhook, err = w.read(c, from)
	}
	if err == nil {
		err = errors.Join(w.do(ctx, from, webhook), w.Store.WebhookVerified(ctx, from.shop))
	}
	status := rechargeStatus(err)
	w.log(ctx, from.shop, webhook, status, err)
	w.Recorder.Meter.Webhook(portal.SentByRecharge, status)
	if from.shop != "" && errors.Is(err, recharge.ErrForgedWebhook) {
		w.Store.Count(from.shop, portal.WebhooksRefused, 1) // by one who knows the address
	}
	if status != http.StatusOK {
		return echo.NewHTTPError(status)
	}
	w.Store.Count(from.shop, portal.WebhooksTaken, 1)
	return c.NoContent(http.StatusOK)
}

// from finds the shop by its address. An address that was never given away is
// refused like a bad signature, and nobody learns which shops there are.
func (w *RechargeWebhooks) from(ctx context.Context, handle, key string) (teller, error) {
	if own := w.own(); own != "" {
		if handle != "" || w.Secret == "" {
			return teller{}, errNoSuchAddress
		}
		return teller{own, w.Secret, nil}, nil
	}
	shop, err := shopify.ShopOfHandle(handle)
	if err != nil {
		return teller{}, errNoSuchAddress
	}
	record, err := w.Store.Record(ctx, shop)
	if err != nil {
		return teller{}, err
	}
	if record == nil || record.Connection == nil {
		return teller{}, errNoSuchAddress
	}
	connection := record.Connection
	if connection.WebhookKey == "" || connection.ClientSecret == "" ||
		subtle.ConstantTimeCompare([]byte(connection.WebhookKey), []byte(key)) != 1 {
		return teller{}, errNoSuchAddress
	}
	return teller{shop, connection.ClientSecret, record}, nil
}

func (w *RechargeWebhooks) read(c echo.Context, from teller) (recharge.Webhook, error) {
	body, err := readWebhook(c)
	if err != nil {
		return recharge.Webhook{}, err
	}
	topic := recharge.Topic("")
	if strings.HasSuffix(c.Path(), recharge.UninstalledPath) {
		topic = recharge.TopicUninstalled
	}
	return recharge.VerifyWebhook(from.secret, c.Request().Header, body, topic, w.Now())
}

func (w *RechargeWebhooks) do(ctx context.Context, from teller, webhook recharge.Webhook) error {
	switch webhook.Kind {
	case recharge.CustomerChanged, recharge.CustomerDeleted:
		change := store.Change{ID: webhook.ID, Customer: shopify.CustomerID(webhook.Customer)}
		if err := w.Resolver.ApplyCustomerChange(ctx, from.shop, change); err != nil {
			return err
		}
		if w.Importer != nil && webhook.Kind == recharge.CustomerChanged && change.Customer != "" {
			w.Importer.Update(from.shop, change)
		}
		return nil
	case recharge.Uninstalled:
		return w.disconnect(ctx, from)
	}
	return nil
}

// errStillKnown has Recharge say it again later.
var errStillKnown = errors.New("not so: Recharge still takes the store's token")

// disconnect is for a store that has uninstalled Recharge: its tokens are dead,
// and its shoppers' portals gone. What says so is not signed with the rest of the
// message: so Recharge itself is asked, and until it agrees, nothing is done.
func (w *RechargeWebhooks) disconnect(ctx context.Context, from teller) error {
	merchant, err := w.Resolver.Merchants.Of(from.shop, from.record)
	if merchant == nil || err != nil {
		return err
	}
	err = w.stillKnown(ctx, from.shop, merchant.Client)
	switch {
	case err == nil:
		return errStillKnown
	case !recharge.Is(err, recharge.Unauthorized) && !recharge.Is(err, recharge.Forbidden):
		return err
	}
	erasure := store.Erasure{Shop: from.shop}
	if from.record != nil {
		erasure.SavedUntil = from.record.Connection.SavedAt // a connection saved meanwhile stays
	}
	_, err = w.Store.EraseShop(ctx, erasure)
	return err
}

func (w *RechargeWebhooks) stillKnown(ctx context.Context, shop shopify.Shop, client *recharge.Client) error {
	grant, err := client.Limiter().Reserve(ctx, w.Store.Limiter(shop), recharge.Ask{Normal: 1})
	if err != nil {
		return err
	}
	defer func() {
		grant.Release(ctx)
		w.Recorder.Calls(shop, grant.Calls())
	}()
	return client.Known(ctx, grant)
}

func rechargeStatus(err error) int {
	switch {
	case errors.Is(err, recharge.ErrForgedWebhook), errors.Is(err, errNoSuchAddress):
		return http.StatusUnauthorized
	case errors.Is(err, recharge.ErrMalformedWebhook):
		return http.StatusBadRequest
	}
	return statusOf(err)
}

func (w *RechargeWebhooks) log(ctx context.Context, shop shopify.Shop, webhook recharge.Webhook, status int, err error) {
	level := slog.LevelDebug // a store's customers change all day
	attributes := []slog.Attr{slog.Int("status", status), slog.String("from", "recharge")}
	if webhook.Topic != "" {
		attributes = append(attributes, slog.String("topic", string(webhook.Topic)))
	}
	if shop != "" {
		attributes = append(attributes, slog.String("shop", string(shop)))
	}
	if err != nil {
		level = slog.LevelInfo
		attributes = append(attributes, slog.String("cause", err.Error()))
		if status == http.StatusInternalServerError {
			level = slog.LevelError
		}
	}
	if webhook.Kind == recharge.Uninstalled && err == nil {
		level = slog.LevelWarn
		attributes = append(attributes, slog.String("did", "disconnected"))
	}
	w.Log.LogAttrs(ctx, level, "webhook", attributes...)
}

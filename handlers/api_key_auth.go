package handlers

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// APIKeyAuth authenticates clicks that Shopify has not signed, by a key of the shop's own
// middleware. They get the same lookup, limit, links and outcomes as all other clicks.
type APIKeyAuth struct {
	Merchant *merchant.Service
	Own      []portallink.Secret // the configured store's keys
}

var errNoKey = errors.New("no key of this shop's")

// limit bounds how long a click takes. It does not end when the shopper leaves, because a signed
// link could then be used up without opening anything.
func (k *APIKeyAuth) limit(c echo.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.Request().Context()), k.Merchant.Timeout)
}

// authenticate returns a nil error if proven accepts one of the shop's secrets. proven must take
// the same time whichever secret matches. Until then nothing in the request is trusted, not even
// for the log, so click.shop is set only afterwards. If it loaded the shopper to get the secrets,
// it returns what it loaded.
func (k *APIKeyAuth) authenticate(
	ctx context.Context, click *clickRequest, who store.Shopper, proven func(...portallink.Secret) bool,
) (*store.Loaded, error) {
	var loaded *store.Loaded
	var secrets []portallink.Secret
	switch own := k.Merchant.Merchants.Own(); {
	case click.channel == portal.FromSupport:
		read := k.Merchant.Load(ctx, who, click.trace)
		if read.Err != nil { // an older record could have links for support on
			return nil, portal.ErrRedisDown
		}
		loaded = &read
		if secret := read.Record.SupportSecret(); secret != nil {
			secrets = append(secrets, portallink.Secret(secret))
		}
	case own == "":
		read := k.Merchant.Load(ctx, who, click.trace)
		if read.Err != nil && read.Record == nil {
			return nil, portal.ErrRedisDown
		}
		loaded, secrets = &read, secretsOf(read.Record)
	case own == who.Shop:
		secrets = k.Own
	}
	if !proven(secrets...) {
		return nil, errNoKey
	}
	click.shop = who.Shop
	return loaded, nil
}

// refuse returns the result of a click that was not authenticated, or whose link is not valid now.
func refuse(err error) portal.Result {
	for _, refusal := range []error{errNoKey, errUsed, errErased, portallink.ErrOver, portallink.ErrTooLong} {
		if errors.Is(err, refusal) {
			return portal.Result{Outcome: portal.Forbidden, Cause: err}
		}
	}
	return portal.Result{Outcome: portal.Unavailable, Cause: err}
}

func secretsOf(record *store.Record) []portallink.Secret {
	if !record.Connected() {
		return nil
	}
	var secrets []portallink.Secret
	for _, key := range record.Connection.PortalKeys {
		if len(key.Hash) == len(portallink.Secret{}) {
			secrets = append(secrets, portallink.Secret(key.Hash))
		}
	}
	return secrets
}

// bearer returns a request's bearer token, or "" if it has none or more than one. The scheme may be in
// any case (RFC 9110, 11.1).
func bearer(header http.Header) string {
	values := header.Values(echo.HeaderAuthorization)
	scheme, token, _ := strings.Cut(header.Get(echo.HeaderAuthorization), " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// keyShape matches keys made in the app home. They contain the shop's handle.
var keyShape = regexp.MustCompile(`^mspk_([a-z0-9][a-z0-9-]{0,62})_[A-Z2-7]{26}$`)

// shopOfKey returns the shop that a key claims to belong to.
func (k *APIKeyAuth) shopOfKey(key string) (shopify.Shop, error) {
	if own := k.Merchant.Merchants.Own(); own != "" {
		return own, nil
	}
	parts := keyShape.FindStringSubmatch(key)
	if parts == nil {
		return "", errNoKey
	}
	return shopify.ShopOfHandle(parts[1])
}

// shopperOf parses a customer id, which is Shopify's, or "recharge:" followed by Recharge's.
func shopperOf(shop shopify.Shop, customer string) (store.Shopper, error) {
	if text, ok := strings.CutPrefix(customer, "recharge:"); ok {
		id, err := parseRechargeID(text)
		return store.Shopper{Shop: shop, RechargeID: id}, err
	}
	id, err := shopify.ParseCustomerGID(customer)
	return store.Shopper{Shop: shop, Customer: id}, err
}

// parseRechargeID parses Recharge's customer id, a positive number in its canonical form.
func parseRechargeID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != s {
		return 0, errors.New("not the id of a Recharge customer")
	}
	return id, nil
}

func visitOf(destination, locale, country, back string) recharge.Visit {
	return recharge.Visit{To: recharge.ParseDestination(destination), Locale: recharge.ParseLocale(locale),
		Country: recharge.ParseCountry(country), Return: back}
}

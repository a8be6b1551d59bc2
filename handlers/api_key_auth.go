package handlers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// APIKeyAuth decides clicks for which no signature of Shopify's vouches, but a key of the
// shop's own middleware. They have the same lookup, limit, links and outcomes as any.
type APIKeyAuth struct {
	Resolver *portal.Resolver
	Store    *store.Store
	Own      []portallink.Secret // of the keys of the shop that is configured here
}

var (
	errNoKey = errors.New("no key of this shop's")
	errUsed  = errors.New("the link has been used")
)

// proof reports whether one of a shop's secrets is behind a request. It must take the
// same time whichever it is.
type proof func([]portallink.Secret) bool

// resolve decides a shopper's click if proven says so and then before lets it, which may
// be nil. It reports whether the shop is proven: before that, nothing of a request is to
// be trusted, not even for the log. Like any click it goes on when the shopper leaves: a
// link that is half used would be of no use to anybody.
func (k *APIKeyAuth) resolve(
	ctx context.Context, request portal.Request, trace *portal.Trace, proven proof, before func(context.Context) error,
) (result portal.Result, trusted bool) {
	defer portal.Recover(&result)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.Resolver.Timeout)
	defer cancel()
	who, secrets := request.Shopper, k.Own
	switch own := k.Resolver.Merchants.Own(); {
	case own == "":
		loaded := k.Resolver.Load(ctx, who, trace)
		if loaded.Err != nil && loaded.Record == nil {
			return portal.Result{Outcome: portal.Unavailable, Cause: portal.ErrRedisDown}, false
		}
		request.Loaded, secrets = &loaded, secretsOf(loaded.Record)
	case own != who.Shop:
		secrets = nil
	}
	if !proven(secrets) {
		return portal.Result{Outcome: portal.Forbidden, Cause: errNoKey}, false
	}
	if before != nil {
		if err := before(ctx); errors.Is(err, errUsed) {
			return portal.Result{Outcome: portal.Forbidden, Cause: err}, true
		} else if err != nil {
			return portal.Result{Outcome: portal.Unavailable, Cause: err}, true
		}
	}
	return k.Resolver.Resolve(ctx, request, trace), true
}

// secrets are those of a shop.
func (k *APIKeyAuth) secrets(ctx context.Context, shop shopify.Shop) ([]portallink.Secret, error) {
	if own := k.Resolver.Merchants.Own(); own != "" {
		if shop != own {
			return nil, nil
		}
		return k.Own, nil
	}
	record, err := k.Store.Record(ctx, shop)
	if err != nil {
		return nil, portal.ErrRedisDown
	}
	return secretsOf(record), nil
}

func secretsOf(record *store.Record) []portallink.Secret {
	if record == nil || record.Connection == nil {
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

var (
	// keyShape is of the keys that are made in the app home: they name the shop, by
	// its name at Shopify without what all have in common.
	keyShape      = regexp.MustCompile(`^mspk_([a-z0-9][a-z0-9-]{0,62})_[A-Z2-7]{26}$`)
	rechargeShape = regexp.MustCompile(`^recharge:([1-9][0-9]{0,18})$`)
)

// newKey is a key that names its shop.
func newKey(shop shopify.Shop, random string) string {
	return "mspk_" + shop.Handle() + "_" + random
}

// shopOfKey is the shop whose key that could be.
func (k *APIKeyAuth) shopOfKey(key string) (shopify.Shop, error) {
	if own := k.Resolver.Merchants.Own(); own != "" {
		return own, nil
	}
	parts := keyShape.FindStringSubmatch(key)
	if parts == nil {
		return "", errNoKey
	}
	return shopify.ShopOfHandle(parts[1])
}

// customerGID stands before the id in Shopify's Customer Account API.
const customerGID = "gid://shopify/Customer/"

var errNobody = errors.New("not a customer's id")

// shopperOf reads who is meant: Shopify's id, alone or as its Customer Account API has
// it, or "recharge:" and Recharge's.
func shopperOf(shop shopify.Shop, customer string) (store.Shopper, error) {
	if id, err := shopify.ParseCustomerID(strings.TrimPrefix(customer, customerGID)); err == nil {
		return store.Shopper{Shop: shop, Customer: id}, nil
	}
	parts := rechargeShape.FindStringSubmatch(customer)
	if parts == nil {
		return store.Shopper{}, errNobody
	}
	id, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return store.Shopper{}, fmt.Errorf("%w: too large", errNobody)
	}
	return store.Shopper{Shop: shop, RechargeID: id}, nil
}

func visitOf(destination, locale string) recharge.Visit {
	return recharge.Visit{To: recharge.ParseDestination(destination), Locale: recharge.ParseLocale(locale)}
}

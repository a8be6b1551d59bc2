package handlers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Vouched opens clicks for which no signature of Shopify's vouches, but a key of the
// shop's own middleware. It has the same lookup, budget, links and outcomes as any.
type Vouched struct {
	Clicks *Clicks
	Store  *store.Store
	Shops  *Shops
	Own    []portallink.Secret // of the keys of the shop that is configured here
}

var (
	errNoKey = errors.New("no key of this shop's")
	errUsed  = errors.New("the link has been used")
)

// proof tells whether one of a shop's secrets is behind a request. It must take the
// same time whichever it is.
type proof func([]portallink.Secret) bool

// open ends a shopper's click if proven says so and then before lets it, which may
// be nil. It tells whether the shop is proven: before, nothing of a request is to be
// trusted, not even for the log. What is proven is proven by each request for
// itself, outside of the turn that it may share with others. Like any click it goes on
// when the shopper leaves: a link that is half used would be of no use to anybody.
func (v *Vouched) open(ctx context.Context, who store.Shopper, visit store.Visit, proven proof, before func(context.Context) error) (ending Ending, trusted bool) {
	defer func() {
		if value := recover(); value != nil {
			ending = Ending{Outcome: Unavailable, Cause: &panicked{value, debug.Stack()}}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.Clicks.Timeout)
	defer cancel()
	trail := trailOf(ctx)
	var known *store.Memory
	secrets := v.Own
	if v.Shops.Own == "" {
		recalled := trail.begin(stepRecall)
		memory := v.Store.RecallNow(ctx, who, visit)
		recalled(nil)
		if memory.Lost {
			return Ending{Outcome: Unavailable, Cause: errLost}, false
		}
		known, secrets = &memory, secretsOf(memory.Connection)
	} else if who.Shop != v.Shops.Own {
		secrets = nil
	}
	if !proven(secrets) {
		return Ending{Outcome: Forbidden, Cause: errNoKey}, false
	}
	if before != nil {
		if err := before(ctx); errors.Is(err, errUsed) {
			return Ending{Outcome: Forbidden, Cause: err}, true
		} else if err != nil {
			return Ending{Outcome: Unavailable, Cause: err}, true
		}
	}
	return v.Clicks.openFrom(ctx, who, visit, known), true
}

// secrets are those of a shop.
func (v *Vouched) secrets(ctx context.Context, shop shopify.Shop) ([]portallink.Secret, error) {
	if own := v.Shops.Own; own != "" {
		if shop != own {
			return nil, nil
		}
		return v.Own, nil
	}
	connection, err := v.Store.Connection(ctx, shop)
	if err != nil {
		return nil, errLost
	}
	return secretsOf(connection), nil
}

func secretsOf(connection *store.Connection) []portallink.Secret {
	if connection == nil {
		return nil
	}
	var secrets []portallink.Secret
	for _, key := range connection.PortalKeys {
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
	shopifyShape  = regexp.MustCompile(`^(?:gid://shopify/Customer/)?([1-9][0-9]{0,19})$`)
	rechargeShape = regexp.MustCompile(`^recharge:([1-9][0-9]{0,18})$`)
)

const shopDomain = ".myshopify.com"

// newKey is a key that names its shop.
func newKey(shop shopify.Shop, random string) string {
	return "mspk_" + strings.TrimSuffix(string(shop), shopDomain) + "_" + random
}

// shopOfKey is the shop whose key that could be.
func (v *Vouched) shopOfKey(key string) (shopify.Shop, error) {
	if v.Shops.Own != "" {
		return v.Shops.Own, nil
	}
	parts := keyShape.FindStringSubmatch(key)
	if parts == nil {
		return "", errNoKey
	}
	return shopify.ParseShop(parts[1] + shopDomain)
}

var errNobody = errors.New("not a customer's id")

// shopperOf reads who is meant: Shopify's id, alone or as its Customer Account API has
// it, or "recharge:" and Recharge's.
func shopperOf(shop shopify.Shop, customer string) (store.Shopper, error) {
	if parts := shopifyShape.FindStringSubmatch(customer); parts != nil {
		return store.Shopper{Shop: shop, Customer: shopify.CustomerID(parts[1])}, nil
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

func visitOf(destination, locale string) store.Visit {
	return store.Visit{To: recharge.ParseDestination(destination), Locale: recharge.ParseLocale(locale)}
}

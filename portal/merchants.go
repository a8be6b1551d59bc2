package portal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Merchant is a shop that has connected Recharge.
type Merchant struct {
	Client         *recharge.Client
	LegacyAccounts bool // the store signs in at /account/login
	ByHash         bool // never ask for a signed-in link

	of *store.Record // the record it was made from; nil: the shop is configured here
}

// Settings are shared by the clients of all shops.
type Settings struct {
	recharge.Options              // those that do not depend on the shop
	Defaults         store.Traits // for a shop where nothing was detected or chosen
}

// Merchants knows which shops have connected Recharge, and keeps a client for each. It
// is safe for concurrent use.
type Merchants struct {
	store    *store.Store
	settings Settings
	own      shopify.Shop // "": many-store mode
	single   *Merchant    // of own; nil: not connected

	mu  sync.Mutex // held while a client is made
	all sync.Map   // shopify.Shop to *Merchant
}

// NewMerchants returns the merchants of many-store mode, who connect their own shops or, if configured
// is not nil, only the shop configured here. Without a token, that shop has not connected Recharge.
func NewMerchants(s *store.Store, settings Settings, configured *store.Connection) (*Merchants, error) {
	m := &Merchants{store: s, settings: settings}
	if configured == nil {
		return m, nil
	}
	m.own = configured.Shop
	if configured.APIToken == "" {
		return m, nil
	}
	var err error
	m.single, err = m.make(configured)
	return m, err
}

// Own returns the shop that is configured here; "" in many-store mode.
func (m *Merchants) Own() shopify.Shop { return m.own }

// Single returns the merchant that is configured here; nil if not connected, or in many-store mode.
func (m *Merchants) Single() *Merchant { return m.single }

// ErrRedisDown means that we cannot tell whether a shop is connected, since Redis does not answer.
var ErrRedisDown = errors.New("not known whether the shop has connected Recharge: Redis does not answer")

// Find returns a shop's merchant, or nil if it has not connected Recharge.
func (m *Merchants) Find(ctx context.Context, shop shopify.Shop) (*Merchant, error) {
	if m.own != "" {
		return m.Of(shop, nil)
	}
	record, err := m.store.Record(ctx, shop)
	if err != nil {
		return nil, errors.Join(ErrRedisDown, onlyUnreadable(err))
	}
	return m.Of(shop, record)
}

// Of is Find with a record that was just loaded, nil if there is none. In one-store mode, another
// shop may have installed the app, too. Shopify signs its clicks, but it has no connection here.
func (m *Merchants) Of(shop shopify.Shop, record *store.Record) (*Merchant, error) {
	switch {
	case m.own == shop:
		return m.single, nil
	case m.own != "":
		return nil, nil
	case record == nil || record.Connection == nil:
		m.all.Delete(shop)
		return nil, nil
	}
	// A record never changes, so its merchant is made only once.
	if last := m.last(shop); last != nil && last.of == record {
		return last, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	merchant, err := m.make(record.Connection)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	merchant.of = record
	m.all.Store(shop, merchant)
	return merchant, nil
}

func (m *Merchants) last(shop shopify.Shop) *Merchant {
	if last, ok := m.all.Load(shop); ok {
		return last.(*Merchant)
	}
	return nil
}

func (m *Merchants) make(connection *store.Connection) (*Merchant, error) {
	client, err := m.Client(connection)
	if err != nil {
		return nil, err
	}
	traits := m.Traits(connection)
	return &Merchant{Client: client, LegacyAccounts: traits.Accounts == "legacy", ByHash: traits.Link == "hash"}, nil
}

// Traits returns the traits that apply to a shop: chosen, or else detected, or else by default.
func (m *Merchants) Traits(connection *store.Connection) store.Traits {
	portal := store.Traits{PortalURL: recharge.DefaultPortal(string(connection.Shop))}
	return connection.Chosen.Or(connection.Detected).Or(m.settings.Defaults).Or(portal)
}

// Client returns a client for a connection, saved or not. If the token is the one that the shop's
// clicks use, the client shares their limiter, and so their budget of calls.
func (m *Merchants) Client(connection *store.Connection) (*recharge.Client, error) {
	portal, err := recharge.ParsePortalURL(m.Traits(connection).PortalURL, m.settings.AppURL)
	if err != nil {
		return nil, err
	}
	options := m.settings.Options
	options.Shop, options.PortalURL = string(connection.Shop), portal
	options.Token, options.StorefrontToken = connection.APIToken, connection.StorefrontToken
	if last := m.last(connection.Shop); last != nil && last.Client.Token() == connection.APIToken {
		options.Limiter = last.Client.Limiter()
	}
	return recharge.NewClient(options), nil
}

// All returns the merchant that is configured here, or every merchant that this process has looked up.
func (m *Merchants) All() map[shopify.Shop]*Merchant {
	all := map[shopify.Shop]*Merchant{}
	if m.single != nil {
		all[m.own] = m.single
	}
	m.all.Range(func(shop, one any) bool {
		all[shop.(shopify.Shop)] = one.(*Merchant)
		return true
	})
	return all
}

// Forget drops a shop's client and its tokens. After an uninstall, no click comes that would do so.
func (m *Merchants) Forget(shop shopify.Shop) { m.all.Delete(shop) }

package portal

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Merchant is a shop that has connected Recharge.
type Merchant struct {
	Client         *recharge.Client
	LegacyAccounts bool      // the store signs in at /account/login
	NoAccess       bool      // never ask for portal access, because links are by hash or InAccount
	InAccount      bool      // the portal is a page in the Shopify account, which needs no link of one's own
	Path           string    // the app's path on the storefront when it was last seen
	Reached        bool      // a click or a try has ended in the portal
	NextLook       time.Time // when a refused link may cause the traits to be detected again
	movedAt        time.Time // when the portal was last seen to have moved; zero: never
	Campaigns      []store.Campaign

	of *store.Record // the record it was made from; nil: there is none yet
}

// Settings are shared by the clients of all shops.
type Settings struct {
	recharge.Options              // those that do not depend on the shop
	Defaults         store.Traits // for a shop where nothing was detected or chosen
}

// Merchants knows which shops have connected Recharge, and keeps a client for each. It
// is safe for concurrent use.
type Merchants struct {
	store      *store.Store
	settings   Settings
	configured *store.Connection // nil: many-store mode

	mu  sync.Mutex // held while a client is made
	all sync.Map   // shopify.Shop to *Merchant
}

// NewMerchants returns the merchants of many-store mode, who connect their own shops or, if configured
// is not nil, only the shop configured here. Without a token, that shop has not connected Recharge.
func NewMerchants(s *store.Store, settings Settings, configured *store.Connection) (*Merchants, error) {
	m := &Merchants{store: s, settings: settings, configured: configured}
	_, err := m.Of(m.Own(), nil)
	return m, err
}

// Own returns the shop that is configured here; "" in many-store mode.
func (m *Merchants) Own() shopify.Shop {
	if m.configured == nil {
		return ""
	}
	return m.configured.Shop
}

// Single returns the merchant that is configured here; nil if not connected, or in many-store mode.
func (m *Merchants) Single() *Merchant {
	single, _ := m.Of(m.Own(), nil) // NewMerchants has made it once
	return single
}

// ErrRedisDown means that we cannot tell whether a shop is connected, since Redis does not answer.
var ErrRedisDown = errors.New("not known whether the shop has connected Recharge: Redis does not answer")

// Find returns a shop's merchant, or nil if it has not connected Recharge.
func (m *Merchants) Find(ctx context.Context, shop shopify.Shop) (*Merchant, error) {
	if m.configured != nil {
		return m.Of(shop, nil)
	}
	record, err := m.store.Record(ctx, shop)
	if err != nil {
		return nil, errors.Join(ErrRedisDown, onlyUnreadable(err))
	}
	return m.Of(shop, record)
}

// Connection returns a shop's connection, or nil if it has none. record is the shop's, nil if it has
// none or was not read. In one-store mode it only holds what is not configured, and another shop that has
// installed the app, too, has no connection here, although Shopify signs its clicks.
func (m *Merchants) Connection(shop shopify.Shop, record *store.Record) *store.Connection {
	switch {
	case m.configured == nil && !record.Connected():
		return nil
	case m.configured == nil:
		return record.Connection
	case m.configured.Shop != shop || m.configured.APIToken == "":
		return nil
	}
	connection := *m.configured
	if record != nil && record.Connection != nil {
		seen := record.Connection
		connection.Detected, connection.Look, connection.Webhooks = seen.Detected, seen.Look, seen.Webhooks
		connection.Campaigns, connection.Reported = seen.Campaigns, seen.Reported
		connection.ReportTo, connection.ReportIn = seen.ReportTo, seen.ReportIn
	}
	return &connection
}

// Of is Find with a record that was just loaded, nil if there is none. The configured shop needs none, so
// its last one is used.
func (m *Merchants) Of(shop shopify.Shop, record *store.Record) (*Merchant, error) {
	if record == nil && m.configured != nil {
		record = m.store.Seen(shop)
	}
	// A record never changes, so its merchant is made only once.
	if last := m.last(shop); last != nil && last.of == record {
		return last, nil
	}
	connection := m.Connection(shop, record)
	if connection == nil {
		m.all.Delete(shop)
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	merchant, err := m.make(connection)
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
	merchant := &Merchant{
		Client: client, LegacyAccounts: traits.Accounts == "legacy", InAccount: client.HasAccountPage(),
		NoAccess: traits.Link == "hash" || client.HasAccountPage(), Path: traits.Path, Reached: traits.Reached,
		NextLook: connection.Look.Next(), Campaigns: connection.Campaigns,
	}
	for _, change := range connection.Look.Changes {
		if change.What == store.PortalMoved {
			merchant.movedAt = change.At
		}
	}
	return merchant, nil
}

// prepares reports whether accesses that were made for a campaign are used now. Those of one that was
// cancelled are not, and neither are those from before a new token.
func (m *Merchant) prepares(campaign string, now time.Time) bool {
	return slices.ContainsFunc(m.Campaigns, func(c store.Campaign) bool { return c.ID == campaign && !c.Over(now) })
}

// Traits returns the traits that apply to a shop: chosen, or else detected, or else by default. AccountPage
// is "" if it is not on a host of the store's, or if the store has legacy accounts, where nobody has such
// a page. A portal in the Shopify account cannot be opened then, and clicks go on as in other stores.
func (m *Merchants) Traits(connection *store.Connection) store.Traits {
	usual := store.Traits{PortalURL: recharge.DefaultPortal(string(connection.Shop))}
	traits := connection.Chosen.Or(connection.Detected).Or(m.settings.Defaults).Or(usual)
	page, err := recharge.ParseAccountPage(
		traits.AccountPage, string(connection.Shop), traits.AccountHost, m.settings.AppURL)
	traits.AccountPage = ""
	if err == nil && traits.Accounts != "legacy" {
		traits.AccountPage = page.String()
	}
	return traits
}

// Client returns a client for a connection, saved or not. If the token is the one that the shop's
// clicks use, the client shares their limiter, and so their budget of calls.
func (m *Merchants) Client(connection *store.Connection) (*recharge.Client, error) {
	traits := m.Traits(connection)
	portal, err := recharge.ParsePortalURL(traits.PortalURL, m.settings.AppURL)
	if err != nil {
		return nil, err
	}
	options := m.settings.Options
	options.Shop, options.PortalURL = string(connection.Shop), portal
	if traits.Link == "account" && traits.AccountPage != "" {
		options.AccountPage, _ = url.Parse(traits.AccountPage) // Traits has parsed it
	}
	options.Token, options.StorefrontToken = connection.APIToken, connection.StorefrontToken
	if last := m.last(connection.Shop); last != nil && last.Client.Token() == connection.APIToken {
		options.Limiter = last.Client.Limiter()
	}
	return recharge.NewClient(options), nil
}

// All returns the merchant that is configured here, or every merchant that this process has looked up.
func (m *Merchants) All() map[shopify.Shop]*Merchant {
	all := map[shopify.Shop]*Merchant{}
	m.all.Range(func(shop, one any) bool {
		all[shop.(shopify.Shop)] = one.(*Merchant)
		return true
	})
	return all
}

// Known reports whether All has a shop.
func (m *Merchants) Known(shop shopify.Shop) bool { return m.last(shop) != nil }

// Forget drops a shop's client and its tokens. After an uninstall, no click comes that would do so.
func (m *Merchants) Forget(shop shopify.Shop) { m.all.Delete(shop) }

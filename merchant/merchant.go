// Package merchant does what a merchant asks for in the app home: connect Recharge, change
// what was detected, try a customer, disconnect. It also keeps the shops' webhooks at
// Recharge registered. It knows nothing of HTTP. Every sentence a merchant reads is in
// words.go, keyed by reason.
package merchant

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/importer"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Service works for the merchants of all shops. It is safe for concurrent use.
type Service struct {
	Merchants *portal.Merchants
	Resolver  *portal.Resolver
	Store     *store.Store
	Recorder  *portal.Recorder
	Platform  shopify.Platform
	AppURL    *url.URL
	Secret    string             // signs the webhooks of the configured store; "": they are refused
	Defaults  store.Traits       // of a shop where nothing was detected or chosen
	Importer  *importer.Importer // nil: customers are not imported
	Log       *slog.Logger
	Now       func() time.Time

	busy         sync.Map  // by shop: something is under way
	singleKeptAt time.Time // when all webhooks of the configured store were last registered
	leaving      sync.WaitGroup
}

// Begin lets each shop do one thing at a time that costs calls, or waits for the disk. It
// returns nil if another is under way, and otherwise what ends it.
func (s *Service) Begin(shop shopify.Shop) (end func()) {
	if _, busy := s.busy.LoadOrStore(shop, true); busy {
		return nil
	}
	return func() { s.busy.Delete(shop) }
}

// Connection returns how a shop is connected; nil if it is not.
func (s *Service) Connection(ctx context.Context, shop shopify.Shop) (*store.Connection, error) {
	record, err := s.Store.Record(ctx, shop)
	if err != nil || record == nil {
		return nil, err
	}
	return record.Connection, nil
}

// Update changes the connection of a shop that has one, and reports whether it has.
func (s *Service) Update(ctx context.Context, shop shopify.Shop, change func(*store.Connection) bool) (bool, error) {
	connected := false
	err := s.Store.Update(ctx, shop, func(r *store.Record) bool {
		connected = r.Connection != nil
		return connected && change(r.Connection)
	})
	return connected, err
}

// Traits returns those of a connection, with the defaults for what is not known.
func (s *Service) Traits(connection *store.Connection) store.Traits {
	traits := connection.Traits()
	return store.Traits{
		PortalURL: cmp.Or(traits.PortalURL, recharge.DefaultPortal(string(connection.Shop)).String()),
		Accounts:  cmp.Or(traits.Accounts, s.Defaults.Accounts),
		Link:      cmp.Or(traits.Link, s.Defaults.Link),
	}
}

// SaveChosen saves what the merchant chooses instead of what was detected, and returns
// what to tell them. ok is false if a choice is not one that the page offers.
func (s *Service) SaveChosen(ctx context.Context, shop shopify.Shop, chosen store.Traits) (said Said, ok bool) {
	if chosen.PortalURL = strings.TrimSpace(chosen.PortalURL); chosen.PortalURL != "" {
		portal, err := recharge.ParsePortalURL(chosen.PortalURL)
		if err != nil || portal.Scheme != s.AppURL.Scheme { // http is for a server on loopback, in tests
			return bad(notAPortal), true
		}
		chosen.PortalURL = portal.String()
	}
	accounts := map[string]bool{"": true, "new": true, "legacy": true}
	links := map[string]bool{"": true, "signed_in": true, "hash": true}
	if !accounts[chosen.Accounts] || !links[chosen.Link] {
		return Said{}, false
	}
	connected, err := s.Update(ctx, shop, func(connection *store.Connection) bool {
		connection.Chosen = chosen // SavedAt stays, since the installation is the same
		return true
	})
	switch {
	case err != nil:
		return bad("Not saved: " + tryLater), true
	case !connected:
		return bad("Not saved: the store is not connected."), true
	}
	return Said{Text: "Saved."}, true
}

// Disconnect erases what the merchant pasted and what is cached of the shop's shoppers.
// The webhooks at Recharge are removed first, while there is a token to do it with.
func (s *Service) Disconnect(ctx context.Context, shop shopify.Shop) Said {
	connection, err := s.Connection(ctx, shop)
	if connection != nil {
		s.removeWebhooks(ctx, connection)
	}
	if err == nil {
		_, err = s.Store.EraseShop(ctx, store.Erasure{Shop: shop})
	}
	if err != nil {
		s.Log.ErrorContext(ctx, "not disconnected", "shop", string(shop), "cause", err)
		return bad("Not disconnected: " + tryLater)
	}
	s.Log.InfoContext(ctx, "disconnected", "shop", string(shop))
	return Said{Text: "Disconnected. Everything saved here was erased."}
}

// Uninstalled ends the installation of the app that ended at a time. What was saved later
// belongs to the next installation, since Shopify's message can be hours late. The webhooks
// at Recharge are removed afterwards, as Shopify does not wait for Recharge.
func (s *Service) Uninstalled(ctx context.Context, shop shopify.Shop, at time.Time) error {
	erasure := store.Erasure{Shop: shop, Uninstalled: at, SavedUntil: at.Add(store.ClockSkew)}
	erased, err := s.Store.EraseShop(ctx, erasure)
	if err == nil && erased != nil && erased.Connection != nil {
		s.Merchants.Forget(shop)
		s.leaving.Go(func() { s.removeWebhooks(context.Background(), erased.Connection) })
	}
	return err
}

// Wait returns when no webhooks are being removed any more.
func (s *Service) Wait() { s.leaving.Wait() }

// calls lets do make calls for a connection, saved or not, within the limit that it shares
// with the shop's clicks. A 429 holds back both.
func (s *Service) calls(
	ctx context.Context, connection *store.Connection, do func(*recharge.Client, *recharge.Grant) error,
) error {
	client, err := s.Merchants.Client(connection)
	if err != nil {
		return err
	}
	return s.with(ctx, connection.Shop, client, do)
}

func (s *Service) with(
	ctx context.Context, shop shopify.Shop, client *recharge.Client, do func(*recharge.Client, *recharge.Grant) error,
) error {
	grant, err := client.Limiter().Reserve(ctx, s.Store.Limiter(shop), recharge.Ask{recharge.Normal: 1})
	if err != nil {
		return err
	}
	defer func() {
		grant.Release(ctx)
		s.Recorder.Calls(shop, grant.Calls())
	}()
	return do(client, grant)
}

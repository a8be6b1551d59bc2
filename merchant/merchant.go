// Package merchant implements the actions of the app home: connect Recharge, edit detected
// settings, try a customer, disconnect. It also keeps the shops' webhooks registered at Recharge.
// It knows nothing of HTTP. Its sentences are in templates/admin.
package merchant

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Service works for the merchants of all shops. It is safe for concurrent use.
type Service struct {
	*portal.Resolver // whose store, merchants and clock the service shares

	Recorder *portal.Recorder
	Platform shopify.Platform
	AppURL   *url.URL
	Importer *importer.Importer // nil if customers are not imported
	Notifier Notifier           // nil if the operator wants no notices
	Log      *slog.Logger
	NoLook   bool       // detect no traits, except when a merchant connects
	Doubts   chan Doubt // from Noticed to Watch; nil if nothing watches

	busy    sync.Map // the shops with an action under way
	away    sync.Map // shopify.Shop to *away
	started bool     // Maintain, its only user, has looked at the configured store
	leaving sync.WaitGroup
}

// Begin lets each shop run only one action at a time that calls Recharge or waits for the disk. It
// returns the function that ends the action, or nil if another one is under way.
func (s *Service) Begin(shop shopify.Shop) (end func()) {
	if _, busy := s.busy.LoadOrStore(shop, true); busy {
		return nil
	}
	return func() { s.busy.Delete(shop) }
}

// Connection returns a shop's connection, or nil if it has none.
func (s *Service) Connection(ctx context.Context, shop shopify.Shop) (*store.Connection, error) {
	record, err := s.Store.Record(ctx, shop)
	return s.Merchants.Connection(shop, record), err
}

// change saves what Recharge or the store has shown for a connection. It saves nothing if the merchant has
// connected again in the meantime, perhaps to another account.
func (s *Service) change(
	ctx context.Context, connection *store.Connection, change func(*store.Connection) bool,
) error {
	_, err := s.Store.UpdateConnection(ctx, connection.Shop, func(c *store.Connection) bool {
		return c.SavedAt.Equal(connection.SavedAt) && change(c)
	})
	return err
}

// SaveChosen saves the merchant's choices, which override detected settings, and returns what to
// tell them. ok is false if the page does not offer one of the choices.
func (s *Service) SaveChosen(ctx context.Context, shop shopify.Shop, chosen store.Traits) (said Said, ok bool) {
	if !offered(chosen) {
		return Said{}, false
	}
	return s.saveChosen(ctx, shop, &chosen, func(last store.Traits) store.Traits {
		chosen.Affinity = chosen.Affinity || last.Affinity && chosen.Link != "account"
		return chosen
	}), true
}

// saveChosen checks what a merchant has chosen, and saves what over makes of it and of what was chosen last.
func (s *Service) saveChosen(
	ctx context.Context, shop shopify.Shop, chosen *store.Traits, over func(last store.Traits) store.Traits,
) Said {
	seen, problem := s.checkChosen(ctx, shop, chosen)
	if problem != "" {
		said := bad("not saved", sentence(problem))
		if said.Field = "page"; problem == "wrong portal" {
			said.Field = "portal"
		}
		return said
	}
	connected, err := s.Store.UpdateConnection(ctx, shop, func(connection *store.Connection) bool {
		connection.Chosen = over(connection.Chosen) // SavedAt stays, since the installation is the same
		connection.Learn(seen, s.Now())
		return true
	})
	return saved(connected, err)
}

// saved tells the merchant whether UpdateConnection has saved a change, by its results.
func saved(connected bool, err error) Said {
	switch {
	case err != nil:
		return bad("not saved, database")
	case !connected:
		return bad("not saved, not connected")
	}
	return Said{Text: sentence("saved")}
}

func offered(chosen store.Traits) bool {
	return slices.Contains([]string{"", "new", "legacy"}, chosen.Accounts) &&
		slices.Contains([]string{"", "signed_in", "hash", "account"}, chosen.Link)
}

// checkChosen puts the addresses that a merchant has pasted into their usual form. It returns what it has
// detected for that, and the key of the sentence that says what is wrong; "" if nothing is.
func (s *Service) checkChosen(
	ctx context.Context, shop shopify.Shop, chosen *store.Traits,
) (seen store.Traits, problem string) {
	if chosen.PortalURL = strings.TrimSpace(chosen.PortalURL); chosen.PortalURL != "" {
		portal, err := recharge.ParsePortalURL(chosen.PortalURL, s.AppURL)
		if err != nil {
			return seen, "wrong portal"
		}
		chosen.PortalURL = portal.String()
	}
	chosen.AccountPage = strings.TrimSpace(chosen.AccountPage)
	if chosen.AccountPage == "" && chosen.Link == "account" {
		return seen, "no account page"
	}
	if chosen.AccountPage == "" {
		return seen, ""
	}
	// Only the store's own sign-in tells which host has its customers' accounts, besides Shopify's.
	const shopifys = "shopify.com"
	page, err := recharge.ParseAccountPage(chosen.AccountPage, string(shop), shopifys, s.AppURL)
	if err != nil {
		var notSeen error
		if seen, notSeen = s.detectAccounts(ctx, shop, func(Step) {}); notSeen != nil {
			return seen, "account page not checked"
		}
		host := cmp.Or(seen.AccountHost, shopifys)
		page, err = recharge.ParseAccountPage(chosen.AccountPage, string(shop), host, s.AppURL)
	}
	if err != nil {
		return seen, "wrong account page"
	}
	chosen.AccountPage = page.String()
	return seen, ""
}

// Disconnect erases the tokens and what is cached for the shop's shoppers. It removes the webhooks
// at Recharge first, because that needs the token.
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
		return bad("not disconnected")
	}
	s.Log.InfoContext(ctx, "disconnected", "shop", string(shop))
	return Said{Text: sentence("disconnected")}
}

// Uninstalled erases the installation that ended at a time. Shopify's message can be hours late, so
// anything saved after that time belongs to the next installation. The webhooks at Recharge are
// removed in the background, because Shopify does not wait for Recharge.
func (s *Service) Uninstalled(ctx context.Context, shop shopify.Shop, at time.Time) error {
	erasure := store.Erasure{Shop: shop, Uninstalled: at, SavedUntil: at.Add(store.ClockSkew)}
	erased, err := s.Store.EraseShop(ctx, erasure)
	if err == nil && erased.Connected() {
		s.Merchants.Forget(shop)
		s.leaving.Go(func() { s.removeWebhooks(context.Background(), erased.Connection) })
	}
	return err
}

// Wait waits until all background removals of webhooks have ended.
func (s *Service) Wait() { s.leaving.Wait() }

// calls lets do make calls for a connection, saved or not.
func (s *Service) calls(
	ctx context.Context, connection *store.Connection, do func(*recharge.Client, *recharge.Grant) error,
) error {
	client, err := s.Merchants.Client(connection)
	if err != nil {
		return err
	}
	return s.Recorder.Call(ctx, connection.Shop, client, recharge.Normal, func(grant *recharge.Grant) error {
		return do(client, grant)
	})
}

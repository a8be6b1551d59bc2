package server

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/url"

	"manage-subscriptions/handlers"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// wireShops makes the one store that is configured here, or the place where
// merchants connect theirs.
func (s *server) wireShops() error {
	s.shops = &handlers.Shops{Store: s.store, Make: s.way}
	if s.cfg.Shop == "" {
		return nil
	}
	shop, err := shopify.ParseShop(s.cfg.Shop)
	if err != nil {
		return err
	}
	s.shops.Own = shop
	if s.cfg.RechargeAPIToken.Empty() {
		return nil
	}
	client := recharge.NewClient(s.clientOptions(shop, s.cfg.RechargePortalURL,
		s.cfg.RechargeAPIToken.Reveal(), s.cfg.RechargeStorefrontToken.Reveal()))
	s.shops.Mine = &handlers.Way{Client: client, LegacyAccounts: s.cfg.LegacyAccounts, ByHash: s.cfg.LinkByHash}
	return nil
}

func (s *server) clientOptions(shop shopify.Shop, portal *url.URL, token, storefront string) recharge.Options {
	return recharge.Options{
		Shop:            string(shop),
		APIURL:          s.cfg.RechargeAPIURL,
		PortalURL:       portal,
		Token:           token,
		StorefrontToken: storefront,
		Rate:            s.cfg.RechargeRate,
		Burst:           s.cfg.RechargeBurst,
		Timeout:         s.cfg.RechargeTimeout,
		Now:             s.now,
		HTTP:            s.calls,
		OnCall: func(ctx context.Context, call recharge.Call) {
			handlers.Called(ctx, call)
			s.metrics.Call(call)
			s.numbers.Call(shop, call.Failed)
		},
		Ledger: s.ledger(shop),
	}
}

// defaults are what holds for a shop where nothing was found out.
func (s *server) defaults() store.Traits {
	traits := store.Traits{Accounts: "new", Link: "signed_in"}
	if s.cfg.LegacyAccounts {
		traits.Accounts = "legacy"
	}
	if s.cfg.LinkByHash {
		traits.Link = "hash"
	}
	if s.cfg.RechargePortalURL != nil {
		traits.PortalURL = s.cfg.RechargePortalURL.String()
	}
	return traits
}

// connectedOptions are what a client for a connection is made with.
func (s *server) connectedOptions(connection *store.Connection) (recharge.Options, error) {
	portal := recharge.DefaultPortal(string(connection.Shop))
	if known := connection.Traits().PortalURL; known != "" {
		var err error
		if portal, err = recharge.ParsePortalURL(known); err != nil {
			return recharge.Options{}, err
		}
	}
	return s.clientOptions(connection.Shop, portal, connection.APIToken, connection.StorefrontToken), nil
}

// way is that of a connection. What the token's calls have spent does not come
// back by saving.
func (s *server) way(connection *store.Connection, last *handlers.Way) (*handlers.Way, error) {
	options, err := s.connectedOptions(connection)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	if last != nil {
		options.Like = last.Client
	}
	traits, defaults := connection.Traits(), s.defaults()
	return &handlers.Way{
		Client:         recharge.NewClient(options),
		LegacyAccounts: cmp.Or(traits.Accounts, defaults.Accounts) == "legacy",
		ByHash:         cmp.Or(traits.Link, defaults.Link) == "hash",
	}, nil
}

func (s *server) newAdmin(o options) (*handlers.Admin, error) {
	pages, err := templates.LoadAdmin()
	if err != nil {
		return nil, err
	}
	secrets := reveal(s.cfg.ShopifyAPISecrets)
	sessions, err := shopify.NewSessionTokens(s.cfg.ShopifyAPIKey, secrets, o.now)
	if err != nil {
		return nil, err
	}
	proofs, err := newProofs(s.cfg.ShopifyAPIKey, secrets, o)
	if err != nil {
		return nil, err
	}
	grant, err := shopify.NewGrant(shopify.GrantOptions{
		ClientID: s.cfg.ShopifyAPIKey, Secrets: secrets, CallbackURL: s.cfg.AppURL.JoinPath("app", "installed").String(),
		Platform: o.platform, Now: o.now,
	})
	if err != nil {
		return nil, err
	}
	return &handlers.Admin{
		ClientID: s.cfg.ShopifyAPIKey, AppURL: s.cfg.AppURL, Platform: o.platform,
		Sessions: sessions, Proofs: proofs, Grant: grant,
		Shops: s.shops, Store: s.store, Webhooks: s.webhooks, Numbers: s.numbers, Pages: pages,
		Defaults: s.defaults(), Options: s.connectedOptions,
		Log: o.log, Now: o.now, Wake: s.wakeUp, Indexer: s.indexer,
		HasKeys: len(s.cfg.PortalAPIKeys) > 0,
	}, nil
}

// newProofs derives their keys from the app's secrets, so that neither is ever
// taken for the other.
func newProofs(clientID string, secrets []string, o options) (*handlers.Proofs, error) {
	var keys []string
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "manage-subscriptions proof of installation", 32)
		if err != nil {
			return nil, err
		}
		keys = append(keys, string(key))
	}
	tokens, err := shopify.NewSessionTokens(clientID, keys, o.now)
	if err != nil {
		return nil, err
	}
	return &handlers.Proofs{ClientID: clientID, Key: keys[0], Tokens: tokens, Now: o.now}, nil
}

// leave tidies up at Recharge for a shop that has uninstalled the app, beside the
// answer to Shopify: it would not wait for Recharge's.
func (s *server) leave(connection *store.Connection) {
	s.shops.Forget(connection.Shop)
	s.leaving.Go(func() { s.admin.Leave(context.Background(), connection) })
}

// ledger is where the calls of all servers come together; none if this one is
// alone.
func (s *server) ledger(shop shopify.Shop) recharge.Ledger {
	if s.cfg.Redis == nil {
		return nil
	}
	return s.store.Ledger(shop)
}

package server

import (
	"manage-subscriptions/handlers"
	"manage-subscriptions/portal"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// wireMerchants makes the one configured store, or a registry of connected stores.
func (s *server) wireMerchants() error {
	settings := portal.Settings{
		APIURL: s.cfg.RechargeAPIURL, Rate: s.cfg.RechargeRate, Burst: s.cfg.RechargeBurst, Timeout: s.cfg.RechargeTimeout,
		HTTP: s.calls, Now: s.now, Defaults: s.defaults(),
	}
	if s.cfg.Shop == "" {
		s.merchants = portal.NewMerchants(s.store, settings)
		return nil
	}
	var err error
	token, storefront := s.cfg.RechargeAPIToken.Reveal(), s.cfg.RechargeStorefrontToken.Reveal()
	s.merchants, err = portal.NewSingle(s.store, settings, s.cfg.Shop, token, storefront)
	return err
}

// defaults apply to a shop where nothing was detected.
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

func (s *server) newAdmin(o options) (*handlers.Admin, error) {
	pages, err := templates.LoadAdmin()
	if err != nil {
		return nil, err
	}
	sessions, err := shopify.NewSessionTokens(s.cfg.ShopifyAPIKey, reveal(s.cfg.ShopifyAPISecrets), o.now)
	if err != nil {
		return nil, err
	}
	return &handlers.Admin{
		ClientID: s.cfg.ShopifyAPIKey, AppURL: s.cfg.AppURL, Sessions: sessions, Merchant: s.merchant, Pages: pages,
		HasKeys: len(s.cfg.PortalAPIKeys) > 0,
	}, nil
}

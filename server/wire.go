package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/handlers"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/server/metrics"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// open creates what every command needs. The store creates single's record, or replaces one of
// another account. If single is "", it changes nothing.
func open(cfg config.Config, o Options, single shopify.Shop) (*server, error) {
	s := &server{Options: o, cfg: cfg, calls: recharge.NewTransport(cfg.RechargeTimeout)}
	if s.Log == nil {
		s.lines = &lineBuffer{out: os.Stderr}
		s.Log = newLog(s.lines, cfg)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Network.Dial != nil { // Dial knows no proxy
		s.calls.Proxy, s.calls.DialContext = nil, s.Network.Dial
	}
	redis := cfg.Redis()
	if redis != nil {
		redis.Dialer = s.Network.Dial
	}
	// This identifies the one store's Recharge account and the secret of its webhooks.
	account := sha256.Sum256([]byte(cfg.RechargeAPIToken.Reveal() + "\x00" + cfg.RechargeClientSecret.Reveal()))
	var err error
	s.store, err = store.Open(store.Options{
		Redis: redis, Keys: encryptionKeys(cfg), CustomerTTL: cfg.CustomerTTL,
		Single: single, Account: hex.EncodeToString(account[:16]), Now: s.Now, Log: s.Log,
	})
	if err != nil {
		s.lines.flush()
		return nil, err
	}
	if err := s.wireMerchants(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// wire creates a server that is ready to listen.
func wire(cfg config.Config, o Options) (*server, error) {
	s, err := open(cfg, o, cfg.Shop)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	// With an emulated Recharge, the store is emulated, too, so that no test visits Shopify.
	s.NoLook = s.NoLook || recharge.Loopback(cfg.RechargeAPIURL.Hostname()) && len(s.Platform.Shops) == 0
	s.checking = logOnce{log: s.Log, what: "ask Redis whether it keeps what merchants save"}
	s.observed.Store(&metrics.State{})
	s.metrics = metrics.New(Version(), s, metrics.Shops{Named: s.cfg.MetricsShops, Top: s.cfg.MetricsTop})
	s.wireClicks()
	if err := s.wireRoutes(); err != nil {
		s.close()
		return nil, fmt.Errorf("wire: %w", err)
	}
	s.ops = s.opsServer()
	s.warn()
	return s, nil
}

func encryptionKeys(cfg config.Config) [][]byte {
	var keys [][]byte
	for _, key := range reveal(cfg.EncryptionKeys) {
		keys = append(keys, []byte(key))
	}
	if len(keys) > 0 {
		return keys
	}
	for _, secret := range reveal(cfg.ShopifyAPISecrets) {
		keys = append(keys, store.DeriveKey(secret))
	}
	return keys
}

func reveal(secrets []config.Secret) []string {
	out := make([]string, len(secrets))
	for i, secret := range secrets {
		out[i] = secret.Reveal()
	}
	return out
}

// wireClicks creates what a server needs to answer clicks, except their route.
func (s *server) wireClicks() {
	s.recorder = &portal.Recorder{Store: s.store, Log: s.Log, Meter: s.metrics}
	if s.cfg.TracesURL != nil {
		s.traces = newTraces(s.cfg, s.Log)
		s.recorder.Tracer = s.traces
	}
	if !s.NoIndex {
		s.importer = importer.New(s.resolver, s.recorder)
	}
	s.merchant = &merchant.Service{
		Resolver: s.resolver, Recorder: s.recorder, Platform: s.Platform, AppURL: s.cfg.AppURL,
		Importer: s.importer, Log: s.Log,
		NoLook: s.NoLook, Doubts: make(chan merchant.Doubt, 64),
	}
	if s.cfg.SMTP != nil || !s.cfg.NotifyURL.Empty() {
		s.merchant.Notifier = &notifier{s.cfg.SMTP, s.cfg.NotifyURL, recharge.NewTransport(notifyTimeout)}
	}
}

// wireMerchants sets up the one configured store or a registry of connected stores, and what resolves
// their clicks.
func (s *server) wireMerchants() (err error) {
	settings := portal.Settings{Defaults: s.chosen(), Options: recharge.Options{
		APIURL: s.cfg.RechargeAPIURL, Rate: s.cfg.RechargeRate, Burst: s.cfg.RechargeBurst, Timeout: s.cfg.RechargeTimeout,
		HTTP: s.calls, Now: s.Now, AppURL: s.cfg.AppURL,
	}}
	var configured *store.Connection
	if s.cfg.Shop != "" {
		configured = &store.Connection{
			Shop: s.cfg.Shop, APIToken: s.cfg.RechargeAPIToken.Reveal(), Chosen: s.chosen(),
			StorefrontToken: s.cfg.RechargeStorefrontToken.Reveal(), ClientSecret: s.cfg.RechargeClientSecret.Reveal(),
		}
	}
	s.merchants, err = portal.NewMerchants(s.store, settings, configured)
	s.resolver = &portal.Resolver{
		Store: s.store, Merchants: s.merchants, Timeout: s.cfg.ClickTimeout, LinkTTL: s.cfg.LinkTTL, Now: s.Now,
		NoPrepare: s.cfg.Prepare == "off", Once: s.cfg.Prepare == "once",
	}
	return err
}

// chosen returns the traits that the operator has set. Those that say "auto", or what is usual, are not
// chosen, so that what is detected counts.
func (s *server) chosen() (traits store.Traits) {
	if s.cfg.Accounts != "auto" {
		traits.Accounts = s.cfg.Accounts
	}
	if s.cfg.Link != "signed_in" {
		traits.Link = s.cfg.Link
	}
	if s.cfg.RechargePortalURL != nil {
		traits.PortalURL = s.cfg.RechargePortalURL.String()
	}
	if s.cfg.AccountPortalURL != nil {
		traits.AccountPage = s.cfg.AccountPortalURL.String()
	}
	return traits
}

func (s *server) wireRoutes() error {
	secrets := reveal(s.cfg.ShopifyAPISecrets)
	verifier, err := shopify.NewVerifier(secrets, s.Now)
	if err != nil {
		return err
	}
	sessions, err := shopify.NewSessionTokens(s.cfg.ShopifyAPIKey, secrets, s.Now)
	if err != nil {
		return err
	}
	pages := templates.Load()
	routes := []interface{ Register(e *echo.Echo) }{
		&handlers.Admin{
			ClientID: s.cfg.ShopifyAPIKey, Sessions: sessions, Merchant: s.merchant, Pages: templates.LoadAdmin(),
			HasKeys: len(s.cfg.PortalAPIKeys) > 0, Version: Version(), Contact: s.cfg.SupportContact,
		},
		&handlers.Portal{
			Verifier: verifier, Merchant: s.merchant, Pages: pages,
			LegacyAccounts: s.cfg.Accounts == "legacy", ByPage: s.cfg.RedirectByPage,
		},
		&handlers.Status{Verifier: verifier, Merchant: s.merchant},
		&handlers.ShopifyWebhooks{Verifier: verifier, Merchant: s.merchant},
		&handlers.RechargeWebhooks{Merchant: s.merchant},
	}
	auth := &handlers.APIKeyAuth{Merchant: s.merchant}
	links := &handlers.SignedLinks{APIKeyAuth: auth, Pages: pages}
	routes = append(routes, &handlers.SupportLinks{SignedLinks: links})
	// The routes for a store's own server need a key. Many stores make theirs in the admin.
	if s.merchants.Own() == "" || len(s.cfg.PortalAPIKeys) > 0 {
		for _, key := range reveal(s.cfg.PortalAPIKeys) {
			auth.Own = append(auth.Own, portallink.SecretOf(key))
		}
		routes = append(routes, &handlers.PortalLinks{APIKeyAuth: auth}, links, &handlers.Campaigns{APIKeyAuth: auth})
	}
	s.public = s.httpServer(func(e *echo.Echo) {
		e.Use(handlers.Headers(s.cfg.AppURL))
		for _, route := range routes {
			route.Register(e)
		}
	})
	return nil
}

// warn logs problems at the start that shoppers would otherwise be the first to notice.
func (s *server) warn() {
	for _, unknown := range s.cfg.Unknown {
		s.Log.Warn(unknown.Name+" "+unknown.What, "hint", unknown.Hint)
	}
	embedded := s.cfg.RedisURL.Empty()
	for _, warning := range []struct {
		text    string
		applies bool
	}{
		{"the store has not connected Recharge: every click ends in not_connected; set RECHARGE_API_TOKEN",
			s.merchants.Own() != "" && s.merchants.Single() == nil},
		{"no RECHARGE_STOREFRONT_TOKEN: sessions may be refused, and clicks then go on by hash",
			s.merchants.Single() != nil && s.cfg.Link != "hash" && s.cfg.RechargeStorefrontToken.Empty()},
		{"no REDIS_URL: what is cached is lost when this process ends", embedded},
		{"no REDIS_URL: used links are forgotten when this process ends, and unknown to other processes",
			embedded && len(s.cfg.PortalAPIKeys) > 0},
	} {
		if warning.applies {
			s.Log.Warn(warning.text)
		}
	}
}

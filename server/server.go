// Package server puts the program together and runs it: the same Run serves
// production, the sandbox and the end-to-end tests.
package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/config"
	"manage-subscriptions/handlers"
	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge"
	"manage-subscriptions/server/metrics"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// Run serves until ctx ends: then it is no longer ready, gives notice if it has
// been told how long, lets the clicks under way end, and returns. A nil error is an orderly end.
func Run(ctx context.Context, cfg config.Config, opts ...Option) error {
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	o := options{log: log, now: time.Now, listening: func(Addresses) {}}
	for _, opt := range opts {
		opt(&o)
	}
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.checkRedis(ctx); err != nil {
		return err
	}
	s.reachRedis(ctx)
	if err := s.listen(ctx); err != nil {
		return err
	}
	o.listening(Addresses{s.publicListener.Addr(), s.opsListener.Addr()})
	return s.serve(ctx)
}

// server is the program, wired.
type server struct {
	cfg       config.Config
	log       *slog.Logger
	now       func() time.Time
	store     *store.Store
	calls     *http.Transport // to Recharge, of all shops
	open      func(ctx context.Context, network, address string) (net.Listener, error)
	recorder  *portal.Recorder
	merchants *portal.Merchants
	admin     *handlers.Admin
	webhooks  *handlers.RechargeWebhooks
	importer  *handlers.Importer // nil: nobody is cached before they click
	health    *handlers.Health
	version   string
	metrics   *metrics.Metrics
	observed  atomic.Pointer[observation] // by the monitor
	traces    *traces                     // nil: no collector
	public    *http.Server
	ops       *http.Server
	adopted   bool // what is cached is of the account that is configured
	checked   bool // that Redis is fit; at first by Run, then by the jobs only
	checking  trouble
	notice    time.Duration

	publicListener net.Listener
	opsListener    net.Listener
}

func wire(cfg config.Config, o options) (*server, error) {
	s := &server{
		cfg: cfg, log: o.log, now: o.now, health: &handlers.Health{}, notice: o.notice,
		calls: newCalls(cfg, o.network), open: o.network.Listen, publicListener: o.public,
		checking: trouble{log: o.log, what: "ask Redis whether it keeps what merchants save"},
	}
	verifier, err := shopify.NewVerifier(reveal(cfg.ShopifyAPISecrets), o.now)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	pages, err := templates.Load()
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	if s.store, err = openStore(cfg, o); err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	s.version = Version()
	s.metrics = metrics.New(s.version, s)
	if s.traces, err = s.newTraces(); err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	if err := s.wireMerchants(); err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	s.recorder = &portal.Recorder{Store: s.store, Log: o.log, Meter: s.metrics}
	if s.traces != nil {
		s.recorder.Tracer = s.traces
	}
	resolver := &portal.Resolver{Store: s.store, Merchants: s.merchants, Timeout: cfg.ClickTimeout, LinkTTL: cfg.LinkTTL, Now: o.now}
	status := &handlers.Status{
		Verifier: verifier, Resolver: resolver, Recorder: s.recorder, Log: o.log, Observe: s.metrics.Status,
	}
	probes, err := shopify.NewProbes(reveal(cfg.ShopifyAPISecrets), o.now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	clicks := &handlers.Portal{
		Verifier: verifier, Resolver: resolver, Recorder: s.recorder, Pages: pages,
		LegacyAccounts: cfg.LegacyAccounts, ByPage: cfg.RedirectByPage, Now: o.now,
	}
	probe := &handlers.Probe{Verifier: verifier, Probes: probes, Portal: clicks, Log: o.log}
	if !o.noIndex {
		s.importer = &handlers.Importer{
			Store: s.store, Merchants: s.merchants, Recorder: s.recorder, Log: o.log, Now: o.now, Due: make(chan struct{}, 1),
		}
	}
	s.webhooks = &handlers.RechargeWebhooks{
		Store: s.store, Resolver: resolver, Recorder: s.recorder, Secret: cfg.RechargeClientSecret.Reveal(), AppURL: cfg.AppURL,
		Timeout: 4 * time.Second, Log: o.log, Now: o.now, Importer: s.importer,
		Observe: func(status int) { s.metrics.Webhook(metrics.FromRecharge, status) },
	}
	if s.admin, err = s.newAdmin(o); err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	fromShopify := &handlers.ShopifyWebhooks{
		Verifier: verifier, Store: s.store, Timeout: 4 * time.Second, Log: o.log, Now: o.now, Admin: s.admin,
		Observe: func(status int) { s.metrics.Webhook(metrics.FromShopify, status) },
	}
	s.public = s.httpServer(func(e *echo.Echo) {
		e.Use(handlers.Headers, handlers.StrictTransport(cfg.AppURL))
		clicks.Register(e)
		status.Register(e)
		probe.Register(e)
		fromShopify.Register(e)
		s.webhooks.Register(e)
		s.registerAPI(e, resolver, pages, o)
		err = s.admin.Register(e)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	s.ops = s.opsServer()
	s.warn()
	return s, nil
}

// registerAPI adds the routes for middleware of the shops' own. Where one store is
// configured here, there are none without a key; else each shop has its own keys, and
// those that have none are refused.
func (s *server) registerAPI(e *echo.Echo, resolver *portal.Resolver, pages *templates.Pages, o options) {
	if s.merchants.Own() != "" && len(s.cfg.PortalAPIKeys) == 0 {
		return
	}
	auth := &handlers.APIKeyAuth{Resolver: resolver, Store: s.store}
	for _, key := range reveal(s.cfg.PortalAPIKeys) {
		auth.Own = append(auth.Own, portallink.SecretOf(key))
	}
	(&handlers.PortalLinks{APIKeyAuth: auth, Recorder: s.recorder, Log: o.log, Now: o.now}).Register(e)
	(&handlers.SignedLinks{APIKeyAuth: auth, Recorder: s.recorder, Pages: pages, Home: o.platform.ShopURL, Now: o.now}).Register(e)
}

// newCalls carries the calls to Recharge. A network of its own has no proxy.
func newCalls(cfg config.Config, n Network) *http.Transport {
	calls := recharge.NewTransport(cfg.RechargeTimeout)
	if n.Dial != nil {
		calls.Proxy, calls.DialContext = nil, n.Dial
	}
	return calls
}

func reveal(secrets []config.Secret) []string {
	out := make([]string, len(secrets))
	for i, secret := range secrets {
		out[i] = secret.Reveal()
	}
	return out
}

func openStore(cfg config.Config, o options) (*store.Store, error) {
	single := cfg.Shop
	if o.readOnly {
		single = "" // its record is not made, nor replaced
	}
	redis := cfg.Redis.Options()
	if redis != nil {
		redis.Dialer = o.network.Dial
	}
	return store.Open(store.Options{
		Redis:       redis,
		Keys:        encryptionKeys(cfg),
		CustomerTTL: cfg.CustomerTTL,
		Single:      single,
		Account:     account(cfg),
		Now:         o.now,
		Log:         o.log,
	})
}

// account names the account at Recharge that the one store is connected to, and what signs
// its webhooks.
func account(cfg config.Config) string {
	digest := sha256.Sum256([]byte(cfg.RechargeAPIToken.Reveal() + "\x00" + cfg.RechargeClientSecret.Reveal()))
	return hex.EncodeToString(digest[:16])
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

// warn says at the start what would otherwise be found out by shoppers.
func (s *server) warn() {
	if s.merchants.Own() != "" && s.merchants.Single() == nil {
		s.log.Warn("the store has not connected Recharge: every click ends in not_connected; set RECHARGE_API_TOKEN")
	}
	if s.merchants.Single() != nil && !s.cfg.LinkByHash && s.cfg.RechargeStorefrontToken.Empty() {
		s.log.Warn("no RECHARGE_STOREFRONT_TOKEN: sessions may be refused, and clicks then go on by hash")
	}
	if s.cfg.Redis == nil {
		s.log.Warn("no REDIS_URL: what is cached is lost when this process ends")
	}
	if s.cfg.Redis == nil && len(s.cfg.PortalAPIKeys) > 0 {
		s.log.Warn("no REDIS_URL: that a signed link was used is forgotten when this process ends, and other processes do not know")
	}
}

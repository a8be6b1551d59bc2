// Package server wires the program and runs it. The same Run serves production, the
// sandbox and the end-to-end tests.
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
	"manage-subscriptions/importer"
	"manage-subscriptions/merchant"
	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge"
	"manage-subscriptions/server/metrics"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// Run serves until ctx ends. Then it is no longer ready, still serves for the notice
// of WithNotice, lets the running clicks end, and returns nil.
func Run(ctx context.Context, cfg config.Config, opts ...Option) error {
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	o := newOptions(log, opts)
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
	if o.listening != nil {
		o.listening <- Addresses{s.publicListener.Addr(), s.opsListener.Addr()}
	}
	return s.serve(ctx)
}

// server is the wired program.
type server struct {
	cfg       config.Config
	log       *slog.Logger
	now       func() time.Time
	store     *store.Store
	calls     *http.Transport // to Recharge, for all shops
	network   Network
	recorder  *portal.Recorder
	merchants *portal.Merchants
	resolver  *portal.Resolver
	merchant  *merchant.Service
	importer  *importer.Importer // nil: nobody is cached before they click
	health    *handlers.Health
	version   string
	metrics   *metrics.Metrics
	observed  atomic.Pointer[observation] // by the monitor
	traces    *traces                     // nil: no collector
	public    *http.Server
	ops       *http.Server
	adopted   bool // the cache belongs to the configured account
	checked   bool // Redis is fit; set by Run, then by the jobs only
	checking  logOnce
	notice    time.Duration

	publicListener net.Listener
	opsListener    net.Listener
}

func wire(cfg config.Config, o options) (*server, error) {
	s := &server{
		cfg: cfg, log: o.log, now: o.now, health: &handlers.Health{}, notice: o.notice, version: Version(),
		calls: newCalls(cfg, o.network), network: o.network, publicListener: o.public,
		checking: logOnce{log: o.log, what: "ask Redis whether it keeps what merchants save"},
	}
	var err error
	if s.store, err = openStore(cfg, o); err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	s.metrics = metrics.New(s.version, s)
	if err = s.wirePortal(o); err == nil {
		err = s.wireRoutes(o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.store.Close())
	}
	s.ops = s.opsServer()
	s.warn()
	return s, nil
}

// wirePortal makes all that a click needs but its route.
func (s *server) wirePortal(o options) error {
	if err := s.wireMerchants(); err != nil {
		return err
	}
	var err error
	if s.traces, err = s.newTraces(); err != nil {
		return err
	}
	s.recorder = &portal.Recorder{Store: s.store, Log: o.log, Meter: s.metrics}
	if s.traces != nil {
		s.recorder.Tracer = s.traces
	}
	s.resolver = &portal.Resolver{
		Store: s.store, Merchants: s.merchants, Timeout: s.cfg.ClickTimeout, LinkTTL: s.cfg.LinkTTL, Now: o.now,
	}
	if !o.noIndex {
		s.importer = importer.New(s.merchants, s.recorder, o.now)
	}
	s.merchant = &merchant.Service{
		Merchants: s.merchants, Resolver: s.resolver, Store: s.store, Recorder: s.recorder, Platform: o.platform,
		AppURL: s.cfg.AppURL, Secret: s.cfg.RechargeClientSecret.Reveal(), Defaults: s.defaults(),
		Importer: s.importer, Log: o.log, Now: o.now,
	}
	return nil
}

func (s *server) wireRoutes(o options) error {
	verifier, err := shopify.NewVerifier(reveal(s.cfg.ShopifyAPISecrets), o.now)
	if err != nil {
		return err
	}
	pages, err := templates.Load()
	if err != nil {
		return err
	}
	clicks := &handlers.Portal{
		Verifier: verifier, Resolver: s.resolver, Recorder: s.recorder, Pages: pages,
		LegacyAccounts: s.cfg.LegacyAccounts, ByPage: s.cfg.RedirectByPage, Now: o.now,
	}
	status := &handlers.Status{
		Verifier: verifier, Resolver: s.resolver, Recorder: s.recorder, Log: o.log,
	}
	fromRecharge := &handlers.RechargeWebhooks{Merchant: s.merchant, Timeout: webhookTimeout}
	fromShopify := &handlers.ShopifyWebhooks{Verifier: verifier, Merchant: s.merchant, Timeout: webhookTimeout}
	admin, err := s.newAdmin(o)
	if err != nil {
		return err
	}
	s.public = s.httpServer(func(e *echo.Echo) {
		e.Use(handlers.Headers, handlers.StrictTransport(s.cfg.AppURL))
		clicks.Register(e)
		status.Register(e)
		fromShopify.Register(e)
		fromRecharge.Register(e)
		s.registerAPI(e, pages, o)
		err = admin.Register(e)
	})
	return err
}

// webhookTimeout is below the 5 seconds that Shopify and Recharge wait for an answer.
const webhookTimeout = 4 * time.Second

// registerAPI adds the routes for a store's own server. The one configured store has
// them if it has a key. In many-store mode each store has its own keys.
func (s *server) registerAPI(e *echo.Echo, pages *templates.Pages, o options) {
	if s.merchants.Own() != "" && len(s.cfg.PortalAPIKeys) == 0 {
		return
	}
	auth := &handlers.APIKeyAuth{Resolver: s.resolver, Store: s.store}
	for _, key := range reveal(s.cfg.PortalAPIKeys) {
		auth.Own = append(auth.Own, portallink.SecretOf(key))
	}
	links := &handlers.PortalLinks{APIKeyAuth: auth, Recorder: s.recorder, Log: o.log, Now: o.now}
	links.Register(e)
	signed := &handlers.SignedLinks{
		APIKeyAuth: auth, Recorder: s.recorder, Pages: pages, Platform: o.platform, Now: o.now,
	}
	signed.Register(e)
}

// newCalls returns the transport for calls to Recharge. WithNetwork's has no proxy.
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
		single = "" // its record is neither made nor replaced
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

// account identifies the Recharge account of the one store, and the secret of its
// webhooks.
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

// warn logs at the start what shoppers would otherwise notice first.
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
		s.log.Warn("no REDIS_URL: used links are forgotten when this process ends, and unknown to other processes")
	}
}

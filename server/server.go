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
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"

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

// Addresses are where a running server listens.
type Addresses struct{ Public, Ops net.Addr }

type options struct {
	log       *slog.Logger
	now       func() time.Time
	listening func(Addresses)
	platform  shopify.Platform
	public    net.Listener
	noIndex   bool
	readOnly  bool // for commands that change nothing
	network   Network

	notice time.Duration
}

// Option changes how Run works, for those that embed it.
type Option func(*options)

// WithLog logs to log instead of standard error.
func WithLog(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithClock takes the time from now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithShopify puts an emulated Shopify in the place of the real one.
func WithShopify(p shopify.Platform) Option { return func(o *options) { o.platform = p } }

// WithListener serves the public routes on l instead of ADDR: for those who have
// to know APP_URL before there is a server.
func WithListener(l net.Listener) Option { return func(o *options) { o.public = l } }

// WithoutIndex remembers nobody before they click: for a test, or a demonstration,
// of what a shopper meets who is new.
func WithoutIndex() Option { return func(o *options) { o.noIndex = true } }

// Network is what the program listens on and dials. A nil function is the real
// one.
type Network struct {
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// WithNetwork listens on n, and reaches Recharge and Redis over it: for those who
// try the whole program inside one process. Redis is then spoken to without TLS.
func WithNetwork(n Network) Option { return func(o *options) { o.network = n } }

// WithNotice serves on for d when it is told to end, not ready any more: whoever
// passes clicks on finds out, and no click comes to a closed door.
func WithNotice(d time.Duration) Option { return func(o *options) { o.notice = d } }

// OnListening calls f when both listeners are open, before the first request.
func OnListening(f func(Addresses)) Option { return func(o *options) { o.listening = f } }

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

// CollectLess lets the heap grow more between two runs of the garbage collector, unless
// GOGC says how much. What is kept is small, some ten MiB, and what a click needs is gone
// with it: so a collection is nearly all marking what stays. It changes the whole process,
// so only serve calls it.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}

// collectAt is by how many percent the heap may grow.
const collectAt = 400

// MuteLibraries keeps libraries from writing to standard error on their own: what
// go-redis says there of a Redis that is down, the log says once, and OpenTelemetry
// repeats what it cannot read of its settings, secrets too. It changes the whole
// process, so only main calls it.
func MuteLibraries() {
	redis.SetLogger(mute{})
	otel.SetLogger(logr.Discard())
}

type mute struct{}

func (mute) Printf(context.Context, string, ...any) {}

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

// httpServer bounds everything a client can draw out. Echo redirects nothing:
// a redirect for a slash would show Shopify's signature.
func (s *server) httpServer(routes func(*echo.Echo)) *http.Server {
	e := echo.New()
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: s.panicked}))
	routes(e)
	e.HTTPErrorHandler = handlers.Errors(s.log)
	return &http.Server{
		Handler:           closeChunked(e),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      s.cfg.ClickTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
}

func (s *server) panicked(_ echo.Context, err error, stack []byte) error {
	s.log.Error("panic", "error", err, "stack", string(stack))
	return err
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

// listen opens both listeners before anything is served, so that a taken port
// stops the start.
func (s *server) listen(ctx context.Context) error {
	open := s.open
	if open == nil {
		open = (&net.ListenConfig{}).Listen
	}
	var err error
	if s.publicListener == nil {
		if s.publicListener, err = open(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("listen on ADDR: %w", err)
		}
	}
	if s.opsListener, err = open(ctx, "tcp", s.cfg.OpsAddr); err != nil {
		_ = s.publicListener.Close()
		return fmt.Errorf("listen on OPS_ADDR: %w", err)
	}
	return nil
}

func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 2)
	// Background jobs go on while the last clicks do.
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { failed <- s.public.Serve(s.publicListener) }()
	go func() { failed <- s.ops.Serve(s.opsListener) }()
	unfit := make(chan error, 1)
	jobs := s.startJobs(beside, unfit)
	defer func() { stop(); jobs.Wait() }()
	s.health.SetReady(true)
	s.log.Info("serving", "addr", s.publicListener.Addr().String(), "ops_addr", s.opsListener.Addr().String())
	running, err := s.last(ctx, failed, unfit)
	err = errors.Join(err, s.drain())
	for range running {
		if end := <-failed; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}

// last returns when it is time to drain, and how many of the listeners are still
// served. Notice is given only where the end was asked for: what is broken goes
// at once.
func (s *server) last(ctx context.Context, failed, unfit <-chan error) (running int, err error) {
	select {
	case <-ctx.Done():
	case err = <-failed:
		return 1, err
	case err = <-unfit:
		return 2, err
	}
	s.health.SetReady(false)
	s.log.Info("no longer ready", "notice", s.notice.String())
	select {
	case <-time.After(s.notice):
		return 2, nil
	case err = <-failed:
		return 1, err
	}
}

// drain ends in order: no new clicks, then those under way, then the operator's
// routes, which say "not ready" until the last.
func (s *server) drain() error {
	s.log.Info("draining")
	s.health.SetReady(false)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ClickTimeout+2*time.Second)
	defer cancel()
	err := s.public.Shutdown(ctx)
	return errors.Join(err, s.ops.Shutdown(ctx))
}

func (s *server) close() {
	s.admin.Wait()
	s.calls.CloseIdleConnections()
	if err := s.traces.close(); err != nil {
		s.log.Warn("send the last traces", "error", err)
	}
	if err := s.store.Close(); err != nil {
		s.log.Warn("close store", "error", err)
	}
}

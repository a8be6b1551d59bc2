package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/alicebob/miniredis/v2/server"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// ClientID is the app's client ID, as the Dev Dashboard would show it.
const ClientID = "client-id-of-the-sandbox"

const appName = "Manage Subscriptions"

// environment holds what the stores of a sandbox share: one server, its Redis, and one address of
// Recharge.
type environment struct {
	app       net.Listener // of the server
	appSecret string
	redis     *miniredis.Miniredis
	recharge  *rechargetest.Front
	stores    []*Sandbox
	now       func() time.Time
	ctx       context.Context // of the server
	stop      context.CancelFunc
	ended     chan error // the error that the server ended with
	metrics   string     // their address
	settings  string     // the file with the server's settings, for other commands

	base       func() time.Time // the clock before it is moved ahead
	ahead      atomic.Int64     // nanoseconds
	notBefore  atomic.Int64     // the clock stands still until then, as Unix nanoseconds
	target     atomic.Int64     // where the clock runs to, as Unix nanoseconds
	follow     sync.Once        // Redis follows the clock
	background sync.WaitGroup
}

// startEnvironment starts the stores, then the server that connects to them and to Recharge.
func startEnvironment(ctx context.Context, o Options, stores ...*Sandbox) (*environment, error) {
	e := &environment{
		appSecret: rand.Text(), redis: miniredis.NewMiniRedis(), stores: stores, base: o.Now,
		stop: func() {}, ended: make(chan error, 1),
	}
	if e.base == nil {
		e.base = time.Now
	}
	e.now = e.clockNow
	e.ended <- nil
	err := e.listen()
	if err == nil {
		err = e.build()
	}
	if err == nil {
		err = e.serve(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), e.close())
	}
	return e, nil
}

func (e *environment) listen() (err error) {
	if e.app, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	e.redis.ClockTTL(true)
	if err = e.redis.StartAddr("127.0.0.1:0"); err == nil {
		e.redis.Server().SetPreHook(describe)
	}
	return err
}

// describe answers what doctor asks about a Redis, and miniredis does not know, as one that is set up well.
func describe(c *redis.Peer, command string, args ...string) bool {
	config := map[string]string{"maxmemory-policy": "noeviction", "appendfsync": "always", "save": ""}
	switch {
	case command == "INFO" && len(args) == 0:
		c.WriteBulk("redis_version:7.2.0\r\naof_enabled:1\r\n")
	case command == "CONFIG" && len(args) == 2:
		c.WriteStrings([]string{args[1], config[args[1]]})
	default:
		return false
	}
	return true
}

func (e *environment) build() error {
	// A key made for the first session can take longer than a call to Recharge may.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	var recharges []*rechargetest.Server
	for _, s := range e.stores {
		if err := s.build(e, key); err != nil {
			return err
		}
		recharges = append(recharges, s.Recharge)
	}
	e.recharge = rechargetest.Together(recharges...)
	return nil
}

// platform returns the emulated Shopify as the server sees it.
func (e *environment) platform() shopify.Platform {
	origins := map[shopify.Shop]string{"": e.stores[0].Store.URL}
	for _, s := range e.stores {
		origins[s.kind.shop] = s.Store.URL
	}
	return shopify.Platform{Admins: origins, Shops: origins, CDN: e.stores[0].Store.URL + "/cdn"}
}

func (e *environment) appURL() string { return "http://" + e.app.Addr().String() }

// serve runs the real server with an operator's configuration, and returns once it listens.
func (e *environment) serve(ctx context.Context, o Options) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	settings := config.Settings{
		ShopifyAPIKey: ClientID, ShopifyAPISecret: e.appSecret, CustomerAccounts: "new", AppURL: e.appURL(),
		Addr: e.app.Addr().String(), OpsAddr: "127.0.0.1:0",
		RedisURL: "redis://" + e.redis.Addr(), EncryptionKey: base64.StdEncoding.EncodeToString(key),
		RechargeAPIURL: e.recharge.URL, RechargeRate: "auto",
		PortalLink: "signed_in", Redirect: cmp.Or(o.Redirect, "location"), CustomerTTL: "24h", LinkTTL: "60s",
		RechargeTimeout: "3s", ClickTimeout: "8s", LogLevel: "info", LogFormat: "text",
	}
	cfg, err := settings.Check()
	if err != nil {
		return err
	}
	log := o.Log
	if log == nil {
		log = io.Discard
	}
	ctx, e.stop = context.WithCancel(ctx)
	e.ctx = ctx
	if err := <-e.ended; err != nil { // set to nil by startEnvironment
		return err
	}
	listening := make(chan server.Addresses, 1)
	lines, flush := server.NewLog(log, cfg)
	go func() {
		err := server.Run(ctx, cfg, server.Options{
			Log: slog.New(&watcher{lines.Handler(), e}), Now: e.now, Platform: e.platform(), Listener: e.app,
			Listening: listening, NoIndex: !o.Index,
		})
		flush()
		e.ended <- err
	}()
	select {
	case at := <-listening:
		e.metrics = "http://" + at.Ops.String() + "/metrics"
		settings.OpsAddr = at.Ops.String()
		e.settings, err = writeSettings(settings)
		return err
	case err := <-e.ended:
		e.ended <- nil
		return err
	}
}

// close stops the server and closes everything else.
func (e *environment) close() error {
	e.stop()
	err := <-e.ended
	e.background.Wait()
	for _, s := range e.stores {
		if f := s.headless.Load(); f != nil {
			f.close()
		}
		if s.Store != nil {
			s.Store.Close()
		}
		if s.Recharge != nil {
			s.Recharge.Close()
		}
	}
	if e.recharge != nil {
		e.recharge.Close()
	}
	if e.settings != "" {
		err = errors.Join(err, os.Remove(e.settings))
	}
	if e.app != nil {
		_ = e.app.Close() // already closed if the server started
	}
	e.redis.Close()
	return err
}

// partnerApp returns the app as configured in shopify.app.toml.
func (e *environment) partnerApp(path string) shopifytest.PartnerApp {
	return shopifytest.PartnerApp{
		ClientID: ClientID, Secret: e.appSecret, Name: appName,
		AppURL: e.appURL(), Embedded: true, Scopes: "write_app_proxy",
		Webhooks:   e.appURL() + "/webhooks/shopify",
		PathPrefix: path, ProxyURL: e.appURL() + mountPath,
	}
}

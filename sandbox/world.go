package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
	"manage-subscriptions/shopify"
	"manage-subscriptions/shopify/shopifytest"
)

// ClientID is the app's, as the Dev Dashboard would show it.
const ClientID = "5d0e2c1b9a8f7e6d5c4b3a2918070605"

const appName = "Manage Subscriptions"

// world is what the stores of a sandbox share: one server, its Redis, and
// Recharge's one address.
type world struct {
	app       net.Listener // the server's
	appSecret string
	redis     *miniredis.Miniredis
	recharge  *rechargetest.Front
	stores    []*Sandbox
	now       func() time.Time
	stop      context.CancelFunc
	ended     chan error // what the server ended with
}

// startWorld starts the stores, and then the server between them and Recharge.
func startWorld(ctx context.Context, o Options, stores ...*Sandbox) (*world, error) {
	w := &world{appSecret: rand.Text(), redis: miniredis.NewMiniRedis(), stores: stores, now: o.Now, stop: func() {}, ended: make(chan error, 1)}
	if w.now == nil {
		w.now = time.Now
	}
	w.ended <- nil
	err := w.listen()
	if err == nil {
		err = w.build()
	}
	if err == nil {
		err = w.serve(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), w.close())
	}
	return w, nil
}

func (w *world) listen() (err error) {
	if w.app, err = listen(0); err != nil {
		return err
	}
	w.redis.ClockTTL(true)
	return w.redis.StartAddr("127.0.0.1:0")
}

func (w *world) build() error {
	var recharges []*rechargetest.Server
	for _, s := range w.stores {
		if err := s.build(w); err != nil {
			return err
		}
		recharges = append(recharges, s.Recharge)
	}
	w.recharge = rechargetest.Together(recharges...)
	return nil
}

// platform is the emulated Shopify, seen from the server.
func (w *world) platform() shopify.Platform {
	origins := map[shopify.Shop]string{"": w.stores[0].Store.URL}
	for _, s := range w.stores {
		origins[s.kind.shop] = s.Store.URL
	}
	return shopify.Platform{Admins: origins, Shops: origins, CDN: w.stores[0].Store.URL + "/cdn"}
}

func (w *world) appURL() string { return "http://" + w.app.Addr().String() }

// serve runs the real server, configured as an operator would, and returns once
// it listens.
func (w *world) serve(ctx context.Context, o Options) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	cfg, err := config.Settings{
		ShopifyAPIKey: ClientID, ShopifyAPISecret: w.appSecret, CustomerAccounts: "new", AppURL: w.appURL(),
		Addr: w.app.Addr().String(), OpsAddr: "127.0.0.1:0",
		RedisURL: "redis://" + w.redis.Addr(), EncryptionKey: base64.StdEncoding.EncodeToString(key),
		RechargeAPIURL: w.recharge.URL, RechargeRate: "2,40",
		PortalLink: "signed_in", Redirect: cmp.Or(o.Redirect, "location"), CustomerTTL: "24h", LinkTTL: "60s", RechargeTimeout: "3s", ClickTimeout: "8s",
		LogLevel: "info", LogFormat: "text",
	}.Check()
	if err != nil {
		return err
	}
	log := o.Log
	if log == nil {
		log = io.Discard
	}
	ctx, w.stop = context.WithCancel(ctx)
	if err := <-w.ended; err != nil { // nothing ran yet
		return err
	}
	listening := make(chan struct{})
	lines, flush := server.NewLog(log, cfg)
	go func() {
		err := server.Run(ctx, cfg, append(o.index(),
			server.WithLog(slog.New(&watcher{lines.Handler(), w})),
			server.WithClock(w.now),
			server.WithShopify(w.platform()),
			server.WithListener(w.app),
			server.OnListening(func(server.Addresses) { close(listening) }))...)
		flush()
		w.ended <- err
	}()
	select {
	case <-listening:
		return nil
	case err := <-w.ended:
		w.ended <- nil
		return err
	}
}

// close ends all of it.
func (w *world) close() error {
	w.stop()
	err := <-w.ended
	for _, s := range w.stores {
		if s.headless != nil {
			s.headless.close()
		}
		if s.Store != nil {
			s.Store.Close()
		}
		if s.Recharge != nil {
			s.Recharge.Close()
		}
	}
	if w.recharge != nil {
		w.recharge.Close()
	}
	if w.app != nil {
		_ = w.app.Close() // the server has closed it, if it came so far
	}
	w.redis.Close()
	return err
}

// partnerApp is the app as shopify.app.toml has it.
func (w *world) partnerApp(path string) shopifytest.PartnerApp {
	return shopifytest.PartnerApp{
		ClientID: ClientID, Secret: w.appSecret, Name: appName, AppURL: w.appURL(), Embedded: true, Scopes: "write_app_proxy",
		RedirectURLs: []string{w.appURL() + "/app/installed"}, Webhooks: w.appURL() + "/webhooks/shopify",
		PathPrefix: path, ProxyURL: w.appURL() + mountPath,
	}
}

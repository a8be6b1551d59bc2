// Package virtual runs the whole program on a network in memory: the server, an emulated
// Recharge, Redis, and shoppers whose clicks arrive as Shopify would forward them. In a
// bubble of testing/synctest, all of it runs in virtual time.
package virtual

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/memnet"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// The store and its credentials at Shopify and Recharge.
const (
	Shop   = "fixture-shop.myshopify.com"
	Portal = "https://" + Shop + "/tools/recurring/portal/"
	APIKey = "fixture-portal-key-0123456789"

	prefix        = "/apps/subscriptions"
	appSecret     = "fixture-app-secret"
	apiToken      = "sk_test_fixture_admin_token"
	strToken      = "strfnt_fixture_storefront"
	webhookSecret = "fixture-webhook-secret"

	appHost      = "app.example"
	publicAddr   = "127.0.0.1:8080"
	opsAddr      = "127.0.0.1:9090"
	redisAddr    = "127.0.0.1:6379"
	rechargeAddr = "127.0.0.1:8443"
)

// Options configure a World. The zero value is a store without customers, with
// Recharge's real limits.
type Options struct {
	Customers  []rechargetest.Customer
	Rate       float64         // calls a second that Recharge allows; 0 for the real 2
	Burst      int             // calls at once that it allows; 0 for the real 40
	SigningKey *rsa.PrivateKey // Recharge's; nil for a new one
	Unsigned   bool            // Recharge signs nothing, which is quicker
	// OwnRedis runs a Redis that tests can read, instead of the one inside the server. Its keys expire up to
	// a Tick late. More frequent ticks would be slow, since miniredis sorts all keys for it.
	OwnRedis bool
	Tick     time.Duration // 0 for 10 seconds
	// Index has the server import all customers before they click.
	Index  bool
	Log    slog.Handler // the server's log; nil discards it
	Change func(*config.Settings)
}

// World is the running server with Recharge, Redis and the network.
type World struct {
	Recharge *rechargetest.Server
	Redis    *miniredis.Miniredis // nil without Options.OwnRedis
	Config   config.Config

	// Indexed is closed when the first import of all customers is complete.
	Indexed chan struct{}

	network memnet.Network
	client  *http.Client
	toRedis atomic.Int64 // open connections
	stop    context.CancelFunc
	ended   chan error
	closing chan struct{}
	aging   sync.WaitGroup
}

// Start starts everything and returns when the server listens. The caller must call Close.
func Start(o Options) (*World, error) {
	// A bubble's clock begins in 2000, when a timestamp of Shopify's would have had nine digits.
	time.Sleep(time.Until(time.Date(2002, time.January, 1, 0, 0, 0, 0, time.UTC)))
	o.Rate, o.Burst, o.Tick = cmp.Or(o.Rate, 2), cmp.Or(o.Burst, 40), cmp.Or(o.Tick, 10*time.Second)
	w := &World{ended: make(chan error, 1), closing: make(chan struct{}), Indexed: make(chan struct{})}
	l, err := w.network.Listen(context.Background(), "tcp", rechargeAddr)
	if err != nil {
		return nil, err
	}
	w.Recharge = rechargetest.NewServerOn(l, rechargetest.Options{
		Shop: Shop,
		Tokens: []rechargetest.Token{{
			Value: apiToken, Scopes: []string{"read_customers", "write_session"},
			Rate: o.Rate, Burst: o.Burst, ClientSecret: webhookSecret,
		}},
		StorefrontToken: strToken,
		PortalBase:      Portal,
		SigningKey:      o.SigningKey,
		Unsigned:        o.Unsigned,
		Customers:       o.Customers,
		Deliver:         &http.Transport{DialContext: w.dialApp, DialTLSContext: w.dialApp, IdleConnTimeout: time.Minute},
	})
	w.client = &http.Client{
		Transport:     &http.Transport{DialContext: w.network.Dial, MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.OwnRedis {
		w.Redis = miniredis.NewMiniRedis()
		w.aging.Go(func() { w.age(o.Tick) })
	}
	if err := w.run(o); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// dialApp connects to APP_URL. It does so without TLS, which a proxy in front of the
// program would terminate.
func (w *World) dialApp(ctx context.Context, network, address string) (net.Conn, error) {
	if address != appHost+":443" {
		return nil, fmt.Errorf("virtual: no host at %s", address)
	}
	return w.network.Dial(ctx, network, publicAddr)
}

// dial opens the server's outgoing connections.
func (w *World) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != redisAddr || w.Redis == nil {
		return w.network.Dial(ctx, network, address)
	}
	c, err := w.Redis.Dial()
	if err != nil {
		return nil, err
	}
	w.toRedis.Add(1)
	return &counted{Conn: c, closed: sync.OnceFunc(func() { w.toRedis.Add(-1) })}, nil
}

type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}

// age lets keys of OwnRedis expire. A key that was written since the last tick is only marked, by a nanosecond,
// or it would expire too early.
func (w *World) age(tick time.Duration) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-w.closing:
			return
		case <-ticker.C:
			for _, key := range w.Redis.Keys() {
				if ttl := w.Redis.TTL(key); ttl > 0 && ttl%time.Millisecond == 0 {
					w.Redis.SetTTL(key, ttl+tick+1)
				}
			}
			w.Redis.FastForward(tick)
		}
	}
}

func (w *World) settings(o Options) config.Settings {
	redis := ""
	if w.Redis != nil {
		redis = "redis://" + redisAddr
	}
	return config.Settings{
		ShopifyAPIKey: "fixture-client-id", ShopifyAPISecret: appSecret, ShopifyShop: Shop, CustomerAccounts: "new",
		AppURL: "https://" + appHost, Addr: publicAddr, OpsAddr: opsAddr, RedisURL: redis,
		RechargeAPIToken: apiToken, RechargeStorefrontToken: strToken, RechargeClientSecret: webhookSecret,
		PortalAPIKey: APIKey,
		RechargeRate: fmt.Sprintf("%g,%d", o.Rate, o.Burst), RechargeAPIURL: w.Recharge.URL, RechargePortalURL: Portal,
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: "60s",
		RechargeTimeout: "3s", ClickTimeout: "8s", LogLevel: "info", LogFormat: "json",
	}
}

func (w *World) run(o Options) error {
	settings := w.settings(o)
	if o.Change != nil {
		o.Change(&settings)
	}
	var err error
	if w.Config, err = settings.Check(); err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = slog.DiscardHandler
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	listening := make(chan server.Addresses, 1)
	go func() {
		w.ended <- server.Run(ctx, w.Config, server.Options{
			Log:     slog.New(&watcher{o.Log, sync.OnceFunc(func() { close(w.Indexed) })}),
			Network: server.Network{Listen: w.network.Listen, Dial: w.dial}, Listening: listening,
			NoIndex: !o.Index, NoLook: true,
		})
	}()
	select {
	case <-listening:
		return nil
	case err := <-w.ended:
		w.stop = nil
		return err
	}
}

// Index runs the command index beside the server.
func (w *World) Index(ctx context.Context, out io.Writer) error {
	o := server.Options{Log: slog.New(slog.DiscardHandler), Network: server.Network{Dial: w.dial}}
	return server.Index(ctx, w.Config, "", out, o)
}

// watcher calls indexed when the log says that the import is complete.
type watcher struct {
	slog.Handler
	indexed func()
}

func (h *watcher) Enabled(context.Context, slog.Level) bool { return true }

func (h *watcher) Handle(ctx context.Context, record slog.Record) error {
	if record.Message == "index complete" {
		h.indexed()
	}
	return h.Handler.Handle(ctx, record)
}

// Close shuts down the server and everything else.
func (w *World) Close() error {
	var err error
	if w.stop != nil {
		w.stop()
		err = <-w.ended
	}
	close(w.closing)
	w.aging.Wait()
	w.client.CloseIdleConnections()
	w.Recharge.Close()
	if w.Redis != nil {
		w.Redis.Close()
	}
	return err
}

// Answer is the answer to a click.
type Answer struct {
	Status   int
	Location string
	Body     string
	Took     time.Duration
}

// Dial connects to the server, for tests that write requests by hand.
func (w *World) Dial(ctx context.Context) (net.Conn, error) {
	return w.network.Dial(ctx, "tcp", publicAddr)
}

// Click sends a shopper's click as Shopify forwards it. path is below the prefix and
// may be "". It returns an error if there is no answer at all.
func (w *World) Click(ctx context.Context, customer, path string) (Answer, error) {
	start := time.Now()
	query := "shop=" + Shop + "&logged_in_customer_id=" + customer + "&path_prefix=" + url.QueryEscape(prefix) +
		"&timestamp=" + strconv.FormatInt(start.Unix(), 10)
	query += "&signature=" + shopifytest.Signature(appSecret, query)
	answer, err := w.get(ctx, "http://"+publicAddr+prefix+path+"?"+query)
	answer.Took = time.Since(start)
	return answer, err
}

// CallAPI sends JSON, or nothing if it is "", to one of the server's routes for tools. These need APIKey.
func (w *World) CallAPI(ctx context.Context, method, path, body string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+publicAddr+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+APIKey)
	request.Header.Set("Content-Type", "application/json")
	return w.do(request)
}

func (w *World) get(ctx context.Context, address string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Answer{}, err
	}
	return w.do(request)
}

func (w *World) do(request *http.Request) (Answer, error) {
	response, err := w.client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Location: response.Header.Get("Location"), Body: string(body)}, err
}

// Outcome derives the click's outcome from the answer. It is "" if it is none of the known
// ones.
func (a Answer) Outcome() string {
	switch {
	case a.Status == http.StatusFound && strings.HasPrefix(a.Location, Portal) && a.token() != "":
		return "redirected"
	case a.Status == http.StatusFound && strings.HasPrefix(a.Location, Portal):
		return "redirected_by_hash"
	case a.Status == http.StatusFound && strings.HasPrefix(a.Location, "/customer_authentication/login?"):
		return "sign_in"
	case a.Status == http.StatusOK && strings.Contains(a.Body, "routes.all_products_collection_url"):
		return "not_a_subscriber"
	case a.Status == http.StatusOK:
		return "unavailable"
	}
	return ""
}

func (a Answer) token() string {
	u, err := url.Parse(a.Location)
	if err != nil {
		return ""
	}
	return u.Query().Get("token")
}

// Hash returns the hash in the portal link, or "" if the answer is not a portal link.
func (a Answer) Hash() string {
	rest, ok := strings.CutPrefix(a.Location, Portal)
	if !ok {
		return ""
	}
	hash, _, _ := strings.Cut(rest, "/")
	return hash
}

// Open follows a signed-in link and reports whether the portal opens.
func (w *World) Open(ctx context.Context, a Answer) (bool, error) {
	rest, _ := strings.CutPrefix(a.Location, Portal)
	page, err := w.get(ctx, w.Recharge.URL+"/portal/"+rest)
	return page.Status == http.StatusOK && strings.Contains(page.Body, `data-portal="open"`), err
}

// Connections counts the open connections by destination, without those to the Redis
// inside the server.
func (w *World) Connections() map[string]int {
	open := map[string]int{"public": w.network.Open(publicAddr), "recharge": w.network.Open(rechargeAddr)}
	if w.Redis != nil {
		open["redis"] = int(w.toRedis.Load())
	}
	return open
}

// Package servertest runs the whole program between an emulated Shopify and an
// emulated Recharge, for the end-to-end tests of every package.
package servertest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// Until waits until done returns true. It allows two minutes, since a busy machine may need long.
func (f *Fixture) Until(what string, done func() bool) {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			f.T.Fatalf("timed out waiting until %s", what)
		case <-tick.C:
		}
	}
}

// The shop of these tests, its secrets, and its shoppers.
const (
	Shop            = "fixture-shop.myshopify.com"
	AppSecret       = "fixture-app-secret"
	OldAppSecret    = "fixture-old-secret"
	APIToken        = "sk_test_fixture_admin_token"
	StorefrontToken = "strfnt_fixture_storefront"
	RechargeSecret  = "fixture-recharge-secret"
	WebhookSecret   = "fixture-webhook-secret" // of Recharge's webhooks
	Pat             = "6100200300400"          // subscribes
	Robin           = "6100200300500"          // never has
	Sam             = "6100200300600"          // two records, one of them active
	Kim             = "6100200300700"          // two records, both active
)

// SigningKey is shared by all tests, because generating a key takes longer than a click may.
var SigningKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// Fixture is the whole program between an emulated Shopify and an emulated
// Recharge, over real sockets, with a real or the embedded Redis.
type Fixture struct {
	T         *testing.T
	Store     *shopifytest.Server
	Recharge  *rechargetest.Server
	Redis     *storetest.Server
	Clock     *Clock
	Log       *Logs
	Ops       string
	Public    string
	Stop      context.CancelFunc
	Ended     chan error
	Seen      []rechargetest.Request // the requests that Calls has counted
	Import    bool                   // have the server import all customers
	Look      bool                   // have the server detect the traits of stores again, at the start and later
	Customers []rechargetest.Customer
	Faults    func(*rechargetest.Faults) // of Recharge from the start, or nil

	addresses *sync.RWMutex // guards Public while it is set, since Recharge can send a message at any time
}

// New returns a fixture that has not begun, with the given Redis or, if it is nil, the embedded one.
func New(t *testing.T, redis *storetest.Server) *Fixture {
	return &Fixture{T: t, Clock: &Clock{}, Log: &Logs{}, Redis: redis, Customers: Customers()}
}

// Start runs the program with a real Redis. change edits its settings first.
func Start(t *testing.T, change ...func(*config.Settings)) *Fixture {
	t.Helper()
	return StartWith(t, storetest.Redis(t), change...)
}

// StartWith runs the program with the given Redis or, if it is nil, the embedded one.
func StartWith(t *testing.T, redis *storetest.Server, change ...func(*config.Settings)) *Fixture {
	t.Helper()
	return StartIn(t, redis, "new", "/apps/subscriptions", change...)
}

// StartIn runs the program for a store with the given kind of customer accounts, whose
// merchant has set the app's path to prefix.
func StartIn(
	t *testing.T, redis *storetest.Server, accounts, prefix string, change ...func(*config.Settings),
) *Fixture {
	t.Helper()
	f := New(t, redis)
	f.Begin(accounts, prefix, change...)
	return f
}

// Begin runs the emulators and the program.
func (f *Fixture) Begin(accounts, prefix string, change ...func(*config.Settings)) {
	t := f.T
	t.Helper()
	f.addresses = &sync.RWMutex{}
	f.Recharge = rechargetest.NewServer(rechargetest.Options{
		Shop: Shop,
		Tokens: []rechargetest.Token{{
			Value: APIToken, Scopes: []string{"read_customers", "write_session"},
			Rate: 1000, Burst: 10000, ClientSecret: WebhookSecret,
		}},
		StorefrontToken: StorefrontToken,
		ClientSecret:    RechargeSecret,
		SigningKey:      SigningKey(),
		Customers:       f.Customers,
		Now:             f.Clock.Now,
		Deliver:         toServer{f},
		RetryAfter:      func(int) time.Duration { return 20 * time.Millisecond },
	})
	t.Cleanup(f.Recharge.Close)
	if f.Faults != nil {
		f.Recharge.SetFaults(f.Faults)
	}
	f.Store = shopifytest.NewServer(shopifytest.Options{
		Shop: Shop, Name: "Fixture Shop", Email: "owner@fixture.example", Now: f.Clock.Now, Accounts: accounts,
		Shoppers: append([]shopifytest.Shopper{
			{ID: Pat, FirstName: "Pat"}, {ID: Robin, FirstName: "Robin"},
			{ID: Sam, FirstName: "Sam"}, {ID: Kim, FirstName: "Kim"},
		}, crowdAtStore()...),
		AccountPage: func(o shopifytest.AccountOpening) template.HTML {
			return f.Recharge.AccountPage(o.Shopper.ID, o.Page+o.Path, o.Query)
		},
	})
	t.Cleanup(f.Store.Close)
	f.Recharge.SetPortalBase(f.Store.URL + "/tools/recurring/portal/")
	f.Run(append([]func(*config.Settings){func(s *config.Settings) { s.CustomerAccounts = accounts }}, change...)...)
	f.Store.AddApp(shopifytest.App{
		PathPrefix: prefix, ProxyURL: "http://" + f.Public + "/apps/subscriptions",
		Secret: AppSecret, OldSecret: OldAppSecret,
	})
	f.Store.AddApp(shopifytest.App{
		PathPrefix: "/tools/recurring", ProxyURL: f.Recharge.URL + "/proxy", Secret: RechargeSecret,
	})
	t.Cleanup(f.nothingInTheOpen)
}

// toServer sends requests for APP_URL to the server.
type toServer struct{ f *Fixture }

func (to toServer) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	to.f.addresses.RLock()
	request.URL.Scheme, request.URL.Host = "http", to.f.Public
	to.f.addresses.RUnlock()
	return http.DefaultTransport.RoundTrip(request)
}

// Settings returns the settings of a server for one store.
func (f *Fixture) Settings() config.Settings {
	redisURL := ""
	if f.Redis != nil {
		redisURL = "redis://" + f.Redis.Addr
	}
	return config.Settings{
		ShopifyAPIKey: "fixture-client-id", ShopifyAPISecret: AppSecret + "," + OldAppSecret,
		ShopifyShop: Shop, CustomerAccounts: "new",
		AppURL: "https://app.example", Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: redisURL,
		RechargeAPIToken: APIToken, RechargeStorefrontToken: StorefrontToken, RechargeRate: "1000,10000",
		RechargeAPIURL: f.Recharge.URL, RechargePortalURL: f.Store.URL + "/tools/recurring/portal/",
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: "60s",
		RechargeTimeout: "20s", ClickTimeout: "25s",
		LogLevel: "debug", LogFormat: "json",
	}
}

// Config returns the checked settings of an instance.
func (f *Fixture) Config(change ...func(*config.Settings)) config.Config {
	f.T.Helper()
	settings := f.Settings()
	for _, edit := range change {
		edit(&settings)
	}
	cfg, err := settings.Check()
	if err != nil {
		f.T.Fatal(err)
	}
	return cfg
}

// Platform returns the emulated Shopify. The app home is framed by the real admin's host.
func (f *Fixture) Platform() shopify.Platform {
	return shopify.Platform{Shops: map[shopify.Shop]string{"": f.Store.URL}}
}

// Run runs the program, and sets Public and Ops to the addresses that it listens on.
func (f *Fixture) Run(change ...func(*config.Settings)) {
	f.T.Helper()
	i := f.Instance(server.Options{}, change...)
	f.Ask(i.Public)
	f.Ops, f.Stop, f.Ended = i.ops, i.Stop, i.Ended
}

// Ask makes the server at an address the one that the test and Recharge send requests to.
func (f *Fixture) Ask(public string) {
	f.addresses.Lock()
	defer f.addresses.Unlock()
	f.Public = public
}

// Instance is one running program of several.
type Instance struct {
	Public, ops string
	Stop        context.CancelFunc
	Ended       chan error // receives Run's error once; a receiver must send it back
}

// Instance runs another instance beside those that run already.
func (f *Fixture) Instance(options server.Options, change ...func(*config.Settings)) *Instance {
	f.T.Helper()
	cfg := f.Config(change...)
	ctx, stop := context.WithCancel(context.Background())
	i := &Instance{Stop: stop, Ended: make(chan error, 1)}
	listening := make(chan server.Addresses, 1)
	options.Log = slog.New(slog.NewJSONHandler(f.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options.Platform, options.Listening, options.NoIndex = f.Platform(), listening, !f.Import
	options.NoLook = !f.Look
	if options.Now == nil {
		options.Now = f.Clock.Now
	}
	if f.Redis != nil && options.Network.Dial == nil && strings.HasPrefix(cfg.RedisURL.Reveal(), "redis://"+f.Redis.Addr) {
		options.Network.Dial = f.dial
	}
	go func() { i.Ended <- server.Run(ctx, cfg, options) }()
	select {
	case at := <-listening:
		i.Public, i.ops = at.Public.String(), at.Ops.String()
	case err := <-i.Ended:
		f.T.Fatalf("Run: %v", err)
	}
	f.T.Cleanup(func() {
		stop()
		if err := <-i.Ended; err != nil {
			f.T.Errorf("Run: %v", err)
		}
	})
	return i
}

// Restart stops the program, calls meanwhile, and starts the program again. Only the
// data in Redis survives.
func (f *Fixture) Restart(meanwhile func(), change ...func(*config.Settings)) {
	f.T.Helper()
	f.Stop()
	f.Ended <- <-f.Ended
	meanwhile()
	f.Run(change...)
}

// StartWithImport runs a program that imports all customers. The given number of further
// customers come before those of the fixture.
func StartWithImport(t *testing.T, more int, change ...func(*config.Settings)) *Fixture {
	t.Helper()
	f := New(t, storetest.Redis(t))
	f.Import, f.Customers = true, append(Subscribers(more), f.Customers...)
	f.Begin("new", "/apps/subscriptions", change...)
	return f
}

// WaitForImport waits until all customers have been read.
func (f *Fixture) WaitForImport() {
	f.T.Helper()
	f.Until("the index is complete", func() bool { return f.Log.Last("index complete") != nil })
}

// IsReady reports whether an instance answers /readyz with 200.
func IsReady(i *Instance) bool {
	response, err := http.Get("http://" + i.ops + "/readyz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

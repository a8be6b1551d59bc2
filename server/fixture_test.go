package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
	"manage-subscriptions/shopify"
	"manage-subscriptions/shopify/shopifytest"
)

// The people of these tests. The stranger is Recharge's first record: whoever
// takes the first of an unfiltered page opens the stranger's portal.
const (
	shop      = "fixture-shop.myshopify.com"
	appSecret = "fixture-app-secret"
	oldSecret = "fixture-old-secret"
	apiToken  = "sk_test_fixture_admin_token"
	strToken  = "strfnt_fixture_storefront"
	rcSecret  = "fixture-recharge-secret"
	whSecret  = "fixture-webhook-secret" // of Recharge's webhooks

	pat   = "6100200300400" // subscribes
	robin = "6100200300500" // never did
	sam   = "6100200300600" // two records, one of them active
	kim   = "6100200300700" // two records, both active
)

// signingKey is one for all tests: drawing it takes longer than a click may.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func customers() []rechargetest.Customer {
	one := []rechargetest.Subscription{{ID: 50500600, Product: "Morning House"}}
	return []rechargetest.Customer{
		{ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999", Email: "robin@example.test", FirstName: "Some", LastName: "Stranger", Subscriptions: one},
		{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: pat, Email: "pat@example.test", FirstName: "Pat", LastName: "Doe", Subscriptions: one},
		{ID: 70100300, Hash: "2e3d4c5b6a798811", ShopifyCustomerID: sam, FirstName: "Sam", LastName: "Old"},
		{ID: 70100301, Hash: "70100301a1b2c3d4e5f60718", ShopifyCustomerID: sam, FirstName: "Sam", LastName: "Poe", Subscriptions: one},
		{ID: 70100400, Hash: "3d4c5b6a79881122", ShopifyCustomerID: kim, FirstName: "Kim", LastName: "One", Subscriptions: one},
		{ID: 70100401, Hash: "4c5b6a7988112233", ShopifyCustomerID: kim, FirstName: "Kim", LastName: "Two", Subscriptions: one},
	}
}

// fixture is the whole program between an emulated Shopify and an emulated
// Recharge, over real sockets, with a real Redis where one is to be had.
type fixture struct {
	t        *testing.T
	store    *shopifytest.Server
	recharge *rechargetest.Server
	redis    *storetest.Server
	clock    *clock
	log      *logs
	ops      string
	public   string
	stop     context.CancelFunc
	ended    chan error
	seen     []rechargetest.Request // those that calls has counted
	index    bool                   // all customers are remembered beforehand
	people   []rechargetest.Customer
}

// start runs the program with a real Redis; change edits its settings first.
func start(t *testing.T, change ...func(*config.Settings)) *fixture {
	t.Helper()
	return startWith(t, storetest.Redis(t), change...)
}

// startWith runs the program; without a Redis, with the embedded one.
func startWith(t *testing.T, redis *storetest.Server, change ...func(*config.Settings)) *fixture {
	t.Helper()
	return startIn(t, redis, "new", "/apps/subscriptions", change...)
}

// startIn runs the program for a store with these customer accounts, where the
// merchant has put the app at prefix.
func startIn(t *testing.T, redis *storetest.Server, accounts, prefix string, change ...func(*config.Settings)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{}, log: &logs{}, redis: redis, people: customers()}
	f.begin(accounts, prefix, change...)
	return f
}

// begin runs the emulators and the program.
func (f *fixture) begin(accounts, prefix string, change ...func(*config.Settings)) {
	t := f.t
	t.Helper()
	f.recharge = rechargetest.NewServer(rechargetest.Options{
		Shop:            shop,
		Tokens:          []rechargetest.Token{{Value: apiToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000, ClientSecret: whSecret}},
		StorefrontToken: strToken,
		ClientSecret:    rcSecret,
		SigningKey:      signingKey(),
		Customers:       f.people,
		Now:             f.clock.now,
		Deliver:         toServer{f},
		RetryAfter:      func(int) time.Duration { return 20 * time.Millisecond },
	})
	t.Cleanup(f.recharge.Close)
	f.store = shopifytest.NewServer(shopifytest.Options{
		Shop: shop, Name: "Fixture Shop", Email: "owner@fixture.example", Now: f.clock.now, Accounts: accounts,
		Shoppers: append([]shopifytest.Shopper{{ID: pat, FirstName: "Pat"}, {ID: robin, FirstName: "Robin"}, {ID: sam, FirstName: "Sam"}, {ID: kim, FirstName: "Kim"}}, crowdAtStore()...),
	})
	t.Cleanup(f.store.Close)
	f.recharge.SetPortalBase(f.store.URL + "/tools/recurring/portal/")
	f.run(append([]func(*config.Settings){func(s *config.Settings) { s.CustomerAccounts = accounts }}, change...)...)
	f.store.AddApp(shopifytest.App{PathPrefix: prefix, ProxyURL: "http://" + f.public + "/apps/subscriptions", Secret: appSecret, OldSecret: oldSecret})
	f.store.AddApp(shopifytest.App{PathPrefix: "/tools/recurring", ProxyURL: f.recharge.URL + "/proxy", Secret: rcSecret})
	t.Cleanup(f.nothingInTheOpen)
}

// toServer carries what goes to APP_URL to the server.
type toServer struct{ f *fixture }

func (to toServer) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host = "http", to.f.public
	return http.DefaultTransport.RoundTrip(request)
}

func (f *fixture) settings() config.Settings {
	redisURL := ""
	if f.redis != nil {
		redisURL = "redis://" + f.redis.Addr
	}
	return config.Settings{
		ShopifyAPIKey: "fixture-client-id", ShopifyAPISecret: appSecret + "," + oldSecret, ShopifyShop: shop, CustomerAccounts: "new",
		AppURL: "https://app.example", Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: redisURL,
		RechargeAPIToken: apiToken, RechargeStorefrontToken: strToken, RechargeRate: "1000,10000",
		RechargeAPIURL: f.recharge.URL, RechargePortalURL: f.store.URL + "/tools/recurring/portal/",
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: "60s", RechargeTimeout: "5s", ClickTimeout: "15s",
		LogLevel: "debug", LogFormat: "json",
	}
}

// platform is the emulated Shopify. The admin frames from where the real one does.
func (f *fixture) platform() shopify.Platform {
	return shopify.Platform{Shop: func(shopify.Shop) string { return f.store.URL }}
}

func (f *fixture) run(change ...func(*config.Settings)) {
	f.t.Helper()
	i := f.instance(nil, change...)
	f.public, f.ops, f.stop, f.ended = i.public, i.ops, i.stop, i.ended
}

// instance is one running program of several.
type instance struct {
	public, ops string
	stop        context.CancelFunc
	ended       chan error // has Run's error in it when that is over; whoever takes it puts it back
}

// instance runs one more program, beside what runs already.
func (f *fixture) instance(options []server.Option, change ...func(*config.Settings)) *instance {
	f.t.Helper()
	settings := f.settings()
	for _, edit := range change {
		edit(&settings)
	}
	cfg, err := settings.Check()
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	i := &instance{stop: stop, ended: make(chan error, 1)}
	listening := make(chan server.Addresses, 1)
	options = append([]server.Option{
		server.WithLog(slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		server.WithClock(f.clock.now),
		server.WithShopify(f.platform()),
		server.OnListening(func(at server.Addresses) { listening <- at }),
	}, f.options(options...)...)
	go func() { i.ended <- server.Run(ctx, cfg, options...) }()
	select {
	case at := <-listening:
		i.public, i.ops = at.Public.String(), at.Ops.String()
	case err := <-i.ended:
		f.t.Fatalf("Run: %v", err)
	}
	f.t.Cleanup(func() {
		stop()
		if err := <-i.ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	return i
}

// options are those of a server without an index, unless the test is about that.
func (f *fixture) options(all ...server.Option) []server.Option {
	if !f.index {
		all = append(all, server.WithoutIndex())
	}
	return all
}

// restart ends the program and runs it anew: it remembers nothing but what Redis
// has.
func (f *fixture) restart(meanwhile func(), change ...func(*config.Settings)) {
	f.t.Helper()
	f.stop()
	f.ended <- <-f.ended
	meanwhile()
	f.run(change...)
}

// shopper is a browser at the storefront, signed in as id ("" is signed out).
func (f *fixture) shopper(id string) *http.Client {
	f.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if id != "" {
		response, err := client.PostForm(f.store.URL+"/customer_authentication/login", url.Values{"customer": {id}, "return_to": {"/account"}})
		if err != nil {
			f.t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	return client
}

// answer is what a click was answered with.
type answer struct {
	status   int
	location string
	header   http.Header // the program's own, before the storefront strips any
	body     string
	line     map[string]any // the click's line in the log
}

func (a answer) outcome() string {
	outcome, _ := a.line["outcome"].(string)
	return outcome
}

// click opens a path of the storefront and follows nothing.
func (f *fixture) click(client *http.Client, path string) answer {
	f.t.Helper()
	response, err := client.Get(f.store.URL + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	forwarded := f.store.Forwarded()
	a := answer{status: response.StatusCode, location: response.Header.Get("Location"), body: string(body), line: f.log.last("click")}
	if len(forwarded) > 0 {
		a.header = forwarded[len(forwarded)-1].Header
	}
	return a
}

// land clicks, follows, and returns the portal page that opened; the zero
// Opening if none did.
func (f *fixture) land(client *http.Client, path string) rechargetest.Opening {
	f.t.Helper()
	before := len(f.recharge.Openings())
	follower := *client
	follower.CheckRedirect = nil
	// A page that forwards is followed like a redirect, and like that not for ever.
	at := f.store.URL + path
	for hops := 0; at != "" && hops < 10; hops++ {
		response, err := follower.Get(at)
		if err != nil {
			f.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			f.t.Fatal(err)
		}
		at = ""
		if strings.Contains(string(body), `http-equiv="refresh"`) {
			at = answer{body: string(body)}.next()
		}
	}
	openings := f.recharge.Openings()
	if len(openings) == before {
		return rechargetest.Opening{}
	}
	return openings[len(openings)-1]
}

// opening follows a link and returns what it has opened; the zero Opening if it
// is nothing. Nobody else may open a portal meanwhile.
func (f *fixture) opening(client *http.Client, location string) rechargetest.Opening {
	f.t.Helper()
	before := len(f.recharge.Openings())
	response, err := client.Get(location)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
	openings := f.recharge.Openings()
	if len(openings) == before {
		return rechargetest.Opening{}
	}
	return openings[len(openings)-1]
}

// calls counts Recharge's requests by endpoint since the last call of it.
func (f *fixture) calls() map[string]int {
	calls := map[string]int{}
	requests := f.recharge.Requests()
	for _, request := range requests {
		calls[request.Endpoint]++
	}
	f.seen = append(f.seen, requests...)
	f.recharge.ResetRequests()
	return calls
}

// nothingInTheOpen reads the whole log and the whole Redis of a test.
func (f *fixture) nothingInTheOpen() {
	secrets := f.secrets()
	log := f.log.String()
	for what, secret := range secrets {
		if strings.Contains(log, secret) {
			f.t.Errorf("the log holds %s", what)
		}
	}
	if f.redis == nil || !f.redis.Running() {
		return
	}
	var dump bytes.Buffer
	for key, value := range f.redis.Dump() {
		dump.WriteString(key + "\n" + value + "\n")
	}
	for what, secret := range secrets {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
			if bytes.Contains(dump.Bytes(), []byte(form)) {
				f.t.Errorf("Redis holds %s", what)
			}
		}
	}
}

// secrets are everything that must stay inside, by what it is: what the fixture
// was configured with, and what the emulators have seen or handed out.
func (f *fixture) secrets() map[string]string {
	secrets := map[string]string{
		"the app's secret": appSecret, "the old secret": oldSecret, "the Admin token": apiToken, "the storefront token": strToken,
		"an e-mail address": "@example.test", "the webhook secret": whSecret,
	}
	for _, c := range customers() {
		secrets["the hash of "+c.Hash] = c.Hash
		secrets["the Shopify id of "+c.Hash] = c.ShopifyCustomerID
	}
	secrets["the Shopify id of Robin"] = robin
	for _, request := range append(f.seen, f.recharge.Requests()...) {
		if token := request.Header.Get("X-Recharge-Access-Token"); token != "" {
			secrets["the token of "+request.Endpoint+token] = token
		}
	}
	for _, forwarded := range f.store.Forwarded() {
		query, _ := url.ParseQuery(forwarded.Query)
		secrets["a signature "+query.Get("signature")] = query.Get("signature")
		location, _ := url.Parse(forwarded.Header.Get("Location"))
		if token := location.Query().Get("token"); token != "" {
			secrets["a portal token "+token] = token
		}
	}
	return secrets
}

// clock is the real time, moved by what a test adds.
type clock struct {
	mu    sync.Mutex
	added time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

// set moves it to that long after the real time.
func (c *clock) set(added time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added = added
}

// logs keeps every line of the log.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are the log's lines with that message.
func (l *logs) lines(message string) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

func (l *logs) last(message string) map[string]any {
	lines := l.lines(message)
	if len(lines) == 0 {
		return nil
	}
	return slices.Clone(lines)[len(lines)-1]
}

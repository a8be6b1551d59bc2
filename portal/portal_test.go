package portal_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/memnet"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	shop  = shopify.Shop("fixture-shop.myshopify.com")
	token = "sk_test_fixture_admin_token"

	pat                  = shopify.CustomerID("6100200300400") // a subscriber
	robin                = shopify.CustomerID("6100200300500") // never subscribed
	record               = int64(70100200)                     // Pat's
	hash                 = "1f2e3d4c5b6a7988"                  // Pat's
	linkTTL, customerTTL = 10 * time.Minute, 24 * time.Hour
)

// TestMain runs more tests at once than there are processors, since these mostly wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil { // the flag -parallel still overrides it
		panic(err)
	}
	m.Run()
}

// people are Recharge's records. Code that takes the first record of an unfiltered page gets the
// stranger's.
func people() []rechargetest.Customer {
	one := []rechargetest.Subscription{{ID: 50500600, Product: "Morning House"}}
	return []rechargetest.Customer{
		{ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999", Subscriptions: one},
		{ID: record, Hash: hash, ShopifyCustomerID: string(pat), Subscriptions: one},
	}
}

// signingKey is shared by all tests, since generating it takes longer than a click may.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// bed is a resolver between a real store and an emulated Recharge.
type bed struct {
	t        *testing.T
	recharge *rechargetest.Server
	store    *store.Store
	resolver *portal.Resolver
	http     *http.Transport // to Recharge
	added    atomic.Int64    // to the real time
	breaks   atomic.Bool     // the client's clock
}

func (b *bed) now() time.Time { return time.Now().Add(time.Duration(b.added.Load())) }

// tick is the resolver's clock. Each look at it takes time, so that a tombstone is older than the
// lookup that follows it in virtual time, too.
func (b *bed) tick() time.Time {
	time.Sleep(time.Microsecond)
	return b.now()
}

func (b *bed) pass(d time.Duration) { b.added.Add(int64(d)) }

// clientNow is the clock of Recharge's client, which can break.
func (b *bed) clientNow() time.Time {
	if b.breaks.Load() {
		panic("the clock is broken")
	}
	return b.now()
}

// newBed is a bed in one-store mode. If kept is nil, it uses the embedded Redis, and can run in virtual
// time.
func newBed(t *testing.T, kept *storetest.Server, change ...func(*portal.Settings)) *bed {
	t.Helper()
	b := &bed{t: t}
	var network memnet.Network
	listener, err := network.Listen(t.Context(), "tcp", "127.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	b.recharge = rechargetest.NewServerOn(listener, rechargetest.Options{
		Shop: string(shop), Customers: people(), Now: b.now, SigningKey: signingKey(),
		Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000}},
	})
	t.Cleanup(b.recharge.Close)
	b.open(kept)
	b.http = recharge.NewTransport(2 * time.Second)
	b.http.DialContext = network.Dial
	t.Cleanup(b.http.CloseIdleConnections)
	settings := portal.Settings{Defaults: store.Traits{PortalURL: b.recharge.URL + "/portal/"}, Options: recharge.Options{
		APIURL: address(t, b.recharge.URL), AppURL: address(t, b.recharge.URL), Rate: 1000, Burst: 10000, Timeout: 2 * time.Second, HTTP: b.http, Now: b.clientNow,
	}}
	for _, edit := range change {
		edit(&settings)
	}
	merchants, err := portal.NewMerchants(b.store, settings, &store.Connection{Shop: shop, APIToken: token})
	if err != nil {
		t.Fatal(err)
	}
	b.resolver = &portal.Resolver{Store: b.store, Merchants: merchants, Timeout: 5 * time.Second, LinkTTL: linkTTL, Now: b.tick}
	return b
}

func (b *bed) open(kept *storetest.Server) {
	b.t.Helper()
	options := store.Options{
		Keys: [][]byte{make([]byte, 32)}, CustomerTTL: customerTTL, Single: shop, Now: b.now, Log: slog.New(slog.DiscardHandler),
	}
	if kept != nil {
		options.Redis = &redis.UniversalOptions{Addrs: []string{kept.Addr}}
	}
	s, err := store.Open(options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close() })
	b.store = s
}

// beside returns the resolver of another instance on the same Redis.
func (b *bed) beside(kept *storetest.Server) *portal.Resolver {
	b.t.Helper()
	first := b.store
	b.open(kept)
	second := &portal.Resolver{Store: b.store, Merchants: b.resolver.Merchants, Timeout: 5 * time.Second, LinkTTL: linkTTL, Now: b.now}
	b.store = first
	return second
}

func address(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (b *bed) faults(change func(*rechargetest.Faults)) {
	b.recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{}; change(f) })
}

// moves gives Pat's record to another shopper, without a webhook.
func (b *bed) moves(to shopify.CustomerID) {
	moved := people()
	moved[1].ShopifyCustomerID = string(to)
	b.recharge.SetCustomers(moved)
}

// told applies a webhook about Pat's record.
func (b *bed) told() {
	b.t.Helper()
	if err := b.store.ApplyCustomerChange(b.t.Context(), shop, store.Change{ID: record}); err != nil {
		b.t.Fatal(err)
	}
}

// who is a shopper of the store.
func who(id shopify.CustomerID) store.Shopper { return store.Shopper{Shop: shop, Customer: id} }

// click resolves a click by Pat, unless the request names another shopper.
func (b *bed) click(request portal.Request) portal.Result {
	b.t.Helper()
	return resolve(b.t.Context(), b.resolver, request)
}

func resolve(ctx context.Context, resolver *portal.Resolver, request portal.Request) portal.Result {
	if request.Shopper == (store.Shopper{}) {
		request.Shopper = who(pat)
	}
	if request.Visit.To == "" {
		request.Visit.To = recharge.Subscriptions
	}
	return resolver.Resolve(ctx, request, portal.NewTrace(resolver.Now))
}

// ended returns how a click by Pat ends: outcome, source, and the calls that it makes.
func (b *bed) ended(request portal.Request) (string, portal.Result) {
	b.t.Helper()
	b.asked()
	r := b.click(request)
	calls := b.asked()
	if len(calls) != len(r.Calls) {
		b.t.Errorf("Recharge got the calls %v, but the result lists %v", calls, r.Calls)
	}
	return strings.Join(append([]string{string(r.Outcome), string(r.Source)}, calls...), " "), r
}

// asked returns the calls that Recharge got since the last time, in order.
func (b *bed) asked() (calls []string) {
	for _, request := range b.recharge.Requests() {
		calls = append(calls, request.Endpoint)
	}
	b.recharge.ResetRequests()
	return calls
}

// leads fails if a link does not lead to Pat's portal, or if a signed-in link has no token.
func (b *bed) leads(when string, r portal.Result) {
	b.t.Helper()
	opens := r.Outcome == portal.Redirected || r.Outcome == portal.RedirectedByHash
	if opens != (r.Link.URL != "") || opens && !strings.HasPrefix(r.Link.URL, b.recharge.URL+"/portal/"+hash+"/") {
		b.t.Errorf("%s: %s leads to %q", when, r.Outcome, r.Link.URL)
	}
	if strings.Contains(r.Link.URL, "token=") != (r.Outcome == portal.Redirected) {
		b.t.Errorf("%s: %s leads to %q; want a token where it is signed in", when, r.Outcome, r.Link.URL)
	}
}

// states are what can be cached about Pat when the click comes.
func states() map[string]func(*bed) {
	click := func(b *bed) {
		if r := b.click(portal.Request{}); r.Outcome != portal.Redirected {
			b.t.Fatalf("before: %s, %v", r.Outcome, r.Cause)
		}
	}
	return map[string]func(*bed){
		"nothing":  func(*bed) {},
		"access":   click,
		"session":  func(b *bed) { click(b); b.pass(linkTTL + time.Second) },
		"customer": func(b *bed) { b.status(false); b.pass(50 * time.Minute) },
		"verified long ago": func(b *bed) {
			click(b)
			b.pass(2 * time.Hour)
		},
		"webhooks proven": func(b *bed) {
			click(b)
			if err := b.store.WebhookVerified(b.t.Context(), shop, "secret"); err != nil {
				b.t.Fatal(err)
			}
			b.pass(2 * time.Hour)
		},
		"imported":    func(b *bed) { b.imports() },
		"out of date": func(b *bed) { click(b); b.pass(30 * time.Hour) },
		"nobody":      func(b *bed) { b.nobody() },
		"nobody a minute ago": func(b *bed) {
			b.nobody()
			b.pass(time.Minute + time.Second)
		},
	}
}

// nobody caches that Pat is no subscriber, and then makes Pat one again.
func (b *bed) nobody() {
	b.moves(robin)
	if r := b.click(portal.Request{}); r.Outcome != portal.NotASubscriber {
		b.t.Fatalf("before: %s, %v", r.Outcome, r.Cause)
	}
	b.recharge.SetCustomers(people())
}

// imports caches all customers, as the nightly import does.
func (b *bed) imports() {
	b.t.Helper()
	ctx := b.t.Context()
	if err := b.store.RequestImport(ctx, shop); err != nil {
		b.t.Fatal(err)
	}
	task, err := b.store.TakeImport(ctx)
	if err != nil || task == nil {
		b.t.Fatalf("no import is due: %v", err)
	}
	task.Import = store.Import{Number: task.Number + 1, Running: true, Began: b.now()}
	var records []recharge.Record
	for _, c := range people() {
		records = append(records, recharge.Record{
			ShopifyID: c.ShopifyCustomerID, Customer: recharge.Customer{ID: c.ID, Hash: c.Hash, Active: len(c.Subscriptions)},
		})
	}
	if err := b.store.SaveImported(ctx, task, records, 0); err != nil {
		b.t.Fatal(err)
	}
	task.Running, task.Done, task.Size = false, b.now(), len(records)
	if _, err := b.store.KeepImport(ctx, task, time.Hour); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) status(cacheOnly bool) portal.SubscriberStatus {
	return b.resolver.Status(b.t.Context(), who(pat), cacheOnly)
}

// answers are what Recharge can do when the click comes.
func answers() map[string]func(*bed) {
	fault := func(change func(*rechargetest.Faults)) func(*bed) { return func(b *bed) { b.faults(change) } }
	return map[string]func(*bed){
		"in order":            func(*bed) {},
		"is down":             fault(func(f *rechargetest.Faults) { f.Status = 500 }),
		"429":                 fault(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, time.Minute }),
		"no sessions":         fault(func(f *rechargetest.Faults) { f.RefuseSessions = true }),
		"no access":           fault(func(f *rechargetest.Faults) { f.RefusePortalAccess = true }),
		"a foreign session":   fault(func(f *rechargetest.Faults) { f.ForeignSession = true }),
		"a foreign portal":    fault(func(f *rechargetest.Faults) { f.ForeignPortal = true }),
		"a foreign record":    fault(func(f *rechargetest.Faults) { f.OtherRecord = true }),
		"filter ignored":      fault(func(f *rechargetest.Faults) { f.IgnoreFilter = true }),
		"the record moved":    func(b *bed) { b.moves(robin) },
		"moved and no filter": func(b *bed) { b.moves(robin); b.faults(func(f *rechargetest.Faults) { f.IgnoreFilter = true }) },
		"the record is gone":  func(b *bed) { b.recharge.SetCustomers(people()[:1]) },
		"sessions are over":   func(b *bed) { b.recharge.ExpireSessions() },
	}
}

// TestResolve: how a click ends by what is cached and by what Recharge does: outcome, source, and
// calls; and then how the same click ends right afterwards. A row is for several states or answers;
// "*" means all.
func TestResolve(t *testing.T) {
	before, does := states(), answers()
	want := map[[2]string][]string{}
	for _, row := range [][4]string{
		{"access", "*", "redirected link", "redirected link"},
		{"nobody", "*", "not_a_subscriber nobody", "not_a_subscriber nobody"},
		{"nothing/nobody a minute ago", "429", "unavailable none customers", "unavailable none"},
		{"nothing/nobody a minute ago/out of date", "a foreign portal", "redirected_by_hash recharge customers sessions portal_access", "redirected_by_hash recharge customers sessions portal_access"},
		{"nothing/nobody a minute ago/out of date", "a foreign record/filter ignored/in order/sessions are over", "redirected recharge customers sessions portal_access", "redirected link"},
		{"nothing/nobody a minute ago/out of date", "a foreign session", "redirected_by_hash recharge customers sessions", "redirected_by_hash recharge customers sessions"},
		{"nothing/nobody a minute ago", "is down", "unavailable none customers customers", "unavailable none customers customers"},
		{"nothing/nobody a minute ago", "moved and no filter", "unavailable none customers", "unavailable none customers"},
		{"nothing/nobody a minute ago/out of date", "no access", "redirected_by_hash recharge customers sessions portal_access", "redirected_by_hash session"},
		{"nothing/nobody a minute ago/out of date", "no sessions", "redirected_by_hash recharge customers sessions", "redirected_by_hash customer"},
		{"nothing/nobody a minute ago/out of date", "the record is gone/the record moved", "not_a_subscriber recharge customers", "not_a_subscriber nobody"},
		{"session", "429", "redirected_by_hash session portal_access", "redirected_by_hash session"},
		{"session", "a foreign portal", "redirected_by_hash session portal_access", "redirected_by_hash recharge customers sessions portal_access"},
		{"session", "a foreign record/a foreign session/filter ignored/in order/moved and no filter/no sessions/the record moved", "redirected session portal_access", "redirected link"},
		{"session", "is down", "redirected_by_hash session portal_access portal_access", "redirected_by_hash session portal_access portal_access"},
		{"session", "no access", "redirected_by_hash session portal_access sessions portal_access", "redirected_by_hash session"},
		{"session", "sessions are over", "redirected session portal_access sessions portal_access", "redirected link"},
		{"session", "the record is gone", "redirected_by_hash session portal_access sessions", "not_a_subscriber recharge customers"},
		{"customer/webhooks proven", "429/no sessions", "redirected_by_hash customer sessions", "redirected_by_hash customer"},
		{"customer/webhooks proven", "a foreign portal", "redirected_by_hash customer sessions portal_access", "redirected_by_hash recharge customers sessions portal_access"},
		{"customer/webhooks proven", "a foreign record/filter ignored/in order/moved and no filter/sessions are over/the record moved", "redirected customer sessions portal_access", "redirected link"},
		{"customer/webhooks proven", "a foreign session", "redirected_by_hash customer sessions", "redirected_by_hash recharge customers sessions"},
		{"customer/webhooks proven", "is down", "redirected_by_hash customer sessions", "redirected_by_hash customer sessions"},
		{"customer/webhooks proven", "no access", "redirected_by_hash customer sessions portal_access", "redirected_by_hash session"},
		{"customer/webhooks proven", "the record is gone", "redirected_by_hash customer sessions", "not_a_subscriber recharge customers"},
		{"imported", "429/no sessions", "redirected_by_hash index sessions", "redirected_by_hash index"},
		{"imported", "a foreign portal", "redirected_by_hash index sessions portal_access", "redirected_by_hash recharge customers sessions portal_access"},
		{"imported", "a foreign record/filter ignored/in order/moved and no filter/sessions are over/the record moved", "redirected index sessions portal_access", "redirected link"},
		{"imported", "a foreign session", "redirected_by_hash index sessions", "redirected_by_hash recharge customers sessions"},
		{"imported", "is down", "redirected_by_hash index sessions", "redirected_by_hash index sessions"},
		{"imported", "no access", "redirected_by_hash index sessions portal_access", "redirected_by_hash session"},
		{"imported", "the record is gone", "redirected_by_hash index sessions", "not_a_subscriber recharge customers"},
		{"verified long ago", "429", "redirected_by_hash customer customer", "redirected_by_hash customer"},
		{"verified long ago", "a foreign portal", "redirected_by_hash customer customer sessions portal_access", "redirected_by_hash recharge customers sessions portal_access"},
		{"verified long ago", "a foreign record", "redirected recharge customer customers sessions portal_access", "redirected link"},
		{"verified long ago", "a foreign session", "redirected_by_hash customer customer sessions", "redirected_by_hash recharge customers sessions"},
		{"verified long ago", "filter ignored/in order/sessions are over", "redirected customer customer sessions portal_access", "redirected link"},
		{"verified long ago", "is down", "redirected_by_hash customer customer customer", "redirected_by_hash customer customer customer"},
		{"verified long ago", "moved and no filter", "unavailable none customer customers", "unavailable none customers"},
		{"verified long ago", "no access", "redirected_by_hash customer customer sessions portal_access", "redirected_by_hash session"},
		{"verified long ago", "no sessions", "redirected_by_hash customer customer sessions", "redirected_by_hash customer"},
		{"verified long ago", "the record is gone/the record moved", "not_a_subscriber recharge customer customers", "not_a_subscriber nobody"},
		{"out of date", "429", "redirected_by_hash out_of_date customers", "redirected_by_hash out_of_date"},
		{"out of date", "is down", "redirected_by_hash out_of_date customers customers", "redirected_by_hash out_of_date customers customers"},
		{"out of date", "moved and no filter", "unavailable none customers customer", "unavailable none customers"},
	} {
		for _, cached := range one(row[0], before) {
			for _, recharge := range one(row[1], does) {
				want[[2]string{cached, recharge}] = row[2:]
			}
		}
	}
	for cached, prepare := range before {
		for recharge, fail := range does {
			t.Run(cached+", Recharge: "+recharge, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBed(t, nil)
					prepare(b)
					fail(b)
					ends, ok := want[[2]string{cached, recharge}]
					if !ok {
						t.Fatal("no row covers this case")
					}
					for i, want := range ends {
						when := fmt.Sprintf("click %d", i+1)
						got, result := b.ended(portal.Request{})
						if got != want {
							t.Errorf("%s: %q (%v); want %q", when, got, result.Cause, want)
						}
						b.leads(when, result)
					}
				})
			})
		}
	}
}

// one returns each name in a cell of a row.
func one(names string, all map[string]func(*bed)) []string {
	if names == "*" {
		return slices.Collect(maps.Keys(all))
	}
	return strings.Split(names, "/")
}

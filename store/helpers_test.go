package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // it logs every dead connection
	// A pool whose Redis was down dials once a second, and only then notices that it is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// eventually waits until done returns true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
	}
}

// clock is the store's clock.
type clock struct{ nanoseconds atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanoseconds.Store(1735689600 * int64(time.Second))
	return c
}

func (c *clock) Now() time.Time           { return time.Unix(0, c.nanoseconds.Load()) }
func (c *clock) advance(by time.Duration) { c.nanoseconds.Add(int64(by)) }

// logged holds what was logged, one line each.
type logged struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// lines returns the lines that contain all of parts.
func (l *logged) lines(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for line := range strings.Lines(l.out.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// key returns an encryption key.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

const (
	shop  = shopify.Shop("fixture-shop.myshopify.com")
	shop2 = shopify.Shop("second-shop.myshopify.com")
)

// Two shoppers, Recharge's record of the first, and a secret session.
var (
	pat   = store.Shopper{Shop: shop, Customer: "6100200300400"}
	kim   = store.Shopper{Shop: shop, Customer: "6100200300499"}
	known = recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", Active: 1}
)

const token = "eyJhbGciOiJIUzI1NiJ9.eyJjdXN0b21lcl9pZCI6NzAxMDAyMDB9.c2lnbmF0dXJl"

// options returns options for one-store mode with an embedded Redis; a test changes what it is about.
func options(c *clock, l *logged) store.Options {
	return store.Options{
		Keys: [][]byte{key(1)}, CustomerTTL: 24 * time.Hour, Single: shop, Account: "fixture",
		Now: c.Now, Log: slog.New(slog.NewTextHandler(l, nil)),
	}
}

// many returns options for many-store mode.
func many(c *clock, l *logged) store.Options {
	o := options(c, l)
	o.Single, o.Account = "", ""
	return o
}

func on(o store.Options, server *storetest.Server) store.Options {
	o.Redis = &redis.UniversalOptions{Addrs: []string{server.Addr}}
	return o
}

// open opens a store until the test ends.
func open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// onEach runs a test on a real Redis and on the embedded one.
func onEach(t *testing.T, test func(t *testing.T, open func(store.Options) *store.Store)) {
	t.Run("real", func(t *testing.T) {
		server := storetest.Redis(t)
		test(t, func(o store.Options) *store.Store { return open(t, on(o, server)) })
	})
	t.Run("embedded", func(t *testing.T) {
		test(t, func(o store.Options) *store.Store { return open(t, o) })
	})
}

// two returns two instances that share a Redis.
func two(t *testing.T, o store.Options) (a, b *store.Store) {
	t.Helper()
	server := storetest.Redis(t)
	return open(t, on(o, server)), open(t, on(o, server))
}

// direct returns a client of a real Redis, apart from the store's.
func direct(t testing.TB, server *storetest.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	return client
}

func ok(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// load is Load, and must not fail.
func load(t rapid.TB, s *store.Store, who store.Shopper) store.Loaded {
	t.Helper()
	loaded := s.Load(context.Background(), who)
	ok(t, loaded.Err)
	return loaded
}

// recordOf returns a shop's record, which must exist.
func recordOf(t rapid.TB, s *store.Store, shop shopify.Shop) *store.Record {
	t.Helper()
	record := load(t, s, store.Shopper{Shop: shop}).Record
	if record == nil {
		t.Fatalf("%s has no record", shop)
	}
	return record
}

// lookedUp returns the result of a lookup made just now.
func lookedUp(c *clock, who store.Shopper, customer recharge.Customer) store.Cached {
	return store.Cached{Customer: customer, ShopifyID: who.Customer, LookedUp: c.Now(), Verified: c.Now()}
}

// everything returns everything that can be cached about a shopper.
func everything(c *clock) store.Cached {
	cached := lookedUp(c, pat, known)
	cached.Session = recharge.Session{Token: token, Expires: c.Now().Add(59 * time.Minute)}
	cached.Access = recharge.Access{
		Base: "https://fixture-shop.example/tools/recurring/portal/1f2e3d4c5b6a7988/", TempToken: "00112233445566778899aabbccddeeff", Expires: c.Now().Add(time.Hour),
	}
	cached.AccessUntil = c.Now().Add(10 * time.Minute)
	cached.NoAccessUntil = c.Now().Add(30 * time.Second)
	return cached
}

// save saves the result of a lookup made just now.
func save(t rapid.TB, s *store.Store, who store.Shopper, value store.Cached) {
	t.Helper()
	ok(t, s.Save(context.Background(), recordOf(t, s, who.Shop), who, &value, clockOf(t, s), nil))
}

// clockOf returns the time by the shared limiter's clock.
func clockOf(t rapid.TB, s *store.Store) int64 {
	t.Helper()
	now, err := s.Client().Time(context.Background()).Result()
	ok(t, err)
	return now.UnixMicro()
}

// is checks which customer is cached; a zero customer means none.
func is(t rapid.TB, when string, s *store.Store, who store.Shopper, want recharge.Customer) {
	t.Helper()
	if got := load(t, s, who).Cached; got.Customer != want {
		t.Errorf("%s: cached of %s%d is %+v; want %+v", when, who.Customer, who.RechargeID, got.Customer, want)
	}
}

// bucket is like Recharge's, but nothing leaks out of it during a test.
func bucket() recharge.Bucket {
	return recharge.Bucket{Rate: 1e-6, Burst: 40, MaxWait: time.Second}
}

// oneCall is the least that a click asks for.
var oneCall = recharge.Ask{recharge.High: 1}

// take acquires a lock with one call.
func take(t rapid.TB, lock *store.Lock) recharge.Turn {
	t.Helper()
	turn, err := lock.Take(context.Background(), bucket(), oneCall, 0, 0)
	if err != nil || turn.Refused() {
		t.Fatalf("Take = %+v, %v; want a call", turn, err)
	}
	return turn
}

// dump returns everything in a store's Redis, real or embedded.
func dump(t rapid.TB, s *store.Store) map[string]string {
	t.Helper()
	ctx := context.Background()
	keys, err := s.Client().Keys(ctx, "*").Result()
	ok(t, err)
	dump := map[string]string{}
	for _, key := range keys {
		var members []string
		switch s.Client().Type(ctx, key).Val() {
		case "hash":
			for field, value := range s.Client().HGetAll(ctx, key).Val() {
				members = append(members, field+"\n"+value)
			}
		case "zset":
			members = s.Client().ZRange(ctx, key, 0, -1).Val()
		default:
			members = []string{s.Client().Get(ctx, key).Val()}
		}
		slices.Sort(members)
		dump[key] = strings.Join(members, "\n")
	}
	return dump
}

// kinds counts a dump's keys by kind, the part after the shop.
func kinds(dump map[string]string) map[string]int {
	count := map[string]int{}
	for key := range dump {
		_, kind, of := strings.Cut(key, "}:")
		if !of {
			count[key]++
			continue
		}
		kind, _, _ = strings.Cut(kind, ":")
		count[kind]++
	}
	return count
}

// commands returns how often Redis ran each command while do ran, by its own count, which includes
// commands inside scripts.
func commands(t testing.TB, client *redis.Client, do func()) map[string]int {
	t.Helper()
	ctx := context.Background()
	ok(t, client.ConfigResetStat(ctx).Err())
	do()
	info, err := client.Info(ctx, "commandstats").Result()
	ok(t, err)
	calls := map[string]int{}
	for line := range strings.Lines(info) {
		rest, is := strings.CutPrefix(line, "cmdstat_")
		if !is {
			continue
		}
		name, statistics, _ := strings.Cut(rest, ":calls=")
		count, _, _ := strings.Cut(statistics, ",")
		calls[name], err = strconv.Atoi(count)
		ok(t, err)
	}
	// Commands of the counting itself, and those that open a connection.
	maps.DeleteFunc(calls, func(name string, n int) bool {
		return n == 0 || name == "config|resetstat" || name == "info" || name == "hello" || strings.HasPrefix(name, "client|")
	})
	return calls
}

// usedMemory returns how many bytes Redis reports to use.
func usedMemory(t testing.TB, client *redis.Client) int {
	t.Helper()
	info, err := client.Info(context.Background(), "memory").Result()
	ok(t, err)
	_, behind, _ := strings.Cut(info, "used_memory:")
	line, _, _ := strings.Cut(behind, "\r\n")
	bytes, err := strconv.Atoi(line)
	ok(t, err)
	return bytes
}

const hush = "hush-hush-client-secret"

// connected returns a shop's connection.
func connected(c *clock, shop shopify.Shop) store.Connection {
	return store.Connection{
		Shop: shop, APIToken: "sk_1x1_0123456789abcdef", StorefrontToken: "strfnt_fedcba9876543210", ClientSecret: hush,
		Detected:   store.Traits{PortalURL: "https://fixture-shop.example/tools/recurring/portal/", Accounts: "new"},
		Chosen:     store.Traits{Accounts: "legacy"},
		WebhookKey: "unguessable-webhook-key",
		Webhooks:   store.WebhookState{CheckedAt: c.Now().UTC(), Problem: "not there"},
		SavedAt:    c.Now().UTC(),
	}
}

// plain is a connection without the methods that hide its secrets.
type plain store.Connection

func sameConnection(t rapid.TB, what string, got, want *store.Connection) {
	t.Helper()
	if diff := cmp.Diff((*plain)(want), (*plain)(got)); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

// importing takes a shop's import, and begins it.
func importing(t rapid.TB, s *store.Store, shop shopify.Shop) *store.ImportTask {
	t.Helper()
	ok(t, s.RequestImport(context.Background(), shop))
	task := taken(t, s, shop)
	task.Number++
	task.Running = true
	return task
}

// taken takes a shop's import, which must be due.
func taken(t rapid.TB, s *store.Store, shop shopify.Shop) *store.ImportTask {
	t.Helper()
	task, err := s.TakeImport(context.Background())
	if err != nil || task == nil || task.Shop != shop {
		t.Fatalf("TakeImport = %+v, %v; want that of %s", task, err, shop)
	}
	return task
}

// imports saves a page that was read just now.
func imports(t rapid.TB, s *store.Store, task *store.ImportTask, records ...recharge.Record) {
	t.Helper()
	ok(t, s.SaveImported(context.Background(), task, records, clockOf(t, s)))
}

func record(who store.Shopper, customer recharge.Customer) recharge.Record {
	return recharge.Record{ShopifyID: string(who.Customer), Customer: customer}
}

// fill imports n made-up customers of a shop.
func fill(t rapid.TB, s *store.Store, shop shopify.Shop, n int) {
	t.Helper()
	task := importing(t, s, shop)
	const page = 5000
	for i := 0; i < n; i += page {
		var records []recharge.Record
		for j := i; j < min(i+page, n); j++ {
			records = append(records, record(nth(shop, j), nthCustomer(j)))
		}
		imports(t, s, task, records...)
	}
}

func nth(shop shopify.Shop, i int) store.Shopper {
	return store.Shopper{Shop: shop, Customer: shopify.CustomerID(strconv.Itoa(6100200400000 + i))}
}

func nthCustomer(i int) recharge.Customer {
	return recharge.Customer{ID: 170100200 + int64(i), Hash: fmt.Sprintf("%030x", (i+1)*1_000_003), Active: 1}
}

// second returns the error of a call with two results.
func second(_ bool, err error) error { return err }

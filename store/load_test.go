package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestLoadIsOneCommand counts a click's commands, by Redis' own count.
func TestLoadIsOneCommand(t *testing.T) {
	server := storetest.Redis(t)
	client := direct(t, server)
	for keys := 1; keys <= 3; keys++ { // only opening a record depends on them
		c := newClock()
		o := on(options(c, &logged{}), server)
		o.Keys = [][]byte{key(1), key(2), key(3)}[:keys]
		ok(t, client.FlushAll(t.Context()).Err())
		first := open(t, o)
		ok(t, first.Client().Ping(t.Context()).Err())
		second := open(t, o)
		ok(t, second.Client().Ping(t.Context()).Err())
		o.Single = ""
		connects := open(t, o)
		ok(t, connects.Client().Ping(t.Context()).Err())
		value, at := everything(c), clockOf(t, first)
		var r *store.Record
		saves := func() { ok(t, second.Save(t.Context(), r, pat, &value, at, nil)) }
		tests := []struct {
			name string
			do   func()
			want map[string]int
		}{
			{"nothing is kept of the shop", func() { load(t, connects, pat) }, map[string]int{"mget": 1}},
			{"the one store's record is made", func() { load(t, first, pat) }, map[string]int{"mget": 2, "eval": 1, "get": 1, "set": 1}},
			{"the first time", func() { r = load(t, second, pat).Record }, map[string]int{"mget": 2}},
			{"from then on", func() { load(t, second, pat) }, map[string]int{"mget": 1}},
			{"another shopper", func() { load(t, second, kim) }, map[string]int{"mget": 1}},
			{"a visitor", func() { load(t, second, store.Shopper{Shop: shop}) }, map[string]int{"mget": 1}},
			{"the first save", saves, map[string]int{"eval": 1, "time": 1, "getrange": 2, "get": 2, "hget": 1, "hset": 1, "pexpire": 1, "set": 1, "del": 1}},
			{"the next save", saves, map[string]int{"eval": 1, "time": 1, "getrange": 2, "get": 2, "hget": 1, "hset": 1, "pexpire": 1, "set": 1, "del": 1}},
			{"what is cached", func() { load(t, second, pat) }, map[string]int{"mget": 1}},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d keys: %s", keys, tt.name), func(t *testing.T) {
				if diff := cmp.Diff(tt.want, commands(t, client, tt.do)); diff != "" {
					t.Errorf("commands: -want +got\n%s", diff)
				}
			})
		}
	}
}

// TestRoundTrip: a saved value is loaded the same, field by field.
func TestRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c := newClock()
		s := open(options(c, &logged{}))
		later := func(t *rapid.T, what string) time.Time {
			return c.Now().Add(time.Duration(rapid.IntRange(1, 5000).Draw(t, what)) * time.Second)
		}
		rapid.Check(t, func(t *rapid.T) {
			who := store.Shopper{Shop: shop, Customer: shopify.CustomerID(rapid.SampledFrom([]string{"1", "6100200300400", "18446744073709551615"}).Draw(t, "id"))}
			if rapid.Bool().Draw(t, "by Recharge's id") {
				who.RechargeID = rapid.Int64Range(1, 1<<62).Draw(t, "Recharge's id")
			}
			want := store.Cached{LookedUp: c.Now().Add(-time.Duration(rapid.IntRange(0, 3600).Draw(t, "age")) * time.Second)}
			switch {
			case rapid.Bool().Draw(t, "customer"):
				want.Customer = recharge.Customer{
					ID:     rapid.Int64Range(1, 1<<62).Draw(t, "record"),
					Hash:   rapid.SampledFrom([]string{"", "1f2e3d4c5b6a7988", "ABCDEF12", "abc", "70100200a1b2c3d4e5f60718"}).Draw(t, "hash"),
					Active: rapid.IntRange(0, 1<<30).Draw(t, "active"),
				}
				if who.RechargeID != 0 {
					want.Customer.ID = who.RechargeID
				}
				want.ShopifyID = rapid.SampledFrom([]shopify.CustomerID{"", who.Customer}).Draw(t, "Shopify's id")
				want.Verified = want.LookedUp.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "verified")) * time.Second)
				want.Import = rapid.SampledFrom([]uint64{0, 1, 300}).Draw(t, "import")
				want.Several = rapid.Bool().Draw(t, "several")
			default:
				want.NotSubscriber = true
				want.LookedUp = c.Now()
			}
			if rapid.Bool().Draw(t, "session") {
				want.Session = recharge.Session{Token: rapid.StringMatching(`[a-zA-Z0-9._-]{1,60}`).Draw(t, "token"), Expires: later(t, "session ends")}
			}
			if rapid.Bool().Draw(t, "access") {
				want.Access = recharge.Access{Base: "https://fixture-shop.example/", TempToken: rapid.StringMatching(`[0-9a-f]{1,40}`).Draw(t, "temp token")}
				want.AccessUntil = later(t, "access until")
				if rapid.Bool().Draw(t, "access ends") {
					want.Access.Expires = later(t, "access ends")
				}
			}
			if rapid.Bool().Draw(t, "no access") {
				want.NoAccessUntil = later(t, "no access until")
			}
			if err := s.Save(context.Background(), recordOf(t, s, shop), who, &want, clockOf(t, s), nil); err != nil {
				t.Fatal(err)
			}
			got := load(t, s, who).Cached
			want.Fresh = !want.Several
			if diff := cmp.Diff(want, got); diff != "" || got.Access != want.Access && !got.Access.Expires.Equal(want.Access.Expires) {
				t.Fatalf("Load: -want +got\n%s", diff)
			}
		})
	})
}

// TestFreshness: how long a cached value is usable, and for what.
func TestFreshness(t *testing.T) {
	const day = 24 * time.Hour
	c := newClock()
	customer := lookedUp(c, pat, known)
	stale := customer
	imported := customer
	imported.Import = 7
	several := imported
	several.Several = true
	nobody := store.Cached{NotSubscriber: true, LookedUp: c.Now()}
	all := everything(c)
	fresh := func(c store.Cached) store.Cached { c.Fresh = true; return c }
	without := func(change func(*store.Cached)) store.Cached { c := fresh(all); change(&c); return c }
	tests := []struct {
		name  string
		value store.Cached
		after time.Duration
		who   store.Shopper
		want  store.Cached
	}{
		{"a customer", customer, 0, pat, fresh(customer)},
		{"to somebody else", customer, 0, kim, store.Cached{}},
		{"to somebody of another shop", customer, 0, store.Shopper{Shop: shop2, Customer: pat.Customer}, store.Cached{}},
		{"to a visitor", customer, 0, store.Shopper{Shop: shop}, store.Cached{}},
		{"to the same person by Recharge's id", customer, 0, store.Shopper{Shop: shop, RechargeID: known.ID}, store.Cached{}},
		{"fresh for 0.9 of its time", customer, day*9/10 - time.Second, pat, fresh(customer)},
		{"stale after 1.1 of its time", customer, day * 11 / 10, pat, stale},
		{"stale for a week", customer, day*9/10 + 7*day - time.Second, pat, stale},
		{"over after 8 days", customer, 8*day + time.Second, pat, store.Cached{}},
		{"imported, until the next import is through", imported, day*9/10 + 3*time.Hour - time.Second, pat, fresh(imported)},
		{"imported, stale", imported, day*11/10 + 3*time.Hour, pat, imported},
		{"several records", several, 0, pat, several},
		{"no subscriber for a minute", nobody, 59 * time.Second, pat, fresh(nobody)},
		{"no subscriber, after a minute", nobody, time.Minute, pat, nobody},
		{"no subscriber for ten minutes", nobody, 10 * time.Minute, pat, nobody},
		{"no subscriber, after ten minutes", nobody, 10*time.Minute + time.Second, pat, store.Cached{}},
		{"all of it", all, 0, pat, fresh(all)},
		{"refused access for half a minute", all, 29 * time.Second, pat, fresh(all)},
		{"refused access no longer", all, 30 * time.Second, pat, without(func(c *store.Cached) { c.NoAccessUntil = time.Time{} })},
		{"access for ten minutes", all, 10 * time.Minute, pat, without(func(c *store.Cached) {
			c.NoAccessUntil, c.AccessUntil, c.Access = time.Time{}, time.Time{}, recharge.Access{}
		})},
		{"the session to its end", all, 59 * time.Minute, pat, fresh(customer)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, l := newClock(), &logged{}
			s := open(t, many(c, l))
			for _, shop := range []shopify.Shop{shop, shop2} {
				ok(t, s.SaveConnection(t.Context(), connected(c, shop)))
			}
			save(t, s, pat, tt.value)
			c.advance(tt.after)
			if diff := cmp.Diff(tt.want, load(t, s, tt.who).Cached); diff != "" {
				t.Errorf("Load after %v: -want +got\n%s", tt.after, diff)
			}
			if lines := l.lines(); len(lines) > 0 {
				t.Errorf("logged %q; want nothing", lines)
			}
		})
	}
}

// TestKnown: one of several records is no customer to lead to.
func TestKnown(t *testing.T) {
	for want, cached := range map[bool]store.Cached{true: {Customer: known}, false: {Customer: known, Several: true}} {
		if got := cached.Known(); got != want {
			t.Errorf("Known of %+v = %v; want %v", cached, got, want)
		}
	}
	if (store.Cached{NotSubscriber: true}).Known() {
		t.Error("a non-subscriber is known")
	}
}

// TestSpread: a campaign's shoppers arrive at once, but must not all be looked up again at once.
func TestSpread(t *testing.T) {
	const shoppers = 200
	c := newClock()
	s := open(t, options(c, &logged{}))
	for i := range shoppers {
		save(t, s, nth(shop, i), lookedUp(c, nth(shop, i), nthCustomer(i)))
	}
	c.advance(24 * time.Hour)
	fresh := 0
	for i := range shoppers {
		if load(t, s, nth(shop, i)).Cached.Fresh {
			fresh++
		}
	}
	if fresh == 0 || fresh == shoppers { // by chance once in 2^199 runs
		t.Errorf("%d of %d are fresh after the mean time; want some", fresh, shoppers)
	}
}

// TestLifetimes: all keys of a shopper expire, the index after the value that it leads to.
func TestLifetimes(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name        string
		ttl         time.Duration
		value       func(*clock) store.Cached
		least, most time.Duration
		index       bool
	}{
		{"customer", day, func(c *clock) store.Cached { return lookedUp(c, pat, known) }, day*9/10 + 7*day, 8 * day, true},
		{"all", day, everything, day*9/10 + 7*day, 8 * day, true},
		{"customer that is fresh for long", 100 * day, everything, 8 * day, 8 * day, true},
		{"no subscriber", day, func(c *clock) store.Cached { return store.Cached{NotSubscriber: true, LookedUp: c.Now()} }, 10 * time.Minute, 10 * time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
				c := newClock()
				o := options(c, &logged{})
				o.CustomerTTL = tt.ttl
				s := open(o)
				save(t, s, pat, tt.value(c))
				const run = 10 * time.Second // how long the test itself may take
				r := recordOf(t, s, shop)
				if life := s.Client().PTTL(t.Context(), r.CachedKey(string(pat.Customer))).Val(); life < tt.least-run || life > tt.most {
					t.Errorf("the cached value lives for %v; want %v to %v", life, tt.least, tt.most)
				}
				index := s.Client().PTTL(t.Context(), r.IndexKey(store.RechargeID(known.ID))).Val()
				if tt.index && (index < store.LongestLife-run || index > store.LongestLife) || !tt.index && index > 0 {
					t.Errorf("the index lives for %v; want there to be one: %v", index, tt.index)
				}
				want := map[string]int{"shop": 1, "c": 1, "r": 1}
				if !tt.index {
					delete(want, "r")
				}
				if diff := cmp.Diff(want, kinds(dump(t, s))); diff != "" {
					t.Errorf("keys: -want +got\n%s", diff)
				}
			})
		})
	}
}

// TestSealed: a cached value opens only where it was put, and only if unchanged.
func TestSealed(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c, l := newClock(), &logged{}
		s := open(options(c, l))
		save(t, s, pat, everything(c))
		save(t, s, kim, lookedUp(c, kim, recharge.Customer{ID: 5, Hash: "ffff"}))
		r := recordOf(t, s, shop)
		pats, kims := r.CachedKey(string(pat.Customer)), r.CachedKey(string(kim.Customer))
		sealed, others := s.Client().Get(ctx, pats).Val(), s.Client().Get(ctx, kims).Val()
		nothing := func(what, value string) {
			t.Helper()
			ok(t, s.Client().Set(ctx, pats, value, time.Hour).Err())
			if got := load(t, s, pat).Cached; got != (store.Cached{}) {
				t.Errorf("%s is read as %+v; want nothing", what, got)
			}
		}
		nothing("another's", others)
		nothing("another's, with this one's header", sealed[:10]+others[10:])
		nothing("another's, with this one's header and version", sealed[:22]+others[22:])
		nothing("the header alone", sealed[:10])
		nothing("less than a header", sealed[:9])
		nothing("header and version alone", sealed[:22])
		nothing("as of no other id", strings.Repeat("\x00", 10)+sealed[10:])
		nothing("a redaction's", "1")
		nothing("nothing", "")
		nothing("more", sealed+"\x00")
		for i := range sealed {
			flipped := []byte(sealed)
			flipped[i] ^= 1
			nothing(fmt.Sprintf("with byte %d changed", i), string(flipped))
		}
		if lines := l.lines("level=WARN", "does not open"); len(lines) == 0 || len(lines) != len(l.lines()) {
			t.Errorf("logged %q; want only warnings", l.lines())
		}
		ok(t, s.Client().Del(ctx, pats).Err())
		ok(t, s.Client().RPush(ctx, pats, "a list").Err())
		is(t, "of another type", s, pat, recharge.Customer{})
		ok(t, s.Client().Set(ctx, pats, sealed, time.Hour).Err())
		is(t, "as it was", s, pat, known)

		seen := map[string]bool{}
		for range 20 {
			save(t, s, pat, everything(c))
			seen[s.Client().Get(ctx, pats).Val()] = true
		}
		if len(seen) != 20 {
			t.Errorf("the same value was sealed in %d ways; want 20, so that nobody sees that it is the same", len(seen))
		}
	})
}

// TestAnothersValueIsNotBelieved: a value that names another shopper counts as nothing, even if the
// right key sealed it for that very place.
func TestAnothersValueIsNotBelieved(t *testing.T) {
	byRecharge := store.Shopper{Shop: shop, RechargeID: known.ID}
	tests := []struct {
		name string
		who  store.Shopper
		of   func(*store.Cached)
		want bool
	}{
		{"own", pat, func(*store.Cached) {}, true},
		{"another Shopify id", pat, func(c *store.Cached) { c.ShopifyID = kim.Customer }, false},
		{"no Shopify id", pat, func(c *store.Cached) { c.ShopifyID = "" }, true},
		{"by Recharge's id", byRecharge, func(*store.Cached) {}, true},
		{"by Recharge's id, another", byRecharge, func(c *store.Cached) { c.Customer.ID++ }, false},
		{"by Recharge's id, of whatever Shopify id", byRecharge, func(c *store.Cached) { c.ShopifyID = kim.Customer }, true},
		{"an id that is no number", store.Shopper{Shop: shop, Customer: "007"}, func(c *store.Cached) { c.ShopifyID = "007" }, true},
		{"an id that is too long for a number", store.Shopper{Shop: shop, Customer: "18446744073709551616"}, func(c *store.Cached) { c.ShopifyID = "18446744073709551616" }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			s := open(t, options(c, &logged{}))
			value := everything(c)
			tt.of(&value)
			save(t, s, tt.who, value)
			if got := load(t, s, tt.who).Cached; (got != store.Cached{}) != tt.want {
				t.Errorf("Load = %+v; want it used: %v", got, tt.want)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c, l := newClock(), &logged{}
		s := open(options(c, l))
		var clicks sync.WaitGroup
		for i := range 16 {
			clicks.Go(func() {
				for range 5 {
					save(t, s, nth(shop, i%8), lookedUp(c, nth(shop, i%8), nthCustomer(i%8)))
					is(t, "at once", s, nth(shop, i%8), nthCustomer(i%8))
				}
			})
		}
		clicks.Wait()
		if lines := l.lines(); len(lines) > 0 {
			t.Errorf("logged %q; want nothing", lines)
		}
	})
}

// TestEndedClicks: if a click's own end cuts a command short, that is no fault of Redis. It is not
// logged as one, and does not keep the next click from its cache.
func TestEndedClicks(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for name, ended := range map[string]context.Context{"gone away": gone, "out of time": late} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
				c, l := newClock(), &logged{}
				s := open(options(c, l))
				r := recordOf(t, s, shop)
				if got := s.Load(ended, pat); got.Err == nil {
					t.Errorf("Load = %+v; want an error", got)
				}
				if _, err := s.Lock(load(t, s, pat), pat).Take(ended, bucket(), oneCall, 0, 0); err == nil {
					t.Error("Take = nil; want an error")
				}
				value := lookedUp(c, pat, known) // the next click needs the value more
				ok(t, s.Save(ended, r, pat, &value, clockOf(t, s), nil))
				is(t, "saved although the click ended", s, pat, known)
				ok(t, s.Forget(ended, r, pat))
				is(t, "forgotten although the click ended", s, pat, recharge.Customer{})
				if lines := l.lines(); len(lines) > 0 {
					t.Errorf("logged %q; want nothing", lines)
				}
			})
		})
	}
}

func TestOpenNeedsKeys(t *testing.T) {
	for _, keys := range [][][]byte{nil, {}, {nil}, {make([]byte, 16)}, {key(1), make([]byte, 31)}, {make([]byte, 33), key(1)}} {
		o := options(newClock(), &logged{})
		o.Keys = keys
		if s, err := store.Open(o); err == nil {
			s.Close()
			t.Errorf("Open with keys of %v = nil; want an error", keys)
		}
	}
}

// TestNamesTellShopsApart: no two shoppers share a key, however their ids are split.
func TestNamesTellShopsApart(t *testing.T) {
	c := newClock()
	s := open(t, many(c, &logged{}))
	names := map[string]bool{}
	shops := []shopify.Shop{shop, shop2}
	ids := []string{"1", "recharge:1", "11", "recharge:11"}
	for _, shop := range shops {
		ok(t, s.SaveConnection(t.Context(), connected(c, shop)))
		for _, id := range ids {
			name := recordOf(t, s, shop).Name(id)
			if len(name) != 10 {
				t.Errorf("the name of %s is %x; want 10 bytes", id, name)
			}
			names[name] = true
		}
	}
	if len(names) != len(shops)*len(ids) {
		t.Errorf("the names are %x; want them all different", slices.Collect(maps.Keys(names)))
	}
}

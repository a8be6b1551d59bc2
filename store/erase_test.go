package store_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestEraseShop: once it returns, nothing is known about the shop, on any instance.
func TestEraseShop(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	a, b := two(t, many(c, &logged{}))
	for _, shop := range []shopify.Shop{shop, shop2} {
		ok(t, a.SaveConnection(ctx, connected(c, shop)))
		save(t, a, store.Shopper{Shop: shop, Customer: pat.Customer}, everything(c))
	}
	task := importing(t, a, shop)
	task.Cursor = "next"
	imports(t, a, task, record(kim, nthCustomer(0)))
	if had, err := a.KeepImport(ctx, task, store.ImportLease); !had || err != nil {
		t.Fatalf("KeepImport = %v, %v", had, err)
	}
	for _, s := range []*store.Store{a, b} {
		s.Count(shop, "redirected", 1)
		s.NoteError(shop, "down")
	}
	ok(t, b.Flush(ctx))
	before := load(t, b, pat)
	lock := b.Lock(before, pat)
	at := take(t, lock).At
	first, err := a.UseNonce(ctx, shop, "nonce", "browser", c.Now().Add(time.Hour))
	ok(t, err)
	if !first {
		t.Fatal("the nonce was used before")
	}

	erased, err := a.EraseShop(ctx, store.Erasure{Shop: shop})
	ok(t, err)
	want := connected(c, shop)
	sameConnection(t, "what was erased", erased.Connection, &want)
	for _, s := range []*store.Store{a, b} {
		if loaded := load(t, s, pat); loaded.Record != nil || loaded.Cached != (store.Cached{}) {
			t.Errorf("Load = %+v; want nothing", loaded)
		}
	}
	value := everything(c)
	if err := b.Save(ctx, before.Record, pat, &value, at, lock); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save = %v; want ErrOutdated", err)
	}
	if had, err := a.KeepImport(ctx, task, store.ImportLease); had || err != nil {
		t.Errorf("KeepImport = %v, %v; want the lease lost", had, err)
	}
	ok(t, a.SaveImported(ctx, task, []recharge.Record{record(nth(shop, 5), nthCustomer(5))}, at))
	ok(t, a.Flush(ctx)) // pending counts
	a.Settle()
	if diff := cmp.Diff(map[string]int{"b": 1, "n": 1}, kindsOf(dump(t, a), shop)); diff != "" {
		t.Errorf("left of the shop: -want +got\n%s", diff)
	}
	if task, err := a.TakeImport(ctx); err != nil || task != nil && task.Shop == shop {
		t.Errorf("TakeImport = %+v, %v; want none of an erased shop", task, err)
	}
	is(t, "another shop", b, store.Shopper{Shop: shop2, Customer: pat.Customer}, known)
	if again, err := a.EraseShop(ctx, store.Erasure{Shop: shop}); again != nil || err != nil {
		t.Errorf("EraseShop again = %v, %v; want nothing", again, err)
	}

	ok(t, a.SaveConnection(ctx, connected(c, shop)))
	is(t, "connected again", b, pat, recharge.Customer{})
	is(t, "connected again", b, kim, recharge.Customer{})
	if health, err := a.Health(ctx, shop, time.Time{}); err != nil || len(health.Errors) > 0 || len(health.Hours) > 0 {
		t.Errorf("Health = %+v, %v; want that of a new shop", health, err)
	}
	if first, err := b.UseNonce(ctx, shop, "nonce", "another", c.Now().Add(time.Hour)); first || err != nil {
		t.Errorf("UseNonce of a used link = %v, %v; want it used for ever", first, err)
	}
	turn, err := b.Limiter(shop).Take(ctx, bucket(), recharge.Ask{}, 0, 0)
	if err != nil || int(turn.Level+0.5) != 1 {
		t.Errorf("the bucket holds %v, %v; want the earlier call", turn.Level, err)
	}
}

// kindsOf counts the keys of one shop.
func kindsOf(dump map[string]string, shop shopify.Shop) map[string]int {
	maps.DeleteFunc(dump, func(key, _ string) bool { return !strings.Contains(key, "{"+string(shop)+"}") })
	return kinds(dump)
}

// TestReinstalled: if the message about an uninstall comes after the merchant has connected again, what the earlier
// installation left goes, and the next one's key stays.
func TestReinstalled(t *testing.T) {
	ctx, c := t.Context(), newClock()
	s := open(t, many(c, &logged{}))
	ok(t, s.SaveConnection(ctx, connected(c, shop)))
	on, err := s.SwitchSupport(ctx, shop, true)
	if ok(t, err); !on {
		t.Fatal("links for support were not turned on")
	}
	uninstalled := c.Now().Add(time.Minute)
	makeKey := func(id string) {
		t.Helper()
		_, err := s.UpdateConnection(ctx, shop, func(r *store.Connection) bool {
			r.PortalKeys = append(r.PortalKeys, store.PortalKey{ID: id, MadeAt: c.Now().UTC()})
			return true
		})
		ok(t, err)
	}
	makeKey("the earlier one's")
	_, err = s.UpdateConnection(ctx, shop, func(r *store.Connection) bool {
		r.ReportTo, r.ReportIn, r.Contact = "staff@example.test", "de", store.Contact{Name: "Shop", Email: "shop@example.test"}
		return true
	})
	ok(t, err)
	c.advance(time.Hour)
	want := connected(c, shop)
	ok(t, s.SaveConnection(ctx, want))
	makeKey("the next one's")
	want.PortalKeys = []store.PortalKey{{ID: "the next one's", MadeAt: c.Now().UTC()}}
	_, err = s.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: uninstalled, SavedUntil: uninstalled.Add(store.ClockSkew)})
	ok(t, err)
	after := recordOf(t, s, shop)
	sameConnection(t, "the next installation's", after.Connection, &want)
	if after.SupportSecret() != nil {
		t.Error("the earlier installation's links for support are on")
	}
}

// TestEraseOneStore: in one-store mode the shop continues with a new record.
func TestEraseOneStore(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	save(t, a, pat, everything(c))
	before := load(t, b, pat).Record
	a.StopBackground() // the values stay, but nobody reads them
	erased, err := a.EraseShop(ctx, store.Erasure{Shop: shop})
	if err != nil || erased == nil {
		t.Fatalf("EraseShop = %v, %v; want the erased record", erased, err)
	}
	is(t, "erased", b, pat, recharge.Customer{})
	after := load(t, b, pat).Record
	if after.Generation() == before.Generation() || string(after.DataKey()) == string(before.DataKey()) {
		t.Error("the new record has the old data key")
	}
	if got := kinds(dump(t, a)); got["c"] != 1 {
		t.Fatalf("keys = %v; want the old value still there", got)
	}
	value := everything(c)
	if err := a.Save(ctx, before, pat, &value, clockOf(t, a), nil); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save with the old record = %v; want ErrOutdated", err)
	}
	is(t, "saved by the record of before", b, pat, recharge.Customer{})
}

// TestUninstall: a connection saved before an uninstall does not come back. One saved by the next
// installation stays.
func TestUninstall(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(many(c, &logged{}))
		uninstall := c.Now()
		erase := func(until time.Time) *store.Record {
			t.Helper()
			erased, err := s.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: uninstall, SavedUntil: until})
			ok(t, err)
			return erased
		}
		saved := func(after time.Duration) store.Connection {
			connection := connected(c, shop)
			connection.SavedAt = uninstall.Add(after).UTC()
			connection.PortalKeys = nil
			return connection
		}
		if at, err := s.UninstalledAt(ctx, shop); err != nil || !at.IsZero() {
			t.Errorf("UninstalledAt = %v, %v; want never", at, err)
		}
		ok(t, s.SaveConnection(ctx, saved(-time.Hour)))
		if erase(uninstall.Add(store.ClockSkew)) == nil {
			t.Error("EraseShop returned nothing; want what was connected")
		}
		if at, err := s.UninstalledAt(ctx, shop); err != nil || !at.Equal(uninstall.Truncate(time.Second)) {
			t.Errorf("UninstalledAt = %v, %v; want %v", at, err, uninstall)
		}
		if at, err := s.UninstalledAt(ctx, shop2); err != nil || !at.IsZero() {
			t.Errorf("UninstalledAt of another shop = %v, %v; want never", at, err)
		}
		for _, after := range []time.Duration{-time.Hour, 0, store.ClockSkew} {
			if err := s.SaveConnection(ctx, saved(after)); !errors.Is(err, store.ErrUninstalled) {
				t.Errorf("SaveConnection of %v after the uninstall = %v; want ErrUninstalled", after, err)
			}
		}
		if loaded := load(t, s, pat); loaded.Record != nil {
			t.Error("the connection saved before the uninstall is still there")
		}

		next := saved(store.ClockSkew + time.Second)
		ok(t, s.SaveConnection(ctx, next))
		save(t, s, pat, everything(c))
		ok(t, s.Redact(ctx, shop, kim.Customer))
		before := recordOf(t, s, shop)
		if erased := erase(uninstall.Add(store.ClockSkew)); erased != nil { // the webhook comes late, or twice
			t.Error("EraseShop returned a record that it spared")
		}
		after := recordOf(t, s, shop)
		sameConnection(t, "the next installation's", after.Connection, &next)
		if before.Generation() == after.Generation() {
			t.Error("it has the old epoch")
		}
		if !bytes.Equal(before.DataKey(), after.DataKey()) {
			t.Error("it has another data key, so no redaction is found")
		}
		is(t, "the late webhook", s, pat, recharge.Customer{})
		imports(t, s, importing(t, s, shop), record(pat, known), record(kim, nthCustomer(0)))
		is(t, "imported again", s, pat, known)
		is(t, "imported again, redacted", s, kim, recharge.Customer{})

		if erase(time.Time{}) == nil { // spares nothing
			t.Error("EraseShop returned nothing; want what was connected")
		}
		if loaded := load(t, s, pat); loaded.Record != nil {
			t.Error("EraseShop without SavedUntil spared a connection")
		}
		for key := range dump(t, s) {
			if life := s.Client().PTTL(ctx, key).Val(); strings.HasSuffix(key, "}:x:shop") && (life <= time.Minute || life > 2*time.Minute) {
				t.Errorf("the uninstall is known for %v; want 2 minutes", life)
			}
		}
		c.advance(time.Hour)
		ok(t, s.Client().FlushAll(ctx).Err())
		erase(time.Time{}) // an uninstall an hour ago; earlier tokens have expired anyway
		if at, err := s.UninstalledAt(ctx, shop); err != nil || !at.IsZero() {
			t.Errorf("UninstalledAt an hour later = %v, %v; want it forgotten", at, err)
		}
	})
}

// TestWhatStays: used links, the token's bucket and the middleware's keys survive a new token.
// Cached values do not.
func TestWhatStays(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		o := many(c, &logged{})
		s := open(o)
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
		keys := []store.PortalKey{{ID: "1", Hash: []byte("hash"), MadeAt: c.Now().UTC()}}
		ok(t, s.Update(ctx, shop, func(r *store.Record) bool { r.Connection.PortalKeys = keys; return true }))
		use := func(browser string) bool {
			first, err := s.UseNonce(ctx, shop, "nonce", browser, c.Now().Add(time.Hour))
			ok(t, err)
			return first
		}
		use("browser")
		take(t, s.Lock(load(t, s, pat), pat))
		save(t, s, pat, everything(c))
		save(t, s, nth(shop, 1), lookedUp(c, nth(shop, 1), nthCustomer(1)))
		before := recordOf(t, s, shop)
		for i, what := range []string{"another token", "rekey", "another token", "disconnected and connected"} {
			switch what {
			case "another token":
				other := connected(c, shop)
				other.APIToken = fmt.Sprint("another", i)
				ok(t, s.SaveConnection(ctx, other))
				is(t, what, s, pat, recharge.Customer{})
				if now := recordOf(t, s, shop); now.Generation() == before.Generation() || !bytes.Equal(now.DataKey(), before.DataKey()) {
					t.Errorf("%s: want another epoch of the same data key", what)
				}
				if diff := cmp.Diff(keys, recordOf(t, s, shop).Connection.PortalKeys); diff != "" {
					t.Errorf("%s: PortalKeys: -want +got\n%s", what, diff)
				}
			case "rekey":
				save(t, s, pat, everything(c))
				_, err := s.Rekey(ctx)
				ok(t, err)
				is(t, what, s, pat, known)
			default:
				_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
				ok(t, err)
				ok(t, s.SaveConnection(ctx, connected(c, shop)))
			}
			if use("another") {
				t.Errorf("%s: a used link opens again", what)
			}
			turn, err := s.Limiter(shop).Take(ctx, bucket(), recharge.Ask{}, 0, 0)
			if err != nil || int(turn.Level+0.5) != 1 {
				t.Errorf("%s: the bucket holds %v, %v; want the earlier call", what, turn.Level, err)
			}
		}
		s.Settle()
		left := dump(t, s)
		if _, is := left[before.CachedKey(string(pat.Customer))]; is || kinds(left)["c"] != 0 || kinds(left)["r"] != 0 {
			t.Errorf("cached values left under old data keys: %v", kinds(left))
		}
	})
}

// TestTidy unlinks what an erased record has sealed, and nothing of the next record.
func TestTidy(t *testing.T) {
	t.Run("real", func(t *testing.T) { testTidy(t, on(options(newClock(), &logged{}), storetest.Redis(t))) })
	t.Run("embedded", func(t *testing.T) {
		// The embedded Redis runs scripts slowly. In virtual time, none of the store's timeouts
		// runs out while it computes, however busy the machine is.
		synctest.Test(t, func(t *testing.T) { testTidy(t, options(newClock(), &logged{})) })
	})
}

func testTidy(t *testing.T, o store.Options) {
	t.Helper()
	s := open(t, o)
	fill(t, s, shop, 1000)
	if _, err := s.EraseShop(t.Context(), store.Erasure{Shop: shop}); err != nil {
		t.Fatal(err)
	}
	fill(t, s, shop, 100) // while the first 1000 are tidied up
	save(t, s, pat, everything(newClock()))
	s.Settle()
	if got := kinds(dump(t, s)); got["c"] != 101 || got["r"] > 101 {
		t.Errorf("keys = %v; want those of the 101 customers of the next record", got)
	}
	is(t, "the next record's", s, pat, known)
	is(t, "the next record's", s, nth(shop, 99), nthCustomer(99))
	ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: nthCustomer(99).ID}))
	is(t, "the next record's index", s, nth(shop, 99), recharge.Customer{})
}

// TestErasedWhileMade: if a shop is erased repeatedly while it is used, the last erasure holds, and
// nobody gets an error.
func TestErasedWhileMade(t *testing.T) {
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	var clicks sync.WaitGroup
	for i := range 8 {
		clicks.Go(func() {
			s := []*store.Store{a, b}[i%2]
			for range 20 {
				loaded := load(t, s, nth(shop, i))
				if loaded.Record == nil {
					continue // made, erased and made again at the same time, by a clock that stands still
				}
				value := lookedUp(c, nth(shop, i), nthCustomer(i))
				if err := s.Save(context.Background(), loaded.Record, nth(shop, i), &value, clockOf(t, s), nil); err != nil && !errors.Is(err, store.ErrOutdated) {
					t.Errorf("Save = %v", err)
				}
			}
		})
	}
	for range 20 {
		_, err := a.EraseShop(t.Context(), store.Erasure{Shop: shop})
		ok(t, err)
	}
	clicks.Wait()
	_, err := b.EraseShop(t.Context(), store.Erasure{Shop: shop})
	ok(t, err)
	for i := range 8 {
		is(t, "erased in the end", a, nth(shop, i), recharge.Customer{})
	}
}

var shoppers = flag.Int("shoppers", 0, "how many shoppers a large store of the tests has; 0: 100,000, or 20,000 with the race detector")

// manyShoppers returns how many shoppers a large store has.
func manyShoppers() int {
	switch {
	case *shoppers > 0:
		return *shoppers
	case raceDetector:
		return 20_000
	}
	return 100_000
}

// TestErasuresDoNotCount: a webhook takes as many commands with ten shoppers as with a hundred
// thousand. The test also measures the memory that they take.
func TestErasuresDoNotCount(t *testing.T) {
	const mostMemory = 350 // bytes a customer
	ctx := t.Context()
	counts := map[int]map[string]map[string]int{}
	sizes := []int{10, 1000, manyShoppers()}
	for _, size := range sizes {
		server := storetest.Redis(t)
		client := direct(t, server)
		c := newClock()
		o := on(many(c, &logged{}), server)
		s := open(t, o)
		o.Keys = [][]byte{key(2), key(1)}
		rotates := open(t, o)
		ok(t, s.SaveConnection(ctx, connected(c, shop2)))
		fill(t, s, shop2, 1) // connections and scripts take memory, too
		_, err := s.EraseShop(ctx, store.Erasure{Shop: shop2})
		ok(t, err)
		ok(t, client.ZRem(ctx, store.ShopsKey, string(shop2)).Err())
		s.Settle()
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
		load(t, rotates, pat)

		before := usedMemory(t, client)
		start := time.Now()
		fill(t, s, shop, size)
		each := (usedMemory(t, client) - before) / size
		t.Logf("%d customers: %d bytes each with all keys; imported in %v", size, each, time.Since(start).Round(time.Millisecond))
		if size >= 1000 && each > mostMemory {
			t.Errorf("%d customers: %d bytes each; want at most %d", size, each, mostMemory)
		}
		for _, i := range []int{0, size / 2, size - 1} {
			is(t, "imported", s, nth(shop, i), nthCustomer(i))
		}

		other := connected(c, shop)
		other.APIToken = "another"
		took := map[string]map[string]int{}
		for _, tt := range []struct {
			name string
			do   func()
		}{
			{"Load", func() { load(t, s, nth(shop, 1)) }},
			{"Redact", func() { ok(t, s.Redact(ctx, shop, nth(shop, 1).Customer)) }},
			{"ApplyCustomerChange", func() {
				ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: nthCustomer(2).ID, Customer: nth(shop, 3).Customer}))
			}},
			{"Rekey", func() {
				if n, err := rotates.Rekey(ctx); n != 1 || err != nil {
					t.Errorf("Rekey = %d, %v; want 1", n, err)
				}
				rotates.StopBackground() // does not wait for the tidying
			}},
			{"SaveConnection, another token", func() { ok(t, rotates.SaveConnection(ctx, other)) }},
			{"EraseShop", func() {
				_, err := rotates.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: c.Now()})
				ok(t, err)
			}},
		} {
			took[tt.name] = commands(t, client, tt.do)
		}
		counts[size] = took
	}
	for _, size := range sizes[1:] {
		if diff := cmp.Diff(counts[10], counts[size]); diff != "" {
			t.Errorf("commands with 10 shoppers, and with %d: -10 +%d\n%s", size, size, diff)
		}
	}
	for name, commands := range counts[10] {
		total := 0
		for _, n := range commands {
			total += n
		}
		t.Logf("%s: %d commands: %v", name, total, commands)
	}
}

// beforeWrite runs a function once, before the first transaction.
type beforeWrite struct {
	redis.Hook

	once sync.Once
	do   func()
}

func (b *beforeWrite) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (b *beforeWrite) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b *beforeWrite) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if commands[0].Name() == "multi" {
			b.once.Do(b.do)
		}
		return next(ctx, commands)
	}
}

// TestFirstSaveMeetsUninstall: the app is uninstalled while a shop's first connection is being
// saved. The shop has no record yet.
func TestFirstSaveMeetsUninstall(t *testing.T) {
	ctx, c := t.Context(), newClock()
	s, other := two(t, many(c, &logged{}))
	s.OnDurable(&beforeWrite{do: func() {
		_, err := other.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: c.Now(), SavedUntil: c.Now().Add(store.ClockSkew)})
		ok(t, err)
	}})
	if err := s.SaveConnection(ctx, connected(c, shop)); !errors.Is(err, store.ErrUninstalled) {
		t.Errorf("SaveConnection = %v; want ErrUninstalled", err)
	}
	if record := load(t, other, store.Shopper{Shop: shop}).Record; record != nil {
		t.Errorf("the record is there: %v; want none", record.Connection)
	}
}

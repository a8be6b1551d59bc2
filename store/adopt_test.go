package store_test

import (
	"bytes"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// of returns options of one-store mode for an account.
func of(c *clock, account string) store.Options {
	o := options(c, &logged{})
	o.Account = account
	return o
}

// refuses checks that an instance reads nothing that belongs to another account.
func refuses(t *testing.T, when string, s *store.Store) {
	t.Helper()
	for _, who := range []store.Shopper{pat, kim, byRecharge, {Shop: shop}} {
		if got := s.Load(t.Context(), who); got.Err == nil || errors.Is(got.Err, store.ErrUnreadable) || got.Record != nil || got.Cached != (store.Cached{}) {
			t.Errorf("%s: Load = %+v; want an error, and nothing of another account's", when, got)
		}
	}
	if s.Seen(shop) != nil {
		t.Errorf("%s: Seen returns another account's record, and what was detected with that account", when)
	}
	if s.Imported(t.Context(), shop) {
		t.Errorf("%s: another account's customers count as imported for this one", when)
	}
}

// TestAdopt: values cached for one Recharge account do not count for another, and two instances
// with two accounts do not mix them up.
func TestAdopt(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	older, newer := open(t, on(of(c, "older"), server)), open(t, on(of(c, "newer"), server))
	ok(t, older.Adopt(ctx)) // creates the record
	task := importing(t, older, shop)
	imports(t, older, task, record(kim, nthCustomer(0)))
	task.Running, task.Done, task.Size = false, c.Now(), 1
	ok(t, older.EndImport(ctx, task, time.Hour))
	save(t, older, pat, everything(c))
	save(t, older, byRecharge, lookedUp(c, pat, known))
	ok(t, older.WebhookVerified(ctx, shop, "secret"))
	if _, err := older.UseNonce(ctx, shop, "nonce", "browser", c.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	before := load(t, older, pat)
	if !older.WebhooksProven(before.Record) || !older.Imported(ctx, shop) {
		t.Fatal("the older account's webhooks are not proven, or its customers are not imported")
	}

	// Before it adopts, the newer account's instance reads and writes nothing.
	ok(t, client.ZRem(ctx, store.ShopsKey, string(shop)).Err())
	held := server.Dump()
	refuses(t, "not adopted", newer)
	ok(t, newer.WebhookVerified(ctx, shop, "secret"))
	value := lookedUp(c, pat, nthCustomer(7))
	ok(t, second(newer.SaveIfUnchanged(ctx, newer.Load(ctx, pat), pat, value, clockOf(t, newer), nil)))
	if err := newer.Save(ctx, newer.Load(ctx, pat).Record, pat, &value, clockOf(t, newer), nil); err == nil {
		t.Error("not adopted: Save = nil")
	}
	if diff := cmp.Diff(held, server.Dump()); diff != "" {
		t.Errorf("not adopted, it wrote: -before +after\n%s", diff)
	}
	ok(t, newer.RequestImport(ctx, shop))
	if task, err := newer.TakeImport(ctx); task != nil {
		t.Errorf("not adopted: TakeImport = %+v, %v; want none", task, err)
	}
	is(t, "not adopted", older, pat, known)

	task = importing(t, older, shop)
	ok(t, newer.Adopt(ctx))
	newer.Settle() // tidies up what was erased
	adopted := load(t, newer, pat)
	if adopted.Cached != (store.Cached{}) || !bytes.Equal(adopted.Record.DataKey(), before.Record.DataKey()) || adopted.Record.Generation() == before.Record.Generation() {
		t.Errorf("adopted: Load = %+v; want nothing cached, in another epoch of the same data key", adopted)
	}
	if newer.WebhooksProven(adopted.Record) || newer.Imported(ctx, shop) {
		t.Error("adopted: the older account's proven webhooks or import still count")
	}
	is(t, "adopted", newer, kim, recharge.Customer{})
	is(t, "adopted", newer, byRecharge, recharge.Customer{})
	if first, err := newer.UseNonce(ctx, shop, "nonce", "another", c.Now().Add(time.Hour)); first || err != nil {
		t.Errorf("adopted: UseNonce of a used link = %v, %v; want it used", first, err)
	}
	save(t, newer, kim, lookedUp(c, kim, nthCustomer(5)))

	// Now the older account's instance, which is still running, reads and writes nothing.
	held = server.Dump()
	lock := older.Lock(before, pat)
	refuses(t, "replaced", older)
	old := everything(c)
	if err := older.Save(ctx, before.Record, pat, &old, clockOf(t, older), lock); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("replaced: Save = %v; want ErrOutdated", err)
	}
	ok(t, second(older.SaveIfUnchanged(ctx, before, pat, old, clockOf(t, older), nil)))
	ok(t, older.SaveImported(ctx, task, []recharge.Record{record(pat, known)}, clockOf(t, older)))
	ok(t, older.WebhookVerified(ctx, shop, "secret"))
	ok(t, older.Forget(ctx, before.Record, kim))
	if had, err := older.KeepImport(ctx, task, store.ImportLease); had || err != nil {
		t.Errorf("replaced: KeepImport = %v, %v; want the lease lost", had, err)
	}
	after := server.Dump()
	delete(held, store.ShopsKey) // any instance may set when its import is due
	delete(after, store.ShopsKey)
	if diff := cmp.Diff(held, after); diff != "" {
		t.Errorf("replaced, it wrote: -before +after\n%s", diff)
	}
	is(t, "the older one has tried to write", newer, pat, recharge.Customer{})
	is(t, "the older one has tried to write", newer, kim, nthCustomer(5))
	if newer.WebhooksProven(recordOf(t, newer, shop)) {
		t.Error("a webhook of the older account proves the newer account's")
	}
	ok(t, older.RequestImport(ctx, shop))
	if task, err := older.TakeImport(ctx); task != nil {
		t.Errorf("replaced: TakeImport = %+v, %v; want none", task, err)
	}
	eventually(t, "the newer one has its import", func() bool {
		task, err := newer.TakeImport(ctx)
		ok(t, err)
		return task != nil && task.Number == 0
	})

	if got := commands(t, client, func() { ok(t, newer.Adopt(ctx)) }); got["set"] != 0 {
		t.Errorf("Adopt again took %v; want no write", got)
	}
	is(t, "adopted again", newer, kim, nthCustomer(5))
	if n, err := newer.Rekey(ctx); n != 0 || err != nil {
		t.Errorf("Rekey = %d, %v; want 0", n, err)
	}

	ok(t, older.Adopt(ctx)) // as if the operator reverted the change
	refuses(t, "taken back", newer)
	is(t, "taken back: what was erased stays so", older, pat, recharge.Customer{})
	save(t, older, pat, everything(c))
	is(t, "taken back", older, pat, known)
}

// TestAdoptWithoutRedis: an instance does not use another account's values, though it has read
// them.
func TestAdoptWithoutRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	older, newer := open(t, on(of(c, "older"), server)), open(t, on(of(c, "newer"), server))
	save(t, older, pat, everything(c))
	refuses(t, "not adopted", newer)
	server.Stop()
	refuses(t, "without Redis", newer)
	if err := newer.Adopt(ctx); err == nil {
		t.Error("Adopt without Redis = nil; want an error, so that it is tried again")
	}
	if got := older.Load(ctx, pat); got.Err == nil || got.Record == nil {
		t.Errorf("Load of its own without Redis = %+v; want the record, and an error", got)
	}
	server.Start() // empty
	eventually(t, "adopted", func() bool {
		c.advance(store.RestFor)
		return newer.Adopt(ctx) == nil
	})
	is(t, "adopted", newer, pat, recharge.Customer{})
	refuses(t, "made by the newer one", older)
}

// TestAdoptAtOnce: if several instances of an account adopt at once, only one starts an epoch.
func TestAdoptAtOnce(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	save(t, open(t, on(of(c, "older"), server)), pat, everything(c))
	var all sync.WaitGroup
	instances := make([]*store.Store, 8)
	generations := map[string]bool{}
	var mu sync.Mutex
	for i := range instances {
		instances[i] = open(t, on(of(c, "newer"), server))
		all.Go(func() {
			if err := instances[i].Adopt(ctx); err != nil {
				t.Errorf("Adopt = %v", err)
				return
			}
			record := recordOf(t, instances[i], shop)
			mu.Lock()
			defer mu.Unlock()
			generations[record.Generation()] = true
		})
	}
	all.Wait()
	if len(generations) != 1 {
		t.Errorf("%d epochs were started; want one", len(generations))
	}
	save(t, instances[0], pat, everything(c))
	for _, s := range instances {
		is(t, "of another instance", s, pat, known)
	}
}

// TestAdoptNothing: without an account there is nothing to adopt, and a record that does not open
// is replaced.
func TestAdoptNothing(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		several := open(many(c, &logged{}))
		ok(t, several.SaveConnection(ctx, connected(c, shop2)))
		held := dump(t, several)
		ok(t, several.Adopt(ctx))
		if diff := cmp.Diff(held, dump(t, several)); diff != "" {
			t.Errorf("Adopt with many stores: -before +after\n%s", diff)
		}
		s := open(of(c, "one"))
		ok(t, s.Client().Set(ctx, store.RecordKey(shop), "damaged", 0).Err())
		ok(t, s.Adopt(ctx))
		save(t, s, pat, everything(c))
		is(t, "adopted in place of what does not open", s, pat, known)
	})
}

// TestRedactionStays: only the shopper's own click, or the erasure of the shop, lifts a redaction.
func TestRedactionStays(t *testing.T) {
	server := storetest.Redis(t)
	ctx := t.Context()
	id := string(pat.Customer)
	c := newClock()
	newToken := func(_ *testing.T, s *store.Store) *store.Store {
		other := connected(c, shop)
		other.APIToken = c.Now().String()
		ok(t, s.SaveConnection(ctx, other))
		return s
	}
	imported := func(t *testing.T, s *store.Store) *store.Store {
		for range 2 {
			task := importing(t, s, shop)
			imports(t, s, task, record(pat, known), record(kim, nthCustomer(0)))
			is(t, "imported beside", s, kim, nthCustomer(0))
			ok(t, s.EndImport(ctx, task, time.Hour))
		}
		return s
	}
	learned := func(t *testing.T, s *store.Store) *store.Store {
		forgetTombstones(t, s)
		for _, who := range []store.Shopper{pat, byRecharge} {
			ok(t, second(s.SaveIfUnchanged(ctx, load(t, s, who), who, lookedUp(c, pat, known), clockOf(t, s), nil)))
			is(t, "learned", s, who, recharge.Customer{})
		}
		ok(t, second(s.SaveIfUnchanged(ctx, load(t, s, pat), pat, store.Cached{NotSubscriber: true, LookedUp: c.Now()}, clockOf(t, s), nil)))
		return s
	}
	adopted := func(t *testing.T, _ *store.Store) *store.Store {
		s := open(t, on(of(c, c.Now().String()), server))
		ok(t, s.Adopt(ctx))
		return s
	}
	rekeyed := func(t *testing.T, s *store.Store, o store.Options) *store.Store {
		o.Keys = [][]byte{key(2), key(1)}
		both := open(t, o)
		if n, err := both.Rekey(ctx); n != 1 || err != nil {
			t.Errorf("Rekey = %d, %v; want 1", n, err)
		}
		return both
	}
	clicked := func(t *testing.T, s *store.Store) *store.Store {
		save(t, s, kim, lookedUp(c, kim, nthCustomer(0))) // another shopper's click
		loaded := load(t, s, pat)
		lock := s.Lock(loaded, pat)
		take(t, lock)
		ok(t, s.Save(ctx, loaded.Record, pat, nil, 0, lock)) // a click that learned nothing
		value := lookedUp(c, pat, known)
		if err := s.Save(ctx, loaded.Record, pat, &value, clockOf(t, s)-(90*time.Second).Microseconds(), nil); !errors.Is(err, store.ErrOutdated) {
			t.Errorf("Save of too long ago = %v; want ErrOutdated", err)
		}
		return s
	}
	changed := func(t *testing.T, s *store.Store) *store.Store {
		ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: pat.Customer}))
		ok(t, s.Forget(ctx, recordOf(t, s, shop), pat))
		return s
	}
	spared := func(t *testing.T, s *store.Store) *store.Store {
		_, err := s.EraseShop(ctx, store.Erasure{Shop: shop, SavedUntil: c.Now().Add(-24 * time.Hour)})
		ok(t, err)
		return s
	}
	type step = func(*testing.T, *store.Store) *store.Store
	for name, tt := range map[string]struct {
		own   bool
		steps []step
	}{
		"nothing":            {false, nil},
		"another token":      {false, []step{newToken, newToken}},
		"another account":    {true, []step{adopted}},
		"rekeyed":            {false, []step{func(t *testing.T, s *store.Store) *store.Store { return rekeyed(t, s, on(many(c, &logged{}), server)) }}},
		"one store, rekeyed": {true, []step{func(t *testing.T, s *store.Store) *store.Store { return rekeyed(t, s, on(of(c, "one"), server)) }}},
		"imported":           {false, []step{imported}},
		"looked up":          {true, []step{learned}},
		"a webhook":          {false, []step{changed}},
		"a late uninstall":   {false, []step{spared, imported, spared}},
		"clicks that change nothing": {
			false, []step{clicked},
		},
		"all of it": {false, []step{learned, imported, newToken, clicked, imported, changed, spared, newToken, learned}},
		"all of it, one store": {true, []step{
			imported, learned, adopted, imported, clicked, changed, adopted, learned,
		}},
	} {
		for _, ends := range []string{"a click", "a click of no subscriber", "the shop is erased"} {
			t.Run(name+", "+ends, func(t *testing.T) {
				ok(t, direct(t, server).FlushAll(ctx).Err())
				o := on(many(c, &logged{}), server)
				if tt.own {
					o = on(of(c, "one"), server)
				}
				s := open(t, o)
				if !tt.own {
					ok(t, s.SaveConnection(ctx, connected(c, shop)))
				}
				save(t, s, pat, everything(c))
				ok(t, s.Redact(ctx, shop, pat.Customer))
				marker := recordOf(t, s, shop).RedactionKey(id)
				for _, step := range tt.steps {
					c.advance(time.Second)
					s = step(t, s)
				}
				if now := recordOf(t, s, shop).RedactionKey(id); now != marker {
					t.Fatalf("the redaction is expected at %q; want %q", now, marker)
				}
				if value, life := s.Client().Get(ctx, marker).Val(), s.Client().PTTL(ctx, marker).Val(); value != "1" || life < store.RedactedFor-time.Minute || life > store.RedactedFor {
					t.Errorf("the redaction is %q, for %v; want it for %v", value, life, store.RedactedFor)
				}
				forgetTombstones(t, s)
				s = learned(t, imported(t, s))
				is(t, "redacted", s, pat, recharge.Customer{})

				switch ends {
				case "a click":
					save(t, s, pat, everything(c))
				case "a click of no subscriber":
					save(t, s, pat, store.Cached{NotSubscriber: true, LookedUp: c.Now()})
				default:
					_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
					ok(t, err)
					s.Settle()
					if !tt.own {
						ok(t, s.SaveConnection(ctx, connected(c, shop)))
					}
					next := recordOf(t, s, shop).RedactionKey(id)
					if next == marker || s.Client().Exists(ctx, next).Val() != 0 {
						t.Error("the erased shop still has the redaction")
					}
					// Nobody can tell whose they were.
					if left := traces(t, s, id, store.RechargeID(known.ID)); len(left) > 0 {
						t.Errorf("left of the shopper is %q", left)
					}
				}
				if ends[0] == 'a' && s.Client().Exists(ctx, marker).Val() != 0 {
					t.Error("a click did not lift the redaction")
				}
				task := importing(t, s, shop)
				task.Number += 100
				imports(t, s, task, record(pat, known))
				is(t, "imported after that", s, pat, known)
			})
		}
	}
}

// TestRedactionsApart: each is one shopper's of one shop.
func TestRedactionsApart(t *testing.T) {
	c := newClock()
	s := open(t, many(c, &logged{}))
	keys := map[string]bool{}
	for _, shop := range []store.Shopper{{Shop: shop}, {Shop: shop2}} {
		ok(t, s.SaveConnection(t.Context(), connected(c, shop.Shop)))
		r := recordOf(t, s, shop.Shop)
		for _, id := range []string{"1", "11", "recharge:1"} {
			keys[r.RedactionKey(id)] = true
			keys[r.CachedKey(id)] = true
		}
	}
	if len(keys) != 12 {
		t.Errorf("%d keys; want 12", len(keys))
	}
	ok(t, s.Redact(t.Context(), shop, "1"))
	for _, who := range []store.Shopper{{Shop: shop, Customer: "1"}, {Shop: shop2, Customer: "1"}, {Shop: shop, Customer: "11"}} {
		task := importing(t, s, who.Shop)
		forgetTombstones(t, s)
		imports(t, s, task, record(who, known))
		want := known
		if who.Shop == shop && who.Customer == "1" {
			want = recharge.Customer{}
		}
		is(t, "imported", s, who, want)
		ok(t, s.EndImport(t.Context(), task, time.Hour))
	}
	got := kindsOf(dump(t, s), shop)
	maps.DeleteFunc(got, func(kind string, _ int) bool { return kind != "d" })
	if diff := cmp.Diff(map[string]int{"d": 1}, got); diff != "" {
		t.Errorf("redactions: -want +got\n%s", diff)
	}
}

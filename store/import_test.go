package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

func noneDue(t *testing.T, s *store.Store) {
	t.Helper()
	if task, err := s.TakeImport(t.Context()); err != nil || task != nil {
		t.Errorf("TakeImport = %+v, %v; want none", task, err)
	}
}

// TestImportIsOnes: one of two instances imports a shop. When it has sent no update for the length
// of its lease, the other continues from there.
func TestImportIsOnes(t *testing.T) {
	a, b := two(t, options(newClock(), &logged{}))
	noneDue(t, a)
	ok(t, a.ScheduleImport(t.Context(), shop))
	ok(t, a.ScheduleImport(t.Context(), shop))
	task := taken(t, a, shop)
	noneDue(t, b)
	noneDue(t, a)
	task.Running, task.Cursor, task.Pages = true, "next", 7
	if had, err := a.KeepImport(t.Context(), task, store.ImportLease); !had || err != nil {
		t.Fatalf("KeepImport = %v, %v; want true", had, err)
	}
	noneDue(t, b)
	ok(t, b.ScheduleImport(t.Context(), shop)) // that does not request one
	noneDue(t, b)

	ok(t, b.RequestImport(t.Context(), shop)) // makes it due, as if the lease had ended
	other := taken(t, b, shop)
	if !other.Running || other.Cursor != "next" || other.Pages != 7 {
		t.Errorf("the second took %+v; want it to continue at the cursor", other.Import)
	}
	task.Cursor = "elsewhere"
	if had, err := a.KeepImport(t.Context(), task, store.ImportLease); had || err != nil {
		t.Errorf("KeepImport of another instance's lease = %v, %v; want false", had, err)
	}
	if progress, err := a.Import(t.Context(), shop); err != nil || progress.Cursor != "next" {
		t.Errorf("the import is at %q, %v; want where the second has it", progress.Cursor, err)
	}
	other.Running = false
	ok(t, b.EndImport(t.Context(), other, time.Hour))
	noneDue(t, a)
	ok(t, a.RequestImport(t.Context(), shop))
	taken(t, b, shop)
}

// TestImportLeaseEnds: a lease ends by Redis' clock, without a request.
func TestImportLeaseEnds(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		s := open(options(newClock(), &logged{}))
		ok(t, s.ScheduleImport(t.Context(), shop))
		ok(t, s.EndImport(t.Context(), taken(t, s, shop), 50*time.Millisecond))
		eventually(t, "it is due", func() bool {
			task, err := s.TakeImport(t.Context())
			ok(t, err)
			return task != nil
		})
	})
}

// TestImportOfManyShops: each shop is taken once, by any instance. A shop without a record is
// removed from the list.
func TestImportOfManyShops(t *testing.T) {
	c := newClock()
	s := open(t, many(c, &logged{}))
	var want []shopify.Shop
	for i := range 5 {
		shop := shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i))
		ok(t, s.SaveConnection(t.Context(), connected(c, shop)))
		want = append(want, shop)
	}
	ok(t, s.ScheduleImport(t.Context(), "nobody.myshopify.com"))
	var got []shopify.Shop
	for range 5 {
		task, err := s.TakeImport(t.Context())
		if err != nil || task == nil {
			t.Fatalf("TakeImport = %v, %v", task, err)
		}
		got = append(got, task.Shop)
	}
	noneDue(t, s)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("taken were %q; want %q", got, want)
	}
	if shops, err := s.Shops(t.Context()); err != nil || !slices.Equal(shops, want) && len(shops) != 5 {
		t.Errorf("Shops = %q, %v; want %q", shops, err, want)
	}
}

// TestImportPercent: the percentage of what the last import has read.
func TestImportPercent(t *testing.T) {
	for _, tt := range []struct {
		of   store.Import
		want int
	}{
		{store.Import{}, 0}, {store.Import{Running: true, Customers: 50}, 0}, {store.Import{Running: true, Customers: 50, Size: 200}, 25},
		{store.Import{Running: true, Customers: 500, Size: 200}, 99}, {store.Import{Customers: 50, Size: 200}, 0},
	} {
		if got := tt.of.Percent(); got != tt.want {
			t.Errorf("Percent of %+v = %d; want %d", tt.of, got, tt.want)
		}
	}
}

// TestImported: all customers count as known for two days.
func TestImported(t *testing.T) {
	c := newClock()
	s := open(t, options(c, &logged{}))
	want := func(when string, want bool) {
		t.Helper()
		if got := s.Imported(t.Context(), shop); got != want {
			t.Errorf("%s: Imported = %v; want %v", when, got, want)
		}
	}
	want("never", false)
	task := importing(t, s, shop)
	if _, err := s.KeepImport(t.Context(), task, store.ImportLease); err != nil {
		t.Fatal(err)
	}
	want("under way", false)
	task.Running, task.Done = false, c.Now()
	ok(t, s.EndImport(t.Context(), task, time.Hour))
	want("done", true)
	c.advance(48*time.Hour - time.Second)
	want("two days ago", true)
	c.advance(time.Second)
	want("longer ago", false)
}

// TestSaveImported: an imported shopper is cached as if looked up, and nobody else is.
func TestSaveImported(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c := newClock()
		s := open(options(c, &logged{}))
		task := importing(t, s, shop)
		imports(t, s, task, record(pat, known), record(kim, nthCustomer(0)))
		imports(t, s, task)
		want := lookedUp(c, pat, known)
		want.Import, want.Fresh = task.Number, true
		if got := load(t, s, pat).Cached; got != want {
			t.Errorf("Load = %+v; want %+v", got, want)
		}
		is(t, "imported", s, kim, nthCustomer(0))
		is(t, "not imported", s, nth(shop, 1), recharge.Customer{})
	})
}

// TestSeveralRecords: of a shopper's records, an import prefers the one that a lookup would,
// however they are spread over pages and whichever pages are read twice.
func TestSeveralRecords(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	task := importing(t, s, shop)
	rapid.Check(t, func(t *rapid.T) {
		task.Number++
		var all []recharge.Record
		active := 0
		var want recharge.Customer
		for i := range rapid.IntRange(1, 4).Draw(t, "records") {
			customer := recharge.Customer{ID: int64(i + 1), Hash: fmt.Sprint("hash", i), Active: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "active")}
			if customer.Active > 0 {
				active++
				want = customer
			}
			all = append(all, record(pat, customer))
		}
		several := len(all) > 1 && active != 1
		if len(all) == 1 {
			want = all[0].Customer
		}
		order := rapid.Permutation(all).Draw(t, "order")
		for page := range slices.Chunk(order, rapid.IntRange(1, 4).Draw(t, "size")) {
			for range rapid.IntRange(1, 2).Draw(t, "times") { // an interrupted import reads a page again
				imports(t, s, task, page...)
			}
		}
		got := load(t, s, pat).Cached
		if got.Several != several || got.Known() == several || got.Fresh == several || !several && got.Customer != want || got.NotSubscriber {
			t.Fatalf("Load = %+v; want %+v, several: %v", got, want, several)
		}
	})
}

// TestNextImportReplaces: the last import's findings do not count for the next one.
func TestNextImportReplaces(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	task := importing(t, s, shop)
	imports(t, s, task, record(pat, recharge.Customer{ID: 1, Hash: "a", Active: 1}), record(kim, nthCustomer(0)), record(kim, nthCustomer(1)))
	task.Number++
	imports(t, s, task, record(pat, known), record(kim, nthCustomer(1)))
	is(t, "the next import", s, pat, known)
	is(t, "the next import of one of whom there were several", s, kim, nthCustomer(1))
}

// TestImportLeavesLookups: a lookup sees all records of a shopper, a page perhaps only one.
func TestImportLeavesLookups(t *testing.T) {
	ctx := t.Context()
	other := recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811", Active: 1}
	c := newClock()
	s := open(t, options(c, &logged{}))
	task := importing(t, s, shop)
	value := everything(c)
	save(t, s, pat, value)

	imports(t, s, task, record(pat, other))
	is(t, "another record than that which was looked up", s, pat, known)
	ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
	save(t, s, pat, value)
	imports(t, s, task, record(pat, known))
	got := load(t, s, pat).Cached
	if got.Session != value.Session && !got.Session.Expires.Equal(value.Session.Expires) || got.Access.TempToken != value.Access.TempToken || got.Import != task.Number {
		t.Errorf("imported with the same hash: %+v; want the session and access kept", got)
	}
	task.Number++
	newHash := known
	newHash.Hash = "ffffffff"
	imports(t, s, task, record(pat, newHash))
	if got := load(t, s, pat).Cached; got.Customer != newHash || got.Session.Token != "" || got.Access.TempToken != "" {
		t.Errorf("imported with another hash: %+v; want neither the old session nor the old access", got)
	}
	save(t, s, pat, value)
	c.advance(27 * time.Hour) // the lookup is now stale
	task.Number++
	imports(t, s, task, record(pat, other))
	is(t, "a stale lookup", s, pat, other)
	save(t, s, kim, store.Cached{NotSubscriber: true, LookedUp: c.Now()})
	imports(t, s, task, record(kim, nthCustomer(0)))
	is(t, "a subscriber now", s, kim, nthCustomer(0))
}

// TestSaveImportedAtOnce: a value that a click has saved since the import read it stays.
func TestSaveImportedAtOnce(t *testing.T) {
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	task := importing(t, a, shop)
	var records []recharge.Record
	for i := range 500 {
		records = append(records, record(nth(shop, i), nthCustomer(i)))
	}
	at := clockOf(t, a)
	done := make(chan error)
	go func() { done <- a.SaveImported(context.Background(), task, records, at) }()
	changed := func(i int) recharge.Customer { c := nthCustomer(i); c.ID += 1_000_000; return c }
	for i := range 500 {
		if i%5 == 0 {
			save(t, b, nth(shop, i), lookedUp(c, nth(shop, i), changed(i)))
		}
	}
	ok(t, <-done)
	for i := range 500 {
		want := nthCustomer(i)
		if i%5 == 0 {
			want = changed(i)
		}
		is(t, "looked up while imported", a, nth(shop, i), want)
	}
}

// TestSaveIfUnchanged: a background lookup gives way to a value that was cached meanwhile.
func TestSaveIfUnchanged(t *testing.T) {
	other := recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811", Active: 1}
	c := newClock()
	s := open(t, options(c, &logged{}))
	loaded := load(t, s, pat)
	ok(t, second(s.SaveIfUnchanged(t.Context(), loaded, pat, lookedUp(c, pat, known), clockOf(t, s), nil)))
	is(t, "nothing was cached", s, pat, known)
	ok(t, second(s.SaveIfUnchanged(t.Context(), loaded, pat, lookedUp(c, pat, other), clockOf(t, s), nil)))
	is(t, "something was cached since", s, pat, known)
	ok(t, second(s.SaveIfUnchanged(t.Context(), load(t, s, pat), pat, lookedUp(c, pat, other), clockOf(t, s), nil)))
	is(t, "loaded again", s, pat, other)
}

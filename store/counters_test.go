package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

func healthOf(t *testing.T, s *store.Store, shop shopify.Shop) store.Health {
	t.Helper()
	health, err := s.Health(t.Context(), shop, time.Time{})
	ok(t, err)
	return health
}

// merged adds up all counts.
func merged(h store.Health) map[string]int64 {
	all := map[string]int64{}
	for _, hour := range h.Hours {
		for name, n := range hour.Counts {
			all[name] += n
		}
	}
	return all
}

func TestCounters(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		recordOf(t, s, shop)
		began := c.Now().UTC().Truncate(time.Hour)
		type counts = map[string]int64
		want := func(when string, since time.Time, wants ...store.Hour) {
			t.Helper()
			health, err := s.Health(ctx, shop, since)
			ok(t, err)
			if diff := cmp.Diff(wants, health.Hours); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
		s.Count(shop, "redirected", 2)
		s.Count(shop, "sign_in", 1)
		s.Count(shop2, "redirected", 7) // nothing is kept of that shop
		if got := kinds(dump(t, s)); len(got) > 1 {
			t.Errorf("Count wrote %v; want nothing before Flush", got)
		}
		want("not flushed", began, store.Hour{began, counts{"redirected": 2, "sign_in": 1}})
		ok(t, s.Flush(ctx))
		ok(t, s.Flush(ctx)) // there is nothing more
		want("flushed", began, store.Hour{began, counts{"redirected": 2, "sign_in": 1}})
		if got := kinds(dump(t, s)); got["h"] != 1 {
			t.Errorf("keys = %v; want a day of the one shop", got)
		}
		s.Count(shop, "redirected", 1)
		first := store.Hour{began, counts{"redirected": 3, "sign_in": 1}}
		want("flushed and not", began, first)
		ok(t, s.Flush(ctx))
		c.advance(time.Hour)
		s.Count(shop, "redirected", 10)
		ok(t, s.Flush(ctx))
		second := store.Hour{began.Add(time.Hour), counts{"redirected": 10}}
		want("an hour later", began, first, second)
		want("since the second hour", began.Add(time.Hour+time.Minute), second)
		c.advance(40 * 24 * time.Hour)
		s.Count(shop, "unavailable", 5)
		third := store.Hour{began.Add(time.Hour + 40*24*time.Hour), counts{"unavailable": 5}}
		want("weeks later", time.Time{}, first, second, third)
		ok(t, s.Flush(ctx))
		want("weeks later, flushed", time.Time{}, first, second, third)
		for key := range dump(t, s) {
			life := s.Client().PTTL(ctx, key).Val()
			if strings.Contains(key, "}:h:") && (life <= 57*24*time.Hour || life > 58*24*time.Hour) {
				t.Errorf("%q lives for %v; want 58 days", key, life)
			}
		}
	})
}

// TestCountersOfNoRecord: of a shop that has not connected Recharge, only that is counted, and nothing any
// more once it has uninstalled the app.
func TestCountersOfNoRecord(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(many(c, &logged{}))
		count := func() {
			s.Count(shop, store.Unconnected, 2)
			s.Count(shop, "calls", 3)
			s.NoteError(shop, "down")
			ok(t, s.Flush(ctx))
		}
		count()
		count()
		health := healthOf(t, s, shop)
		if diff := cmp.Diff(map[string]int64{store.Unconnected: 4}, merged(health)); diff != "" || len(health.Errors) > 0 {
			t.Errorf("Health = %+v; want only four clicks", health)
		}
		_, err := s.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: c.Now()})
		ok(t, err)
		count() // as an instance does that had them pending
		if got := kinds(dump(t, s)); got["h"] != 0 {
			t.Errorf("keys = %v after the uninstall; want no counters", got)
		}
		c.advance(3 * time.Minute)
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
		count()
		if got := merged(healthOf(t, s, shop)); got["calls"] != 3 || got[store.Unconnected] != 2 {
			t.Errorf("connected: counted %v; want everything", got)
		}
	})
}

func TestRecentErrors(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		recordOf(t, s, shop)
		start := c.Now()
		add := func(what string) {
			s.NoteError(shop, what)
			c.advance(time.Minute)
		}
		want := func(when string, wants ...string) {
			t.Helper()
			var got []string
			for _, e := range healthOf(t, s, shop).Errors {
				got = append(got, fmt.Sprint(e.What, " ", e.Times, " ", e.First.Sub(start), " ", e.Last.Sub(start)))
			}
			if diff := cmp.Diff(wants, got); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
		add("down")
		add("down")
		want("not flushed", "down 2 0s 1m0s")
		ok(t, s.Flush(ctx))
		want("flushed", "down 2 0s 1m0s")
		add("down")
		add("refused")
		add("down")
		want("in part", "down 1 4m0s 4m0s", "refused 1 3m0s 3m0s", "down 3 0s 2m0s")
		ok(t, s.Flush(ctx))
		want("flushed again", "down 1 4m0s 4m0s", "refused 1 3m0s 3m0s", "down 3 0s 2m0s")
		c.advance(time.Hour)
		add("down")
		want("an hour later it is new", "down 1 1h5m0s 1h5m0s", "down 1 4m0s 4m0s", "refused 1 3m0s 3m0s", "down 3 0s 2m0s")
		for i := range 40 {
			add(fmt.Sprint(i))
			if i%7 == 0 {
				ok(t, s.Flush(ctx))
			}
		}
		ok(t, s.Flush(ctx))
		errs := healthOf(t, s, shop).Errors
		if len(errs) != 20 || errs[0].What != "39" || errs[19].What != "20" {
			t.Errorf("Errors = %+v; want the last twenty", errs)
		}
	})
}

// TestFlushAtOnce: counts that several instances flush at once add up.
func TestFlushAtOnce(t *testing.T) {
	a, b := two(t, options(newClock(), &logged{}))
	recordOf(t, a, shop)
	var counted sync.WaitGroup
	for i := range 8 {
		s := []*store.Store{a, b}[i%2]
		counted.Go(func() {
			for range 100 {
				s.Count(shop, "redirected", 1)
				s.NoteError(shop, "down")
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Errorf("Flush = %v", err)
			}
		})
	}
	counted.Wait()
	for _, s := range []*store.Store{a, b} {
		ok(t, s.Flush(t.Context()))
	}
	health := healthOf(t, b, shop)
	if got := merged(health)["redirected"]; got != 800 || len(health.Errors) != 1 {
		t.Errorf("Health = %d redirected, %d errors; want 800, and one", got, len(health.Errors))
	}
}

// TestFlushFails: counts that could not be written are kept, and count for the hour in which they are.
// TestHealthDuringFlush: what is on its way to Redis is not missing for a moment.
func TestHealthDuringFlush(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		s := open(options(newClock(), &logged{}))
		recordOf(t, s, shop)
		for want := int64(1); want <= 200; want++ {
			s.Count(shop, "redirected", 1)
			var flushing sync.WaitGroup
			flushing.Go(func() { ok(t, s.Flush(t.Context())) })
			got := merged(healthOf(t, s, shop))["redirected"]
			flushing.Wait()
			if got != want {
				t.Fatalf("%d of %d clicks during a flush", got, want)
			}
		}
	})
}

func TestFlushFails(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	for _, shop := range []shopify.Shop{shop, shop2} {
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
	}
	client := direct(t, server)
	ok(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	for range 3 {
		s.Count(shop, "redirected", 1)
		s.Count(shop, fmt.Sprint(c.Now().Unix()), 2)
		s.NoteError(shop2, "down")
		if err := s.Flush(ctx); err == nil {
			t.Error("Flush to a full Redis = nil; want an error")
		}
		c.advance(time.Minute)
	}
	check := func(when string) {
		t.Helper()
		counts := merged(healthOf(t, s, shop))
		if counts["redirected"] != 3 || len(counts) != 4 {
			t.Errorf("%s: counted %v; want 3 redirected, and three names", when, counts)
		}
		if got := healthOf(t, s, shop2).Errors; len(got) != 1 || got[0].Times != 3 {
			t.Errorf("%s: Errors = %+v; want one, three times", when, got)
		}
	}
	check("not written")
	c.advance(time.Hour)
	check("not written, an hour later")
	ok(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	ok(t, s.Flush(ctx))
	check("written")
	ok(t, s.Flush(ctx)) // there is nothing more
	check("written once")
	c.advance(time.Hour)
	check("another hour later")
}

// TestFlushOfWhatDoesNotOpen: a shop whose record does not open does not hold up other shops'
// counters.
func TestFlushOfWhatDoesNotOpen(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, many(c, &logged{}))
	var shops []shopify.Shop
	for i := range 8 {
		shops = append(shops, shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)))
		ok(t, s.SaveConnection(ctx, connected(c, shops[i])))
		s.Count(shops[i], "redirected", 1)
	}
	ok(t, s.Client().Set(ctx, store.RecordKey(shops[3]), "damaged", 0).Err())
	if err := s.Flush(ctx); err == nil {
		t.Error("Flush = nil; want an error about the one")
	}
	if got := kinds(dump(t, s))["h"]; got != 7 {
		t.Errorf("the counters of %d shops are written; want 7", got)
	}
	ok(t, s.SaveConnection(ctx, connected(c, shops[3]))) // the shop is connected again
	ok(t, s.Flush(ctx))
	for _, shop := range shops {
		if got := merged(healthOf(t, s, shop))["redirected"]; got != 1 {
			t.Errorf("%s: %d redirected; want one", shop, got)
		}
	}
}

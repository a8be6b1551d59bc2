package store_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

func healthOf(t *testing.T, s *store.Store, shop shopify.Shop) store.Health {
	t.Helper()
	health, err := s.Health(t.Context(), shop)
	ok(t, err)
	return health
}

// last returns the counts of the last hours, the current one first.
func last(h store.Health, n int) []map[string]int64 {
	var all []map[string]int64
	for i := range n {
		all = append(all, h.Hours[23-i].Counts)
	}
	return all
}

func TestCounters(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		recordOf(t, s, shop)
		want := func(when string, counts ...map[string]int64) {
			t.Helper()
			health := healthOf(t, s, shop)
			if diff := cmp.Diff(counts, last(health, len(counts))); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
			for i, hour := range health.Hours {
				if start := c.Now().Truncate(time.Hour).Add(time.Duration(i-23) * time.Hour); !hour.Start.Equal(start) {
					t.Errorf("%s: hour %d starts at %v; want %v", when, i, hour.Start, start)
				}
			}
		}
		s.Count(shop, "redirected", 2)
		s.Count(shop, "sign_in", 1)
		s.Count(shop2, "redirected", 7) // nothing is kept of that shop
		if got := kinds(dump(t, s)); len(got) > 1 {
			t.Errorf("Count wrote %v; want nothing before Flush", got)
		}
		want("not flushed", map[string]int64{"redirected": 2, "sign_in": 1}, map[string]int64{})
		ok(t, s.Flush(ctx))
		ok(t, s.Flush(ctx)) // there is nothing more
		want("flushed", map[string]int64{"redirected": 2, "sign_in": 1}, map[string]int64{})
		if got := kinds(dump(t, s)); got["h"] != 1 {
			t.Errorf("keys = %v; want an hour of the one shop", got)
		}
		s.Count(shop, "redirected", 1)
		want("flushed and not", map[string]int64{"redirected": 3, "sign_in": 1}, map[string]int64{})
		ok(t, s.Flush(ctx))
		c.advance(time.Hour)
		s.Count(shop, "redirected", 10)
		ok(t, s.Flush(ctx))
		want("an hour later", map[string]int64{"redirected": 10}, map[string]int64{"redirected": 3, "sign_in": 1}, map[string]int64{})
		for key := range dump(t, s) {
			if life := s.Client().PTTL(ctx, key).Val(); strings.Contains(key, "}:h:") && (life <= 24*time.Hour || life > 25*time.Hour) {
				t.Errorf("%q lives for %v; want 25 h", key, life)
			}
		}
		c.advance(24 * time.Hour)
		if diff := cmp.Diff(slices.Repeat([]map[string]int64{{}}, 24), last(healthOf(t, s, shop), 24)); diff != "" {
			t.Errorf("a day later: -want +got\n%s", diff)
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
		add := func(what, id string) {
			s.NoteError(shop, what, id)
			c.advance(time.Minute)
		}
		want := func(when string, wants ...string) {
			t.Helper()
			var got []string
			for _, e := range healthOf(t, s, shop).Errors {
				got = append(got, fmt.Sprint(e.What, " ", e.RequestID, " ", e.Times, " ", e.At.Sub(start)))
			}
			if diff := cmp.Diff(wants, got); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
		add("down", "1")
		add("down", "2")
		want("not flushed", "down 2 2 1m0s")
		ok(t, s.Flush(ctx))
		want("flushed", "down 2 2 1m0s")
		add("down", "3")
		add("refused", "4")
		add("down", "5")
		want("in part", "down 5 1 4m0s", "refused 4 1 3m0s", "down 3 3 2m0s")
		ok(t, s.Flush(ctx))
		want("flushed again", "down 5 1 4m0s", "refused 4 1 3m0s", "down 3 3 2m0s")
		c.advance(time.Hour)
		add("down", "6")
		want("an hour later it is new", "down 6 1 1h5m0s", "down 5 1 4m0s", "refused 4 1 3m0s", "down 3 3 2m0s")
		for i := range 30 {
			add(fmt.Sprint(i), "7")
			if i%7 == 0 {
				ok(t, s.Flush(ctx))
			}
		}
		ok(t, s.Flush(ctx))
		errs := healthOf(t, s, shop).Errors
		if len(errs) != 10 || errs[0].What != "29" || errs[9].What != "20" {
			t.Errorf("Errors = %+v; want the last ten", errs)
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
				s.NoteError(shop, "down", "")
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
	if got := health.Hours[23].Counts["redirected"]; got != 800 || len(health.Errors) != 1 {
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
			got := last(healthOf(t, s, shop), 1)[0]["redirected"]
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
		s.NoteError(shop2, "down", "")
		if err := s.Flush(ctx); err == nil {
			t.Error("Flush to a full Redis = nil; want an error")
		}
		c.advance(time.Minute)
	}
	check := func(when string, hour int) {
		t.Helper()
		counts := healthOf(t, s, shop).Hours[hour].Counts
		if counts["redirected"] != 3 || len(counts) != 4 {
			t.Errorf("%s: counted %v; want 3 redirected, and three names", when, counts)
		}
		if got := healthOf(t, s, shop2).Errors; len(got) != 1 || got[0].Times != 3 {
			t.Errorf("%s: Errors = %+v; want one, three times", when, got)
		}
	}
	check("not written", 23)
	c.advance(time.Hour)
	check("not written, an hour later", 23)
	ok(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	ok(t, s.Flush(ctx))
	check("written", 23)
	ok(t, s.Flush(ctx)) // there is nothing more
	check("written once", 23)
	c.advance(time.Hour)
	check("another hour later", 22)
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
		if got := healthOf(t, s, shop).Hours[23].Counts["redirected"]; got != 1 {
			t.Errorf("%s: %d redirected; want one", shop, got)
		}
	}
}

package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

func healthOf(t *testing.T, s *store.Store, shop shopify.Shop) store.Health {
	t.Helper()
	health, err := s.Health(t.Context(), shop)
	ok(t, err)
	return health
}

// last are the numbers of the last hours, the current one first.
func last(h store.Health, n int) []map[string]int64 {
	var all []map[string]int64
	for i := range n {
		all = append(all, h.Hours[23-i].Numbers)
	}
	return all
}

func TestNumbers(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		want := func(when string, numbers ...map[string]int64) {
			t.Helper()
			health := healthOf(t, s, pat.Shop)
			if diff := cmp.Diff(numbers, last(health, len(numbers))); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
			for i, hour := range health.Hours {
				if start := c.now.Truncate(time.Hour).Add(time.Duration(i-23) * time.Hour); !hour.Start.Equal(start) {
					t.Errorf("%s: hour %d starts at %v; want %v", when, i, hour.Start, start)
				}
			}
		}
		s.Count(pat.Shop, "redirected", 2)
		s.Count(pat.Shop, "sign_in", 1)
		s.Count(patsTwin.Shop, "redirected", 7)
		if got := dump(t, s); len(got) > 0 {
			t.Errorf("Count wrote %q; want nothing before Flush", keys(got))
		}
		want("not flushed", map[string]int64{"redirected": 2, "sign_in": 1}, map[string]int64{})
		ok(t, s.Flush(ctx))
		ok(t, s.Flush(ctx)) // there is nothing more
		want("flushed", map[string]int64{"redirected": 2, "sign_in": 1}, map[string]int64{})
		s.Count(pat.Shop, "redirected", 1)
		want("flushed and not", map[string]int64{"redirected": 3, "sign_in": 1}, map[string]int64{})
		c.advance(time.Hour)
		s.Count(pat.Shop, "redirected", 10)
		ok(t, s.Flush(ctx))
		want("an hour later", map[string]int64{"redirected": 10}, map[string]int64{"redirected": 3, "sign_in": 1}, map[string]int64{})
		for key := range dump(t, s) {
			if ttl := s.Client().PTTL(ctx, key).Val(); ttl <= 24*time.Hour || ttl > 25*time.Hour {
				t.Errorf("%q lives for %v; want 25 h", key, ttl)
			}
		}
		c.advance(24 * time.Hour)
		if diff := cmp.Diff(slices.Repeat([]map[string]int64{{}}, 24), last(healthOf(t, s, pat.Shop), 24)); diff != "" {
			t.Errorf("a day later: -want +got\n%s", diff)
		}
	})
}

func TestTroubles(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		add := func(what, id string) {
			s.Trouble(pat.Shop, store.Trouble{What: what, RequestID: id})
			c.advance(time.Minute)
		}
		want := func(when string, wants ...string) {
			t.Helper()
			var got []string
			for _, trouble := range healthOf(t, s, pat.Shop).Troubles {
				got = append(got, fmt.Sprint(trouble.What, " ", trouble.RequestID, " ", trouble.Times, " ", trouble.At.Sub(newClock().now)))
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
		troubles := healthOf(t, s, pat.Shop).Troubles
		if len(troubles) != 10 || troubles[0].What != "29" || troubles[9].What != "20" {
			t.Errorf("Troubles = %+v; want the last ten", troubles)
		}
	})
}

// TestNumbersOfSeveral: what several instances flush at once adds up.
func TestNumbersOfSeveral(t *testing.T) {
	server := storetest.Redis(t)
	c := newClock()
	stores := []*store.Store{open(t, on(options(c, &logged{}), server)), open(t, on(options(c, &logged{}), server))}
	var flushes sync.WaitGroup
	for i, s := range stores {
		flushes.Go(func() {
			for j := range 4 {
				s.Count(pat.Shop, "redirected", 1)
				s.Trouble(pat.Shop, store.Trouble{What: fmt.Sprint(i, j)})
				if err := s.Flush(t.Context()); err != nil {
					t.Errorf("Flush = %v", err)
				}
			}
		})
	}
	flushes.Wait()
	health := healthOf(t, stores[0], pat.Shop)
	if got := health.Hours[23].Numbers["redirected"]; got != 8 || len(health.Troubles) != 8 {
		t.Errorf("Health = %d redirected, %d troubles; want 8 and 8", got, len(health.Troubles))
	}
}

// TestFlushFails keeps what could not be written, and not without end.
func TestFlushFails(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(options(c, &logged{}), server))
	client := direct(t, server)
	ok(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	for range 3 {
		s.Count(pat.Shop, "redirected", 1)
		s.Trouble(patsTwin.Shop, store.Trouble{What: "down"})
		if err := s.Flush(ctx); err == nil {
			t.Error("Flush to a full Redis = nil; want an error")
		}
	}
	s.Count(pat.Shop, "of yesterday", 1)
	for i := range 30_000 {
		s.Count(shopify.Shop(fmt.Sprint(i)), "redirected", 1)
		s.Count(pat.Shop, fmt.Sprint(i), 1)
	}
	if shops, names := s.Pending(pat.Shop); shops != 10_000 || names > 200 {
		t.Errorf("%d shops and %d names are pending; want bounds", shops, names)
	}
	ok(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	ok(t, s.Flush(ctx))
	if got := healthOf(t, s, pat.Shop).Hours[23].Numbers["redirected"]; got != 3 {
		t.Errorf("%d redirected; want 3", got)
	}
	if got := healthOf(t, s, patsTwin.Shop).Troubles; len(got) != 1 || got[0].Times != 3 {
		t.Errorf("Troubles = %+v; want one, three times", got)
	}
	if shops, _ := s.Pending(pat.Shop); shops != 0 {
		t.Errorf("%d shops are pending after Flush; want none", shops)
	}
}

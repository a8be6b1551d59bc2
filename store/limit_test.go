package store_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestLimiterGrants compares the script with the rule for any request, with and without a lock.
func TestLimiterGrants(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		s := open(many(newClock(), &logged{}))
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			who := nth(shopify.Shop(rapid.StringMatching(`[a-z]{12}`).Draw(t, "shop")+".myshopify.com"), n)
			shared := s.Limiter(who.Shop)
			if rapid.Bool().Draw(t, "with a lock") {
				shared = s.Lock(load(t, s, who), who)
			}
			b := recharge.Bucket{
				Rate:    rapid.SampledFrom([]float64{1e-6, 1e-3}).Draw(t, "rate"),
				Burst:   float64(rapid.IntRange(1, 50).Draw(t, "burst")),
				MaxWait: rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour, 100 * 24 * time.Hour}).Draw(t, "longest wait"),
			}
			level := 0.0
			for range rapid.IntRange(1, 20).Draw(t, "asks") {
				ask := recharge.Ask{
					recharge.High: rapid.IntRange(0, 2).Draw(t, "high"), recharge.Normal: rapid.IntRange(0, 3).Draw(t, "normal"), recharge.Background: rapid.IntRange(0, 2).Draw(t, "background"),
				}
				unreported := float64(rapid.IntRange(-5, 5).Draw(t, "unreported"))
				seen := float64(rapid.IntRange(0, 50).Draw(t, "seen"))
				level = max(0, min(level, b.Most())+unreported, seen)
				want := b.Grant(level, ask, 1)
				before := time.Now()
				got, err := shared.Take(context.Background(), b, ask, unreported, seen)
				if err != nil {
					t.Fatal(err)
				}
				// Redis also counts the microseconds that the test takes.
				const slack = 0.05
				level = want.Level
				if got.Ask != want.Ask || got.Refused() != want.Refused() || math.Abs(got.Level-want.Level) > slack ||
					math.Abs(got.Wait.Seconds()-want.Wait.Seconds()) > slack/b.Rate {
					t.Fatalf("Take(%+v, %+v, unreported %v, seen %v) = %+v; want %+v", b, ask, unreported, seen, got, want)
				}
				if at := time.UnixMicro(got.At); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
					t.Fatalf("At = %v; want Redis' clock", at)
				}
			}
		})
	})
}

// TestLimiterIsShared: two instances with one token make no more calls than one may make.
func TestLimiterIsShared(t *testing.T) {
	a, b := two(t, options(newClock(), &logged{}))
	var (
		mu      sync.Mutex
		granted int
		all     sync.WaitGroup
	)
	for i := range 100 {
		all.Go(func() {
			turn, err := []*store.Store{a, b}[i%2].Limiter(shop).Take(t.Context(), bucket(), oneCall, 0, 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			granted += turn.Ask[recharge.High]
		})
	}
	all.Wait()
	if granted != 40 {
		t.Errorf("%d calls granted; want the burst, 40", granted)
	}
	if turn, err := b.Limiter(shop2).Take(t.Context(), bucket(), oneCall, 0, 0); err != nil || turn.Ask[recharge.High] != 1 {
		t.Errorf("another shop's Take = %+v, %v; want one call", turn, err)
	}
}

// TestSizesDiffer: one instance has noticed a larger bucket of Recharge, with a higher rate, and the
// other has not. The bucket is equally full for both, so neither takes what the other leaves, and
// they never make more calls than the larger bucket holds.
func TestSizesDiffer(t *testing.T) {
	a, b := two(t, options(newClock(), &logged{}))
	small, large := bucket(), recharge.Bucket{Rate: 2e-6, Burst: 80}
	for i, take := range []struct {
		store  *store.Store
		bucket recharge.Bucket
		calls  int
		want   recharge.Turn
	}{
		{a, small, 20, recharge.Turn{Ask: recharge.Ask{20}, Level: 20}}, {b, large, 0, recharge.Turn{Level: 40}},
		{b, large, 20, recharge.Turn{Ask: recharge.Ask{20}, Level: 60}}, {a, small, 0, recharge.Turn{Level: 30}},
		{a, small, 10, recharge.Turn{Ask: recharge.Ask{10}, Level: 40}}, {b, large, 1, recharge.Turn{Level: 80}}, {a, small, 2, recharge.Turn{Level: 40}},
	} {
		got, err := take.store.Limiter(shop).Take(t.Context(), take.bucket, recharge.Ask{recharge.High: take.calls}, 0, 0)
		if err != nil || got.Ask != take.want.Ask || math.Abs(got.Level-take.want.Level) > 0.01 {
			t.Errorf("Take %d = %+v, %v; want %+v", i+1, got, err, take.want)
		}
	}
}

// TestClockPutBack: a clock set back blocks no shop for longer than a pause, and an empty bucket
// takes no memory.
func TestClockPutBack(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	b := recharge.Bucket{Rate: 2, Burst: 40, MaxWait: time.Second}
	key := store.BucketKey(shop)
	take := func() recharge.Turn {
		turn, err := s.Limiter(shop).Take(t.Context(), b, oneCall, 0, 0)
		ok(t, err)
		return turn
	}
	take()
	if life := s.Client().PTTL(t.Context(), key).Val(); life <= 0 || life > 2*time.Second {
		t.Errorf("the bucket's key lives for %v; want until it is empty, and a second", life)
	}
	// As it looks when the clock was set back by an hour.
	ok(t, s.Client().Set(t.Context(), key, time.Now().Add(time.Hour).UnixMicro(), time.Hour).Err())
	if turn := take(); turn.Level > b.Most() {
		t.Errorf("Take = %+v; want no more than %v in the bucket", turn, b.Most())
	}
}

// TestInstances counts the running instances.
func TestInstances(t *testing.T) {
	server := storetest.Redis(t)
	first, second := open(t, on(options(newClock(), &logged{}), server)), open(t, on(options(newClock(), &logged{}), server))
	want := func(when string, want int) {
		t.Helper()
		if got := first.Limiter(shop).Instances(); got != want || first.Instances() != want {
			t.Errorf("%s: %d instances; want %d", when, got, want)
		}
	}
	want("before any count", 1)
	for _, s := range []*store.Store{first, second, first} {
		ok(t, s.CountInstances(t.Context(), false))
	}
	want("both", 2)
	ok(t, second.CountInstances(t.Context(), true))
	ok(t, first.CountInstances(t.Context(), false))
	want("one has left", 1)
	ok(t, second.CountInstances(t.Context(), false))
	ok(t, first.CountInstances(t.Context(), false))
	server.Stop()
	if err := first.CountInstances(t.Context(), false); err == nil {
		t.Error("CountInstances without Redis = nil; want an error")
	}
	want("as last counted", 2)
}

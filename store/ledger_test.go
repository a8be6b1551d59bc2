package store_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// bucket is Recharge's, but that nothing leaks out of it while a test runs.
func bucket() recharge.Bucket {
	return recharge.Bucket{Rate: 1e-6, Burst: 40, Patience: time.Second}
}

// TestLedgerGrants compares the script with the rule, whatever is asked of it, on
// a real Redis and on the embedded one.
func TestLedgerGrants(t *testing.T) {
	for name, s := range map[string]*store.Store{
		"real":     open(t, on(options(newClock(), &logged{}), storetest.Redis(t))),
		"embedded": open(t, options(newClock(), &logged{})),
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				ledger := s.Ledger(shopify.Shop(rapid.StringMatching(`[a-z]{12}`).Draw(t, "shop") + ".myshopify.com"))
				b := recharge.Bucket{
					Rate:     rapid.SampledFrom([]float64{1e-6, 1e-3}).Draw(t, "rate"),
					Burst:    float64(rapid.IntRange(1, 50).Draw(t, "burst")),
					Patience: rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour, 100 * 24 * time.Hour}).Draw(t, "patience"),
				}
				level := 0.0
				for range rapid.IntRange(1, 20).Draw(t, "asks") {
					ask := recharge.Ask{
						Needed:  rapid.IntRange(0, 2).Draw(t, "needed"),
						Helpful: rapid.IntRange(0, 3).Draw(t, "helpful"),
						Spare:   rapid.IntRange(0, 2).Draw(t, "spare"),
					}
					owed := float64(rapid.IntRange(-5, 5).Draw(t, "owed"))
					seen := float64(rapid.IntRange(0, 50).Draw(t, "seen"))
					level = max(0, min(level, b.Most())+owed, seen)
					want := b.Grant(level, ask, 1)
					got, err := ledger.Take(context.Background(), b, ask, owed, seen)
					if err != nil {
						t.Fatal(err)
					}
					// Redis counts the microseconds that the test takes.
					const slack = 0.05
					level = want.Level
					if got.Ask != want.Ask || got.Refused != want.Refused || math.Abs(got.Level-want.Level) > slack ||
						math.Abs(got.Wait.Seconds()-want.Wait.Seconds()) > slack/b.Rate {
						t.Fatalf("Take(%+v, %+v, owed %v, seen %v) = %+v; want %+v", b, ask, owed, seen, got, want)
					}
				}
			})
		})
	}
}

// TestLedgerIsShared: two servers with one token make no more calls than one may.
func TestLedgerIsShared(t *testing.T) {
	server := storetest.Redis(t)
	var mu sync.Mutex
	granted := 0
	var all sync.WaitGroup
	for range 2 {
		s := open(t, on(options(newClock(), &logged{}), server))
		for range 50 {
			all.Go(func() {
				turn, err := s.Ledger(pat.Shop).Take(t.Context(), bucket(), recharge.Ask{Needed: 1}, 0, 0)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				granted += turn.Needed
			})
		}
	}
	all.Wait()
	if granted != 40 {
		t.Errorf("%d calls granted; want the burst, 40", granted)
	}
	s := open(t, on(options(newClock(), &logged{}), server))
	if turn, err := s.Ledger(patsTwin.Shop).Take(t.Context(), bucket(), recharge.Ask{Needed: 1}, 0, 0); err != nil || turn.Needed != 1 {
		t.Errorf("another shop's Take = %+v, %v; want one call", turn, err)
	}
}

// TestLedgerClockPutBack: that closes no shop for longer than a pause does.
func TestLedgerClockPutBack(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	b := recharge.Bucket{Rate: 2, Burst: 40, Patience: time.Second}
	key := added(t, s, func() {
		if _, err := s.Ledger(pat.Shop).Take(t.Context(), b, recharge.Ask{Needed: 1}, 0, 0); err != nil {
			t.Fatal(err)
		}
	})[0]
	// As an hour's step leaves it.
	ok(t, s.Client().Set(t.Context(), key, time.Now().Add(time.Hour).UnixMicro(), time.Hour).Err())
	turn, err := s.Ledger(pat.Shop).Take(t.Context(), b, recharge.Ask{Needed: 1}, 0, 0)
	if err != nil || turn.Level > b.Most() {
		t.Errorf("Take = %+v, %v; want no more than %v in the bucket", turn, err, b.Most())
	}
}

// TestLedgerForgets: a bucket that is empty takes no memory.
func TestLedgerForgets(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	key := added(t, s, func() {
		b := recharge.Bucket{Rate: 2, Burst: 40, Patience: time.Second}
		if _, err := s.Ledger(pat.Shop).Take(t.Context(), b, recharge.Ask{Needed: 1}, 0, 0); err != nil {
			t.Fatal(err)
		}
	})[0]
	life, err := s.Client().PTTL(t.Context(), key).Result()
	if err != nil || life <= 0 || life > 2*time.Second {
		t.Errorf("the bucket's key lives for %v, %v; want until it is empty, and a second", life, err)
	}
}

// take takes a lease with a call.
func takeLease(t *testing.T, lease *store.Lease) error {
	t.Helper()
	_, err := lease.Take(t.Context(), bucket(), recharge.Ask{Needed: 1, Helpful: 2}, 0, 0)
	return err
}

// TestLease: who comes second pays nothing, waits, and hears the first one's
// answer; then the lease is to be had again.
func TestLease(t *testing.T) {
	server := storetest.Redis(t)
	first := open(t, on(options(newClock(), &logged{}), server))
	second := open(t, on(options(newClock(), &logged{}), server))
	won, lost := first.Lease(pat), second.Lease(pat)
	ok(t, takeLease(t, won))
	ok(t, takeLease(t, won)) // the same again, as when an answer was lost
	if err := takeLease(t, lost); !errors.Is(err, recharge.ErrHeld) {
		t.Fatalf("the second Take = %v; want ErrHeld", err)
	}
	ok(t, takeLease(t, second.Lease(other)))
	if turn, err := second.Ledger(pat.Shop).Take(t.Context(), bucket(), recharge.Ask{}, 0, 0); err != nil || math.Round(turn.Level) != 9 {
		t.Errorf("the bucket holds %v, %v; want 9 calls: none of who lost", turn.Level, err)
	}
	heard := make(chan string, 1)
	go func() {
		answer, err := lost.Wait(context.Background())
		if err != nil {
			t.Error(err)
		}
		heard <- string(answer)
	}()
	first.Learn(t.Context(), pat, store.Learned{Customer: known, Lease: won, Answer: []byte("the answer")})
	if got := <-heard; got != "the answer" {
		t.Errorf("Wait = %q; want the answer", got)
	}
	for key, value := range dump(t, first) {
		if value == "athe answer" {
			t.Errorf("%s holds the answer in the clear", key)
		}
	}
	ok(t, takeLease(t, lost))
}

// TestLeaseOfTheDead: who waits for one that has crashed goes on when the lease is
// over, and no later; who waits for one that gave up, at once.
func TestLeaseOfTheDead(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	crashed, next := s.Lease(pat), s.Lease(pat)
	ok(t, takeLease(t, crashed))
	start := time.Now()
	answer, err := next.Wait(t.Context())
	if took := time.Since(start); answer != nil || err != nil || took > store.LeaseLife+time.Second {
		t.Errorf("Wait = %q, %v after %v; want nothing, as soon as the lease of %v is over", answer, err, took, store.LeaseLife)
	}
	ok(t, takeLease(t, next))
	s.Learn(t.Context(), pat, store.Learned{Lease: next})
	if answer, err := crashed.Wait(t.Context()); answer != nil || err != nil {
		t.Errorf("Wait for one that gave up = %q, %v; want nothing", answer, err)
	}
}

// TestLeaseIsNotTakenWithoutCalls: who may not ask must not keep others waiting.
func TestLeaseIsNotTakenWithoutCalls(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	lease := s.Lease(pat)
	turn, err := lease.Take(t.Context(), bucket(), recharge.Ask{Needed: 1}, 0, 1000)
	if err != nil || !turn.Refused {
		t.Fatalf("Take with a full bucket = %+v, %v; want it refused", turn, err)
	}
	_, err = s.Lease(pat).Take(t.Context(), bucket(), recharge.Ask{Needed: 1}, 0, 0)
	if errors.Is(err, recharge.ErrHeld) {
		t.Error("the lease is taken, though no call was granted")
	}
}

// TestSharers counts the servers that are there.
func TestSharers(t *testing.T) {
	server := storetest.Redis(t)
	first := open(t, on(options(newClock(), &logged{}), server))
	second := open(t, on(options(newClock(), &logged{}), server))
	if got := first.Sharers(); got != 1 {
		t.Errorf("Sharers = %d before any count; want 1", got)
	}
	for _, s := range []*store.Store{first, second, first} {
		ok(t, s.CountSharers(t.Context()))
	}
	if got := first.Sharers(); got != 2 {
		t.Errorf("Sharers = %d; want 2", got)
	}
	ok(t, second.Leave(t.Context()))
	ok(t, first.CountSharers(t.Context()))
	if got := first.Sharers(); got != 1 {
		t.Errorf("Sharers = %d after one has left; want 1", got)
	}
	server.Stop()
	if err := first.CountSharers(t.Context()); err == nil || first.Sharers() != 1 {
		t.Errorf("without Redis CountSharers = %v and Sharers = %d; want an error, and the last count", err, first.Sharers())
	}
}

package store_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// TestEmbeddedTakesLongPipelines: a sweep asks for all shoppers at once, which is
// more than what fits into anybody's buffers.
func TestEmbeddedTakesLongPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l logged
		o := options(newClock(), &l)
		o.Now = time.Now
		s := open(t, o)
		const many = 1500
		for i := range many {
			s.RememberCustomer(t.Context(), shopper(i), recharge.Customer{ID: int64(1 + i), Hash: "1f2e3d4c5b6a7988"})
		}
		// That of the first is another's now, who is not said.
		if _, err := s.Touch(t.Context(), shopper(0).Shop, store.Change{ID: 1, Gone: true}); err != nil {
			t.Fatal(err)
		}
		if err := s.Work(t.Context()); err != nil {
			t.Errorf("Work = %v", err)
		}
		for i, want := range map[int]int64{0: 0, 1: 2, many - 1: many} {
			if got := s.Recall(t.Context(), shopper(i), store.Visit{}).Customer.ID; got != want {
				t.Errorf("shopper %d is remembered as %d; want %d", i, got, want)
			}
		}
	})
}

func shopper(i int) store.Shopper {
	return store.Shopper{Shop: "fixture-shop.myshopify.com", Customer: shopify.CustomerID(fmt.Sprint(6100200300000 + i))}
}

// TestEmbeddedInVirtualTime: its clock and its expiry are those of the bubble.
func TestEmbeddedInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l logged
		o := options(newClock(), &l)
		o.Now = time.Now
		s := open(t, o)
		ctx := t.Context()
		if now, err := s.Client().Time(ctx).Result(); err != nil || !now.Equal(time.Now()) {
			t.Errorf("TIME = %s, %v; want %s", now, err, time.Now())
		}
		if err := s.Client().Set(ctx, "short", "1", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			after time.Duration
			there int64
		}{{time.Hour - 2*time.Second, 1}, {3 * time.Second, 0}} {
			time.Sleep(step.after)
			if n, err := s.Client().Exists(ctx, "short").Result(); err != nil || n != step.there {
				t.Errorf("EXISTS = %d, %v; want %d", n, err, step.there)
			}
		}
	})
}

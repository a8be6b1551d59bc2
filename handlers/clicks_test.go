package handlers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

var (
	pat   = store.Shopper{Shop: "a.myshopify.com", Customer: "1"}
	robin = store.Shopper{Shop: "a.myshopify.com", Customer: "2"}
)

// answers counts how often it is asked, and takes its time.
type answers struct{ asked, inside, most int }

func (a *answers) give(ending Ending) func(bool) Ending {
	return func(bool) Ending {
		a.asked++
		a.inside++
		a.most = max(a.most, a.inside)
		time.Sleep(time.Second)
		a.inside--
		return ending
	}
}

func TestClicksToOnePageAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var a answers
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				got, err := take(t.Context(), &turns, pat, store.Visit{To: "orders"}, a.give(Ending{Outcome: Redirected}))
				if err != nil || got.Outcome != Redirected {
					t.Errorf("do = %v, %v; want redirected", got, err)
				}
			})
		}
		all.Wait()
		if a.asked != 1 {
			t.Errorf("100 clicks were answered %d times; want once", a.asked)
		}
		// A click that comes later is one of its own.
		if _, err := take(t.Context(), &turns, pat, store.Visit{To: "orders"}, a.give(Ending{})); err != nil || a.asked != 2 {
			t.Errorf("a later click: %v, answered %d times; want twice", err, a.asked)
		}
		if len(turns.held) != 0 {
			t.Errorf("%d turns are kept; want none", len(turns.held))
		}
	})
}

func TestClicksToTwoPagesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var a answers
		var all sync.WaitGroup
		begun := time.Now()
		for _, visit := range []store.Visit{{To: "orders"}, {To: "addresses"}, {To: "orders", Locale: "fr"}} {
			all.Go(func() {
				want := recharge.Link{URL: string(visit.To) + string(visit.Locale)}
				got, err := take(t.Context(), &turns, pat, visit, a.give(Ending{Link: want}))
				if err != nil || got.Link != want {
					t.Errorf("do(%v) = %v, %v; want %v", visit, got, err, want)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); a.most != 1 || took != 3*time.Second {
			t.Errorf("%d at once, %v in all; want one at a time, 3s", a.most, took)
		}
	})
}

// TestShoppersNeverJoin: to one page at one time, each gets an answer of their own.
func TestShoppersNeverJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var all sync.WaitGroup
		begun := time.Now()
		elsewhere := store.Shopper{Shop: "b.myshopify.com", Customer: pat.Customer}
		for _, who := range []store.Shopper{pat, robin, elsewhere} {
			for range 10 {
				all.Go(func() {
					want := recharge.Link{URL: string(who.Shop) + string(who.Customer)}
					got, err := take(t.Context(), &turns, who, store.Visit{To: "orders"}, func(bool) Ending {
						time.Sleep(time.Second)
						return Ending{Link: want}
					})
					if err != nil || got.Link != want {
						t.Errorf("do(%v) = %v, %v; want %v", who, got, err, want)
					}
				})
			}
		}
		all.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Errorf("all of them took %v; want 1s: nobody waits for another shopper", took)
		}
	})
}

func TestTurnThatDoesNotComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var a answers
		var first sync.WaitGroup
		first.Go(func() { _, _ = take(t.Context(), &turns, pat, store.Visit{}, a.give(Ending{})) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := take(ctx, &turns, pat, store.Visit{}, a.give(Ending{})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("do = %v; want that its time is up", err)
		}
		first.Wait()
		if a.asked != 1 || len(turns.held) != 0 {
			t.Errorf("answered %d times, %d turns kept; want 1 and none", a.asked, len(turns.held))
		}
	})
}

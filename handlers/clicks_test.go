package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

func TestShareIsOneForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClicks(ClickOptions{Timeout: time.Second})
		runs := 0
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				got, err := c.share(t.Context(), "key", func(context.Context) (Ending, error) {
					runs++
					time.Sleep(time.Millisecond)
					return Ending{Outcome: Redirected}, nil
				})
				if got.Outcome != Redirected || err != nil {
					t.Errorf("share = %v, %v; want redirected", got, err)
				}
			})
		}
		all.Wait()
		if runs != 1 {
			t.Errorf("the work ran %d times; want once", runs)
		}
	})
}

// TestShareOutlivesWhoBeganIt: the first shopper's tab is closed, the second's
// click, joined to it, still ends well.
func TestShareOutlivesWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClicks(ClickOptions{Timeout: time.Second})
		work := func(ctx context.Context) (Ending, error) {
			select {
			case <-ctx.Done():
				return Ending{}, ctx.Err()
			case <-time.After(100 * time.Millisecond):
				return Ending{Outcome: Redirected}, nil
			}
		}
		first, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer leave()
		var second Ending
		var joined sync.WaitGroup
		joined.Go(func() {
			time.Sleep(5 * time.Millisecond)
			second, _ = c.share(t.Context(), "key", func(context.Context) (Ending, error) {
				t.Error("the work began a second time")
				return Ending{}, nil
			})
		})
		if _, err := c.share(first, "key", work); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first: %v; want that its time is up", err)
		}
		joined.Wait()
		if second.Outcome != Redirected {
			t.Errorf("the second: %v; want redirected", second)
		}
		c.Wait()
	})
}

func TestShareEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClicks(ClickOptions{Timeout: time.Second})
		begun := time.Now()
		_, err := c.share(t.Context(), "key", func(ctx context.Context) (Ending, error) {
			<-ctx.Done()
			return Ending{}, ctx.Err()
		})
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("share = %v after %v; want its time to be up after 1s", err, took)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := c.share(gone, "key", func(context.Context) (Ending, error) {
			t.Error("work began for a click that is over")
			return Ending{}, nil
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("share for a click that is over = %v; want canceled", err)
		}
	})
}

// clicksWith are clicks of a shop whose client is asked for by f.
func clicksWith(t *testing.T, f func(shopify.Shop) *recharge.Client) *Clicks {
	t.Helper()
	s, err := store.Open(store.Options{Keys: [][]byte{make([]byte, 32)}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return NewClicks(ClickOptions{Store: s, Recharge: f, Timeout: time.Second})
}

// TestFaultOfOursIsUnavailable: a panic ends one click, not the process.
func TestFaultOfOursIsUnavailable(t *testing.T) {
	c := clicksWith(t, func(shopify.Shop) *recharge.Client { return nil }) // a client that is not there
	got := c.Open(t.Context(), store.Shopper{Shop: "a.myshopify.com", Customer: "1"}, store.Visit{})
	var fault *panicked
	if got.Outcome != Unavailable || !errors.As(got.Cause, &fault) || len(fault.stack) == 0 {
		t.Errorf("Open = %v; want unavailable, with the stack for the log", got)
	}
	if strings.Contains(got.Cause.Error(), "goroutine") || level(got) != slog.LevelError {
		t.Errorf("cause %q at %v; want no stack in it, at ERROR", got.Cause, level(got))
	}
	c.Wait()
}

// TestJoinedClicksNeverCross: should two shoppers' clicks ever be joined, the
// second goes nowhere.
func TestJoinedClicksNeverCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClicks(ClickOptions{Recharge: func(shopify.Shop) *recharge.Client { return nil }, Timeout: time.Second})
		pat := store.Shopper{Shop: "a.myshopify.com", Customer: "1"}
		key := fmt.Sprintf("%q %q %q %q", pat.Shop, pat.Customer, "orders", "")
		var robins sync.WaitGroup
		robins.Go(func() {
			_, _ = c.share(t.Context(), key, func(context.Context) (Ending, error) {
				time.Sleep(time.Millisecond)
				return Ending{Outcome: Redirected, Link: recharge.Link{URL: "https://robins"}, who: store.Shopper{Shop: pat.Shop, Customer: "2"}}, nil
			})
		})
		synctest.Wait()
		got := c.Open(t.Context(), pat, store.Visit{To: "orders"})
		if got.Outcome != Unavailable || got.Link.URL != "" {
			t.Errorf("Open, joined with another shopper's click = %v; want unavailable", got)
		}
		robins.Wait()
	})
}

func TestTurnsAreOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		pat, robin := store.Shopper{Customer: "1"}, store.Shopper{Customer: "2"}
		begun := time.Now()
		inside := 0
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				back, err := turns.take(t.Context(), pat)
				if err != nil {
					t.Error(err)
					return
				}
				defer back()
				if inside++; inside != 1 {
					t.Errorf("%d at once; want one", inside)
				}
				time.Sleep(time.Second)
				inside--
			})
		}
		synctest.Wait()
		if back, err := turns.take(t.Context(), robin); err != nil {
			t.Errorf("another shopper's turn: %v; want it at once", err)
		} else {
			back()
		}
		short, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		if _, err := turns.take(short, pat); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a click without the time to wait: %v; want that its time is up", err)
		}
		all.Wait()
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("three turns of 1s took %v; want 3s", took)
		}
		if len(turns.held) != 0 {
			t.Errorf("%d turns are kept; want none", len(turns.held))
		}
	})
}

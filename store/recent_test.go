package store_test

import (
	"fmt"
	"testing"
	"time"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// TestRecent: what was just recalled is, again, without Redis, for a moment and no
// longer; and only for the same shopper, to the same page.
func TestRecent(t *testing.T) {
	server := storetest.Redis(t)
	c := newClock()
	o := on(options(c, &logged{}), server)
	o.Recent = 2 * time.Second
	s := open(t, o)
	remember(t.Context(), s, pat)
	if got := s.Recall(t.Context(), pat, schedule); got.Link.URL == "" || got.Customer != known {
		t.Fatalf("Recall = %+v; want what is remembered", got)
	}
	server.Stop()
	if got := s.Recall(t.Context(), pat, schedule); got.Link.URL != linkURL || got.Customer != known || got.Session.Token != "" {
		t.Errorf("Recall at once, without Redis = %+v; want the link, without the session", got)
	}
	for what, got := range map[string]store.Memory{
		"another page":             s.Recall(t.Context(), pat, store.Visit{To: "orders", Locale: "fr"}),
		"another shopper":          s.Recall(t.Context(), other, schedule),
		"the same of another shop": s.Recall(t.Context(), patsTwin, schedule),
	} {
		if got.Link.URL != "" || got.Customer.ID != 0 {
			t.Errorf("%s = %+v; want nothing", what, got)
		}
	}
	c.advance(2 * time.Second)
	if got := s.Recall(t.Context(), pat, schedule); got.Link.URL != "" {
		t.Errorf("Recall after two seconds = %+v; want nothing", got)
	}
}

// TestRecentIsDropped: whatever changes what is remembered of a shopper, changes it
// at once.
func TestRecentIsDropped(t *testing.T) {
	c := newClock()
	o := several(c, &logged{})
	o.Recent = time.Minute
	s := open(t, o)
	ctx := t.Context()
	for what, change := range map[string]func() error{
		"Forget":        func() error { s.Forget(ctx, pat); return nil },
		"ForgetSession": func() error { s.ForgetSession(ctx, pat); return nil },
		"Learn":         func() error { s.RememberCustomer(ctx, pat, known); return nil },
		"Touch":         func() error { return touched(s.Touch(ctx, pat.Shop, store.Change{ID: 1, Customer: pat.Customer})) },
		"Touch of the record, which is another's now": func() error {
			return touched(s.Touch(ctx, pat.Shop, store.Change{ID: known.ID, Customer: other.Customer}))
		},
		"the shopper's erasure": func() error { return s.EraseShopper(ctx, pat) },
		"the shop's erasure":    func() error { return s.EraseShop(ctx, pat.Shop) },
		"SaveConnection":        func() error { return s.SaveConnection(ctx, connected(pat.Shop)) },
		"ReviseConnection": func() error {
			return s.ReviseConnection(ctx, pat.Shop, func(*store.Connection) bool { return false })
		},
		"DropConnection": func() error { return s.DropConnection(ctx, pat.Shop) },
	} {
		ok(t, s.SaveConnection(ctx, connected(pat.Shop)))
		remember(ctx, s, pat)
		remember(ctx, s, patsTwin)
		s.Recall(ctx, pat, schedule)
		s.Recall(ctx, patsTwin, schedule)
		if pats, twins := s.IsRecent(pat), s.IsRecent(patsTwin); !pats || !twins {
			t.Fatalf("before %s: pat is recent %v, the twin %v; want both", what, pats, twins)
		}
		ok(t, change())
		if s.IsRecent(pat) {
			t.Errorf("after %s pat is still served from the process' memory", what)
		}
		if !s.IsRecent(patsTwin) {
			t.Errorf("%s of pat drops a shopper of another shop", what)
		}
		s.Forget(ctx, patsTwin)
	}
}

// TestRecentUnderWay: what was read before a change is not held after it.
func TestRecentUnderWay(t *testing.T) {
	o := options(newClock(), &logged{})
	o.Recent = time.Minute
	s := open(t, o)
	remember(t.Context(), s, pat)
	s.RecallWhile(t.Context(), pat, schedule, func() { s.Forget(t.Context(), pat) })
	if s.IsRecent(pat) {
		t.Error("what was forgotten while it was read is held")
	}
}

// TestRecentIsBounded: a crowd does not fill the process' memory.
func TestRecentIsBounded(t *testing.T) {
	c := newClock()
	o := options(c, &logged{})
	o.Recent = time.Hour
	s := open(t, o)
	for i := range 25_000 {
		who := store.Shopper{Shop: "fixture-shop.myshopify.com", Customer: shopify.CustomerID(fmt.Sprint(i + 1))}
		s.HoldRecent(who, schedule, store.Memory{Customer: known, Link: remembered})
		if i%1000 == 0 {
			c.advance(time.Millisecond)
		}
	}
	if got := s.RecentSize(); got > 20_000 {
		t.Errorf("%d shoppers are held; want no more than 20000", got)
	}
}

package store_test

import (
	"fmt"
	"testing"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// TestTouch: who is remembered otherwise than Recharge says is forgotten; the one
// it names at once, others with the next sweep.
func TestTouch(t *testing.T) {
	agrees := store.Change{ID: known.ID, Customer: pat.Customer, Hash: known.Hash, Active: known.Active}
	with := func(change func(*store.Change)) []store.Change { c := agrees; change(&c); return []store.Change{c} }
	tests := []struct {
		name      string
		changes   []store.Change
		now, then bool // pat is remembered at once, and after the sweep
	}{
		{"as remembered", []store.Change{agrees}, true, true},
		{"as remembered, twice", []store.Change{agrees, agrees}, true, true},
		{"another hash", with(func(c *store.Change) { c.Hash = "another" }), false, false},
		{"another number of subscriptions", with(func(c *store.Change) { c.Active = 0 }), false, false},
		{"another id", with(func(c *store.Change) { c.ID++ }), false, false},
		{"gone", with(func(c *store.Change) { c.Gone = true }), false, false},
		{"gone, nobody named", []store.Change{{ID: known.ID, Gone: true}}, true, false},
		{"of another shopper now", with(func(c *store.Change) { c.Customer = "6100200300777" }), true, false},
		{"of nobody now", with(func(c *store.Change) { c.Customer = "" }), true, false},
		{"of two", append(with(func(c *store.Change) { c.Customer = "6100200300777" }), agrees), true, false},
		{"somebody else's", []store.Change{{ID: 5, Customer: "6100200300777", Hash: "x"}}, true, true},
		{"somebody else's, gone", []store.Change{{ID: 5, Gone: true}}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
				ctx := t.Context()
				c := newClock()
				s := open(options(c, &logged{}))
				remember(ctx, s, pat)
				before := dump(t, s)
				bystanders := written(t, s, func() {
					s.RememberCustomer(ctx, other, recharge.Customer{ID: 70100299, Hash: "ffff", Active: 1})
					remember(ctx, s, patsTwin)
				})
				for _, change := range tt.changes {
					ok(t, touched(s.Touch(ctx, pat.Shop, change)))
				}
				want := func(when string, remembered bool) {
					t.Helper()
					got := s.Recall(ctx, pat, schedule)
					if (got.Customer == known) != remembered || (got.Session.Token != "") != remembered {
						t.Errorf("Recall %s = %+v; want it remembered %v", when, got, remembered)
					}
				}
				want("at once", tt.now)
				ok(t, s.Work(ctx))
				want("after the sweep", tt.then)
				for range 2 {
					c.advance(settle)
					ok(t, s.Work(ctx))
				}
				left := dump(t, s)
				for key := range bystanders {
					if left[key] == "" {
						t.Errorf("%q of somebody else is gone", key)
					}
					delete(left, key)
				}
				for key := range before {
					delete(left, key)
				}
				if len(left) > 0 {
					t.Errorf("after all sweeps there is %q; want no notes", keys(left))
				}
			})
		})
	}
}

func TestTouchNotSubscriber(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	s.RememberNotSubscriber(t.Context(), pat)
	ok(t, touched(s.Touch(t.Context(), pat.Shop, store.Change{ID: 1, Customer: pat.Customer, Active: 1})))
	if got := s.Recall(t.Context(), pat, schedule); got.NotSubscriber {
		t.Error("who has just subscribed is still remembered as no subscriber")
	}
}

// TestTouchAndAClickUnderWay: what was true before, and is written after a sweep,
// goes with the next.
func TestTouchAndAClickUnderWay(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, options(c, &logged{}))
	ok(t, touched(s.Touch(ctx, pat.Shop, store.Change{ID: known.ID, Customer: "6100200300777"})))
	ok(t, s.Work(ctx))
	remember(ctx, s, pat)
	c.advance(settle)
	ok(t, s.Work(ctx))
	if got := s.Recall(ctx, pat, schedule); got.Customer.ID != 0 || got.Session.Token != "" {
		t.Errorf("Recall = %+v; want nothing", got)
	}
}

// TestSweepsAreShared: of many shops of which something was said, all are looked at
// in one go; and of what is as it was, none.
func TestSweepsAreShared(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	s := open(t, on(options(c, &logged{}), server))
	scans := func() int { return commands(t, client, func() { ok(t, s.Work(ctx)) })["scan"] }
	for i := range 50 {
		who := store.Shopper{Shop: shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)), Customer: "1"}
		remember(ctx, s, who)
		for _, hash := range []string{"new", known.Hash} { // theirs it was, and is
			ok(t, touched(s.Touch(ctx, who.Shop, store.Change{ID: known.ID, Customer: who.Customer, Hash: hash, Active: known.Active})))
			remember(ctx, s, who)
		}
	}
	if got := scans(); got != 0 {
		t.Errorf("%d scans for records that are whose they were; want none", got)
	}
	for i := range 50 {
		ok(t, touched(s.Touch(ctx, shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)), store.Change{ID: known.ID, Customer: "2"})))
	}
	if got := scans(); got == 0 || got > 3 {
		t.Errorf("%d scans for 50 shops; want as many as for one", got)
	}
	for i := range 50 {
		if got := s.Recall(ctx, store.Shopper{Shop: shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)), Customer: "1"}, schedule); got.Customer.ID != 0 {
			t.Errorf("shop %d: the record that is another's now is still remembered", i)
		}
	}
}

// TestSweepsAreRare: many changes, one look a minute at a whole shop; and it
// looks at all of it, under every key.
func TestSweepsAreRare(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	o := on(options(c, &logged{}), server)
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	s := open(t, o)
	for i := range 1500 {
		who := store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(fmt.Sprint(1000 + i))}
		[]*store.Store{before, s}[i%2].RememberCustomer(ctx, who, recharge.Customer{ID: int64(1 + i), Hash: "h"})
	}
	scans := func() int { return commands(t, client, func() { ok(t, s.Work(ctx)) })["scan"] }
	for i := range 1500 {
		if i%3 == 0 {
			ok(t, touched(s.Touch(ctx, pat.Shop, store.Change{ID: int64(1 + i), Gone: true})))
		}
	}
	if got := scans(); got == 0 {
		t.Error("the first sweep scanned nothing")
	}
	ok(t, touched(s.Touch(ctx, pat.Shop, store.Change{ID: 2, Gone: true})))
	c.advance(59 * time.Second)
	if got := scans(); got != 0 {
		t.Errorf("%d scans within a minute of the last; want none", got)
	}
	left := 0
	for i := range 1500 {
		if s.Recall(ctx, store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(fmt.Sprint(1000 + i))}, schedule).Customer.ID != 0 {
			left++
		}
	}
	if left != 1000 {
		t.Errorf("%d are left; want 1000", left)
	}
}

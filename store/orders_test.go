package store_test

import (
	"testing"
	"time"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

const settle = 75 * time.Second

// everything writes all kinds of entries of a shopper and the shop.
func everything(t *testing.T, s *store.Store, who store.Shopper) {
	t.Helper()
	ctx := t.Context()
	remember(ctx, s, who)
	ok(t, s.SaveConnection(ctx, connected(who.Shop)))
	s.Count(who.Shop, "redirected", 1)
	s.Trouble(who.Shop, store.Trouble{What: "unauthorized"})
	ok(t, s.Flush(ctx))
	ok(t, touched(s.Touch(ctx, who.Shop, store.Change{ID: 5, Hash: "another"})))
	s.Count(who.Shop, "redirected", 1) // is not flushed
}

// TestErasure reads all of Redis after a click has written between the passes.
func TestErasure(t *testing.T) {
	at := newClock().now
	tests := []struct {
		name  string
		order store.Erasure
		left  int // keys of the shop
	}{
		{"shopper", store.Erasure{Shop: pat.Shop, Customer: pat.Customer, At: at}, 3}, // connection, hour, troubles
		{"shop", store.Erasure{Shop: pat.Shop, At: at, Connection: at}, 0},
		{"shop, connected since", store.Erasure{Shop: pat.Shop, At: at, Connection: at.Add(-time.Second)}, 1},
		{"shop, not its connection", store.Erasure{Shop: pat.Shop, At: at}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
				ctx := t.Context()
				c := newClock()
				redis := &shared{t: t, open: func(_ testing.TB, o store.Options) *store.Store {
					o.Now, o.Connections = c.Now, true
					return open(o)
				}}
				everything(t, redis.with(key(1)), pat)
				s := redis.with(key(2), key(1))
				others := written(t, s, func() { remember(ctx, s, patsTwin) })

				s.Count(pat.Shop, "not flushed", 1)
				s.Trouble(pat.Shop, store.Trouble{What: "not flushed"})
				for range 2 { // the same order twice is once
					ok(t, s.OrderErasure(ctx, tt.order))
				}
				if got := s.Client().HLen(ctx, "ms1:orders").Val(); got != 2 {
					t.Errorf("%d orders; want the erasure and the sweep", got)
				}
				ok(t, s.Work(ctx))
				if got := s.Recall(ctx, pat, schedule); got.Customer.ID != 0 || got.Session.Token != "" || got.Link.URL != "" {
					t.Errorf("Recall after the first pass = %+v; want nothing", got)
				}
				remember(ctx, s, pat) // a click that was under way
				c.advance(settle - time.Second)
				ok(t, s.Work(ctx))
				if got := s.Recall(ctx, pat, schedule); got.Session.Token == "" {
					t.Error("the second pass came too early, or the first twice")
				}
				c.advance(time.Second)
				ok(t, s.Work(ctx))
				if tt.order.Customer != "" {
					for range 2 { // the sweeps have an end, too
						c.advance(settle)
						ok(t, s.Work(ctx))
					}
				}
				left := dump(t, s)
				for other := range others {
					if left[other] == "" {
						t.Errorf("%q of another shop is gone", other)
					}
					delete(left, other)
				}
				if len(left) != tt.left {
					t.Errorf("left is %q; want %d", keys(left), tt.left)
				}
				if health, err := s.Health(ctx, pat.Shop); tt.order.Customer == "" && (err != nil || len(health.Troubles) > 0 || len(health.Hours[23].Numbers) > 0) {
					t.Errorf("Health of the erased = %+v, %v; want nothing", health, err)
				}
			})
		})
	}
}

// TestOrderErasureDropsAtOnce: the connection is gone before Work, and ErasedAt
// tells until it is all done.
func TestOrderErasureDropsAtOnce(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, several(c, &logged{}))
	at := c.now
	ok(t, s.SaveConnection(ctx, connected(pat.Shop)))
	erasedAt := func(shop shopify.Shop, want time.Time) {
		t.Helper()
		if got, err := s.ErasedAt(ctx, shop); err != nil || !got.Equal(want) {
			t.Errorf("ErasedAt(%s) = %v, %v; want %v", shop, got, err, want)
		}
	}
	erasedAt(pat.Shop, time.Time{})
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, Customer: pat.Customer, At: at.Add(time.Hour)}))
	erasedAt(pat.Shop, time.Time{})
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, At: at.Add(-time.Hour), Connection: at}))
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, At: at, Connection: at}))
	wantConnection(t, s, pat.Shop, nil)
	erasedAt(pat.Shop, at)
	erasedAt(patsTwin.Shop, time.Time{})
	again := connected(pat.Shop)
	again.SavedAt = at.Add(time.Second).UTC()
	ok(t, s.SaveConnection(ctx, again))
	ok(t, s.Work(ctx))
	c.advance(settle)
	ok(t, s.Work(ctx))
	erasedAt(pat.Shop, time.Time{})
	wantConnection(t, s, pat.Shop, &again)
}

// TestWorkFails: what failed stays ordered, and the rest is done.
func TestWorkFails(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(several(c, &logged{}), server))
	remember(ctx, s, pat)
	remember(ctx, s, patsTwin)
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, Customer: pat.Customer, At: c.now}))
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: patsTwin.Shop, At: c.now}))
	acl := func(rule string) { ok(t, direct(t, server).Do(ctx, "ACL", "SETUSER", "default", rule).Err()) }
	acl("-scan")
	if err := s.Work(ctx); err == nil {
		t.Error("Work without the right to scan = nil; want an error")
	}
	if got := s.Recall(ctx, pat, schedule); got != (store.Memory{}) {
		t.Errorf("Recall of a shopper whose erasure needs no scan = %+v; want nothing", got)
	}
	c.advance(settle)
	if err := s.Work(ctx); err == nil {
		t.Error("Work without the right to scan = nil; want an error")
	}
	acl("+scan")
	for range 3 { // erased; swept for what stands under Recharge's ids; and nothing more to look at
		ok(t, s.Work(ctx))
		c.advance(settle)
	}
	if got := server.Dump(); len(got) > 0 {
		t.Errorf("left is %q; want nothing", keys(got))
	}
}

func TestOrdersWithoutRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	s := openInHaste(t, on(several(newClock(), &logged{}), server))
	server.Stop()
	_, erased := s.ErasedAt(ctx, pat.Shop)
	_, health := s.Health(ctx, pat.Shop)
	_, seen := s.Seen(ctx, "1")
	_, marked := s.MarkSeen(ctx, "1")
	for name, err := range map[string]error{
		"OrderErasure": s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop}), "Work": s.Work(ctx), "ErasedAt": erased,
		"Touch": touched(s.Touch(ctx, pat.Shop, store.Change{ID: 1})), "Health": health, "Seen": seen, "MarkSeen": marked,
	} {
		if err == nil {
			t.Errorf("%s without Redis = nil; want an error", name)
		}
	}
}

// TestErasureEndsSweeps: of a shop that is erased no order is left, though the
// next sweep is not due.
func TestErasureEndsSweeps(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, several(c, &logged{}))
	ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, At: c.now}))
	ok(t, s.Work(ctx))
	c.advance(time.Second)
	ok(t, touched(s.Touch(ctx, pat.Shop, store.Change{ID: 5, Gone: true})))
	ok(t, s.Work(ctx))
	c.advance(settle - time.Second)
	ok(t, s.Work(ctx))
	if got := dump(t, s); len(got) > 0 {
		t.Errorf("after the second pass there is %q; want nothing", keys(got))
	}
}

package store_test

import (
	"fmt"
	"strings"
	"testing"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// TestCluster does all that is not a click's on shops of which some are on each
// of three masters, under two encryption keys.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	servers := storetest.Cluster(t).Masters
	c := newClock()
	o := on(several(c, &logged{}), servers[0])
	o.Redis.IsClusterMode = true
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	s := open(t, o)
	o.Keys = [][]byte{key(2)}
	after := open(t, o)
	shoppers := make([]store.Shopper, 16)
	for i := range shoppers {
		shoppers[i] = store.Shopper{Shop: shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)), Customer: "1"}
		remember(ctx, before, shoppers[i])
		ok(t, before.SaveConnection(ctx, connected(shoppers[i].Shop)))
		_, err := before.MarkSeen(ctx, fmt.Sprint(i))
		ok(t, err)
		ok(t, touched(s.Touch(ctx, shoppers[i].Shop, store.Change{ID: 5, Gone: true})))
		ok(t, s.ReviseConnection(ctx, shoppers[i].Shop, func(c *store.Connection) bool { c.WebhookKey = "new"; return true }))
		before.Count(shoppers[i].Shop, "redirected", 1)
		before.Trouble(shoppers[i].Shop, store.Trouble{What: "down"})
		s.RememberLink(ctx, store.Shopper{Shop: shoppers[i].Shop, Customer: "2"}, schedule, session(c), remembered)
	}
	ok(t, before.Flush(ctx))
	for i, server := range servers {
		if len(server.Dump()) == 0 {
			t.Fatalf("master %d holds nothing; want shops on each", i)
		}
	}
	if condition, err := s.Check(ctx); err != nil || len(condition.Warnings) != 1 {
		t.Errorf("Check = %+v, %v; want the same warning of all once", condition, err)
	}
	health := healthOf(t, s, shoppers[3].Shop)
	if got := health.Hours[23].Numbers["redirected"]; got != 1 || len(health.Troubles) != 1 {
		t.Errorf("Health = %d redirected, %d troubles; want 1 and 1", got, len(health.Troubles))
	}
	want := store.Rekeyed{Connections: 16, Customers: 16, Dropped: 32}
	if got, err := s.Rekey(ctx); err != nil || got != want {
		t.Errorf("Rekey = %+v, %v; want %+v", got, err, want)
	}
	told := 0
	ok(t, after.EachConnection(ctx, func(c store.Connection) error {
		if told++; c.WebhookKey != "new" {
			t.Errorf("the connection of %s is not the revised one", c.Shop)
		}
		return nil
	}))
	if told != 16 {
		t.Errorf("EachConnection told %d; want 16", told)
	}
	for i, who := range shoppers {
		if got := after.Recall(ctx, who, schedule); got.Customer != known || got.Connection == nil || got.Session.Token == "" {
			t.Errorf("Recall = %+v; want customer, session and connection", got)
		}
		if seen, err := after.Seen(ctx, fmt.Sprint(i)); err != nil || !seen {
			t.Errorf("Seen = %v, %v; want true", seen, err)
		}
		ok(t, after.OrderErasure(ctx, store.Erasure{Shop: who.Shop, At: c.now, Connection: c.now}))
	}
	for range 2 {
		ok(t, after.Work(ctx))
		c.advance(settle)
	}
	for _, server := range servers {
		left := server.Dump()
		for key := range left {
			if strings.HasPrefix(key, "ms1:w") {
				delete(left, key)
			}
		}
		if len(left) > 0 {
			t.Errorf("left is %q; want the webhooks alone", keys(left))
		}
	}
}

package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestCluster does everything with shops spread over three masters.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	servers := storetest.Cluster(t).Masters
	c, l := newClock(), &logged{}
	o := on(many(c, l), servers[0])
	o.Redis.IsClusterMode = true
	s := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	both := open(t, o)
	o.Keys = [][]byte{key(2)}
	after := open(t, o)
	shoppers := make([]store.Shopper, 16)
	for i := range shoppers {
		shop := shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i))
		shoppers[i] = store.Shopper{Shop: shop, Customer: "1"}
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
		task, err := s.TakeImport(ctx)
		if err != nil || task == nil || task.Shop != shop {
			t.Fatalf("TakeImport = %v, %v; want that of %s", task, err, shop)
		}
		task.Number = 1
		imports(t, s, task, record(store.Shopper{Customer: "2"}, nthCustomer(i)), record(store.Shopper{Customer: "3"}, nthCustomer(100+i)))
		if had, err := s.KeepImport(ctx, task, store.ImportLease); !had || err != nil {
			t.Errorf("KeepImport = %v, %v", had, err)
		}
		loaded := load(t, s, shoppers[i])
		lock := s.Lock(loaded, shoppers[i])
		at := take(t, lock).At
		value := lookedUp(c, shoppers[i], known)
		ok(t, s.Save(ctx, loaded.Record, shoppers[i], &value, at, lock))
		ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: nthCustomer(i).ID}))
		ok(t, s.Redact(ctx, shop, "3"))
		s.Count(shop, "redirected", 1)
		s.NoteError(shop, "down")
		if first, err := s.UseNonce(ctx, shop, "nonce", "browser", c.Now()); !first || err != nil {
			t.Errorf("UseNonce = %v, %v", first, err)
		}
	}
	ok(t, s.Flush(ctx))
	ok(t, s.CountInstances(ctx, false))
	if _, err := s.Ping(ctx); err != nil {
		t.Errorf("Ping = %v", err)
	}
	for i, server := range servers {
		if len(server.Dump()) == 0 {
			t.Fatalf("master %d holds nothing; want shops on each", i)
		}
	}
	if health := healthOf(t, s, shoppers[3].Shop); merged(health)["redirected"] != 1 || len(health.Errors) != 1 {
		t.Errorf("Health = %+v; want one redirected, and one error", health)
	}
	if n, err := both.Rekey(ctx); n != 16 || err != nil {
		t.Errorf("Rekey = %d, %v; want 16", n, err)
	}
	told := 0
	ok(t, after.EachConnection(ctx, func(store.Connection) error { told++; return nil }))
	if told != 16 {
		t.Errorf("EachConnection passed %d; want 16", told)
	}
	for _, who := range shoppers {
		is(t, "rekeyed", after, who, known)
		is(t, "moved", after, store.Shopper{Shop: who.Shop, Customer: "2"}, recharge.Customer{})
		is(t, "redacted", after, store.Shopper{Shop: who.Shop, Customer: "3"}, recharge.Customer{})
		_, err := after.EraseShop(ctx, store.Erasure{Shop: who.Shop})
		ok(t, err)
	}
	after.Settle()
	for _, server := range servers {
		for key := range server.Dump() {
			if _, kind, of := strings.Cut(key, "}:"); of && !strings.HasPrefix(kind, "b") && !strings.HasPrefix(kind, "n:") && !strings.HasPrefix(kind, "x:") && !strings.HasPrefix(kind, "d:") {
				t.Errorf("left of an erased shop is %q", key)
			}
		}
	}
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// TestFailover: a webhook's effect survives when a replica becomes the master.
func TestFailover(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	nodes := storetest.Cluster(t)
	c, l := newClock(), &logged{}
	o := on(options(c, l), nodes.Masters[0])
	o.Redis.IsClusterMode = true
	for _, server := range append(nodes.Masters[1:], nodes.Replicas...) {
		o.Redis.Addrs = append(o.Redis.Addrs, server.Addr)
	}
	s := open(t, o)
	save(t, s, pat, lookedUp(c, pat, known))
	save(t, s, kim, lookedUp(c, kim, nthCustomer(0)))
	ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
	master := 0
	for i, server := range nodes.Masters {
		if len(server.Dump()) > 0 {
			master = i
		}
	}
	want := len(nodes.Masters[master].Dump())
	replica := direct(t, nodes.Replicas[master])
	eventually(t, "the replica has it all", func() bool { return int(replica.DBSize(ctx).Val()) == want })
	nodes.Masters[master].Stop()
	nodes.Replicas[master].AwaitMaster()
	eventually(t, "the store finds the new master", func() bool {
		c.advance(store.RestFor)
		time.Sleep(20 * time.Millisecond)
		return s.Load(ctx, pat).Err == nil
	})
	is(t, "forgotten before", s, pat, recharge.Customer{})
	is(t, "cached before", s, kim, nthCustomer(0))
	eventually(t, "it takes writes", func() bool {
		c.advance(store.RestFor)
		return s.ApplyCustomerChange(ctx, shop, store.Change{ID: nthCustomer(0).ID}) == nil
	})
	is(t, "forgotten after", s, kim, recharge.Customer{})
}

package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// remember writes one entry of each kind, and a second link.
func remember(ctx context.Context, s *store.Store, who store.Shopper) {
	live := recharge.Session{Token: token, Expires: newClock().now.Add(time.Hour)}
	s.RememberCustomer(ctx, who, known)
	s.RememberLink(ctx, who, schedule, live, recharge.Link{URL: linkURL})
	s.RememberLink(ctx, who, store.Visit{To: "subscriptions/50500600", Locale: "pt-BR"}, live, recharge.Link{URL: linkURL})
}

// keys are those of a Redis, sorted.
func keys(dump map[string]string) []string { return slices.Sorted(maps.Keys(dump)) }

// written are the keys that do writes.
func written(t *testing.T, s *store.Store, do func()) map[string]string {
	t.Helper()
	before := dump(t, s)
	do()
	added := dump(t, s)
	maps.DeleteFunc(added, func(key, _ string) bool { _, ok := before[key]; return ok })
	return added
}

// eraseFrom runs a test on an embedded Redis and on a real one.
func eraseFrom(t *testing.T, test func(*testing.T, func(store.Options) *store.Store)) {
	t.Run("embedded", func(t *testing.T) {
		test(t, func(o store.Options) *store.Store { return open(t, o) })
	})
	t.Run("redis", func(t *testing.T) {
		server := storetest.Redis(t)
		test(t, func(o store.Options) *store.Store { return open(t, on(o, server)) })
	})
}

// TestEraseShopper reads all of Redis: of the shopper nothing is left, and of
// all others everything.
func TestEraseShopper(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		s := open(options(newClock(), &logged{}))
		pats := written(t, s, func() { remember(ctx, s, pat) })
		others := written(t, s, func() { remember(ctx, s, other) })
		twins := written(t, s, func() { remember(ctx, s, patsTwin) })
		for who, entries := range map[string]map[string]string{"pat": pats, "other": others, "twin": twins} {
			if len(entries) != 2 {
				t.Fatalf("%s has %d entries; want customer, and session with links", who, len(entries))
			}
		}
		want := slices.Sorted(slices.Values(append(keys(others), keys(twins)...)))
		for range 2 { // twice is the same as once
			if err := s.EraseShopper(ctx, pat); err != nil {
				t.Fatalf("EraseShopper = %v", err)
			}
			if got := keys(dump(t, s)); !slices.Equal(got, want) {
				t.Errorf("after EraseShopper there is %q; want %q", got, want)
			}
		}
		if got := s.Recall(ctx, pat, schedule); got != (store.Memory{}) {
			t.Errorf("Recall of the erased = %+v; want nothing", got)
		}
		s.RememberNotSubscriber(ctx, pat)
		if err := s.EraseShopper(ctx, pat); err != nil || !slices.Equal(keys(dump(t, s)), want) {
			t.Errorf("EraseShopper of who is no subscriber = %v, leaves %q; want %q", err, keys(dump(t, s)), want)
		}
	})
}

// TestEraseShop: of the shop nothing is left, of all others everything, however
// many there are.
func TestEraseShop(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		s := open(options(newClock(), &logged{}))
		remember(ctx, s, pat)
		for i := range 2500 {
			s.RememberCustomer(ctx, store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(fmt.Sprint(i))}, known)
		}
		foreign := written(t, s, func() {
			remember(ctx, s, patsTwin)
			if err := s.Client().Set(ctx, "ms1:somebody else's", "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		})
		for range 2 {
			if err := s.EraseShop(ctx, pat.Shop); err != nil {
				t.Fatalf("EraseShop = %v", err)
			}
			if got := keys(dump(t, s)); !slices.Equal(got, keys(foreign)) {
				t.Errorf("after EraseShop there are %d keys, %q...; want %q", len(got), got[:min(len(got), 8)], keys(foreign))
			}
		}
	})
}

// TestEraseUnderEveryKey: what an older key has sealed goes, too.
func TestEraseUnderEveryKey(t *testing.T) {
	for name, erase := range map[string]func(context.Context, *store.Store) error{
		"EraseShopper": func(ctx context.Context, s *store.Store) error { return s.EraseShopper(ctx, pat) },
		"EraseShop":    func(ctx context.Context, s *store.Store) error { return s.EraseShop(ctx, pat.Shop) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := storetest.Redis(t)
			o := on(options(newClock(), &logged{}), server)
			before := open(t, o)
			o.Keys = [][]byte{key(2), key(1)}
			after := open(t, o)
			twins := written(t, before, func() { remember(ctx, before, patsTwin) })
			remember(ctx, before, pat)
			// The first click after the rotation: this shopper's customer is under the
			// new key, the rest is not.
			after.RememberCustomer(ctx, pat, known)
			if err := erase(ctx, after); err != nil {
				t.Fatalf("%s = %v", name, err)
			}
			if got := keys(dump(t, after)); !slices.Equal(got, keys(twins)) {
				t.Errorf("after %s there is %q; want %q", name, got, keys(twins))
			}
		})
	}
}

// TestEraseInCluster erases shops of which some are on each of three masters.
func TestEraseInCluster(t *testing.T) {
	t.Parallel() // a cluster takes some seconds to believe in itself
	ctx := t.Context()
	servers := storetest.Cluster(t).Masters
	o := on(options(newClock(), &logged{}), servers[0])
	o.Redis.IsClusterMode = true
	s := open(t, o)
	var shops []shopify.Shop
	for i := range 16 {
		shops = append(shops, shopify.Shop(fmt.Sprintf("shop-%d.myshopify.com", i)))
		remember(ctx, s, store.Shopper{Shop: shops[i], Customer: "1"})
		remember(ctx, s, store.Shopper{Shop: shops[i], Customer: "2"})
	}
	for i, server := range servers {
		if len(server.Dump()) == 0 {
			t.Fatalf("master %d holds nothing; want shops on each", i)
		}
	}
	count := func() int { return len(servers[0].Dump()) + len(servers[1].Dump()) + len(servers[2].Dump()) }
	if got := count(); got != 16*4 {
		t.Fatalf("the cluster holds %d entries; want %d", got, 16*4)
	}
	for _, shop := range shops {
		if err := s.EraseShopper(ctx, store.Shopper{Shop: shop, Customer: "1"}); err != nil {
			t.Fatalf("EraseShopper = %v", err)
		}
	}
	if got := count(); got != 16*2 {
		t.Errorf("after EraseShopper the cluster holds %d entries; want customer and session of the other, %d", got, 16*2)
	}
	for _, shop := range shops {
		if err := s.EraseShop(ctx, shop); err != nil {
			t.Fatalf("EraseShop = %v", err)
		}
	}
	if got := count(); got != 0 {
		t.Errorf("after EraseShop the cluster holds %d entries; want none", got)
	}
}

// TestEraseWithoutRedis: to erase fails where a click goes on, and works as soon
// as Redis is back, though clicks still leave it alone.
func TestEraseWithoutRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	s := openInHaste(t, on(options(newClock(), &logged{}), server)) // its clock stands still
	server.Stop()
	s.Recall(ctx, pat, schedule)
	if err := s.EraseShop(ctx, pat.Shop); err == nil {
		t.Error("EraseShop without Redis = nil; want an error")
	}
	if err := s.EraseShopper(ctx, pat); err == nil {
		t.Error("EraseShopper without Redis = nil; want an error")
	}
	server.Start()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); { // go-redis tries once a second
		if err = s.EraseShop(ctx, pat.Shop); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("EraseShop with Redis back = %v", err)
	}
}

// TestEraseRefused: what Redis does not drop is not said to be gone.
func TestEraseRefused(t *testing.T) {
	ctx := t.Context()
	for _, command := range []string{"unlink", "scan"} {
		server := storetest.Redis(t)
		s := open(t, on(options(newClock(), &logged{}), server))
		remember(ctx, s, pat)
		if err := direct(t, server).Do(ctx, "ACL", "SETUSER", "default", "-"+command).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.EraseShop(ctx, pat.Shop); err == nil {
			t.Errorf("EraseShop without the right to %s = nil; want an error", command)
		}
		if err := s.EraseShopper(ctx, pat); (err == nil) != (command == "scan") {
			t.Errorf("EraseShopper without the right to %s = %v; want an error unless it is scan", command, err)
		}
	}
}

// TestEraseEndsInTime: one who waits for the end of it does not wait for ever.
func TestEraseEndsInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t, options(newClock(), &logged{}))
	remember(t.Context(), s, pat)
	if err := s.EraseShop(ctx, pat.Shop); err == nil {
		t.Error("EraseShop with its time up = nil; want an error")
	}
	if err := s.EraseShopper(ctx, pat); err == nil {
		t.Error("EraseShopper with its time up = nil; want an error")
	}
}

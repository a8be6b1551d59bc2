package store_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestEmbeddedTakesLongCommands: a pipe has no buffer, so one end waits for the other. The store's
// longest commands work all the same.
func TestEmbeddedTakesLongCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		o := many(newClock(), &logged{})
		o.Now = time.Now
		s := open(t, o)
		shop := shopify.Shop(strings.Repeat("long", 16) + ".myshopify.com")
		c := connected(newClock(), shop)
		c.APIToken, c.ClientSecret = strings.Repeat("token", 100), strings.Repeat("hush", 100)
		ok(t, s.SaveConnection(ctx, c))
		ok(t, s.Update(ctx, shop, func(r *store.Record) bool {
			for range 10 { // as many as a merchant may make, with the longest names
				r.Connection.PortalKeys = append(r.Connection.PortalKeys, store.PortalKey{ID: rand.Text(), Name: strings.Repeat("🔑", 50), Hash: key(1), MadeAt: time.Now()})
			}
			return true
		}))
		const many = 1500
		fill(t, s, shop, many) // reads 250 keys, and saves 50 entries in one command
		for i, want := range map[int]recharge.Customer{0: nthCustomer(0), many - 1: nthCustomer(many - 1)} {
			is(t, "imported", s, nth(shop, i), want)
		}
		var keys []string
		for i := range many {
			keys = append(keys, recordOf(t, s, shop).CachedKey(string(nth(shop, i).Customer)))
		}
		values, err := s.Client().MGet(ctx, keys...).Result()
		if err != nil || len(values) != many || slices.Contains(values, nil) {
			t.Errorf("MGET of %d = %d values, %v", many, len(values), err)
		}
		for i := range 200 {
			s.Count(shop, strings.Repeat("name", 20)+fmt.Sprint(i), 1)
		}
		for i := range 10 {
			s.NoteError(shop, strings.Repeat("error", 400)+fmt.Sprint(i))
		}
		ok(t, s.Flush(ctx))
		if health := healthOf(t, s, shop); len(merged(health)) != 200 || len(health.Errors) != 10 {
			t.Errorf("Health = %d counts, %d errors; want 200 and 10", len(merged(health)), len(health.Errors))
		}
		_, err = s.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: time.Now()}) // a transaction; the server answers each command in it
		ok(t, err)
		if loaded := load(t, s, nth(shop, 0)); loaded.Record != nil {
			t.Error("an erased shop is still there")
		}
	})
}

// TestEmbeddedInVirtualTime: the clock and the expiry follow the bubble's time.
func TestEmbeddedInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(newClock(), &logged{})
		o.Now = time.Now
		s := open(t, o)
		ctx := t.Context()
		if now, err := s.Client().Time(ctx).Result(); err != nil || !now.Equal(time.Now()) {
			t.Errorf("TIME = %s, %v; want %s", now, err, time.Now())
		}
		value := store.Cached{NotSubscriber: true, LookedUp: time.Now()}
		ok(t, s.Save(ctx, recordOf(t, s, shop), pat, &value, clockOf(t, s), nil))
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{10*time.Minute - 2*time.Second, 1}, {4 * time.Second, 0}} {
			time.Sleep(step.after)
			if got := kinds(dump(t, s))["c"]; got != step.want {
				t.Errorf("%d values are kept; want %d", got, step.want)
			}
		}
		// A crashed instance's lock expires in the bubble's time.
		loaded := load(t, s, pat)
		take(t, s.Lock(loaded, pat))
		start := time.Now()
		ok(t, s.Lock(loaded, pat).Wait(ctx))
		if took := time.Since(start); took < store.LockFor-time.Second || took > store.LockFor+2*time.Second {
			t.Errorf("waited %v; want %v", took, store.LockFor)
		}
	})
}

// TestTombstonesInVirtualTime: a save that took longer than tombstones last is refused all the
// same.
func TestTombstonesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(newClock(), &logged{})
		o.Now = time.Now
		s := open(t, o)
		r, at := recordOf(t, s, shop), clockOf(t, s)
		value := store.Cached{Customer: known, ShopifyID: pat.Customer, LookedUp: time.Now()}
		ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID}))
		for range 10 {
			time.Sleep(30 * time.Second)
			if err := s.Save(t.Context(), r, pat, &value, at, nil); !errors.Is(err, store.ErrOutdated) {
				t.Fatalf("Save %v after Recharge was asked = %v; want ErrOutdated", time.Since(time.UnixMicro(at)), err)
			}
		}
		value.LookedUp = time.Now()
		ok(t, s.Save(t.Context(), r, pat, &value, clockOf(t, s), nil))
	})
}

// TestClockPutBackWhileAsked: after the clock was set back, a new tombstone looks older than the
// save that it must refuse.
func TestClockPutBackWhileAsked(t *testing.T) {
	c := newClock()
	s := open(t, options(c, &logged{}))
	r := recordOf(t, s, shop)
	now := time.Now()
	s.Embedded().SetTime(now)
	at := clockOf(t, s)
	s.Embedded().SetTime(now.Add(-time.Hour))
	ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID}))
	value := lookedUp(c, pat, known)
	if err := s.Save(t.Context(), r, pat, &value, at, nil); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save = %v; want ErrOutdated", err)
	}
	s.Embedded().SetTime(now.Add(time.Second - time.Hour))
	save(t, s, pat, value)
	is(t, "asked by the new clock", s, pat, known)
}

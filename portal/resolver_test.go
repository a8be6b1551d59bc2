package portal_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestAnswerWithin: an answer that comes later than AnswerWithin after the last read of Redis is
// checked once more, since a webhook may have been answered meanwhile.
func TestAnswerWithin(t *testing.T) {
	for _, test := range []struct {
		name  string
		age   time.Duration
		moves bool
		want  string
	}{
		{"at once", 0, false, "redirected link"},
		{"at once, moved a moment ago", 0, true, "redirected link"}, // the webhook has not been answered yet
		{"late", portal.AnswerWithin, false, "redirected link"},
		{"late, moved meanwhile", portal.AnswerWithin, true, "not_a_subscriber recharge customers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			b.click(portal.Request{})
			loaded := b.resolver.Load(t.Context(), who(pat), portal.NewTrace(b.now))
			if test.moves {
				b.moves(robin)
				b.told()
			}
			loaded.At = time.Now().Add(-test.age)
			if got, r := b.ended(portal.Request{Loaded: &loaded}); got != test.want {
				t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
			}
		})
	}
}

// TestWebhookIsAnsweredAfterClicks: applying a change returns only when every click that could not
// know of it has been answered.
func TestWebhookIsAnsweredAfterClicks(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.click(portal.Request{})
	begun := time.Now()
	if err := b.resolver.ApplyCustomerChange(t.Context(), shop, store.Change{ID: record}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < portal.AnswerWithin {
		t.Errorf("it returned after %v; want %v at least", took, portal.AnswerWithin)
	}
	if got, _ := b.ended(portal.Request{}); got != "redirected recharge customers sessions portal_access" {
		t.Errorf("the next click is %q; want it to ask who the shopper is", got)
	}
}

// TestChangedUnderAClick: if a webhook comes during a click, the click discards what it has learned
// and starts again.
func TestChangedUnderAClick(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kept *storetest.Server) {
		for _, test := range []struct {
			name, want string
			change     func(*bed)
		}{
			{"moved", "not_a_subscriber recharge customers sessions portal_access customers", func(b *bed) { b.moves(robin); b.told() }},
			{"as before", "redirected recharge customers sessions portal_access customers sessions portal_access", (*bed).told},
			{"erased", "redirected recharge customers sessions portal_access customers sessions portal_access", func(b *bed) {
				if err := b.store.Redact(b.t.Context(), shop, pat); err != nil {
					b.t.Error(err)
				}
			}},
			{"the shop erased", "redirected recharge customers sessions portal_access customers sessions portal_access", func(b *bed) {
				if _, err := b.store.EraseShop(b.t.Context(), store.Erasure{Shop: shop}); err != nil {
					b.t.Error(err)
				}
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := onEmpty(t, kept)
				b.faults(func(f *rechargetest.Faults) { f.Lag, f.Only = 800*time.Millisecond, rechargetest.EndpointPortalAccess })
				changed := make(chan struct{})
				go func() {
					defer close(changed)
					b.isAsked("portal_access")
					b.faults(func(*rechargetest.Faults) {}) // only the first one takes long
					test.change(b)
				}()
				r := b.click(portal.Request{})
				<-changed
				if got := strings.Join(append([]string{string(r.Outcome), string(r.Source)}, b.asked()...), " "); got != test.want {
					t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
				}
				b.leads(test.name, r)
			})
		}
	})
}

// onEmpty is newBed on a Redis that other tests have used, emptied.
func onEmpty(t *testing.T, kept *storetest.Server) *bed {
	t.Helper()
	if kept != nil {
		client := redis.NewClient(&redis.Options{Addr: kept.Addr})
		defer client.Close()
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return newBed(t, kept)
}

// TestRedisDiesUnderAClick: then only Recharge can say whether the record is still the shopper's.
func TestRedisDiesUnderAClick(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		moves bool
		lag   time.Duration // of the answer to the last call
		want  string
	}{
		{"quick", false, 100 * time.Millisecond, "redirected recharge customers sessions portal_access"},
		{"slow", false, 1200 * time.Millisecond, "redirected recharge customers sessions portal_access customer"},
		{"slow, and moved meanwhile", true, 1200 * time.Millisecond, "not_a_subscriber recharge customers sessions portal_access customer customers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kept := storetest.Redis(t)
			b := newBed(t, kept)
			b.faults(func(f *rechargetest.Faults) { f.Lag, f.Only = test.lag, rechargetest.EndpointPortalAccess })
			died := make(chan struct{})
			go func() {
				defer close(died)
				b.isAsked("portal_access")
				kept.Stop()
				if test.moves {
					b.moves(robin)
				}
			}()
			r := b.click(portal.Request{})
			<-died
			if got := strings.Join(append([]string{string(r.Outcome), string(r.Source)}, b.asked()...), " "); got != test.want {
				t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
			}
			b.leads(test.name, r)
		})
	}
}

// TestRedisDiesUnderManyClicks: late clicks of one shopper share one check with Recharge, if only
// Recharge can say whether the record still holds.
func TestRedisDiesUnderManyClicks(t *testing.T) {
	t.Parallel()
	kept := storetest.Redis(t)
	b := newBed(t, kept)
	b.faults(func(f *rechargetest.Faults) { f.Lag, f.Only = 1200*time.Millisecond, rechargetest.EndpointPortalAccess })
	died := make(chan struct{})
	go func() {
		defer close(died)
		b.isAsked("portal_access")
		kept.Stop()
	}()
	made := 0
	for _, r := range b.atOnce(make([]portal.Request, 50)...) {
		b.leads("Redis is dead", r)
		made += len(r.Calls)
		if r.Outcome != portal.Redirected {
			t.Errorf("a click = %s (%v); want it signed in", r.Outcome, r.Cause)
		}
	}
	<-died
	// A slow machine's clicks do not all come in time to share, but without sharing each makes a call.
	if calls := b.asked(); len(calls) > 25 || len(calls) != made {
		t.Errorf("50 clicks made the calls %v, but list %d; want far fewer than 50", calls, made)
	}
}

// TestRedisRefuses: a Redis that serves only some commands costs a click only the calls that it has
// to make, and no click asks again and again.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	fullRedis := func(b *bed, client *redis.Client) error {
		return client.ConfigSet(b.t.Context(), "maxmemory", "1").Err()
	}
	noReads := func(b *bed, client *redis.Client) error {
		return client.Do(b.t.Context(), "ACL", "SETUSER", "default", "-mget").Err()
	}
	for _, test := range []struct {
		name, cached string
		refuses      func(*bed, *redis.Client) error
		moves        bool
		latency      time.Duration // of each call
		want         string
	}{
		{"writes", "nothing", fullRedis, false, 0, "redirected recharge customers sessions portal_access"},
		{"writes, slow", "nothing", fullRedis, false, 400 * time.Millisecond, "redirected recharge customers sessions portal_access customer"},
		{"writes, moved", "verified long ago", fullRedis, true, 0, "not_a_subscriber recharge customer customers"},
		{"writes, moved, slow", "verified long ago", fullRedis, true, 400 * time.Millisecond, "not_a_subscriber recharge customer customers"},
		{"reads", "nothing", noReads, false, 0, "redirected recharge customers sessions portal_access"},
		{"reads, cached", "session", noReads, false, 0, "redirected recharge customers sessions portal_access"},
		{"reads, cached, slow", "session", noReads, false, 400 * time.Millisecond, "redirected recharge customers sessions portal_access"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kept := storetest.Redis(t)
			b := newBed(t, kept)
			b.resolver.Load(t.Context(), who(pat), portal.NewTrace(b.now)) // creates the store's record
			states()[test.cached](b)
			if test.moves {
				b.moves(robin)
			}
			b.faults(func(f *rechargetest.Faults) { f.Latency = test.latency })
			client := redis.NewClient(&redis.Options{Addr: kept.Addr})
			defer client.Close()
			if err := test.refuses(b, client); err != nil {
				t.Fatal(err)
			}
			got, r := b.ended(portal.Request{})
			if got != test.want {
				t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
			}
			b.leads(test.name, r)
		})
	}
}

// TestNothingToCache: a click that forgets what it has learned, and is too slow to be sent without a
// check, has Recharge check the record instead of looking the shopper up again and again.
func TestNothingToCache(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		faults rechargetest.Faults
		moves  bool
		want   string
	}{
		{"someone else's session", rechargetest.Faults{ForeignSession: true, Only: rechargetest.EndpointSessions}, false, "redirected_by_hash recharge customers sessions customer"},
		{"someone else's portal", rechargetest.Faults{ForeignPortal: true, Only: rechargetest.EndpointPortalAccess}, false, "redirected_by_hash recharge customers sessions portal_access customer"},
		{"someone else's session, moved", rechargetest.Faults{ForeignSession: true, Only: rechargetest.EndpointSessions}, true, "not_a_subscriber recharge customers sessions customer customers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, nil)
				b.resolver.Timeout = 10 * time.Second
				b.faults(func(f *rechargetest.Faults) { *f = test.faults; f.Lag = portal.AnswerWithin })
				moved := make(chan struct{})
				go func() {
					defer close(moved)
					b.isAsked("sessions")
					if test.moves {
						b.moves(robin)
					}
				}()
				r := b.click(portal.Request{})
				<-moved
				if got := strings.Join(append([]string{string(r.Outcome), string(r.Source)}, b.asked()...), " "); got != test.want {
					t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
				}
				b.leads(test.name, r)
			})
		})
	}
}

// TestRechargeIsAskedInTime: without Redis, Recharge's last answer counts only if it is the same as
// before, and in time.
func TestRechargeIsAskedInTime(t *testing.T) {
	t.Parallel()
	lag := portal.AnswerWithin + 200*time.Millisecond
	for _, test := range []struct {
		name   string
		faults rechargetest.Faults
		hash   string // of the record at the end
		want   string
	}{
		{"slow", rechargetest.Faults{Lag: lag}, hash, "unavailable none customers sessions portal_access customer"},
		{
			"another hash", rechargetest.Faults{Lag: lag, Only: rechargetest.EndpointPortalAccess}, "2f2e3d4c5b6a7988",
			"redirected recharge customers sessions portal_access customer customers sessions portal_access customer",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			kept := storetest.Redis(t)
			b := newBed(t, kept)
			b.resolver.Timeout = 10 * time.Second
			b.faults(func(f *rechargetest.Faults) { *f = test.faults })
			kept.Stop()
			changed := make(chan struct{})
			go func() {
				defer close(changed)
				b.isAsked("portal_access")
				other := people()
				other[1].Hash = test.hash
				b.recharge.SetCustomers(other)
			}()
			r := b.click(portal.Request{})
			<-changed
			if got := strings.Join(append([]string{string(r.Outcome), string(r.Source)}, b.asked()...), " "); got != test.want {
				t.Errorf("the click is %q (%v); want %q", got, r.Cause, test.want)
			}
			if r.Link.URL != "" && !strings.Contains(r.Link.URL, test.hash) {
				t.Errorf("it leads to %s; want the hash %s", r.Link.URL, test.hash)
			}
		})
	}
}

// TestWithoutRedis: in one-store mode, clicks still work, and each makes three calls.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	kept := storetest.Redis(t)
	b := newBed(t, kept)
	kept.Stop()
	for range 3 {
		got, r := b.ended(portal.Request{})
		if got != "redirected recharge customers sessions portal_access" {
			t.Errorf("a click is %q (%v); want it signed in", got, r.Cause)
		}
		b.leads("without Redis", r)
	}
	// Simultaneous clicks share their calls.
	b.faults(func(f *rechargetest.Faults) { f.Latency = 100 * time.Millisecond })
	for _, r := range b.atOnce(make([]portal.Request, 50)...) {
		b.leads("without Redis, at once", r)
	}
	if calls := b.asked(); len(calls) > 9 {
		t.Errorf("50 clicks at once made the calls %v; want about one of each", calls)
	}
}

// TestSignedOut: in one-store mode, a signed-out visitor costs no request to Redis or Recharge.
func TestSignedOut(t *testing.T) {
	b := newBed(t, nil)
	r := resolve(t.Context(), b.resolver, portal.Request{Shopper: store.Shopper{Shop: shop}})
	if calls := b.asked(); r.Outcome != portal.SignIn || len(r.Steps) != 0 || len(calls) != 0 {
		t.Errorf("a signed-out click = %s, steps %v, calls %v; want sign_in, and none", r.Outcome, r.Steps, calls)
	}
}

// TestCacheOnly: no call is made, whatever is cached.
func TestCacheOnly(t *testing.T) {
	want := map[string]string{
		"nothing": "unavailable none", "access": "redirected link", "session": "redirected_by_hash session", "customer": "redirected_by_hash customer",
		"verified long ago": "redirected_by_hash customer", "webhooks proven": "redirected_by_hash customer", "imported": "redirected_by_hash index",
		"out of date": "redirected_by_hash customer", "nobody": "not_a_subscriber nobody", "nobody a minute ago": "unavailable none",
	}
	for cached, prepare := range states() {
		b := newBed(t, nil)
		prepare(b)
		for range 2 {
			got, r := b.ended(portal.Request{CacheOnly: true})
			if got != want[cached] {
				t.Errorf("%s: %q (%v); want %q", cached, got, r.Cause, want[cached])
			}
			b.leads(cached, r)
		}
	}
	kept := storetest.Redis(t)
	b := newBed(t, kept)
	b.click(portal.Request{})
	loaded := b.resolver.Load(t.Context(), who(pat), portal.NewTrace(b.now))
	loaded.At = time.Now().Add(-portal.AnswerWithin)
	kept.Stop()
	if got, r := b.ended(portal.Request{CacheOnly: true, Loaded: &loaded}); got != "unavailable none" {
		t.Errorf("late, and Redis has died: %q (%v); want unavailable, without a call", got, r.Cause)
	}
}

// TestDry: a dry click ends as a real one would, and changes nothing.
func TestDry(t *testing.T) {
	t.Parallel()
	kept := storetest.Redis(t)
	for cached, prepare := range states() {
		b := onEmpty(t, kept)
		prepare(b)
		b.resolver.Load(t.Context(), who(pat), portal.NewTrace(b.now)) // creates the store's record
		before := kept.Dump()
		dry, r := b.ended(portal.Request{Dry: true})
		b.leads(cached, r)
		after := kept.Dump()
		maps.DeleteFunc(before, isBucket)
		maps.DeleteFunc(after, isBucket)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: a dry click changed Redis (-before +after):\n%s", cached, diff)
		}
		if got, _ := b.ended(portal.Request{}); got != dry {
			t.Errorf("%s: a dry click is %q, but the real one is %q; want the same", cached, dry, got)
		}
	}
	// It makes no further calls when it takes long or the record has moved.
	b := onEmpty(t, kept)
	b.faults(func(f *rechargetest.Faults) { f.Latency = 400 * time.Millisecond })
	if got, r := b.ended(portal.Request{Dry: true}); got != "redirected recharge customers sessions portal_access" {
		t.Errorf("a dry click that takes long is %q (%v)", got, r.Cause)
	}
	b = onEmpty(t, kept)
	states()["verified long ago"](b)
	b.moves(robin)
	if got, r := b.ended(portal.Request{Dry: true}); got != "not_a_subscriber recharge customer customers" {
		t.Errorf("a dry click after the record moved is %q (%v)", got, r.Cause)
	}
	// It waits for no other click, and no other click waits for it.
	b = onEmpty(t, kept)
	b.faults(func(f *rechargetest.Faults) { f.Latency = 100 * time.Millisecond })
	if results := b.atOnce(portal.Request{Dry: true}, portal.Request{}, portal.Request{Dry: true}); len(results[0].Calls) != 3 || len(results[1].Calls) != 3 || len(results[2].Calls) != 3 {
		t.Errorf("a click between two dry ones made %d calls, the dry ones %d and %d; want three each", len(results[1].Calls), len(results[0].Calls), len(results[2].Calls))
	}
}

func isBucket(key, _ string) bool { return strings.HasSuffix(key, "}:b") }

// TestStatus: a shopper's status takes one lookup at most.
func TestStatus(t *testing.T) {
	type stands struct {
		Known, Subscriber bool
		Active            int
	}
	subscribes, does := stands{true, true, 1}, answers()
	for _, test := range []struct {
		cached, recharge string
		want             stands
		calls            string
	}{
		{"nothing", "in order", subscribes, "customers"},
		{"nothing", "is down", stands{}, "customers"},
		{"nothing", "429", stands{}, "customers"},
		{"nothing", "the record moved", stands{Known: true}, "customers"},
		{"nothing", "filter ignored", subscribes, "customers"},
		{"nothing", "moved and no filter", stands{}, "customers"},
		{"access", "is down", subscribes, ""},
		{"customer", "is down", subscribes, ""},
		{"imported", "is down", subscribes, ""},
		{"verified long ago", "is down", subscribes, ""},
		{"out of date", "in order", subscribes, "customers"},
		{"out of date", "is down", subscribes, "customers"},
		{"out of date", "the record moved", stands{Known: true}, "customers"},
		{"out of date", "moved and no filter", stands{}, "customers customer"},
		{"nobody", "in order", stands{Known: true}, ""},
		{"nobody a minute ago", "in order", stands{Known: true}, ""},
	} {
		t.Run(test.cached+", Recharge: "+test.recharge, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			states()[test.cached](b)
			does[test.recharge](b)
			b.asked()
			got := b.status(false)
			if (stands{got.Known, got.Subscriber, got.Active}) != test.want {
				t.Errorf("status = %+v; want %+v", got, test.want)
			}
			if calls := strings.Join(b.asked(), " "); calls != test.calls || len(got.Calls) != len(strings.Fields(test.calls)) {
				t.Errorf("it made the calls %q, and reports %v; want %q", calls, got.Calls, test.calls)
			}
			if test.calls != "" && test.want.Known && test.recharge == "in order" {
				b.status(false)
				if got, _ := b.ended(portal.Request{}); got != "redirected customer sessions portal_access" {
					t.Errorf("the click then is %q; want no lookup", got)
				}
			}
		})
	}
	t.Run("by what is cached only", func(t *testing.T) {
		for cached, want := range map[string]stands{"nothing": {}, "out of date": subscribes, "access": subscribes, "nobody a minute ago": {Known: true}} {
			b := newBed(t, nil)
			states()[cached](b)
			b.asked()
			if got := b.status(true); (stands{got.Known, got.Subscriber, got.Active}) != want || len(b.asked()) != 0 {
				t.Errorf("%s: status = %+v; want %+v, without a call", cached, got, want)
			}
		}
	})
	t.Run("many at once", func(t *testing.T) {
		b := newBed(t, nil)
		b.faults(func(f *rechargetest.Faults) { f.Latency = 50 * time.Millisecond })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := b.status(false); !got.Known || !got.Subscriber {
					t.Errorf("status = %+v; want a subscriber", got)
				}
			})
		}
		all.Wait()
		if calls := b.asked(); !slices.Equal(calls, []string{"customers"}) {
			t.Errorf("50 status requests made the calls %v; want one", calls)
		}
	})
	t.Run("a fault of ours", func(t *testing.T) {
		b := newBed(t, nil)
		b.breaks.Store(true)
		var fault *portal.Fault
		if got := b.status(false); got.Known || !errors.As(got.Cause, &fault) {
			t.Errorf("status = %+v; want not known, because of a fault", got)
		}
		b.breaks.Store(false)
		if got := b.status(false); !got.Known {
			t.Errorf("status after it = %+v; want it known", got)
		}
	})
	t.Run("not this shop's", func(t *testing.T) {
		b := newBed(t, nil)
		if got := b.resolver.Status(t.Context(), store.Shopper{Shop: "b.myshopify.com", Customer: pat}, false); got.Known || len(b.asked()) != 0 {
			t.Errorf("status = %+v; want not known, without a call", got)
		}
	})
}

// TestCachedAccessIsGuarded: a value from Redis is trusted no more than an answer from Recharge.
func TestCachedAccessIsGuarded(t *testing.T) {
	for _, base := range []string{"https://evil.example/portal/", "http://evil.example/", "javascript:alert(1)//", "//evil.example/", "https://x.rechargeapps.com.evil.example/", "\x00"} {
		b := newBed(t, nil)
		b.click(portal.Request{})
		loaded := b.resolver.Load(t.Context(), who(pat), portal.NewTrace(b.now))
		loaded.Cached.Access.Base = base
		got, r := b.ended(portal.Request{Loaded: &loaded})
		if !strings.HasPrefix(got, "redirected ") || strings.Contains(r.Link.URL, "evil") {
			t.Errorf("with the base %q cached, the click is %q, to %q; want a new access", base, got, r.Link.URL)
		}
		b.leads(base, r)
	}
}

// TestByHash: a store that never signs in needs one lookup and no other call.
func TestByHash(t *testing.T) {
	b := newBed(t, nil, func(s *portal.Settings) { s.Defaults.Link = "hash" })
	for _, want := range []string{"redirected_by_hash recharge customers", "redirected_by_hash customer"} {
		got, r := b.ended(portal.Request{Visit: recharge.Visit{To: "orders", Locale: "fr", Country: "CA"}})
		if got != want || r.Cause != nil {
			t.Errorf("a click is %q (%v); want %q", got, r.Cause, want)
		}
		b.leads("by hash", r)
		if link := address(t, r.Link.URL); !strings.HasSuffix(link.Path, "/orders") || link.Query().Get("locale") != "fr" {
			t.Errorf("it leads to %s; want the orders, in French", link)
		}
	}
}

// TestRefusalIsNotRepeated: after Recharge has refused a shopper, clicks do not ask again for half
// a minute.
func TestRefusalIsNotRepeated(t *testing.T) {
	b := newBed(t, nil)
	b.faults(func(f *rechargetest.Faults) { f.RefuseSessions = true })
	for i, want := range []string{"redirected_by_hash recharge customers sessions", "redirected_by_hash customer", "redirected_by_hash customer", "redirected_by_hash customer sessions"} {
		if i == 3 {
			b.pass(31 * time.Second)
		}
		if got, r := b.ended(portal.Request{}); got != want {
			t.Errorf("click %d is %q (%v); want %q", i, got, r.Cause, want)
		}
	}
	b.faults(func(*rechargetest.Faults) {})
	b.pass(31 * time.Second)
	if got, _ := b.ended(portal.Request{}); got != "redirected customer sessions portal_access" {
		t.Errorf("after the fault, the click is %q; want it signed in", got)
	}
}

// manyStores is a bed in many-store mode.
func manyStores(t *testing.T) (*bed, *portal.Merchants, func(change func(*store.Connection))) {
	b := newBed(t, nil)
	options := store.Options{Keys: [][]byte{make([]byte, 32)}, CustomerTTL: customerTTL, Now: b.now, Log: slog.New(slog.DiscardHandler)}
	s, err := store.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	settings := portal.Settings{Defaults: store.Traits{PortalURL: b.recharge.URL + "/portal/"}, Options: recharge.Options{
		APIURL: address(t, b.recharge.URL), AppURL: address(t, b.recharge.URL), Rate: 1000, Burst: 10000, Timeout: time.Second, Now: b.now, HTTP: b.http,
	}}
	merchants, err := portal.NewMerchants(s, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.store, b.resolver = s, &portal.Resolver{Store: s, Merchants: merchants, Timeout: 5 * time.Second, LinkTTL: linkTTL, Now: b.now}
	return b, merchants, func(change func(*store.Connection)) {
		t.Helper()
		connection := store.Connection{Shop: shop, APIToken: token, SavedAt: b.now()}
		change(&connection)
		if err := s.SaveConnection(t.Context(), connection); err != nil {
			t.Fatal(err)
		}
		choose := func(r *store.Record) bool { r.Connection.Chosen = connection.Chosen; return true }
		if err := s.Update(t.Context(), shop, choose); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMerchants: a store's client is made once for each record, and keeps its limiter as long as
// the token is the same.
func TestMerchants(t *testing.T) {
	b, merchants, save := manyStores(t)
	find := func() *portal.Merchant {
		t.Helper()
		merchant, err := merchants.Find(t.Context(), shop)
		if err != nil {
			t.Fatal(err)
		}
		return merchant
	}
	if got, _ := b.ended(portal.Request{}); got != "not_connected " || find() != nil {
		t.Errorf("before connecting, a click is %q; want not_connected", got)
	}
	save(func(*store.Connection) {})
	first := find()
	if first == nil || find() != first || len(merchants.All()) != 1 {
		t.Errorf("connected, it is %v and then %v; want one", first, find())
	}
	if got, r := b.ended(portal.Request{}); got != "redirected recharge customers sessions portal_access" || r.Merchant != first {
		t.Errorf("connected, a click is %q (%v)", got, r.Cause)
	}
	save(func(c *store.Connection) { c.Chosen = store.Traits{Link: "hash", Accounts: "legacy"} })
	second := find()
	if second == first || !second.NoAccess || !second.LegacyAccounts || second.Client.Limiter() != first.Client.Limiter() {
		t.Errorf("with other settings it is %+v; want a new one that keeps the token's limiter", second)
	}
	if got, _ := b.ended(portal.Request{}); got != "redirected_by_hash customer" {
		t.Errorf("with other settings, a click is %q; want it by hash", got)
	}
	save(func(c *store.Connection) { c.APIToken = "sk_test_another" })
	if third := find(); third.Client.Limiter() == second.Client.Limiter() || third.Client.Token() != "sk_test_another" {
		t.Error("with another token it has the old one's limiter")
	}
	if _, err := b.store.EraseShop(t.Context(), store.Erasure{Shop: shop}); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.ended(portal.Request{}); got != "not_connected " || len(merchants.All()) != 0 {
		t.Errorf("erased, a click is %q, and %d clients are kept; want not_connected, and none", got, len(merchants.All()))
	}
	save(func(c *store.Connection) { c.Detected.PortalURL = "://" })
	if r := b.click(portal.Request{}); r.Outcome != portal.Unavailable || r.Cause == nil {
		t.Errorf("with a connection that cannot be used, a click is %s (%v); want unavailable", r.Outcome, r.Cause)
	}
}

// TestTokensHaveTheirOwnRate: without a configured rate, each shop's token has the budget that its prefix
// stands for, whatever the other shop spends, and so has a merchant's next token. Recharge refuses no call.
func TestTokensHaveTheirOwnRate(t *testing.T) {
	t.Parallel()
	token := func(value string, rate float64, burst int) rechargetest.Token {
		return rechargetest.Token{Value: value, Scopes: []string{"read_customers"}, Rate: rate, Burst: burst}
	}
	srv := rechargetest.NewServer(rechargetest.Options{
		Customers: people(),
		Tokens:    []rechargetest.Token{token("sk_5x2_fast", 10, 80), token("sk_usual", 2, 40), token("sk_2x1_next", 4, 40)},
	})
	t.Cleanup(srv.Close)
	transport := recharge.NewTransport(10 * time.Second)
	t.Cleanup(transport.CloseIdleConnections)
	merchants, err := portal.NewMerchants(nil, portal.Settings{Options: recharge.Options{
		APIURL: address(t, srv.URL), AppURL: address(t, srv.URL), Timeout: 10 * time.Second, Now: time.Now, HTTP: transport,
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	of := func(shop shopify.Shop, token string) *portal.Merchant {
		t.Helper()
		merchant, err := merchants.Of(shop, &store.Record{Connection: &store.Connection{Shop: shop, APIToken: token}})
		if err != nil {
			t.Fatal(err)
		}
		return merchant
	}
	fast, usual := of("fast.myshopify.com", "sk_5x2_fast"), of("usual.myshopify.com", "sk_usual")
	next := func() *portal.Merchant { return of("usual.myshopify.com", "sk_2x1_next") }
	for _, test := range []struct {
		merchant *portal.Merchant
		want     recharge.Budget
	}{{fast, recharge.Budget{Rate: 10, Burst: 80}}, {usual, recharge.Budget{Rate: 2, Burst: 40}}, {next(), recharge.Budget{Rate: 4, Burst: 40}}} {
		client, name := test.merchant.Client, test.merchant.Client.Token()
		limiter := client.Limiter()
		grant, err := limiter.Reserve(t.Context(), nil, recharge.Ask{recharge.High: test.want.Burst})
		for range test.want.Burst {
			if err == nil {
				_, err = client.FindCustomer(t.Context(), grant, string(pat), recharge.High)
			}
		}
		if err != nil {
			t.Errorf("%s: a burst of %d calls: %v", name, test.want.Burst, err)
		}
		if _, err := limiter.Reserve(t.Context(), nil, recharge.Ask{recharge.High: 10 * int(test.want.Rate)}); !recharge.Is(err, recharge.OverBudget) {
			t.Errorf("%s: ten seconds' calls more: %v; want them refused", name, err)
		}
		if got := limiter.Budget(); got.Rate != test.want.Rate || got.Burst != test.want.Burst {
			t.Errorf("%s: the budget is %+v; want %+v", name, got, test.want)
		}
	}
	for _, request := range srv.Requests() {
		if request.Status != http.StatusOK {
			t.Errorf("Recharge answered %d", request.Status)
		}
	}
}

// TestLevel: the log level of a click.
func TestLevel(t *testing.T) {
	failed := func(reason recharge.Reason) error { return fmt.Errorf("a click: %w", &recharge.Error{Reason: reason}) }
	for _, test := range []struct {
		outcome portal.Outcome
		cause   error
		want    slog.Level
	}{
		{portal.Redirected, nil, slog.LevelInfo},
		{portal.Redirected, failed(recharge.FilterIgnored), slog.LevelError},
		{portal.RedirectedByHash, nil, slog.LevelInfo},
		{portal.RedirectedByHash, failed(recharge.Limited), slog.LevelWarn},
		{portal.RedirectedByHash, failed(recharge.Foreign), slog.LevelError},
		{portal.RedirectedByHash, failed(recharge.LinkRefused), slog.LevelError},
		{portal.NotASubscriber, failed(recharge.NoCustomer), slog.LevelInfo},
		{portal.NotASubscriber, failed(recharge.Ambiguous), slog.LevelWarn},
		{portal.Unavailable, failed(recharge.TooSlow), slog.LevelWarn},
		{portal.Unavailable, &portal.Fault{}, slog.LevelError},
		{portal.NotConnected, nil, slog.LevelInfo},
		{portal.Forbidden, errors.New("not Shopify's"), slog.LevelInfo},
	} {
		if got := portal.Level(test.outcome, test.cause); got != test.want {
			t.Errorf("Level(%s, %v) = %s; want %s", test.outcome, test.cause, got, test.want)
		}
	}
}

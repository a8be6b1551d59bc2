package server_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge/rechargetest"
)

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// TestFaults breaks each part in turn, for a shopper who is new, one who is
// known, one whose link is remembered, and one who was known last week.
func TestFaults(t *testing.T) {
	const (
		cold  = "cold"  // nothing remembered
		known = "known" // the customer is, the link and the session are over
		warm  = "warm"  // the link is
		stale = "stale" // the customer should have been asked for again
	)
	for _, test := range []struct {
		name   string
		breaks func(*fixture)
		want   map[string]string
		lands  bool // the portal opens wherever it redirects to
	}{
		{"Recharge limits", recharge(func(f *rechargetest.Faults) { f.Limited = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge limits for a minute", recharge(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, time.Minute }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge is slow", recharge(func(f *rechargetest.Faults) { f.Latency = 10 * time.Second }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge is down", recharge(func(f *rechargetest.Faults) { f.Down = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge answers 500", recharge(func(f *rechargetest.Faults) { f.Status = 500 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge answers 502 in HTML", recharge(func(f *rechargetest.Faults) { f.Status = 502 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge refuses the token", recharge(func(f *rechargetest.Faults) { f.Status = 401 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge cuts bodies short", recharge(func(f *rechargetest.Faults) { f.Truncate = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only sessions are down", recharge(func(f *rechargetest.Faults) { f.Down, f.Only = true, "sessions" }),
			map[string]string{cold: "redirected_by_hash", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only portal access is slow", recharge(func(f *rechargetest.Faults) { f.Latency, f.Only = 10*time.Second, "portal_access" }),
			map[string]string{cold: "redirected_by_hash", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only the lookup is down", recharge(func(f *rechargetest.Faults) { f.Down, f.Only = true, "customers" }),
			map[string]string{cold: "unavailable", known: "redirected", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Redis is gone", func(f *fixture) { f.redis.Stop() },
			map[string]string{cold: "redirected", known: "redirected", warm: "redirected", stale: "redirected"}, true},
		{"both are gone", func(f *fixture) { f.redis.Stop(); f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true }) },
			map[string]string{cold: "unavailable", known: "unavailable", warm: "unavailable", stale: "unavailable"}, false},
	} {
		for _, state := range []string{cold, known, warm, stale} {
			t.Run(test.name+", "+state, func(t *testing.T) {
				t.Parallel()
				f := start(t, func(s *config.Settings) { s.RechargeTimeout, s.ClickTimeout = "1s", "3s" })
				client := f.shopper(pat)
				if state != cold {
					if got := f.click(client, "/apps/subscriptions").outcome(); got != "redirected" {
						t.Fatalf("first click = %s; want redirected", got)
					}
				}
				f.clock.add(map[string]time.Duration{cold: 0, known: 2 * time.Hour, warm: time.Second, stale: 5 * 24 * time.Hour}[state])
				f.calls()
				test.breaks(f)
				begun := time.Now()
				got := f.click(client, "/apps/subscriptions")
				took := time.Since(begun)
				if got.outcome() != test.want[state] {
					t.Errorf("click = %s; want %s (log: %v)", got.outcome(), test.want[state], got.line)
				}
				// CLICK_TIMEOUT is 3 s here; a busy machine needs some of its own.
				if took > 6*time.Second {
					t.Errorf("the click took %v; want it bounded by CLICK_TIMEOUT", took)
				}
				calls := f.calls()
				for endpoint, n := range calls {
					// Go itself asks once more where a reused connection was closed.
					if n > 4 || strings.Contains(test.name, "limits") && n > 1 {
						t.Errorf("%d calls to %s; want no amplification", n, endpoint)
					}
				}
				if got.status == http.StatusFound && test.lands {
					if opening := f.land(client, "/apps/subscriptions"); opening.Customer.ShopifyCustomerID != pat {
						t.Errorf("the portal opened for %q; want %s", opening.Customer.ShopifyCustomerID, pat)
					}
				}
			})
		}
	}
}

// TestRedisDownIsSaidOnce: a thousand clicks are not a thousand lines.
func TestRedisDownIsSaidOnce(t *testing.T) {
	f := start(t)
	client := f.shopper(pat)
	f.click(client, "/apps/subscriptions")
	f.redis.Stop()
	for range 20 {
		f.clock.add(2 * time.Second) // so that each click tries Redis anew
		if got := f.click(client, "/apps/subscriptions").outcome(); got != "redirected" {
			t.Fatalf("click without Redis = %s; want redirected", got)
		}
	}
	if n := len(f.log.lines("cannot reach Redis; clicks go on without it")); n != 1 {
		t.Errorf("that Redis is down is said %d times; want 1", n)
	}
	f.redis.Start()
	f.until("Redis is in use again", func() bool { // go-redis tries once a second
		f.clock.add(2 * time.Second)
		f.click(client, "/apps/subscriptions")
		return f.log.last("can reach Redis again") != nil
	})
	f.click(client, "/apps/subscriptions")
	f.calls()
	f.click(client, "/apps/subscriptions")
	if n := len(f.log.lines("can reach Redis again")); n != 1 {
		t.Errorf("the return of Redis is said %d times; want 1", n)
	}
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("a warm click after Redis is back calls %v; want none", calls)
	}
}

// TestRedisHangs: one that takes connections and never says a word, alone and as
// a cluster, costs a click a moment now and then, and one line in the log.
func TestRedisHangs(t *testing.T) {
	for _, hosts := range []int{1, 12} {
		t.Run(fmt.Sprintf("%d hosts", hosts), func(t *testing.T) {
			t.Parallel()
			var addrs []string
			for range hosts {
				listener, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel does
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = listener.Close() })
				addrs = append(addrs, listener.Addr().String())
			}
			f := startWith(t, nil, func(s *config.Settings) {
				s.RedisURL = "redis://" + strings.Join(addrs, ",")
				s.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
			})
			client := f.shopper(pat)
			for _, when := range []string{"the click that finds out", "the next", "one that tries it again"} {
				if when == "one that tries it again" {
					f.clock.add(2 * time.Second)
				}
				begun := time.Now()
				if got := f.click(client, "/apps/subscriptions").outcome(); got != "redirected" {
					t.Errorf("%s = %s; want redirected", when, got)
				}
				if took := time.Since(begun); took > 4*time.Second {
					t.Errorf("%s took %v; want half a second of waiting at most", when, took)
				}
			}
			if n := len(f.log.lines("cannot reach Redis; clicks go on without it")); n != 1 {
				t.Errorf("that Redis hangs is said %d times; want 1", n)
			}
		})
	}
}

// TestKeyRotation: what was remembered under the old key is still of use.
func TestKeyRotation(t *testing.T) {
	const key1, key2 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := start(t, func(s *config.Settings) { s.EncryptionKey = key1 })
	query := func() string { return f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret) }
	f.direct("GET", f.public, "/apps/subscriptions?"+query())
	f.stop()
	f.run(func(s *config.Settings) { s.EncryptionKey = key2 + "," + key1 })
	f.calls()
	response, _ := f.direct("GET", f.public, "/apps/subscriptions?"+query())
	if calls := f.calls(); response.StatusCode != http.StatusFound || len(calls) != 0 {
		t.Errorf("a warm click after the rotation = %d with calls %v; want 302 with none", response.StatusCode, calls)
	}
}

// TestEmbeddedRedis is the one store without a REDIS_URL.
func TestEmbeddedRedis(t *testing.T) {
	f := startWith(t, nil)
	client := f.shopper(pat)
	for range 2 {
		if got := f.click(client, "/apps/subscriptions").outcome(); got != "redirected" {
			t.Errorf("click = %s; want redirected", got)
		}
	}
	if calls := f.calls(); calls["customers"] != 1 || calls["sessions"] != 1 || calls["portal_access"] != 1 {
		t.Errorf("two clicks make calls %v; want one of each", calls)
	}
}

// TestEndsInOrder: readiness goes first, clicks under way are answered, then it
// is over.
func TestEndsInOrder(t *testing.T) {
	f := start(t)
	f.until("/readyz = 200", func() bool { // the addresses are told before all is begun
		response, _ := f.direct("GET", f.ops, "/readyz")
		return response.StatusCode == 200
	})
	if response, _ := f.direct("GET", f.ops, "/livez"); response.StatusCode != 200 {
		t.Errorf("/livez = %d; want 200", response.StatusCode)
	}
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 200 * time.Millisecond })
	answered := make(chan string, 1)
	client := f.shopper(pat)
	go func() { answered <- f.click(client, "/apps/subscriptions").outcome() }()
	f.until("the click has reached Recharge", func() bool { return len(f.recharge.Requests()) > 0 })
	f.stop()
	f.until("it is draining", func() bool { return f.log.last("draining") != nil })
	if response, _ := f.direct("GET", f.ops, "/readyz"); response.StatusCode != 503 {
		t.Errorf("/readyz while draining = %d; want 503", response.StatusCode)
	}
	if got := <-answered; got != "redirected" {
		t.Errorf("the click under way = %s; want redirected", got)
	}
	if err := <-f.ended; err != nil {
		t.Errorf("Run = %v; want an orderly end", err)
	}
	f.ended <- nil
	if _, err := http.Get("http://" + f.public); err == nil {
		t.Error("the public listener still answers")
	}
}

// until waits for something that another goroutine does.
func (f *fixture) until(what string, done func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			f.t.Fatalf("in vain: %s", what)
		case <-tick.C:
		}
	}
}

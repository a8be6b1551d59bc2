package server_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestFaults breaks each part in turn, for a shopper who is new, one who is cached, one whose link is
// cached, and one who was cached last week.
func TestFaults(t *testing.T) {
	t.Parallel()
	const (
		cold  = "cold"  // nothing is cached
		known = "known" // the customer is cached, the link and the session have expired
		warm  = "warm"  // the link is cached
		stale = "stale" // the customer is due to be looked up again
	)
	for _, test := range []struct {
		name   string
		breaks func(*servertest.Fixture)
		want   map[string]string
		lands  bool // every redirect opens the portal
	}{
		{"Recharge limits", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Limited = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge limits for a minute", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, time.Minute }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge is slow", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Latency = 10 * time.Second }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge is down", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Down = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge answers 500", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Status = 500 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge answers 502 in HTML", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Status = 502 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge refuses the token", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Status = 401 }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Recharge cuts bodies short", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Truncate = true }),
			map[string]string{cold: "unavailable", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only sessions are down", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Down, f.Only = true, "sessions" }),
			map[string]string{cold: "redirected_by_hash", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only portal access is slow", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Latency, f.Only = 10*time.Second, "portal_access" }),
			map[string]string{cold: "redirected_by_hash", known: "redirected_by_hash", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"only the lookup is down", servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Down, f.Only = true, "customers" }),
			map[string]string{cold: "unavailable", known: "redirected", warm: "redirected", stale: "redirected_by_hash"}, true},
		{"Redis is gone", func(f *servertest.Fixture) { f.Redis.Stop() },
			map[string]string{cold: "redirected", known: "redirected", warm: "redirected", stale: "redirected"}, true},
		{"both are gone", func(f *servertest.Fixture) {
			f.Redis.Stop()
			f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
		},
			map[string]string{cold: "unavailable", known: "unavailable", warm: "unavailable", stale: "unavailable"}, false},
	} {
		if !suite.Runs(test.name, "Recharge limits", "Recharge is down", "only portal access is slow", "Redis is gone", "both are gone") {
			continue
		}
		for _, state := range []string{cold, known, warm, stale} {
			t.Run(test.name+", "+state, func(t *testing.T) {
				t.Parallel()
				f := servertest.Start(t, func(s *config.Settings) { s.RechargeTimeout, s.ClickTimeout = "1s", "3s" })
				client := f.Shopper(servertest.Pat)
				if state != cold {
					if got := f.Click(client, "/apps/subscriptions").Outcome(); got != "redirected" {
						t.Fatalf("first click = %s; want redirected", got)
					}
				}
				f.Clock.Add(map[string]time.Duration{cold: 0, known: 2 * time.Hour, warm: time.Second, stale: 5 * 24 * time.Hour}[state])
				f.Calls()
				test.breaks(f)
				begun := time.Now()
				got := f.Click(client, "/apps/subscriptions")
				took := time.Since(begun)
				if got.Outcome() != test.want[state] {
					t.Errorf("click = %s; want %s (log: %v)", got.Outcome(), test.want[state], got.Line)
				}
				// CLICK_TIMEOUT is 3 s here; a busy machine needs some more.
				if took > 6*time.Second {
					t.Errorf("the click took %v; want it bounded by CLICK_TIMEOUT", took)
				}
				calls := f.Calls()
				for endpoint, n := range calls {
					// Go itself retries once if a reused connection was closed.
					if n > 4 || strings.Contains(test.name, "limits") && n > 1 {
						t.Errorf("%d calls to %s; want no amplification", n, endpoint)
					}
				}
				if got.Status == http.StatusFound && test.lands {
					if opening := f.Land(client, "/apps/subscriptions"); opening.Customer.ShopifyCustomerID != servertest.Pat {
						t.Errorf("the portal opened for %q; want %s", opening.Customer.ShopifyCustomerID, servertest.Pat)
					}
				}
			})
		}
	}
}

// TestRedisDownIsSaidOnce: a thousand clicks do not log a thousand lines.
func TestRedisDownIsSaidOnce(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	client := f.Shopper(servertest.Pat)
	f.Click(client, "/apps/subscriptions")
	f.Redis.Stop()
	for range 20 {
		f.Clock.Add(2 * time.Second) // so that each click tries Redis again
		if got := f.Click(client, "/apps/subscriptions").Outcome(); got != "redirected" {
			t.Fatalf("click without Redis = %s; want redirected", got)
		}
	}
	if n := len(f.Log.Lines("cannot reach Redis; clicks go on without it")); n != 1 {
		t.Errorf("the log says %d times that Redis is down; want 1", n)
	}
	f.Redis.Start()
	f.Until("Redis is in use again", func() bool { // go-redis tries once a second
		f.Clock.Add(2 * time.Second)
		f.Click(client, "/apps/subscriptions")
		return f.Log.Last("can reach Redis again") != nil
	})
	f.Click(client, "/apps/subscriptions")
	f.Calls()
	f.Click(client, "/apps/subscriptions")
	if n := len(f.Log.Lines("can reach Redis again")); n != 1 {
		t.Errorf("the log says %d times that Redis is back; want 1", n)
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("a warm click after Redis is back calls %v; want none", calls)
	}
}

// TestRedisReadOnly: a Redis that became a replica is still read, and counts as down: the metric and the log say that
// it takes no writes, also on a server without clicks, and that it does again.
func TestRedisReadOnly(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	client := f.Shopper(servertest.Pat)
	f.Click(client, "/apps/subscriptions")
	f.Calls()
	admin := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer admin.Close()
	for _, to := range []struct{ host, port, says, up string }{
		{"127.0.0.1", "1", "cannot write to Redis; clicks go on without it", "0"}, {"NO", "ONE", "can write to Redis again", "1"},
	} {
		if err := admin.Do(t.Context(), "REPLICAOF", to.host, to.port).Err(); err != nil {
			t.Fatal(err)
		}
		f.Until(to.says, func() bool {
			f.Clock.Add(2 * time.Second)
			_, scraped := fetch(t, f.Ops, "/metrics")
			return strings.Contains(scraped, "\nmanage_subscriptions_redis_up "+to.up+"\n") && len(f.Log.Lines(to.says)) == 1
		})
		if got := f.Click(client, "/apps/subscriptions").Outcome(); got != "redirected" {
			t.Errorf("a click of a shopper who is cached = %s; want redirected", got)
		}
	}
	if calls := f.Calls(); calls["customers"] != 0 {
		t.Errorf("the clicks of a shopper who is cached make calls %v; want no lookup", calls)
	}
}

// TestRedisHangs: a Redis that accepts connections and never answers, alone and as a cluster, makes a
// click wait for a moment now and then, and logs one line.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	for _, hosts := range []int{1, 12} {
		t.Run(fmt.Sprintf("%d hosts", hosts), func(t *testing.T) {
			t.Parallel()
			var addrs []string
			for range hosts {
				listener, err := net.Listen("tcp", "127.0.0.1:0") // only the kernel accepts
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = listener.Close() })
				addrs = append(addrs, listener.Addr().String())
			}
			f := servertest.StartWith(t, nil, func(s *config.Settings) {
				s.RedisURL = "redis://" + strings.Join(addrs, ",")
				s.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
			})
			client := f.Shopper(servertest.Pat)
			for _, when := range []string{"the click that finds out", "the next", "one that tries it again"} {
				if when == "one that tries it again" {
					f.Clock.Add(2 * time.Second)
				}
				begun := time.Now()
				if got := f.Click(client, "/apps/subscriptions").Outcome(); got != "redirected" {
					t.Errorf("%s = %s; want redirected", when, got)
				}
				if took := time.Since(begun); took > 4*time.Second {
					t.Errorf("%s took %v; want half a second of waiting at most", when, took)
				}
			}
			if n := len(f.Log.Lines("cannot reach Redis; clicks go on without it")); n != 1 {
				t.Errorf("the log says %d times that Redis hangs; want 1", n)
			}
		})
	}
}

// TestKeyRotation: entries cached under the old key are still used.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	const key1, key2 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := servertest.Start(t, func(s *config.Settings) { s.EncryptionKey = key1 })
	query := func() string {
		return f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	}
	f.Request("GET", f.Public, "/apps/subscriptions?"+query())
	f.Stop()
	f.Run(func(s *config.Settings) { s.EncryptionKey = key2 + "," + key1 })
	f.Calls()
	response, _ := f.Request("GET", f.Public, "/apps/subscriptions?"+query())
	if calls := f.Calls(); response.StatusCode != http.StatusFound || len(calls) != 0 {
		t.Errorf("a warm click after the rotation = %d with calls %v; want 302 with none", response.StatusCode, calls)
	}
}

// TestEmbeddedRedis runs the one store without REDIS_URL.
func TestEmbeddedRedis(t *testing.T) {
	t.Parallel()
	f := servertest.StartWith(t, nil)
	client := f.Shopper(servertest.Pat)
	for range 2 {
		if got := f.Click(client, "/apps/subscriptions").Outcome(); got != "redirected" {
			t.Errorf("click = %s; want redirected", got)
		}
	}
	if calls := f.Calls(); calls["customers"] != 1 || calls["sessions"] != 1 || calls["portal_access"] != 1 {
		t.Errorf("two clicks make calls %v; want one of each", calls)
	}
}

// TestEndsInOrder: the server first stops being ready, then answers running clicks, then ends.
func TestEndsInOrder(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Until("/readyz = 200", func() bool { // the addresses are known before everything has started
		response, _ := f.Request("GET", f.Ops, "/readyz")
		return response.StatusCode == 200
	})
	if response, _ := f.Request("GET", f.Ops, "/livez"); response.StatusCode != 200 {
		t.Errorf("/livez = %d; want 200", response.StatusCode)
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 200 * time.Millisecond })
	answered := make(chan string, 1)
	client := f.Shopper(servertest.Pat)
	go func() { answered <- f.Click(client, "/apps/subscriptions").Outcome() }()
	f.Until("the click has reached Recharge", func() bool { return len(f.Recharge.Requests()) > 0 })
	f.Stop()
	f.Until("it is draining", func() bool { return f.Log.Last("draining") != nil })
	if response, _ := f.Request("GET", f.Ops, "/readyz"); response.StatusCode != 503 {
		t.Errorf("/readyz while draining = %d; want 503", response.StatusCode)
	}
	if got := <-answered; got != "redirected" {
		t.Errorf("the click under way = %s; want redirected", got)
	}
	if err := <-f.Ended; err != nil {
		t.Errorf("Run = %v; want an orderly end", err)
	}
	f.Ended <- nil
	if _, err := http.Get("http://" + f.Public); err == nil {
		t.Error("the public listener still answers")
	}
}

package server_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestEvictingRedisIsRefused: Run refuses a Redis that could evict merchants' data.
func TestEvictingRedisIsRefused(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	for policy, refused := range map[string]bool{"allkeys-lru": true, "allkeys-random": true, "volatile-lru": false, "noeviction": false} {
		evicting := storetest.Redis(t, "--maxmemory-policy", policy)
		settings := f.Settings()
		servertest.ManyStores(&settings)
		settings.RedisURL = "redis://" + evicting.Addr
		cfg, err := settings.Check()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		listening := make(chan server.Addresses, 1)
		go func() {
			defer stop()
			select {
			case <-listening:
			case <-ctx.Done():
			}
		}()
		err = server.Run(ctx, cfg, server.Options{Log: slog.New(slog.DiscardHandler), Listening: listening})
		stop()
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), "maxmemory-policy") {
			t.Errorf("with %s Run = %v; want it refused: %v", policy, err, refused)
		}
	}
}

// TestRolledBackServers: a backup of Redis that is restored under two servers opens neither for a key
// that was revoked since nor for a store that was disconnected since, until its merchant connects again.
func TestRolledBackServers(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	servers := f.Second(servertest.ManyStores)
	key := f.MakeKey(servertest.Shop, "Hydrogen")
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	record := "ms2:{" + servertest.Shop + "}:shop"
	backup := client.Get(t.Context(), record).Val()
	restore := func() {
		if err := client.Set(t.Context(), record, backup, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	everywhere := func(when, hash string, status int) {
		t.Helper()
		for i, server := range servers {
			f.Ask(server)
			if got := f.PostLink(key, servertest.ByShopifyID(servertest.Pat)).Status; got != status {
				t.Errorf("%s: server %d answers the key with %d; want %d", when, i, got, status)
			}
			if got := f.LinkedHash(servertest.Pat); got != hash {
				t.Errorf("%s: a click at server %d ends in %q; want %q", when, i, got, hash)
			}
		}
	}
	const pats = "1f2e3d4c5b6a7988"
	everywhere("before", pats, http.StatusOK)
	f.RevokeKey(servertest.Shop, "Hydrogen")
	everywhere("revoked", pats, http.StatusForbidden)
	restore()
	everywhere("the key restored", pats, http.StatusForbidden)
	if lines := f.Log.Lines("Redis was rolled back: see docs/redis.md"); len(lines) != 1 || lines[0]["shop"] != servertest.Shop {
		t.Errorf("logged %v; want it once, with the store", lines)
	}
	if _, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Errorf("disconnect: %s", body)
	}
	everywhere("disconnected", "not_connected", http.StatusForbidden)
	restore()
	everywhere("the store restored", "not_connected", http.StatusForbidden)
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("the app home reads %s; want not connected", body)
	}
	f.Connect()
	everywhere("connected again", pats, http.StatusForbidden)
}

// TestRekey: data that the old key sealed is found with the new key alone.
func TestRekey(t *testing.T) {
	t.Parallel()
	const newKey = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := servertest.Connected(t)
	f.Stop()
	settings := f.Settings()
	servertest.ManyStores(&settings)
	settings.EncryptionKey = newKey + "," + servertest.EncryptionKey
	cfg, err := settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := server.Rekey(t.Context(), cfg, &out); err != nil || !strings.Contains(out.String(), "the records of 1 stores") {
		t.Errorf("rekey = %v %q; want one shop", err, &out)
	}
	f.Run(servertest.ManyStores, func(s *config.Settings) { s.EncryptionKey = newKey })
	f.Calls()
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click with the new key = %q; want pat's portal", got)
	}
	if calls := f.Calls(); calls["customers"]+calls["sessions"] != 0 {
		t.Errorf("that click makes calls %v; want pat known", calls)
	}
}

// TestManyStoresWithoutRedis: without Redis, a server for many stores stays alive and ready. Shoppers of a store whose
// record it has read reach the portal, and those of another store are asked to try again, until Redis is back.
func TestManyStoresWithoutRedis(t *testing.T) {
	t.Parallel()
	f := servertest.StartWith(t, storetest.Redis(t, "--appendonly", "yes"), servertest.ManyStores)
	f.Connect()
	other := shopifytest.NewServer(shopifytest.Options{Shop: "other-shop.myshopify.com", Now: f.Clock.Now})
	defer other.Close()
	f.SaveElsewhere(store.Connection{Shop: "other-shop.myshopify.com", APIToken: "sk_test_other", SavedAt: f.Clock.Now()})
	f.Redis.Stop()
	// A visitor who is not signed in is sent to the sign-in of a store that is known.
	visit := func(shop *shopifytest.Server, customer string) string {
		response, body := f.Request("GET", f.Public, "/apps/subscriptions?"+shop.SignedQuery("", customer, "/apps/subscriptions", servertest.AppSecret))
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return regexp.MustCompile(`data-outcome="(\w*)"`).FindString(body)
	}
	check := func(when, read, unread string) {
		t.Helper()
		for _, probe := range []string{"/livez", "/readyz"} {
			if status, _ := fetch(t, f.Ops, probe); status != http.StatusOK {
				t.Errorf("%s: %s = %d; want 200", when, probe, status)
			}
		}
		if got := visit(f.Store, servertest.Pat); got != read {
			t.Errorf("%s: a click at the store whose record was read = %s; want %s", when, got, read)
		}
		if got := visit(other, ""); got != unread {
			t.Errorf("%s: a click at the store whose record was not read = %s; want %s", when, got, unread)
		}
	}
	const found, tryAgain = "302 Found", `data-outcome="unavailable"`
	check("Redis is gone", found, tryAgain)
	f.Until("the metrics show that Redis is gone", func() bool {
		_, scraped := fetch(t, f.Ops, "/metrics")
		return strings.Contains(scraped, "\nmanage_subscriptions_redis_up 0\n") && strings.Contains(scraped, "\nmanage_subscriptions_ready 1\n")
	})
	f.Restart(func() {}, servertest.ManyStores)
	f.Until("the new server is ready", func() bool { status, _ := fetch(t, f.Ops, "/readyz"); return status == http.StatusOK })
	check("a server that started since", tryAgain, tryAgain)
	f.Redis.Start()
	f.Until("Redis is in use again", func() bool {
		f.Clock.Add(2 * time.Second)
		return visit(other, "") == found
	})
	check("Redis is back", found, found)
}

package server_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/servertest"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/server"
)

// TestEvictingRedisIsRefused: Run refuses a Redis that could evict merchants' data.
func TestEvictingRedisIsRefused(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	for policy, refused := range map[string]bool{"allkeys-lru": true, "allkeys-random": true, "volatile-lru": false, "noeviction": false} {
		redis := storetest.Redis(t, "--maxmemory-policy", policy)
		settings := f.Settings()
		servertest.ManyStores(&settings)
		settings.RedisURL = "redis://" + redis.Addr
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

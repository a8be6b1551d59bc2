package store

import (
	"context"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// newEmbedded returns a Redis inside this process, in which keys expire until ctx ends. It does not
// listen; the client reaches it through a pipe.
func newEmbedded(ctx context.Context) (*miniredis.Miniredis, *redis.UniversalOptions) {
	server := miniredis.NewMiniRedis()
	// miniredis could make keys expire itself, but would then go through all keys at every command.
	go func() {
		for last := time.Now(); recharge.Wait(ctx, time.Second); {
			now := time.Now()
			server.FastForward(now.Sub(last))
			last = now
		}
	}()
	return server, &redis.UniversalOptions{
		Addrs:  []string{"embedded:0"},
		Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
	}
}

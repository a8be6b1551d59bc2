package server

import (
	"crypto/tls"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/config"
)

// redisOptions are nil for the embedded Redis.
func redisOptions(r *config.Redis, n Network) *redis.UniversalOptions {
	if r == nil {
		return nil
	}
	o := &redis.UniversalOptions{
		Addrs:      r.Addrs,
		MasterName: r.MasterName,

		IsClusterMode: r.Cluster,
		Username:      r.Username,
		Password:      r.Password.Reveal(),
		DB:            r.DB,
		Dialer:        n.Dial,

		SentinelUsername: r.SentinelUsername,
		SentinelPassword: r.SentinelPassword.Reveal(),
	}
	if r.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o
}

package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pool is how the connections to Redis stand.
type Pool = redis.PoolStats

// Pool tells how the connections to Redis stand.
func (s *Store) Pool() Pool { return *s.redis.PoolStats() }

// Ping tells how long Redis takes to answer.
func (s *Store) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.redis.Ping(ctx).Err()
	return time.Since(start), err
}

// Reachable tells whether the last that was asked of Redis was answered. It asks
// nothing.
func (s *Store) Reachable() bool { return s.reach.up() }

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

// Ping tells how long Redis takes to answer, and has as much patience as a click.
// It is a try like a click's: a server that nobody clicks on finds out by it.
func (s *Store) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.redis.Ping(within).Err()
	if ctx.Err() == nil {
		s.reach.report(ctx, err)
	}
	return time.Since(start), err
}

// Reachable tells whether the last that was asked of Redis was answered. It asks
// nothing.
func (s *Store) Reachable() bool { return s.reach.up() }

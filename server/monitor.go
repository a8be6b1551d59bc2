package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/server/metrics"
)

const (
	// watching is how often Redis is asked how it does and how far the indexes are:
	// a scrape then waits for nothing.
	watching = 15 * time.Second
	// watchPatience bounds one such look.
	watchPatience = 5 * time.Second
)

// monitor is what a look has seen, for the scrapes until the next. The zero
// value is that nobody has looked.
type monitor struct{ last atomic.Pointer[look] }

type look struct {
	ping    time.Duration
	up      bool
	indexes []metrics.Index
}

func (m *monitor) read() look {
	if last := m.last.Load(); last != nil {
		return *last
	}
	return look{}
}

// watch looks after Redis and the indexes, for the metrics.
func (s *server) watch(ctx context.Context) {
	ticker := time.NewTicker(watching)
	defer ticker.Stop()
	for {
		last := s.look(ctx)
		s.monitor.last.Store(&last)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *server) look(ctx context.Context) look {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	var found look
	var err error
	before := s.monitor.read().indexes
	if found.ping, err = s.store.Ping(ctx); err != nil {
		found.indexes = before
		return found
	}
	found.up = true
	if s.importer == nil {
		return found
	}
	for shop := range s.merchants.All() {
		index, err := s.store.Import(ctx, shop)
		if err != nil {
			found.indexes = before // some of them would look as if the others were lost
			break
		}
		found.indexes = append(found.indexes, metrics.Index{
			Customers: index.Size, Done: index.Done, Running: index.Running, Read: index.Customers, Stuck: index.Problem != "",
		})
	}
	return found
}

// state is how things stand, for a scrape. It waits for nothing.
func (s *server) state() metrics.State {
	last := s.monitor.read()
	state := metrics.State{
		Ready: s.health.Ready(), Servers: s.store.Instances(), Tripped: map[string]int{},
		RedisUp: last.up && s.store.Reachable(), RedisPing: last.ping, RedisPool: pool(s.store.Client().PoolStats()),
		Indexes: last.indexes, Now: s.now(),
	}
	for _, merchant := range s.merchants.All() {
		limiter := merchant.Client.Limiter()
		state.Budgets = append(state.Budgets, limiter.Budget())
		for _, endpoint := range recharge.Endpoints() {
			if limiter.CircuitOpen(endpoint) {
				state.Tripped[endpoint]++
			}
		}
	}
	return state
}

func pool(p *redis.PoolStats) metrics.Pool {
	return metrics.Pool{Connections: p.TotalConns, Idle: p.IdleConns, Hits: p.Hits, Misses: p.Misses, Timeouts: p.Timeouts}
}

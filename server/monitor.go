package server

import (
	"context"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/server/metrics"
	"manage-subscriptions/store"
)

const (
	// monitorEvery is how often Redis is pinged and the imports are read.
	monitorEvery = 15 * time.Second
	// monitorTimeout bounds one round.
	monitorTimeout = 5 * time.Second
)

// observation is the result of the monitor's last round. The zero value says that
// there was none.
type observation struct {
	ping    time.Duration
	up      bool
	imports []store.Import
}

func (s *server) lastObservation() observation {
	if last := s.observed.Load(); last != nil {
		return *last
	}
	return observation{}
}

// observe reads what a scrape must not wait for. It keeps the imports of the last round if
// it cannot read them all. A part of them would look as if the others were lost.
func (s *server) observe(ctx context.Context) *observation {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	now := &observation{imports: s.lastObservation().imports}
	var err error
	if now.ping, err = s.store.Ping(ctx); err != nil {
		return now
	}
	now.up = true
	if s.importer == nil {
		return now
	}
	var imports []store.Import
	for shop := range s.merchants.All() {
		state, err := s.store.Import(ctx, shop)
		if err != nil {
			return now
		}
		imports = append(imports, state)
	}
	now.imports = imports
	return now
}

// State returns what a scrape reports. It waits for nothing.
func (s *server) State() metrics.State {
	last := s.lastObservation()
	state := metrics.State{
		Ready: s.health.Ready(), Servers: s.store.Instances(), OpenCircuits: map[string]int{},
		RedisUp: last.up && s.store.Reachable(), RedisPing: last.ping, RedisPool: *s.store.Client().PoolStats(),
		Imports: last.imports, Now: s.now(),
	}
	for _, merchant := range s.merchants.All() {
		limiter := merchant.Client.Limiter()
		state.Budgets = append(state.Budgets, limiter.Budget())
		for _, endpoint := range recharge.Endpoints() {
			if limiter.CircuitOpen(endpoint) {
				state.OpenCircuits[endpoint]++
			}
		}
	}
	return state
}

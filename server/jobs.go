package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/server/metrics"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// maintainEvery is how often maintain goes through all shops, to keep their webhooks at Recharge
// registered, to import shops that were never imported, and to detect shops' traits again.
const maintainEvery = time.Hour

// checkRedis returns an error if Redis could evict what merchants have saved. It logs if Redis could
// lose it in another way, or runs no scripts. If Redis is down at the start, it is checked when it is
// back. In one-store mode merchants save nothing. The check also opens a connection for the first
// click, since with TLS that can take longer than a click waits.
func (s *server) checkRedis(ctx context.Context) error {
	if s.checked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	condition, err := doctor.CheckRedis(ctx, s.store)
	many := s.merchants.Own() == ""
	switch {
	case errors.Is(err, store.ErrNoEval):
		s.Log.Error("REDIS_URL: " + store.ErrNoEval.Error())
		err = nil
	case errors.Is(err, doctor.ErrEvicting) && many:
		return fmt.Errorf("REDIS_URL: %w: what merchants have saved could be dropped", err)
	case errors.Is(err, doctor.ErrEvicting):
		err = nil // it is among the warnings
	}
	s.checking.report(err)
	s.checked = err == nil
	for _, warning := range condition.Warnings {
		if many || !warning.Merchants {
			s.Log.Warn("REDIS_URL: " + warning.Text)
		}
	}
	return nil
}

// startJobs starts the background jobs, which run until ctx ends. They call fail if the server must
// stop.
func (s *server) startJobs(ctx context.Context, fail context.CancelCauseFunc) *sync.WaitGroup {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.flush(ctx, fail) })
	jobs.Go(func() { s.maintain(ctx) })
	if s.merchant.Notifier != nil {
		jobs.Go(func() { s.report(ctx) })
	}
	if !s.NoLook {
		for range 4 { // one store can take a minute
			jobs.Go(func() { s.merchant.Watch(ctx) })
		}
	}
	jobs.Go(func() { every(ctx, 15*time.Second, func() { s.observed.Store(s.observe(ctx)) }) })
	if s.importer != nil {
		jobs.Go(func() { s.importer.Run(ctx) })
	}
	return &jobs
}

// every runs a task at once and after each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, task func()) {
	for ctx.Err() == nil {
		task()
		recharge.Wait(ctx, interval)
	}
}

// flush writes the counters to Redis, and makes this instance known to the others, so that each can
// take its share of a token's calls if Redis fails. It also adopts the cache and checks Redis, if that
// failed at the start.
func (s *server) flush(ctx context.Context, fail context.CancelCauseFunc) {
	writing := logOnce{log: s.Log, what: "write the counters"}
	every(ctx, time.Second, func() {
		writing.report(s.store.Flush(ctx))
		_ = s.store.CountInstances(ctx, false) // if it fails, the last count stays in use
		s.adopted = s.adopted || s.store.Adopt(ctx) == nil
		if err := s.checkRedis(ctx); err != nil {
			fail(err)
		}
	})
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	writing.report(s.store.Flush(last))
	_ = s.store.CountInstances(last, true) // if it fails, this instance is counted a little longer
}

// maintain imports every shop that was never imported. It keeps webhooks registered, since Recharge
// deletes a webhook after two days of failures, and detects the shops' traits again. It also reads every
// shop's record, so that a first click need not. Every instance runs it, but only one claims what is due.
func (s *server) maintain(ctx context.Context) {
	every(ctx, maintainEvery, func() {
		if err := s.merchant.Maintain(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "maintenance of all shops not finished", "cause", err)
		}
	})
}

// report sends the notices of all shops that are due. Mail servers can be slow, so nothing else waits for it.
func (s *server) report(ctx context.Context) {
	every(ctx, maintainEvery, func() {
		if err := s.merchant.Report(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "not all notices sent", "cause", err)
		}
	})
}

// observe reads what a scrape must not wait for. If it cannot read all imports, it keeps those of
// the last round, because a part of them would look as if the others were lost.
func (s *server) observe(ctx context.Context) *metrics.State {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	now := &metrics.State{Imports: s.observed.Load().Imports}
	var err error
	if now.RedisPing, err = s.store.Ping(ctx); err != nil {
		return now
	}
	now.RedisUp = true
	if s.importer == nil {
		return now
	}
	imports := map[shopify.Shop]store.Import{}
	for shop := range s.merchants.All() {
		state, err := s.store.Import(ctx, shop)
		if err != nil {
			return now
		}
		imports[shop] = state
	}
	now.Imports = imports
	return now
}

// State returns what a scrape reports. It waits for nothing.
func (s *server) State() metrics.State {
	state := *s.observed.Load()
	state.Ready, state.Now = s.ready.Load(), s.Now()
	state.Servers, state.RedisPool = s.store.Instances(), *s.store.Client().PoolStats()
	state.RedisUp = state.RedisUp && s.store.Reachable() && s.store.Writable()
	state.OpenCircuits, state.Budgets = map[string]int{}, map[shopify.Shop]recharge.Budget{}
	for shop, merchant := range s.merchants.All() {
		limiter := merchant.Client.Limiter()
		state.Budgets[shop] = limiter.Budget()
		if slices.ContainsFunc(merchant.Campaigns, func(c store.Campaign) bool { // one for renewals has no end
			return c.Audience != store.Renewals && !state.Now.Before(c.StartsAt) && !c.Over(state.Now)
		}) {
			state.InCampaign++
		}
		for _, endpoint := range recharge.Endpoints() {
			if limiter.CircuitOpen(endpoint) {
				state.OpenCircuits[endpoint]++
			}
		}
	}
	return state
}

// Connected reports whether a shop is connected, as far as this process has looked it up.
func (s *server) Connected(shop shopify.Shop) bool { return s.merchants.Known(shop) }

package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"manage-subscriptions/doctor"
	"manage-subscriptions/store"
)

const (
	// flushEvery is how often counters are written.
	flushEvery = time.Second
	// countEvery is how often the instances count each other.
	countEvery = 5 * time.Second
	// maintainEvery is how often all shops are visited, to keep their webhooks at Recharge
	// registered and to import those that never were.
	maintainEvery = time.Hour
	// startTimeout bounds the questions to Redis at the start.
	startTimeout = 3 * time.Second
)

// checkRedis refuses a Redis that could drop what merchants have saved. It warns of one
// that could lose it, or that runs no scripts. A Redis that is down at the start is
// checked when it is back. In one-store mode merchants save nothing.
func (s *server) checkRedis(ctx context.Context) error {
	if s.checked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	condition, err := doctor.CheckRedis(ctx, s.store)
	if errors.Is(err, store.ErrNoEval) {
		s.log.Error("REDIS_URL: " + store.ErrNoEval.Error())
		err = nil
	}
	many := s.merchants.Own() == ""
	if !many && errors.Is(err, doctor.ErrEvicting) {
		err = nil // it is among the warnings
	}
	if errors.Is(err, doctor.ErrEvicting) {
		return fmt.Errorf("REDIS_URL: %w: what merchants have saved could be dropped", err)
	}
	s.checking.report(err)
	s.checked = err == nil
	for _, warning := range condition.Warnings {
		if many || !warning.Merchants {
			s.log.Warn("REDIS_URL: " + warning.Text)
		}
	}
	return nil
}

// reachRedis opens a connection for the first click. With TLS that can take longer than a
// click waits. It also reads or makes the record of the one store.
func (s *server) reachRedis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = s.store.CountInstances(ctx, false) // if Redis is down, the jobs try again
	s.adopted = s.store.Adopt(ctx) == nil
}

// startJobs starts the background jobs, which run until ctx ends. An error on unfit is why
// the server must end.
func (s *server) startJobs(ctx context.Context, unfit chan<- error) *sync.WaitGroup {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.flush(ctx, unfit) })
	jobs.Go(func() { s.count(ctx) })
	jobs.Go(func() { s.maintain(ctx) })
	jobs.Go(func() { every(ctx, monitorEvery, func() { s.observed.Store(s.observe(ctx)) }) })
	if s.importer != nil {
		jobs.Go(func() { s.importer.Run(ctx) })
	}
	return &jobs
}

// every runs a task at once and after each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, task func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		task()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// lastContext is for what a job does after its context has ended.
func lastContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Second)
}

// flush writes the counters. It also adopts the cache and checks Redis, if that failed at
// the start.
func (s *server) flush(ctx context.Context, unfit chan<- error) {
	writing := logOnce{log: s.log, what: "write the counters"}
	var once sync.Once
	every(ctx, flushEvery, func() {
		writing.report(s.store.Flush(ctx))
		s.adopted = s.adopted || s.store.Adopt(ctx) == nil
		if err := s.checkRedis(ctx); err != nil {
			once.Do(func() { unfit <- err })
		}
	})
	last, cancel := lastContext(ctx)
	defer cancel()
	writing.report(s.store.Flush(last))
}

// count makes this instance known to the others. If Redis fails, each takes its share of
// a token's calls. An error does not matter: the last count holds, or this instance is
// counted a little longer.
func (s *server) count(ctx context.Context) {
	every(ctx, countEvery, func() { _ = s.store.CountInstances(ctx, false) })
	last, cancel := lastContext(ctx)
	defer cancel()
	_ = s.store.CountInstances(last, true)
}

// maintain imports every shop that never was, and keeps webhooks registered. Recharge
// deletes a webhook after two days of failures. It also reads every shop's record, so that
// a first click need not.
func (s *server) maintain(ctx context.Context) {
	first := true
	every(ctx, maintainEvery, func() {
		if err := s.maintainOnce(ctx, first); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "maintenance of all shops not ended", "cause", err)
		}
		first = false
	})
}

// maintainOnce runs on one of several instances, and after every start.
func (s *server) maintainOnce(ctx context.Context, first bool) error {
	if s.merchants.Own() == "" && !first {
		locked, err := s.store.LockMaintenance(ctx, maintainEvery-time.Minute)
		if err != nil || !locked {
			return err
		}
	}
	return s.merchant.Maintain(ctx)
}

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
	// beat is how often counters are written.
	beat = time.Second
	// counting is how often the instances count each other.
	counting = 5 * time.Second
	// maintenance is how often all shops are gone through: whose webhooks at Recharge are
	// to be looked at, and who was never imported.
	maintenance = time.Hour
	// startTimeout is how long the start waits for Redis to say what it is like.
	startTimeout = 3 * time.Second
)

// checkRedis refuses a Redis that could drop what merchants have saved, and warns of one
// that could lose it, or that runs no scripts. One that is down at the start may be back
// later: it is looked at then. In one-store mode merchants save nothing.
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
	warnings := condition.Erased
	if s.merchants.Own() == "" {
		warnings = append(warnings, condition.Saved...)
	} else if errors.Is(err, doctor.ErrEvicting) {
		err = nil // it is among the warnings
	}
	if errors.Is(err, doctor.ErrEvicting) {
		return fmt.Errorf("REDIS_URL: %w: what merchants have saved could be dropped", err)
	}
	s.checking.report(err)
	s.checked = err == nil
	for _, warning := range warnings {
		s.log.Warn("REDIS_URL: " + warning)
	}
	return nil
}

// reachRedis has a connection ready for the first click: with TLS to make one can take
// longer than a click waits. It also reads, or makes, the record of the one store.
func (s *server) reachRedis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, counting/5)
	defer cancel()
	_ = s.store.CountInstances(ctx, false) // one that is down is like one that goes down later
	s.adopted = s.store.Adopt(ctx) == nil
}

// startJobs starts what is done beside the clicks, until ctx ends. What is sent on unfit
// is why the server must end.
func (s *server) startJobs(ctx context.Context, unfit chan<- error) *sync.WaitGroup {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.flush(ctx, unfit) })
	jobs.Go(func() { s.count(ctx) })
	jobs.Go(func() { s.maintain(ctx) })
	jobs.Go(func() { s.monitor(ctx) })
	if s.importer != nil {
		jobs.Go(func() { s.importer.Run(ctx) })
	}
	return &jobs
}

// flush writes the counters, and goes on asking a Redis that did not say what it is like.
func (s *server) flush(ctx context.Context, unfit chan<- error) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	writing := logOnce{log: s.log, what: "write the counters"}
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			writing.report(s.store.Flush(last))
			cancel()
			return
		case <-ticker.C:
			writing.report(s.store.Flush(ctx))
		}
		s.adopted = s.adopted || s.store.Adopt(ctx) == nil
		if err := s.checkRedis(ctx); err != nil {
			unfit <- err
			return
		}
	}
}

// count tells the other instances that this one is there: should Redis go, each takes its
// share of a token's calls.
func (s *server) count(ctx context.Context) {
	ticker := time.NewTicker(counting)
	defer ticker.Stop()
	for {
		_ = s.store.CountInstances(ctx, false) // the last count holds
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.store.CountInstances(last, true) // if this is not heard, it is forgotten in a while
			return
		case <-ticker.C:
		}
	}
}

// maintain has every shop imported that never was, and looks whether Recharge still tells
// what changes: it deletes webhooks that nobody has answered for two days. It also reads
// every shop's record, so that a first click need not.
func (s *server) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintenance)
	defer ticker.Stop()
	for first := true; ; first = false {
		if err := s.maintainOnce(ctx, first); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "maintenance of all shops not ended", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// maintainOnce is for one of several instances, but after a start.
func (s *server) maintainOnce(ctx context.Context, first bool) error {
	if s.merchants.Own() == "" && !first {
		mine, err := s.store.LockMaintenance(ctx, maintenance-time.Minute)
		if err != nil || !mine {
			return err
		}
	}
	return s.admin.Maintain(ctx)
}

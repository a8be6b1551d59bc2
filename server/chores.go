package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// beat is how often what is ordered is looked at, and numbers are written.
	beat = time.Second
	// counting is how often the servers count each other.
	counting = 5 * time.Second
	// round is how often it is asked whose webhooks at Recharge are to be looked at.
	round = time.Hour
	// startPatience is how long the start waits for Redis to say what it is like.
	startPatience = 3 * time.Second
)

// wakeUp has what is ordered done at once.
func (s *server) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// checkRedis refuses a Redis that could drop what merchants have saved, and warns
// of one that could lose it. One that is down at the start may be back later: it
// is looked at then.
func (s *server) checkRedis(ctx context.Context) error {
	if s.checked || s.shops.Own != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	condition, err := s.store.Check(ctx)
	if errors.Is(err, store.ErrEvicting) {
		return fmt.Errorf("REDIS_URL: %w: what merchants have saved could be dropped", err)
	}
	s.checking.report(err)
	s.checked = err == nil
	for _, warning := range condition.Warnings {
		s.log.Warn("REDIS_URL: " + warning)
	}
	return nil
}

// reachRedis has a connection ready for the first click: with TLS to make one can
// take longer than a click waits.
func (s *server) reachRedis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, counting/5)
	defer cancel()
	_ = s.store.CountSharers(ctx) // one that is down is like one that goes down later
}

// startChores starts what is done beside the clicks, until ctx ends. What is sent
// on unfit is why the server must end.
func (s *server) startChores(ctx context.Context, unfit chan<- error) *sync.WaitGroup {
	var chores sync.WaitGroup
	chores.Go(func() { s.work(ctx, unfit) })
	chores.Go(func() { s.count(ctx) })
	chores.Go(func() { s.rounds(ctx) })
	chores.Go(func() { s.watch(ctx) })
	if s.indexer != nil {
		chores.Go(func() { s.indexer.Run(ctx); s.indexer.Wait() })
	}
	return &chores
}

// work does what is ordered and writes the numbers. What it does not get done is
// still ordered when the next server starts.
func (s *server) work(ctx context.Context, unfit chan<- error) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	working := trouble{log: s.log, what: "do what is ordered"}
	writing := trouble{log: s.log, what: "write the numbers"}
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			writing.report(s.store.Flush(last))
			cancel()
			return
		case <-ticker.C:
			writing.report(s.store.Flush(ctx))
		case <-s.wake:
		}
		working.report(s.store.Work(ctx))
		if err := s.checkRedis(ctx); err != nil {
			unfit <- err
			return
		}
	}
}

// count tells the other servers that this one is there: should Redis go, each
// takes its share of a token's calls.
func (s *server) count(ctx context.Context) {
	ticker := time.NewTicker(counting)
	defer ticker.Stop()
	for {
		_ = s.store.CountSharers(ctx) // the last count holds
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.store.Leave(last) // if this is not heard, it is forgotten in a while
			return
		case <-ticker.C:
		}
	}
}

// learn has somebody asked for whom a webhook was about, beside the clicks.
func (s *server) learn(shop shopify.Shop, change store.Change) {
	if s.indexer != nil {
		s.indexer.Learn(s.beside, shop, change)
	}
}

// rounds has every shop swept that is not, and looks whether Recharge still tells what changes: it deletes webhooks that
// nobody has answered for two days.
func (s *server) rounds(ctx context.Context) {
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for first := true; ; first = false {
		if err := s.goRound(ctx, first); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "round of all shops not ended", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// goRound is for one of several servers, but after a start: to find all shops it
// goes through all that Redis holds.
func (s *server) goRound(ctx context.Context, first bool) error {
	if s.shops.Own == "" && !first {
		mine, err := s.store.TakeRound(ctx, round-time.Minute)
		if err != nil || !mine {
			return err
		}
	}
	return s.admin.Round(ctx)
}

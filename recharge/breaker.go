package recharge

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter is how many calls in a row may fail before an endpoint's circuit opens.
	tripAfter = 5
	// tripFor is how long it stays open. Then one call tries the endpoint for all.
	tripFor = 5 * time.Second
)

// breakers keep clicks from waiting for endpoints that are dead. There is one for
// each endpoint. The zero value is ready for use.
type breakers struct {
	mu  sync.Mutex
	all map[string]*gobreaker.TwoStepCircuitBreaker[any]
}

func (b *breakers) of(endpoint string) *gobreaker.TwoStepCircuitBreaker[any] {
	b.mu.Lock()
	defer b.mu.Unlock()
	breaker := b.all[endpoint]
	if breaker != nil {
		return breaker
	}
	if b.all == nil {
		b.all = map[string]*gobreaker.TwoStepCircuitBreaker[any]{}
	}
	breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Timeout:      tripFor,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		IsSuccessful: func(err error) bool { return !dead(err) },
		IsExcluded:   func(err error) bool { return Is(err, Cancelled) },
	})
	b.all[endpoint] = breaker
	return breaker
}

// CircuitOpen reports whether an endpoint is not called at present because its last
// calls have failed. There is no point in reserving calls for it.
func (l *Limiter) CircuitOpen(endpoint string) bool {
	return l.breakers.of(endpoint).State() == gobreaker.StateOpen
}

package recharge

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter is how many calls in a row may fail before Recharge is left alone.
	tripAfter = 5
	// tripFor is how long. Then one call tries it for all.
	tripFor = 5 * time.Second
)

// breakers keep clicks from waiting for an endpoint of Recharge that is dead. The
// zero value is ready.
type breakers struct {
	mu  sync.Mutex
	all map[string]*gobreaker.TwoStepCircuitBreaker[any]
}

func (b *breakers) of(endpoint string) *gobreaker.TwoStepCircuitBreaker[any] {
	b.mu.Lock()
	defer b.mu.Unlock()
	breaker := b.all[endpoint]
	if breaker == nil {
		breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Timeout:      tripFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return err == nil },
		})
		if b.all == nil {
			b.all = map[string]*gobreaker.TwoStepCircuitBreaker[any]{}
		}
		b.all[endpoint] = breaker
	}
	return breaker
}

// open tells whether calls of the endpoint are not made at present.
func (b *breakers) open(endpoint string) bool {
	return b.of(endpoint).State() == gobreaker.StateOpen
}

// try lets a call through, or not. What it returns is to be told how that ended.
func (b *breakers) try(endpoint string) (done func(*Error), ok bool) {
	tell, err := b.of(endpoint).Allow()
	if err != nil {
		return nil, false
	}
	return func(failed *Error) {
		if failed != nil && failed.dead() {
			tell(errDead)
		} else {
			tell(nil)
		}
	}, true
}

var errDead = errors.New("no answer that says anything")

// dead tells the failures that the next call will most likely share, too.
func (e *Error) dead() bool {
	switch e.Reason {
	case Unreachable, TooSlow, Unavailable, Malformed:
		return true
	}
	return false
}

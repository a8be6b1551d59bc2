package recharge

import (
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter is how many calls in a row may fail before an endpoint's circuit opens.
	tripAfter = 5
	// tripFor is how long it stays open. After that a single call tries the endpoint.
	tripFor = 5 * time.Second
)

// breakers keep clicks from waiting for endpoints that are dead. Each endpoint has one.
type breakers map[string]*gobreaker.TwoStepCircuitBreaker[any]

func newBreakers() breakers {
	all := breakers{}
	for _, endpoint := range Endpoints() {
		all[endpoint] = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Timeout:      tripFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !dead(err) },
			IsExcluded:   func(err error) bool { return Is(err, Cancelled) },
		})
	}
	return all
}

// CircuitOpen reports whether an endpoint is not called for now because its last calls have failed.
// Reserving calls for it would be pointless.
func (l *Limiter) CircuitOpen(endpoint string) bool {
	return l.breakers[endpoint].State() == gobreaker.StateOpen
}

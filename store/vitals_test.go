package store_test

import (
	"testing"

	"manage-subscriptions/store/storetest"
)

// TestPingIsATry: a server that nobody clicks on finds out that Redis is gone, and
// that it is back.
func TestPingIsATry(t *testing.T) {
	server := storetest.Redis(t)
	s := open(t, on(several(newClock(), &logged{}), server))
	for _, up := range []bool{true, false, true} {
		if up && !server.Running() {
			server.Start()
		}
		if !up {
			server.Stop()
		}
		if _, err := s.Ping(t.Context()); (err == nil) != up || s.Reachable() != up {
			t.Errorf("Redis runs: %v; Ping = %v, Reachable() = %v", up, err, s.Reachable())
		}
	}
}

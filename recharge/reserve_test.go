package recharge

import (
	"context"
	"testing"
	"time"
)

// TestLastTurnsAreForLookups: a click goes on by hash without a session, but
// nowhere without knowing who the shopper is.
func TestLastTurnsAreForLookups(t *testing.T) {
	now := time.Unix(1735689600, 0)
	b := newBudget(2, 40, func() time.Time { return now })
	sessions, lookups := 0, 0
	for b.take(t.Context(), true) == "" {
		sessions++
	}
	for b.take(canceled(t), false) == "" {
		lookups++
	}
	if sessions != 31 || lookups != 9 {
		t.Errorf("%d optional calls, then %d others; want 31 and 9 of a burst of 40", sessions, lookups)
	}
	now = now.Add(6 * time.Second)
	if got := b.take(t.Context(), true); got != "" {
		t.Errorf("an optional call after 6s = %q; want it to go out", got)
	}
}

// canceled is a context in which nothing is waited for.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

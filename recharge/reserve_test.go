package recharge

import (
	"context"
	"maps"
	"testing"
	"time"
)

// TestLastTurnsAreForLookups: a click goes on by hash without a session, but
// nowhere without knowing who the shopper is; and no click waits for a theme's
// question.
func TestLastTurnsAreForLookups(t *testing.T) {
	now := time.Unix(1735689600, 0)
	b := newBudget(nil, 2, 40, Patience, func() time.Time { return now })
	take := func(ctx context.Context, of urgency) Reason {
		var ask Ask
		*ask.of(of) = 1
		_, err := b.take(ctx, nil, ask)
		return ReasonOf(err)
	}
	got := map[urgency]int{}
	for _, of := range []urgency{spare, helpful, needed} {
		for take(canceled(t), of) == "" {
			got[of]++
		}
	}
	if want := map[urgency]int{spare: 21, helpful: 10, needed: 9}; !maps.Equal(got, want) {
		t.Errorf("calls that went out, by urgency: %v; want %v of a burst of 40", got, want)
	}
	now = now.Add(6 * time.Second)
	if got := take(t.Context(), spare); got != OverBudget {
		t.Errorf("a spare call after 6s = %q; want %q", got, OverBudget)
	}
	if got := take(t.Context(), helpful); got != "" {
		t.Errorf("a helpful call after 6s = %q; want it to go out", got)
	}
	now = now.Add(6 * time.Second)
	if got := take(t.Context(), spare); got != "" {
		t.Errorf("a spare call after 12s = %q; want it to go out", got)
	}
}

// canceled is a context in which nothing is waited for.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

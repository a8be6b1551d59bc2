package recharge

import (
	"maps"
	"testing"
	"time"
)

// TestPriorities: a click can do without a session, but not without a lookup, and no click waits
// for a background call.
func TestPriorities(t *testing.T) {
	now := time.Unix(1735689600, 0)
	l := NewLimiter(2, 40, func() time.Time { return now })
	l.bucket.MaxWait = time.Nanosecond
	take := func(p Priority) Reason {
		var ask Ask
		ask[p] = 1
		_, err := l.Reserve(t.Context(), nil, ask)
		return ReasonOf(err)
	}
	got := map[Priority]int{}
	for _, p := range []Priority{Background, Normal, High} {
		for take(p) == "" {
			got[p]++
		}
	}
	if want := map[Priority]int{Background: 21, Normal: 10, High: 9}; !maps.Equal(got, want) {
		t.Errorf("calls granted, by priority: %v; want %v of a burst of 40", got, want)
	}
	now = now.Add(6 * time.Second)
	if got := take(Background); got != OverBudget {
		t.Errorf("a Background call after 6s = %q; want %q", got, OverBudget)
	}
	if got := take(Normal); got != "" {
		t.Errorf("a Normal call after 6s = %q; want it granted", got)
	}
	now = now.Add(6 * time.Second)
	if got := take(Background); got != "" {
		t.Errorf("a Background call after 12s = %q; want it granted", got)
	}
}

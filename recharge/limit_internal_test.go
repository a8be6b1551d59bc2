package recharge

import (
	"maps"
	"testing"
	"time"
)

// TestRateOf: the prefix of a token has the factors of its rate and of its burst. Anything else is an
// ordinary token.
func TestRateOf(t *testing.T) {
	type limit struct{ rate, burst float64 }
	usual := limit{2, 40}
	for token, want := range map[string]limit{
		"sk_1x1_a": usual, "sk_2x1_a": {4, 40}, "sk_5x2_a": {10, 80}, "sk_10x10_a": {20, 400}, "sk_99x99_a": {198, 3960}, "sk_5x2_": {10, 80},
		"": usual, "a": usual, "sk_a": usual, "sk_test_fixture": usual, "sk_x_a": usual, "sk_5x_a": usual, "sk_x2_a": usual, "sk_5x2": usual, "sk_5x2a": usual,
		"sk_0x1_a": usual, "sk_1x0_a": usual, "sk_-5x2_a": usual, "sk_5x-2_a": usual, "sk_100x2_a": usual, "sk_5x100_a": usual, "sk_5.5x2_a": usual,
		"sk_99999999999999999999x1_a": usual, "a_sk_5x2_a": usual, "SK_5x2_a": usual, "pk_5x2_a": usual, "sk_ax2_a": usual, "sk_5X2_a": usual, "sk_0x5x2_a": usual,
	} {
		if rate, burst := rateOf(token); (limit{rate, burst}) != want {
			t.Errorf("rateOf(%q) = %v, %v; want %v", token, rate, burst, want)
		}
	}
}

// TestPriorities: a click can do without a session, but not without a lookup, and no click waits
// for a background call.
func TestPriorities(t *testing.T) {
	now := time.Unix(1735689600, 0)
	l := NewLimiter("", 2, 40, func() time.Time { return now })
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

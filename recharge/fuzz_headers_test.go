package recharge

import (
	"math"
	"net/http"
	"testing"
	"time"
)

// FuzzHeaders: whatever Recharge's headers say of its limits, the budget stays
// within what is configured, and a pause is neither none nor for hours.
func FuzzHeaders(f *testing.F) {
	for _, limit := range []string{"", "/", "1/40", "40/40", "41/40", "-1/40", "1/0", "0/1", "1/-1", "1/2/3", " 1/40", "1e1/40", "9223372036854775807/9223372036854775807", "99999999999999999999/1", "+1/+40"} {
		f.Add(limit, "2")
	}
	for _, after := range []string{"", "0", "-1", "1", "60", "3600", "9223372036854775807", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", " 2"} {
		f.Add("1/40", after)
	}
	f.Fuzz(func(t *testing.T, limit, after string) {
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		b := newBudget(nil, 2, 40, time.Second, func() time.Time { return now })
		header := http.Header{"X-Recharge-Limit": {limit}, "Retry-After": {after}}
		b.follow(header)
		if b.bucket.Burst < 1 || b.bucket.Burst > 40 || b.seen < 0 || b.seen > b.bucket.Burst || b.level < b.seen || b.level > b.bucket.Burst || math.IsNaN(b.level) {
			t.Errorf("X-Recharge-Limit %q: burst %v, seen %v, level %v", limit, b.bucket.Burst, b.seen, b.level)
		}
		pause := retryAfter(header)
		if pause < time.Second || pause > longestPause {
			t.Errorf("Retry-After %q: a pause of %v", after, pause)
		}
		b.pause(t.Context(), pause)
		now = now.Add(pause + time.Minute)
		if !b.postpaid() && b.bucket.Burst >= 2 {
			t.Errorf("X-Recharge-Limit %q, Retry-After %q: no call a minute after the pause", limit, after)
		}
	})
}

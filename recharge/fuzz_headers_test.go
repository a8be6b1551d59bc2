package recharge

import (
	"math"
	"net/http"
	"testing"
	"time"
)

// FuzzHeaders: for any rate limit headers, the bucket stays within its configuration, and a pause
// lasts between a second and a minute.
func FuzzHeaders(f *testing.F) {
	for _, limit := range []string{"", "/", "1/40", "40/40", "41/40", "-1/40", "1/0", "0/1", "1/-1", "1/2/3", " 1/40", "1e1/40", "9223372036854775807/9223372036854775807", "99999999999999999999/1", "+1/+40"} {
		f.Add(limit, "2")
	}
	for _, after := range []string{"", "0", "-1", "1", "60", "3600", "9223372036854775807", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", " 2"} {
		f.Add("1/40", after)
	}
	f.Fuzz(func(t *testing.T, limit, after string) {
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		l := NewLimiter("", 2, 40, func() time.Time { return now })
		auto := NewLimiter("sk_5x2_fixture", 0, 0, l.now)
		header := http.Header{"X-Recharge-Limit": {limit}, "Retry-After": {after}}
		l.follow(header)
		if l.bucket.Burst < 1 || l.bucket.Burst > 40 || l.seen < 0 || l.seen > l.bucket.Burst || l.level < l.seen || l.level > l.bucket.Burst || math.IsNaN(l.level) {
			t.Errorf("X-Recharge-Limit %q: burst %v, seen %v, level %v", limit, l.bucket.Burst, l.seen, l.level)
		}
		auto.follow(header)
		if b := auto.bucket; b.Burst < 1 || b.Burst > 4000 || math.Abs(b.Rate-max(b.Burst/8, slowest)) > 1e-9 || auto.level > b.Burst {
			t.Errorf("X-Recharge-Limit %q of a token with a prefix: %+v, level %v", limit, b, auto.level)
		}
		pause := retryAfter(header)
		if pause < time.Second || pause > longestPause {
			t.Errorf("Retry-After %q: a pause of %v", after, pause)
		}
		l.pause(pause)
		if _, err := l.Reserve(t.Context(), nil, Ask{High: 1}); !Is(err, Limited) {
			t.Errorf("Retry-After %q: a call during the pause = %v; want %q", after, err, Limited)
		}
		now = now.Add(pause + time.Minute)
		if _, err := l.Reserve(t.Context(), nil, Ask{High: 1}); err != nil {
			t.Errorf("X-Recharge-Limit %q, Retry-After %q: no call a minute after the pause", limit, after)
		}
	})
}

package recharge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// patience is how long a call waits for its turn. A click that would wait
// longer goes on without the call.
const patience = time.Second

// budget keeps a token inside its leaky bucket, as far as this process spends it.
type budget struct {
	limiter *rate.Limiter
	reserve float64 // turns that are kept for calls a click cannot do without
	now     func() time.Time

	mu     sync.Mutex
	paused time.Time // no call before then
}

func newBudget(perSecond float64, burst int, now func() time.Time) *budget {
	return &budget{limiter: rate.NewLimiter(rate.Limit(perSecond), burst), reserve: float64(burst) / 4, now: now}
}

// take waits for the right to make one call. It returns the reason if there is
// none to be had in time. A call that a click can do without, as it can go on by
// hash, leaves the last turns to those who are not known yet.
func (b *budget) take(ctx context.Context, optional bool) Reason {
	now := b.now()
	if b.pausedAt(now) {
		return Limited
	}
	delay, ok := b.turn(now, optional)
	if !ok {
		return OverBudget
	}
	if delay > 0 && !wait(ctx, delay) {
		return TooSlow
	}
	if b.pausedAt(b.now()) { // a 429 came while this call was waiting
		return Limited
	}
	return ""
}

// turn reserves a turn, if one comes soon. It gives a late one back before
// anybody can reserve behind it: afterwards the limiter would not take it back.
func (b *budget) turn(now time.Time, optional bool) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if optional && b.limiter.TokensAt(now) < b.reserve {
		return 0, false
	}
	turn := b.limiter.ReserveN(now, 1)
	delay := turn.DelayFrom(now)
	if delay > patience {
		turn.CancelAt(now)
		return 0, false
	}
	return delay, true
}

func (b *budget) pausedAt(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.paused)
}

// pause holds all calls back after a 429.
func (b *budget) pause(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := b.now().Add(d); until.After(b.paused) {
		b.paused = until
	}
}

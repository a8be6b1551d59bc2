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
	now     func() time.Time

	mu     sync.Mutex
	paused time.Time // no call before then
}

func newBudget(perSecond float64, burst int, now func() time.Time) *budget {
	return &budget{limiter: rate.NewLimiter(rate.Limit(perSecond), burst), now: now}
}

// take waits for the right to make one call. It returns the reason if there is
// none to be had in time.
func (b *budget) take(ctx context.Context) Reason {
	now := b.now()
	if b.pausedAt(now) {
		return Limited
	}
	delay, ok := b.reserve(now)
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

// reserve takes a turn, if one comes soon. It gives a late one back before
// anybody can reserve behind it: afterwards the limiter would not take it back.
func (b *budget) reserve(now time.Time) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
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

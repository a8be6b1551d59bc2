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

// urgency tells what a call is for. The less it matters, the more of the burst it
// leaves to the others.
type urgency int

const (
	needed  urgency = iota // a click goes nowhere without it
	helpful                // a click goes on by hash without it: leaves a quarter
	spare                  // no click waits for it: leaves half, and waits for no turn
)

// budget keeps a token inside its leaky bucket, as far as this process spends it.
type budget struct {
	limiter *rate.Limiter
	burst   float64
	now     func() time.Time

	mu     sync.Mutex
	paused time.Time // no call before then
}

func newBudget(perSecond float64, burst int, now func() time.Time) *budget {
	return &budget{limiter: rate.NewLimiter(rate.Limit(perSecond), burst), burst: float64(burst), now: now}
}

// take waits for the right to make one call. It returns the reason if there is
// none to be had in time.
func (b *budget) take(ctx context.Context, of urgency) Reason {
	now := b.now()
	if b.pausedAt(now) {
		return Limited
	}
	delay, ok := b.turn(now, of)
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
func (b *budget) turn(now time.Time, of urgency) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	leave := float64(of) * b.burst / 4
	if of == spare {
		leave = max(leave, 1)
	}
	if of != needed && b.limiter.TokensAt(now) < leave {
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

// Budget is how a token stands, as far as this process spends it.
type Budget struct {
	Left, Burst int           // calls that could be made at once, of how many at most
	Rate        float64       // calls that are added each second
	Paused      time.Duration // no call before then: Recharge has asked for it
}

// Budget tells how the client's token stands. It makes no call.
func (c *Client) Budget() Budget {
	b := c.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	return Budget{
		Left: max(0, int(b.limiter.TokensAt(now))), Burst: int(b.burst), Rate: float64(b.limiter.Limit()),
		Paused: max(0, b.paused.Sub(now)),
	}
}

package recharge

// This file keeps a token inside Recharge's rate limit. Bucket is the rule,
// Limiter is what this process knows of the token, Grant is the right to make
// calls. https://docs.getrecharge.com/docs/api-rate-limits

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// maxWait is how long a call waits for its turn. A click that would wait longer
	// goes on without the call.
	maxWait = time.Second
	// longestPause is how long a 429 may hold back all calls.
	longestPause = time.Minute
	// reportWithin is how long the shared limiter may take to be told of a 429.
	reportWithin = time.Second
)

// A SharedLimiter returns these instead of taking anything. They are returned to
// the caller as they are: this process does not take from its own account instead.
var (
	ErrHeld    = errors.New("somebody else is asking for the same")
	ErrChanged = errors.New("what is cached has changed since it was loaded")
)

// Priority is how much a call matters. The less it matters, the more of the burst
// it leaves to other calls.
type Priority int

// The priorities.
const (
	High       Priority = iota // a click goes nowhere without the call
	Normal                     // a click goes on by hash without it: leaves a quarter of the burst
	Background                 // nobody waits for it: leaves half of the burst, and never waits for its turn
)

// Ask is how many calls of each priority are asked for, such as Ask{High: 1, Normal: 2}.
// If the High ones are refused, so are the others. Each priority is granted in full or
// not at all.
type Ask [Background + 1]int

func (a Ask) calls() float64 { return float64(a[High] + a[Normal] + a[Background]) }

// Turn is a bucket's answer.
type Turn struct {
	Ask                 // what was granted
	Wait  time.Duration // before the first call
	Level float64       // calls in the bucket, with these
	// At is the shared limiter's clock when the calls were taken, in microseconds
	// since 1970. It is 0 if they were taken from this process' own account.
	At int64
}

// Refused reports whether nothing was granted.
func (t Turn) Refused() bool { return t.Ask == Ask{} }

// Bucket is the leaky bucket of a token: each call fills it by one, and it leaks.
type Bucket struct {
	Rate    float64       // calls that leak out each second
	Burst   float64       // calls that it holds
	MaxWait time.Duration // how long a High or Normal call may wait for room
}

// Grant decides what a bucket that holds level calls grants. Each call fills it by
// weight. A SharedLimiter follows the same rule.
func (b Bucket) Grant(level float64, ask Ask, weight float64) Turn {
	turn := Turn{Level: level}
	normal, background := b.Leave()
	leave := [...]float64{0, normal, background}
	maxWait := [...]time.Duration{b.MaxWait, b.MaxWait, 0}
	for p, calls := range ask {
		more := float64(calls) * weight
		wait := time.Duration((turn.Level + more - b.Burst) / b.Rate * float64(time.Second))
		switch refused := leave[p] > 0 && b.Burst-turn.Level < leave[p] || wait > maxWait[p]; {
		case calls == 0 || refused && Priority(p) != High:
			continue
		case refused:
			return turn
		}
		turn.Ask[p] = calls
		turn.Level += more
		if Priority(p) == High || turn.Ask[High] == 0 { // else their turn has come when the High calls are made
			turn.Wait = max(turn.Wait, wait)
		}
	}
	return turn
}

// Leave returns how much of the bucket must be free for a Normal and for a
// Background call.
func (b Bucket) Leave() (normal, background float64) {
	return b.Burst / 4, max(b.Burst/2, 1)
}

// Most is more than a bucket ever holds: all calls that wait for their turn, and
// the longest pause. A bucket that holds more was written by a clock that was set
// back since.
func (b Bucket) Most() float64 {
	return b.Burst + (b.MaxWait+longestPause).Seconds()*b.Rate
}

// SharedLimiter accounts for the calls of a token that several processes use.
type SharedLimiter interface {
	// Take adds unreported calls to the bucket, raises it to level if it holds less,
	// caps it at bucket.Most, and then takes what Bucket.Grant grants. ErrHeld and
	// ErrChanged mean that nothing was taken, and any other error that nobody knows.
	// A Take of the zero Ask only reports, and is never held or changed.
	Take(ctx context.Context, bucket Bucket, ask Ask, unreported, level float64) (Turn, error)
	// Instances returns how many processes use the token.
	Instances() int
}

// Limiter is what a process knows of one token: how full its bucket is, until when
// a 429 holds it back, and which endpoints are dead. It is safe for concurrent use.
type Limiter struct {
	configured float64 // burst
	now        func() time.Time

	mu         sync.Mutex
	bucket     Bucket
	at         time.Time // of level and seen
	level      float64   // calls in the bucket, as far as this process knows
	seen       float64   // calls in the bucket, by Recharge's own count
	unreported float64   // calls that the shared limiter does not know of; negative: calls that were not made
	reporting  float64   // calls that it is being told of; none that were given back
	answered   int64     // the newest Turn.At
	paused     time.Time // no call before then
	background time.Time // the next turn of WaitBackground
	breakers   breakers
}

// NewLimiter returns the limiter of a token that has made no calls yet.
func NewLimiter(perSecond float64, burst int, now func() time.Time) *Limiter {
	return &Limiter{
		configured: float64(burst),
		bucket:     Bucket{perSecond, float64(burst), maxWait},
		now:        now,
		breakers:   newBreakers(),
	}
}

// Reserve takes calls from the shared limiter, or from this process' own account
// if shared is nil or fails. It waits for the first call's turn. The caller must
// Release the grant. The zero Ask takes nothing and asks nobody.
// Errors: ErrHeld, ErrChanged; OverBudget, Limited, TooSlow, Cancelled.
func (l *Limiter) Reserve(ctx context.Context, shared SharedLimiter, ask Ask) (*Grant, error) {
	g := &Grant{limiter: l, shared: shared}
	if ask == (Ask{}) {
		return g, nil
	}
	if err := g.take(ctx, ask); err != nil {
		return nil, err
	}
	for p := range ask {
		g.refused[p] = g.left[p] < ask[p]
	}
	return g, nil
}

// ask asks the shared limiter. It falls back to this process' own account only
// after the shared limiter has failed.
func (l *Limiter) ask(ctx context.Context, shared SharedLimiter, ask Ask) (Turn, error) {
	if shared == nil {
		return l.takeLocally(ask, 1), nil
	}
	turn, err := l.takeShared(ctx, shared, ask, 0)
	switch {
	case err == nil || errors.Is(err, ErrHeld) || errors.Is(err, ErrChanged):
		return turn, err
	case ctx.Err() != nil: // the caller has gone, which says nothing of the shared limiter
		return Turn{}, refusal(ended(ctx))
	}
	return l.takeLocally(ask, float64(max(shared.Instances(), 1))), nil
}

// takeShared reports to the shared limiter what it has to know, such as that the
// bucket holds level calls at least, and updates the account with its answer.
func (l *Limiter) takeShared(ctx context.Context, shared SharedLimiter, ask Ask, level float64) (Turn, error) {
	l.mu.Lock()
	l.leak()
	bucket, unreported, seen := l.bucket, l.unreported, l.seen
	l.unreported, l.reporting = 0, l.reporting+max(0, unreported)
	l.mu.Unlock()
	turn, err := shared.Take(ctx, bucket, ask, unreported, max(seen, level))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	l.reporting -= max(0, unreported)
	if err != nil {
		if !errors.Is(err, ErrHeld) && !errors.Is(err, ErrChanged) {
			unreported = max(0, unreported) // it may have heard of them: calls are not given back twice
		}
		l.unreported += unreported
		return turn, err
	}
	level = turn.Level + l.unreported + l.reporting
	if turn.At < l.answered { // a newer answer came first, or the clock was set back
		level = max(level, l.level)
	}
	l.level, l.answered = level, max(l.answered, turn.At)
	return turn, nil
}

// takeLocally grants calls from this process' own account. Each counts as one call
// of every instance, which leaves this one its share of the burst and of the rate.
func (l *Limiter) takeLocally(ask Ask, instances float64) Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	turn := l.bucket.Grant(l.level, ask, min(instances, l.bucket.Burst))
	l.level = turn.Level
	l.unreported += turn.calls()
	return turn
}

// giveBack returns calls that were granted and not made. The shared limiter learns
// of them with the next Take.
func (l *Limiter) giveBack(calls float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	l.level = max(0, l.level-calls)
	l.unreported -= calls
}

// leak brings the account up to now. The caller holds the lock.
func (l *Limiter) leak() {
	now := l.now()
	gone := max(0, now.Sub(l.at).Seconds()) * l.bucket.Rate
	l.level, l.seen, l.at = max(0, l.level-gone), max(0, l.seen-gone), now
	// Calls that were given back have leaked too, and calls that were made no longer
	// count once the bucket is empty.
	l.unreported = min(l.unreported+min(gone, max(0, -l.unreported)), l.level)
}

// follow reads what Recharge itself says of the bucket with every answer. Other
// programs may use the same token, and the bucket may be smaller than configured.
func (l *Limiter) follow(header http.Header) {
	calls, burst, ok := readLimit(header)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	l.bucket.Burst = min(l.configured, float64(burst))
	l.seen = min(float64(calls), l.bucket.Burst)
	l.level = max(l.level, l.seen)
}

// pause holds back all calls of this process after a 429.
func (l *Limiter) pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	if until := l.now().Add(d); until.After(l.paused) {
		l.paused = until
	}
	l.level = max(l.level, l.bucket.Burst)
}

// WaitBackground waits for the next turn of a job that makes many calls, such as
// the import: this process spends at most half of the token's rate on those. It
// reports whether to make the call; false means that ctx is over.
func (l *Limiter) WaitBackground(ctx context.Context) bool {
	l.mu.Lock()
	now := l.now()
	delay := max(0, l.background.Sub(now))
	l.background = now.Add(delay + time.Duration(2/l.bucket.Rate*float64(time.Second)))
	l.mu.Unlock()
	return wait(ctx, delay)
}

// Budget is the state of a token, as far as this process knows.
type Budget struct {
	Left, Burst int           // calls that could be made at once, now and at most
	Rate        float64       // calls that are added each second
	Paused      time.Duration // how long no call is made, because of a 429
}

// Budget returns the token's state. It makes no call.
func (l *Limiter) Budget() Budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	return Budget{
		Left: max(0, int(l.bucket.Burst-l.level)), Burst: int(l.bucket.Burst), Rate: l.bucket.Rate,
		Paused: max(0, l.paused.Sub(l.now())),
	}
}

// Grant is the right to make calls. It belongs to one goroutine. A call beyond what
// was reserved is asked for when it is made, but a priority that was refused is not
// asked for again.
type Grant struct {
	limiter *Limiter
	shared  SharedLimiter
	left    Ask
	refused [Background + 1]bool // reserved in vain
	calls   []Call
	taken   bool
	at      int64
	headers Headers
	limited bool // Recharge has answered 429, and the shared limiter does not know
}

// Calls returns the calls that were made, in order.
func (g *Grant) Calls() []Call { return g.calls }

// At returns Turn.At of the first calls that were taken.
func (g *Grant) At() int64 { return g.at }

// take waits for the right to make calls.
func (g *Grant) take(ctx context.Context, ask Ask) error {
	l := g.limiter
	if l.Budget().Paused > 0 {
		return refusal(Limited)
	}
	turn, err := l.ask(ctx, g.shared, ask)
	switch {
	case err != nil:
		return err
	case turn.Refused():
		return refusal(OverBudget)
	case turn.Wait > 0 && !wait(ctx, turn.Wait):
		l.giveBack(turn.calls())
		return refusal(ended(ctx))
	case l.Budget().Paused > 0: // a 429 came while this call waited
		l.giveBack(turn.calls())
		return refusal(Limited)
	}
	if !g.taken {
		g.taken, g.at = true, turn.At
	}
	for p, calls := range turn.Ask {
		g.left[p] += calls
	}
	return nil
}

func refusal(reason Reason) error { return &Error{Endpoint: "budget", Reason: reason} }

// spend uses up one call. It waits for one if none is left.
func (g *Grant) spend(ctx context.Context, p Priority) error {
	if g.left[p] == 0 && g.refused[p] {
		return refusal(OverBudget)
	}
	if g.left[p] == 0 {
		var ask Ask
		ask[p] = 1
		if err := g.take(ctx, ask); err != nil {
			return err
		}
	}
	g.left[p]--
	return nil
}

// Release gives back the calls that were not made. If Recharge has answered 429 it
// tells the shared limiter now: until the pause ends the bucket is full for every
// process. Release may be called twice, and on nil.
func (g *Grant) Release(ctx context.Context) {
	if g == nil {
		return
	}
	g.limiter.giveBack(g.left.calls())
	g.left = Ask{}
	budget := g.limiter.Budget()
	if !g.limited || g.shared == nil || budget.Paused == 0 {
		return
	}
	g.limited = false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
	defer cancel()
	// A process that cannot be told finds out by a 429 of its own.
	_, _ = g.limiter.takeShared(ctx, g.shared, Ask{}, float64(budget.Burst)+budget.Paused.Seconds()*budget.Rate)
}

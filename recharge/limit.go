package recharge

// This file keeps a token within Recharge's rate limit. Bucket is the rule, Limiter is what this
// process knows about the token, and Grant is the right to make calls.
// https://docs.getrecharge.com/docs/api-rate-limits

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// maxWait is the longest that a call waits for its turn. A click that would have to wait longer
	// goes on without the call.
	maxWait = time.Second
	// slowest is the lowest rate that a size of the bucket may lead to, in calls a second. Without it, one
	// answer with a wrong size would hold back the call that could correct it.
	slowest = 0.5
	// longestPause is the longest that a 429 may hold back all calls.
	longestPause = time.Minute
	// reportWithin is the timeout for reporting a 429 to the shared limiter.
	reportWithin = time.Second
)

// A SharedLimiter returns these when it has taken nothing. The caller gets them unchanged, and this
// process does not fall back to its own account.
var (
	ErrHeld    = errors.New("somebody else is asking for the same")
	ErrChanged = errors.New("what is cached has changed since it was loaded")
)

// Priority is how much a call matters. The less it matters, the more of the burst
// it leaves to other calls.
type Priority int

// The priorities.
const (
	High       Priority = iota // a click cannot go on without the call
	Normal                     // without it a click uses a hash link; leaves a quarter of the burst
	Background                 // nobody waits for it; leaves half of the burst and never waits for its turn
)

// Ask is the number of calls requested at each priority, such as Ask{High: 1, Normal: 2}. If the
// High ones are refused, so are the others. Each priority is granted in full or not at all.
type Ask [Background + 1]int

func (a Ask) calls() float64 { return float64(a[High] + a[Normal] + a[Background]) }

// Turn is a bucket's answer.
type Turn struct {
	Ask                 // what was granted
	Wait  time.Duration // before the first call
	Level float64       // calls in the bucket, including these
	// At is the shared limiter's clock when the calls were taken, in microseconds since 1970. It is
	// 0 if they were taken from this process's own account.
	At int64
}

// Refused reports whether nothing was granted.
func (t Turn) Refused() bool { return t.Ask == Ask{} }

// Bucket is a token's leaky bucket. Each call adds one to it, and Rate leaks out each second.
type Bucket struct {
	Rate    float64       // calls that leak out each second
	Burst   float64       // calls that it holds
	MaxWait time.Duration // how long a High or Normal call may wait for room
}

// Grant decides which calls to grant if the bucket holds level calls. Each call adds weight to it.
// A SharedLimiter follows the same rule.
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
		if Priority(p) == High || turn.Ask[High] == 0 { // others are due once the High calls are made
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

// Most is the limit of what a bucket can hold: all calls that wait for their turn, and the longest
// pause. A bucket that holds more was written by a clock that has since been set back.
func (b Bucket) Most() float64 {
	return b.Burst + (b.MaxWait+longestPause).Seconds()*b.Rate
}

// SharedLimiter counts the calls of a token that several processes use.
type SharedLimiter interface {
	// Take adds unreported calls to the bucket, raises it to level if it holds less, caps it at
	// bucket.Most, and then takes what Bucket.Grant grants. ErrHeld and ErrChanged mean that
	// nothing was taken. After any other error it is unknown whether calls were taken. A Take of
	// the zero Ask only reports, and never returns ErrHeld or ErrChanged.
	Take(ctx context.Context, bucket Bucket, ask Ask, unreported, level float64) (Turn, error)
	// Instances returns how many processes use the token.
	Instances() int
}

// Limiter is what this process knows about one token: how full its bucket is, how long a 429 holds
// back its calls, and which endpoints are dead. It is safe for concurrent use.
type Limiter struct {
	most     float64 // the burst is never more than this
	perBurst float64 // the rate for each call of the burst; 0: the rate is configured, and stays
	now      func() time.Time

	mu         sync.Mutex
	bucket     Bucket
	at         time.Time // when level and seen were last updated
	level      float64   // calls in the bucket, as far as this process knows
	seen       float64   // calls in the bucket, by Recharge's own count
	unreported float64   // calls not yet reported to the shared limiter; negative if calls were given back
	reporting  float64   // calls in reports that are under way; never calls given back
	answered   int64     // the newest Turn.At
	paused     time.Time // no call before then
	background time.Time // the next turn of WaitBackground
	breakers   breakers
}

// NewLimiter returns the limiter of a token that has made no calls yet. perSecond and burst are what
// an operator configured. If they are 0, the limiter starts from the token's prefix, and follows
// Recharge to any burst.
func NewLimiter(token string, perSecond float64, burst int, now func() time.Time) *Limiter {
	l := &Limiter{most: float64(burst), now: now, breakers: newBreakers()}
	l.bucket = Bucket{perSecond, float64(burst), maxWait}
	if perSecond == 0 {
		l.bucket.Rate, l.bucket.Burst = rateOf(token)
		l.most, l.perBurst = 100*40, l.bucket.Rate/l.bucket.Burst
	}
	return l
}

// Reserve takes calls from the shared limiter, or from this process's own account if shared is nil
// or fails. It waits for the first call's turn. The caller must Release the grant. The zero Ask
// takes nothing and asks no limiter.
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
	if ask[Background] == int(ask.calls()) {
		g.least = Background
	}
	return g, nil
}

// ask asks the shared limiter. It falls back to this process's own account only after the shared
// limiter has failed.
func (l *Limiter) ask(ctx context.Context, shared SharedLimiter, ask Ask) (Turn, error) {
	if shared == nil {
		return l.takeLocally(ask, 1), nil
	}
	turn, err := l.takeShared(ctx, shared, ask, 0)
	switch {
	case err == nil || errors.Is(err, ErrHeld) || errors.Is(err, ErrChanged):
		return turn, err
	case ctx.Err() != nil: // the caller has gone; the shared limiter may well work
		return Turn{}, refusal(ended(ctx))
	}
	return l.takeLocally(ask, float64(max(shared.Instances(), 1))), nil
}

// takeShared reports unreported calls to the shared limiter, and that the bucket holds at least
// level calls. It takes the calls of ask, and updates the account with the answer.
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
			unreported = max(0, unreported) // it may have counted them, and calls must not be given back twice
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

// takeLocally grants calls from this process's own account. It counts each as one call of every
// instance, so that this one keeps to its share of the burst and the rate.
func (l *Limiter) takeLocally(ask Ask, instances float64) Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	turn := l.bucket.Grant(l.level, ask, min(instances, l.bucket.Burst))
	l.level = turn.Level
	l.unreported += turn.calls()
	return turn
}

// giveBack returns calls that were granted but not made. The next Take reports them to the shared
// limiter.
func (l *Limiter) giveBack(calls float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	l.level = max(0, l.level-calls)
	l.unreported -= calls
}

// leak brings the account up to date. The caller holds the lock.
func (l *Limiter) leak() {
	now := l.now()
	gone := max(0, now.Sub(l.at).Seconds()) * l.bucket.Rate
	l.level, l.seen, l.at = max(0, l.level-gone), max(0, l.seen-gone), now
	// Calls that were given back leak too, and calls that were made stop counting once the bucket
	// is empty.
	l.unreported = min(l.unreported+min(gone, max(0, -l.unreported)), l.level)
}

// follow updates the account with Recharge's own count and size of the bucket, which come with every
// answer. Other programs may use the same token, and Recharge may have changed its limit. The rate
// is in no header, so it is taken to grow and shrink with the size.
func (l *Limiter) follow(header http.Header) {
	calls, burst, ok := readLimit(header)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leak()
	l.bucket.Burst = min(l.most, float64(burst))
	if l.perBurst != 0 {
		l.bucket.Rate = max(l.bucket.Burst*l.perBurst, slowest)
	}
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

// Budget is the state of a token, as far as this process knows it.
type Budget struct {
	Left, Burst int           // calls that can be made at once, now and at most
	Rate        float64       // calls that are added each second
	Paused      time.Duration // how long a 429 still holds back all calls
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

// Refresh is Budget, but first asks the shared limiter how full the bucket is.
func (l *Limiter) Refresh(ctx context.Context, shared SharedLimiter) (Budget, error) {
	_, err := l.takeShared(ctx, shared, Ask{}, 0)
	return l.Budget(), err
}

// Grant is the right to make calls. It belongs to one goroutine. A call beyond what was reserved is
// taken when it is made, but a refused priority is not asked for again.
type Grant struct {
	limiter *Limiter
	shared  SharedLimiter
	left    Ask
	refused [Background + 1]bool // by Reserve
	calls   []Call
	taken   bool
	at      int64
	headers Headers
	least   Priority // its calls matter no more than this
	limited bool     // Recharge has answered 429, and the shared limiter does not know it yet
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
	case turn.Wait > 0 && !Wait(ctx, turn.Wait):
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

// spend uses up one call. If none is left it takes another, and waits for its turn.
func (g *Grant) spend(ctx context.Context, p Priority) error {
	p = max(p, g.least)
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

// Release gives back the calls that were not made. After a 429 it tells the shared limiter at once
// that the bucket is full for every process until the pause ends. Release may be called twice, and
// on nil.
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
	// A process that does not hear of it will get a 429 of its own.
	_, _ = g.limiter.takeShared(ctx, g.shared, Ask{}, float64(budget.Burst)+budget.Paused.Seconds()*budget.Rate)
}

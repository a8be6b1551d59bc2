package recharge

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrHeld is a Ledger's answer when somebody else is asking for the same.
var ErrHeld = errors.New("somebody else is asking for the same")

// ledgerPatience is how long the ledger may take to be told of a 429.
const ledgerPatience = time.Second

// budget keeps a token inside its leaky bucket: by a ledger where one is shared
// and answers, else by its own account. Then, of several processes, each takes
// its share.
type budget struct {
	ledger     Ledger  // nil: no other process spends
	configured float64 // burst
	now        func() time.Time

	mu     sync.Mutex
	bucket Bucket
	at     time.Time
	level  float64   // calls in the bucket then, as far as is known,
	seen   float64   // and as Recharge itself said
	owed   float64   // calls that the ledger was not told of; negative: that were not made
	paused time.Time // no call before then
	paced  time.Time // no call of Pace before then
}

func newBudget(ledger Ledger, perSecond float64, burst int, patience time.Duration, now func() time.Time) *budget {
	return &budget{ledger: ledger, configured: float64(burst), bucket: Bucket{perSecond, float64(burst), patience}, now: now}
}

// take waits for the right to make calls. It returns what was granted, and the
// reason if that is nothing.
func (b *budget) take(ctx context.Context, ledger Ledger, ask Ask) (Turn, error) {
	if b.pausedAt(b.now()) {
		return Turn{}, &Error{Endpoint: "budget", Reason: Limited}
	}
	turn, err := b.turn(ctx, ledger, ask)
	switch {
	case err != nil:
		return Turn{}, err
	case turn.Refused:
		return Turn{}, &Error{Endpoint: "budget", Reason: OverBudget}
	case turn.Wait > 0 && !wait(ctx, turn.Wait):
		b.giveBack(turn.calls())
		return Turn{}, &Error{Endpoint: "budget", Reason: TooSlow}
	case b.pausedAt(b.now()): // a 429 came while this call was waiting
		b.giveBack(turn.calls())
		return Turn{}, &Error{Endpoint: "budget", Reason: Limited}
	}
	return turn, nil
}

// turn asks the ledger, if there is one that answers.
func (b *budget) turn(ctx context.Context, ledger Ledger, ask Ask) (Turn, error) {
	if ledger == nil {
		return b.own(ask, 1), nil
	}
	bucket, seen, owed := b.account()
	turn, err := ledger.Take(ctx, bucket, ask, owed, seen)
	b.mu.Lock()
	if err != nil {
		b.owed += owed
	} else {
		b.level, b.at = turn.Level+b.owed, b.now()
	}
	b.mu.Unlock()
	if err != nil && !errors.Is(err, ErrHeld) {
		turn = b.own(ask, float64(max(ledger.Sharers(), 1)))
		b.mu.Lock()
		b.owed += turn.calls() // for when it is back
		b.mu.Unlock()
		return turn, nil
	}
	return turn, err
}

// own grants by this process' own account. What is its share of the burst and of
// the rate is the same as if each of its calls were one of every sharer's.
func (b *budget) own(ask Ask, sharers float64) Turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leak()
	turn := b.bucket.Grant(b.level, ask, min(sharers, b.bucket.Burst))
	b.level = turn.Level
	return turn
}

// postpaid grants a call that the ledger is told of later. That saves a click the
// round trip where there is plenty: half of the burst, and few calls are owed.
func (b *budget) postpaid() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leak()
	if b.now().Before(b.paused) || b.level > b.bucket.Burst/2-1 || b.owed >= b.bucket.Burst/8 {
		return false
	}
	b.level++
	b.owed++
	return true
}

// giveBack is for calls that were granted and not made.
func (b *budget) giveBack(calls float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leak()
	b.level = max(0, b.level-calls)
	b.owed -= calls
}

// account is what a ledger has to know. What is owed is told with it.
func (b *budget) account() (bucket Bucket, seen, owed float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leak()
	owed, b.owed = b.owed, 0
	return b.bucket, b.seen, owed
}

// leak brings the account up to now. It is called with the lock held.
func (b *budget) leak() {
	now := b.now()
	gone := max(0, now.Sub(b.at).Seconds()) * b.bucket.Rate
	b.level, b.seen, b.at = max(0, b.level-gone), max(0, b.seen-gone), now
	// What was given back has leaked meanwhile, too, and what was made is over when
	// the bucket is empty.
	b.owed = min(b.owed+min(gone, max(0, -b.owed)), b.level)
}

// follow takes what Recharge itself says of the bucket with every answer. Others
// may spend the same token; a smaller bucket than was configured is believed, too.
func (b *budget) follow(header http.Header) {
	used, size, ok := strings.Cut(header.Get("X-Recharge-Limit"), "/")
	calls, err := strconv.Atoi(used)
	burst, err2 := strconv.Atoi(size)
	if !ok || err != nil || err2 != nil || calls < 0 || burst < 1 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leak()
	b.bucket.Burst = min(b.configured, float64(burst))
	b.seen = min(float64(calls), b.bucket.Burst)
	b.level = max(b.level, b.seen)
}

func (b *budget) pausedAt(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.paused)
}

// pause holds all calls back after a 429, and tells the other processes: for them
// the bucket is full until then.
func (b *budget) pause(ctx context.Context, d time.Duration) {
	b.mu.Lock()
	b.leak()
	if until := b.now().Add(d); until.After(b.paused) {
		b.paused = until
	}
	b.level = max(b.level, b.bucket.Burst)
	full := b.bucket.Burst + d.Seconds()*b.bucket.Rate
	bucket := b.bucket
	b.mu.Unlock()
	if b.ledger != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerPatience)
		defer cancel()
		_, _ = b.ledger.Take(ctx, bucket, Ask{}, 0, full) // who cannot be told finds out by a 429 of their own
	}
}

// Pace waits for the time of the next call of those that go on and on, such as a
// sweep's: of one process they are half of the calls that the token may make, at
// most. It tells whether it is to be made.
func (c *Client) Pace(ctx context.Context) bool {
	b := c.budget
	b.mu.Lock()
	now := b.now()
	at := b.paced
	if at.Before(now) {
		at = now
	}
	b.paced = at.Add(time.Duration(2 / b.bucket.Rate * float64(time.Second)))
	b.mu.Unlock()
	return wait(ctx, at.Sub(now))
}

// Budget is how a token stands, as far as this process knows.
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
	b.leak()
	return Budget{
		Left: max(0, int(b.bucket.Burst-b.level)), Burst: int(b.bucket.Burst), Rate: b.bucket.Rate,
		Paused: max(0, b.paused.Sub(b.now())),
	}
}

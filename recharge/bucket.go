package recharge

import (
	"context"
	"time"
)

// Patience is how long a click's call waits for its turn, if Options say nothing
// else. A click that would wait longer goes on without the call.
const Patience = time.Second

// urgency tells what a call is for. The less it matters, the more of the burst it
// leaves to the others.
type urgency int

const (
	needed  urgency = iota // a click goes nowhere without it
	helpful                // a click goes on by hash without it: leaves a quarter
	spare                  // no click waits for it: leaves half, and waits for no turn
)

// Ask is what is asked of a bucket: so many calls, by what they are for. A click
// that does not get the needed ones gets none; the helpful ones it gets all or
// none, and so with the spare ones.
type Ask struct {
	Needed, Helpful, Spare int
}

// Turn is what a bucket answers.
type Turn struct {
	Ask                   // what was granted
	Wait    time.Duration // for the first of them
	Refused bool          // Needed calls, or all that was asked for
	Level   float64       // calls in the bucket, with these
}

func (a Ask) calls() float64 { return float64(a.Needed + a.Helpful + a.Spare) }

// Bucket is the leaky bucket of a token: each call fills it by one, and it leaks.
// https://docs.getrecharge.com/docs/api-rate-limits
type Bucket struct {
	Rate     float64       // calls that leak out each second
	Burst    float64       // calls that it holds
	Patience time.Duration // how long a call that matters waits until there is room
}

// Grant answers what is asked of a bucket with so many calls in it, each of which
// fills it by weight. It is the rule; a Ledger that is shared has the same.
func (b Bucket) Grant(level float64, ask Ask, weight float64) Turn {
	turn := Turn{Level: level}
	grant := func(calls int, leave float64, patience time.Duration) bool {
		if calls == 0 {
			return false
		}
		more := float64(calls) * weight
		wait := time.Duration((turn.Level + more - b.Burst) / b.Rate * float64(time.Second))
		if leave > 0 && b.Burst-turn.Level < leave || wait > patience {
			return false
		}
		turn.Level += more
		turn.Wait = max(turn.Wait, wait)
		return true
	}
	if grant(ask.Needed, 0, b.Patience) {
		turn.Needed = ask.Needed
	} else if ask.Needed > 0 {
		turn.Refused = true
		return turn
	}
	first := turn.Wait
	leaveHelpful, leaveSpare := b.Leave()
	if grant(ask.Helpful, leaveHelpful, b.Patience) {
		turn.Helpful = ask.Helpful
	}
	if grant(ask.Spare, leaveSpare, 0) {
		turn.Spare = ask.Spare
	}
	if turn.Needed > 0 {
		turn.Wait = first // by the time of the others, theirs is over
	}
	turn.Refused = turn.Ask == Ask{}
	return turn
}

// Leave is how much must be free in the bucket for a helpful call and for a spare
// one to be granted.
func (b Bucket) Leave() (helpful, spare float64) {
	return b.Burst / 4, max(b.Burst/2, 1)
}

// Most is more than a bucket ever holds: all that waits for its turn, and a minute's
// pause. Where it holds more, a clock was put back.
func (b Bucket) Most() float64 {
	return b.Burst + (b.Patience+longestPause).Seconds()*b.Rate
}

// Ledger accounts for the calls of a token that several processes spend.
type Ledger interface {
	// Take grants by the rule of Grant what is asked of the bucket, which holds Most at
	// most, to which owed
	// calls are added first, and which holds no less than so many calls then.
	// An error that is ErrHeld means that nothing was taken, and is not to be;
	// any other that nobody can tell.
	Take(ctx context.Context, bucket Bucket, ask Ask, owed, level float64) (Turn, error)
	// Sharers is how many processes spend.
	Sharers() int
}

package store

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

const (
	// lease is how long others wait for whoever opens a shopper's portal. Should
	// that one have crashed, they go on then.
	lease = 3 * time.Second
	// answerFor is how long those who waited find the answer.
	answerFor = time.Second
	// Those who wait look that often, at first and at last.
	firstLook, lastLook = 10 * time.Millisecond, 100 * time.Millisecond
	// sharerFor is after what time a process that says nothing is not counted.
	sharerFor = 20 * time.Second

	heldMark, answerMark = "h", "a" // how a lease begins
)

//go:embed take.lua
var takeScript string

//go:embed sharers.lua
var sharersScript string

// Ledger accounts for the calls that all servers make for one shop.
type Ledger struct {
	store *Store
	shop  shopify.Shop
}

// Ledger returns that of a shop.
func (s *Store) Ledger(shop shopify.Shop) *Ledger { return &Ledger{s, shop} }

// Take implements recharge.Ledger.
func (l *Ledger) Take(ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, owed, level float64) (recharge.Turn, error) {
	return l.store.take(ctx, []string{bucketKey(l.store.sealers[0], l.shop)}, "", bucket, ask, owed, level)
}

// Sharers implements recharge.Ledger.
func (l *Ledger) Sharers() int { return l.store.Sharers() }

func bucketKey(s *sealer, shop shopify.Shop) string { return shopOf(s, shop) + kindBucket }

// take is the one script that all servers' calls go through. Redis' clock is the
// one that counts: theirs may differ.
func (s *Store) take(ctx context.Context, keys []string, id string, bucket recharge.Bucket, ask recharge.Ask, owed, level float64) (recharge.Turn, error) {
	helpful, spare := bucket.Leave()
	var result *redis.Cmd
	err := s.roundTrip(ctx, &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		// Its text, not its digest: a Redis that has just started, or a replica that
		// has just become the master, knows no script.
		result = pipe.Eval(ctx, takeScript, keys,
			bucket.Rate/1e6, bucket.Burst, bucket.Patience.Microseconds(), helpful, spare,
			ask.Needed, ask.Helpful, ask.Spare, owed, level, id, lease.Milliseconds(), bucket.Most())
	})
	if err != nil {
		return recharge.Turn{}, fmt.Errorf("take calls: %w", err)
	}
	return readTurn(result)
}

func readTurn(result *redis.Cmd) (recharge.Turn, error) {
	text, err := result.StringSlice()
	if err != nil || len(text) != 6 {
		return recharge.Turn{}, fmt.Errorf("take calls: %w", errAnswer)
	}
	var n [6]float64
	for i := range text {
		if n[i], err = strconv.ParseFloat(text[i], 64); err != nil {
			return recharge.Turn{}, fmt.Errorf("take calls: %w", errAnswer)
		}
	}
	if n[0] < 0 {
		return recharge.Turn{}, recharge.ErrHeld
	}
	return recharge.Turn{
		Ask:  recharge.Ask{Needed: int(n[1]), Helpful: int(n[2]), Spare: int(n[3])},
		Wait: time.Duration(n[4]) * time.Microsecond, Refused: n[0] > 0, Level: n[5],
	}, nil
}

var errAnswer = errors.New("not an answer of the script")

// Lease is the right of one server to open a shopper's portal, while others wait
// for its answer. It comes with the first calls that are taken for it.
type Lease struct {
	*Ledger
	key, id string
	taken   bool
}

// Lease returns a lease that is not taken yet.
func (s *Store) Lease(who Shopper) *Lease {
	return &Lease{Ledger: s.Ledger(who.Shop), key: leaseKey(s.sealers[0], who), id: heldMark + rand.Text()}
}

func leaseKey(s *sealer, who Shopper) string {
	return shopOf(s, who.Shop) + kindLease + shopperName(s, who)
}

// Take is Ledger's, and takes the lease if any call is granted. Its error is
// recharge.ErrHeld where somebody else has it.
func (l *Lease) Take(ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, owed, level float64) (recharge.Turn, error) {
	turn, err := l.store.take(ctx, []string{bucketKey(l.store.sealers[0], l.shop), l.key}, l.id, bucket, ask, owed, level)
	l.taken = !turn.Refused && !errors.Is(err, recharge.ErrHeld) // where nobody can tell, it may be
	return turn, err
}

// Wait waits for the answer of whoever has the lease. It is nil if that one gave
// none, or is gone.
func (l *Lease) Wait(ctx context.Context) ([]byte, error) {
	pause := time.NewTimer(firstLook)
	defer pause.Stop()
	for look := firstLook; ; look = min(look*3/2, lastLook) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-pause.C:
			pause.Reset(look)
		}
		var value *redis.StringCmd
		err := l.store.roundTrip(ctx, &l.store.reads, func(ctx context.Context, pipe redis.Pipeliner) {
			value = pipe.Get(ctx, l.key)
		})
		if err != nil {
			return nil, fmt.Errorf("wait for a lease: %w", err)
		}
		if held := value.Val(); held == "" || held[:1] != heldMark {
			return l.answer(held), nil
		}
	}
}

func (l *Lease) answer(held string) []byte {
	if held == "" || held[:1] != answerMark {
		return nil
	}
	answer, err := l.store.sealers[0].open(l.key, []byte(held[1:]))
	if err != nil {
		return nil
	}
	return answer
}

// Sharers is how many servers there are, as last known; at least this one.
func (s *Store) Sharers() int { return max(1, int(s.sharers.Load())) }

// CountSharers says that this server is there, and counts all.
func (s *Store) CountSharers(ctx context.Context) error { return s.countSharers(ctx, sharerFor) }

// Leave says that this server is gone.
func (s *Store) Leave(ctx context.Context) error { return s.countSharers(ctx, 0) }

// countSharers says so for a time; for none, that it is gone.
func (s *Store) countSharers(ctx context.Context, life time.Duration) error {
	var count *redis.Cmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		count = pipe.Eval(ctx, sharersScript, []string{sharersKey}, s.id, life.Milliseconds())
	})
	if err != nil {
		return fmt.Errorf("count servers: %w", err)
	}
	n, err := count.Int64()
	if err != nil {
		return fmt.Errorf("count servers: %w", errAnswer)
	}
	s.sharers.Store(n)
	return nil
}

package store

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// instanceFor is after what time a process that says nothing is not counted.
const instanceFor = 20 * time.Second

//go:embed reserve.lua
var reserveScript string

//go:embed instances.lua
var instancesScript string

// Limiter counts the calls that all instances make with one shop's token. It implements
// recharge.SharedLimiter.
type Limiter struct {
	store *Store
	shop  shopify.Shop
}

// Limiter returns that of a shop.
func (s *Store) Limiter(shop shopify.Shop) *Limiter { return &Limiter{s, shop} }

// Take implements recharge.SharedLimiter.
func (l *Limiter) Take(
	ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, unreported, level float64,
) (recharge.Turn, error) {
	return l.store.take(ctx, []string{bucketKey(l.shop)}, nil, bucket, ask, unreported, level)
}

// Instances implements recharge.SharedLimiter.
func (l *Limiter) Instances() int { return l.store.Instances() }

// take is the one script that all instances' calls go through. Redis' clock is the one
// that counts: theirs may differ.
func (s *Store) take(
	ctx context.Context, keys []string, lock *Lock, bucket recharge.Bucket, ask recharge.Ask, unreported, level float64,
) (recharge.Turn, error) {
	normal, background := bucket.Leave()
	holder, version, taken := "", "", 0
	if lock != nil {
		holder, version = lock.holder, lock.version
		if lock.taken {
			taken = 1
		}
	}
	turn, err := readTurn(s.eval(ctx, reserveScript, keys,
		bucket.Rate/1e6, bucket.Burst, bucket.MaxWait.Microseconds(), normal, background,
		ask[recharge.High], ask[recharge.Normal], ask[recharge.Background], unreported, level, holder,
		lockFor.Milliseconds(), bucket.Most(), version, taken))
	if err != nil {
		return recharge.Turn{}, fmt.Errorf("take calls: %w", err)
	}
	return turn, nil
}

// Instances is how many instances there are, as last known; at least this one.
func (s *Store) Instances() int { return max(1, int(s.instances.Load())) }

// CountInstances says that this instance is there, or is leaving, and counts all.
func (s *Store) CountInstances(ctx context.Context, leaving bool) error {
	life := instanceFor
	if leaving {
		life = 0
	}
	var count *redis.Cmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		count = pipe.Eval(ctx, instancesScript, []string{instancesKey}, s.id, life.Milliseconds())
	})
	if err != nil {
		return fmt.Errorf("count instances: %w", err)
	}
	n, err := count.Int64()
	if err != nil {
		return fmt.Errorf("count instances: %w", errAnswer)
	}
	s.instances.Store(n)
	return nil
}

// errAnswer is an answer of a script that cannot be read.
var errAnswer = errors.New("not an answer of the script")

// readTurn reads what reserve.lua answers.
func readTurn(result *redis.Cmd) (recharge.Turn, error) {
	n, err := result.Float64Slice()
	if err != nil || len(n) != 7 {
		return recharge.Turn{}, errors.Join(errAnswer, err)
	}
	switch n[0] {
	case -1:
		return recharge.Turn{}, recharge.ErrHeld
	case -2:
		return recharge.Turn{}, recharge.ErrChanged
	}
	return recharge.Turn{
		Ask:  recharge.Ask{int(n[1]), int(n[2]), int(n[3])},
		Wait: time.Duration(n[4]) * time.Microsecond, Level: n[5], At: int64(n[6]),
	}, nil
}

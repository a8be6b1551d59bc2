package store

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const (
	// instanceFor is how long a crashed instance still counts.
	instanceFor = 20 * time.Second
	// lockFor is how long others wait for an instance that crashed while it asked Recharge for a
	// shopper. A working instance renews its lock every lockRenew.
	lockFor   = 3 * time.Second
	lockRenew = lockFor / 3
	// An instance that waits for a lock polls it, first after firstPoll, eventually every lastPoll.
	firstPoll, lastPoll = 10 * time.Millisecond, 100 * time.Millisecond
)

//go:embed reserve.lua
var reserveScript string

//go:embed instances.lua
var instancesScript string

const renewScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`

// Lock is the right to ask Recharge for a shopper, which one instance has at a time. The first
// calls that are taken with it acquire it. Other instances wait, and then load what was saved.
type Lock struct {
	store       *Store
	shop        shopify.Shop
	key, cached string // keys of the lock and of the cached value; "": only a limiter, no lock
	holder      string
	version     string // of the cached value that was loaded
	taken       bool
}

// Limiter returns the limiter that counts the calls of all instances with a shop's token.
func (s *Store) Limiter(shop shopify.Shop) recharge.SharedLimiter { return &Lock{store: s, shop: shop} }

// Lock returns a shopper's lock, not acquired yet. It is also a limiter, and only that if the shop
// has no record.
func (s *Store) Lock(loaded Loaded, who Shopper) *Lock {
	l := &Lock{store: s, shop: who.Shop, version: loaded.version}
	if loaded.Record != nil {
		name := loaded.Record.name(canonical(who))
		l.key, l.cached, l.holder = loaded.Record.key("l", name), loaded.Record.key("c", name), rand.Text()
	}
	return l
}

// Take implements recharge.SharedLimiter, and acquires the lock if any call is granted. It fails
// with recharge.ErrHeld if another instance has the lock, and with recharge.ErrChanged if the
// cached value has changed since it was loaded.
func (l *Lock) Take(
	ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, unreported, level float64,
) (recharge.Turn, error) {
	keys := []string{bucketKey(l.shop)}
	locks := l.key != "" && ask != (recharge.Ask{}) // the zero Ask only reports
	if locks {
		keys = append(keys, l.key, l.cached)
	}
	normal, background := bucket.Leave()
	turn, err := readTurn(l.store.eval(ctx, reserveScript, keys,
		bucket.Rate/1e6, bucket.Burst, bucket.MaxWait.Microseconds(), normal, background,
		ask[recharge.High], ask[recharge.Normal], ask[recharge.Background], unreported, level,
		l.holder, lockFor.Milliseconds(), bucket.Most(), l.version, l.taken))
	unknown := err != nil && !errors.Is(err, recharge.ErrHeld) && !errors.Is(err, recharge.ErrChanged)
	if locks && (unknown || err == nil && !turn.Refused()) {
		l.taken = true // possibly even if Redis did not answer
	}
	if err != nil {
		return recharge.Turn{}, fmt.Errorf("take calls: %w", err)
	}
	return turn, nil
}

var errScriptAnswer = errors.New("unexpected answer of a script")

// readTurn reads what reserve.lua returns.
func readTurn(result *redis.Cmd) (recharge.Turn, error) {
	n, err := result.Float64Slice()
	if err != nil || len(n) != 7 {
		return recharge.Turn{}, errors.Join(errScriptAnswer, err)
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

// Renew keeps the lock, if it was acquired, until stop is called, since calls may take long.
func (l *Lock) Renew(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	if l != nil && l.taken {
		go func() {
			for recharge.Wait(ctx, lockRenew) {
				_ = l.store.eval(ctx, renewScript, []string{l.key}, l.holder, lockFor.Milliseconds()).Err()
			}
		}()
	}
	return cancel
}

// Wait waits until the lock is free. It fails if ctx ends or Redis does not answer.
func (l *Lock) Wait(ctx context.Context) error {
	for poll := firstPoll; ; poll = min(poll*3/2, lastPoll) {
		if !recharge.Wait(ctx, poll) {
			return ctx.Err()
		}
		values, err := l.store.mget(ctx, []string{l.key})
		if err != nil {
			return fmt.Errorf("wait for a lock: %w", err)
		}
		if values[0] == nil {
			return nil
		}
	}
}

// Instances implements recharge.SharedLimiter.
func (l *Lock) Instances() int { return l.store.Instances() }

// Instances returns how many instances there are, as last counted, and at least 1.
func (s *Store) Instances() int { return max(1, int(s.instances.Load())) }

// CountInstances registers this instance, or removes it if it is leaving, and counts all.
func (s *Store) CountInstances(ctx context.Context, leaving bool) error {
	life := instanceFor
	if leaving {
		life = 0
	}
	n, err := s.evalNow(ctx, instancesScript, []string{instancesKey}, s.id, life.Milliseconds()).Int64()
	if _, refused := errors.AsType[redis.Error](err); refused || err == nil { // else Redis was not reached
		s.writes.report(ctx, err) // so that an instance without clicks notices, too
	}
	if err != nil {
		return fmt.Errorf("count instances: %w", err)
	}
	s.instances.Store(n)
	return nil
}

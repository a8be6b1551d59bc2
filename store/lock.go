package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"manage-subscriptions/recharge"
)

// Lock is the right to ask Recharge for a shopper, which one instance has at a time. It is taken
// with the first calls that are reserved for it. The others wait, and then load what was saved.
type Lock struct {
	*Limiter
	key, cached string // "": nothing is known of the shop, and there is no lock
	holder      string
	version     string // of what was loaded
	taken       bool
}

// Lock returns the lock on a shopper, not taken yet.
func (s *Store) Lock(loaded Loaded, who Shopper) *Lock {
	l := &Lock{Limiter: s.Limiter(who.Shop), version: loaded.version}
	if loaded.Record != nil {
		name := loaded.Record.name(canonical(who))
		l.key, l.cached, l.holder = loaded.Record.key("l", name), loaded.Record.key("c", name), rand.Text()
	}
	return l
}

// Take is Limiter's, and takes the lock if any call is granted. Its error is
// recharge.ErrHeld where another instance has it, and recharge.ErrChanged where what is
// cached is not what was loaded any more.
func (l *Lock) Take(
	ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, unreported, level float64,
) (recharge.Turn, error) {
	if l.key == "" || ask == (recharge.Ask{}) { // the latter only reports
		return l.Limiter.Take(ctx, bucket, ask, unreported, level)
	}
	turn, err := l.store.take(ctx, []string{bucketKey(l.shop), l.key, l.cached}, l, bucket, ask, unreported, level)
	// Where Redis did not say, it may have been taken.
	unknown := err != nil && !errors.Is(err, recharge.ErrHeld) && !errors.Is(err, recharge.ErrChanged)
	l.taken = l.taken || unknown || err == nil && !turn.Refused()
	return turn, err
}

const renewScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`

// Renew keeps the lock, if there is one and it was taken, until stop is called, for calls
// that take long.
func (l *Lock) Renew(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	if l != nil && l.taken {
		go l.renew(ctx)
	}
	return cancel
}

func (l *Lock) renew(ctx context.Context) {
	ticker := time.NewTicker(lockRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = l.store.eval(ctx, renewScript, []string{l.key}, l.holder, lockFor.Milliseconds()).Err()
		}
	}
}

// Wait waits until nobody has the lock. It fails if ctx ends or Redis does not answer.
func (l *Lock) Wait(ctx context.Context) error {
	pause := time.NewTimer(firstLook)
	defer pause.Stop()
	for look := firstLook; ; look = min(look*3/2, lastLook) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
			pause.Reset(look)
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

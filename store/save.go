package store

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"manage-subscriptions/shopify"
)

const (
	// tombstoneFor is longer than a save can be under way.
	tombstoneFor = 2 * time.Minute
	// lockFor is how long others wait for an instance that has crashed while it asked
	// Recharge for a shopper. One that works renews its lock in time.
	lockFor   = 3 * time.Second
	lockRenew = lockFor / 3
	// An instance that waits for a lock looks that often, at first and at last.
	firstLook, lastLook = 10 * time.Millisecond, 100 * time.Millisecond
	// nonceSlack is for clocks that differ: the instances', by which a link is over,
	// and Redis', by which it is forgotten that it was used.
	nonceSlack = time.Minute
)

//go:embed index.lua
var indexScript string

//go:embed save.lua
var saveScript string

//go:embed forget.lua
var forgetScript string

// lift lets an entry replace whatever is cached, and lift a redaction: only the shopper's own
// click does. Others replace the version that they have seen.
const lift = "!"

// ErrOutdated is that something was not saved, since it may not be so any more: the
// shopper was erased or has moved since Recharge was asked, or the shop was erased.
var ErrOutdated = errors.New("erased or moved meanwhile")

// Save caches what a click has learned of a shopper, and releases the lock, all at once. at is when
// Recharge was asked, by the shared limiter's clock; 0: not known. A nil value only releases. It is
// done even if the click's time is up: the next click needs it more. Errors: ErrOutdated; any other
// means that Redis did not answer.
func (s *Store) Save(ctx context.Context, r *Record, who Shopper, value *Cached, at int64, lock *Lock) error {
	switch {
	case value == nil && (lock == nil || !lock.taken):
		return nil
	case r == nil:
		return errors.New("save: nothing is known of the shop")
	}
	var entries []entry
	if value != nil {
		entries = append(entries, s.entryOf(r, who, *value, at, lift))
	}
	saved, err := s.save(context.WithoutCancel(ctx), r, lock, entries)
	switch {
	case err != nil:
		return fmt.Errorf("save: %w", err)
	case value != nil && saved != 1:
		return ErrOutdated
	}
	return nil
}

// entry is a shopper as save.lua takes it.
type entry struct {
	name, other, redaction string
	at                     int64
	replaces               string // a version, or lift
	value                  string
	life                   time.Duration
}

func (s *Store) entryOf(r *Record, who Shopper, c Cached, at int64, replaces string) entry {
	e := entry{name: r.name(canonical(who)), other: noName, at: at, replaces: replaces}
	e.redaction = r.sealer.redactions.name(canonical(who))
	if c.ShopifyID != "" {
		e.redaction = r.sealer.redactions.name(string(c.ShopifyID)) // Shopify redacts by that
	}
	if other := c.other(who); other != "" {
		e.other = r.name(other)
	}
	e.value = r.sealCached(r.key("c", e.name), e.other, c)
	e.life, _ = s.life(c, e.name)
	return e
}

// tooOld is what save answers where Recharge was asked so long ago that tombstones may be
// over: nobody knows any more whether something was erased or has moved since.
const tooOld = -2

func (s *Store) save(ctx context.Context, r *Record, lock *Lock, entries []entry) (saved int, err error) {
	keys, holder := []string{recordKey(r.Shop), recordKey(r.Shop)}, ""
	if lock != nil && lock.taken {
		keys[1], holder = lock.key, lock.holder
	}
	args := []any{
		r.generation, shopPrefix(r.Shop), r.indexPrefix(), tombstoneFor.Milliseconds(),
		holder, longestLife.Milliseconds(), redactedFor.Milliseconds(),
	}
	for _, e := range entries {
		args = append(args, e.name, e.other, e.redaction, e.at, e.replaces, e.value, e.life.Milliseconds())
	}
	return s.eval(ctx, s.saveScript, keys, args...).Int()
}

// UseNonce marks a shop's one-time link, by its nonce, as used, and reports whether it was not used
// before. It fails rather than not know. The mark outlives the shop's record, tokens and keys.
func (s *Store) UseNonce(
	ctx context.Context, shop shopify.Shop, nonce string, until time.Time,
) (first bool, err error) {
	life := max(until.Sub(s.options.Now()), 0) + nonceSlack
	err = s.try(ctx, &s.writes, func(ctx context.Context) error {
		var err error
		first, err = s.redis.SetNX(ctx, nonceKey(shop, nonce), "1", life).Result()
		return err
	})
	if err != nil {
		return false, fmt.Errorf("use a one-time link: %w", err)
	}
	return first, nil
}

package store

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

//go:embed index.lua
var indexScript string

//go:embed save.lua
var saveScript string

//go:embed forget.lua
var forgetScript string

// replaceAny lets an entry replace anything cached, and lift a redaction. Only the shopper's own
// click does so. Everything else replaces only the version that it has seen.
const replaceAny = "!"

// tooOld is what save.lua returns if Recharge was asked so long ago that a later tombstone may have
// expired. The value may have been erased or moved since.
const tooOld = -2

// nonceSlack allows for clocks that differ. A link expires by an instance's clock, and the mark
// that it was used by Redis's.
const nonceSlack = time.Minute

// doubleClick is how long after the first use of a one-time link the same browser may use it again.
const doubleClick = 10 * time.Second

// ErrOutdated means that a value was not saved because it may be out of date: the shopper was
// erased or moved since Recharge was asked, or the shop was erased.
var ErrOutdated = errors.New("erased or moved meanwhile")

// Save caches what a click has learned about a shopper, and releases the lock, in one step. at is
// when Recharge was asked, by the shared limiter's clock, or 0 if that is not known. A nil value
// only releases the lock. Save works even when the click's time is up, since the next click needs
// the value more. Errors: ErrOutdated; any other means that it is not known to be saved.
func (s *Store) Save(ctx context.Context, r *Record, who Shopper, value *Cached, at int64, lock *Lock) error {
	switch {
	case value == nil && (lock == nil || !lock.taken):
		return nil
	case r == nil:
		return errors.New("save: the shop has no record")
	}
	var entries []entry
	if value != nil {
		entries = append(entries, s.entryOf(r, who, *value, at, replaceAny))
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

// SaveIfUnchanged caches what no click has learned, unless something else was cached since loaded
// was read, or the shopper was redacted. It reports whether it did, and releases the lock, if there is one.
func (s *Store) SaveIfUnchanged(
	ctx context.Context, loaded Loaded, who Shopper, c Cached, at int64, lock *Lock,
) (bool, error) {
	if loaded.Record == nil {
		return false, nil
	}
	saved, err := s.save(ctx, loaded.Record, lock, []entry{s.entryOf(loaded.Record, who, c, at, loaded.version)})
	if err != nil {
		return false, fmt.Errorf("save: %w", err)
	}
	return saved == 1, nil
}

// entry is a shopper's value, as save.lua takes it.
type entry struct {
	name, other, redaction string
	at                     int64
	replaces               string // a version, or replaceAny
	value                  string
	life                   time.Duration
}

func (s *Store) entryOf(r *Record, who Shopper, c Cached, at int64, replaces string) entry {
	e := entry{name: r.name(canonical(who)), other: noName, at: at, replaces: replaces}
	e.redaction = r.sealer.redactions.name(canonical(who))
	if c.ShopifyID != "" {
		e.redaction = r.sealer.redactions.name(string(c.ShopifyID)) // Shopify redacts by this id
	}
	if other := c.otherID(who); other != "" {
		e.other = r.name(other)
	}
	e.value = r.sealCached(r.key("c", e.name), e.other, c)
	e.life, _ = s.life(c, e.name)
	return e
}

// save returns how many entries were saved, or a negative number as in save.lua.
func (s *Store) save(ctx context.Context, r *Record, lock *Lock, entries []entry) (saved int, err error) {
	keys, holder := []string{recordKey(r.Shop), recordKey(r.Shop)}, ""
	if lock != nil && lock.taken {
		keys[1], holder = lock.key, lock.holder
	}
	args := append(indexArgs(r), holder, longestLife.Milliseconds(), redactedFor.Milliseconds())
	for _, e := range entries {
		args = append(args, e.name, e.other, e.redaction, e.at, e.replaces, e.value, e.life.Milliseconds())
	}
	return s.eval(ctx, indexScript+saveScript, keys, args...).Int()
}

// indexArgs returns the arguments of index.lua, which come first for save.lua and forget.lua, too.
func indexArgs(r *Record) []any {
	return []any{r.generation, shopPrefix(r.Shop), r.indexPrefix(), tombstoneFor.Milliseconds()}
}

// UseNonce marks a shop's one-time link as used, by its nonce, and reports whether it may open: if
// this is its first use, or a double click in the same browser. browser is a digest of a fixed size
// that reveals nothing about the shopper. UseNonce fails if it cannot find out. The mark outlives
// the shop's record, tokens and keys.
func (s *Store) UseNonce(
	ctx context.Context, shop shopify.Shop, nonce, browser string, until time.Time,
) (bool, error) {
	key, now := nonceKey(shop, nonce), s.options.Now()
	life := max(until.Sub(now), 0) + nonceSlack
	var first *redis.StringCmd
	err := s.try(ctx, &s.writes, func(ctx context.Context) error {
		_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.SetNX(ctx, key, browser+strconv.FormatInt(now.UnixMilli(), 10), life)
			first = pipe.Get(ctx, key)
			return nil
		})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("use a one-time link: %w", err)
	}
	text, same := strings.CutPrefix(first.Val(), browser)
	at, _ := strconv.ParseInt(text, 10, 64)
	return same && now.Sub(time.UnixMilli(at)).Abs() < doubleClick, nil
}

// Forget removes a shopper's cached value because it turned out to be wrong.
func (s *Store) Forget(ctx context.Context, r *Record, who Shopper) error {
	args := forgetArgs(r, "", []string{canonical(who)})
	return s.eval(context.WithoutCancel(ctx), indexScript+forgetScript, []string{recordKey(r.Shop)}, args...).Err()
}

func forgetArgs(r *Record, redaction string, ids []string) []any {
	args := append(indexArgs(r), redaction, redactedFor.Milliseconds())
	for _, id := range ids {
		args = append(args, r.name(id))
	}
	return args
}

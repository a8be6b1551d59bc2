package store

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
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

// Forget drops what is cached of a shopper, for when it turned out wrong.
func (s *Store) Forget(ctx context.Context, r *Record, who Shopper) error {
	args := forgetArgs(r, "", []string{canonical(who)})
	return s.eval(context.WithoutCancel(ctx), s.forgetScript, []string{recordKey(r.Shop)}, args...).Err()
}

// Change is what one of Recharge's customer webhooks says: whose record it is about, and
// whom that names now.
type Change struct {
	ID       int64              // Recharge's
	Customer shopify.CustomerID // "" not said, or none
}

// ApplyCustomerChange forgets whoever is cached by a record of Recharge's, and the shopper whom it
// names now. Once it returns nil, Redis has that on disk, and no save that was under way brings
// them back. What the message says beside the ids does not count: it may be old.
func (s *Store) ApplyCustomerChange(ctx context.Context, shop shopify.Shop, change Change) error {
	var ids []string
	if change.ID != 0 {
		ids = append(ids, canonicalRecharge(change.ID))
	}
	if change.Customer != "" {
		ids = append(ids, string(change.Customer))
	}
	if err := s.forgetDurably(ctx, shop, ids, false); err != nil {
		return fmt.Errorf("apply a customer's change: %w", err)
	}
	return nil
}

// Redact erases what is cached of a shopper, and keeps imports from caching them again;
// their own click does. Once it returns nil, Redis has that on disk.
func (s *Store) Redact(ctx context.Context, shop shopify.Shop, customer shopify.CustomerID) error {
	if err := s.forgetDurably(ctx, shop, []string{string(customer)}, true); err != nil {
		return fmt.Errorf("redact: %w", err)
	}
	return nil
}

// forgetDurably forgets ids of a shop. Where nothing is kept of it, there is nothing to forget.
func (s *Store) forgetDurably(ctx context.Context, shop shopify.Shop, ids []string, redact bool) error {
	for {
		record, err := s.recordNow(ctx, shop)
		if err == nil && record == nil && redact && shop == s.options.Own {
			loaded := s.Load(ctx, Shopper{Shop: shop}) // makes it: a redaction has to be kept
			record, err = loaded.Record, loaded.Err
		}
		if err != nil || record == nil || len(ids) == 0 {
			return err
		}
		redaction := ""
		if redact {
			redaction = record.sealer.redactions.name(ids[0])
		}
		same := 0
		err = s.durably(ctx, func(ctx context.Context, tx *redis.Tx) error {
			var err error
			same, err = tx.Eval(ctx, s.forgetScript, []string{recordKey(shop)}, forgetArgs(record, redaction, ids)...).Int()
			return err
		}, recordKey(shop))
		if err != nil || same == 1 {
			return err
		}
	}
}

func forgetArgs(r *Record, redaction string, ids []string) []any {
	args := []any{
		r.generation, shopPrefix(r.Shop), r.indexPrefix(), tombstoneFor.Milliseconds(), redaction, redactedFor.Milliseconds(),
	}
	for _, id := range ids {
		args = append(args, r.name(id))
	}
	return args
}

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
func (l *Lock) Take(ctx context.Context, bucket recharge.Bucket, ask recharge.Ask, unreported, level float64) (recharge.Turn, error) {
	if l.key == "" || ask == (recharge.Ask{}) { // the latter only reports
		return l.Limiter.Take(ctx, bucket, ask, unreported, level)
	}
	turn, err := l.store.take(ctx, []string{bucketKey(l.shop), l.key, l.cached}, l, bucket, ask, unreported, level)
	// Where Redis did not say, it may have been taken.
	l.taken = !turn.Refused && !errors.Is(err, recharge.ErrHeld) && !errors.Is(err, recharge.ErrChanged) || l.taken
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

// UseNonce marks a shop's one-time link, by its nonce, as used, and reports whether it was not used
// before. It fails rather than not know. The mark outlives the shop's record, tokens and keys.
func (s *Store) UseNonce(ctx context.Context, shop shopify.Shop, nonce string, until time.Time) (first bool, err error) {
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
		Ask:  recharge.Ask{High: int(n[1]), Normal: int(n[2]), Background: int(n[3])},
		Wait: time.Duration(n[4]) * time.Microsecond, Refused: n[0] > 0, Level: n[5], At: int64(n[6]),
	}, nil
}

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Erasure says what to erase of a shop, beside what is cached of its shoppers.
type Erasure struct {
	Shop shopify.Shop
	// Uninstalled is when the app was uninstalled, in Shopify's word: session tokens
	// that were issued up to then are no good any more. Zero: it was not.
	Uninstalled time.Time
	// SavedUntil spares a connection that was saved later, since that belongs to the next
	// installation, and redactions with it; zero spares none.
	SavedUntil time.Time
}

// uninstalledFor is longer than a session token of Shopify lives, and than a merchant
// may take to save.
const uninstalledFor = 2 * time.Minute

// EraseShop erases a shop, and returns what it was. Once it returns a nil error,
// nothing of it opens, on any instance. How many shoppers it has does not matter:
// their keys are tidied up afterwards, and expire where they are not.
func (s *Store) EraseShop(ctx context.Context, e Erasure) (erased *Record, err error) {
	s.counts.forget(e.Shop)
	spared := false
	err = s.rewrite(ctx, e.Shop, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
		if last != nil { // else another try may have erased it
			before := *last
			erased = &before
		}
		spared = last != nil && last.Connection != nil && !e.SavedUntil.IsZero() &&
			last.Connection.SavedAt.After(e.SavedUntil)
		if !spared {
			return nil, nil
		}
		last.begin()
		return last, nil
	}, func(pipe redis.Pipeliner) {
		// Of the keys that have known names, two stay: how full the token's bucket is, and which
		// links were used. Neither is the shop's to reset.
		keys := []string{errorsKey(e.Shop), importKey(e.Shop)}
		for i := range time.Duration(hours + 1) {
			keys = append(keys, hourKey(e.Shop, hourOf(s.options.Now().Add(-i*time.Hour))))
		}
		pipe.Unlink(ctx, keys...)
		if s.options.Now().Sub(e.Uninstalled) < uninstalledFor {
			pipe.Set(ctx, uninstalledKey(e.Shop), strconv.FormatInt(e.Uninstalled.Unix(), 10), uninstalledFor)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("erase shop: %w", err)
	}
	if erased != nil {
		s.tidy(erased)
	}
	if spared {
		return nil, s.RequestImport(ctx, e.Shop)
	}
	return erased, nil
}

func readUninstalled(value *redis.StringCmd) (time.Time, error) {
	seconds, err := value.Int64()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	return time.Unix(seconds, 0), err
}

// UninstalledAt is when a shop has uninstalled the app, if that was within the last
// two minutes; else zero.
func (s *Store) UninstalledAt(ctx context.Context, shop shopify.Shop) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at, err := readUninstalled(s.redis.Get(ctx, uninstalledKey(shop)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the app was uninstalled: %w", err)
	}
	return at, nil
}

// tidy unlinks, in the background, what an erased record has sealed, by walking its index. Nothing
// depends on it: nothing of it opens any more, and what is missed here expires.
func (s *Store) tidy(erased *Record) {
	s.background.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, time.Minute)
		defer cancel()
		for bucket := range indexBuckets {
			key := erased.indexPrefix() + fmt.Sprintf("%02x", bucket)
			fields, err := s.redis.HGetAll(ctx, key).Result()
			if err != nil {
				return
			}
			keys := []string{key}
			for _, name := range fields {
				keys = append(keys, erased.key("c", name))
			}
			if s.redis.Unlink(ctx, keys...).Err() != nil {
				return
			}
		}
	})
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
		if err == nil && record == nil && redact && shop == s.options.Single {
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

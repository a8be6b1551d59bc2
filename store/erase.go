package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// tombstoneFor is longer than a save can take.
const tombstoneFor = 2 * time.Minute

// uninstalledFor is longer than Shopify's session tokens live, and than a merchant's save may take.
const uninstalledFor = 2 * time.Minute

// Erasure describes what to erase of a shop besides its shoppers' cached values.
type Erasure struct {
	Shop shopify.Shop
	// Uninstalled is when the app was uninstalled, by Shopify's clock. Session tokens that were
	// issued up to then are no longer valid. Zero: it was not.
	Uninstalled time.Time
	// A connection saved after SavedUntil belongs to the next installation. It stays, with all
	// redactions, but without the earlier one's settings and keys. Zero: none stays.
	SavedUntil time.Time
}

// EraseShop erases a shop, and returns the record that it erased, if any. Once it returns a nil
// error, nothing of the shop opens, on any instance. Many shoppers do not make it slower, since
// their keys are removed in the background or expire.
func (s *Store) EraseShop(ctx context.Context, e Erasure) (erased *Record, err error) {
	s.pendingMu.Lock()
	delete(s.pending, e.Shop)
	s.pendingMu.Unlock()
	reconnected := false
	unlink := func(pipe redis.Pipeliner) {
		// Two kinds of keys with known names stay, the level of the token's bucket and the marks of
		// used links. Erasing a shop must reset neither.
		pipe.Unlink(ctx, errorsKey(e.Shop), importKey(e.Shop))
		if s.options.Now().Sub(e.Uninstalled) < uninstalledFor {
			pipe.Set(ctx, uninstalledKey(e.Shop), strconv.FormatInt(e.Uninstalled.Unix(), 10), uninstalledFor)
		}
	}
	erased, err = s.rewrite(ctx, e.Shop, unlink, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
		reconnected = last != nil && last.Connection != nil && !e.SavedUntil.IsZero() &&
			last.Connection.SavedAt.After(e.SavedUntil)
		if !reconnected {
			return nil, nil
		}
		last.leave(e.SavedUntil)
		last.startEpoch()
		return last, nil
	})
	if err == nil {
		// Not in that transaction, since it is too long for the embedded Redis's pipe. From here on, no flush
		// writes what was counted before.
		days, _ := s.dayKeys(e.Shop, time.Time{})
		err = s.redis.Unlink(ctx, days...).Err()
	}
	if err != nil {
		return nil, fmt.Errorf("erase shop: %w", err)
	}
	if reconnected {
		return nil, s.RequestImport(ctx, e.Shop)
	}
	return erased, nil
}

// leave clears what SaveConnection kept from an installation that has ended. The people who ran the store then must
// no longer get its reports or have a working API key. Only keys have a date, so newer ones stay; the other settings
// are cleared whenever they were made.
func (r *Record) leave(ended time.Time) {
	c := r.Connection
	c.Campaigns, c.Contact, c.ReportTo, c.ReportIn, r.support = nil, Contact{}, "", "", nil
	c.PortalKeys = slices.DeleteFunc(slices.Clone(c.PortalKeys), func(k PortalKey) bool { return !k.MadeAt.After(ended) })
}

// UninstalledAt returns when a shop uninstalled the app, or zero if that was not in the last two
// minutes.
func (s *Store) UninstalledAt(ctx context.Context, shop shopify.Shop) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	at, err := parseUninstalled(s.redis.Get(ctx, uninstalledKey(shop)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the app was uninstalled: %w", err)
	}
	return at, nil
}

func parseUninstalled(value *redis.StringCmd) (time.Time, error) {
	seconds, err := value.Int64()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	return time.Unix(seconds, 0), err
}

// tidy walks an erased record's index in the background, and unlinks what the record sealed.
// Nothing depends on that, since none of it opens any more, and it expires.
func (s *Store) tidy(erased *Record) {
	s.background.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, time.Minute)
		defer cancel()
		if erased.Connection != nil {
			for _, c := range erased.Connection.Campaigns {
				s.redis.Unlink(ctx, campaignKeys(erased.Shop, c.ID)...)
			}
		}
		for bucket := range indexBuckets {
			key := erased.indexPrefix() + fmt.Sprintf("%02x", bucket)
			names, err := s.redis.HVals(ctx, key).Result()
			if err != nil {
				return
			}
			keys := []string{key}
			for _, name := range names {
				keys = append(keys, erased.key("c", name))
			}
			if s.redis.Unlink(ctx, keys...).Err() != nil {
				return
			}
		}
	})
}

// Change is the content of a Recharge customer webhook: the customer record that it is about, and
// the shopper whom the record names now.
type Change struct {
	ID       int64              // Recharge's
	Customer shopify.CustomerID // "" if none, or not known
}

// ApplyCustomerChange removes what is cached under a Recharge customer's id, and under the shopper
// whom it names now. Once it returns nil, Redis has that on disk, and no save in progress brings
// anything back. It uses only the ids of the webhook, which may be out of date.
func (s *Store) ApplyCustomerChange(ctx context.Context, shop shopify.Shop, change Change) error {
	var ids []string
	if change.ID != 0 {
		ids = append(ids, canonicalRecharge(change.ID))
	}
	if change.Customer != "" {
		ids = append(ids, string(change.Customer))
	}
	return s.forgetDurably(ctx, shop, ids, false)
}

// Redact erases a shopper's cached value. Imports do not cache the shopper again before the
// shopper's own next click, or redactedFor. Once it returns nil, Redis has that on disk.
func (s *Store) Redact(ctx context.Context, shop shopify.Shop, customer shopify.CustomerID) error {
	return s.forgetDurably(ctx, shop, []string{string(customer)}, true)
}

// forgetDurably removes what is cached under some ids. If the shop has no record, there is nothing
// to remove, but in one-store mode a redaction creates one.
func (s *Store) forgetDurably(ctx context.Context, shop shopify.Shop, ids []string, redact bool) error {
	read := s.recordNow
	if redact {
		read = s.createdNow
	}
	for {
		record, err := read(ctx, shop)
		if err != nil || record == nil || len(ids) == 0 {
			return err
		}
		redaction := ""
		if redact {
			redaction = record.sealer.redactions.name(ids[0])
		}
		args, same := forgetArgs(record, redaction, ids), 0
		err = s.durably(ctx, func(ctx context.Context, tx *redis.Tx) (err error) {
			same, err = tx.Eval(ctx, indexScript+forgetScript, []string{recordKey(shop)}, args...).Int()
			return err
		}, recordKey(shop))
		if err != nil || same == 1 {
			return err
		}
	}
}

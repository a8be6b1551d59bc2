package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

//go:embed create.lua
var createScript string

// usableRecord returns the record that was just read. In one-store mode it creates one if none
// opens. Anything lost with the old one can be looked up again.
func (s *Store) usableRecord(ctx context.Context, seen *Record, value any) (*Record, error) {
	record, err := s.current(ctx, seen, value)
	if seen.Shop != s.options.Single {
		return record, err
	}
	if errors.Is(err, ErrUnreadable) {
		s.options.Log.ErrorContext(ctx, "the shop's record does not open and is replaced", "error", err)
	}
	if record == nil {
		created := newRecord(seen.Shop)
		created.account = s.options.Account
		record, err = s.put(ctx, created, value, s.options.Now())
	}
	if s.otherAccount(record) {
		return nil, errAccount
	}
	return record, err
}

// put writes a record in place of none, or of one that is not used. If several instances do so at
// once, all use the same record.
func (s *Store) put(ctx context.Context, record *Record, inPlaceOf any, now time.Time) (*Record, error) {
	seen := s.seen(record.Shop)
	s.seal(record, now)
	last, _ := inPlaceOf.(string)
	value, err := s.eval(ctx, createScript, []string{recordKey(record.Shop)}, last, record.sealed).Text()
	if err != nil {
		return nil, err
	}
	return s.current(ctx, seen, value)
}

// createdNow is recordNow, but creates the single store's record if there is none.
func (s *Store) createdNow(ctx context.Context, shop shopify.Shop) (*Record, error) {
	record, err := s.recordNow(ctx, shop)
	if err != nil || record != nil || shop != s.options.Single {
		return record, err
	}
	loaded := s.Load(ctx, Shopper{Shop: shop})
	return loaded.Record, loaded.Err
}

// Adopt erases what was cached for another Recharge account in one-store mode, since that account
// has other customers. Its verified webhooks do not count either.
func (s *Store) Adopt(ctx context.Context) error {
	shop := s.options.Single
	if shop == "" {
		return nil
	}
	loaded := s.Load(ctx, Shopper{Shop: shop}) // creates the record
	if loaded.Err != nil && !errors.Is(loaded.Err, errAccount) {
		return loaded.Err
	}
	erased, err := s.rewrite(ctx, shop, nil, func(_ context.Context, _ *redis.Tx, r *Record) (*Record, error) {
		if r == nil || r.account == s.options.Account {
			return nil, errUnchanged
		}
		r.account, r.Connection = s.options.Account, nil
		r.WebhookVerified, r.WebhookRefused = time.Time{}, time.Time{}
		r.startEpoch()
		return r, nil
	})
	if err != nil || erased == nil {
		return err
	}
	return s.RequestImport(ctx, shop)
}

// otherAccount reports whether a record belongs to a Recharge account other than this instance's.
func (s *Store) otherAccount(r *Record) bool {
	return r != nil && r.Shop == s.options.Single && r.account != s.options.Account
}

package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"time"

	"manage-subscriptions/shopify"
)

//go:embed create.lua
var createScript string

// create makes the record of the one store. Of several instances that do so at once
// one wins, and all use its record. One that does not open is replaced: in one-store
// mode all that it loses is what can be looked up again.
func (s *Store) create(ctx context.Context, shop shopify.Shop, instead any) (*Record, error) {
	record := newRecord(shop)
	record.account = s.options.Account
	s.seal(record)
	last, _ := instead.(string)
	value, err := s.eval(ctx, createScript, []string{recordKey(shop)}, last, record.sealed).Text()
	if err != nil {
		return nil, err
	}
	return s.current(shop, value)
}

// Adopt erases what was cached for another account at Recharge, in one-store mode: its
// customers are others. What webhooks have proven of that one does not count either.
func (s *Store) Adopt(ctx context.Context) error {
	own := s.options.Single
	if own == "" {
		return nil
	}
	loaded := s.Load(ctx, Shopper{Shop: own}) // makes the record
	if loaded.Err != nil && !errors.Is(loaded.Err, errAccount) {
		return loaded.Err
	}
	var erased *Record
	err := s.Update(ctx, own, func(r *Record) bool {
		if r.account == s.options.Account {
			return false
		}
		before := *r
		erased = &before
		r.account, r.WebhookVerified = s.options.Account, time.Time{}
		r.begin()
		return true
	})
	if err != nil || erased == nil {
		return err
	}
	s.tidy(erased)
	return s.RequestImport(ctx, own)
}

// foreign reports whether a record is of another account at Recharge than this instance.
func (s *Store) foreign(r *Record) bool {
	return r != nil && r.Shop == s.options.Single && r.account != s.options.Account
}

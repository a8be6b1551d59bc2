package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// erase does one pass of an erasure. All keys are tried: errors are joined.
func (s *Store) erase(ctx context.Context, e Erasure) error {
	defer s.recent.drop(func(who Shopper, _ Memory) bool {
		return who.Shop == e.Shop && (e.Customer == "" || e.Customer == who.Customer || who.RechargeID != 0)
	})
	var errs []error
	if e.Customer != "" {
		for _, sealer := range s.sealers {
			who := Shopper{Shop: e.Shop, Customer: e.Customer}
			customer, session := shopperKeys(sealer, who)
			errs = append(errs, s.unlink(ctx, customer, session, leaseKey(sealer, who)))
		}
	} else {
		s.pending.forget(e.Shop)
		errs = append(errs, s.eraseConnection(ctx, e), s.eraseIndex(ctx, e.Shop))
		for _, sealer := range s.sealers {
			errs = append(errs, s.eraseShop(ctx, sealer, e.Shop))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	return nil
}

// eraseIndex drops how far the index of a shop is. One that is connected still is
// swept anew, from the beginning and by nobody who does so now: it may have another
// token, and other customers.
func (s *Store) eraseIndex(ctx context.Context, shop shopify.Shop) error {
	if s.options.Connections {
		all, err := s.readConnection(ctx, shop)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(f found) bool { return f.sealed != nil }) {
			return s.resetIndex(ctx, shop)
		}
	}
	var errs []error
	for _, sealer := range s.sealers {
		errs = append(errs, s.unlink(ctx, indexOf(sealer, shop)), s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
			pipe.ZRem(ctx, indexKey, member(sealer, shop))
		}))
	}
	return errors.Join(errs...)
}

// eraseShop drops all of a shop but the connection and the index, which have their
// own bounds.
func (s *Store) eraseShop(ctx context.Context, sealer *sealer, shop shopify.Shop) error {
	keep := []string{connectionKey(sealer, shop), indexOf(sealer, shop)}
	return s.scan(ctx, shopOf(sealer, shop)+"*", func(ctx context.Context, keys []string) error {
		keys = slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(keep, key) })
		return s.unlink(ctx, keys...)
	})
}

// unlink drops keys of one slot.
func (s *Store) unlink(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) { pipe.Unlink(ctx, keys...) })
}

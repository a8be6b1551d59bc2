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
	var errs []error
	if e.Customer != "" {
		for _, sealer := range s.sealers {
			customer, session := shopperKeys(sealer, Shopper{e.Shop, e.Customer})
			errs = append(errs, s.unlink(ctx, customer, session, leaseKey(sealer, Shopper{e.Shop, e.Customer})))
		}
	} else {
		s.pending.forget(e.Shop)
		for _, sealer := range s.sealers {
			errs = append(errs, s.eraseShop(ctx, sealer, e.Shop))
		}
		errs = append(errs, s.eraseConnection(ctx, e))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	return nil
}

// eraseShop drops all of a shop but the connection, which has its own bound.
func (s *Store) eraseShop(ctx context.Context, sealer *sealer, shop shopify.Shop) error {
	keep := connectionKey(sealer, shop)
	return s.scan(ctx, shopOf(sealer, shop)+"*", func(ctx context.Context, keys []string) error {
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == keep })
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

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// SwitchSupport turns a shop's links for support on or off, and reports whether the shop has connected
// Recharge. Turning them off ends all that were made, also if they are turned on again.
func (s *Store) SwitchSupport(ctx context.Context, shop shopify.Shop, on bool) (connected bool, err error) {
	err = s.Update(ctx, shop, func(r *Record) bool {
		connected = r.Connected() || shop == s.options.Single
		if !connected || on == (r.support != nil) {
			return false
		}
		if r.support = nil; on {
			r.support = random(generationSize)
		}
		return true
	})
	return connected, err
}

// SupportSecret returns what signs the shop's links for support, and nothing else. It is nil if the
// merchant has not turned them on. It changes when a new epoch begins, as with another token.
func (r *Record) SupportSecret() []byte {
	if r == nil || r.support == nil {
		return nil
	}
	return derive(r.dataKey, slices.Concat(r.epoch, r.support), "link for support", keySize)
}

// IsRedacted reports whether a shopper was erased and has not clicked since.
func (s *Store) IsRedacted(ctx context.Context, r *Record, who Shopper) (redacted bool, err error) {
	key := r.key("d", r.sealer.redactions.name(canonical(who)))
	err = s.try(ctx, &s.reads, func(ctx context.Context) error {
		found, err := s.redis.Exists(ctx, key).Result()
		redacted = found > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read a redaction: %w", err)
	}
	return redacted, nil
}

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// spentSlack is for clocks that differ: the servers', by which a link is over, and
// Redis', by which it is forgotten that it was used.
const spentSlack = time.Minute

// Spend marks a shop's link, by its nonce, as used, and tells whether it was not
// used before. It fails rather than not know.
//
// It is marked under every encryption key: while they are rotated, a server that has
// only the old one must see it, too.
func (s *Store) Spend(ctx context.Context, shop shopify.Shop, nonce string, until time.Time) (first bool, err error) {
	life := max(until.Sub(s.options.Now()), 0) + spentSlack
	set := make([]*redis.BoolCmd, len(s.sealers))
	err = s.roundTrip(ctx, &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			set[i] = pipe.SetNX(ctx, spentKey(sealer, shop, nonce), "1", life)
		}
	})
	if err != nil {
		return false, fmt.Errorf("spend a link: %w", err)
	}
	for _, one := range set {
		if fresh, err := one.Result(); err != nil || !fresh {
			return false, err
		}
	}
	return true, nil
}

func spentKey(s *sealer, shop shopify.Shop, nonce string) string {
	return shopOf(s, shop) + kindSpent + s.name(nameSize, "spent", nonce)
}

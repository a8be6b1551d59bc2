package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// batch is how many keys Redis looks at, or drops, in one command: so many that
// a million go by in a second or two, so few that no click waits for it.
const batch = 1000

// EraseShopper drops what is kept of a shopper, under every encryption key.
//
// A link's name is made of the page and language that it leads to, too, and so
// nobody can tell whose it is. All links of the shop go: no one's lives longer
// than LinkTTL, and whoever comes back meanwhile costs one call.
//
// To erase twice is the same as once. A click that is under way may still
// remember what it has learned: the caller has to be one who stops the clicks.
//
// Unlike a click, it fails if Redis does, and asks even one that clicks leave
// alone for a moment: nobody else will do it.
func (s *Store) EraseShopper(ctx context.Context, who Shopper) error {
	for _, sealer := range s.sealers {
		err := s.redis.Unlink(ctx, customerKey(sealer, who), sessionKey(sealer, who)).Err()
		if err == nil {
			err = s.erase(ctx, keysOf(sealer, who.Shop)+"l*")
		}
		if err != nil {
			return fmt.Errorf("erase shopper: %w", err)
		}
	}
	return nil
}

// EraseShop drops all that is kept of a shop, under every encryption key. What
// holds for EraseShopper holds here.
func (s *Store) EraseShop(ctx context.Context, shop shopify.Shop) error {
	for _, sealer := range s.sealers {
		if err := s.erase(ctx, keysOf(sealer, shop)+"*"); err != nil {
			return fmt.Errorf("erase shop: %w", err)
		}
	}
	return nil
}

// keysOf is how all keys of a shop begin. Nothing in it is special to Redis'
// patterns: base64 has no such signs.
func keysOf(s *sealer, shop shopify.Shop) string {
	tag, _, _ := strings.Cut(customerKey(s, Shopper{Shop: shop}), "}")
	return tag + "}"
}

// erase drops the keys that match, wherever in a cluster they are: while slots
// move, that can be two places.
func (s *Store) erase(ctx context.Context, pattern string) error {
	if cluster, ok := s.redis.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			return s.eraseFrom(ctx, master, pattern)
		})
	}
	return s.eraseFrom(ctx, s.redis, pattern)
}

func (s *Store) eraseFrom(ctx context.Context, node redis.Cmdable, pattern string) error {
	var cursor uint64
	for {
		keys, next, err := node.Scan(ctx, cursor, pattern, batch).Result()
		if err != nil {
			return err
		}
		// The embedded Redis returns all keys at once.
		for keys := range slices.Chunk(keys, batch) {
			if err := s.redis.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

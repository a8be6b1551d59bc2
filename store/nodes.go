package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// batch is how many keys Redis looks at, or drops, in one command: so many that
	// a million go by in a second or two, so few that no click waits for it.
	batch = 1000
	// askPatience is how long one round trip may take that no click waits for.
	askPatience = 3 * time.Second
)

// ask sends all that queue puts into the pipe, in one round trip. Unlike a
// click's, it tries even a Redis that is left alone: nobody else will do it.
func (s *Store) ask(ctx context.Context, queue func(context.Context, redis.Pipeliner)) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return sendBy(ctx, s.redis.Pipelined, queue)
}

// get returns what is at keys, which may be in several slots; "" nothing.
func (s *Store) get(ctx context.Context, keys []string) ([]string, error) {
	values := make([]*redis.SliceCmd, len(keys))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, key := range keys {
			values[i] = pipe.MGet(ctx, key) // unlike GET, it takes a hash for nothing
		}
	})
	if err != nil {
		return nil, err
	}
	got := make([]string, len(keys))
	for i, value := range values {
		got[i], _ = value.Val()[0].(string)
	}
	return got, nil
}

// eachMaster calls do with every node that has keys of its own, one after the
// other.
func (s *Store) eachMaster(ctx context.Context, do func(context.Context, *redis.Client) error) error {
	var masters []*redis.Client
	switch client := s.redis.(type) {
	case *redis.Client:
		masters = []*redis.Client{client}
	case *redis.ClusterClient:
		var mu sync.Mutex
		err := client.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters = append(masters, master)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, master := range masters {
		if err := do(ctx, master); err != nil {
			return err
		}
	}
	return nil
}

// scan calls do with the keys that match, in batches, wherever in a cluster they
// are: while slots move, that can be two places. A key may come twice.
func (s *Store) scan(ctx context.Context, pattern string, do func(context.Context, []string) error) error {
	return s.eachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		var cursor uint64
		for {
			keys, next, err := node.Scan(ctx, cursor, pattern, batch).Result()
			if err != nil {
				return err
			}
			// The embedded Redis returns all keys at once.
			for keys := range slices.Chunk(keys, batch) {
				if err := do(ctx, keys); err != nil {
					return err
				}
			}
			if next == 0 {
				return nil
			}
			cursor = next
		}
	})
}

// sealerOf is the encryption key that says it sealed a value; nil: none of ours.
func (s *Store) sealerOf(sealed string) *sealer {
	for _, sealer := range s.sealers {
		if sealer.says([]byte(sealed)) {
			return sealer
		}
	}
	return nil
}

// openAny opens what any of the encryption keys sealed for a place.
func (s *Store) openAny(place, sealed string) ([]byte, error) {
	sealer := s.sealerOf(sealed)
	if sealer == nil {
		return nil, errSealed
	}
	return sealer.open(place, []byte(sealed))
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	kindSeen = "w"

	// seenFor is longer than Shopify sends a webhook again, or an installation
	// takes.
	seenFor = 24 * time.Hour
)

func markKey(s *sealer, id string) string { return prefix + kindSeen + s.name(nameSize, kindSeen, id) }

// Seen tells whether an id was marked: a webhook's, or an installation's.
func (s *Store) Seen(ctx context.Context, id string) (bool, error) {
	marks := make([]*redis.IntCmd, len(s.sealers))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			marks[i] = pipe.Exists(ctx, markKey(sealer, id))
		}
	})
	if err != nil {
		return false, fmt.Errorf("look whether it was seen: %w", err)
	}
	for _, mark := range marks {
		if mark.Val() > 0 {
			return true, nil
		}
	}
	return false, nil
}

// MarkSeen marks an id, for a day, and tells whether nobody has before.
func (s *Store) MarkSeen(ctx context.Context, id string) (first bool, err error) {
	entry, err := json.Marshal(mark{ID: id})
	if err != nil {
		return false, fmt.Errorf("mark as seen: %w", err)
	}
	key := markKey(s.sealers[0], id)
	marked := make([]*redis.IntCmd, len(s.sealers))
	var set *redis.BoolCmd
	err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers[1:] {
			marked[i] = pipe.Exists(ctx, markKey(sealer, id))
		}
		set = pipe.SetNX(ctx, key, s.sealers[0].seal(key, entry), seenFor)
	})
	if err != nil {
		return false, fmt.Errorf("mark as seen: %w", err)
	}
	for i := range s.sealers[1:] {
		if marked[i].Val() > 0 {
			return false, nil
		}
	}
	return set.Val(), nil
}

// mark is what stands in Redis: with its name inside, so that Rekey can find it
// a new place.
type mark struct{ ID string }

func openMark(sealer *sealer, key, sealed string) (mark, error) {
	entry, err := sealer.open(key, []byte(sealed))
	if err != nil {
		return mark{}, err
	}
	var m mark
	return m, json.Unmarshal(entry, &m)
}

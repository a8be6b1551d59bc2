package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

const (
	webhookKind = "w"
	stateKind   = "o"

	// seenFor is longer than Shopify and Recharge send a webhook again.
	seenFor = 24 * time.Hour
)

func markKey(s *sealer, kind, id string) string {
	return prefix + kind + s.name(nameSize, kind, id)
}

// Seen tells whether a webhook's id was marked.
func (s *Store) Seen(ctx context.Context, id string) (bool, error) {
	marks := make([]*redis.IntCmd, len(s.sealers))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			marks[i] = pipe.Exists(ctx, markKey(sealer, webhookKind, id))
		}
	})
	if err != nil {
		return false, fmt.Errorf("look for webhook: %w", err)
	}
	for _, mark := range marks {
		if mark.Val() > 0 {
			return true, nil
		}
	}
	return false, nil
}

// MarkSeen marks a webhook's id, for a day.
func (s *Store) MarkSeen(ctx context.Context, id string) error {
	if err := s.mark(ctx, webhookKind, mark{ID: id}, seenFor); err != nil {
		return fmt.Errorf("mark webhook: %w", err)
	}
	return nil
}

// PutState keeps, for a time, which shop an OAuth state was made for.
func (s *Store) PutState(ctx context.Context, state string, shop shopify.Shop, ttl time.Duration) error {
	if ttl <= 0 {
		return errors.New("keep OAuth state: no time to live")
	}
	if err := s.mark(ctx, stateKind, mark{state, shop}, ttl); err != nil {
		return fmt.Errorf("keep OAuth state: %w", err)
	}
	return nil
}

// mark is what stands in Redis: with its name inside, so that Rekey can find it
// a new place.
type mark struct {
	ID   string
	Shop shopify.Shop `json:",omitzero"`
}

func (s *Store) mark(ctx context.Context, kind string, m mark, ttl time.Duration) error {
	entry, err := json.Marshal(m)
	if err != nil {
		return err
	}
	key := markKey(s.sealers[0], kind, m.ID)
	return s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.Set(ctx, key, s.sealers[0].seal(key, entry), ttl)
	})
}

func openMark(sealer *sealer, key, sealed string) (mark, error) {
	entry, err := sealer.open(key, []byte(sealed))
	if err != nil {
		return mark{}, err
	}
	var m mark
	return m, json.Unmarshal(entry, &m)
}

// TakeState returns which shop a state was made for, once; "": none, or it was
// taken, or is over.
func (s *Store) TakeState(ctx context.Context, state string) (shopify.Shop, error) {
	values := make([]*redis.StringCmd, len(s.sealers))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			values[i] = pipe.GetDel(ctx, markKey(sealer, stateKind, state))
		}
	})
	if err != nil {
		return "", fmt.Errorf("take OAuth state: %w", err)
	}
	for i, sealer := range s.sealers {
		m, err := openMark(sealer, markKey(sealer, stateKind, state), values[i].Val())
		if err == nil {
			return m.Shop, nil
		}
	}
	return "", nil
}

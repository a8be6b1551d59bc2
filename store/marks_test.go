package store_test

import (
	"testing"
	"time"

	"manage-subscriptions/store"
)

func TestMarks(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		redis := &shared{t: t, open: func(_ testing.TB, o store.Options) *store.Store { return open(o) }}
		s := redis.with(key(1))
		seen := func(id string, want bool) {
			t.Helper()
			if got, err := redis.store.Seen(ctx, id); err != nil || got != want {
				t.Errorf("Seen(%q) = %v, %v; want %v", id, got, err, want)
			}
		}
		seen("webhook-1", false)
		mark := func(id string, want bool) {
			t.Helper()
			if got, err := redis.store.MarkSeen(ctx, id); err != nil || got != want {
				t.Errorf("MarkSeen(%q) = %v, %v; want %v", id, got, err, want)
			}
		}
		mark("webhook-1", true)
		mark("webhook-1", false)
		seen("webhook-1", true)
		seen("webhook-2", false)
		for key := range dump(t, s) {
			if ttl := s.Client().PTTL(ctx, key).Val(); ttl <= 0 || ttl > 24*time.Hour {
				t.Errorf("%q lives for %v", key, ttl)
			}
		}
		redis.with(key(2), key(1))
		seen("webhook-1", true)
		mark("webhook-1", false)
	})
}

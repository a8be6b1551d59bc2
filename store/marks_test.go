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
		ok(t, s.MarkSeen(ctx, "webhook-1"))
		seen("webhook-1", true)
		seen("webhook-2", false)
		ok(t, s.PutState(ctx, "state-1", pat.Shop, time.Minute))
		ok(t, s.PutState(ctx, "state-2", pat.Shop, time.Minute))
		if err := s.PutState(ctx, "state-3", pat.Shop, 0); err == nil {
			t.Error("PutState without a life = nil; want an error: it would live for ever")
		}
		for key := range dump(t, s) {
			if ttl := s.Client().PTTL(ctx, key).Val(); ttl <= 0 || ttl > 24*time.Hour {
				t.Errorf("%q lives for %v", key, ttl)
			}
		}
		take := func(state, want string) {
			t.Helper()
			if got, err := redis.store.TakeState(ctx, state); err != nil || string(got) != want {
				t.Errorf("TakeState(%q) = %q, %v; want %q", state, got, err, want)
			}
		}
		take("state-1", string(pat.Shop))
		take("state-1", "")
		take("webhook-1", "")
		redis.with(key(2), key(1))
		seen("webhook-1", true)
		take("state-2", string(pat.Shop))
		take("state-2", "")
	})
}

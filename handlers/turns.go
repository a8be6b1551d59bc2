package handlers

import (
	"context"
	"sync"

	"manage-subscriptions/store"
)

// turns lets each shopper's clicks through one after the other, so that the
// second finds in the store what the first has asked Recharge for. The zero
// value is ready.
type turns struct {
	mu   sync.Mutex
	held map[store.Shopper]*turn
}

type turn struct {
	free    chan struct{} // holds one thing, which is the right to go on
	holders int           // who has it or waits for it; the last one out forgets the turn
}

// take waits for the shopper's turn. Its error is that of ctx; else the caller
// gives the turn back.
func (t *turns) take(ctx context.Context, who store.Shopper) (back func(), err error) {
	mine := t.join(who)
	select {
	case <-mine.free:
		return func() {
			mine.free <- struct{}{}
			t.leave(who, mine)
		}, nil
	case <-ctx.Done():
		t.leave(who, mine)
		return nil, ctx.Err()
	}
}

func (t *turns) join(who store.Shopper) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.held[who]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		if t.held == nil {
			t.held = map[store.Shopper]*turn{}
		}
		t.held[who] = mine
	}
	mine.holders++
	return mine
}

func (t *turns) leave(who store.Shopper, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.holders--; mine.holders == 0 {
		delete(t.held, who)
	}
}

package handlers

import (
	"context"
	"sync"

	"manage-subscriptions/store"
)

// turns lets each shopper's clicks through one after the other, so that the
// second finds in the store what the first has asked Recharge for. Whoever
// waited while a click to the same page was answered takes that answer: that
// holds without a store, too. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	held map[store.Shopper]*turn
}

type turn struct {
	free    chan struct{} // holds one thing, which is the right to go on
	holders int           // who has it or waits for it; the last one out forgets the turn

	ended int         // clicks that were answered
	visit store.Visit // where the last of them led
	last  Ending      // and how it ended
}

// do answers a click when its shopper's turn has come. Its error is that of ctx.
func (t *turns) do(ctx context.Context, who store.Shopper, visit store.Visit, answer func() Ending) (Ending, error) {
	mine, before := t.join(who)
	defer t.leave(who, mine)
	select {
	case <-mine.free:
	case <-ctx.Done():
		return Ending{}, ctx.Err()
	}
	defer func() { mine.free <- struct{}{} }()
	if ending, ok := t.since(mine, before, visit); ok {
		return ending, nil
	}
	ending := answer()
	t.end(mine, visit, ending)
	return ending, nil
}

func (t *turns) join(who store.Shopper) (mine *turn, before int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine = t.held[who]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		if t.held == nil {
			t.held = map[store.Shopper]*turn{}
		}
		t.held[who] = mine
	}
	mine.holders++
	return mine, mine.ended
}

func (t *turns) leave(who store.Shopper, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.holders--; mine.holders == 0 {
		delete(t.held, who)
	}
}

// since is the answer to a click to the same page that was given in the meantime.
func (t *turns) since(mine *turn, before int, visit store.Visit) (Ending, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return mine.last, mine.ended > before && mine.visit == visit
}

func (t *turns) end(mine *turn, visit store.Visit, ending Ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.ended++
	mine.visit, mine.last = visit, ending
}

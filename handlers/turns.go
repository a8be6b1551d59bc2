package handlers

import (
	"context"
	"sync"

	"manage-subscriptions/store"
)

// turns lets each shopper's clicks through one after the other, so that the
// second finds in the store what the first has asked Recharge for. Whoever
// waited while the same was answered takes that answer: that holds without a
// store, too. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	held map[store.Shopper]*turn
}

type turn struct {
	free    chan struct{} // holds one thing, which is the right to go on
	holders int           // who has it or waits for it; the last one out forgets the turn

	ended  int // turns that were taken
	asked  any // what was asked in the last of them
	answer any // and answered
}

// take answers what a shopper asks when their turn has come. Questions are
// comparable, and those of one type have answers of one type. answer is told whether
// nobody else's turn has ended meanwhile: what was known before still is. Its error is
// that of ctx.
func take[Question comparable, Answer any](ctx context.Context, t *turns, who store.Shopper, asked Question, answer func(undisturbed bool) Answer) (Answer, error) {
	mine, before := t.join(who)
	defer t.leave(who, mine)
	select {
	case <-mine.free:
	case <-ctx.Done():
		var none Answer
		return none, ctx.Err()
	}
	defer func() { mine.free <- struct{}{} }()
	said, undisturbed := t.since(mine, before, asked)
	if last, ok := said.(Answer); ok {
		return last, nil
	}
	last := answer(undisturbed)
	t.end(mine, asked, last)
	return last, nil
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

// since is the answer to the same question that was given in the meantime, nil if
// none was; and whether no turn was taken.
func (t *turns) since(mine *turn, before int, asked any) (answer any, undisturbed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.ended == before || mine.asked != asked {
		return nil, mine.ended == before
	}
	return mine.answer, false
}

func (t *turns) end(mine *turn, asked, answer any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.ended++
	mine.asked, mine.answer = asked, answer
}

package handlers

import (
	"context"
	"log/slog"
	"time"

	"manage-subscriptions/shopify"
)

// Book is where clicks are written down, whichever way they come.
type Book struct {
	Numbers Numbers
	Log     *slog.Logger
	Now     func() time.Time
	Observe []func(Click) // what else is told of each click; must not wait for anything
}

// write tells of a click that has been answered.
func (b *Book) write(ctx context.Context, id string, shop shopify.Shop, door Door, start time.Time, t *trail, ending Ending) {
	click := Click{
		RequestID: id, Shop: shop, Door: door, Outcome: ending.Outcome, Source: t.source,
		Start: start, Took: b.Now().Sub(start), Steps: t.steps, Cause: ending.Cause, Level: ending.level(),
	}
	logClick(ctx, b.Log, click)
	if ending.Way != nil { // of a shop that is not connected nothing is kept
		b.Numbers.click(click)
	}
	for _, observe := range b.Observe {
		observe(click)
	}
}

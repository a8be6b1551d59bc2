package store

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// rest is how long Redis is left alone after it failed: a click must not pay
// for a dead Redis twice.
const rest = time.Second

// gate keeps clicks from a Redis that fails, and says so once.
type gate struct {
	what string
	now  func() time.Time
	log  *slog.Logger

	mu    sync.Mutex
	down  bool
	retry time.Time // while down: leave it alone until then
}

// open tells whether to try.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.down || !g.now().Before(g.retry)
}

// report takes the result of a try. That a click's time was up is no fault of Redis.
func (g *gate) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.down
	g.down = err != nil
	switch {
	case g.down:
		g.retry = g.now().Add(rest)
		if !was {
			g.log.ErrorContext(ctx, "cannot "+g.what+"; clicks go on without it", "error", err)
		}
	case was:
		g.log.InfoContext(ctx, "can "+g.what+" again")
	}
}

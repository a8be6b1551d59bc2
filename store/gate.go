package store

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// patience is how long one round trip to Redis may take, whatever hangs.
	patience = 500 * time.Millisecond
	// restFor is how long Redis is left alone after it failed; then one click
	// tries it for all.
	restFor = time.Second
)

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
	if !g.down {
		return true
	}
	now := g.now()
	if now.Before(g.retry) {
		return false
	}
	g.retry = now.Add(restFor)
	return true
}

// up tells whether the last try was answered.
func (g *gate) up() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.down
}

// report takes the result of a try, and tells whether this one has closed the
// gate.
func (g *gate) report(ctx context.Context, err error) (closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.down
	g.down = err != nil
	switch {
	case g.down:
		g.retry = g.now().Add(restFor)
		if !was {
			g.log.ErrorContext(ctx, "cannot "+g.what+"; clicks go on without it", "error", err)
		}
	case was:
		g.log.InfoContext(ctx, "can "+g.what+" again")
	}
	return g.down && !was
}

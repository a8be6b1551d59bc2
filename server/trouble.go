package server

import (
	"context"
	"log/slog"
)

// trouble says once that a chore fails, and once that it does no more.
type trouble struct {
	what string
	log  *slog.Logger
	has  bool
}

func (t *trouble) report(err error) {
	switch {
	case err != nil && !t.has:
		t.log.LogAttrs(context.Background(), slog.LevelError, "cannot "+t.what+"; it is tried again", slog.Any("error", err))
	case err == nil && t.has:
		t.log.Info("can " + t.what + " again")
	}
	t.has = err != nil
}

package server

import (
	"context"
	"log/slog"
)

// logOnce logs once that a task fails, and once that it works again.
type logOnce struct {
	what   string
	log    *slog.Logger
	failed bool
}

func (l *logOnce) report(err error) {
	switch {
	case err != nil && !l.failed:
		message := "cannot " + l.what + "; it is tried again"
		l.log.LogAttrs(context.Background(), slog.LevelError, message, slog.Any("error", err))
	case err == nil && l.failed:
		l.log.Info("can " + l.what + " again")
	}
	l.failed = err != nil
}

package server

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"manage-subscriptions/config"
)

const (
	// logDelay is how long a line may wait for others. A click does not wait for the
	// file, which can be slow or stand still. An error is written at once.
	logDelay = 100 * time.Millisecond
	// logBuffer bounds the bytes that wait. Beyond it, logging waits for the file.
	logBuffer = 1 << 20
)

// NewLog returns the log that cfg asks for, and a function that writes the lines that
// still wait.
func NewLog(w io.Writer, cfg config.Config) (log *slog.Logger, flush func()) {
	lines := &lineBuffer{out: w}
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(lines, options)
	if cfg.LogText {
		handler = slog.NewTextHandler(lines, options)
	}
	return slog.New(&logHandler{handler, lines, newRepeats(time.Now)}), lines.flush
}

// logHandler leaves out repeated lines, and writes errors at once.
type logHandler struct {
	slog.Handler
	lines   *lineBuffer
	repeats *repeats
}

func (h *logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attributes), h.lines, h.repeats}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.lines, h.repeats}
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	write, omitted := h.repeats.add(record)
	if !write {
		return nil
	}
	if omitted > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("not_written", omitted))
	}
	err := h.Handler.Handle(ctx, record)
	if record.Level >= slog.LevelError {
		h.lines.flush()
	}
	return err
}

// lineBuffer gathers lines and writes them a moment later, together and in order.
type lineBuffer struct {
	out io.Writer

	writing sync.Mutex // held while out is written; locked before mu
	spare   []byte     // the buffer of the last write, for the next; guarded by writing

	mu      sync.Mutex
	waiting []byte
}

func (b *lineBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	first := len(b.waiting) == 0
	b.waiting = append(b.waiting, line...)
	full := len(b.waiting) >= logBuffer
	b.mu.Unlock()
	if first {
		time.AfterFunc(logDelay, b.flush)
	}
	if full {
		b.flush()
	}
	return len(line), nil
}

// flush writes the lines that wait. An error has nowhere to be reported.
func (b *lineBuffer) flush() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	lines := b.waiting
	b.waiting = b.spare
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.out.Write(lines)
	}
	b.spare = lines[:0]
}

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
	// logEvery is how long a line of the log may wait before it is written: a click does
	// not wait for the file. An error does not wait.
	logEvery = 100 * time.Millisecond
	// logBytes is how much may wait. What is more waits for the file.
	logBytes = 1 << 20
)

// NewLog returns the log that cfg asks for, and what writes the lines that still wait.
func NewLog(w io.Writer, cfg config.Config) (log *slog.Logger, flush func()) {
	lines := &lineBuffer{out: w}
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(lines, options)
	if cfg.LogText {
		handler = slog.NewTextHandler(lines, options)
	}
	return slog.New(newRepeats(&flushing{handler, lines}, time.Now)), lines.flush
}

// flushing writes at once what is an error.
type flushing struct {
	slog.Handler
	lines *lineBuffer
}

func (f *flushing) Handle(ctx context.Context, record slog.Record) error {
	err := f.Handler.Handle(ctx, record)
	if record.Level >= slog.LevelError {
		f.lines.flush()
	}
	return err
}

func (f *flushing) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &flushing{f.Handler.WithAttrs(attributes), f.lines}
}

func (f *flushing) WithGroup(name string) slog.Handler {
	return &flushing{f.Handler.WithGroup(name), f.lines}
}

// lineBuffer gathers lines, and writes them a moment later, all at once and in order.
type lineBuffer struct {
	out io.Writer

	writing sync.Mutex // held while out is written; taken before mu
	mu      sync.Mutex
	waiting []byte
	spare   []byte // to be used again
}

func (b *lineBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	first := len(b.waiting) == 0
	b.waiting = append(b.waiting, line...)
	full := len(b.waiting) >= logBytes
	b.mu.Unlock()
	if first {
		time.AfterFunc(logEvery, b.flush)
	}
	if full {
		b.flush()
	}
	return len(line), nil
}

// flush writes what waits. A log that cannot be written is nowhere to be complained of.
func (b *lineBuffer) flush() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	lines := b.waiting
	b.waiting, b.spare = b.spare[:0], nil
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.out.Write(lines)
	}
	b.mu.Lock()
	b.spare = lines[:0]
	b.mu.Unlock()
}

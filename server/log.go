package server

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// logDelay is how long a line may wait for others, so that no click waits for a file that is slow or
// stuck. An error is written at once.
const logDelay = 100 * time.Millisecond

// logBuffer limits the bytes that wait. Beyond it, logging waits for the file.
const logBuffer = 1 << 20

// NewLog returns a logger with cfg's level and format, and a function that writes the lines that are
// still waiting.
func NewLog(w io.Writer, cfg config.Config) (log *slog.Logger, flush func()) {
	lines := &lineBuffer{out: w}
	return newLog(lines, cfg), lines.flush
}

func newLog(lines *lineBuffer, cfg config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(lines, options)
	if cfg.LogText {
		handler = slog.NewTextHandler(lines, options)
	}
	return slog.New(&logHandler{handler, lines, &repeats{now: time.Now, all: map[string]*repeated{}}})
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

// lineBuffer gathers lines and writes them after logDelay, together and in order.
type lineBuffer struct {
	out io.Writer

	writing sync.Mutex // held while out is written; locked before mu

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

// flush writes the waiting lines. It drops an error, since there is nowhere to report it. A nil
// buffer has no lines.
func (b *lineBuffer) flush() {
	if b == nil {
		return
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	lines := b.waiting
	b.waiting = make([]byte, 0, len(lines)) // about as many will come next
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.out.Write(lines)
	}
}

const (
	repeatsWritten = 5 // identical warnings or errors, in repeatsPeriod
	repeatsPeriod  = time.Minute
	repeatsKept    = 1000 // distinct lines that are counted
)

// repeats counts the lines that were written recently. It keeps an outage from flooding the log,
// since every click logs some while Redis is down.
type repeats struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*repeated
}

type repeated struct {
	since time.Time
	times int
}

// add reports whether to write a line, and how many like it were omitted before it. A click's line
// is always written, so that every request id can be found.
func (r *repeats) add(record slog.Record) (write bool, omitted int) {
	if record.Level < slog.LevelWarn || record.Message == "click" {
		return true, 0
	}
	// Two lines about the same event, shop and cause have the same key.
	key := record.Level.String() + " " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "cause" || a.Key == "error" || a.Key == "shop" {
			key += " " + a.Value.String()
		}
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	now, last := r.now(), r.all[key]
	if last != nil && now.Sub(last.since) < repeatsPeriod {
		last.times++
		return last.times <= repeatsWritten, 0
	}
	if last != nil {
		omitted = max(0, last.times-repeatsWritten)
	}
	if len(r.all) >= repeatsKept {
		clear(r.all)
	}
	r.all[key] = &repeated{now, 1}
	return true, omitted
}

// logOnce logs once that a task fails, and once that it works again.
type logOnce struct {
	what   string
	log    *slog.Logger
	failed bool
}

func (l *logOnce) report(err error) {
	switch {
	case err != nil && !l.failed:
		l.log.Error("cannot "+l.what+"; it is tried again", "error", err)
	case err == nil && l.failed:
		l.log.Info("can " + l.what + " again")
	}
	l.failed = err != nil
}

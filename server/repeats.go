package server

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// repeatsShown is how often a minute a line of trouble is written that says the
	// same as the one before.
	repeatsShown = 5
	repeatsFor   = time.Minute
	// repeatsKept bounds how many different lines are told apart.
	repeatsKept = 1000
)

// repeats keeps trouble that comes again and again from flooding the log. A click's
// line is always written: whoever has its request id has to find it.
type repeats struct {
	slog.Handler
	seen *seen
}

// seen is what was written of late, by what it said.
type seen struct {
	mu  sync.Mutex
	now func() time.Time
	all map[string]*repeated
}

type repeated struct {
	since time.Time
	times int
}

func newRepeats(handler slog.Handler, now func() time.Time) *repeats {
	return &repeats{handler, &seen{now: now, all: map[string]*repeated{}}}
}

func (r *repeats) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &repeats{r.Handler.WithAttrs(attributes), r.seen}
}

func (r *repeats) WithGroup(name string) slog.Handler {
	return &repeats{r.Handler.WithGroup(name), r.seen}
}

// Handle writes a line, or only counts it. The next of its kind that is written says
// how many were not.
func (r *repeats) Handle(ctx context.Context, record slog.Record) error {
	if record.Level < slog.LevelWarn || record.Message == "click" {
		return r.Handler.Handle(ctx, record)
	}
	write, missing := r.seen.add(said(record))
	if !write {
		return nil
	}
	if missing > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("not_written", missing))
	}
	return r.Handler.Handle(ctx, record)
}

// said is what makes two lines the same: what happened, to which shop, and why.
func said(record slog.Record) string {
	text := record.Level.String() + " " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "cause" || a.Key == "error" || a.Key == "shop" {
			text += " " + a.Value.String()
		}
		return true
	})
	return text
}

// add tells whether a line is to be written, and how many like it were not.
func (s *seen) add(text string) (write bool, missing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	last := s.all[text]
	if last == nil || now.Sub(last.since) >= repeatsFor {
		if last != nil {
			missing = max(0, last.times-repeatsShown)
		}
		if len(s.all) >= repeatsKept {
			clear(s.all)
		}
		s.all[text] = &repeated{now, 1}
		return true, missing
	}
	last.times++
	return last.times <= repeatsShown, 0
}

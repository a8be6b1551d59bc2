package server

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// repeatsWritten is how many warnings and errors that say the same are written in
	// repeatsPeriod. While Redis is down, every click has some.
	repeatsWritten = 5
	repeatsPeriod  = time.Minute
	// repeatsKept bounds how many different lines are told apart.
	repeatsKept = 1000
)

// repeats counts the lines that were written recently. It keeps an outage from
// flooding the log.
type repeats struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*repeated
}

type repeated struct {
	since time.Time
	times int
}

func newRepeats(now func() time.Time) *repeats {
	return &repeats{now: now, all: map[string]*repeated{}}
}

// add reports whether to write a line, and how many like it were omitted before. A
// click's line is always written, so that every request id can be found.
func (r *repeats) add(record slog.Record) (write bool, omitted int) {
	if record.Level < slog.LevelWarn || record.Message == "click" {
		return true, 0
	}
	key := repeatKey(record)
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

// repeatKey is equal for two lines about the same event, shop and cause.
func repeatKey(record slog.Record) string {
	key := record.Level.String() + " " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "cause" || a.Key == "error" || a.Key == "shop" {
			key += " " + a.Value.String()
		}
		return true
	})
	return key
}

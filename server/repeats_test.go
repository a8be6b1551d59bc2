package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestRepeats: identical lines are written five times a minute, and the next line says how many were
// omitted. A click is always written.
func TestRepeats(t *testing.T) {
	now := time.Unix(1735689600, 0)
	var out bytes.Buffer
	handler := &logHandler{slog.NewTextHandler(&out, nil), &lineBuffer{out: &out}, &repeats{now: func() time.Time { return now }, all: map[string]*repeated{}}}
	log := slog.New(handler)
	count := func(part string) int { return strings.Count(out.String(), part) }
	for range 100 {
		log.Warn("does not open", "error", errors.New("bad seal"), "shop", "a")
		log.With("at", "x").Error("other", "cause", "why")
		log.Warn("click", "cause", "why")
		log.Info("fine")
	}
	log.Warn("does not open", "error", errors.New("another reason"))
	for part, want := range map[string]int{"bad seal": 5, "msg=other": 5, "msg=click": 100, "msg=fine": 100, "another reason": 1, "not_written": 0} {
		if got := count(part); got != want {
			t.Errorf("%q is written %d times; want %d", part, got, want)
		}
	}
	log.Warn("does not open", "error", errors.New("bad seal"), "shop", "b")
	if count("shop=b") != 1 {
		t.Error("the same line about another shop is not written")
	}
	now = now.Add(time.Minute)
	log.Warn("does not open", "error", errors.New("bad seal"), "shop", "a")
	if count("not_written=95") != 1 || count("bad seal") != 7 {
		t.Error("a minute later, the next line does not say that 95 were not written")
	}
}

// TestRepeatsAreBounded, whatever the lines say.
func TestRepeatsAreBounded(t *testing.T) {
	repeats := &repeats{now: time.Now, all: map[string]*repeated{}}
	for i := range 10 * repeatsKept {
		repeats.add(slog.NewRecord(time.Now(), slog.LevelError, fmt.Sprint(i), 0))
	}
	if n := len(repeats.all); n > repeatsKept {
		t.Errorf("%d distinct lines are kept; want at most %d", n, repeatsKept)
	}
}

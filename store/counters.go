package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

const (
	hours      = 24
	countsFor  = 25 * time.Hour
	errorsKept = 10
	errorSame  = time.Hour // repeats of an error within that time are counted, not listed
)

// Health holds a shop's counts and errors of the last day.
type Health struct {
	Hours  [hours]Hour   // the last one is the current hour
	Errors []RecentError // newest first
}

// Hour holds the counts of one hour.
type Hour struct {
	Start  time.Time
	Counts map[string]int64
}

// RecentError is an error that a merchant should know about.
type RecentError struct {
	At        time.Time // when it last occurred
	What      string
	RequestID string
	Times     int
}

// pending holds a shop's counts and errors since the last Flush.
type pending struct {
	counts map[string]int64
	errors []RecentError // newest first; the slice is replaced, never changed
}

// Count adds to a counter of a shop's current hour. Flush writes it.
func (s *Store) Count(shop shopify.Shop, name string, n int) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pendingOf(shop).counts[name] += int64(n)
}

// NoteError adds to a shop's recent errors. Flush writes it.
func (s *Store) NoteError(shop shopify.Shop, what, requestID string) {
	noted := RecentError{At: s.options.Now(), What: what, RequestID: requestID, Times: 1}
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pendingOf(shop).add(pending{errors: []RecentError{noted}})
}

// pendingOf returns what is pending for a shop. The caller must hold pendingMu.
func (s *Store) pendingOf(shop shopify.Shop) *pending {
	p := s.pending[shop]
	if p == nil {
		p = &pending{counts: map[string]int64{}}
		s.pending[shop] = p
	}
	return p
}

func (p *pending) add(more pending) {
	for name, n := range more.counts {
		p.counts[name] += n
	}
	p.errors = mergeErrors(p.errors, more.errors)
}

// mergeErrors merges two lists into one, newest first. Equal errors that follow one another within
// an hour become one.
func mergeErrors(a, b []RecentError) []RecentError {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(a, b RecentError) int { return b.At.Compare(a.At) })
	merged := all[:0]
	for _, e := range all {
		if n := len(merged); n > 0 && merged[n-1].What == e.What && merged[n-1].At.Sub(e.At) < errorSame {
			merged[n-1].Times += e.Times
			continue
		}
		merged = append(merged, e)
	}
	return merged[:min(len(merged), errorsKept)]
}

//go:embed same.lua
var sameScript string

// ifSame runs commands if Redis still holds this record of the shop, and reports whether it does. A
// command is its name, the number of its arguments, and the arguments.
func (s *Store) ifSame(ctx context.Context, r *Record, keys []string, commands ...any) (same bool, err error) {
	keys = append([]string{recordKey(r.Shop)}, keys...)
	return s.evalNow(ctx, sameScript, keys, append([]any{r.generation}, commands...)...).Bool()
}

// Flush writes what is pending. Failed writes are kept for the next Flush, and then count for that
// hour. If a shop was erased meanwhile, what was pending for it is dropped.
func (s *Store) Flush(ctx context.Context) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.pendingMu.Lock()
	all := maps.Clone(s.pending)
	s.pendingMu.Unlock()
	var failed error
	for shop, p := range all {
		s.pendingMu.Lock()
		taken := *p
		*p = pending{counts: map[string]int64{}}
		s.pendingMu.Unlock()
		if len(taken.counts) == 0 && len(taken.errors) == 0 {
			continue
		}
		if failed == nil || errors.Is(failed, ErrUnreadable) { // one unreadable record must not hold up other shops
			err := s.flush(ctx, shop, taken)
			if err == nil {
				continue
			}
			failed = fmt.Errorf("flush counters: %w", err)
		}
		s.pendingMu.Lock()
		p.add(taken)
		s.pendingMu.Unlock()
	}
	return failed
}

// flush writes what is pending for a shop, or drops it if the shop has no record.
func (s *Store) flush(ctx context.Context, shop shopify.Shop, p pending) error {
	var last []RecentError
	record, err := s.readSealed(ctx, shop, errorsKey(shop), &last)
	if err != nil || record == nil {
		return err
	}
	now := s.options.Now()
	var commands []any
	counters := campaignCounters(record, now)
	counters[hourKey(shop, now)] = countsFor
	for key, life := range counters {
		for name, n := range p.counts {
			commands = append(commands, "HINCRBY", 3, key, name, n)
		}
		commands = append(commands, "PEXPIRE", 2, key, life.Milliseconds())
	}
	if len(p.errors) > 0 {
		// If two instances do this at the same time, one of their errors may be lost.
		key := errorsKey(shop)
		sealed := record.sealJSON(key, mergeErrors(last, p.errors))
		commands = append(commands, "SET", 4, key, sealed, "PX", countsFor.Milliseconds())
	}
	keys := append(slices.Collect(maps.Keys(counters)), errorsKey(shop))
	_, err = s.ifSame(ctx, record, keys, commands...)
	return err
}

// Health returns a shop's last day, including what this process has not flushed yet.
func (s *Store) Health(ctx context.Context, shop shopify.Shop) (Health, error) {
	s.flushing.RLock()
	defer s.flushing.RUnlock()
	var health Health
	now := s.options.Now().UTC().Truncate(time.Hour)
	for i := range health.Hours {
		health.Hours[i] = Hour{Start: now.Add(time.Duration(i-hours+1) * time.Hour), Counts: map[string]int64{}}
	}
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	_, err := s.readSealed(ctx, shop, errorsKey(shop), &health.Errors)
	var all [hours]*redis.MapStringStringCmd
	if err == nil {
		_, err = s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, hour := range health.Hours {
				all[i] = pipe.HGetAll(ctx, hourKey(shop, hour.Start))
			}
			return nil
		})
	}
	if err != nil {
		return Health{}, fmt.Errorf("read counters: %w", err)
	}
	for i, hour := range all {
		for name, text := range hour.Val() {
			n, _ := strconv.ParseInt(text, 10, 64) // only HINCRBY writes there
			health.Hours[i].Counts[name] += n
		}
	}
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	if p := s.pending[shop]; p != nil {
		for name, n := range p.counts {
			health.Hours[hours-1].Counts[name] += n
		}
		health.Errors = mergeErrors(health.Errors, p.errors)
	}
	return health, nil
}

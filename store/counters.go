package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const (
	countsFor = 58 * 24 * time.Hour // 28 days, the 28 before, and what a time zone adds at either end
	errorsFor = 25 * time.Hour
	// errorsKept is how many errors are listed. Repeats within errorSame are one.
	errorsKept = 20
	errorSame  = time.Hour
)

// Unconnected is the counter that is kept for a shop without a record, too: its shoppers click, and it has not
// connected Recharge.
const Unconnected = "not_connected"

// Health holds a shop's counts, and its errors of the last day.
type Health struct {
	Hours  []Hour        // those in which something was counted, the oldest first
	Errors []RecentError // newest first
}

// Hour holds the counts of one hour.
type Hour struct {
	Start  time.Time
	Counts map[string]int64
}

// RecentError is an error that a merchant should know about.
type RecentError struct {
	First, Last time.Time // when it occurred
	What        string
	Times       int
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
func (s *Store) NoteError(shop shopify.Shop, what string) {
	now := s.options.Now()
	noted := RecentError{First: now, Last: now, What: what, Times: 1}
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
	slices.SortStableFunc(all, func(a, b RecentError) int { return b.Last.Compare(a.Last) })
	merged := all[:0]
	for _, e := range all {
		if n := len(merged); n > 0 && merged[n-1].What == e.What && merged[n-1].First.Sub(e.Last) < errorSame {
			merged[n-1].First, merged[n-1].Times = e.First, merged[n-1].Times+e.Times
			continue
		}
		merged = append(merged, e)
	}
	return merged[:min(len(merged), errorsKept)]
}

//go:embed same.lua
var sameScript string

// ifSame runs commands if Redis still holds this record of the shop, or still none if it is an empty one, and
// reports whether that is so. A command is its name, the number of its arguments, and the arguments.
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

// flush writes what is pending for a shop. If the shop has no record, that is at most Unconnected, and nothing
// if it has just been erased.
func (s *Store) flush(ctx context.Context, shop shopify.Shop, p pending) error {
	var last []RecentError
	record, err := s.readSealed(ctx, shop, errorsKey(shop), &last)
	if err != nil {
		return err
	}
	if record == nil {
		record, p = &Record{Shop: shop}, pending{counts: map[string]int64{Unconnected: p.counts[Unconnected]}}
		uninstalled, err := s.UninstalledAt(ctx, shop)
		if err != nil || !uninstalled.IsZero() || p.counts[Unconnected] == 0 {
			return err
		}
	}
	now := s.options.Now()
	day, hour := dayKey(shop, now), hourField(now)
	commands := []any{"PEXPIRE", 2, day, countsFor.Milliseconds()}
	keys := []string{day}
	for name, n := range p.counts {
		commands = append([]any{"HINCRBY", 3, day, hour + name, n}, commands...)
	}
	for key, life := range campaignCounters(record, now) {
		for name, n := range p.counts {
			commands = append(commands, "HINCRBY", 3, key, name, n)
		}
		commands = append(commands, "PEXPIRE", 2, key, life.Milliseconds())
		keys = append(keys, key)
	}
	if len(p.errors) > 0 {
		// If two instances do this at the same time, one of their errors may be lost.
		key := errorsKey(shop)
		sealed := record.sealJSON(key, mergeErrors(last, p.errors))
		commands, keys = append(commands, "SET", 4, key, sealed, "PX", errorsFor.Milliseconds()), append(keys, key)
	}
	_, err = s.ifSame(ctx, record, keys, commands...)
	return err
}

// dayKey returns the key of the counters of the day, in UTC, that contains a time. hourField is the part of a
// field's name that comes before the counter's.
func dayKey(shop shopify.Shop, at time.Time) string {
	return shopPrefix(shop) + "h:" + at.UTC().Format("20060102")
}
func hourField(at time.Time) string { return at.UTC().Format("15:") }

// dayKeys returns the keys of all days since a time, up to today.
func (s *Store) dayKeys(shop shopify.Shop, since time.Time) (keys []string, days []time.Time) {
	now := s.options.Now()
	if oldest := now.Add(-countsFor); since.Before(oldest) {
		since = oldest
	}
	for day := since.UTC().Truncate(24 * time.Hour); !day.After(now); day = day.Add(24 * time.Hour) {
		keys, days = append(keys, dayKey(shop, day)), append(days, day)
	}
	return keys, days
}

// Health returns a shop's counts since a time, in whole hours, and its recent errors. It includes what this
// process has not flushed yet.
func (s *Store) Health(ctx context.Context, shop shopify.Shop, since time.Time) (Health, error) {
	s.flushing.RLock()
	defer s.flushing.RUnlock()
	var health Health
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	if _, err := s.readSealed(ctx, shop, errorsKey(shop), &health.Errors); err != nil {
		return Health{}, fmt.Errorf("read errors: %w", err)
	}
	hours := map[time.Time]map[string]int64{}
	count := func(hour time.Time, name string, n int64) {
		if hours[hour] == nil {
			hours[hour] = map[string]int64{}
		}
		hours[hour][name] += n
	}
	first := since.UTC().Truncate(time.Hour)
	keys, days := s.dayKeys(shop, since)
	for i, key := range keys {
		// One at a time: a pipeline this long would block the embedded Redis, whose pipe holds nothing.
		fields, err := s.redis.HGetAll(ctx, key).Result()
		if err != nil {
			return Health{}, fmt.Errorf("read counters: %w", err)
		}
		for field, text := range fields {
			hour, name, _ := strings.Cut(field, ":")
			at, err := strconv.Atoi(hour)
			n, _ := strconv.ParseInt(text, 10, 64) // only HINCRBY writes there
			if start := days[i].Add(time.Duration(at) * time.Hour); err == nil && !start.Before(first) {
				count(start, name, n)
			}
		}
	}
	s.pendingMu.Lock()
	if p := s.pending[shop]; p != nil {
		for name, n := range p.counts {
			count(s.options.Now().UTC().Truncate(time.Hour), name, n)
		}
		health.Errors = mergeErrors(health.Errors, p.errors)
	}
	s.pendingMu.Unlock()
	for _, start := range slices.SortedFunc(maps.Keys(hours), time.Time.Compare) {
		health.Hours = append(health.Hours, Hour{start, hours[start]})
	}
	return health, nil
}

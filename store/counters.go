package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

const (
	hours      = 24
	countsFor  = 25 * time.Hour
	errorsKept = 10
	errorSame  = time.Hour // within which the same error is counted, not listed again
)

// Health is how a shop's last day went.
type Health struct {
	Hours  [hours]Hour   // the last one is the current hour
	Errors []RecentError // newest first
}

// Hour is how often what happened in an hour.
type Hour struct {
	Start  time.Time
	Counts map[string]int64
}

// RecentError is an error that a merchant should know of.
type RecentError struct {
	At        time.Time // the last time
	What      string
	RequestID string
	Times     int
}

// counts are what was counted and not yet flushed. Clicks add without a lock.
type counts struct{ byShop sync.Map } // shopify.Shop to *counters

type counters struct {
	byName sync.Map // string to *atomic.Int64

	mu     sync.Mutex
	errors []RecentError // newest first
}

func (c *counts) of(shop shopify.Shop) *counters {
	all, ok := c.byShop.Load(shop)
	if !ok {
		all, _ = c.byShop.LoadOrStore(shop, &counters{})
	}
	return all.(*counters)
}

func (c *counts) forget(shop shopify.Shop) { c.byShop.Delete(shop) }

// Count adds to a counter of this hour of a connected shop. It asks nobody: Flush writes.
func (s *Store) Count(shop shopify.Shop, name string, n int) { s.counts.of(shop).add(name, int64(n)) }

func (c *counters) add(name string, n int64) {
	counter, ok := c.byName.Load(name)
	if !ok {
		counter, _ = c.byName.LoadOrStore(name, new(atomic.Int64))
	}
	counter.(*atomic.Int64).Add(n)
}

// pending is what was counted, which take empties.
func (c *counters) pending(take bool) (map[string]int64, []RecentError) {
	counts := map[string]int64{}
	c.byName.Range(func(name, counter any) bool {
		n := counter.(*atomic.Int64).Load()
		if take {
			n = counter.(*atomic.Int64).Swap(0)
		}
		if n != 0 {
			counts[name.(string)] = n
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := c.errors
	if take {
		c.errors = nil
	}
	return counts, errs
}

// NoteError notes an error. A zero At is now. It asks nobody: Flush writes.
func (s *Store) NoteError(shop shopify.Shop, e RecentError) {
	if e.At.IsZero() {
		e.At = s.options.Now()
	}
	e.Times = max(e.Times, 1)
	s.counts.of(shop).note(e)
}

func (c *counters) note(errs ...RecentError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors = mergeErrors(c.errors, errs)
}

// mergeErrors puts two lists into one, newest first, in which none follows its like of
// the same hour.
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

func hourOf(t time.Time) int64 { return t.UTC().Truncate(time.Hour).Unix() }

//go:embed same.lua
var sameScript string

// onlyIfSame runs commands, each its name, the number of its arguments, and these, if
// the shop's record is still this one. It reports whether it is.
func (s *Store) onlyIfSame(ctx context.Context, r *Record, keys []string, commands ...any) (same bool, err error) {
	var result *redis.Cmd
	err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		arguments := append([]any{r.generation}, commands...)
		result = pipe.Eval(ctx, sameScript, append([]string{recordKey(r.Shop)}, keys...), arguments...)
	})
	if err != nil {
		return false, err
	}
	n, err := result.Int()
	return n == 1, err
}

// Flush writes what was counted and noted. What cannot be written is kept for the next
// time, and then belongs to that hour.
func (s *Store) Flush(ctx context.Context) (failed error) {
	s.counts.byShop.Range(func(shop, all any) bool {
		counters := all.(*counters)
		counts, errs := counters.pending(true)
		if len(counts) == 0 && len(errs) == 0 {
			return true
		}
		if err := s.flush(ctx, shop.(shopify.Shop), counts, errs); err != nil {
			for name, n := range counts {
				counters.add(name, n)
			}
			counters.note(errs...)
			failed = fmt.Errorf("flush counters: %w", err)
			return errors.Is(err, errRecord) // one that does not open keeps no other waiting
		}
		return true
	})
	return failed
}

// flush writes what was counted of a shop. Of one of which nothing is kept, nothing is counted.
func (s *Store) flush(ctx context.Context, shop shopify.Shop, counts map[string]int64, errs []RecentError) error {
	record, last, err := s.readErrors(ctx, shop)
	if err != nil || record == nil {
		return err
	}
	hour := hourKey(shop, hourOf(s.options.Now()))
	commands := []any{}
	for name, n := range counts {
		commands = append(commands, "HINCRBY", 3, hour, name, n)
	}
	if len(counts) > 0 {
		commands = append(commands, "PEXPIRE", 2, hour, countsFor.Milliseconds())
	}
	if len(errs) > 0 {
		// Two instances that do so in the same moment may lose one of two errors.
		key := errorsKey(shop)
		sealed := record.sealJSON(key, mergeErrors(last, errs))
		commands = append(commands, "SET", 4, key, sealed, "PX", countsFor.Milliseconds())
	}
	_, err = s.onlyIfSame(ctx, record, []string{hour, errorsKey(shop)}, commands...)
	return err
}

// readErrors reads a shop's record and recent errors.
func (s *Store) readErrors(ctx context.Context, shop shopify.Shop) (*Record, []RecentError, error) {
	var errs []RecentError
	record, err := s.readSealed(ctx, shop, errorsKey(shop), &errs)
	return record, errs, err
}

// Health returns how a shop's last day went, with what this process has not flushed yet.
func (s *Store) Health(ctx context.Context, shop shopify.Shop) (Health, error) {
	var health Health
	now := s.options.Now().UTC().Truncate(time.Hour)
	for i := range health.Hours {
		health.Hours[i] = Hour{Start: now.Add(time.Duration(i-hours+1) * time.Hour), Counts: map[string]int64{}}
	}
	_, errs, err := s.readErrors(ctx, shop)
	if err == nil {
		err = s.readHours(ctx, shop, &health)
	}
	if err != nil {
		return Health{}, fmt.Errorf("read counters: %w", err)
	}
	counts, noted := s.counts.of(shop).pending(false)
	for name, n := range counts {
		health.Hours[hours-1].Counts[name] += n
	}
	health.Errors = mergeErrors(errs, noted)
	return health, nil
}

// readHours reads all hours in one round trip.
func (s *Store) readHours(ctx context.Context, shop shopify.Shop, health *Health) error {
	var all [hours]*redis.MapStringStringCmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, hour := range health.Hours {
			all[i] = pipe.HGetAll(ctx, hourKey(shop, hour.Start.Unix()))
		}
	})
	if err != nil {
		return err
	}
	for i := range all {
		for name, text := range maps.All(all[i].Val()) {
			n, _ := strconv.ParseInt(text, 10, 64) // only HINCRBY writes there
			health.Hours[i].Counts[name] += n
		}
	}
	return nil
}

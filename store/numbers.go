package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

const (
	hours        = 24
	numbersFor   = 25 * time.Hour
	troublesKept = 10
	troubleSame  = time.Hour // within which the same trouble is counted, not told again

	// What a process gathers between two flushes, and keeps while Redis is down.
	pendingShops = 10_000
	pendingNames = 100 // of an hour
)

// Health is how a shop's last day went.
type Health struct {
	Hours    [hours]Hour // the last one is the current hour
	Troubles []Trouble   // newest first
}

// Hour is how often what happened in an hour.
type Hour struct {
	Start   time.Time
	Numbers map[string]int64
}

// Trouble is an error that a merchant should know of.
type Trouble struct {
	At        time.Time // the last time
	What      string
	RequestID string
	Times     int
}

// pending is what was counted and not yet flushed.
type pending struct {
	mu    sync.Mutex
	shops map[shopify.Shop]*gathered
}

type gathered struct {
	hours    map[int64]map[string]int64 // by the hour's start, in seconds since 1970
	troubles []Trouble                  // newest first
}

// of is what was gathered of a shop; nil: there is no room. It is called with
// the lock held.
func (p *pending) of(shop shopify.Shop) *gathered {
	if g := p.shops[shop]; g != nil || len(p.shops) >= pendingShops {
		return g
	}
	if p.shops == nil {
		p.shops = map[shopify.Shop]*gathered{}
	}
	g := &gathered{hours: map[int64]map[string]int64{}}
	p.shops[shop] = g
	return g
}

func (p *pending) forget(shop shopify.Shop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.shops, shop)
}

func (g *gathered) count(hour int64, name string, n int64) {
	numbers := g.hours[hour]
	if numbers == nil {
		numbers = map[string]int64{}
		g.hours[hour] = numbers
	}
	if _, known := numbers[name]; known || len(numbers) < pendingNames {
		numbers[name] += n
	}
}

func hourOf(t time.Time) int64 { return t.UTC().Truncate(time.Hour).Unix() }

// Count adds to a number of this hour. It asks nobody: Flush writes.
func (s *Store) Count(shop shopify.Shop, name string, n int) {
	hour := hourOf(s.options.Now())
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	if g := s.pending.of(shop); g != nil {
		g.count(hour, name, int64(n))
	}
}

// Trouble notes an error. A zero At is now. It asks nobody: Flush writes.
func (s *Store) Trouble(shop shopify.Shop, t Trouble) {
	if t.At.IsZero() {
		t.At = s.options.Now()
	}
	t.Times = max(t.Times, 1)
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	if g := s.pending.of(shop); g != nil {
		g.troubles = merge(g.troubles, []Trouble{t})
	}
}

// merge puts two lists of troubles into one, newest first, in which none follows
// its like of the same hour.
func merge(a, b []Trouble) []Trouble {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(a, b Trouble) int { return b.At.Compare(a.At) })
	merged := all[:0]
	for _, t := range all {
		if n := len(merged); n > 0 && merged[n-1].What == t.What && merged[n-1].At.Sub(t.At) < troubleSame {
			merged[n-1].Times += t.Times
			continue
		}
		merged = append(merged, t)
	}
	return merged[:min(len(merged), troublesKept)]
}

// add puts what could not be flushed back to what was gathered since.
func (p *pending) add(shop shopify.Shop, g *gathered, since int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	into := p.of(shop)
	if into == nil {
		return
	}
	for hour, numbers := range g.hours {
		if hour < since {
			continue
		}
		for name, n := range numbers {
			into.count(hour, name, n)
		}
	}
	into.troubles = merge(into.troubles, g.troubles)
}

func (p *pending) take() map[shopify.Shop]*gathered {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.shops
	p.shops = nil
	return taken
}

// Flush writes what was counted and noted. What cannot be written is kept for
// the next time.
func (s *Store) Flush(ctx context.Context) error {
	var errs []error
	for shop, g := range s.pending.take() {
		if len(errs) == 0 {
			err := s.flush(ctx, shop, g)
			if err == nil {
				continue
			}
			errs = append(errs, err)
		}
		s.pending.add(shop, g, hourOf(s.options.Now().Add(-hours*time.Hour)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush numbers: %w", err)
	}
	return nil
}

func hourKey(s *sealer, shop shopify.Shop, hour int64) string {
	return shopOf(s, shop) + kindHour + s.name(nameSize, "hour", string(shop), strconv.FormatInt(hour, 10))
}

func troublesKey(s *sealer, shop shopify.Shop) string { return shopOf(s, shop) + kindTroubles }

// flush writes what was gathered of a shop, in one transaction.
func (s *Store) flush(ctx context.Context, shop shopify.Shop, g *gathered) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	sealer := s.sealers[0]
	write := func(pipe redis.Pipeliner) {
		for hour, numbers := range g.hours {
			key := hourKey(sealer, shop, hour)
			for name, n := range numbers {
				pipe.HIncrBy(ctx, key, name, n)
			}
			pipe.PExpire(ctx, key, numbersFor)
		}
	}
	if len(g.troubles) == 0 {
		_, err := s.redis.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			write(pipe)
			return nil
		})
		return err
	}
	return s.flushTroubles(ctx, shop, g.troubles, write)
}

// flushTroubles adds to the troubles that other instances have written, too.
func (s *Store) flushTroubles(ctx context.Context, shop shopify.Shop, troubles []Trouble, more func(redis.Pipeliner)) error {
	sealer := s.sealers[0]
	key := troublesKey(sealer, shop)
	return s.watched(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
		sealed, err := tx.Get(ctx, key).Result()
		if err := notNil(err); err != nil {
			return err
		}
		entry, err := json.Marshal(merge(openTroubles(sealer, key, sealed), troubles))
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, key, sealer.seal(key, entry), numbersFor)
			more(pipe)
			return nil
		})
		return err
	})
}

func openTroubles(sealer *sealer, key, sealed string) []Trouble {
	var troubles []Trouble
	if entry, err := sealer.open(key, []byte(sealed)); err == nil {
		_ = json.Unmarshal(entry, &troubles) // what is not JSON is no trouble
	}
	return troubles
}

// Health returns how a shop's last day went, with what this process has not
// flushed yet.
func (s *Store) Health(ctx context.Context, shop shopify.Shop) (Health, error) {
	var health Health
	now := s.options.Now().UTC().Truncate(time.Hour)
	for i := range health.Hours {
		health.Hours[i] = Hour{Start: now.Add(time.Duration(i-hours+1) * time.Hour), Numbers: map[string]int64{}}
	}
	if err := s.readHealth(ctx, shop, &health); err != nil {
		return Health{}, fmt.Errorf("read numbers: %w", err)
	}
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	if g := s.pending.shops[shop]; g != nil {
		for _, hour := range health.Hours {
			for name, n := range g.hours[hour.Start.Unix()] {
				hour.Numbers[name] += n
			}
		}
		health.Troubles = merge(health.Troubles, g.troubles)
	}
	return health, nil
}

// readHealth reads all hours and troubles in one round trip.
func (s *Store) readHealth(ctx context.Context, shop shopify.Shop, health *Health) error {
	numbers := make([][hours]*redis.MapStringStringCmd, len(s.sealers))
	troubles := make([]*redis.StringCmd, len(s.sealers))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			for j, hour := range health.Hours {
				numbers[i][j] = pipe.HGetAll(ctx, hourKey(sealer, shop, hour.Start.Unix()))
			}
			troubles[i] = pipe.Get(ctx, troublesKey(sealer, shop))
		}
	})
	if err != nil {
		return err
	}
	for i, sealer := range s.sealers {
		for j := range health.Hours {
			for name, text := range maps.All(numbers[i][j].Val()) {
				n, _ := strconv.ParseInt(text, 10, 64) // only HINCRBY writes there
				health.Hours[j].Numbers[name] += n
			}
		}
		health.Troubles = merge(health.Troubles, openTroubles(sealer, troublesKey(sealer, shop), troubles[i].Val()))
	}
	return nil
}

package store

import (
	"context"
	_ "embed" // a script
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

const (
	indexKey = prefix + "index"
	roundKey = prefix + "round"

	// sweepLease is how long a sweep may say nothing before another server goes on
	// with it.
	sweepLease = 30 * time.Second
	// indexSlack is how much longer than CustomerTTL what a sweep has found is fresh:
	// the next night's takes its time, too.
	indexSlack = 3 * time.Hour
	// indexFor is how long an index is taken for all there is, after a sweep.
	indexFor = 48 * time.Hour
)

//go:embed due.lua
var dueScript string

// Index is how far the index of a shop is.
type Index struct {
	Shop   shopify.Shop
	Number uint64 // of the sweep; 0: none has begun

	// Of the sweep that is under way, or was the last:
	Running   bool
	Began     time.Time
	Cursor    string // of the next page
	Pages     int
	Customers int // read

	// Of the last one that came to its end:
	Done time.Time // zero: none
	Size int       // customers that it read

	Problem string // why the sweep does not go on, in plain words; "" it does
}

// Percent is how much a sweep has read of what the last one did. Recharge does not
// say how much there is: at first it is 0.
func (i Index) Percent() int {
	if !i.Running || i.Size == 0 {
		return 0
	}
	return min(99, 100*i.Customers/i.Size)
}

// Sweep is the right to sweep a shop.
type Sweep struct {
	Index
	member, score string
}

func indexOf(s *sealer, shop shopify.Shop) string { return shopOf(s, shop) + kindIndex }

// member is a shop in the sorted set: how its keys begin, without the braces.
func member(s *sealer, shop shopify.Shop) string {
	return strings.TrimSuffix(strings.TrimPrefix(shopOf(s, shop), prefix+"{"), "}")
}

// WatchIndex has a shop swept, if it never was. Otherwise it is swept when it is
// due.
func (s *Store) WatchIndex(ctx context.Context, shop shopify.Shop) error {
	return s.orderIndex(ctx, shop, func(ctx context.Context, pipe redis.Pipeliner, z redis.Z) { pipe.ZAddNX(ctx, indexKey, z) })
}

// OrderIndex has a shop swept at once. One that is being swept goes on.
func (s *Store) OrderIndex(ctx context.Context, shop shopify.Shop) error {
	return s.orderIndex(ctx, shop, func(ctx context.Context, pipe redis.Pipeliner, z redis.Z) { pipe.ZAddLT(ctx, indexKey, z) })
}

func (s *Store) orderIndex(ctx context.Context, shop shopify.Shop, add func(context.Context, redis.Pipeliner, redis.Z)) error {
	newest := s.sealers[0]
	key := indexOf(newest, shop)
	entry, err := json.Marshal(Index{Shop: shop})
	if err == nil {
		err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
			pipe.SetNX(ctx, key, newest.seal(key, entry), 0)
			add(ctx, pipe, redis.Z{Member: member(newest, shop)})
		})
	}
	if err != nil {
		return fmt.Errorf("order index: %w", err)
	}
	return nil
}

// resetIndex takes the sweep from whoever has it, and forgets how far it was.
func (s *Store) resetIndex(ctx context.Context, shop shopify.Shop) error {
	newest := s.sealers[0]
	key := indexOf(newest, shop)
	index, err := s.readIndex(ctx, key)
	if err != nil {
		return err
	}
	entry, err := json.Marshal(Index{Shop: shop, Number: index.Number})
	if err != nil {
		return err
	}
	return s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.SetXX(ctx, key, newest.seal(key, entry), 0)
		pipe.ZAddXX(ctx, indexKey, redis.Z{Member: member(newest, shop)})
	})
}

// Index tells how far the index of a shop is. The zero Index is none.
func (s *Store) Index(ctx context.Context, shop shopify.Shop) (Index, error) {
	index, err := s.readIndex(ctx, indexOf(s.sealers[0], shop))
	if err != nil {
		return Index{}, fmt.Errorf("read index: %w", err)
	}
	return index, nil
}

// Indexed tells whether the index of a shop is complete: whoever is not in it is
// nobody's customer.
func (s *Store) Indexed(ctx context.Context, shop shopify.Shop) bool {
	index, err := s.Index(ctx, shop)
	return err == nil && !index.Done.IsZero() && s.options.Now().Sub(index.Done) < indexFor
}

func (s *Store) readIndex(ctx context.Context, key string) (Index, error) {
	values, err := s.get(ctx, []string{key})
	if err != nil || values[0] == "" {
		return Index{}, err
	}
	var index Index
	entry, err := s.sealers[0].open(key, []byte(values[0]))
	if err == nil {
		err = json.Unmarshal(entry, &index)
	}
	if err != nil {
		return Index{}, nil //nolint:nilerr // sealed by a key that is not the newest any more: begin anew
	}
	return index, nil
}

// TakeRound tells whether nobody else has made the round of all shops in that time:
// it goes through all that Redis holds.
func (s *Store) TakeRound(ctx context.Context, every time.Duration) (bool, error) {
	mine, err := s.redis.SetNX(ctx, roundKey, "", every).Result()
	if err != nil {
		return false, fmt.Errorf("take round: %w", err)
	}
	return mine, nil
}

// TakeSweep takes one that is due, so that nobody else does; nil: none is.
func (s *Store) TakeSweep(ctx context.Context) (*Sweep, error) {
	for {
		taken, err := s.due(ctx, sweepLease)
		if err != nil || taken == nil {
			return nil, err
		}
		index, err := s.readIndex(ctx, prefix+"{"+taken.member+"}"+kindIndex)
		if err != nil {
			return nil, fmt.Errorf("take sweep: %w", err)
		}
		if index.Shop != "" && member(s.sealers[0], index.Shop) == taken.member {
			taken.Index = index
			return taken, nil
		}
		// Erased, or of an older encryption key.
		if err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) { pipe.ZRem(ctx, indexKey, taken.member) }); err != nil {
			return nil, fmt.Errorf("take sweep: %w", err)
		}
	}
}

// due asks the script: which is due or, of one that is had, for how long.
func (s *Store) due(ctx context.Context, life time.Duration, of ...any) (*Sweep, error) {
	var result *redis.Cmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		result = pipe.Eval(ctx, dueScript, []string{indexKey}, append([]any{life.Milliseconds()}, of...)...)
	})
	if err != nil {
		return nil, fmt.Errorf("take sweep: %w", err)
	}
	answer, err := result.StringSlice()
	if err != nil || len(answer) != 2 {
		return nil, nil //nolint:nilerr // an empty list is none
	}
	return &Sweep{member: answer[0], score: answer[1]}, nil
}

// Keep has a sweep for longer, and keeps how far it is. It tells whether it is
// still had: somebody else may have gone on with it, or the shop be erased.
func (s *Store) Keep(ctx context.Context, sweep *Sweep) (bool, error) {
	return s.until(ctx, sweep, sweepLease)
}

// End has a sweep begin anew, or go on, after a time.
func (s *Store) End(ctx context.Context, sweep *Sweep, next time.Duration) error {
	_, err := s.until(ctx, sweep, next)
	return err
}

func (s *Store) until(ctx context.Context, sweep *Sweep, life time.Duration) (bool, error) {
	had, err := s.due(ctx, life, sweep.member, sweep.score)
	if err != nil || had == nil {
		return false, err
	}
	sweep.score = had.score
	key := indexOf(s.sealers[0], sweep.Shop)
	entry, err := json.Marshal(sweep.Index)
	if err != nil {
		return false, fmt.Errorf("keep sweep: %w", err)
	}
	err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.SetXX(ctx, key, s.sealers[0].seal(key, entry), 0) // what is erased stays so
	})
	if err != nil {
		return false, fmt.Errorf("keep sweep: %w", err)
	}
	return true, nil
}

// indexed is what a sweep has found of one shopper, in the pages so far: a record
// or, if there are several with none to prefer, that, and whether any is active.
type indexed struct {
	sweep    uint64
	customer recharge.Customer
	several  bool
}

// with adds another record: of several it takes the one with active subscriptions
// if exactly one has any, as a lookup does.
func (i indexed) with(customer recharge.Customer) indexed {
	next := indexed{sweep: i.sweep, customer: customer}
	switch {
	case i.several && i.customer.Active == 0 && customer.Active > 0, // none of the others is
		!i.several && i.customer.ID == customer.ID: // the same page again
		return next
	case i.several, i.customer.Active > 0 && customer.Active == 0:
		return i
	case i.customer.Active == 0 && customer.Active > 0:
		return next
	}
	return indexed{sweep: i.sweep, several: true, customer: recharge.Customer{Active: min(customer.Active, 1)}}
}

// Fill remembers a page of a sweep. What is remembered of a shopper by the same
// sweep already is taken into account.
func (s *Store) Fill(ctx context.Context, sweep *Sweep, records []recharge.Record) error {
	if len(records) == 0 {
		return nil
	}
	newest := s.sealers[0]
	keys := make([]string, len(records))
	for i, record := range records {
		keys[i], _ = shopperKeys(newest, Shopper{Shop: sweep.Shop, Customer: shopify.CustomerID(record.ShopifyID)})
	}
	before, err := s.indexedBefore(ctx, sweep.Number, keys)
	if err != nil {
		return fmt.Errorf("fill index: %w", err)
	}
	now := s.options.Now()
	err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, record := range records {
			found := indexed{sweep: sweep.Number, customer: record.Customer}
			met, ok := before[keys[i]]
			switch {
			case ok && met.sweep == sweep.Number:
				found = met.with(record.Customer)
			case ok && met.customer.ID != record.Customer.ID: // a lookup has seen all of the shopper's records
				continue
			}
			before[keys[i]] = found
			ttl := time.Duration(float64(s.options.CustomerTTL)*(1+0.1*rand.Float64())) + indexSlack //nolint:gosec // a spread, not a secret
			entry := encodeIndexed(shopify.CustomerID(record.ShopifyID), found, now.Add(ttl))
			pipe.Set(ctx, keys[i], newest.seal(keys[i], entry), ttl+staleFor)
			for _, older := range s.sealers[1:] {
				key, _ := shopperKeys(older, Shopper{Shop: sweep.Shop, Customer: shopify.CustomerID(record.ShopifyID)})
				pipe.Del(ctx, key)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("fill index: %w", err)
	}
	return nil
}

// indexedBefore is what this sweep has written at keys, which are of one shop, and
// what lookups have that still holds: of no sweep.
func (s *Store) indexedBefore(ctx context.Context, sweep uint64, keys []string) (map[string]indexed, error) {
	var values *redis.SliceCmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) { values = pipe.MGet(ctx, keys...) })
	if err != nil {
		return nil, err
	}
	before := map[string]indexed{}
	for i, value := range values.Val() {
		sealed, _ := value.(string)
		entry, err := s.sealers[0].open(keys[i], []byte(sealed))
		if err != nil {
			continue
		}
		o, ok := unpack(entry)
		lookup := o.kind == kindCustomer && s.options.Now().Before(o.time)
		if ok && (lookup || o.sweep == sweep && o.kind != kindCustomer && o.kind != kindNotSubscriber) {
			before[keys[i]] = o.indexed()
		}
	}
	return before, nil
}

func (o opened) indexed() indexed {
	if o.kind == kindSeveral {
		active, _, _ := cutNumber(o.rest)
		return indexed{sweep: o.sweep, several: true, customer: recharge.Customer{Active: int(active)}}
	}
	return indexed{sweep: o.sweep, customer: decodeCustomer(o.rest)}
}

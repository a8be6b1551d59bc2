package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Erasure is an order to erase.
type Erasure struct {
	Shop     shopify.Shop
	Customer shopify.CustomerID // "": the whole shop
	// At is when it was ordered, in the platform's word: tokens of the shop that
	// were issued up to then are no good any more.
	At time.Time
	// Connection: one saved at or before this is erased, too; zero: none is.
	Connection time.Time
}

// order is work that outlives a request: an erasure, or a sweep.
type order struct {
	Erasure
	Sweep   bool      `json:",omitzero"`
	Ordered time.Time // by our clock
	Once    bool      `json:",omitzero"` // the first pass of an erasure is done
	Due     time.Time `json:",omitzero"` // a sweep's next
}

// field is the order's place among orders. Another order has another place, so
// that none can be lost in a change of another.
func (o order) field(s *sealer) string {
	what := "erase"
	if o.Sweep {
		what = "sweep"
	}
	name := []string{what, string(o.Shop), string(o.Customer), stamp(o.At), stamp(o.Connection)}
	if !o.Sweep { // one that comes later has to settle by itself
		name = append(name, stamp(o.Ordered))
	}
	return ordersOf(s, o.Shop, what) + s.name(nameSize, name...)
}

func stamp(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 36) }

// ordersOf is how the fields of a shop's orders of one kind begin.
func ordersOf(s *sealer, shop shopify.Shop, what string) string {
	return s.name(8, "orders", what, string(shop)) + "."
}

// settledAt is when no click can be under way any more that began before.
func (s *Store) settledAt(o order) time.Time {
	if o.At.After(o.Ordered) {
		return o.At.Add(s.options.Settle)
	}
	return o.Ordered.Add(s.options.Settle)
}

// OrderErasure orders to erase a shopper or a shop. Once it returns nil, Redis
// has the order, and the connection, if that is to go, is gone; Work does the
// rest. The same order again is one more, and does the same.
func (s *Store) OrderErasure(ctx context.Context, e Erasure) error {
	o := order{Erasure: e, Ordered: s.options.Now()}
	if err := s.durably(ctx, ordersKey, s.place(o)); err != nil {
		return fmt.Errorf("order erasure: %w", err)
	}
	if e.Customer != "" {
		return nil
	}
	if err := s.eraseConnection(ctx, e); err != nil {
		return fmt.Errorf("order erasure: %w", err)
	}
	return nil
}

// place writes an order, unless it is there.
func (s *Store) place(o order) func(context.Context, *redis.Tx) error {
	return func(ctx context.Context, tx *redis.Tx) error {
		for _, older := range s.sealers[1:] {
			if there, err := tx.HExists(ctx, ordersKey, o.field(older)).Result(); err != nil || there {
				return err
			}
		}
		entry, err := json.Marshal(o)
		if err != nil {
			return err
		}
		field := o.field(s.sealers[0])
		return tx.HSetNX(ctx, ordersKey, field, s.sealers[0].seal(fieldOf(ordersKey, field), entry)).Err()
	}
}

// eraseConnection drops a connection that was saved no later than the order says.
func (s *Store) eraseConnection(ctx context.Context, e Erasure) error {
	if e.Connection.IsZero() {
		return nil
	}
	var errs []error
	for _, sealer := range slices.Backward(s.sealers) {
		key := connectionKey(sealer, e.Shop)
		errs = append(errs, s.durably(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
			sealed, err := tx.Get(ctx, key).Result()
			if err != nil {
				return notNil(err)
			}
			connection, err := unsealConnection(sealer, key, sealed)
			if err == nil && connection.SavedAt.After(e.Connection) {
				return nil
			}
			s.known.forget(e.Shop)
			defer s.dropRecent(e.Shop)
			// One that does not open is no good to anybody.
			return unlinkWatched(ctx, tx, key)
		}))
	}
	return errors.Join(errs...)
}

// ErasedAt is when a shop's erasure was ordered that is not done yet; zero: none.
func (s *Store) ErasedAt(ctx context.Context, shop shopify.Shop) (time.Time, error) {
	var last time.Time
	for _, sealer := range s.sealers {
		err := s.eachOrder(ctx, ordersOf(sealer, shop, "erase")+"*", func(_ string, o order) error {
			if o.Shop == shop && o.Customer == "" && o.At.After(last) {
				last = o.At
			}
			return nil
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("read orders: %w", err)
		}
	}
	return last, nil
}

// Erasing tells whether a shop is to be erased, and is not yet.
func (s *Store) Erasing(ctx context.Context, shop shopify.Shop) (bool, error) {
	erasing := false
	for _, sealer := range s.sealers {
		err := s.eachOrder(ctx, ordersOf(sealer, shop, "erase")+"*", func(_ string, o order) error {
			erasing = erasing || o.Shop == shop && o.Customer == ""
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("read orders: %w", err)
		}
	}
	return erasing, nil
}

// eachOrder calls do with the orders whose fields match. All are tried: errors
// are joined.
func (s *Store) eachOrder(ctx context.Context, pattern string, do func(field string, o order) error) error {
	var errs []error
	var cursor uint64
	for {
		pairs, next, err := s.redis.HScan(ctx, ordersKey, cursor, pattern, batch).Result()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for pair := range slices.Chunk(pairs, 2) {
			o, err := s.openOrder(pair[0], pair[1])
			if err == nil {
				err = do(pair[0], o)
			}
			errs = append(errs, err)
		}
		if next == 0 {
			return errors.Join(errs...)
		}
		cursor = next
	}
}

func (s *Store) openOrder(field, sealed string) (order, error) {
	entry, err := s.openAny(fieldOf(ordersKey, field), sealed)
	if err != nil {
		return order{}, fmt.Errorf("an order does not open: %w", err)
	}
	var o order
	if err := json.Unmarshal(entry, &o); err != nil {
		return order{}, errors.New("an order is not JSON")
	}
	return o, nil
}

// Work does the orders that are due. Several instances may do so at once. What
// fails stays ordered.
//
// An erasure is done twice, at once and when it has settled: a click that is
// under way may still write what it has learned.
func (s *Store) Work(ctx context.Context) error {
	var due []dueSweep
	err := s.eachOrder(ctx, "*", func(field string, o order) error {
		if !o.Sweep {
			return s.workErasure(ctx, field, o)
		}
		if !s.options.Now().Before(o.Due) {
			due = append(due, dueSweep{field: field, order: o})
		}
		return nil
	})
	if err := errors.Join(err, s.workSweeps(ctx, due)); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

func (s *Store) workErasure(ctx context.Context, field string, o order) error {
	settled := !s.options.Now().Before(s.settledAt(o))
	if o.Once && !settled {
		return nil
	}
	if err := s.erase(ctx, o.Erasure); err != nil {
		return err
	}
	if o.Customer != "" && !o.Once {
		// What is remembered of the shopper by Recharge's id has a place that does not
		// tell of Shopify's: a sweep looks for it.
		if err := s.note(ctx, note{o.Shop, Change{Customer: o.Customer, Gone: true}, s.options.Now()}); err != nil {
			return err
		}
	}
	if settled {
		return s.endErasure(ctx, field, o)
	}
	o.Once = true
	return s.markOrder(ctx, field, o)
}

// endErasure drops an order that is done, and that to sweep a shop of which
// nothing is left, so that nothing tells of it any more.
func (s *Store) endErasure(ctx context.Context, field string, o order) error {
	if o.Customer == "" {
		sweeps := order{Erasure: Erasure{Shop: o.Shop}, Sweep: true}
		for _, sealer := range s.sealers {
			if err := s.endSweeps(ctx, sweeps.field(sealer), sweeps); err != nil {
				return err
			}
		}
	}
	return s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) { pipe.HDel(ctx, ordersKey, field) })
}

// markOrder changes an order, unless somebody has done it meanwhile.
func (s *Store) markOrder(ctx context.Context, field string, o order) error {
	entry, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return s.watched(ctx, ordersKey, func(ctx context.Context, tx *redis.Tx) error {
		sealed, err := tx.HGet(ctx, ordersKey, field).Result()
		if err != nil {
			return notNil(err)
		}
		sealer := s.sealerOf(sealed)
		if sealer == nil {
			return errSealed
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.HSet(ctx, ordersKey, field, sealer.seal(fieldOf(ordersKey, field), entry))
			return nil
		})
		return err
	})
}

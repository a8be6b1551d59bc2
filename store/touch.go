package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

const (
	// sweepEvery is how often at most all customers are looked at, and sweepShare
	// what part of Redis' time at most that takes: one in so many.
	sweepEvery = time.Minute
	sweepShare = 20

	// sweepingKey is held by the one server that looks.
	sweepingKey = prefix + "sweeping"
	sweepingFor = 10 * time.Minute // after it died
)

// Change is what one of Recharge's customer webhooks says.
type Change struct {
	ID       int64              // Recharge's
	Customer shopify.CustomerID // "" not said, or none
	Hash     string
	Active   int
	Gone     bool // deleted
}

// agrees tells whether what is remembered of a shopper is what the change says.
func (c Change) agrees(customer recharge.Customer) bool {
	return !c.Gone && customer == recharge.Customer{ID: c.ID, Hash: c.Hash, Active: c.Active}
}

// note is a change that sweeps still have to look at.
type note struct {
	Shop shopify.Shop
	Change
	At time.Time
}

// field is the note's place. Each thing that was said of a customer has its own:
// where they differ, nobody agrees with all of them, and is forgotten.
func (n note) field(s *sealer) string {
	return s.name(nameSize, "touched", strconv.FormatInt(n.ID, 10), string(n.Customer), n.Hash, strconv.Itoa(n.Active), strconv.FormatBool(n.Gone))
}

// Touch takes what Recharge says of a changed customer. That may be stale, come
// twice, or too late: nothing is remembered by it, only forgotten.
//
// The shopper it names is looked at now; known tells whether the same is remembered
// of that one. Another may be remembered by the same id, who had that record
// before: that is for Work, which looks at all of them. Where the one it names was
// remembered by that id already, nobody else is: that was looked for when it came
// to be so.
func (s *Store) Touch(ctx context.Context, shop shopify.Shop, change Change) (known bool, err error) {
	var errs []error
	var before held
	if change.Customer != "" {
		known, before, err = s.recheck(ctx, Shopper{Shop: shop, Customer: change.Customer}, change)
		errs = append(errs, err)
	}
	if change.ID != 0 {
		_, _, err = s.recheck(ctx, Shopper{Shop: shop, RechargeID: change.ID}, change)
		errs = append(errs, err)
	}
	if change.ID != 0 && (change.Gone || before.customer.ID != change.ID) {
		errs = append(errs, s.note(ctx, note{shop, change, s.options.Now()}))
	}
	// Whoever is held by this record: it may be another shopper's by now.
	s.recent.drop(func(who Shopper, memory Memory) bool {
		return who == Shopper{Shop: shop, Customer: change.Customer} || who.Shop == shop && memory.Customer.ID == change.ID
	})
	if err := errors.Join(errs...); err != nil {
		return false, fmt.Errorf("touch: %w", err)
	}
	return known, nil
}

// recheck forgets a shopper of whom something else is remembered. It tells whether
// the same is, and what was.
func (s *Store) recheck(ctx context.Context, who Shopper, change Change) (known bool, before held, err error) {
	var errs []error
	for _, sealer := range s.sealers {
		customer, session := shopperKeys(sealer, who)
		values, err := s.get(ctx, []string{customer})
		if err == nil {
			if held, ok := openCustomer(sealer, customer, values[0]); ok && (who.RechargeID != 0 || held.who == who.number()) {
				if before.customer.ID != change.ID {
					before = held
				}
				if change.agrees(held.customer) {
					known = true
					continue
				}
			}
			err = s.unlink(ctx, customer, session)
		}
		errs = append(errs, err)
	}
	return known, before, errors.Join(errs...)
}

// held is a customer entry.
type held struct {
	who      uint64
	customer recharge.Customer // zero: not a subscriber
}

func openCustomer(sealer *sealer, key, sealed string) (held, bool) {
	entry, err := sealer.open(key, []byte(sealed))
	if err != nil {
		return held{}, false
	}
	o, ok := unpack(entry)
	if !ok {
		return held{}, false
	}
	if o.kind != kindCustomer && o.kind != kindIndexed {
		return held{who: o.who}, true
	}
	return held{o.who, decodeCustomer(o.rest)}, true
}

func (s *Store) note(ctx context.Context, n note) error {
	entry, err := json.Marshal(n)
	if err != nil {
		return err
	}
	sealer := s.sealers[0]
	key, field := touchedKey(sealer, n.Shop), n.field(sealer)
	err = s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.HSet(ctx, key, field, sealer.seal(fieldOf(key, field), entry))
	})
	if err != nil {
		return err
	}
	return s.orderSweeps(ctx, n.Shop)
}

// orderSweeps comes after the note, as endSweeps looks for notes after it has
// dropped the order: one of the two sees the other's.
func (s *Store) orderSweeps(ctx context.Context, shop shopify.Shop) error {
	return s.watched(ctx, ordersKey, s.place(order{Erasure: Erasure{Shop: shop}, Sweep: true, Ordered: s.options.Now()}))
}

// noted is a shop's notes.
type noted struct {
	sealed map[string]map[string]string // by key and field, as it was read
	said   map[int64][]note             // by Recharge's id
}

func (s *Store) notes(ctx context.Context, shop shopify.Shop) (noted, error) {
	all := noted{map[string]map[string]string{}, map[int64][]note{}}
	for _, sealer := range s.sealers {
		key := touchedKey(sealer, shop)
		fields, err := s.redis.HGetAll(ctx, key).Result()
		if err != nil {
			return noted{}, err
		}
		all.sealed[key] = fields
		for field, sealed := range fields {
			n, err := openNote(sealer, key, field, sealed)
			if err != nil {
				s.options.Log.WarnContext(ctx, "a note in Redis does not open", "error", err)
				continue
			}
			all.said[n.ID] = append(all.said[n.ID], n)
		}
	}
	return all, nil
}

func openNote(sealer *sealer, key, field, sealed string) (note, error) {
	entry, err := sealer.open(fieldOf(key, field), []byte(sealed))
	if err != nil {
		return note{}, errSealed
	}
	var n note
	if json.Unmarshal(entry, &n) != nil {
		return note{}, errSealed
	}
	return n, nil
}

// wrong tells whether one of the notes speaks against what is remembered of the
// shopper whose entry is at key.
func (n noted) wrong(sealer *sealer, key string, h held) bool {
	erased := slices.ContainsFunc(n.said[0], func(n note) bool { return h.who != 0 && h.who == number(n.Customer) })
	return erased || slices.ContainsFunc(n.said[h.customer.ID], func(n note) bool {
		own, _ := shopperKeys(sealer, Shopper{Shop: n.Shop, Customer: n.Customer})
		byID, _ := shopperKeys(sealer, Shopper{Shop: n.Shop, RechargeID: n.ID})
		return own != key && byID != key || !n.agrees(h.customer)
	})
}

// dueSweep is an order to look at a shop's customers, with what was said of them.
type dueSweep struct {
	field string
	order order
	notes noted
}

// workSweeps looks at all customers of the shops of whom something was said: of all
// shops in one go, since it goes through all that Redis holds. A note is dropped
// once it has settled: until then, a click that is under way may write what was true
// before.
func (s *Store) workSweeps(ctx context.Context, due []dueSweep) error {
	due, err := s.withNotes(ctx, due)
	if err != nil || len(due) == 0 {
		return err
	}
	mine, err := s.redis.SetNX(ctx, sweepingKey, "", sweepingFor).Result()
	if err != nil || !mine {
		return err
	}
	now, begun := s.options.Now(), time.Now()
	err = s.sweepShops(ctx, due)
	rest := max(sweepEvery, s.options.Settle, sweepShare*time.Since(begun))
	errs := []error{err}
	for _, d := range due {
		d.order.Due = now.Add(rest) // what failed is done with the next sweep: the notes stay
		errs = append(errs, s.markOrder(ctx, d.field, d.order))
		if err == nil {
			errs = append(errs, s.dropNotes(ctx, d.notes, now.Add(-s.options.Settle)))
		}
	}
	return errors.Join(append(errs, s.redis.Unlink(context.WithoutCancel(ctx), sweepingKey).Err())...)
}

// withNotes ends the orders that have nothing to look at, and returns the others.
func (s *Store) withNotes(ctx context.Context, all []dueSweep) ([]dueSweep, error) {
	var due []dueSweep
	var errs []error
	for _, d := range all {
		var err error
		if d.notes, err = s.notes(ctx, d.order.Shop); err == nil && len(d.notes.said) == 0 {
			err = s.endSweeps(ctx, d.field, d.order)
		} else if err == nil {
			due = append(due, d)
		}
		errs = append(errs, err)
	}
	return due, errors.Join(errs...)
}

// sweepShops goes through the customers of all shops, and looks at those of some.
func (s *Store) sweepShops(ctx context.Context, due []dueSweep) error {
	type home struct {
		sealer *sealer
		notes  noted
	}
	homes := map[string]home{} // by how the keys of their customers begin
	for _, d := range due {
		for _, sealer := range s.sealers {
			homes[shopOf(sealer, d.order.Shop)+kindShopper] = home{sealer, d.notes}
		}
	}
	err := s.scan(ctx, prefix+"{*}"+kindShopper+"*", func(ctx context.Context, keys []string) error {
		of := map[string][]string{}
		for _, key := range keys {
			begin := key[:min(len(key), strings.IndexByte(key, '}')+1+len(kindShopper))]
			if _, ok := homes[begin]; ok {
				of[begin] = append(of[begin], key)
			}
		}
		for begin, keys := range of {
			if err := s.sweep(ctx, homes[begin].sealer, keys, homes[begin].notes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// sweep forgets those of the shoppers, by their customer keys, of whom Recharge
// says something else.
func (s *Store) sweep(ctx context.Context, sealer *sealer, keys []string, notes noted) error {
	values, err := s.get(ctx, keys)
	if err != nil {
		return err
	}
	var wrong []string
	for i, key := range keys {
		if h, ok := openCustomer(sealer, key, values[i]); ok && h.customer.ID != 0 && notes.wrong(sealer, key, h) {
			wrong = append(wrong, key, sessionOf(key))
		}
	}
	err = s.unlink(ctx, wrong...)
	if len(wrong) > 0 {
		s.recent.drop(func(Shopper, Memory) bool { return true })
	}
	return err
}

// sessionOf is the session's key beside a customer's.
func sessionOf(customer string) string {
	shop, name, _ := strings.Cut(customer, "}"+kindShopper)
	return shop + "}" + kindVisits + name
}

// dropNotes drops the notes that were written up to then, unless the same was
// said again while the sweep went on.
func (s *Store) dropNotes(ctx context.Context, notes noted, until time.Time) error {
	var errs []error
	for _, said := range notes.said {
		for _, n := range said {
			if !n.At.After(until) {
				errs = append(errs, s.dropNote(ctx, n, notes))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Store) dropNote(ctx context.Context, n note, notes noted) error {
	for _, sealer := range s.sealers {
		key, field := touchedKey(sealer, n.Shop), n.field(sealer)
		was := notes.sealed[key][field]
		if was == "" {
			continue
		}
		err := s.watched(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
			sealed, err := tx.HGet(ctx, key, field).Result()
			if err != nil || sealed != was {
				return notNil(err)
			}
			_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.HDel(ctx, key, field)
				return nil
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// endSweeps drops a shop's order when there was nothing to look at, and places
// it again if a change was noted meanwhile.
func (s *Store) endSweeps(ctx context.Context, field string, o order) error {
	if err := s.redis.HDel(ctx, ordersKey, field).Err(); err != nil {
		return err
	}
	notes, err := s.notes(ctx, o.Shop)
	if err != nil || len(notes.said) == 0 {
		return err
	}
	return s.orderSweeps(ctx, o.Shop)
}

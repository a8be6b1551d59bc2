package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Rekeyed is what Rekey did.
type Rekeyed struct {
	Connections, Customers, Orders int // moved
	// Dropped is what could not be moved, or is not worth it: links, numbers and
	// troubles, and what is of a shop that is not connected.
	Dropped int
}

const (
	// rekeyKey is held by the one Rekey that may run.
	rekeyKey = prefix + "rekey"
	rekeyFor = time.Minute // after it died
)

var errRekeying = errors.New("another one is at it, or died within the last minute")

// Rekey seals anew, with the first encryption key, what older ones have sealed.
// Servers that have all of these keys may run meanwhile. Of customers, it knows
// those of connected shops, and of the shops that are given. It may die and be
// started again.
func (s *Store) Rekey(ctx context.Context, shops ...shopify.Shop) (Rekeyed, error) {
	var done Rekeyed
	if len(s.sealers) == 1 {
		return done, nil
	}
	held, err := s.redis.SetNX(ctx, rekeyKey, "", rekeyFor).Result()
	if err == nil && !held {
		err = errRekeying
	}
	if err == nil {
		err = s.rekey(ctx, shops, &done)
		err = errors.Join(err, s.redis.Unlink(context.WithoutCancel(ctx), rekeyKey).Err())
	}
	if err != nil {
		return done, fmt.Errorf("rekey: %w", err)
	}
	return done, nil
}

func (s *Store) rekey(ctx context.Context, shops []shopify.Shop, done *Rekeyed) error {
	homes, err := s.homes(ctx, shops, done)
	if err != nil {
		return err
	}
	if err := s.rekeyOrders(ctx, done); err != nil {
		return err
	}
	// Customers first: they take their sessions along.
	for _, pattern := range []string{prefix + "{*}" + kindShopper + "*", prefix + "*"} {
		err := s.scan(ctx, pattern, func(ctx context.Context, keys []string) error {
			for _, key := range keys {
				if err := s.rekeyAny(ctx, key, homes, done); err != nil {
					return err
				}
			}
			return s.redis.PExpire(ctx, rekeyKey, rekeyFor).Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// home is whose the keys with one beginning are.
type home struct {
	sealer *sealer
	shop   shopify.Shop
}

// homes moves the connections, and tells how the keys of all shops begin.
func (s *Store) homes(ctx context.Context, shops []shopify.Shop, done *Rekeyed) (map[string]home, error) {
	err := s.EachConnection(ctx, func(c Connection) error {
		shops = append(shops, c.Shop)
		return s.rekeyConnection(ctx, c.Shop, done)
	})
	homes := map[string]home{}
	for _, shop := range shops {
		for _, sealer := range s.sealers {
			homes[shopOf(sealer, shop)] = home{sealer, shop}
		}
	}
	return homes, err
}

func (s *Store) rekeyConnection(ctx context.Context, shop shopify.Shop, done *Rekeyed) error {
	if err := s.redis.PExpire(ctx, rekeyKey, rekeyFor).Err(); err != nil {
		return err
	}
	for _, older := range s.sealers[1:] {
		moved, err := s.move(ctx, older, connectionKey(older, shop), connectionKey(s.sealers[0], shop), s.durably)
		if err != nil {
			return err
		}
		if moved {
			done.Connections++
		}
	}
	return nil
}

type writer func(ctx context.Context, key string, write func(context.Context, *redis.Tx) error) error

var errChanged = errors.New("changed meanwhile")

// move seals a value anew in another place: there first, then it is dropped
// here, so that it is never nowhere. It tells whether it did.
func (s *Store) move(ctx context.Context, older *sealer, from, to string, by writer) (bool, error) {
	for {
		moved, err := s.moveOnce(ctx, older, from, to, by)
		if !errors.Is(err, errChanged) {
			return moved, err
		}
	}
}

func (s *Store) moveOnce(ctx context.Context, older *sealer, from, to string, by writer) (bool, error) {
	values, err := s.get(ctx, []string{from})
	if err != nil || values[0] == "" {
		return false, err
	}
	entry, err := older.open(from, []byte(values[0]))
	if err != nil {
		return false, by(ctx, from, unlink(from)) // it opens for nobody
	}
	ttl, err := s.redis.PTTL(ctx, from).Result()
	if err != nil {
		return false, err
	}
	sealed := string(s.sealers[0].seal(to, entry))
	ours := false
	err = by(ctx, to, func(ctx context.Context, tx *redis.Tx) error {
		var err error
		ours, err = tx.SetNX(ctx, to, sealed, max(ttl, 0)).Result()
		return err
	})
	if err != nil {
		return false, err
	}
	err = by(ctx, from, func(ctx context.Context, tx *redis.Tx) error { return unlinkIf(ctx, tx, from, values[0]) })
	if errors.Is(err, errChanged) && ours {
		// Somebody dropped it here, or changed it: what we put there must not stay.
		undone := by(ctx, to, func(ctx context.Context, tx *redis.Tx) error {
			if err := unlinkIf(ctx, tx, to, sealed); !errors.Is(err, errChanged) {
				return err
			}
			return nil
		})
		if undone != nil {
			return false, undone
		}
	}
	return ours && err == nil, err
}

// unlinkIf drops a watched key that still has the value.
func unlinkIf(ctx context.Context, tx *redis.Tx, key, value string) error {
	now, err := tx.Get(ctx, key).Result()
	if err := notNil(err); err != nil {
		return err
	}
	if now != value {
		return errChanged
	}
	return unlinkWatched(ctx, tx, key)
}

// rekeyOrders moves orders within their hash, all at once for each: nobody sees
// none of the two.
func (s *Store) rekeyOrders(ctx context.Context, done *Rekeyed) error {
	pairs, err := s.redis.HGetAll(ctx, ordersKey).Result()
	if err != nil {
		return err
	}
	for field, sealed := range pairs {
		sealer := s.sealerOf(sealed)
		if sealer == s.sealers[0] {
			continue
		}
		o, err := s.openOrder(field, sealed)
		if err != nil {
			return err
		}
		if err := s.rekeyOrder(ctx, field, sealed, o); err != nil {
			return err
		}
		done.Orders++
	}
	return nil
}

func (s *Store) rekeyOrder(ctx context.Context, field, sealed string, o order) error {
	entry, err := json.Marshal(o)
	if err != nil {
		return err
	}
	to := o.field(s.sealers[0])
	return s.durably(ctx, ordersKey, func(ctx context.Context, tx *redis.Tx) error {
		now, err := tx.HGet(ctx, ordersKey, field).Result()
		if err != nil {
			return notNil(err) // it is done
		}
		if now != sealed { // marked meanwhile
			if o, err = s.openOrder(field, now); err != nil {
				return err
			}
			if entry, err = json.Marshal(o); err != nil {
				return err
			}
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.HSetNX(ctx, ordersKey, to, s.sealers[0].seal(fieldOf(ordersKey, to), entry))
			pipe.HDel(ctx, ordersKey, field)
			return nil
		})
		return err
	})
}

// rekeyAny moves or drops what is at a key, if an older encryption key has put
// it there.
func (s *Store) rekeyAny(ctx context.Context, key string, homes map[string]home, done *Rekeyed) error {
	if key == ordersKey || key == rekeyKey {
		return nil
	}
	begin, rest, ofShop := strings.Cut(key, "}")
	if !ofShop {
		return s.rekeyMark(ctx, key, done)
	}
	home, known := homes[begin+"}"]
	kind := rest[:min(len(rest), 1)]
	switch {
	case known && home.sealer == s.sealers[0]:
		return nil
	case known && kind == kindShopper:
		return s.rekeyShopper(ctx, key, home, done)
	case known && kind == kindTouched:
		return s.rekeyNotes(ctx, key, home)
	case kind == kindConnection, kind == kindSpent:
		// A connection was saved just now, or it does not open. That a link was used
		// is gone in minutes; until then, it could be used again.
		return nil
	}
	sealed, err := s.sample(ctx, key, kind)
	if err != nil || s.sealers[0].says([]byte(sealed)) || sealed == "" && kind != kindHour {
		return err
	}
	done.Dropped++ // hours are in the clear: here they are old, or of a shop that is not connected
	return s.unlink(ctx, key)
}

// sample is one of the sealed values at a key; "" if nothing there is sealed.
func (s *Store) sample(ctx context.Context, key, kind string) (string, error) {
	if kind == kindVisits || kind == kindTouched {
		fields, err := s.redis.HGetAll(ctx, key).Result()
		for _, sealed := range fields {
			return sealed, err
		}
		return "", err
	}
	values, err := s.get(ctx, []string{key})
	if err != nil {
		return "", err
	}
	return values[0], nil
}

func (s *Store) rekeyMark(ctx context.Context, key string, done *Rekeyed) error {
	values, err := s.get(ctx, []string{key})
	if err != nil {
		return err
	}
	older := s.sealerOf(values[0])
	if older == nil || older == s.sealers[0] {
		return nil
	}
	m, err := openMark(older, key, values[0])
	if err != nil {
		done.Dropped++
		return s.unlink(ctx, key)
	}
	_, err = s.move(ctx, older, key, markKey(s.sealers[0], m.ID), s.watched)
	return err
}

// rekeyShopper moves a customer and the session. Links are dropped: they live a
// minute.
func (s *Store) rekeyShopper(ctx context.Context, key string, home home, done *Rekeyed) error {
	values, err := s.get(ctx, []string{key})
	if err != nil {
		return err
	}
	h, ok := openCustomer(home.sealer, key, values[0])
	who := Shopper{Shop: home.shop, Customer: shopify.CustomerID(strconv.FormatUint(h.who, 10))}
	customer, session := shopperKeys(home.sealer, who)
	if customer != key {
		who = Shopper{Shop: home.shop, RechargeID: h.customer.ID}
		customer, session = shopperKeys(home.sealer, who)
	}
	if !ok || customer != key {
		done.Dropped++
		return s.unlink(ctx, key, sessionOf(key))
	}
	newCustomer, newSession := shopperKeys(s.sealers[0], who)
	if err := s.rekeySession(ctx, home.sealer, session, newSession); err != nil {
		return err
	}
	moved, err := s.move(ctx, home.sealer, customer, newCustomer, s.watched)
	if moved {
		done.Customers++
	}
	return err
}

func (s *Store) rekeySession(ctx context.Context, older *sealer, from, to string) error {
	sealed, err := s.redis.HGet(ctx, from, sessionField).Result()
	if err != nil {
		return notNil(err)
	}
	ttl, err := s.redis.PTTL(ctx, from).Result()
	if err != nil {
		return err
	}
	if entry, err := older.open(fieldOf(from, sessionField), []byte(sealed)); err == nil && ttl > 0 {
		err := s.watched(ctx, to, func(ctx context.Context, tx *redis.Tx) error {
			if there, err := tx.Exists(ctx, to).Result(); err != nil || there > 0 {
				return err
			}
			_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.HSet(ctx, to, sessionField, s.sealers[0].seal(fieldOf(to, sessionField), entry))
				pipe.PExpire(ctx, to, ttl)
				return nil
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.unlink(ctx, from)
}

// rekeyNotes moves what was said of Recharge's customers.
func (s *Store) rekeyNotes(ctx context.Context, key string, home home) error {
	fields, err := s.redis.HGetAll(ctx, key).Result()
	if err != nil {
		return err
	}
	for field, sealed := range fields {
		n, err := openNote(home.sealer, key, field, sealed)
		if err == nil {
			err = s.note(ctx, n)
		}
		if err != nil && !errors.Is(err, errSealed) {
			return err
		}
	}
	return s.unlink(ctx, key)
}

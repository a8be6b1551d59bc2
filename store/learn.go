package store

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// Learned is what a click has learned of a shopper. The zero value is nothing.
type Learned struct {
	Customer      recharge.Customer // zero ID: nothing new
	NotSubscriber bool              // Recharge has no such customer
	// Names is Shopify's id of the customer, of a shopper who is known by Recharge's:
	// an order to erase names nobody otherwise. "" none.
	Names shopify.CustomerID

	Session recharge.Session // "" token: none
	Link    recharge.Link    // of Visit; "" URL: none
	Visit   Visit

	Lease  *Lease // that was taken for it, and
	Answer []byte // what those who wait for it are told
}

// Learn remembers what a click has learned, in one round trip. What is learned is
// kept even if the click's time is up: the next one needs it more.
func (s *Store) Learn(ctx context.Context, who Shopper, l Learned) {
	var puts []func(context.Context, redis.Pipeliner)
	for _, put := range []func(context.Context, redis.Pipeliner){s.putCustomer(who, l), s.putSession(who, l), s.putAnswer(l)} {
		if put != nil {
			puts = append(puts, put)
		}
	}
	if len(puts) == 0 {
		return
	}
	older := func(ctx context.Context, pipe redis.Pipeliner) {
		for _, sealer := range s.sealers[1:] {
			customer, session := shopperKeys(sealer, who)
			if l.Customer.ID != 0 || l.NotSubscriber {
				pipe.Del(ctx, customer)
			}
			if l.Session.Token != "" {
				pipe.Del(ctx, session)
			}
		}
	}
	_, cluster := s.redis.(*redis.ClusterClient)
	apart := cluster && len(s.sealers) > 1 // one transaction, one slot
	ctx = context.WithoutCancel(ctx)
	// One transaction: a hash and its life come together, or a crash between the
	// two would leave it there for ever. And who waits finds what was learned.
	_ = s.roundTripBy(ctx, s.redis.TxPipelined, &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, put := range puts {
			put(ctx, pipe)
		}
		if !apart {
			older(ctx, pipe)
		}
	})
	if apart {
		_ = s.roundTrip(ctx, &s.writes, older)
	}
	s.recent.forget(who)
}

// putCustomer remembers who the shopper is at Recharge. How long is spread a
// little, so that a campaign's shoppers are not all asked for again at once.
func (s *Store) putCustomer(who Shopper, l Learned) func(context.Context, redis.Pipeliner) {
	key, _ := shopperKeys(s.sealers[0], who)
	named := who.Customer
	if who.RechargeID != 0 {
		named = l.Names
	}
	var entry []byte
	var life time.Duration
	switch now := s.options.Now(); {
	case l.Customer.ID != 0:
		ttl := time.Duration(float64(s.options.CustomerTTL) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // a spread, not a secret
		entry, life = encodeCustomer(named, l.Customer, now.Add(ttl)), ttl+staleFor
	case l.NotSubscriber:
		entry, life = encodeNotSubscriber(named, now.Add(notSubscriberFor)), wasNotSubscriberFor
	default:
		return nil
	}
	return func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.Set(ctx, key, s.sealers[0].seal(key, entry), life)
	}
}

// putSession remembers a signed-in link for LinkTTL, and the session that made it
// for as long as that lives.
func (s *Store) putSession(who Shopper, l Learned) func(context.Context, redis.Pipeliner) {
	now := s.options.Now()
	_, hash := shopperKeys(s.sealers[0], who)
	var fields []any
	var ttl time.Duration
	add := func(field string, entry []byte, life time.Duration) {
		if life > 0 {
			fields = append(fields, field, s.sealers[0].seal(fieldOf(hash, field), entry))
			ttl = max(ttl, life)
		}
	}
	if l.Session.Token != "" {
		add(sessionField, encodeSession(l.Session), l.Session.Expires.Sub(now))
	}
	if l.Link.URL != "" {
		until := now.Add(s.options.LinkTTL)
		if !l.Link.Expires.IsZero() && l.Link.Expires.Before(until) {
			until = l.Link.Expires
		}
		add(visitField(s.sealers[0], l.Visit), encodeLink(l.Link, until), until.Sub(now))
	}
	if len(fields) == 0 {
		return nil
	}
	return func(ctx context.Context, pipe redis.Pipeliner) {
		pipe.HSet(ctx, hash, fields...)
		pipe.PExpire(ctx, hash, ttl)
	}
}

func (s *Store) putAnswer(l Learned) func(context.Context, redis.Pipeliner) {
	if l.Lease == nil || !l.Lease.taken {
		return nil
	}
	key := l.Lease.key
	return func(ctx context.Context, pipe redis.Pipeliner) {
		if l.Answer == nil {
			pipe.Del(ctx, key)
			return
		}
		pipe.Set(ctx, key, append([]byte(answerMark), s.sealers[0].seal(key, l.Answer)...), answerFor)
	}
}

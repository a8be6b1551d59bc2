// Package store remembers, in Redis, what a click would otherwise have to ask
// Recharge for. Everything in it is sealed, keys are pseudonyms, and all of it
// can be lost: without Redis a click is slower, not wrong.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

const (
	// staleFor is how long a customer is kept for when Recharge is down, after
	// it should have been asked for again.
	staleFor = 7 * 24 * time.Hour
	// notSubscriberFor is short: who has just subscribed wants in.
	notSubscriberFor = time.Minute
	// wasNotSubscriberFor is how long that is kept for questions that must not
	// cost a call each minute.
	wasNotSubscriberFor = 10 * time.Minute
)

// Options configure a Store.
type Options struct {
	// Redis says where it is; nil is an embedded one, in memory, that is gone
	// when the process ends. Timeouts are the store's own affair.
	Redis *redis.UniversalOptions
	// Keys are 32 bytes each. The first seals, all open.
	Keys        [][]byte
	CustomerTTL time.Duration // how long a customer is remembered as fresh
	LinkTTL     time.Duration // how long a link is reused; 0 never
	Now         func() time.Time
	Log         *slog.Logger
}

// Store is safe for concurrent use.
type Store struct {
	options  Options
	sealers  []*sealer
	redis    redis.UniversalClient
	embedded *embedded
	reach    gate // Redis answers
	reads    gate // and lets us read
	writes   gate // and write
}

// Open returns a store. It does not wait for Redis: one that is down at the
// start is like one that goes down later.
func Open(o Options) (*Store, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("open store: no encryption key")
	}
	s := &Store{options: o}
	s.reach = gate{what: "reach Redis", now: o.Now, log: o.Log}
	s.reads = gate{what: "read from Redis", now: o.Now, log: o.Log}
	s.writes = gate{what: "write to Redis", now: o.Now, log: o.Log}
	for _, key := range o.Keys {
		sealer, err := newSealer(key)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		s.sealers = append(s.sealers, sealer)
	}
	if o.Redis == nil {
		s.embedded = newEmbedded()
		s.redis = redis.NewUniversalClient(withTimeouts(s.embedded.options()))
	} else {
		s.redis = redis.NewUniversalClient(withTimeouts(*o.Redis))
	}
	return s, nil
}

// withTimeouts keeps a connection from outliving what waits for it; what a click
// can lose is bounded by patience. One retry covers the pooled connections that
// a restarted Redis has closed.
func withTimeouts(o redis.UniversalOptions) *redis.UniversalOptions {
	o.DialTimeout = time.Second
	o.ReadTimeout = 500 * time.Millisecond
	o.WriteTimeout = 500 * time.Millisecond
	o.PoolTimeout = 500 * time.Millisecond
	o.ContextTimeoutEnabled = true
	o.MaxRetries = 1
	o.MinRetryBackoff = time.Millisecond
	o.MaxRetryBackoff = 10 * time.Millisecond
	o.DialerRetries = 1
	o.PipelinePoolSize = -1 // all there is are pipelines: one pool will do
	o.ConnMaxIdleTime = 5 * time.Minute
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// Close ends the connections, and the embedded Redis.
func (s *Store) Close() error {
	err := s.redis.Close()
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}

// Shopper is whom an entry is about.
type Shopper struct {
	Shop     shopify.Shop
	Customer shopify.CustomerID
}

// Visit is where in the portal a link leads.
type Visit struct {
	To     recharge.Destination
	Locale recharge.Locale
}

// Memory is what is remembered of a shopper. The zero value is nothing.
type Memory struct {
	Customer      recharge.Customer // zero ID: not known
	NotSubscriber bool              // Recharge had no such customer
	Fresh         bool              // a click need not ask for either again
	Session       recharge.Session  // "" token: none
	Link          recharge.Link     // "" URL: none
}

// Recall returns what is remembered of a shopper's visit, in one round trip. It
// does not fail: what cannot be read is not remembered.
func (s *Store) Recall(ctx context.Context, who Shopper, visit Visit) Memory {
	keys := make([][]string, len(s.sealers))
	found := make([]*redis.SliceCmd, len(s.sealers))
	err := s.roundTrip(ctx, &s.reads, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			// One MGET a key: in a cluster, pseudonyms of two keys lie in two slots.
			keys[i] = []string{customerKey(sealer, who), sessionKey(sealer, who), linkKey(sealer, who, visit)}
			found[i] = pipe.MGet(ctx, keys[i]...)
		}
	})
	var memory Memory
	if err != nil {
		return memory
	}
	for i, sealer := range s.sealers {
		for j, value := range found[i].Val() {
			if sealed, ok := value.(string); ok {
				s.unseal(ctx, sealer, keys[i][j], sealed, &memory)
			}
		}
	}
	return memory
}

func (s *Store) unseal(ctx context.Context, sealer *sealer, key, sealed string, memory *Memory) {
	entry, err := sealer.open(key, []byte(sealed))
	if err != nil {
		// Not sealed with this key, or for another place: not ours to use.
		s.options.Log.WarnContext(ctx, "an entry in Redis does not open", "error", err)
		return
	}
	memory.add(entry, s.options.Now())
}

// RememberCustomer remembers who the shopper is at Recharge. How long is spread
// a little, so that a campaign's shoppers are not all asked for again at once.
func (s *Store) RememberCustomer(ctx context.Context, who Shopper, customer recharge.Customer) {
	ttl := time.Duration(float64(s.options.CustomerTTL) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // a spread, not a secret
	s.write(ctx, put{customerKey, who, encodeCustomer(customer, s.options.Now().Add(ttl)), ttl + staleFor})
}

// RememberNotSubscriber remembers that Recharge has no such customer.
func (s *Store) RememberNotSubscriber(ctx context.Context, who Shopper) {
	s.write(ctx, put{customerKey, who, encodeNotSubscriber(s.options.Now().Add(notSubscriberFor)), wasNotSubscriberFor})
}

// RememberLink remembers a signed-in link for LinkTTL, and the session that
// made it for as long as that lives. A zero link is not remembered.
func (s *Store) RememberLink(ctx context.Context, who Shopper, visit Visit, session recharge.Session, link recharge.Link) {
	now := s.options.Now()
	puts := []put{{sessionKey, who, encodeSession(session), session.Expires.Sub(now)}}
	if link.URL != "" {
		until := now.Add(s.options.LinkTTL)
		if !link.Expires.IsZero() && link.Expires.Before(until) {
			until = link.Expires
		}
		key := func(sealer *sealer, who Shopper) string { return linkKey(sealer, who, visit) }
		puts = append(puts, put{key, who, encodeLink(link, until), until.Sub(now)})
	}
	s.write(ctx, puts...)
}

// Forget drops who the shopper is at Recharge and the session, for when one of
// them turned out wrong. Links end by themselves, in a minute.
func (s *Store) Forget(ctx context.Context, who Shopper) {
	s.drop(ctx, who, customerKey, sessionKey)
}

// ForgetSession drops a session that is over before its time.
func (s *Store) ForgetSession(ctx context.Context, who Shopper) {
	s.drop(ctx, who, sessionKey)
}

func (s *Store) drop(ctx context.Context, who Shopper, keys ...func(*sealer, Shopper) string) {
	_ = s.roundTrip(context.WithoutCancel(ctx), &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, sealer := range s.sealers {
			names := make([]string, len(keys))
			for i, key := range keys {
				names[i] = key(sealer, who)
			}
			pipe.Del(ctx, names...)
		}
	})
}

var errResting = errors.New("left alone for a moment")

// roundTrip sends all that queue puts into the pipe, unless Redis is left alone.
// Its own time being up is a failure of Redis, that of the click is none.
func (s *Store) roundTrip(click context.Context, kind *gate, queue func(context.Context, redis.Pipeliner)) error {
	if !s.reach.open() || !kind.open() {
		return errResting
	}
	ctx, cancel := context.WithTimeout(click, patience)
	defer cancel()
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		queue(ctx, pipe)
		return nil
	})
	var refusal redis.Error
	switch {
	case err != nil && click.Err() != nil: // nobody knows whose fault it is
	case err == nil || errors.As(err, &refusal):
		s.reach.report(click, nil)
		kind.report(click, err)
	default:
		s.reach.report(click, err)
	}
	return err
}

type put struct {
	key   func(*sealer, Shopper) string
	who   Shopper
	entry []byte
	ttl   time.Duration
}

// write seals and writes all entries that live at all, in one round trip, and
// drops what older keys had in their places. What a click has learned is kept
// even if its time is up: the next one needs it more.
func (s *Store) write(ctx context.Context, puts ...put) {
	puts = slices.DeleteFunc(puts, func(put put) bool { return put.ttl <= 0 })
	if len(puts) == 0 {
		return
	}
	_ = s.roundTrip(context.WithoutCancel(ctx), &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, put := range puts {
			key := put.key(s.sealers[0], put.who)
			pipe.Set(ctx, key, s.sealers[0].seal(key, put.entry), put.ttl)
			for _, older := range s.sealers[1:] {
				pipe.Del(ctx, put.key(older, put.who))
			}
		}
	})
}

// A key is ms1:{shop}kind:name. The braces put all keys of a shop into one slot
// of a cluster; shop and name are pseudonyms.
func key(s *sealer, who Shopper, kind string, more ...string) string {
	name := s.name(16, append([]string{kind, string(who.Shop), string(who.Customer)}, more...)...)
	return "ms1:{" + s.name(8, "shop", string(who.Shop)) + "}" + kind + name
}

func customerKey(s *sealer, who Shopper) string { return key(s, who, "c") }
func sessionKey(s *sealer, who Shopper) string  { return key(s, who, "s") }

func linkKey(s *sealer, who Shopper, visit Visit) string {
	return key(s, who, "l", string(visit.To), string(visit.Locale))
}

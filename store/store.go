// Package store keeps all that this program keeps, in Redis.
//
// Most of it is remembered: what a click would otherwise have to ask Recharge
// for. That can be lost: without Redis a click is slower, not wrong.
//
// What a merchant has given, and what somebody has ordered to be erased, must
// not be lost: such a write says that it is done only when Redis has it on its
// disk, as far as Redis can tell.
//
// Everything is sealed and keys are pseudonyms; only numbers that tell nothing
// of anybody are in the clear.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
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
	settle              = 75 * time.Second
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
	// Connections: shops connect Recharge by themselves, and Recall tells how.
	Connections bool
	// Recent is how long a link that was just recalled is, again, without asking
	// Redis; 0 never.
	Recent time.Duration
	// Settle is how long after an order to erase a click may still be under way
	// that has learned what is to be erased. 0 is 75 s, which is also longer than
	// a session token of Shopify lives.
	Settle time.Duration
	Now    func() time.Time
	Log    *slog.Logger
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
	shaking  sync.WaitGroup

	id      string       // of this server among others
	sharers atomic.Int64 // servers, as last counted

	recent  recent
	known   known   // connections
	pending pending // numbers and troubles

	flushing chan struct{} // holds one for each write that waits for the disk
}

// Open returns a store. It does not wait for Redis: one that is down at the
// start is like one that goes down later.
func Open(o Options) (*Store, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("open store: no encryption key")
	}
	if o.Settle == 0 {
		o.Settle = settle
	}
	s := &Store{options: o, id: rand.Text(), recent: recent{life: o.Recent}, flushing: make(chan struct{}, flushers)}
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
		var err error
		if s.embedded, err = newEmbedded(); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
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
	o.Protocol = 2          // nothing here needs what 3 adds, which is looked for before each answer
	o.PipelinePoolSize = -1 // all there is are pipelines: one pool will do
	o.ConnMaxIdleTime = 5 * time.Minute
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// Close ends the connections, and the embedded Redis.
func (s *Store) Close() error {
	err := s.redis.Close()
	s.shaking.Wait()
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}

// Shopper is whom an entry is about: a customer of Shopify's or, where the shop's
// own middleware says so, of Recharge's. What is remembered of the one is not taken
// for the other, though they may be one person.
type Shopper struct {
	Shop       shopify.Shop
	Customer   shopify.CustomerID
	RechargeID int64 // 0: Customer says who it is
}

// number is a shopper's id as a number, or 0 where that would be another text: what
// cannot be told from the number is not told.
func (who Shopper) number() uint64 {
	if who.RechargeID != 0 {
		return 0 // an entry of such a shopper names Shopify's customer, if its record does
	}
	return number(who.Customer)
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
	Indexed       bool              // Customer was found by a sweep
	Recent        bool              // all of this is the process' own memory: Redis was not asked
	Session       recharge.Session  // "" token: none
	Link          recharge.Link     // "" URL: none

	// With Options.Connections:
	Connection *Connection // nil: the shop has not connected Recharge, unless
	Lost       bool        // nobody can tell
}

// Recall returns what is remembered of a shopper's visit, in one round trip, or
// without one if that was just done. It does not fail: what cannot be read is not
// remembered.
func (s *Store) Recall(ctx context.Context, who Shopper, visit Visit) Memory {
	memory, epoch, ok := s.recent.get(who, visit, s.options.Now())
	if ok {
		memory.Recent = true
		return memory
	}
	memory = s.read(ctx, who, visit)
	s.recent.put(who, visit, memory, epoch, s.options.Now())
	return memory
}

// RecallNow is Recall, but always asks Redis: for who must know what holds now, such
// as whether a key has been revoked.
func (s *Store) RecallNow(ctx context.Context, who Shopper, visit Visit) Memory {
	return s.read(ctx, who, visit)
}

func (s *Store) read(ctx context.Context, who Shopper, visit Visit) Memory {
	places := make([]place, len(s.sealers))
	err := s.roundTrip(ctx, &s.reads, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			places[i] = s.look(ctx, pipe, sealer, who, visit)
		}
	})
	var memory Memory
	if err == nil {
		for _, place := range places {
			s.recall(ctx, place, who, &memory)
		}
	}
	if s.options.Connections {
		memory.Connection, memory.Lost = s.recallConnection(ctx, who.Shop, places, err)
	}
	return memory
}

// place is where one encryption key has a shopper's entries, and what is there.
type place struct {
	sealer             *sealer
	customer, session  string   // keys
	connection         string   // key
	fields             []string // of the session's hash
	strings, ofSession *redis.SliceCmd
}

// look asks for what is in one place. Customer and connection are asked for by
// one command, and links by another: one for all keys has no answer in a
// cluster, where pseudonyms of two keys lie in two slots.
func (s *Store) look(ctx context.Context, pipe redis.Pipeliner, sealer *sealer, who Shopper, visit Visit) place {
	p := place{sealer: sealer}
	p.customer, p.session = shopperKeys(sealer, who)
	p.fields = []string{sessionField, visitField(sealer, visit)}
	keys := []string{p.customer}
	if s.options.Connections {
		p.connection = connectionKey(sealer, who.Shop)
		keys = append(keys, p.connection)
	}
	p.strings = pipe.MGet(ctx, keys...)
	p.ofSession = pipe.HMGet(ctx, p.session, p.fields...)
	return p
}

func (s *Store) recall(ctx context.Context, p place, who Shopper, memory *Memory) {
	s.unseal(ctx, p.sealer, p.customer, p.strings.Val()[0], who, memory)
	for i, value := range p.ofSession.Val() { // none, if it is no hash
		s.unseal(ctx, p.sealer, fieldOf(p.session, p.fields[i]), value, who, memory)
	}
}

func (s *Store) unseal(ctx context.Context, sealer *sealer, place string, value any, who Shopper, memory *Memory) {
	sealed, ok := value.(string)
	if !ok {
		return
	}
	entry, err := sealer.open(place, []byte(sealed))
	if err != nil {
		// Not sealed with this key, or for another place: not ours to use.
		s.options.Log.WarnContext(ctx, "an entry in Redis does not open", "error", err)
		return
	}
	memory.add(entry, who, s.options.Now())
}

// Forget drops who the shopper is at Recharge, the session and its links, for
// when one of them turned out wrong.
func (s *Store) Forget(ctx context.Context, who Shopper) {
	_ = s.roundTrip(context.WithoutCancel(ctx), &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, sealer := range s.sealers {
			customer, session := shopperKeys(sealer, who)
			pipe.Unlink(ctx, customer, session)
		}
	})
	s.recent.forget(who)
}

// ForgetSession drops a session that is over before its time. Links end by
// themselves, in a minute.
func (s *Store) ForgetSession(ctx context.Context, who Shopper) {
	_ = s.roundTrip(context.WithoutCancel(ctx), &s.writes, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, sealer := range s.sealers {
			_, session := shopperKeys(sealer, who)
			pipe.HDel(ctx, session, sessionField)
		}
	})
	s.recent.forget(who)
}

var errResting = errors.New("left alone for a moment")

// roundTrip sends all that queue puts into the pipe, unless Redis is left alone.
// Its own time being up is a failure of Redis, that of the click is none.
func (s *Store) roundTrip(click context.Context, kind *gate, queue func(context.Context, redis.Pipeliner)) error {
	return s.roundTripBy(click, s.redis.Pipelined, kind, queue)
}

type pipelined func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)

func (s *Store) roundTripBy(click context.Context, send pipelined, kind *gate, queue func(context.Context, redis.Pipeliner)) error {
	if !s.reach.open() || !kind.open() {
		return errResting
	}
	ctx, cancel := context.WithTimeout(click, patience)
	defer cancel()
	err := sendBy(ctx, send, queue)
	var refusal redis.Error
	switch {
	case err != nil && click.Err() != nil: // nobody knows whose fault it is
	case err == nil || errors.As(err, &refusal):
		s.reach.report(click, nil)
		kind.report(click, err)
	default:
		if s.reach.report(click, err) {
			s.shaking.Go(s.shake)
		}
		s.relearn()
	}
	return err
}

// relearn lets a cluster's client ask who is master of what. By itself it asks a
// minute after it last did, or when a node sends it elsewhere, which one that is
// dead does not.
func (s *Store) relearn() {
	if cluster, ok := s.redis.(*redis.ClusterClient); ok {
		cluster.ReloadState(context.Background())
	}
}

// shake lets go of connections that are dead without anybody having said so, as
// after a failover that took an address along: each would cost a click its
// patience, one in every rest. There are as many pings as connections lie idle,
// all at once, so that each has one.
func (s *Store) shake() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var pings sync.WaitGroup
	for range s.redis.PoolStats().IdleConns {
		pings.Go(func() { _ = s.redis.Ping(ctx).Err() })
	}
	pings.Wait()
}

// sendBy sends all that queue puts into the pipe. That there is nothing, or
// something of another type, in a place is an answer: no failure.
func sendBy(ctx context.Context, send pipelined, queue func(context.Context, redis.Pipeliner)) error {
	sent, err := send(ctx, func(pipe redis.Pipeliner) error {
		queue(ctx, pipe)
		return nil
	})
	if !isAnswer(err) {
		return err
	}
	for _, command := range sent {
		if err := command.Err(); !isAnswer(err) {
			return err
		}
	}
	return nil
}

func isAnswer(err error) bool {
	return err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE")
}

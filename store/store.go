// Package store keeps all that this program keeps, in Redis.
//
// Of each shop there is one record, with a random data key in it; ENCRYPTION_KEY seals the record,
// the data key everything else. Of each shopper there is one sealed value, under a pseudonym. An
// index leads from a shopper's other id to that value, so that a webhook finds the shopper in one
// step; tombstones keep a save under way from bringing back what was just forgotten.
//
// What is cached can be lost: without Redis a click is slower, not wrong. What a
// merchant has saved, and that something was erased, must not be lost: such a write
// returns nil only when Redis has it on its disk, as far as Redis can say.
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

	"manage-subscriptions/shopify"
)

// Options configure a Store.
type Options struct {
	// Redis says where it is; nil is an embedded one, in memory, that is gone when the
	// process ends. Timeouts are the store's own affair.
	Redis *redis.UniversalOptions
	// Keys are 32 bytes each. The first seals, all open.
	Keys        [][]byte
	CustomerTTL time.Duration // how long a customer is fresh
	// Single is the shop in one-store mode. Its record is created when it is first needed.
	// "" is many-store mode: merchants connect their shops, and SaveConnection creates the records.
	Single shopify.Shop
	// Account identifies the Recharge account that Single is connected to. If it changes, Adopt
	// erases what was cached.
	Account string
	Now     func() time.Time
	Log     *slog.Logger
}

// Store is safe for concurrent use.
type Store struct {
	options  Options
	wrappers []*wrapper
	redis    redis.UniversalClient
	slow     redis.UniversalClient // for writes that wait for the disk: its connections are not the clicks'
	embedded *embedded
	reach    gate // Redis answers
	reads    gate // and lets us read
	writes   gate // and write

	id        string       // of this instance among others
	instances atomic.Int64 // as last counted

	records sync.Map // shopify.Shop to *Record, as last read: no more than shops that were connected
	counts  counts

	saveScript, forgetScript string

	closing    context.Context // ends with Close
	close      context.CancelFunc
	background sync.WaitGroup
}

// Open returns a store. It does not wait for Redis: one that is down at the start is
// like one that goes down later.
func Open(o Options) (*Store, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("open store: no encryption key")
	}
	s := &Store{
		options: o, id: rand.Text(), saveScript: indexScript + saveScript, forgetScript: indexScript + forgetScript,
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.reach = gate{what: "reach Redis", now: o.Now, log: o.Log}
	s.reads = gate{what: "read from Redis", now: o.Now, log: o.Log}
	s.writes = gate{what: "write to Redis", now: o.Now, log: o.Log}
	for _, key := range o.Keys {
		if len(key) != keySize {
			return nil, fmt.Errorf("open store: an encryption key of %d bytes, not %d", len(key), keySize)
		}
		s.wrappers = append(s.wrappers, newWrapper(key))
	}
	options := o.Redis
	if options == nil {
		s.embedded = newEmbedded()
		embedded := s.embedded.options()
		options = &embedded
	}
	s.redis = redis.NewUniversalClient(withTimeouts(*options, clickTimeout))
	s.slow = redis.NewUniversalClient(withTimeouts(*options, durableTimeout))
	return s, nil
}

// withTimeouts keeps a connection from outliving what waits for it. One retry covers
// the pooled connections that a restarted Redis has closed.
func withTimeouts(o redis.UniversalOptions, timeout time.Duration) *redis.UniversalOptions {
	o.DialTimeout = time.Second
	o.ReadTimeout = timeout
	o.WriteTimeout = timeout
	o.PoolTimeout = timeout
	o.ContextTimeoutEnabled = true
	o.MaxRetries = 1
	o.MinRetryBackoff = time.Millisecond
	o.MaxRetryBackoff = 10 * time.Millisecond
	o.DialerRetries = 1
	o.Protocol = 2 // nothing here needs what 3 adds, which is looked for before each answer
	o.PipelinePoolSize = -1
	o.ConnMaxIdleTime = 5 * time.Minute
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// Close ends what runs in the background, the connections, and the embedded Redis.
func (s *Store) Close() error {
	s.close()
	err := errors.Join(s.redis.Close(), s.slow.Close())
	s.background.Wait()
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}

// Shopper is whose click it is: a customer of Shopify's or, where the shop's own
// middleware says so, of Recharge's. What is cached of the one is not taken for the
// other, though they may be one person.
type Shopper struct {
	Shop       shopify.Shop
	Customer   shopify.CustomerID
	RechargeID int64 // 0: Customer says who it is
}

// Anonymous reports whether it is a visitor who is not signed in.
func (who Shopper) Anonymous() bool { return who.Customer == "" && who.RechargeID == 0 }

// Loaded is what Redis holds of a shop and a shopper.
type Loaded struct {
	Record *Record // nil: nothing is kept of the shop; with Err, it was never read
	Cached Cached
	// At is when Redis was asked, on this process' monotonic clock: what it says was
	// so then, or later.
	At  time.Time
	Err error // Redis does not answer, or what it holds of the shop does not open

	version string // of the cached value; "" there is none
}

// errAccount is Load's where what is cached is of another account at Recharge: Adopt has
// not erased that yet, or another instance is configured for that one.
var errAccount = errors.New("what Redis holds is of another account at Recharge")

// errUnsettled is Load's where the record was replaced again and again.
var errUnsettled = errors.New("the shop's record changes all the time")

// Load reads what is kept of a shop and cached of a shopper: one MGET, once the
// process has the shop's record. For an anonymous visitor it reads the record only.
func (s *Store) Load(ctx context.Context, who Shopper) Loaded {
	last := s.lastRead(who.Shop)
	for range 16 { // more often than anybody erases a shop meanwhile
		at := time.Now()
		keys, name := []string{recordKey(who.Shop)}, ""
		if last != nil && !who.Anonymous() {
			name = last.name(canonical(who))
			keys = append(keys, last.key("c", name))
		}
		values, err := s.mget(ctx, keys)
		if err != nil {
			if s.foreign(last) {
				last = nil
			}
			return Loaded{Record: last, At: at, Err: err}
		}
		record, err := s.usableRecord(ctx, who.Shop, values[0])
		switch {
		case err != nil:
			return Loaded{At: at, Err: err}
		case record == nil || who.Anonymous():
			return Loaded{Record: record, At: at}
		case last != nil && record.generation == last.generation:
			return s.loaded(ctx, record, who, name, keys[1], values[1], at)
		}
		last = record // now the shopper's name is known
	}
	return Loaded{Err: errUnsettled}
}

// usableRecord is the record that was just read. That of the one store is made where there is
// none, or none that opens.
func (s *Store) usableRecord(ctx context.Context, shop shopify.Shop, value any) (*Record, error) {
	record, err := s.current(shop, value)
	switch {
	case shop != s.options.Single && err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case err != nil:
		s.options.Log.ErrorContext(ctx, "the shop's record does not open and is replaced", "error", err)
		record, err = s.create(ctx, shop, value)
	case record == nil && shop == s.options.Single:
		record, err = s.create(ctx, shop, value)
	}
	if s.foreign(record) {
		return nil, errAccount
	}
	return record, err
}

func (s *Store) loaded(
	ctx context.Context, record *Record, who Shopper, name, key string, value any, at time.Time,
) Loaded {
	loaded := Loaded{Record: record, At: at}
	sealed, ok := value.(string)
	if !ok {
		return loaded
	}
	loaded.version = versionOf(sealed)
	cached, err := record.openCached(key, sealed)
	if err != nil {
		s.options.Log.WarnContext(ctx, "a cached value in Redis does not open", "error", err)
		return loaded
	}
	loaded.Cached = s.usable(cached, who, name)
	return loaded
}

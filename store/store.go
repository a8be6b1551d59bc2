// Package store keeps everything that this program remembers in Redis.
//
// Each shop has one record with a random data key in it. ENCRYPTION_KEY seals the record, and the
// data key seals everything else. Each shopper has one sealed value, under a pseudonym. An index
// leads from a shopper's other id to that value, so that a webhook finds the shopper in one step.
// Tombstones keep a save in progress from bringing back what was just erased.
//
// Cached values may be lost. Without Redis a click is slower, not wrong. A merchant's settings and
// the fact that something was erased must not be lost. Such a write returns nil only once Redis has
// it on disk, as far as Redis can tell.
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

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Options configure a Store.
type Options struct {
	// Redis holds the address and options of Redis; the store sets the timeouts. Nil means an
	// embedded Redis in memory, which is lost when the process ends.
	Redis *redis.UniversalOptions
	// Keys are 32 bytes each. The first one seals, and all of them open.
	Keys        [][]byte
	CustomerTTL time.Duration // how long a customer is fresh
	// Single is the shop in one-store mode. Its record is created when it is first needed. "" means
	// many-store mode, in which merchants connect their shops and SaveConnection creates the records.
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
	slow     redis.UniversalClient // for writes that wait for the disk, away from the clicks' connections
	embedded *miniredis.Miniredis  // nil if Redis is a server
	// Redis may be unreachable, or refuse reads or writes.
	reach, reads, writes breaker

	id        string       // identifies this instance
	instances atomic.Int64 // as last counted

	records sync.Map // shopify.Shop to *Record, at most one for each store that was connected

	flushing  sync.RWMutex // held while something is neither pending nor yet in Redis
	pendingMu sync.Mutex
	pending   map[shopify.Shop]*pending // for Flush

	closing    context.Context // ends with Close
	close      context.CancelFunc
	background sync.WaitGroup
}

// Open returns a store. It does not wait for Redis. A Redis that is down at the start is treated
// like one that goes down later.
func Open(o Options) (*Store, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("open store: no encryption key")
	}
	s := &Store{options: o, id: rand.Text(), pending: map[shopify.Shop]*pending{}}
	for _, key := range o.Keys {
		if len(key) != keySize {
			return nil, fmt.Errorf("open store: an encryption key of %d bytes, not %d", len(key), keySize)
		}
		s.wrappers = append(s.wrappers, newWrapper(key))
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.reach = breaker{action: "reach Redis", now: o.Now, log: o.Log}
	s.reads = breaker{action: "read from Redis", now: o.Now, log: o.Log}
	s.writes = breaker{action: "write to Redis", now: o.Now, log: o.Log}
	options := o.Redis
	if options == nil {
		s.embedded, options = newEmbedded(s.closing)
	}
	s.redis = redis.NewUniversalClient(withTimeouts(*options, clickTimeout))
	s.slow = redis.NewUniversalClient(withTimeouts(*options, durableTimeout))
	return s, nil
}

// withTimeouts keeps a command from taking longer than its caller waits. One retry covers the
// pooled connections that a restarted Redis has closed.
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
	o.Protocol = 2 // 3 adds push messages, which go-redis looks for before each answer
	o.ConnMaxIdleTime = 5 * time.Minute
	o.MaintNotificationsConfig = &maintnotifications.Config{
		Mode: maintnotifications.ModeDisabled, EndpointType: maintnotifications.EndpointTypeNone, // avoids a DNS lookup
	}
	return &o
}

// Close ends the background work, the connections and the embedded Redis.
func (s *Store) Close() error {
	s.close()
	err := errors.Join(s.redis.Close(), s.slow.Close())
	s.background.Wait()
	if s.embedded != nil {
		s.embedded.Close()
	}
	return err
}

// Shopper identifies who clicks, by Shopify's customer id or, if the shop's own middleware uses
// that, by Recharge's. A value cached under one id is not used for the other, though both may be the
// same person.
type Shopper struct {
	Shop       shopify.Shop
	Customer   shopify.CustomerID
	RechargeID int64 // 0: Customer identifies the shopper
}

// Anonymous reports whether the shopper is a visitor who is not signed in.
func (who Shopper) Anonymous() bool { return who.Customer == "" && who.RechargeID == 0 }

// Loaded is what Redis holds about a shop and a shopper.
type Loaded struct {
	Record *Record // nil if the shop has none or, together with Err, if it was never read
	Cached Cached
	// At is when Redis was asked, on this process's monotonic clock.
	At  time.Time
	Err error // Redis does not answer, or the shop's record cannot be used

	version string // of the cached value; "" if there is none
}

// errAccount is Load's error if the cache belongs to another Recharge account, because Adopt has
// not erased it yet or another instance is configured for that account.
var errAccount = errors.New("the data in Redis is that of another Recharge token or client secret")

// errUnsettled is Load's error if the record keeps being replaced.
var errUnsettled = errors.New("the shop's record changes all the time")

// Load reads a shop's record and a shopper's cached value, in one MGET once the process has read
// the record before. For an anonymous visitor it reads only the record.
func (s *Store) Load(ctx context.Context, who Shopper) Loaded {
	last := s.seen(who.Shop)
	for range 16 { // more often than a shop can be erased meanwhile
		at := time.Now()
		keys, name := []string{recordKey(who.Shop)}, ""
		if last.orNil() != nil && !who.Anonymous() {
			name = last.name(canonical(who))
			keys = append(keys, last.key("c", name))
		}
		values, err := s.mget(ctx, keys)
		if err != nil {
			if s.otherAccount(last) {
				last = nil
			}
			return Loaded{Record: last.orNil(), At: at, Err: err}
		}
		record, err := s.usableRecord(ctx, last, values[0])
		loaded := Loaded{Record: record, At: at, Err: err}
		if record == nil || who.Anonymous() {
			return loaded
		}
		if record.generation == last.generation {
			if sealed, ok := values[1].(string); ok {
				loaded.version = versionOf(sealed)
				loaded.Cached = s.openUsable(ctx, record, who, keys[1], name, sealed)
			}
			return loaded
		}
		last = record // now the shopper's pseudonym is known
	}
	return Loaded{Err: errUnsettled}
}

// openUsable opens a shopper's cached value. A value that does not open counts as none.
func (s *Store) openUsable(ctx context.Context, r *Record, who Shopper, key, name, sealed string) Cached {
	cached, err := r.openCached(key, sealed)
	if err != nil {
		s.options.Log.WarnContext(ctx, "a cached value in Redis does not open", "error", err)
		return Cached{}
	}
	return s.usable(cached, who, name)
}

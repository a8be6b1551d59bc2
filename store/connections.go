package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Connection is how a shop has connected Recharge: what its merchant gave, and
// what was found out. However it is printed, its tokens are not: only the store
// writes it out, sealed.
type Connection struct {
	Shop            shopify.Shop
	APIToken        string
	StorefrontToken string
	ClientSecret    string
	Detected        Traits
	Chosen          Traits // where not empty, goes before Detected
	WebhookKey      string // unguessable part of the address that Recharge calls; "" none
	Webhooks        WebhookState
	SavedAt         time.Time // when the merchant last saved it
	// PortalKeys are those of the shop's own middleware. SaveConnection leaves them as
	// they are in Redis; only ReviseConnection changes them.
	PortalKeys []PortalKey `json:",omitempty"`
}

// PortalKey is a key of a shop's own middleware, without the key.
type PortalKey struct {
	ID     string
	Name   string
	Hash   []byte // SHA-256 of the key; confidential, since it signs
	MadeAt time.Time
}

// Traits are what makes shops differ. "" is not known.
type Traits struct {
	PortalURL string // base of links by hash; ends in a slash
	Accounts  string // "new" or "legacy"
	Link      string // "signed_in" or "hash"
}

// WebhookState is how Recharge's webhooks stand.
type WebhookState struct {
	CheckedAt time.Time // zero: not yet
	OK        bool
	Problem   string    // in plain words
	ClaimedAt time.Time // when somebody went to look
}

// Traits are the chosen ones, and the detected where none is chosen.
func (c Connection) Traits() Traits {
	return Traits{
		PortalURL: cmp.Or(c.Chosen.PortalURL, c.Detected.PortalURL),
		Accounts:  cmp.Or(c.Chosen.Accounts, c.Detected.Accounts),
		Link:      cmp.Or(c.Chosen.Link, c.Detected.Link),
	}
}

const redacted = "[redacted]"

// Format prints "[redacted]", whatever the verb.
func (c Connection) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// String returns "[redacted]".
func (c Connection) String() string { return redacted }

// LogValue is "[redacted]".
func (c Connection) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]", which is what encoding/json writes, too.
func (c Connection) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// stored is a connection as it is sealed: without the methods that hide it.
type stored Connection

func encodeConnection(c Connection) ([]byte, error) {
	return json.Marshal(stored(c)) //nolint:gosec // its tokens are what is to be sealed
}

func decodeConnection(entry []byte) (*Connection, error) {
	var c stored
	if err := json.Unmarshal(entry, &c); err != nil {
		return nil, errors.New("a connection is not JSON") // the cause could cite it
	}
	return (*Connection)(&c), nil
}

// known holds what this process last read of connections: an unchanged one is
// not opened again, is the same pointer for as long, and still serves when Redis
// is down. It has no more of them than shops that were connected.
type known struct {
	mu    sync.RWMutex
	shops map[shopify.Shop]knownConnection
}

type knownConnection struct {
	sealed     string
	connection *Connection
}

func (k *known) get(shop shopify.Shop) knownConnection {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.shops[shop]
}

// set returns the connection that is known from now on: of two that read the
// same at once, the first one's.
func (k *known) set(shop shopify.Shop, as knownConnection) *Connection {
	k.mu.Lock()
	defer k.mu.Unlock()
	if last := k.shops[shop]; last.connection != nil && last.sealed == as.sealed {
		return last.connection
	}
	if k.shops == nil {
		k.shops = map[shopify.Shop]knownConnection{}
	}
	k.shops[shop] = as
	return as.connection
}

func (k *known) forget(shop shopify.Shop) {
	if k.get(shop).connection == nil {
		return // by far most often: no lock that excludes others
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.shops, shop)
}

func (k *known) all() map[shopify.Shop]knownConnection {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return maps.Clone(k.shops)
}

var errConnectionUnread = errors.New("what Redis holds of the connection does not open")

// found is what Redis answered for a connection under one encryption key.
type found struct {
	sealer *sealer
	key    string
	sealed any // nil: nothing
}

// recallConnection reads the connection out of what Recall got.
func (s *Store) recallConnection(ctx context.Context, shop shopify.Shop, places []place, err error) (*Connection, bool) {
	if err != nil {
		connection := s.known.get(shop).connection
		return connection, connection == nil
	}
	all := make([]found, len(places))
	for i, p := range places {
		all[i] = found{p.sealer, p.connection, p.strings.Val()[1]}
	}
	connection, err := s.settleOn(shop, all)
	if err != nil {
		s.options.Log.WarnContext(ctx, "a connection in Redis does not open", "error", err)
	}
	return connection, err != nil
}

// settleOn picks the newest key's connection. One that is there and does not
// open is an error, not a shop that has none.
func (s *Store) settleOn(shop shopify.Shop, all []found) (*Connection, error) {
	for _, f := range all {
		if sealed, ok := f.sealed.(string); ok {
			return s.openConnection(shop, f.sealer, f.key, sealed)
		}
	}
	s.known.forget(shop)
	return nil, nil
}

func (s *Store) openConnection(shop shopify.Shop, sealer *sealer, key, sealed string) (*Connection, error) {
	if last := s.known.get(shop); last.connection != nil && last.sealed == sealed {
		return last.connection, nil
	}
	connection, err := unsealConnection(sealer, key, sealed)
	if err != nil {
		return nil, err
	}
	if connection.Shop != shop {
		return nil, errConnectionUnread
	}
	return s.known.set(shop, knownConnection{sealed, connection}), nil
}

func unsealConnection(sealer *sealer, key, sealed string) (*Connection, error) {
	entry, err := sealer.open(key, []byte(sealed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConnectionUnread, err)
	}
	return decodeConnection(entry)
}

// Connection returns how the shop is connected, or nil if it is not. It fails
// only if Redis does and this process has never read it.
func (s *Store) Connection(ctx context.Context, shop shopify.Shop) (*Connection, error) {
	all, err := s.readConnection(ctx, shop)
	if err != nil {
		if last := s.known.get(shop).connection; last != nil {
			return last, nil
		}
		return nil, fmt.Errorf("read connection: %w", err)
	}
	connection, err := s.settleOn(shop, all)
	if err != nil {
		return nil, fmt.Errorf("read connection: %w: %w", ErrUnreadable, err)
	}
	return connection, nil
}

// ErrUnreadable is a connection that Redis has and that cannot be used.
var ErrUnreadable = errors.New("what is saved cannot be read")

func (s *Store) readConnection(ctx context.Context, shop shopify.Shop) ([]found, error) {
	all := make([]found, len(s.sealers))
	values := make([]*redis.SliceCmd, len(s.sealers))
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sealer := range s.sealers {
			all[i] = found{sealer: sealer, key: connectionKey(sealer, shop)}
			values[i] = pipe.MGet(ctx, all[i].key)
		}
	})
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].sealed = values[i].Val()[0]
	}
	return all, nil
}

// SaveConnection saves what the merchant gave. Once it returns nil, Redis has it.
func (s *Store) SaveConnection(ctx context.Context, c Connection) error {
	if err := s.saveConnection(ctx, c); err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	return nil
}

func (s *Store) saveConnection(ctx context.Context, c Connection) error {
	defer s.dropRecent(c.Shop)
	newest, shop := s.sealers[0], c.Shop
	key := connectionKey(newest, shop)
	var sealed string
	err := s.durably(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
		last, err := s.connectionNow(ctx, tx, shop)
		if err != nil {
			return err
		}
		c.PortalKeys = nil
		if last != nil {
			c.PortalKeys = last.PortalKeys
		}
		entry, err := encodeConnection(c)
		if err != nil {
			return err
		}
		sealed = string(newest.seal(key, entry))
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, key, sealed, 0)
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	for _, older := range s.sealers[1:] {
		key := connectionKey(older, shop)
		if err := s.durably(ctx, key, unlink(key)); err != nil {
			return err
		}
	}
	// Should Redis go now, what was saved is what serves.
	_, err = s.openConnection(shop, newest, key, sealed)
	return err
}

// connectionNow is the connection as it is while its key is watched; one that does
// not open is none, and is about to be replaced. Under an older encryption key it is
// not watched: nobody but Rekey and a rolling restart has it there.
func (s *Store) connectionNow(ctx context.Context, tx *redis.Tx, shop shopify.Shop) (*Connection, error) {
	for i, sealer := range s.sealers {
		key := connectionKey(sealer, shop)
		var sealed string
		var err error
		if i == 0 {
			sealed, err = tx.Get(ctx, key).Result()
		} else {
			sealed, err = s.redis.Get(ctx, key).Result()
		}
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if connection, err := unsealConnection(sealer, key, sealed); err == nil {
			return connection, nil
		}
		return nil, nil
	}
	return nil, nil
}

// ReviseConnection changes a connection, whoever else does so at the same time:
// change is called again with what the other made of it. Where it returns false,
// or the shop is not connected, nothing is written.
func (s *Store) ReviseConnection(ctx context.Context, shop shopify.Shop, change func(*Connection) bool) error {
	defer s.dropRecent(shop)
	for _, sealer := range s.sealers {
		found, err := s.revise(ctx, sealer, shop, change)
		if err != nil {
			return fmt.Errorf("revise connection: %w", err)
		}
		if found {
			return nil
		}
	}
	return nil
}

// revise changes a connection where one encryption key has it, and leaves it
// there: to move it is Rekey's affair. It tells whether there is one.
func (s *Store) revise(ctx context.Context, sealer *sealer, shop shopify.Shop, change func(*Connection) bool) (bool, error) {
	key := connectionKey(sealer, shop)
	found := false
	err := s.durably(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
		sealed, err := tx.Get(ctx, key).Result()
		found = !errors.Is(err, redis.Nil)
		if err != nil {
			return notNil(err)
		}
		connection, err := unsealConnection(sealer, key, sealed)
		if err != nil {
			return err
		}
		if !change(connection) {
			return nil
		}
		entry, err := encodeConnection(*connection)
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, key, sealer.seal(key, entry), 0)
			return nil
		})
		return err
	})
	return found, err
}

// DropConnection drops a shop's connection, under every encryption key.
func (s *Store) DropConnection(ctx context.Context, shop shopify.Shop) error {
	defer s.dropRecent(shop)
	s.known.forget(shop)
	// The oldest first: Rekey moves towards the newest, and must not carry it past.
	for i := len(s.sealers) - 1; i >= 0; i-- {
		key := connectionKey(s.sealers[i], shop)
		if err := s.durably(ctx, key, unlink(key)); err != nil {
			return fmt.Errorf("drop connection: %w", err)
		}
	}
	s.known.forget(shop)
	return nil
}

// dropRecent has all clicks of a shop look at its connection again.
func (s *Store) dropRecent(shop shopify.Shop) {
	s.recent.drop(func(who Shopper, _ Memory) bool { return who.Shop == shop })
}

// EachConnection calls do with every connection, in no order, each once. What do
// returns ends it; what cannot be read does not, but is told in the end.
func (s *Store) EachConnection(ctx context.Context, do func(Connection) error) error {
	before := s.known.all()
	seen := map[shopify.Shop]bool{}
	var unread []error
	err := s.scan(ctx, prefix+"{*}"+kindConnection+"*", func(ctx context.Context, keys []string) error {
		connections, err := s.readConnections(ctx, keys)
		unread = append(unread, err)
		for _, connection := range connections {
			if seen[connection.Shop] {
				continue
			}
			seen[connection.Shop] = true
			if err := do(connection); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(append(unread, err)...); err != nil {
		return fmt.Errorf("go through connections: %w", err)
	}
	for shop := range before {
		if !seen[shop] {
			s.known.forget(shop)
		}
	}
	return nil
}

// readConnections reads those that have the keys. One that stands under an older
// key is read by its shop, for there may be a newer one.
func (s *Store) readConnections(ctx context.Context, keys []string) ([]Connection, error) {
	values, err := s.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	var connections []Connection
	var errs []error
	for i, sealed := range values {
		if sealed == "" {
			continue // dropped meanwhile
		}
		sealer := s.sealerOf(sealed)
		if sealer == nil {
			errs = append(errs, errConnectionUnread)
			continue
		}
		connection, err := unsealConnection(sealer, keys[i], sealed)
		if err == nil && sealer != s.sealers[0] {
			connection, err = s.Connection(ctx, connection.Shop)
		}
		if err != nil {
			errs = append(errs, err)
		} else if connection != nil {
			connections = append(connections, *connection)
		}
	}
	return connections, errors.Join(errs...)
}

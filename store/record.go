package store

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // a script
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Record is what is kept of one shop: the data key that seals everything else, and
// where merchants connect their stores, the connection. Without it nothing of the
// shop opens, on any instance: to erase a shop is to delete its record.
//
// One that was read is never changed, so that it can be shared; another read
// returns the same pointer as long as Redis holds the same bytes.
type Record struct {
	Shop       shopify.Shop
	Connection *Connection // nil: the shop has not connected Recharge here, as in one-store mode
	// WebhookVerified is when a webhook of Recharge's was last verified, to a day.
	WebhookVerified time.Time

	dataKey []byte
	// epoch is mixed into what the data key seals and names: with another one, nothing that
	// was cached before is found or opens, but redactions stay.
	epoch      []byte
	account    string // whose customers they are, in one-store mode: Options.Account
	generation string // names data key and epoch
	sealer     *sealer
	sealed     string // as Redis holds it
}

// Connection is how a shop has connected Recharge: what its merchant gave, and what was detected.
// However it is printed, its tokens are not: only the store writes it out, sealed.
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
	// PortalKeys are those of the shop's own middleware. SaveConnection leaves them, and what
	// is chosen, as they are in Redis; only Update changes them.
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

// WebhookState is how the registration of webhooks at Recharge stands.
type WebhookState struct {
	CheckedAt time.Time // zero: not yet
	OK        bool
	Problem   string    // in plain words
	ClaimedAt time.Time // when an instance went to look
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

// Format prints "[redacted]": a record holds keys.
func (r Record) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// sealedConnection is a connection as it is written out: without the methods that hide it.
type sealedConnection Connection

type sealedRecord struct {
	DataKey, Epoch  []byte
	Account         string            `json:",omitempty"`
	Connection      *sealedConnection `json:",omitempty"`
	WebhookVerified time.Time         `json:",omitzero"`
}

// A sealed record is recordVersion, the id of the encryption key, the generation of
// the data key, and what is sealed.
const (
	recordVersion    = "2"
	generationSize   = 8
	generationAt     = len(recordVersion) + idSize
	recordHeaderSize = generationAt + generationSize
)

// errRecord does not wrap its cause, which could cite a token.
var errRecord = errors.New("what Redis holds of the shop does not open: it was sealed with another ENCRYPTION_KEY, or damaged")

// newRecord returns a record with a data key of its own.
func newRecord(shop shopify.Shop) *Record {
	r := &Record{Shop: shop, dataKey: random(keySize)}
	r.begin()
	return r
}

// begin begins a new epoch: what was cached is erased by that.
func (r *Record) begin() {
	r.epoch = random(generationSize)
	r.derive()
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // it does not fail
	return b
}

// derive makes what follows from data key and epoch.
func (r *Record) derive() {
	r.generation = string(derive(r.dataKey, r.epoch, "generation", generationSize))
	r.sealer = newSealer(r.dataKey, r.epoch)
}

// seal seals a record with the first encryption key, and keeps the result in it.
func (s *Store) seal(r *Record) {
	plain := toJSON(sealedRecord{r.dataKey, r.epoch, r.account, (*sealedConnection)(r.Connection), r.WebhookVerified})
	header := recordVersion + s.wrappers[0].id + r.generation
	place := recordKey(r.Shop) + header
	r.sealed = string(s.wrappers[0].aead.Seal([]byte(header), nil, plain, []byte(place))) //nolint:gosec // this AEAD draws its own nonce
}

// toJSON is for values of ours, of which none has a field that cannot be written.
func toJSON(value any) []byte {
	plain, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return plain
}

// openRecord opens what Redis holds of a shop. This is the only place where there
// is more than one encryption key.
func (s *Store) openRecord(shop shopify.Shop, sealed string) (*Record, error) {
	if len(sealed) < recordHeaderSize || sealed[:len(recordVersion)] != recordVersion {
		return nil, errRecord
	}
	header := sealed[:recordHeaderSize]
	for _, w := range s.wrappers {
		if w.id != header[len(recordVersion):generationAt] {
			continue
		}
		plain, err := w.aead.Open(nil, nil, []byte(sealed[recordHeaderSize:]), []byte(recordKey(shop)+header))
		var held sealedRecord
		if err != nil || json.Unmarshal(plain, &held) != nil || len(held.DataKey) != keySize {
			return nil, errRecord
		}
		r := &Record{
			Shop: shop, Connection: (*Connection)(held.Connection), WebhookVerified: held.WebhookVerified,
			dataKey: held.DataKey, epoch: held.Epoch, account: held.Account, sealed: sealed,
		}
		r.derive()
		if r.generation != header[generationAt:] {
			return nil, errRecord
		}
		return r, nil
	}
	return nil, errRecord
}

// name is the pseudonym of an id.
func (r *Record) name(id string) string { return r.sealer.names.name(id) }

// key is where something of a shopper is.
func (r *Record) key(kind, name string) string {
	return shopPrefix(r.Shop) + kind + ":" + hex.EncodeToString([]byte(name))
}

// indexPrefix is how the buckets of the index begin. Each data key has buckets of
// its own: what is left of the last one's does no harm.
func (r *Record) indexPrefix() string {
	return shopPrefix(r.Shop) + "r:" + hex.EncodeToString([]byte(r.generation[:4]))
}

// lastRead is the record of a shop that this process has read last; nil: none.
func (s *Store) lastRead(shop shopify.Shop) *Record {
	r, _ := s.records.Load(shop)
	record, _ := r.(*Record)
	return record
}

// current is the record that Redis holds, opened anew only if its bytes are new; nil
// if Redis holds none.
func (s *Store) current(shop shopify.Shop, value any) (*Record, error) {
	sealed, ok := value.(string)
	if !ok {
		s.records.Delete(shop)
		return nil, nil
	}
	if last := s.lastRead(shop); last != nil && last.sealed == sealed {
		return last, nil
	}
	record, err := s.openRecord(shop, sealed)
	if err != nil {
		return nil, err
	}
	s.records.Store(shop, record)
	return record, nil
}

//go:embed create.lua
var createScript string

// create makes the record of the one store. Of several instances that do so at once
// one wins, and all use its record. One that does not open is replaced: in one-store
// mode all that it loses is what can be looked up again.
func (s *Store) create(ctx context.Context, shop shopify.Shop, instead any) (*Record, error) {
	record := newRecord(shop)
	record.account = s.options.Account
	s.seal(record)
	last, _ := instead.(string)
	value, err := s.eval(ctx, createScript, []string{recordKey(shop)}, last, record.sealed).Text()
	if err != nil {
		return nil, err
	}
	return s.current(shop, value)
}

// ErrUnreadable is a record that Redis has and that cannot be used.
var ErrUnreadable = errors.New("what is saved cannot be read")

// Record returns what is kept of a shop, nil if nothing is. It fails only if Redis
// does and this process has never read it.
func (s *Store) Record(ctx context.Context, shop shopify.Shop) (*Record, error) {
	record, err := s.recordNow(ctx, shop)
	if last := s.lastRead(shop); err != nil && last != nil && !errors.Is(err, ErrUnreadable) {
		return last, nil
	}
	return record, err
}

// recordNow is Record for what must know what holds now.
func (s *Store) recordNow(ctx context.Context, shop shopify.Shop) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	values, err := s.redis.MGet(ctx, recordKey(shop)).Result()
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	record, err := s.current(shop, values[0])
	if err != nil {
		return nil, fmt.Errorf("read record: %w: %w", ErrUnreadable, err)
	}
	return record, nil
}

// sealJSON seals a value for a key.
func (r *Record) sealJSON(key string, value any) []byte {
	return r.sealer.seal(nil, key, toJSON(value))
}

// readSealed reads a shop's record and a value that it has sealed. One that does not open,
// since another data key has sealed it, is none.
func (s *Store) readSealed(ctx context.Context, shop shopify.Shop, key string, into any) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	values, err := s.redis.MGet(ctx, recordKey(shop), key).Result()
	if err != nil {
		return nil, err
	}
	record, err := s.current(shop, values[0])
	sealed, ok := values[1].(string)
	if err != nil || record == nil || !ok {
		return record, err
	}
	if plain, err := record.sealer.open(key, sealed); err == nil {
		_ = json.Unmarshal(plain, into) // what is not JSON is none, too
	}
	return record, nil
}

// Update changes a shop's record, whichever other instance does so at the same time:
// change is called again with what the other made of it, or with its own work where the
// answer was lost. Where it returns false, or
// there is no record, nothing is written. Once it returns nil, Redis has it on disk.
func (s *Store) Update(ctx context.Context, shop shopify.Shop, change func(*Record) bool) error {
	err := s.rewrite(ctx, shop, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
		if last == nil || !change(last) {
			return nil, errUnchanged
		}
		return last, nil
	})
	if err != nil {
		return fmt.Errorf("update record: %w", err)
	}
	return nil
}

// errUnchanged is rewrite's for nothing to do.
var errUnchanged = errors.New("unchanged")

// rewrite replaces a shop's record by what next makes of the last one, which is nil
// where there is none or it does not open; a next that is nil deletes it. Other keys
// of the shop can be changed with it, all at once. next may be called several times.
func (s *Store) rewrite(
	ctx context.Context, shop shopify.Shop, next func(context.Context, *redis.Tx, *Record) (*Record, error), also ...func(redis.Pipeliner),
) error {
	key := recordKey(shop)
	var written *Record
	err := s.durably(ctx, func(ctx context.Context, tx *redis.Tx) error {
		sealed, err := tx.Get(ctx, key).Result()
		if err := notNil(err); err != nil {
			return err
		}
		var last *Record
		if sealed != "" {
			last, _ = s.openRecord(shop, sealed) // one that does not open is none: it is replaced
		}
		if written, err = next(ctx, tx, last); err != nil {
			return err
		}
		if written != nil {
			s.seal(written)
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			if written == nil {
				pipe.Unlink(ctx, key)
			} else {
				pipe.Set(ctx, key, written.sealed, 0)
			}
			for _, also := range also {
				also(pipe)
			}
			return nil
		})
		return err
	}, key)
	switch {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	case written == nil:
		s.records.Delete(shop)
		return nil
	}
	// Should Redis go now, what was saved is what serves.
	_, err = s.current(shop, written.sealed)
	return err
}

// ErrUninstalled is SaveConnection's where the app was uninstalled after the merchant
// began to save.
var ErrUninstalled = errors.New("the app was uninstalled meanwhile")

// ClockSkew is how far our clock may be before Shopify's: what was saved so little
// after an uninstall was saved before it.
const ClockSkew = 10 * time.Second

// SaveConnection saves what the merchant gave. Once it returns nil, Redis has it on
// disk. With another token, which may be that of another account at Recharge with
// other customers, all that was cached is erased; redactions stay.
func (s *Store) SaveConnection(ctx context.Context, c Connection) error {
	// The list of shops is never short of one; one too many is dropped by the import.
	if err := s.OrderImport(ctx, c.Shop); err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	var erased *Record
	err := s.rewrite(ctx, c.Shop, func(ctx context.Context, tx *redis.Tx, held *Record) (*Record, error) {
		uninstalled, err := readUninstalled(tx.Get(ctx, uninstalledKey(c.Shop)))
		if err != nil {
			return nil, err
		}
		if !uninstalled.IsZero() && !c.SavedAt.After(uninstalled.Add(ClockSkew)) {
			return nil, ErrUninstalled
		}
		erased = nil
		last := &Connection{Chosen: c.Chosen}
		if held == nil {
			held = newRecord(c.Shop)
		} else if held.Connection != nil {
			last = held.Connection
		}
		if last.APIToken != "" && last.APIToken != c.APIToken {
			before := *held
			erased = &before
			held.begin()
		}
		if last.ClientSecret != c.ClientSecret {
			held.WebhookVerified = time.Time{}
		}
		saved := c
		saved.PortalKeys, saved.Chosen, held.Connection = last.PortalKeys, last.Chosen, &saved
		return held, nil
	})
	if err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	if erased != nil {
		s.tidy(erased)
	}
	return nil
}

// Adopt erases what was cached for another account at Recharge, in one-store mode: its
// customers are others. What webhooks have proven of that one does not count either.
func (s *Store) Adopt(ctx context.Context) error {
	own := s.options.Own
	if own == "" {
		return nil
	}
	if loaded := s.Load(ctx, Shopper{Shop: own}); loaded.Err != nil && !errors.Is(loaded.Err, errAccount) { // makes the record
		return loaded.Err
	}
	var erased *Record
	err := s.Update(ctx, own, func(r *Record) bool {
		if r.account == s.options.Account {
			return false
		}
		before := *r
		erased = &before
		r.account, r.WebhookVerified = s.options.Account, time.Time{}
		r.begin()
		return true
	})
	if err != nil || erased == nil {
		return err
	}
	s.tidy(erased)
	return s.OrderImport(ctx, own)
}

// foreign reports whether a record is of another account at Recharge than this instance.
func (s *Store) foreign(r *Record) bool {
	return r != nil && r.Shop == s.options.Own && r.account != s.options.Account
}

// WebhookVerified notes that a webhook of Recharge's was verified. It writes at most once a day.
func (s *Store) WebhookVerified(ctx context.Context, shop shopify.Shop) error {
	now := s.options.Now()
	record, err := s.Record(ctx, shop)
	if err != nil || record == nil || now.Sub(record.WebhookVerified) < 24*time.Hour {
		return err
	}
	return s.Update(ctx, shop, func(r *Record) bool {
		r.WebhookVerified = now
		return !s.foreign(r)
	})
}

// WebhooksProven reports whether Recharge's webhooks arrive: one was verified in the last week.
func (s *Store) WebhooksProven(r *Record) bool {
	return r != nil && s.options.Now().Sub(r.WebhookVerified) < 7*24*time.Hour
}

// Erasure says what to erase of a shop, beside what is cached of its shoppers.
type Erasure struct {
	Shop shopify.Shop
	// Uninstalled is when the app was uninstalled, in Shopify's word: session tokens
	// that were issued up to then are no good any more. Zero: it was not.
	Uninstalled time.Time
	// SavedUntil spares a connection that was saved later, since that belongs to the next
	// installation, and redactions with it; zero spares none.
	SavedUntil time.Time
}

// uninstalledFor is longer than a session token of Shopify lives, and than a merchant
// may take to save.
const uninstalledFor = 2 * time.Minute

// EraseShop erases a shop, and returns what it was. Once it returns a nil error,
// nothing of it opens, on any instance. How many shoppers it has does not matter:
// their keys are tidied up afterwards, and expire where they are not.
func (s *Store) EraseShop(ctx context.Context, e Erasure) (erased *Record, err error) {
	s.counts.forget(e.Shop)
	spared := false
	err = s.rewrite(ctx, e.Shop, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
		if last != nil { // else another try may have erased it
			before := *last
			erased = &before
		}
		spared = last != nil && last.Connection != nil && !e.SavedUntil.IsZero() && last.Connection.SavedAt.After(e.SavedUntil)
		if !spared {
			return nil, nil
		}
		last.begin()
		return last, nil
	}, func(pipe redis.Pipeliner) {
		// Of the keys that have known names, two stay: how full the token's bucket is, and which
		// links were used. Neither is the shop's to reset.
		keys := []string{errorsKey(e.Shop), importKey(e.Shop)}
		for i := range time.Duration(hours + 1) {
			keys = append(keys, hourKey(e.Shop, hourOf(s.options.Now().Add(-i*time.Hour))))
		}
		pipe.Unlink(ctx, keys...)
		if s.options.Now().Sub(e.Uninstalled) < uninstalledFor {
			pipe.Set(ctx, uninstalledKey(e.Shop), strconv.FormatInt(e.Uninstalled.Unix(), 10), uninstalledFor)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("erase shop: %w", err)
	}
	if erased != nil {
		s.tidy(erased)
	}
	if spared {
		return nil, s.OrderImport(ctx, e.Shop)
	}
	return erased, nil
}

func readUninstalled(value *redis.StringCmd) (time.Time, error) {
	seconds, err := value.Int64()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	return time.Unix(seconds, 0), err
}

// UninstalledAt is when a shop has uninstalled the app, if that was within the last
// two minutes; else zero.
func (s *Store) UninstalledAt(ctx context.Context, shop shopify.Shop) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at, err := readUninstalled(s.redis.Get(ctx, uninstalledKey(shop)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the app was uninstalled: %w", err)
	}
	return at, nil
}

// tidy unlinks, in the background, what an erased record has sealed, by walking its index. Nothing
// depends on it: nothing of it opens any more, and what is missed here expires.
func (s *Store) tidy(erased *Record) {
	s.background.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, time.Minute)
		defer cancel()
		for bucket := range indexBuckets {
			key := erased.indexPrefix() + fmt.Sprintf("%02x", bucket)
			fields, err := s.redis.HGetAll(ctx, key).Result()
			if err != nil {
				return
			}
			keys := []string{key}
			for _, name := range fields {
				keys = append(keys, erased.key("c", name))
			}
			if s.redis.Unlink(ctx, keys...).Err() != nil {
				return
			}
		}
	})
}

// Shops are all shops that there may be a record of.
func (s *Store) Shops(ctx context.Context) (shops []shopify.Shop, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	names, err := s.redis.ZRange(ctx, shopsKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list shops: %w", err)
	}
	for _, name := range names {
		shops = append(shops, shopify.Shop(name))
	}
	return shops, nil
}

// EachConnection calls do with every connection. What do returns ends it; what cannot
// be read does not, but is reported in the end.
func (s *Store) EachConnection(ctx context.Context, do func(Connection) error) error {
	shops, err := s.Shops(ctx)
	if err != nil {
		return err
	}
	var unread []error
	for _, shop := range shops {
		record, err := s.recordNow(ctx, shop)
		switch {
		case errors.Is(err, ErrUnreadable):
			unread = append(unread, fmt.Errorf("%s: %w", shop, err))
		case err != nil:
			return fmt.Errorf("go through connections: %w", err)
		case record != nil && record.Connection != nil:
			if err := do(*record.Connection); err != nil {
				return err
			}
		}
	}
	return errors.Join(unread...)
}

// Rekey seals every shop's record with the first encryption key, and returns how many
// were sealed with another. Instances that have all of the keys may run meanwhile.
// own is the shop of one-store mode, "" where there is none.
func (s *Store) Rekey(ctx context.Context, own shopify.Shop) (resealed int, err error) {
	shops, err := s.Shops(ctx)
	if err != nil {
		return 0, fmt.Errorf("rekey: %w", err)
	}
	if own != "" {
		shops = append(shops, own)
	}
	var errs []error
	for _, shop := range shops {
		done := false
		_, err := s.recordNow(ctx, shop) // one that does not open is not replaced here
		if err == nil {
			err = s.Update(ctx, shop, func(r *Record) bool {
				done = r.sealed[len(recordVersion):generationAt] != s.wrappers[0].id
				return done
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", shop, err))
		} else if done {
			resealed++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return resealed, fmt.Errorf("rekey: %w", err)
	}
	return resealed, nil
}

package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
var errRecord = errors.New(
	"what Redis holds of the shop does not open: it was sealed with another ENCRYPTION_KEY, or damaged")

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
	//nolint:gosec // this AEAD draws its own nonce
	r.sealed = string(s.wrappers[0].aead.Seal([]byte(header), nil, plain, []byte(place)))
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
	ctx context.Context, shop shopify.Shop,
	next func(context.Context, *redis.Tx, *Record) (*Record, error), also ...func(redis.Pipeliner),
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

// Rekey seals every shop's record with the first encryption key, and returns how many
// were sealed with another. Instances that have all of the keys may run meanwhile.
func (s *Store) Rekey(ctx context.Context) (resealed int, err error) {
	shops, err := s.Shops(ctx)
	if err != nil {
		return 0, fmt.Errorf("rekey: %w", err)
	}
	if s.options.Single != "" {
		shops = append(shops, s.options.Single)
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

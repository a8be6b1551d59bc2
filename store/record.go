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

// Record holds a shop's data key, which seals everything else, and in many-store mode the shop's
// connection. Nothing of a shop opens without its record, on any instance, so deleting the record
// erases the shop.
//
// A record that was read is shared and never changed. Another read returns the same pointer as long
// as Redis holds the same bytes.
type Record struct {
	Shop       shopify.Shop
	Connection *Connection // nil: the shop has not connected Recharge here, as in one-store mode
	// WebhookVerified is when a webhook from Recharge was last verified, to within a day.
	WebhookVerified time.Time

	dataKey []byte
	// epoch is mixed into the keys that seal and name cached values. In a new epoch, nothing that
	// was cached before is found or opens, but redactions stay.
	epoch      []byte
	account    string // Options.Account in one-store mode
	generation string // identifies data key and epoch
	sealer     *sealer
	sealed     string // the bytes in Redis
}

type sealedRecord struct {
	DataKey, Epoch  []byte
	Account         string            `json:",omitempty"`
	Connection      *sealedConnection `json:",omitempty"`
	WebhookVerified time.Time         `json:",omitzero"`
}

// The bytes in Redis are recordVersion, the id of the encryption key, the generation, and the sealed
// JSON of a sealedRecord.
const (
	recordVersion    = "2"
	generationSize   = 8
	generationAt     = len(recordVersion) + idSize
	recordHeaderSize = generationAt + generationSize
)

// ErrUnreadable means that Redis holds a record of the shop that does not open. It does not wrap
// its cause, which could quote a token.
var ErrUnreadable = errors.New("the shop's record does not open: another ENCRYPTION_KEY sealed it, or it is damaged")

// newRecord returns a record with a new data key.
func newRecord(shop shopify.Shop) *Record {
	r := &Record{Shop: shop, dataKey: random(keySize)}
	r.startEpoch()
	return r
}

// startEpoch starts a new epoch, which erases what was cached.
func (r *Record) startEpoch() {
	r.epoch = random(generationSize)
	r.deriveKeys()
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // it never fails
	return b
}

// deriveKeys derives the generation and the sealer from data key and epoch.
func (r *Record) deriveKeys() {
	r.generation = string(derive(r.dataKey, r.epoch, "generation", generationSize))
	r.sealer = newSealer(r.dataKey, r.epoch)
}

// seal seals a record with the first encryption key, and stores the result in it.
func (s *Store) seal(r *Record) {
	w := s.wrappers[0]
	plain := toJSON(sealedRecord{r.dataKey, r.epoch, r.account, (*sealedConnection)(r.Connection), r.WebhookVerified})
	header := recordVersion + w.id + r.generation
	place := []byte(recordKey(r.Shop) + header)
	r.sealed = string(w.aead.Seal([]byte(header), nil, plain, place)) //nolint:gosec // this AEAD draws its own nonce
}

// toJSON encodes values of our own types, for which encoding cannot fail.
func toJSON(value any) []byte {
	plain, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return plain
}

// openRecord opens a shop's record from Redis. Only this function uses every encryption key.
func (s *Store) openRecord(shop shopify.Shop, sealed string) (*Record, error) {
	if len(sealed) < recordHeaderSize || sealed[:len(recordVersion)] != recordVersion {
		return nil, ErrUnreadable
	}
	header := sealed[:recordHeaderSize]
	for _, w := range s.wrappers {
		if w.id != header[len(recordVersion):generationAt] {
			continue
		}
		plain, err := w.aead.Open(nil, nil, []byte(sealed[recordHeaderSize:]), []byte(recordKey(shop)+header))
		var opened sealedRecord
		if err != nil || json.Unmarshal(plain, &opened) != nil || len(opened.DataKey) != keySize {
			return nil, ErrUnreadable
		}
		r := &Record{
			Shop: shop, Connection: (*Connection)(opened.Connection), WebhookVerified: opened.WebhookVerified,
			dataKey: opened.DataKey, epoch: opened.Epoch, account: opened.Account, sealed: sealed,
		}
		r.deriveKeys()
		if r.generation != header[generationAt:] {
			return nil, ErrUnreadable
		}
		return r, nil
	}
	return nil, ErrUnreadable
}

// name returns the pseudonym of an id.
func (r *Record) name(id string) string { return r.sealer.names.name(id) }

// key returns the key of one kind, such as "c", for the shopper with a pseudonym.
func (r *Record) key(kind, name string) string {
	return shopPrefix(r.Shop) + kind + ":" + hex.EncodeToString([]byte(name))
}

// indexPrefix is the prefix of the index's buckets. Each generation has its own buckets, so that
// old ones do no harm.
func (r *Record) indexPrefix() string {
	return shopPrefix(r.Shop) + "r:" + hex.EncodeToString([]byte(r.generation[:4]))
}

// lastRead returns the shop's record as this process last read it, or nil.
func (s *Store) lastRead(shop shopify.Shop) *Record {
	r, _ := s.records.Load(shop)
	record, _ := r.(*Record)
	return record
}

// current returns the record in a value from Redis, or nil if there is none. It opens the record
// again only if its bytes have changed.
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

// Record returns a shop's record, or nil if there is none. While Redis does not answer, it returns
// the record as this process last read it. Errors: ErrUnreadable; any other means that Redis does
// not answer and that this process has never read the record.
func (s *Store) Record(ctx context.Context, shop shopify.Shop) (*Record, error) {
	record, err := s.recordNow(ctx, shop)
	if last := s.lastRead(shop); err != nil && last != nil && !errors.Is(err, ErrUnreadable) {
		return last, nil
	}
	return record, err
}

// recordNow is Record, but fails whenever Redis does not answer.
func (s *Store) recordNow(ctx context.Context, shop shopify.Shop) (*Record, error) {
	return s.readSealed(ctx, shop, "", nil)
}

// readSealed reads a shop's record and, if key is not empty, a JSON value that was sealed under that
// key. A value that another data key has sealed counts as none.
func (s *Store) readSealed(ctx context.Context, shop shopify.Shop, key string, into any) (*Record, error) {
	keys := []string{recordKey(shop)}
	if key != "" {
		keys = append(keys, key)
	}
	values, err := s.readNow(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	record, err := s.current(shop, values[0])
	if record == nil || key == "" {
		return record, err
	}
	if sealed, ok := values[1].(string); ok {
		if plain, err := record.sealer.open(key, sealed); err == nil {
			_ = json.Unmarshal(plain, into) // invalid JSON counts as none, too
		}
	}
	return record, nil
}

// sealJSON seals a value for readSealed.
func (r *Record) sealJSON(key string, value any) []byte {
	return r.sealer.seal(nil, key, toJSON(value))
}

// Update changes a shop's record, even if other instances do so at the same time. change may be
// called again, with another instance's result, or with its own if an answer was lost. Nothing is
// written if change returns false or if there is no record. Once Update returns nil, Redis has the
// change on disk.
func (s *Store) Update(ctx context.Context, shop shopify.Shop, change func(*Record) bool) error {
	err := s.rewrite(ctx, shop, nil, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
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

// errUnchanged makes rewrite write nothing.
var errUnchanged = errors.New("unchanged")

// rewrite replaces a shop's record with what next returns, and queues what also adds, in one
// transaction. next gets the last record, or nil if none opens. If it returns nil, the record is
// deleted. It may be called several times.
func (s *Store) rewrite(
	ctx context.Context, shop shopify.Shop, also func(redis.Pipeliner),
	next func(context.Context, *redis.Tx, *Record) (*Record, error),
) error {
	key := recordKey(shop)
	var written *Record
	err := s.durably(ctx, func(ctx context.Context, tx *redis.Tx) error {
		sealed, err := tx.Get(ctx, key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		last, _ := s.openRecord(shop, sealed)
		if written, err = next(ctx, tx, last); err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			if written == nil {
				pipe.Unlink(ctx, key)
			} else {
				s.seal(written)
				pipe.Set(ctx, key, written.sealed, 0)
			}
			if also != nil {
				also(pipe)
			}
			return nil
		})
		return err
	}, key, uninstalledKey(shop))
	switch {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	case written == nil:
		s.records.Delete(shop)
		return nil
	}
	// If Redis goes down now, clicks use what was saved.
	_, err = s.current(shop, written.sealed)
	return err
}

// WebhookVerified records that a webhook from Recharge was verified. It writes at most once a day.
func (s *Store) WebhookVerified(ctx context.Context, shop shopify.Shop) error {
	now := s.options.Now()
	record, err := s.Record(ctx, shop)
	if err != nil || record == nil || now.Sub(record.WebhookVerified) < 24*time.Hour {
		return err
	}
	return s.Update(ctx, shop, func(r *Record) bool {
		r.WebhookVerified = now
		return !s.otherAccount(r)
	})
}

// WebhooksProven reports whether a webhook from Recharge was verified in the last week.
func (s *Store) WebhooksProven(r *Record) bool {
	return r != nil && s.options.Now().Sub(r.WebhookVerified) < 7*24*time.Hour
}

// Rekey seals every shop's record with the first encryption key, and returns how many were sealed
// with another one before. Instances that have all keys may run meanwhile.
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
		_, err := s.recordNow(ctx, shop) // fails if the record does not open, which Update ignores
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

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

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Record holds a shop's data key, which seals everything else, and in many-store mode the shop's
// connection. Nothing of a shop opens without its record, on any instance, so deleting the record
// erases the shop.
//
// A record that was read is shared and never changed. Another read returns the same pointer as long
// as Redis holds the same bytes.
type Record struct {
	recharge.Redacted // since it holds keys

	Shop       shopify.Shop
	Connection *Connection // nil: the shop has not connected Recharge here, as in one-store mode
	// WebhookVerified is when a webhook from Recharge was last verified, to within a day.
	WebhookVerified time.Time
	// WebhookRefused is when the last one could not be verified, if none was since, to within a day.
	WebhookRefused time.Time

	dataKey []byte
	support []byte // goes into what signs links for support; nil: the merchant does not want them
	// epoch is mixed into the keys that seal and name cached values. In a new epoch, nothing that
	// was cached before is found or opens, but redactions stay.
	epoch      []byte
	account    string // Options.Account in one-store mode
	revision   int64  // grows with each write
	generation string // identifies data key and epoch
	sealer     *sealer
	sealed     string // the bytes in Redis
}

// Connected reports whether a shop has connected Recharge here. In one-store mode the token is in the
// configuration, and the connection only holds what was detected.
func (r *Record) Connected() bool {
	return r != nil && r.Connection != nil && r.Connection.APIToken != ""
}

type sealedRecord struct {
	DataKey, Epoch  []byte
	Account         string            `json:",omitempty"`
	Connection      *sealedConnection `json:",omitempty"`
	WebhookVerified time.Time         `json:",omitzero"`
	WebhookRefused  time.Time         `json:",omitzero"`
	Support         []byte            `json:",omitempty"`
	Revision        int64             `json:",omitzero"` // 0: from before there were revisions
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

// seal seals the next revision of a record with the first encryption key, and stores the result in
// it. A revision is a time in milliseconds, so that a new record is newer than an erased one even for
// an instance that never saw the latter, unless a merchant connects anew faster than clocks differ.
func (s *Store) seal(r *Record, now time.Time) {
	w := s.wrappers[0]
	r.revision = max(s.seen(r.Shop).revision+1, now.UnixMilli())
	connection := (*sealedConnection)(r.Connection)
	plain := must(json.Marshal(sealedRecord{
		r.dataKey, r.epoch, r.account, connection, r.WebhookVerified, r.WebhookRefused, r.support, r.revision,
	}))
	header := recordVersion + w.id + r.generation
	place := []byte(recordKey(r.Shop) + header)
	r.sealed = string(w.aead.Seal([]byte(header), nil, plain, place)) //nolint:gosec // this AEAD draws its own nonce
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
			WebhookRefused: opened.WebhookRefused,
			dataKey:        opened.DataKey, epoch: opened.Epoch, account: opened.Account, support: opened.Support,
			revision: opened.Revision, sealed: sealed,
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

// seen returns the newest record of a shop that this process has seen. If there was none, or if it is
// gone, orNil of it is nil, and it only has the lowest revision that is accepted.
func (s *Store) seen(shop shopify.Shop) *Record {
	if r, ok := s.records.Load(shop); ok {
		return r.(*Record)
	}
	return &Record{Shop: shop}
}

// Seen returns a shop's record as this process last read or wrote it, nil if there was none, or only
// another account's.
func (s *Store) Seen(shop shopify.Shop) *Record {
	if last := s.seen(shop); !s.otherAccount(last) {
		return last.orNil()
	}
	return nil
}

func (r *Record) orNil() *Record {
	if r == nil || r.sealer == nil {
		return nil
	}
	return r
}

// see remembers a record, or that it is gone, unless this process has seen a newer one.
func (s *Store) see(r *Record) {
	for {
		last, loaded := s.records.LoadOrStore(r.Shop, r)
		if !loaded || last.(*Record).revision > r.revision || s.records.CompareAndSwap(r.Shop, last, r) {
			return
		}
	}
}

// current returns the record in a value from Redis, or nil if there is none. It opens the record
// again only if its bytes have changed. seen is from before Redis was asked. If that is newer, Redis
// was rolled back, by a backup or a failover that lost writes.
func (s *Store) current(ctx context.Context, seen *Record, value any) (*Record, error) {
	sealed, ok := value.(string)
	switch {
	case !ok && seen.orNil() != nil:
		s.see(&Record{Shop: seen.Shop, revision: seen.revision + 1})
		return nil, nil
	case !ok:
		return nil, nil
	case sealed == seen.sealed && sealed != "":
		return seen.orNil(), nil
	}
	record, err := s.openRecord(seen.Shop, sealed)
	switch {
	case err != nil:
		return nil, err
	case record.revision < seen.revision:
		return s.putBack(ctx, seen, sealed)
	}
	s.see(record)
	return record, nil
}

// putBack replaces an older record by the one that this process has seen, and starts an epoch, since
// what is cached is older, too. An older record of a store that is gone counts as none, but stays, since
// an operator may be restoring what was lost. No time goes into the revision, since another instance
// may have seen a newer one.
func (s *Store) putBack(ctx context.Context, seen *Record, older string) (*Record, error) {
	s.options.Log.ErrorContext(ctx, "Redis was rolled back: see docs/redis.md", "shop", seen.Shop)
	if seen.orNil() == nil {
		s.see(&Record{Shop: seen.Shop, revision: seen.revision, sealed: older}) // not logged again
		return nil, nil
	}
	newest, _ := s.openRecord(seen.Shop, seen.sealed) // a copy, which opens as it did before
	newest.startEpoch()
	return s.put(ctx, newest, older, time.Time{})
}

// Record returns a shop's record, or nil if there is none. While Redis does not answer, it returns
// the record as this process last read it. Errors: ErrUnreadable; any other means that Redis does
// not answer and that this process has never read the record.
func (s *Store) Record(ctx context.Context, shop shopify.Shop) (*Record, error) {
	record, err := s.recordNow(ctx, shop)
	if last := s.seen(shop).orNil(); err != nil && last != nil && !errors.Is(err, ErrUnreadable) {
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
	seen := s.seen(shop)
	values, err := s.readNow(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	record, err := s.current(ctx, seen, values[0])
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
	return r.sealer.seal(nil, key, must(json.Marshal(value)))
}

// Update changes a shop's record, even if other instances do so at the same time. change may be
// called again, with another instance's result, or with its own if an answer was lost. Nothing is
// written if change returns false, or if there is no record, or only another account's. Once Update
// returns nil, Redis has the change on disk.
func (s *Store) Update(ctx context.Context, shop shopify.Shop, change func(*Record) bool) error {
	_, err := s.rewrite(ctx, shop, nil, func(_ context.Context, _ *redis.Tx, last *Record) (*Record, error) {
		if last == nil || s.otherAccount(last) || !change(last) {
			return nil, errUnchanged
		}
		return last, nil
	})
	return err
}

// errUnchanged makes rewrite write nothing.
var errUnchanged = errors.New("unchanged")

// rewrite replaces a shop's record with what next returns, and queues what also adds, in one
// transaction. next gets a copy of the last record, or nil if none opens. If it returns nil, the
// record is deleted. It may be called several times, for example because the answer to an earlier try
// was lost. rewrite returns the record that it replaced, or nil if there was none or nothing was
// written. In the background, it unlinks what only that record opens.
func (s *Store) rewrite(
	ctx context.Context, shop shopify.Shop, also func(redis.Pipeliner),
	next func(context.Context, *redis.Tx, *Record) (*Record, error),
) (replaced *Record, err error) {
	key := recordKey(shop)
	var seen, written *Record
	err = s.durably(ctx, func(ctx context.Context, tx *redis.Tx) error {
		before := s.seen(shop)
		values, err := tx.MGet(ctx, key).Result()
		if err != nil {
			return err
		}
		var copied *Record
		last, err := s.current(ctx, before, values[0]) // if it writes, the transaction is tried again
		seen = s.seen(shop)
		if last != nil {
			copied, err = s.openRecord(shop, last.sealed)
		}
		if err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		result, err := next(ctx, tx, copied)
		if err != nil {
			return err
		}
		if written = result; last != nil {
			replaced = last
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			if written == nil {
				pipe.Unlink(ctx, key)
			} else {
				s.seal(written, s.options.Now())
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
		err = nil
	case err != nil:
		return nil, fmt.Errorf("write record: %w", err)
	case written == nil:
		_, err = s.current(ctx, seen, nil)
	default: // if Redis goes down now, clicks use what was saved
		_, err = s.current(ctx, seen, written.sealed)
	}
	if replaced != nil && (written == nil || written.generation != replaced.generation) {
		s.tidy(replaced)
	}
	return replaced, err
}

// Rekey seals every shop's record with the first encryption key, and returns how many were sealed
// with another one before. Instances that have all keys may run meanwhile.
func (s *Store) Rekey(ctx context.Context) (resealed int, err error) {
	shops, err := s.Shops(ctx)
	if err != nil {
		return 0, err
	}
	if s.options.Single != "" {
		shops = append(shops, s.options.Single)
	}
	for _, shop := range shops {
		done := false
		_, failed := s.recordNow(ctx, shop) // fails if the record does not open, which Update ignores
		if failed == nil {
			failed = s.Update(ctx, shop, func(r *Record) bool {
				done = r.sealed[len(recordVersion):generationAt] != s.wrappers[0].id
				return done
			})
		}
		switch {
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", shop, failed))
		case done:
			resealed++
		}
	}
	return resealed, err
}

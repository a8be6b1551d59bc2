package store

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Constants that tests need.
const (
	RestFor      = restFor
	LockFor      = lockFor
	TombstoneFor = tombstoneFor
	RedactedFor  = redactedFor
	LongestLife  = longestLife
)

// Embedded returns the embedded Redis.
func (s *Store) Embedded() *miniredis.Miniredis { return s.embedded }

// OnDurable adds a hook to the writes that must not be lost.
func (s *Store) OnDurable(hook redis.Hook) { s.slow.AddHook(hook) }

// Settle waits for the background work.
func (s *Store) Settle() { s.background.Wait() }

// StopBackground stops the store's background work.
func (s *Store) StopBackground() { s.close() }

// Generation identifies a record's data key and epoch.
func (r *Record) Generation() string { return r.generation }

// DataKey returns the key that seals everything of a shop but its record.
func (r *Record) DataKey() []byte { return r.dataKey }

// Name returns the pseudonym of an id.
func (r *Record) Name(id string) string { return r.name(id) }

// CachedKey, TombstoneKey and LockKey return a shopper's keys.
func (r *Record) CachedKey(id string) string    { return r.key("c", r.Name(id)) }
func (r *Record) TombstoneKey(id string) string { return r.key("x", r.Name(id)) }
func (r *Record) LockKey(id string) string      { return r.key("l", r.Name(id)) }

// IndexKey returns the bucket of the index for an id, and IndexField its field.
func (r *Record) IndexKey(id string) string {
	return r.indexPrefix() + hex.EncodeToString([]byte(r.Name(id)[:1]))
}
func (r *Record) IndexField(id string) string { return r.Name(id)[1:] }

// RedactionKey returns the key of a shopper's redaction.
func (r *Record) RedactionKey(id string) string { return r.key("d", r.sealer.redactions.name(id)) }

// A shop's keys.
var (
	RecordKey = recordKey
	BucketKey = bucketKey
)

// NonceKey returns the key of the mark that a link was used.
func NonceKey(shop shopify.Shop, nonce string) string { return nonceKey(shop, nonce) }

// ShopsKey is the key of the list of shops.
const ShopsKey = shopsKey

// RechargeID marks an id as Recharge's, to tell it from Shopify's.
var RechargeID = canonicalRecharge

// WithoutRevision makes a shop's record as it was before there were revisions.
func (s *Store) WithoutRevision(ctx context.Context, shop shopify.Shop) error {
	r := *s.seen(shop)
	s.records.Store(shop, &Record{Shop: shop, revision: -1})
	s.seal(&r, time.Time{})
	return s.redis.Set(ctx, recordKey(shop), r.sealed, 0).Err()
}

// EndImport is KeepImport for a task that no longer needs its lease.
func (s *Store) EndImport(ctx context.Context, task *ImportTask, next time.Duration) error {
	_, err := s.KeepImport(ctx, task, next)
	return err
}

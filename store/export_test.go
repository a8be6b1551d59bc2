package store

import (
	"encoding/hex"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// What tests need to know of the inside.
const (
	RestFor      = restFor
	LockFor      = lockFor
	TombstoneFor = tombstoneFor
	RedactedFor  = redactedFor
	LongestLife  = longestLife
)

// Embedded is the embedded Redis.
func (s *Store) Embedded() *miniredis.Miniredis { return s.embedded }

// OnDurable hooks into the writes that must not be lost.
func (s *Store) OnDurable(hook redis.Hook) { s.slow.AddHook(hook) }

// Settle waits for what runs in the background.
func (s *Store) Settle() { s.background.Wait() }

// StopBackground keeps the store from doing anything in the background.
func (s *Store) StopBackground() { s.close() }

// Generation names a record's data key and epoch.
func (r *Record) Generation() string { return r.generation }

// DataKey is what seals everything of a shop but its record.
func (r *Record) DataKey() []byte { return r.dataKey }

// Name is the pseudonym of an id.
func (r *Record) Name(id string) string { return r.name(id) }

// CachedKey, TombstoneKey and LockKey are where things of a shopper are.
func (r *Record) CachedKey(id string) string    { return r.key("c", r.Name(id)) }
func (r *Record) TombstoneKey(id string) string { return r.key("x", r.Name(id)) }
func (r *Record) LockKey(id string) string      { return r.key("l", r.Name(id)) }

// IndexKey is the bucket of the index that has an id, and IndexField its field.
func (r *Record) IndexKey(id string) string {
	return r.indexPrefix() + hex.EncodeToString([]byte(r.Name(id)[:1]))
}
func (r *Record) IndexField(id string) string { return r.Name(id)[1:] }

// RedactionKey is where a redaction is.
func (r *Record) RedactionKey(id string) string { return r.key("d", r.sealer.redactions.name(id)) }

// Keys of a shop, and the one of all shops.
var (
	RecordKey = recordKey
	BucketKey = bucketKey
)

// ShopsKey is the list of shops.
const ShopsKey = shopsKey

// RechargeID is how an id of Recharge's is told from one of Shopify's.
var RechargeID = canonicalRecharge

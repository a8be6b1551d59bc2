package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"manage-subscriptions/shopify"
)

// A key of a shop is ms2:{shop}:kind, and a name where there are several of the kind. The braces
// put all keys of a shop into one slot of a cluster. The shop is in the clear: an operator may see
// which stores there are. Shoppers are pseudonyms, made with the shop's data key.
//
//	shop         the shop's record
//	c:<name>     what is cached of a shopper
//	r:<bucket>   which shopper is cached under another id, a hash; the bucket says of
//	             which data key it is
//	x:<name>     tombstone: when a shopper was erased or moved, a moment ago
//	d:<name>     a shopper was redacted: imports do not cache them
//	x:shop       when the app was uninstalled, a moment ago
//	l:<name>     lock: which instance asks Recharge for this shopper
//	n:<digest>   a one-time link that was used
//	b            how full the token's bucket is: a time
//	h:<hour>     an hour's counters, a hash
//	e            recent errors
//	i            how far the import is
//
// Of no shop are ms2:shops, the shops by when their next import is due;
// ms2:instances, random names; and ms2:maintenance, a lock.
const (
	prefix         = "ms2:"
	shopsKey       = prefix + "shops"
	instancesKey   = prefix + "instances"
	maintenanceKey = prefix + "maintenance"

	// indexBuckets is how many hashes a shop's index has, one for each two hex digits:
	// so few that a small store does not pay for empty ones, so many that Redis packs
	// those of a large store (up to 512 fields).
	indexBuckets = 256
)

// shopPrefix is how all keys of a shop begin.
func shopPrefix(shop shopify.Shop) string { return prefix + "{" + string(shop) + "}:" }

func recordKey(shop shopify.Shop) string      { return shopPrefix(shop) + "shop" }
func uninstalledKey(shop shopify.Shop) string { return shopPrefix(shop) + "x:shop" }
func bucketKey(shop shopify.Shop) string      { return shopPrefix(shop) + "b" }
func errorsKey(shop shopify.Shop) string      { return shopPrefix(shop) + "e" }
func importKey(shop shopify.Shop) string      { return shopPrefix(shop) + "i" }

// nonceKey has a plain digest: a used link stays used whatever becomes of the
// shop's record and of the encryption keys.
func nonceKey(shop shopify.Shop, nonce string) string {
	digest := sha256.Sum256([]byte(nonce))
	return shopPrefix(shop) + "n:" + hex.EncodeToString(digest[:16])
}

func hourKey(shop shopify.Shop, hour int64) string {
	return shopPrefix(shop) + "h:" + time.Unix(hour, 0).UTC().Format("2006010215")
}

// canonical is the id by which a shopper is cached: Shopify's, or Recharge's where
// the shop's own middleware asks by that.
func canonical(who Shopper) string {
	if who.RechargeID != 0 {
		return canonicalRecharge(who.RechargeID)
	}
	return string(who.Customer)
}

func canonicalRecharge(id int64) string { return "recharge:" + strconv.FormatInt(id, 10) }

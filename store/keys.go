package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"manage-subscriptions/shopify"
)

// A shop's keys are ms2:{shop}:kind, followed by a name if there are several of a kind. The braces
// put all of a shop's keys into one slot of a cluster. The shop is in the clear, since an operator
// may see which stores there are. Shoppers have pseudonyms, made with the shop's data key.
//
//	shop         the shop's record
//	c:<name>     what is cached of a shopper
//	r:<bucket>   index: which shopper is cached under another id, a hash; the bucket
//	             depends on the record's generation
//	x:<name>     tombstone: when a shopper was erased or moved, a moment ago
//	d:<name>     redaction: imports do not cache the shopper
//	x:shop       when the app was uninstalled, a moment ago
//	l:<name>     lock: which instance asks Recharge for the shopper
//	n:<digest>   a one-time link that was used
//	b            when the token's bucket will be empty
//	h:<hour>     an hour's counters, a hash
//	e            recent errors
//	i            progress of the import
//
// Three keys belong to no shop: ms2:shops, the shops by when their next import is due;
// ms2:instances, random names; and ms2:maintenance, a lock.
const (
	prefix         = "ms2:"
	shopsKey       = prefix + "shops"
	instancesKey   = prefix + "instances"
	maintenanceKey = prefix + "maintenance"

	// indexBuckets is how many hashes a shop's index has, one for each two hex digits: so few that
	// they cost a small store little, and so many that Redis packs those of a large store (up to
	// 512 fields).
	indexBuckets = 256
)

// shopPrefix begins all keys of a shop.
func shopPrefix(shop shopify.Shop) string { return prefix + "{" + string(shop) + "}:" }

func recordKey(shop shopify.Shop) string      { return shopPrefix(shop) + "shop" }
func uninstalledKey(shop shopify.Shop) string { return shopPrefix(shop) + "x:shop" }
func bucketKey(shop shopify.Shop) string      { return shopPrefix(shop) + "b" }
func errorsKey(shop shopify.Shop) string      { return shopPrefix(shop) + "e" }
func importKey(shop shopify.Shop) string      { return shopPrefix(shop) + "i" }

// nonceKey contains a plain digest, so that a used link stays used whatever happens to the shop's
// record and to the encryption keys.
func nonceKey(shop shopify.Shop, nonce string) string {
	digest := sha256.Sum256([]byte(nonce))
	return shopPrefix(shop) + "n:" + hex.EncodeToString(digest[:16])
}

// hourKey is the key of the hour that a time is in.
func hourKey(shop shopify.Shop, at time.Time) string {
	return shopPrefix(shop) + "h:" + at.UTC().Format("2006010215")
}

// canonical is the id by which a shopper is cached: Shopify's, or Recharge's if the shop's own
// middleware uses that.
func canonical(who Shopper) string {
	if who.RechargeID != 0 {
		return canonicalRecharge(who.RechargeID)
	}
	return string(who.Customer)
}

func canonicalRecharge(id int64) string { return "recharge:" + strconv.FormatInt(id, 10) }

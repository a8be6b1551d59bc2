package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// A shop's keys are ms2:{shop}:kind, followed by a name if there are several of a kind. The braces put
// all of a shop's keys into one slot of a cluster. The shop's name is not encrypted, since operators
// may see which stores they serve. Shoppers have pseudonyms, made with the shop's data key.
//
//	shop         the shop's record
//	c:<name>     a shopper's cached value
//	r:<bucket>   index, a hash: which shopper is cached under another id; the bucket's
//	             name begins with part of the record's generation
//	x:<name>     tombstone: when a shopper was erased or moved, for two minutes
//	d:<name>     redaction: imports do not cache the shopper
//	x:shop       when the app was uninstalled, for two minutes
//	l:<name>     lock: which instance asks Recharge for the shopper
//	n:<digest>   a one-time link that was used: a digest of the browser, and when; or a call that must
//	             not be made again for a minute
//	b            when the token's bucket will be empty
//	h:<day>      a day's counters, a hash: how often what was counted in which hour
//	e            recent errors
//	i            progress of the import
//	q:<id>       a campaign's audience, a list of shoppers' names
//	p:<id>       progress of the work on a campaign
//	k:<id>       a campaign's clicks, a hash
//
// Three keys belong to no shop: ms2:shops, a sorted set of shops by the time of their next import,
// ms2:campaigns, the same for the work on campaigns, and ms2:instances, random names.
const (
	prefix       = "ms2:"
	shopsKey     = prefix + "shops"
	campaignsKey = prefix + "campaigns"
	instancesKey = prefix + "instances"

	// indexBuckets is how many hashes a shop's index has, one for each pair of hex digits. That
	// many cost a small store little, and keep those of a large store small enough for Redis to
	// pack (up to 512 fields).
	indexBuckets = 256
)

// shopPrefix is the prefix of all of a shop's keys.
func shopPrefix(shop shopify.Shop) string { return prefix + "{" + string(shop) + "}:" }

func recordKey(shop shopify.Shop) string      { return shopPrefix(shop) + "shop" }
func uninstalledKey(shop shopify.Shop) string { return shopPrefix(shop) + "x:shop" }
func bucketKey(shop shopify.Shop) string      { return shopPrefix(shop) + "b" }
func errorsKey(shop shopify.Shop) string      { return shopPrefix(shop) + "e" }
func importKey(shop shopify.Shop) string      { return shopPrefix(shop) + "i" }

// nonceKey contains a plain digest, so that a used link stays used even if the shop's record or the
// encryption keys change.
func nonceKey(shop shopify.Shop, nonce string) string {
	digest := sha256.Sum256([]byte(nonce))
	return shopPrefix(shop) + "n:" + hex.EncodeToString(digest[:16])
}

// canonical returns the id by which a shopper is cached: Shopify's, or Recharge's if the shop's own
// middleware uses that.
func canonical(who Shopper) string {
	if who.RechargeID != 0 {
		return canonicalRecharge(who.RechargeID)
	}
	return string(who.Customer)
}

func canonicalRecharge(id int64) string { return "recharge:" + strconv.FormatInt(id, 10) }

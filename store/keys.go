package store

import (
	"strconv"

	"manage-subscriptions/shopify"
)

// A key of a shop is ms1:{shop}kind, and a name where there are several of the
// kind. The braces put all keys of a shop into one slot of a cluster; shop and
// name are pseudonyms.
//
//	c  who a shopper is at Recharge
//	s  a shopper's session and links, a hash; its name is that of the customer
//	k  the connection
//	t  Recharge's customers that have changed, a hash
//	h  an hour's numbers, a hash
//	e  the last errors
//	b  the token's bucket: a time, in the clear
//	i  how far the index is
//	l  who opens a shopper's portal at present, and what came of it
//	n  that a signed link has been used
//
// Of no shop are ms1:orders, a hash; ms1:w, what was seen: webhooks, and states of
// the code grant; ms1:servers, a sorted set of random names; ms1:index, one of shops'
// pseudonyms, by when they are swept next; and ms1:rekey, ms1:round and ms1:sweeping,
// which say that somebody is at it.
const (
	prefix       = "ms1:"
	ordersKey    = prefix + "orders"
	sharersKey   = prefix + "servers"
	sessionField = "s"

	kindShopper    = "c"
	kindVisits     = "s"
	kindConnection = "k"
	kindTouched    = "t"
	kindHour       = "h"
	kindTroubles   = "e"
	kindIndex      = "i"
	kindBucket     = "b"
	kindLease      = "l"
	kindSpent      = "n"
)

const nameSize = 16 // bytes

// shopOf is how all keys of a shop begin. Nothing in it is special to Redis'
// patterns: base64 has no such signs.
func shopOf(s *sealer, shop shopify.Shop) string {
	return prefix + "{" + s.name(8, "shop", string(shop)) + "}"
}

// shopperKeys are the two keys of a shopper.
func shopperKeys(s *sealer, who Shopper) (customer, session string) {
	shop, name := shopOf(s, who.Shop), shopperName(s, who)
	return shop + kindShopper + name, shop + kindVisits + name
}

func shopperName(s *sealer, who Shopper) string {
	if who.RechargeID != 0 {
		return s.name(nameSize, "recharge", string(who.Shop), strconv.FormatInt(who.RechargeID, 10))
	}
	return s.name(nameSize, "shopper", string(who.Shop), string(who.Customer))
}

// visitField is a link's field in a shopper's hash.
func visitField(s *sealer, visit Visit) string {
	return s.name(nameSize, "visit", string(visit.To), string(visit.Locale))
}

func connectionKey(s *sealer, shop shopify.Shop) string {
	return shopOf(s, shop) + kindConnection + s.name(nameSize, "connection", string(shop))
}

func touchedKey(s *sealer, shop shopify.Shop) string { return shopOf(s, shop) + kindTouched }

// fieldOf is the place of a hash's field, for which its value is sealed.
func fieldOf(key, field string) string { return key + "/" + field }

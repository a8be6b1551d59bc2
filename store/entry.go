package store

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// An entry is a kind, a time in seconds since 1970, and what the kind says. It
// is packed, not JSON: half of Redis' memory a customer would be field names.
const (
	kindCustomer      = 'C' // time: fresh until; then the shopper's id at Shopify, Recharge's, active subscriptions, hash
	kindIndexed       = 'I' // time: fresh until; then the shopper's id, the sweep's number, and as kindCustomer
	kindSeveral       = 'A' // time: none; then the shopper's id, the sweep's number, and how many are active
	kindNotSubscriber = 'N' // time: fresh until; then the shopper's id
	kindSession       = 's' // time: expires; then the token
	kindLink          = 'l' // time: reused until; then the URL
)

func encode(kind byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(t.Unix()))
}

func encodeCustomer(who shopify.CustomerID, customer recharge.Customer, freshUntil time.Time) []byte {
	return appendCustomer(binary.AppendUvarint(encode(kindCustomer, freshUntil), number(who)), customer)
}

func encodeIndexed(who shopify.CustomerID, found indexed, freshUntil time.Time) []byte {
	if found.several {
		entry := binary.AppendUvarint(encode(kindSeveral, time.Time{}), number(who))
		return binary.AppendUvarint(binary.AppendUvarint(entry, found.sweep), uint64(found.customer.Active))
	}
	entry := binary.AppendUvarint(encode(kindIndexed, freshUntil), number(who))
	return appendCustomer(binary.AppendUvarint(entry, found.sweep), found.customer)
}

func appendCustomer(entry []byte, customer recharge.Customer) []byte {
	entry = binary.AppendUvarint(entry, uint64(customer.ID))
	entry = binary.AppendUvarint(entry, uint64(max(customer.Active, 0)))
	return appendHash(entry, customer.Hash)
}

// appendHash packs a hash of hex digits, as nearly all are, into half as much.
func appendHash(entry []byte, hash string) []byte {
	if packed, err := hex.DecodeString(hash); err == nil && hex.EncodeToString(packed) == hash && hash != "" {
		return append(append(entry, hexMark), packed...)
	}
	return append(entry, hash...)
}

// hexMark is before a packed hash; no other begins with it.
const hexMark = 0

func decodeHash(rest []byte) string {
	if len(rest) > 0 && rest[0] == hexMark {
		return hex.EncodeToString(rest[1:])
	}
	return string(rest)
}

func encodeNotSubscriber(who shopify.CustomerID, freshUntil time.Time) []byte {
	return binary.AppendUvarint(encode(kindNotSubscriber, freshUntil), number(who))
}

// number is Shopify's id as a number, or 0 where that would be another text.
func number(who shopify.CustomerID) uint64 {
	n, err := strconv.ParseUint(string(who), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != string(who) {
		return 0
	}
	return n
}

func encodeSession(session recharge.Session) []byte {
	return append(encode(kindSession, session.Expires), session.Token...)
}

func encodeLink(link recharge.Link, until time.Time) []byte {
	return append(encode(kindLink, until), link.URL...)
}

// opened is an entry, unpacked.
type opened struct {
	kind  byte
	time  time.Time
	who   uint64 // the shopper's number, 0 unknown; of the kinds that say who somebody is
	sweep uint64 // its number; of the kinds that a sweep writes
	rest  []byte
}

// unpack reads an entry. It does not look at rest.
func unpack(entry []byte) (opened, bool) {
	if len(entry) < 9 {
		return opened{}, false
	}
	o := opened{kind: entry[0], time: time.Unix(int64(binary.BigEndian.Uint64(entry[1:9])), 0), rest: entry[9:]}
	ok := true
	switch o.kind {
	case kindCustomer, kindNotSubscriber:
		o.who, o.rest, ok = cutNumber(o.rest)
	case kindIndexed, kindSeveral:
		if o.who, o.rest, ok = cutNumber(o.rest); ok {
			o.sweep, o.rest, ok = cutNumber(o.rest)
		}
	}
	return o, ok
}

func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

// of tells whether an entry may be the shopper's. Its place in Redis says so
// already; this is for the day when that is wrong.
func (o opened) of(who Shopper) bool {
	if who.RechargeID == 0 {
		return o.who == 0 || o.who == who.number()
	}
	return o.kind != kindCustomer && o.kind != kindIndexed || decodeCustomer(o.rest).ID == who.RechargeID
}

// add reads an entry of a shopper into the memory, if its time has not come.
// Redis drops entries by its own clock; this one decides. The newest key's
// entries come first, and hold: what an older key's say of the same is older.
func (m *Memory) add(entry []byte, who Shopper, now time.Time) {
	o, ok := unpack(entry)
	if !ok || !o.of(who) {
		return
	}
	live := now.Before(o.time)
	switch {
	case o.kind == kindSession && live && m.Session.Token == "":
		m.Session = recharge.Session{Token: string(o.rest), Expires: o.time}
	case o.kind == kindLink && live && m.Link.URL == "":
		m.Link = recharge.Link{URL: string(o.rest), Expires: o.time}
	case m.Customer.ID == 0 && !m.NotSubscriber:
		m.addCustomer(o, now)
	}
}

func (m *Memory) addCustomer(o opened, now time.Time) {
	live := now.Before(o.time)
	switch {
	case o.kind == kindCustomer || o.kind == kindIndexed:
		m.Customer = decodeCustomer(o.rest)
		m.Fresh = live && m.Customer.ID != 0
		m.Indexed = o.kind == kindIndexed
	case o.kind == kindNotSubscriber && now.Before(o.time.Add(wasNotSubscriberFor-notSubscriberFor)):
		m.NotSubscriber, m.Fresh = true, live
	}
}

func decodeCustomer(rest []byte) recharge.Customer {
	id, n := binary.Uvarint(rest)
	if n <= 0 {
		return recharge.Customer{}
	}
	active, m := binary.Uvarint(rest[n:])
	if m <= 0 {
		return recharge.Customer{}
	}
	return recharge.Customer{ID: int64(id), Active: int(active), Hash: decodeHash(rest[n+m:])}
}

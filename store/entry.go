package store

import (
	"encoding/binary"
	"strconv"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// An entry is a kind, a time in seconds since 1970, and what the kind says. It
// is packed, not JSON: half of Redis' memory a customer would be field names.
const (
	kindCustomer      = 'C' // time: fresh until; then the shopper's id, Recharge's, active subscriptions, hash
	kindNotSubscriber = 'N' // time: fresh until; then the shopper's id
	kindSession       = 's' // time: expires; then the token
	kindLink          = 'l' // time: reused until; then the URL
)

func encode(kind byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(t.Unix()))
}

func encodeCustomer(who shopify.CustomerID, customer recharge.Customer, freshUntil time.Time) []byte {
	entry := binary.AppendUvarint(encode(kindCustomer, freshUntil), number(who))
	entry = binary.AppendUvarint(entry, uint64(customer.ID))
	entry = binary.AppendUvarint(entry, uint64(max(customer.Active, 0)))
	return append(entry, customer.Hash...)
}

func encodeNotSubscriber(who shopify.CustomerID, freshUntil time.Time) []byte {
	return binary.AppendUvarint(encode(kindNotSubscriber, freshUntil), number(who))
}

// number is a shopper's id as a number, or 0 where that would be another text:
// what cannot be told from the number is not told.
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
	kind byte
	time time.Time
	who  uint64 // the shopper's number, 0 unknown; of the first two kinds
	rest []byte
}

// unpack reads an entry. It does not look at rest.
func unpack(entry []byte) (opened, bool) {
	if len(entry) < 9 {
		return opened{}, false
	}
	o := opened{kind: entry[0], time: time.Unix(int64(binary.BigEndian.Uint64(entry[1:9])), 0), rest: entry[9:]}
	if o.kind != kindCustomer && o.kind != kindNotSubscriber {
		return o, true
	}
	who, n := binary.Uvarint(o.rest)
	if n <= 0 {
		return opened{}, false
	}
	o.who, o.rest = who, o.rest[n:]
	return o, true
}

// of tells whether an entry may be the shopper's. Its place in Redis says so
// already; this is for the day when that is wrong.
func (o opened) of(who shopify.CustomerID) bool { return o.who == 0 || o.who == number(who) }

// add reads an entry of a shopper into the memory, if its time has not come.
// Redis drops entries by its own clock; this one decides. The newest key's
// entries come first, and hold: what an older key's say of the same is older.
func (m *Memory) add(entry []byte, who shopify.CustomerID, now time.Time) {
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
	case o.kind == kindCustomer:
		m.Customer = decodeCustomer(o.rest)
		m.Fresh = live && m.Customer.ID != 0
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
	return recharge.Customer{ID: int64(id), Active: int(active), Hash: string(rest[n+m:])}
}

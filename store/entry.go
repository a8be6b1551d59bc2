package store

import (
	"encoding/binary"
	"time"

	"manage-subscriptions/recharge"
)

// An entry is a kind, a time in seconds since 1970, and what the kind says. It
// is packed, not JSON: half of Redis' memory a customer would be field names.
const (
	kindCustomer      = 'c' // time: fresh until; then id, active subscriptions, hash
	kindNotSubscriber = 'n' // time: fresh until
	kindSession       = 's' // time: expires; then the token
	kindLink          = 'l' // time: reused until; then the URL
)

func encode(kind byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(t.Unix()))
}

func encodeCustomer(customer recharge.Customer, freshUntil time.Time) []byte {
	entry := encode(kindCustomer, freshUntil)
	entry = binary.AppendUvarint(entry, uint64(customer.ID))
	entry = binary.AppendUvarint(entry, uint64(max(customer.Active, 0)))
	return append(entry, customer.Hash...)
}

func encodeNotSubscriber(freshUntil time.Time) []byte { return encode(kindNotSubscriber, freshUntil) }

func encodeSession(session recharge.Session) []byte {
	return append(encode(kindSession, session.Expires), session.Token...)
}

func encodeLink(link recharge.Link, until time.Time) []byte {
	return append(encode(kindLink, until), link.URL...)
}

// add reads an entry into the memory, if its time has not come. Redis drops
// entries by its own clock; this one decides. The newest key's entries come
// first, and hold: what an older key's say of the same is older.
func (m *Memory) add(entry []byte, now time.Time) {
	if len(entry) < 9 {
		return
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(entry[1:9])), 0)
	kind, rest, live := entry[0], entry[9:], now.Before(until)
	told := m.Customer.ID != 0 || m.NotSubscriber
	switch {
	case kind == kindCustomer && !told:
		m.Customer = decodeCustomer(rest)
		m.Fresh = live && m.Customer.ID != 0
	case kind == kindNotSubscriber && !told && now.Before(until.Add(wasNotSubscriberFor-notSubscriberFor)):
		m.NotSubscriber, m.Fresh = true, live
	case kind == kindSession && live && m.Session.Token == "":
		m.Session = recharge.Session{Token: string(rest), Expires: until}
	case kind == kindLink && live && m.Link.URL == "":
		m.Link = recharge.Link{URL: string(rest), Expires: until}
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

package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const (
	// staleFor is how long a customer is kept after it should have been looked up again, in case
	// Recharge is down. longestLife limits the total.
	staleFor    = 7 * 24 * time.Hour
	longestLife = 8 * 24 * time.Hour
	// importSlack is how much longer than CustomerTTL an imported customer stays fresh, since the
	// next night's import takes time, too.
	importSlack = 3 * time.Hour
	// notSubscriberFor is short, so that a shopper who has just subscribed soon gets to the portal.
	notSubscriberFor = time.Minute
	// wasNotSubscriberFor is how long the same value is kept for status requests, which must not
	// cost a call a minute.
	wasNotSubscriberFor = 10 * time.Minute
	// redactedFor is how long a redaction keeps imports from caching the shopper again. Each import
	// that meets it restarts that time.
	redactedFor = 30 * 24 * time.Hour
)

// Cached is everything that is cached about one shopper. The zero value means nothing is.
type Cached struct {
	Customer      recharge.Customer  // zero ID: none
	ShopifyID     shopify.CustomerID // that Customer names; "": none, or not known
	NotSubscriber bool               // Recharge had no such customer
	LookedUp      time.Time          // when Recharge was asked for all of the shopper's records
	Verified      time.Time          // when Customer last named the shopper; not before LookedUp
	Fresh         bool               // a click need not look it up again; set by Load

	Session     recharge.Session // "" token: none
	Access      recharge.Access  // zero: none
	AccessUntil time.Time        // how long Access is reused
	For         string           // the campaign for which Access was made; "": a click made it
	MadeAt      time.Time        // when it was made for that
	Seen        time.Time        // when a click last asked Recharge for the shopper; zero: not known
	// Until NoAccessUntil, Recharge is not asked for a session or an access again, since it has
	// refused one to this shopper.
	NoAccessUntil time.Time

	Import  uint64 // number of the import that has read Customer; 0: a lookup did
	Several bool   // that import has read several records of the shopper, and cannot prefer one
}

// Known reports whether a customer is cached, fresh or not.
func (c Cached) Known() bool { return c.Customer.ID != 0 && !c.Several }

// DropAccess drops the portal access.
func (c *Cached) DropAccess() {
	c.Access, c.AccessUntil, c.For, c.MadeAt = recharge.Access{}, time.Time{}, "", time.Time{}
}

// otherID returns the id, other than who's, by which a webhook may name the same shopper, or "" if
// it is not known.
func (c Cached) otherID(who Shopper) string {
	switch {
	case c.Customer.ID == 0:
		return ""
	case who.RechargeID != 0:
		return string(c.ShopifyID)
	}
	return canonicalRecharge(c.Customer.ID)
}

// life returns how long a value stays in Redis, and how much of that it is fresh. It differs by
// shopper, so that the shoppers of a campaign are not all looked up again at once.
func (s *Store) life(c Cached, name string) (life, fresh time.Duration) {
	if c.NotSubscriber {
		return wasNotSubscriberFor, notSubscriberFor
	}
	fresh = time.Duration(float64(s.options.CustomerTTL) * (0.9 + 0.2*float64(name[0])/255))
	if c.Import != 0 {
		fresh += importSlack
	}
	return min(fresh+staleFor, longestLife), fresh
}

// A value in Redis is the pseudonym of the shopper's other id, which lets a script maintain the index,
// followed by the sealed rest. The rest begins with a random nonce, which identifies the version.
const versionSize = 12

// noName stands for the pseudonym of an id that is not known.
const noName = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// sealCached seals a value to be cached under key.
func (r *Record) sealCached(key, other string, c Cached) string {
	return string(r.sealer.seal([]byte(other), key+other, encode(c)))
}

// openCached opens the value that Redis holds under key.
func (r *Record) openCached(key, value string) (Cached, error) {
	if len(value) < nameSize {
		return Cached{}, errSealed
	}
	plain, err := r.sealer.open(key+value[:nameSize], value[nameSize:])
	if err != nil {
		return Cached{}, err
	}
	return decode(plain)
}

// versionOf returns the version of a value, or "" if there is no value.
func versionOf(value string) string {
	if len(value) < nameSize+versionSize {
		return ""
	}
	return value[nameSize : nameSize+versionSize]
}

// These flags say what a packed value contains. Values are not JSON, since field names would take
// half of Redis's memory.
const (
	hasCustomer = 1 << iota
	isNotSubscriber
	hasImport
	isSeveral
	hasSession
	hasAccess
	hasNoAccess
	hasCampaign
	hasSeen
)

func encode(c Cached) []byte {
	flags, out := uint64(0), appendTime(nil, c.LookedUp)
	has := func(flag uint64, is bool) bool {
		if is {
			flags |= flag
		}
		return is
	}
	has(isNotSubscriber, c.NotSubscriber)
	has(isSeveral, c.Several)
	if has(hasCustomer, c.Customer.ID != 0) {
		out = binary.AppendUvarint(out, uint64(max(0, c.Verified.Unix()-c.LookedUp.Unix())))
		out = binary.AppendUvarint(out, number(c.ShopifyID))
		out = binary.AppendUvarint(out, uint64(c.Customer.ID))
		out = binary.AppendUvarint(out, uint64(max(c.Customer.Active, 0)))
		out = appendText(out, c.Customer.Hash)
	}
	if has(hasImport, c.Import != 0) {
		out = binary.AppendUvarint(out, c.Import)
	}
	if has(hasSession, c.Session.Token != "") {
		out = appendText(appendTime(out, c.Session.Expires), c.Session.Token)
	}
	if has(hasAccess, c.Access.TempToken != "") {
		out = appendTime(appendTime(out, c.AccessUntil), c.Access.Expires)
		out = appendText(appendText(out, c.Access.Base), c.Access.TempToken)
	}
	if has(hasNoAccess, !c.NoAccessUntil.IsZero()) {
		out = appendTime(out, c.NoAccessUntil)
	}
	if has(hasCampaign, c.For != "") {
		out = appendText(appendTime(out, c.MadeAt), c.For)
	}
	if has(hasSeen, !c.Seen.IsZero()) {
		out = appendTime(out, c.Seen)
	}
	return append(binary.AppendUvarint(nil, flags), out...)
}

// appendTime packs a time in seconds since 1970; the zero time is 0.
func appendTime(out []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(out, 0)
	}
	return binary.AppendUvarint(out, uint64(max(t.Unix(), 0)))
}

// appendText packs a text, preceded by its length. Hex digits, as in most hashes and tokens, are
// packed into half the bytes.
func appendText(out []byte, text string) []byte {
	if packed, err := hex.DecodeString(text); err == nil && hex.EncodeToString(packed) == text {
		return append(binary.AppendUvarint(out, uint64(len(packed))<<1|1), packed...)
	}
	return append(binary.AppendUvarint(out, uint64(len(text))<<1), text...)
}

var errPacked = errors.New("a cached value cannot be read")

// unpacker reads a packed value from the front. After an error it reads zeros.
type unpacker struct {
	rest []byte
	err  error
}

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.rest, u.err = nil, errPacked
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

func (u *unpacker) time() time.Time {
	if seconds := u.number(); seconds != 0 {
		return time.Unix(int64(seconds), 0)
	}
	return time.Time{}
}

func (u *unpacker) text() string {
	size := u.number()
	if size>>1 > uint64(len(u.rest)) {
		u.rest, u.err = nil, errPacked
		return ""
	}
	raw := u.rest[:size>>1]
	u.rest = u.rest[size>>1:]
	if size&1 == 1 {
		return hex.EncodeToString(raw)
	}
	return string(raw)
}

func decode(packed []byte) (Cached, error) {
	if len(packed) == 0 {
		return Cached{}, errPacked
	}
	u := unpacker{rest: packed}
	flags := u.number()
	c := Cached{NotSubscriber: flags&isNotSubscriber != 0, Several: flags&isSeveral != 0, LookedUp: u.time()}
	if flags&hasCustomer != 0 {
		c.Verified = c.LookedUp.Add(time.Duration(u.number()) * time.Second)
		if id := u.number(); id != 0 {
			c.ShopifyID = shopify.CustomerID(strconv.FormatUint(id, 10))
		}
		c.Customer.ID, c.Customer.Active, c.Customer.Hash = int64(u.number()), int(u.number()), u.text()
	}
	if flags&hasImport != 0 {
		c.Import = u.number()
	}
	if flags&hasSession != 0 {
		c.Session.Expires, c.Session.Token = u.time(), u.text()
	}
	if flags&hasAccess != 0 {
		c.AccessUntil, c.Access.Expires, c.Access.Base, c.Access.TempToken = u.time(), u.time(), u.text(), u.text()
	}
	if flags&hasNoAccess != 0 {
		c.NoAccessUntil = u.time()
	}
	if flags&hasCampaign != 0 {
		c.MadeAt, c.For = u.time(), u.text()
	}
	if flags&hasSeen != 0 {
		c.Seen = u.time()
	}
	if u.err != nil {
		return Cached{}, u.err
	}
	return c, nil
}

// number returns Shopify's id as a number, or 0 if the number would be written differently.
func number(id shopify.CustomerID) uint64 {
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != string(id) {
		return 0
	}
	return n
}

// usable returns what a click may use of a cached value now, by this process's clock. Another shopper's
// value counts as nothing. Its place in Redis prevents that already; this is a second barrier.
func (s *Store) usable(c Cached, who Shopper, name string) Cached {
	mine := who.RechargeID == 0 && (c.ShopifyID == "" || number(who.Customer) == 0 || c.ShopifyID == who.Customer) ||
		who.RechargeID != 0 && (c.Customer.ID == 0 || c.Customer.ID == who.RechargeID)
	now := s.options.Now()
	life, fresh := s.life(c, name)
	age := now.Sub(c.LookedUp)
	if !mine || age > life {
		return Cached{}
	}
	c.Fresh = age < fresh && !c.Several
	if !now.Before(c.Session.Expires) {
		c.Session = recharge.Session{}
	}
	if !now.Before(c.AccessUntil) {
		c.DropAccess()
	}
	if !now.Before(c.NoAccessUntil) {
		c.NoAccessUntil = time.Time{}
	}
	return c
}

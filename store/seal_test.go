package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// set writes by hand what an intruder in Redis could.
func set(t *testing.T, s *store.Store, key, value string) {
	t.Helper()
	if err := s.Client().Set(t.Context(), key, value, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
}

// added is the keys that do adds.
func added(t *testing.T, s *store.Store, do func()) []string {
	t.Helper()
	before := dump(t, s)
	do()
	after := dump(t, s)
	maps.DeleteFunc(after, func(key, _ string) bool { _, was := before[key]; return was })
	return slices.Sorted(maps.Keys(after))
}

func testSealing(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	t.Run("moved", func(t *testing.T) {
		c, l := newClock(), &logged{}
		s := open(t, options(c, l))
		var keys []string
		for _, who := range []store.Shopper{pat, other, patsTwin} {
			keys = append(keys, added(t, s, func() { s.RememberCustomer(t.Context(), who, known) })...)
		}
		if len(keys) != 3 {
			t.Fatalf("%d keys; want 3", len(keys))
		}
		held := dump(t, s)
		for _, from := range keys {
			for _, key := range keys {
				if key != from {
					set(t, s, key, held[from])
				} else if err := s.Client().Del(t.Context(), key).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for _, who := range []store.Shopper{pat, other, patsTwin} {
				if got := s.Recall(t.Context(), who, schedule); got != (store.Memory{}) {
					t.Errorf("Recall(%v) with another's value = %+v; want nothing", who, got)
				}
			}
		}
		if lines := l.lines("level=WARN", "does not open"); len(lines) == 0 || len(lines) != len(l.lines()) {
			t.Errorf("logged %q; want warnings alone", l.lines())
		}
	})
	t.Run("moved to another field, or another's", func(t *testing.T) {
		c, l := newClock(), &logged{}
		s := open(t, options(c, l))
		hash := func(who store.Shopper) (string, map[string]string) {
			key := added(t, s, func() { s.RememberLink(t.Context(), who, schedule, session(c), recharge.Link{URL: linkURL}) })[0]
			return key, s.Client().HGetAll(t.Context(), key).Val()
		}
		pats, held := hash(pat)
		others, _ := hash(other)
		if len(held) != 2 {
			t.Fatalf("%d fields; want session and link", len(held))
		}
		fields := slices.Collect(maps.Keys(held))
		swapped := []string{fields[0], held[fields[1]], fields[1], held[fields[0]]}
		if err := errors.Join(s.Client().HSet(t.Context(), pats, swapped).Err(), s.Client().HSet(t.Context(), others, held).Err()); err != nil {
			t.Fatal(err)
		}
		for _, who := range []store.Shopper{pat, other} {
			if got := s.Recall(t.Context(), who, schedule); got != (store.Memory{}) {
				t.Errorf("Recall(%v) with another's value = %+v; want nothing", who, got)
			}
		}
		if lines := l.lines("level=WARN", "does not open"); len(lines) != 4 {
			t.Errorf("logged %q; want four warnings", l.lines())
		}
	})
	t.Run("damaged", func(t *testing.T) {
		c := newClock()
		s := open(t, options(c, &logged{}))
		key := added(t, s, func() { s.RememberCustomer(t.Context(), pat, known) })[0]
		sealed := dump(t, s)[key]
		damaged := []string{"", "\x01", "\x00" + sealed, sealed + "\x00", strings.Repeat("\x00", 100), "c" + sealed[1:]}
		for i := range sealed {
			flipped := []byte(sealed)
			flipped[i] ^= 1
			damaged = append(damaged, string(flipped), sealed[:i])
		}
		for _, value := range damaged {
			set(t, s, key, value)
			if got := s.Recall(t.Context(), pat, schedule); got != (store.Memory{}) {
				t.Errorf("Recall with %q = %+v; want nothing", value, got)
			}
		}
		set(t, s, key, sealed)
		if got := s.Recall(t.Context(), pat, schedule).Customer; got != known {
			t.Errorf("Recall with what was sealed = %+v; want %+v", got, known)
		}
	})
	t.Run("of another type", func(t *testing.T) {
		s := open(t, options(newClock(), &logged{}))
		key := added(t, s, func() { s.RememberCustomer(t.Context(), pat, known) })[0]
		if err := s.Client().Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Client().RPush(t.Context(), key, "c").Err(); err != nil {
			t.Fatal(err)
		}
		if got := s.Recall(t.Context(), pat, schedule); got != (store.Memory{}) {
			t.Errorf("Recall of a list = %+v; want nothing", got)
		}
	})
	t.Run("never twice the same", func(t *testing.T) {
		s := open(t, options(newClock(), &logged{}))
		seen := map[string]bool{}
		for range 20 {
			s.RememberNotSubscriber(t.Context(), pat)
			for _, value := range dump(t, s) {
				seen[value] = true
			}
		}
		if len(seen) != 20 {
			t.Errorf("the same entry was sealed in %d ways; want 20", len(seen))
		}
	})
}

// shared opens several stores, one after the other, on what the first one held.
type shared struct {
	t     *testing.T
	store *store.Store
	open  func(testing.TB, store.Options) *store.Store
	held  map[string]any
	log   logged
}

// with opens a store with other keys on what the one before held.
func (s *shared) with(keys ...[]byte) *store.Store {
	s.t.Helper()
	if s.store != nil {
		s.held = held(s.t, s.store)
	}
	o := options(newClock(), &s.log)
	o.Keys = keys
	s.store = s.open(s.t, o)
	for key, value := range s.held {
		var err error
		if fields, ok := value.(map[string]string); ok {
			err = errors.Join(s.store.Client().HSet(s.t.Context(), key, fields).Err(), s.store.Client().Expire(s.t.Context(), key, time.Hour).Err())
		} else {
			err = s.store.Client().Set(s.t.Context(), key, value, time.Hour).Err()
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return s.store
}

// held is what a store's Redis holds: strings, and hashes as maps.
func held(t *testing.T, s *store.Store) map[string]any {
	t.Helper()
	all := map[string]any{}
	for key, value := range dump(t, s) {
		all[key] = value
		if s.Client().Type(t.Context(), key).Val() == "hash" {
			all[key] = s.Client().HGetAll(t.Context(), key).Val()
		}
	}
	return all
}

func testRotation(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	before, after := key(1), key(2)
	everything := store.Memory{
		Customer: known, Fresh: true, Session: session(newClock()),
		Link: recharge.Link{URL: linkURL, Expires: newClock().now.Add(time.Minute)},
	}
	remember := func(ctx context.Context, s *store.Store) {
		s.RememberCustomer(ctx, pat, known)
		s.RememberLink(ctx, pat, schedule, session(newClock()), recharge.Link{URL: linkURL})
	}
	recall := func(t *testing.T, redis *shared, want store.Memory) {
		t.Helper()
		if diff := cmp.Diff(want, redis.store.Recall(t.Context(), pat, schedule)); diff != "" {
			t.Errorf("Recall: -want +got\n%s\nlogged %q", diff, redis.log.lines())
		}
	}
	t.Run("the old key opens, the new one seals", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		remember(t.Context(), redis.with(before))
		s := redis.with(after, before)
		recall(t, redis, everything)
		remember(t.Context(), s)
		redis.with(after)
		recall(t, redis, everything)
	})
	t.Run("the new key alone does not open what the old one sealed", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		remember(t.Context(), redis.with(before))
		redis.with(after)
		recall(t, redis, store.Memory{})
	})
	t.Run("the old key alone does not open what the new one sealed", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		remember(t.Context(), redis.with(after, before))
		redis.with(before)
		recall(t, redis, store.Memory{})
	})
	t.Run("another key's value does not open in this one's place", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		s := redis.with(before)
		s.RememberCustomer(t.Context(), pat, known)
		sealed := slices.Collect(maps.Values(dump(t, s)))[0]
		s = redis.with(after)
		place := added(t, s, func() { s.RememberCustomer(t.Context(), pat, known) })[0]
		set(t, s, place, sealed)
		recall(t, redis, store.Memory{})
		// Not even if it says that this one sealed it.
		set(t, s, place, dump(t, s)[place][:5]+sealed[5:])
		recall(t, redis, store.Memory{})
	})
	t.Run("forgotten under both", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		remember(t.Context(), redis.with(before))
		s := redis.with(after, before)
		remember(t.Context(), s)
		s.Forget(t.Context(), pat)
		recall(t, redis, store.Memory{})
	})
	t.Run("what is newer replaces the old key's customer", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		redis.with(before).RememberCustomer(t.Context(), pat, recharge.Customer{ID: 1, Hash: "before"})
		s := redis.with(after, before)
		s.RememberCustomer(t.Context(), pat, known)
		recall(t, redis, store.Memory{Customer: known, Fresh: true})
	})
	t.Run("not a subscriber replaces the old key's customer", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		redis.with(before).RememberCustomer(t.Context(), pat, known)
		s := redis.with(after, before)
		s.RememberNotSubscriber(t.Context(), pat)
		recall(t, redis, store.Memory{NotSubscriber: true, Fresh: true})
	})
	t.Run("a customer replaces the old key's not a subscriber", func(t *testing.T) {
		redis := &shared{t: t, open: open}
		redis.with(before).RememberNotSubscriber(t.Context(), pat)
		s := redis.with(after, before)
		s.RememberCustomer(t.Context(), pat, known)
		recall(t, redis, store.Memory{Customer: known, Fresh: true})
	})
}

// spellings are the ways in which a secret could stand in a dump: as it is,
// escaped, in hex, and in base64 wherever in a text it began.
func spellings(secret string) []string {
	all := []string{secret, strings.ToUpper(secret), url.QueryEscape(secret), hex.EncodeToString([]byte(secret))}
	all = append(all, strings.ToUpper(all[3]))
	for shift := range 3 {
		text := append(make([]byte, shift), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			// The letters at both ends also depend on the neighbours.
			encoded := encoding.EncodeToString(text)
			all = append(all, encoded[(shift*8+5)/6:len(text)*8/6])
		}
	}
	return all
}

// leaks are the secrets that stand in a dump.
func leaks(dump map[string]string, secrets map[string]string) []string {
	var found []string
	for what, secret := range secrets {
		for _, spelling := range spellings(secret) {
			for key, value := range dump {
				if strings.Contains(key, spelling) || strings.Contains(value, spelling) {
					found = append(found, what+" as "+spelling)
				}
			}
		}
	}
	return found
}

// TestDumpTellsNothing reads the whole of a real Redis as somebody who stole it.
func TestDumpTellsNothing(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	s.RememberCustomer(t.Context(), pat, known)
	s.RememberLink(t.Context(), pat, schedule, session(c), recharge.Link{URL: linkURL})
	s.RememberNotSubscriber(t.Context(), other)
	s.RememberCustomer(t.Context(), patsTwin, known)
	connection := connected(pat.Shop)
	ok(t, s.SaveConnection(t.Context(), connection))
	ok(t, s.OrderErasure(t.Context(), store.Erasure{Shop: patsTwin.Shop, Customer: pat.Customer, At: c.now}))
	ok(t, touched(s.Touch(t.Context(), pat.Shop, store.Change{ID: 70100777, Customer: "6100200300777", Hash: known.Hash, Active: known.Active})))
	s.Count(pat.Shop, "redirected", 1)
	s.Trouble(pat.Shop, store.Trouble{What: "the trouble that it was", RequestID: "the-request-id"})
	ok(t, s.Flush(t.Context()))
	_, err := s.MarkSeen(t.Context(), "the-webhook-id")
	ok(t, err)

	fixed := binary.BigEndian.AppendUint64(nil, uint64(known.ID))
	secrets := map[string]string{
		"shop": string(pat.Shop), "shop's label": "fixture-shop", "other shop's label": "twin-shop", "domain": "myshopify",
		"customer": string(pat.Customer), "other customer": string(other.Customer),
		"Recharge id": "70100200", "Recharge id, packed": string(binary.AppendUvarint(nil, uint64(known.ID))),
		"Recharge id, big endian": string(fixed[4:]), "Recharge id, little endian": string(binary.LittleEndian.AppendUint32(nil, uint32(known.ID))),
		"hash": known.Hash, "token": token, "token's payload": strings.Split(token, ".")[1],
		"URL": linkURL, "URL's host": "fixture-shop.example", "URL's token": "00112233445566778899aabbccddeeff",
		"destination": "schedule", "key": string(key(1)),
		"API token": connection.APIToken, "storefront token": connection.StorefrontToken, "client secret": connection.ClientSecret,
		"webhook key": connection.WebhookKey, "trouble": "the trouble", "request": "the-request-id", "webhook": "the-webhook-id",
	}
	held := server.Dump()
	if len(held) != 10 {
		t.Errorf("%d keys; want 4 of shoppers, and one of each other kind", len(held))
	}
	if found := leaks(held, secrets); len(found) > 0 {
		t.Errorf("a dump of Redis shows %q", found)
	}
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
	// The search is not blind: it finds each secret where it does stand.
	for what, secret := range secrets {
		for _, planted := range []map[string]string{
			{"x": "a" + secret}, {secret: ""}, {"x": hex.EncodeToString([]byte("a" + secret))},
			{"x": base64.StdEncoding.EncodeToString([]byte(secret + "a"))}, {"x": base64.RawURLEncoding.EncodeToString([]byte("a" + secret + "aa"))},
			{"x": base64.StdEncoding.EncodeToString([]byte("aa" + secret))},
		} {
			if len(leaks(planted, map[string]string{what: secret})) == 0 {
				t.Errorf("the %s was not found in %q", what, planted)
			}
		}
	}
}

func TestDeriveKey(t *testing.T) {
	derive := func(secret string) []byte {
		t.Helper()
		key, err := store.DeriveKey(secret)
		if err != nil || len(key) != 32 {
			t.Fatalf("DeriveKey(%q) = %d bytes, %v; want 32", secret, len(key), err)
		}
		return key
	}
	if !bytes.Equal(derive("a"), derive("a")) {
		t.Error("one secret gives two keys: nothing would open after a restart")
	}
	if bytes.Equal(derive("a"), derive("b")) {
		t.Error("two secrets give one key")
	}
	if bytes.Contains(derive("fixture-app-secret"), []byte("fixture")) {
		t.Error("the key shows the secret")
	}
}

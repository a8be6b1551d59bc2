package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const fuzzShop = shopify.Shop("fixture-shop.myshopify.com")

// fuzzed returns a store that never calls Redis, and one of its records.
func fuzzed(f *testing.F) (*Store, *Record) {
	f.Helper()
	s := &Store{options: Options{CustomerTTL: time.Hour, Now: func() time.Time { return time.Unix(1735689600, 0) }, Log: slog.New(slog.DiscardHandler)}}
	for _, letter := range []string{"k", "l"} {
		s.wrappers = append(s.wrappers, newWrapper(bytes.Repeat([]byte(letter), keySize)))
	}
	r := &Record{
		Shop: fuzzShop, Connection: &Connection{Shop: fuzzShop, APIToken: "sk_fixture", SavedAt: time.Unix(1735689600, 0).UTC()},
		dataKey: bytes.Repeat([]byte("d"), keySize), epoch: bytes.Repeat([]byte("e"), generationSize), account: "fixture",
	}
	r.deriveKeys()
	s.seal(r, time.Time{})
	return s, r
}

// FuzzDecode: decoding never panics, whichever version packed the value, and a decoded value
// survives another round trip.
func FuzzDecode(f *testing.F) {
	now := time.Unix(1735689600, 0)
	for _, c := range []Cached{
		{}, {NotSubscriber: true, LookedUp: now},
		{Customer: recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", Active: 1}, ShopifyID: "6100200300400", LookedUp: now, Verified: now.Add(time.Hour), Import: 300, Several: true},
		{
			Customer: recharge.Customer{ID: -1, Active: -1, Hash: "\x80\xff"}, LookedUp: now, Session: recharge.Session{Token: "a.b.c", Expires: now},
			Access: recharge.Access{Base: "https://fixture-shop.example/", TempToken: "00", Expires: now}, AccessUntil: now, NoAccessUntil: now,
		},
	} {
		packed := encode(c)
		f.Add(packed)
		f.Add(packed[:len(packed)/2])
		f.Add(append(packed, 0xff))
	}
	f.Add(append([]byte{0xff}, bytes.Repeat([]byte{0xff}, 40)...))
	f.Add(append([]byte{hasCustomer}, binary.AppendUvarint(nil, math.MaxUint64)...))
	f.Fuzz(func(t *testing.T, packed []byte) {
		c, err := decode(packed)
		if err != nil {
			if c != (Cached{}) {
				t.Errorf("decode(%x) = %+v beside %v", packed, c, err)
			}
			return
		}
		again, err := decode(encode(c))
		if err != nil {
			t.Fatalf("decode(%x) = %+v, which cannot be decoded again: %v", packed, c, err)
		}
		if c.Customer.ID != 0 && c.Customer.Active >= 0 && again.Customer != c.Customer {
			t.Errorf("decode(%x) = %+v, and again %+v", packed, c, again)
		}
	})
}

// FuzzCached: a saved value is read back the same, whatever is in it.
func FuzzCached(f *testing.F) {
	f.Add(int64(70100200), 1, "1f2e3d4c5b6a7988", "6100200300400", int64(60), "a.b.c", "https://fixture-shop.example/", uint64(1))
	f.Add(int64(math.MaxInt64), math.MaxInt, "", "", int64(0), "", "", uint64(math.MaxUint64))
	f.Add(int64(1), 0, "\x80\xff", "007", int64(-1), "00", "ABCDEF12", uint64(0))
	f.Add(int64(1), 0, "abc", "18446744073709551616", int64(1<<40), "\x00", "0a", uint64(7))
	f.Fuzz(func(t *testing.T, id int64, active int, hash, shopifyID string, seconds int64, token, base string, number uint64) {
		if id == 0 || active < 0 {
			return // no customer
		}
		now := time.Unix(1735689600, 0)
		end := now.Add(time.Duration(seconds%(1<<30)) * time.Second)
		if end.Unix() <= 0 {
			return
		}
		want := Cached{
			Customer: recharge.Customer{ID: id, Active: active, Hash: hash}, LookedUp: now, Verified: now.Add(time.Second), Import: number,
			NoAccessUntil: end,
		}
		if n, err := strconv.ParseUint(shopifyID, 10, 64); err == nil && n != 0 && strconv.FormatUint(n, 10) == shopifyID {
			want.ShopifyID = shopify.CustomerID(shopifyID)
		}
		if token != "" {
			want.Session = recharge.Session{Token: token, Expires: end}
			want.Access, want.AccessUntil = recharge.Access{Base: base, TempToken: token, Expires: end}, end
		}
		saved := want
		saved.ShopifyID = shopify.CustomerID(shopifyID) // an id that is not a number is not kept
		got, err := decode(encode(saved))
		if err != nil || got != want {
			t.Errorf("decode(encode(%+v)) = %+v, %v", want, got, err)
		}
	})
}

// FuzzRecord: a record opens only where it was sealed, and only if unchanged. No part of it appears
// in an error.
func FuzzRecord(f *testing.F) {
	s, r := fuzzed(f)
	for _, sealed := range []string{"", "2", r.sealed, r.sealed[:recordHeaderSize], r.sealed + "\x00", "1" + r.sealed[1:], strings.Repeat("\x00", 100)} {
		f.Add(sealed, string(fuzzShop))
		f.Add(sealed, "second-shop.myshopify.com")
	}
	f.Fuzz(func(t *testing.T, sealed, shop string) {
		opened, err := s.openRecord(shopify.Shop(shop), sealed)
		if err != nil {
			if opened != nil || strings.Contains(err.Error(), "sk_fixture") {
				t.Errorf("openRecord = %v, %v", opened, err)
			}
			return
		}
		// Each process draws another nonce, so a good record is recognized by its content.
		if shop != string(fuzzShop) || opened.Connection.APIToken != "sk_fixture" || opened.generation != r.generation {
			t.Errorf("openRecord(%q, %x) opened a record that was not sealed for it", shop, sealed)
		}
	})
}

// FuzzRecordText: a record sealed by another version is either read or refused. No part of it
// appears in an error.
func FuzzRecordText(f *testing.F) {
	s, r := fuzzed(f)
	good, err := json.Marshal(sealedRecord{DataKey: r.dataKey, Epoch: r.epoch, Account: r.account, Connection: (*sealedConnection)(r.Connection)})
	if err != nil {
		f.Fatal(err)
	}
	for _, plain := range [][]byte{
		good, nil, []byte("{}"), []byte("null"), []byte("[]"), []byte(`{"DataKey":"c2hvcnQ="}`), bytes.Replace(good, []byte(`"Epoch"`), []byte(`"Other"`), 1), []byte(`{"DataKey":1,"Connection":"secret-in-a-wrong-place"}`),
		bytes.Replace(good, []byte("sk_fixture"), []byte(`sk\u0000`), 1), []byte(`{"WebhookVerified":"yesterday"}`),
	} {
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		header := recordVersion + s.wrappers[1].id + r.generation
		sealed := string(s.wrappers[1].aead.Seal([]byte(header), nil, plain, []byte(recordKey(fuzzShop)+header)))
		opened, err := s.openRecord(fuzzShop, sealed)
		if err != nil {
			if len(plain) > 8 && bytes.Contains([]byte(err.Error()), plain) {
				t.Errorf("openRecord of %q repeats it: %v", plain, err)
			}
			return
		}
		if opened.generation != r.generation || opened.Shop != fuzzShop {
			t.Errorf("openRecord of %q returned a record with another key", plain)
		}
		if opened.WebhookVerified.Year() >= 0 && opened.WebhookVerified.Year() < 10000 {
			s.seal(opened, time.Time{})
		}
	})
}

// FuzzOpenCached: a cached value opens only where it was sealed, and only if unchanged.
func FuzzOpenCached(f *testing.F) {
	s, r := fuzzed(f)
	const customer = "6100200300400"
	name := r.name(customer)
	key, other := r.key("c", name), r.name("recharge:1")
	value := Cached{Customer: recharge.Customer{ID: 1, Hash: "ff"}, ShopifyID: customer, LookedUp: s.options.Now(), Verified: s.options.Now()}
	good := r.sealCached(key, other, value)
	for _, sealed := range []string{
		good, "", "1", noName, good[:nameSize-1], good[:nameSize], good[:nameSize+versionSize], good + "\x00", "e" + good[1:], noName + good[nameSize:],
		r.sealCached(r.key("c", other), other, value),
	} {
		f.Add(sealed, key)
		f.Add(sealed, r.key("c", other))
	}
	f.Fuzz(func(t *testing.T, sealed, at string) {
		got, err := r.openCached(at, sealed)
		if err == nil && got != (Cached{}) && (at != key && at != r.key("c", other) || got != value) {
			t.Errorf("openCached(%q, %x) = %+v; want nothing that was not sealed for it", at, sealed, got)
		}
		if err != nil && got != (Cached{}) {
			t.Errorf("openCached(%q, %x) = %+v beside %v", at, sealed, got, err)
		}
		if version := versionOf(sealed); len(version) != 0 && len(version) != versionSize {
			t.Errorf("versionOf(%x) = %x", sealed, version)
		}
		usable := s.usable(got, Shopper{Shop: fuzzShop, Customer: customer}, name)
		if usable.Customer.ID != 0 && usable.ShopifyID != customer {
			t.Errorf("usable of %+v = %+v; want nothing of another shopper's", got, usable)
		}
	})
}

package store

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// FuzzEntry: whatever an entry holds, reading it does not panic, and gives no
// more than one thing. Only what was sealed is ever read, but by which version?
func FuzzEntry(f *testing.F) {
	now := time.Unix(1735689600, 0)
	later := now.Add(time.Minute)
	for _, entry := range [][]byte{
		nil, {}, []byte("c"), []byte("c1234567"), []byte("c12345678"), []byte("c12345678\x80"), []byte("c12345678\x01\xff"),
		append([]byte("c12345678"), binary.AppendUvarint(nil, math.MaxUint64)...),
		[]byte("x12345678abc"), []byte("s\xff\xff\xff\xff\xff\xff\xff\xff"),
		encodeCustomer("6100200300400", recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", Active: 1}, later),
		encodeCustomer("6100200300400", recharge.Customer{ID: -1, Active: -1}, now),
		encodeIndexed("6100200300400", indexed{sweep: 300, customer: recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988"}}, later),
		encodeIndexed("6100200300400", indexed{sweep: 300, several: true}, later),
		encodeNotSubscriber("6100200300400", later), encodeNotSubscriber("6100200300400", now),
		encodeSession(recharge.Session{Token: "a.b.c", Expires: later}), encodeSession(recharge.Session{}),
		encodeLink(recharge.Link{URL: "https://fixture-shop.example/"}, later), encodeLink(recharge.Link{}, time.Time{}),
	} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		var memory Memory
		memory.add(entry, Shopper{Customer: "6100200300400"}, now)
		memory.add(entry, Shopper{Customer: "6100200300400"}, now) // as if it stood under two encryption keys
		things := 0
		for _, is := range []bool{
			memory.Customer != recharge.Customer{}, memory.NotSubscriber, memory.Session != recharge.Session{},
			memory.Link != recharge.Link{},
		} {
			if is {
				things++
			}
		}
		if things > 1 || things == 0 && memory.Fresh {
			t.Errorf("add(%q) gave %+v; want one thing", entry, memory)
		}
		if end := memory.Session.Expires; memory.Session.Token != "" && !now.Before(end) {
			t.Errorf("add(%q) gave a session that ended at %v", entry, end)
		}
		if end := memory.Link.Expires; memory.Link.URL != "" && !now.Before(end) {
			t.Errorf("add(%q) gave a link that ended at %v", entry, end)
		}
	})
}

// FuzzCustomer: what was written is what is read.
func FuzzCustomer(f *testing.F) {
	now := time.Unix(1735689600, 0)
	f.Add(int64(70100200), 1, "1f2e3d4c5b6a7988")
	f.Add(int64(math.MaxInt64), math.MaxInt, "")
	f.Add(int64(1), 0, "\x80\xff")
	f.Add(int64(1), 0, "ABCDEF12")
	f.Add(int64(1), 0, "abc")
	f.Add(int64(1), 0, "00")
	f.Fuzz(func(t *testing.T, id int64, active int, hash string) {
		if id == 0 || active < 0 || strings.HasPrefix(hash, "\x00") {
			return // no customer, or no hash
		}
		want := Memory{Customer: recharge.Customer{ID: id, Active: active, Hash: hash}, Fresh: true}
		var got Memory
		got.add(encodeCustomer("6100200300400", want.Customer, now.Add(time.Second)), Shopper{Customer: "6100200300400"}, now)
		var swept Memory
		swept.add(encodeIndexed("6100200300400", indexed{sweep: uint64(active), customer: want.Customer}, now.Add(time.Second)), Shopper{Customer: "6100200300400"}, now)
		if got != want {
			t.Errorf("add(encodeCustomer(%+v)) = %+v; want %+v", want.Customer, got, want)
		}
		want.Indexed = true
		if swept != want {
			t.Errorf("add(encodeIndexed(%+v)) = %+v; want %+v", want.Customer, swept, want)
		}
	})
}

// TestAddIgnoresAnother: an entry that says it is another shopper's is not
// believed, wherever it stood.
func TestAddIgnoresAnother(t *testing.T) {
	now := time.Unix(1735689600, 0)
	customer := recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", Active: 1}
	tests := []struct {
		wrote, asks shopify.CustomerID
		want        bool
	}{
		{"1", "1", true},
		{"1", "2", false},
		{"18446744073709551615", "18446744073709551615", true},
		{"18446744073709551616", "18446744073709551616", true}, // too long: not told
		{"007", "007", true}, // not a number's own text: not told
		{"7", "007", false},
	}
	for _, tt := range tests {
		for _, entry := range [][]byte{encodeCustomer(tt.wrote, customer, now.Add(time.Minute)), encodeNotSubscriber(tt.wrote, now.Add(time.Minute))} {
			var got Memory
			got.add(entry, Shopper{Customer: tt.asks}, now)
			if (got != Memory{}) != tt.want {
				t.Errorf("%q reads the entry of %q: %+v; want that it does to be %v", tt.asks, tt.wrote, got, tt.want)
			}
		}
	}
}

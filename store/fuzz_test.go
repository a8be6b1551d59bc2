package store

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"manage-subscriptions/recharge"
)

// FuzzOpen: what stands in Redis opens only where it was sealed, and unchanged. What
// does not open says nothing, and no reader of it panics.
func FuzzOpen(f *testing.F) {
	seals, err := newSealer(bytes.Repeat([]byte("k"), keySize))
	if err != nil {
		f.Fatal(err)
	}
	const place = "ms1:{shop}c"
	good := seals.seal(place, []byte("value"))
	for _, sealed := range [][]byte{nil, {}, {sealVersion}, good[:5], good[:6], good[:len(good)-1], good, append(bytes.Clone(good), 0), append([]byte{2}, good[1:]...), seals.seal("elsewhere", []byte("value"))} {
		f.Add(sealed, place)
	}
	f.Fuzz(func(t *testing.T, sealed []byte, at string) {
		value, err := seals.open(at, sealed)
		// Each process draws another nonce, so what is good is told by what is in it.
		if err == nil && (at != place && at != "elsewhere" || string(value) != "value") {
			t.Errorf("open(%q, %x) = %q; want nothing that was not sealed for it", at, sealed, value)
		}
		if err != nil && value != nil {
			t.Errorf("open(%q, %x) = %q beside %v", at, sealed, value, err)
		}
		_ = openTroubles(seals, at, string(sealed))
		if m, err := openMark(seals, at, string(sealed)); err == nil && m != (mark{}) {
			t.Errorf("openMark(%x) = %+v", sealed, m)
		}
	})
}

// FuzzSealed: what an older or a newer version has sealed in each place is read, or
// refused; nothing of it gets into an error.
func FuzzSealed(f *testing.F) {
	connection, err := encodeConnection(Connection{Shop: "fixture-shop.myshopify.com", APIToken: "sk_fixture", SavedAt: time.Unix(1735689600, 0)})
	if err != nil {
		f.Fatal(err)
	}
	for _, entry := range [][]byte{
		nil, []byte("{}"), []byte("null"), []byte("[]"), connection, []byte(`{"Shop":1,"APIToken":"secret-in-a-wrong-place"}`), []byte(`{"SavedAt":"yesterday"}`),
		[]byte(`[{"At":"2026-01-01T00:00:00Z","What":"x","Times":-1}]`), []byte(`{"ID":9223372036854775808}`), []byte(`{"ID":"a"}`), []byte(`{"Shop":"a","Sweep":true,"Due":"2026-01-01T00:00:00Z"}`),
	} {
		f.Add(entry)
	}
	seals, err := newSealer(bytes.Repeat([]byte("k"), keySize))
	if err != nil {
		f.Fatal(err)
	}
	s := &Store{sealers: []*sealer{seals}}
	f.Fuzz(func(t *testing.T, entry []byte) {
		silent := func(what string, err error) {
			if err != nil && len(entry) > 8 && bytes.Contains([]byte(err.Error()), entry) {
				t.Errorf("%s of %q repeats it: %v", what, entry, err)
			}
		}
		c, err := decodeConnection(entry)
		silent("decodeConnection", err)
		if err == nil {
			again, err := encodeConnection(*c)
			writable := err == nil // JSON has no way to write a time of before the year 0
			if back, err := decodeConnection(again); writable && (err != nil || back.Shop != c.Shop || back.APIToken != c.APIToken || !back.SavedAt.Equal(c.SavedAt)) {
				t.Errorf("decodeConnection(%q) = a connection that reads otherwise again: %v", entry, err)
			}
		}
		key := "ms1:place"
		_ = openTroubles(seals, key, string(seals.seal(key, entry)))
		_, err = openMark(seals, key, string(seals.seal(key, entry)))
		silent("openMark", err)
		_, err = openNote(seals, key, "field", string(seals.seal(fieldOf(key, "field"), entry)))
		silent("openNote", err)
		o, err := s.openOrder("field", string(seals.seal(fieldOf(ordersKey, "field"), entry)))
		silent("openOrder", err)
		if err == nil {
			_ = o.field(seals)
			_ = s.settledAt(o)
		}
		var index Index
		_ = json.Unmarshal(entry, &index)
	})
}

// FuzzLinkEntry: a session and a link are read as they were written, and of nobody
// else.
func FuzzLinkEntry(f *testing.F) {
	f.Add("https://fixture-shop.example/", "a.b.c", int64(60))
	f.Add("", "", int64(0))
	f.Add("\x00\xff", "\x80", int64(-1))
	now := time.Unix(1735689600, 0)
	f.Fuzz(func(t *testing.T, link, token string, seconds int64) {
		end := now.Add(time.Duration(seconds%(1<<30)) * time.Second)
		var got Memory
		who := Shopper{Customer: "6100200300400"}
		got.add(encodeLink(recharge.Link{URL: link}, end), who, now)
		got.add(encodeSession(recharge.Session{Token: token, Expires: end}), who, now)
		want := Memory{}
		if now.Before(end) {
			if link != "" {
				want.Link = recharge.Link{URL: link, Expires: end}
			}
			if token != "" {
				want.Session = recharge.Session{Token: token, Expires: end}
			}
		}
		if got.Link.URL != want.Link.URL || got.Session.Token != want.Session.Token || !got.Link.Expires.Equal(want.Link.Expires) && link != "" || !got.Session.Expires.Equal(want.Session.Expires) && token != "" {
			t.Errorf("%q and %q until %v are read as %+v", link, token, end, got)
		}
	})
}

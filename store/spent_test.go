package store_test

import (
	"testing"
	"time"

	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// TestSpend: a link is used once, by whichever server and under whichever encryption
// keys they have, and of two shops the same nonce is two.
func TestSpend(t *testing.T) {
	server := storetest.Redis(t)
	c := newClock()
	with := func(keys ...[]byte) *store.Store {
		o := on(options(c, &logged{}), server)
		o.Keys = keys
		return open(t, o)
	}
	older, newer := make([]byte, 32), append(make([]byte, 31), 1)
	before, during, after := with(older), with(newer, older), with(newer)
	until := c.now.Add(4 * time.Minute)
	for i, servers := range [][]*store.Store{{before, during, before}, {during, before, after}, {during, after, during}, {after, during, after}} {
		for j, s := range servers {
			first, err := s.Spend(t.Context(), pat.Shop, string(rune('a'+i)), until)
			if err != nil || first != (j == 0) {
				t.Errorf("Spend %d, time %d = %v, %v; want %v", i, j, first, err, j == 0)
			}
		}
	}
	if first, err := before.Spend(t.Context(), patsTwin.Shop, "a", until); err != nil || !first {
		t.Errorf("Spend of another shop = %v, %v; want true", first, err)
	}
	for key := range server.Dump() {
		life, err := direct(t, server).PTTL(t.Context(), key).Result()
		if err != nil || life <= 4*time.Minute || life > 5*time.Minute {
			t.Errorf("%s lives for %v; want longer than the link, and not for ever", key, life)
		}
	}
	server.Stop()
	if first, err := during.Spend(t.Context(), pat.Shop, "z", until); err == nil || first {
		t.Errorf("Spend without Redis = %v, %v; want an error", first, err)
	}
}

// TestSaveKeepsKeys: who saves a connection that was read before a key was revoked does
// not bring the key back, nor lose one that was made since.
func TestSaveKeepsKeys(t *testing.T) {
	s := open(t, on(several(newClock(), &logged{}), storetest.Redis(t)))
	stale := connected(pat.Shop)
	ok(t, s.SaveConnection(t.Context(), stale))
	stale.PortalKeys = []store.PortalKey{{ID: "revoked", Name: "old", Hash: []byte("x")}}
	made := []store.PortalKey{{ID: "made", Name: "new", Hash: []byte("y")}}
	ok(t, s.ReviseConnection(t.Context(), pat.Shop, func(c *store.Connection) bool {
		c.PortalKeys = made
		return true
	}))
	ok(t, s.SaveConnection(t.Context(), stale))
	got, err := s.Connection(t.Context(), pat.Shop)
	ok(t, err)
	if len(got.PortalKeys) != 1 || got.PortalKeys[0].ID != "made" {
		t.Errorf("after a stale save there are %d keys; want the one of before", len(got.PortalKeys))
	}
	ok(t, s.DropConnection(t.Context(), pat.Shop))
	ok(t, s.SaveConnection(t.Context(), stale))
	got, err = s.Connection(t.Context(), pat.Shop)
	ok(t, err)
	if len(got.PortalKeys) != 0 {
		t.Errorf("after a stale save to a shop that had disconnected there are %d keys; want none", len(got.PortalKeys))
	}
}

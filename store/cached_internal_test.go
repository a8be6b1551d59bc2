package store

import (
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// TestOlderVersionIgnoresPrepared: a version that knows no campaigns reads one byte of flags, and then when
// the customer was looked up. What it reads of an access that was made ahead must be long out of date, since
// it would not check the campaign.
func TestOlderVersionIgnoresPrepared(t *testing.T) {
	now := time.Now()
	c := Cached{
		Customer: recharge.Customer{ID: 1, Hash: "1f2e", Active: 1}, ShopifyID: "2", LookedUp: now, Verified: now,
		Access:      recharge.Access{Base: "https://a.example/", TempToken: "00ff"},
		AccessUntil: now.Add(time.Hour), For: "0123456789abcdef", MadeAt: now,
	}
	packed := encode(c)
	older := unpacker{rest: packed[1:]}
	if at := older.time(); older.err != nil || now.Sub(at) < longestLife {
		t.Errorf("an older version reads that the customer was looked up at %v, %v", at, older.err)
	}
	if got, err := decode(packed); err != nil || got.For != c.For || got.Access != c.Access {
		t.Errorf("decode = %+v, %v; want what was encoded", got.For, err)
	}
}

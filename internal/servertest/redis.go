package servertest

import (
	"context"
	"encoding/hex"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

// KeyKind captures the kind of a shop's key. c, r, x and d are about shoppers, l is a lock.
var KeyKind = regexp.MustCompile(`^ms2:\{[^}]+\}:([a-z]):`)

// patient is a connection to Redis that never times out. On a busy machine Redis can take
// longer than a click waits for it, and the click then goes on without what is cached. Tests
// of a Redis that is silent or slow put a proxy in between.
type patient struct{ *net.TCPConn }

func (patient) SetDeadline(time.Time) error      { return nil }
func (patient) SetReadDeadline(time.Time) error  { return nil }
func (patient) SetWriteDeadline(time.Time) error { return nil }

// dial connects the program to Recharge, and to the fixture's Redis with patience.
func (f *Fixture) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != f.Redis.Addr {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), network, address)
	if err != nil {
		return nil, err
	}
	return patient{c.(*net.TCPConn)}, nil
}

// CachedShoppers returns the keys of shoppers' cached values. The marks of erased shoppers
// are not among them.
func (f *Fixture) CachedShoppers() []string {
	other := func(key string) bool { return !strings.Contains(key, "}:c:") }
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.Redis.Dump())), other)
}

// Indexed reports whether the index, in which a webhook finds shoppers, has the shopper
// who was cached under that key.
func (f *Fixture) Indexed(key string) bool {
	_, digits, _ := strings.Cut(key, "}:c:")
	name, err := hex.DecodeString(digits)
	if err != nil {
		f.T.Fatal(err)
	}
	for key, value := range f.Redis.Dump() {
		if strings.Contains(key, "}:r:") && strings.Contains(value, string(name)) {
			return true
		}
	}
	return false
}

// mayStay reports whether a key may outlive the shop: the servers, the token's bucket, used
// links, for two minutes the marks of the uninstall and of Recharge's messages, which hold only a
// pseudonym, and, until its next import is due, the shop's name.
func mayStay(key string) bool {
	_, kind, _ := strings.Cut(key, "}:")
	return key == "ms2:instances" || key == "ms2:shops" ||
		kind == "b" || strings.HasPrefix(kind, "x:") || strings.HasPrefix(kind, "n:")
}

// WantNothingOfShop waits until Redis holds none of the shop's data. It has to wait because
// shoppers' values, which nothing can decrypt by then, are unlinked after the webhook is
// answered.
func (f *Fixture) WantNothingOfShop() {
	f.T.Helper()
	var left []string
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		left = slices.DeleteFunc(slices.Sorted(maps.Keys(f.Redis.Dump())), mayStay)
		if len(left) == 0 {
			return
		}
	}
	f.T.Errorf("Redis holds %q; want nothing of the shop", left)
}

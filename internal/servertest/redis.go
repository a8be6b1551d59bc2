package servertest

import (
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// KeyKind is what a shop's key holds: c, r, x and d are of shoppers, l are locks.
var KeyKind = regexp.MustCompile(`^ms2:\{[^}]+\}:([a-z]):`)

// CachedShoppers are the keys of what is remembered of shoppers. That one was erased, which
// an import has to know, is not among them.
func (f *Fixture) CachedShoppers() []string {
	other := func(key string) bool { return !strings.Contains(key, "}:c:") }
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.Redis.Dump())), other)
}

// Indexed tells whether the index, in which a webhook finds shoppers, has one who was
// remembered under that key.
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

// mayStay tells a key that outlives the shop: which servers there are, how full the
// token's bucket is, which links were used, for two minutes the uninstall and, until its
// next import is due, the shop's name.
func mayStay(key string) bool {
	_, kind, _ := strings.Cut(key, "}:")
	return key == "ms2:instances" || key == "ms2:maintenance" || key == "ms2:shops" ||
		kind == "b" || kind == "x:shop" || strings.HasPrefix(kind, "n:")
}

// WantNothingOfShop waits until Redis holds nothing more of the shop. That takes a
// moment: shoppers' values, which nobody can open any more, are unlinked after the
// webhook is answered.
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

package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// spellings returns the forms in which a secret could appear in a dump: as it is, escaped, in hex,
// and in base64 at any offset.
func spellings(secret string) []string {
	all := []string{secret, strings.ToUpper(secret), url.QueryEscape(secret), hex.EncodeToString([]byte(secret))}
	all = append(all, strings.ToUpper(all[3]))
	for shift := range 3 {
		text := append(make([]byte, shift), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			// The letters at both ends also depend on their neighbours.
			encoded := encoding.EncodeToString(text)
			all = append(all, encoded[(shift*8+5)/6:len(text)*8/6])
		}
	}
	return all
}

// leaks returns the secrets that appear in a dump.
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

// TestDumpTellsNothing reads all of a real Redis as a thief would. It shows which shops there are,
// and nothing else.
func TestDumpTellsNothing(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(many(c, l), server))
	connection := connected(c, shop)
	ok(t, s.SaveConnection(ctx, connection))
	task := importing(t, s, shop)
	task.Cursor = "the-cursor-of-the-next-page"
	redactedID, movedID := "6100200300555", "6100200300777"
	ok(t, s.Redact(ctx, shop, "6100200300555"))
	imports(t, s, task, record(pat, recharge.Customer{ID: 70100999, Hash: "0f0f0f0f"}), record(nth(shop, 1), nthCustomer(1)))
	_, err := s.KeepImport(ctx, task, store.ImportLease)
	ok(t, err)
	save(t, s, pat, everything(c))
	save(t, s, store.Shopper{Shop: shop, RechargeID: 70100888}, store.Cached{Customer: recharge.Customer{ID: 70100888, Hash: "1e1e1e1e"}, ShopifyID: kim.Customer, LookedUp: c.Now()})
	save(t, s, kim, store.Cached{NotSubscriber: true, LookedUp: c.Now()})
	ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: 70100777, Customer: "6100200300777"}))
	take(t, s.Lock(load(t, s, pat), pat))
	s.Count(shop, "redirected", 1)
	s.NoteError(shop, "the error that it was")
	ok(t, s.Flush(ctx))
	_, err = s.UseNonce(ctx, shop, "the-nonce", "browser", c.Now())
	ok(t, err)
	_, err = s.EraseShop(ctx, store.Erasure{Shop: shop2, Uninstalled: c.Now()})
	ok(t, err)
	ok(t, s.CountInstances(ctx, false))

	r := recordOf(t, s, shop)
	fixed := binary.BigEndian.AppendUint64(nil, uint64(known.ID))
	secrets := map[string]string{
		"customer": string(pat.Customer), "other customer": string(kim.Customer), "imported": string(nth(shop, 1).Customer), "redacted": redactedID, "moved": movedID,
		"Recharge id": "70100200", "Recharge id, packed": string(binary.AppendUvarint(nil, uint64(known.ID))), "moved record": "70100777", "asked by record": "70100888",
		"Recharge id, big endian": string(fixed[4:]), "Recharge id, little endian": string(binary.LittleEndian.AppendUint32(nil, uint32(known.ID))),
		"hash": known.Hash, "token": token, "token's payload": strings.Split(token, ".")[1], "imported hash": nthCustomer(1).Hash,
		"portal's host": "fixture-shop.example", "temp token": "00112233445566778899aabbccddeeff",
		"key": string(key(1)), "data key": string(r.DataKey()), "API token": connection.APIToken, "storefront token": connection.StorefrontToken, "client secret": connection.ClientSecret,
		"webhook key": connection.WebhookKey, "error": "the error", "request": "the-request-id", "nonce": "the-nonce", "cursor": "the-cursor",
	}
	held := server.Dump()
	want := map[string]int{
		"shop": 1, "c": 4, "d": 1, "r": kinds(held)["r"], "x": 4, "l": 1, "b": 1, "e": 1, "h": 1, "i": 1, "n": 1, "ms2:shops": 1, "ms2:instances": 1,
	}
	if diff := cmp.Diff(want, kinds(held)); diff != "" {
		t.Errorf("keys: -want +got\n%s", diff)
	}
	if found := leaks(held, secrets); len(found) > 0 {
		t.Errorf("a dump of Redis shows %q", found)
	}
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
	// The search works: it finds each secret where it is planted.
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
		key := store.DeriveKey(secret)
		if len(key) != 32 {
			t.Fatalf("DeriveKey(%q) = %d bytes; want 32", secret, len(key))
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

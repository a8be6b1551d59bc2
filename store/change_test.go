package store_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestApplyCustomerChange: a webhook forgets the shoppers who are cached by the record or whom it
// names.
func TestApplyCustomerChange(t *testing.T) {
	const stranger = "6100200300777"
	kims := recharge.Customer{ID: 70100201, Hash: "2f2e3d4c5b6a7988", Active: 1}
	tests := []struct {
		name   string
		change store.Change
		pat    bool // still cached, by Shopify's id
		byID   bool // still cached, by Recharge's id
		kim    bool
	}{
		{"the record moves to nobody", store.Change{ID: known.ID}, false, false, true},
		{"the record moves to a stranger", store.Change{ID: known.ID, Customer: stranger}, false, false, true},
		{"the record moves to somebody cached", store.Change{ID: known.ID, Customer: kim.Customer}, false, false, false},
		{"the record stays", store.Change{ID: known.ID, Customer: pat.Customer}, false, false, true},
		{"another record is the shopper's, too", store.Change{ID: 5, Customer: pat.Customer}, false, false, true},
		{"a stale message, of when the other's record was the shopper's", store.Change{ID: kims.ID, Customer: pat.Customer}, false, false, false},
		{"an unknown record of an unknown shopper", store.Change{ID: 5, Customer: stranger}, true, true, true},
		{"an unknown record", store.Change{ID: 5}, true, true, true},
		{"the shopper, of whatever record", store.Change{Customer: pat.Customer}, false, false, true},
		{"nothing at all", store.Change{}, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
				c := newClock()
				s := open(options(c, &logged{}))
				want := func(is bool, customer recharge.Customer) recharge.Customer {
					if !is {
						return recharge.Customer{}
					}
					return customer
				}
				fill := func() {
					save(t, s, pat, everything(c))
					save(t, s, byRecharge, lookedUp(c, pat, known))
					save(t, s, kim, lookedUp(c, kim, kims))
				}
				check := func(when string) {
					t.Helper()
					is(t, when, s, pat, want(tt.pat, known))
					is(t, when, s, byRecharge, want(tt.byID, known))
					is(t, when, s, kim, want(tt.kim, kims))
				}
				fill()
				for _, when := range []string{"once", "twice"} {
					ok(t, s.ApplyCustomerChange(t.Context(), shop, tt.change))
					check(when)
				}
				fill() // values saved afterwards stay
				is(t, "looked up again", s, pat, known)
				is(t, "looked up again", s, byRecharge, known)
				is(t, "looked up again", s, kim, kims)
				ok(t, s.ApplyCustomerChange(t.Context(), shop, tt.change))
				check("again")
			})
		})
	}
}

// TestChangeOfAnImportedRecord: a webhook also finds imported shoppers, even one with several
// records.
func TestChangeOfAnImportedRecord(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	task := importing(t, s, shop)
	twin := recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811"}
	imports(t, s, task, record(pat, known), record(pat, twin), record(kim, nthCustomer(0)))
	for _, id := range []int64{known.ID, nthCustomer(0).ID} {
		ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: id}))
	}
	is(t, "imported", s, pat, recharge.Customer{})
	is(t, "imported", s, kim, recharge.Customer{})
}

// TestChangeOfNothing: the shop has no record.
func TestChangeOfNothing(t *testing.T) {
	for name, o := range map[string]store.Options{"one store": options(newClock(), &logged{}), "many": many(newClock(), &logged{})} {
		s := open(t, o)
		ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID, Customer: pat.Customer}))
		if got := dump(t, s); len(got) > 0 {
			t.Errorf("%s: a webhook to a shop without a record left %q", name, got)
		}
	}
}

// TestStaleIndexDoesNoHarm: an index entry may outlive its value.
func TestStaleIndexDoesNoHarm(t *testing.T) {
	ctx := t.Context()
	other := recharge.Customer{ID: 70100201, Hash: "2f2e3d4c5b6a7988", Active: 1}
	c := newClock()
	s := open(t, options(c, &logged{}))
	expires := func(who store.Shopper) {
		ok(t, s.Client().Del(ctx, recordOf(t, s, shop).CachedKey(string(who.Customer))).Err())
	}
	entries := func() int64 {
		r := recordOf(t, s, shop)
		id := store.RechargeID(known.ID)
		return s.Client().HLen(ctx, r.IndexKey(id)).Val()
	}
	save(t, s, pat, lookedUp(c, pat, known))
	expires(pat)
	ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: kim.Customer}))
	if n := entries(); n != 0 {
		t.Errorf("%d entries are left after a webhook; want none", n)
	}

	save(t, s, pat, lookedUp(c, pat, known))
	expires(pat)
	save(t, s, pat, lookedUp(c, pat, other))
	save(t, s, kim, lookedUp(c, kim, known))
	is(t, "the record of before is somebody else's", s, kim, known)
	save(t, s, pat, lookedUp(c, pat, other))
	ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
	is(t, "a webhook about it", s, kim, recharge.Customer{})
	is(t, "a webhook about it", s, pat, other)

	// Caching another shopper by a redacted shopper's record does not undo the redaction.
	save(t, s, pat, lookedUp(c, pat, known))
	expires(pat)
	task := importing(t, s, shop)
	ok(t, s.Redact(ctx, shop, pat.Customer))
	save(t, s, kim, lookedUp(c, kim, known))
	imports(t, s, task, record(pat, other))
	is(t, "redacted", s, pat, recharge.Customer{})
	forgetTombstones(t, s)
	imports(t, s, task, record(pat, other))
	is(t, "redacted a while ago", s, pat, recharge.Customer{})
}

// forgetTombstones removes the tombstones, as two minutes would.
func forgetTombstones(t *testing.T, s *store.Store) {
	t.Helper()
	for key := range dump(t, s) {
		if strings.Contains(key, "}:x:") {
			ok(t, s.Client().Del(t.Context(), key).Err())
		}
	}
}

// TestTombstonesEnd: tombstones expire after two minutes.
func TestTombstonesEnd(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	recordOf(t, s, shop)
	ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID, Customer: pat.Customer}))
	if got := kinds(dump(t, s)); got["x"] != 2 {
		t.Errorf("%d tombstones; want 2", got["x"])
	}
	for key := range dump(t, s) {
		if life := s.Client().PTTL(t.Context(), key).Val(); strings.Contains(key, "}:x:") && (life <= store.TombstoneFor-10*time.Second || life > store.TombstoneFor) {
			t.Errorf("a tombstone lives for %v; want %v", life, store.TombstoneFor)
		}
	}
}

// traces returns the keys, and the fields in the index, that reveal a shopper to someone with the
// data key.
func traces(t *testing.T, s *store.Store, ids ...string) []string {
	t.Helper()
	r := recordOf(t, s, shop)
	var found []string
	for key, value := range dump(t, s) {
		for _, id := range ids {
			name := r.Name(id)
			if strings.Contains(key, hex.EncodeToString([]byte(name))) || strings.Contains(value, name) ||
				strings.Contains(value, name[1:]) && strings.Contains(key, ":r:") || key == r.RedactionKey(id) || strings.Contains(key+value, id) {
				_, kind, _ := strings.Cut(key, "}:")
				found = append(found, kind[:1])
			}
		}
	}
	slices.Sort(found)
	return found
}

// TestRedact: nothing is left of the shopper. Imports do not bring them back, but their own click
// does.
func TestRedact(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		task := importing(t, s, shop)
		ids := []string{string(pat.Customer), store.RechargeID(known.ID)}
		marker := recordOf(t, s, shop).RedactionKey(string(pat.Customer))
		page := clockOf(t, s) // read before the redaction, saved after
		save(t, s, pat, everything(c))
		save(t, s, byRecharge, lookedUp(c, pat, known))
		save(t, s, kim, lookedUp(c, kim, nthCustomer(0)))
		loaded := load(t, s, pat)
		for range 2 {
			ok(t, s.Redact(ctx, shop, pat.Customer))
			if got, want := traces(t, s, ids...), []string{"d", "x", "x"}; !slices.Equal(got, want) {
				t.Errorf("left of the shopper is %q; want %q: the redaction and the tombstones", got, want)
			}
		}
		if got := s.Client().Get(ctx, marker).Val(); got != "1" {
			t.Errorf("the redaction is %q; want it to hold nothing else", got)
		}
		value := everything(c)
		if err := s.Save(ctx, recordOf(t, s, shop), pat, &value, page, nil); !errors.Is(err, store.ErrOutdated) {
			t.Errorf("Save of an earlier click = %v; want ErrOutdated", err)
		}
		nobody := func(when string) {
			t.Helper()
			is(t, when, s, pat, recharge.Customer{})
			is(t, when, s, byRecharge, recharge.Customer{})
			is(t, when, s, kim, nthCustomer(0))
		}
		nobody("redacted")
		for _, when := range []string{"soon after", "later"} {
			imports(t, s, task, record(pat, known), record(kim, nthCustomer(0)))
			nobody(when + ", imported")
			ok(t, s.SaveImported(ctx, task, []recharge.Record{record(pat, known)}, page))
			nobody(when + ", a page of before")
			ok(t, second(s.SaveIfUnchanged(ctx, loaded, pat, lookedUp(c, pat, known), page, nil)))
			nobody(when + ", a lookup in the background, of before")
			ok(t, second(s.SaveIfUnchanged(ctx, load(t, s, pat), pat, lookedUp(c, pat, known), clockOf(t, s), nil)))
			nobody(when + ", a lookup in the background")
			forgetTombstones(t, s)
		}
		ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: pat.Customer}))
		imports(t, s, task, record(pat, known))
		nobody("a webhook about the shopper, imported")

		ok(t, s.Client().PExpire(ctx, marker, time.Hour).Err())
		imports(t, s, task, record(pat, known))
		if life := s.Client().PTTL(ctx, marker).Val(); life < store.RedactedFor-time.Minute || life > store.RedactedFor {
			t.Errorf("after an import the redaction lives for %v; want %v again", life, store.RedactedFor)
		}

		save(t, s, pat, lookedUp(c, pat, known)) // the shopper comes back
		is(t, "their own click", s, pat, known)
		if n := s.Client().Exists(ctx, marker).Val(); n != 0 {
			t.Error("their own click did not lift the redaction")
		}
		task.Number++
		newer := known
		newer.Hash = "ffffffff"
		c.advance(25 * time.Hour)
		imports(t, s, task, record(pat, newer))
		is(t, "from then on imported", s, pat, newer)
	})
}

// TestRedactByRechargesID: a shopper who was looked up only by Recharge's id is found by Shopify's.
func TestRedactByRechargesID(t *testing.T) {
	c := newClock()
	s := open(t, options(c, &logged{}))
	save(t, s, byRecharge, lookedUp(c, pat, known))
	ok(t, s.Redact(t.Context(), shop, pat.Customer))
	is(t, "redacted", s, byRecharge, recharge.Customer{})
	if got, want := traces(t, s, string(pat.Customer), store.RechargeID(known.ID)), []string{"d", "x", "x"}; !slices.Equal(got, want) {
		t.Errorf("left of the shopper is %q; want %q", got, want)
	}
}

// TestRedactOfNothing: in one-store mode a redaction is kept even if nothing else is. A store that
// is not connected has no imports.
func TestRedactOfNothing(t *testing.T) {
	own := open(t, options(newClock(), &logged{}))
	ok(t, own.Redact(t.Context(), shop, pat.Customer))
	imports(t, own, importing(t, own, shop), record(pat, known))
	forgetTombstones(t, own)
	imports(t, own, importing(t, own, shop), record(pat, known))
	is(t, "redacted before anything was kept", own, pat, recharge.Customer{})

	several := open(t, many(newClock(), &logged{}))
	ok(t, several.Redact(t.Context(), shop, pat.Customer))
	if got := dump(t, several); len(got) > 0 {
		t.Errorf("a redaction of a shop that is not connected left %q", got)
	}
}

// TestErasuresAreOneStep: a webhook runs one script, whatever is cached.
func TestErasuresAreOneStep(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	s := open(t, on(options(c, &logged{}), server))
	save(t, s, pat, everything(c))
	for name, do := range map[string]func(){
		"Redact":              func() { ok(t, s.Redact(ctx, shop, pat.Customer)) },
		"ApplyCustomerChange": func() { ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: kim.Customer})) },
	} {
		do() // connects
		if got := commands(t, client, do); got["eval"] != 1 || got["mget"] != 1 || got["watch"] != 1 {
			t.Errorf("%s: commands = %v; want one script, after the record was read", name, got)
		}
	}
}

// TestServedAfterAWebhook tries to get a shopper's old record served after a webhook that took it
// away was answered, whatever happened before and during the webhook.
func TestServedAfterAWebhook(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	task := importing(t, a, shop)
	r := recordOf(t, a, shop)
	value := everything(c)
	moved := store.Change{ID: known.ID, Customer: kim.Customer}
	tests := []struct {
		name   string
		before func() // the webhook
	}{
		{"a click that has loaded", func() { save(t, a, pat, value) }},
		{"an import that has read the page", func() {}},
		{"both ids", func() { save(t, a, byRecharge, value); save(t, a, pat, value) }},
		{"looked up by two instances", func() { save(t, a, pat, value); save(t, b, pat, value) }},
		{"imported, and looked up", func() { imports(t, a, task, record(pat, known)); save(t, b, pat, value) }},
		{"looked up, and imported", func() { save(t, b, pat, value); imports(t, a, task, record(pat, known)) }},
		{"cached by another record in between", func() {
			save(t, a, pat, value)
			save(t, a, pat, lookedUp(c, pat, nthCustomer(0)))
			save(t, a, pat, value)
		}},
		{"moved back and forth", func() { save(t, a, pat, value); save(t, b, kim, lookedUp(c, kim, known)); save(t, a, pat, value) }},
		{"rekeyed", func() { save(t, a, pat, value); _, err := b.Rekey(ctx); ok(t, err) }},
		{"no subscriber in between", func() {
			save(t, a, pat, value)
			save(t, b, pat, store.Cached{NotSubscriber: true, LookedUp: c.Now()})
			save(t, a, pat, value)
		}},
	}
	for _, tt := range tests {
		for _, by := range []*store.Store{a, b} {
			ok(t, a.ApplyCustomerChange(ctx, shop, moved))
			tt.before()
			loaded := load(t, a, pat)
			lock := a.Lock(loaded, pat)
			at := take(t, lock).At
			fresh := a.Lock(loaded, pat)

			ok(t, by.ApplyCustomerChange(ctx, shop, moved))
			gone := func(when string) {
				t.Helper()
				for _, s := range []*store.Store{a, b} {
					for _, who := range []store.Shopper{pat, byRecharge} {
						is(t, tt.name+", "+when, s, who, recharge.Customer{})
					}
				}
			}
			gone("at once")
			for _, s := range []*store.Store{a, b} {
				for _, who := range []store.Shopper{pat, byRecharge} {
					if err := s.Save(ctx, r, who, &value, at, lock); !errors.Is(err, store.ErrOutdated) {
						t.Errorf("%s: Save of an earlier click = %v; want ErrOutdated", tt.name, err)
					}
				}
				ok(t, s.SaveImported(ctx, task, []recharge.Record{record(pat, known)}, at))
				ok(t, second(s.SaveIfUnchanged(ctx, loaded, pat, value, at, nil)))
			}
			gone("after all saves of before")
			if loaded.Cached.Customer.ID == 0 {
				continue
			}
			if _, err := fresh.Take(ctx, bucket(), oneCall, 0, 0); !errors.Is(err, recharge.ErrChanged) {
				t.Errorf("%s: Take with the version loaded before = %v; want ErrChanged", tt.name, err)
			}
		}
	}
}

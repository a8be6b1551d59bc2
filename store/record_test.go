package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestRecordMadeAtOnce: if several instances create the single store's record at once, one wins,
// and all use its record.
func TestRecordMadeAtOnce(t *testing.T) {
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	for range 10 {
		ok(t, a.Client().FlushAll(t.Context()).Err())
		var (
			mu          sync.Mutex
			generations = map[string]int{}
			clicks      sync.WaitGroup
		)
		for i := range 32 {
			clicks.Go(func() {
				loaded := load(t, []*store.Store{a, b}[i%2], nth(shop, i))
				mu.Lock()
				defer mu.Unlock()
				generations[loaded.Record.Generation()]++
			})
		}
		clicks.Wait()
		if len(generations) != 1 {
			t.Fatalf("%d data keys are used; want one", len(generations))
		}
		save(t, a, pat, lookedUp(c, pat, known))
		is(t, "saved by the other instance", b, pat, known)
	}
}

// TestRecordChangedElsewhere: the next Load notices another instance's change.
func TestRecordChangedElsewhere(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	a, b := two(t, many(c, &logged{}))
	notKept := func(when string) {
		t.Helper()
		if loaded := load(t, b, pat); loaded.Record != nil || loaded.Cached != (store.Cached{}) {
			t.Errorf("%s: Load = %+v; want nothing", when, loaded)
		}
		if record, err := b.Record(ctx, shop); record != nil || err != nil {
			t.Errorf("%s: Record = %v, %v; want none", when, record, err)
		}
	}
	notKept("never connected")
	first := connected(c, shop)
	ok(t, a.SaveConnection(ctx, first))
	sameConnection(t, "connected", load(t, b, pat).Record.Connection, &first)
	save(t, b, pat, lookedUp(c, pat, known))
	if again := load(t, b, pat).Record; again != load(t, b, pat).Record {
		t.Error("an unchanged record is another pointer; want the same")
	}

	ok(t, a.Update(ctx, shop, func(r *store.Record) bool { r.Connection.Detected.Link = "hash"; return true }))
	changed := first
	changed.Detected.Link = "hash"
	sameConnection(t, "updated", load(t, b, pat).Record.Connection, &changed)
	is(t, "updated", b, pat, known)

	other := first
	other.APIToken = "sk_another"
	ok(t, a.SaveConnection(ctx, other))
	sameConnection(t, "another token", load(t, b, pat).Record.Connection, &other)
	is(t, "another token", b, pat, recharge.Customer{})

	_, err := a.EraseShop(ctx, store.Erasure{Shop: shop})
	ok(t, err)
	notKept("erased")
	ok(t, a.SaveConnection(ctx, first))
	sameConnection(t, "connected again", load(t, b, pat).Record.Connection, &first)
}

// TestRecordOfAnotherKey: in one-store mode everything lost can be looked up again. A connection
// cannot.
func TestRecordOfAnotherKey(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	ok(t, open(t, on(many(c, l), server)).SaveConnection(ctx, connected(c, shop)))
	before := server.Dump()[store.RecordKey(shop)]

	o := on(many(c, l), server)
	o.Keys = [][]byte{key(2)}
	s := open(t, o)
	if loaded := s.Load(ctx, pat); !errors.Is(loaded.Err, store.ErrUnreadable) || loaded.Record != nil {
		t.Errorf("Load = %+v; want ErrUnreadable", loaded)
	}
	_, err := s.Record(ctx, shop)
	for name, err := range map[string]error{
		"Record": err, "ApplyCustomerChange": s.ApplyCustomerChange(ctx, shop, store.Change{ID: 1}), "Redact": s.Redact(ctx, shop, "1"),
	} {
		if !errors.Is(err, store.ErrUnreadable) {
			t.Errorf("%s = %v; want ErrUnreadable", name, err)
		}
	}
	if n, err := s.Rekey(ctx); n != 0 || err == nil {
		t.Errorf("Rekey = %d, %v; want an error", n, err)
	}
	ok(t, s.Update(ctx, shop, func(*store.Record) bool { t.Error("changed a record that does not open"); return true }))
	if task, err := s.TakeImport(ctx); task != nil || err != nil {
		t.Errorf("TakeImport = %v, %v; want none of a shop that does not open", task, err)
	}
	if got := server.Dump()[store.RecordKey(shop)]; got != before {
		t.Error("a record that does not open was replaced; want the merchant's connection kept")
	}

	o.Single = shop
	own := open(t, o)
	if loaded := load(t, own, pat); loaded.Record == nil || loaded.Record.Connection != nil {
		t.Errorf("Load in one-store mode = %+v; want a new record", loaded)
	}
	if lines := l.lines("level=ERROR", "does not open and is replaced"); len(lines) != 1 || len(l.lines()) != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
	save(t, own, pat, lookedUp(c, pat, known))
	is(t, "under the new record", own, pat, known)
}

// TestDamagedRecord: a shop whose record does not open is not treated as one without a record.
func TestDamagedRecord(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, many(c, &logged{}))
	ok(t, s.SaveConnection(ctx, connected(c, shop)))
	ok(t, s.SaveConnection(ctx, connected(c, shop2)))
	sealed, others := s.Client().Get(ctx, store.RecordKey(shop)).Val(), s.Client().Get(ctx, store.RecordKey(shop2)).Val()
	damaged := []string{"", "2", sealed[:13], sealed + "\x00", others, "1" + sealed[1:]}
	for i := range sealed {
		flipped := []byte(sealed)
		flipped[i] ^= 1
		damaged = append(damaged, string(flipped))
	}
	for _, value := range damaged {
		ok(t, s.Client().Set(ctx, store.RecordKey(shop), value, 0).Err())
		if loaded := s.Load(ctx, pat); !errors.Is(loaded.Err, store.ErrUnreadable) {
			t.Fatalf("Load with a record of %q = %+v; want ErrUnreadable", value, loaded)
		}
	}
	var told []shopify.Shop
	err := s.EachConnection(ctx, func(c store.Connection) error { told = append(told, c.Shop); return nil })
	if err == nil || !slices.Equal(told, []shopify.Shop{shop2}) {
		t.Errorf("EachConnection passed %q, %v; want the other one, and an error", told, err)
	}
	ok(t, s.SaveConnection(ctx, connected(c, shop))) // the merchant connects once more
	if load(t, s, pat).Record.Connection == nil {
		t.Error("the connection that the merchant saved instead is not there")
	}
}

// TestTwoEncryptionKeys: all keys open, and the first one seals. They seal only records.
func TestTwoEncryptionKeys(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	with := func(keys ...[]byte) *store.Store {
		o := on(many(c, &logged{}), server)
		o.Keys = keys
		return open(t, o)
	}
	older, both, newer := with(key(1)), with(key(2), key(1)), with(key(2))
	shops := []shopify.Shop{shop, shop2}
	for _, shop := range shops {
		ok(t, older.SaveConnection(ctx, connected(c, shop)))
	}
	save(t, older, pat, everything(c))
	if err := newer.Load(ctx, pat).Err; !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("Load with the new key alone = %v; want ErrUnreadable", err)
	}
	is(t, "both keys", both, pat, known)
	ok(t, both.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
	is(t, "forgotten by one with both keys", older, pat, recharge.Customer{})
	save(t, both, pat, everything(c))
	is(t, "saved by one with both keys", older, pat, known)

	before := recordOf(t, both, shop)
	if n, err := both.Rekey(ctx); n != 2 || err != nil {
		t.Errorf("Rekey = %d, %v; want 2", n, err)
	}
	if n, err := both.Rekey(ctx); n != 0 || err != nil {
		t.Errorf("Rekey again = %d, %v; want 0", n, err)
	}
	is(t, "after rekey", newer, pat, known)
	sameConnection(t, "after rekey", recordOf(t, newer, shop).Connection, before.Connection)
	if !bytes.Equal(recordOf(t, newer, shop).DataKey(), before.DataKey()) {
		t.Error("rekey has changed the data key")
	}
	if err := older.Load(ctx, pat).Err; !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("Load with the old key alone = %v; want ErrUnreadable", err)
	}
}

// TestRekeyOfTheOneStore: the single store is rekeyed whether or not an import was ever requested,
// and having no record is no failure.
func TestRekeyOfTheOneStore(t *testing.T) {
	server := storetest.Redis(t)
	o := on(options(newClock(), &logged{}), server)
	older := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	both := open(t, o)
	if n, err := both.Rekey(t.Context()); n != 0 || err != nil {
		t.Errorf("Rekey of nothing = %d, %v; want 0", n, err)
	}
	recordOf(t, older, shop)
	if n, err := both.Rekey(t.Context()); n != 1 || err != nil {
		t.Errorf("Rekey = %d, %v; want 1", n, err)
	}
	recordOf(t, older, shop) // which no longer opens there
	ok(t, older.RequestImport(t.Context(), shop))
	if n, err := both.Rekey(t.Context()); n != 1 || err != nil {
		t.Errorf("Rekey of a listed one = %d, %v; want 1, not twice", n, err)
	}
}

// TestConnections: a connection is kept as the merchant saved it, until it is erased.
func TestConnections(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(many(c, &logged{}))
		if got := dump(t, s); len(got) > 0 {
			t.Errorf("a shop that is not connected left %q; want nothing", got)
		}
		want := connected(c, shop)
		ok(t, s.SaveConnection(ctx, want))
		first := recordOf(t, s, shop)
		sameConnection(t, "saved", first.Connection, &want)
		if recordOf(t, s, shop) != first {
			t.Error("an unchanged record is another pointer; want the same")
		}
		ok(t, s.Update(ctx, shop, func(r *store.Record) bool { r.Connection.APIToken = "lost"; return false }))
		if recordOf(t, s, shop) != first {
			t.Error("after a change that returned false, the record is another pointer; want the same")
		}
		ok(t, s.Update(ctx, shop, func(r *store.Record) bool { r.Connection.Webhooks.OK = true; return true }))
		sameConnection(t, "what was returned before", first.Connection, &want)
		want.Webhooks.OK = true
		sameConnection(t, "updated", recordOf(t, s, shop).Connection, &want)
		ok(t, s.Update(ctx, shop2, func(*store.Record) bool { t.Error("updated a record that does not exist"); return true }))

		keys := []store.PortalKey{{ID: "1", Name: "middleware", Hash: []byte("hash"), MadeAt: c.Now().UTC()}}
		ok(t, s.Update(ctx, shop, func(r *store.Record) bool {
			r.Connection.PortalKeys, r.Connection.Chosen.Link = keys, "hash"
			return true
		}))
		want.StorefrontToken = "strfnt_another"
		ok(t, s.SaveConnection(ctx, want)) // read before the key was made and another link chosen
		want.PortalKeys, want.Chosen.Link = keys, "hash"
		sameConnection(t, "saved again", recordOf(t, s, shop).Connection, &want)
		if got := recordOf(t, s, shop); got.Generation() != first.Generation() {
			t.Error("the same token has another data key; want what is cached kept")
		}

		ok(t, s.SaveConnection(ctx, connected(c, shop2)))
		var told []shopify.Shop
		ok(t, s.EachConnection(ctx, func(c store.Connection) error { told = append(told, c.Shop); return nil }))
		slices.Sort(told)
		if !slices.Equal(told, []shopify.Shop{shop, shop2}) {
			t.Errorf("EachConnection passed %q; want both", told)
		}
		enough := errors.New("enough")
		if err := s.EachConnection(ctx, func(store.Connection) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("EachConnection = %v; want what do returned", err)
		}
		for _, shop := range []shopify.Shop{shop, shop2} {
			_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
			ok(t, err)
		}
		s.Settle()
		if diff := cmp.Diff(map[string]int{"ms2:shops": 1}, kinds(dump(t, s))); diff != "" {
			t.Errorf("after EraseShop: -want +got\n%s", diff)
		}
	})
}

// TestUpdateAtOnce: no change is lost when several happen at once.
func TestUpdateAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c := newClock()
		s := open(many(c, &logged{}))
		want := connected(c, shop)
		want.WebhookKey = ""
		ok(t, s.SaveConnection(t.Context(), want))
		var updates sync.WaitGroup
		for range 12 {
			updates.Go(func() {
				err := s.Update(t.Context(), shop, func(r *store.Record) bool { r.Connection.WebhookKey += "x"; return true })
				if err != nil {
					t.Errorf("Update = %v", err)
				}
			})
		}
		updates.Wait()
		want.WebhookKey = strings.Repeat("x", 12)
		sameConnection(t, "updated at once", recordOf(t, s, shop).Connection, &want)
	})
}

// TestWebhookVerified: a verified webhook is recorded once a day, and forgotten with the client secret.
func TestWebhookVerified(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	ok(t, s.WebhookVerified(ctx, shop, hush)) // the shop has no record
	ok(t, s.SaveConnection(ctx, connected(c, shop)))
	proven := func(when string, want bool) {
		t.Helper()
		if got := s.WebhooksProven(recordOf(t, s, shop)); got != want {
			t.Errorf("%s: proven = %v; want %v", when, got, want)
		}
	}
	proven("never", false)
	ok(t, s.WebhookVerified(ctx, shop, hush))
	proven("just now", true)
	if got := commands(t, client, func() { ok(t, s.WebhookVerified(ctx, shop, hush)) }); got["set"] != 0 {
		t.Errorf("the second webhook of a day took %v; want no write", got)
	}
	c.advance(7*24*time.Hour - time.Second)
	proven("in the last week", true)
	c.advance(time.Second)
	proven("a week ago", false)
	ok(t, s.WebhookVerified(ctx, shop, hush))
	proven("again", true)
	same := connected(c, shop)
	same.StorefrontToken = "another"
	ok(t, s.SaveConnection(ctx, same))
	proven("the same client secret", true)
	same.ClientSecret = "another"
	ok(t, s.SaveConnection(ctx, same))
	proven("another client secret", false)
	ok(t, s.WebhookVerified(ctx, shop, hush)) // it was verified before the other secret was saved
	proven("one verified with the last client secret", false)
	ok(t, s.WebhookVerified(ctx, shop, same.ClientSecret))
	proven("one verified with the other client secret", true)
	if s.WebhooksProven(nil) {
		t.Error("webhooks of a shop without a record are proven")
	}
}

// TestWebhookProof: a refused webhook is recorded if none was verified that day, at most once a day, until one is
// verified or the client secret changes.
func TestWebhookProof(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	ok(t, s.WebhookRefused(ctx, shop, hush)) // the shop has no record
	ok(t, s.SaveConnection(ctx, connected(c, shop)))
	shown := func(when string, want store.Proof) {
		t.Helper()
		if got := s.WebhookProof(recordOf(t, s, shop)); got != want {
			t.Errorf("%s: %q; want %q", when, got, want)
		}
	}
	shown("never", store.Unproven)
	ok(t, s.WebhookRefused(ctx, shop, hush))
	shown("one was refused", store.Refuted)
	if got := commands(t, client, func() { ok(t, s.WebhookRefused(ctx, shop, hush)) }); got["set"] != 0 {
		t.Errorf("the second refused webhook of a day took %v; want no write", got)
	}
	ok(t, s.WebhookVerified(ctx, shop, hush))
	shown("one was verified", store.Proven)
	ok(t, s.WebhookRefused(ctx, shop, hush)) // others may know the address, too
	shown("one was refused on the same day", store.Proven)
	c.advance(24 * time.Hour)
	ok(t, s.WebhookRefused(ctx, shop, hush))
	shown("one was refused on the next day", store.Refuted)
	if !s.WebhooksProven(recordOf(t, s, shop)) {
		t.Error("a stranger's webhook has taken away what was verified in the last week")
	}
	ok(t, s.WebhookVerified(ctx, shop, hush))
	shown("one was verified again", store.Proven)
	c.advance(8 * 24 * time.Hour)
	shown("none for a week", store.Unproven)
	ok(t, s.WebhookRefused(ctx, shop, hush))
	next := connected(c, shop)
	next.ClientSecret = "another"
	ok(t, s.SaveConnection(ctx, next))
	shown("another client secret", store.Unproven)
	ok(t, s.WebhookRefused(ctx, shop, hush))
	shown("one refused with the last client secret", store.Unproven)
	if got := s.WebhookProof(nil); got != store.Unproven {
		t.Errorf("of a shop without a record: %q; want %q", got, store.Unproven)
	}
}

// TestConnectionWithoutRedis: a process keeps using the records that it knows.
func TestConnectionWithoutRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	want := connected(c, shop)
	ok(t, s.SaveConnection(ctx, want))
	server.Stop()
	loaded := s.Load(ctx, pat)
	if loaded.Err == nil || loaded.Record == nil {
		t.Fatalf("Load without Redis = %+v; want the record, and an error", loaded)
	}
	sameConnection(t, "without Redis", loaded.Record.Connection, &want)
	if got, err := s.Record(ctx, shop); err != nil || got != loaded.Record {
		t.Errorf("Record without Redis = %p, %v; want %p", got, err, loaded.Record)
	}
	if got := s.Load(ctx, store.Shopper{Shop: shop2, Customer: "1"}); got.Err == nil || got.Record != nil {
		t.Errorf("Load of another shop = %+v; want an error", got)
	}
	_, err := s.Record(ctx, shop2)
	_, erase := s.EraseShop(ctx, store.Erasure{Shop: shop})
	_, uninstalled := s.UninstalledAt(ctx, shop)
	_, nonce := s.UseNonce(ctx, shop, "nonce", "browser", c.Now())
	_, shops := s.Shops(ctx)
	_, rekey := s.Rekey(ctx)
	_, imp := s.Import(ctx, shop)
	_, health := s.Health(ctx, shop, time.Time{})
	for name, err := range map[string]error{
		"Record of another shop": err, "EraseShop": erase, "UninstalledAt": uninstalled, "UseNonce": nonce, "Shops": shops, "Rekey": rekey,
		"Import": imp, "Health": health,
		"SaveConnection":      s.SaveConnection(ctx, want),
		"Update":              s.Update(ctx, shop, func(*store.Record) bool { return true }),
		"EachConnection":      s.EachConnection(ctx, func(store.Connection) error { return nil }),
		"ApplyCustomerChange": s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}),
		"Redact":              s.Redact(ctx, shop, pat.Customer),
		"Save":                s.Save(ctx, loaded.Record, pat, &store.Cached{Customer: known}, 0, nil),
		"Forget":              s.Forget(ctx, loaded.Record, pat),
		"ScheduleImport":      s.ScheduleImport(ctx, shop),
	} {
		if err == nil {
			t.Errorf("%s without Redis = nil; want an error", name)
		}
	}
	if s.Imported(ctx, shop) {
		t.Error("without Redis a shop is imported")
	}
	server.Start()                                                              // empty
	eventually(t, "Redis is found again, and the record is gone", func() bool { // go-redis tries once a second
		c.advance(store.RestFor)
		loaded = s.Load(ctx, pat)
		return loaded.Err == nil && loaded.Record == nil
	})
	server.Stop()
	if got := s.Load(ctx, pat); got.Record != nil || got.Err == nil {
		t.Errorf("Load of a record that is gone = %+v; want an error", got)
	}
}

// TestSecretsAreNeverPrinted: printing a record, a connection or a loaded value does not print its
// secrets.
func TestSecretsAreNeverPrinted(t *testing.T) {
	clock := newClock()
	s := open(t, many(clock, &logged{}))
	c := connected(clock, shop)
	ok(t, s.SaveConnection(t.Context(), c))
	r := recordOf(t, s, shop)
	holders := []any{
		c, &c, struct{ C store.Connection }{c}, struct{ C *store.Connection }{&c}, []store.Connection{c}, map[string]store.Connection{"k": c},
		*r, r, store.Loaded{Record: r},
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, holder := range holders {
			fmt.Fprintf(&out, verb+"\n", holder)
		}
	}
	for _, holder := range holders {
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", holder)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", holder)
		text, err := json.Marshal(holder)
		ok(t, err)
		out.Write(text)
	}
	out.WriteString(c.String())
	for _, secret := range []string{c.APIToken, c.StorefrontToken, c.ClientSecret, c.WebhookKey, string(r.DataKey())} {
		for _, spelling := range spellings(secret) {
			if strings.Contains(out.String(), spelling) {
				t.Errorf("%q was printed", spelling)
			}
		}
	}
	if strings.Contains(out.String(), fmt.Sprintf("%d %d %d", r.DataKey()[0], r.DataKey()[1], r.DataKey()[2])) {
		t.Error("the data key was printed as numbers")
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing was printed at all")
	}
}

func TestTraits(t *testing.T) {
	c := store.Connection{Detected: store.Traits{PortalURL: "a/", Accounts: "new"}, Chosen: store.Traits{Accounts: "legacy", Link: "hash"}}
	if got, want := c.Chosen.Or(c.Detected), (store.Traits{PortalURL: "a/", Accounts: "legacy", Link: "hash"}); got != want {
		t.Errorf("Or = %+v; want %+v", got, want)
	}
}

// TestWebhooksAtOnce: of many webhooks that are verified at the same time, one is recorded.
func TestWebhooksAtOnce(t *testing.T) {
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	a, b := open(t, on(many(c, &logged{}), server)), open(t, on(many(c, &logged{}), server))
	ok(t, a.SaveConnection(t.Context(), connected(c, shop)))
	got := commands(t, client, func() {
		var webhooks sync.WaitGroup
		for range 10 {
			for _, s := range []*store.Store{a, b} {
				webhooks.Go(func() { ok(t, s.WebhookVerified(t.Context(), shop, hush)) })
			}
		}
		webhooks.Wait()
	})
	if got["set"] != 1 {
		t.Errorf("20 webhooks at once took %v; want one write", got)
	}
}

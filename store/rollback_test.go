package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// A Redis that is rolled back holds older records, and older cached values. These tests roll back one
// key or a whole server. The stores in them go on running.

// rolledBack is what a store logs when it notices.
const rolledBack = "Redis was rolled back"

// snapshot returns a function that puts a shop's record and everything else of it back as it is now.
func snapshot(t *testing.T, s *store.Store) (restore func()) {
	t.Helper()
	ctx, all := t.Context(), map[string]string{}
	for _, key := range s.Client().Keys(ctx, "ms2:{*").Val() {
		all[key] = s.Client().Dump(ctx, key).Val()
	}
	return func() {
		t.Helper()
		for key, value := range all {
			ok(t, s.Client().RestoreReplace(ctx, key, 0, value).Err())
		}
	}
}

func addKey(t *testing.T, s *store.Store, id string) {
	t.Helper()
	ok(t, s.Update(t.Context(), shop, func(r *store.Record) bool {
		r.Connection.PortalKeys = append(r.Connection.PortalKeys, store.PortalKey{ID: id})
		return true
	}))
}

func revokeKeys(t *testing.T, s *store.Store) {
	t.Helper()
	ok(t, s.Update(t.Context(), shop, func(r *store.Record) bool { r.Connection.PortalKeys = nil; return true }))
}

func keysOf(t *testing.T, s *store.Store) int {
	t.Helper()
	return len(recordOf(t, s, shop).Connection.PortalKeys)
}

// TestRolledBackKey: after a rollback, a key that was revoked stays revoked for every server that has
// seen that, and nothing that was cached is used. One that starts afterwards gets the newer record, too.
func TestRolledBackKey(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	a, b := open(t, on(many(c, l), server)), open(t, on(many(c, l), server))
	ok(t, a.SaveConnection(t.Context(), connected(c, shop)))
	addKey(t, a, "leaked")
	save(t, a, pat, everything(c))
	restore := snapshot(t, a)
	revokeKeys(t, a)
	if n := keysOf(t, b); n != 0 {
		t.Fatalf("the other server has %d keys; want none", n)
	}
	for name, first := range map[string]*store.Store{"the one that wrote": a, "the one that read": b} {
		before := len(l.lines(rolledBack))
		restore()
		if n := keysOf(t, first); n != 0 {
			t.Errorf("%s has %d keys after the rollback; want none", name, n)
		}
		is(t, name, first, pat, recharge.Customer{})
		if lines := l.lines("level=ERROR", rolledBack, "docs/redis.md", string(shop)); len(lines) != before+1 {
			t.Errorf("%s: logged %q; want one line more", name, l.lines())
		}
		for _, s := range []*store.Store{a, b, open(t, on(many(c, l), server))} {
			if n := keysOf(t, s); n != 0 {
				t.Errorf("%s was first: another server has %d keys; want none", name, n)
			}
		}
		save(t, first, pat, everything(c))
	}
	if lines := l.lines(rolledBack); len(lines) != 2 {
		t.Errorf("logged %q; want one line for each rollback", lines)
	}
}

// TestRolledBackUnderAChange: a change is made to the newest record, not to the one that came back.
func TestRolledBackUnderAChange(t *testing.T) {
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	ok(t, s.SaveConnection(t.Context(), connected(c, shop)))
	addKey(t, s, "leaked")
	restore := snapshot(t, s)
	revokeKeys(t, s)
	restore()
	addKey(t, s, "new")
	if got := recordOf(t, s, shop).Connection.PortalKeys; len(got) != 1 || got[0].ID != "new" {
		t.Errorf("after a key was made, the keys are %+v; want the new one", got)
	}
	restore()
	want := connected(c, shop)
	want.StorefrontToken = "strfnt_another"
	ok(t, s.SaveConnection(t.Context(), want))
	want.PortalKeys = []store.PortalKey{{ID: "new"}}
	sameConnection(t, "after connecting again", recordOf(t, s, shop).Connection, &want)
}

// TestRolledBackDisconnect: a store that was disconnected stays so for every server that has seen it
// gone. A server that starts later cannot know. A merchant who connects again is connected everywhere.
func TestRolledBackDisconnect(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	a, b := open(t, on(many(c, l), server)), open(t, on(many(c, l), server))
	ok(t, a.SaveConnection(ctx, connected(c, shop)))
	recordOf(t, b, shop)
	restore := snapshot(t, a)
	_, err := a.EraseShop(ctx, store.Erasure{Shop: shop})
	ok(t, err)
	if load(t, b, pat).Record != nil {
		t.Fatal("the other server still has the record")
	}
	restore()
	for range 2 {
		for name, s := range map[string]*store.Store{"the one that wrote": a, "the one that read": b} {
			if got := load(t, s, pat).Record; got != nil {
				t.Errorf("%s uses the record of a store that was disconnected", name)
			}
			if got, err := s.Record(ctx, shop); got != nil || err != nil {
				t.Errorf("%s: Record = %v, %v; want none", name, got, err)
			}
			ok(t, s.Update(ctx, shop, func(*store.Record) bool { t.Errorf("%s changes that record", name); return true }))
		}
	}
	if lines := l.lines("level=ERROR", rolledBack); len(lines) != 2 {
		t.Errorf("logged %q; want one line of each server", l.lines())
	}
	recordOf(t, open(t, on(many(c, l), server)), shop)

	ok(t, b.SaveConnection(ctx, connected(c, shop)))
	for name, s := range map[string]*store.Store{"the one that wrote": b, "the other one": a} {
		if got := load(t, s, pat).Record; got == nil {
			t.Errorf("connected again: %s has no record", name)
		}
	}
}

// TestConnectedAnew: a store that connects after it was erased is not taken for an old one, even by a
// server that saw neither, on a clock that is behind.
func TestConnectedAnew(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	ahead, behind, l := newClock(), newClock(), &logged{}
	ahead.advance(20 * time.Second)
	a, b := open(t, on(many(ahead, l), server)), open(t, on(many(behind, l), server))
	ok(t, a.SaveConnection(ctx, connected(ahead, shop)))
	for range 3 {
		_, err := a.EraseShop(ctx, store.Erasure{Shop: shop})
		ok(t, err)
		if load(t, a, pat).Record != nil {
			t.Fatal("erased, and still there")
		}
		behind.advance(time.Minute) // the merchant installs the app and connects again
		ahead.advance(time.Minute)
		ok(t, b.SaveConnection(ctx, connected(behind, shop)))
		recordOf(t, a, shop)
		recordOf(t, b, shop)
	}
	if lines := l.lines(rolledBack); len(lines) != 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// TestRolledBackFile: a real server is replaced by one with its older file, under clicks of two
// servers. All of them see the newest record, and the race detector sees all of it.
func TestRolledBackFile(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	a, b := open(t, on(many(c, l), server)), open(t, on(many(c, l), server))
	ok(t, a.SaveConnection(t.Context(), connected(c, shop)))
	addKey(t, a, "leaked")
	recordOf(t, b, shop)
	ok(t, a.Client().Save(t.Context()).Err()) // the backup: Stop kills, so nothing later is written to it
	revokeKeys(t, a)
	recordOf(t, b, shop)
	server.Stop()
	server.Start()
	eventually(t, "Redis is found again", func() bool {
		c.advance(store.RestFor)
		return a.Load(t.Context(), pat).Err == nil && b.Load(t.Context(), pat).Err == nil
	})
	var clicks sync.WaitGroup
	for i := range 64 {
		clicks.Go(func() {
			s := []*store.Store{a, b}[i%2]
			if n := keysOf(t, s); n != 0 {
				t.Errorf("a click sees %d keys; want none", n)
			}
			if i%8 == 0 {
				ok(t, s.Update(t.Context(), shop, func(r *store.Record) bool { r.Connection.Webhooks.OK = i%16 == 0; return true }))
			}
		})
	}
	clicks.Wait()
	if lines := l.lines(rolledBack); len(lines) == 0 {
		t.Error("nothing was logged; is the file from before?")
	}
	if n := keysOf(t, open(t, on(many(c, l), server))); n != 0 {
		t.Errorf("a new server has %d keys; want none", n)
	}
}

// TestRolledBackAtOnce: simultaneous reads and writes are no rollback, in one server or two.
func TestRolledBackAtOnce(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	a, b := open(t, on(many(c, l), server)), open(t, on(many(c, l), server))
	ok(t, a.SaveConnection(t.Context(), connected(c, shop)))
	var clicks sync.WaitGroup
	for i := range 8 {
		s := []*store.Store{a, b}[i%2]
		clicks.Go(func() {
			for range 50 {
				recordOf(t, s, shop)
			}
		})
		clicks.Go(func() {
			for range 5 {
				ok(t, s.Update(t.Context(), shop, func(r *store.Record) bool { r.Connection.Webhooks.OK = !r.Connection.Webhooks.OK; return true }))
			}
		})
	}
	clicks.Wait()
	if lines := l.lines(rolledBack); len(lines) != 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// TestOneStoreRolledBack: the one store goes on with its newest record, and with nothing cached.
// After it lost everything, it makes a new record, and does not go back to the lost one either.
func TestOneStoreRolledBack(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	a, b := open(t, on(options(c, l), server)), open(t, on(options(c, l), server))
	save(t, a, pat, everything(c))
	is(t, "saved", b, pat, known)
	restore := snapshot(t, a)
	ok(t, a.WebhookVerified(ctx, shop, "secret"))
	recordOf(t, b, shop)
	restore()
	is(t, "rolled back", a, pat, recharge.Customer{})
	if !a.WebhooksProven(recordOf(t, a, shop)) || recordOf(t, a, shop).Generation() != recordOf(t, b, shop).Generation() {
		t.Error("after the rollback the servers do not share the newest record")
	}
	ok(t, a.Client().FlushAll(ctx).Err())
	is(t, "lost", a, pat, recharge.Customer{})
	restore()
	is(t, "the lost record is back", a, pat, recharge.Customer{})
	is(t, "the lost record is back", b, pat, recharge.Customer{})
	save(t, a, pat, everything(c))
	is(t, "saved again", b, pat, known)
}

// TestRecordsWithoutRevision: a record from before there were revisions is used until a newer one
// was seen. rekey gives it one.
func TestRecordsWithoutRevision(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	o := on(many(c, l), server)
	s := open(t, o)
	ok(t, s.SaveConnection(t.Context(), connected(c, shop)))
	ok(t, s.WithoutRevision(t.Context(), shop))
	old := s.Client().Get(t.Context(), store.RecordKey(shop)).Val()
	a := open(t, o)
	recordOf(t, a, shop)
	o.Keys = [][]byte{key(2), key(1)}
	both := open(t, o)
	if n, err := both.Rekey(t.Context()); n != 1 || err != nil {
		t.Fatalf("Rekey = %d, %v; want 1", n, err)
	}
	now := recordOf(t, both, shop)
	ok(t, s.Client().Set(t.Context(), store.RecordKey(shop), old, 0).Err())
	recordOf(t, a, shop) // which cannot open the newer one
	if got := recordOf(t, both, shop); got.Generation() == now.Generation() || string(got.DataKey()) != string(now.DataKey()) {
		t.Error("a record without a revision was used after a newer one; want that one, in a new epoch")
	}
}

// TestErasedInABackup: erasing a store does not reach a backup from before. A server that starts after the backup was
// restored can read all of it, with the ENCRYPTION_KEY of that time and not without. docs/privacy.md says so.
func TestErasedInABackup(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	with := func(keys ...[]byte) *store.Store {
		o := on(many(c, &logged{}), server)
		o.Keys = keys
		return open(t, o)
	}
	s := with(key(1))
	ok(t, s.SaveConnection(ctx, connected(c, shop)))
	save(t, s, pat, everything(c))
	restore := snapshot(t, s)
	_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
	ok(t, err)
	s.Settle()
	if got := load(t, with(key(1)), pat).Record; got != nil {
		t.Error("erased, and a server that starts now has the record")
	}
	restore()
	is(t, "restored, with the old key", with(key(1)), pat, known)
	if err := with(key(2)).Load(ctx, pat).Err; !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("restored, Load without the old key = %v; want ErrUnreadable", err)
	}
}

package store_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// holding are the keys whose values hold a text.
func holding(dump map[string]string, text string) []string {
	maps.DeleteFunc(dump, func(_, value string) bool { return !strings.Contains(value, text) })
	return keys(dump)
}

// idOf is how all values begin that an encryption key has sealed.
func idOf(t *testing.T, with []byte) string {
	t.Helper()
	o := options(newClock(), &logged{})
	o.Keys = [][]byte{with}
	s := open(t, o)
	s.RememberNotSubscriber(t.Context(), pat)
	for _, value := range dump(t, s) {
		return value[:5]
	}
	t.Fatal("nothing was written")
	return ""
}

// TestRekey: a store with only the new key finds all, and nothing of the old is
// left in Redis.
func TestRekey(t *testing.T) {
	oldID := idOf(t, key(1))
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		disk := &shared{t: t, open: func(_ testing.TB, o store.Options) *store.Store {
			o.Now, o.Connections = c.Now, true
			return open(o)
		}}
		s := disk.with(key(1))
		everything(t, s, pat)
		s.RememberNotSubscriber(ctx, other)
		odd := store.Shopper{Shop: pat.Shop, Customer: "007"}
		s.RememberCustomer(ctx, odd, recharge.Customer{ID: 7, Hash: "7", Active: 1})
		s.RememberCustomer(ctx, patsTwin, known) // of a shop that is not connected
		given := store.Shopper{Shop: "given-shop.myshopify.com", Customer: "8"}
		s.RememberCustomer(ctx, given, known)
		order := store.Erasure{Shop: "gone-shop.myshopify.com", At: c.now}
		ok(t, s.OrderErasure(ctx, order))
		_, err := s.MarkSeen(ctx, "webhook")
		ok(t, err)

		s = disk.with(key(2), key(1))
		fresh := store.Shopper{Shop: pat.Shop, Customer: "9"}
		s.RememberCustomer(ctx, fresh, known) // under the new key: stays
		done, err := s.Rekey(ctx, given.Shop)
		ok(t, err)
		// pat, other and given's; the erasure and the sweep. Not 007, whom no number
		// names, nor patsTwin, nor the hour and the troubles.
		if want := (store.Rekeyed{Connections: 1, Customers: 3, Orders: 2, Dropped: 4}); done != want {
			t.Errorf("Rekey = %+v; want %+v", done, want)
		}
		left := dump(t, s)
		if found := holding(left, oldID); len(found) > 0 {
			t.Errorf("under the old key there is still %q", found)
		}
		if again, err := s.Rekey(ctx, given.Shop); err != nil || again != (store.Rekeyed{}) {
			t.Errorf("Rekey again = %+v, %v; want nothing to do", again, err)
		}

		s = disk.with(key(2))
		want := connected(pat.Shop)
		wantConnection(t, s, pat.Shop, &want)
		memory := s.Recall(ctx, pat, schedule)
		if memory.Customer != known || memory.Session.Token != token || !memory.Fresh {
			t.Errorf("Recall = %+v; want customer and session", memory)
		}
		if !s.Recall(ctx, other, schedule).NotSubscriber || s.Recall(ctx, given, schedule).Customer != known || s.Recall(ctx, fresh, schedule).Customer != known {
			t.Error("a shopper is forgotten")
		}
		if at, err := s.ErasedAt(ctx, order.Shop); err != nil || !at.Equal(order.At) {
			t.Errorf("ErasedAt = %v, %v; want %v", at, err, order.At)
		}
		if seen, err := s.Seen(ctx, "webhook"); err != nil || !seen {
			t.Errorf("Seen = %v, %v; want true", seen, err)
		}
		// What was noted before still finds whom it was about.
		ok(t, s.OrderErasure(ctx, store.Erasure{Shop: pat.Shop, Connection: c.now}))
		s.RememberCustomer(ctx, pat, recharge.Customer{ID: 5, Hash: "old"})
		ok(t, s.Work(ctx))
		if got := s.Recall(ctx, pat, schedule); got != (store.Memory{}) {
			t.Errorf("Recall after Work = %+v; want nothing", got)
		}
	})
}

// TestRekeyLifetimes: what is moved lives no longer than it would have.
func TestRekeyLifetimes(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	o := on(several(newClock(), &logged{}), server)
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	s := open(t, o)
	remember(ctx, before, pat)
	before.RememberNotSubscriber(ctx, other)
	_, err := before.MarkSeen(ctx, "webhook")
	ok(t, err)
	ok(t, before.SaveConnection(ctx, connected(pat.Shop)))
	lives := func() []time.Duration {
		var all []time.Duration
		for key := range server.Dump() {
			all = append(all, s.Client().PTTL(ctx, key).Val())
		}
		slices.Sort(all)
		return all
	}
	want := lives()
	_, err = s.Rekey(ctx)
	ok(t, err)
	got := lives()
	if len(got) != len(want) || len(want) != 5 {
		t.Fatalf("lifetimes = %v; want %v", got, want)
	}
	for i := range got {
		if got[i] > want[i] || got[i] < want[i]-20*time.Second {
			t.Errorf("lifetimes = %v; want %v", got, want)
		}
	}
}

// TestRekeyAfterDeath: one that died in between has left a connection twice; the
// newer holds. One that was dropped is not there again.
func TestRekeyAfterDeath(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	o := on(several(newClock(), &logged{}), server)
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	s := open(t, o)
	older, newer := connected(pat.Shop), connected(pat.Shop)
	older.APIToken, newer.APIToken = "older", "newer"
	ok(t, s.SaveConnection(ctx, newer))
	ok(t, before.SaveConnection(ctx, older))
	ok(t, s.Client().Set(ctx, "ms1:rekey", "", time.Minute).Err())
	if _, err := s.Rekey(ctx); err == nil {
		t.Error("Rekey while another is at it = nil; want an error")
	}
	ok(t, s.Client().Del(ctx, "ms1:rekey").Err())
	_, err := s.Rekey(ctx)
	ok(t, err)
	wantConnection(t, s, pat.Shop, &newer)
	if got := server.Dump(); len(got) != 1 {
		t.Errorf("there is %q; want one connection", keys(got))
	}
}

// beforeWatch is called before each WATCH, with which a write that must not be
// lost begins.
type beforeWatch func()

func (before beforeWatch) DialHook(next redis.DialHook) redis.DialHook { return next }

func (before beforeWatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (before beforeWatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		if command.Name() == "watch" {
			before()
		}
		return next(ctx, command)
	}
}

// TestRekeyMeetsServers: a change and a drop that come while a connection moves
// are neither lost nor undone.
func TestRekeyMeetsServers(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	o := on(several(newClock(), &logged{}), server)
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	s, another := open(t, o), open(t, o)
	twin := connected(patsTwin.Shop)
	for _, meet := range []struct {
		name string
		do   func() error
		want func(store.Connection) *store.Connection
	}{
		{"revised", func() error {
			return another.ReviseConnection(ctx, pat.Shop, func(c *store.Connection) bool { c.WebhookKey = "x"; return true })
		}, func(c store.Connection) *store.Connection { c.WebhookKey = "x"; return &c }},
		{"dropped", func() error { return another.DropConnection(ctx, pat.Shop) }, func(store.Connection) *store.Connection { return nil }},
	} {
		for at := range 4 { // of the writes of two moves
			t.Run(meet.name, func(t *testing.T) {
				ok(t, s.DropConnection(ctx, patsTwin.Shop))
				ok(t, before.SaveConnection(ctx, connected(pat.Shop)))
				ok(t, before.SaveConnection(ctx, twin))
				trips := 0
				s := open(t, o)
				s.Client().AddHook(beforeWatch(func() {
					if trips++; trips == at+1 {
						ok(t, meet.do())
					}
				}))
				_, err := s.Rekey(ctx)
				ok(t, err)
				if trips <= at {
					t.Fatalf("a move is %d steps; want more than %d", trips, at)
				}
				want := connected(pat.Shop)
				wantConnection(t, s, pat.Shop, meet.want(want))
				wantConnection(t, s, patsTwin.Shop, &twin)
				ok(t, s.DropConnection(ctx, pat.Shop))
			})
		}
	}
}

package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// byRecharge is pat, looked up by Recharge's id.
var byRecharge = store.Shopper{Shop: shop, RechargeID: known.ID}

// TestSaveRefusesWhatIsOver: an event after Recharge was asked overrides what Recharge said.
func TestSaveRefusesWhatIsOver(t *testing.T) {
	ctx := context.Background()
	tests := []struct {
		name    string
		happens func(*testing.T, *clock, *store.Store)
		who     store.Shopper
		refused bool
		forever bool // also for later lookups with the old record
	}{
		{"nothing happens", func(*testing.T, *clock, *store.Store) {}, pat, false, false},
		{"a webhook about the record", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
		}, pat, true, false},
		{"a webhook about the record that names another", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: kim.Customer}))
		}, pat, true, false},
		{"a webhook about another record that names the shopper", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: 5, Customer: pat.Customer}))
		}, pat, true, false},
		{"a webhook about others", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: 5, Customer: kim.Customer}))
		}, pat, false, false},
		{"a webhook about the record, which is asked for by its id", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID}))
		}, byRecharge, true, false},
		{"a webhook about the shopper, who is asked for by Recharge's id", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: 5, Customer: pat.Customer}))
		}, byRecharge, true, false},
		{"the shopper is redacted", func(t *testing.T, _ *clock, s *store.Store) { ok(t, s.Redact(ctx, shop, pat.Customer)) }, pat, true, false},
		{"the shopper is redacted, who is asked for by Recharge's id", func(t *testing.T, _ *clock, s *store.Store) {
			ok(t, s.Redact(ctx, shop, pat.Customer))
		}, byRecharge, true, false},
		{"the shopper is forgotten", func(t *testing.T, _ *clock, s *store.Store) { ok(t, s.Forget(ctx, recordOf(t, s, shop), pat)) }, pat, true, false},
		{"the shop is erased", func(t *testing.T, _ *clock, s *store.Store) {
			_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
			ok(t, err)
		}, pat, true, true},
		{"the shop is erased and connected again", func(t *testing.T, c *clock, s *store.Store) {
			_, err := s.EraseShop(ctx, store.Erasure{Shop: shop})
			ok(t, err)
			ok(t, s.SaveConnection(ctx, connected(c, shop)))
		}, pat, true, true},
		{"the merchant gave another token", func(t *testing.T, c *clock, s *store.Store) {
			other := connected(c, shop)
			other.APIToken = rand.Text()
			ok(t, s.SaveConnection(ctx, other))
		}, pat, true, true},
		{"the merchant saved the same token", func(t *testing.T, c *clock, s *store.Store) {
			ok(t, s.SaveConnection(ctx, connected(c, shop)))
		}, pat, false, false},
		{"another encryption key", func(t *testing.T, _ *clock, s *store.Store) {
			_, err := s.Rekey(ctx)
			ok(t, err)
		}, pat, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			a, b := two(t, many(c, &logged{}))
			ok(t, a.SaveConnection(ctx, connected(c, shop)))
			for _, cachedBefore := range []bool{false, true} {
				if load(t, a, pat).Record == nil {
					break
				}
				if cachedBefore {
					save(t, a, tt.who, lookedUp(c, pat, known))
				}
				loaded := load(t, a, tt.who)
				lock := a.Lock(loaded, tt.who)
				at := take(t, lock).At
				tt.happens(t, c, b)
				value := everything(c)
				err := a.Save(ctx, loaded.Record, tt.who, &value, at, lock)
				if errors.Is(err, store.ErrOutdated) != tt.refused || err != nil && !tt.refused {
					t.Errorf("cached before: %v: Save = %v; want ErrOutdated: %v", cachedBefore, err, tt.refused)
				}
				if got := a.Load(ctx, tt.who).Cached; (got.Customer == known) == tt.refused {
					t.Errorf("cached before: %v: afterwards, %+v is cached; want it refused: %v", cachedBefore, got.Customer, tt.refused)
				}
				// The lock is released in any case.
				if n := a.Client().Exists(ctx, loaded.Record.LockKey(string(pat.Customer))).Val(); n != 0 {
					t.Error("the lock is still there")
				}
				// A later lookup includes the event.
				err = a.Save(ctx, loaded.Record, tt.who, &value, clockOf(t, a), nil)
				if errors.Is(err, store.ErrOutdated) != tt.forever {
					t.Errorf("Save of a later lookup = %v; want ErrOutdated: %v", err, tt.forever)
				}
			}
		})
	}
}

// TestSaveOfUnknownTime: if nobody knows when Recharge was asked, any event may have come later.
func TestSaveOfUnknownTime(t *testing.T) {
	c := newClock()
	s := open(t, options(c, &logged{}))
	value := lookedUp(c, pat, known)
	r := recordOf(t, s, shop)
	ok(t, s.Save(t.Context(), r, pat, &value, 0, nil))
	is(t, "nothing happened", s, pat, known)
	ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID}))
	if err := s.Save(t.Context(), r, pat, &value, 0, nil); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save = %v; want ErrOutdated", err)
	}
}

// TestSaveOfLongAgo: a process that was suspended for longer than a tombstone lasts does not bring
// back what was forgotten meanwhile.
func TestSaveOfLongAgo(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c := newClock()
		s := open(options(c, &logged{}))
		task := importing(t, s, shop)
		r := recordOf(t, s, shop)
		now := clockOf(t, s)
		value := lookedUp(c, pat, known)
		const tooLong = store.TombstoneFor/2 + time.Second
		long := now - tooLong.Microseconds()
		if err := s.Save(t.Context(), r, pat, &value, long, nil); !errors.Is(err, store.ErrOutdated) {
			t.Errorf("Save of a lookup %v ago = %v; want ErrOutdated", tooLong, err)
		}
		if err := s.SaveImported(t.Context(), task, []recharge.Record{record(pat, known)}, long); !errors.Is(err, store.ErrOutdated) {
			t.Errorf("SaveImported of a page requested that long ago = %v; want ErrOutdated, so that it is read again", err)
		}
		ok(t, second(s.SaveIfUnchanged(t.Context(), load(t, s, pat), pat, value, long, nil)))
		is(t, "of long ago", s, pat, recharge.Customer{})
		ok(t, s.Save(t.Context(), r, pat, &value, now-(30*time.Second).Microseconds(), nil))
		is(t, "of half a minute ago", s, pat, known)
	})
}

// TestSaveNeedsARecord: nothing can be sealed for a shop without a record.
func TestSaveNeedsARecord(t *testing.T) {
	s := open(t, many(newClock(), &logged{}))
	if err := s.Save(t.Context(), nil, pat, &store.Cached{Customer: known}, 0, nil); err == nil {
		t.Error("Save without a record = nil; want an error")
	}
}

// TestSaveReleases: only its holder releases a lock.
func TestSaveReleases(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	a, b := two(t, options(c, &logged{}))
	loaded := load(t, a, pat)
	place := loaded.Record.LockKey(string(pat.Customer))
	held := func() bool { return b.Client().Exists(ctx, place).Val() == 1 }

	first := a.Lock(loaded, pat)
	take(t, first)
	ok(t, a.Save(ctx, loaded.Record, pat, nil, 0, first)) // a click that learned nothing
	if held() {
		t.Error("nothing learned: the lock is still there")
	}
	ok(t, a.Save(ctx, loaded.Record, pat, nil, 0, a.Lock(loaded, pat))) // this lock was never taken

	take(t, first)
	ok(t, b.Client().Del(ctx, place).Err()) // as if the first one was suspended and its lock expired
	second := b.Lock(load(t, b, pat), pat)
	take(t, second)
	ok(t, a.Save(ctx, loaded.Record, pat, nil, 0, first))
	if !held() {
		t.Error("the second one's lock was released by the first")
	}
	ok(t, a.Save(ctx, loaded.Record, pat, nil, 0, a.Lock(loaded, pat)))
	if !held() {
		t.Error("the second one's lock was released by a lock that was never taken")
	}
	value := lookedUp(c, pat, known)
	ok(t, b.Save(ctx, loaded.Record, pat, &value, clockOf(t, b), second))
	if held() {
		t.Error("something learned: the lock is still there")
	}
}

// TestOneRecordOneShopper: the index is one to one, whichever shopper is cached by which record.
func TestOneRecordOneShopper(t *testing.T) {
	other := recharge.Customer{ID: 70100201, Hash: "2f2e3d4c5b6a7988", Active: 1}
	nobody := recharge.Customer{}
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		c := newClock()
		s := open(options(c, &logged{}))
		index := func(when string, want int) {
			t.Helper()
			n := 0
			for key := range dump(t, s) {
				if strings.Contains(key, ":r:") {
					n += int(s.Client().HLen(t.Context(), key).Val())
				}
			}
			if n != want {
				t.Errorf("%s: the index has %d entries; want %d", when, n, want)
			}
		}
		save(t, s, pat, lookedUp(c, pat, known))
		save(t, s, kim, lookedUp(c, kim, known))
		is(t, "moved", s, pat, nobody)
		is(t, "moved", s, kim, known)
		index("moved", 1)
		save(t, s, pat, lookedUp(c, pat, known))
		is(t, "moved back", s, pat, known)
		is(t, "moved back", s, kim, nobody)
		save(t, s, pat, lookedUp(c, pat, other))
		index("another record", 1)
		ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID}))
		is(t, "a webhook about the record of before", s, pat, other)
		save(t, s, pat, store.Cached{NotSubscriber: true, LookedUp: c.Now()})
		index("no subscriber any more", 0)
		save(t, s, pat, lookedUp(c, pat, known))

		// Recharge's id has a value of its own.
		save(t, s, byRecharge, lookedUp(c, pat, known))
		is(t, "both", s, pat, known)
		is(t, "both", s, byRecharge, known)
		index("both", 2)
		second := store.Shopper{Shop: shop, RechargeID: other.ID} // another record of the same shopper
		save(t, s, second, lookedUp(c, pat, other))
		is(t, "two records, the first", s, byRecharge, nobody)
		is(t, "two records, the second", s, second, other)
		save(t, s, second, store.Cached{Customer: other, LookedUp: c.Now()})
		index("of no Shopify id", 1)
	})
}

// TestSaveOnAFullRedis: a save is all or nothing, since no webhook would find a shopper who is
// missing from the index.
func TestSaveOnAFullRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	client := direct(t, server)
	c := newClock()
	s := open(t, on(options(c, &logged{}), server))
	moved := recharge.Customer{ID: 70100201, Hash: "2f2e3d4c5b6a7988", Active: 1}
	save(t, s, pat, lookedUp(c, pat, known))
	save(t, s, kim, lookedUp(c, kim, moved))
	r, at := recordOf(t, s, shop), clockOf(t, s)
	ok(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	for _, who := range []store.Shopper{pat, nth(shop, 1)} {
		c.advance(store.RestFor)
		for _, customer := range []recharge.Customer{known, moved} {
			value := lookedUp(c, who, customer)
			_ = s.Save(ctx, r, who, &value, at, nil)
		}
	}
	change := s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: "5"})
	if pats := load(t, s, pat).Cached; change == nil && pats.Customer == known {
		t.Errorf("a full Redis: a webhook was applied, but its shopper is still cached by %+v", pats.Customer)
	}
	ok(t, client.ConfigSet(ctx, "maxmemory", "0").Err())
	for _, id := range []int64{known.ID, moved.ID} {
		ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: id}))
	}
	for _, who := range []store.Shopper{pat, kim, nth(shop, 1)} {
		is(t, "after webhooks about all records", s, who, recharge.Customer{})
	}
}

// cutter is a proxy between a store and its Redis. Once armed, it passes the next command to Redis,
// calls then, and cuts the connection instead of returning the answer.
type cutter struct {
	address string
	then    atomic.Pointer[func()]
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	c := &cutter{address: listener.Addr().String()}
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		open    []net.Conn
	)
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				return
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			serving.Go(func() { _, _ = io.Copy(server, client); server.Close() })
			serving.Go(func() { c.answers(client, server) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, connection := range open {
			connection.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return c
}

func (c *cutter) answers(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if then := c.then.Swap(nil); then != nil {
			(*then)()
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (c *cutter) arm(then func()) { c.then.Store(&then) }

// TestLostAnswers: go-redis repeats a command whose answer was lost, though Redis has run it.
// Changes in between must count.
func TestLostAnswers(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c := newClock()
	other := open(t, on(options(c, &logged{}), server))
	cut := newCutter(t, server.Addr)
	o := options(c, &logged{})
	o.Redis = &redis.UniversalOptions{Addrs: []string{cut.address}}
	s := open(t, o)
	moves := func() {
		ok(t, other.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID, Customer: kim.Customer}))
	}

	save(t, s, pat, lookedUp(c, pat, known))
	loaded := load(t, s, pat)
	lock := s.Lock(loaded, pat)
	cut.arm(moves)
	if turn, err := lock.Take(ctx, bucket(), oneCall, 0, 0); !errors.Is(err, recharge.ErrChanged) {
		t.Errorf("Take = %+v, %v; want ErrChanged: the record has moved since it was loaded", turn, err)
	}

	save(t, s, pat, lookedUp(c, pat, known))
	loaded = load(t, s, pat)
	lock = s.Lock(loaded, pat)
	at := take(t, lock).At
	cut.arm(moves)
	value := everything(c)
	if err := s.Save(ctx, loaded.Record, pat, &value, at, lock); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save = %v; want ErrOutdated: the record has moved since it was saved", err)
	}
	is(t, "moved while it was saved", s, pat, recharge.Customer{})

	save(t, s, pat, lookedUp(c, pat, known))
	cut.arm(func() {})
	moves()
	is(t, "a webhook whose answer was lost", s, pat, recharge.Customer{})
}

// TestLock: one lock holder asks for a shopper; the others wait, and load.
func TestLock(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(options(c, &logged{}))
		loaded := load(t, s, pat)
		won, lost := s.Lock(loaded, pat), s.Lock(loaded, pat)
		take(t, won)
		take(t, won) // more calls for the same lookup
		for range 3 {
			if turn, err := lost.Take(ctx, bucket(), recharge.Ask{recharge.High: 1, recharge.Normal: 2}, 0, 0); !errors.Is(err, recharge.ErrHeld) {
				t.Fatalf("Take of a held lock = %+v, %v; want ErrHeld", turn, err)
			}
		}
		take(t, s.Lock(load(t, s, kim), kim)) // another shopper
		for name, lock := range map[string]*store.Lock{"the holder": won, "another": lost} {
			turn, err := lock.Take(ctx, bucket(), recharge.Ask{}, 0, 0) // only reports
			if err != nil || int(turn.Level+0.5) != 3 {
				t.Errorf("%s: Take of nothing = %+v, %v; want 3 calls in the bucket, none for the click that lost", name, turn, err)
			}
		}
		waited := make(chan error, 1)
		go func() { waited <- lost.Wait(context.Background()) }()
		select {
		case err := <-waited:
			t.Fatalf("Wait = %v while it is held", err)
		case <-time.After(50 * time.Millisecond):
		}
		value := lookedUp(c, pat, known)
		ok(t, s.Save(ctx, loaded.Record, pat, &value, clockOf(t, s), won))
		ok(t, <-waited)
		is(t, "waited", s, pat, known)

		// The value that was loaded before has changed.
		if turn, err := lost.Take(ctx, bucket(), oneCall, 0, 0); !errors.Is(err, recharge.ErrChanged) {
			t.Errorf("Take after a change = %+v, %v; want ErrChanged", turn, err)
		}
		turn, err := lost.Take(ctx, bucket(), recharge.Ask{}, 0, 0)
		if err != nil || int(turn.Level+0.5) != 3 {
			t.Errorf("Take of nothing = %+v, %v; want 3 calls in the bucket, none for the refused Take", turn, err)
		}
		take(t, s.Lock(load(t, s, pat), pat))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := lost.Wait(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait of a click that has ended = %v; want its error", err)
		}
	})
}

// TestLockNoticesEveryChange: saved, forgotten, redacted, or expired.
func TestLockNoticesEveryChange(t *testing.T) {
	ctx := t.Context()
	c := newClock()
	s := open(t, options(c, &logged{}))
	task := importing(t, s, shop)
	for name, change := range map[string]func(){
		"saved again":        func() { save(t, s, pat, lookedUp(c, pat, known)) },
		"no subscriber":      func() { save(t, s, pat, store.Cached{NotSubscriber: true, LookedUp: c.Now()}) },
		"forgotten":          func() { ok(t, s.Forget(ctx, recordOf(t, s, shop), pat)) },
		"a webhook":          func() { ok(t, s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID})) },
		"redacted":           func() { ok(t, s.Redact(ctx, shop, pat.Customer)) },
		"moved to another":   func() { save(t, s, kim, lookedUp(c, kim, known)) },
		"imported":           func() { task.Number++; imports(t, s, task, record(pat, known)) },
		"expired in Redis":   func() { ok(t, s.Client().Del(ctx, recordOf(t, s, shop).CachedKey(string(pat.Customer))).Err()) },
		"a record never had": func() { save(t, s, pat, lookedUp(c, pat, recharge.Customer{ID: 9})) },
	} {
		save(t, s, pat, lookedUp(c, pat, known))
		lock := s.Lock(load(t, s, pat), pat)
		change()
		if _, err := lock.Take(ctx, bucket(), oneCall, 0, 0); !errors.Is(err, recharge.ErrChanged) {
			t.Errorf("%s: Take = %v; want ErrChanged", name, err)
		}
	}
	// Nothing was cached, and still nothing is.
	ok(t, s.Forget(ctx, recordOf(t, s, shop), pat))
	take(t, s.Lock(load(t, s, pat), pat))
}

// TestLockWithoutARecord: it takes calls, and locks nothing.
func TestLockWithoutARecord(t *testing.T) {
	s := open(t, many(newClock(), &logged{}))
	loaded := load(t, s, pat)
	for range 2 {
		lock := s.Lock(loaded, pat)
		take(t, lock)
		lock.Renew(t.Context())()
	}
	if got := kinds(dump(t, s)); got["l"] != 0 || got["b"] != 1 {
		t.Errorf("keys = %v; want the bucket alone", got)
	}
}

// TestLockIsNotTakenWithoutCalls: a click that may not ask must not keep others waiting.
func TestLockIsNotTakenWithoutCalls(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	loaded := load(t, s, pat)
	turn, err := s.Lock(loaded, pat).Take(t.Context(), bucket(), oneCall, 0, 1000)
	if err != nil || !turn.Refused() {
		t.Fatalf("Take with a full bucket = %+v, %v; want it refused", turn, err)
	}
	if _, err = s.Lock(loaded, pat).Take(t.Context(), bucket(), oneCall, 0, 0); errors.Is(err, recharge.ErrHeld) {
		t.Error("the lock is taken, though no call was granted")
	}
}

// TestLockOfTheDead: others wait until a crashed instance's lock expires, and no longer. They wait
// for a working instance as long as it renews its lock.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	loaded := load(t, s, pat)
	crashed, next := s.Lock(loaded, pat), s.Lock(loaded, pat)
	take(t, crashed)
	start := time.Now()
	ok(t, next.Wait(t.Context()))
	if took := time.Since(start); took < store.LockFor-500*time.Millisecond || took > store.LockFor+3*time.Second { // a busy machine may take longer
		t.Errorf("waited %v for a crashed instance's lock; want %v", took, store.LockFor)
	}
	take(t, next)
	stop := next.Renew(t.Context())
	time.Sleep(store.LockFor + 500*time.Millisecond)
	if _, err := crashed.Take(t.Context(), bucket(), oneCall, 0, 0); !errors.Is(err, recharge.ErrHeld) {
		t.Errorf("a lock that is renewed, after %v: Take = %v; want ErrHeld", store.LockFor, err)
	}
	ok(t, s.Save(t.Context(), loaded.Record, pat, nil, 0, next))
	time.Sleep(store.LockFor / 3) // a renewal does not restore a released lock
	if n := s.Client().Exists(t.Context(), loaded.Record.LockKey(string(pat.Customer))).Val(); n != 0 {
		t.Error("a lock that was released is there again")
	}
	stop()
	stop()
}

// TestNonces: a one-time link is used once, and once more by the same browser within ten seconds.
func TestNonces(t *testing.T) {
	onEach(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		c := newClock()
		s := open(many(c, &logged{}))
		ok(t, s.SaveConnection(ctx, connected(c, shop)))
		use := func(when, nonce, browser string, want bool) {
			t.Helper()
			if got, err := s.UseNonce(ctx, shop, nonce, browser, c.Now().Add(time.Hour)); got != want || err != nil {
				t.Errorf("%s: UseNonce = %v, %v; want %v", when, got, err, want)
			}
		}
		use("new", "a", "browser", true)
		use("used by another", "a", "another", false)
		use("another", "b", "browser", true)
		c.advance(9 * time.Second)
		use("a double click", "a", "browser", true)
		use("a double click, by another", "a", "another", false)
		c.advance(2 * time.Second)
		use("ten seconds after the first", "a", "browser", false)
		c.advance(-22 * time.Second)
		use("ten seconds before the first, by a clock that was put back", "a", "browser", false)
		c.advance(11 * time.Second)
		use("a clock that is behind", "b", "browser", true)
		for key := range dump(t, s) {
			if life := s.Client().PTTL(ctx, key).Val(); strings.Contains(key, ":n:") && (life <= time.Hour || life > time.Hour+time.Minute) {
				t.Errorf("a used link is marked for %v; want as long as it is valid, and a minute", life)
			}
		}
		ok(t, s.Client().Set(ctx, store.NonceKey(shop, "c"), "1", time.Hour).Err())
		use("marked by an earlier version", "c", "browser", false)
		if first, err := s.UseNonce(ctx, shop2, "a", "another", c.Now().Add(-time.Hour)); !first || err != nil {
			t.Errorf("another shop's: UseNonce = %v, %v; want true", first, err)
		}
		var (
			used  sync.WaitGroup
			first atomic.Int64
		)
		for i := range 8 {
			used.Go(func() {
				if is, err := s.UseNonce(ctx, shop, "at once", "browser"+strconv.Itoa(i), c.Now().Add(time.Hour)); err == nil && is {
					first.Add(1)
				}
			})
		}
		used.Wait()
		if first.Load() != 1 {
			t.Errorf("%d of 8 were the first; want one", first.Load())
		}
	})
}

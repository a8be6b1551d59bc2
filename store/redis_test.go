package store_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// saves is a click that saves a value.
func saves(ctx context.Context, s *store.Store, r *store.Record, c *clock) error {
	value := everything(c)
	return s.Save(ctx, r, pat, &value, 0, nil)
}

// TestRedisGone: without Redis a click is slower, not wrong, and the log says so once, not for
// every click.
func TestRedisGone(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wantLines := func(when string, gone, back int) {
		t.Helper()
		for _, tt := range []struct {
			parts []string
			want  int
		}{
			{[]string{"level=ERROR", "cannot reach Redis; clicks go on without it"}, gone},
			{[]string{"level=INFO", "can reach Redis again"}, back},
			{nil, gone + back},
		} {
			if got := len(l.lines(tt.parts...)); got != tt.want {
				t.Fatalf("%s: %d lines with %q; want %d. Logged: %q", when, got, tt.parts, tt.want, l.lines())
			}
		}
	}
	save(t, s, pat, everything(c))
	r := recordOf(t, s, shop)
	clicks := func() {
		t.Helper()
		for range 20 {
			if got := s.Load(ctx, pat); got.Err == nil || got.Record != r || got.Cached != (store.Cached{}) {
				t.Fatalf("Load without Redis = %+v; want the record that it knows, and an error", got)
			}
			if err := saves(ctx, s, r, c); err == nil {
				t.Fatal("Save without Redis = nil")
			}
			if _, err := s.Lock(store.Loaded{Record: r}, pat).Take(ctx, bucket(), oneCall, 0, 0); err == nil {
				t.Fatal("Take without Redis = nil")
			}
		}
	}
	wantLines("before", 0, 0)

	server.Stop()
	start := time.Now()
	clicks()
	wantLines("after it went", 1, 0)
	if s.Reachable() {
		t.Error("it is reachable")
	}
	for range 3 {
		c.advance(store.RestFor) // one click tries again, and fails
		clicks()
	}
	wantLines("tried again in vain", 1, 0)
	// These are a few attempts on a port where nobody listens. A busy machine may take long for
	// them, but not as long as any timeout would.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("clicks without Redis took %v; want almost nothing", took)
	}

	server.Start()
	clicks() // no click tries yet
	wantLines("back, not yet tried", 1, 0)
	eventually(t, "it is found again", func() bool { // go-redis tries once a second
		c.advance(store.RestFor)
		return s.Load(ctx, pat).Err == nil
	})
	is(t, "it is empty", s, pat, recharge.Customer{})
	wantLines("after it came back", 1, 1)
	if !s.Reachable() {
		t.Error("it is not reachable")
	}
	save(t, s, pat, everything(c))
	is(t, "saved again", s, pat, known)
	wantLines("after", 1, 1)
	for _, secret := range []string{string(pat.Customer), known.Hash, token, "00112233445566778899aabbccddeeff"} {
		if lines := l.lines(secret); len(lines) > 0 {
			t.Errorf("logged %q, which holds %q", lines, secret)
		}
	}
}

// TestRedisGoneAtTheStart: a server starts without Redis, and finds it later.
func TestRedisGoneAtTheStart(t *testing.T) {
	server := storetest.Redis(t)
	server.Stop()
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	if got := s.Load(t.Context(), pat); got.Err == nil || got.Record != nil {
		t.Errorf("Load = %+v; want an error", got)
	}
	server.Start()
	eventually(t, "Redis is found", func() bool {
		c.advance(store.RestFor)
		return s.Load(t.Context(), pat).Err == nil
	})
	save(t, s, pat, everything(c))
	is(t, "Redis being there", s, pat, known)
	if got := len(l.lines()); got != 2 {
		t.Errorf("logged %q; want that it was gone, and that it is back", l.lines())
	}
}

// TestRedisFull: a Redis that takes no more writes is still read.
func TestRedisFull(t *testing.T) {
	server := storetest.Redis(t)
	client := direct(t, server)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	save(t, s, pat, lookedUp(c, pat, known))
	r := recordOf(t, s, shop)
	ok(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	for range 20 {
		c.advance(store.RestFor)
		if err := saves(t.Context(), s, r, c); !redis.HasErrorPrefix(err, "OOM") && !strings.Contains(err.Error(), "OOM") {
			t.Fatalf("Save = %v; want Redis' error", err)
		}
		is(t, "full", s, pat, known)
	}
	if got := len(l.lines("level=ERROR", "cannot write to Redis")); got != 1 || len(l.lines()) != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
	if !s.Reachable() {
		t.Error("a Redis that answers is not reachable")
	}
	ok(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	c.advance(store.RestFor)
	ok(t, saves(t.Context(), s, r, c))
	if got := len(l.lines("level=INFO", "can write to Redis again")); got != 1 || len(l.lines()) != 2 {
		t.Errorf("logged %q; want that it is back", l.lines())
	}
}

// TestRedisRestarted: a Redis that is back before anyone missed it is not logged, though all pooled
// connections are dead.
func TestRedisRestarted(t *testing.T) {
	server := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	for range 3 {
		var clicks sync.WaitGroup
		for range 8 { // several connections
			clicks.Go(func() { save(t, s, pat, everything(c)) })
		}
		clicks.Wait()
		server.Stop()
		server.Start()
		is(t, "restarted", s, pat, known)
		save(t, s, pat, everything(c))
		server.Stop()
		server.Start()
		ok(t, s.ApplyCustomerChange(t.Context(), shop, store.Change{ID: 5}))
	}
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// hanging accepts connections and never answers.
func hanging(t *testing.T) (address string, connections func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		taken   []net.Conn
	)
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			taken = append(taken, connection)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
		for _, connection := range taken {
			connection.Close()
		}
	})
	return listener.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return len(taken) }
}

// TestRedisHangs: a Redis that accepts connections but does not answer costs a click no more than
// its context allows, and clicks after the first nothing.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	address, connections := hanging(t)
	c, l := newClock(), &logged{}
	o := options(c, l)
	o.Redis = &redis.UniversalOptions{Addrs: []string{address}}
	s := open(t, o)
	// Its own timeout would take half a second. The test takes the best of three, because the
	// machine may be busy.
	best := time.Hour
	for range 3 {
		c.advance(store.RestFor)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if got := s.Load(ctx, pat); got.Err == nil {
			t.Errorf("Load = %+v; want an error", got)
		}
		best = min(best, time.Since(start))
		cancel()
	}
	if best > 400*time.Millisecond {
		t.Errorf("Load took %v; want its context's 50 ms", best)
	}
	s.Load(t.Context(), pat) // this click has the time to find out
	before := connections()
	for range 100 {
		s.Load(t.Context(), pat)
	}
	if got := connections(); got != before {
		t.Errorf("100 more clicks made %d connections; want none", got-before)
	}
	if got := len(l.lines()); got != 1 || len(l.lines("level=ERROR", "cannot reach Redis")) != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
	start := time.Now()
	if err := s.SaveConnection(t.Context(), connected(c, shop)); err == nil {
		t.Error("SaveConnection = nil; want an error")
	}
	if err := s.Redact(t.Context(), shop, pat.Customer); err == nil {
		t.Error("Redact = nil; want an error")
	}
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("two writes to a Redis that hangs took %v; want at most 3 s each", took)
	}
}

// TestPingIsATry: a server that gets no clicks finds out that Redis is down, and that it is back.
func TestPingIsATry(t *testing.T) {
	server := storetest.Redis(t)
	s := open(t, on(many(newClock(), &logged{}), server))
	for _, up := range []bool{true, false, true} {
		if up {
			server.Start()
		} else {
			server.Stop()
		}
		eventually(t, "Ping finds out", func() bool {
			_, err := s.Ping(t.Context())
			return (err == nil) == up && s.Reachable() == up
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Ping(ended); err == nil || !s.Reachable() {
		t.Errorf("Ping with a cancelled context = %v, reachable %v; want Redis still reachable", err, s.Reachable())
	}
}

// TestRedisRefusesScripts: Ping returns the error for that, and does not report Redis as down.
func TestRedisRefusesScripts(t *testing.T) {
	for name, args := range map[string][]string{"by an ACL": nil, "renamed": {"--rename-command", "EVAL", ""}} {
		t.Run(name, func(t *testing.T) {
			server := storetest.Redis(t, args...)
			s := open(t, on(options(newClock(), &logged{}), server))
			if args == nil {
				if _, err := s.Ping(t.Context()); err != nil {
					t.Errorf("Ping = %v before", err)
				}
				ok(t, direct(t, server).Do(t.Context(), "ACL", "SETUSER", "default", "-eval").Err())
			}
			if _, err := s.Ping(t.Context()); !errors.Is(err, store.ErrNoEval) {
				t.Errorf("Ping = %v; want ErrNoEval", err)
			}
			if !s.Reachable() {
				t.Error("a Redis that answers is not reachable")
			}
		})
	}
}

func TestCloseEndsConnections(t *testing.T) {
	s, err := store.Open(on(options(newClock(), &logged{}), storetest.Redis(t)))
	ok(t, err)
	load(t, s, pat)
	if s.Client().PoolStats().TotalConns == 0 {
		t.Error("the pool has no connection")
	}
	ok(t, s.Close())
	if err := s.Client().Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("Ping after Close = %v; want %v", err, redis.ErrClosed)
	}
}

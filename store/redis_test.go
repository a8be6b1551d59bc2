package store_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// writes are all ways to write.
func writes(ctx context.Context, s *store.Store, c *clock) {
	s.RememberCustomer(ctx, pat, known)
	s.RememberNotSubscriber(ctx, other)
	s.RememberLink(ctx, pat, schedule, session(c), recharge.Link{URL: linkURL})
	s.Forget(ctx, patsTwin)
}

// TestRedisGone: without Redis a click is slower, not wrong, and the log says
// so once, not a click.
func TestRedisGone(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	writes(ctx, s, c)
	if got := s.Recall(ctx, pat, schedule).Customer; got != known {
		t.Fatalf("Recall = %+v; want %+v", got, known)
	}
	wantLines := func(when string, gone, back int) {
		t.Helper()
		for _, tt := range []struct {
			parts []string
			want  int
		}{
			{[]string{"level=ERROR", "cannot reach Redis"}, gone},
			{[]string{"level=INFO", "can reach Redis again"}, back},
			{nil, gone + back},
		} {
			if got := len(l.lines(tt.parts...)); got != tt.want {
				t.Fatalf("%s: %d lines with %q; want %d. Logged: %q", when, got, tt.parts, tt.want, l.lines())
			}
		}
	}
	clicks := func(want store.Memory) {
		t.Helper()
		for range 20 {
			if got := s.Recall(ctx, pat, schedule); got != want {
				t.Fatalf("Recall = %+v; want %+v", got, want)
			}
		}
	}
	wantLines("before", 0, 0)

	server.Stop()
	start := time.Now()
	clicks(store.Memory{})
	wantLines("reads after it went", 1, 0)
	for range 20 {
		writes(ctx, s, c)
	}
	wantLines("writes after it went", 1, 0)
	for range 3 {
		c.advance(store.Rest) // it is tried again, in vain
		clicks(store.Memory{})
		writes(ctx, s, c)
	}
	wantLines("tried again in vain", 1, 0)
	// Eight tries on a port where nobody listens. A busy machine may take long
	// for them, but not as long as any timeout would.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("clicks without Redis took %v; want next to nothing", took)
	}

	server.Start()
	clicks(store.Memory{}) // it is still left alone
	wantLines("back, not yet tried", 1, 0)
	c.advance(store.Rest)
	clicks(store.Memory{}) // it is empty
	wantLines("reads after it came back", 1, 1)
	writes(ctx, s, c)
	wantLines("writes after it came back", 1, 1)
	clicks(store.Memory{
		Customer: known, Fresh: true, Session: session(c),
		Link: recharge.Link{URL: linkURL, Expires: c.now.Add(time.Minute)},
	})
	wantLines("after", 1, 1)

	for _, secret := range []string{string(pat.Shop), string(pat.Customer), known.Hash, token, linkURL} {
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
	s.RememberCustomer(t.Context(), pat, known)
	if got := s.Recall(t.Context(), pat, schedule); got != (store.Memory{}) {
		t.Errorf("Recall = %+v; want nothing", got)
	}
	server.Start()
	c.advance(store.Rest)
	s.RememberCustomer(t.Context(), pat, known)
	if got, want := s.Recall(t.Context(), pat, schedule), (store.Memory{Customer: known, Fresh: true}); got != want {
		t.Errorf("Recall, Redis being there = %+v; want %+v", got, want)
	}
	if got := len(l.lines()); got != 2 {
		t.Errorf("logged %q; want that it was gone, and that it is back", l.lines())
	}
}

// TestRedisFull: one that takes nothing any more is still read.
func TestRedisFull(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	s.RememberCustomer(t.Context(), pat, known)
	if err := direct(t, server).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.advance(store.Rest)
		s.RememberNotSubscriber(t.Context(), pat)
		if got, want := s.Recall(t.Context(), pat, schedule), (store.Memory{Customer: known, Fresh: true}); got != want {
			t.Fatalf("Recall = %+v; want %+v", got, want)
		}
	}
	if got := len(l.lines("level=ERROR", "cannot write to Redis")); got != 1 || len(l.lines()) != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
}

// TestRedisRestarted: a Redis that is back before anyone missed it is no news,
// though all pooled connections are dead.
func TestRedisRestarted(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	for range 3 {
		var clicks sync.WaitGroup
		for range 8 { // several connections
			clicks.Go(func() {
				s.Recall(t.Context(), pat, schedule)
				s.RememberCustomer(t.Context(), pat, known)
			})
		}
		clicks.Wait()
		server.Stop()
		server.Start()
		s.RememberCustomer(t.Context(), pat, known)
		if got := s.Recall(t.Context(), pat, schedule).Customer; got != known {
			t.Errorf("Recall = %+v; want %+v", got, known)
		}
	}
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// TestRedisHangs: one that takes connections and does not answer costs a click
// no more than its context allows, and after the first nothing.
func TestRedisHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		taken   []net.Conn
	)
	connections := func() int { mu.Lock(); defer mu.Unlock(); return len(taken) }
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

	c, l := newClock(), &logged{}
	o := options(c, l)
	o.Redis = &redis.UniversalOptions{Addrs: []string{listener.Addr().String()}}
	s := openInHaste(t, o)
	// Its own timeouts would take a second: 500 ms, and once more. The best of
	// three, because the machine may be busy.
	best := time.Hour
	for range 3 {
		c.advance(store.Rest)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if got := s.Recall(ctx, pat, schedule); got != (store.Memory{}) {
			t.Errorf("Recall = %+v; want nothing", got)
		}
		best = min(best, time.Since(start))
		cancel()
	}
	if best > 750*time.Millisecond {
		t.Errorf("Recall took %v; want its context's 50 ms", best)
	}
	s.Recall(t.Context(), pat, schedule) // has the time to find out
	before := connections()
	for range 100 {
		s.Recall(t.Context(), pat, schedule)
	}
	if got := connections(); got != before {
		t.Errorf("100 more clicks made %d connections; want none", got-before)
	}
	if got := len(l.lines()); got != 1 || len(l.lines("level=ERROR", "cannot reach Redis")) != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
}

// TestNothingToWriteProvesNothing: a write that has nothing to send does not
// know whether Redis is back.
func TestNothingToWriteProvesNothing(t *testing.T) {
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := open(t, on(options(c, l), server))
	server.Stop()
	s.RememberCustomer(t.Context(), pat, known)
	c.advance(store.Rest)
	ended := recharge.Session{Token: token, Expires: c.now}
	s.RememberLink(t.Context(), pat, schedule, ended, recharge.Link{})
	s.RememberCustomer(t.Context(), pat, known)
	if got := len(l.lines()); got != 1 {
		t.Errorf("logged %q; want one error", l.lines())
	}
}

// proxy stands between a store and its Redis and counts the times that the one
// speaks and the other answers. It knows nothing of their language.
type proxy struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu          sync.Mutex
	asking      bool
	roundTrips  int
	connections []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener}
	p.serving.Go(func() {
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
			p.mu.Lock()
			p.connections = append(p.connections, client, server)
			p.mu.Unlock()
			p.serving.Go(func() { p.carry(server, client, true) })
			p.serving.Go(func() { p.carry(client, server, false) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		for _, connection := range p.connections {
			connection.Close()
		}
		p.mu.Unlock()
		p.serving.Wait()
	})
	return p
}

func (p *proxy) carry(to io.Writer, from io.Reader, asking bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		if asking && !p.asking {
			p.roundTrips++
		}
		p.asking = asking
		p.mu.Unlock()
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) count(do func()) int {
	p.mu.Lock()
	before := p.roundTrips
	p.mu.Unlock()
	do()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roundTrips - before
}

// commands is how often Redis was told each command, by its own count.
func commands(t *testing.T, client *redis.Client, do func()) map[string]int {
	t.Helper()
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	do()
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(line, "cmdstat_")
		if !ok {
			continue
		}
		name, statistics, _ := strings.Cut(rest, ":calls=")
		count, _, _ := strings.Cut(statistics, ",")
		if calls[name], err = strconv.Atoi(count); err != nil {
			t.Fatalf("commandstats: %q", line)
		}
	}
	delete(calls, "config|resetstat")
	return calls
}

func TestRoundTrips(t *testing.T) {
	server := storetest.Redis(t)
	client := direct(t, server)
	p := newProxy(t, server.Addr)
	c := newClock()
	tests := []struct {
		name string
		do   func(context.Context, *store.Store)
		want map[string]int
	}{
		{"Recall", func(ctx context.Context, s *store.Store) { s.Recall(ctx, pat, schedule) }, map[string]int{"mget": 1, "hmget": 1}},
		{"RememberCustomer", func(ctx context.Context, s *store.Store) { s.RememberCustomer(ctx, pat, known) }, map[string]int{"multi": 1, "set": 1, "exec": 1}},
		{"RememberNotSubscriber", func(ctx context.Context, s *store.Store) { s.RememberNotSubscriber(ctx, pat) }, map[string]int{"multi": 1, "set": 1, "exec": 1}},
		{"Learn all of a first click", func(ctx context.Context, s *store.Store) {
			s.Learn(ctx, pat, store.Learned{Customer: known, Session: session(c), Link: recharge.Link{URL: linkURL}, Visit: schedule})
		}, map[string]int{"multi": 1, "set": 1, "hset": 1, "pexpire": 1, "exec": 1}},
		{"RememberLink", func(ctx context.Context, s *store.Store) {
			s.RememberLink(ctx, pat, schedule, session(c), recharge.Link{URL: linkURL})
		}, map[string]int{"multi": 1, "hset": 1, "pexpire": 1, "exec": 1}},
		{"RememberLink without a link", func(ctx context.Context, s *store.Store) {
			s.RememberLink(ctx, pat, schedule, session(c), recharge.Link{})
		}, map[string]int{"multi": 1, "hset": 1, "pexpire": 1, "exec": 1}},
		{"Forget", func(ctx context.Context, s *store.Store) { s.Forget(ctx, pat) }, map[string]int{"unlink": 1}},
	}
	for _, keys := range [][][]byte{{key(1)}, {key(2), key(1)}} {
		o := options(c, &logged{})
		o.Keys = keys
		o.Redis = &redis.UniversalOptions{Addrs: []string{p.listener.Addr().String()}}
		s := open(t, o)
		// Connect: go-redis has connections for commands, and others for pipelines.
		s.Recall(t.Context(), pat, schedule)
		s.RememberCustomer(t.Context(), pat, known)
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s with %d keys", tt.name, len(keys)), func(t *testing.T) {
				var trips int
				got := commands(t, client, func() {
					trips = p.count(func() { tt.do(t.Context(), s) })
				})
				if trips != 1 {
					t.Errorf("%d round trips; want 1", trips)
				}
				if len(keys) == 1 && !cmp.Equal(got, tt.want) {
					t.Errorf("commands = %v; want %v", got, tt.want)
				}
			})
		}
	}
}

// TestMemoryOfACustomer holds a customer to 250 bytes of Redis, all told.
func TestMemoryOfACustomer(t *testing.T) {
	const most = 250
	server := storetest.Redis(t)
	client := direct(t, server)
	s := open(t, on(options(newClock(), &logged{}), server))
	for _, hash := range []string{
		"1f2e3d4c5b6a7988",               // 16 hex digits
		"70100200a1b2c3d4e5f60718",       // 24, beginning with the id
		"0a1b2c3d4e5f60718293a4b5c6d7e8", // 30 hex digits
	} {
		who := store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID("61002003004" + strconv.Itoa(len(hash)))}
		key := added(t, s, func() {
			s.RememberCustomer(t.Context(), who, recharge.Customer{ID: 1 << 40, Hash: hash, Active: 3})
		})[0]
		bytes, err := client.MemoryUsage(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("a customer with a hash of %d letters: MEMORY USAGE %d bytes", len(hash), bytes)
		if bytes > most {
			t.Errorf("MEMORY USAGE = %d; want at most %d", bytes, most)
		}
	}

	// MEMORY USAGE leaves out the expiry and the tables that lead to both.
	const customers = 10_000
	before := usedMemory(t, client)
	for i := range customers {
		who := store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(strconv.Itoa(6100200400000 + i))}
		s.RememberCustomer(t.Context(), who, known)
	}
	if got := len(server.Dump()); got != customers+3 {
		t.Fatalf("%d keys; want %d", got, customers+3)
	}
	each := (usedMemory(t, client) - before) / customers
	t.Logf("%d customers: %d bytes each, with expiry and tables", customers, each)
	if each > most {
		t.Errorf("%d bytes a customer; want at most %d", each, most)
	}
}

// usedMemory is what Redis says that it uses, in bytes.
func usedMemory(t *testing.T, client *redis.Client) int {
	t.Helper()
	info, err := client.Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, behind, _ := strings.Cut(info, "used_memory:")
	line, _, _ := strings.Cut(behind, "\r\n")
	bytes, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("INFO memory: %q", info)
	}
	return bytes
}

package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestKilledRightAfter: once a write that must not be lost returns nil, killing Redis does no harm.
func TestKilledRightAfter(t *testing.T) {
	ctx := t.Context()
	// A Redis that flushes every second may even delay writing, and before 7.2 it cannot report
	// when it has written. The doctor's CheckRedis warns of that.
	server := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	c := newClock()
	s := open(t, on(many(c, &logged{}), server))
	want := connected(c, shop)
	steps := []struct {
		name string
		do   func() error
		is   func(*store.Store) bool
	}{
		{"SaveConnection", func() error { return s.SaveConnection(ctx, want) }, func(s *store.Store) bool {
			r := load(t, s, pat).Record
			return r != nil && r.Connection.APIToken == want.APIToken
		}},
		{"Update", func() error {
			return s.Update(ctx, shop, func(r *store.Record) bool { r.Connection.WebhookKey = "new"; return true })
		}, func(s *store.Store) bool { return load(t, s, pat).Record.Connection.WebhookKey == "new" }},
		{"ApplyCustomerChange", func() error {
			save(t, s, pat, everything(c))
			return s.ApplyCustomerChange(ctx, shop, store.Change{ID: known.ID})
		}, func(s *store.Store) bool { return load(t, s, pat).Cached == (store.Cached{}) }},
		{"ApplyCustomerChange's tombstones", func() error { return nil }, func(s *store.Store) bool {
			value := everything(c)
			return errors.Is(s.Save(ctx, recordOf(t, s, shop), pat, &value, 1, nil), store.ErrOutdated)
		}},
		{"Redact", func() error {
			save(t, s, pat, everything(c))
			return s.Redact(ctx, shop, pat.Customer)
		}, func(s *store.Store) bool {
			imports(t, s, importing(t, s, shop), record(pat, known))
			return load(t, s, pat).Cached == (store.Cached{})
		}},
		{"Rekey", func() error {
			o := on(many(c, &logged{}), server)
			o.Keys = [][]byte{key(2), key(1)}
			_, err := open(t, o).Rekey(ctx)
			return err
		}, func(*store.Store) bool {
			o := on(many(c, &logged{}), server)
			o.Keys = [][]byte{key(2)}
			return load(t, open(t, o), pat).Record != nil
		}},
		{"EraseShop", func() error {
			_, err := s.EraseShop(ctx, store.Erasure{Shop: shop, Uninstalled: c.Now()})
			return err
		}, func(s *store.Store) bool {
			at, err := s.UninstalledAt(ctx, shop)
			return load(t, s, pat).Record == nil && err == nil && at.Equal(c.Now())
		}},
	}
	for _, step := range steps {
		ok(t, step.do())
		server.Stop()
		server.Start()
		if !step.is(open(t, on(many(c, &logged{}), server))) {
			t.Errorf("%s was lost", step.name)
		}
	}
}

// TestRedisLost: losing all of Redis costs calls. In one-store mode it costs no click.
func TestRedisLost(t *testing.T) {
	server := storetest.Redis(t)
	c := newClock()
	s := open(t, on(options(c, &logged{}), server))
	save(t, s, pat, everything(c))
	before := recordOf(t, s, shop)
	server.Stop()
	server.Start()
	is(t, "lost", s, pat, recharge.Customer{})
	value := everything(c)
	if err := s.Save(t.Context(), before, pat, &value, 0, nil); !errors.Is(err, store.ErrOutdated) {
		t.Errorf("Save with the old record = %v; want ErrOutdated", err)
	}
	save(t, s, pat, everything(c))
	is(t, "learned again", s, pat, known)
}

// TestNotFlushed fakes a Redis that knows WAITAOF, which Redis before 7.2 does not.
func TestNotFlushed(t *testing.T) {
	tests := []struct {
		name, answer string
		want         bool // the write succeeds
	}{
		{"flushed", "*2\r\n:1\r\n:0\r\n", true},
		{"not in time", "*2\r\n:0\r\n:0\r\n", false},
		{"not known", "-ERR unknown command 'waitaof'\r\n", true},
		{"no file", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", true},
		{"not allowed", "-NOPERM this user has no permissions to run the 'waitaof' command\r\n", true},
		{"cut off", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := newFake(t, tt.answer)
			c := newClock()
			o := many(c, &logged{})
			o.Redis = &redis.UniversalOptions{Addrs: []string{fake.listener.Addr().String()}}
			s := func() *store.Store { return open(t, o) } // one that has seen a write would notice that the fake keeps none
			_, erase := s().EraseShop(t.Context(), store.Erasure{Shop: shop})
			for name, err := range map[string]error{
				"SaveConnection": s().SaveConnection(t.Context(), connected(c, shop)), "EraseShop": erase,
				"ApplyCustomerChange": s().ApplyCustomerChange(t.Context(), shop, store.Change{ID: known.ID}), "Redact": s().Redact(t.Context(), shop, pat.Customer),
			} {
				if (err == nil) != tt.want {
					t.Errorf("%s = %v; want success: %v", name, err, tt.want)
				}
			}
			if fake.stray() {
				t.Error("WAITAOF came on another connection than the write's, where it waits for nothing")
			}
		})
	}
}

// fake is a Redis that holds one record, and answers every command with success.
type fake struct {
	listener net.Listener
	waitAOF  string
	record   string
	serving  sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
	strays   int
}

func newFake(t *testing.T, waitAOF string) *fake {
	t.Helper()
	s := open(t, many(newClock(), &logged{}))
	ok(t, s.SaveConnection(t.Context(), connected(newClock(), shop)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	f := &fake{listener: listener, waitAOF: waitAOF, record: s.Client().Get(t.Context(), store.RecordKey(shop)).Val()}
	f.serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.open = append(f.open, connection)
			f.mu.Unlock()
			f.serving.Go(func() { f.serve(connection) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		f.mu.Lock()
		for _, connection := range f.open {
			connection.Close()
		}
		f.mu.Unlock()
		f.serving.Wait()
	})
	return f
}

func (f *fake) stray() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.strays > 0
}

func (f *fake) serve(connection net.Conn) {
	defer connection.Close()
	in := bufio.NewReader(connection)
	wrote, queued := false, []string(nil)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		bulk := fmt.Sprintf("$%d\r\n%s\r\n", len(f.record), f.record)
		answer := "+OK\r\n"
		switch name := strings.ToLower(command[0]); {
		case name == "hello":
			answer = "-ERR unknown command 'hello'\r\n"
		case name == "multi":
			queued = []string{}
		case name == "exec":
			wrote, answer = true, fmt.Sprintf("*%d\r\n%s", len(queued), strings.Join(queued, ""))
			queued = nil
		case queued != nil:
			reply := "+OK\r\n"
			if name == "unlink" {
				reply = ":1\r\n"
			}
			queued, answer = append(queued, reply), "+QUEUED\r\n"
		case name == "eval":
			wrote, answer = true, ":1\r\n"
		case name == "zadd", name == "unlink":
			answer = ":1\r\n"
		case name == "get" && command[1] == store.RecordKey(shop):
			answer = bulk
		case name == "get":
			answer = "$-1\r\n"
		case name == "mget":
			answer = "*1\r\n" + bulk
		case name == "hvals":
			answer = "*0\r\n"
		case name == "waitaof":
			if !slices.Equal(command[1:3], []string{"1", "0"}) || !wrote {
				f.mu.Lock()
				f.strays++
				f.mu.Unlock()
			}
			if answer = f.waitAOF; answer == "" {
				return
			}
		}
		if _, err := fmt.Fprint(connection, answer); err != nil {
			return
		}
	}
}

// readCommand reads an array of strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	line := func() (string, error) {
		text, err := in.ReadString('\n')
		return strings.TrimRight(text, "\r\n"), err
	}
	head, err := line()
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(head, "*"))
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		head, err := line()
		if err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimPrefix(head, "$"))
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		command[i] = string(text[:size])
	}
	return command, nil
}

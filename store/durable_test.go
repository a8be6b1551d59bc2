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
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name     string
		args     []string
		forbid   []string // what the server does not let everybody ask
		want     []string // one warning has it; none: no warning
		evicting bool
	}{
		{"nothing on disk", nil, nil, []string{"keeps nothing on disk"}, false},
		{"snapshots", []string{"--save", "60 1"}, nil, []string{"since its last snapshot"}, false},
		{"file, flushed always", []string{"--appendonly", "yes", "--appendfsync", "always"}, nil, nil, false},
		{"file, flushed never", []string{"--appendonly", "yes", "--appendfsync", "no"}, nil, []string{"appendfsync no"}, false},
		{"file, flushed every second, which this one cannot tell", []string{"--appendonly", "yes", "--appendfsync", "everysec"}, nil, []string{"up to a second"}, false},
		{"evicts", []string{"--maxmemory-policy", "allkeys-lru"}, nil, []string{"keeps nothing on disk"}, true},
		{"evicts, and does not show its settings", []string{"--maxmemory-policy", "allkeys-random"}, []string{"config"}, []string{"does not tell whether it makes snapshots"}, true},
		{"evicts, and keeps a file", []string{"--maxmemory-policy", "allkeys-lru", "--appendonly", "yes", "--appendfsync", "always"}, nil, nil, true},
		{"evicts what ends", []string{"--maxmemory-policy", "volatile-lru", "--appendonly", "yes", "--appendfsync", "always"}, nil, nil, false},
		{"no settings, no file", nil, []string{"config"}, []string{"does not tell whether it makes snapshots"}, false},
		{"no settings, a file", []string{"--appendonly", "yes"}, []string{"config"}, []string{"does not tell how often"}, false},
		{"tells nothing", nil, []string{"config", "info"}, []string{"does not tell whether it keeps", "does not tell its maxmemory-policy"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := storetest.Redis(t, tt.args...)
			s := open(t, on(several(newClock(), &logged{}), server))
			for _, command := range tt.forbid {
				ok(t, direct(t, server).Do(t.Context(), "ACL", "SETUSER", "default", "-"+command).Err())
			}
			condition, err := s.Check(t.Context())
			if errors.Is(err, store.ErrEvicting) != tt.evicting || err != nil && !tt.evicting {
				t.Errorf("Check = %v; want evicting %v", err, tt.evicting)
			}
			if len(condition.Warnings) != len(tt.want) {
				t.Fatalf("Warnings = %q; want %q", condition.Warnings, tt.want)
			}
			for i, part := range tt.want {
				if !strings.Contains(condition.Warnings[i], part) {
					t.Errorf("Warnings = %q; want %q", condition.Warnings, tt.want)
				}
			}
		})
	}
}

func TestCheckWithoutRedis(t *testing.T) {
	server := storetest.Redis(t)
	s := open(t, on(several(newClock(), &logged{}), server))
	server.Stop()
	if _, err := s.Check(t.Context()); err == nil || errors.Is(err, store.ErrEvicting) {
		t.Errorf("Check without Redis = %v; want that it does not answer", err)
	}
}

func TestCheckEmbedded(t *testing.T) {
	condition, err := open(t, several(newClock(), &logged{})).Check(t.Context())
	if err != nil || len(condition.Warnings) != 1 {
		t.Errorf("Check = %+v, %v; want one warning", condition, err)
	}
}

// TestNotFlushed plays a Redis that knows WAITAOF, which one before 7.2 does not.
func TestNotFlushed(t *testing.T) {
	tests := []struct {
		name, answer string
		want         bool // it is saved
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
			o := several(newClock(), &logged{})
			o.Redis = &redis.UniversalOptions{Addrs: []string{fake.listener.Addr().String()}}
			s := open(t, o)
			for name, err := range map[string]error{
				"SaveConnection": s.SaveConnection(t.Context(), connected(pat.Shop)),
				"DropConnection": s.DropConnection(t.Context(), pat.Shop),
				"OrderErasure":   s.OrderErasure(t.Context(), store.Erasure{Shop: pat.Shop}),
			} {
				if (err == nil) != tt.want {
					t.Errorf("%s = %v; want that it is done to be %v", name, err, tt.want)
				}
			}
			if fake.stray() {
				t.Error("WAITAOF came by another connection than the write, where it waits for nothing")
			}
		})
	}
}

// fake answers OK, or 1, to all but WAITAOF.
type fake struct {
	listener net.Listener
	serving  sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
	strays   int
}

func newFake(t *testing.T, waitAOF string) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	f := &fake{listener: listener}
	f.serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.open = append(f.open, connection)
			f.mu.Unlock()
			f.serving.Go(func() { f.serve(connection, waitAOF) })
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

func (f *fake) serve(connection net.Conn, waitAOF string) {
	defer connection.Close()
	in := bufio.NewReader(connection)
	wrote := false
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		switch strings.ToLower(command[0]) {
		case "hello":
			answer = "-ERR unknown command 'hello'\r\n"
		case "hsetnx", "unlink":
			wrote, answer = true, ":1\r\n"
		case "get":
			answer = "$-1\r\n"
		case "set":
			wrote, answer = true, "+QUEUED\r\n"
		case "exec":
			answer = "*1\r\n+OK\r\n"
		case "waitaof":
			if !slices.Equal(command[1:3], []string{"1", "0"}) || !wrote {
				f.mu.Lock()
				f.strays++
				f.mu.Unlock()
			}
			if answer = waitAOF; answer == "" {
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

// TestDurableInTime: a Redis that hangs does not hold a webhook for ever.
func TestDurableInTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	ok(t, err)
	defer listener.Close()
	o := several(newClock(), &logged{})
	o.Redis = &redis.UniversalOptions{Addrs: []string{listener.Addr().String()}}
	s := openInHaste(t, o)
	start := time.Now()
	if err := s.SaveConnection(t.Context(), connected(pat.Shop)); err == nil {
		t.Error("SaveConnection = nil; want an error")
	}
	if took := time.Since(start); took > 4500*time.Millisecond {
		t.Errorf("SaveConnection took %v; want 3 s at most", took)
	}
}

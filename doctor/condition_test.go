package doctor

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// openAt opens a store on the Redis at address; "" is the embedded one.
func openAt(t *testing.T, address string) *store.Store {
	t.Helper()
	o := store.Options{Keys: [][]byte{make([]byte, 32)}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if address != "" {
		o.Redis = &redis.UniversalOptions{Addrs: []string{address}}
	}
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// forbid forbids everybody a command.
func forbid(t *testing.T, s *store.Store, command string) {
	t.Helper()
	if err := s.Client().Do(t.Context(), "ACL", "SETUSER", "default", "-"+command).Err(); err != nil {
		t.Fatal(err)
	}
}

// split returns the texts of the warnings about what merchants saved, and of all others.
func split(c Condition) (saved, erased []string) {
	for _, warning := range c.Warnings {
		if warning.Merchants {
			saved = append(saved, warning.Text)
		} else {
			erased = append(erased, warning.Text)
		}
	}
	return saved, erased
}

func TestCheckRedis(t *testing.T) {
	always := []string{"--appendonly", "yes", "--appendfsync", "always"}
	tests := []struct {
		name     string
		args     []string
		forbid   []string // commands that are forbidden
		saved    []string // a part of each warning
		erased   []string
		evicting bool
	}{
		{"nothing on disk", nil, nil, []string{"keeps nothing on disk"}, nil, false},
		{"snapshots", []string{"--save", "60 1"}, nil, []string{"since its last snapshot"}, []string{"brings back"}, false},
		{"file, flushed always", always, nil, nil, nil, false},
		{"file, flushed never", []string{"--appendonly", "yes", "--appendfsync", "no"}, nil, []string{"appendfsync no"}, nil, false},
		{"evicts", []string{"--maxmemory-policy", "allkeys-lru"}, nil, []string{"keeps nothing on disk"}, []string{"evict"}, true},
		{"evicts, and does not show its settings", []string{"--maxmemory-policy", "allkeys-random"}, []string{"config"},
			[]string{"does not report whether it makes snapshots"}, []string{"evict"}, true},
		{"evicts, and keeps a file", slices.Concat(always, []string{"--maxmemory-policy", "allkeys-lru"}), nil, nil, []string{"evict"}, true},
		// Redis would evict the key that leads from a record to its shopper before the shopper's own.
		{"evicts what ends", slices.Concat(always, []string{"--maxmemory-policy", "volatile-lru"}), nil, nil, []string{"evict"}, false},
		{"no settings, no file", nil, []string{"config"}, []string{"does not report whether it makes snapshots"}, nil, false},
		{"no settings, a file", []string{"--appendonly", "yes"}, []string{"config"}, []string{"does not report how often"}, nil, false},
		{"tells nothing", nil, []string{"config", "info"}, []string{"does not report whether it keeps", "does not report its maxmemory-policy"}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := storetest.Redis(t, tt.args...)
			s := openAt(t, server.Addr)
			for _, command := range tt.forbid {
				forbid(t, s, command)
			}
			condition, err := CheckRedis(t.Context(), s)
			if errors.Is(err, ErrEvicting) != tt.evicting || err != nil && !tt.evicting {
				t.Errorf("CheckRedis = %v; want evicting %v", err, tt.evicting)
			}
			saved, erased := split(condition)
			for _, list := range []struct{ got, want []string }{{saved, tt.saved}, {erased, tt.erased}} {
				if !slices.EqualFunc(list.got, list.want, strings.Contains) {
					t.Errorf("warnings are %q; want %q", list.got, list.want)
				}
			}
		})
	}
}

// TestCheckRedisFlushedEverySecond: Redis 7.2 or newer can report when it has flushed.
func TestCheckRedisFlushedEverySecond(t *testing.T) {
	server := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "everysec")
	knows := openAt(t, server.Addr).Client().Do(t.Context(), "WAITAOF", 0, 0, 1).Err() == nil
	condition, err := CheckRedis(t.Context(), openAt(t, server.Addr))
	saved, _ := split(condition)
	if err != nil || knows != (len(saved) == 0) || !knows && !strings.Contains(saved[0], "up to a second") {
		t.Errorf("CheckRedis = %+v, %v; want a warning unless Redis knows WAITAOF: %v", condition, err, knows)
	}
}

// TestCheckNewerRedis emulates Redis 7.2, which answers WAITAOF with two numbers, for machines that
// have none.
func TestCheckNewerRedis(t *testing.T) {
	for _, policy := range []string{"noeviction", "allkeys-lru"} {
		t.Run(policy, func(t *testing.T) {
			m := miniredis.RunT(t)
			settings := map[string]string{"maxmemory-policy": policy, "appendfsync": "everysec"}
			for name, answer := range map[string]func(c *server.Peer, args []string){
				"WAITAOF": func(c *server.Peer, _ []string) { c.WriteLen(2); c.WriteInt(0); c.WriteInt(0) },
				"CONFIG":  func(c *server.Peer, args []string) { c.WriteStrings([]string{args[1], settings[args[1]]}) },
			} {
				if err := m.Server().Register(name, func(c *server.Peer, _ string, args []string) { answer(c, args) }); err != nil {
					t.Fatal(err)
				}
			}
			condition, err := CheckRedis(t.Context(), openAt(t, m.Addr()))
			if evicts := policy != "noeviction"; errors.Is(err, ErrEvicting) != evicts || err != nil && !evicts {
				t.Errorf("CheckRedis = %v; want evicting %v", err, evicts)
			}
			if condition.first["waitaof"] != "yes" {
				t.Errorf("settings are %v; want waitaof among them", condition.first)
			}
		})
	}
}

func TestCheckWithoutRedis(t *testing.T) {
	server := storetest.Redis(t)
	s := openAt(t, server.Addr)
	server.Stop()
	if _, err := CheckRedis(t.Context(), s); err == nil || errors.Is(err, ErrEvicting) {
		t.Errorf("CheckRedis without Redis = %v; want an error that is not ErrEvicting", err)
	}
	if got := latency(t.Context(), s.Client()); got.Status != Fail {
		t.Errorf("latency without Redis = %+v; want a failure", got)
	}
}

func TestConditionOfRedis(t *testing.T) {
	embedded := openAt(t, "")
	condition, err := CheckRedis(t.Context(), embedded)
	if saved, erased := split(condition); err != nil || len(saved) != 1 || len(erased) != 0 || !strings.Contains(saved[0], "embedded") {
		t.Errorf("CheckRedis = %+v, %v; want one warning", condition, err)
	}
	s := openAt(t, storetest.Redis(t, "--appendonly", "yes", "--maxmemory-policy", "volatile-ttl").Addr)
	condition, err = CheckRedis(t.Context(), s)
	if err != nil || condition.nodes != 1 || condition.first["maxmemory_policy"] != "volatile-ttl" || condition.first["redis_version"] == "" || condition.first["redis_mode"] != "standalone" {
		t.Errorf("CheckRedis = %+v, %v", condition, err)
	}
	if got := latency(t.Context(), s.Client()); got.Status == Fail || !strings.HasSuffix(got.Found, " ms") {
		t.Errorf("latency = %+v; want a duration in ms", got)
	}
	if got := cluster(t.Context(), s.Client(), condition); got.Status != OK {
		t.Errorf("cluster = %+v; want ok for a Redis that is not a cluster", got)
	}
	node := openAt(t, storetest.Redis(t, "--cluster-enabled", "yes").Addr)
	condition, err = CheckRedis(t.Context(), node)
	if got := cluster(t.Context(), node.Client(), condition); err != nil || got.Status != Fail {
		t.Errorf("cluster of one node of a cluster = %+v, %v; want a failure", got, err)
	}
}

// TestNoScripts: a Redis that refuses EVAL is not taken for one that is down.
func TestNoScripts(t *testing.T) {
	s := openAt(t, storetest.Redis(t).Addr)
	if err := tryWrite(t.Context(), s.Client()); err != nil {
		t.Errorf("tryWrite = %v", err)
	}
	forbid(t, s, "eval")
	if _, err := CheckRedis(t.Context(), s); !errors.Is(err, store.ErrNoEval) {
		t.Errorf("CheckRedis = %v; want ErrNoEval", err)
	}
	if err := tryWrite(t.Context(), s.Client()); !errors.Is(err, store.ErrNoEval) {
		t.Errorf("tryWrite = %v; want ErrNoEval", err)
	}
}

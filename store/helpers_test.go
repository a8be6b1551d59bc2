package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the store's clock.
type clock struct{ now time.Time }

func newClock() *clock                    { return &clock{time.Unix(1735689600, 0)} }
func (c *clock) Now() time.Time           { return c.now }
func (c *clock) advance(by time.Duration) { c.now = c.now.Add(by) }

// logged holds what was logged, a line each.
type logged struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// lines are those that hold every one of parts.
func (l *logged) lines(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
next:
	for line := range strings.Lines(l.out.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// key is an encryption key.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// options are those of an embedded store; a test changes what it is about.
func options(c *clock, l *logged) store.Options {
	return store.Options{
		Keys:        [][]byte{key(1)},
		CustomerTTL: 24 * time.Hour,
		LinkTTL:     time.Minute,
		Now:         c.Now,
		Log:         slog.New(slog.NewTextHandler(l, nil)),
	}
}

func on(o store.Options, server *storetest.Server) store.Options {
	o.Redis = &redis.UniversalOptions{Addrs: []string{server.Addr}}
	return o
}

// open opens a store for the time of a test, one that waits for a slow Redis.
func open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s := openInHaste(t, o)
	s.Patient()
	return s
}

// openInHaste opens a store with the timeouts that it has in production.
func openInHaste(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// direct is a client of a real Redis that is not the store's.
func direct(t testing.TB, server *storetest.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	return client
}

// dump is what a store's Redis holds, real or embedded.
func dump(t testing.TB, s *store.Store) map[string]string {
	t.Helper()
	ctx := context.Background()
	keys, err := s.Client().Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	dump := map[string]string{}
	for _, key := range keys {
		if dump[key], err = s.Client().Get(ctx, key).Result(); redis.HasErrorPrefix(err, "WRONGTYPE") {
			dump[key], err = fields(ctx, s.Client(), key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dump
}

// fields are those of a hash, sorted, before their values.
func fields(ctx context.Context, client redis.UniversalClient, key string) (string, error) {
	held, err := client.HGetAll(ctx, key).Result()
	var all []string
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // a sorted set
		var scored []redis.Z
		scored, err = client.ZRangeWithScores(ctx, key, 0, -1).Result()
		for _, z := range scored {
			all = append(all, fmt.Sprintf("%v\n%v", z.Member, z.Score))
		}
	}
	for field, value := range held {
		all = append(all, field+"\n"+value)
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), err
}

// Two shoppers, what Recharge says of the first, and where they go.
var (
	pat      = store.Shopper{Shop: "fixture-shop.myshopify.com", Customer: "6100200300400"}
	other    = store.Shopper{Shop: "fixture-shop.myshopify.com", Customer: "6100200300499"}
	patsTwin = store.Shopper{Shop: "twin-shop.myshopify.com", Customer: "6100200300400"}
	known    = recharge.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", Active: 1}
	schedule = store.Visit{To: "schedule", Locale: "fr"}
)

const (
	token   = "eyJhbGciOiJIUzI1NiJ9.eyJjdXN0b21lcl9pZCI6NzAxMDAyMDB9.c2lnbmF0dXJl"
	linkURL = "https://fixture-shop.example/tools/recurring/portal/1f2e3d4c5b6a7988/schedule?token=00112233445566778899aabbccddeeff"
)

// remembered is the link to schedule.
var remembered = recharge.Link{URL: linkURL}

// session is pat's, for an hour less the margin.
func session(c *clock) recharge.Session {
	return recharge.Session{Token: token, Expires: c.now.Add(59 * time.Minute)}
}

// touched is what Touch fails with.
func touched(_ bool, err error) error { return err }

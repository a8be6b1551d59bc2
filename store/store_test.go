package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

func TestStoreEmbedded(t *testing.T) {
	testStore(t, open)
}

func TestStoreRedis(t *testing.T) {
	server := storetest.Redis(t)
	testStore(t, func(t testing.TB, o store.Options) *store.Store {
		if err := direct(t, server).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return open(t, on(o, server))
	})
}

// TestStoreCluster runs against a cluster of one node, which refuses what a
// bigger one would: a command whose keys are in several slots.
func TestStoreCluster(t *testing.T) {
	t.Parallel() // a cluster takes two seconds to believe in itself
	server := storetest.Redis(t, "--cluster-enabled", "yes")
	client := direct(t, server)
	if err := client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(client.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
		select {
		case <-tick.C:
		case <-time.After(15 * time.Second):
			t.Fatal("the cluster is not up after 15 s")
		}
	}
	testStore(t, func(t testing.TB, o store.Options) *store.Store {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		o = on(o, server)
		o.Redis.IsClusterMode = true
		return open(t, o)
	})
}

// testStore is what every Redis must do. open returns a store of an empty one.
func testStore(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	t.Run("memory", func(t *testing.T) { testMemory(t, open) })
	t.Run("jitter", func(t *testing.T) { testJitter(t, open) })
	t.Run("lifetimes in Redis", func(t *testing.T) { testLifetimes(t, open) })
	t.Run("pseudonyms", func(t *testing.T) { testPseudonyms(t, open) })
	t.Run("many at once", func(t *testing.T) { testConcurrency(t, open) })
	t.Run("sealing", func(t *testing.T) { testSealing(t, open) })
	t.Run("rotation", func(t *testing.T) { testRotation(t, open) })
	t.Run("ended clicks", func(t *testing.T) { testEndedClicks(t, open) })
}

func testMemory(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	const day = 24 * time.Hour
	start := newClock()
	at := func(after time.Duration) time.Time { return start.now.Add(after) }
	rememberPat := func(ctx context.Context, s *store.Store) { s.RememberCustomer(ctx, pat, known) }
	rememberLink := func(link recharge.Link) func(context.Context, *store.Store) {
		return func(ctx context.Context, s *store.Store) { s.RememberLink(ctx, pat, schedule, session(start), link) }
	}
	notSubscriber := func(ctx context.Context, s *store.Store) { s.RememberNotSubscriber(ctx, pat) }
	all := func(ctx context.Context, s *store.Store) {
		rememberPat(ctx, s)
		rememberLink(recharge.Link{URL: linkURL})(ctx, s)
	}
	theSession := session(start)
	tests := []struct {
		name    string
		do      func(context.Context, *store.Store)
		linkTTL time.Duration
		after   time.Duration
		who     store.Shopper
		visit   store.Visit
		want    store.Memory
	}{
		{"nothing", func(context.Context, *store.Store) {}, time.Minute, 0, pat, schedule, store.Memory{}},

		{"customer", rememberPat, time.Minute, 0, pat, schedule, store.Memory{Customer: known, Fresh: true}},
		{"customer, another visit", rememberPat, time.Minute, 0, pat, store.Visit{}, store.Memory{Customer: known, Fresh: true}},
		{"customer, a stranger", rememberPat, time.Minute, 0, other, schedule, store.Memory{}},
		{"customer, nobody", rememberPat, time.Minute, 0, store.Shopper{Shop: pat.Shop}, schedule, store.Memory{}},
		{"customer, another shop with the same id", rememberPat, time.Minute, 0, patsTwin, schedule, store.Memory{}},
		{"customer, fresh for 0.9 of its time", rememberPat, time.Minute, day*9/10 - time.Second, pat, schedule, store.Memory{Customer: known, Fresh: true}},
		{"customer, stale after 1.1 of its time", rememberPat, time.Minute, day * 11 / 10, pat, schedule, store.Memory{Customer: known}},
		{"customer, stale for a week", rememberPat, time.Minute, day*11/10 + 7*day, pat, schedule, store.Memory{Customer: known}},
		{"customer, the greatest values", func(ctx context.Context, s *store.Store) {
			s.RememberCustomer(ctx, pat, recharge.Customer{ID: 1<<63 - 1, Active: 1<<31 - 1, Hash: strings.Repeat("h", 128)})
		}, time.Minute, 0, pat, schedule, store.Memory{Customer: recharge.Customer{ID: 1<<63 - 1, Active: 1<<31 - 1, Hash: strings.Repeat("h", 128)}, Fresh: true}},
		{"customer, no subscriptions and no hash", func(ctx context.Context, s *store.Store) {
			s.RememberCustomer(ctx, pat, recharge.Customer{ID: 1})
		}, time.Minute, 0, pat, schedule, store.Memory{Customer: recharge.Customer{ID: 1}, Fresh: true}},
		{"customer, fewer than no subscriptions", func(ctx context.Context, s *store.Store) {
			s.RememberCustomer(ctx, pat, recharge.Customer{ID: 1, Active: -1})
		}, time.Minute, 0, pat, schedule, store.Memory{Customer: recharge.Customer{ID: 1}, Fresh: true}},
		{"customer, twice", func(ctx context.Context, s *store.Store) {
			s.RememberCustomer(ctx, pat, recharge.Customer{ID: 1, Hash: "before"})
			rememberPat(ctx, s)
		}, time.Minute, 0, pat, schedule, store.Memory{Customer: known, Fresh: true}},

		{"not a subscriber", notSubscriber, time.Minute, 0, pat, schedule, store.Memory{NotSubscriber: true, Fresh: true}},
		{"not a subscriber, a stranger", notSubscriber, time.Minute, 0, other, schedule, store.Memory{}},
		{"not a subscriber, another shop", notSubscriber, time.Minute, 0, patsTwin, schedule, store.Memory{}},
		{"not a subscriber for 60 s", notSubscriber, time.Minute, 59 * time.Second, pat, schedule, store.Memory{NotSubscriber: true, Fresh: true}},
		{"not a subscriber, 60 s later", notSubscriber, time.Minute, 60 * time.Second, pat, schedule, store.Memory{NotSubscriber: true}},
		{"not a subscriber for 10 min", notSubscriber, time.Minute, 10*time.Minute - time.Second, pat, schedule, store.Memory{NotSubscriber: true}},
		{"not a subscriber, 10 min later", notSubscriber, time.Minute, 10 * time.Minute, pat, schedule, store.Memory{}},
		{"not a subscriber any more", func(ctx context.Context, s *store.Store) { rememberPat(ctx, s); notSubscriber(ctx, s) },
			time.Minute, 0, pat, schedule, store.Memory{NotSubscriber: true, Fresh: true}},
		{"a subscriber now", func(ctx context.Context, s *store.Store) { notSubscriber(ctx, s); rememberPat(ctx, s) },
			time.Minute, 0, pat, schedule, store.Memory{Customer: known, Fresh: true}},

		{"link", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, pat, schedule,
			store.Memory{Session: theSession, Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)}}},
		{"link, a stranger", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, other, schedule, store.Memory{}},
		{"link, another shop", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, patsTwin, schedule, store.Memory{}},
		{"link, another destination", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, pat, store.Visit{To: "orders", Locale: "fr"},
			store.Memory{Session: theSession}},
		{"link, another locale", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, pat, store.Visit{To: "schedule", Locale: "de"},
			store.Memory{Session: theSession}},
		{"link, no locale", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 0, pat, store.Visit{To: "schedule"},
			store.Memory{Session: theSession}},
		{"link for a minute", rememberLink(recharge.Link{URL: linkURL}), time.Minute, 59 * time.Second, pat, schedule,
			store.Memory{Session: theSession, Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)}}},
		{"link, a minute later", rememberLink(recharge.Link{URL: linkURL}), time.Minute, time.Minute, pat, schedule,
			store.Memory{Session: theSession}},
		{"link that ends sooner", rememberLink(recharge.Link{URL: linkURL, Expires: at(20 * time.Second)}), time.Minute, 19 * time.Second, pat, schedule,
			store.Memory{Session: theSession, Link: recharge.Link{URL: linkURL, Expires: at(20 * time.Second)}}},
		{"link that ends sooner, ended", rememberLink(recharge.Link{URL: linkURL, Expires: at(20 * time.Second)}), time.Minute, 20 * time.Second, pat, schedule,
			store.Memory{Session: theSession}},
		{"link that ends later", rememberLink(recharge.Link{URL: linkURL, Expires: at(time.Hour)}), time.Minute, 0, pat, schedule,
			store.Memory{Session: theSession, Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)}}},
		{"link that has ended", rememberLink(recharge.Link{URL: linkURL, Expires: at(-time.Second)}), time.Minute, 0, pat, schedule,
			store.Memory{Session: theSession}},
		{"links not reused", rememberLink(recharge.Link{URL: linkURL}), 0, 0, pat, schedule, store.Memory{Session: theSession}},
		{"session without a link", rememberLink(recharge.Link{}), time.Minute, 0, pat, schedule, store.Memory{Session: theSession}},
		{"session to its end", rememberLink(recharge.Link{}), time.Minute, 59*time.Minute - time.Second, pat, schedule, store.Memory{Session: theSession}},
		{"session, ended", rememberLink(recharge.Link{}), time.Minute, 59 * time.Minute, pat, schedule, store.Memory{}},
		{"session ended before it was remembered", func(ctx context.Context, s *store.Store) {
			s.RememberLink(ctx, pat, schedule, recharge.Session{Token: token, Expires: at(-time.Second)}, recharge.Link{URL: linkURL})
		}, time.Minute, 0, pat, schedule, store.Memory{Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)}}},

		{"all of it", all, time.Minute, 0, pat, schedule, store.Memory{
			Customer: known, Fresh: true, Session: theSession, Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)},
		}},
		{"forgotten: all of it", func(ctx context.Context, s *store.Store) { all(ctx, s); s.Forget(ctx, pat) },
			time.Minute, 0, pat, schedule, store.Memory{}},
		{"forgotten: the session, not the link", func(ctx context.Context, s *store.Store) { all(ctx, s); s.ForgetSession(ctx, pat) },
			time.Minute, 0, pat, schedule, store.Memory{Customer: known, Fresh: true, Link: recharge.Link{URL: linkURL, Expires: at(time.Minute)}}},
		{"forgotten: not a subscriber", func(ctx context.Context, s *store.Store) { notSubscriber(ctx, s); s.Forget(ctx, pat) },
			time.Minute, 0, pat, schedule, store.Memory{}},
		{"others are forgotten", func(ctx context.Context, s *store.Store) {
			rememberPat(ctx, s)
			s.Forget(ctx, other)
			s.Forget(ctx, patsTwin)
		},
			time.Minute, 0, pat, schedule, store.Memory{Customer: known, Fresh: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, l := newClock(), &logged{}
			o := options(c, l)
			o.LinkTTL = tt.linkTTL
			s := open(t, o)
			tt.do(t.Context(), s)
			c.advance(tt.after)
			if diff := cmp.Diff(tt.want, s.Recall(t.Context(), tt.who, tt.visit)); diff != "" {
				t.Errorf("Recall(%v, %v) after %v: -want +got\n%s", tt.who, tt.visit, tt.after, diff)
			}
			if lines := l.lines(); len(lines) > 0 {
				t.Errorf("logged %q; want nothing", lines)
			}
		})
	}
}

// testJitter: a campaign's shoppers come at once and must not come back at once.
func testJitter(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	const shoppers = 200
	const ttl = 24 * time.Hour
	c := newClock()
	s := open(t, options(c, &logged{}))
	who := func(i int) store.Shopper {
		return store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(fmt.Sprint(1000 + i))}
	}
	for i := range shoppers {
		s.RememberCustomer(t.Context(), who(i), known)
	}
	start := c.now
	tests := []struct {
		after       time.Duration
		least, most int
	}{
		// Times are kept in whole seconds, which takes up to one off.
		{ttl*9/10 - time.Second, shoppers, shoppers},
		{ttl, 1, shoppers - 1}, // fails by chance once in 2^199 runs
		{ttl * 11 / 10, 0, 0},
	}
	for _, tt := range tests {
		c.now = start.Add(tt.after)
		fresh := 0
		for i := range shoppers {
			memory := s.Recall(t.Context(), who(i), schedule)
			if memory.Customer != known {
				t.Fatalf("after %v: Customer = %v; want %v", tt.after, memory.Customer, known)
			}
			if memory.Fresh {
				fresh++
			}
		}
		if fresh < tt.least || fresh > tt.most {
			t.Errorf("after %v: %d of %d are fresh; want %d to %d", tt.after, fresh, shoppers, tt.least, tt.most)
		}
	}
}

// testLifetimes: nothing is left in Redis for ever.
func testLifetimes(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	const day = 24 * time.Hour
	c := newClock()
	soon := recharge.Link{URL: linkURL, Expires: c.now.Add(20 * time.Second)}
	tests := []struct {
		name        string
		do          func(context.Context, *store.Store)
		least, most []time.Duration // of each key, the longest first
	}{
		{"customer", func(ctx context.Context, s *store.Store) { s.RememberCustomer(ctx, pat, known) },
			[]time.Duration{day*9/10 + 7*day}, []time.Duration{day*11/10 + 7*day}},
		{"not a subscriber", func(ctx context.Context, s *store.Store) { s.RememberNotSubscriber(ctx, pat) },
			[]time.Duration{10 * time.Minute}, []time.Duration{10 * time.Minute}},
		{"not a subscriber any more", func(ctx context.Context, s *store.Store) {
			s.RememberCustomer(ctx, pat, known)
			s.RememberNotSubscriber(ctx, pat)
		}, []time.Duration{10 * time.Minute}, []time.Duration{10 * time.Minute}},
		{"session and link", func(ctx context.Context, s *store.Store) {
			s.RememberLink(ctx, pat, schedule, session(c), recharge.Link{URL: linkURL})
		}, []time.Duration{59 * time.Minute}, []time.Duration{59 * time.Minute}},
		{"session and a link that ends sooner", func(ctx context.Context, s *store.Store) { s.RememberLink(ctx, pat, schedule, session(c), soon) },
			[]time.Duration{59 * time.Minute}, []time.Duration{59 * time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, options(c, &logged{}))
			tt.do(t.Context(), s)
			var got []time.Duration
			for key := range dump(t, s) {
				ttl, err := s.Client().PTTL(t.Context(), key).Result()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ttl)
			}
			slices.Sort(got)
			slices.Reverse(got)
			if len(got) != len(tt.least) {
				t.Fatalf("lifetimes = %v; want %d", got, len(tt.least))
			}
			const run = 10 * time.Second // what the test itself may take
			for i, ttl := range got {
				if ttl <= 0 || ttl < tt.least[i]-run || ttl > tt.most[i] {
					t.Errorf("lifetimes = %v; want %v to %v", got, tt.least, tt.most)
				}
			}
		})
	}
}

// testPseudonyms: no two things have one key, however their parts are cut.
func testPseudonyms(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	s := open(t, options(newClock(), &logged{}))
	shoppers := []store.Shopper{
		{Shop: "ab", Customer: "c"}, {Shop: "a", Customer: "bc"}, {Shop: "abc", Customer: ""}, {Shop: "", Customer: "abc"},
		{Shop: "c", Customer: "ab"}, {Shop: "a\x01b", Customer: "c"}, {Shop: "c", Customer: "c"},
	}
	visits := []store.Visit{{}, {To: "a", Locale: "bc"}, {To: "ab", Locale: "c"}, {To: "abc"}, {Locale: "abc"}}
	for i, who := range shoppers {
		s.RememberCustomer(t.Context(), who, recharge.Customer{ID: int64(i + 1)})
		for j, visit := range visits {
			link := recharge.Link{URL: fmt.Sprint(i, j)}
			s.RememberLink(t.Context(), who, visit, recharge.Session{Token: fmt.Sprint(i), Expires: newClock().now.Add(time.Hour)}, link)
		}
	}
	for i, who := range shoppers {
		for j, visit := range visits {
			got := s.Recall(t.Context(), who, visit)
			if got.Customer.ID != int64(i+1) || got.Session.Token != fmt.Sprint(i) || got.Link.URL != fmt.Sprint(i, j) {
				t.Errorf("Recall(%v, %q) = %+v; want what was remembered of it", who, visit, got)
			}
		}
	}
	if got, want := len(dump(t, s)), len(shoppers)*2; got != want {
		t.Errorf("%d keys; want %d", got, want)
	}
}

func testConcurrency(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	c, l := newClock(), &logged{}
	s := open(t, options(c, l))
	var clicks sync.WaitGroup
	for i := range 16 {
		clicks.Go(func() {
			who := store.Shopper{Shop: pat.Shop, Customer: shopify.CustomerID(fmt.Sprint(i % 8))}
			want := recharge.Customer{ID: int64(i%8 + 1)}
			for range 5 {
				s.RememberCustomer(t.Context(), who, want)
				s.RememberLink(t.Context(), who, schedule, session(c), recharge.Link{URL: linkURL})
				if got := s.Recall(t.Context(), who, schedule).Customer; got != want {
					t.Errorf("Recall(%v).Customer = %v; want %v", who, got, want)
				}
			}
		})
	}
	clicks.Wait()
	if lines := l.lines(); len(lines) > 0 {
		t.Errorf("logged %q; want nothing", lines)
	}
}

// testEndedClicks: what a click's own end cuts short is no fault of Redis. It
// must neither be logged as one, nor keep the next click from its memory.
func testEndedClicks(t *testing.T, open func(testing.TB, store.Options) *store.Store) {
	tests := []struct {
		name  string
		ended func(context.Context) (context.Context, context.CancelFunc)
	}{
		{"gone away", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}},
		{"out of time", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Unix(0, 0))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, l := newClock(), &logged{}
			s := open(t, options(c, l))
			ctx, cancel := tt.ended(t.Context())
			defer cancel()
			s.Recall(ctx, pat, schedule)
			s.RememberLink(ctx, pat, schedule, session(c), recharge.Link{URL: linkURL})
			s.Forget(ctx, pat)

			s.RememberCustomer(t.Context(), pat, known)
			if got := s.Recall(t.Context(), pat, schedule); got.Customer != known || !got.Fresh {
				t.Errorf("Recall, the click after = %+v; want %+v, fresh", got, known)
			}
			if lines := l.lines(); len(lines) > 0 {
				t.Errorf("logged %q; want nothing", lines)
			}
		})
	}
}

func TestOpenNeedsKeys(t *testing.T) {
	for _, keys := range [][][]byte{nil, {}, {nil}, {make([]byte, 16)}, {key(1), make([]byte, 31)}, {make([]byte, 33), key(1)}} {
		o := options(newClock(), &logged{})
		o.Keys = keys
		if s, err := store.Open(o); err == nil {
			s.Close()
			t.Errorf("Open with keys of %v = nil; want an error", keys)
		}
	}
}

// TestStaleCustomerEnds lets the embedded Redis' time pass, which a real one's
// cannot be made to.
func TestStaleCustomerEnds(t *testing.T) {
	const day = 24 * time.Hour
	c := newClock()
	s := open(t, options(c, &logged{}))
	s.RememberCustomer(t.Context(), pat, known)
	pass := func(by time.Duration) {
		c.advance(by)
		s.Embedded().FastForward(by)
	}
	pass(day*9/10 + 7*day - time.Minute)
	if got, want := s.Recall(t.Context(), pat, schedule), (store.Memory{Customer: known}); got != want {
		t.Errorf("Recall after a week = %+v; want %+v", got, want)
	}
	pass(day*2/10 + time.Minute)
	if got := s.Recall(t.Context(), pat, schedule); got != (store.Memory{}) {
		t.Errorf("Recall after a week and more = %+v; want nothing", got)
	}
}

// TestEmbeddedAges: miniredis has no clock of its own, so that without one it
// would grow for ever.
func TestEmbeddedAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(nil, &logged{})
		o.Now = time.Now
		s := open(t, o)
		s.RememberNotSubscriber(t.Context(), pat)
		s.RememberLink(t.Context(), pat, schedule, recharge.Session{Token: token, Expires: time.Now().Add(time.Hour)}, recharge.Link{URL: linkURL})
		for _, tt := range []struct {
			after time.Duration
			want  int
		}{{0, 2}, {62 * time.Second, 2}, {9 * time.Minute, 1}, {time.Hour, 0}} {
			time.Sleep(tt.after) // in the bubble's time
			if got := len(dump(t, s)); got != tt.want {
				t.Errorf("%d keys, %v later; want %d", got, tt.after, tt.want)
			}
		}
	})
}

func TestCloseEndsConnections(t *testing.T) {
	server := storetest.Redis(t)
	s, err := store.Open(on(options(newClock(), &logged{}), server))
	if err != nil {
		t.Fatal(err)
	}
	s.RememberCustomer(t.Context(), pat, known)
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
	if err := s.Client().Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("Ping after Close = %v; want %v", err, redis.ErrClosed)
	}
}

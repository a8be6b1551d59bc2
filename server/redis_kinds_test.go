// The program on each kind of Redis, configured by REDIS_URL alone, and while a master of Sentinel or
// of a cluster is killed.

package server_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// at configures the Redis at url.
func at(url string) func(*config.Settings) {
	return func(s *config.Settings) { s.RedisURL, s.RechargeTimeout, s.ClickTimeout = url, "3s", "5s" }
}

// remembers checks that a shopper's second click makes no call after a restart that leaves only the
// data in Redis.
func remembers(f *servertest.Fixture, who rechargetest.Customer, change func(*config.Settings)) {
	f.T.Helper()
	client := servertest.NewClient(f.T)
	for _, want := range []map[string]int{{"customers": 1, "sessions": 1, "portal_access": 1}, {}} {
		f.Calls()
		if location := f.LocationAt(client, f.Public, who, ""); !strings.Contains(location, "/"+who.Hash+"/") || !strings.Contains(location, "token=") {
			f.T.Errorf("a click goes to %q; want their own portal, signed in", location)
		}
		if diff := cmp.Diff(want, f.Calls()); diff != "" {
			f.T.Errorf("calls (-want +got):\n%s\nof Redis: %v", diff, f.Log.Last("cannot reach Redis; clicks go on without it"))
		}
		if len(want) > 0 {
			f.Restart(func() {}, change)
		}
	}
}

// holds checks that the servers together hold exactly one entry for the shopper.
func holds(t *testing.T, servers ...*storetest.Server) {
	t.Helper()
	found := 0
	for _, s := range servers {
		for key := range s.Dump() {
			if strings.Contains(key, "}:c:") {
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("Redis holds %d entries of the shopper; want one", found)
	}
}

func TestRedisKinds(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*testing.T) (string, []*storetest.Server){
		"plain": func(t *testing.T) (string, []*storetest.Server) {
			s := storetest.Redis(t)
			return "redis://" + s.Addr + "/0", []*storetest.Server{s}
		},
		"an ACL user": func(t *testing.T) (string, []*storetest.Server) {
			s := limited(t)
			return (&url.URL{Scheme: "redis", User: url.UserPassword("app", aclPassword), Host: s.Addr}).String(), []*storetest.Server{s}
		},
		"Sentinel": func(t *testing.T) (string, []*storetest.Server) {
			w := storetest.Sentinel(t)
			return w.URL(), []*storetest.Server{w.Master}
		},
		"Cluster": func(t *testing.T) (string, []*storetest.Server) {
			n := storetest.Cluster(t)
			return n.URL(), n.Masters
		},
		"Cluster, by one address": func(t *testing.T) (string, []*storetest.Server) {
			n := storetest.Cluster(t)
			return "redis://" + n.Masters[0].Addr + "?cluster=true", n.Masters
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, servers := kind(t)
			f := servertest.StartWith(t, nil, at(url))
			remembers(f, servertest.Customers()[1], at(url))
			holds(t, servers...)
		})
	}
}

// TestRedisKindsTLS runs itself again as a process that trusts the authority by SSL_CERT_FILE alone,
// which Go reads once per process.
func TestRedisKindsTLS(t *testing.T) {
	const address = "TEST_REDIS_TLS"
	if url := os.Getenv(address); url != "" {
		f := servertest.StartWith(t, nil, at(url))
		remembers(f, servertest.Customers()[1], at(url))
		return
	}
	t.Parallel()
	s, authority := storetest.TLS(t)
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRedisKindsTLS$", "-test.v")
	again.Env = append(os.Environ(), address+"=rediss://"+s.Addr, "SSL_CERT_FILE="+authority)
	said, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--- PASS: TestRedisKindsTLS") {
		t.Errorf("%v\n%s", err, said)
	}
	holds(t, s)
}

const aclPassword = "p@ss:w/rd"

// limited starts a Redis with a user who has only the rights that docs/redis.md says are enough.
func limited(t *testing.T) *storetest.Server {
	t.Helper()
	doc, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile("`(~ms2:[^`]+)`").FindSubmatch(doc)
	if rule == nil {
		t.Fatal("docs/redis.md has no ACL rule")
	}
	return storetest.Redis(t, append([]string{"--user", "app", "on", ">" + aclPassword}, strings.Fields(string(rule[1]))...)...)
}

// TestRedisKindsACL: the documented user may run everything that the program runs, and nothing on
// other keys or on the server.
func TestRedisKindsACL(t *testing.T) {
	t.Parallel()
	s := limited(t)
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer client.Close()
	for _, test := range []struct {
		commands string
		may      bool
	}{
		{"GET k,SET k v,SET k v NX,MGET k,GETRANGE k 0 1,HGET k f,HSET k f v,HGETALL k,HDEL k f,HINCRBY k f 1", true},
		{"HVALS k,RPUSH k v,LRANGE k 0 -1,LTRIM k 0 1,RENAME k k", true},
		{"DEL k,UNLINK k,PEXPIRE k 1,EVAL s 1 k,TIME", true},
		{"ZADD k 1 m,ZREM k m,ZCARD k,ZSCORE k m,ZRANGE k 0 -1,ZRANGEBYSCORE k 0 1,ZREMRANGEBYSCORE k 0 1", true},
		{"WATCH k,MULTI,EXEC,UNWATCH,PING,INFO,CONFIG GET maxmemory,CLUSTER SLOTS,CLUSTER INFO,READONLY", true},
		{"SCAN 0,FLUSHDB,EVAL s 1 other:k,SET ms1:k v", false}, // no code scans all of Redis
		{"GET other,SET other v,EVAL s 1 other,FLUSHALL,KEYS *,CONFIG SET a b,SHUTDOWN,ACL LIST,CLIENT LIST,FUNCTION FLUSH,FUNCTION LOAD x", false},
	} {
		for command := range strings.SplitSeq(test.commands, ",") {
			args := []any{"ACL", "DRYRUN", "app"}
			for _, word := range strings.Fields(command) {
				if word == "k" {
					word = "ms2:k"
				}
				args = append(args, word)
			}
			said, err := client.Do(t.Context(), args...).Text()
			if err != nil || (said == "OK") != test.may {
				t.Errorf("%s: %q, %v; want allowed: %v", command, said, err, test.may)
			}
		}
	}
}

// underLoad lets shoppers click while fail runs and until Redis is used again, and returns how many
// clicks there were. Each must end in the shopper's own portal, within CLICK_TIMEOUT.
func underLoad(f *servertest.Fixture, people []rechargetest.Customer, fail func()) int64 {
	f.T.Helper()
	client := servertest.NewClient(f.T)
	client.Transport = redirected{client.Transport, f}
	var clicks atomic.Int64
	var over atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer over.Store(true) // also if the test ends early
	for i := range 4 {
		all.Go(func() {
			for n := i; !over.Load(); n++ {
				begun := time.Now()
				f.LocationAt(client, f.Public, people[n%len(people)], "")
				if took := time.Since(begun); took > 5*time.Second {
					f.T.Errorf("a click took %v; want at most CLICK_TIMEOUT", took)
				}
				clicks.Add(1)
			}
		})
	}
	f.Until("the load is there", func() bool { return clicks.Load() > int64(2*len(people)) })
	fail()
	before := clicks.Load()
	f.Until("the load goes on", func() bool { return clicks.Load() > before+int64(2*len(people)) })
	over.Store(true)
	all.Wait()
	return clicks.Load()
}

// redirected fails a test on any answer that is not a redirect.
type redirected struct {
	http.RoundTripper
	f *servertest.Fixture
}

func (r redirected) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.RoundTripper.RoundTrip(request)
	if err == nil && (response.StatusCode != http.StatusFound || response.Header.Get("Location") == "") {
		r.f.T.Errorf("a click is answered %d, to %q; want 302", response.StatusCode, response.Header.Get("Location"))
	}
	return response, err
}

func TestFailover(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*testing.T) (string, []*storetest.Server, []*storetest.Server){
		"Sentinel": func(t *testing.T) (string, []*storetest.Server, []*storetest.Server) {
			w := storetest.Sentinel(t)
			return w.URL(), []*storetest.Server{w.Master}, []*storetest.Server{w.Replica}
		},
		"Cluster": func(t *testing.T) (string, []*storetest.Server, []*storetest.Server) {
			n := storetest.Cluster(t)
			return n.URL(), n.Masters, n.Replicas
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, masters, replicas := kind(t)
			f := servertest.StartWith(t, nil, at(url))
			people := f.AddSubscribers(21)
			clicks := underLoad(f, people[:20], func() {
				// In a cluster, all data of a shop is on one master, so that one is killed.
				for i, master := range masters {
					if busy(master) {
						master.Stop()
						replicas[i].AwaitMaster()
						// Only a click notices, so this waits under load.
						f.Until("Redis is used again", func() bool { return f.Log.Last("can reach Redis again") != nil })
						return
					}
				}
				t.Error("no master holds a shopper")
			})
			t.Logf("%d clicks", clicks)
			remembers(f, people[20], at(url))
		})
	}
}

func busy(s *storetest.Server) bool {
	for key := range s.Dump() {
		if strings.Contains(key, "}:c:") {
			return true
		}
	}
	return false
}

package server_test

// This file breaks the connections to the program's two dependencies, one fault at a time. A proxy in
// front of each delays, slows down, cuts and stops the traffic.

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/rs/zerolog"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// The shoppers of the matrix, by what is cached about them when the fault begins.
const (
	isCold  = "cold"  // nothing
	isKnown = "known" // who they are at Recharge; link and session have expired
	isWarm  = "warm"  // the link
)

// How long a click may take here. It normally takes about 20 ms; the rest is for a busy machine.
const (
	inOrder  = 2 * time.Second
	patience = 500 * time.Millisecond // how long the store waits for Redis
	oneCall  = 500 * time.Millisecond // RECHARGE_TIMEOUT below
	twoCalls = 2*oneCall + 50*time.Millisecond
	oneClick = 3 * time.Second // CLICK_TIMEOUT below
	// Recharge is left alone for 5 seconds after each failed try, and Redis for one. On a busy machine,
	// one try can be late, and so fail.
	recovery = 12 * time.Second
)

// ends is how each shopper's click ends, and by when.
type ends struct {
	cold, known, warm string // outcomes, separated by "|" if there may be several
	coldIn, knownIn   time.Duration
	warmIn            time.Duration
	recalls           recalls
}

// recalls is for how many warm shoppers Redis still returns the link, so that they make no call.
type recalls string

const (
	all  recalls = "all"
	some recalls = "some"
	none recalls = "none"
)

// withRedis: every click ends in the portal, signed in, whatever Redis does.
func withRedis(within time.Duration, recalls recalls) ends {
	return ends{"redirected", "redirected", "redirected", within, within, within, recalls}
}

// slowly: Recharge answers, but late.
func slowly() ends {
	return ends{"redirected", "redirected", "redirected", inOrder, inOrder, inOrder, all}
}

// atOnce: Recharge fails at once.
func atOnce() ends {
	return ends{"unavailable", "redirected_by_hash", "redirected", inOrder, inOrder, inOrder, all}
}

// inVain: Recharge does not answer in time. The lookup is tried twice, the session once.
func inVain() ends {
	return ends{"unavailable", "redirected_by_hash", "redirected", inOrder + twoCalls, inOrder + oneCall, inOrder, all}
}

// cable is the connection to one dependency, through a proxy.
type cable struct {
	t        *testing.T
	proxy    *toxiproxy.Proxy
	upstream string
	hangUp   func() // the other side closes all connections
}

func newCable(t *testing.T, upstream string) *cable {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	c := &cable{t: t, proxy: toxiproxy.NewProxy(api, t.Name(), "127.0.0.1:0", upstream), upstream: upstream}
	if err := c.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.proxy.Stop)
	return c
}

// addr returns where the program reaches the dependency.
func (c *cable) addr() string { return c.proxy.Listen }

// toxics returns a function that adds them. Each is a type, "@upstream" if it affects what the
// program sends, and its attributes.
func (c *cable) toxics(toxics ...string) func() {
	return func() {
		c.t.Helper()
		for _, toxic := range toxics {
			name, attributes, _ := strings.Cut(toxic, " ")
			name, stream, both := strings.Cut(name, "@")
			if !both {
				stream = "downstream"
			}
			text := fmt.Sprintf(`{"type":%q,"stream":%q,"attributes":{%s}}`, name, stream, attributes)
			if _, err := c.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// heal removes all faults.
func (c *cable) heal() {
	c.t.Helper()
	c.proxy.Toxics.ResetToxics(context.Background())
	if c.proxy.Enabled {
		return
	}
	// An outgoing connection of another program may have the port for a moment.
	deadline := time.Now().Add(10 * time.Second)
	for c.proxy.Start() != nil {
		if time.Now().After(deadline) {
			c.t.Fatal("the proxy does not start again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// faults returns everything that can be wrong with a cable.
func faults() []struct {
	name            string
	put             func(*cable)
	redis, recharge ends
} {
	toxics := func(toxics ...string) func(*cable) { return func(c *cable) { c.toxics(toxics...)() } }
	return []struct {
		name            string
		put             func(*cable)
		redis, recharge ends
	}{
		{"latency", toxics(`latency "latency":50`), withRedis(inOrder, all), slowly()},
		{"latency without end", toxics(`latency "latency":20000`), withRedis(inOrder+patience, none), inVain()},
		{"bandwidth", toxics(`bandwidth "rate":100`), withRedis(inOrder, all), slowly()},
		{"bandwidth of almost none", toxics(`bandwidth "rate":1`), withRedis(inOrder+patience, none), inVain()},
		{"slicer", toxics(`slicer "average_size":64,"size_variation":16,"delay":500`), withRedis(inOrder, all), slowly()},
		{"limit data", toxics(`limit_data "bytes":50`), withRedis(inOrder+patience, none), atOnce()},
		{"reset", toxics(`reset_peer "timeout":0`), withRedis(inOrder+patience, none), atOnce()},
		{"reset of what is sent", toxics(`reset_peer@upstream "timeout":0`), withRedis(inOrder+patience, none), atOnce()},
		{"down", func(c *cable) { c.proxy.Stop() }, withRedis(inOrder+patience, none), atOnce()},
		{"half open", toxics(`timeout "timeout":0`), withRedis(inOrder+patience, none), inVain()},
		{"half open for what is sent", toxics(`timeout@upstream "timeout":0`), withRedis(inOrder+patience, none), inVain()},
		{"slow close", toxics(`slow_close "delay":20000`), withRedis(inOrder, all), slowly()},
		{"slow close, and hung up", func(c *cable) { c.toxics(`slow_close "delay":20000`)(); c.hangUp() },
			// One click gets the dead connection and waits for it in vain, once.
			withRedis(inOrder+patience, some),
			ends{"redirected", "redirected|redirected_by_hash", "redirected", inOrder + oneCall, inOrder + oneCall, inOrder, all}},
	}
}

// TestMatrix tries every fault on the connection to each dependency, with simultaneous clicks of
// shoppers about whom nothing, something or everything is cached.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, fault := range faults() {
		if !suite.Runs(fault.name, "latency", "down", "half open", "slow close, and hung up") {
			continue
		}
		t.Run("Redis/"+fault.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t)
			m.try(m.redis, fault.put, fault.redis)
		})
		// A connected store stays connected for an instance that has loaded its record.
		t.Run("Redis, many stores/"+fault.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, servertest.ManyStores)
			m.Connect()
			m.try(m.redis, fault.put, fault.redis)
		})
		t.Run("Recharge/"+fault.name, func(t *testing.T) {
			t.Parallel()
			for i := range 5 {
				m := newMatrix(t)
				if m.try(m.recharge, fault.put, fault.recharge) {
					return
				}
				t.Logf("try %d: Redis was late", i+1)
			}
			t.Error("Redis was late each time")
		})
	}
}

// matrix is the program on two cables.
type matrix struct {
	*servertest.Fixture
	redis, recharge *cable
	people          []rechargetest.Customer
	client          *http.Client
}

func newMatrix(t *testing.T, change ...func(*config.Settings)) *matrix {
	t.Helper()
	m := &matrix{people: servertest.Subscribers(6), client: servertest.NewClient(t)}
	change = append(change, func(s *config.Settings) {
		m.redis = newCable(t, strings.TrimPrefix(s.RedisURL, "redis://"))
		m.redis.hangUp = func() { hangUpRedis(t, m.redis.upstream) }
		s.RedisURL = "redis://" + m.redis.addr()
		m.recharge = m.toRecharge(t, s.RechargeAPIURL)
		s.RechargeAPIURL = "http://" + m.recharge.addr()
		s.RechargeTimeout, s.ClickTimeout = oneCall.String(), oneClick.String()
	})
	m.Fixture = servertest.StartWith(t, storetest.Redis(t), change...)
	m.Recharge.SetCustomers(append(servertest.Customers(), m.people...))
	return m
}

// toRecharge returns a cable to Recharge through a proxy that can hang up, since the emulator closes
// no connection itself.
func (m *matrix) toRecharge(t *testing.T, to string) *cable {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	front := httptest.NewServer(forward)
	t.Cleanup(front.Close)
	c := newCable(t, front.Listener.Addr().String())
	c.hangUp = front.CloseClientConnections
	return c
}

func hangUpRedis(t *testing.T, addr string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer func() { _ = client.Close() }()
	if err := client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
}

// click lets these shoppers click at the same time and returns their visits in the same order.
func (m *matrix) click(people ...rechargetest.Customer) []servertest.Visit {
	m.T.Helper()
	rides := make([]servertest.Visit, len(people))
	var wg sync.WaitGroup
	for i, person := range people {
		query := m.Store.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", servertest.AppSecret)
		wg.Go(func() {
			var err error
			if rides[i], err = servertest.VisitAt(m.client, m.Public, "/apps/subscriptions?"+query); err != nil {
				m.T.Error(err)
			}
			if err := rides[i].CheckOwner(person); err != nil {
				m.T.Error(err)
			}
		})
	}
	wg.Wait()
	return rides
}

// open follows a signed-in link and checks whose portal opens.
func (m *matrix) open(r servertest.Visit, person rechargetest.Customer) {
	m.T.Helper()
	if r.Outcome != "redirected" { // by hash, the portal asks Shopify who it is
		return
	}
	if opening := m.Open(m.client, r.Location); opening.Customer.ShopifyCustomerID != person.ShopifyCustomerID {
		m.T.Errorf("the link of %s opens the portal of %q", person.ShopifyCustomerID, opening.Customer.ShopifyCustomerID)
	}
}

// try lets some shoppers be cached, breaks the cable, lets all click, heals it, and lets all click
// again. It judges nothing and returns false if Redis was late without being broken, as on a busy machine.
func (m *matrix) try(c *cable, breaks func(*cable), want ends) bool {
	m.T.Helper()
	known, warm := m.people[2:4], m.people[4:]
	m.well(known)
	m.Clock.Add(2 * time.Hour)
	m.well(warm)
	m.Calls()

	breaks(c)
	rides := m.click(m.people...)
	calls := m.Calls()
	c.heal()
	if c != m.redis && len(m.Log.Lines("cannot reach Redis; clicks go on without it")) > 0 {
		return false
	}

	wants := []struct {
		state, outcome string
		within         time.Duration
	}{{isCold, want.cold, want.coldIn}, {isKnown, want.known, want.knownIn}, {isWarm, want.warm, want.warmIn}}
	for i, r := range rides {
		want := wants[i/2]
		if !slices.Contains(strings.Split(want.outcome, "|"), r.Outcome) {
			m.T.Errorf("%s: click = %s; want %s", want.state, r.Outcome, want.outcome)
		}
		if r.Took > min(want.within, oneClick) {
			m.T.Errorf("%s: the click took %v; want %v at most", want.state, r.Took, want.within)
		}
		m.open(r, m.people[i])
	}
	// The four who are not warm ask for a link, if they get that far.
	if n := calls["portal_access"]; want.recalls == all && n > 4 || want.recalls == none && n != 6 {
		m.T.Errorf("calls %v; want Redis to have the links of warm shoppers: %s", calls, want.recalls)
	}

	begun := time.Now()
	m.Clock.Add(2 * time.Second) // how long the store leaves Redis alone
	m.Until("all is well again", func() bool {
		for _, r := range m.click(m.people...) {
			if r.Outcome != "redirected" {
				return false
			}
		}
		return m.reaches()
	})
	if took := time.Since(begun); took > recovery {
		m.T.Errorf("recovery took %v; want at most %v", took, recovery)
	}
	for i, r := range m.click(m.people...) {
		m.open(r, m.people[i])
	}
	return true
}

// well lets shoppers click while nothing is broken, so that they are cached. On a busy machine, a call
// to Recharge can be late; such a shopper clicks again.
func (m *matrix) well(people []rechargetest.Customer) {
	m.T.Helper()
	m.Until("before the fault, each click ends in the portal, signed in", func() bool {
		return !slices.ContainsFunc(m.click(people...), func(v servertest.Visit) bool { return v.Outcome != "redirected" })
	})
}

// reaches reports whether Redis is in use, according to the log.
func (m *matrix) reaches() bool {
	return len(m.Log.Lines("cannot reach Redis; clicks go on without it")) == len(m.Log.Lines("can reach Redis again"))
}

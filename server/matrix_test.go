package server_test

// What lies between the program and the two it depends on goes wrong here, one
// way at a time: a proxy on each of the two ways delays, starves, cuts and stops
// what passes.

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

	"manage-subscriptions/config"
	"manage-subscriptions/internal/servertest"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/internal/suite"
	"manage-subscriptions/recharge/rechargetest"
)

// The shoppers of the matrix, by what is remembered of them when the fault comes.
const (
	isCold  = "cold"  // nothing
	isKnown = "known" // who they are at Recharge; link and session are over
	isWarm  = "warm"  // the link
)

// What a click may take here. A click in order takes some 20 ms; the rest is for
// a machine that does other things, too.
const (
	inOrder  = 2 * time.Second
	patience = 500 * time.Millisecond // of the store with Redis
	oneCall  = 500 * time.Millisecond // RECHARGE_TIMEOUT below
	twoCalls = 2*oneCall + 50*time.Millisecond
	oneClick = 3 * time.Second // CLICK_TIMEOUT below
)

// ends is how each shopper's click ends, and by when.
type ends struct {
	cold, known, warm string // outcomes; where more than one may be, with a "|" between
	coldIn, knownIn   time.Duration
	warmIn            time.Duration
	recalls           recalls
}

// recalls tells of how many warm shoppers Redis still tells the link: they make
// no call.
type recalls string

const (
	all  recalls = "all"
	some recalls = "some"
	none recalls = "none"
)

// withRedis: whatever Redis does, every click ends in the portal, signed in.
func withRedis(within time.Duration, recalls recalls) ends {
	return ends{"redirected", "redirected", "redirected", within, within, within, recalls}
}

// slowly: Recharge gives what is asked for, later.
func slowly() ends {
	return ends{"redirected", "redirected", "redirected", inOrder, inOrder, inOrder, all}
}

// atOnce: Recharge gives nothing, and nobody has to wait to find out.
func atOnce() ends {
	return ends{"unavailable", "redirected_by_hash", "redirected", inOrder, inOrder, inOrder, all}
}

// inVain: Recharge gives nothing in time: the lookup is tried twice, the session
// once.
func inVain() ends {
	return ends{"unavailable", "redirected_by_hash", "redirected", inOrder + twoCalls, inOrder + oneCall, inOrder, all}
}

// cable is the way to one dependency, with a proxy in it.
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

// addr is where the program finds the dependency.
func (c *cable) addr() string { return c.proxy.Listen }

// toxics puts them in: each is a type, "@upstream" where it is about what the
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

// heal makes it a plain cable again.
func (c *cable) heal() {
	c.t.Helper()
	c.proxy.Toxics.ResetToxics(context.Background())
	if c.proxy.Enabled {
		return
	}
	// Somebody's outgoing connection may have the port for a moment.
	deadline := time.Now().Add(10 * time.Second)
	for c.proxy.Start() != nil {
		if time.Now().After(deadline) {
			c.t.Fatal("the proxy does not start again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// faults are all that can be wrong with a cable.
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
			// Whoever gets the dead connection waits for it in vain, once.
			withRedis(inOrder+patience, some),
			ends{"redirected", "redirected|redirected_by_hash", "redirected", inOrder + oneCall, inOrder + oneCall, inOrder, all}},
	}
}

// TestMatrix is every fault of the way to every dependency, for shoppers of whom
// nothing, something or all is remembered, who click at the same time.
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
		// A store that was connected stays so for an instance that has seen it.
		t.Run("Redis, many stores/"+fault.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, servertest.ManyStores)
			m.Connect()
			m.try(m.redis, fault.put, fault.redis)
		})
		t.Run("Recharge/"+fault.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t)
			m.try(m.recharge, fault.put, fault.recharge)
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

// toRecharge goes over one that can hang up; the emulator closes no connection
// of its own.
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

// click lets these shoppers click at the same time. It returns their rides in
// their order.
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

// open follows a signed-in link and compares who is at home.
func (m *matrix) open(r servertest.Visit, person rechargetest.Customer) {
	m.T.Helper()
	if r.Outcome != "redirected" { // by hash, the portal asks Shopify who it is
		return
	}
	if opening := m.Open(m.client, r.Location); opening.Customer.ShopifyCustomerID != person.ShopifyCustomerID {
		m.T.Errorf("the link of %s opens the portal of %q", person.ShopifyCustomerID, opening.Customer.ShopifyCustomerID)
	}
}

// try remembers something of some shoppers, breaks the cable, lets all click,
// mends it, and lets all click again.
func (m *matrix) try(c *cable, breaks func(*cable), want ends) {
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
	// The four who are not warm always ask for a link, where they get as far as that.
	if n := calls["portal_access"]; want.recalls == all && n > 4 || want.recalls == none && n != 6 {
		m.T.Errorf("calls %v; want warm clicks to be remembered: %s", calls, want.recalls)
	}

	begun := time.Now()
	m.Clock.Add(2 * time.Second) // the rest that Redis is given
	m.Until("all is well again", func() bool {
		for _, r := range m.click(m.people...) {
			if r.Outcome != "redirected" {
				return false
			}
		}
		return m.reaches()
	})
	// Each look that comes too early costs a rest of a second more; a machine that does
	// other things, too, is late for some of them.
	if took := time.Since(begun); took > 6*time.Second {
		m.T.Errorf("it is well again after %v; want a moment", took)
	}
	for i, r := range m.click(m.people...) {
		m.open(r, m.people[i])
	}
}

// well lets shoppers click while all is in order, so that they are remembered. On a busy
// machine a call to Recharge can be late; such a shopper clicks again.
func (m *matrix) well(people []rechargetest.Customer) {
	m.T.Helper()
	m.Until("before the fault, each click ends in the portal, signed in", func() bool {
		return !slices.ContainsFunc(m.click(people...), func(v servertest.Visit) bool { return v.Outcome != "redirected" })
	})
}

// reaches tells that Redis is in use, as far as the log tells.
func (m *matrix) reaches() bool {
	return len(m.Log.Lines("cannot reach Redis; clicks go on without it")) == len(m.Log.Lines("can reach Redis again"))
}

package server_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// The soak is the property test of the first promise: once a Recharge webhook about a record is
// answered 200, no click leads to that record unless the record names the shopper.
//
// A few seconds of it run with all other tests. A million clicks take some minutes:
//
//	go test ./server -run 'TestSoak$' -count=1 -v -timeout 1h -soak.clicks=1000000 -soak.seed=7
//
// and ten million an hour or so:
//
//	go test ./server -run 'TestSoak$' -count=1 -v -timeout 6h -soak.clicks=10000000
//
// The seed determines what every goroutine does, but not how they interleave. The same seed gives a
// similar run, not the same one.
var (
	soakClicks = flag.Int("soak.clicks", 0, "clicks of TestSoak; 0 is 15,000 with CI=true, else 4,000, and a few seconds at most")
	soakSeed   = flag.Uint64("soak.seed", 0, "seed of TestSoak; 0 draws one")
)

const (
	soakShoppers = 60
	soakClickers = 48  // goroutines
	soakInFlight = 600 // webhooks on their way, including late ones
)

// quick returns how many clicks a soak makes in an ordinary test run, and how long it may take.
func quick() (clicks int64, most time.Duration) {
	return suite.Pick[int64](15000, 4000), suite.Pick(6*time.Second, 2*time.Second)
}

// TestSoak drives two instances that serve one store.
func TestSoak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("one store", func(t *testing.T) {
		w := newSoakWorld(t, lastingRedis(t))
		w.populate(soakShoppers)
		clicks, most := quick()
		newSoak(t, w, clicks, most).run()
	})
	nothingRuns(t, before)
}

// TestSoakManyStores drives two instances that serve many stores, one of which is connected. It does
// not uninstall the app, which would disconnect the store, nor ask for links, whose keys would have to
// be made in the admin.
func TestSoakManyStores(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("one of many", func(t *testing.T) {
		w := newSoakWorld(t, lastingRedis(t), servertest.ManyStores, func(s *config.Settings) {
			s.RechargeClientSecret, s.PortalAPIKey = "", ""
		})
		w.many = true
		w.populate(soakShoppers)
		w.f.T, w.f.Public = t, w.taps[0].Addr().String()
		w.f.Connect()
		address, err := url.Parse(w.f.Recharge.Webhooks()["customer/updated"][0])
		if err != nil {
			t.Fatal(err)
		}
		w.hook = address.Path
		clicks, most := quick()
		newSoak(t, w, clicks/3, most/3).run()
	})
	nothingRuns(t, before)
}

// nothingRuns waits until no goroutine is left. go-redis keeps dialling for a second if it is closed
// while Redis is down.
func nothingRuns(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for range 8 { // each try takes about 400 ms
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// soak is a run through a world.
type soak struct {
	*soakWorld
	t    *testing.T
	seed uint64

	wanted int64
	most   time.Duration // 0: as long as it takes
	clicks atomic.Int64

	post     chan struct{} // holds one for each webhook on its way
	postmen  sync.WaitGroup
	stopping context.Context // ends when there are enough clicks
	stop     context.CancelFunc
}

func newSoak(t *testing.T, w *soakWorld, clicks int64, most time.Duration) *soak {
	s := &soak{soakWorld: w, t: t, seed: *soakSeed, wanted: clicks, most: most, post: make(chan struct{}, soakInFlight)}
	if *soakClicks > 0 {
		s.wanted, s.most = int64(*soakClicks), 0
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	s.stopping, s.stop = context.WithCancel(t.Context())
	return s
}

// run makes enough clicks, waits for everything under way, and reports.
func (s *soak) run() {
	s.t.Logf("seed %d: %d clicks, for at most %v", s.seed, s.wanted, s.most)
	if s.most > 0 {
		timer := time.AfterFunc(s.most, s.stop)
		defer timer.Stop()
	}
	begun := time.Now()
	var all sync.WaitGroup
	for i := range soakClickers {
		all.Go(func() { s.clicker(s.random(i)) })
	}
	all.Go(func() { s.trouble(s.random(soakClickers)) })
	all.Go(func() { s.killRedis(s.random(soakClickers + 1)) })
	all.Go(s.importOften)
	all.Wait()
	s.postmen.Wait()
	took := time.Since(begun)
	s.convict(s.now())
	s.report(took)
}

// random returns the random numbers of one goroutine.
func (s *soak) random(goroutine int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(goroutine)))
}

// clicker makes clicks and changes the world now and then.
func (s *soak) clicker(random *rand.Rand) {
	lines := []*soakLine{{tap: s.taps[0]}, {tap: s.taps[1]}}
	defer lines[0].close()
	defer lines[1].close()
	for s.stopping.Err() == nil {
		if random.IntN(1000) < 20 && len(s.post) < soakInFlight-10 {
			s.happen(random)
		}
		if random.IntN(2500) == 0 {
			s.erase(random)
		}
		c := s.draw(random)
		s.click(c, lines[c.instance])
		if s.clicks.Add(1) >= s.wanted {
			s.stop()
		}
	}
}

// draw returns a click of any shopper, more often of one about whom something has changed.
func (s *soak) draw(random *rand.Rand) soakClick {
	c := soakClick{door: "proxy", instance: random.IntN(2)}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.shopper = pick(random, s.shoppers)
	if len(s.recent) > 0 && random.IntN(3) == 0 {
		c.shopper = pick(random, s.recent)
	}
	destination, locale := "", ""
	if random.IntN(4) == 0 {
		destination = pick(random, []string{
			"overview", "subscriptions", "schedule", "orders", "addresses", "payment-methods",
			fmt.Sprint("subscriptions/", random.IntN(50)), fmt.Sprint("subscriptions/", random.IntN(50), "/cancel"),
		})
	}
	if random.IntN(8) == 0 {
		locale = pick(random, []string{"fr", "de", "pt-BR", "ja"})
	}
	door := random.IntN(100)
	switch {
	case s.many || door < 75:
		c.path = proxyPath(destination, locale, pick(random, []string{"", "", "", "CA"}))
	case door < 88:
		c.door, c.path = "api", apiBody(fmt.Sprintf(`"shopify_customer_id":%q`, c.shopper), destination, locale)
	default:
		c.door, c.shopper, c.asked = "api", "", s.anyRecord(random)
		c.path = apiBody(fmt.Sprintf(`"recharge_customer_id":%d`, c.asked.id), destination, locale)
	}
	return c
}

// anyRecord returns a record that exists or did. The world's mutex is held.
func (s *soak) anyRecord(random *rand.Rand) *soakRecord {
	if len(s.deleted) > 0 && random.IntN(5) == 0 {
		return pick(random, s.deleted)
	}
	return pick(random, s.records)
}

func pick[T any](random *rand.Rand, all []T) T { return all[random.IntN(len(all))] }

// happen changes something at Recharge and sends the webhooks about it.
func (s *soak) happen(random *rand.Rand) {
	s.mu.Lock()
	kind, edits := s.plan(random)
	s.counts[kind]++
	messages := s.change(edits...)
	s.mu.Unlock()
	for _, m := range messages {
		s.tell(m, random)
	}
}

// plan draws a change. The world's mutex is held.
func (s *soak) plan(random *rand.Rand) (kind string, edits []edit) {
	one, other := pick(random, s.records), pick(random, s.records)
	switch n := random.IntN(100); {
	case n < 35 && one != other:
		return "swap", []edit{{one, other.owner, one.active, true}, {other, one.owner, other.active, true}}
	case n < 50:
		owner := pick(random, append(slices.Clone(s.shoppers), "", "", ""))
		return "move", []edit{{one, owner, one.active, true}}
	case n < 65 && one.owner != "" && one != other:
		first := random.IntN(2) == 0
		return "merge", []edit{{one, one.owner, first, true}, {other, one.owner, !first, true}}
	case n < 85:
		return "settle", s.settle(pick(random, s.shoppers), one)
	case n < 92 && len(s.records) > soakShoppers:
		return "delete", []edit{{one, one.owner, one.active, false}}
	case len(s.records) > 2*soakShoppers:
		return "move", []edit{{one, "", one.active, true}}
	}
	return "create", []edit{s.creation(random)}
}

// settle makes a record the only active one of a shopper.
func (s *soak) settle(shopper string, only *soakRecord) []edit {
	edits := []edit{{only, shopper, true, true}}
	for _, r := range s.records {
		if r != only && r.owner == shopper && r.active {
			edits = append(edits, edit{r, shopper, false, true})
		}
	}
	return edits
}

// creation returns the creation of a new record, or of a deleted one.
func (s *soak) creation(random *rand.Rand) edit {
	owner := pick(random, s.shoppers)
	if len(s.deleted) > 0 && random.IntN(3) == 0 {
		return edit{pick(random, s.deleted), owner, random.IntN(2) == 0, true}
	}
	return edit{s.newRecord(), owner, true, true}
}

// tell delivers a message in a goroutine of its own, at once, late, twice, lost and then repeated, or
// never. A late message is stale, because it has the record as it was when it changed.
func (s *soak) tell(m soakMessage, random *rand.Rand) {
	short := time.Duration(random.IntN(int(300 * time.Millisecond)))
	long := time.Duration(random.IntN(int(2 * time.Second)))
	switch n := random.IntN(100); {
	case n < 50:
		s.carry(random, func(int) {}, m, 0)
	case n < 70:
		s.carry(random, func(int) {}, m, short)
	case n < 85:
		s.carry(random, func(int) {}, m, 0, long)
	case n < 95:
		s.carry(random, func(instance int) { s.lose(m, instance) }, m, long)
	default:
		s.mu.Lock()
		s.counts["webhook never sent"]++
		s.mu.Unlock()
	}
}

// carry calls first at once and then delivers the message after each of the delays.
func (s *soak) carry(random *rand.Rand, first func(instance int), m soakMessage, after ...time.Duration) {
	instance := random.IntN(2)
	s.post <- struct{}{}
	s.postmen.Go(func() {
		defer func() { <-s.post }()
		first(instance)
		for i, d := range after {
			s.repeat(d, func(try int) bool { return s.deliver(m, (instance+i+try)%2) })
		}
	})
}

// repeat waits and sends, again and again, until send is done or the run is over.
func (s *soak) repeat(after time.Duration, send func(try int) (done bool)) {
	for try := 0; pause(s.stopping, after) && !send(try); try++ {
		after = 100 * time.Millisecond
	}
}

// erase makes Shopify send a webhook to erase a shopper or the whole shop.
func (s *soak) erase(random *rand.Rand) {
	id, instance := fmt.Sprint("soak-", s.ids.Add(1)), random.IntN(2)
	topic, body := "customers/redact", servertest.ShopperBody(pick(random, s.shoppers))
	if !s.many && random.IntN(3) == 0 {
		topic, body = "app/uninstalled", servertest.UninstalledBody()
	}
	twice := random.IntN(3) == 0
	s.post <- struct{}{}
	s.postmen.Go(func() {
		defer func() { <-s.post }()
		s.repeat(0, func(try int) bool { return s.tellShopify(topic, body, id, (instance+try)%2) })
		if twice {
			s.repeat(200*time.Millisecond, func(int) bool { return s.tellShopify(topic, body, id, 1-instance) })
		}
	})
}

// trouble goes through phases in which Recharge answers slowly, wrongly, or not at all. It also lets
// the judge look again at clicks that are old enough.
func (s *soak) trouble(random *rand.Rand) {
	const judged = stamp(3 * time.Second)
	for {
		name, faults, lasts := phase(random)
		s.f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = faults })
		s.count("phase " + name)
		s.convict(s.now() - judged)
		if !pause(s.stopping, lasts) {
			s.f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} })
			return
		}
	}
}

// phase draws what is wrong with Recharge, and for how long. In all phases, its answers take a few
// milliseconds, before and after it looks. If its answers are unusable, the phase mostly lasts for a
// call or two, because after five such calls the programs stop calling it for some seconds, in which
// there is little to find.
func phase(random *rand.Rand) (name string, f rechargetest.Faults, lasts time.Duration) {
	f.Latency = time.Duration(random.IntN(int(3 * time.Millisecond)))
	f.Lag = time.Duration(random.IntN(int(6 * time.Millisecond)))
	lasts = time.Duration(5+random.IntN(80)) * time.Millisecond
	if random.IntN(8) == 0 { // a slow answer with old data
		f.Only = pick(random, endpoints())
		f.Lag *= 10
	}
	name = misbehave(random, &f)
	if f.Truncate || f.Status != 0 || f.Down {
		f.Lag, f.Only = 0, pick(random, endpoints())
		if random.IntN(40) > 0 {
			lasts = 2 * time.Millisecond
		}
	}
	return name, f, lasts
}

func misbehave(random *rand.Rand, f *rechargetest.Faults) (name string) {
	switch n := random.IntN(1000); {
	case n < 100:
		f.IgnoreFilter = true
		return "without filter"
	case n < 160:
		f.OtherRecord = true
		return "other records"
	case n < 220:
		f.ForeignSession = true
		return "foreign sessions"
	case n < 280:
		f.ForeignPortal = true
		return "foreign portals"
	case n < 300:
		f.IgnoreFilter, f.OtherRecord, f.ForeignSession, f.ForeignPortal = true, true, true, true
		return "all foreign"
	case n < 320:
		f.Truncate = true
		return "cut answers"
	case n < 340:
		f.Status = 500
		return "server errors"
	case n < 350:
		f.Down = true
		return "down"
	case n < 352:
		f.Limited, f.RetryAfter = true, time.Second
		return "limited"
	case n < 370:
		f.Latency = time.Duration(100+random.IntN(200)) * time.Millisecond
		return "slow"
	}
	return "healthy"
}

func endpoints() []string {
	return []string{
		rechargetest.EndpointCustomers, rechargetest.EndpointCustomer,
		rechargetest.EndpointSessions, rechargetest.EndpointPortalAccess,
	}
}

// killRedis kills Redis now and then, once in a quick run.
func (s *soak) killRedis(random *rand.Rand) {
	after := 2 * time.Second
	if s.most > 0 {
		after = s.most / 4
	}
	for pause(s.stopping, after) {
		s.count("Redis killed")
		s.redis.restart(s.stopping, time.Duration(50+random.IntN(600))*time.Millisecond)
		after = time.Duration(10+random.IntN(20)) * time.Second
	}
}

// importOften has all customers imported again and again, on either instance, even during an import.
func (s *soak) importOften() {
	client := redis.NewClient(&redis.Options{Addr: s.f.Redis.Addr, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	for pause(s.stopping, 300*time.Millisecond) {
		if client.ZAddXX(s.stopping, "ms2:shops", redis.Z{Member: servertest.Shop}).Err() == nil {
			s.count("import ordered")
		}
	}
}

// report prints what was done, and what was found.
func (s *soak) report(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clicks := s.clicks.Load()
	s.t.Logf("seed %d: %d clicks in %v, %.0f a second\n%s", s.seed, clicks, took.Round(time.Millisecond),
		float64(clicks)/took.Seconds(), listing(s.counts))
	for _, text := range s.findings {
		s.t.Error(text)
	}
	if len(s.kinds) > 0 {
		s.t.Errorf("findings in %d clicks, %d of them above; -soak.seed=%d\n%s",
			clicks, len(s.findings), s.seed, listing(s.kinds))
	}
	for _, text := range s.error.panicked() {
		s.t.Errorf("a panic: %s", text)
	}
}

// listing returns counts, one a line.
func listing(counts map[string]int) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%9d %s\n", counts[name], name)
	}
	return b.String()
}

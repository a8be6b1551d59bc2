package virtual_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/internal/virtual"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestDay runs a day in virtual time, faults included; without CI=true, it ends in the morning.
// Nothing but the cache of shoppers may have grown since the first hour.
func TestDay(t *testing.T) {
	before := goleak.IgnoreCurrent()
	key, err := rsa.GenerateKey(rand.Reader, 1024) // weak and quick: it signs a thousand times
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := &day{t: t, end: suite.Pick(wholeDay, halfDay) - quiet, chance: mathrand.New(mathrand.NewPCG(5, 24)), outcomes: map[string]int{}}
		d.people()
		d.world, err = virtual.Start(virtual.Options{OwnRedis: true, Index: true, Customers: d.customers, SigningKey: key})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := d.world.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
		d.plan()
		d.live(firstHour)
		early := d.look()
		d.live(d.end)
		late := d.look()
		d.compare(early, late)
		d.keys()
		t.Logf("%d clicks of %d people ended so: %v; after an hour and a day: %s; %s", d.clicks, len(d.all), d.outcomes, early, late)
		for _, outcome := range []string{"redirected", "redirected_by_hash", "not_a_subscriber", "unavailable"} {
			if d.outcomes[outcome] == 0 {
				t.Errorf("no click ended in %s; want at least one in a day", outcome)
			}
		}
	})
	goleak.VerifyNone(t, before)
}

const (
	// A look is taken when no hourly job is running, the last one when all sessions of the evening
	// have expired.
	firstHour = time.Hour + quiet
	wholeDay  = 24 * time.Hour
	halfDay   = 8 * time.Hour
	// quiet is the pause before each look. Unused connections are closed after at most two minutes.
	quiet = 5 * time.Minute
	town  = 200 // people
)

// person is a shopper; one without a hash never subscribed.
type person struct{ id, hash string }

// event is something that happens at a time of the day.
type event struct {
	at time.Duration
	do func()
}

type day struct {
	t         *testing.T
	world     *virtual.World
	chance    *mathrand.Rand
	all       []person
	customers []rechargetest.Customer
	events    []event
	start     time.Time
	end       time.Duration // of the day
	clicks    int

	mu       sync.Mutex
	outcomes map[string]int
	over     time.Time // when Recharge's sessions were last ended early
}

func (d *day) expired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = time.Now()
}

func (d *day) people() {
	for i := range town {
		who := person{id: fmt.Sprint(6100200300000 + i)}
		if i%10 != 0 {
			who.hash = fmt.Sprintf("%016x", 0x1f2e3d4c00000000+i)
			d.customers = append(d.customers, rechargetest.Customer{
				ID: int64(70100000 + i), Hash: who.hash, ShopifyCustomerID: who.id, FirstName: fmt.Sprint("Pat ", i),
				Subscriptions: []rechargetest.Subscription{{ID: int64(50500000 + i), Product: "Morning House"}},
			})
		}
		d.all = append(d.all, who)
	}
}

// plan decides what happens when. Nothing happens shortly before a look.
func (d *day) plan() {
	d.start = time.Now()
	evening := d.end - time.Hour - quiet
	for _, who := range d.all {
		for range 1 + d.chance.IntN(3) {
			d.visit(d.hour(), who)
		}
	}
	// An e-mail goes out in the evening, and one in the first hour, so that a rush is nothing new
	// by then.
	for _, at := range []time.Duration{10 * time.Minute, evening - 3*time.Hour} {
		for _, who := range d.all[:town/3] {
			d.click(at+time.Duration(d.chance.IntN(int(20*time.Second))), who, "")
		}
	}
	for i, fault := range []rechargetest.Faults{
		{Down: true}, {Status: 503}, {Limited: true}, {Limited: true, RetryAfter: time.Minute}, {Latency: 10 * time.Second},
		{Truncate: true}, {Status: 500, Only: "sessions"}, {Latency: 5 * time.Second, Only: "portal_access"}, {Down: true, Only: "customers"},
	} {
		at := time.Duration(4+2*i)*time.Hour + 30*time.Minute
		d.add(at, func() { d.world.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = fault }) })
		for range 10 {
			d.visit(at+time.Duration(d.chance.IntN(int(5*time.Minute))), d.all[d.chance.IntN(town)])
		}
		d.add(at+5*time.Minute, func() { d.world.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} }) })
	}
	for at := 15 * time.Minute; at < evening; at += 25 * time.Minute {
		changed := d.customers[d.chance.IntN(len(d.customers))]
		d.add(at, func() { d.world.Recharge.ChangeCustomer(changed) })
		if d.chance.IntN(5) == 0 {
			d.add(at+time.Minute, func() { d.expired(); d.world.Recharge.ExpireSessions() })
		}
	}
	d.events = slices.DeleteFunc(d.events, func(e event) bool { return e.at >= evening })
	slices.SortStableFunc(d.events, func(a, b event) int { return int(a.at - b.at) })
}

// hour returns a random time of the day. Few people shop at night, most in the evening.
func (d *day) hour() time.Duration {
	for {
		hour := d.chance.IntN(22)
		if d.chance.IntN(10) < []int{2, 1, 1, 1, 1, 2, 4, 6, 6, 5, 5, 6, 8, 6, 5, 5, 6, 7, 8, 9, 10, 9}[hour] {
			return time.Duration(hour)*time.Hour + time.Duration(d.chance.IntN(int(45*time.Minute)))
		}
	}
}

// visit adds one click, a double click, or clicks to several pages.
func (d *day) visit(at time.Duration, who person) {
	pages := []string{"", "/orders", "/schedule", "/payment-methods", "/overview/"}
	page := pages[d.chance.IntN(len(pages))]
	d.click(at, who, page)
	switch d.chance.IntN(4) {
	case 0:
		d.click(at+200*time.Millisecond, who, page)
	case 1:
		d.click(at+30*time.Second, who, page)
		d.click(at+2*time.Minute, who, pages[d.chance.IntN(len(pages))])
	}
}

func (d *day) add(at time.Duration, do func()) { d.events = append(d.events, event{at, do}) }

func (d *day) click(at time.Duration, who person, page string) {
	d.clicks++
	d.add(at, func() { d.land(who, page) })
}

// land clicks and checks that the answer is right for that person.
func (d *day) land(who person, page string) {
	answer, err := d.world.Click(d.t.Context(), who.id, page)
	outcome := answer.Outcome()
	d.mu.Lock()
	d.outcomes[outcome]++
	reused := time.Since(d.over) <= d.world.Config.LinkTTL // the program cannot know that such a link has expired
	d.mu.Unlock()
	at := time.Since(d.start)
	switch {
	case err != nil || answer.Status >= http.StatusInternalServerError || answer.Took > d.world.Config.ClickTimeout:
		d.t.Errorf("%s: click = %d, %v after %s; want an answer within %s", at, answer.Status, err, answer.Took, d.world.Config.ClickTimeout)
	case outcome == "redirected" || outcome == "redirected_by_hash":
		if who.hash == "" || answer.Hash() != who.hash {
			d.t.Errorf("%s: %+v is sent to the portal of %q", at, who, answer.Hash())
		}
	case outcome == "not_a_subscriber" && who.hash == "", outcome == "unavailable":
	default:
		d.t.Errorf("%s: click of %+v ended in %q", at, who, outcome)
	}
	if outcome != "redirected" {
		return
	}
	if opens, err := d.world.Open(d.t.Context(), answer); err != nil || !opens && !reused {
		d.t.Errorf("%s: the signed-in portal opens: %t, %v", at, opens, err)
	}
}

// live lets everything until then happen.
func (d *day) live(until time.Duration) {
	var under sync.WaitGroup
	for len(d.events) > 0 && d.events[0].at < until-quiet {
		time.Sleep(time.Until(d.start.Add(d.events[0].at)))
		under.Go(d.events[0].do)
		d.events = d.events[1:]
	}
	under.Wait()
	time.Sleep(time.Until(d.start.Add(until)))
}

// sight is what the program uses at a quiet moment.
type sight struct {
	goroutines  int
	stacks      string
	connections map[string]int
	heap        uint64
}

func (s sight) String() string {
	return fmt.Sprintf("%d goroutines, connections %v, %d KiB", s.goroutines, s.connections, s.heap>>10)
}

func (d *day) look() sight {
	d.world.Recharge.ResetRequests() // so that the emulator's memory is not measured
	synctest.Wait()
	var s sight
	var stacks strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	s.goroutines, s.stacks, s.connections = runtime.NumGoroutine(), stacks.String(), d.world.Connections()
	var memory runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one empties sync.Pool
	runtime.ReadMemStats(&memory)
	s.heap = memory.HeapAlloc
	return s
}

// moreHeap is for the cache of shoppers, here and in the emulators. A leak of one byte a second
// would add 80 KiB, and one of a kilobyte a second 80 MiB.
const moreHeap = 4 << 20

// ofRedis is how many goroutines the emulated Redis has for a connection.
const ofRedis = 3

func (d *day) compare(early, late sight) {
	// go-redis keeps as many connections as it ever needed at once, up to the size of its pool. That
	// number depends on chance.
	pool := 10 * runtime.GOMAXPROCS(0)
	more := max(0, late.connections["redis"]-early.connections["redis"])
	if late.goroutines > early.goroutines+more*ofRedis {
		d.t.Errorf("%d goroutines after the day, %d after its first hour, and %d more connections to Redis:\n%s\n%s",
			late.goroutines, early.goroutines, more, late.stacks, early.stacks)
	}
	for what, n := range late.connections {
		if what == "redis" && n > pool || what != "redis" && n > early.connections[what] {
			d.t.Errorf("%d connections to %s after the day, %d after its first hour", n, what, early.connections[what])
		}
	}
	if late.heap > early.heap+moreHeap {
		d.t.Errorf("%d KiB of heap after the day, %d after its first hour", late.heap>>10, early.heap>>10)
	}
}

// keys checks that Redis holds a key for each shopper, the day's numbers and next to nothing else at
// the end, and nothing for ever.
func (d *day) keys() {
	kinds := map[string]int{}
	for _, key := range d.world.Redis.Keys() {
		_, kind, _ := strings.Cut(key, "}:")
		kind, _, _ = strings.Cut(kind, ":")
		kinds[kind]++
		// The store's record and the progress of its import stay as long as the store does.
		ofStore := key == "ms2:shops" || kind == "shop" || kind == "i"
		if d.world.Redis.TTL(key) == 0 && !ofStore {
			d.t.Errorf("%s is kept for ever", key)
		}
	}
	for kind, most := range map[string]int{"c": town, "r": 256, "h": 25} {
		if kinds[kind] > most {
			d.t.Errorf("Redis holds %d keys of kind %s; want %d at most", kinds[kind], kind, most)
		}
		delete(kinds, kind)
	}
	others := 0
	for _, n := range kinds {
		others += n
	}
	if others > 10 {
		d.t.Errorf("Redis holds %d other keys, by kind: %v; want a handful", others, kinds)
	}
}

package server_test

// Campaigns while instances and Redis fail, and while records move: each access is made once, what is said
// about a campaign stays true, and nobody lands in another's portal.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// mailing is a campaign of a store, and what is seen of it.
type mailing struct {
	*servertest.Fixture
	x    *importer.Importer
	id   string
	over chan struct{}
	all  sync.WaitGroup

	mu   sync.Mutex
	last importer.Campaign
	seen int
}

// newMailing starts a server on a Redis that keeps its data on disk, and has it import all customers.
func newMailing(t *testing.T, subscribers int, change ...func(*config.Settings)) *mailing {
	t.Helper()
	f := servertest.New(t, storetest.Redis(t, "--appendonly", "yes"))
	f.Import, f.Customers = true, servertest.Subscribers(subscribers)
	f.Begin("new", "/apps/subscriptions", change...)
	f.WaitForImport()
	m := &mailing{Fixture: f, x: f.Importer(change...), over: make(chan struct{})}
	t.Cleanup(m.stop)
	return m
}

func (m *mailing) stop() {
	select {
	case <-m.over:
	default:
		close(m.over)
	}
	m.all.Wait()
}

// prove has a webhook delivered, so that webhooks are known to arrive.
func (m *mailing) prove() {
	m.T.Helper()
	m.Until("webhooks are registered", func() bool { return len(m.Recharge.Webhooks()["customer/updated"]) > 0 })
	m.MustDeliver(m.Public, "customer/updated", m.Customers[0])
	m.Until("the customer is looked up again", func() bool {
		forecast, err := m.x.Forecast(m.T.Context(), servertest.Shop, importer.Plan{
			Name: "Proof", StartsAt: m.Clock.Now(), Audience: store.ActiveSubscribers,
		})
		return err == nil && forecast.Size >= len(m.Customers)
	})
}

// plan plans a campaign, and watches it from then on.
func (m *mailing) plan(in time.Duration) importer.Campaign {
	m.T.Helper()
	planned, err := m.x.Plan(m.T.Context(), servertest.Shop, importer.Plan{
		Name: "Spring", StartsAt: m.Clock.Now().Add(in), Audience: store.ActiveSubscribers,
	})
	if err != nil {
		m.T.Fatal(err)
	}
	m.id, m.last = planned.ID, planned
	m.all.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-m.over:
				return
			case <-tick.C:
				m.look()
			}
		}
	})
	return planned
}

// look compares what is said about the campaign with what was said before. While Redis is down, nothing is.
func (m *mailing) look() {
	all, err := m.x.Campaigns(m.T.Context(), servertest.Shop)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(all) != 1 {
		m.T.Errorf("there are %d campaigns; want one", len(all))
		return
	}
	now, before := all[0], m.last
	m.last = now
	m.seen++
	if now.Prepared() < before.Prepared() || now.Pass < before.Pass || now.Made < before.Made ||
		now.Pass == before.Pass && now.Position < before.Position || before.Planned && (!now.Planned || now.Size != before.Size) {
		m.T.Errorf("the progress went back from %+v to %+v", before.Progress, now.Progress)
	}
}

func (m *mailing) now() importer.Campaign {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// untilPrepared waits until a part of the accesses is made.
func (m *mailing) untilPrepared(part float64) {
	m.T.Helper()
	m.Until(fmt.Sprintf("%g of the accesses are made", part), func() bool {
		now := m.now()
		return now.Planned && float64(now.Prepared()) >= part*float64(now.Size)
	})
}

// accesses counts the portal accesses that Recharge was asked for, by customer.
func (m *mailing) accesses() map[int64]int {
	m.T.Helper()
	made := map[int64]int{}
	for _, request := range m.Recharge.Requests() {
		if request.Endpoint != rechargetest.EndpointPortalAccess {
			continue
		}
		parts := strings.Split(request.Header.Get("X-Recharge-Access-Token"), ".")
		var claims struct {
			Customer int64 `json:"customer_id"`
		}
		text, err := base64.RawURLEncoding.DecodeString(parts[len(parts)/2])
		if err != nil || json.Unmarshal(text, &claims) != nil || claims.Customer == 0 {
			m.T.Fatalf("a session token reads %q", parts)
		}
		made[claims.Customer]++
	}
	return made
}

// leaseEnds makes the work on campaigns due now, as it is half a minute after an instance was killed or could
// not reach Redis.
func (m *mailing) leaseEnds() {
	m.T.Helper()
	client := redis.NewClient(&redis.Options{Addr: m.Redis.Addr})
	defer client.Close()
	if err := client.ZAdd(m.T.Context(), "ms2:campaigns", redis.Z{Member: servertest.Shop}).Err(); err != nil {
		m.T.Fatal(err)
	}
}

// finishes waits until all accesses are made, after Redis was down. An instance that met an error leaves the work
// for a minute, and on a busy machine it can meet one again. So the lease is ended whenever the work stands still. A
// shopper whose access failed is met again in the next pass, five minutes later.
func (m *mailing) finishes() {
	m.T.Helper()
	before, moved := 0, time.Time{}
	m.Until("all accesses are made", func() bool {
		now := m.now()
		switch made := now.Prepared(); {
		case made > before:
			before, moved = made, time.Now()
		case time.Since(moved) > 3*time.Second:
			if now.Pass > 0 {
				m.Clock.Add(5 * time.Minute)
			}
			m.leaseEnds()
			moved = time.Now()
		}
		return now.Prepared() >= now.Size
	})
}

// lands clicks at an instance, follows the link, and compares the portal that opens with the shopper.
func (m *mailing) lands(client *http.Client, server, who string) (outcome string) {
	visit := m.Visit(client, server, who)
	if visit.Location == "" {
		return visit.Outcome
	}
	at, err := url.Parse(visit.Location)
	if err != nil {
		m.T.Errorf("%s is sent to %q", who, visit.Location)
		return visit.Outcome
	}
	owner, live := m.Recharge.LinkOwner(at.Query().Get("token"))
	if visit.Outcome == "redirected" && !live {
		m.T.Errorf("%s gets a link that does not open", who)
	}
	for _, customer := range m.Customers {
		if (live && customer.ID == owner || visit.LeadsTo(customer.Hash)) && customer.ShopifyCustomerID != who {
			m.T.Errorf("%s lands in the portal of %s (%s)", who, customer.ShopifyCustomerID, visit.Outcome)
		}
	}
	return visit.Outcome
}

// TestCampaignSurvives: of two instances, the one that works on the campaign is killed in the middle, and then
// Redis. Each access is made once, all are ready when the e-mail goes out, as was said when it was planned,
// and the progress never goes back.
func TestCampaignSurvives(t *testing.T) {
	t.Parallel()
	subscribers := suite.Pick(600, 200)
	quick := func(s *config.Settings) { s.RechargeRate = "80,200" } // twenty accesses a second
	m := newMailing(t, subscribers, servertest.WithWebhooks, quick)
	m.prove()
	m.Stop()
	m.Ended <- <-m.Ended
	line, options := m.Line()
	m.Instance(options, servertest.WithWebhooks, quick)
	m.Calls()
	need := time.Duration(subscribers) * time.Second / 20
	planned := m.plan(need + 12*time.Minute) // a busy machine makes them more slowly, or only in a later pass
	if planned.Size != subscribers || planned.Ready != planned.Size || planned.Need != need || !planned.Proven {
		t.Fatalf("planned %+v; want all %d ready, after %s", planned, subscribers, need)
	}
	m.untilPrepared(0.1)
	servers := m.Second(servertest.WithWebhooks, quick)[1:]
	m.untilPrepared(0.3)
	line.Cut()
	cut := m.now().Prepared()
	time.Sleep(300 * time.Millisecond) // the other one must not take over before the lease ends
	if now := m.now().Prepared(); now > cut+2 {
		t.Errorf("%d accesses were made before the lease of the killed instance had ended", now-cut)
	}
	m.leaseEnds()
	m.untilPrepared(0.6)
	m.Redis.Stop()
	time.Sleep(time.Second)
	m.Redis.Start()
	m.finishes()
	if early := planned.StartsAt.Sub(m.Clock.Now()); early < 0 {
		t.Errorf("all accesses are ready %s after the e-mail; the forecast was that they are before", -early)
	}
	m.Until("the first pass is over", func() bool { return m.now().Pass > 0 })
	m.stop()
	again := 0
	made := m.accesses()
	for _, customer := range m.Customers {
		if n := made[customer.ID]; n == 0 {
			t.Errorf("no access was made for %s", customer.ShopifyCustomerID)
		} else {
			again += n - 1
		}
	}
	if again > 2 {
		t.Errorf("%d accesses were made twice; want at most the two that were under way", again)
	}
	if now := m.now(); math.Abs(float64(now.Made-subscribers)) > 2 {
		t.Errorf("the campaign says that %d accesses were made; want %d", now.Made, subscribers)
	}
	if m.seen < 100 {
		t.Errorf("the campaign was looked at %d times; want many", m.seen)
	}
	m.Calls()
	client := servertest.NewClient(t)
	for _, customer := range m.Customers {
		if got := m.lands(client, servers[0], customer.ShopifyCustomerID); got != "redirected" {
			t.Errorf("the click of %s = %s; want redirected", customer.ShopifyCustomerID, got)
		}
	}
	if calls := m.Calls(); calls["sessions"]+calls["customers"] > 2 {
		t.Errorf("%d prepared clicks made calls %v", subscribers, calls)
	}
}

// TestCampaignRecordsMove: records move to other shoppers between the preparation and the clicks, some to one
// who has a record already, some back and forth. Nobody lands in a portal that is no longer theirs.
func TestCampaignRecordsMove(t *testing.T) {
	t.Parallel()
	const subscribers, moving = 40, 12
	for _, proven := range []bool{true, false} {
		t.Run(fmt.Sprintf("webhooks %t", proven), func(t *testing.T) {
			t.Parallel()
			change := func(s *config.Settings) {
				s.RechargeRate = "400,800"
				if proven {
					servertest.WithWebhooks(s)
				}
			}
			m := newMailing(t, subscribers, change)
			servers := m.Second(change)
			if proven {
				m.prove()
			}
			m.plan(time.Minute)
			m.Until("all accesses are made", func() bool { return m.now().Pass > 0 })
			m.stop()
			m.Calls()
			people := servertest.Subscribers(subscribers)
			clients := []*http.Client{servertest.NewClient(t), servertest.NewClient(t)}
			click := func(who string) {
				for i, server := range servers {
					m.lands(clients[i], server, who)
				}
			}
			if !proven {
				m.Clock.Add(61 * time.Minute) // a record that was verified since then counts as the shopper's
			}
			for round := range 2 {
				var told sync.WaitGroup
				for i := range moving {
					from, to := people[i], people[(i+1+round)%moving].ShopifyCustomerID
					if i%4 == 0 {
						to = fmt.Sprint(6999990000000 + i) // a stranger
					}
					if i%4 == 1 && round == 1 {
						to = from.ShopifyCustomerID // back
					}
					moved := m.MoveRecord(from.ID, to)
					if proven {
						told.Go(func() { m.Deliver(servers[i%2], "customer/updated", moved) })
					}
				}
				told.Wait()
				var clicks sync.WaitGroup
				for i, person := range people {
					clicks.Go(func() { click(person.ShopifyCustomerID) })
					if i < moving && i%4 == 0 {
						clicks.Go(func() { click(fmt.Sprint(6999990000000 + i)) })
					}
				}
				clicks.Wait()
				if !proven {
					m.Clock.Add(61 * time.Minute)
				}
			}
			for _, person := range people[moving:] {
				if got := m.lands(clients[0], servers[1], person.ShopifyCustomerID); got != "redirected" {
					t.Errorf("the click of %s, whose record has not moved, = %s; want redirected", person.ShopifyCustomerID, got)
				}
			}
			if prepared := m.clicksFromPrepared(); prepared < subscribers-moving {
				t.Errorf("%d clicks used a prepared access; want at least %d", prepared, subscribers-moving)
			}
		})
	}
}

func (m *mailing) clicksFromPrepared() (n int) {
	for _, line := range m.Log.Lines("click") {
		if line["source"] == "prepared" {
			n++
		}
	}
	return n
}

// TestCampaignHandedOver: an instance that is stopped gives up the campaign that it works on, so that another goes on
// at once. It must not wait for the lease of half a minute, as if the first one had been killed.
func TestCampaignHandedOver(t *testing.T) {
	t.Parallel()
	quick := func(s *config.Settings) { s.RechargeRate = "20,40" } // five accesses a second
	m := newMailing(t, 200, servertest.WithWebhooks, quick)
	m.plan(10 * time.Minute)
	for round := range 3 {
		m.untilPrepared(0.05 * float64(2*round+1))
		next := m.Instance(server.Options{}, servertest.WithWebhooks, quick)
		m.Stop() // while it makes an access or waits to make one
		m.Ended <- <-m.Ended
		stopped, made := time.Now(), m.now().Made
		m.Until("another instance goes on", func() bool { return m.now().Made > made })
		if took := time.Since(stopped); took > store.ImportLease/3 {
			t.Errorf("round %d: another instance went on after %s; want it at once", round, took)
		} else {
			t.Logf("round %d: another instance went on after %s", round, took)
		}
		m.Stop, m.Ended = next.Stop, next.Ended
	}
}

// TestCampaignIsSeen: the metrics say from a campaign's start to its end that one runs, for alerts that it would set off.
func TestCampaignIsSeen(t *testing.T) {
	t.Parallel()
	m := newMailing(t, 3)
	m.plan(time.Hour)
	client := m.Shopper(m.Customers[0].ShopifyCustomerID)
	for _, at := range []struct{ after, want string }{{"0s", "0"}, {"1h1m", "1"}, {"24h", "0"}} {
		wait, _ := time.ParseDuration(at.after)
		m.Clock.Add(wait)
		m.Until("the metrics show "+at.want+" campaigns", func() bool {
			m.Click(client, "/apps/subscriptions") // which reads the store's record
			_, scraped := fetch(t, m.Ops, "/metrics")
			return strings.Contains(scraped, "\nmanage_subscriptions_campaigns_running "+at.want+"\n")
		})
	}
}

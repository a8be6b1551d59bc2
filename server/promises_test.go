package server_test

// The first promise: as soon as a webhook from Recharge about a record is answered 200, a shopper whom
// the record no longer names cannot reach it, on any server. The other promises are in
// promises_calls_test.go and promises_shop_test.go.

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// pair is two servers on one Redis.
type pair struct {
	*servertest.Fixture
	servers []string
	client  *http.Client
}

// newPair starts two servers for one store. If change sets a secret for Recharge's webhooks, it
// returns when these are registered and proven, by the message that Recharge was asked to send.
func newPair(t *testing.T, redis *storetest.Server, change ...func(*config.Settings)) *pair {
	t.Helper()
	return pairOf(servertest.New(t, redis), change...)
}

// pairOf is newPair with a fixture that has not begun. Recharge's faults may keep the webhooks from being proven.
func pairOf(f *servertest.Fixture, change ...func(*config.Settings)) *pair {
	f.T.Helper()
	p := &pair{Fixture: f, client: servertest.NewClient(f.T)}
	p.Begin("new", "/apps/subscriptions", change...)
	p.servers = p.Second(change...)
	settings := p.Settings()
	for _, edit := range change {
		edit(&settings)
	}
	if settings.RechargeClientSecret != "" {
		untested := p.Recharge.Faults().NoTests
		p.Until("the webhooks are registered and tested", func() bool {
			return len(p.Recharge.Webhooks()["customer/updated"]) > 0 && (untested || len(p.Recharge.Deliveries()) > 0)
		})
	}
	return p
}

// signedIn checks that a shopper's click at each server leads to that record, signed in.
func (p *pair) signedIn(when, who, hash string) {
	p.T.Helper()
	for i, server := range p.servers {
		if r := p.Visit(p.client, server, who); !r.LeadsTo(hash) || r.Outcome != "redirected" {
			p.T.Errorf("%s, server %d: %s is sent to %q (%s); want the record %s, signed in", when, i, who, r.Location, r.Outcome, hash)
		}
	}
}

// isOut checks that a shopper's clicks at each server do not lead to that record, neither the first
// ones nor later ones that find what the first ones cached. It reports whether that is so.
func (p *pair) isOut(when, who, hash string) bool {
	p.T.Helper()
	for click := range 2 * len(p.servers) {
		i := click % len(p.servers)
		if r := p.Visit(p.client, p.servers[i], who); r.LeadsTo(hash) {
			p.T.Errorf("%s, server %d: %s is sent to %q (%s), a record that is another shopper's", when, i, who, r.Location, r.Outcome)
			return false
		}
	}
	return true
}

// TestMovedRecord: a record moves from Pat, who has a link, to Robin. The webhook names only Robin.
func TestMovedRecord(t *testing.T) {
	t.Parallel()
	for name, deliver := range map[string]func(*pair){
		"to the first server": func(p *pair) {
			p.MustDeliver(p.servers[0], "customer/updated", p.MoveRecord(servertest.PatsRecord, servertest.Robin))
		},
		"to the second, twice": func(p *pair) {
			moved := p.MoveRecord(servertest.PatsRecord, servertest.Robin)
			p.MustDeliver(p.servers[1], "customer/updated", moved)
			p.MustDeliver(p.servers[1], "customer/updated", moved)
		},
		"by Recharge itself": func(p *pair) {
			hooks, before := len(p.Recharge.Webhooks()["customer/updated"]), len(p.Recharge.Deliveries())
			p.Recharge.ChangeCustomer(p.MoveRecord(servertest.PatsRecord, servertest.Robin))
			p.Until("it is answered", func() bool { return len(p.Recharge.Deliveries()) >= before+hooks })
			for _, delivery := range p.Recharge.Deliveries() {
				if delivery.Status != http.StatusOK {
					t.Errorf("%s is answered %d; want 200", delivery.Topic, delivery.Status)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), servertest.WithWebhooks)
			p.signedIn("before", servertest.Pat, servertest.PatsHash)
			p.signedIn("before, once more", servertest.Pat, servertest.PatsHash)
			p.isOut("before", servertest.Robin, servertest.PatsHash)
			deliver(p)
			p.isOut("after the webhook", servertest.Pat, servertest.PatsHash)
			p.signedIn("after the webhook", servertest.Robin, servertest.PatsHash)
			p.isOut("after Robin's click", servertest.Pat, servertest.PatsHash)
			p.Clock.Add(3 * time.Minute) // tombstones are gone, links have expired
			p.isOut("three minutes later", servertest.Pat, servertest.PatsHash)
			p.signedIn("three minutes later", servertest.Robin, servertest.PatsHash)
		})
	}
}

// TestMovedRecordUnderAClick: the record moves and the webhook is answered while a click of Pat's is
// at Recharge, whose answer still has the old owner.
func TestMovedRecordUnderAClick(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		endpoint string
		after    time.Duration // since an earlier click; 0: there was none
	}{
		{"customers", 0}, {"sessions", 0}, {"portal_access", 0}, {"portal_access", 2 * time.Minute}, {"sessions", 2 * time.Hour},
	} {
		for told := range 2 { // the server that clicks, and the other one
			t.Run(fmt.Sprintf("%s, after %v, told at server %d", test.endpoint, test.after, told), func(t *testing.T) {
				t.Parallel()
				g := &servertest.Gate{}
				p := newPair(t, storetest.Redis(t), servertest.WithWebhooks, g.Before(t))
				if test.after > 0 {
					p.signedIn("before", servertest.Pat, servertest.PatsHash)
					p.Clock.Add(test.after)
				}
				h := g.Hold(test.endpoint)
				defer h.Release()
				rides := make(chan servertest.Visit, 3)
				go func() { rides <- p.Visit(p.client, p.servers[0], servertest.Pat) }()
				select {
				case <-h.Reached:
				case <-time.After(10 * time.Second):
					t.Fatal("no such call is made")
				}
				// These two should wait for the one that is at Recharge, on both servers.
				for _, server := range p.servers {
					go func() { rides <- p.Visit(p.client, server, servertest.Pat) }()
				}
				time.Sleep(50 * time.Millisecond)
				p.MustDeliver(p.servers[told], "customer/updated", p.MoveRecord(servertest.PatsRecord, servertest.Robin))
				p.signedIn("while Pat's click is at Recharge", servertest.Robin, servertest.PatsHash)
				early := len(rides) // did not wait, and may be answered before the webhook
				for range early {
					<-rides
				}
				if early == cap(rides) {
					t.Error("all clicks are answered before Recharge's answer is there")
				}
				h.Release()
				for range cap(rides) - early {
					if r := <-rides; r.LeadsTo(servertest.PatsHash) {
						t.Errorf("a click that ended after the webhook leads to %q (%s)", r.Location, r.Outcome)
					}
				}
				p.isOut("afterwards", servertest.Pat, servertest.PatsHash)
				p.signedIn("afterwards", servertest.Robin, servertest.PatsHash)
			})
		}
	}
}

// TestMovedRecordInABusyShop moves records while other shoppers click at both servers and Recharge
// sends webhooks about many of them.
func TestMovedRecordInABusyShop(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), servertest.WithWebhooks)
	others := servertest.Subscribers(40)
	p.Customers = append(others, p.Customers...)
	moves := suite.Pick(12, 3)
	from, to := func(i int) string { return fmt.Sprint(6300000000000 + i) }, func(i int) string { return fmt.Sprint(6310000000000 + i) }
	for i := range moves {
		p.Customers = append(p.Customers, rechargetest.Customer{
			ID: int64(70300000 + i), Hash: fmt.Sprintf("mover%019d", i), ShopifyCustomerID: from(i), Subscriptions: servertest.Customers()[1].Subscriptions,
		})
	}
	p.Recharge.SetCustomers(p.Customers)
	over := make(chan struct{})
	var busy sync.WaitGroup
	var clicks, told atomic.Int64
	loop := func(do func(n int)) {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
					do(n)
				}
			}
		})
	}
	for i := range 4 {
		loop(func(n int) { p.LocationAt(p.client, p.servers[n%2], others[(7*n+i)%len(others)], ""); clicks.Add(1) })
	}
	for i := range 2 {
		loop(func(n int) {
			who := others[(11*n+i)%len(others)]
			if n%2 == 0 { // the webhook has something new
				who.Subscriptions = append(who.Subscriptions, rechargetest.Subscription{ID: int64(n), Product: "One more"})
			}
			if status := p.Deliver(p.servers[n%2], "customer/updated", who); status != http.StatusOK {
				t.Errorf("a webhook is answered %d; want 200", status)
			}
			told.Add(1)
		})
	}
	for i := range moves {
		record := p.Record(int64(70300000 + i))
		p.signedIn("before", from(i), record.Hash)
		p.Visit(p.client, p.servers[i%2], to(i)) // is cached as not a subscriber
		p.MustDeliver(p.servers[i%2], "customer/updated", p.MoveRecord(record.ID, to(i)))
		p.isOut("after the webhook", from(i), record.Hash)
		p.signedIn("after the webhook", to(i), record.Hash)
		p.isOut("after the new one's click", from(i), record.Hash)
	}
	for i := range moves {
		p.isOut("in the end", from(i), fmt.Sprintf("mover%019d", i))
	}
	close(over)
	busy.Wait()
	t.Logf("%d clicks and %d webhooks of others", clicks.Load(), told.Load())
}

// TestMovedRecordRedisRestarts: Redis, which keeps its data on disk, is killed and restarted between
// the webhook and the click.
func TestMovedRecordRedisRestarts(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), servertest.WithWebhooks)
	p.signedIn("before", servertest.Pat, servertest.PatsHash)
	p.MustDeliver(p.servers[0], "customer/updated", p.MoveRecord(servertest.PatsRecord, servertest.Robin))
	p.Redis.Stop()
	p.isOut("Redis is gone", servertest.Pat, servertest.PatsHash)
	p.Redis.Start()
	p.isOut("Redis is back", servertest.Pat, servertest.PatsHash)
	// Both servers soon use it again.
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
		if !p.isOut("a moment later", servertest.Pat, servertest.PatsHash) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.Clock.Add(2 * time.Second)
	p.isOut("Redis is in use", servertest.Pat, servertest.PatsHash)
	p.signedIn("Redis is in use", servertest.Robin, servertest.PatsHash)
}

// postAt asks one of the servers for a link.
func (p *pair) postAt(server, body string) servertest.LinkAnswer {
	p.T.Helper()
	p.Ask(server)
	return p.PostLink(servertest.APIKey, body)
}

// TestMovedRecordByPost: a store's own server asks by either id. Recharge's id keeps naming the
// record, whoever owns it, and never another record of the old owner.
func TestMovedRecordByPost(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), servertest.WithWebhooks, servertest.WithAPIKeys)
	for _, server := range p.servers {
		for _, body := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(servertest.PatsRecord), servertest.ByShopifyID(servertest.Pat)} {
			if got := p.postAt(server, body); !got.SignedIn || !strings.Contains(got.URL, "/"+servertest.PatsHash+"/") {
				t.Fatalf("before, POST %s = %d %s; want Pat's link", body, got.Status, got.Body)
			}
		}
	}
	const newHash = "9999eeee8888ffff"
	p.PutRecord(rechargetest.Customer{ID: 70100999, Hash: newHash, ShopifyCustomerID: servertest.Pat, Subscriptions: servertest.Customers()[1].Subscriptions})
	p.MustDeliver(p.servers[0], "customer/updated", p.MoveRecord(servertest.PatsRecord, servertest.Robin))
	for range 2 {
		for i, server := range p.servers {
			for body, want := range map[string]string{servertest.ByShopifyID(servertest.Pat): newHash, servertest.ByShopifyID(servertest.Robin): servertest.PatsHash, servertest.ByRechargeID(servertest.PatsRecord): servertest.PatsHash, servertest.ByRechargeID(70100999): newHash} {
				got := p.postAt(server, body)
				if !got.SignedIn || !strings.Contains(got.URL, "/"+want+"/") {
					t.Errorf("after the webhook, server %d: POST %s = %d %s; want a link to %s", i, body, got.Status, got.Body, want)
					continue
				}
				if opened := p.Open(p.client, got.URL); opened.Customer.Hash != want {
					t.Errorf("after the webhook, server %d: the link for %s opens %q; want %s", i, body, opened.Customer.Hash, want)
				}
			}
		}
	}
	p.isOut("after the webhook, a click", servertest.Pat, servertest.PatsHash)
	path := p.SignLink(servertest.APIKey, p.SignedLink("n", servertest.Pat))
	if got := p.FollowLink(path); strings.Contains(got.Location, "/"+servertest.PatsHash+"/") {
		t.Errorf("after the webhook, a signed link for Pat leads to %q", got.Location)
	}
}

// TestMergedRecords: the record moves to a shopper who already has one.
func TestMergedRecords(t *testing.T) {
	t.Parallel()
	const own = int64(70100500)
	const ownHash = "5d4c5b6a79881155"
	active := servertest.Customers()[1].Subscriptions
	for _, test := range []struct {
		name    string
		active  []rechargetest.Subscription // of Robin's own record
		deleted bool                        // Recharge deletes it and sends a webhook
		want    string                      // the record that Robin gets; "" is none
	}{
		{"Robin's own has none active", nil, false, servertest.PatsHash},
		{"both are active", active, false, ""},
		{"Robin's own is deleted", active, true, servertest.PatsHash},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), servertest.WithWebhooks)
			p.PutRecord(rechargetest.Customer{ID: own, Hash: ownHash, ShopifyCustomerID: servertest.Robin, Subscriptions: test.active})
			p.signedIn("before", servertest.Pat, servertest.PatsHash)
			p.signedIn("before", servertest.Robin, ownHash)
			moved := p.MoveRecord(servertest.PatsRecord, servertest.Robin)
			if test.deleted {
				p.Customers = slices.DeleteFunc(slices.Clone(p.Customers), func(c rechargetest.Customer) bool { return c.ID == own })
				p.Recharge.SetCustomers(p.Customers)
				p.MustDeliver(p.servers[1], "customer/deleted", rechargetest.Customer{ID: own})
			}
			p.MustDeliver(p.servers[0], "customer/updated", moved)
			p.isOut("after the webhook", servertest.Pat, servertest.PatsHash)
			if test.want == "" {
				p.isOut("after the webhook", servertest.Robin, servertest.PatsHash)
				p.isOut("after the webhook", servertest.Robin, ownHash)
			} else {
				p.signedIn("after the webhook", servertest.Robin, test.want)
			}
			p.isOut("after Robin's click", servertest.Pat, servertest.PatsHash)
		})
	}
}

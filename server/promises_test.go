package server_test

// The first promise: as soon as a webhook of Recharge's about a record is answered
// 200, a shopper whom the record no longer names does not get to it, on any server.
// The other promises are in promises_calls_test.go and promises_shop_test.go.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
)

const patsHash = "1f2e3d4c5b6a7988"

// withWebhooks is the one store with the secret that signs Recharge's webhooks.
func withWebhooks(s *config.Settings) { s.RechargeClientSecret = whSecret }

// pair is two servers on one Redis.
type pair struct {
	*fixture
	servers []string
	client  *http.Client
}

// newPair starts two servers for one store. It returns when Recharge's webhooks are
// registered, if change gives them a secret.
func newPair(t *testing.T, redis *storetest.Server, change ...func(*config.Settings)) *pair {
	t.Helper()
	p := &pair{client: newClicker(t)}
	p.fixture = startWith(t, redis, change...)
	p.servers = p.second(change...)
	settings := p.settings()
	for _, edit := range change {
		edit(&settings)
	}
	if settings.RechargeClientSecret != "" {
		p.until("the webhooks are registered", func() bool { return len(p.recharge.Webhooks()["customer/updated"]) > 0 })
	}
	return p
}

// ride clicks at one of the servers. It may be called from any goroutine.
func (f *fixture) ride(client *http.Client, server, who string) ride {
	f.t.Helper()
	r, err := rideTo(client, server, "/apps/subscriptions?"+f.store.SignedQuery("", who, "/apps/subscriptions", appSecret))
	if err != nil {
		f.t.Errorf("a click: %v", err)
	}
	return r
}

// leadsTo reports whether a ride leads to that record, signed in or not.
func (r ride) leadsTo(hash string) bool { return strings.Contains(r.location, "/"+hash+"/") }

// signedIn checks that a shopper's click at each server leads to that record, signed in.
func (p *pair) signedIn(when, who, hash string) {
	p.t.Helper()
	for i, server := range p.servers {
		if r := p.ride(p.client, server, who); !r.leadsTo(hash) || r.outcome != "redirected" {
			p.t.Errorf("%s, server %d: %s is sent to %q (%s); want the record %s, signed in", when, i, who, r.location, r.outcome, hash)
		}
	}
}

// isOut checks that a shopper's clicks at each server do not lead to that record: the
// first ones, and those that meet what the first ones have left. It reports whether
// that is so.
func (p *pair) isOut(when, who, hash string) bool {
	p.t.Helper()
	for click := range 2 * len(p.servers) {
		i := click % len(p.servers)
		if r := p.ride(p.client, p.servers[i], who); r.leadsTo(hash) {
			p.t.Errorf("%s, server %d: %s is sent to %q (%s), a record that is another shopper's", when, i, who, r.location, r.outcome)
			return false
		}
	}
	return true
}

// record is a copy of what Recharge has under that id.
func (f *fixture) record(id int64) rechargetest.Customer {
	f.t.Helper()
	i := slices.IndexFunc(f.people, func(c rechargetest.Customer) bool { return c.ID == id })
	if i < 0 {
		f.t.Fatalf("no record %d", id)
	}
	return f.people[i]
}

// put makes Recharge have a record, in place of the one with its id. It tells nobody.
func (f *fixture) put(c rechargetest.Customer) rechargetest.Customer {
	f.t.Helper()
	f.people = slices.DeleteFunc(slices.Clone(f.people), func(other rechargetest.Customer) bool { return other.ID == c.ID })
	f.people = append(f.people, c)
	f.recharge.SetCustomers(f.people)
	return c
}

// move makes a record another shopper's, as a merchant's support does in Recharge. It
// tells nobody, and returns the record as it is then.
func (f *fixture) move(id int64, to string) rechargetest.Customer {
	f.t.Helper()
	return f.put(change(f.record(id), func(c *rechargetest.Customer) { c.ShopifyCustomerID = to }))
}

// tell delivers a webhook about a record to one of the servers as Recharge does: to
// the registered address, with both signatures. It returns the status of the answer,
// and may be called from any goroutine. A deleted record is told by its id only.
func (f *fixture) tell(server, topic string, c rechargetest.Customer) int {
	f.t.Helper()
	customer := map[string]any{"id": c.ID}
	if topic != "customer/deleted" {
		customer["hash"], customer["email"], customer["subscriptions_active_count"] = c.Hash, c.Email, len(c.Subscriptions)
		customer["external_customer_id"] = map[string]any{"ecommerce": c.ShopifyCustomerID}
	}
	body, err := json.Marshal(map[string]any{"customer": customer})
	if err != nil {
		f.t.Error(err)
		return 0
	}
	addresses := f.recharge.Webhooks()[topic]
	if len(addresses) == 0 {
		f.t.Errorf("no webhook is registered for %s", topic)
		return 0
	}
	address, err := url.Parse(addresses[0])
	if err != nil {
		f.t.Error(err)
		return 0
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+server+address.EscapedPath(), strings.NewReader(string(body)))
	if err != nil {
		f.t.Error(err)
		return 0
	}
	older := sha256.Sum256(append([]byte(whSecret), body...))
	seconds := fmt.Sprint(f.clock.now().Unix())
	newer := hmac.New(sha256.New, []byte(whSecret))
	newer.Write([]byte(seconds + "." + string(body)))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Recharge-Topic": topic, "X-Recharge-Hmac-Sha256": hex.EncodeToString(older[:]),
		"X-Recharge-Webhook-Timestamp": seconds, "X-Recharge-Webhook-Signature": "t=" + seconds + ",v1=" + hex.EncodeToString(newer.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Errorf("deliver %s: %v", topic, err)
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// told tells and wants the answer 200. Recharge would repeat anything else.
func (f *fixture) told(server, topic string, c rechargetest.Customer) {
	f.t.Helper()
	if status := f.tell(server, topic, c); status != http.StatusOK {
		f.t.Fatalf("%s is answered %d; want 200", topic, status)
	}
}

// TestMovedRecord: a record moves from Pat, who has a link, to Robin. The webhook
// names Robin only.
func TestMovedRecord(t *testing.T) {
	for name, deliver := range map[string]func(*pair){
		"to the first server": func(p *pair) { p.told(p.servers[0], "customer/updated", p.move(patsRecord, robin)) },
		"to the second, twice": func(p *pair) {
			moved := p.move(patsRecord, robin)
			p.told(p.servers[1], "customer/updated", moved)
			p.told(p.servers[1], "customer/updated", moved)
		},
		"by Recharge itself": func(p *pair) {
			hooks := len(p.recharge.Webhooks()["customer/updated"])
			p.recharge.ChangeCustomer(p.move(patsRecord, robin))
			p.until("it is answered", func() bool { return len(p.recharge.Deliveries()) >= hooks })
			for _, delivery := range p.recharge.Deliveries() {
				if delivery.Status != http.StatusOK {
					t.Errorf("%s is answered %d; want 200", delivery.Topic, delivery.Status)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), withWebhooks)
			p.signedIn("before", pat, patsHash)
			p.signedIn("before, once more", pat, patsHash)
			p.isOut("before", robin, patsHash)
			deliver(p)
			p.isOut("after the webhook", pat, patsHash)
			p.signedIn("after the webhook", robin, patsHash)
			p.isOut("after Robin's click", pat, patsHash)
			p.clock.add(3 * time.Minute) // tombstones are gone, links are over
			p.isOut("three minutes later", pat, patsHash)
			p.signedIn("three minutes later", robin, patsHash)
		})
	}
}

// gate stands before Recharge and holds one answer back that Recharge has given. What
// comes then is old.
type gate struct {
	once sync.Once
	url  string
	next atomic.Pointer[held]
}

// held is an answer that is held back: of the first call that fits.
type held struct {
	fits     func(path string) bool
	taken    atomic.Bool
	reached  chan struct{} // closed when there is one
	released chan struct{}
	release  func() // lets it go
}

// before puts the gate before Recharge, once for all servers.
func (g *gate) before(t *testing.T) func(*config.Settings) {
	return func(s *config.Settings) {
		g.once.Do(func() {
			target, err := url.Parse(s.RechargeAPIURL)
			if err != nil {
				t.Fatal(err)
			}
			front := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
				ModifyResponse: func(r *http.Response) error {
					if h := g.next.Load(); h != nil && h.fits(r.Request.URL.Path) && !h.taken.Swap(true) {
						close(h.reached)
						select {
						case <-h.released:
						case <-r.Request.Context().Done():
						}
					}
					return nil
				},
				ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), // of clicks that have gone
			})
			t.Cleanup(front.Close)
			g.url = front.URL
		})
		s.RechargeAPIURL = g.url
	}
}

// hold makes the gate hold the next answer of that endpoint.
func (g *gate) hold(endpoint string) *held {
	fits := map[string]func(string) bool{
		"customers":     func(path string) bool { return path == "/customers" },
		"sessions":      func(path string) bool { return strings.HasSuffix(path, "/sessions") },
		"portal_access": func(path string) bool { return path == "/portal_access" },
	}
	h := &held{fits: fits[endpoint], reached: make(chan struct{}), released: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.released) })
	g.next.Store(h)
	return h
}

// TestMovedRecordUnderAClick: a click of Pat's is at Recharge, which has answered by
// what was true before, while the record moves and the webhook is answered.
func TestMovedRecordUnderAClick(t *testing.T) {
	for _, test := range []struct {
		endpoint string
		after    time.Duration // that an earlier click was; 0: there was none
	}{
		{"customers", 0}, {"sessions", 0}, {"portal_access", 0}, {"portal_access", 2 * time.Minute}, {"sessions", 2 * time.Hour},
	} {
		for told := range 2 { // the server that clicks, and the other one
			t.Run(fmt.Sprintf("%s, after %v, told at server %d", test.endpoint, test.after, told), func(t *testing.T) {
				t.Parallel()
				g := &gate{}
				p := newPair(t, storetest.Redis(t), withWebhooks, g.before(t))
				if test.after > 0 {
					p.signedIn("before", pat, patsHash)
					p.clock.add(test.after)
				}
				h := g.hold(test.endpoint)
				defer h.release()
				rides := make(chan ride, 3)
				go func() { rides <- p.ride(p.client, p.servers[0], pat) }()
				select {
				case <-h.reached:
				case <-time.After(10 * time.Second):
					t.Fatal("no such call is made")
				}
				// These two are to wait for the one that is at Recharge, on both servers.
				for _, server := range p.servers {
					go func() { rides <- p.ride(p.client, server, pat) }()
				}
				time.Sleep(50 * time.Millisecond)
				p.told(p.servers[told], "customer/updated", p.move(patsRecord, robin))
				p.signedIn("while Pat's click is at Recharge", robin, patsHash)
				early := len(rides) // did not wait, and may have been answered before the webhook
				for range early {
					<-rides
				}
				if early == cap(rides) {
					t.Error("all clicks are answered before Recharge's answer is there")
				}
				h.release()
				for range cap(rides) - early {
					if r := <-rides; r.leadsTo(patsHash) {
						t.Errorf("a click that ended after the webhook leads to %q (%s)", r.location, r.outcome)
					}
				}
				p.isOut("afterwards", pat, patsHash)
				p.signedIn("afterwards", robin, patsHash)
			})
		}
	}
}

// TestMovedRecordInABusyShop moves records while other shoppers click at both servers
// and Recharge tells of many of them.
func TestMovedRecordInABusyShop(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), withWebhooks)
	others := crowd(40)
	p.people = append(others, p.people...)
	const moves = 12
	from, to := func(i int) string { return fmt.Sprint(6300000000000 + i) }, func(i int) string { return fmt.Sprint(6310000000000 + i) }
	for i := range moves {
		p.people = append(p.people, rechargetest.Customer{
			ID: int64(70300000 + i), Hash: fmt.Sprintf("mover%019d", i), ShopifyCustomerID: from(i), Subscriptions: customers()[1].Subscriptions,
		})
	}
	p.recharge.SetCustomers(p.people)
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
		loop(func(n int) { p.clickAt(p.client, p.servers[n%2], others[(7*n+i)%len(others)], ""); clicks.Add(1) })
	}
	for i := range 2 {
		loop(func(n int) {
			who := others[(11*n+i)%len(others)]
			if n%2 == 0 { // tells something new
				who.Subscriptions = append(who.Subscriptions, rechargetest.Subscription{ID: int64(n), Product: "One more"})
			}
			if status := p.tell(p.servers[n%2], "customer/updated", who); status != http.StatusOK {
				t.Errorf("a webhook is answered %d; want 200", status)
			}
			told.Add(1)
		})
	}
	for i := range moves {
		record := p.record(int64(70300000 + i))
		p.signedIn("before", from(i), record.Hash)
		p.ride(p.client, p.servers[i%2], to(i)) // is known not to subscribe
		p.told(p.servers[i%2], "customer/updated", p.move(record.ID, to(i)))
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

// TestMovedRecordRedisRestarts: Redis, which keeps what it was told, is killed and
// started again between the webhook and the click.
func TestMovedRecordRedisRestarts(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), withWebhooks)
	p.signedIn("before", pat, patsHash)
	p.told(p.servers[0], "customer/updated", p.move(patsRecord, robin))
	p.redis.Stop()
	p.isOut("Redis is gone", pat, patsHash)
	p.redis.Start()
	p.isOut("Redis is back", pat, patsHash)
	// Both servers use it again after a moment.
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
		if !p.isOut("a moment later", pat, patsHash) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.clock.add(2 * time.Second)
	p.isOut("Redis is in use", pat, patsHash)
	p.signedIn("Redis is in use", robin, patsHash)
}

// postAt asks one of the servers for a link.
func (p *pair) postAt(server, body string) apiAnswer {
	p.t.Helper()
	p.public = server
	return p.post(portalKey, body)
}

// TestMovedRecordByPost: a store's own server asks by either id. The one of Recharge
// goes on naming the record, whoever has it; and never another record of the shopper
// who had it.
func TestMovedRecordByPost(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), withWebhooks, withKeys)
	for _, server := range p.servers {
		for _, body := range []string{byShopify(pat), byRecharge(patsRecord), byShopify(pat)} {
			if got := p.postAt(server, body); !got.SignedIn || !strings.Contains(got.URL, "/"+patsHash+"/") {
				t.Fatalf("before, POST %s = %d %s; want Pat's link", body, got.status, got.body)
			}
		}
	}
	const newHash = "9999eeee8888ffff"
	p.put(rechargetest.Customer{ID: 70100999, Hash: newHash, ShopifyCustomerID: pat, Subscriptions: customers()[1].Subscriptions})
	p.told(p.servers[0], "customer/updated", p.move(patsRecord, robin))
	for range 2 {
		for i, server := range p.servers {
			for body, want := range map[string]string{byShopify(pat): newHash, byShopify(robin): patsHash, byRecharge(patsRecord): patsHash, byRecharge(70100999): newHash} {
				got := p.postAt(server, body)
				if !got.SignedIn || !strings.Contains(got.URL, "/"+want+"/") {
					t.Errorf("after the webhook, server %d: POST %s = %d %s; want a link to %s", i, body, got.status, got.body, want)
					continue
				}
				if opened := p.opening(p.client, got.URL); opened.Customer.Hash != want {
					t.Errorf("after the webhook, server %d: the link for %s opens %q; want %s", i, body, opened.Customer.Hash, want)
				}
			}
		}
	}
	p.isOut("after the webhook, a click", pat, patsHash)
	path := p.sign(portalKey, p.signedLink("n", pat))
	if got := p.follow(path); strings.Contains(got.location, "/"+patsHash+"/") {
		t.Errorf("after the webhook, a signed link for Pat leads to %q", got.location)
	}
}

// TestMergedRecords: the shopper to whom the record moves has one already.
func TestMergedRecords(t *testing.T) {
	const own = int64(70100500)
	const ownHash = "5d4c5b6a79881155"
	active := customers()[1].Subscriptions
	for _, test := range []struct {
		name    string
		active  []rechargetest.Subscription // of Robin's own record
		deleted bool                        // Recharge deletes it, and tells
		want    string                      // the record that Robin gets; "" is none
	}{
		{"Robin's own has none active", nil, false, patsHash},
		{"both are active", active, false, ""},
		{"Robin's own is deleted", active, true, patsHash},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), withWebhooks)
			p.put(rechargetest.Customer{ID: own, Hash: ownHash, ShopifyCustomerID: robin, Subscriptions: test.active})
			p.signedIn("before", pat, patsHash)
			p.signedIn("before", robin, ownHash)
			moved := p.move(patsRecord, robin)
			if test.deleted {
				p.people = slices.DeleteFunc(slices.Clone(p.people), func(c rechargetest.Customer) bool { return c.ID == own })
				p.recharge.SetCustomers(p.people)
				p.told(p.servers[1], "customer/deleted", rechargetest.Customer{ID: own})
			}
			p.told(p.servers[0], "customer/updated", moved)
			p.isOut("after the webhook", pat, patsHash)
			if test.want == "" {
				p.isOut("after the webhook", robin, patsHash)
				p.isOut("after the webhook", robin, ownHash)
			} else {
				p.signedIn("after the webhook", robin, test.want)
			}
			p.isOut("after Robin's click", pat, patsHash)
		})
	}
}

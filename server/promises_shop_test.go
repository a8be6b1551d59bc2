package server_test

// What a shop, its merchant, and an operator of Redis may rely on.

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
)

// staysUsed follows a used link at each server for a while, in which what is done
// beside the requests gets done.
func (f *fixture) staysUsed(when, link string, servers ...string) {
	f.t.Helper()
	for until := time.Now().Add(1200 * time.Millisecond); time.Now().Before(until); {
		for _, server := range servers {
			f.public = server
			if got := f.follow(link); got.status != http.StatusForbidden || got.location != "" {
				f.t.Errorf("%s, a used link is answered %d, to %q; want 403", when, got.status, got.location)
				return
			}
		}
		time.Sleep(40 * time.Millisecond)
	}
}

// use follows a link that nobody has followed yet, and checks that it is used then.
func (f *fixture) use(link string) {
	f.t.Helper()
	if got := f.follow(link); got.status != http.StatusFound {
		f.t.Fatalf("a new link is answered %d %s; want the portal", got.status, got.body)
	}
	if got := f.follow(link); got.status != http.StatusForbidden {
		f.t.Fatalf("a used link is answered %d; want 403", got.status)
	}
}

// TestUsedLinkStaysUsed: whatever a merchant does, and whatever Shopify tells.
func TestUsedLinkStaysUsed(t *testing.T) {
	t.Parallel()
	const another = "sk_test_another_admin_token"
	t.Run("new token", func(t *testing.T) {
		t.Parallel()
		f := start(t, many)
		f.connect()
		servers := []string{f.public, f.instance(nil, many).public}
		link := f.sign(f.makeKey(shop, "Hydrogen"), f.signedLink("a", pat))
		f.use(link)
		f.recharge.AddToken(rechargetest.Token{Value: another, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000, ClientSecret: whSecret})
		form := url.Values{"token": {another}, "storefront": {strToken}, "secret": {whSecret}}
		if _, body := f.ask("/app/connect", f.sessionToken(nil), form); !strings.Contains(body, `data-result="saved"`) {
			t.Fatalf("another token: %s; want it saved", body)
		}
		f.staysUsed("after a new token", link, servers...)
	})
	t.Run("disconnected", func(t *testing.T) {
		t.Parallel()
		f := start(t, many)
		f.connect()
		servers := []string{f.public, f.instance(nil, many).public}
		key := f.makeKey(shop, "Hydrogen")
		link, unused := f.sign(key, f.signedLink("a", pat)), f.sign(key, f.signedLink("b", pat))
		f.use(link)
		if _, body := f.ask("/app/disconnect", f.sessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
			t.Fatalf("disconnect: %s", body)
		}
		f.connect()
		f.staysUsed("connected anew", link, servers...)
		f.staysUsed("connected anew, though it was never used, as its key is gone", unused, servers...)
	})
	t.Run("one store", func(t *testing.T) {
		for topic, body := range map[string]string{"app/uninstalled": aboutUninstalled(), "shop/redact": aboutShop(), "customers/redact": aboutShopper(pat)} {
			t.Run(topic, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, storetest.Redis(t), withKeys)
				link := p.sign(portalKey, p.signedLink("a", pat))
				p.use(link)
				if response, _ := p.webhook("/webhooks/shopify", topic, body, appSecret); response.StatusCode != http.StatusOK {
					t.Fatalf("%s is answered %d; want 200", topic, response.StatusCode)
				}
				p.staysUsed("after "+topic, link, p.servers...)
				p.clock.add(80 * time.Second) // the link is not over yet
				p.staysUsed("80 seconds after "+topic, link, p.servers...)
				p.use(p.sign(portalKey, p.signedLink("b", pat))) // this one opens, once
			})
		}
	})
}

// TestSignedOutWithASilentRedis: many stores, and a Redis that takes what it is sent
// and says nothing. A click that needs nothing of it does not wait for it again and
// again.
func TestSignedOutWithASilentRedis(t *testing.T) {
	t.Parallel()
	var cable *cable
	f := startWith(t, storetest.Redis(t), many, func(s *config.Settings) {
		cable = newCable(t, strings.TrimPrefix(s.RedisURL, "redis://"))
		s.RedisURL = "redis://" + cable.addr()
	})
	f.connect()
	client := newClicker(t)
	f.ride(client, f.public, pat)
	if r := f.ride(client, f.public, ""); r.took > inOrder {
		t.Errorf("with Redis in order, a signed-out click took %v", r.took)
	}
	cable.toxics(`timeout "timeout":0`)()
	defer cable.heal()
	for range 2 { // may find out
		f.ride(client, f.public, "")
	}
	var took []time.Duration
	for range 7 {
		r := f.ride(client, f.public, "")
		if strings.HasPrefix(r.outcome, "5") {
			t.Errorf("a signed-out click is answered %s", r.outcome)
		}
		took = append(took, r.took)
	}
	// One of them may be the one that looks whether Redis is back.
	slices.Sort(took)
	if usual := took[len(took)-2]; usual > 200*time.Millisecond {
		t.Errorf("signed-out clicks took %v; want all but one well under 200 ms", took)
	}
}

// readAll reads all customers as the command does, while the server goes on.
func (f *fixture) readAll() {
	f.t.Helper()
	settings := f.settings()
	cfg, err := settings.Check()
	if err != nil {
		f.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := server.Index(f.t.Context(), cfg, "", &out, server.WithClock(f.clock.now), server.WithShopify(f.platform()), server.WithLog(slog.New(slog.NewJSONHandler(f.log, nil)))); err != nil {
		f.t.Fatalf("index: %v\n%s", err, &out)
	}
}

// TestRedactedStaysOut: the nightly import does not bring back a shopper whom Shopify has
// had erased, on whichever night. Their own click does.
func TestRedactedStaysOut(t *testing.T) {
	t.Parallel()
	f := indexed(t, 0)
	f.complete()
	client := newClicker(t)
	f.calls()
	// lookups clicks, and returns how often Recharge is asked who the shopper is.
	lookups := func(when, who, hash string) (asked int) {
		t.Helper()
		if r := f.ride(client, f.public, who); r.outcome != "redirected" || !r.leadsTo(hash) {
			t.Errorf("%s, a click leads to %q (%s); want the portal of %s, signed in", when, r.location, r.outcome, hash)
		}
		calls := f.calls()
		return calls["customers"] + calls["customer"]
	}
	const sams, robins = "70100301a1b2c3d4e5f60718", "5d4c5b6a79881155"
	if got := lookups("after the import", sam, sams); got != 0 {
		t.Fatalf("after the import, Sam's click made %d lookups; want none", got)
	}
	if response, _ := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret); response.StatusCode != http.StatusOK {
		t.Fatalf("customers/redact is answered %d; want 200", response.StatusCode)
	}
	f.put(rechargetest.Customer{ID: 70100500, Hash: robins, ShopifyCustomerID: robin, Subscriptions: customers()[1].Subscriptions})
	for range 4 {
		f.clock.add(25 * time.Hour)
		f.readAll()
	}
	f.calls()
	cached := lookups("after four nights", robin, robins) // of those whom the import has read
	if got := lookups("after four nights", pat, patsHash); got != cached+1 {
		t.Errorf("after four nights, the erased shopper's click made %d lookups, others' made %d; want one more: no import brings them back", got, cached)
	}
	f.ride(client, f.public, pat)
	f.costs("the erased shopper's next click", map[string]int{})
	f.readAll()
	f.clock.add(2 * time.Minute) // links are over
	f.calls()
	if got := lookups("after one more import", pat, patsHash); got != 0 {
		t.Errorf("after one more import, a click of the shopper who came back made %d lookups; want none", got)
	}
	f.clock.add(25 * time.Hour)
	f.readAll()
	f.calls()
	cached = lookups("on the sixth night", robin, robins)
	if got := lookups("on the sixth night", pat, patsHash); got != cached {
		t.Errorf("on the sixth night, a click of the shopper who came back made %d lookups, others' made %d; want no more", got, cached)
	}
}

// TestRedactRedisDown: Shopify is to send it again.
func TestRedactRedisDown(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.ride(newClicker(t), f.public, pat)
	f.redis.Stop()
	if response, body := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("customers/redact without Redis = %d %q; want 500", response.StatusCode, body)
	}
	f.redis.Start()
	f.until("it is answered 200", func() bool {
		f.clock.add(time.Second)
		response, _ := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
		return response.StatusCode == http.StatusOK
	})
	f.calls()
	f.ride(newClicker(t), f.public, pat)
	if calls := f.calls(); calls["customers"] != 1 {
		t.Errorf("the next click made the calls %v; want a lookup", calls)
	}
}

// shares checks that two servers use one cache: a first click at the one leaves
// nothing to ask to the other.
func (p *pair) shares(when string, servers []string, people ...string) {
	p.t.Helper()
	for i, who := range people {
		p.calls()
		if r := p.ride(p.client, servers[i%2], who); r.outcome != "redirected" {
			p.t.Errorf("%s, a click leads to %q (%s); want it signed in", when, r.location, r.outcome)
		}
		p.costs(when+", a first click", oneOfEach())
		if r := p.ride(p.client, servers[(i+1)%2], who); r.outcome != "redirected" {
			p.t.Errorf("%s, a click at the other server leads to %q (%s); want it signed in", when, r.location, r.outcome)
		}
		p.costs(when+", a click at the other server", map[string]int{})
	}
}

// TestAllOfRedisIsLost: in one-store mode that costs calls, and no click. Servers that
// are there, and those that start at the same time, agree on what is new.
func TestAllOfRedisIsLost(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t))
	people := crowd(20)
	p.recharge.SetCustomers(append(people, customers()...))
	flush := func() {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: p.redis.Addr})
		defer client.Close()
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p.shares("before", p.servers, pat, sam)
	flush()
	p.clock.add(3 * time.Second)
	p.shares("after FLUSHALL", p.servers, pat, sam)
	// All at once, on both.
	flush()
	p.clock.add(3 * time.Second)
	var all sync.WaitGroup
	for i, who := range people {
		all.Go(func() { p.ride(p.client, p.servers[i%2], who.ShopifyCustomerID) })
	}
	all.Wait()
	p.calls()
	for i, who := range people {
		if r := p.ride(p.client, p.servers[(i+1)%2], who.ShopifyCustomerID); r.outcome != "redirected" || !r.leadsTo(who.Hash) {
			t.Errorf("shopper %d is sent to %q (%s); want their own portal, signed in", i, r.location, r.outcome)
		}
	}
	p.costs("clicks at the other server, of all who have clicked at once", map[string]int{})
	// Two that start on an empty one.
	flush()
	var starting sync.WaitGroup
	fresh := make([]string, 2)
	for i := range fresh {
		starting.Go(func() { fresh[i] = p.instance(nil).public })
	}
	starting.Wait()
	p.shares("started at once on an empty Redis", fresh, pat, sam)
	p.clock.add(3 * time.Second)
	p.shares("started at once on an empty Redis, with one that was there", []string{fresh[0], p.servers[0]}, people[0].ShopifyCustomerID, people[1].ShopifyCustomerID)
}

// TestRedisRefusesEVAL: scripts are what the store works with, so that an operator has
// to hear of it by name. Shoppers get through.
func TestRedisRefusesEVAL(t *testing.T) {
	t.Parallel()
	const password = "without-scripts"
	kept := storetest.Redis(t, "--user", "app", "on", ">"+password, "~*", "&*", "+@all", "-eval", "-evalsha", "-eval_ro", "-evalsha_ro")
	address := (&url.URL{Scheme: "redis", User: url.UserPassword("app", password), Host: kept.Addr}).String()
	without := func(s *config.Settings) { s.RedisURL = address }
	f := startWith(t, kept, without)
	said := func() bool {
		for line := range strings.Lines(f.log.String()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && strings.Contains(line, "EVAL") && (fields["level"] == "WARN" || fields["level"] == "ERROR") {
				return true
			}
		}
		return false
	}
	for until := time.Now().Add(3 * time.Second); !said() && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	if !said() {
		t.Error("no warning in the log of the start names EVAL")
	}
	report := f.examine(server.Questions{}, without)
	if !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool {
		return c.Status == doctor.Fail && strings.Contains(c.Name+c.Asked+c.Found+c.Remedy, "EVAL")
	}) {
		t.Errorf("no failed check of doctor's names EVAL: %+v", report.Checks)
	}
	client := newClicker(t)
	for range 2 {
		for _, who := range customers()[1:4:4] {
			if who.ID == 70100300 { // Sam's old record
				continue
			}
			if r := f.ride(client, f.public, who.ShopifyCustomerID); r.outcome != "redirected" && r.outcome != "redirected_by_hash" || !r.leadsTo(who.Hash) {
				t.Errorf("a click leads to %q (%s); want the shopper's portal", r.location, r.outcome)
			}
		}
	}
	if _, scraped := fetch(t, f.ops, "/metrics"); !strings.Contains(scraped, "\nmanage_subscriptions_redis_up 0\n") {
		t.Error("the scrape does not say that Redis is of no use")
	}
}

// TestUninstalledOnTheOtherServer: with the answer to app/uninstalled the tokens are
// gone from every server, those that hold them in memory included.
func TestUninstalledOnTheOtherServer(t *testing.T) {
	for name, warm := range map[string]bool{"a server that has the shopper's link": true, "a server that has seen another shopper": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, many)
			f.connect()
			servers := []string{f.public, f.instance(nil, many).public}
			client := newClicker(t)
			who := sam
			if warm {
				who = pat
			}
			for range 2 {
				for _, server := range servers {
					if r := f.ride(client, server, who); r.outcome != "redirected" {
						t.Fatalf("before, a click leads to %q (%s)", r.location, r.outcome)
					}
				}
			}
			f.calls()
			if response, _ := f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret); response.StatusCode != http.StatusOK {
				t.Fatalf("app/uninstalled is answered %d; want 200", response.StatusCode)
			}
			f.public = servers[1]
			if r := f.ride(client, servers[1], pat); r.outcome != "not_connected" {
				t.Errorf("the next click at the other server leads to %q (%s); want not_connected", r.location, r.outcome)
			}
			f.clock.add(5 * time.Second) // session tokens of before the uninstall are not taken
			for path, want := range map[string]string{"/app/connection": `data-state="not_connected"`, "/app/try": `data-result="not_connected"`} {
				form := url.Values(nil)
				if path == "/app/try" {
					form = url.Values{"customer": {pat}}
				}
				if response, body := f.ask(path, f.sessionToken(nil), form); !strings.Contains(body, want) {
					t.Errorf("%s of the other server: %d %s; want %s", path, response.StatusCode, body, want)
				}
			}
			f.until("the webhooks at Recharge are removed", func() bool { return len(f.recharge.Webhooks()) == 0 })
			for range 2 {
				for i, server := range servers {
					for _, who := range []string{pat, sam} {
						if r := f.ride(client, server, who); r.outcome != "not_connected" {
							t.Errorf("a later click at server %d leads to %q (%s); want not_connected", i, r.location, r.outcome)
						}
					}
				}
				f.clock.add(2 * time.Minute)
			}
			calls := f.calls()
			maps.DeleteFunc(calls, func(endpoint string, _ int) bool { return strings.HasPrefix(endpoint, "webhook") })
			if len(calls) > 0 {
				t.Errorf("after the uninstall the old tokens were used for %v; want them used to remove webhooks only", calls)
			}
			f.connect()
			if r := f.ride(client, servers[0], pat); r.outcome != "redirected" {
				t.Errorf("connected anew, a click leads to %q (%s); want it signed in", r.location, r.outcome)
			}
		})
	}
}

package server_test

// What a shop, its merchant and an operator of Redis can rely on.

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

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// staysUsed follows a used link at each server for a while, so that background jobs run in between.
func staysUsed(f *servertest.Fixture, when, link string, servers ...string) {
	f.T.Helper()
	long := suite.Pick(1200*time.Millisecond, 300*time.Millisecond)
	for until := time.Now().Add(long); time.Now().Before(until); {
		for _, server := range servers {
			f.Ask(server)
			if got := f.FollowLink(link, "User-Agent", "another"); got.Status != http.StatusForbidden || got.Location != "" {
				f.T.Errorf("%s, a used link is answered %d, to %q; want 403", when, got.Status, got.Location)
				return
			}
		}
		time.Sleep(40 * time.Millisecond)
	}
}

// use follows a link for the first time and checks that it is used afterwards.
func use(f *servertest.Fixture, link string) {
	f.T.Helper()
	if got := f.FollowLink(link); got.Status != http.StatusFound {
		f.T.Fatalf("a new link is answered %d %s; want the portal", got.Status, got.Body)
	}
	if got := f.FollowLink(link, "User-Agent", "another"); got.Status != http.StatusForbidden {
		f.T.Fatalf("a used link is answered %d; want 403", got.Status)
	}
}

// TestUsedLinkStaysUsed, whatever a merchant does and whatever webhooks Shopify sends.
func TestUsedLinkStaysUsed(t *testing.T) {
	t.Parallel()
	const another = "sk_test_another_admin_token"
	t.Run("new token", func(t *testing.T) {
		t.Parallel()
		f := servertest.Start(t, servertest.ManyStores)
		f.Connect()
		servers := []string{f.Public, f.Instance(server.Options{}, servertest.ManyStores).Public}
		link := f.SignLink(f.MakeKey(servertest.Shop, "Hydrogen"), f.SignedLink("a", servertest.Pat))
		use(f, link)
		f.Recharge.AddToken(rechargetest.Token{Value: another, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000, ClientSecret: servertest.WebhookSecret})
		form := url.Values{"token": {another}, "storefront": {servertest.StorefrontToken}, "secret": {servertest.WebhookSecret}}
		if _, body := f.AppHome("/app/connect", f.SessionToken(nil), form); !strings.Contains(body, `data-result="saved"`) {
			t.Fatalf("another token: %s; want it saved", body)
		}
		staysUsed(f, "after a new token", link, servers...)
	})
	t.Run("disconnected", func(t *testing.T) {
		t.Parallel()
		f := servertest.Start(t, servertest.ManyStores)
		f.Connect()
		servers := []string{f.Public, f.Instance(server.Options{}, servertest.ManyStores).Public}
		key := f.MakeKey(servertest.Shop, "Hydrogen")
		link, unused := f.SignLink(key, f.SignedLink("a", servertest.Pat)), f.SignLink(key, f.SignedLink("b", servertest.Pat))
		use(f, link)
		if _, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
			t.Fatalf("disconnect: %s", body)
		}
		f.Connect()
		staysUsed(f, "connected anew", link, servers...)
		staysUsed(f, "connected anew, though it was never used, as its key is gone", unused, servers...)
	})
	t.Run("one store", func(t *testing.T) {
		for topic, body := range map[string]string{"app/uninstalled": servertest.UninstalledBody(), "shop/redact": servertest.ShopBody(), "customers/redact": servertest.ShopperBody(servertest.Pat)} {
			t.Run(topic, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, storetest.Redis(t), servertest.WithAPIKeys)
				link := p.SignLink(servertest.APIKey, p.SignedLink("a", servertest.Pat))
				use(p.Fixture, link)
				if response, _ := p.Webhook("/webhooks/shopify", topic, body, servertest.AppSecret); response.StatusCode != http.StatusOK {
					t.Fatalf("%s is answered %d; want 200", topic, response.StatusCode)
				}
				staysUsed(p.Fixture, "after "+topic, link, p.servers...)
				p.Clock.Add(80 * time.Second) // the link has not expired yet
				staysUsed(p.Fixture, "80 seconds after "+topic, link, p.servers...)
				use(p.Fixture, p.SignLink(servertest.APIKey, p.SignedLink("b", servertest.Pat))) // this one opens, once
			})
		}
	})
}

// TestSignedOutWithASilentRedis: many stores, and a Redis that accepts commands and never answers. A
// click that needs nothing from it does not wait for it again and again.
func TestSignedOutWithASilentRedis(t *testing.T) {
	t.Parallel()
	var cable *cable
	f := servertest.StartWith(t, storetest.Redis(t), servertest.ManyStores, func(s *config.Settings) {
		cable = newCable(t, strings.TrimPrefix(s.RedisURL, "redis://"))
		s.RedisURL = "redis://" + cable.addr()
	})
	f.Connect()
	client := servertest.NewClient(t)
	f.Visit(client, f.Public, servertest.Pat)
	if r := f.Visit(client, f.Public, ""); r.Took > inOrder {
		t.Errorf("with Redis in order, a signed-out click took %v", r.Took)
	}
	cable.toxics(`timeout "timeout":0`)()
	defer cable.heal()
	for range 2 { // may be slow to find out
		f.Visit(client, f.Public, "")
	}
	var took []time.Duration
	for try := 1; ; try++ { // a busy machine may be slow once more, but not each time
		took = nil
		for range 7 {
			r := f.Visit(client, f.Public, "")
			if strings.HasPrefix(r.Outcome, "5") {
				t.Errorf("a signed-out click is answered %s", r.Outcome)
			}
			took = append(took, r.Took)
		}
		// One of them may be the one that checks whether Redis is back.
		slices.Sort(took)
		if usual := took[len(took)-2]; usual <= 200*time.Millisecond {
			return
		}
		if try == 5 {
			t.Fatalf("signed-out clicks took %v; want all but one well under 200 ms", took)
		}
	}
}

// readAll imports all customers as the command does, while the server keeps running.
func readAll(f *servertest.Fixture) {
	f.T.Helper()
	settings := f.Settings()
	cfg, err := settings.Check()
	if err != nil {
		f.T.Fatal(err)
	}
	var out bytes.Buffer
	if err := server.Index(f.T.Context(), cfg, "", &out, server.Options{Now: f.Clock.Now, Platform: f.Platform(), Log: slog.New(slog.NewJSONHandler(f.Log, nil))}); err != nil {
		f.T.Fatalf("index: %v\n%s", err, &out)
	}
}

// TestRedactedStaysOut: no nightly import brings back a shopper whom Shopify had erased. Their own
// click does.
func TestRedactedStaysOut(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0)
	f.WaitForImport()
	client := servertest.NewClient(t)
	f.Calls()
	// lookups clicks and returns how often Recharge is asked who the shopper is.
	lookups := func(when, who, hash string) (asked int) {
		t.Helper()
		if r := f.Visit(client, f.Public, who); r.Outcome != "redirected" || !r.LeadsTo(hash) {
			t.Errorf("%s, a click leads to %q (%s); want the portal of %s, signed in", when, r.Location, r.Outcome, hash)
		}
		calls := f.Calls()
		return calls["customers"] + calls["customer"]
	}
	const sams, robins = "70100301a1b2c3d4e5f60718", "5d4c5b6a79881155"
	if got := lookups("after the import", servertest.Sam, sams); got != 0 {
		t.Fatalf("after the import, Sam's click made %d lookups; want none", got)
	}
	if response, _ := f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret); response.StatusCode != http.StatusOK {
		t.Fatalf("customers/redact is answered %d; want 200", response.StatusCode)
	}
	f.PutRecord(rechargetest.Customer{ID: 70100500, Hash: robins, ShopifyCustomerID: servertest.Robin, Subscriptions: servertest.Customers()[1].Subscriptions})
	for range 4 {
		f.Clock.Add(25 * time.Hour)
		readAll(f)
	}
	f.Calls()
	cached := lookups("after four nights", servertest.Robin, robins) // of shoppers whom the import has read
	if got := lookups("after four nights", servertest.Pat, servertest.PatsHash); got != cached+1 {
		t.Errorf("after four nights, the erased shopper's click made %d lookups, others' made %d; want one more: no import brings them back", got, cached)
	}
	f.Visit(client, f.Public, servertest.Pat)
	f.WantCalls("the erased shopper's next click", map[string]int{})
	readAll(f)
	f.Clock.Add(2 * time.Minute) // links have expired
	f.Calls()
	if got := lookups("after one more import", servertest.Pat, servertest.PatsHash); got != 0 {
		t.Errorf("after one more import, a click of the shopper who came back made %d lookups; want none", got)
	}
	f.Clock.Add(25 * time.Hour)
	readAll(f)
	f.Calls()
	cached = lookups("on the sixth night", servertest.Robin, robins)
	if got := lookups("on the sixth night", servertest.Pat, servertest.PatsHash); got != cached {
		t.Errorf("on the sixth night, a click of the shopper who came back made %d lookups, others' made %d; want no more", got, cached)
	}
}

// TestRedactRedisDown: the answer makes Shopify send the webhook again.
func TestRedactRedisDown(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Visit(servertest.NewClient(t), f.Public, servertest.Pat)
	f.Redis.Stop()
	if response, body := f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("customers/redact without Redis = %d %q; want 500", response.StatusCode, body)
	}
	f.Redis.Start()
	f.Until("it is answered 200", func() bool {
		f.Clock.Add(time.Second)
		response, _ := f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
		return response.StatusCode == http.StatusOK
	})
	f.Calls()
	f.Visit(servertest.NewClient(t), f.Public, servertest.Pat)
	if calls := f.Calls(); calls["customers"] != 1 {
		t.Errorf("the next click made the calls %v; want a lookup", calls)
	}
}

// shares checks that two servers use one cache. After a first click at one, the other has nothing to
// ask.
func (p *pair) shares(when string, servers []string, people ...string) {
	p.T.Helper()
	for i, who := range people {
		p.Calls()
		if r := p.Visit(p.client, servers[i%2], who); r.Outcome != "redirected" {
			p.T.Errorf("%s, a click leads to %q (%s); want it signed in", when, r.Location, r.Outcome)
		}
		p.WantCalls(when+", a first click", servertest.OneCallEach())
		if r := p.Visit(p.client, servers[(i+1)%2], who); r.Outcome != "redirected" {
			p.T.Errorf("%s, a click at the other server leads to %q (%s); want it signed in", when, r.Location, r.Outcome)
		}
		p.WantCalls(when+", a click at the other server", map[string]int{})
	}
}

// TestAllOfRedisIsLost: in one-store mode, that costs calls but no click. Running servers, and servers
// that start at the same time, agree on the new record.
func TestAllOfRedisIsLost(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t))
	people := servertest.Subscribers(20)
	p.Recharge.SetCustomers(append(people, servertest.Customers()...))
	flush := func() {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: p.Redis.Addr})
		defer client.Close()
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p.shares("before", p.servers, servertest.Pat, servertest.Sam)
	flush()
	p.Clock.Add(3 * time.Second)
	p.shares("after FLUSHALL", p.servers, servertest.Pat, servertest.Sam)
	// All shoppers at once, on both servers.
	flush()
	p.Clock.Add(3 * time.Second)
	var all sync.WaitGroup
	for i, who := range people {
		all.Go(func() { p.Visit(p.client, p.servers[i%2], who.ShopifyCustomerID) })
	}
	all.Wait()
	p.Calls()
	for i, who := range people {
		if r := p.Visit(p.client, p.servers[(i+1)%2], who.ShopifyCustomerID); r.Outcome != "redirected" || !r.LeadsTo(who.Hash) {
			t.Errorf("shopper %d is sent to %q (%s); want their own portal, signed in", i, r.Location, r.Outcome)
		}
	}
	p.WantCalls("clicks at the other server, of all who have clicked at once", map[string]int{})
	// Two servers that start on an empty Redis.
	flush()
	var starting sync.WaitGroup
	fresh := make([]string, 2)
	for i := range fresh {
		starting.Go(func() { fresh[i] = p.Instance(server.Options{}).Public })
	}
	starting.Wait()
	p.shares("started at once on an empty Redis", fresh, servertest.Pat, servertest.Sam)
	p.Clock.Add(3 * time.Second)
	p.shares("started at once on an empty Redis, with one that was there", []string{fresh[0], p.servers[0]}, people[0].ShopifyCustomerID, people[1].ShopifyCustomerID)
}

// TestRedisRefusesEVAL: the store needs scripts, so an operator must be told by name that they are
// refused. Shoppers still reach their portals.
func TestRedisRefusesEVAL(t *testing.T) {
	t.Parallel()
	const password = "without-scripts"
	kept := storetest.Redis(t, "--user", "app", "on", ">"+password, "~*", "&*", "+@all", "-eval", "-evalsha", "-eval_ro", "-evalsha_ro")
	address := (&url.URL{Scheme: "redis", User: url.UserPassword("app", password), Host: kept.Addr}).String()
	without := func(s *config.Settings) { s.RedisURL = address }
	f := servertest.StartWith(t, kept, without)
	said := func() bool {
		for line := range strings.Lines(f.Log.String()) {
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
	report := examine(f, doctor.Options{}, without)
	if !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool {
		return c.Status == doctor.Fail && strings.Contains(c.Name+c.Asked+c.Found+c.Remedy, "EVAL")
	}) {
		t.Errorf("no failed check of doctor's names EVAL: %+v", report.Checks)
	}
	client := servertest.NewClient(t)
	for range 2 {
		for _, who := range servertest.Customers()[1:4:4] {
			if who.ID == 70100300 { // Sam's old record
				continue
			}
			if r := f.Visit(client, f.Public, who.ShopifyCustomerID); r.Outcome != "redirected" && r.Outcome != "redirected_by_hash" || !r.LeadsTo(who.Hash) {
				t.Errorf("a click leads to %q (%s); want the shopper's portal", r.Location, r.Outcome)
			}
		}
	}
	if _, scraped := fetch(t, f.Ops, "/metrics"); !strings.Contains(scraped, "\nmanage_subscriptions_redis_up 0\n") {
		t.Error("the scrape does not say that Redis is down")
	}
}

// TestUninstalledOnTheOtherServer: when app/uninstalled is answered, the tokens are gone from every
// server, even from those that had them in memory.
func TestUninstalledOnTheOtherServer(t *testing.T) {
	t.Parallel()
	for name, warm := range map[string]bool{"a server that has the shopper's link": true, "a server that has seen another shopper": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, servertest.ManyStores)
			f.Connect()
			servers := []string{f.Public, f.Instance(server.Options{}, servertest.ManyStores).Public}
			client := servertest.NewClient(t)
			who := servertest.Sam
			if warm {
				who = servertest.Pat
			}
			for range 2 {
				for _, server := range servers {
					if r := f.Visit(client, server, who); r.Outcome != "redirected" {
						t.Fatalf("before, a click leads to %q (%s)", r.Location, r.Outcome)
					}
				}
			}
			f.Calls()
			if response, _ := f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret); response.StatusCode != http.StatusOK {
				t.Fatalf("app/uninstalled is answered %d; want 200", response.StatusCode)
			}
			f.Ask(servers[1])
			if r := f.Visit(client, servers[1], servertest.Pat); r.Outcome != "not_connected" {
				t.Errorf("the next click at the other server leads to %q (%s); want not_connected", r.Location, r.Outcome)
			}
			f.Clock.Add(5 * time.Second) // session tokens from before the uninstall are refused
			for path, want := range map[string]string{"/app/connection": `data-state="not_connected"`, "/app/try": `data-result="not_connected"`} {
				form := url.Values(nil)
				if path == "/app/try" {
					form = url.Values{"customer": {servertest.Pat}}
				}
				if response, body := f.AppHome(path, f.SessionToken(nil), form); !strings.Contains(body, want) {
					t.Errorf("%s of the other server: %d %s; want %s", path, response.StatusCode, body, want)
				}
			}
			f.Until("the webhooks at Recharge are removed", func() bool { return len(f.Recharge.Webhooks()) == 0 })
			for range 2 {
				for i, server := range servers {
					for _, who := range []string{servertest.Pat, servertest.Sam} {
						if r := f.Visit(client, server, who); r.Outcome != "not_connected" {
							t.Errorf("a later click at server %d leads to %q (%s); want not_connected", i, r.Location, r.Outcome)
						}
					}
				}
				f.Clock.Add(2 * time.Minute)
			}
			calls := f.Calls()
			maps.DeleteFunc(calls, func(endpoint string, _ int) bool { return strings.HasPrefix(endpoint, "webhook") })
			if len(calls) > 0 {
				t.Errorf("after the uninstall the old tokens were used for %v; want them used to remove webhooks only", calls)
			}
			f.Connect()
			if r := f.Visit(client, servers[0], servertest.Pat); r.Outcome != "redirected" {
				t.Errorf("connected anew, a click leads to %q (%s); want it signed in", r.Location, r.Outcome)
			}
		})
	}
}

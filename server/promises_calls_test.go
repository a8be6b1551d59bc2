package server_test

// What a click may cost of Recharge's budget, and what it may never cost.

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
)

// costs checks which calls Recharge has got since the last look.
func (f *fixture) costs(what string, want map[string]int) {
	f.t.Helper()
	if got := f.calls(); !maps.Equal(got, want) {
		f.t.Errorf("%s made the calls %v; want %v", what, got, want)
	}
}

// oneOfEach is what all clicks of a new shopper's cost together.
func oneOfEach() map[string]int {
	return map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}
}

// token is the portal token of a link.
func (r ride) token() string {
	u, err := url.Parse(r.location)
	if err != nil {
		return ""
	}
	return u.Query().Get("token")
}

// TestOneLookupWithASlowRecharge: each call takes 1.6 s, so that a shopper's calls
// take longer than any lock lives without being renewed. Clicks come on both servers
// all the while.
func TestOneLookupWithASlowRecharge(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	p.recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 1600 * time.Millisecond })
	var all sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]int{}
	click := func(server string) {
		r := p.ride(p.client, server, pat)
		mu.Lock()
		defer mu.Unlock()
		tokens[r.token()]++
		if !r.leadsTo(patsHash) || r.outcome != "redirected" {
			t.Errorf("a click leads to %q (%s); want Pat's portal, signed in", r.location, r.outcome)
		}
	}
	for range 4 {
		for range 5 {
			for _, server := range p.servers {
				all.Go(func() { click(server) })
			}
		}
		time.Sleep(1100 * time.Millisecond) // 0, 1.1, 2.2 and 3.3 s: during each of the calls
	}
	all.Wait()
	p.costs("40 clicks of one shopper's", oneOfEach())
	if len(tokens) != 1 {
		t.Errorf("the links have %d tokens; want one for all", len(tokens))
	}
}

// TestPreviewDuringA429: all servers are paused by a 429, so nothing asks Recharge: no
// preview, however often, and no doctor.
func TestPreviewDuringA429(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited, x.RetryAfter = true, time.Minute })
	f.ride(newClicker(t), f.public, pat)
	if calls := f.calls(); len(calls) != 1 {
		t.Fatalf("the click that is limited made the calls %v; want one", calls)
	}
	for _, who := range []string{pat, pat, sam, robin} {
		if out, err := f.preview(server.Question{Customer: who}); len(f.recharge.Requests()) > 0 {
			t.Errorf("preview, paused, made the calls %v (%v):\n%s", f.calls(), err, out)
		}
	}
	f.examine(server.Questions{Customer: pat})
	f.costs("doctor, paused", map[string]int{})
	f.ride(newClicker(t), f.public, sam)
	f.costs("a click, paused", map[string]int{})
}

// TestPreviewAfterA429: when the pause is over, a preview asks again. It leaves what is
// free of the bucket to clicks: then it asks only who the shopper is.
func TestPreviewAfterA429(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited, x.RetryAfter = true, time.Second })
	f.ride(newClicker(t), f.public, pat)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited = false })
	f.calls()
	var out string
	f.until("a preview is answered", func() bool {
		time.Sleep(50 * time.Millisecond)
		var err error
		out, err = f.preview(server.Question{Customer: pat})
		return err == nil
	})
	want := oneOfEach()
	if strings.Contains(out, "redirected_by_hash: ") {
		want = map[string]int{"customers": 1}
	} else if !strings.Contains(out, "redirected: ") {
		t.Errorf("the preview does not lead to the portal:\n%s", out)
	}
	f.costs("the preview that is answered", want)
}

// examine runs the doctor on the program that runs.
func (f *fixture) examine(ask server.Questions, change ...func(*config.Settings)) doctor.Report {
	f.t.Helper()
	settings := f.settings()
	for _, edit := range change {
		edit(&settings)
	}
	settings.AppURL = "http://" + f.public
	cfg, err := settings.Check()
	if err != nil {
		f.t.Fatal(err)
	}
	report, err := server.Doctor(f.t.Context(), cfg, ask, func(doctor.Check) {}, server.WithClock(f.clock.now), server.WithShopify(f.platform()), server.WithLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		f.t.Fatal(err)
	}
	return report
}

// TestHEAD: it costs no call and is no click. Where all is cached, it is answered as a
// GET is.
func TestHEAD(t *testing.T) {
	t.Parallel()
	f := start(t)
	ask := func(method, path, who string) *http.Response {
		t.Helper()
		response, _ := f.direct(method, f.public, path+"?"+f.store.SignedQuery("", who, "/apps/subscriptions", appSecret))
		if response.StatusCode >= 500 {
			t.Errorf("%s %s = %d", method, path, response.StatusCode)
		}
		return response
	}
	for _, who := range []string{pat, robin, kim} {
		for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/status", "/apps/subscriptions/orders", "/apps/subscriptions/"} {
			if response := ask(http.MethodHead, path, who); response.Header.Get("Location") != "" {
				t.Errorf("HEAD %s of a shopper who is not cached leads to %q", path, response.Header.Get("Location"))
			}
			f.costs("HEAD "+path+" of a shopper who is not cached", map[string]int{})
		}
	}
	ask(http.MethodHead, "/apps/subscriptions", "") // signed out
	first := ask(http.MethodGet, "/apps/subscriptions", pat).Header.Get("Location")
	f.costs("the first GET", oneOfEach())
	for path, page := range map[string]string{"/apps/subscriptions": "/subscriptions", "/apps/subscriptions/orders": "/orders"} {
		head := ask(http.MethodHead, path, pat)
		get := ask(http.MethodGet, path, pat)
		if head.StatusCode != http.StatusFound || head.Header.Get("Location") != get.Header.Get("Location") || get.StatusCode != http.StatusFound {
			t.Errorf("HEAD %s of a cached shopper = %d %q; GET = %d %q; want the same 302", path, head.StatusCode, head.Header.Get("Location"), get.StatusCode, get.Header.Get("Location"))
		}
		if to, want := (ride{location: get.Header.Get("Location")}), "/"+patsHash+page+"?"; !strings.Contains(to.location, want) || to.token() != (ride{location: first}).token() {
			t.Errorf("GET %s leads to %q; want %s, with the token of %q", path, to.location, want, first)
		}
	}
	ask(http.MethodHead, "/apps/subscriptions/status", pat)
	f.costs("HEAD and GET of a cached shopper", map[string]int{})
	const gets = 3
	f.until("the clicks are in the log", func() bool { return len(f.log.lines("click")) >= gets })
	f.clock.add(2 * time.Minute)
	ask(http.MethodHead, "/apps/subscriptions", pat)
	f.costs("HEAD when the access is over", map[string]int{})
	f.stop() // writes what is still to be written
	f.ended <- <-f.ended
	if clicks := len(f.log.lines("click")); clicks != gets {
		t.Errorf("the log has %d clicks; want %d, one for each GET", clicks, gets)
	}
}

// variation is one of the ways in which a shopper can ask for the portal.
type variation struct {
	path, query string
	want        string            // the portal's page
	parameters  map[string]string // that the portal gets
}

// variations are n of them.
func variations(n int) []variation {
	pages := []struct{ path, page string }{
		{"", "subscriptions"}, {"/", "subscriptions"}, {"/orders", "orders"}, {"/schedule", "schedule"}, {"/addresses", "addresses"}, {"/payment-methods", "payment_methods"}, {"/overview", "overview"}, {"/nonsense", "subscriptions"},
	}
	locales, countries := []string{"", "fr", "de", "pt-BR", "fr-CA"}, []string{"", "CA", "DE"}
	var all []variation
	for i := range n {
		page := pages[i%len(pages)]
		v := variation{path: page.path, want: page.page, parameters: map[string]string{}}
		switch i % 3 {
		case 1:
			v.path, v.want = fmt.Sprint("/subscriptions/", 50500600+i), fmt.Sprint("subscriptions/", 50500600+i)
		case 2:
			v.path, v.want = fmt.Sprint("/subscriptions/", 50500600+i, "/cancel"), fmt.Sprint("subscriptions/", 50500600+i, "/cancel")
		}
		query := url.Values{}
		for name, value := range map[string]string{"locale": locales[i%len(locales)], "country": countries[i/2%len(countries)]} {
			if value != "" {
				v.parameters[name] = value
				query.Set(name, value)
			}
		}
		v.query = query.Encode()
		all = append(all, v)
	}
	return all
}

// vary clicks in that way at a server.
func (f *fixture) vary(client *http.Client, server, who string, v variation) ride {
	f.t.Helper()
	r, err := rideTo(client, server, "/apps/subscriptions"+v.path+"?"+f.store.SignedQuery(v.query, who, "/apps/subscriptions", appSecret))
	if err != nil {
		f.t.Errorf("a click: %v", err)
	}
	return r
}

// TestOneShopperVaries: whatever a shopper varies costs what one click costs.
func TestOneShopperVaries(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	tokens := map[string]int{}
	lost := map[string]int{} // clicks from which the portal does not get a parameter
	for i, v := range variations(60) {
		r := p.vary(p.client, p.servers[i%2], pat, v)
		u, err := url.Parse(r.location)
		if err != nil || r.outcome != "redirected" || !strings.HasSuffix(u.Path, "/"+patsHash+"/"+v.want) {
			t.Errorf("%s?%s leads to %q (%s); want %s, signed in", v.path, v.query, r.location, r.outcome, v.want)
			continue
		}
		for name, portals := range map[string]string{"locale": "locale", "country": "region_country"} {
			if u.Query().Get(portals) != v.parameters[name] {
				lost[name]++
			}
		}
		tokens[r.token()]++
	}
	if len(lost) > 0 {
		t.Errorf("the portal gets another or no parameter in %v of 60 clicks; want those of the click", lost)
	}
	p.costs("60 clicks of one shopper's", oneOfEach())
	if len(tokens) != 1 {
		t.Errorf("the links have %d tokens; want one for all", len(tokens))
	}
	v := variations(2)[1]
	if opened := p.opening(p.client, p.vary(p.client, p.public, pat, v).location); opened.Customer.Hash != patsHash || opened.Page != v.want {
		t.Errorf("a link opens %+v; want Pat's %s", opened, v.want)
	}
}

// TestOneShopperVariesAndOthersGetIn: on the budget that Recharge grants by default.
func TestOneShopperVariesAndOthersGetIn(t *testing.T) {
	for _, together := range []string{"after it", "meanwhile"} {
		t.Run(together, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.RechargeRate, s.LinkTTL = "2,40", "10m" })
			// With the one who varies they need 30 of 40 calls: some are kept for lookups.
			people := crowd(9)
			p.recharge.SetCustomers(append(people, customers()...))
			var all sync.WaitGroup
			all.Go(func() {
				for i, v := range variations(60) {
					if r := p.vary(p.client, p.servers[i%2], pat, v); r.outcome != "redirected" {
						t.Errorf("click %d, %s?%s = %s; want it signed in", i, v.path, v.query, r.outcome)
						return
					}
				}
			})
			if together == "after it" {
				all.Wait()
			}
			for i, who := range people {
				all.Go(func() {
					if r := p.ride(p.client, p.servers[i%2], who.ShopifyCustomerID); !r.leadsTo(who.Hash) || r.outcome != "redirected" {
						t.Errorf("shopper %d is sent to %q (%s); want their own portal, signed in", i, r.location, r.outcome)
					}
				})
			}
			all.Wait()
			p.costs("10 shoppers", map[string]int{"customers": 10, "sessions": 10, "portal_access": 10})
		})
	}
}

// TestLinkTTL: one access does for all destinations until LINK_TTL is over. The next
// is had with the same session.
func TestLinkTTL(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	last := ""
	for _, step := range []struct {
		after time.Duration
		calls map[string]int
	}{
		{0, oneOfEach()},
		{5 * time.Minute, map[string]int{}},
		{4*time.Minute + 30*time.Second, map[string]int{}},
		{time.Minute, map[string]int{"portal_access": 1}}, // 10:30
		{9 * time.Minute, map[string]int{}},
		{2 * time.Minute, map[string]int{"portal_access": 1}},
	} {
		p.clock.add(step.after)
		tokens := map[string]int{}
		for i, v := range variations(7) {
			r := p.vary(p.client, p.servers[i%2], pat, v)
			if r.outcome != "redirected" || !strings.Contains(r.location, "/"+patsHash+"/"+v.want+"?") {
				t.Errorf("%v later, %s leads to %q (%s); want %s, signed in", step.after, v.path, r.location, r.outcome, v.want)
			}
			tokens[r.token()]++
			last = r.location
		}
		p.costs(fmt.Sprint("clicks ", step.after, " later"), step.calls)
		if len(tokens) != 1 {
			t.Errorf("%v later, the links have %d tokens; want one for all", step.after, len(tokens))
		}
	}
	sessions := map[string]bool{}
	for _, request := range p.seen {
		if request.Endpoint == "portal_access" {
			sessions[request.Header.Get("X-Recharge-Access-Token")] = true
		}
	}
	if len(sessions) != 1 {
		t.Errorf("portal_access was asked with %d sessions; want one", len(sessions))
	}
	if opened := p.opening(p.client, last); opened.Customer.Hash != patsHash {
		t.Errorf("the last link opens %q; want Pat's portal", opened.Customer.Hash)
	}
}

// order are the endpoints that clicks have asked since the last look, in their order.
func (f *fixture) order() []string {
	var endpoints []string
	for _, request := range f.recharge.Requests() {
		if slices.Contains([]string{"customers", "customer", "sessions", "portal_access"}, request.Endpoint) {
			endpoints = append(endpoints, request.Endpoint)
		}
	}
	f.calls()
	return endpoints
}

// TestTrustHasAnAge: where Recharge's webhooks are not proven to come, a link is made
// for a customer who was verified in the last hour only.
func TestTrustHasAnAge(t *testing.T) {
	long := func(s *config.Settings) { s.CustomerTTL = "168h" }
	verified, trusted := []string{"customer", "sessions", "portal_access"}, []string{"sessions", "portal_access"}
	click := func(p *pair, when string, want []string) {
		p.t.Helper()
		r := p.ride(p.client, p.servers[0], pat)
		if diff := cmp.Diff(want, p.order()); diff != "" || r.outcome != "redirected" || !r.leadsTo(patsHash) {
			p.t.Errorf("%s: a click leads to %q (%s); its calls in order (-want +got):\n%s", when, r.location, r.outcome, diff)
		}
	}
	first := []string{"customers", "sessions", "portal_access"}
	for name, secret := range map[string]func(*config.Settings){"no secret": func(*config.Settings) {}, "a secret, and nothing has come": withWebhooks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), long, secret)
			click(p, "first", first)
			p.clock.add(30 * time.Minute)
			click(p, "after 30 minutes", []string{"portal_access"})
			p.clock.add(31 * time.Minute)
			click(p, "after 61 minutes", verified)
			p.clock.add(61 * time.Minute)
			click(p, "after 61 minutes more", verified)
			p.clock.add(61 * time.Minute)
			p.move(patsRecord, robin)
			p.isOut("moved, and nobody told", pat, patsHash)
			if endpoints := p.order(); !slices.Contains(endpoints, "customer") && !slices.Contains(endpoints, "customers") {
				t.Errorf("moved, and nobody told: the calls %v; want who it is asked", endpoints)
			}
			p.signedIn("moved, and nobody told", robin, patsHash)
		})
	}
	// The session is younger than what is known of the customer.
	t.Run("a session that outlives it", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, storetest.Redis(t), long)
		p.direct("GET", p.public, "/apps/subscriptions/status?"+p.store.SignedQuery("", pat, "/apps/subscriptions", appSecret))
		p.costs("status", map[string]int{"customers": 1})
		p.clock.add(50 * time.Minute)
		click(p, "after 50 minutes", trusted)
		p.clock.add(20 * time.Minute)
		p.move(patsRecord, robin)
		p.isOut("after 70 minutes, moved and nobody told", pat, patsHash)
	})
	t.Run("proven", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, storetest.Redis(t), long, withWebhooks)
		p.told(p.servers[1], "customer/updated", p.record(70100301)) // of Sam
		p.order()
		click(p, "first", first)
		p.clock.add(61 * time.Minute)
		click(p, "after 61 minutes", trusted)
		p.clock.add(5 * 24 * time.Hour)
		click(p, "after five days", trusted)
		p.clock.add(3*24*time.Hour - 2*time.Hour) // eight days, less an hour
		p.ride(p.client, p.servers[0], pat)       // CUSTOMER_TTL is over: they are looked up
		p.order()
		p.clock.add(61 * time.Minute)
		click(p, "after eight days without a delivery", verified)
		p.told(p.servers[1], "customer/updated", p.record(70100301))
		p.clock.add(61 * time.Minute)
		p.order()
		click(p, "after one more", trusted)
	})
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, storetest.Redis(t), long, withWebhooks)
		p.recharge.SetFaults(func(x *rechargetest.Faults) { x.WrongNewSignature = true })
		p.recharge.ChangeCustomer(p.record(70100301))
		p.until("it is refused", func() bool { return len(p.recharge.Deliveries()) > 0 })
		p.order()
		click(p, "first", first)
		p.clock.add(61 * time.Minute)
		click(p, "after 61 minutes", verified)
	})
}

package server_test

// How much of Recharge's budget a click may spend, and when it must spend nothing.

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// token returns the portal token of a link.
func token(r servertest.Visit) string {
	u, err := url.Parse(r.Location)
	if err != nil {
		return ""
	}
	return u.Query().Get("token")
}

// TestOneLookupWithASlowRecharge: each call takes 1.6 s, so that a shopper's calls take longer than
// any lock lives unless it is renewed. Meanwhile, clicks arrive at both servers.
func TestOneLookupWithASlowRecharge(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	p.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 1600 * time.Millisecond })
	var all sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]int{}
	click := func(server string) {
		r := p.Visit(p.client, server, servertest.Pat)
		mu.Lock()
		defer mu.Unlock()
		tokens[token(r)]++
		if !r.LeadsTo(servertest.PatsHash) || r.Outcome != "redirected" {
			t.Errorf("a click leads to %q (%s); want Pat's portal, signed in", r.Location, r.Outcome)
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
	p.WantCalls("40 clicks of one shopper's", servertest.OneCallEach())
	if len(tokens) != 1 {
		t.Errorf("the links have %d tokens; want one for all", len(tokens))
	}
}

// TestPreviewDuringA429: a 429 pauses all servers, so neither a preview, however often it runs, nor
// doctor asks Recharge.
func TestPreviewDuringA429(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited, x.RetryAfter = true, time.Minute })
	f.Visit(servertest.NewClient(t), f.Public, servertest.Pat)
	if calls := f.Calls(); len(calls) != 1 {
		t.Fatalf("the click that is limited made the calls %v; want one", calls)
	}
	for _, who := range []string{servertest.Pat, servertest.Pat, servertest.Sam, servertest.Robin} {
		if out, err := preview(f, server.Question{Customer: who}); len(f.Recharge.Requests()) > 0 {
			t.Errorf("preview, paused, made the calls %v (%v):\n%s", f.Calls(), err, out)
		}
	}
	examine(f, doctor.Options{Customer: servertest.Pat})
	f.WantCalls("doctor, paused", map[string]int{})
	f.Visit(servertest.NewClient(t), f.Public, servertest.Sam)
	f.WantCalls("a click, paused", map[string]int{})
}

// TestPreviewAfterA429: when the pause is over, a preview asks again. If few calls are left, it only
// asks who the shopper is and leaves the rest to clicks.
func TestPreviewAfterA429(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited, x.RetryAfter = true, time.Second })
	f.Visit(servertest.NewClient(t), f.Public, servertest.Pat)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited = false })
	f.Calls()
	var out string
	f.Until("a preview is answered", func() bool {
		time.Sleep(50 * time.Millisecond)
		var err error
		out, err = preview(f, server.Question{Customer: servertest.Pat})
		return err == nil
	})
	want := servertest.OneCallEach()
	if strings.Contains(out, "redirected_by_hash: ") {
		want = map[string]int{"customers": 1}
	} else if !strings.Contains(out, "redirected: ") {
		t.Errorf("the preview does not lead to the portal:\n%s", out)
	}
	f.WantCalls("the preview that is answered", want)
}

// examine runs doctor on the running program.
func examine(f *servertest.Fixture, ask doctor.Options, change ...func(*config.Settings)) doctor.Report {
	f.T.Helper()
	cfg := f.Config(append(change, func(s *config.Settings) { s.AppURL = "http://" + f.Public })...)
	report, err := server.Doctor(f.T.Context(), cfg, ask, server.Options{Now: f.Clock.Now, Platform: f.Platform()})
	if err != nil {
		f.T.Fatal(err)
	}
	return report
}

// TestHEAD: a HEAD request makes no call and is not a click. If everything is cached, it gets the same
// answer as a GET.
func TestHEAD(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	ask := func(method, path, who string) *http.Response {
		t.Helper()
		response, _ := f.Request(method, f.Public, path+"?"+f.Store.SignedQuery("", who, "/apps/subscriptions", servertest.AppSecret))
		if response.StatusCode >= 500 {
			t.Errorf("%s %s = %d", method, path, response.StatusCode)
		}
		return response
	}
	for _, who := range []string{servertest.Pat, servertest.Robin, servertest.Kim} {
		for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/status", "/apps/subscriptions/orders", "/apps/subscriptions/"} {
			if response := ask(http.MethodHead, path, who); response.Header.Get("Location") != "" {
				t.Errorf("HEAD %s of a shopper who is not cached leads to %q", path, response.Header.Get("Location"))
			}
			f.WantCalls("HEAD "+path+" of a shopper who is not cached", map[string]int{})
		}
	}
	ask(http.MethodHead, "/apps/subscriptions", "") // signed out
	first := ask(http.MethodGet, "/apps/subscriptions", servertest.Pat).Header.Get("Location")
	f.WantCalls("the first GET", servertest.OneCallEach())
	for path, page := range map[string]string{"/apps/subscriptions": "/subscriptions", "/apps/subscriptions/orders": "/orders"} {
		head := ask(http.MethodHead, path, servertest.Pat)
		get := ask(http.MethodGet, path, servertest.Pat)
		if head.StatusCode != http.StatusFound || head.Header.Get("Location") != get.Header.Get("Location") || get.StatusCode != http.StatusFound {
			t.Errorf("HEAD %s of a cached shopper = %d %q; GET = %d %q; want the same 302", path, head.StatusCode, head.Header.Get("Location"), get.StatusCode, get.Header.Get("Location"))
		}
		if to, want := (servertest.Visit{Location: get.Header.Get("Location")}), "/"+servertest.PatsHash+page+"?"; !strings.Contains(to.Location, want) || token(to) != token((servertest.Visit{Location: first})) {
			t.Errorf("GET %s leads to %q; want %s, with the token of %q", path, to.Location, want, first)
		}
	}
	ask(http.MethodHead, "/apps/subscriptions/status", servertest.Pat)
	f.WantCalls("HEAD and GET of a cached shopper", map[string]int{})
	const gets = 3
	f.Until("the clicks are in the log", func() bool { return len(f.Log.Lines("click")) >= gets })
	f.Clock.Add(2 * time.Minute)
	ask(http.MethodHead, "/apps/subscriptions", servertest.Pat)
	f.WantCalls("HEAD when the access is over", map[string]int{})
	f.Stop() // writes the remaining lines
	f.Ended <- <-f.Ended
	if clicks := len(f.Log.Lines("click")); clicks != gets {
		t.Errorf("the log has %d clicks; want %d, one for each GET", clicks, gets)
	}
}

// variation is one way in which a shopper can ask for the portal.
type variation struct {
	path, query string
	want        string            // page of the portal
	parameters  map[string]string // of the portal's URL
}

// variations returns n variations.
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

// vary clicks at a server, as v says.
func vary(f *servertest.Fixture, client *http.Client, server, who string, v variation) servertest.Visit {
	f.T.Helper()
	r, err := servertest.VisitAt(client, server, "/apps/subscriptions"+v.path+"?"+f.Store.SignedQuery(v.query, who, "/apps/subscriptions", servertest.AppSecret))
	if err != nil {
		f.T.Errorf("a click: %v", err)
	}
	return r
}

// TestOneShopperVaries: all variations of one shopper's click together make the calls of one click.
func TestOneShopperVaries(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	tokens := map[string]int{}
	lost := map[string]int{} // clicks whose parameter does not reach the portal
	for i, v := range variations(60) {
		r := vary(p.Fixture, p.client, p.servers[i%2], servertest.Pat, v)
		u, err := url.Parse(r.Location)
		if err != nil || r.Outcome != "redirected" || !strings.HasSuffix(u.Path, "/"+servertest.PatsHash+"/"+v.want) {
			t.Errorf("%s?%s leads to %q (%s); want %s, signed in", v.path, v.query, r.Location, r.Outcome, v.want)
			continue
		}
		for name, portals := range map[string]string{"locale": "locale", "country": "region_country"} {
			if u.Query().Get(portals) != v.parameters[name] {
				lost[name]++
			}
		}
		tokens[token(r)]++
	}
	if len(lost) > 0 {
		t.Errorf("the portal gets another or no parameter in %v of 60 clicks; want those of the click", lost)
	}
	p.WantCalls("60 clicks of one shopper's", servertest.OneCallEach())
	if len(tokens) != 1 {
		t.Errorf("the links have %d tokens; want one for all", len(tokens))
	}
	v := variations(2)[1]
	if opened := p.Open(p.client, vary(p.Fixture, p.client, p.Public, servertest.Pat, v).Location); opened.Customer.Hash != servertest.PatsHash || opened.Page != v.want {
		t.Errorf("a link opens %+v; want Pat's %s", opened, v.want)
	}
}

// TestOneShopperVariesAndOthersGetIn, with the budget that Recharge grants by default.
func TestOneShopperVariesAndOthersGetIn(t *testing.T) {
	t.Parallel()
	for _, together := range []string{"after it", "meanwhile"} {
		t.Run(together, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.RechargeRate, s.LinkTTL = "2,40", "10m" })
			// Together with the one who varies, they need 30 of 40 calls, since some are kept for lookups.
			people := servertest.Subscribers(9)
			p.Recharge.SetCustomers(append(people, servertest.Customers()...))
			var all sync.WaitGroup
			all.Go(func() {
				for i, v := range variations(60) {
					if r := vary(p.Fixture, p.client, p.servers[i%2], servertest.Pat, v); r.Outcome != "redirected" {
						t.Errorf("click %d, %s?%s = %s; want it signed in", i, v.path, v.query, r.Outcome)
						return
					}
				}
			})
			if together == "after it" {
				all.Wait()
			}
			for i, who := range people {
				all.Go(func() {
					if r := p.Visit(p.client, p.servers[i%2], who.ShopifyCustomerID); !r.LeadsTo(who.Hash) || r.Outcome != "redirected" {
						t.Errorf("shopper %d is sent to %q (%s); want their own portal, signed in", i, r.Location, r.Outcome)
					}
				})
			}
			all.Wait()
			p.WantCalls("10 shoppers", map[string]int{"customers": 10, "sessions": 10, "portal_access": 10})
		})
	}
}

// TestLinkTTL: one portal access serves all destinations until LINK_TTL is over. The next is made with
// the same session.
func TestLinkTTL(t *testing.T) {
	t.Parallel()
	p := newPair(t, storetest.Redis(t), func(s *config.Settings) { s.LinkTTL = "10m" })
	last := ""
	for _, step := range []struct {
		after time.Duration
		calls map[string]int
	}{
		{0, servertest.OneCallEach()},
		{5 * time.Minute, map[string]int{}},
		{4*time.Minute + 30*time.Second, map[string]int{}},
		{time.Minute, map[string]int{"portal_access": 1}}, // 10:30
		{9 * time.Minute, map[string]int{}},
		{2 * time.Minute, map[string]int{"portal_access": 1}},
	} {
		p.Clock.Add(step.after)
		tokens := map[string]int{}
		for i, v := range variations(7) {
			r := vary(p.Fixture, p.client, p.servers[i%2], servertest.Pat, v)
			if r.Outcome != "redirected" || !strings.Contains(r.Location, "/"+servertest.PatsHash+"/"+v.want+"?") {
				t.Errorf("%v later, %s leads to %q (%s); want %s, signed in", step.after, v.path, r.Location, r.Outcome, v.want)
			}
			tokens[token(r)]++
			last = r.Location
		}
		p.WantCalls(fmt.Sprint("clicks ", step.after, " later"), step.calls)
		if len(tokens) != 1 {
			t.Errorf("%v later, the links have %d tokens; want one for all", step.after, len(tokens))
		}
	}
	sessions := map[string]bool{}
	for _, request := range p.Seen {
		if request.Endpoint == "portal_access" {
			sessions[request.Header.Get("X-Recharge-Access-Token")] = true
		}
	}
	if len(sessions) != 1 {
		t.Errorf("portal_access was asked with %d sessions; want one", len(sessions))
	}
	if opened := p.Open(p.client, last); opened.Customer.Hash != servertest.PatsHash {
		t.Errorf("the last link opens %q; want Pat's portal", opened.Customer.Hash)
	}
}

// order returns the endpoints that clicks have called since it was last called, in their order.
func order(f *servertest.Fixture) []string {
	var endpoints []string
	for _, request := range f.Recharge.Requests() {
		if slices.Contains([]string{"customers", "customer", "sessions", "portal_access"}, request.Endpoint) {
			endpoints = append(endpoints, request.Endpoint)
		}
	}
	f.Calls()
	return endpoints
}

// TestTrustHasAnAge: unless Recharge's webhooks are known to arrive, a link is made only for a
// customer who was verified in the last hour.
func TestTrustHasAnAge(t *testing.T) {
	t.Parallel()
	long := func(s *config.Settings) { s.CustomerTTL = "168h" }
	verified, trusted := []string{"customer", "sessions", "portal_access"}, []string{"sessions", "portal_access"}
	click := func(p *pair, when string, want []string) {
		p.T.Helper()
		r := p.Visit(p.client, p.servers[0], servertest.Pat)
		if diff := cmp.Diff(want, order(p.Fixture)); diff != "" || r.Outcome != "redirected" || !r.LeadsTo(servertest.PatsHash) {
			p.T.Errorf("%s: a click leads to %q (%s); its calls in order (-want +got):\n%s", when, r.Location, r.Outcome, diff)
		}
	}
	first := []string{"customers", "sessions", "portal_access"}
	for name, secret := range map[string]func(*config.Settings){"no secret": func(*config.Settings) {}, "a secret, and nothing has come": servertest.WithWebhooks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.New(t, storetest.Redis(t))
			f.Faults = func(x *rechargetest.Faults) { x.NoTests = true }
			p := pairOf(f, long, secret)
			click(p, "first", first)
			p.Clock.Add(30 * time.Minute)
			click(p, "after 30 minutes", []string{"portal_access"})
			p.Clock.Add(31 * time.Minute)
			click(p, "after 61 minutes", verified)
			p.Clock.Add(61 * time.Minute)
			click(p, "after 61 minutes more", verified)
			p.Clock.Add(61 * time.Minute)
			p.MoveRecord(servertest.PatsRecord, servertest.Robin)
			p.isOut("moved, and nobody told", servertest.Pat, servertest.PatsHash)
			if endpoints := order(p.Fixture); !slices.Contains(endpoints, "customer") && !slices.Contains(endpoints, "customers") {
				t.Errorf("moved without a webhook: calls %v; want the customer looked up", endpoints)
			}
			p.signedIn("moved, and nobody told", servertest.Robin, servertest.PatsHash)
		})
	}
	// The session is newer than the cached customer.
	t.Run("a session that outlives it", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, storetest.Redis(t), long)
		p.Request("GET", p.Public, "/apps/subscriptions/status?"+p.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret))
		p.WantCalls("status", map[string]int{"customers": 1})
		p.Clock.Add(50 * time.Minute)
		click(p, "after 50 minutes", trusted)
		p.Clock.Add(20 * time.Minute)
		p.MoveRecord(servertest.PatsRecord, servertest.Robin)
		p.isOut("after 70 minutes, moved and nobody told", servertest.Pat, servertest.PatsHash)
	})
	t.Run("proven", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, storetest.Redis(t), long, servertest.WithWebhooks)
		p.MustDeliver(p.servers[1], "customer/updated", p.Record(70100301)) // of Sam
		order(p.Fixture)
		click(p, "first", first)
		p.Clock.Add(61 * time.Minute)
		click(p, "after 61 minutes", trusted)
		p.Clock.Add(5 * 24 * time.Hour)
		click(p, "after five days", trusted)
		p.Clock.Add(3*24*time.Hour - 2*time.Hour)       // eight days, less an hour
		p.Visit(p.client, p.servers[0], servertest.Pat) // CUSTOMER_TTL is over, so they are looked up
		order(p.Fixture)
		p.Clock.Add(61 * time.Minute)
		click(p, "after eight days without a delivery", verified)
		p.MustDeliver(p.servers[1], "customer/updated", p.Record(70100301))
		p.Clock.Add(61 * time.Minute)
		order(p.Fixture)
		click(p, "after one more", trusted)
	})
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		f := servertest.New(t, storetest.Redis(t))
		f.Faults = func(x *rechargetest.Faults) { x.WrongNewSignature = true }
		p := pairOf(f, long, servertest.WithWebhooks)
		p.Recharge.ChangeCustomer(p.Record(70100301))
		p.Until("both are refused", func() bool { return len(p.Recharge.Deliveries()) > 1 })
		order(p.Fixture)
		click(p, "first", first)
		p.Clock.Add(61 * time.Minute)
		click(p, "after 61 minutes", verified)
	})
}

package handlers_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// TestOutcomes checks the contract's table of outcomes.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		set      func(*config.Settings)
		breaks   func(*servertest.Fixture)
		shopper  string
		path     string
		outcome  string
		status   int
		location string // its prefix; "" if there must be none
		says     string // on the page
	}{
		{name: "redirected", shopper: servertest.Pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, trailing slash", shopper: servertest.Pat, path: "/", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, destination", shopper: servertest.Pat, path: "/payment-methods/?utm_source=mail", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/payment_methods?token="},
		{name: "redirected, one subscription", shopper: servertest.Pat, path: "/subscriptions/50500600/cancel", outcome: "redirected", status: 302, location: "{store}/tools/recurring/pages/1f2e3d4c5b6a7988/subscriptions/50500600/cancel?redirect_to={back}%2Fapps%2Fsubscriptions&subscription=50500600&token="},
		{name: "redirected, with the way back", shopper: servertest.Pat, path: "/gifts/7?locale=fr&country=ca&return_to=https://evil.example/", outcome: "redirected", status: 302, location: "{store}/tools/recurring/pages/1f2e3d4c5b6a7988/gifts/7?locale=fr&redirect_to={back}%2Fapps%2Fsubscriptions%3Fcountry%3DCA%26locale%3Dfr&region_country=CA&token="},
		{name: "redirected, failed payment", shopper: servertest.Pat, path: "/payment-method/update", outcome: "redirected", status: 302, location: "{store}/tools/recurring/pages/account/payment-methods?hash=1f2e3d4c5b6a7988&token="},
		{name: "redirected by hash, cancel", set: func(s *config.Settings) { s.PortalLink = "hash" }, shopper: servertest.Pat, path: "/subscriptions/50500600/cancel", outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions/50500600/cancel"},
		{name: "redirected, unknown destination", shopper: servertest.Pat, path: "/../nonsense%2F%00", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, two records", shopper: servertest.Sam, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/70100301a1b2c3d4e5f60718/subscriptions?token="},
		{name: "redirected by hash, configured", set: func(s *config.Settings) { s.PortalLink = "hash" }, shopper: servertest.Pat, path: "/schedule?locale=fr", outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/schedule?locale=fr"},
		{name: "redirected by hash, sessions refused", breaks: servertest.BreakRecharge(func(f *rechargetest.Faults) { f.RefuseSessions = true }), shopper: servertest.Pat, path: "/subscriptions/50500600", outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions/50500600"},
		{name: "redirected by hash, portal access refused", breaks: servertest.BreakRecharge(func(f *rechargetest.Faults) { f.RefusePortalAccess = true }), shopper: servertest.Pat, outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions"},
		{name: "sign in", outcome: "sign_in", status: 302, location: "/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%3Fms_returned%3D1"},
		{name: "sign in, destination and locale", path: "/orders?locale=pt-BR&utm_source=x", outcome: "sign_in", status: 302, location: "/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%2Forders%3Flocale%3Dpt-BR%26ms_returned%3D1"},
		{name: "sign in, legacy", set: func(s *config.Settings) { s.CustomerAccounts = "legacy" }, outcome: "sign_in", status: 302, location: "/account/login?return_url=%2Fapps%2Fsubscriptions%3Fms_returned%3D1"},
		{name: "sign in failed", path: "?ms_returned=1", outcome: "sign_in_failed", status: 200, says: "Please sign in again"},
		{name: "not a subscriber", shopper: servertest.Robin, outcome: "not_a_subscriber", status: 200, says: "No subscriptions found"},
		{name: "not a subscriber, two active records", shopper: servertest.Kim, outcome: "not_a_subscriber", status: 200, says: "No subscriptions found"},
		{name: "unavailable", breaks: servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Down = true }), shopper: servertest.Pat, outcome: "unavailable", status: 200, says: "cannot be opened right now"},
		{name: "not connected", set: func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, shopper: servertest.Pat, outcome: "not_connected", status: 200, says: "cannot be managed here yet"},
		{name: "not connected, another shop", breaks: fromShopify(func(f *shopifytest.Faults) { f.Shop = "another-shop.myshopify.com" }), shopper: servertest.Pat, outcome: "not_connected", status: 200, says: "cannot be managed here yet"},
		{name: "forbidden, wrong secret", breaks: fromShopify(func(f *shopifytest.Faults) { f.WrongSecret = true }), shopper: servertest.Pat, outcome: "forbidden", status: 403, says: `<a class="button" href="?">Open Manage Subscriptions again</a>`},
		{name: "forbidden, late", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = -100 * time.Second }), shopper: servertest.Pat, outcome: "forbidden", status: 403, says: `<a class="button" href="?">Open Manage Subscriptions again</a>`},
		{name: "forbidden, early", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = 100 * time.Second }), shopper: servertest.Pat, outcome: "forbidden", status: 403, says: `<a class="button" href="?">Open Manage Subscriptions again</a>`},
		{name: "forbidden, Shopify repeats itself", shopper: servertest.Robin, path: "?ms_repeated=1&logged_in_customer_id=" + servertest.Pat, outcome: "forbidden", status: 403, says: `<a class="button" href="?">Open Manage Subscriptions again</a>`},
		{name: "the old secret still signs", breaks: fromShopify(func(f *shopifytest.Faults) { f.OldSecret = true }), shopper: servertest.Pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/"},
		{name: "a little late", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = -80 * time.Second }), shopper: servertest.Pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := func(*config.Settings) {}
			if test.set != nil {
				set = test.set
			}
			f := servertest.Start(t, set)
			if test.breaks != nil {
				test.breaks(f)
			}
			got := f.Click(f.Shopper(test.shopper), "/apps/subscriptions"+test.path)
			if got.Outcome() != test.outcome || got.Status != test.status {
				t.Errorf("click = %s, %d; want %s, %d (log: %v)", got.Outcome(), got.Status, test.outcome, test.status, got.Line)
			}
			want := strings.NewReplacer("{store}", f.Store.URL, "{back}", url.QueryEscape(f.Store.URL)).Replace(test.location)
			if !strings.HasPrefix(got.Location, want) || want == "" && got.Location != "" {
				t.Errorf("Location = %q; want it to begin with %q", got.Location, want)
			}
			if !strings.Contains(got.Body, test.says) {
				t.Errorf("page = %q; want %q on it", got.Body, test.says)
			}
			checkHeaders(f, got)
		})
	}
}

func fromShopify(set func(*shopifytest.Faults)) func(*servertest.Fixture) {
	return func(f *servertest.Fixture) { f.Store.SetFaults(set) }
}

func checkHeaders(f *servertest.Fixture, a servertest.Answer) {
	f.T.Helper()
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		f.T.Errorf("Cache-Control = %q; want no-store", got)
	}
	if got := a.Header.Get("Referrer-Policy"); got != "no-referrer" {
		f.T.Errorf("Referrer-Policy = %q; want no-referrer", got)
	}
	if got := a.Header.Values("Set-Cookie"); got != nil {
		f.T.Errorf("Set-Cookie = %q; want none", got)
	}
	kind := map[int]string{302: "", 403: "text/html; charset=UTF-8", 200: "application/liquid"}[a.Status]
	if got := a.Header.Get("Content-Type"); got != kind {
		f.T.Errorf("Content-Type with %d = %q; want %q", a.Status, got, kind)
	}
}

// TestEveryAnswerHasTheHeaders covers also requests that the storefront would never forward.
func TestEveryAnswerHasTheHeaders(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/apps/subscriptions", 403},
		{"HEAD", "/apps/subscriptions", 403},
		{"POST", "/apps/subscriptions", 405},
		{"GET", "/apps/subscriptionsx", 404},
		{"GET", "//apps/subscriptions", 403},
		{"GET", "/apps/subscriptions//", 403},
		{"GET", "/apps/subscriptions/%zz", 400},
		{"GET", "/livez", 404},
		{"GET", "/nonsense", 404},
		{"GET", "/apps/subscriptions/status", 403},
		{"POST", "/apps/subscriptions/status", 405},
	} {
		response, body := f.Request(test.method, f.Public, test.path)
		if response.StatusCode != test.status {
			t.Errorf("%s %s = %d; want %d", test.method, test.path, response.StatusCode, test.status)
		}
		if test.status == 400 { // net/http refuses it before our code runs
			continue
		}
		if got := response.Header.Get("Cache-Control") + " " + response.Header.Get("Referrer-Policy"); got != "no-store no-referrer" {
			t.Errorf("%s %s has headers %q; want no-store no-referrer", test.method, test.path, got)
		}
		if strings.Contains(body, `{"`) || response.Header.Get("Location") != "" {
			t.Errorf("%s %s answers %q, Location %q; want no JSON and no redirect", test.method, test.path, body, response.Header.Get("Location"))
		}
	}
}

// TestForbiddenGivesNoHint checks that every kind of bad request gets the same answer.
func TestForbiddenGivesNoHint(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	signed := func(extra string) string {
		return f.Store.SignedQuery(extra, servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	}
	id := regexp.MustCompile(`<bdi>[a-z2-7]{10}</bdi>`)
	var want string
	for name, query := range map[string]string{
		"nothing":         "",
		"no signature":    "shop=" + servertest.Shop,
		"malformed":       signed("") + "&a=%zz",
		"signed by other": f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", "other-secret"),
		"changed id":      strings.Replace(signed(""), servertest.Pat, servertest.Robin, 1),
		"shop twice":      signed("ms_repeated=1&shop=x.myshopify.com"),
		"shop misshapen":  strings.Replace(signed(""), servertest.Shop, "x", 1),
	} {
		response, body := f.Request("GET", f.Public, "/apps/subscriptions?"+query)
		if response.StatusCode != 403 || !id.MatchString(body) {
			t.Errorf("%s: %d %q; want 403 with a request id", name, response.StatusCode, body)
		}
		response.Header.Del("Date")
		got := id.ReplaceAllString(body, "") + fmt.Sprint(response.Header)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s is answered by %q, others by %q; want no difference", name, got, want)
		}
	}
	if got := len(f.Calls()); got != 0 {
		t.Errorf("forbidden clicks made %d kinds of call to Recharge; want none", got)
	}
}

// TestForbiddenHasAWayOn checks that a forbidden click gets a page in the browser's language that
// leads on within the store, wherever Shopify serves it, and that has nothing else of the request.
func TestForbiddenHasAWayOn(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Store.SetFaults(func(faults *shopifytest.Faults) { faults.WrongSecret = true })
	client := f.Shopper(servertest.Pat)
	for accept, want := range map[string]string{"": "en", "ar-EG, en;q=0.5": "ar", "pt-BR": "pt-BR", "is, nl;q=0.4": "nl", strings.Repeat("x,", 5000): "en"} {
		client.Transport = sending{"Accept-Language": accept}
		got := f.Click(client, "/apps/subscriptions/orders?utm_source=evil&locale=fr")
		if got.Status != http.StatusForbidden || !strings.Contains(got.Body, `<html lang="`+want+`"`) {
			t.Errorf("%.20q: %d %.200s; want 403 in %s", accept, got.Status, got.Body, want)
		}
		for _, part := range []string{`<a class="button" href="?">`, `<a href="/account">`, fmt.Sprint("<bdi>", got.Line["request_id"], "</bdi>")} {
			if !strings.Contains(got.Body, part) {
				t.Errorf("%.20q: %s; want %s on the page", accept, got.Body, part)
			}
		}
		if strings.Contains(got.Body, "evil") || strings.Contains(got.Body, "orders") || !strings.Contains(got.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%.20q: %v %s; want a policy, and nothing of the request", accept, got.Header, got.Body)
		}
	}
}

// TestCalls checks the design's table of how many calls to Recharge a click costs.
func TestCalls(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	client := f.Shopper(servertest.Pat)
	for _, click := range []struct {
		name  string
		after time.Duration
		path  string
		want  map[string]int
	}{
		{"first ever", 0, "", map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}},
		{"same destination again", time.Second, "", map[string]int{}},
		{"another destination", time.Second, "/orders", map[string]int{}},
		{"another language and country", time.Second, "/orders?locale=fr&country=CA", map[string]int{}},
		{"link over", 61 * time.Second, "", map[string]int{"portal_access": 1}},
		{"session over, and no webhook ever came", 61 * time.Minute, "", map[string]int{"customer": 1, "sessions": 1, "portal_access": 1}},
		{"customer over", 27 * time.Hour, "", map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}},
	} {
		f.Clock.Add(click.after)
		if got := f.Click(client, "/apps/subscriptions"+click.path).Outcome(); got != "redirected" {
			t.Fatalf("%s: outcome %s; want redirected", click.name, got)
		}
		if diff := cmp.Diff(click.want, f.Calls()); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", click.name, diff)
		}
	}
	robinClient := f.Shopper(servertest.Robin)
	f.Click(robinClient, "/apps/subscriptions")
	f.Click(robinClient, "/apps/subscriptions/orders")
	if diff := cmp.Diff(map[string]int{"customers": 1}, f.Calls()); diff != "" {
		t.Errorf("who never subscribed, twice: calls (-want +got):\n%s", diff)
	}
	f.Clock.Add(61 * time.Second)
	f.Click(robinClient, "/apps/subscriptions")
	if diff := cmp.Diff(map[string]int{"customers": 1}, f.Calls()); diff != "" {
		t.Errorf("who never subscribed, a minute later: calls (-want +got):\n%s", diff)
	}
}

// TestSimultaneousClicksAreOne sends many clicks of one shopper at the same time.
func TestSimultaneousClicksAreOne(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 20 * time.Millisecond })
	query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	const clicks = 300
	var wg sync.WaitGroup
	locations := make([]string, clicks)
	for i := range clicks {
		wg.Go(func() {
			response, err := client.Get("http://" + f.Public + "/apps/subscriptions?" + query)
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
			locations[i] = response.Header.Get("Location")
		})
	}
	wg.Wait()
	for _, location := range locations {
		if location == "" || location != locations[0] {
			t.Fatalf("Location = %q, others %q; want one link for all", location, locations[0])
		}
	}
	if diff := cmp.Diff(map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}, f.Calls()); diff != "" {
		t.Errorf("%d clicks: calls (-want +got):\n%s", clicks, diff)
	}
	// On a busy machine, a Redis timeout may open the circuit breaker for a moment, so that nothing
	// is cached until the next click.
	f.Clock.Add(2 * time.Second)
	f.Request("GET", f.Public, "/apps/subscriptions?"+query)
	// Without an entry, the check of Redis at the end of each test would find nothing to check.
	if got := f.CachedShoppers(); len(got) != 1 {
		t.Errorf("Redis holds %q; want one value for the shopper", got)
	}
}

// TestSimultaneousClicksAreOneWithoutRedis checks the same without Redis.
func TestSimultaneousClicksAreOneWithoutRedis(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Redis.Stop()
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { f.Request("GET", f.Public, "/apps/subscriptions?"+query) })
	}
	wg.Wait()
	if calls := f.Calls(); calls["customers"] > 3 {
		t.Errorf("50 clicks at once made calls %v; want about one of each", calls)
	}
}

// TestShopperWhoLeaves checks that closing the tab does not waste a click's calls.
func TestShopperWhoLeaves(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+f.Public+"/apps/subscriptions?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		answered <- err
	}()
	f.Until("the lookup has begun", func() bool { return len(f.Recharge.Requests()) > 0 })
	leave()
	if err := <-answered; err == nil {
		t.Error("the click was answered before the shopper could leave")
	}
	f.Until("the click has ended", func() bool { return f.Log.Last("click") != nil })
	f.Calls()
	response, _ := f.Request("GET", f.Public, "/apps/subscriptions?"+query)
	if calls := f.Calls(); response.StatusCode != http.StatusFound || len(calls) != 0 {
		t.Errorf("the next click = %d with calls %v; want 302 with none", response.StatusCode, calls)
	}
}

// TestSimultaneousShoppersDoNotMix checks that two shoppers never share a lookup, and that each has
// only one.
func TestSimultaneousShoppersDoNotMix(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	const shoppers = 40
	people := f.AddSubscribers(shoppers)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 20 * time.Millisecond })
	client := servertest.NewClient(t)
	// There are fewer clicks at once than connections to Redis, ten for each processor. On a busy
	// machine a click that waits for a connection may go on without Redis, and make its own calls.
	slots := make(chan struct{}, 8*runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for _, person := range people {
		for _, page := range []string{"subscriptions", "orders"} {
			for range 3 {
				slots <- struct{}{}
				query := f.Store.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", servertest.AppSecret)
				wg.Go(func() {
					defer func() { <-slots }()
					response, err := client.Get("http://" + f.Public + "/apps/subscriptions/" + page + "?" + query)
					if err != nil {
						t.Error(err)
						return
					}
					_ = response.Body.Close()
					if got, want := response.Header.Get("Location"), "/"+person.Hash+"/"+page+"?token="; !strings.Contains(got, want) {
						t.Errorf("Location = %q; want %q in it", got, want)
					}
				})
			}
		}
	}
	wg.Wait()
	f.WantCalls("40 shoppers to two pages", map[string]int{"customers": shoppers, "sessions": shoppers, "portal_access": shoppers})
}

// TestOneShopperCannotSpendTheBudget checks that many pages cost a shopper as many calls as one
// page, and leave the others their budget.
func TestOneShopperCannotSpendTheBudget(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.RechargeRate = "2,40" })
	client := f.Shopper(servertest.Pat)
	for i := range 60 {
		f.Click(client, fmt.Sprintf("/apps/subscriptions/subscriptions/%d", i))
	}
	if got := f.Log.Last("click")["outcome"]; got != "redirected" {
		t.Errorf("Pat's sixtieth page = %v; want redirected", got)
	}
	f.WantCalls("Pat's sixty pages", servertest.OneCallEach())
	if got := f.Click(f.Shopper(servertest.Sam), "/apps/subscriptions").Outcome(); got != "redirected" {
		t.Errorf("Sam's first click = %s; want redirected", got)
	}
}

// TestBudgetIsSpent checks that the last part of the budget is kept for lookups, so that a new
// shopper gets a hash link when many click at once.
func TestBudgetIsSpent(t *testing.T) {
	f := servertest.Start(t, func(s *config.Settings) { s.RechargeRate = "2,40" })
	for _, who := range f.AddSubscribers(14) {
		f.LocationAt(servertest.NewClient(t), f.Public, who, "")
	}
	f.Calls()
	if got := f.Click(f.Shopper(servertest.Sam), "/apps/subscriptions").Outcome(); got != "redirected_by_hash" {
		t.Errorf("Sam's first click = %s; want redirected_by_hash", got)
	}
	f.WantCalls("Sam's first click", map[string]int{"customers": 1})
}

// TestNeverAnotherShopper tries every known way to the wrong portal.
func TestNeverAnotherShopper(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		shopper string
		set     func(*servertest.Fixture)
		want    string // Shopify id of the portal's customer; "" if no portal may open
		outcome string
	}{
		{"filter ignored, the shopper is on the page", servertest.Pat, servertest.BreakRecharge(func(f *rechargetest.Faults) { f.IgnoreFilter = true }), servertest.Pat, "redirected"},
		{"filter ignored, the shopper is not", servertest.Robin, servertest.BreakRecharge(func(f *rechargetest.Faults) { f.IgnoreFilter = true }), "", "unavailable"},
		{"someone else's record with the right e-mail", servertest.Robin, nil, "", "not_a_subscriber"},
		{"two records, one active", servertest.Sam, nil, servertest.Sam, "redirected"},
		{"two records, both active", servertest.Kim, nil, "", "not_a_subscriber"},
		{"a session for someone else", servertest.Pat, servertest.BreakRecharge(func(f *rechargetest.Faults) { f.ForeignSession = true }), servertest.Pat, "redirected_by_hash"},
		{"a link for someone else", servertest.Pat, servertest.BreakRecharge(func(f *rechargetest.Faults) { f.ForeignPortal = true }), servertest.Pat, "redirected_by_hash"},
	} {
		for channel, land := range channels() {
			t.Run(test.name+", by "+channel, func(t *testing.T) {
				t.Parallel()
				f := servertest.Start(t, servertest.WithAPIKeys)
				if test.set != nil {
					test.set(f)
				}
				client := f.Shopper(test.shopper)
				for i, clicks := 0, 0; clicks < 2; i++ { // the second click finds what the first cached
					opening := land(f, client, test.shopper, i)
					if opening.Customer.ID == 0 && i < 20 && tooSlow(f) {
						continue
					}
					clicks++
					if got := opening.Customer.ShopifyCustomerID; got != test.want {
						t.Errorf("the portal opened for %q; want %q", got, test.want)
					}
					if got := f.Log.Last("click")["outcome"]; got != test.outcome {
						t.Errorf("outcome = %v; want %s", got, test.outcome)
					}
				}
			})
		}
	}
}

// tooSlow reports whether a busy machine took so long over the last click that the click could not
// be answered with what it had found.
func tooSlow(f *servertest.Fixture) bool {
	return strings.Contains(fmt.Sprint(f.Log.Last("click")["cause"]), "the answer took too long")
}

// channels returns a function for each channel. It clicks as a shopper whose browser follows
// redirects.
func channels() map[string]func(*servertest.Fixture, *http.Client, string, int) rechargetest.Opening {
	follow := func(f *servertest.Fixture, client *http.Client, to string) rechargetest.Opening {
		if to == "" {
			return rechargetest.Opening{}
		}
		follower := *client
		follower.CheckRedirect = nil
		return f.Open(&follower, to)
	}
	return map[string]func(*servertest.Fixture, *http.Client, string, int) rechargetest.Opening{
		"the storefront": func(f *servertest.Fixture, client *http.Client, _ string, _ int) rechargetest.Opening {
			return f.Land(client, "/apps/subscriptions")
		},
		"its own server": func(f *servertest.Fixture, client *http.Client, id string, _ int) rechargetest.Opening {
			return follow(f, client, f.PostLink(servertest.APIKey, servertest.ByShopifyID(id)).URL)
		},
		"a signed link": func(f *servertest.Fixture, client *http.Client, id string, i int) rechargetest.Opening {
			return follow(f, client, f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink(fmt.Sprint("n", i), id))).Location)
		},
	}
}

// TestAlertOnOtherPeoplesRecords checks that the operator is alerted.
func TestAlertOnOtherPeoplesRecords(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = true })
	for shopper, outcome := range map[string]string{servertest.Robin: "unavailable", servertest.Pat: "redirected"} {
		got := f.Click(f.Shopper(shopper), "/apps/subscriptions")
		if got.Outcome() != outcome || got.Line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(got.Line["cause"]), "filter ignored") {
			t.Errorf("the click's line is %v; want %s, and an ERROR about the filter", got.Line, outcome)
		}
	}
}

// TestAnotherShopsEntryIsNotRead uses two instances with one Redis and one key, where customers of
// two shops have the same id.
func TestAnotherShopsEntryIsNotRead(t *testing.T) {
	t.Parallel()
	key := func(s *config.Settings) { s.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" }
	f := servertest.Start(t, key)
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions").Outcome(); got != "redirected" {
		t.Fatalf("outcome = %s; want redirected", got)
	}
	remembered := f.CachedShoppers()
	f.Stop()
	const other = "other-shop.myshopify.com"
	f.Run(key, func(s *config.Settings) { s.ShopifyShop = other })
	f.Store.SetFaults(func(s *shopifytest.Faults) { s.Shop = other })
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
	query := strings.Replace(f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), url.QueryEscape(servertest.Shop), url.QueryEscape(other), 1)
	query, _, _ = strings.Cut(query, "&signature=")
	query += "&signature=" + shopifytest.Signature(servertest.AppSecret, query)
	response, _ := f.Request("GET", f.Public, "/apps/subscriptions?"+query)
	if location := response.Header.Get("Location"); location != "" || f.Log.Last("click")["outcome"] != "unavailable" {
		t.Errorf("the other shop's customer is sent to %q, outcome %v; want unavailable", location, f.Log.Last("click")["outcome"])
	}
	if got := f.CachedShoppers(); !slices.Equal(got, remembered) || len(remembered) == 0 {
		t.Errorf("Redis holds %q; want the first shop's %q still there", got, remembered)
	}
}

// TestSignInOnce walks the whole round trip to every destination like a browser, with both kinds of
// customer accounts and of link, and under a locale prefix and a renamed path.
func TestSignInOnce(t *testing.T) {
	pages := map[string]string{ // the portal's names for them
		"": "subscriptions", "/": "subscriptions", "/nonsense": "subscriptions", "/subscriptions/x1": "subscriptions", "/subscriptions/1/delete": "subscriptions",
		"/overview": "overview", "/subscriptions": "subscriptions", "/schedule": "schedule", "/orders": "orders", "/addresses/": "addresses",
		"/payment-methods": "payment_methods", "/subscriptions/50500600": "subscriptions/50500600", "/subscriptions/50500600/cancel": "subscriptions/50500600/cancel",
	}
	for _, way := range []struct{ accounts, link, redirect, path string }{
		{"new", "signed_in", "location", "/apps/subscriptions"},
		{"new", "hash", "location", "/apps/subscriptions"},
		{"legacy", "signed_in", "location", "/apps/subscriptions"},
		{"legacy", "hash", "page", "/fr/a/mon-abo_1"},
		{"new", "signed_in", "page", "/pt-br/community/abo"},
	} {
		t.Run(strings.Join([]string{way.accounts, way.link, way.redirect, way.path}, " "), func(t *testing.T) {
			prefix := regexp.MustCompile(`^/(fr|pt-br)/`).ReplaceAllString(way.path, "/")
			f := servertest.StartIn(t, storetest.Redis(t), way.accounts, prefix, func(s *config.Settings) { s.PortalLink, s.Redirect = way.link, way.redirect })
			for to, page := range pages {
				client := f.Shopper("")
				opening := f.Land(client, signIn(f, client, way.path+to+"?utm_source=mail&locale=fr-CA"))
				if opening.Customer.ShopifyCustomerID != servertest.Pat || opening.Page != page || opening.Locale != "fr-CA" {
					t.Errorf("%s%s opened the portal for %q at %q in %q; want %s at %s in fr-CA", way.path, to, opening.Customer.ShopifyCustomerID, opening.Page, opening.Locale, servertest.Pat, page)
				}
			}
			for _, forwarded := range f.Store.Forwarded() {
				if strings.HasPrefix(forwarded.App, "/tools/recurring") && strings.Contains(forwarded.Query, "ms_returned") {
					t.Errorf("the portal was asked for %s?%s; want no marker in it", forwarded.Path, forwarded.Query)
				}
			}
		})
	}
}

// TestCancelAndBack cancels like a browser: from the store to the page for it, and from there back to the
// app's page, which opens the portal.
func TestCancelAndBack(t *testing.T) {
	t.Parallel()
	const path = "/community/abo"
	f := servertest.StartIn(t, storetest.Redis(t), "new", path, func(*config.Settings) {})
	browser := f.Shopper(servertest.Pat)
	f.Calls()
	for range 2 { // asked for, and cached
		link := f.Click(browser, path+"/subscriptions/50500600/cancel?locale=fr").Location
		_, page := f.Request("GET", strings.TrimPrefix(f.Store.URL, "http://"), strings.TrimPrefix(link, f.Store.URL))
		back := regexp.MustCompile(`<a href="([^"]+)" data-back>`).FindStringSubmatch(page)
		if back == nil || back[1] != f.Store.URL+path+"?locale=fr" {
			t.Fatalf("%s leads back to %q; want the app's page, in French", link, back)
		}
		if opening := f.Land(browser, strings.TrimPrefix(back[1], f.Store.URL)); opening.Page != "subscriptions" || opening.Locale != "fr" {
			t.Errorf("the way back opens %+v; want the subscriptions, in French", opening)
		}
	}
	if calls := f.Calls(); calls["portal_access"] != 1 || calls["sessions"] != 1 {
		t.Errorf("the calls %v; want one session and one portal access for all pages", calls)
	}
}

// signIn follows a signed-out shopper's click to the sign-in page, signs Pat in, and returns where
// the store then redirects the browser.
func signIn(f *servertest.Fixture, client *http.Client, path string) string {
	f.T.Helper()
	to := f.Click(client, path).Next()
	login, err := url.Parse(to)
	if err != nil {
		f.T.Fatal(err)
	}
	response, err := client.PostForm(f.Store.URL+to, url.Values{"customer": {servertest.Pat}, "return_to": {login.Query().Get("return_to") + login.Query().Get("return_url")}})
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	return response.Header.Get("Location")
}

// TestLocaleInThePrefix covers a path_prefix with a locale, which Shopify may or may not send. The
// page adds its own before its links. A redirect keeps the path as it came.
func TestLocaleInThePrefix(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	for prefix, root := range map[string]string{
		"/apps/subscriptions": "", "/fr/apps/subscriptions": "/fr", "/pt-br/tools/abo": "/pt-br", "/zh-hant-hk/a/abo": "/zh-hant-hk", "/en-europe/apps/abo": "/en-europe", "/a/apps": "", "/apps/tools": "", "/tools/a": "",
	} {
		path := strings.TrimPrefix(prefix, root)
		_, page := f.Request("GET", f.Public, "/apps/subscriptions/orders?"+f.Store.SignedQuery("", servertest.Robin, prefix, servertest.AppSecret))
		if want := `href="{{ ms_root }}` + path + `/orders?ms_tried=1"`; !strings.Contains(page, want) {
			t.Errorf("path_prefix %s: the page has no %s: %s", prefix, want, page)
		}
		_, page = f.Request("GET", f.Public, "/apps/subscriptions/orders?"+f.Store.SignedQuery("ms_returned=1", "", prefix, servertest.AppSecret))
		if want := `return_to={{ ms_root | url_encode }}` + url.QueryEscape(path+"/orders?ms_returned=1") + `"`; !strings.Contains(page, want) {
			t.Errorf("path_prefix %s: the page has no %s: %s", prefix, want, page)
		}
		response, _ := f.Request("GET", f.Public, "/apps/subscriptions/orders?"+f.Store.SignedQuery("", "", prefix, servertest.AppSecret))
		if got, want := response.Header.Get("Location"), "/customer_authentication/login?return_to="+url.QueryEscape(prefix+"/orders?ms_returned=1"); got != want {
			t.Errorf("path_prefix %s: sent to %s; want %s", prefix, got, want)
		}
	}
}

// TestSignInThatDoesNotTakeEnds checks that there is no loop, because Shopify sends no id for some
// shoppers who are signed in.
func TestSignInThatDoesNotTakeEnds(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Store.SetFaults(func(s *shopifytest.Faults) { s.ForgetShopper = true })
	client := f.Shopper(servertest.Pat)
	client.CheckRedirect = nil // follow redirects; net/http gives up on a loop
	got := f.Click(client, "/apps/subscriptions")
	if got.Outcome() != "sign_in_failed" || got.Status != 200 {
		t.Errorf("click = %s, %d; want sign_in_failed, 200", got.Outcome(), got.Status)
	}
	if n := len(f.Log.Lines("click")); n != 2 {
		t.Errorf("the shopper clicked %d times; want 2", n)
	}
}

// TestForwardByPage covers stores where a 302 does not reach the browser.
func TestForwardByPage(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.Redirect = "page" })
	got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	if got.Status != 200 || got.Location != "" || got.Outcome() != "redirected" {
		t.Errorf("click = %d to %q, %s; want 200, no Location, redirected", got.Status, got.Location, got.Outcome())
	}
	for _, part := range []string{`http-equiv="refresh"`, `href="` + f.Store.URL + `/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token=`} {
		if !strings.Contains(got.Body, part) {
			t.Errorf("page = %s; want %s in it", got.Body, part)
		}
	}
	if got := got.Header.Get("Content-Type"); got != "text/html; charset=UTF-8" {
		t.Errorf("Content-Type = %q; want HTML, not Liquid", got)
	}
	script := regexp.MustCompile(`(?s)<script>(.*)</script>`).FindStringSubmatch(got.Body)
	if len(script) != 2 {
		t.Fatalf("page = %s; want one script", got.Body)
	}
	hash := sha256.Sum256([]byte(script[1]))
	policy := got.Header.Get("Content-Security-Policy")
	if want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "';"; !strings.Contains(policy, want) || !strings.Contains(policy, "default-src 'none';") {
		t.Errorf("Content-Security-Policy = %q; want %q and nothing else allowed", policy, want)
	}
	if got := got.Header.Get("Cache-Control") + " " + got.Header.Get("Referrer-Policy"); got != "no-store no-referrer" {
		t.Errorf("headers = %q; want no-store no-referrer", got)
	}
	if got := f.Click(f.Shopper(""), "/apps/subscriptions"); got.Status != 200 || !strings.Contains(got.Body, "/customer_authentication/login") {
		t.Errorf("signed out: %d %s; want a page to the sign-in", got.Status, got.Body)
	}
}

// TestNoScriptReadsTheForwardingPage checks Sec-Fetch headers, because that page has the store's
// origin and the portal's address in it.
func TestNoScriptReadsTheForwardingPage(t *testing.T) {
	for _, test := range []struct{ redirect, mode, destination, outcome string }{
		{"page", "navigate", "document", "redirected"}, {"page", "", "", "redirected"}, {"page", "navigate", "", "redirected"},
		{"page", "navigate", "empty", "redirected"}, // through a service worker
		{"page", "cors", "empty", "forbidden"}, {"page", "same-origin", "empty", "forbidden"}, {"page", "navigate", "iframe", "forbidden"}, {"page", "no-cors", "script", "forbidden"},
		{"location", "cors", "empty", "redirected"},
	} {
		f := servertest.Start(t, func(s *config.Settings) { s.Redirect = test.redirect })
		client := f.Shopper(servertest.Pat)
		client.Transport = sending{"Sec-Fetch-Mode": test.mode, "Sec-Fetch-Dest": test.destination}
		got := f.Click(client, "/apps/subscriptions")
		if got.Outcome() != test.outcome {
			t.Errorf("%+v: %s; want %s", test, got.Outcome(), test.outcome)
		}
		if opener := got.Header.Get("Cross-Origin-Opener-Policy"); test.redirect == "page" && test.outcome == "redirected" && opener != "same-origin" {
			t.Errorf("%+v: Cross-Origin-Opener-Policy %q; want same-origin", test, opener)
		}
		if test.outcome == "forbidden" && (got.Status != http.StatusForbidden || strings.Contains(got.Body, "portal")) {
			t.Errorf("%+v: %d %s; want 403 and no link", test, got.Status, got.Body)
		}
	}
}

// sending adds headers to every request.
type sending map[string]string

func (s sending) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	for name, value := range s {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	return http.DefaultTransport.RoundTrip(request)
}

// TestLocaleThatRechargeDoesNotKnow checks that the shopper is still signed in, and that the portal
// opens in its own language.
func TestLocaleThatRechargeDoesNotKnow(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.RefuseLocales = true })
	got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions?locale=nb")
	if calls := f.Calls(); got.Outcome() != "redirected" || calls["portal_access"] != 2 {
		t.Errorf("click = %s, calls %v; want redirected, by asking for portal_access twice", got.Outcome(), calls)
	}
	if link := got.Location; strings.Contains(link, "locale") {
		t.Errorf("the link %s asks for the language again", link)
	}
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions"); got.Outcome() != "redirected" {
		t.Errorf("a click without a language = %s; want redirected", got.Outcome())
	}
	f.WantCalls("a click without a language", map[string]int{})
}

// TestLogLine pins the fields that operators search for.
func TestLogLine(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	got := f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions")
	id := regexp.MustCompile(`Reference for support: <bdi>([a-z0-9]{10})<`).FindStringSubmatch(got.Body)
	if len(id) != 2 || got.Line["request_id"] != id[1] {
		t.Errorf("the page shows the reference %q, the log %v; want the same", id, got.Line["request_id"])
	}
	var keys []string
	for key := range got.Line {
		keys = append(keys, key)
	}
	if want := []string{"cause", "level", "ms", "msg", "outcome", "request_id", "shop", "source", "steps", "time"}; !cmp.Equal(slices.Sorted(slices.Values(keys)), want) {
		t.Errorf("fields = %v; want %v", slices.Sorted(slices.Values(keys)), want)
	}
	if _, err := json.Marshal(got.Line); err != nil {
		t.Error(err)
	}
}

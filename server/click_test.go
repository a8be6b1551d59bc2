package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/shopify/shopifytest"
)

// TestOutcomes is the contract's table of outcomes.
func TestOutcomes(t *testing.T) {
	for _, test := range []struct {
		name     string
		set      func(*config.Settings)
		breaks   func(*fixture)
		shopper  string
		path     string
		outcome  string
		status   int
		location string // how it begins; "" is none
		says     string // on the page
	}{
		{name: "redirected", shopper: pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, trailing slash", shopper: pat, path: "/", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, destination", shopper: pat, path: "/payment-methods/?utm_source=mail", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/payment_methods?token="},
		{name: "redirected, one subscription", shopper: pat, path: "/subscriptions/50500600/cancel", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions/50500600/cancel?token="},
		{name: "redirected, unknown destination", shopper: pat, path: "/../nonsense%2F%00", outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token="},
		{name: "redirected, two records", shopper: sam, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/70100301a1b2c3d4e5f60718/subscriptions?token="},
		{name: "redirected by hash, configured", set: func(s *config.Settings) { s.PortalLink = "hash" }, shopper: pat, path: "/schedule?locale=fr", outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/schedule?locale=fr"},
		{name: "redirected by hash, sessions refused", breaks: recharge(func(f *rechargetest.Faults) { f.RefuseSessions = true }), shopper: pat, path: "/subscriptions/50500600", outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions/50500600"},
		{name: "redirected by hash, portal access refused", breaks: recharge(func(f *rechargetest.Faults) { f.RefusePortalAccess = true }), shopper: pat, outcome: "redirected_by_hash", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions"},
		{name: "sign in", outcome: "sign_in", status: 302, location: "/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%3Fms_returned%3D1"},
		{name: "sign in, destination and locale", path: "/orders?locale=pt-BR&utm_source=x", outcome: "sign_in", status: 302, location: "/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%2Forders%3Flocale%3Dpt-BR%26ms_returned%3D1"},
		{name: "sign in, legacy", set: func(s *config.Settings) { s.CustomerAccounts = "legacy" }, outcome: "sign_in", status: 302, location: "/account/login?return_url=%2Fapps%2Fsubscriptions%3Fms_returned%3D1"},
		{name: "sign in failed", path: "?ms_returned=1", outcome: "sign_in_failed", status: 200, says: "Please sign in again"},
		{name: "not a subscriber", shopper: robin, outcome: "not_a_subscriber", status: 200, says: "No subscriptions found"},
		{name: "not a subscriber, two active records", shopper: kim, outcome: "not_a_subscriber", status: 200, says: "No subscriptions found"},
		{name: "unavailable", breaks: recharge(func(f *rechargetest.Faults) { f.Down = true }), shopper: pat, outcome: "unavailable", status: 200, says: "cannot be opened right now"},
		{name: "not connected", set: func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, shopper: pat, outcome: "not_connected", status: 200, says: "cannot be managed here yet"},
		{name: "not connected, another shop", breaks: fromShopify(func(f *shopifytest.Faults) { f.Shop = "another-shop.myshopify.com" }), shopper: pat, outcome: "not_connected", status: 200, says: "cannot be managed here yet"},
		{name: "forbidden, wrong secret", breaks: fromShopify(func(f *shopifytest.Faults) { f.WrongSecret = true }), shopper: pat, outcome: "forbidden", status: 403, says: "403 Forbidden"},
		{name: "forbidden, late", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = -100 * time.Second }), shopper: pat, outcome: "forbidden", status: 403, says: "403 Forbidden"},
		{name: "forbidden, early", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = 100 * time.Second }), shopper: pat, outcome: "forbidden", status: 403, says: "403 Forbidden"},
		{name: "forbidden, parameters twice", breaks: fromShopify(func(f *shopifytest.Faults) { f.Twice = true }), shopper: pat, outcome: "forbidden", status: 403, says: "403 Forbidden"},
		{name: "forbidden, the visitor adds an id", shopper: robin, path: "?logged_in_customer_id=" + pat, outcome: "forbidden", status: 403, says: "403 Forbidden"},
		{name: "the old secret still signs", breaks: fromShopify(func(f *shopifytest.Faults) { f.OldSecret = true }), shopper: pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/"},
		{name: "a little late", breaks: fromShopify(func(f *shopifytest.Faults) { f.ClockOffset = -80 * time.Second }), shopper: pat, outcome: "redirected", status: 302, location: "{store}/tools/recurring/portal/1f2e3d4c5b6a7988/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := func(*config.Settings) {}
			if test.set != nil {
				set = test.set
			}
			f := start(t, set)
			if test.breaks != nil {
				test.breaks(f)
			}
			got := f.click(f.shopper(test.shopper), "/apps/subscriptions"+test.path)
			if got.outcome() != test.outcome || got.status != test.status {
				t.Errorf("click = %s, %d; want %s, %d (log: %v)", got.outcome(), got.status, test.outcome, test.status, got.line)
			}
			want := strings.ReplaceAll(test.location, "{store}", f.store.URL)
			if !strings.HasPrefix(got.location, want) || want == "" && got.location != "" {
				t.Errorf("Location = %q; want it to begin with %q", got.location, want)
			}
			if !strings.Contains(got.body, test.says) {
				t.Errorf("page = %q; want %q on it", got.body, test.says)
			}
			f.checkHeaders(got)
		})
	}
}

// recharge and shopify break one of the two.
func recharge(set func(*rechargetest.Faults)) func(*fixture) {
	return func(f *fixture) { f.recharge.SetFaults(set) }
}

func fromShopify(set func(*shopifytest.Faults)) func(*fixture) {
	return func(f *fixture) { f.store.SetFaults(set) }
}

func (f *fixture) checkHeaders(a answer) {
	f.t.Helper()
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		f.t.Errorf("Cache-Control = %q; want no-store", got)
	}
	if got := a.header.Get("Referrer-Policy"); got != "no-referrer" {
		f.t.Errorf("Referrer-Policy = %q; want no-referrer", got)
	}
	if got := a.header.Values("Set-Cookie"); got != nil {
		f.t.Errorf("Set-Cookie = %q; want none", got)
	}
	kind := map[int]string{302: "", 403: "text/plain; charset=utf-8", 200: "application/liquid"}[a.status]
	if got := a.header.Get("Content-Type"); got != kind {
		f.t.Errorf("Content-Type with %d = %q; want %q", a.status, got, kind)
	}
}

// TestEveryAnswerHasTheHeaders covers what the storefront would never forward.
func TestEveryAnswerHasTheHeaders(t *testing.T) {
	f := start(t)
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/apps/subscriptions", 403},
		{"HEAD", "/apps/subscriptions", 403},
		{"POST", "/apps/subscriptions", 405},
		{"GET", "/apps/subscriptionsx", 404},
		{"GET", "//apps/subscriptions", 404},
		{"GET", "/apps/subscriptions//", 403},
		{"GET", "/apps/subscriptions/%zz", 400},
		{"GET", "/livez", 404},
		{"GET", "/nonsense", 404},
		{"GET", "/apps/subscriptions/status", 403},
		{"POST", "/apps/subscriptions/status", 405},
	} {
		response, body := f.direct(test.method, f.public, test.path)
		if response.StatusCode != test.status {
			t.Errorf("%s %s = %d; want %d", test.method, test.path, response.StatusCode, test.status)
		}
		if test.status == 400 { // net/http refuses it before any of ours runs
			continue
		}
		if got := response.Header.Get("Cache-Control") + " " + response.Header.Get("Referrer-Policy"); got != "no-store no-referrer" {
			t.Errorf("%s %s has headers %q; want no-store no-referrer", test.method, test.path, got)
		}
		if strings.Contains(body, "{") || response.Header.Get("Location") != "" {
			t.Errorf("%s %s answers %q, Location %q; want plain text and no redirect", test.method, test.path, body, response.Header.Get("Location"))
		}
	}
}

// direct asks a listener of the program itself; the path is sent as it is.
func (f *fixture) direct(method, address, path string) (*http.Response, string) {
	f.t.Helper()
	request, err := http.NewRequest(method, "http://"+address, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	request.URL.Opaque = path
	if strings.HasPrefix(path, "//") {
		request.URL.Opaque = "http://" + address + path
	}
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response, string(body)
}

// TestForbiddenGivesNoHint compares the answers to every kind of bad request.
func TestForbiddenGivesNoHint(t *testing.T) {
	f := start(t)
	signed := func(extra string) string { return f.store.SignedQuery(extra, pat, "/apps/subscriptions", appSecret) }
	id := regexp.MustCompile(`Request id: [a-z0-9]{10}\n`)
	var want string
	for name, query := range map[string]string{
		"nothing":         "",
		"no signature":    "shop=" + shop,
		"malformed":       signed("") + "&a=%zz",
		"semicolon":       signed("a;b"),
		"signed by other": f.store.SignedQuery("", pat, "/apps/subscriptions", "other-secret"),
		"changed id":      strings.Replace(signed(""), pat, robin, 1),
		"shop twice":      signed("shop=x.myshopify.com"),
	} {
		response, body := f.direct("GET", f.public, "/apps/subscriptions?"+query)
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
	if got := len(f.calls()); got != 0 {
		t.Errorf("forbidden clicks made %d kinds of call to Recharge; want none", got)
	}
}

// TestCalls is the design's table: what a click costs of Recharge's budget.
func TestCalls(t *testing.T) {
	f := start(t)
	client := f.shopper(pat)
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
		f.clock.add(click.after)
		if got := f.click(client, "/apps/subscriptions"+click.path).outcome(); got != "redirected" {
			t.Fatalf("%s: outcome %s; want redirected", click.name, got)
		}
		if diff := cmp.Diff(click.want, f.calls()); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", click.name, diff)
		}
	}
	robinClient := f.shopper(robin)
	f.click(robinClient, "/apps/subscriptions")
	f.click(robinClient, "/apps/subscriptions/orders")
	if diff := cmp.Diff(map[string]int{"customers": 1}, f.calls()); diff != "" {
		t.Errorf("who never subscribed, twice: calls (-want +got):\n%s", diff)
	}
	f.clock.add(61 * time.Second)
	f.click(robinClient, "/apps/subscriptions")
	if diff := cmp.Diff(map[string]int{"customers": 1}, f.calls()); diff != "" {
		t.Errorf("who never subscribed, a minute later: calls (-want +got):\n%s", diff)
	}
}

// TestSimultaneousClicksAreOne sends one shopper's clicks all at once.
func TestSimultaneousClicksAreOne(t *testing.T) {
	f := start(t)
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 20 * time.Millisecond })
	query := f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret)
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	const clicks = 300
	var wg sync.WaitGroup
	locations := make([]string, clicks)
	for i := range clicks {
		wg.Go(func() {
			response, err := client.Get("http://" + f.public + "/apps/subscriptions?" + query)
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
	if diff := cmp.Diff(map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}, f.calls()); diff != "" {
		t.Errorf("%d clicks: calls (-want +got):\n%s", clicks, diff)
	}
	// On a machine that is busy enough, Redis does not answer in time, and is left
	// alone for a moment. Then it is the next click that is remembered.
	f.clock.add(2 * time.Second)
	f.direct("GET", f.public, "/apps/subscriptions?"+query)
	// Else the search of Redis at the end of each test would search nothing.
	if got := f.remembered(); len(got) != 1 {
		t.Errorf("Redis holds %q; want one value with all that is known of the shopper", got)
	}
}

// TestSimultaneousClicksAreOneWithoutRedis, too.
func TestSimultaneousClicksAreOneWithoutRedis(t *testing.T) {
	f := start(t)
	f.redis.Stop()
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	query := f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { f.direct("GET", f.public, "/apps/subscriptions?"+query) })
	}
	wg.Wait()
	if calls := f.calls(); calls["customers"] > 3 {
		t.Errorf("50 clicks at once made calls %v; want next to one of each", calls)
	}
}

// TestShopperWhoLeaves: a closed tab does not waste the calls that it has caused.
func TestShopperWhoLeaves(t *testing.T) {
	f := start(t)
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	query := f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret)
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+f.public+"/apps/subscriptions?"+query, nil)
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
	f.until("the lookup has begun", func() bool { return len(f.recharge.Requests()) > 0 })
	leave()
	if err := <-answered; err == nil {
		t.Error("the click was answered before the shopper could leave")
	}
	f.until("the click has ended", func() bool { return f.log.last("click") != nil })
	f.calls()
	response, _ := f.direct("GET", f.public, "/apps/subscriptions?"+query)
	if calls := f.calls(); response.StatusCode != http.StatusFound || len(calls) != 0 {
		t.Errorf("the next click = %d with calls %v; want 302 with none", response.StatusCode, calls)
	}
}

// TestSimultaneousShoppersDoNotMix: clicks are joined, shoppers never.
func TestSimultaneousShoppersDoNotMix(t *testing.T) {
	f := start(t)
	const shoppers = 40
	people := customers()
	for i := range shoppers {
		people = append(people, rechargetest.Customer{
			ID: int64(70200000 + i), Hash: fmt.Sprintf("crowd%019d", i), ShopifyCustomerID: fmt.Sprint(6200000000000 + i),
			Subscriptions: []rechargetest.Subscription{{ID: int64(i), Product: "Morning House"}},
		})
	}
	f.recharge.SetCustomers(people)
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 20 * time.Millisecond })
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, person := range people[len(customers()):] {
		for _, page := range []string{"subscriptions", "orders"} {
			for range 3 {
				query := f.store.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", appSecret)
				wg.Go(func() {
					response, err := client.Get("http://" + f.public + "/apps/subscriptions/" + page + "?" + query)
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
	if diff := cmp.Diff(map[string]int{"customers": shoppers, "sessions": shoppers, "portal_access": shoppers}, f.calls()); diff != "" {
		t.Errorf("%d shoppers to two pages: calls (-want +got):\n%s", shoppers, diff)
	}
}

// TestOneShopperCannotSpendTheBudget: page after page costs a shopper what one does,
// and takes nothing from the others.
func TestOneShopperCannotSpendTheBudget(t *testing.T) {
	f := start(t, func(s *config.Settings) { s.RechargeRate = "2,40" })
	client := f.shopper(pat)
	for i := range 60 {
		f.click(client, fmt.Sprintf("/apps/subscriptions/subscriptions/%d", i))
	}
	if got := f.log.last("click")["outcome"]; got != "redirected" {
		t.Errorf("Pat's sixtieth page = %v; want redirected", got)
	}
	f.costs("Pat's sixty pages", oneOfEach())
	if got := f.click(f.shopper(sam), "/apps/subscriptions").outcome(); got != "redirected" {
		t.Errorf("Sam's first click = %s; want redirected", got)
	}
}

// TestBudgetIsSpent: when many come at once, the last part of the budget is for
// lookups: a new shopper then goes on by hash.
func TestBudgetIsSpent(t *testing.T) {
	f := start(t, func(s *config.Settings) { s.RechargeRate = "2,40" })
	for _, who := range f.crowd(14) {
		f.clickAt(newClicker(t), f.public, who, "")
	}
	f.calls()
	if got := f.click(f.shopper(sam), "/apps/subscriptions").outcome(); got != "redirected_by_hash" {
		t.Errorf("Sam's first click = %s; want redirected_by_hash", got)
	}
	f.costs("Sam's first click", map[string]int{"customers": 1})
}

// TestNeverAnotherShopper is the list of ways to the wrong portal.
func TestNeverAnotherShopper(t *testing.T) {
	for _, test := range []struct {
		name    string
		shopper string
		set     func(*fixture)
		want    string // the Shopify id of whom it may open for; "" is nobody
		outcome string
	}{
		{"filter ignored, the shopper is on the page", pat, recharge(func(f *rechargetest.Faults) { f.IgnoreFilter = true }), pat, "redirected"},
		{"filter ignored, the shopper is not", robin, recharge(func(f *rechargetest.Faults) { f.IgnoreFilter = true }), "", "unavailable"},
		{"someone else's record with the right e-mail", robin, nil, "", "not_a_subscriber"},
		{"two records, one active", sam, nil, sam, "redirected"},
		{"two records, both active", kim, nil, "", "not_a_subscriber"},
		{"a session for someone else", pat, recharge(func(f *rechargetest.Faults) { f.ForeignSession = true }), pat, "redirected_by_hash"},
		{"a link for someone else", pat, recharge(func(f *rechargetest.Faults) { f.ForeignPortal = true }), pat, "redirected_by_hash"},
	} {
		for door, land := range doors() {
			t.Run(test.name+", by "+door, func(t *testing.T) {
				t.Parallel()
				f := start(t, withKeys)
				if test.set != nil {
					test.set(f)
				}
				client := f.shopper(test.shopper)
				for i := range 2 { // the second click meets what the first has left in Redis
					opening := land(f, client, test.shopper, i)
					if got := opening.Customer.ShopifyCustomerID; got != test.want {
						t.Errorf("the portal opened for %q; want %q", got, test.want)
					}
					if got := f.log.last("click")["outcome"]; got != test.outcome {
						t.Errorf("outcome = %v; want %s", got, test.outcome)
					}
				}
			})
		}
	}
}

// doors are the ways by which a click of a shopper's comes in, whose browser follows
// where it leads.
func doors() map[string]func(*fixture, *http.Client, string, int) rechargetest.Opening {
	follow := func(f *fixture, client *http.Client, to string) rechargetest.Opening {
		if to == "" {
			return rechargetest.Opening{}
		}
		follower := *client
		follower.CheckRedirect = nil
		return f.opening(&follower, to)
	}
	return map[string]func(*fixture, *http.Client, string, int) rechargetest.Opening{
		"the storefront": func(f *fixture, client *http.Client, _ string, _ int) rechargetest.Opening {
			return f.land(client, "/apps/subscriptions")
		},
		"its own server": func(f *fixture, client *http.Client, id string, _ int) rechargetest.Opening {
			return follow(f, client, f.post(portalKey, byShopify(id)).URL)
		},
		"a signed link": func(f *fixture, client *http.Client, id string, i int) rechargetest.Opening {
			return follow(f, client, f.follow(f.sign(portalKey, f.signedLink(fmt.Sprint("n", i), id))).location)
		},
	}
}

// TestAlertOnOtherPeoplesRecords: an operator must hear of it.
func TestAlertOnOtherPeoplesRecords(t *testing.T) {
	f := start(t)
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = true })
	for shopper, outcome := range map[string]string{robin: "unavailable", pat: "redirected"} {
		got := f.click(f.shopper(shopper), "/apps/subscriptions")
		if got.outcome() != outcome || got.line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(got.line["cause"]), "filter ignored") {
			t.Errorf("the click's line is %v; want %s, and an ERROR about the filter", got.line, outcome)
		}
	}
}

// TestAnotherShopsEntryIsNotRead: two instances share one Redis and one key, and
// the shops' customers happen to have one id.
func TestAnotherShopsEntryIsNotRead(t *testing.T) {
	key := func(s *config.Settings) { s.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" }
	f := start(t, key)
	if got := f.click(f.shopper(pat), "/apps/subscriptions").outcome(); got != "redirected" {
		t.Fatalf("outcome = %s; want redirected", got)
	}
	remembered := f.remembered()
	f.stop()
	const other = "other-shop.myshopify.com"
	f.run(key, func(s *config.Settings) { s.ShopifyShop = other })
	f.store.SetFaults(func(s *shopifytest.Faults) { s.Shop = other })
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
	query := strings.Replace(f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret), url.QueryEscape(shop), url.QueryEscape(other), 1)
	query, _, _ = strings.Cut(query, "&signature=")
	query += "&signature=" + shopifytest.Signature(appSecret, query)
	response, _ := f.direct("GET", f.public, "/apps/subscriptions?"+query)
	if location := response.Header.Get("Location"); location != "" || f.log.last("click")["outcome"] != "unavailable" {
		t.Errorf("the other shop's customer is sent to %q, outcome %v; want unavailable", location, f.log.last("click")["outcome"])
	}
	if got := f.remembered(); !slices.Equal(got, remembered) || len(remembered) == 0 {
		t.Errorf("Redis holds %q; want the first shop's %q still there", got, remembered)
	}
}

// TestSignInOnce walks the whole round trip to every destination, as a browser
// does: with both kinds of customer accounts and of link, under a locale's prefix
// and a path that the merchant has renamed.
func TestSignInOnce(t *testing.T) {
	pages := map[string]string{ // what the portal calls them
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
			f := startIn(t, storetest.Redis(t), way.accounts, prefix, func(s *config.Settings) { s.PortalLink, s.Redirect = way.link, way.redirect })
			for to, page := range pages {
				client := f.shopper("")
				opening := f.land(client, f.signIn(client, way.path+to+"?utm_source=mail&locale=fr-CA"))
				if opening.Customer.ShopifyCustomerID != pat || opening.Page != page || opening.Locale != "fr-CA" {
					t.Errorf("%s%s opened the portal for %q at %q in %q; want %s at %s in fr-CA", way.path, to, opening.Customer.ShopifyCustomerID, opening.Page, opening.Locale, pat, page)
				}
			}
			for _, forwarded := range f.store.Forwarded() {
				if strings.HasPrefix(forwarded.App, "/tools/recurring") && strings.Contains(forwarded.Query, "ms_returned") {
					t.Errorf("the portal was asked for %s?%s; want no marker in it", forwarded.Path, forwarded.Query)
				}
			}
		})
	}
}

// signIn follows a signed-out shopper's click to the sign-in, signs Pat in, and
// returns where the store then sends the browser.
func (f *fixture) signIn(client *http.Client, path string) string {
	f.t.Helper()
	to := f.click(client, path).next()
	login, err := url.Parse(to)
	if err != nil {
		f.t.Fatal(err)
	}
	response, err := client.PostForm(f.store.URL+to, url.Values{"customer": {pat}, "return_to": {login.Query().Get("return_to") + login.Query().Get("return_url")}})
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.Header.Get("Location")
}

// next is where an answer sends the browser: by Location, or by a page.
func (a answer) next() string {
	link := regexp.MustCompile(`<a href="([^"]*)"`).FindStringSubmatch(a.body)
	if a.location == "" && len(link) == 2 {
		return html.UnescapeString(link[1])
	}
	return a.location
}

// TestLocaleInThePrefix: whether Shopify's path_prefix holds the language's path
// is not known. The page puts it before its links; a redirect keeps what it has.
func TestLocaleInThePrefix(t *testing.T) {
	f := start(t)
	for prefix, root := range map[string]string{
		"/apps/subscriptions": "", "/fr/apps/subscriptions": "/fr", "/pt-br/tools/abo": "/pt-br", "/zh-hant-hk/a/abo": "/zh-hant-hk", "/en-europe/apps/abo": "/en-europe", "/a/apps": "", "/apps/tools": "", "/tools/a": "",
	} {
		path := strings.TrimPrefix(prefix, root)
		_, page := f.direct("GET", f.public, "/apps/subscriptions/orders?"+f.store.SignedQuery("", robin, prefix, appSecret))
		if want := `href="{{ ms_root }}` + path + `/orders"`; !strings.Contains(page, want) {
			t.Errorf("path_prefix %s: the page has no %s: %s", prefix, want, page)
		}
		_, page = f.direct("GET", f.public, "/apps/subscriptions/orders?"+f.store.SignedQuery("ms_returned=1", "", prefix, appSecret))
		if want := `return_to={{ ms_root | url_encode }}` + url.QueryEscape(path+"/orders?ms_returned=1") + `"`; !strings.Contains(page, want) {
			t.Errorf("path_prefix %s: the page has no %s: %s", prefix, want, page)
		}
		response, _ := f.direct("GET", f.public, "/apps/subscriptions/orders?"+f.store.SignedQuery("", "", prefix, appSecret))
		if got, want := response.Header.Get("Location"), "/customer_authentication/login?return_to="+url.QueryEscape(prefix+"/orders?ms_returned=1"); got != want {
			t.Errorf("path_prefix %s: sent to %s; want %s", prefix, got, want)
		}
	}
}

// TestSignInThatDoesNotTakeEnds: Shopify is known to leave the id empty for some
// shoppers who are signed in.
func TestSignInThatDoesNotTakeEnds(t *testing.T) {
	f := start(t)
	f.store.SetFaults(func(s *shopifytest.Faults) { s.ForgetShopper = true })
	client := f.shopper(pat)
	client.CheckRedirect = nil // follow: net/http gives up on a loop
	got := f.click(client, "/apps/subscriptions")
	if got.outcome() != "sign_in_failed" || got.status != 200 {
		t.Errorf("click = %s, %d; want sign_in_failed, 200", got.outcome(), got.status)
	}
	if n := len(f.log.lines("click")); n != 2 {
		t.Errorf("the shopper came by %d times; want 2", n)
	}
}

// TestForwardByPage is for stores where a 302 does not reach the browser.
func TestForwardByPage(t *testing.T) {
	f := start(t, func(s *config.Settings) { s.Redirect = "page" })
	got := f.click(f.shopper(pat), "/apps/subscriptions")
	if got.status != 200 || got.location != "" || got.outcome() != "redirected" {
		t.Errorf("click = %d to %q, %s; want 200, no Location, redirected", got.status, got.location, got.outcome())
	}
	for _, part := range []string{`http-equiv="refresh"`, `href="` + f.store.URL + `/tools/recurring/portal/1f2e3d4c5b6a7988/subscriptions?token=`} {
		if !strings.Contains(got.body, part) {
			t.Errorf("page = %s; want %s in it", got.body, part)
		}
	}
	if got := got.header.Get("Content-Type"); got != "text/html; charset=UTF-8" {
		t.Errorf("Content-Type = %q; want HTML, not Liquid", got)
	}
	script := regexp.MustCompile(`(?s)<script>(.*)</script>`).FindStringSubmatch(got.body)
	if len(script) != 2 {
		t.Fatalf("page = %s; want one script", got.body)
	}
	hash := sha256.Sum256([]byte(script[1]))
	policy := got.header.Get("Content-Security-Policy")
	if want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "';"; !strings.Contains(policy, want) || !strings.Contains(policy, "default-src 'none';") {
		t.Errorf("Content-Security-Policy = %q; want %q and nothing else allowed", policy, want)
	}
	if got := got.header.Get("Cache-Control") + " " + got.header.Get("Referrer-Policy"); got != "no-store no-referrer" {
		t.Errorf("headers = %q; want no-store no-referrer", got)
	}
	if got := f.click(f.shopper(""), "/apps/subscriptions"); got.status != 200 || !strings.Contains(got.body, "/customer_authentication/login") {
		t.Errorf("signed out: %d %s; want a page to the sign-in", got.status, got.body)
	}
}

// TestNoScriptReadsTheForwardingPage: it is the store's own page, with the
// portal's address in it. A browser that says what it is doing is believed.
func TestNoScriptReadsTheForwardingPage(t *testing.T) {
	for _, test := range []struct{ redirect, mode, destination, outcome string }{
		{"page", "navigate", "document", "redirected"}, {"page", "", "", "redirected"}, {"page", "navigate", "", "redirected"},
		{"page", "navigate", "empty", "redirected"}, // through a service worker
		{"page", "cors", "empty", "forbidden"}, {"page", "same-origin", "empty", "forbidden"}, {"page", "navigate", "iframe", "forbidden"}, {"page", "no-cors", "script", "forbidden"},
		{"location", "cors", "empty", "redirected"},
	} {
		f := start(t, func(s *config.Settings) { s.Redirect = test.redirect })
		client := f.shopper(pat)
		client.Transport = sending{"Sec-Fetch-Mode": test.mode, "Sec-Fetch-Dest": test.destination}
		got := f.click(client, "/apps/subscriptions")
		if got.outcome() != test.outcome {
			t.Errorf("%+v: %s; want %s", test, got.outcome(), test.outcome)
		}
		if opener := got.header.Get("Cross-Origin-Opener-Policy"); test.redirect == "page" && test.outcome == "redirected" && opener != "same-origin" {
			t.Errorf("%+v: Cross-Origin-Opener-Policy %q; want same-origin", test, opener)
		}
		if test.outcome == "forbidden" && (got.status != http.StatusForbidden || strings.Contains(got.body, "portal")) {
			t.Errorf("%+v: %d %s; want 403 and no link", test, got.status, got.body)
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

// TestLocaleThatRechargeDoesNotKnow is no reason to be signed out: the portal
// opens in its own language.
func TestLocaleThatRechargeDoesNotKnow(t *testing.T) {
	f := start(t)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.RefuseLocales = true })
	got := f.click(f.shopper(pat), "/apps/subscriptions?locale=nb")
	if calls := f.calls(); got.outcome() != "redirected" || calls["portal_access"] != 2 {
		t.Errorf("click = %s, calls %v; want redirected, by asking for portal_access twice", got.outcome(), calls)
	}
	if link := got.location; strings.Contains(link, "locale") {
		t.Errorf("the link %s asks for the language again", link)
	}
	if got := f.click(f.shopper(pat), "/apps/subscriptions"); got.outcome() != "redirected" {
		t.Errorf("a click without a language = %s; want redirected", got.outcome())
	}
	f.costs("a click without a language", map[string]int{})
}

// TestLogLine pins what an operator searches for.
func TestLogLine(t *testing.T) {
	f := start(t)
	got := f.click(f.shopper(robin), "/apps/subscriptions")
	id := regexp.MustCompile(`Reference for support: <bdi>([a-z0-9]{10})<`).FindStringSubmatch(got.body)
	if len(id) != 2 || got.line["request_id"] != id[1] {
		t.Errorf("the page shows the reference %q, the log %v; want the same", id, got.line["request_id"])
	}
	var keys []string
	for key := range got.line {
		keys = append(keys, key)
	}
	if want := []string{"cause", "level", "ms", "msg", "outcome", "request_id", "shop", "source", "steps", "time"}; !cmp.Equal(sorted(keys), want) {
		t.Errorf("fields = %v; want %v", sorted(keys), want)
	}
	if _, err := json.Marshal(got.line); err != nil {
		t.Error(err)
	}
}

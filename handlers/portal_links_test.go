package handlers_test

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestPortalLinks checks that a middleware gets a link to the named customer's portal.
func TestPortalLinks(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	for _, test := range []struct {
		name, key, body string
		calls           map[string]int
		page            string
	}{
		{"first ever", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"warm", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), map[string]int{}, "subscriptions"},
		{"the old key, as the Customer Account API names customers", servertest.OldAPIKey, servertest.ByShopifyID("gid://shopify/Customer/" + servertest.Pat), map[string]int{}, "subscriptions"},
		{"another page", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","destination":"orders","locale":"fr"}`, map[string]int{}, "orders"},
		{"another country", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","country":"ca","return_to":""}`, map[string]int{}, "subscriptions"},
		{"by Recharge's id", servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord), map[string]int{"customer": 1, "sessions": 1, "portal_access": 1}, "subscriptions"},
		{"by Recharge's id, warm", servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord), map[string]int{}, "subscriptions"},
	} {
		f.Calls()
		got := f.PostLink(test.key, test.body)
		if calls := f.Calls(); !maps.Equal(calls, test.calls) {
			t.Errorf("%s: the calls %v; want %v", test.name, calls, test.calls)
		}
		if got.Status != http.StatusOK || !got.SignedIn || got.ExpiresAt == nil || !got.ExpiresAt.After(f.Clock.Now()) {
			t.Errorf("%s: %d %s; want a signed-in link, with when it is over", test.name, got.Status, got.Body)
			continue
		}
		opened := f.Open(f.Shopper(""), got.URL)
		if opened.Customer.ID != servertest.PatsRecord || opened.Page != test.page {
			t.Errorf("%s: %s opened %+v; want Pat's %s", test.name, got.URL, opened, test.page)
		}
		if line := f.Log.Last("click"); line["outcome"] != "redirected" || line["channel"] != "api" {
			t.Errorf("%s: the log says %v; want a click by the api", test.name, line)
		}
	}
}

// TestPortalLinkProblems checks that each outcome has a type of problem that says what to do.
func TestPortalLinkProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, key, body string
		broken          func(*servertest.Fixture)
		change          func(*config.Settings)
		status          int
		problem         string
	}{
		{"never subscribed", servertest.APIKey, servertest.ByShopifyID(servertest.Robin), nil, nil, 404, "not_a_subscriber"},
		{"no such record", servertest.APIKey, servertest.ByRechargeID(999), nil, nil, 404, "not_a_subscriber"},
		{"two records", servertest.APIKey, servertest.ByShopifyID(servertest.Kim), nil, nil, 404, "not_a_subscriber"},
		{"Recharge down", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), func(f *servertest.Fixture) { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }, nil, 503, "unavailable"},
		{"not connected", servertest.APIKey, servertest.ByShopifyID(servertest.Pat), nil, func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, 409, "not_connected"},
		{"wrong key", servertest.APIKey + "x", servertest.ByShopifyID(servertest.Pat), nil, nil, 403, "forbidden"},
		{"no key", "", servertest.ByShopifyID(servertest.Pat), nil, nil, 403, "forbidden"},
		{"wrong key, bad body", servertest.APIKey + "x", `{`, nil, nil, 403, "forbidden"},
		{"no body", servertest.APIKey, ``, nil, nil, 400, "invalid_request"},
		{"nobody", servertest.APIKey, `{}`, nil, nil, 400, "invalid_request"},
		{"both", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","recharge_customer_id":70100200}`, nil, nil, 400, "invalid_request"},
		{"twice", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","shopify_customer_id":"` + servertest.Robin + `"}`, nil, nil, 400, "invalid_request"},
		{"in other letters", servertest.APIKey, `{"Shopify_Customer_Id":"` + servertest.Pat + `"}`, nil, nil, 400, "invalid_request"},
		{"a number as Shopify's", servertest.APIKey, `{"shopify_customer_id":` + servertest.Pat + `}`, nil, nil, 400, "invalid_request"},
		{"text as Recharge's", servertest.APIKey, `{"recharge_customer_id":"70100200"}`, nil, nil, 400, "invalid_request"},
		{"a fraction", servertest.APIKey, `{"recharge_customer_id":70100200.0}`, nil, nil, 400, "invalid_request"},
		{"a power", servertest.APIKey, `{"recharge_customer_id":7e7}`, nil, nil, 400, "invalid_request"},
		{"too large", servertest.APIKey, `{"recharge_customer_id":9999999999999999999}`, nil, nil, 400, "invalid_request"},
		{"below nothing", servertest.APIKey, `{"recharge_customer_id":-1}`, nil, nil, 400, "invalid_request"},
		{"a list", servertest.APIKey, `{"shopify_customer_id":["` + servertest.Pat + `"]}`, nil, nil, 400, "invalid_request"},
		{"two objects", servertest.APIKey, servertest.ByShopifyID(servertest.Pat) + servertest.ByShopifyID(servertest.Robin), nil, nil, 400, "invalid_request"},
		{"a slip", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","where":"orders"}`, nil, nil, 400, "invalid_request"},
		{"no text", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","locale":7}`, nil, nil, 400, "invalid_request"},
		{"no text, country", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","country":["FR"]}`, nil, nil, 400, "invalid_request"},
		{"a way back to another host", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","return_to":"https://evil.example/"}`, nil, nil, 400, "invalid_request"},
		{"a way back to Recharge", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","return_to":"https://admin.rechargeapps.com/"}`, nil, nil, 400, "invalid_request"},
		{"a way back without https", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","return_to":"http://fixture-shop.myshopify.com/"}`, nil, nil, 400, "invalid_request"},
		{"a way back without a host", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","return_to":"/account"}`, nil, nil, 400, "invalid_request"},
		{"wrong key, bad way back", servertest.APIKey + "x", `{"shopify_customer_id":"` + servertest.Pat + `","return_to":"https://evil.example/"}`, nil, nil, 403, "forbidden"},
		{"too long", servertest.APIKey, `{"shopify_customer_id":"` + servertest.Pat + `","destination":"` + strings.Repeat("a", 5000) + `"}`, nil, nil, 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := []func(*config.Settings){servertest.WithAPIKeys}
			if test.change != nil {
				settings = append(settings, test.change)
			}
			f := servertest.Start(t, settings...)
			if test.broken != nil {
				test.broken(f)
			}
			got := f.PostLink(test.key, test.body)
			if got.Status != test.status || got.Type != "urn:manage-subscriptions:problem:"+test.problem || got.Detail == "" || got.URL != "" {
				t.Errorf("POST %s = %d %s; want %d and a problem %s", test.body, got.Status, got.Body, test.status, test.problem)
			}
			if media := got.Header.Get("Content-Type"); media != "application/problem+json" {
				t.Errorf("POST %s is answered in %s; want application/problem+json", test.body, media)
			}
			if wait := got.Header.Get("Retry-After"); (wait != "") != (test.status == 503) {
				t.Errorf("POST %s: Retry-After %q", test.body, wait)
			}
		})
	}
}

// TestReturnTo checks that a middleware can have the pages for a task lead back to its store, in both
// modes, and that country reaches the portal.
func TestReturnTo(t *testing.T) {
	t.Parallel()
	const back = "https://" + servertest.Shop + "/account?tab=1"
	for name, mode := range map[string]func(*config.Settings){"one store": servertest.WithAPIKeys, "many stores": servertest.ManyStores} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, mode)
			key := servertest.APIKey
			if name == "many stores" {
				f.Connect()
				key = f.MakeKey(servertest.Shop, "headless")
			}
			got := f.PostLink(key, `{"shopify_customer_id":"`+servertest.Pat+`","destination":"subscriptions/50500600/cancel","country":"ca","return_to":"`+back+`"}`)
			link, err := url.Parse(got.URL)
			if err != nil || link.Query().Get("redirect_to") != back || link.Query().Get("region_country") != "CA" {
				t.Errorf("POST = %d %s; want a link that leads back to %s, for Canada", got.Status, got.Body, back)
			}
			got = f.PostLink(key, `{"shopify_customer_id":"`+servertest.Pat+`","return_to":"https://evil.example/"}`)
			if got.Status != http.StatusBadRequest || !strings.HasPrefix(got.Detail, "return_to must be https, and on the host of the shop") {
				t.Errorf("POST with a way back to another host = %d %s; want it refused, and why", got.Status, got.Body)
			}
		})
	}
}

// TestPortalLinkByHash checks that known customers get a hash link while Recharge is down.
func TestPortalLinkByHash(t *testing.T) {
	for _, body := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(servertest.PatsRecord)} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		f.PostLink(servertest.APIKey, body)
		f.Clock.Add(2 * time.Hour) // link and session have expired
		f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
		got := f.PostLink(servertest.APIKey, body)
		if got.Status != http.StatusOK || got.SignedIn || got.ExpiresAt != nil || !strings.Contains(got.URL, "/portal/1f2e3d4c5b6a7988/") {
			t.Errorf("POST %s = %d %s; want Pat's link by hash", body, got.Status, got.Body)
		}
	}
}

// TestNoKeyNoRoute checks that these routes do not exist without a key.
func TestNoKeyNoRoute(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusNotFound {
		t.Errorf("POST without PORTAL_API_KEY = %d; want 404", got.Status)
	}
	if got := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))); got.Status != http.StatusNotFound {
		t.Errorf("GET /go without PORTAL_API_KEY = %d; want 404", got.Status)
	}
}

// TestAPIAnswers checks that both routes are closed to scripts of other sites, set no cookie
// and are not cached.
func TestAPIAnswers(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	link := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	for name, header := range map[string]http.Header{
		"POST":          f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat), "Origin", "https://evil.example").Header,
		"POST, refused": f.PostLink("", servertest.ByShopifyID(servertest.Pat), "Origin", "https://evil.example").Header,
		"GET /go":       f.FollowLink(link, "Origin", "https://evil.example").Header,
		"GET /go, used": f.FollowLink(link, "Origin", "https://evil.example", "User-Agent", "another").Header,
	} {
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Set-Cookie"} {
			if got := header.Get(name); got != "" {
				t.Errorf("%s: %s: %s; want none", name, name, got)
			}
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v; want no-store and no-referrer", name, header)
		}
	}
	for _, path := range []string{"/api/portal-links", "/go"} {
		request, _ := http.NewRequest(http.MethodOptions, "http://"+f.Public+path, nil)
		request.Header.Set("Origin", "https://evil.example")
		request.Header.Set("Access-Control-Request-Method", "POST")
		request.Header.Set("Access-Control-Request-Headers", "authorization")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for name := range response.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("OPTIONS %s allows by %s; want that nothing is allowed", path, name)
			}
		}
	}
}

// TestSomeoneElsesRecord checks that another customer's record in Recharge's answer opens nothing,
// not even what was cached before.
func TestSomeoneElsesRecord(t *testing.T) {
	for _, known := range []bool{false, true} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		if known {
			f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
			f.Clock.Add(48 * time.Hour)
		}
		f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.OtherRecord = true })
		got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
		if got.Status != http.StatusServiceUnavailable || got.URL != "" {
			t.Errorf("POST, known %v = %d %s; want unavailable", known, got.Status, got.Body)
		}
		if line := f.Log.Last("click"); line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["cause"]), "someone else's") {
			t.Errorf("the log says %v; want an error", line)
		}
		if got := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("n", "recharge:70100200"))); got.Location != "" {
			t.Errorf("GET /go, known %v, leads to %s; want nowhere", known, got.Location)
		}
	}
}

// TestErasedByRechargesID checks that customers/redact, which has Shopify's id, also erases what is
// cached under the same person's Recharge id, and nothing of others.
func TestErasedByRechargesID(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.PostLink(servertest.APIKey, servertest.ByRechargeID(70100301)) // Sam
	sams := f.CachedShoppers()
	f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
	if len(sams) != 1 || len(f.CachedShoppers()) != 2 {
		t.Fatalf("Redis holds %q; want one entry each", f.CachedShoppers())
	}
	f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if left := f.CachedShoppers(); !slices.Equal(left, sams) {
		t.Errorf("Redis holds %q; want what is Sam's, %q", left, sams)
	}
}

// TestRechargeTellsByID checks that a change in Recharge also reaches customers cached under their
// Recharge id at once.
func TestRechargeTellsByID(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	f.ClickAll(servertest.Pat, "") // the same person, known by Shopify's id
	f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord))
	f.Recharge.ChangeCustomer(servertest.Changed(servertest.Customers()[1], func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
	f.Until("the new hash is known", func() bool {
		return strings.Contains(f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord)).URL, "/abcdabcdabcdabcd/")
	})
	f.Recharge.DeleteCustomer(servertest.PatsRecord)
	f.Until("nobody is known", func() bool {
		return f.PostLink(key, servertest.ByRechargeID(servertest.PatsRecord)).Status == http.StatusNotFound
	})
}

// TestIDsDoNotMix checks that customers do not mix when one's Shopify id is another's Recharge id,
// in either order.
func TestIDsDoNotMix(t *testing.T) {
	const both = int64(6100200300400) // Pat's id at Shopify
	for _, first := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(both)} {
		f := servertest.New(t, storetest.Redis(t))
		f.Customers = append(f.Customers, rechargetest.Customer{
			ID: both, Hash: "feedfeedfeedfeed", FirstName: "Some", LastName: "Namesake", Subscriptions: servertest.Customers()[1].Subscriptions,
		})
		f.Begin("new", "/apps/subscriptions", servertest.WithAPIKeys)
		f.PostLink(servertest.APIKey, first)
		for range 2 {
			if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); !strings.Contains(got.URL, "/1f2e3d4c5b6a7988/") {
				t.Errorf("by Shopify's id: %d %s; want Pat's link", got.Status, got.Body)
			}
			if got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(both)); !strings.Contains(got.URL, "/feedfeedfeedfeed/") {
				t.Errorf("by Recharge's id: %d %s; want the namesake's link", got.Status, got.Body)
			}
		}
	}
}

// TestByRechargesIDNeverAnother checks that a customer named by Recharge's id gets their own portal
// or none, whatever Recharge answers.
func TestByRechargesIDNeverAnother(t *testing.T) {
	for name, set := range map[string]func(*rechargetest.Faults){
		"a session for someone else": func(x *rechargetest.Faults) { x.ForeignSession = true },
		"a link for someone else":    func(x *rechargetest.Faults) { x.ForeignPortal = true },
		"someone else's record":      func(x *rechargetest.Faults) { x.OtherRecord = true },
		"all of these":               func(x *rechargetest.Faults) { x.ForeignSession, x.ForeignPortal, x.OtherRecord = true, true, true },
	} {
		f := servertest.Start(t, servertest.WithAPIKeys)
		f.Recharge.SetFaults(set)
		for i := range 2 {
			got := f.PostLink(servertest.APIKey, servertest.ByRechargeID(servertest.PatsRecord))
			link := f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink(fmt.Sprint("n", i), "recharge:70100200")))
			for _, url := range []string{got.URL, link.Location} {
				if url != "" && (!strings.Contains(url, "/1f2e3d4c5b6a7988/") || strings.Contains(url, "token=")) {
					t.Errorf("%s: %s; want Pat's link by hash or none", name, url)
				}
			}
		}
	}
}

// TestRefusedSharesNothing checks that a request without a valid key gets no part of a simultaneous
// answer to one with a key.
func TestRefusedSharesNothing(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 300 * time.Millisecond })
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			mine := []string{key, "mspk_fixture-shop_" + strings.Repeat("A", 26)}[i%2]
			request, _ := http.NewRequest(http.MethodPost, "http://"+f.Public+"/api/portal-links", strings.NewReader(servertest.ByShopifyID(servertest.Pat)))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+mine)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			if want := []int{http.StatusOK, http.StatusForbidden}[i%2]; response.StatusCode != want {
				t.Errorf("call %d = %d; want %d", i, response.StatusCode, want)
			}
		})
	}
	all.Wait()
}

// TestWarmPostInOneTrip checks that a warm POST makes no call to Recharge and one round trip to
// Redis, even with keys from the app home.
func TestWarmPostInOneTrip(t *testing.T) {
	redis := storetest.Redis(t)
	passed := countTrips(t, redis.Addr)
	f := servertest.New(t, redis)
	through := func(s *config.Settings) { s.RedisURL = "redis://" + passed.address }
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores, through)
	f.Connect()
	key := f.MakeKey(servertest.Shop, "server")
	for _, body := range []string{servertest.ByShopifyID(servertest.Pat), servertest.ByRechargeID(servertest.PatsRecord)} {
		f.PostLink(key, body)
		f.Calls()
		var trips []int64
		for range 9 { // background work may add trips, so the minimum counts
			before := passed.trips.Load()
			if got := f.PostLink(key, body); got.Status != http.StatusOK || !got.SignedIn {
				t.Fatalf("POST %s = %d %s; want a link", body, got.Status, got.Body)
			}
			trips = append(trips, passed.trips.Load()-before)
		}
		if calls := f.Calls(); len(calls) != 0 || slices.Min(trips) != 1 {
			t.Errorf("warm POSTs %s made the calls %v and the trips %v; want none, and one each", body, calls, trips)
		}
	}
}

// trips is a proxy to Redis that counts round trips.
type trips struct {
	address string
	trips   atomic.Int64
}

func countTrips(t *testing.T, to string) *trips {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &trips{address: listener.Addr().String()}
	var passing sync.WaitGroup
	t.Cleanup(func() { listener.Close(); passing.Wait() })
	pass := func(to, from net.Conn, saw func()) {
		defer func() { to.Close(); from.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			saw()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	passing.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			var asked atomic.Bool
			passing.Go(func() { pass(out, in, func() { asked.Store(true) }) })
			passing.Go(func() {
				pass(in, out, func() {
					if asked.Swap(false) {
						counted.trips.Add(1)
					}
				})
			})
		}
	})
	return counted
}

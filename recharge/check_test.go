package recharge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// inspected returns an emulated Recharge, and options with a merchant's tokens for it.
func inspected(t *testing.T, scopes ...string) (*rechargetest.Server, recharge.Options) {
	t.Helper()
	srv := rechargetest.NewServer(rechargetest.Options{
		Shop: shop, Tokens: []rechargetest.Token{{Value: adminToken, Scopes: scopes, Rate: 1000, Burst: 10000}}, StorefrontToken: storefrontToken,
		PortalBase: "https://www.brand.example/tools/recurring/portal/",
		Customers:  []rechargetest.Customer{{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID, Email: "pat@example.test"}},
	})
	t.Cleanup(srv.Close)
	transport := recharge.NewTransport(10 * time.Second)
	t.Cleanup(transport.CloseIdleConnections)
	return srv, recharge.Options{
		Shop: shop, APIURL: mustURL(t, srv.URL), AppURL: mustURL(t, srv.URL), PortalURL: mustURL(t, recharge.DefaultPortal(shop)), Token: adminToken, StorefrontToken: storefrontToken,
		Rate: 1000, Burst: 1000, Timeout: 10 * time.Second, Now: time.Now, HTTP: transport,
	}
}

// TestInspect shows what connecting a store detects, and what it reports as missing.
func TestInspect(t *testing.T) {
	all := []string{"read_customers", "write_session", "read_store"}
	base := "https://www.brand.example/tools/recurring/portal/"
	for name, test := range map[string]struct {
		scopes []string
		change func(*rechargetest.Server, *recharge.Options)
		want   string // each check with its state and reason
		portal string
		usable bool
	}{
		"all is well": {scopes: all, want: "token passed; store passed; customers passed; sessions passed; portal passed www.brand.example", portal: base, usable: true},
		"wrong token": {scopes: all, change: func(_ *rechargetest.Server, o *recharge.Options) { o.Token = "another" }, want: "token failed bad token"},
		"customers may not be read": {scopes: []string{"write_session", "read_store"},
			want: "token failed scope missing [read_customers]"},
		"sessions may not be made": {scopes: []string{"read_customers", "read_store"}, portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions warned scope missing [write_session]; portal skipped"},
		"the other spelling": {scopes: []string{"read_customers", "write_sessions"}, portal: base, usable: true,
			want: "token passed; store skipped scope missing [read_store]; customers passed; sessions passed; portal passed www.brand.example"},
		"the store may not be read": {scopes: []string{"read_customers", "write_session"}, portal: base, usable: true,
			want: "token passed; store skipped scope missing [read_store]; customers passed; sessions passed; portal passed www.brand.example"},
		"another store's": {scopes: all, change: func(_ *rechargetest.Server, o *recharge.Options) { o.Shop = "another-shop.myshopify.com" },
			want: "token passed; store failed another store's token"},
		"nobody there": {scopes: all, change: func(s *rechargetest.Server, _ *recharge.Options) { s.SetCustomers(nil) }, portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions skipped no such customer; portal skipped"},
		"nobody there, and sessions may not be made": {scopes: []string{"read_customers"}, change: func(s *rechargetest.Server, _ *recharge.Options) { s.SetCustomers(nil) }, usable: true,
			want: "token passed; store skipped scope missing [read_store]; customers passed; sessions warned no such customer [write_session]; portal skipped"},
		"wrong storefront token": {scopes: all, change: func(_ *rechargetest.Server, o *recharge.Options) { o.StorefrontToken = "another" }, portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions warned bad token; portal skipped"},
		"sessions refused": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.RefuseSessions = true }), portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions warned scope missing; portal skipped"},
		"someone else's session": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.ForeignSession = true }), portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions warned someone else's answer; portal skipped"},
		"portal refused": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.RefusePortalAccess = true }), portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions passed; portal warned bad token"},
		"someone else's portal": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.ForeignPortal = true }), portal: base, usable: true,
			want: "token passed; store passed; customers passed; sessions passed; portal warned someone else's answer"},
		"too many calls": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.Limited = true }), want: "token warned rate limited"},
		"down":           {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.Down = true }), want: "token warned unreachable"},
		"customers cut short": {scopes: all, change: faulty(func(f *rechargetest.Faults) { f.Truncate, f.Only = true, rechargetest.EndpointCustomers }), portal: base,
			want: "token passed; store passed; customers warned malformed answer; sessions skipped no such customer; portal skipped"},
		"a portal on a strange host": {scopes: []string{"read_customers", "write_session"}, usable: true,
			change: func(s *rechargetest.Server, _ *recharge.Options) { s.SetPortalBase("http://brand.example/portal/") },
			want:   "token passed; store skipped scope missing [read_store]; customers passed; sessions passed; portal warned malformed answer"},
		"a portal that is one customer's": {scopes: []string{"read_customers", "write_session"}, usable: true,
			change: func(s *rechargetest.Server, _ *recharge.Options) { s.SetPortalBase(base + hash) },
			want:   "token passed; store skipped scope missing [read_store]; customers passed; sessions passed; portal warned malformed answer"},
		"a portal on one customer's host": {scopes: []string{"read_customers", "write_session"}, usable: true,
			change: func(s *rechargetest.Server, _ *recharge.Options) {
				s.SetPortalBase("https://" + hash + ".brand.example/portal/")
			},
			want: "token passed; store skipped scope missing [read_store]; customers passed; sessions passed; portal warned malformed answer"},
		"slow": {scopes: all, want: "token warned too slow", change: func(s *rechargetest.Server, o *recharge.Options) {
			o.Timeout = 50 * time.Millisecond
			s.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Minute })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv, o := inspected(t, test.scopes...)
			if test.change != nil {
				test.change(srv, &o)
			}
			var told []recharge.Finding
			c := recharge.NewClient(o)
			g := free(c)
			got := recharge.Inspect(t.Context(), c, g, recharge.InspectOptions{}, func(f recharge.Finding) { told = append(told, f) })
			if len(g.Calls()) < len(srv.Requests()) || len(g.Calls()) == 0 {
				t.Errorf("the grant has %d calls; want %d", len(g.Calls()), len(srv.Requests()))
			}
			var parts []string
			for _, f := range got.List {
				part := fmt.Sprint(f.Check, " ", f.State, " ", f.Why)
				if f.Missing != nil {
					part += fmt.Sprint(" ", f.Missing)
				}
				parts = append(parts, strings.TrimSpace(strings.TrimRight(part, " ")+" "+f.Detail))
			}
			if said := strings.Join(parts, "; "); said != test.want {
				t.Errorf("found %q; want %q", said, test.want)
			}
			if got.PortalURL != test.portal || got.Usable() != test.usable || len(told) != len(got.List) {
				t.Errorf("Inspect = %+v, usable %v, told %d; want portal %q, usable %v", got, got.Usable(), len(told), test.portal, test.usable)
			}
			for _, secret := range []string{hash, shopifyID, fmt.Sprint(rechargeID), adminToken, storefrontToken, "example.test"} {
				if strings.Contains(fmt.Sprintf("%+v", got), secret) {
					t.Errorf("the findings hold %q", secret)
				}
			}
		})
	}
}

// TestInspectExtras shows what an operator's check finds, in eight calls of one grant.
func TestInspectExtras(t *testing.T) {
	portal := "https://www.brand.example/tools/recurring/portal/"
	for name, test := range map[string]struct {
		options recharge.InspectOptions
		change  func(*rechargetest.Server, *recharge.Options)
		want    string
		calls   int
	}{
		"a customer": {recharge.InspectOptions{Customer: shopifyID, Extras: true}, nil,
			"token passed; store passed; customers passed; filter passed; sessions passed; session_bare warned bad token (401); portal passed", 7},
		"any customer": {recharge.InspectOptions{Extras: true}, nil,
			"token passed; store passed; customers passed; filter passed; sessions passed; session_bare warned bad token (401); portal passed", 7},
		"no session": {recharge.InspectOptions{Extras: true, NoSession: true}, nil,
			"token passed; store passed; customers passed; filter passed", 4},
		"an unknown customer": {recharge.InspectOptions{Customer: "6100200309999", Extras: true}, nil,
			"token passed; store passed; customers warned no such customer; filter passed; sessions skipped no such customer; session_bare skipped; portal skipped", 5},
		"no customers": {recharge.InspectOptions{Customer: shopifyID, Extras: true}, func(s *rechargetest.Server, _ *recharge.Options) { s.SetCustomers(nil) },
			"token passed; store passed; customers warned no such customer; filter warned no such customer; sessions skipped no such customer; session_bare skipped; portal skipped", 5},
		"the filter is ignored": {recharge.InspectOptions{Customer: shopifyID, Extras: true}, faulty(func(f *rechargetest.Faults) { f.IgnoreFilter = true }),
			"token passed; store passed; customers passed; filter failed filter ignored; sessions passed; session_bare warned bad token (401); portal passed", 7},
		"no storefront token": {recharge.InspectOptions{Customer: shopifyID, Extras: true}, func(_ *rechargetest.Server, o *recharge.Options) { o.StorefrontToken = "" },
			"token passed; store passed; customers passed; filter passed; sessions warned bad token (401); session_bare skipped; portal skipped", 5},
	} {
		t.Run(name, func(t *testing.T) {
			srv, o := inspected(t, "read_customers", "write_session", "read_store")
			o.PortalURL = mustURL(t, portal)
			if test.change != nil {
				test.change(srv, &o)
			}
			c := recharge.NewClient(o)
			g := free(c)
			got := recharge.Inspect(t.Context(), c, g, test.options, func(recharge.Finding) {})
			var parts []string
			for _, f := range got.List {
				part := strings.TrimSpace(fmt.Sprint(f.Check, " ", f.State, " ", f.Why))
				if f.Status != 0 {
					part += fmt.Sprintf(" (%d)", f.Status)
				}
				parts = append(parts, part)
			}
			if said := strings.Join(parts, "; "); said != test.want {
				t.Errorf("found %q; want %q", said, test.want)
			}
			if n := len(srv.Requests()); n != test.calls || len(g.Calls()) != n {
				t.Errorf("%d calls, of which the grant has %d; want %d", n, len(g.Calls()), test.calls)
			}
			base := recharge.PortalFacts{Base: "www.brand.example/tools/recurring/portal/", Trusted: true}
			if got.Store != base || got.Headers.Size == 0 || got.Headers.Used == 0 || !got.Headers.Dated || got.Headers.RetryAfter || got.Slowest <= 0 {
				t.Errorf("Inspect = %+v; want the store's portal, a limit, a date, and how long calls took", got)
			}
			if passed := got.Of(recharge.CheckSessions).State == recharge.Passed; passed != (got.Session.Key == "apiToken" && got.Session.Lives > 0) {
				t.Errorf("the session is %+v; want apiToken and an expiry: %v", got.Session, passed)
			}
			if passed := got.Of(recharge.CheckPortal).State == recharge.Passed; passed {
				got := got.Portal
				if got.Base != base.Base || got.LinkHost != "www.brand.example" || !got.Trusted || !got.Opens || got.Zone || got.Expires <= 0 {
					t.Errorf("the portal is %+v; want that the link opens it", got)
				}
			}
			for _, secret := range []string{hash, shopifyID, fmt.Sprint(rechargeID), adminToken, storefrontToken, "example.test"} {
				if strings.Contains(fmt.Sprintf("%+v", got), secret) {
					t.Errorf("the findings hold %q", secret)
				}
			}
		})
	}
}

// TestInspectDistrusts: Inspect reports a portal that Recharge names but that is not configured.
func TestInspectDistrusts(t *testing.T) {
	_, o := inspected(t, "read_customers", "write_session", "read_store")
	c := recharge.NewClient(o) // its portal is on the shop's own host
	got := recharge.Inspect(t.Context(), c, free(c), recharge.InspectOptions{}, func(recharge.Finding) {})
	if got.Store.Trusted || got.Portal.Trusted || got.Portal.Opens || got.Portal.LinkHost != "www.brand.example" || got.Of(recharge.CheckPortal).State != recharge.Passed {
		t.Errorf("Inspect = %+v; want the guard to refuse links to that portal", got)
	}
}

func faulty(set func(*rechargetest.Faults)) func(*rechargetest.Server, *recharge.Options) {
	return func(s *rechargetest.Server, _ *recharge.Options) { s.SetFaults(set) }
}

func TestParsePortalURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://www.brand.example/tools/recurring/portal/": "https://www.brand.example/tools/recurring/portal/",
		"https://www.brand.example/tools/recurring/portal":  "https://www.brand.example/tools/recurring/portal/",
		"https://portal.brand.example":                      "https://portal.brand.example/",
		"http://127.0.0.1:8088/portal":                      "http://127.0.0.1:8088/portal/",
		"http://brand.example/portal/":                      "", "//brand.example/": "", "javascript:alert(1)": "", "https://": "", "": "",
		"https://user@brand.example/": "", "https://brand.example/?a=b": "", "https://brand.example/?": "", "https://brand.example/#": "", "https://brand.example:8443/": "",
		"https://brand.example/a/../b/": "", "https://brand.example/%2e%2e/": "", "https://brand.example/a%2e%2e/": "", "https://brand.example/%61/": "", `https://brand.example\@evil.example/`: "", "https://brand.example /": "",
		"https://BRAND.example/a": "https://brand.example/a/", "https://brand.example/./a/": "", "https://localhost.evil.example:80/": "", "https://brand.example//portal/": "", "https://" + strings.Repeat("a", 300) + ".example/": "",
	} {
		got, err := recharge.ParsePortalURL(text, mustURL(t, "http://127.0.0.1:8080"))
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("ParsePortalURL(%q) = %v, %v; want %q", text, got, err, want)
		}
	}
}

// TestPrivatePortal: where the server is public, its portals are. No spelling of an address or of this
// machine gets through.
func TestPrivatePortal(t *testing.T) {
	for _, app := range []string{"https://subscriptions.brand.com", "https://Subscriptions.BRAND.com.:8443/base", "https://bücher.de", "https://app.xn--p1ai"} {
		for _, host := range []string{
			"localhost", "LOCALHOST", "localhost.", "localhost:8443", "a.localhost", "A.LocalHost", "printer.local", "metadata.google.internal", "router.home.arpa", "shop.test", "shop.example", "shop.invalid", "x.onion",
			"redis", "redis.", "com", "127.0.0.1", "127.0.0.1.", "127.1", "0", "0.0.0.0", "10.0.0.1", "169.254.169.254", "8.8.8.8", "8.8.8.8:443", "256.256.256.256", "1.2.3.4.5",
			"2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.0X1", "127.0.0.0x1", "0177.0.0.1", "017700000001", "127.0.0.0x",
			"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25lo]", "[fe80::1%25lo.com]", "[2606:4700::1111]", "[::1]:8443", "[::1].brand.com", "127.0.0.1@", "u:p@127.0.0.1", "brand.com@127.0.0.1", "127.0.0.1%2f.brand.com",
			"%31%32%37.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "brand.com:443", "brand.com.", "brand..com", ".brand.com", "-", "",
		} {
			for _, scheme := range []string{"https://", "http://"} {
				if got, err := recharge.ParsePortalURL(scheme+host+"/portal/", mustURL(t, app)); err == nil {
					t.Errorf("ParsePortalURL(%s%s/portal/) for %s = %v; want none", scheme, host, app, got)
				}
			}
		}
		for _, host := range []string{"brand.com", "PORTAL.brand.co.uk", "xn--bcher-kva.de", "brand.xn--p1ai", "1.brand.com", "127.0.0.1.nip.io", "localhost.brand.com", "my-store.myshopify.com", "0x7f.dev"} {
			if got, err := recharge.ParsePortalURL("https://"+host+"/portal/", mustURL(t, app)); err != nil || got.Host != strings.ToLower(host) {
				t.Errorf("ParsePortalURL(https://%s/portal/) for %s = %v, %v; want it", host, app, got, err)
			}
		}
	}
	for _, app := range []string{"http://127.0.0.1:8080", "http://[::1]:8080", "https://localhost", "https://app.example", "https://app.localhost", "https://app.test"} {
		if _, err := recharge.ParsePortalURL("http://127.0.0.1:8088/portal/", mustURL(t, app)); err != nil {
			t.Errorf("the sandbox's portal for %s: %v; want it", app, err)
		}
	}
}

// TestLimiterIsKept: a merchant who saves the same token again gets no new bucket.
func TestLimiterIsKept(t *testing.T) {
	_, o := inspected(t, "read_customers")
	o.Burst, o.Rate, o.Now = 10, 0.001, newClock().Now
	first := recharge.NewClient(o)
	for range 4 {
		if _, err := lookUp(t.Context(), first, shopifyID); err != nil {
			t.Fatal(err)
		}
	}
	if first.Token() != adminToken {
		t.Error("Token is not the client's")
	}
	if got := recharge.NewClient(o).Limiter().Budget(); got.Left != 10 {
		t.Errorf("without a limiter, another client's budget is %+v; want it full", got)
	}
	o.Limiter = first.Limiter()
	if got := recharge.NewClient(o).Limiter().Budget(); got.Left != 6 || got.Burst != 10 {
		t.Errorf("after 4 calls, another client's budget is %+v; want 6 of 10 left", got)
	}
}

// TestBudgetPaused: a 429 holds back all calls, and Budget says for how long.
func TestBudgetPaused(t *testing.T) {
	srv, o := inspected(t, "read_customers")
	now := newClock()
	o.Burst, o.Rate, o.Now = 10, 0.001, now.Now
	client := recharge.NewClient(o)
	if got, want := client.Limiter().Budget(), (recharge.Budget{Left: 10, Burst: 10, Rate: 0.001}); got != want {
		t.Errorf("at first the budget is %+v; want %+v", got, want)
	}
	srv.SetFaults(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, 7*time.Second })
	_, err := lookUp(t.Context(), client, shopifyID)
	checkReason(t, "FindCustomer", err, recharge.Limited)
	for passed, want := range []time.Duration{7 * time.Second, 6 * time.Second} {
		if got := client.Limiter().Budget(); got.Paused != want || got.Left != 0 {
			t.Errorf("%ds after a 429 the budget is %+v; want none left, as Recharge says, and a pause of %v", passed, got, want)
		}
		now.Advance(time.Second)
	}
	now.Advance(time.Minute)
	if got := client.Limiter().Budget(); got.Paused != 0 {
		t.Errorf("a minute later the pause is %v; want none", got.Paused)
	}
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("Budget made %d calls; want none", n-1)
	}
}

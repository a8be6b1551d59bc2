package doctor_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	shop       = "fixture-shop.myshopify.com"
	appSecret  = "fixture-app-secret"
	apiToken   = "sk_test_fixture_admin_token"
	storefront = "strfnt_fixture_storefront"
	pat        = "6100200300400"
	hash       = "1f2e3d4c5b6a7988"
	email      = "pat@example.test"
	crawler    = "Signature-Input: sig1=(\"@authority\");tag=\"web-bot-auth\"\r\nsignature: sig1=:aHVzaC1odXNo:\nSignature-Agent: \"https://shopify.com\""
)

// ward is the whole program between the emulators, behind TLS, with a real Redis.
type ward struct {
	t        *testing.T
	recharge *rechargetest.Server
	store    *shopifytest.Server
	front    http.HandlerFunc // in front of the program, if not nil
	mask     http.HandlerFunc // in front of the storefront, if not nil
	public   string
	shown    *httptest.Server // the storefront, as a browser reaches it
	app      *httptest.Server
	skew     time.Duration // how far the doctor's clock is ahead
	scopes   []string
	burst    int
	settings config.Settings // the doctor's
	ask      doctor.Options
}

// newWard returns a healthy ward. before changes what cannot be changed later.
func newWard(t *testing.T, kept *storetest.Server, before ...func(*ward)) *ward {
	t.Helper()
	w := &ward{t: t, scopes: []string{"read_customers", "write_session", "read_store"}, burst: 40}
	for _, change := range before {
		change(w)
	}
	w.recharge = rechargetest.NewServer(rechargetest.Options{
		Shop: shop, StorefrontToken: storefront,
		Tokens: []rechargetest.Token{{Value: apiToken, Scopes: w.scopes, Burst: w.burst}},
		Customers: []rechargetest.Customer{
			{ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999", Email: "robin@example.test"},
			{ID: 70100200, Hash: hash, ShopifyCustomerID: pat, Email: email, Subscriptions: []rechargetest.Subscription{{ID: 50500600, Product: "Coffee"}}},
		},
	})
	t.Cleanup(w.recharge.Close)
	w.store = shopifytest.NewServer(shopifytest.Options{Shop: shop, Shoppers: []shopifytest.Shopper{{ID: pat, FirstName: "Pat"}}})
	t.Cleanup(w.store.Close)
	w.shown = w.before(w.store.URL, httptest.NewServer, func() http.HandlerFunc { return w.mask })
	w.settings = config.Settings{
		ShopifyAPIKey: "fixture-client-id", ShopifyAPISecret: appSecret, ShopifyShop: shop, CustomerAccounts: "new",
		AppURL: "https://app.example", Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: "redis://" + kept.Addr,
		RechargeAPIToken: apiToken, RechargeStorefrontToken: storefront, RechargeRate: "2,40", RechargeAPIURL: w.recharge.URL,
		RechargePortalURL: w.recharge.URL + "/portal/", PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h",
		LinkTTL: "60s", RechargeTimeout: "3s", ClickTimeout: "8s", LogLevel: "debug", LogFormat: "json",
	}
	w.public = w.serve()
	w.app = w.before("http://"+w.public, httptest.NewTLSServer, func() http.HandlerFunc { return w.front })
	w.settings.AppURL = w.app.URL
	w.store.AddApp(shopifytest.App{PathPrefix: "/apps/subscriptions", ProxyURL: "http://" + w.public + "/apps/subscriptions", Secret: appSecret, OldSecret: "fixture-old-secret"})
	roots := x509.NewCertPool()
	roots.AddCert(w.app.Certificate())
	w.ask = doctor.Options{StoreURLs: []string{w.shown.URL}, Path: "/apps/subscriptions", Customer: pat, Roots: roots}
	return w
}

// before puts a proxy in front of target. Unless instead returns nil, that answers in its place.
func (w *ward) before(target string, start func(http.Handler) *httptest.Server, instead func() http.HandlerFunc) *httptest.Server {
	w.t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	s := start(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if f := instead(); f != nil {
			f(rw, r)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	w.t.Cleanup(s.Close)
	return s
}

// serve runs the program.
func (w *ward) serve() (public string) {
	w.t.Helper()
	cfg, err := w.settings.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	listening, ended := make(chan server.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg, server.Options{NoIndex: true, NoLook: true, Log: slog.New(slog.DiscardHandler), Listening: listening})
	}()
	w.t.Cleanup(stop)
	select {
	case at := <-listening:
		public = at.Public.String()
		w.t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				w.t.Errorf("Run: %v", err)
			}
		})
	case err := <-ended:
		w.t.Fatalf("Run: %v", err)
	}
	return public
}

// legacy gives the store legacy customer accounts.
func (w *ward) legacy() { w.store.SetAccounts("legacy") }

// unity sets by hand that the portal is in the Shopify account, at this address.
func (w *ward) unity(page string) {
	w.recharge.SetUnity(true)
	w.settings.PortalLink, w.settings.AccountPortalURL = "account", page
}

// detected saves what a server has detected, where nothing is set by hand, except for unity.
func (w *ward) detected(seen store.Traits) {
	w.t.Helper()
	w.settings.CustomerAccounts = "auto"
	keep := w.keep(store.DeriveKey(appSecret))
	for saved := false; !saved; time.Sleep(time.Millisecond) { // until the server has created the record
		err := keep.Update(w.t.Context(), shop, func(r *store.Record) bool {
			r.Connection, saved = &store.Connection{Shop: shop, Detected: seen}, true
			return true
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// keep opens the program's Redis.
func (w *ward) keep(key []byte) *store.Store {
	w.t.Helper()
	keep, err := store.Open(store.Options{
		Redis: &redis.UniversalOptions{Addrs: []string{strings.TrimPrefix(w.settings.RedisURL, "redis://")}}, Keys: [][]byte{key},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = keep.Close() })
	return keep
}

// manyStores removes the settings for one store.
func (w *ward) manyStores() {
	w.settings.ShopifyShop, w.settings.RechargeAPIToken, w.settings.RechargeStorefrontToken, w.settings.RechargePortalURL = "", "", "", ""
	w.settings.EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
}

// examine runs doctor and searches everything it says for secrets.
func (w *ward) examine() (doctor.Report, string) {
	w.t.Helper()
	cfg, err := w.settings.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	begun := time.Now()
	report, err := server.Doctor(w.t.Context(), cfg, w.ask,
		server.Options{Now: func() time.Time { return time.Now().Add(w.skew) }})
	if err != nil {
		w.t.Fatal(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		w.t.Errorf("it took %v; want less than 20 s", took)
	}
	report.Print(&out, true)
	if err := json.NewEncoder(&out).Encode(report); err != nil {
		w.t.Fatal(err)
	}
	w.silent(out.String())
	return report, out.String()
}

// silent fails the test if said holds a secret that was configured, or that the emulators have seen
// or handed out.
func (w *ward) silent(said string) {
	w.t.Helper()
	secrets := []string{appSecret, apiToken, storefront, pat, hash, email, "70100200", "robin@", "aaaabbbbccccdddd", "hush-hush", "aHVzaC1odXNo"}
	for _, request := range w.recharge.Requests() {
		secrets = append(secrets, request.Header.Get("X-Recharge-Access-Token"))
	}
	for _, forwarded := range w.store.Forwarded() {
		query, _ := url.ParseQuery(forwarded.Query)
		secrets = append(secrets, query.Get("signature"))
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(said, secret) {
			w.t.Errorf("it says %q:\n%s", secret, said)
		}
	}
}

func find(t *testing.T, report doctor.Report, name string) doctor.Check {
	t.Helper()
	for _, check := range report.Checks {
		if check.Name == name {
			return check
		}
	}
	t.Fatalf("there is no check %s in %+v", name, report)
	return doctor.Check{}
}

func TestHealthy(t *testing.T) {
	kept := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always") // from 7.2 on, everysec is enough
	w := newWard(t, kept)
	before := kept.Dump() // what the server keeps
	report, said := w.examine()
	for key := range kept.Dump() {
		if _, was := before[key]; !was && key != "ms2:instances" && !strings.HasSuffix(key, "}:b") && !strings.Contains(key, "}:h:") {
			t.Errorf("Redis has %s; want only the spending of the token's shared budget, and the server's counters of the clicks", key)
		}
	}
	for _, check := range report.Checks {
		if check.Status != doctor.OK || check.Remedy != "" || check.Found == "" || check.Asked == "" {
			t.Errorf("%+v; want ok, and nothing to do", check)
		}
	}
	if !report.OK || len(report.Checks) < 24 {
		t.Errorf("%d checks, ok: %v; want all of them:\n%s", len(report.Checks), report.OK, said)
	}
	if n := len(w.recharge.Requests()); n > 10 {
		t.Errorf("%d calls of Recharge; want no more than 10", n)
	}
	t.Log("\n" + said)
}

// TestWithoutCustomer: no session is made without --customer.
func TestWithoutCustomer(t *testing.T) {
	w := newWard(t, storetest.Redis(t, "--appendonly", "yes"))
	w.ask.Customer, w.ask.StoreURLs = "", nil
	report, _ := w.examine()
	for _, name := range []string{"recharge.customer", "recharge.session", "recharge.session_key", "recharge.portal_access"} {
		if got := find(t, report, name); got.Status != doctor.Skipped || !strings.Contains(got.Remedy, "pass --customer") {
			t.Errorf("%+v; want skipped, pass --customer", got)
		}
	}
	if got := find(t, report, "proxy.reach"); got.Status != doctor.Skipped || !strings.Contains(got.Remedy, "pass --store-url") {
		t.Errorf("%+v; want skipped, pass --store-url", got)
	}
	for _, request := range w.recharge.Requests() {
		if request.Method != http.MethodGet {
			t.Errorf("%s %s; want nothing but GET", request.Method, request.Path)
		}
	}
	if !report.OK {
		t.Error("the report is not ok; want it ok with skipped checks")
	}
}

// TestSeveralStorefronts checks that each storefront of a store has lines that name it.
func TestSeveralStorefronts(t *testing.T) {
	w := newWard(t, storetest.Redis(t, "--appendonly", "yes"))
	ailing := w.before(w.store.URL, httptest.NewServer, func() http.HandlerFunc { return instead(404, "", "") })
	w.ask.StoreURLs = append(w.ask.StoreURLs, ailing.URL)
	report, said := w.examine()
	for _, want := range []struct {
		check, at string
		status    doctor.Status
	}{
		{"proxy.reach", w.shown.URL, doctor.OK},
		{"proxy.redirect", w.shown.URL, doctor.OK},
		{"store.accounts", w.shown.URL, doctor.OK},
		{"proxy.reach", ailing.URL, doctor.Fail},
		{"proxy.redirect", ailing.URL, doctor.Skipped},
		{"store.accounts", ailing.URL, doctor.Warn},
	} {
		if !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool {
			return c.Name == want.check && c.Status == want.status && strings.Contains(c.Asked, "GET "+want.at+"/")
		}) {
			t.Errorf("no line says %s of %s at %s:\n%s", want.status, want.check, want.at, said)
		}
	}
	if got := find(t, report, "clock"); strings.Count(got.Found, "127.0.0.1:") != 2 {
		t.Errorf("%+v; want the clocks of both storefronts", got)
	}
}

// TestPrint checks the last line, and that skipped checks are one line unless all are asked for.
func TestPrint(t *testing.T) {
	t.Parallel()
	report := doctor.Report{Checks: []doctor.Check{
		{Name: "a", Status: doctor.OK}, {Name: "b", Status: doctor.Warn, Remedy: "remedy b"},
		{Name: "c", Status: doctor.Skipped, Remedy: "fix d"}, {Name: "d", Status: doctor.Fail, Remedy: "remedy d"},
		{Name: "e", Status: doctor.Skipped, Remedy: "fix d"}, {Name: "f", Status: doctor.Skipped, Remedy: "pass --f"},
	}}
	for _, test := range []struct {
		checks     []doctor.Check
		verbose    bool
		ends, said string
	}{
		{report.Checks, false, "\n1 passed, 1 warning, 1 failed, 3 skipped. First, fix d: remedy d.\n",
			"skipped  3 checks; --verbose lists them\n         -> fix d\n         -> pass --f\n"},
		{report.Checks, true, "\n1 passed, 1 warning, 1 failed, 3 skipped. First, fix d: remedy d.\n", "skipped  e: "},
		{report.Checks[:3], false, "\n1 passed, 1 warning, 0 failed, 1 skipped. First, fix b: remedy b.\n", "warn     b: "},
		{report.Checks[:1], false, "\n1 passed, 0 warnings, 0 failed, 0 skipped.\n", "ok       a: "},
	} {
		var out bytes.Buffer
		doctor.Report{Checks: test.checks}.Print(&out, test.verbose)
		if !strings.HasSuffix(out.String(), test.ends) || !strings.Contains(out.String(), test.said) {
			t.Errorf("it prints\n%s\nwant %q, and %q at the end", &out, test.said, test.ends)
		}
	}
}

// TestVisitTwice opens the link that doctor prints twice, as a person would. Without the flag and in JSON there is no
// link.
func TestVisitTwice(t *testing.T) {
	w := newWard(t, storetest.Redis(t, "--appendonly", "yes"), func(w *ward) { w.burst = 1000 })
	w.ask.StoreURLs, w.settings.RechargeRate = nil, "2,1000"
	if report, _ := w.examine(); report.Link != "" {
		t.Error("without --visit-twice there is a link")
	}
	w.ask.VisitTwice = true
	for _, once := range []bool{false, true} {
		w.recharge.SetFaults(func(f *rechargetest.Faults) { f.OneVisit = once })
		report := w.link()
		var out bytes.Buffer
		report.Print(&out, true)
		link := regexp.MustCompile(`(?m)^http.*token=.*$`).FindString(out.String())
		if link == "" || link != report.Link || !strings.Contains(out.String(), "set PREPARE=once") {
			t.Fatalf("it prints\n%s\nwant a link, and what to do", &out)
		}
		for visit, want := range []string{"Coffee", map[bool]string{false: "Coffee", true: "Enter your e-mail"}[once]} {
			response, err := http.Get(link) // keeps no cookies, like a private window
			if err != nil {
				t.Fatal(err)
			}
			page, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if !strings.Contains(string(page), want) {
				t.Errorf("one visit %v, visit %d: the page does not have %q:\n%s", once, visit+1, want, page)
			}
		}
		said, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		w.silent(string(said))
	}
	w.recharge.SetPortalBase("https://evil.example/portal/")
	if report := w.link(); report.Link != "" || find(t, report, "recharge.base_url").Status != doctor.Fail {
		t.Errorf("it prints %q; want no link to a host that is not trusted", report.Link)
	}
	w.ask.Customer = ""
	if report := w.link(); report.Link != "" || !strings.Contains(find(t, report, "recharge.customer").Remedy, "pass --customer") {
		t.Errorf("without --customer it prints %q; want no link, and to pass one", report.Link)
	}
}

// link runs doctor for the link that it prints.
func (w *ward) link() doctor.Report {
	w.t.Helper()
	cfg, err := w.settings.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	report, err := server.Doctor(w.t.Context(), cfg, w.ask, server.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// hang returns an address that accepts connections and never answers.
func hang(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []net.Conn
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range all {
			_ = conn.Close()
		}
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, conn)
			mu.Unlock()
		}
	}()
	return listener.Addr().String()
}

func faults(change func(*rechargetest.Faults)) func(*ward) {
	return func(w *ward) { w.recharge.SetFaults(change) }
}

func shopFaults(change func(*shopifytest.Faults)) func(*ward) {
	return func(w *ward) { w.store.SetFaults(change) }
}

func instead(status int, location, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// portalSays changes Recharge's answer to GET /portal_access.
func portalSays(change func(answer map[string]any)) func(*ward) {
	return func(w *ward) {
		u, err := url.Parse(w.recharge.URL)
		if err != nil {
			w.t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(u)
		proxy.ModifyResponse = func(r *http.Response) error {
			if r.Request.URL.Path != "/portal_access" {
				return nil
			}
			var answer map[string]any
			if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
				return err
			}
			change(answer)
			body, err := json.Marshal(answer)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return err
		}
		front := httptest.NewServer(proxy)
		w.t.Cleanup(front.Close)
		w.settings.RechargeAPIURL = front.URL
	}
}

// onlyClicks answers clicks in place of the storefront.
func onlyClicks(w *ward, status int) http.HandlerFunc { return clicks(w, instead(status, "", "")) }

// refusesClicks is a Shopify that follows a redirect itself, without a signature, and so gets this
// program's refusal.
func refusesClicks(w *ward) http.HandlerFunc {
	return clicks(w, func(rw http.ResponseWriter, _ *http.Request) {
		instead(403, "", "<body>\n<main data-outcome=\"forbidden\">\n")(rw, nil)
	})
}

func clicks(w *ward, answer http.HandlerFunc) http.HandlerFunc {
	u, err := url.Parse(w.store.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	store := httputil.NewSingleHostReverseProxy(u)
	return func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/status") {
			answer(rw, r)
			return
		}
		store.ServeHTTP(rw, r)
	}
}

// TestFaults causes one fault at a time. The check of that name reports it and how to fix it.
func TestFaults(t *testing.T) {
	tests := map[string]struct {
		before func(*ward)
		turn   func(*ward)
		check  string
		status doctor.Status
		found  string
		remedy string
	}{
		// Faults of the server.
		"another app's secret here": {turn: func(w *ward) { w.settings.ShopifyAPISecret = "hush-hush-other" },
			check: "app.server", status: doctor.Fail, found: "refuses", remedy: "SHOPIFY_API_SECRET"},
		"two secrets": {turn: func(w *ward) { w.settings.ShopifyAPISecret = appSecret + ",hush-hush-old" },
			check: "configuration", status: doctor.Warn, found: "two app secrets", remedy: "SHOPIFY_API_SECRET"},
		"clock a little off": {turn: func(w *ward) { w.skew = 45 * time.Second },
			check: "clock", status: doctor.Warn, found: "s", remedy: "NTP"},
		"clock far off": {turn: func(w *ward) { w.skew = 85 * time.Second },
			check: "clock", status: doctor.Fail, found: "APP_URL: -8", remedy: "NTP"},
		"a cache's clock is nobody's": {turn: func(w *ward) {
			w.mask = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Age", "3600")
				rw.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
				rw.WriteHeader(http.StatusNotFound)
			}
		}, check: "clock", status: doctor.OK, found: "APP_URL"},
		"the store as somebody types it": {turn: func(w *ward) {
			lower := strings.Replace(w.shown.URL, "127.0.0.1", "localhost", 1)
			w.ask.StoreURLs = []string{strings.Replace(lower, "localhost", "LocalHost", 1)}
			w.mask = clicks(w, instead(302, lower+"/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%3Fms_returned%3D1", ""))
		}, check: "proxy.redirect", status: doctor.OK, found: "it does"},
		"nobody vouches": {turn: func(w *ward) { w.ask.Roots = x509.NewCertPool() },
			check: "app.reach", status: doctor.Fail, found: "not trusted", remedy: "certificate"},
		"another host's certificate": {turn: func(w *ward) { w.settings.AppURL = strings.Replace(w.app.URL, "127.0.0.1", "localhost", 1) },
			check: "app.reach", status: doctor.Fail, found: "another host", remedy: "host in APP_URL"},
		"certificate over": {turn: func(w *ward) { w.settings.AppURL = certified(w, -time.Hour) },
			check: "app.reach", status: doctor.Fail, found: "expired", remedy: "renew"},
		"certificate nearly over": {turn: func(w *ward) { w.settings.AppURL = certified(w, 5*24*time.Hour) },
			check: "app.certificate", status: doctor.Warn, found: "4 days", remedy: "renew"},
		"no TLS": {turn: func(w *ward) { w.settings.AppURL = strings.Replace(w.shown.URL, "http:", "https:", 1) },
			check: "app.reach", status: doctor.Fail, found: "TLS", remedy: "TLS"},
		"app down": {turn: func(w *ward) { w.app.Close() },
			check: "app.reach", status: doctor.Fail, found: "no connection", remedy: "runs"},
		"another program": {turn: func(w *ward) { w.front = instead(200, "", "It works!") },
			check: "app.refuses", status: doctor.Fail, found: "status 200", remedy: "APP_URL"},

		"server down behind its proxy": {turn: func(w *ward) { w.front = instead(502, "", "Bad Gateway") },
			check: "app.refuses", status: doctor.Fail, found: "gets no answer from it", remedy: "server runs"},
		"a stranger gets nothing signed": {turn: func(w *ward) { w.front = instead(200, "", "It works!") },
			check: "app.server", status: doctor.Skipped, found: "another program", remedy: "app.refuses"},

		// Faults of the store.
		"asked too often for a redirect": {turn: func(w *ward) { w.mask = onlyClicks(w, 429) },
			check: "proxy.redirect", status: doctor.Warn, found: "429", remedy: "in a minute"},
		"suspicious": {turn: func(w *ward) { w.mask = instead(430, "", "") },
			check: "proxy.reach", status: doctor.Warn, found: "430", remedy: "in a minute"},
		"a status that says nothing": {turn: func(w *ward) { w.mask = onlyClicks(w, 405) },
			check: "proxy.redirect", status: doctor.Fail, found: "405", remedy: "in a minute"},
		"Shopify follows by itself": {turn: func(w *ward) { w.mask = refusesClicks(w) },
			check: "proxy.redirect", status: doctor.Fail, found: "does not", remedy: "REDIRECT=page"},
		"Shopify follows by itself, which is known": {turn: func(w *ward) { w.mask, w.settings.Redirect = refusesClicks(w), "page" },
			check: "proxy.redirect", status: doctor.OK, found: "REDIRECT=page"},
		"no redirect for lack of a server": {turn: func(w *ward) { w.mask = onlyClicks(w, 503) },
			check: "proxy.redirect", status: doctor.Fail, found: "503", remedy: "app.reach"},
		"password page": {turn: func(w *ward) { w.mask = instead(302, "/password", "") },
			check: "proxy.reach", status: doctor.Fail, found: "password page", remedy: "remove the password"},
		"no proxy": {turn: func(w *ward) { w.ask.Path = "/apps/other" },
			check: "proxy.reach", status: doctor.Fail, found: "404", remedy: "prefix apps, subpath subscriptions"},
		"server not reached": {turn: func(w *ward) { w.mask = instead(502, "", "There was an error in the third-party application") },
			check: "proxy.reach", status: doctor.Fail, found: "502", remedy: "app.reach"},
		"wrong secret": {turn: shopFaults(func(f *shopifytest.Faults) { f.WrongSecret = true }),
			check: "proxy.reach", status: doctor.Fail, found: "403 of this program", remedy: "SHOPIFY_API_SECRET"},
		"old request": {turn: shopFaults(func(f *shopifytest.Faults) { f.ClockOffset = -5 * time.Minute }),
			check: "proxy.reach", status: doctor.Fail, found: "403 of this program", remedy: "clock"},
		"another store": {turn: shopFaults(func(f *shopifytest.Faults) { f.Shop = "other.myshopify.com" }),
			check: "proxy.redirect", status: doctor.Fail, found: "another store", remedy: "--store-url"},
		"another server": {turn: func(w *ward) {
			w.mask = instead(200, "", `{"signed_in":false,"subscriber":null,"active_subscriptions":null,"more":1}`)
		},
			check: "proxy.reach", status: doctor.Fail, found: "another program's", remedy: "prefix apps"},
		"the same text, not as JSON": {turn: func(w *ward) {
			w.mask = instead(200, "", `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`)
		}, check: "proxy.reach", status: doctor.Fail, found: "another program's", remedy: "prefix apps"},
		"headers dropped": {turn: func(w *ward) {
			w.mask = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(rw, `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`)
			}
		}, check: "proxy.reach", status: doctor.Warn, found: "no-store", remedy: "caches"},
		"a click would end signed in": {turn: func(*ward) {},
			check: "recharge.click", status: doctor.OK, found: "redirected: 302 to the portal at"},
		"a click of a stranger's": {turn: func(w *ward) { w.ask.Customer = "6100200309999" },
			check: "recharge.click", status: doctor.Warn, found: "not_a_subscriber", remedy: "subscribes"},
		"a click without a session": {turn: faults(func(f *rechargetest.Faults) { f.RefuseSessions = true }),
			check: "recharge.click", status: doctor.Warn, found: "redirected_by_hash", remedy: "above"},
		"a click to a portal that is not configured": {turn: func(w *ward) { w.recharge.SetPortalBase("https://portal.brand.example/portal/") },
			check: "recharge.click", status: doctor.Warn, found: "redirected_by_hash", remedy: "above"},
		"primary domain": {turn: func(w *ward) { w.mask = instead(301, "https://www.brand.example/apps/subscriptions/status", "") },
			check: "proxy.reach", status: doctor.Fail, found: "www.brand.example", remedy: "--store-url http://www.brand.example"},
		"firewall": {turn: func(w *ward) { w.mask = instead(403, "", "<html>blocked</html>") },
			check: "proxy.reach", status: doctor.Fail, found: "403, not this program's", remedy: "firewall"},
		"redirect followed": {turn: func(w *ward) { w.mask = followed(w) },
			check: "proxy.redirect", status: doctor.Fail, found: "does not", remedy: "REDIRECT=page"},

		// The store's customer accounts, and its portal.
		"accounts as set": {turn: func(*ward) {},
			check: "store.accounts", status: doctor.OK, found: "new, which clicks go by, set by hand"},
		"legacy accounts, new set": {turn: func(w *ward) { w.legacy() },
			check: "store.accounts", status: doctor.Warn, found: "legacy, but new is set by hand", remedy: "CUSTOMER_ACCOUNTS"},
		"accounts of an unknown storefront": {turn: func(w *ward) { w.ask.StoreURLs = nil },
			check: "store.accounts", status: doctor.Skipped, found: "the storefront is not known", remedy: "--store-url"},
		"accounts of a store that has not connected": {turn: func(w *ward) { w.settings.RechargeAPIToken = "" },
			check: "store.accounts", status: doctor.Skipped, found: "no token", remedy: "RECHARGE_API_TOKEN"},
		"the portal without a storefront": {turn: func(w *ward) {
			w.unity("https://account.brand.test/pages/0199a3f0")
			w.detected(store.Traits{AccountHost: "account.brand.test"})
			w.ask.StoreURLs = nil
		}, check: "store.portal", status: doctor.OK, found: "at account.brand.test"},
		"legacy set, new shown": {turn: func(w *ward) { w.settings.CustomerAccounts = "legacy" },
			check: "store.accounts", status: doctor.Warn, found: "new, but legacy is set by hand", remedy: "CUSTOMER_ACCOUNTS=auto"},
		"legacy shown, nothing detected": {turn: func(w *ward) { w.legacy(); w.settings.CustomerAccounts = "auto" },
			check: "store.accounts", status: doctor.Warn, found: "legacy, but clicks go by new, by default", remedy: "Look again"},
		"legacy shown, current detected": {turn: func(w *ward) {
			w.detected(store.Traits{Accounts: "new"})
			w.legacy()
		}, check: "store.accounts", status: doctor.Warn, found: "legacy, but clicks go by new, detected", remedy: "Look again"},
		"legacy shown and detected": {turn: func(w *ward) {
			w.detected(store.Traits{Accounts: "legacy"})
			w.legacy()
		}, check: "store.accounts", status: doctor.OK, found: "legacy, which clicks go by, detected"},
		"a sign-in that tells nothing": {turn: func(w *ward) { w.mask = instead(200, "", "<html>") },
			check: "store.accounts", status: doctor.Warn, found: "does not show it; clicks go by new ones, set by hand", remedy: "Customer accounts"},
		"a store with a password": {turn: func(w *ward) { w.mask = instead(302, "/password", "") },
			check: "store.accounts", status: doctor.Warn, found: "could not be looked at", remedy: "password"},
		"no bots": {turn: shopFaults(func(f *shopifytest.Faults) { f.Bots = 430 }),
			check: "store.accounts", status: doctor.Warn, found: "could not be looked at", remedy: "--crawler-headers"},
		"a bot with a signature": {turn: func(w *ward) {
			w.store.SetFaults(func(f *shopifytest.Faults) { f.Bots = 403 })
			w.ask.CrawlerHeaders = []byte(crawler)
		}, check: "store.accounts", status: doctor.OK, found: "new, which clicks go by, set by hand"},
		"signed in": {turn: func(*ward) {},
			check: "store.portal", status: doctor.OK, found: "(Affinity), signed in, by default"},
		"signed in, detected": {turn: func(w *ward) { w.detected(store.Traits{Link: "signed_in"}) },
			check: "store.portal", status: doctor.OK, found: "(Affinity), signed in, detected"},
		"a portal by hash": {turn: func(w *ward) { w.settings.PortalLink = "hash" },
			check: "store.portal", status: doctor.OK, found: "(Affinity), by hash, set by hand"},
		"by hash, detected": {turn: func(w *ward) { w.detected(store.Traits{Link: "hash"}) },
			check: "recharge.session", status: doctor.Skipped, found: "links are by hash"},
		"in the account": {turn: func(w *ward) { w.unity(w.store.AccountPage()) },
			check: "store.portal", status: doctor.OK, found: "in the Shopify account (Recharge Unity), set by hand, at 127.0.0.1:"},
		"in the account, no session": {turn: func(w *ward) { w.unity(w.store.AccountPage()) },
			check: "recharge.session", status: doctor.Skipped, found: "in the Shopify account: no session"},
		"in the account, a click": {turn: func(w *ward) { w.unity(w.store.AccountPage()) },
			check: "recharge.click", status: doctor.OK, found: "redirected: 302 to the portal at 127.0.0.1:"},
		"in the account on Shopify": {turn: func(w *ward) { w.unity("https://shopify.com/1234567890/account/pages/0199a3f0") },
			check: "store.portal", status: doctor.OK, found: "at shopify.com"},
		"in an account that has moved": {turn: func(w *ward) {
			w.unity("https://account.brand.test/pages/0199a3f0")
			w.detected(store.Traits{AccountHost: "account.brand.test"})
		}, check: "store.portal", status: doctor.Fail, found: "at account.brand.test, where the store does not have", remedy: "ACCOUNT_PORTAL_URL"},
		"in an account elsewhere than detected": {turn: func(w *ward) {
			w.unity("https://account.brand.test/pages/0199a3f0")
			w.detected(store.Traits{AccountHost: "account.other.test"})
			w.store.SetFaults(func(f *shopifytest.Faults) { f.Bots = 430 })
		}, check: "store.portal", status: doctor.Fail, found: "at account.brand.test, where", remedy: "ACCOUNT_PORTAL_URL"},
		"in an account that has moved there": {turn: func(w *ward) {
			w.unity(w.store.AccountPage())
			w.detected(store.Traits{AccountHost: "account.other.test"})
		}, check: "store.portal", status: doctor.Warn, found: "where clicks do not lead until", remedy: "Look again"},
		"in the account, which is legacy": {turn: func(w *ward) {
			w.legacy()
			w.unity(w.store.AccountPage())
		}, check: "store.portal", status: doctor.Warn, found: "legacy accounts", remedy: "current customer accounts"},
		"in the account, and legacy is set": {turn: func(w *ward) {
			w.legacy()
			w.unity(w.store.AccountPage())
			w.settings.CustomerAccounts = "legacy"
		}, check: "store.portal", status: doctor.Warn, found: "legacy accounts", remedy: "current customer accounts"},
		"in the account, detected": {turn: func(w *ward) { w.detected(store.Traits{Link: "account"}) },
			check: "store.portal", status: doctor.Warn, found: "(Recharge Unity), detected; its page is not known", remedy: "ACCOUNT_PORTAL_URL"},
		"Unity, not chosen": {turn: func(w *ward) { w.recharge.SetUnity(true) },
			check: "recharge.portal_access", status: doctor.Fail, found: "(404)", remedy: "PORTAL_LINK=account"},

		// Faults of Recharge.
		"bad token": {turn: func(w *ward) { w.settings.RechargeAPIToken = "hush-hush-token" },
			check: "recharge.token", status: doctor.Fail, found: "bad token (401)", remedy: "RECHARGE_API_TOKEN"},
		"no token": {turn: func(w *ward) { w.settings.RechargeAPIToken = "" },
			check: "recharge.token", status: doctor.Fail, found: "no token", remedy: "RECHARGE_API_TOKEN"},
		"no read scope": {before: func(w *ward) { w.scopes = []string{"write_session"} },
			check: "recharge.scopes", status: doctor.Fail, found: "write_session", remedy: "read_customers"},
		"no session scope": {before: func(w *ward) { w.scopes = []string{"read_customers"} },
			check: "recharge.scopes", status: doctor.Warn, found: "none for sessions", remedy: "write_session"},
		"the other spelling": {before: func(w *ward) { w.scopes = []string{"read_customers", "write_sessions"} },
			check: "recharge.scopes", status: doctor.OK, found: "write_sessions"},
		"no scope for the store": {before: func(w *ward) { w.scopes = []string{"read_customers", "write_session"} },
			check: "recharge.store", status: doctor.Skipped, found: "may not ask", remedy: "read_store"},
		"another store's token": {turn: func(w *ward) { w.settings.ShopifyShop = "other-shop.myshopify.com" },
			check: "recharge.store", status: doctor.Fail, found: "another store's", remedy: "SHOPIFY_SHOP"},
		"portal elsewhere": {turn: func(w *ward) { w.recharge.SetPortalBase("https://portal.brand.example/portal/") },
			check: "recharge.base_url", status: doctor.Fail, found: "portal.brand.example", remedy: "RECHARGE_PORTAL_URL"},
		"portal elsewhere, the store says": {turn: func(w *ward) { w.recharge.SetPortalBase("https://portal.brand.example/portal/") },
			check: "recharge.store", status: doctor.Warn, found: "portal.brand.example", remedy: "RECHARGE_PORTAL_URL"},
		"filter ignored": {turn: faults(func(f *rechargetest.Faults) { f.IgnoreFilter = true }),
			check: "recharge.filter", status: doctor.Fail, found: "ignored", remedy: "index"},
		"no customers": {turn: func(w *ward) { w.recharge.SetCustomers(nil) },
			check: "recharge.filter", status: doctor.Warn, found: "no customers", remedy: "again"},
		"unknown customer": {turn: func(w *ward) { w.ask.Customer = "6100200309999" },
			check: "recharge.customer", status: doctor.Warn, found: "does not know", remedy: "subscribes"},
		"sessions refused": {turn: faults(func(f *rechargetest.Faults) { f.RefuseSessions = true }),
			check: "recharge.session", status: doctor.Fail, found: "scope missing (403)", remedy: "write_session"},
		"the link alone leads elsewhere": {turn: portalSays(func(a map[string]any) { a["portal_url"] = "https://portal.brand.example/" + hash + "/" }),
			check: "recharge.base_url", status: doctor.Fail, found: "portal.brand.example", remedy: "on portal.brand.example"},
		"the link has no hash": {turn: func(w *ward) {
			base := w.recharge.URL
			portalSays(func(a map[string]any) { a["portal_url"] = base + "/portal/somebody/" })(w)
		}, check: "recharge.base_url", status: doctor.Fail, found: "hash is not where it should be", remedy: "Recharge's support"},
		"no base": {turn: portalSays(func(a map[string]any) { a["base_url"] = "" }),
			check: "recharge.base_url", status: doctor.Warn, found: "the link itself is good", remedy: "Recharge's support"},
		"a base that tells": {turn: portalSays(func(a map[string]any) { a["base_url"] = "https://x.rechargeapps.com/portal-" + hash + "/" }),
			check: "recharge.base_url", status: doctor.Warn, found: "no usable one", remedy: "Recharge's support"},
		"no Storefront token": {turn: func(w *ward) { w.settings.RechargeStorefrontToken = "" },
			check: "recharge.session", status: doctor.Fail, found: "without a Storefront token", remedy: "set it as RECHARGE_STOREFRONT_TOKEN"},
		"wrong Storefront token": {turn: func(w *ward) { w.settings.RechargeStorefrontToken = "strfnt_hush-hush" },
			check: "recharge.session", status: doctor.Fail, found: "refused", remedy: "in this store's Recharge, with the scope for sessions, and set it as RECHARGE_STOREFRONT_TOKEN"},
		"needs the Storefront token": {turn: func(*ward) {},
			check: "recharge.session_bare", status: doctor.OK, found: "needs the Storefront token"},
		"somebody else's session": {turn: faults(func(f *rechargetest.Faults) { f.ForeignSession = true }),
			check: "recharge.session", status: doctor.Fail, found: "another customer's", remedy: "PORTAL_LINK=hash"},
		"snake case": {turn: faults(func(f *rechargetest.Faults) { f.SnakeCaseSession = true }),
			check: "recharge.session_key", status: doctor.OK, found: "api_token"},
		"portal access refused": {turn: faults(func(f *rechargetest.Faults) { f.RefusePortalAccess = true }),
			check: "recharge.portal_access", status: doctor.Fail, found: "bad token (401)", remedy: "portal access"},
		"somebody else's portal": {turn: faults(func(f *rechargetest.Faults) { f.ForeignPortal = true }),
			check: "recharge.portal_access", status: doctor.Fail, found: "another customer's", remedy: "PORTAL_LINK=hash"},
		"without a zone": {turn: func(*ward) {},
			check: "recharge.expires_at", status: doctor.OK, found: "without a zone, taken as UTC; in 24 h"},
		"zoned": {turn: faults(func(f *rechargetest.Faults) { f.ZonedExpiry = true }),
			check: "recharge.expires_at", status: doctor.OK, found: "with a zone; in 24 h"},
		"limited": {turn: faults(func(f *rechargetest.Faults) { f.Limited = true }),
			check: "recharge.token", status: doctor.Warn, found: "rate limited (429)", remedy: "in a minute"},
		"retry after": {turn: faults(func(f *rechargetest.Faults) {
			f.Limited, f.RetryAfter, f.Only = true, 2*time.Second, rechargetest.EndpointPortalAccess
		}), check: "recharge.limits", status: doctor.Warn, found: "Retry-After was seen", remedy: "token"},
		"slow, in time": {turn: faults(func(f *rechargetest.Faults) { f.Latency, f.Only = 2*time.Second, rechargetest.EndpointToken }),
			check: "recharge.latency", status: doctor.Warn, found: "2.", remedy: "RECHARGE_TIMEOUT"},
		"small bucket": {before: func(w *ward) { w.burst = 20 },
			check: "recharge.limits", status: doctor.Warn, found: "/20", remedy: "RECHARGE_RATE to 20"},
		"5xx": {turn: faults(func(f *rechargetest.Faults) { f.Status = 503 }),
			check: "recharge.token", status: doctor.Fail, found: "unavailable (503)", remedy: "wait"},
		"down": {turn: faults(func(f *rechargetest.Faults) { f.Down = true }),
			check: "recharge.token", status: doctor.Fail, found: "unreachable", remedy: "RECHARGE_API_URL"},
		"cut short": {turn: faults(func(f *rechargetest.Faults) { f.Truncate = true }),
			check: "recharge.token", status: doctor.Fail, found: "malformed", remedy: "wait"},
		"404": {turn: func(w *ward) { w.settings.RechargeAPIURL += "/nowhere" },
			check: "recharge.token", status: doctor.Fail, found: "not found (404)", remedy: "RECHARGE_API_URL"},
		"slow": {turn: faults(func(f *rechargetest.Faults) { f.Latency = time.Hour }),
			check: "recharge.token", status: doctor.Fail, found: "too slow", remedy: "RECHARGE_TIMEOUT"},

		// Faults of Redis.
		"no Redis": {turn: func(w *ward) { w.settings.RedisURL = "" },
			check: "redis", status: doctor.Warn, found: "in memory", remedy: "REDIS_URL"},
		"Redis down": {turn: func(w *ward) { w.settings.RedisURL = "redis://127.0.0.1:1" },
			check: "redis.reach", status: doctor.Fail, found: "no connection", remedy: "REDIS_URL"},
		"Redis hangs": {turn: func(w *ward) { w.settings.RedisURL = "redis://" + hang(w.t) },
			check: "redis.reach", status: doctor.Fail, found: "no answer in time", remedy: "REDIS_URL"},
		"wrong password": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://:hush-hush@" + storetest.Redis(w.t, "--requirepass", "right").Addr
		}, check: "redis.reach", status: doctor.Fail, found: "user or password", remedy: "REDIS_URL"},
		"no password": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--requirepass", "right").Addr
		}, check: "redis.reach", status: doctor.Fail, found: "user or password", remedy: "REDIS_URL"},
		"evicts": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--maxmemory-policy", "allkeys-lru").Addr
			w.manyStores()
		}, check: "redis.eviction", status: doctor.Fail, found: "the server does not start", remedy: "to noeviction"},
		"evicts, one store": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--maxmemory-policy", "allkeys-lru").Addr
		}, check: "redis.eviction", status: doctor.Warn, found: "a customer who has moved", remedy: "to noeviction"},
		"keeps nothing": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t).Addr
			w.manyStores()
		}, check: "redis.persistence", status: doctor.Warn, found: "keeps nothing on disk", remedy: "appendonly yes"},
		"keeps nothing, one store": {turn: func(w *ward) { w.settings.RedisURL = "redis://" + storetest.Redis(w.t).Addr },
			check: "redis.persistence", status: doctor.OK, found: "looked up again"},
		"leaves it to the system": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--appendonly", "yes", "--appendfsync", "no").Addr
			w.manyStores()
		}, check: "redis.persistence", status: doctor.Warn, found: "appendfsync no", remedy: "appendfsync everysec"},
		"a replica": {turn: func(w *ward) {
			_, port, _ := strings.Cut(storetest.Redis(w.t).Addr, ":")
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--replicaof", "127.0.0.1 "+port).Addr
		}, check: "redis.write", status: doctor.Fail, found: "replica", remedy: "master"},
		"full": {turn: func(w *ward) { w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--maxmemory", "100kb").Addr },
			check: "redis.write", status: doctor.Fail, found: "memory is full", remedy: "maxmemory"},
		"may not read all that a click reads": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://few:hush-hush@" + storetest.Redis(w.t, "--user", "few", "on", ">hush-hush", "~ms2:*", "+@connection", "+info", "+set", "+eval").Addr
		}, check: "redis.write", status: doctor.Fail, found: "denies this user", remedy: "rights"},
		"evicts, and keeps nothing": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--maxmemory-policy", "allkeys-lru").Addr
			w.manyStores()
		}, check: "redis.persistence", status: doctor.Warn, found: "keeps nothing on disk", remedy: "appendonly yes"},
		"may only read": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://ro:hush-hush@" + storetest.Redis(w.t, "--user", "ro", "on", ">hush-hush", "~ms2:*", "+@read", "+@connection", "+info").Addr
		}, check: "redis.write", status: doctor.Fail, found: "denies this user", remedy: "rights"},
		"redis:// to a port with TLS": {turn: func(w *ward) {
			s, _ := storetest.TLS(w.t)
			w.settings.RedisURL = "redis://" + s.Addr
		}, check: "redis.reach", status: doctor.Fail, found: "speaks TLS", remedy: "rediss:// in REDIS_URL"},
		"redis:// to a cluster with TLS and a password": {turn: func(w *ward) {
			s, _ := storetest.TLS(w.t, "--requirepass", "hush-hush")
			w.settings.RedisURL = "redis://:hush-hush@" + s.Addr + "?cluster=true"
		}, check: "redis.reach", status: doctor.Fail, found: "speaks TLS", remedy: "rediss:// in REDIS_URL"},
		"redis:// to sentinels with TLS": {turn: func(w *ward) {
			s, _ := storetest.TLS(w.t)
			w.settings.RedisURL = "redis://" + s.Addr + "?master_name=main"
		}, check: "redis.reach", status: doctor.Fail, found: "speaks TLS", remedy: "rediss:// in REDIS_URL"},
		"rediss:// to a port without TLS": {turn: func(w *ward) {
			w.settings.RedisURL = "rediss://" + storetest.Redis(w.t).Addr
		}, check: "redis.reach", status: doctor.Fail, found: "speaks no TLS", remedy: "redis:// in REDIS_URL"},
		"rediss:// to a cluster with a password and without TLS": {turn: func(w *ward) {
			w.settings.RedisURL = "rediss://:hush-hush@" + storetest.Redis(w.t, "--requirepass", "hush-hush").Addr + "?cluster=true"
		}, check: "redis.reach", status: doctor.Fail, found: "speaks no TLS", remedy: "redis:// in REDIS_URL"},
		"rediss:// to sentinels without TLS": {turn: func(w *ward) {
			w.settings.RedisURL = "rediss://" + storetest.Redis(w.t).Addr + "?master_name=main"
		}, check: "redis.reach", status: doctor.Fail, found: "speaks no TLS", remedy: "redis:// in REDIS_URL"},
		"Redis with an authority of one's own": {turn: func(w *ward) {
			s, _ := storetest.TLS(w.t)
			w.settings.RedisURL = "rediss://" + s.Addr
		}, check: "redis.reach", status: doctor.Fail, found: "certificate is not trusted", remedy: "SSL_CERT_FILE"},
		"rediss:// to nothing": {turn: func(w *ward) { w.settings.RedisURL = "rediss://127.0.0.1:1" },
			check: "redis.reach", status: doctor.Fail, found: "no connection", remedy: "REDIS_URL"},
		"rediss:// that hangs": {turn: func(w *ward) { w.settings.RedisURL = "rediss://" + hang(w.t) },
			check: "redis.reach", status: doctor.Fail, found: "no answer in time", remedy: "REDIS_URL"},
		"not a cluster": {turn: func(w *ward) { w.settings.RedisURL += "?cluster=true" },
			check: "redis.reach", status: doctor.Fail, found: "not a cluster", remedy: "cluster=true"},
		"a cluster's node": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--cluster-enabled", "yes").Addr
		}, check: "redis.cluster", status: doctor.Fail, found: "one node of a cluster", remedy: "cluster=true"},
		"a cluster without slots": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + storetest.Redis(w.t, "--cluster-enabled", "yes").Addr + "?cluster=true"
		}, check: "redis.reach", status: doctor.Fail, found: "slots", remedy: "--cluster check"},
		"a cluster without some of its slots": {turn: func(w *ward) {
			node := storetest.Redis(w.t, "--cluster-enabled", "yes").Addr
			client := redis.NewClient(&redis.Options{Addr: node})
			defer client.Close()
			if err := client.ClusterAddSlotsRange(w.t.Context(), 0, 99).Err(); err != nil {
				w.t.Fatal(err)
			}
			w.settings.RedisURL = "redis://" + node + "?cluster=true"
		}, check: "redis.cluster", status: doctor.Fail, found: "100 of 16384", remedy: "--cluster check"},
		"Redis hangs, Recharge does not": {turn: func(w *ward) { w.settings.RedisURL = "redis://" + hang(w.t) },
			check: "recharge.portal_access", status: doctor.OK, found: "a link came"},
		"page, and a 302 does not arrive": {turn: func(w *ward) { w.settings.Redirect, w.mask = "page", followed(w) },
			check: "proxy.redirect", status: doctor.OK, found: "REDIRECT=page"},
		"renamed by the merchant": {turn: func(w *ward) {
			w.store.AddApp(shopifytest.App{PathPrefix: "/tools/abo", ProxyURL: "http://" + w.public + "/apps/subscriptions", Secret: appSecret})
			w.ask.Path = "/tools/abo/"
		}, check: "proxy.redirect", status: doctor.OK, found: "prefix /tools/abo"},
		"server down behind Shopify": {turn: func(w *ward) {
			w.store.AddApp(shopifytest.App{PathPrefix: "/apps/down", ProxyURL: "http://127.0.0.1:1/apps/subscriptions", Secret: appSecret})
			w.ask.Path = "/apps/down"
		}, check: "proxy.reach", status: doctor.Fail, found: "502", remedy: "the proxy's url"},
		"proxy url without the path": {turn: func(w *ward) {
			w.store.AddApp(shopifytest.App{PathPrefix: "/apps/bare", ProxyURL: "http://" + w.public, Secret: appSecret})
			w.ask.Path = "/apps/bare"
		}, check: "proxy.redirect", status: doctor.OK, found: "prefix /apps/bare"},
		"proxy url with another path": {turn: func(w *ward) {
			w.store.AddApp(shopifytest.App{PathPrefix: "/apps/other", ProxyURL: "http://" + w.public + "/other", Secret: appSecret})
			w.ask.Path = "/apps/other"
		}, check: "proxy.reach", status: doctor.Fail, found: "404", remedy: "url APP_URL/apps/subscriptions"},
		"black hole": {turn: func(w *ward) { w.settings.AppURL = "https://" + hang(w.t) },
			check: "app.reach", status: doctor.Fail, found: "no answer in time", remedy: "firewall"},
		"by hash": {turn: func(w *ward) {
			w.settings.PortalLink = "hash"
			w.recharge.SetFaults(func(f *rechargetest.Faults) { f.Only, f.Status = rechargetest.EndpointSessions, 500 })
		},
			check: "recharge.limits", status: doctor.OK, found: "X-Recharge-Limit"},
		"everything hangs": {turn: func(w *ward) {
			w.settings.RedisURL = "redis://" + hang(w.t)
			w.settings.RechargeAPIURL = "http://" + hang(w.t)
			w.settings.AppURL = "https://" + hang(w.t)
			w.ask.StoreURLs = []string{"http://" + hang(w.t)}
		}, check: "proxy.reach", status: doctor.Fail, found: "no answer in time", remedy: "firewall"},
	}
	for i, name := range slices.Sorted(maps.Keys(tests)) {
		if i%2 == 1 && !suite.Whole() {
			continue
		}
		test := tests[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var before []func(*ward)
			if test.before != nil {
				before = append(before, test.before)
			}
			// Each has its own, since one token's budget is not enough for all.
			w := newWard(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), before...)
			if test.turn != nil {
				test.turn(w)
			}
			report, said := w.examine()
			got := find(t, report, test.check)
			if got.Status != test.status || !strings.Contains(got.Found, test.found) || !strings.Contains(got.Remedy, test.remedy) || test.remedy == "" && got.Remedy != "" {
				t.Errorf("%+v; want %s, %q, %q\n%s", got, test.status, test.found, test.remedy, said)
			}
			if got.Status == doctor.Fail && report.OK {
				t.Error("the report is ok although a check failed")
			}
		})
	}
}

// TestCrawlerHeaders: the signature goes with each request to the storefront, and to nobody else.
func TestCrawlerHeaders(t *testing.T) {
	w := newWard(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"))
	w.ask.CrawlerHeaders = []byte("\n" + crawler + "\n\n")
	var mu sync.Mutex
	var shown, app []*http.Request
	note := func(all *[]*http.Request, next http.Handler) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			*all = append(*all, r)
			mu.Unlock()
			next.ServeHTTP(rw, r)
		}
	}
	proxy := func(to string) http.Handler {
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		return httputil.NewSingleHostReverseProxy(u)
	}
	w.mask, w.front = note(&shown, proxy(w.store.URL)), note(&app, proxy("http://"+w.public))
	report, said := w.examine()
	if !report.OK || len(shown) != 4 || len(app) != 2 {
		t.Fatalf("%d requests to the storefront, %d to APP_URL; want 4 and 2, and all well:\n%s", len(shown), len(app), said)
	}
	names := []string{"Signature", "Signature-Input", "Signature-Agent"}
	for _, r := range shown {
		for _, name := range names {
			if len(r.Header[name]) != 1 || r.Header.Get(name) == "" {
				t.Errorf("%s to the storefront has %s %q; want it once", r.URL.Path, name, r.Header[name])
			}
		}
	}
	for _, name := range names {
		for _, r := range app {
			if r.Header.Get(name) != "" {
				t.Errorf("%s to APP_URL has %s", r.URL.Path, name)
			}
		}
		for _, r := range w.recharge.Requests() {
			if r.Header.Get(name) != "" {
				t.Errorf("%s to Recharge has %s", r.Path, name)
			}
		}
	}
}

// TestCrawlerHeadersMistaken: a file with anything but the three headers is refused, and not repeated.
func TestCrawlerHeadersMistaken(t *testing.T) {
	w := newWard(t, storetest.Redis(t))
	cfg, err := w.settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		urls []string
		text string
	}{
		"no storefront":  {nil, crawler},
		"another host":   {[]string{w.shown.URL, "https://brand.example"}, crawler},
		"empty":          {[]string{w.shown.URL}, ""},
		"one is missing": {[]string{w.shown.URL}, "Signature: hush-hush\nSignature-Agent: hush-hush\n"},
		"one too many":   {[]string{w.shown.URL}, crawler + "\nAuthorization: hush-hush"},
		"one twice":      {[]string{w.shown.URL}, crawler + "\nSignature: hush-hush"},
		"no header":      {[]string{w.shown.URL}, crawler + "\nhush-hush"},
		"another text":   {[]string{w.shown.URL}, crawler + "\n\nhush-hush"},
		"a binary value": {[]string{w.shown.URL}, crawler + "\x00"},
		"one is empty":   {[]string{w.shown.URL}, "Signature:\nSignature-Input: hush-hush\nSignature-Agent: hush-hush"},
	} {
		w.ask.StoreURLs, w.ask.CrawlerHeaders = test.urls, []byte(test.text)
		_, err := server.Doctor(t.Context(), cfg, w.ask, server.Options{})
		problems, ok := errors.AsType[config.Problems](err)
		if !ok || len(problems) != 1 || problems[0].Name != "--crawler-headers" || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("%s: %v; want one problem, without the text", name, err)
		}
	}
}

// TestCluster: a real cluster that is healthy passes.
func TestCluster(t *testing.T) {
	nodes := storetest.Cluster(t)
	w := newWard(t, storetest.Redis(t))
	w.settings.RedisURL = nodes.URL()
	report, _ := w.examine()
	if got := find(t, report, "redis.cluster"); got.Status != doctor.OK || !strings.Contains(got.Found, "all 16384 slots on 3 masters") {
		t.Errorf("%+v; want ok, with all slots", got)
	}
}

// TestManyStores: a merchant's connection is checked if --shop names the store.
func TestManyStores(t *testing.T) {
	w := newWard(t, storetest.Redis(t), func(w *ward) { w.burst = 400 })
	w.settings.RechargeRate = "2,400" // enough for several reports
	w.manyStores()
	w.settings.RedisURL = "redis://" + storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always").Addr
	report, _ := w.examine()
	if got := find(t, report, "recharge.token"); got.Status != doctor.Skipped || got.Remedy != "pass --shop" {
		t.Errorf("%+v; want skipped, pass --shop", got)
	}
	w.ask.Shop = shop
	report, _ = w.examine()
	if got := find(t, report, "recharge.token"); got.Status != doctor.Fail || !strings.Contains(got.Remedy, "connect it in the app") {
		t.Errorf("%+v; want a store that has not connected", got)
	}
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	keep := w.keep(key)
	err := keep.SaveConnection(t.Context(), store.Connection{Shop: shop, APIToken: apiToken, StorefrontToken: storefront, SavedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	report, said := w.examine()
	if got := find(t, report, "recharge.session"); got.Status != doctor.OK {
		t.Errorf("%+v; want the connection's session\n%s", got, said)
	}
	for what, test := range map[string]struct {
		change func(*store.Connection)
		check  string
		status doctor.Status
		remedy string
	}{
		"another Admin token":      {func(c *store.Connection) { c.APIToken = "sk_hush-hush" }, "recharge.token", doctor.Fail, "paste it in the app"},
		"no Storefront token":      {func(c *store.Connection) { c.StorefrontToken = "" }, "recharge.session", doctor.Fail, "paste it in the app"},
		"another Storefront token": {func(c *store.Connection) { c.StorefrontToken = "strfnt_hush-hush" }, "recharge.session", doctor.Fail, "paste it in the app"},
		"links by hash":            {func(c *store.Connection) { c.Chosen.Link = "hash" }, "recharge.session", doctor.Skipped, ""},
	} {
		connection := store.Connection{Shop: shop, APIToken: apiToken, StorefrontToken: storefront, SavedAt: time.Now()}
		test.change(&connection)
		if err := keep.SaveConnection(t.Context(), connection); err != nil {
			t.Fatal(err)
		}
		choose := func(r *store.Record) bool { r.Connection.Chosen = connection.Chosen; return true }
		if err := keep.Update(t.Context(), shop, choose); err != nil {
			t.Fatal(err)
		}
		report, _ := w.examine()
		if got := find(t, report, test.check); got.Status != test.status || !strings.Contains(got.Remedy, test.remedy) || strings.Contains(got.Remedy, "RECHARGE_") {
			t.Errorf("%s: %+v; want %s, %q", what, got, test.status, test.remedy)
		}
	}
	if err := keep.SaveConnection(t.Context(), store.Connection{Shop: shop, APIToken: apiToken, Detected: store.Traits{PortalURL: "://"}, SavedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	report, _ = w.examine()
	if got := find(t, report, "recharge.token"); got.Status != doctor.Fail || !strings.Contains(got.Found, "cannot be read") || report.OK {
		t.Errorf("%+v; want an unreadable connection", got)
	}
	w.settings.EncryptionKey = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	report, _ = w.examine()
	if got := find(t, report, "recharge.token"); got.Status != doctor.Fail || !strings.Contains(got.Remedy, "ENCRYPTION_KEY") {
		t.Errorf("%+v; want the remedy to name ENCRYPTION_KEY", got)
	}
}

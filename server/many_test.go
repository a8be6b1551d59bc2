package server_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
	"manage-subscriptions/shopify/shopifytest"
	"manage-subscriptions/store"
)

// TestTwoStores: two stores whose shoppers have the same Shopify customer id. Each
// lands in the portal of their own.
func TestTwoStores(t *testing.T) {
	f := start(t, many)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: rcSecret, SigningKey: signingKey(), Now: f.clock.now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: pat, FirstName: "Patricia", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.recharge, other)
	defer front.Close()
	otherStore := shopifytest.NewServer(shopifytest.Options{Shop: otherShop, Now: f.clock.now, Shoppers: []shopifytest.Shopper{{ID: pat, FirstName: "Patricia"}}})
	defer otherStore.Close()
	other.SetPortalBase(otherStore.URL + "/tools/recurring/portal/")
	f.restart(func() {}, many, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.connect()
	// The token of the one store does not do for the other.
	if _, body := f.ask("/app/connect", f.sessionToken(nil), url.Values{"token": {token}}); !strings.Contains(body, `data-result="not_saved"`) || !strings.Contains(body, "belongs to another store") {
		t.Errorf("the other store's token: %s; want it refused", body)
	}
	if _, body := f.ask("/app/connect", f.sessionToken(of(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	for range 3 { // at first, remembered, and with a link to reuse
		for _, test := range []struct {
			store string
			query string
			want  string
		}{
			{shop, f.store.SignedQuery("", pat, "/apps/subscriptions", appSecret), f.store.URL + "/tools/recurring/portal/1f2e3d4c5b6a7988/"},
			{otherShop, otherStore.SignedQuery("", pat, "/apps/subscriptions", appSecret), otherStore.URL + "/tools/recurring/portal/9f8e7d6c5b4a3210/"},
		} {
			response, body := f.direct("GET", f.public, "/apps/subscriptions?"+test.query)
			if to := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.HasPrefix(to, test.want) {
				t.Errorf("%s: %d %q %s; want %s…", test.store, response.StatusCode, to, body, test.want)
			}
		}
	}
}

// connected is a store of many that is connected, with Pat remembered.
func connected(t *testing.T) *fixture {
	t.Helper()
	f := start(t, many)
	f.connect()
	f.clicked(pat, "")
	f.calls()
	return f
}

// hash is the hash in the link that a click ends in.
func (f *fixture) hash(customer string) string {
	f.t.Helper()
	response, body := f.direct("GET", f.public, "/apps/subscriptions?"+f.store.SignedQuery("", customer, "/apps/subscriptions", appSecret))
	_, rest, _ := strings.Cut(response.Header.Get("Location"), "/portal/")
	hash, _, _ := strings.Cut(rest, "/")
	if outcome := regexp.MustCompile(`data-outcome="([a-z_]+)"`).FindStringSubmatch(body); outcome != nil {
		return outcome[1]
	}
	return hash
}

func change(c rechargetest.Customer, edit func(*rechargetest.Customer)) rechargetest.Customer {
	edit(&c)
	return c
}

// TestRechargeTells: what changes in Recharge is known here at once, and stays so
// however often and in which order it is told.
func TestRechargeTells(t *testing.T) {
	pats := customers()[1]
	for name, test := range map[string]struct {
		faults func(*rechargetest.Faults)
		do     func(*fixture)
		who    string
		want   string // hash, or outcome
	}{
		"another hash": {do: func(f *fixture) {
			f.recharge.ChangeCustomer(change(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: pat, want: "abcdabcdabcdabcd"},
		"the older signature only": {faults: func(f *rechargetest.Faults) { f.LegacyOnly = true }, do: func(f *fixture) {
			f.recharge.ChangeCustomer(change(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: pat, want: "abcdabcdabcdabcd"},
		"twice, without topic": {faults: func(f *rechargetest.Faults) { f.DeliverTwice, f.NoTopicHeader = true, true }, do: func(f *fixture) {
			f.recharge.ChangeCustomer(change(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: pat, want: "abcdabcdabcdabcd"},
		"deleted": {do: func(f *fixture) { f.recharge.DeleteCustomer(pats.ID) }, who: pat, want: "not_a_subscriber"},
		"deleted, id as text": {faults: func(f *rechargetest.Faults) { f.StringID, f.NoTopicHeader = true, true }, do: func(f *fixture) {
			f.recharge.DeleteCustomer(pats.ID)
		}, who: pat, want: "not_a_subscriber"},
		"now another shopper's": {do: func(f *fixture) {
			f.recharge.ChangeCustomer(change(pats, func(c *rechargetest.Customer) { c.ShopifyCustomerID = robin }))
		}, who: pat, want: "not_a_subscriber"},
		"subscribed since": {do: func(f *fixture) {
			f.hash(robin) // remembered as no subscriber
			f.recharge.ChangeCustomer(rechargetest.Customer{ID: 70100500, Hash: "5d4c5b6a79881155", ShopifyCustomerID: robin})
		}, who: robin, want: "5d4c5b6a79881155"},
		"an old message comes late": {do: func(f *fixture) {
			f.recharge.ChangeCustomer(change(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
			f.until("the new one is known", func() bool { return f.hash(pat) == "abcdabcdabcdabcd" })
			f.recharge.Send("customer/updated", []byte(`{"customer":{"id":70100200,"hash":"1f2e3d4c5b6a7988","external_customer_id":{"ecommerce":"`+pat+`"},"subscriptions_active_count":1}}`))
		}, who: pat, want: "abcdabcdabcdabcd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := connected(t)
			if test.faults != nil {
				f.recharge.SetFaults(test.faults)
			}
			test.do(f)
			f.until("a click of the shopper's ends in "+test.want, func() bool { return f.hash(test.who) == test.want })
			for _, delivery := range f.recharge.Deliveries() {
				if delivery.Status != http.StatusOK {
					t.Errorf("%s was answered by %d; want 200", delivery.Topic, delivery.Status)
				}
			}
		})
	}
}

// TestRechargeTellsNothingNew: a message about a customer who is as remembered may be
// older than that, or newer. So the next click asks, and only that one.
func TestRechargeTellsNothingNew(t *testing.T) {
	t.Parallel()
	f := connected(t)
	f.recharge.ChangeCustomer(customers()[1])
	f.until("all are answered", func() bool { return len(f.recharge.Deliveries()) == len(f.recharge.Webhooks()["customer/updated"]) })
	f.calls()
	for _, want := range []map[string]int{oneOfEach(), {}} {
		if got := f.hash(pat); got != patsHash {
			t.Errorf("a click of pat's ends in %q; want pat's portal", got)
		}
		f.costs("the click after the message", want)
	}
}

// TestRechargeForged: who is not Recharge, or has another shop's address, changes
// nothing and learns nothing.
func TestRechargeForged(t *testing.T) {
	for name, fault := range map[string]func(*rechargetest.Faults){
		"wrong newer signature, right older": func(f *rechargetest.Faults) { f.WrongNewSignature = true },
		"wrong older signature alone":        func(f *rechargetest.Faults) { f.WrongLegacySignature, f.LegacyOnly = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := connected(t)
			f.recharge.SetFaults(fault)
			f.recharge.DeleteCustomer(customers()[1].ID)
			f.recharge.SetCustomers(customers())
			f.until("it is refused", func() bool {
				deliveries := f.recharge.Deliveries()
				return len(deliveries) > 0 && deliveries[0].Status == http.StatusUnauthorized
			})
			f.clock.add(time.Minute)
			if got := f.hash(pat); got != "1f2e3d4c5b6a7988" {
				t.Errorf("a click of pat's ends in %q; want pat's portal", got)
			}
			if calls := f.calls(); calls["customers"] != 0 {
				t.Errorf("the next click makes calls %v; want no lookup", calls)
			}
		})
	}
	f := connected(t)
	address := f.recharge.Webhooks()["customer/deleted"][0]
	path := strings.TrimPrefix(address, "https://app.example")
	var want string
	for name, to := range map[string]string{
		"no signature": path, "another key": path[:len(path)-3] + "XYZ", "another shop": strings.Replace(path, "fixture-shop", "other-shop", 1),
		"the one store's": "/webhooks/recharge", "no shop": "/webhooks/recharge/x.evil.example/" + path[len(path)-26:],
	} {
		response, body := f.ask(to, "", url.Values{})
		response.Header.Del("Date")
		if want == "" {
			want = body
		}
		if response.StatusCode != http.StatusUnauthorized || body != want {
			t.Errorf("%s = %d %q; want 401 and what all others get", name, response.StatusCode, body)
		}
	}
}

// TestWebhooksAtRecharge: they are made on connecting at an address that nobody
// guesses, kept, and removed.
func TestWebhooksAtRecharge(t *testing.T) {
	f := start(t, many)
	f.connect()
	made := f.recharge.Webhooks()
	shape := regexp.MustCompile(`^https://app\.example/webhooks/recharge/fixture-shop/[A-Z2-7]{26}(/uninstalled)?$`)
	want := []string{"customer/activated", "customer/created", "customer/deactivated", "customer/deleted", "customer/updated", "recharge/uninstalled"}
	if got := slices.Sorted(maps.Keys(made)); !slices.Equal(got, want) {
		t.Errorf("registered topics = %q; want %q", got, want)
	}
	for topic, addresses := range made {
		if len(addresses) != 1 || !shape.MatchString(addresses[0]) {
			t.Errorf("%s goes to %q; want one address that nobody guesses", topic, addresses)
		}
	}
	// Recharge has deleted them; the next look, a day later, makes them anew. Where
	// that cannot be done, it is tried again after an hour.
	for _, test := range []struct {
		after time.Duration
		down  bool
		want  int
	}{{time.Hour, false, 0}, {24 * time.Hour, true, 0}, {30 * time.Minute, false, 0}, {time.Hour, false, len(want)}} {
		f.recharge.DeleteWebhooks()
		f.recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = test.down })
		f.restart(func() { f.clock.add(test.after) }, many)
		if test.down {
			f.until("it has been tried", func() bool { return len(f.log.lines("webhooks at Recharge not kept")) > 0 })
		}
		f.until("they are there again, where it is time for it", func() bool { return len(f.recharge.Webhooks()) == test.want })
	}
	if again := f.recharge.Webhooks(); again["customer/deleted"][0] != made["customer/deleted"][0] {
		t.Errorf("the address is %q now; want it as it was", again["customer/deleted"][0])
	}
	if _, body := f.ask("/app/disconnect", f.sessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Errorf("disconnect: %s", body)
	}
	if left := f.recharge.Webhooks(); len(left) != 0 {
		t.Errorf("after disconnecting Recharge has %v; want none", left)
	}
	if got := f.hash(pat); got != "not_connected" {
		t.Errorf("a click after disconnecting = %q; want not_connected", got)
	}
}

// TestRechargeUninstalled: a store that leaves Recharge is disconnected.
func TestRechargeUninstalled(t *testing.T) {
	f := connected(t)
	f.recharge.UninstallApp()
	f.until("it is disconnected", func() bool { return f.hash(pat) == "not_connected" })
	if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("the app home reads %s; want not connected", body)
	}
}

// TestRechargeUninstalledAndBack: a merchant who has connected another token while Recharge
// is asked about the old one stays connected.
func TestRechargeUninstalledAndBack(t *testing.T) {
	t.Parallel()
	f := connected(t)
	f.recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = time.Second })
	f.recharge.UninstallApp()
	f.until("Recharge is asked", func() bool { return len(f.calls()) > 0 })
	f.clock.add(time.Second)
	next := store.Connection{Shop: shop, APIToken: "sk_test_back", ClientSecret: whSecret, WebhookKey: "back", SavedAt: f.clock.now()}
	f.recharge.AddToken(rechargetest.Token{Value: next.APIToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000})
	f.saveBeside(next)
	f.until("the webhook is answered", func() bool {
		for _, delivery := range f.recharge.Deliveries() {
			if delivery.Topic == "recharge/uninstalled" && delivery.Status != 0 {
				return true
			}
		}
		return false
	})
	f.recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = 0 })
	if got := f.hash(pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click of pat's ends in %q; want pat's portal", got)
	}
}

// saveBeside saves a connection by another instance.
func (f *fixture) saveBeside(connection store.Connection) {
	f.t.Helper()
	key, err := base64.StdEncoding.DecodeString(encryptionKey)
	if err != nil {
		f.t.Fatal(err)
	}
	beside, err := store.Open(store.Options{
		Redis: &redis.UniversalOptions{Addrs: []string{f.redis.Addr}}, Keys: [][]byte{key}, Now: f.clock.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	defer beside.Close()
	if err := beside.SaveConnection(f.t.Context(), connection); err != nil {
		f.t.Fatal(err)
	}
}

// TestRechargeNotUninstalled: topic and address are not signed. Whoever sends a
// message that is Recharge's again, and calls it a farewell, disconnects nobody.
func TestRechargeNotUninstalled(t *testing.T) {
	f := connected(t)
	f.recharge.Send("recharge/uninstalled", []byte(`{}`))
	f.recharge.Send("recharge/uninstalled", []byte(`{"customer":{"id":70100200}}`))
	f.until("both are refused", func() bool {
		refused := map[int]bool{}
		for _, delivery := range f.recharge.Deliveries() {
			refused[delivery.Status] = true
		}
		return refused[http.StatusInternalServerError] && refused[http.StatusBadRequest]
	})
	if got := f.hash(pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click of pat's ends in %q; want pat's portal", got)
	}
	if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
		t.Errorf("the app home reads %s; want it connected", body)
	}
}

// TestRechargeTellsOneStore is the one-store mode: its webhooks are kept, too.
func TestRechargeTellsOneStore(t *testing.T) {
	t.Parallel()
	f := start(t, func(s *config.Settings) { s.RechargeClientSecret = whSecret })
	f.until("the webhooks are there", func() bool { return len(f.recharge.Webhooks()) == 6 })
	if got := f.recharge.Webhooks()["customer/updated"]; !slices.Equal(got, []string{"https://app.example/webhooks/recharge"}) {
		t.Errorf("customer/updated goes to %q; want the one store's address", got)
	}
	f.clicked(pat, "")
	f.recharge.ChangeCustomer(change(customers()[1], func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
	f.until("a click ends in the new hash", func() bool { return f.hash(pat) == "abcdabcdabcdabcd" })
}

// TestUninstalledAtOnce: the credentials are gone with the answer, before anything
// that takes time is done.
func TestUninstalledAtOnce(t *testing.T) {
	f := connected(t)
	const key = "ms2:{" + shop + "}:shop"
	if _, ok := f.redis.Dump()[key]; !ok {
		t.Fatal("no connection is in Redis")
	}
	f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret)
	if _, ok := f.redis.Dump()[key]; ok {
		t.Error("app/uninstalled is answered, and the connection is still there")
	}
	if got := f.hash(pat); got != "not_connected" {
		t.Errorf("the next click = %q; want not_connected", got)
	}
	f.nothingOfTheShop()
}

// TestLateUninstall: a message of an earlier installation, hours late, leaves what
// was saved since; so does shop/redact, two days after it.
func TestLateUninstall(t *testing.T) {
	f := start(t, many)
	f.connect()
	for i, topic := range []string{"app/uninstalled", "shop/redact"} {
		body := map[string]string{"app/uninstalled": aboutUninstalled(), "shop/redact": aboutShop()}[topic]
		triggered := f.clock.now().Add(-time.Hour)
		f.webhookAt("/webhooks/shopify", topic, body, appSecret, triggered, string(rune('a'+i)))
		if _, page := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
			t.Errorf("after a late %s: %s; want it connected", topic, page)
		}
	}
	f.webhookAt("/webhooks/shopify", "shop/redact", aboutShop(), appSecret, f.clock.now().Add(49*time.Hour), "c")
	if _, page := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
		t.Errorf("after a shop/redact from the future: %s; want it taken as one of now", page)
	}
	f.clock.add(49 * time.Hour)
	f.webhookAt("/webhooks/shopify", "shop/redact", aboutShop(), appSecret, f.clock.now(), "d")
	gone := func() bool {
		_, page := f.ask("/app/connection", f.sessionToken(nil), nil)
		return strings.Contains(page, `data-state="not_connected"`)
	}
	f.until("a shop/redact of this installation erases it", gone)
	// Our clock is a little before Shopify's: saved, as it seems, after the uninstall.
	f.clock.add(3 * time.Minute) // session tokens are taken again
	f.connect()
	f.webhookAt("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret, f.clock.now().Add(-5*time.Second), "e")
	f.until("an uninstall right after the save erases it", gone)
}

// TestGrant installs from outside of the admin: the proof is for this browser, for
// this shop, and once.
func TestGrant(t *testing.T) {
	f := start(t, many)
	app := shopifytest.PartnerApp{
		ClientID: clientID, Secret: appSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.public + "/apps/subscriptions",
	}
	f.store.Register(app)
	begin := func(who *http.Client) (callback string) {
		response := f.get(who, "http://"+f.public+"/app/install?shop="+shop)
		to, err := response.Location()
		if err != nil || response.StatusCode != http.StatusFound || !strings.HasPrefix(to.String(), f.store.URL+"/admin/oauth/authorize?") || to.Query().Get("scope") != "write_app_proxy" {
			t.Fatalf("install = %d %v; want Shopify's page to authorize", response.StatusCode, to)
		}
		cookie := response.Header.Get("Set-Cookie")
		for _, want := range []string{"__Host-ms_state=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("the state's cookie is %q; want %s in it", cookie, want)
			}
		}
		form, err := who.PostForm(to.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = form.Body.Close()
		back, err := form.Location()
		if err != nil || !strings.HasPrefix(back.String(), "https://app.example/app/installed?") {
			t.Fatalf("authorized = %d %v; want the way back", form.StatusCode, back)
		}
		return "http://" + f.public + back.RequestURI()
	}
	pats, robins := newBrowser(t), newBrowser(t)
	callback := begin(pats)
	if response := f.get(robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("another browser comes back with it = %d; want 403", response.StatusCode)
	}
	begin(robins)
	if response := f.get(robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("a browser with another state comes back with it = %d; want 403", response.StatusCode)
	}
	cookie := pats.Jar.(*plainJar).header()
	response, body := f.ask(strings.TrimPrefix(callback, "http://"+f.public), "", nil, "Cookie", cookie)
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || proof == nil || !strings.Contains(body, `data-state="not_connected"`) || strings.Contains(body, "app-bridge.js") {
		t.Fatalf("installed = %d %s; want the app home with a proof", response.StatusCode, body)
	}
	if response, _ := f.ask(strings.TrimPrefix(callback, "http://"+f.public), "", nil, "Cookie", cookie); response.StatusCode != http.StatusForbidden {
		t.Errorf("the same again = %d; want 403", response.StatusCode)
	}
	if _, body := f.ask("/app/connect", proof[1], tokens()); !strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect by the proof: %s; want it saved", body)
	}
	f.clock.add(50 * time.Second)
	response, _ = f.ask("/app/health", proof[1], nil)
	renewed := response.Header.Get("X-Proof")
	f.clock.add(50 * time.Second)
	for name, test := range map[string]struct {
		proof string
		want  int
	}{"the first": {proof[1], http.StatusUnauthorized}, "the one that came with an answer": {renewed, http.StatusOK}} {
		if response, _ := f.ask("/app/connection", test.proof, nil); response.StatusCode != test.want {
			t.Errorf("after 100 s, %s = %d; want %d", name, response.StatusCode, test.want)
		}
	}
	f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret)
	if response, _ := f.ask("/app/connection", renewed, nil); response.StatusCode != http.StatusUnauthorized || response.Header.Get("X-Proof") != "" {
		t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
	}
	granted := f.store.GrantedTokens()
	if len(granted) == 0 {
		t.Fatal("no code was exchanged")
	}
	everything := f.log.String()
	for key, value := range f.redis.Dump() {
		everything += key + value
	}
	for _, token := range granted {
		if strings.Contains(everything, token) {
			t.Error("Shopify's token is kept, or logged")
		}
	}
	for name, path := range map[string]string{
		"no shop": "/app/install", "a host": "/app/install?shop=evil.example", "a path": "/app/install?shop=evil.example/.myshopify.com",
		"a user": "/app/install?shop=x@evil.example%23.myshopify.com",
	} {
		if response, _ := f.ask(path, "", nil); response.StatusCode != http.StatusBadRequest {
			t.Errorf("install with %s = %d; want 400", name, response.StatusCode)
		}
	}
}

// plainJar is a cookie jar that sends secure cookies to a test's http server, too.
type plainJar struct {
	http.CookieJar
	cookies map[string]string
}

func (j *plainJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, cookie := range cookies {
		j.cookies[cookie.Name] = cookie.Value
	}
	j.CookieJar.SetCookies(u, cookies)
}

func (j *plainJar) header() string {
	var pairs []string
	for name, value := range j.cookies {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{
		Jar: &plainJar{jar, map[string]string{}}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (f *fixture) get(who *http.Client, address string) *http.Response {
	f.t.Helper()
	request, err := http.NewRequest("GET", address, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Cookie", who.Jar.(*plainJar).header())
	response, err := who.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

// TestTry tells what a click would do, without doing it.
func TestTry(t *testing.T) {
	f := start(t, many)
	try := func(customer string) string {
		_, body := f.ask("/app/try", f.sessionToken(nil), url.Values{"customer": {customer}})
		return body
	}
	if got := try(pat); !strings.Contains(got, `data-result="not_connected"`) {
		t.Errorf("before connecting: %s; want not_connected", got)
	}
	f.connect()
	for _, test := range []struct {
		customer string
		fault    func(*rechargetest.Faults)
		want     string
	}{
		{pat, func(*rechargetest.Faults) {}, "redirected"},
		{robin, func(*rechargetest.Faults) {}, "not_a_subscriber"},
		{kim, func(*rechargetest.Faults) {}, "not_a_subscriber"},
		{pat, func(f *rechargetest.Faults) { f.RefuseSessions = true }, "redirected_by_hash"},
		{pat, func(f *rechargetest.Faults) { f.ForeignPortal = true }, "redirected_by_hash"},
		{pat, func(f *rechargetest.Faults) { f.Down = true }, "unavailable"},
		{pat, func(f *rechargetest.Faults) { f.IgnoreFilter = true }, "redirected"},
		{robin, func(f *rechargetest.Faults) { f.IgnoreFilter = true }, "unavailable"},
	} {
		before := f.remembered()
		f.recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{}; test.fault(f) })
		got := try(test.customer)
		if !strings.Contains(got, `data-result="`+test.want+`"`) {
			t.Errorf("try %s: %s; want %s", test.customer, got, test.want)
		}
		for _, c := range customers() {
			if strings.Contains(got, c.Hash) || strings.Contains(got, c.ShopifyCustomerID) || strings.Contains(got, "token=") {
				t.Errorf("a try shows a hash, an id or a token: %s", got)
			}
		}
		if after := f.remembered(); !slices.Equal(before, after) {
			t.Errorf("a try has remembered %q", after)
		}
	}
	if len(f.recharge.Openings()) != 0 {
		t.Error("a try has opened the portal")
	}
	for _, strange := range []string{"", "x", "1 OR 1", strings.Repeat("9", 21), "<script>"} {
		if response, _ := f.ask("/app/try", f.sessionToken(nil), url.Values{"customer": {strange}}); response.StatusCode != http.StatusBadRequest {
			t.Errorf("try %q = %d; want 400", strange, response.StatusCode)
		}
	}
}

// TestHealth counts what happens, and says what went wrong in words.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := start(t, many)
	f.connect()
	f.hash(pat)
	f.hash(pat)
	f.hash(robin)
	f.recharge.SetFaults(func(f *rechargetest.Faults) { f.Limited = true })
	f.hash(sam)
	health := func() string {
		_, body := f.ask("/app/health", f.sessionToken(nil), nil)
		return body
	}
	for _, want := range []string{
		"4 clicks in the last 24 hours, 2 of them in the portal.", "In the portal, signed in: <b>2</b>", "No subscriber: <b>1</b>", "Asked to try again: <b>1</b>",
		"Recharge has had too many calls", "Reference <code>", "1 refused for being too many", "Recharge has asked to wait",
	} {
		if got := health(); !strings.Contains(got, want) {
			t.Errorf("health = %s; want %q in it", got, want)
		}
	}
	f.until("what is counted is in Redis", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(f.redis.Dump())), func(key string) bool { return strings.Contains(key, "}:h:") })
	})
	f.calls()
	health()
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("health makes calls %v; want none", calls)
	}
	if _, other := f.ask("/app/health", f.sessionToken(of(otherShop)), nil); !strings.Contains(other, "0 clicks") || strings.Contains(other, "Reference") {
		t.Errorf("another shop reads %s; want nothing of this one's", other)
	}
}

// TestEvictingRedisIsRefused: one that could drop what merchants save does not do.
func TestEvictingRedisIsRefused(t *testing.T) {
	f := start(t, many)
	for policy, refused := range map[string]bool{"allkeys-lru": true, "allkeys-random": true, "volatile-lru": false, "noeviction": false} {
		redis := storetest.Redis(t, "--maxmemory-policy", policy)
		settings := f.settings()
		many(&settings)
		settings.RedisURL = "redis://" + redis.Addr
		cfg, err := settings.Check()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		err = server.Run(ctx, cfg, server.WithLog(slog.New(slog.DiscardHandler)), server.OnListening(func(server.Addresses) { stop() }))
		stop()
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), "maxmemory-policy") {
			t.Errorf("with %s Run = %v; want it refused: %v", policy, err, refused)
		}
	}
}

// TestRekey: what the old key has sealed is found with the new one alone.
func TestRekey(t *testing.T) {
	const newKey = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := connected(t)
	f.stop()
	settings := f.settings()
	many(&settings)
	settings.EncryptionKey = newKey + "," + encryptionKey
	cfg, err := settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := server.Rekey(t.Context(), cfg, &out); err != nil || !strings.Contains(out.String(), "the records of 1 stores") {
		t.Errorf("rekey = %v %q; want one shop", err, &out)
	}
	f.run(many, func(s *config.Settings) { s.EncryptionKey = newKey })
	f.calls()
	if got := f.hash(pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click with the new key = %q; want pat's portal", got)
	}
	if calls := f.calls(); calls["customers"]+calls["sessions"] != 0 {
		t.Errorf("that click makes calls %v; want pat known", calls)
	}
}

// TestHomeOfOneStore: what the environment decides is shown and cannot be changed;
// the rest of the app home is there.
func TestHomeOfOneStore(t *testing.T) {
	f := start(t)
	_, home := f.ask("/?embedded=1&shop="+shop+"&id_token="+f.sessionToken(nil), "", nil)
	if !strings.Contains(home, `data-state="connected"`) || !strings.Contains(home, f.store.URL+"/tools/recurring/portal/") || strings.Contains(home, `name="token"`) {
		t.Errorf("home = %s; want it connected, and nothing to paste", home)
	}
	for _, path := range []string{"/app/connect", "/app/settings", "/app/disconnect"} {
		if response, _ := f.ask(path, f.sessionToken(nil), tokens()); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s = %d; want 403", path, response.StatusCode)
		}
	}
	if _, body := f.ask("/app/try", f.sessionToken(nil), url.Values{"customer": {pat}}); !strings.Contains(body, `data-result="redirected"`) {
		t.Errorf("try: %s; want redirected", body)
	}
	f.hash(pat)
	if _, body := f.ask("/app/health", f.sessionToken(nil), nil); !strings.Contains(body, "1 click in the last 24 hours") {
		t.Errorf("health: %s; want the click", body)
	}
	// Another shop can have installed the app, too.
	_, home = f.ask("/?embedded=1&shop="+otherShop+"&id_token="+f.sessionToken(of(otherShop)), "", nil)
	if !strings.Contains(home, "another store") || strings.Contains(home, "/tools/recurring/portal/") {
		t.Errorf("another shop's home = %s; want it told, and nothing of the one store's", home)
	}
	if _, body := f.ask("/app/try", f.sessionToken(of(otherShop)), url.Values{"customer": {pat}}); !strings.Contains(body, `data-result="not_connected"`) {
		t.Errorf("another shop's try: %s; want not_connected", body)
	}
}

// TestUninstalledWhileConnecting: what is saved by a merchant who began before the
// uninstall goes with it.
func TestUninstalledWhileConnecting(t *testing.T) {
	t.Parallel()
	f := start(t, many)
	f.recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 300 * time.Millisecond })
	said := make(chan string)
	token := f.sessionToken(nil)
	go func() {
		_, body := f.ask("/app/connect", token, tokens())
		said <- body
	}()
	f.until("it is asking Recharge", func() bool { return len(f.recharge.Requests()) > 0 })
	f.clock.add(20 * time.Second)
	f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret)
	if body := <-said; strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect: %s; want it not saved", body)
	}
	if got := f.hash(pat); got != "not_connected" {
		t.Errorf("a click = %q; want not_connected", got)
	}
}

// TestProofsEnd: renewed with every answer, a proof is still no older than the
// grant, and an uninstall ends it.
func TestProofsEnd(t *testing.T) {
	f := start(t, many)
	proof := f.proof()
	for range 9 {
		f.clock.add(50 * time.Second)
		response, _ := f.ask("/app/connection", proof, nil)
		if proof = response.Header.Get("X-Proof"); proof == "" {
			t.Fatalf("a call in time = %d; want it renewed", response.StatusCode)
		}
	}
	renewed := 0
	for range 10 {
		f.clock.add(50 * time.Second)
		response, _ := f.ask("/app/connection", proof, nil)
		if next := response.Header.Get("X-Proof"); next != "" {
			proof, renewed = next, renewed+1
		}
	}
	if renewed > 2 {
		t.Errorf("after 10 minutes it was renewed %d times more; want the grant to end", renewed)
	}
	proof = f.proof()
	uninstalled := f.clock.now().Add(2 * time.Second)
	f.clock.add(5 * time.Second)
	response, _ := f.ask("/app/connection", proof, nil) // before the webhook is here
	proof = response.Header.Get("X-Proof")
	f.webhookAt("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret, uninstalled, "late")
	for range 3 {
		if response, _ := f.ask("/app/connection", proof, nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
		}
		f.clock.add(40 * time.Second)
	}
}

// proof installs from outside of the admin.
func (f *fixture) proof() string {
	f.t.Helper()
	f.store.Register(shopifytest.PartnerApp{
		ClientID: clientID, Secret: appSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.public + "/apps/subscriptions",
	})
	who := newBrowser(f.t)
	to, err := f.get(who, "http://"+f.public+"/app/install?shop="+shop).Location()
	if err != nil {
		f.t.Fatal(err)
	}
	response, err := who.PostForm(to.String(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		f.t.Fatal(err)
	}
	_, body := f.ask(back.RequestURI(), "", nil, "Cookie", who.Jar.(*plainJar).header())
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if proof == nil {
		f.t.Fatalf("no proof in %s", body)
	}
	return proof[1]
}

// TestOtherSignatures: Shopify signs more than webhooks with the app's secret, and
// some of it is in a merchant's hands.
func TestOtherSignatures(t *testing.T) {
	f := connected(t)
	before := f.redis.Dump()
	for i, body := range []string{" " + aboutUninstalled(), "\n" + aboutUninstalled()} {
		if response, _ := f.webhook("/webhooks/shopify", "app/uninstalled", body, appSecret, "blank-"+string(rune('a'+i))); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that begins with a blank = %d; want 400", response.StatusCode)
		}
	}
	f.webhook("/webhooks/shopify", "a/b", strings.TrimSuffix(f.sessionToken(nil), "."), appSecret, "a-token")
	if got := f.hash(pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click = %q; want pat's portal", got)
	}
	for key := range f.redis.Dump() {
		_, was := before[key]
		if kind := keyKind.FindStringSubmatch(key); !was && (kind == nil || kind[1] != "h") { // the click is counted
			t.Errorf("Redis holds %q; want no mark for what was not done", key)
		}
	}
}

// TestNewToken: with another Admin token the old one's secret and webhooks go.
func TestNewToken(t *testing.T) {
	t.Parallel()
	const another = "sk_test_another_admin_token"
	f := connected(t)
	first := f.recharge.Webhooks()["customer/updated"]
	f.recharge.AddToken(rechargetest.Token{Value: another, Scopes: []string{"read_customers", "write_session"}, ClientSecret: "another-webhook-secret"})
	if _, body := f.ask("/app/connect", f.sessionToken(nil), url.Values{"token": {another}}); !strings.Contains(body, `data-result="saved"`) || !strings.Contains(body, `data-check="webhooks" data-state="skipped"`) {
		t.Errorf("another token without its secret: %s; want it saved, without webhooks", body)
	}
	if left := f.recharge.Webhooks(); len(left) != 0 || len(first) != 1 {
		t.Errorf("Recharge has %v; want the old token's webhooks gone", left)
	}
	if _, body := f.ask("/app/connect", f.sessionToken(nil), url.Values{"secret": {"another-webhook-secret"}}); !strings.Contains(body, `data-check="webhooks" data-state="passed"`) {
		t.Errorf("its secret: %s; want the webhooks made", body)
	}
	f.recharge.ChangeCustomer(customers()[1])
	f.until("a message is taken", func() bool {
		deliveries := f.recharge.Deliveries()
		return len(deliveries) > 0 && deliveries[len(deliveries)-1].Status == http.StatusOK
	})
}

// TestPortalOfMyOwn: a merchant's portal is where links may lead, by https.
func TestPortalOfMyOwn(t *testing.T) {
	f := connected(t)
	for portal, saved := range map[string]bool{"https://portal.brand.example/p": true, "http://localhost/portal/": false, "http://127.0.0.1/portal/": false, "http://brand.example/": false} {
		_, body := f.ask("/app/settings", f.sessionToken(nil), url.Values{"portal": {portal}})
		if saved != strings.Contains(body, ">Saved.<") {
			t.Errorf("portal %s: %s; want it saved: %v", portal, body, saved)
		}
	}
}

package handlers_test

import (
	"manage-subscriptions/internal/servertest"

	"context"
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
	f := servertest.Start(t, servertest.ManyStores)
	const token = "sk_test_other_admin_token"
	other := rechargetest.NewServer(rechargetest.Options{
		Shop: otherShop, Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers", "write_session", "read_store"}, Rate: 1000, Burst: 10000}},
		ClientSecret: servertest.RechargeSecret, SigningKey: servertest.SigningKey(), Now: f.Clock.Now,
		Customers: []rechargetest.Customer{{ID: 80100200, Hash: "9f8e7d6c5b4a3210", ShopifyCustomerID: servertest.Pat, FirstName: "Patricia", LastName: "Other"}},
	})
	defer other.Close()
	front := rechargetest.Together(f.Recharge, other)
	defer front.Close()
	otherStore := shopifytest.NewServer(shopifytest.Options{Shop: otherShop, Now: f.Clock.Now, Shoppers: []shopifytest.Shopper{{ID: servertest.Pat, FirstName: "Patricia"}}})
	defer otherStore.Close()
	other.SetPortalBase(otherStore.URL + "/tools/recurring/portal/")
	f.Restart(func() {}, servertest.ManyStores, func(s *config.Settings) { s.RechargeAPIURL = front.URL })
	f.Connect()
	// The token of the one store does not do for the other.
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"token": {token}}); !strings.Contains(body, `data-result="not_saved"`) || !strings.Contains(body, "belongs to another store") {
		t.Errorf("the other store's token: %s; want it refused", body)
	}
	if _, body := f.AppHome("/app/connect", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"token": {token}}); !strings.Contains(body, `data-result="saved"`) {
		t.Fatalf("connect the other: %s; want it saved", body)
	}
	for range 3 { // at first, remembered, and with a link to reuse
		for _, test := range []struct {
			store string
			query string
			want  string
		}{
			{servertest.Shop, f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), f.Store.URL + "/tools/recurring/portal/1f2e3d4c5b6a7988/"},
			{otherShop, otherStore.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), otherStore.URL + "/tools/recurring/portal/9f8e7d6c5b4a3210/"},
		} {
			response, body := f.Request("GET", f.Public, "/apps/subscriptions?"+test.query)
			if to := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.HasPrefix(to, test.want) {
				t.Errorf("%s: %d %q %s; want %s…", test.store, response.StatusCode, to, body, test.want)
			}
		}
	}
}

// TestRechargeTells: what changes in Recharge is known here at once, and stays so
// however often and in which order it is told.
func TestRechargeTells(t *testing.T) {
	pats := servertest.Customers()[1]
	for name, test := range map[string]struct {
		faults func(*rechargetest.Faults)
		do     func(*servertest.Fixture)
		who    string
		want   string // hash, or outcome
	}{
		"another hash": {do: func(f *servertest.Fixture) {
			f.Recharge.ChangeCustomer(servertest.Changed(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: servertest.Pat, want: "abcdabcdabcdabcd"},
		"the older signature only": {faults: func(f *rechargetest.Faults) { f.LegacyOnly = true }, do: func(f *servertest.Fixture) {
			f.Recharge.ChangeCustomer(servertest.Changed(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: servertest.Pat, want: "abcdabcdabcdabcd"},
		"twice, without topic": {faults: func(f *rechargetest.Faults) { f.DeliverTwice, f.NoTopicHeader = true, true }, do: func(f *servertest.Fixture) {
			f.Recharge.ChangeCustomer(servertest.Changed(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
		}, who: servertest.Pat, want: "abcdabcdabcdabcd"},
		"deleted": {do: func(f *servertest.Fixture) { f.Recharge.DeleteCustomer(pats.ID) }, who: servertest.Pat, want: "not_a_subscriber"},
		"deleted, id as text": {faults: func(f *rechargetest.Faults) { f.StringID, f.NoTopicHeader = true, true }, do: func(f *servertest.Fixture) {
			f.Recharge.DeleteCustomer(pats.ID)
		}, who: servertest.Pat, want: "not_a_subscriber"},
		"now another shopper's": {do: func(f *servertest.Fixture) {
			f.Recharge.ChangeCustomer(servertest.Changed(pats, func(c *rechargetest.Customer) { c.ShopifyCustomerID = servertest.Robin }))
		}, who: servertest.Pat, want: "not_a_subscriber"},
		"subscribed since": {do: func(f *servertest.Fixture) {
			f.LinkedHash(servertest.Robin) // remembered as no subscriber
			f.Recharge.ChangeCustomer(rechargetest.Customer{ID: 70100500, Hash: "5d4c5b6a79881155", ShopifyCustomerID: servertest.Robin})
		}, who: servertest.Robin, want: "5d4c5b6a79881155"},
		"an old message comes late": {do: func(f *servertest.Fixture) {
			f.Recharge.ChangeCustomer(servertest.Changed(pats, func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
			f.Until("the new one is known", func() bool { return f.LinkedHash(servertest.Pat) == "abcdabcdabcdabcd" })
			f.Recharge.Send("customer/updated", []byte(`{"customer":{"id":70100200,"hash":"1f2e3d4c5b6a7988","external_customer_id":{"ecommerce":"`+servertest.Pat+`"},"subscriptions_active_count":1}}`))
		}, who: servertest.Pat, want: "abcdabcdabcdabcd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Connected(t)
			if test.faults != nil {
				f.Recharge.SetFaults(test.faults)
			}
			test.do(f)
			f.Until("a click of the shopper's ends in "+test.want, func() bool { return f.LinkedHash(test.who) == test.want })
			for _, delivery := range f.Recharge.Deliveries() {
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
	f := servertest.Connected(t)
	f.Recharge.ChangeCustomer(servertest.Customers()[1])
	f.Until("all are answered", func() bool { return len(f.Recharge.Deliveries()) == len(f.Recharge.Webhooks()["customer/updated"]) })
	f.Calls()
	for _, want := range []map[string]int{servertest.OneCallEach(), {}} {
		if got := f.LinkedHash(servertest.Pat); got != servertest.PatsHash {
			t.Errorf("a click of pat's ends in %q; want pat's portal", got)
		}
		f.WantCalls("the click after the message", want)
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
			f := servertest.Connected(t)
			f.Recharge.SetFaults(fault)
			f.Recharge.DeleteCustomer(servertest.Customers()[1].ID)
			f.Recharge.SetCustomers(servertest.Customers())
			f.Until("it is refused", func() bool {
				deliveries := f.Recharge.Deliveries()
				return len(deliveries) > 0 && deliveries[0].Status == http.StatusUnauthorized
			})
			f.Clock.Add(time.Minute)
			if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
				t.Errorf("a click of pat's ends in %q; want pat's portal", got)
			}
			if calls := f.Calls(); calls["customers"] != 0 {
				t.Errorf("the next click makes calls %v; want no lookup", calls)
			}
		})
	}
	f := servertest.Connected(t)
	address := f.Recharge.Webhooks()["customer/deleted"][0]
	path := strings.TrimPrefix(address, "https://app.example")
	var want string
	for name, to := range map[string]string{
		"no signature": path, "another key": path[:len(path)-3] + "XYZ", "another shop": strings.Replace(path, "fixture-shop", "other-shop", 1),
		"the one store's": "/webhooks/recharge", "no shop": "/webhooks/recharge/x.evil.example/" + path[len(path)-26:],
	} {
		response, body := f.AppHome(to, "", url.Values{})
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
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	made := f.Recharge.Webhooks()
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
		f.Recharge.DeleteWebhooks()
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = test.down })
		f.Restart(func() { f.Clock.Add(test.after) }, servertest.ManyStores)
		if test.down {
			f.Until("it has been tried", func() bool { return len(f.Log.Lines("webhooks at Recharge not kept")) > 0 })
		}
		f.Until("they are there again, where it is time for it", func() bool { return len(f.Recharge.Webhooks()) == test.want })
	}
	if again := f.Recharge.Webhooks(); again["customer/deleted"][0] != made["customer/deleted"][0] {
		t.Errorf("the address is %q now; want it as it was", again["customer/deleted"][0])
	}
	if _, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{}); !strings.Contains(body, "Disconnected") {
		t.Errorf("disconnect: %s", body)
	}
	if left := f.Recharge.Webhooks(); len(left) != 0 {
		t.Errorf("after disconnecting Recharge has %v; want none", left)
	}
	if got := f.LinkedHash(servertest.Pat); got != "not_connected" {
		t.Errorf("a click after disconnecting = %q; want not_connected", got)
	}
}

// TestRechargeUninstalled: a store that leaves Recharge is disconnected.
func TestRechargeUninstalled(t *testing.T) {
	f := servertest.Connected(t)
	f.Recharge.UninstallApp()
	f.Until("it is disconnected", func() bool { return f.LinkedHash(servertest.Pat) == "not_connected" })
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("the app home reads %s; want not connected", body)
	}
}

// TestRechargeUninstalledAndBack: a merchant who has connected another token while Recharge
// is asked about the old one stays connected.
func TestRechargeUninstalledAndBack(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = time.Second })
	f.Recharge.UninstallApp()
	f.Until("Recharge is asked", func() bool { return len(f.Calls()) > 0 })
	f.Clock.Add(time.Second)
	next := store.Connection{Shop: servertest.Shop, APIToken: "sk_test_back", ClientSecret: servertest.WebhookSecret, WebhookKey: "back", SavedAt: f.Clock.Now()}
	f.Recharge.AddToken(rechargetest.Token{Value: next.APIToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000})
	f.SaveElsewhere(next)
	f.Until("the webhook is answered", func() bool {
		for _, delivery := range f.Recharge.Deliveries() {
			if delivery.Topic == "recharge/uninstalled" && delivery.Status != 0 {
				return true
			}
		}
		return false
	})
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = 0 })
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click of pat's ends in %q; want pat's portal", got)
	}
}

// TestRechargeNotUninstalled: topic and address are not signed. Whoever sends a
// message that is Recharge's again, and calls it a farewell, disconnects nobody.
func TestRechargeNotUninstalled(t *testing.T) {
	f := servertest.Connected(t)
	f.Recharge.Send("recharge/uninstalled", []byte(`{}`))
	f.Recharge.Send("recharge/uninstalled", []byte(`{"customer":{"id":70100200}}`))
	f.Until("both are refused", func() bool {
		refused := map[int]bool{}
		for _, delivery := range f.Recharge.Deliveries() {
			refused[delivery.Status] = true
		}
		return refused[http.StatusInternalServerError] && refused[http.StatusBadRequest]
	})
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click of pat's ends in %q; want pat's portal", got)
	}
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
		t.Errorf("the app home reads %s; want it connected", body)
	}
}

// TestRechargeTellsOneStore is the one-store mode: its webhooks are kept, too.
func TestRechargeTellsOneStore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.RechargeClientSecret = servertest.WebhookSecret })
	f.Until("the webhooks are there", func() bool { return len(f.Recharge.Webhooks()) == 6 })
	if got := f.Recharge.Webhooks()["customer/updated"]; !slices.Equal(got, []string{"https://app.example/webhooks/recharge"}) {
		t.Errorf("customer/updated goes to %q; want the one store's address", got)
	}
	f.ClickAll(servertest.Pat, "")
	f.Recharge.ChangeCustomer(servertest.Changed(servertest.Customers()[1], func(c *rechargetest.Customer) { c.Hash = "abcdabcdabcdabcd" }))
	f.Until("a click ends in the new hash", func() bool { return f.LinkedHash(servertest.Pat) == "abcdabcdabcdabcd" })
}

// TestUninstalledAtOnce: the credentials are gone with the answer, before anything
// that takes time is done.
func TestUninstalledAtOnce(t *testing.T) {
	f := servertest.Connected(t)
	const key = "ms2:{" + servertest.Shop + "}:shop"
	if _, ok := f.Redis.Dump()[key]; !ok {
		t.Fatal("no connection is in Redis")
	}
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if _, ok := f.Redis.Dump()[key]; ok {
		t.Error("app/uninstalled is answered, and the connection is still there")
	}
	if got := f.LinkedHash(servertest.Pat); got != "not_connected" {
		t.Errorf("the next click = %q; want not_connected", got)
	}
	f.WantNothingOfShop()
}

// TestLateUninstall: a message of an earlier installation, hours late, leaves what
// was saved since; so does shop/redact, two days after it.
func TestLateUninstall(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	for i, topic := range []string{"app/uninstalled", "shop/redact"} {
		body := map[string]string{"app/uninstalled": servertest.UninstalledBody(), "shop/redact": servertest.ShopBody()}[topic]
		triggered := f.Clock.Now().Add(-time.Hour)
		f.WebhookAt("/webhooks/shopify", topic, body, servertest.AppSecret, triggered, string(rune('a'+i)))
		if _, page := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
			t.Errorf("after a late %s: %s; want it connected", topic, page)
		}
	}
	f.WebhookAt("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret, f.Clock.Now().Add(49*time.Hour), "c")
	if _, page := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
		t.Errorf("after a shop/redact from the future: %s; want it taken as one of now", page)
	}
	f.Clock.Add(49 * time.Hour)
	f.WebhookAt("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret, f.Clock.Now(), "d")
	gone := func() bool {
		_, page := f.AppHome("/app/connection", f.SessionToken(nil), nil)
		return strings.Contains(page, `data-state="not_connected"`)
	}
	f.Until("a shop/redact of this installation erases it", gone)
	// Our clock is a little before Shopify's: saved, as it seems, after the uninstall.
	f.Clock.Add(3 * time.Minute) // session tokens are taken again
	f.Connect()
	f.WebhookAt("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret, f.Clock.Now().Add(-5*time.Second), "e")
	f.Until("an uninstall right after the save erases it", gone)
}

// TestGrant installs from outside of the admin: the proof is for this browser, for
// this shop, and once.
func TestGrant(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	app := shopifytest.PartnerApp{
		ClientID: servertest.ClientID, Secret: servertest.AppSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.Public + "/apps/subscriptions",
	}
	f.Store.Register(app)
	begin := func(who *http.Client) (callback string) {
		response := get(f, who, "http://"+f.Public+"/app/install?shop="+servertest.Shop)
		to, err := response.Location()
		if err != nil || response.StatusCode != http.StatusFound || !strings.HasPrefix(to.String(), f.Store.URL+"/admin/oauth/authorize?") || to.Query().Get("scope") != "write_app_proxy" {
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
		return "http://" + f.Public + back.RequestURI()
	}
	pats, robins := newBrowser(t), newBrowser(t)
	callback := begin(pats)
	if response := get(f, robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("another browser comes back with it = %d; want 403", response.StatusCode)
	}
	begin(robins)
	if response := get(f, robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("a browser with another state comes back with it = %d; want 403", response.StatusCode)
	}
	cookie := pats.Jar.(*plainJar).header()
	response, body := f.AppHome(strings.TrimPrefix(callback, "http://"+f.Public), "", nil, "Cookie", cookie)
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || proof == nil || !strings.Contains(body, `data-state="not_connected"`) || strings.Contains(body, "app-bridge.js") {
		t.Fatalf("installed = %d %s; want the app home with a proof", response.StatusCode, body)
	}
	if response, _ := f.AppHome(strings.TrimPrefix(callback, "http://"+f.Public), "", nil, "Cookie", cookie); response.StatusCode != http.StatusForbidden {
		t.Errorf("the same again = %d; want 403", response.StatusCode)
	}
	if _, body := f.AppHome("/app/connect", proof[1], servertest.ConnectForm()); !strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect by the proof: %s; want it saved", body)
	}
	f.Clock.Add(50 * time.Second)
	response, _ = f.AppHome("/app/health", proof[1], nil)
	renewed := response.Header.Get("X-Proof")
	f.Clock.Add(50 * time.Second)
	for name, test := range map[string]struct {
		proof string
		want  int
	}{"the first": {proof[1], http.StatusUnauthorized}, "the one that came with an answer": {renewed, http.StatusOK}} {
		if response, _ := f.AppHome("/app/connection", test.proof, nil); response.StatusCode != test.want {
			t.Errorf("after 100 s, %s = %d; want %d", name, response.StatusCode, test.want)
		}
	}
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if response, _ := f.AppHome("/app/connection", renewed, nil); response.StatusCode != http.StatusUnauthorized || response.Header.Get("X-Proof") != "" {
		t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
	}
	granted := f.Store.GrantedTokens()
	if len(granted) == 0 {
		t.Fatal("no code was exchanged")
	}
	everything := f.Log.String()
	for key, value := range f.Redis.Dump() {
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
		if response, _ := f.AppHome(path, "", nil); response.StatusCode != http.StatusBadRequest {
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

func get(f *servertest.Fixture, who *http.Client, address string) *http.Response {
	f.T.Helper()
	request, err := http.NewRequest("GET", address, nil)
	if err != nil {
		f.T.Fatal(err)
	}
	request.Header.Set("Cookie", who.Jar.(*plainJar).header())
	response, err := who.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

// TestTry tells what a click would do, without doing it.
func TestTry(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	try := func(customer string) string {
		_, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {customer}})
		return body
	}
	if got := try(servertest.Pat); !strings.Contains(got, `data-result="not_connected"`) {
		t.Errorf("before connecting: %s; want not_connected", got)
	}
	f.Connect()
	for _, test := range []struct {
		customer string
		fault    func(*rechargetest.Faults)
		want     string
	}{
		{servertest.Pat, func(*rechargetest.Faults) {}, "redirected"},
		{servertest.Robin, func(*rechargetest.Faults) {}, "not_a_subscriber"},
		{servertest.Kim, func(*rechargetest.Faults) {}, "not_a_subscriber"},
		{servertest.Pat, func(f *rechargetest.Faults) { f.RefuseSessions = true }, "redirected_by_hash"},
		{servertest.Pat, func(f *rechargetest.Faults) { f.ForeignPortal = true }, "redirected_by_hash"},
		{servertest.Pat, func(f *rechargetest.Faults) { f.Down = true }, "unavailable"},
		{servertest.Pat, func(f *rechargetest.Faults) { f.IgnoreFilter = true }, "redirected"},
		{servertest.Robin, func(f *rechargetest.Faults) { f.IgnoreFilter = true }, "unavailable"},
	} {
		before := f.CachedShoppers()
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{}; test.fault(f) })
		got := try(test.customer)
		if !strings.Contains(got, `data-result="`+test.want+`"`) {
			t.Errorf("try %s: %s; want %s", test.customer, got, test.want)
		}
		for _, c := range servertest.Customers() {
			if strings.Contains(got, c.Hash) || strings.Contains(got, c.ShopifyCustomerID) || strings.Contains(got, "token=") {
				t.Errorf("a try shows a hash, an id or a token: %s", got)
			}
		}
		if after := f.CachedShoppers(); !slices.Equal(before, after) {
			t.Errorf("a try has remembered %q", after)
		}
	}
	if len(f.Recharge.Openings()) != 0 {
		t.Error("a try has opened the portal")
	}
	for _, strange := range []string{"", "x", "1 OR 1", strings.Repeat("9", 21), "<script>"} {
		if response, _ := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {strange}}); response.StatusCode != http.StatusBadRequest {
			t.Errorf("try %q = %d; want 400", strange, response.StatusCode)
		}
	}
}

// TestHealth counts what happens, and says what went wrong in words.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Robin)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Limited = true })
	f.LinkedHash(servertest.Sam)
	health := func() string {
		_, body := f.AppHome("/app/health", f.SessionToken(nil), nil)
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
	f.Until("what is counted is in Redis", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(f.Redis.Dump())), func(key string) bool { return strings.Contains(key, "}:h:") })
	})
	f.Calls()
	health()
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("health makes calls %v; want none", calls)
	}
	if _, other := f.AppHome("/app/health", f.SessionToken(servertest.ForShop(otherShop)), nil); !strings.Contains(other, "0 clicks") || strings.Contains(other, "Reference") {
		t.Errorf("another shop reads %s; want nothing of this one's", other)
	}
}

// TestEvictingRedisIsRefused: one that could drop what merchants save does not do.
func TestEvictingRedisIsRefused(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	for policy, refused := range map[string]bool{"allkeys-lru": true, "allkeys-random": true, "volatile-lru": false, "noeviction": false} {
		redis := storetest.Redis(t, "--maxmemory-policy", policy)
		settings := f.Settings()
		servertest.ManyStores(&settings)
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
	f := servertest.Connected(t)
	f.Stop()
	settings := f.Settings()
	servertest.ManyStores(&settings)
	settings.EncryptionKey = newKey + "," + servertest.EncryptionKey
	cfg, err := settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := server.Rekey(t.Context(), cfg, &out); err != nil || !strings.Contains(out.String(), "the records of 1 stores") {
		t.Errorf("rekey = %v %q; want one shop", err, &out)
	}
	f.Run(servertest.ManyStores, func(s *config.Settings) { s.EncryptionKey = newKey })
	f.Calls()
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click with the new key = %q; want pat's portal", got)
	}
	if calls := f.Calls(); calls["customers"]+calls["sessions"] != 0 {
		t.Errorf("that click makes calls %v; want pat known", calls)
	}
}

// TestHomeOfOneStore: what the environment decides is shown and cannot be changed;
// the rest of the app home is there.
func TestHomeOfOneStore(t *testing.T) {
	f := servertest.Start(t)
	_, home := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if !strings.Contains(home, `data-state="connected"`) || !strings.Contains(home, f.Store.URL+"/tools/recurring/portal/") || strings.Contains(home, `name="token"`) {
		t.Errorf("home = %s; want it connected, and nothing to paste", home)
	}
	for _, path := range []string{"/app/connect", "/app/settings", "/app/disconnect"} {
		if response, _ := f.AppHome(path, f.SessionToken(nil), servertest.ConnectForm()); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s = %d; want 403", path, response.StatusCode)
		}
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="redirected"`) {
		t.Errorf("try: %s; want redirected", body)
	}
	f.LinkedHash(servertest.Pat)
	if _, body := f.AppHome("/app/health", f.SessionToken(nil), nil); !strings.Contains(body, "1 click in the last 24 hours") {
		t.Errorf("health: %s; want the click", body)
	}
	// Another shop can have installed the app, too.
	_, home = f.AppHome("/?embedded=1&shop="+otherShop+"&id_token="+f.SessionToken(servertest.ForShop(otherShop)), "", nil)
	if !strings.Contains(home, "another store") || strings.Contains(home, "/tools/recurring/portal/") {
		t.Errorf("another shop's home = %s; want it told, and nothing of the one store's", home)
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="not_connected"`) {
		t.Errorf("another shop's try: %s; want not_connected", body)
	}
}

// TestUninstalledWhileConnecting: what is saved by a merchant who began before the
// uninstall goes with it.
func TestUninstalledWhileConnecting(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 300 * time.Millisecond })
	said := make(chan string)
	token := f.SessionToken(nil)
	go func() {
		_, body := f.AppHome("/app/connect", token, servertest.ConnectForm())
		said <- body
	}()
	f.Until("it is asking Recharge", func() bool { return len(f.Recharge.Requests()) > 0 })
	f.Clock.Add(20 * time.Second)
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if body := <-said; strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect: %s; want it not saved", body)
	}
	if got := f.LinkedHash(servertest.Pat); got != "not_connected" {
		t.Errorf("a click = %q; want not_connected", got)
	}
}

// TestProofsEnd: renewed with every answer, a proof is still no older than the
// grant, and an uninstall ends it.
func TestProofsEnd(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	proof := signedProof(f)
	for range 9 {
		f.Clock.Add(50 * time.Second)
		response, _ := f.AppHome("/app/connection", proof, nil)
		if proof = response.Header.Get("X-Proof"); proof == "" {
			t.Fatalf("a call in time = %d; want it renewed", response.StatusCode)
		}
	}
	renewed := 0
	for range 10 {
		f.Clock.Add(50 * time.Second)
		response, _ := f.AppHome("/app/connection", proof, nil)
		if next := response.Header.Get("X-Proof"); next != "" {
			proof, renewed = next, renewed+1
		}
	}
	if renewed > 2 {
		t.Errorf("after 10 minutes it was renewed %d times more; want the grant to end", renewed)
	}
	proof = signedProof(f)
	uninstalled := f.Clock.Now().Add(2 * time.Second)
	f.Clock.Add(5 * time.Second)
	response, _ := f.AppHome("/app/connection", proof, nil) // before the webhook is here
	proof = response.Header.Get("X-Proof")
	f.WebhookAt("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret, uninstalled, "late")
	for range 3 {
		if response, _ := f.AppHome("/app/connection", proof, nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
		}
		f.Clock.Add(40 * time.Second)
	}
}

// proof installs from outside of the admin.
func signedProof(f *servertest.Fixture) string {
	f.T.Helper()
	f.Store.Register(shopifytest.PartnerApp{
		ClientID: servertest.ClientID, Secret: servertest.AppSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.Public + "/apps/subscriptions",
	})
	who := newBrowser(f.T)
	to, err := get(f, who, "http://"+f.Public+"/app/install?shop="+servertest.Shop).Location()
	if err != nil {
		f.T.Fatal(err)
	}
	response, err := who.PostForm(to.String(), nil)
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		f.T.Fatal(err)
	}
	_, body := f.AppHome(back.RequestURI(), "", nil, "Cookie", who.Jar.(*plainJar).header())
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if proof == nil {
		f.T.Fatalf("no proof in %s", body)
	}
	return proof[1]
}

// TestOtherSignatures: Shopify signs more than webhooks with the app's secret, and
// some of it is in a merchant's hands.
func TestOtherSignatures(t *testing.T) {
	f := servertest.Connected(t)
	before := f.Redis.Dump()
	for i, body := range []string{" " + servertest.UninstalledBody(), "\n" + servertest.UninstalledBody()} {
		if response, _ := f.Webhook("/webhooks/shopify", "app/uninstalled", body, servertest.AppSecret, "blank-"+string(rune('a'+i))); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that begins with a blank = %d; want 400", response.StatusCode)
		}
	}
	f.Webhook("/webhooks/shopify", "a/b", strings.TrimSuffix(f.SessionToken(nil), "."), servertest.AppSecret, "a-token")
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click = %q; want pat's portal", got)
	}
	for key := range f.Redis.Dump() {
		_, was := before[key]
		if kind := servertest.KeyKind.FindStringSubmatch(key); !was && (kind == nil || kind[1] != "h") { // the click is counted
			t.Errorf("Redis holds %q; want no mark for what was not done", key)
		}
	}
}

// TestNewToken: with another Admin token the old one's secret and webhooks go.
func TestNewToken(t *testing.T) {
	t.Parallel()
	const another = "sk_test_another_admin_token"
	f := servertest.Connected(t)
	first := f.Recharge.Webhooks()["customer/updated"]
	f.Recharge.AddToken(rechargetest.Token{Value: another, Scopes: []string{"read_customers", "write_session"}, ClientSecret: "another-webhook-secret"})
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"token": {another}}); !strings.Contains(body, `data-result="saved"`) || !strings.Contains(body, `data-check="webhooks" data-state="skipped"`) {
		t.Errorf("another token without its secret: %s; want it saved, without webhooks", body)
	}
	if left := f.Recharge.Webhooks(); len(left) != 0 || len(first) != 1 {
		t.Errorf("Recharge has %v; want the old token's webhooks gone", left)
	}
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"secret": {"another-webhook-secret"}}); !strings.Contains(body, `data-check="webhooks" data-state="passed"`) {
		t.Errorf("its secret: %s; want the webhooks made", body)
	}
	f.Recharge.ChangeCustomer(servertest.Customers()[1])
	f.Until("a message is taken", func() bool {
		deliveries := f.Recharge.Deliveries()
		return len(deliveries) > 0 && deliveries[len(deliveries)-1].Status == http.StatusOK
	})
}

// TestPortalOfMyOwn: a merchant's portal is where links may lead, by https.
func TestPortalOfMyOwn(t *testing.T) {
	f := servertest.Connected(t)
	for portal, saved := range map[string]bool{"https://portal.brand.example/p": true, "http://localhost/portal/": false, "http://127.0.0.1/portal/": false, "http://brand.example/": false} {
		_, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"portal": {portal}})
		if saved != strings.Contains(body, ">Saved.<") {
			t.Errorf("portal %s: %s; want it saved: %v", portal, body, saved)
		}
	}
}

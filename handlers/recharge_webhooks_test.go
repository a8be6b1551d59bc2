package handlers_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestRechargeTells checks that a change in Recharge takes effect at once, however often and in
// whichever order its webhooks arrive.
func TestRechargeTells(t *testing.T) {
	t.Parallel()
	pats := servertest.Customers()[1]
	for name, test := range map[string]struct {
		faults func(*rechargetest.Faults)
		do     func(*servertest.Fixture)
		who    string
		want   string // hash or outcome
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
			f.LinkedHash(servertest.Robin) // cached as not a subscriber
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

// TestRechargeTellsNothingNew checks that exactly one click asks Recharge again after a webhook
// without changes, which may be older or newer than the cached record.
func TestRechargeTellsNothingNew(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	before := len(f.Recharge.Deliveries())
	f.Recharge.ChangeCustomer(servertest.Customers()[1])
	f.Until("all are answered", func() bool {
		return len(f.Recharge.Deliveries()) == before+len(f.Recharge.Webhooks()["customer/updated"])
	})
	f.Calls()
	for _, want := range []map[string]int{servertest.OneCallEach(), {}} {
		if got := f.LinkedHash(servertest.Pat); got != servertest.PatsHash {
			t.Errorf("a click of pat's ends in %q; want pat's portal", got)
		}
		f.WantCalls("the click after the message", want)
	}
}

// TestRechargeTellsOfACharge checks that a webhook about an upcoming charge, with or without its topic, changes
// nothing that is cached: the next click makes no call.
func TestRechargeTellsOfACharge(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.Recharge.AddWebhook(servertest.APIToken, "charge/upcoming", f.Recharge.Webhooks()["customer/updated"][0])
	for _, silent := range []bool{false, true} {
		f.Recharge.SetFaults(func(faults *rechargetest.Faults) { faults.NoTopicHeader = silent })
		before := len(f.Recharge.Deliveries())
		f.Recharge.UpcomingCharge(servertest.Customers()[1].ID)
		f.Until("it is answered", func() bool { return len(f.Recharge.Deliveries()) > before })
		if got := f.Recharge.Deliveries()[before]; got.Status != http.StatusOK {
			t.Errorf("without a topic %v: the webhook was answered by %d; want 200", silent, got.Status)
		}
		if got := f.LinkedHash(servertest.Pat); got != servertest.PatsHash {
			t.Errorf("without a topic %v: a click of pat's ends in %q; want pat's portal", silent, got)
		}
		f.WantCalls("the click after the message", map[string]int{})
	}
}

// TestRechargeForged checks that a sender who is not Recharge, or who has another shop's address,
// changes nothing and learns nothing.
func TestRechargeForged(t *testing.T) {
	t.Parallel()
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
				return deliveries[len(deliveries)-1].Status == http.StatusUnauthorized
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

// TestWebhooksAtRecharge checks that webhooks are registered on connecting, at an address that
// cannot be guessed, then kept, and removed on disconnecting.
func TestWebhooksAtRecharge(t *testing.T) {
	t.Parallel()
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
			t.Errorf("%s goes to %q; want one address that cannot be guessed", topic, addresses)
		}
	}
	// Recharge has deleted them. The next check, a day later, registers them again. If that fails,
	// it is retried after an hour.
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
		f.Until("they are registered again if a check was due", func() bool { return len(f.Recharge.Webhooks()) == test.want })
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

// TestWebhooksCheckedOnce starts two servers when a check is due. One claims it, and the other leaves
// the shop's webhooks alone.
func TestWebhooksCheckedOnce(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	topics := len(f.Recharge.Webhooks())
	f.Recharge.DeleteWebhooks()
	f.Calls()
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Lag = 500 * time.Millisecond })
	f.Restart(func() { f.Clock.Add(25 * time.Hour) }, servertest.ManyStores)
	f.Second(servertest.ManyStores)
	f.Until("all are registered again", func() bool { return len(f.Recharge.Webhooks()) == topics })
	if got, want := f.Calls()[rechargetest.EndpointWebhooks], 1+topics; got != want {
		t.Errorf("the servers made %d calls; want %d, a list and the topics", got, want)
	}
}

// TestRechargeUninstalled checks that a store that uninstalls Recharge is disconnected.
func TestRechargeUninstalled(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.Recharge.UninstallApp()
	f.Until("it is disconnected", func() bool { return f.LinkedHash(servertest.Pat) == "not_connected" })
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("the app home reads %s; want not connected", body)
	}
}

// TestRechargeUninstalledAndBack checks that a merchant who connects another token while we test
// the old one stays connected.
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

// TestRechargeNotUninstalled checks that replaying a webhook of Recharge's as recharge/uninstalled
// disconnects nobody, because topic and address are not signed.
func TestRechargeNotUninstalled(t *testing.T) {
	t.Parallel()
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

// TestRechargeUninstalledReplayed checks that replays to two servers cost one call a minute, and that
// the next one after that still disconnects a store that has left.
func TestRechargeUninstalledReplayed(t *testing.T) {
	t.Parallel()
	const topic = "recharge/uninstalled"
	f := servertest.Connected(t)
	address := f.Recharge.Webhooks()[topic][0]
	for range 2 {
		f.Recharge.Send(topic, []byte(`{}`)) // tried twenty times, in vain
		f.Until("the emulator gives up", func() bool { return f.Recharge.Webhooks()[topic] == nil })
		f.Recharge.AddWebhook(servertest.APIToken, topic, address)
		f.Second(servertest.ManyStores) // which gets the next ones
	}
	if calls := f.Calls()[rechargetest.EndpointToken]; calls != 1 {
		t.Errorf("the replays cost %d calls; want one", calls)
	}
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	for _, key := range client.Keys(t.Context(), "ms2:{*}:n:*").Val() {
		if left := client.TTL(t.Context(), key).Val(); left <= 0 || left > time.Minute {
			t.Errorf("the next call waits %s; want a minute at most", left)
		}
		client.Del(t.Context(), key) // as after a minute
	}
	f.Recharge.UninstallApp()
	f.Until("it is disconnected", func() bool { return f.LinkedHash(servertest.Pat) == "not_connected" })
}

// TestRechargeTellsOneStore checks that webhooks are also kept for a configured store.
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

// TestForgedToOneStore checks that messages to the one store's address, which anybody knows, do not make the app home
// say that the secret is wrong, nor that no message has been verified.
func TestForgedToOneStore(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		"nonsense": "Some messages could not be verified", servertest.WebhookSecret: "a message from Recharge was verified",
	} {
		f := servertest.Start(t, func(s *config.Settings) { s.RechargeClientSecret = secret })
		says := func() bool {
			_, home := f.AppHome("/app/connection", f.SessionToken(nil), nil)
			if strings.Contains(home, "do not match") {
				t.Errorf("the home says %s", home)
			}
			return strings.Contains(home, want)
		}
		f.Until("the home says that "+want, says)
		f.Clock.Add(25 * time.Hour)
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.WrongNewSignature = true })
		f.Recharge.ChangeCustomer(servertest.Customers()[1])
		f.Until("it is refused", func() bool {
			deliveries := f.Recharge.Deliveries() // an answer is listed a moment after the server has given it
			if len(deliveries) == 0 {
				return false
			}
			last := deliveries[len(deliveries)-1]
			return last.Topic == "customer/updated" && last.Status == http.StatusUnauthorized
		})
		if !says() {
			t.Errorf("after a message that was refused, the home does not say that %s", want)
		}
	}
}

// TestWebhookSecret checks that a webhook secret counts as right only once a message has verified, and as wrong once
// one has not. Recharge is asked to send one when the secret is pasted.
func TestWebhookSecret(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		secret        string
		set           func(*rechargetest.Faults)
		step          string // of the webhooks, while connecting
		row, settings string // what the pages say afterwards
	}{
		"right":                       {servertest.WebhookSecret, nil, "passed", "a message from Recharge was verified just now", "Recharge’s messages match it"},
		"wrong":                       {"nonsense", nil, "warned", "Recharge’s messages do not match the API Client Secret", "Recharge’s messages do not match it"},
		"Recharge sends no message":   {"nonsense", func(f *rechargetest.Faults) { f.NoTests = true }, "skipped", "waiting for the first message", "waits for the first message"},
		"right, but no message comes": {servertest.WebhookSecret, func(f *rechargetest.Faults) { f.NoTests = true }, "skipped", "waiting for the first message", "waits for the first message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, servertest.ManyStores)
			if test.set != nil {
				f.Recharge.SetFaults(test.set)
			}
			form := servertest.ConnectForm()
			form.Set("secret", test.secret)
			_, body := f.AppHome("/app/connect", f.SessionToken(nil), form)
			if !strings.Contains(body, `data-check="webhooks" data-state="`+test.step+`"`) || !strings.Contains(body, `data-result="saved"`) {
				t.Errorf("connecting: %s; want the webhooks %s", body, test.step)
			}
			pages := func() (home, settings string) {
				_, home = f.AppHome("/app/connection", f.SessionToken(nil), nil)
				_, settings = f.AppHome("/app/settings", f.SessionToken(nil), nil)
				return home, settings
			}
			home, settings := pages()
			if !strings.Contains(home, test.row) || !strings.Contains(settings, test.settings) {
				t.Errorf("the home says %s\nthe settings %s; want %q and %q", home, settings, test.row, test.settings)
			}
			// What the first message of a change shows, with the secret as it is, and after it was corrected.
			for i, secret := range []string{test.secret, servertest.WebhookSecret} {
				if i > 0 && secret != test.secret {
					f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"secret": {secret}})
				}
				want := map[bool]string{true: "a message from Recharge was verified", false: "Recharge’s messages do not match the API Client Secret"}[secret == servertest.WebhookSecret]
				f.Recharge.ChangeCustomer(servertest.Customers()[1])
				f.Until("the home says that "+want, func() bool {
					home, _ := pages()
					return strings.Contains(home, want)
				})
			}
		})
	}
}

// TestWebhookRefusedBefore checks that a message that was refused before the secret was pasted again is no answer to
// whether it matches.
func TestWebhookRefusedBefore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.NoTests, f.WrongNewSignature = true, true })
	f.Connect()
	f.Recharge.ChangeCustomer(servertest.Customers()[1])
	f.Until("a message is refused", func() bool {
		_, home := f.AppHome("/app/connection", f.SessionToken(nil), nil)
		return strings.Contains(home, "Recharge’s messages do not match")
	})
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.NoTests, f.WrongNewSignature = false, false })
	f.Clock.Add(time.Minute)
	_, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"secret": {servertest.WebhookSecret}})
	if !strings.Contains(body, `data-check="webhooks" data-state="passed"`) {
		t.Errorf("pasted again: %s; want the message that came then to count", body)
	}
}

// TestWebhookTestedAgain checks that Recharge is asked for another message each day until one has verified, and not
// once one has.
func TestWebhookTestedAgain(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.NoTests = true })
	f.Connect()
	tests := func() (n int) {
		for _, request := range f.Recharge.Requests() {
			if strings.HasSuffix(request.Path, "/test") {
				n++
			}
		}
		return n
	}
	if tests() != 1 {
		t.Errorf("while connecting, Recharge was asked for %d messages; want 1", tests())
	}
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.NoTests = false })
	f.Clock.Add(25 * time.Hour)
	f.Restart(func() {}, servertest.ManyStores)
	f.Until("the message of the next day has verified", func() bool {
		_, home := f.AppHome("/app/connection", f.SessionToken(nil), nil)
		return strings.Contains(home, "a message from Recharge was verified")
	})
	f.Clock.Add(25 * time.Hour)
	asked := len(f.Recharge.Requests())
	f.Restart(func() {}, servertest.ManyStores)
	f.Until("the webhooks are looked at again", func() bool {
		return slices.ContainsFunc(f.Recharge.Requests()[asked:], func(r rechargetest.Request) bool { return strings.HasSuffix(r.Path, "/webhooks") })
	})
	if tests() != 2 {
		t.Errorf("Recharge was asked for %d messages; want 2, and none once one has verified", tests())
	}
}

package server_test

// This file tries to make what is detected of a store wrong, endless or dangerous.

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

func recordOf(f *servertest.Fixture) string { return f.Redis.Dump()["ms2:{"+servertest.Shop+"}:shop"] }

func look(f *servertest.Fixture) string {
	_, said := f.AppHome("/app/look", f.SessionToken(nil), url.Values{})
	return said
}

// TestLookAtNothing: a look at which Recharge showed nothing does not say that nothing has changed.
func TestLookAtNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*rechargetest.Faults){
		"Recharge is down":         func(faults *rechargetest.Faults) { faults.Down = true },
		"Recharge answers 500":     func(faults *rechargetest.Faults) { faults.Status = 500 },
		"Recharge answers 429":     func(faults *rechargetest.Faults) { faults.Limited = true },
		"the token was revoked":    func(faults *rechargetest.Faults) { faults.Status = 401 },
		"only portal access fails": func(faults *rechargetest.Faults) { faults.Status, faults.Only = 503, rechargetest.EndpointPortalAccess },
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
				f.Recharge.SetFaults(fault)
				f.Clock.Add(25 * time.Hour)
				if said := look(f); strings.Contains(said, "Nothing has changed") {
					t.Errorf("a look that saw nothing says that nothing has changed; Detected just now: %v", strings.Contains(said, "Detected just now"))
				}
			})
		})
	}
}

// TestOneRefusalADay: a refusal of portal access that passes takes the signed-in link from one click only.
func TestOneRefusalADay(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404} {
		inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
			pat := f.Shopper(servertest.Pat)
			f.Clock.Add(doubtful)
			f.Recharge.SetFaults(func(faults *rechargetest.Faults) {
				faults.Status, faults.Only = status, rechargetest.EndpointPortalAccess
			})
			f.Click(pat, "/apps/subscriptions")
			f.Until("it is noticed", func() bool { return strings.Contains(appHome(f), "by a link, where Recharge may ask") })
			f.Recharge.SetFaults(func(faults *rechargetest.Faults) { faults.Status, faults.Only = 0, "" })
			f.Clock.Add(20 * time.Hour)
			for range 5 {
				f.Click(f.Shopper(servertest.Sam), "/apps/subscriptions")
				f.Clock.Add(doubtful)
			}
			if got := f.Click(f.Shopper(servertest.Sam), "/apps/subscriptions"); got.Outcome() != "redirected" {
				t.Errorf("%d: 20 hours after one refusal, a click ends in %s", status, got.Outcome())
			}
		})
	}
}

// TestChosenAccountStays: a merchant whose choice by hand no longer fits is warned.
func TestChosenAccountStays(t *testing.T) {
	t.Parallel()
	change := func(f *servertest.Fixture, s *config.Settings) {
		s.PortalLink, s.AccountPortalURL = "account", f.Store.AccountPage()
	}
	inBothModes(t, "new", change, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		if !strings.Contains(appHome(f), "this store only") {
			f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"account"}, "page": {f.Store.AccountPage()}})
		}
		// The store shows Affinity: there is no page of Recharge's in the account.
		f.Clock.Add(25 * time.Hour)
		home := look(f)
		got := f.Land(f.Shopper(servertest.Pat), "/apps/subscriptions")
		if got.How == "" && !strings.Contains(home, "data-warning") {
			t.Errorf("Pat's click opens nothing, outcome %v, and the merchant is not warned", f.Log.Last("click")["outcome"])
		}
	})
}

// TestPathFlips: a visitor who varies the path does not make the server write each time.
func TestPathFlips(t *testing.T) {
	t.Parallel()
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		writes, last := 0, recordOf(f)
		for i := range 20 {
			prefix := []string{"/apps/subscriptions", "/apps/Subscriptions"}[i%2] // whether Shopify passes on a visitor's capitals is not known
			query := f.Store.SignedQuery("", "", prefix, servertest.AppSecret)    // a visitor who is not signed in
			f.Request("GET", f.Public, "/apps/subscriptions?"+query)
			time.Sleep(30 * time.Millisecond)
			if now := recordOf(f); now != last {
				writes, last = writes+1, now
			}
		}
		if writes > 3 {
			t.Errorf("20 clicks of a crawler wrote the record %d times", writes)
		}
	})
}

// TestOneThenMany: a store that was served alone is not connected on a server for many stores, and what was
// cached for its account opens for no other account.
func TestOneThenMany(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", func(s *config.Settings) { s.EncryptionKey = servertest.EncryptionKey })
	f.Until("the store is detected", func() bool { return strings.Contains(appHome(f), "Detected") })
	f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	f.Restart(func() {}, servertest.ManyStores)
	f.Store.AddApp(appAt(f, "/apps/many"))
	if home := appHome(f); strings.Contains(home, `data-state="connected"`) {
		t.Errorf("the app home says that the store is connected; nobody has connected it")
	}
	if got := f.Click(f.Shopper(servertest.Sam), "/apps/many"); got.Outcome() != "not_connected" {
		t.Errorf("a click ends in %s; want not_connected", got.Outcome())
	}
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/many"); got.Outcome() != "not_connected" {
		t.Errorf("a cached shopper's click ends in %s; want not_connected", got.Outcome())
	}
	// The merchant connects another Recharge account, where Pat is somebody else.
	form := servertest.ConnectForm()
	pats := f.Record(servertest.PatsRecord)
	pats.Hash = "ffffeeee00001111"
	f.PutRecord(pats)
	f.AppHome("/app/connect", f.SessionToken(nil), form)
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/many").Location; strings.Contains(got, servertest.PatsHash) {
		t.Errorf("after another account was connected, Pat is sent to what was cached for the one before: %s", got)
	}
}

// TestLookOfAnotherStore: a server for one store has nothing to look at for another store's merchant.
func TestLookOfAnotherStore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.Restart(func() {}, func(s *config.Settings) {
		s.ShopifyShop, s.EncryptionKey = "another-shop.myshopify.com", servertest.EncryptionKey
	})
	response, body := f.AppHome("/app/look", f.SessionToken(nil), url.Values{})
	if response.StatusCode >= 500 {
		t.Errorf("look = %d %s", response.StatusCode, body)
	}
	if line := f.Log.Last("request panicked"); line != nil {
		t.Error(line)
	}
}

// TestSavedButNotUsed: a page that was saved is used at once, on the host where the accounts were just seen.
func TestSavedButNotUsed(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.SaveElsewhere(store.Connection{ // as connected when the accounts were elsewhere
		Shop: servertest.Shop, APIToken: servertest.APIToken, StorefrontToken: servertest.StorefrontToken,
		Detected: store.Traits{PortalURL: f.Store.URL + "/tools/recurring/portal/", Accounts: "new", Link: "account", AccountHost: "account.old.example"},
		SavedAt:  f.Clock.Now(),
	})
	_, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"account"}, "page": {f.Store.AccountPage()}})
	got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	if strings.Contains(body, "Saved.") && got.Location != f.Store.AccountPage() {
		t.Errorf("the page was saved, but a click leads to %q, and the page says: %v", got.Location, strings.Contains(body, "Paste it again"))
	}
}

// TestStorefrontTokenAdded: an operator who sets what sessions lacked, and restarts, need not wait for a day.
func TestStorefrontTokenAdded(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", func(s *config.Settings) { s.RechargeStorefrontToken = "" })
	f.Until("the store is detected", func() bool { return strings.Contains(appHome(f), "Detected") })
	f.Clock.Add(2 * time.Minute)
	f.Restart(func() {}, func(s *config.Settings) { s.PortalLink = "signed_in" })
	f.Store.AddApp(appAt(f, "/apps/mended"))
	f.Until("sessions are possible", func() bool { return strings.Contains(appHome(f), "so they arrive signed in") })
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/mended"); got.Outcome() != "redirected" {
		t.Errorf("after the operator has set RECHARGE_STOREFRONT_TOKEN, a click ends in %s", got.Outcome())
	}
}

// TestLooksOfLegacyStore: visitors of a store with legacy accounts do not make the server look at a store that refuses
// robots each minute.
func TestLooksOfLegacyStore(t *testing.T) {
	t.Parallel()
	inBothModes(t, "legacy", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		f.Store.SetFaults(func(faults *shopifytest.Faults) { faults.Bots = 430 })
		before := len(f.Log.Lines("customer accounts not detected"))
		for range suite.Pick(60, 25) {
			f.Clock.Add(time.Minute)
			f.Click(f.Shopper(""), "/apps/subscriptions")
			time.Sleep(15 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		if n := len(f.Log.Lines("customer accounts not detected")) - before; n > suite.Pick(12, 4) {
			t.Errorf("one visitor a minute made the server ask the store, which refuses robots, %d times in an hour", n)
		}
	})
}

// TestClockAhead: a merchant's look is made even if another server, whose clock is ahead, has just looked.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores)
	f.Connect()
	i := f.Instance(server.Options{Now: func() time.Time { return f.Clock.Now().Add(5 * time.Second) }}, servertest.ManyStores)
	here := f.Public
	f.Ask(i.Public)
	look(f)
	f.Ask(here)
	f.Calls()
	said := look(f)
	if n := len(f.Calls()); n == 0 && strings.Contains(said, "Nothing has changed") {
		t.Error("no call was made, and the merchant reads that nothing has changed")
	}
}

// TestOneThenManyOtherPerson: the same Recharge id in another account is another person.
func TestOneThenManyOtherPerson(t *testing.T) {
	t.Parallel()
	f := watching(t)
	const key = "a-key-of-the-store-0123456789abcdef"
	f.Begin("new", "/apps/subscriptions", func(s *config.Settings) {
		s.EncryptionKey, s.PortalAPIKey = servertest.EncryptionKey, key
	})
	f.Until("the store is detected", func() bool { return strings.Contains(appHome(f), "Detected") })
	ask := `{"recharge_customer_id": 70100200}`
	first := f.PostLink(key, ask)
	f.Restart(func() {}, servertest.ManyStores)
	others := f.Record(servertest.PatsRecord)
	others.Hash, others.ShopifyCustomerID, others.Email = "ffffeeee00001111", servertest.Robin, "robin@example.test"
	f.PutRecord(others) // in the other account
	f.Connect()
	second := f.PostLink(f.MakeKey(servertest.Shop, "server"), ask)
	if strings.Contains(second.URL, servertest.PatsHash) {
		t.Errorf("the first account's %s, the second account's %s: the same person's portal", first.URL, second.URL)
	}
}

// TestTwoTokens: a server with another token does not write into the record what it has seen with that.
func TestTwoTokens(t *testing.T) {
	t.Parallel()
	f := watching(t)
	// The old server has no storefront token, and so sees that sessions are refused. It looks slowly.
	old := func(s *config.Settings) {
		s.RechargeStorefrontToken, s.RechargeClientSecret = "", "old-secret-old-secret"
	}
	f.Begin("new", "/apps/subscriptions", old)
	f.Until("the store is detected", func() bool { return strings.Contains(appHome(f), "Detected") })
	f.Clock.Add(doubtful)
	f.Recharge.SetFaults(func(faults *rechargetest.Faults) {
		faults.Latency, faults.Only = 3000*time.Millisecond, rechargetest.EndpointCustomers
	})
	done := make(chan string)
	go func() { done <- look(f) }()
	time.Sleep(300 * time.Millisecond)
	f.Recharge.SetFaults(func(faults *rechargetest.Faults) { faults.Latency, faults.Only = 0, "" })
	now := f.Instance(server.Options{}) // the new one adopts the record meanwhile, and looks at once
	<-done
	time.Sleep(500 * time.Millisecond)
	f.Clock.Add(12 * time.Hour)
	visit := f.Visit(servertest.NewClient(t), now.Public, servertest.Pat)
	if visit.Outcome != "redirected" {
		t.Errorf("at the new server, a click ends in %s", visit.Outcome)
	}
}

// TestConnectAfterMove: after the portal has moved and the merchant has connected again, cached shoppers
// reach the new portal, too.
func TestConnectAfterMove(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", func(s *config.Settings) { s.LinkTTL, s.RechargePortalURL = "10m", ""; servertest.ManyStores(s) })
	f.Connect()
	pat := f.Shopper(servertest.Pat)
	f.Land(pat, "/apps/subscriptions")
	f.Recharge.MovePortal(f.Recharge.URL + "/portal/")
	f.Connect() // "Check and save"
	if got := f.Land(pat, "/apps/subscriptions"); got.How != rechargetest.HowToken {
		t.Errorf("after connecting again, Pat opens %+v", got)
	}
}

// TestAccountPageWithLegacyAccounts: a store that goes back to legacy accounts has no page in the account any more.
func TestAccountPageWithLegacyAccounts(t *testing.T) {
	t.Parallel()
	change := func(f *servertest.Fixture, s *config.Settings) { s.AccountPortalURL = f.Store.AccountPage() }
	inBothModes(t, "new", change, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		if !strings.Contains(appHome(f), "this store only") {
			f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"page": {f.Store.AccountPage()}})
		}
		f.Recharge.SetUnity(true)
		look(f)
		pat := f.Shopper(servertest.Pat) // stays signed in
		f.Store.SetAccounts("legacy")
		home := look(f)
		got := f.Land(pat, "/apps/subscriptions")
		if got.How == "" && !strings.Contains(home, "data-warning") {
			t.Errorf("Pat's click opens nothing, outcome %v; the merchant is not warned", f.Log.Last("click")["outcome"])
		}
	})
}

// TestEndlessLooks: refusals that do not pass cause a look each hour at most.
func TestEndlessLooks(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores)
	f.Connect()
	f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"signed_in"}})
	f.Recharge.SetUnity(true)
	f.Calls()
	for range suite.Pick(24*5, 24) {
		f.Clock.Add(12 * time.Minute)
		f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
		time.Sleep(20 * time.Millisecond)
	}
	if calls := f.Calls(); calls["token_information"] > suite.Pick(26, 8) {
		t.Errorf("one shopper made the server look %d times in a day: %v", calls["token_information"], calls)
	}
}

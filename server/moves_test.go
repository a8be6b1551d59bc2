package server_test

// This file changes stores while the program runs, as merchants, Shopify and Recharge do without telling
// anybody. The program must notice by itself, in both modes.

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

type test func(t *testing.T, f *servertest.Fixture, settings func(*config.Settings))

// watching returns a fixture that has not begun. Its program detects the traits of stores again.
func watching(t *testing.T) *servertest.Fixture {
	f := servertest.New(t, storetest.Redis(t))
	f.Look = true
	return f
}

// inBothModes runs a test with a server for one store and one for many, which detect the store's traits.
// Nothing is set by hand, except by change.
func inBothModes(t *testing.T, accounts string, change func(*servertest.Fixture, *config.Settings), test test) {
	t.Helper()
	for _, many := range []bool{false, true} {
		name := "one store"
		if many {
			name = "many stores"
		}
		t.Run(name, func(t *testing.T) {
			f := watching(t)
			settings := func(s *config.Settings) {
				s.CustomerAccounts, s.RechargePortalURL, s.LinkTTL = "auto", "", "10m"
				switch {
				case many:
					servertest.ManyStores(s)
				case change != nil:
					change(f, s)
				}
			}
			f.Begin(accounts, "/apps/subscriptions", settings)
			if many {
				f.Connect()
			}
			f.Until("the store is detected", func() bool { return strings.Contains(appHome(f), "Detected") })
			test(t, f, settings)
		})
	}
}

// appHome returns what the app home says about the connection.
func appHome(f *servertest.Fixture) string {
	_, body := f.AppHome("/app/settings", f.SessionToken(nil), nil)
	return body
}

// appAt returns the running program as an app of the store.
func appAt(f *servertest.Fixture, path string) shopifytest.App {
	return shopifytest.App{PathPrefix: path, ProxyURL: "http://" + f.Public + "/apps/subscriptions", Secret: servertest.AppSecret}
}

// TestAccountsMove: after Shopify has moved a store from legacy to current accounts, and after its
// merchant has moved it back, the first click may be lost, but none after it.
func TestAccountsMove(t *testing.T) {
	t.Parallel()
	inBothModes(t, "legacy", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		visitor := f.Shopper("")
		signIn := func() string { return f.Click(visitor, "/apps/subscriptions").Location }
		if got := signIn(); !strings.HasPrefix(got, "/account/login?return_url=") {
			t.Fatalf("a click in a store with legacy accounts leads to %q", got)
		}
		// The look that this click has caused must not be the one that sees the move.
		f.Until("the click was learned from", func() bool { return strings.Contains(appHome(f), "data-path") })
		f.Store.SetAccounts("new")
		f.Clock.Add(doubtful)
		if got := signIn(); !strings.HasPrefix(got, "/account/login?return_url=") {
			t.Fatalf("the first click leads to %q; nobody can know yet", got)
		}
		f.Until("the move is noticed", func() bool { return strings.Contains(appHome(f), "has changed to Shopify’s current") })
		if got := signIn(); !strings.HasPrefix(got, "/customer_authentication/login?return_to=") {
			t.Errorf("the second click leads to %q; want the sign-in that comes back", got)
		}
		f.Store.SetAccounts("legacy")
		f.Clock.Add(doubtful)
		for range 10 {
			signIn()
		}
		f.Until("the move back is noticed", func() bool { return strings.Contains(appHome(f), "has changed to legacy") })
		if got := signIn(); !strings.HasPrefix(got, "/account/login?return_url=") {
			t.Errorf("after the move back, a click leads to %q", got)
		}
	})
}

// doubtful is long enough after the last look for a click to cause another.
const doubtful = 11 * time.Minute

// TestPortalMoves: after a merchant has moved the portal to another host, the first click may be lost,
// but none after it, whatever is cached.
func TestPortalMoves(t *testing.T) {
	t.Parallel()
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		pat, sam := f.Shopper(servertest.Pat), f.Shopper(servertest.Sam)
		lands := func(who string, page rechargetest.Opening, wanted string) {
			t.Helper()
			if page.How != rechargetest.HowToken || page.Customer.ShopifyCustomerID != wanted {
				t.Errorf("%s: %+v; want the portal, signed in", who, page)
			}
		}
		lands("before", f.Land(pat, "/apps/subscriptions"), servertest.Pat) // and is cached
		f.Clock.Add(doubtful - time.Minute)
		f.Land(f.Shopper(servertest.Pat), "/apps/subscriptions") // cached again, with the old portal
		f.Recharge.MovePortal(f.Recharge.URL + "/portal/")
		f.Clock.Add(time.Minute)
		if first := f.Click(sam, "/apps/subscriptions"); first.Outcome() != "redirected_by_hash" {
			t.Fatalf("the first click = %s; want its link refused", first.Outcome())
		}
		f.Until("the move is noticed", func() bool { return strings.Contains(appHome(f), "The portal has moved to "+f.Recharge.URL) })
		lands("the same shopper", f.Land(sam, "/apps/subscriptions/orders"), servertest.Sam)
		lands("a shopper with a link to the old portal", f.Land(pat, "/apps/subscriptions"), servertest.Pat)
	})
}

// TestUnityMoves: a store that changes to Recharge's Unity portal, inside the Shopify account, and back
// heals within one look, without a merchant's hand, if the page's address is known.
func TestUnityMoves(t *testing.T) {
	t.Parallel()
	page := func(f *servertest.Fixture, s *config.Settings) { s.AccountPortalURL = f.Store.AccountPage() }
	inBothModes(t, "new", page, func(t *testing.T, f *servertest.Fixture, settings func(*config.Settings)) {
		if !strings.Contains(appHome(f), "this store only") {
			f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"page": {f.Store.AccountPage() + "?locale=en"}})
		}
		pat := f.Shopper(servertest.Pat)
		if opened := f.Land(pat, "/apps/subscriptions"); opened.How != rechargetest.HowToken {
			t.Fatalf("before: %+v; want the portal, signed in", opened)
		}
		f.Recharge.SetUnity(true)
		f.Clock.Add(doubtful)
		f.Click(pat, "/apps/subscriptions")
		f.Until("the move is noticed", func() bool { return strings.Contains(appHome(f), "in the Shopify account") })
		f.Calls()
		got := f.Click(pat, "/apps/subscriptions?locale=fr&country=ca")
		if want := f.Store.AccountPage() + "?locale=fr&region_country=CA"; got.Location != want || got.Outcome() != "redirected" {
			t.Errorf("with Unity, a click leads to %q, %s; want %q", got.Location, got.Outcome(), want)
		}
		f.WantCalls("a cached customer", map[string]int{})
		if opened := f.Land(pat, "/apps/subscriptions"); opened.How != rechargetest.HowAccount || opened.Customer.ShopifyCustomerID != servertest.Pat {
			t.Errorf("with Unity, the click opens %+v; want Pat's page in the account", opened)
		}
		for to, want := range map[string]string{"payment-methods": "/profile", "orders": "/orders", "schedule": "/orders"} {
			if got := f.Click(pat, "/apps/subscriptions/"+to).Location; got != f.Store.AccountURL+want {
				t.Errorf("%s leads to %q; want %s of the account", to, got, want)
			}
		}
		if got := f.Click(f.Shopper(servertest.Kim), "/apps/subscriptions"); got.Outcome() != "not_a_subscriber" {
			t.Errorf("who does not subscribe gets %s; want our page", got.Outcome())
		}
		f.Recharge.SetFaults(func(faults *rechargetest.Faults) { faults.Down = true })
		if got := f.Click(f.Shopper(servertest.Sam), "/apps/subscriptions"); got.Location != f.Store.AccountPage() {
			t.Errorf("while Recharge is down, a shopper who is not known gets %q; want the account", got.Location)
		}
		f.Recharge.SetFaults(func(faults *rechargetest.Faults) { faults.Down = false })
		f.Recharge.SetUnity(false)
		f.Clock.Add(25 * time.Hour)
		f.Restart(func() {}, settings)
		f.Store.AddApp(appAt(f, "/apps/restarted"))
		f.Until("the move back is noticed", func() bool { return strings.Contains(appHome(f), "so they arrive signed in") })
		if opened := f.Land(pat, "/apps/restarted"); opened.How != rechargetest.HowToken {
			t.Errorf("after the move back: %+v; want the portal, signed in", opened)
		}
	})
}

// TestNotSeen: a store that refuses a look has not changed.
func TestNotSeen(t *testing.T) {
	t.Parallel()
	inBothModes(t, "legacy", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		for _, status := range []int{403, 429, 430} {
			f.Store.SetFaults(func(faults *shopifytest.Faults) { faults.Bots = status })
			_, said := f.AppHome("/app/look", f.SessionToken(nil), url.Values{})
			if !strings.Contains(said, "could not check everything") || strings.Contains(said, "has changed") {
				t.Errorf("a look that is refused with %d says %s", status, said)
			}
			if strings.Contains(said, `class="note good"`) || strings.Contains(said, "are taken to their portal") {
				t.Errorf("after a look that was refused with %d, all is still said to be well: %s", status, said)
			}
			if got := f.Click(f.Shopper(""), "/apps/subscriptions").Location; !strings.HasPrefix(got, "/account/login?") {
				t.Errorf("after a look that was refused with %d, a click leads to %q", status, got)
			}
		}
	})
}

// TestSetByHand: what was set by hand stays, with a warning.
func TestSetByHand(t *testing.T) {
	t.Parallel()
	byHand := func(f *servertest.Fixture, s *config.Settings) {
		s.CustomerAccounts, s.RechargePortalURL = "legacy", "https://portal.brand.example/portal/"
	}
	inBothModes(t, "new", byHand, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		if !strings.Contains(appHome(f), "this store only") {
			f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"accounts": {"legacy"}, "portal": {"https://portal.brand.example/portal/"}})
		}
		home := appHome(f)
		for _, want := range []string{"Legacy customer accounts are set by hand", "is set by hand, but Recharge names " + f.Store.URL} {
			if !strings.Contains(home, want) {
				t.Errorf("the app home does not say %q: %s", want, home)
			}
		}
		if got := f.Click(f.Shopper(""), "/apps/subscriptions").Location; !strings.HasPrefix(got, "/account/login?") {
			t.Errorf("a click leads to %q; want what was set by hand", got)
		}
	})
}

// TestPathSeen: the app home shows the app's path on the storefront as shoppers use it.
func TestPathSeen(t *testing.T) {
	t.Parallel()
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		f.Store.AddApp(appAt(f, "/tools/abo"))
		f.Click(f.Shopper(servertest.Pat), "/tools/abo")
		f.Until("the path is seen", func() bool { return strings.Contains(appHome(f), `data-path="/tools/abo"`) })
		_, home := f.AppHome("/?shop="+servertest.Shop+"&embedded=1&id_token="+f.SessionToken(nil), "", nil)
		if !strings.Contains(home, ">/tools/abo/orders<") || strings.Contains(home, ">/apps/subscriptions/orders<") {
			t.Errorf("the app home's links are not the store's: %s", home)
		}
	})
}

// TestAccountPageIsTheStores: the page must be where the store's own sign-in shows that its accounts are.
func TestAccountPageIsTheStores(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	choose := func(page string) string {
		_, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"account"}, "page": {page}})
		return body
	}
	f.Store.SetFaults(func(faults *shopifytest.Faults) { faults.Bots = 430 })
	if got := choose(f.Store.AccountPage()); !strings.Contains(got, "Not saved: We could not check where") {
		t.Errorf("a page on a host that could not be looked at: %s", got)
	}
	f.Store.SetFaults(func(faults *shopifytest.Faults) { faults.Bots = 0 })
	for page, want := range map[string]string{
		"https://account.evil.com/pages/1":      "Not saved: The page’s address must be on shopify.com",
		"":                                      "Not saved: Paste the address of Recharge’s page",
		"https://shopify.com/1/account/pages/2": "Saved.",
		f.Store.AccountPage():                   "Saved.",
	} {
		if got := choose(page); !strings.Contains(got, want) {
			t.Errorf("%q: %s; want %q", page, got, want)
		}
	}
	if _, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"unity"}}); !strings.Contains(body, "Bad Request") {
		t.Errorf("a choice that the page does not offer: %s", body)
	}
}

// TestUnitySuggested: a store that has moved to Unity, and whose page is not known, goes on by hash, and
// its merchant is asked for the address.
func TestUnitySuggested(t *testing.T) {
	t.Parallel()
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		pat := f.Shopper(servertest.Pat)
		f.Click(pat, "/apps/subscriptions")
		f.Recharge.SetUnity(true)
		f.Clock.Add(doubtful)
		f.Click(pat, "/apps/subscriptions")
		f.Until("the merchant is asked", func() bool { return strings.Contains(appHome(f), "Does your store show Recharge’s Unity portal") })
		f.Calls()
		if got := f.Click(pat, "/apps/subscriptions"); got.Outcome() != "redirected_by_hash" {
			t.Errorf("a click ends in %s; want redirected_by_hash", got.Outcome())
		}
		f.WantCalls("a cached customer", map[string]int{})
	})
}

// TestConnectToUnity: a merchant who says in the setup guide that the store shows Unity needs nothing else.
func TestConnectToUnity(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetUnity(true)
	f.Connect()
	choose := func(form url.Values) string {
		_, body := f.AppHome("/app/portal", f.SessionToken(nil), form)
		return body
	}
	asks := func(body string) bool { return strings.Contains(body, `name="portal" value="unity"`) }
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !asks(body) {
		t.Errorf("connected: %s; want to be asked for the portal, since Recharge opens none", body)
	}
	for want, form := range map[string]url.Values{
		"Paste the address":      {"portal": {"unity"}},
		"Choose one of the two":  {},
		"must be on shopify.com": {"portal": {"unity"}, "page": {"https://www.example.com/"}},
	} {
		if body := choose(form); !asks(body) || !strings.Contains(body, want) || !strings.Contains(body, "data-invalid=") {
			t.Errorf("%v: %s; want to be asked again, and %q at a field", form, body, want)
		}
	}
	if body := choose(url.Values{"portal": {"unity"}, "page": {f.Store.AccountPage()}}); asks(body) {
		t.Fatalf("with the address: %s; want it saved", body)
	}
	got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	if got.Location != f.Store.AccountPage() || got.Outcome() != "redirected" {
		t.Errorf("a first click = %s to %q; want the account's page", got.Outcome(), got.Location)
	}
	link := f.PostLink(f.MakeKey(servertest.Shop, "server"), `{"shopify_customer_id": "`+servertest.Pat+`"}`)
	if link.URL != f.Store.AccountPage() || link.SignedIn {
		t.Errorf("a server gets %+v; want the page, where Shopify signs in", link)
	}
}

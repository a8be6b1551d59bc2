package sandbox_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	devtools "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// portalPath is the path of Recharge's own app in the store.
const portalPath = "/tools/recurring"

// walker is a person with a browser. It reads the page and clicks on what it has read.
type walker struct {
	t   *testing.T
	s   *sandbox.Sandbox
	ctx context.Context
}

// newWalker opens a browser window. The test fails if the browser reports an error on a page, such
// as a script that the page's policy forbids.
func newWalker(t *testing.T, s *sandbox.Sandbox, machine context.Context) *walker {
	t.Helper()
	w := &walker{t, s, window(t, machine)}
	var mu sync.Mutex
	var complaints []string
	err := chromedp.Listen(w.ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch event := event.(type) {
		case *log.EventEntryAdded:
			// A page that refuses a link for support is a 403, which the browser reports as an error.
			refused := event.Entry.Source == log.EntrySourceNetwork && strings.Contains(event.Entry.URL, "/go/support?")
			if event.Entry.Level == log.EntryLevelError && !refused {
				complaints = append(complaints, event.Entry.Text+" "+event.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, event.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, complaint := range complaints {
			t.Errorf("the browser complains: %s", complaint)
		}
	})
	return w
}

// TestWalks follows shoppers from a click to its end. Each has its own store and browser window.
func TestWalks(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	for _, walk := range []struct {
		name  string
		store sandbox.Options
		walk  func(w *walker)
	}{
		{"signed out", sandbox.Options{}, walkSignedOut},
		{"never subscribed", sandbox.Options{}, walkNeverSubscribed},
		{"subscribed a moment ago", sandbox.Options{}, walkSubscribedSince},
		{"sign-in does not take", sandbox.Options{}, walkSignInFails},
		{"Recharge down, not known", sandbox.Options{}, walkDownNotKnown},
		{"Recharge down, known", sandbox.Options{}, walkDownKnown},
		{"store without Recharge", sandbox.Options{}, walkNotConnected},
		{"two shoppers at one machine", sandbox.Options{}, walkTwoShoppers},
		{"renamed path", sandbox.Options{Path: "/tools/my_subs"}, walkRenamedPath},
		{"French", sandbox.Options{}, walkFrench},
		{"French sign-in", sandbox.Options{}, walkFrenchSignIn},
		{"Arabic", sandbox.Options{}, walkArabic},
		{"Unity", sandbox.Options{}, walkUnity},
		{"accounts upgraded", sandbox.Options{Classic: true}, walkUpgraded},
		{"legacy accounts", sandbox.Options{Classic: true}, walkLegacy},
		{"legacy account menus", sandbox.Options{Classic: true}, walkLegacyMenus},
		{"legacy account menus, no script", sandbox.Options{Classic: true}, walkLegacyNoScript},
		{"forwarded by a page", sandbox.Options{Redirect: "page"}, walkByPage},
		{"forwarded by a page, no script", sandbox.Options{Redirect: "page"}, walkByPageNoScript},
		{"keyboard", sandbox.Options{}, walkKeyboard},
		{"keyboard, older theme", sandbox.Options{Classic: true}, walkKeyboard},
		{"narrow", sandbox.Options{}, walkNarrow},
		{"narrow, older theme", sandbox.Options{Classic: true}, walkNarrow},
	} {
		if !suite.Runs(walk.name, "signed out", "never subscribed", "Recharge down, known", "two shoppers at one machine", "renamed path",
			"Unity", "Arabic", "legacy account menus", "forwarded by a page", "keyboard") {
			continue
		}
		t.Run(walk.name, func(t *testing.T) {
			t.Parallel()
			walk.walk(newWalker(t, startWith(t, walk.store), machine))
		})
	}
}

func walkSignedOut(w *walker) {
	w.open("/apps/subscriptions/orders?locale=fr")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	portal := w.inPortal("Pat Doe", "Orders")
	if want := "Locale\nfr"; !strings.Contains(portal.Text, want) {
		w.t.Errorf("the portal reads %q; want %q in it", portal.Text, want)
	}
	w.wantClicks("302 /apps/subscriptions/orders", "302 /apps/subscriptions/orders")
}

func walkNeverSubscribed(w *walker) {
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Robin Roe")
	page := w.inStore("No subscriptions found", "en", []link{
		{"Sign out and sign in again", "/account/logout?return_url=%2fapps%2fsubscriptions"},
		{"Find my subscriptions by e-mail", "/tools/recurring/get-subscription-access"},
		{"Check again", "/apps/subscriptions?ms_tried=1"},
		{"Browse subscriptions", "/collections/all"},
		{"Contact Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
		{"Back to the store", "/"},
	})
	if want := "We found no subscription that belongs to this account."; !strings.Contains(page.Text, want) {
		w.t.Errorf("the page reads %q; want %q in it", page.Text, want)
	}
	w.press("Sign out and sign in again")
	w.sees("Good coffee, before you run out.") // Shopify's current accounts are not known to use return_url
	w.press("Subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Subscriptions")
	w.open("/account/logout")
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Robin Roe")
	w.press("Browse subscriptions")
	w.sees("All coffee")
	w.open("/apps/subscriptions")
	w.press("Check again")
	w.sees("No subscriptions found")
	w.press("Find my subscriptions by e-mail")
	recharge := w.sees("You have no subscriptions")
	if got, want := recharge.Address, "/tools/recurring/get-subscription-access"; got != want {
		w.t.Errorf("the link by e-mail leads to %s; want %s", got, want)
	}
	w.back("No subscriptions found")
}

func walkSubscribedSince(w *walker) {
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Robin Roe")
	w.sees("No subscriptions found")
	w.s.Recharge.SetCustomers([]rechargetest.Customer{{
		ID: 70100400, Hash: "3e4d5c6b7a798812", ShopifyCustomerID: robin, Email: "robin@example.test", FirstName: "Robin", LastName: "Roe",
		Subscriptions: []rechargetest.Subscription{{ID: 50500800, Product: "Slow Sunday, 250 g"}},
	}})
	w.s.Forget() // stands for the minute that the page mentions
	w.press("Check again")
	w.inPortal("Robin Roe", "Subscriptions")
}

func walkSignInFails(w *walker) {
	w.breaks("signin")
	w.open("/apps/subscriptions/orders")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inStore("Please sign in again", "en", []link{
		{"Sign in again", "/customer_authentication/login?return_to=%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1"},
		{"Find my subscriptions by e-mail", "/tools/recurring/get-subscription-access"},
		{"Contact Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
		{"Back to the store", "/"},
	})
	w.wantClicks("302 /apps/subscriptions/orders", "200 /apps/subscriptions/orders")
	w.press("Sign in again")
	w.sees("Please sign in again")
	w.wantClicks("302 /apps/subscriptions/orders", "200 /apps/subscriptions/orders", "200 /apps/subscriptions/orders")
	w.press("Find my subscriptions by e-mail")
	w.sees("Enter your e-mail to get a link")
	w.open("/apps/subscriptions/orders?ms_returned=1")
	w.sees("Please sign in again")
	w.mends("signin")
	w.press("Sign in again")
	w.inPortal("Pat Doe", "Orders")
}

func walkDownNotKnown(w *walker) {
	w.breaks("down")
	w.open("/apps/subscriptions/schedule")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	page := w.inStore("Your subscriptions cannot be opened right now", "en", []link{
		{"Try again", "/apps/subscriptions/schedule?ms_tried=1"},
		{"Find my subscriptions by e-mail", "/tools/recurring/get-subscription-access"},
		{"Contact Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
		{"Back to the store", "/"},
	})
	if want := "your subscriptions have not changed"; !strings.Contains(page.Text, want) {
		w.t.Errorf("the page reads %q; want %q in it", page.Text, want)
	}
	w.press("Try again")
	w.sees("Your subscriptions cannot be opened right now")
	w.mends("down")
	w.press("Try again")
	w.inPortal("Pat Doe", "Delivery schedule")
}

func walkDownKnown(w *walker) {
	w.account("Pat Doe")
	w.open("/") // the theme requests her status, so her ID is cached but there is no access yet
	w.until("the answer to the script's question", func() bool {
		return read(w.t, w.ctx, chromedp.Evaluate[int](`sessionStorage.length`)) > 0
	})
	w.breaks("down")
	w.open("/apps/subscriptions/addresses")
	if page := w.inPortal("Pat Doe", "Addresses"); !strings.Contains(page.Text, "by the store’s login") {
		w.t.Errorf("with Recharge down the portal reads %q; want: by the store’s login", page.Text)
	}
	w.mends("down")
	w.open("/apps/subscriptions")
	if page := w.inPortal("Pat Doe", "Subscriptions"); !strings.Contains(page.Text, "by a portal token") {
		w.t.Errorf("with Recharge in order the portal reads %q; want: by a portal token", page.Text)
	}
	w.breaks("down")
	w.open("/apps/subscriptions/addresses") // one access serves every page
	if page := w.inPortal("Pat Doe", "Addresses"); !strings.Contains(page.Text, "by a portal token") {
		w.t.Errorf("with Recharge down a minute later the portal reads %q; want: by a portal token", page.Text)
	}
}

func walkNotConnected(w *walker) {
	w.breaks("shop")
	w.open("/apps/subscriptions")
	w.inStore("Subscriptions cannot be managed here yet", "en", []link{
		{"Back to the store", "/"},
		{"Contact Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
	})
	w.press("Back to the store")
	w.sees("Good coffee, before you run out.")
}

// walkTwoShoppers: the theme's script must not apply one shopper's status to the next.
func walkTwoShoppers(w *walker) {
	w.account("Robin Roe")
	w.open("/")
	w.until("Robin's two links", func() bool { return len(w.links(".shopify-app-block")) == 2 })
	w.open("/account/logout")
	w.account("Pat Doe")
	w.open("/")
	w.until("the second question", func() bool { return w.asked() == 2 })
	w.until("what the script has learned of both", func() bool {
		return read(w.t, w.ctx, chromedp.Evaluate[int](`sessionStorage.length`)) == 2
	})
	w.press("Manage subscriptions (subscribers)")
	w.inPortal("Pat Doe", "Subscriptions")
}

func walkRenamedPath(w *walker) {
	block := func() link {
		w.open("/")
		w.sees("Good coffee, before you run out.")
		return w.links(".shopify-app-block")[0]
	}
	if got, want := block(), (link{"Manage subscriptions", "/apps/subscriptions?locale=en&country=US"}); got != want {
		w.t.Errorf("the app block has %v; want %v, since nobody has clicked yet", got, want)
	}
	w.press("Subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Subscriptions")

	(&merchant{w}).savesPath("/tools/my_subs")
	if got, want := block(), (link{"Manage subscriptions", "/tools/my_subs?locale=en&country=US"}); got != want {
		w.t.Errorf("after a visit to the app home, the app block has %v; want %v", got, want)
	}
	w.press("Manage subscriptions")
	w.inPortal("Pat Doe", "Subscriptions")

	w.s.Forget()
	w.breaks("down")
	w.open("/tools/my_subs/orders")
	if page := w.sees("Your subscriptions cannot be opened right now"); !slices.Contains(page.Links, link{"Try again", "/tools/my_subs/orders?ms_tried=1"}) {
		w.t.Errorf("the page's links are %v; want the next try at /tools/my_subs/orders?ms_tried=1", page.Links)
	}
	w.mends("down")
	w.press("Try again")
	w.inPortal("Pat Doe", "Orders")
	for _, click := range w.clicks() {
		if !strings.Contains(click, " /tools/my_subs") {
			w.t.Errorf("a click went %s; want all of them under /tools/my_subs", click)
		}
	}
}

func walkFrench(w *walker) {
	w.account("Robin Roe")
	w.open("/fr/apps/subscriptions")
	page := w.inStore("Aucun abonnement trouvé", "fr", []link{
		{"Vérifier à nouveau", "/fr/apps/subscriptions?ms_tried=1"},
		{"Se déconnecter et se reconnecter", "/fr/account/logout?return_url=%2Ffr%2fapps%2fsubscriptions"},
		{"Retrouver mes abonnements par e-mail", "/tools/recurring/get-subscription-access"}, // Recharge's page has no languages
		{"Découvrir nos abonnements", "/fr/collections/all"},
		{"Contacter Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
		{"Retour à la boutique", "/fr/"},
	})
	if page.Direction != "ltr" {
		w.t.Errorf("French runs %s; want ltr", page.Direction)
	}
	w.press("Vérifier à nouveau")
	w.sees("Aucun abonnement trouvé")
	w.press("Retour à la boutique")
	if page := w.sees("Good coffee, before you run out."); page.Address != "/fr/" {
		w.t.Errorf("back in the store is %s; want /fr/", page.Address)
	}
}

func walkFrenchSignIn(w *walker) {
	w.open("/fr/apps/subscriptions/orders?ms_returned=1")
	w.inStore("Veuillez vous reconnecter", "fr", []link{
		{"Se reconnecter", "/customer_authentication/login?return_to=%2Ffr%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1"},
		{"Retrouver mes abonnements par e-mail", "/tools/recurring/get-subscription-access"},
		{"Contacter Sandbox Coffee", "mailto:hello@sandbox-coffee.example?subject=Manage%20Subscriptions%20<id>"},
		{"Retour à la boutique", "/fr/"},
	})
	w.press("Se reconnecter")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Orders")

	w.open("/account/logout")
	w.open("/fr")
	w.press("Manage subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	if page := w.inPortal("Pat Doe", "Subscriptions"); !strings.Contains(page.Text, "Locale\nfr") {
		w.t.Errorf("the portal reads %q; want the locale fr", page.Text)
	}
}

func walkArabic(w *walker) {
	w.account("Robin Roe")
	w.open("/ar/apps/subscriptions")
	page := w.sees("لم يتم العثور على اشتراكات")
	if page.Language != "ar" || page.Direction != "rtl" {
		w.t.Errorf("the page is in %s and runs %s; want ar, rtl", page.Language, page.Direction)
	}
	// Measures the text itself, not its box.
	type edges struct{ Left, Right, BoxLeft, BoxRight float64 }
	for _, selector := range []string{"main h1", "main h1 ~ p", "main li:last-child"} {
		got := read(w.t, w.ctx, chromedp.Evaluate[edges](fmt.Sprintf(`(() => {
			const box = document.querySelector(%q), text = document.createRange();
			text.selectNodeContents(box);
			const inner = text.getBoundingClientRect(), outer = box.closest('section').getBoundingClientRect();
			const {paddingLeft, paddingRight} = getComputedStyle(box.closest('section'));
			return {Left: inner.left, Right: inner.right, BoxLeft: outer.left + parseFloat(paddingLeft), BoxRight: outer.right - parseFloat(paddingRight)};
		})()`, selector)))
		if got.BoxRight-got.Right > 2 || got.Left-got.BoxLeft < 20 {
			w.t.Errorf("the text of %s reaches from %.0f to %.0f in a page from %.0f to %.0f; want it at the right edge", selector, got.Left, got.Right, got.BoxLeft, got.BoxRight)
		}
	}
}

// walkUnity: in a store whose portal is in the customer account, shoppers end up there, from the storefront
// and from the account's own menu. A shopper without a subscription gets our page.
func walkUnity(w *walker) {
	w.breaks("unity")
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inAccount("Subscriptions", w.s.Store.AccountPage(), "Pat Doe")
	for name, size := range map[string][2]int64{"unity-desktop": {1200, 800}, "unity-phone": {390, 844}} {
		picture(w.t, w.ctx, name, size[0], size[1])
	}
	w.press("Manage Subscriptions")
	w.inAccount("Subscriptions", w.s.Store.AccountPage(), "Pat Doe")
	w.open("/apps/subscriptions/payment-methods")
	w.inAccount("Profile", w.s.Store.AccountURL+"/profile", "Pat Doe")
	w.press("Sign out")
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Robin Roe")
	w.sees("No subscriptions found")
	w.open("/account/logout")
	w.mends("unity")
	w.open("/apps/subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Subscriptions")
}

// walkUpgraded: a store that Shopify moves from legacy to current accounts keeps its way back.
func walkUpgraded(w *walker) {
	w.open("/apps/subscriptions/orders")
	w.signsIn("/account/login", "Pat Doe")
	w.inPortal("Pat Doe", "Orders")
	w.open("/account/logout")
	w.breaks("accounts")
	w.open("/apps/subscriptions/orders")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Orders")
}

// inAccount checks that Recharge shows a shopper's subscriptions on this page of the account.
func (w *walker) inAccount(heading, address, name string) {
	w.t.Helper()
	w.until("the account's page at "+address, func() bool {
		page, err := w.tryLook()
		return err == nil && page.Heading == heading && strings.HasPrefix(read(w.t, w.ctx, chromedp.Location()), address) &&
			strings.Contains(page.Text, "Recharge shows the subscriptions of "+name)
	})
	openings := w.s.Recharge.Openings()
	if last := openings[len(openings)-1]; last.How != rechargetest.HowAccount || last.Customer.Name() != name {
		w.t.Errorf("the account shows %+v; want the subscriptions of %s", last, name)
	}
}

func walkLegacy(w *walker) {
	w.open("/")
	w.press("Subscriptions")
	w.signsIn("/account/login", "Pat Doe")
	w.inPortal("Pat Doe", "Subscriptions")

	w.open("/account/logout")
	w.breaks("signin")
	w.open("/apps/subscriptions/orders")
	w.signsIn("/account/login", "Pat Doe")
	page := w.sees("Please sign in again")
	again := link{"Sign in again", "/account/login?return_url=%2Fapps%2Fsubscriptions%2Forders%3Fms_returned%3D1"}
	if !slices.Contains(page.Links, again) {
		w.t.Errorf("the page's links are %v; want %v", page.Links, again)
	}
	w.mends("signin")
	w.press("Sign in again")
	w.inPortal("Pat Doe", "Orders")

	w.open("/account/logout")
	w.open("/apps/subscriptions/orders")
	w.signsIn("/account/login", "Robin Roe")
	w.sees("No subscriptions found")
	w.press("Sign out and sign in again")
	w.signsIn("/account/login", "Pat Doe")
	w.inPortal("Pat Doe", "Orders")
}

func walkLegacyMenus(w *walker) {
	w.account("Pat Doe")
	ours := link{"Manage subscriptions", "/apps/subscriptions?locale=en&country=US"}
	menu := []link{{"My account", "/account"}, {"Addresses", "/account/addresses"}, ours, {"Log out", "/account/logout"}}
	if diff := cmp.Diff(w.links(".account-nav"), []link{{"Orders", "/account"}, {"Addresses", "/account/addresses"}, ours, {"Log out", "/account/logout"}}); diff != "" {
		w.t.Errorf("menu of the account page (-got +want):\n%s", diff)
	}
	if got := w.links(".account-menu"); len(got) != 0 {
		w.t.Errorf("the closed menu of the header shows %v; want nothing", got)
	}
	w.opensMenu()
	if diff := cmp.Diff(w.links(".account-menu"), menu); diff != "" {
		w.t.Errorf("menu of the header (-got +want):\n%s", diff)
	}
	if got := w.links(".manage-subscriptions--account"); len(got) != 0 {
		w.t.Errorf("the foot of the account page has %v; want nothing, since the menus have the link", got)
	}

	w.open("/")
	w.opensMenu()
	if diff := cmp.Diff(w.links(".account-menu"), menu); diff != "" {
		w.t.Errorf("menu of the header on the home page (-got +want):\n%s", diff)
	}
	w.press("Manage subscriptions")
	w.inPortal("Pat Doe", "Subscriptions")
}

func walkLegacyNoScript(w *walker) {
	w.noScript()
	w.account("Pat Doe")
	want := []link{{"Manage subscriptions", "/apps/subscriptions?locale=en&country=US"}}
	if diff := cmp.Diff(w.links("nav.manage-subscriptions--account"), want); diff != "" {
		w.t.Errorf("the embed on the account page, without script (-got +want):\n%s", diff)
	}
	w.press("Manage subscriptions")
	w.inPortal("Pat Doe", "Subscriptions")
	w.open("/")
	w.sees("Coffee, roasted on Mondays")
	if got := w.links("nav.manage-subscriptions--account"); len(got) != 0 {
		w.t.Errorf("the embed on the home page, without script = %v; want nothing", got)
	}
}

func walkByPage(w *walker) {
	w.account("Pat Doe")
	w.open("/collections/all")
	w.press("Subscriptions")
	w.inPortal("Pat Doe", "Subscriptions")
	w.wantClicks("200 /apps/subscriptions")
	w.back("All coffee")
}

func walkByPageNoScript(w *walker) {
	w.noScript()
	w.open("/collections/all")
	w.press("Subscriptions")
	w.signsIn("/authentication/oauth/authorize", "Pat Doe")
	w.inPortal("Pat Doe", "Subscriptions")
	w.wantClicks("200 /apps/subscriptions", "200 /apps/subscriptions")

	w.open("/collections/all")
	w.press("Subscriptions")
	w.inPortal("Pat Doe", "Subscriptions")
	w.back("All coffee")
}

// outcomePage is a page of the store that a walk can end on.
type outcomePage struct {
	fault         string // that leads a shopper without subscriptions here
	title, action string
	leadsTo       string // where the action leads with the same fault
}

func outcomePages() []outcomePage {
	return []outcomePage{
		{"signin", "Please sign in again", "Sign in again", "/apps/subscriptions?ms_returned=1"},
		{"", "No subscriptions found", "Check again", "/apps/subscriptions?ms_tried=1"},
		{"down", "Your subscriptions cannot be opened right now", "Try again", "/apps/subscriptions?ms_tried=1"},
		{"shop", "Subscriptions cannot be managed here yet", "Back to the store", "/"},
	}
}

// meets sets the page's fault and opens it.
func (w *walker) meets(page outcomePage) {
	w.t.Helper()
	w.s.Forget()
	if page.fault != "" {
		w.breaks(page.fault)
		w.t.Cleanup(func() { w.mends(page.fault) })
	}
	address := "/apps/subscriptions"
	if page.fault == "signin" {
		address += "?ms_returned=1"
	}
	w.open(address)
	w.sees(page.title)
}

func walkKeyboard(w *walker) {
	w.account("Robin Roe")
	for _, page := range outcomePages() {
		w.t.Run(page.title, func(t *testing.T) {
			w := &walker{t, w.s, w.ctx}
			w.meets(page)
			w.key(kb.Tab) // the sandbox's panel
			w.key(kb.Tab)
			w.wantFocus("Skip to content")
			w.key(kb.Enter)
			w.key(kb.Tab)
			w.wantFocus(page.action)
			w.leaves(func() { w.key(kb.Enter) })
			if got := w.look().Address; got != page.leadsTo {
				t.Errorf("Enter on %q leads to %s; want %s", page.action, got, page.leadsTo)
			}
		})
	}
}

func walkNarrow(w *walker) {
	w.account("Robin Roe")
	do(w.t, w.ctx, chromedp.EmulateViewport(320, 640))
	for _, page := range outcomePages() {
		w.t.Run(page.title, func(t *testing.T) {
			w := &walker{t, w.s, w.ctx}
			w.meets(page)
			for _, language := range []string{"en", "de", "fi", "ar"} {
				w.open("/" + language + "/apps/subscriptions?ms_returned=1")
				if page := w.look(); page.Language != language || len(page.Links) == 0 {
					t.Errorf("%q offers %v, in %q; want a page in %q", page.Heading, page.Links, page.Language, language)
				}
				if wide := read(t, w.ctx, chromedp.Evaluate[int](`document.scrollingElement.scrollWidth`)); wide != 320 {
					t.Errorf("%q is %d px wide in a window of 320 px", w.look().Heading, wide)
				}
			}
		})
	}
}

// TestAppBlock checks the theme's app block, which is on the home page once for each audience.
func TestAppBlock(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	s := start(t)
	everyone, signedIn, subscribers := "Manage subscriptions", "Manage subscriptions (signed in)", "Manage subscriptions (subscribers)"
	all := []string{everyone, signedIn, subscribers}
	for _, test := range []struct {
		name     string
		shopper  string
		noScript bool
		down     bool // whether Recharge is down
		want     []string
		asks     int // status requests of two page views
	}{
		{name: "signed out", want: []string{everyone}},
		{name: "signed out, no script", noScript: true, want: []string{everyone}},
		{name: "never subscribed", shopper: "Robin Roe", want: []string{everyone, signedIn}, asks: 1},
		{name: "never subscribed, no script", shopper: "Robin Roe", noScript: true, want: all},
		{name: "never subscribed, Recharge down", shopper: "Robin Roe", down: true, want: all, asks: 1},
		{name: "subscriber", shopper: "Pat Doe", want: all, asks: 1},
		{name: "subscriber, no script", shopper: "Pat Doe", noScript: true, want: all},
		{name: "subscriber, Recharge down", shopper: "Pat Doe", down: true, want: all, asks: 1},
	} {
		if !suite.Runs(test.name, "signed out", "never subscribed, Recharge down", "subscriber", "subscriber, no script") {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			w := newWalker(t, s, machine)
			s.Forget()
			if test.noScript {
				w.noScript()
			}
			if test.shopper != "" {
				w.account(test.shopper)
			}
			if test.down {
				w.breaks("down")
				defer w.mends("down")
			}
			before := w.asked()
			for _, view := range []string{"first", "second"} {
				w.open("/")
				w.sees("Good coffee, before you run out.")
				if test.asks > 0 {
					w.until("the answer to the script's question", func() bool {
						return read(t, w.ctx, chromedp.Evaluate[int](`sessionStorage.length`)) > 0
					})
				}
				var got []string
				for _, link := range w.links(".shopify-app-block") {
					got = append(got, link.Text)
				}
				if diff := cmp.Diff(got, test.want); diff != "" {
					t.Errorf("%s view: links (-got +want):\n%s", view, diff)
				}
				if got := w.asked() - before; got != test.asks {
					t.Errorf("%s view: asked for the status %d times by now; want %d", view, got, test.asks)
				}
			}
			if test.shopper == "Pat Doe" && !test.down {
				w.press(subscribers)
				w.inPortal("Pat Doe", "Subscriptions")
			}
		})
	}
}

// asked returns the number of status requests to the store.
func (w *walker) asked() int {
	count := 0
	for _, click := range w.clicks() {
		if strings.HasSuffix(click, "/status") {
			count++
		}
	}
	return count
}

// sight is what a person sees of a page.
type sight struct {
	Address   string // in the address bar, without the store's host
	Heading   string
	Language  string // of the heading
	Direction string // of the heading's text
	Text      string // of the main part
	Links     []link // in the main part
}

// link is a visible, focusable link and its target.
type link struct{ Text, To string }

// looking is JavaScript that both readings share. It reads text as written, since themes capitalise
// some of it.
const looking = `
	const seen = (e) => e && e.checkVisibility({visibilityProperty: true, opacityProperty: true}) && e.getClientRects().length > 0;
	const here = (address) => address.startsWith(location.origin + '/') ? address.slice(location.origin.length) : address;
	const links = (within) => [...document.querySelectorAll(within + ' a[href]')]
		.filter((a) => seen(a) && a.tabIndex >= 0 && !a.closest('[inert]'))
		.map((a) => ({Text: a.textContent.trim(), To: here(a.href)}));
`

func (w *walker) look() sight {
	w.t.Helper()
	got, err := w.tryLook()
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// tryLook fails while one page replaces another.
func (w *walker) tryLook() (sight, error) {
	return chromedp.Run(w.ctx, chromedp.Evaluate[sight](`(() => {`+looking+`
		const heading = document.querySelector('h1');
		return {
			Address: here(location.href),
			Heading: document.readyState === 'complete' && seen(heading) ? heading.textContent.trim() : '',
			Language: heading?.closest('[lang]')?.lang ?? '',
			Direction: heading ? getComputedStyle(heading).direction : '',
			Text: document.querySelector('main')?.innerText ?? '',
			Links: links('main'),
		};
	})()`))
}

// links returns the links that a person sees in a part of the page.
func (w *walker) links(within css) []link {
	w.t.Helper()
	return read(w.t, w.ctx, chromedp.Evaluate[[]link](fmt.Sprintf(`(() => {%s return links(%q)})()`, looking, within)))
}

// until waits for something that happens without the walker.
func (w *walker) until(what string, come func() bool) {
	w.t.Helper()
	for range 500 {
		if come() {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	w.t.Fatalf("timed out waiting for %s; sees %+v", what, w.look())
}

// sees waits for the page with the heading.
func (w *walker) sees(heading string) sight {
	w.t.Helper()
	var got sight
	w.until(fmt.Sprintf("the heading %q", heading), func() (come bool) {
		var err error
		got, err = w.tryLook()
		return err == nil && got.Heading == heading
	})
	return got
}

var reference = regexp.MustCompile(`\b[a-z2-7]{10}$`)

// inStore checks an outcome's page and the next steps that it offers. <id> stands for the page's
// reference in their links.
func (w *walker) inStore(heading, language string, want []link) sight {
	w.t.Helper()
	got := w.sees(heading)
	if got.Language != language {
		w.t.Errorf("%q is in %q; want %q", heading, got.Language, language)
	}
	id := reference.FindString(strings.TrimSpace(got.Text))
	if id == "" {
		w.t.Fatalf("%q reads %q; want a reference for support at its end", heading, got.Text)
	}
	links := slices.Clone(got.Links)
	for i := range links {
		links[i].To = strings.ReplaceAll(links[i].To, id, "<id>")
	}
	if diff := cmp.Diff(links, want); diff != "" {
		w.t.Errorf("%q offers (-got +want):\n%s", heading, diff)
	}
	return got
}

// inPortal checks a page of the shopper's own portal.
func (w *walker) inPortal(name, heading string) sight {
	w.t.Helper()
	got := w.sees(heading)
	if want := "Signed in as " + name; !strings.Contains(got.Text, want) {
		w.t.Errorf("the portal reads %q; want %q in it", got.Text, want)
	}
	if want := portalPath + "/portal/"; !strings.HasPrefix(got.Address, want) {
		w.t.Errorf("the portal is at %q; want it below %s", got.Address, want)
	}
	for _, ours := range []string{"ms_returned", "signature"} {
		if strings.Contains(got.Address, ours) {
			w.t.Errorf("the portal's address is %q; want no %s in it", got.Address, ours)
		}
	}
	for _, asked := range w.s.Store.Forwarded() {
		if asked.App == portalPath && strings.Contains(asked.Query, "ms_returned") {
			w.t.Errorf("on the way the portal was asked for with %q; want no ms_returned in it", asked.Query)
		}
	}
	return got
}

// open goes to an address, as if by a link in an e-mail.
func (w *walker) open(path string) {
	w.t.Helper()
	do(w.t, w.ctx, chromedp.Navigate(w.s.Store.URL+path))
}

// press clicks the link with that text, and waits until another page replaces this one.
func (w *walker) press(text string) {
	w.t.Helper()
	w.leaves(func() { w.click("a", text) })
}

// click clicks the element whose first line is text.
func (w *walker) click(kind css, text string) {
	w.t.Helper()
	element := fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => e.checkVisibility() && e.textContent.trim().split('\n')[0] === %q)`, kind, text)
	w.until(fmt.Sprintf("%q to click on", text), func() bool {
		return read(w.t, w.ctx, chromedp.Evaluate[bool](element+" !== undefined"))
	})
	do(w.t, w.ctx, chromedp.Click(chromedp.JSPath(element)))
}

// leaves runs act, which must lead to another page, and waits for that page.
func (w *walker) leaves(act func()) {
	w.t.Helper()
	began := chromedp.Evaluate[float64](`performance.timeOrigin`)
	before := read(w.t, w.ctx, began)
	act()
	w.until("another page", func() bool {
		now, err := chromedp.Run(w.ctx, began)
		return err == nil && now != before
	})
}

// back presses the browser's back button and ends the walk. The page may return from the cache
// without loading, and then chromedp has nothing to click on.
func (w *walker) back(heading string) {
	w.t.Helper()
	history := read(w.t, w.ctx, chromedp.NavigationEntries())
	if history.CurrentIndex == 0 {
		w.t.Fatal("there is no way back")
	}
	before := devtools.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID}
	if _, err := chromedp.Call(w.ctx, devtools.NavigateToHistoryEntry, before); err != nil {
		w.t.Fatal(err)
	}
	w.sees(heading)
}

// signsIn expects the store's sign-in, and signs in.
func (w *walker) signsIn(at, name string) {
	w.t.Helper()
	page := w.sees("Sign in")
	if address, err := url.Parse(page.Address); err != nil || address.Path != at {
		w.t.Errorf("the sign-in is at %q, %v; want %s", page.Address, err, at)
	}
	w.leaves(func() { w.click("button", name) })
}

// account signs in on the account page, and waits for it.
func (w *walker) account(name string) {
	w.t.Helper()
	w.open("/account")
	w.sees("Sign in")
	w.leaves(func() { w.click("button", name) })
	w.until("the account page", func() bool {
		page, err := w.tryLook()
		return err == nil && page.Address == "/account" && page.Heading != ""
	})
}

// opensMenu opens the account menu in the header of the older theme.
func (w *walker) opensMenu() {
	w.t.Helper()
	w.click("summary", "Account")
	do(w.t, w.ctx, chromedp.WaitVisible(css("#account-menu ul")))
}

func (w *walker) noScript() {
	w.t.Helper()
	if _, err := chromedp.Call(w.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walker) key(key string) {
	w.t.Helper()
	do(w.t, w.ctx, chromedp.KeyEvent(key))
}

// wantFocus checks which element has the focus, and that it is visible.
func (w *walker) wantFocus(text string) {
	w.t.Helper()
	type focus struct {
		Text, Style string
		Width       float64
	}
	got := read(w.t, w.ctx, chromedp.Evaluate[focus](`(() => {
		const e = document.activeElement, style = getComputedStyle(e);
		return {Text: e.textContent.trim(), Style: style.outlineStyle, Width: parseFloat(style.outlineWidth)};
	})()`))
	if got.Text != text {
		w.t.Fatalf("the focus is on %q; want %q", got.Text, text)
	}
	if got.Style == "none" || got.Width < 1 {
		w.t.Errorf("the focus on %q has an outline %q of %v px; want one that is seen", text, got.Style, got.Width)
	}
}

func (w *walker) breaks(fault string) { w.turn(fault, true) }
func (w *walker) mends(fault string)  { w.turn(fault, false) }

func (w *walker) turn(fault string, on bool) {
	w.t.Helper()
	if err := w.s.Switch(fault, on); err != nil {
		w.t.Fatal(err)
	}
}

// clicks returns the requests that reached the server, as "<status> <path on the store>".
func (w *walker) clicks() []string {
	var clicks []string
	for _, asked := range w.s.Store.Forwarded() {
		if asked.App != portalPath {
			clicks = append(clicks, fmt.Sprintf("%d %s", asked.Status, asked.Path))
		}
	}
	return clicks
}

func (w *walker) wantClicks(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(w.clicks(), want); diff != "" {
		w.t.Errorf("the server was asked (-got +want):\n%s", diff)
	}
}

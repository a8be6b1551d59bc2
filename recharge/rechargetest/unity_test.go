package rechargetest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestUnity: with Unity, sessions work, portal access does not, and no portal page opens outside of the account.
func TestUnity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	subscriptions := "/portal/" + pat.Hash + "/subscriptions"
	token := w.access(pat, "").TempToken
	pages := map[string]string{
		"hosted":      subscriptions + "?token=" + token,
		"proxied":     w.forwarded(subscriptions, "", pat.ShopifyCustomerID),
		"access link": w.forwarded("/get-subscription-access", "", pat.ShopifyCustomerID),
		"nobody":      w.forwarded(subscriptions, "", ""),
	}
	w.SetUnity(true)
	for status, want := range map[int]int{0: 404, 404: 404, 403: 403, 422: 422, 200: 200} {
		w.SetFaults(func(f *rechargetest.Faults) { f.UnityAccess = status })
		got := w.call(http.MethodGet, "/portal_access?shop_url="+shop, w.session(pat))
		if got.Status != want {
			t.Errorf("portal_access with UnityAccess %d = %d %s; want %d", status, got.Status, got.Body, want)
		}
		if want == 200 {
			pages["the link of portal_access"] = strings.TrimPrefix(decode[access](t, got).PortalURL, w.URL)
		}
	}
	for name, address := range pages {
		got := w.call(http.MethodGet, address, "")
		if diff := cmp.Diff(map[string]string{"portal": "account", "locale": ""}, attributes(got.Body)); diff != "" || got.Status != 200 {
			t.Errorf("%s = %d (-want +got):\n%s", name, got.Status, diff)
		}
	}
	if got := w.Openings(); len(got) != 0 {
		t.Errorf("openings = %+v; want none", got)
	}

	w.SetUnity(false)
	if got := attributes(w.call(http.MethodGet, pages["hosted"], "").Body); got["portal"] != "open" {
		t.Errorf("back on Affinity, the portal is %q; want open", got["portal"])
	}
	if got := w.access(pat, ""); got.TempToken == "" {
		t.Error("back on Affinity, portal_access gives no token")
	}
}

func TestUnityInTheAccount(t *testing.T) {
	t.Parallel()
	old := rechargetest.Customer{ID: 70100100, Hash: "0ldpat", ShopifyCustomerID: pat.ShopifyCustomerID, FirstName: "Old"}
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Unity, o.Customers = true, append([]rechargetest.Customer{old}, o.Customers...)
	})
	got := string(w.AccountPage(pat.ShopifyCustomerID, "/orders", url.Values{"locale": {"fr"}}))
	if !strings.Contains(got, `data-portal="open" data-customer="Pat Doe" data-page="orders" data-how="account"`) ||
		!strings.Contains(got, `data-subscription="50500600"`) {
		t.Errorf("the page of a subscriber:\n%s", got)
	}
	w.AccountPage(sam.ShopifyCustomerID, "", nil)
	for _, nobody := range []string{"", "1"} { // "" is no customer's, though one has no Shopify account
		if got := string(w.AccountPage(nobody, "", nil)); !strings.Contains(got, `data-portal="none"`) {
			t.Errorf("the page of %q, who never subscribed:\n%s", nobody, got)
		}
	}
	want := []rechargetest.Opening{
		{Customer: pat, Page: "orders", How: rechargetest.HowAccount, Locale: "fr"},
		{Customer: sam, Page: "subscriptions", How: rechargetest.HowAccount},
	}
	if diff := cmp.Diff(want, w.Openings(), cmpopts.IgnoreFields(rechargetest.Opening{}, "At")); diff != "" {
		t.Errorf("openings (-want +got):\n%s", diff)
	}
	w.SetUnity(false)
	if got := w.AccountPage(pat.ShopifyCustomerID, "", nil); got != "" {
		t.Errorf("on Affinity, the account shows %q; want nothing", got)
	}
}

// TestMovePortal: after a move, links to the old address are dead, and those to the new one open.
func TestMovePortal(t *testing.T) {
	t.Parallel()
	const host = "store.example"
	proxied := "http://" + host + pathPrefix + "/portal/"
	w := newWorld(t, func(o *rechargetest.Options) { o.PortalBase = proxied })
	path := pat.Hash + "/subscriptions?token=" + w.access(pat, "").TempToken
	opens := func(base string) bool {
		t.Helper()
		target := "/portal/" + path
		if base == proxied {
			target = w.forwarded("/portal/"+pat.Hash+"/subscriptions", "", pat.ShopifyCustomerID)
		}
		req := w.request(http.MethodGet, target, "", "X-Forwarded-Host", host)
		if u, err := url.Parse(base); err == nil && base != proxied {
			req.Host = u.Host
		}
		got, err := w.do(req)
		if err != nil {
			t.Fatal(err)
		}
		return attributes(got.Body)["portal"] == "open"
	}
	hosted, brand := w.URL+"/portal/", "http://portal.brand.example/portal/"
	for _, move := range []struct{ to, open, dead string }{
		{hosted, hosted, proxied}, {brand, brand, hosted}, {proxied, proxied, brand}, {proxied, proxied, hosted},
	} {
		w.MovePortal(move.to)
		if got := w.access(pat, "").BaseURL; got != move.to {
			t.Errorf("base_url = %q; want %q", got, move.to)
		}
		if !opens(move.open) || opens(move.dead) {
			t.Errorf("moved to %s: it opens is %t, and the old one is %t", move.to, opens(move.open), opens(move.dead))
		}
	}
	w.SetPortalBase(hosted)
	if !opens(hosted) || !opens(proxied) {
		t.Error("SetPortalBase has closed a portal; want only MovePortal to")
	}
}

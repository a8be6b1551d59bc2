package handlers_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"manage-subscriptions/internal/servertest"
	"manage-subscriptions/recharge/rechargetest"
)

// TestTry checks that a try shows what a click would do, without doing it.
func TestTry(t *testing.T) {
	t.Parallel()
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
			t.Errorf("a try has cached %q", after)
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

// TestTryAgreesWithAClick checks that a try has the same outcome as the next click, even if
// Recharge ignores the customer filter and we rely on an import.
func TestTryAgreesWithAClick(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0)
	for _, test := range []struct {
		name, customer string
		fault          func(*rechargetest.Faults)
	}{
		{"all is well", servertest.Pat, func(*rechargetest.Faults) {}},
		{"cached", servertest.Pat, func(*rechargetest.Faults) {}},
		{"not a subscriber", servertest.Robin, func(*rechargetest.Faults) {}},
		{"not a subscriber, no filter", servertest.Robin, func(f *rechargetest.Faults) { f.IgnoreFilter = true }},
		{"two active records", servertest.Kim, func(*rechargetest.Faults) {}},
		{"one active record", servertest.Sam, func(f *rechargetest.Faults) { f.RefuseSessions = true }},
		{"down", servertest.Kim, func(f *rechargetest.Faults) { f.Down = true }},
		{"cached, down", servertest.Sam, func(f *rechargetest.Faults) { f.Down = true }},
	} {
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{}; test.fault(f) })
		_, tried := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {test.customer}})
		outcome := f.Click(f.Shopper(test.customer), "/apps/subscriptions").Outcome()
		if outcome == "" || !strings.Contains(tried, `data-result="`+outcome+`"`) {
			t.Errorf("%s: a click ends in %s; try: %s", test.name, outcome, tried)
		}
	}
}

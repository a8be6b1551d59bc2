package handlers_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
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
	f.Calls()
	for _, strange := range []string{
		"", " ", "x", "0", "1 OR 1", strings.Repeat("9", 21), "<script>", "@", "a@", "@b", "a b@example.test", "Pat <pat@example.test>",
		"pat@example.test,sam@example.test", strings.Repeat("a", 250) + "@example.test",
	} {
		got := try(strange)
		if !strings.Contains(got, `data-result="invalid"`) || !strings.Contains(got, `class="note bad"`) || strings.Contains(got, "<li") {
			t.Errorf("try %q: %s; want an error and nothing else", strange, got)
		}
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("invalid input made the calls %v; want none", calls)
	}
}

// TestTryIsNotPaintedGreen checks that only a shopper who gets in as usual is shown as success.
func TestTryIsNotPaintedGreen(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	try := func(want, class string) {
		t.Helper()
		customer := servertest.Pat
		if want == "not_a_subscriber" {
			customer = servertest.Robin
		}
		_, got := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {customer}})
		if note := `<p class="note ` + class + `" data-result="` + want + `">`; !strings.Contains(got, note) {
			t.Errorf("try: %s; want %s", got, note)
		}
	}
	try("not_connected", "bad")
	f.Connect()
	try("redirected", "good")
	try("not_a_subscriber", "")
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.RefuseSessions = true })
	try("redirected_by_hash", "") // which is not what the merchant has chosen
	f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {"hash"}})
	try("redirected_by_hash", "good")
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	try("unavailable", "bad")
}

// TestTryByEmail checks that an address leads to the customer only if Recharge's record has exactly that address and
// a Shopify id, that it costs one more call, and that it stays in the request to Recharge.
func TestTryByEmail(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	try := func(customer string) string {
		_, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {customer}})
		return body
	}
	if got := try("pat@example.test"); !strings.Contains(got, `data-result="not_connected"`) {
		t.Errorf("before connecting: %s; want not_connected", got)
	}
	f.Connect()
	shared := func(c *rechargetest.Customer) { c.Email = "shared@example.test" }
	f.PutRecord(servertest.Changed(f.Record(70100300), shared)) // Sam's, of whom only one is active
	f.PutRecord(servertest.Changed(f.Record(70100301), shared))
	two := func(c *rechargetest.Customer) { c.Email = "two@example.test" }
	f.PutRecord(servertest.Changed(f.Record(70100400), two))
	f.PutRecord(rechargetest.Customer{ID: 70100777, Hash: "777", Email: "two@example.test", ShopifyCustomerID: "7777777777777"})
	f.PutRecord(rechargetest.Customer{ID: 70100888, Hash: "888", Email: "guest@example.test"})
	for _, test := range []struct {
		email, want, text string
		lookups           int // of customers
		fault             func(*rechargetest.Faults)
	}{
		{"pat@example.test", "redirected", "belongs to one customer", 2, nil},
		{" PAT@Example.Test ", "redirected", "belongs to one customer", 2, nil},
		{"shared@example.test", "redirected", "belongs to one customer", 2, nil},
		{"two@example.test", "not_found", "Several customers have this address", 1, nil},
		{"guest@example.test", "not_found", "no customer with this address", 1, nil},
		{"nobody@example.test", "not_found", "no customer with this address", 1, nil},
		{"nobody@example.test", "not_found", "listed other customers", 1, func(f *rechargetest.Faults) { f.IgnoreFilter = true }},
		{"pat@example.test", "not_found", "can’t reach Recharge", 0, func(f *rechargetest.Faults) { f.Down = true }},
	} {
		f.Recharge.SetFaults(func(f *rechargetest.Faults) {
			*f = rechargetest.Faults{}
			if test.fault != nil {
				test.fault(f)
			}
		})
		f.Calls()
		got := try(test.email)
		if !strings.Contains(got, `data-result="`+test.want+`"`) || !strings.Contains(got, test.text) {
			t.Errorf("try %s: %s; want %s and %q", test.email, got, test.want, test.text)
		}
		if calls := f.Calls()[rechargetest.EndpointCustomers]; test.lookups > 0 && calls != test.lookups {
			t.Errorf("try %s made %d lookups; want %d", test.email, calls, test.lookups)
		}
		if strings.Contains(strings.ToLower(got), "@example.test") {
			t.Errorf("try %s: %s; want no address", test.email, got)
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

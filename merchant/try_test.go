package merchant_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestTrySteps checks that a step is shown as passed only if it helped the shopper, whatever the
// status of Recharge's answer was.
func TestTrySteps(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	for name, test := range map[string]struct {
		customer string
		fault    func(*rechargetest.Faults)
		outcome  string
		want     []string
	}{
		"all is well": {servertest.Pat, func(*rechargetest.Faults) {}, "redirected", []string{
			`data-check="cached" data-state="passed"`, `data-check="customers" data-state="passed"`,
			`data-check="sessions" data-state="passed"`, `data-check="portal_access" data-state="passed"`, "in the portal, signed in",
		}},
		"nobody": {servertest.Robin, func(*rechargetest.Faults) {}, "not_a_subscriber", []string{
			`data-check="customers" data-state="warned"`, "has no customer with this number",
		}},
		"several records": {servertest.Kim, func(*rechargetest.Faults) {}, "not_a_subscriber", []string{
			`data-check="customers" data-state="warned"`, "has several records",
		}},
		"sessions refused": {servertest.Pat, func(f *rechargetest.Faults) { f.RefuseSessions = true }, "redirected_by_hash", []string{
			`data-check="sessions" data-state="failed"`, "may ask for a sign-in",
		}},
		"another customer's portal": {servertest.Pat, func(f *rechargetest.Faults) { f.ForeignPortal = true }, "redirected_by_hash", []string{
			`data-check="portal_access" data-state="failed"`, "answered for another customer",
		}},
		"no filter": {servertest.Robin, func(f *rechargetest.Faults) { f.IgnoreFilter = true }, "unavailable", []string{
			`data-check="customers" data-state="failed"`, "other people’s customers",
		}},
		"down": {servertest.Pat, func(f *rechargetest.Faults) { f.Down = true }, "unavailable", []string{
			`data-check="customers" data-state="failed"`, "We can’t reach Recharge",
		}},
	} {
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{}; test.fault(f) })
		got := try(f, test.customer)
		for _, want := range append(test.want, `data-result="`+test.outcome+`"`) {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s; want %q in it", name, got, want)
			}
		}
	}
}

// TestAnotherTokenIsTriedAnew checks that what a try has shown does not count for another Admin token, and does for
// the same one.
func TestAnotherTokenIsTriedAnew(t *testing.T) {
	t.Parallel()
	l := newLooks(t, nil)
	l.connect(store.Traits{})
	_, err := l.Store.UpdateConnection(t.Context(), shop, func(c *store.Connection) bool {
		c.WebhookKey = "of the first token"
		return c.Learn(store.Traits{Reached: true}, l.clock.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	l.recharge.AddToken(rechargetest.Token{Value: "sk_test_another", Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000})
	for _, test := range []struct {
		pasted merchant.Tokens
		same   bool
	}{
		{merchant.Tokens{Admin: servertest.APIToken, Secret: "a-secret"}, true},
		{merchant.Tokens{Admin: "sk_test_another", Secret: "another-secret"}, false},
	} {
		if said, err := l.Connect(t.Context(), shop, test.pasted, func(merchant.Step) {}); err != nil || said.Bad {
			t.Fatalf("connect: %v, %v", said.Text, err)
		}
		got := l.connection()
		if got.Detected.Reached != test.same || (got.WebhookKey == "of the first token") != test.same || got.WebhookKey == "" {
			t.Errorf("the same token %t: reached %t, with the key %q", test.same, got.Detected.Reached, got.WebhookKey)
		}
	}
}

// TestTryAfterARefusal checks that a recent refusal by Recharge is not reported as a fault of this
// server.
func TestTryAfterARefusal(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.RefuseSessions = true })
	f.LinkedHash(servertest.Pat)
	if got := try(f, servertest.Pat); !strings.Contains(got, `data-result="redirected_by_hash"`) || strings.Contains(got, "on this server") {
		t.Errorf("try: %s; want redirected_by_hash, since Recharge has refused a session", got)
	}
}

// TestTryWithABrokenConnection checks that a broken connection is not reported as missing.
func TestTryWithABrokenConnection(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.SaveElsewhere(store.Connection{Shop: servertest.Shop, APIToken: "sk_test", Detected: store.Traits{PortalURL: "no address"}})
	got := try(f, servertest.Pat)
	if !strings.Contains(got, `data-result="unavailable"`) || !strings.Contains(got, "on this server") || strings.Contains(got, "has not connected") {
		t.Errorf("try: %s; want a fault of this server's", got)
	}
}

// TestChosenPortal checks that a blank address counts as empty.
func TestChosenPortal(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	response, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"portal": {"  "}})
	if response.StatusCode != http.StatusOK || !strings.Contains(body, ">Saved.<") {
		t.Errorf("settings = %d %s; want them saved", response.StatusCode, body)
	}
	if got := f.LinkedHash(servertest.Pat); got == "" || got == "unavailable" {
		t.Errorf("a click = %q; want the portal", got)
	}
}

func try(f *servertest.Fixture, customer string) string {
	f.T.Helper()
	_, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {customer}})
	return body
}

package virtual_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/virtual"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

const (
	pat   = "6100200300400"
	robin = "6100200300500" // never subscribed
	hash  = "1f2e3d4c5b6a7988"
)

// TestWorld runs through everything once that other tests rely on.
func TestWorld(t *testing.T) {
	for name, own := range map[string]bool{"Redis in the server": false, "Redis beside it": true} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { tryWorld(t, own) }) })
	}
}

func tryWorld(t *testing.T, ownRedis bool) {
	w, err := virtual.Start(virtual.Options{OwnRedis: ownRedis, Customers: []rechargetest.Customer{
		{ID: 70100200, Hash: hash, ShopifyCustomerID: pat},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
		for what, n := range w.Connections() {
			if n != 0 {
				t.Errorf("%d connections to %s are left", n, what)
			}
		}
	}()
	for _, test := range []struct {
		after                     time.Duration
		faults                    rechargetest.Faults
		customer, outcome, opened string
	}{
		{0, rechargetest.Faults{}, pat, "redirected", hash},
		{time.Hour, rechargetest.Faults{Status: 500}, pat, "redirected_by_hash", hash},
		{0, rechargetest.Faults{Status: 500}, robin, "unavailable", ""},
		{time.Hour, rechargetest.Faults{}, robin, "not_a_subscriber", ""},
		{0, rechargetest.Faults{}, "", "sign_in", ""},
	} {
		time.Sleep(test.after)
		w.Recharge.SetFaults(func(f *rechargetest.Faults) { *f = test.faults })
		answer, err := w.Click(t.Context(), test.customer, "/orders")
		if err != nil || answer.Outcome() != test.outcome || answer.Hash() != test.opened {
			t.Errorf("click of %q = %q to %q, %v; want %q to %q", test.customer, answer.Outcome(), answer.Hash(), err, test.outcome, test.opened)
		}
		opens, err := w.Open(t.Context(), answer)
		if err != nil || opens != (test.outcome == "redirected") {
			t.Errorf("the portal opens: %t, %v, after %s", opens, err, test.outcome)
		}
	}
	if hooks := w.Recharge.Webhooks(); len(hooks) == 0 {
		t.Error("no webhook is registered")
	}
	w.Recharge.DeleteCustomer(70100200)
	time.Sleep(time.Second) // a webhook is answered after a second, when no older click is still in progress
	synctest.Wait()
	told := w.Recharge.Deliveries() // the first was sent because the webhook secret was new
	if last := told[len(told)-1]; len(told) != 2 || last.Topic != "customer/deleted" || last.Status != 200 {
		t.Errorf("deliveries = %v; want two, and the last answered 200", told)
	}
	if got := w.Connections(); got["public"] == 0 || got["recharge"] == 0 || ownRedis && got["redis"] == 0 {
		t.Errorf("Connections = %v; want the ones that are kept open", got)
	}
}

// TestStartFails checks that a failed Start stops whatever it has started.
func TestStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := virtual.Start(virtual.Options{Change: func(s *config.Settings) { s.OpsAddr = s.Addr }}); err == nil {
			t.Error("Start = nil with both listeners at the same address")
		}
	})
}

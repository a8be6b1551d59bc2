package recharge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/recharge/rechargetest"
)

// TestBreaker: a dead endpoint costs the first callers their patience, and those
// that follow nothing; now and then one tries it for all.
func TestBreaker(t *testing.T) {
	for name, fault := range map[string]func(*rechargetest.Faults){
		"slow":      func(f *rechargetest.Faults) { f.Latency = time.Minute },
		"down":      func(f *rechargetest.Faults) { f.Down = true },
		"500":       func(f *rechargetest.Faults) { f.Status = 500 },
		"cut short": func(f *rechargetest.Faults) { f.Truncate = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Timeout = time.Second })
				find := func() error { _, err := c.FindCustomer(t.Context(), shopifyID); return err }
				srv.SetFaults(func(f *rechargetest.Faults) { fault(f); f.Only = recharge.Customers })
				for range 3 { // each tries twice
					if err := find(); err == nil {
						t.Fatal("FindCustomer = nil; want it to fail")
					}
				}
				calls := len(srv.Requests())
				start := time.Now()
				for range 100 {
					checkReason(t, "FindCustomer of a dead Recharge", find(), recharge.Tripped)
				}
				if took := time.Since(start); took != 0 || len(srv.Requests()) != calls {
					t.Errorf("100 clicks took %v and made %d calls; want none of either", took, len(srv.Requests())-calls)
				}
				if !c.Resting(recharge.Customers) || c.Resting(recharge.Sessions) {
					t.Errorf("Resting = %v, %v; want customers alone", c.Resting(recharge.Customers), c.Resting(recharge.Sessions))
				}
				_, err := c.CreateSession(t.Context(), pat())
				checkReason(t, "CreateSession meanwhile", err, "")

				time.Sleep(6 * time.Second)
				if err := find(); err == nil || recharge.Is(err, recharge.Tripped) {
					t.Errorf("FindCustomer after a rest = %v; want the call to fail", err)
				}
				checkReason(t, "FindCustomer after that", find(), recharge.Tripped)
				srv.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} })
				time.Sleep(6 * time.Second)
				for range 10 {
					checkReason(t, "FindCustomer of a Recharge that is back", find(), "")
				}
			})
		})
	}
}

// TestBreakerIsForTheDead: who says no is not dead.
func TestBreakerIsForTheDead(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 422} {
		srv := newScript(t, answer{status: status, body: "{}"})
		c := newClient(t, srv.URL)
		for range 20 {
			if _, err := c.FindCustomer(t.Context(), shopifyID); recharge.Is(err, recharge.Tripped) || err == nil {
				t.Fatalf("%d: FindCustomer = %v; want what Recharge says", status, err)
			}
		}
	}
}

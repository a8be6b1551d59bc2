package recharge_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestCircuit: a dead endpoint slows down the first callers but none after them. From time to time
// a single call tries it again.
func TestCircuit(t *testing.T) {
	for name, fault := range map[string]func(*rechargetest.Faults){
		"slow":      func(f *rechargetest.Faults) { f.Latency = time.Minute },
		"down":      func(f *rechargetest.Faults) { f.Down = true },
		"500":       func(f *rechargetest.Faults) { f.Status = 500 },
		"cut short": func(f *rechargetest.Faults) { f.Truncate = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Timeout = time.Second })
				find := func() error { _, err := lookUp(t.Context(), c, shopifyID); return err }
				srv.SetFaults(func(f *rechargetest.Faults) { fault(f); f.Only = recharge.Customers })
				for range 3 { // each is retried once
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
					t.Errorf("100 clicks took %v and made %d calls; want 0s and 0 calls", took, len(srv.Requests())-calls)
				}
				l := c.Limiter()
				if !l.CircuitOpen(recharge.Customers) || l.CircuitOpen(recharge.Sessions) {
					t.Errorf("CircuitOpen = %v, %v; want customers alone", l.CircuitOpen(recharge.Customers), l.CircuitOpen(recharge.Sessions))
				}
				_, err := createSession(t.Context(), c, pat())
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

// TestRefusalOpensNoCircuit: an endpoint that refuses calls is not dead.
func TestRefusalOpensNoCircuit(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 422} {
		srv := newScript(t, answer{status: status, body: "{}"})
		c := newClient(t, srv.URL)
		for range 20 {
			if _, err := lookUp(t.Context(), c, shopifyID); recharge.Is(err, recharge.Tripped) || err == nil {
				t.Fatalf("%d: FindCustomer = %v; want what Recharge says", status, err)
			}
		}
	}
}

// TestBackgroundOpensNoCircuit: an unreadable page stops the import, but not the clicks, whose
// lookups still work.
func TestBackgroundOpensNoCircuit(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("external_customer_id") == "" {
			_, _ = w.Write([]byte(`{"next_cursor":null,"customers":[{"id":1,"subscriptions_active_count":"three"}]}`))
			return
		}
		_, _ = w.Write([]byte(fixture(t, "customers_one_match_2021_11")))
	}))
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	for range 10 {
		if _, err := customerPage(t.Context(), c, ""); err == nil {
			t.Fatal("CustomerPage of what cannot be read = nil; want it to fail")
		}
	}
	checkReason(t, "FindCustomer meanwhile", find(t, c), "")
	if c.Limiter().CircuitOpen(recharge.Customers) {
		t.Error("the circuit is open, though the endpoint answers")
	}
}

// TestCancelledOpensNoCircuit: a caller that gives up says nothing about Recharge, so its call
// counts neither as a success nor as a failure.
func TestCancelledOpensNoCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Timeout = 10 * time.Second })
		srv.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Second })
		cancelled := func() {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second/2, cancel)
			start := time.Now()
			g := free(c)
			_, err := c.FindCustomer(ctx, g, shopifyID, recharge.High)
			checkReason(t, "a cancelled FindCustomer", err, recharge.Cancelled)
			if took := time.Since(start); took != time.Second/2 {
				t.Errorf("a cancelled FindCustomer took %v; want no second try", took)
			}
			if calls := g.Calls(); len(calls) != 1 || calls[0].Failed == nil || calls[0].Failed.Reason != recharge.Cancelled {
				t.Errorf("Calls = %+v; want the cancelled one", calls)
			}
		}
		for range 10 {
			cancelled()
		}
		if c.Limiter().CircuitOpen(recharge.Customers) {
			t.Fatal("ten cancelled callers have opened the circuit")
		}
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, "FindCustomer meanwhile", err, "")

		// Failures before and after a cancelled call are still consecutive.
		fail := func() {
			srv.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{Status: 500} })
			_, _ = lookUp(t.Context(), c, shopifyID) // is retried once
			srv.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{Latency: time.Second} })
		}
		fail()
		fail()
		cancelled()
		fail()
		if !c.Limiter().CircuitOpen(recharge.Customers) {
			t.Error("five failures in a row, and a cancelled call between them: the circuit is closed; want it open")
		}
		// The call that tries the endpoint again may be cancelled, too.
		time.Sleep(6 * time.Second)
		cancelled()
		_, err = lookUp(t.Context(), c, shopifyID)
		checkReason(t, "FindCustomer after a cancelled trial", err, "")
	})
}

// TestCircuitsAreTheTokens: two clients of one limiter share its circuits.
func TestCircuitsAreTheTokens(t *testing.T) {
	t.Parallel()
	srv := newScript(t, answer{status: 500})
	first := newClient(t, srv.URL)
	second := newClient(t, srv.URL, func(o *recharge.Options) { o.Limiter = first.Limiter() })
	for range 3 {
		_, err := lookUp(t.Context(), first, shopifyID)
		if err == nil {
			t.Fatal("FindCustomer = nil; want it to fail")
		}
	}
	calls := len(srv.requests())
	_, err := lookUp(t.Context(), second, shopifyID)
	checkReason(t, "FindCustomer of the second client", err, recharge.Tripped)
	if n := len(srv.requests()) - calls; n != 0 {
		t.Errorf("the second client made %d calls; want 0", n)
	}
}

// TestOneCallTriesForAll: while one call tries the endpoint, the others give theirs back.
func TestOneCallTriesForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := emulated(t, rechargetest.Options{})
		srv.SetFaults(func(f *rechargetest.Faults) { f.Status = 500 })
		for range 3 {
			_, _ = lookUp(t.Context(), c, shopifyID)
		}
		time.Sleep(time.Minute)
		srv.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{Latency: time.Second} })
		var trial sync.WaitGroup
		trial.Go(func() {
			_, err := lookUp(t.Context(), c, shopifyID)
			checkReason(t, "the FindCustomer that tries", err, "")
		})
		synctest.Wait()
		for range 10 {
			g := free(c)
			_, err := c.FindCustomer(t.Context(), g, shopifyID, recharge.High)
			checkReason(t, "FindCustomer of another", err, recharge.Tripped)
			g.Release(t.Context())
		}
		if left := c.Limiter().Budget().Left; left != 39 {
			t.Errorf("%d calls left; want 39", left)
		}
		trial.Wait()
	})
}

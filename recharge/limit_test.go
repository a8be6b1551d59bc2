package recharge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestLimited: a 429 is never followed by more calls, of any kind.
func TestLimited(t *testing.T) {
	t.Parallel()
	tests := []struct {
		retryAfter string
		want       time.Duration
	}{
		{"", 2 * time.Second}, // as Recharge advises
		{"1", time.Second},
		{"30", 30 * time.Second},
		{"60", time.Minute},
		{"61", time.Minute},
		{"86400", time.Minute},
		{"10000000000", time.Minute}, // more than a time.Duration holds
		{"0", 2 * time.Second},
		{"-30", 2 * time.Second},
		{"soon", 2 * time.Second},
		{"1.5", 2 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.retryAfter, func(t *testing.T) {
			t.Parallel()
			limited := answer{status: 429, body: fixture(t, "error_429_with_header_X-Recharge-Limit_40-of-40")}
			if test.retryAfter != "" {
				limited.header = http.Header{"Retry-After": {test.retryAfter}}
			}
			srv := newScript(t, limited, says(fixture(t, "customers_one_match_2021_11")))
			now := newClock()
			c := newClient(t, srv.URL, func(o *recharge.Options) { o.Now = now.Now })

			_, err := lookUp(t.Context(), c, shopifyID)
			checkReason(t, "FindCustomer", err, recharge.Limited)
			if got := c.Limiter().Budget().Paused; got != test.want {
				t.Errorf("with Retry-After: %s, the pause is %v; want %v", test.retryAfter, got, test.want)
			}
			checkPaused := func(when string) {
				for _, ask := range asks(0) {
					checkReason(t, when+", "+ask.name, ask.do(t.Context(), c), recharge.Limited)
				}
				if n := len(srv.requests()); n != 1 {
					t.Fatalf("%s: %d calls so far; want 1", when, n)
				}
			}
			checkPaused("at once")
			now.Advance(test.want - time.Nanosecond)
			checkPaused("just before the pause ends")
			now.Advance(time.Nanosecond)
			_, err = lookUp(t.Context(), c, shopifyID)
			checkReason(t, "after the pause, FindCustomer", err, "")
		})
	}
}

// TestLimitedTwice: of two pauses the one that ends later counts.
func TestLimitedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Two calls are under way. The second answer asks for the shorter pause.
		slow := make(chan struct{})
		var mu sync.Mutex
		calls := 0
		c := inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			calls++
			first := calls == 1
			mu.Unlock()
			if first {
				<-slow
				answer{status: 429, header: http.Header{"Retry-After": {"1"}}}.send(w)
				return
			}
			answer{status: 429, header: http.Header{"Retry-After": {"30"}}}.send(w)
		}))
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, err := lookUp(t.Context(), c, shopifyID)
			checkReason(t, "the slow FindCustomer", err, recharge.Limited)
		})
		synctest.Wait()
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, "the quick FindCustomer", err, recharge.Limited)
		close(slow)
		waiting.Wait()
		time.Sleep(29 * time.Second)
		_, err = lookUp(t.Context(), c, shopifyID)
		checkReason(t, "FindCustomer within the longer pause", err, recharge.Limited)
		if calls != 2 {
			t.Errorf("%d calls; want 2", calls)
		}
	})
}

func TestLimitedByEmulator(t *testing.T) {
	t.Parallel()
	now := newClock()
	srv := rechargetest.NewServer(rechargetest.Options{
		Tokens:    []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers"}}},
		Customers: []rechargetest.Customer{{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID}},
		Now:       now.Now,
	})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL, func(o *recharge.Options) { o.Now = now.Now })
	srv.SetFaults(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, 10*time.Second })
	for range 100 {
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, "FindCustomer", err, recharge.Limited)
	}
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("%d calls; want 1", n)
	}
	srv.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} })
	now.Advance(10 * time.Second)
	_, err := lookUp(t.Context(), c, shopifyID)
	checkReason(t, "FindCustomer after the pause", err, "")
}

// TestLimitedWhileWaiting: a 429 also holds back calls that were waiting for their turn when it
// came.
func TestLimitedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Rate, o.Burst = 2, 1 })
		srv.SetFaults(func(f *rechargetest.Faults) {
			f.Limited, f.RetryAfter, f.Latency = true, 30*time.Second, 100*time.Millisecond
		})
		var all sync.WaitGroup
		// The first is sent at once and gets its 429 after a tenth of a second. The others would be
		// sent after half a second and after a second.
		for i := range 3 {
			all.Go(func() {
				_, err := lookUp(t.Context(), c, shopifyID)
				checkReason(t, fmt.Sprintf("FindCustomer no. %d", i+1), err, recharge.Limited)
			})
			synctest.Wait()
		}
		all.Wait()
		if n := len(srv.Requests()); n != 1 {
			t.Errorf("%d calls; want 1: none within the pause", n)
		}
	})
}

// TestBurstSpent: a click that would wait too long goes on at once without its call.
func TestBurstSpent(t *testing.T) {
	t.Parallel()
	const burst = 3
	srv := newScript(t, says(fixture(t, "customers_one_match_2021_11")))
	now := newClock()
	c := newClient(t, srv.URL, func(o *recharge.Options) {
		o.Now, o.Rate, o.Burst = now.Now, 0.1, burst // one call every ten seconds
	})
	find := func(what string, want recharge.Reason, calls int) {
		t.Helper()
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, what, err, want)
		if n := len(srv.requests()); n != calls {
			t.Errorf("%s: %d calls so far; want %d", what, n, calls)
		}
	}
	for i := range burst {
		find("FindCustomer within the burst", "", i+1)
	}
	for range 20 {
		find("FindCustomer with the burst spent", recharge.OverBudget, burst)
	}
	for _, ask := range asks(0) {
		checkReason(t, ask.name, ask.do(t.Context(), c), recharge.OverBudget)
	}
	// The refused calls have cost nothing.
	now.Advance(10 * time.Second)
	find("FindCustomer after one call has leaked", "", burst+1)
	find("FindCustomer after that", recharge.OverBudget, burst+1)
	// A long rest empties the bucket, but allows no more than one burst.
	now.Advance(time.Hour)
	for i := range burst {
		find("FindCustomer after an hour", "", burst+2+i)
	}
	find("FindCustomer with the burst spent again", recharge.OverBudget, 2*burst+1)
}

// TestWaitsItsTurn: a short wait is better than no call.
func TestWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &script{answers: []answer{says(fixture(t, "customers_one_match_2021_11"))}}
		c := inBubble(t, srv, func(o *recharge.Options) { o.Rate, o.Burst = 2, 1 })
		start := time.Now()
		var all sync.WaitGroup
		// Two calls a second. Callers that would wait longer than a second go on without one.
		for i, want := range []struct {
			reason recharge.Reason
			at     time.Duration
		}{{"", 0}, {"", time.Second / 2}, {"", time.Second}, {recharge.OverBudget, 0}, {recharge.OverBudget, 0}} {
			all.Go(func() {
				_, err := lookUp(t.Context(), c, shopifyID)
				what := fmt.Sprintf("FindCustomer no. %d", i)
				checkReason(t, what, err, want.reason)
				if took := time.Since(start); took != want.at {
					t.Errorf("%s took %v; want %v", what, took, want.at)
				}
			})
			synctest.Wait()
		}
		all.Wait()
	})
}

func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &script{answers: []answer{says(fixture(t, "customers_one_match_2021_11"))}}
		c := inBubble(t, srv, func(o *recharge.Options) { o.Rate, o.Burst = 2, 1 })
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, "FindCustomer", err, "")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err = lookUp(ctx, c, shopifyID)
		checkReason(t, "FindCustomer with a tenth of a second left", err, recharge.TooSlow)
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("took %v; want 100ms", took)
		}
		if n := len(srv.requests()); n != 1 {
			t.Errorf("%d calls; want 1", n)
		}
	})
}

// crowd starts many callers at once and counts their results by reason.
func crowd(t *testing.T, c *recharge.Client, callers int) map[recharge.Reason]int {
	t.Helper()
	var (
		start = make(chan struct{})
		all   sync.WaitGroup
		mu    sync.Mutex
		got   = map[recharge.Reason]int{}
	)
	for range callers {
		all.Go(func() {
			<-start
			_, err := lookUp(t.Context(), c, shopifyID)
			checkSilent(t, "FindCustomer", err)
			var e *recharge.Error
			reason := recharge.Reason("")
			if errors.As(err, &e) {
				reason = e.Reason
			}
			mu.Lock()
			defer mu.Unlock()
			got[reason]++
		})
	}
	close(start)
	all.Wait()
	return got
}

// checkCrowd checks that this many calls of a crowd were made and answered, that all other callers
// were refused, and that Recharge never had to refuse one.
func checkCrowd(t *testing.T, when string, got map[recharge.Reason]int, callers, calls int, srv *rechargetest.Server) {
	t.Helper()
	if got[""] != calls || got[recharge.OverBudget] != callers-calls {
		t.Errorf("%s: %v; want %d answered and %d over budget", when, got, calls, callers-calls)
	}
	requests := srv.Requests()
	if len(requests) != calls {
		t.Errorf("%s: %d calls; want %d", when, len(requests), calls)
	}
	for _, r := range requests {
		if r.Status != http.StatusOK {
			t.Errorf("%s: Recharge answered %d; want 200", when, r.Status)
		}
	}
	srv.ResetRequests()
}

// TestCrowd: a thousand simultaneous callers use up the burst, and the calls that leak while the
// most patient of them wait. Recharge's bucket is as large as ours.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, burst, patient = 1000, 40, 2
		srv, c := emulated(t, rechargetest.Options{})
		checkCrowd(t, "at first", crowd(t, c, callers), callers, burst+patient, srv)
	})
}

// TestCrowdOfAFasterToken: a token of five times the rate and twice the burst has all of both, and
// Recharge never has to refuse a call.
func TestCrowdOfAFasterToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token, callers, burst, patient = "sk_5x2_fixture", 1000, 80, 10
		srv, c := emulated(t, rechargetest.Options{
			Tokens: []rechargetest.Token{{Value: token, Scopes: []string{"read_customers"}, Rate: 10, Burst: burst}},
		}, func(o *recharge.Options) { o.Token, o.Rate, o.Burst = token, 0, 0 })
		checkCrowd(t, "at first", crowd(t, c, callers), callers, burst+patient, srv)
	})
}

// TestCrowdIsForgotten: refused callers have spent nothing, so the next crowd finds the whole burst
// once the bucket has leaked. The clock stands still during a crowd, and no caller waits, because
// two seconds per call are too long.
func TestCrowdIsForgotten(t *testing.T) {
	t.Parallel()
	const callers, burst, perSecond = 1000, 40, 0.5
	now := newClock()
	srv := rechargetest.NewServer(rechargetest.Options{
		Tokens:    []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers"}, Rate: perSecond, Burst: burst}},
		Customers: []rechargetest.Customer{{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID}},
		Now:       now.Now,
	})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL, func(o *recharge.Options) { o.Now, o.Rate, o.Burst = now.Now, perSecond, burst })
	checkCrowd(t, "at first", crowd(t, c, callers), callers, burst, srv)
	// Many crowds, because only callers that collide could spend calls they do not make.
	for range 30 {
		checkCrowd(t, "with the burst spent", crowd(t, c, callers), callers, 0, srv)
	}
	now.Advance(burst / perSecond * time.Second)
	checkCrowd(t, "after a rest", crowd(t, c, callers), callers, burst, srv)
	now.Advance(burst / perSecond * time.Second / 2)
	checkCrowd(t, "after half a rest", crowd(t, c, callers), callers, burst/2, srv)
}

package recharge_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

var errGone = errors.New("gone")

// sharedLimiter is a shared limiter for two clients of a test. Nothing leaks from it.
type sharedLimiter struct {
	mu        sync.Mutex
	level     float64
	takes     int
	at        int64
	fails     error
	lost      bool          // its answers get lost
	held      chan struct{} // the next answer gets lost once this is closed
	instances int
}

func (s *sharedLimiter) Take(ctx context.Context, b recharge.Bucket, ask recharge.Ask, unreported, level float64) (recharge.Turn, error) {
	turn, held, err := s.take(ctx, b, ask, unreported, level)
	if held != nil {
		<-held
	}
	return turn, err
}

func (s *sharedLimiter) take(ctx context.Context, b recharge.Bucket, ask recharge.Ask, unreported, level float64) (recharge.Turn, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes++
	if err := ctx.Err(); err != nil {
		return recharge.Turn{}, nil, err
	}
	if s.fails != nil {
		return recharge.Turn{}, nil, s.fails
	}
	s.level = max(0, s.level+unreported, level)
	turn := b.Grant(s.level, ask, 1)
	s.level = turn.Level
	s.at++
	turn.At = s.at
	held := s.held
	if s.held = nil; s.lost || held != nil {
		return recharge.Turn{}, held, errGone
	}
	return turn, nil, nil
}

func (s *sharedLimiter) Instances() int { return s.instances }

// process is a client and the limiter that it shares.
type process struct {
	*recharge.Client
	shared *sharedLimiter
}

func (p process) find(t *testing.T) error {
	t.Helper()
	g := grantOf(p.Client, p.shared)
	defer g.Release(t.Context())
	_, err := p.FindCustomer(t.Context(), g, shopifyID, recharge.High)
	return err
}

func (p process) reserve(t *testing.T, ask recharge.Ask) *recharge.Grant {
	t.Helper()
	g, err := p.Limiter().Reserve(t.Context(), p.shared, ask)
	if err != nil {
		t.Fatalf("Reserve(%+v) = %v", ask, err)
	}
	return g
}

func (p process) left() int { return p.Limiter().Budget().Left }

// sharing returns two processes that share a limiter, and a Recharge that gives each of their calls
// the same answer.
func sharing(t *testing.T, s *sharedLimiter, answer answer, change ...func(*recharge.Options)) (*script, []process) {
	t.Helper()
	srv := newScript(t, answer)
	now := newClock()
	var all []process
	for range 2 {
		all = append(all, process{newClient(t, srv.URL, append([]func(*recharge.Options){func(o *recharge.Options) {
			o.Now, o.Rate = now.Now, 1e-6
		}}, change...)...), s})
	}
	return srv, all
}

func find(t *testing.T, c *recharge.Client) error {
	_, err := lookUp(t.Context(), c, shopifyID)
	return err
}

// TestShared: calls of one process count for the other.
func TestShared(t *testing.T) {
	s := &sharedLimiter{}
	_, all := sharing(t, s, says(fixture(t, "customers_one_match_2021_11")))
	for i := range 40 {
		checkReason(t, "FindCustomer", all[i%2].find(t), "")
	}
	for _, p := range all {
		checkReason(t, "FindCustomer with the burst spent", p.find(t), recharge.OverBudget)
	}
}

// TestShare: when the shared limiter is gone, each of four processes has a quarter of the burst,
// less the calls that it knows of.
func TestShare(t *testing.T) {
	s := &sharedLimiter{instances: 4}
	_, all := sharing(t, s, says(fixture(t, "customers_one_match_2021_11")))
	for range 8 {
		checkReason(t, "FindCustomer", all[0].find(t), "")
	}
	s.fails = errGone
	for i, want := range []int{8, 10} { // the second knows of no calls
		spent := 0
		for range 40 {
			if err := all[i].find(t); err == nil {
				spent++
			} else {
				checkReason(t, "FindCustomer", err, recharge.OverBudget)
			}
		}
		if spent != want {
			t.Errorf("process %d made %d calls; want %d", i, spent, want)
		}
	}
}

// TestFollowsLimit: somebody else uses the same token, and the bucket is smaller
// than configured.
func TestFollowsLimit(t *testing.T) {
	for _, test := range []struct {
		limit       string
		left, burst int
	}{
		{"39/40", 1, 40}, {"40/40", 0, 40}, {"1/40", 39, 40}, {"9/20", 11, 20}, {"20/80", 20, 40},
		{"", 39, 40}, {"39", 39, 40}, {"-1/40", 39, 40}, {"x/40", 39, 40}, {"1/0", 39, 40}, {"99999999999999999999/40", 39, 40},
	} {
		limited := says(fixture(t, "customers_one_match_2021_11"))
		limited.header = http.Header{"X-Recharge-Limit": {test.limit}}
		_, all := sharing(t, &sharedLimiter{}, limited)
		checkReason(t, "FindCustomer", all[0].find(t), "")
		if got := all[0].Limiter().Budget(); got.Left != test.left || got.Burst != test.burst {
			t.Errorf("%q: the budget is %+v; want %d of %d left", test.limit, got, test.left, test.burst)
		}
		if test.left == 0 {
			checkReason(t, "FindCustomer of a full bucket", all[0].find(t), recharge.OverBudget)
			checkReason(t, "FindCustomer of the other", all[1].find(t), recharge.OverBudget)
		}
	}
}

// TestFollowsLimitBothWays: without a configured rate, the burst is the size that Recharge names, and the
// rate keeps its relation to it. A configured rate and burst are a ceiling.
func TestFollowsLimitBothWays(t *testing.T) {
	for _, test := range []struct {
		token       string
		rate, burst int // configured; 0: auto
		limit       string
		want        recharge.Budget
	}{
		{"sk_fixture", 0, 0, "", recharge.Budget{Left: 39, Burst: 40, Rate: 2}},
		{"sk_fixture", 0, 0, "1/80", recharge.Budget{Left: 79, Burst: 80, Rate: 4}},
		{"sk_fixture", 0, 0, "1/20", recharge.Budget{Left: 19, Burst: 20, Rate: 1}},
		{"sk_5x2_fixture", 0, 0, "", recharge.Budget{Left: 79, Burst: 80, Rate: 10}},
		{"sk_5x2_fixture", 0, 0, "1/80", recharge.Budget{Left: 79, Burst: 80, Rate: 10}},
		{"sk_5x2_fixture", 0, 0, "70/80", recharge.Budget{Left: 10, Burst: 80, Rate: 10}},
		{"sk_5x2_fixture", 0, 0, "1/160", recharge.Budget{Left: 159, Burst: 160, Rate: 20}},
		{"sk_5x2_fixture", 0, 0, "1/40", recharge.Budget{Left: 39, Burst: 40, Rate: 5}},
		{"sk_5x2_fixture", 0, 0, "1/9999999999999", recharge.Budget{Left: 3999, Burst: 4000, Rate: 500}},
		{"sk_5x2_fixture", 2, 40, "1/80", recharge.Budget{Left: 39, Burst: 40, Rate: 2}},
		{"sk_5x2_fixture", 20, 160, "1/80", recharge.Budget{Left: 79, Burst: 80, Rate: 20}},
	} {
		header := http.Header{}
		if test.limit != "" {
			header.Set("X-Recharge-Limit", test.limit)
		}
		srv := newScript(t, answer{body: fixture(t, "customers_one_match_2021_11"), header: header})
		c := newClient(t, srv.URL, func(o *recharge.Options) {
			o.Token, o.Rate, o.Burst = test.token, float64(test.rate), test.burst
		})
		checkReason(t, "FindCustomer", find(t, c), "")
		if got := c.Limiter().Budget(); got != test.want {
			t.Errorf("%s, %d,%d, %q: the budget is %+v; want %+v", test.token, test.rate, test.burst, test.limit, got, test.want)
		}
	}
}

// TestGrowsAndShrinks: the limiter of one token follows one size after the other, and what is in its
// bucket stays.
func TestGrowsAndShrinks(t *testing.T) {
	sized := func(limit string) answer {
		return answer{body: fixture(t, "customers_one_match_2021_11"), header: http.Header{"X-Recharge-Limit": {limit}}}
	}
	srv := newScript(t, sized("1/40"), sized("2/80"), sized("3/80"), sized("4/20"), sized("5/40"))
	c := newClient(t, srv.URL, func(o *recharge.Options) { o.Rate, o.Burst = 0, 0 })
	for i, want := range []recharge.Budget{
		{Left: 39, Burst: 40, Rate: 2}, {Left: 78, Burst: 80, Rate: 4}, {Left: 77, Burst: 80, Rate: 4},
		{Left: 16, Burst: 20, Rate: 1}, {Left: 35, Burst: 40, Rate: 2},
	} {
		checkReason(t, "FindCustomer", find(t, c), "")
		if got := c.Limiter().Budget(); got != want {
			t.Errorf("after answer %d the budget is %+v; want %+v", i+1, got, want)
		}
	}
}

// TestPauseIsShared: after a 429 in one process, the other makes no call either, not even one that
// a click could do without.
func TestPauseIsShared(t *testing.T) {
	s := &sharedLimiter{}
	srv, all := sharing(t, s, answer{status: 429})
	checkReason(t, "FindCustomer", all[0].find(t), recharge.Limited)
	checkReason(t, "FindCustomer of the other", all[1].find(t), recharge.OverBudget)
	for _, ask := range []recharge.Ask{{recharge.High: 1}, {recharge.Normal: 1}, {recharge.Background: 1}} {
		_, err := all[1].Limiter().Reserve(t.Context(), s, ask)
		checkReason(t, "Reserve of the other", err, recharge.OverBudget)
	}
	_, err := all[1].CreateSession(t.Context(), grantOf(all[1].Client, s), pat())
	checkReason(t, "CreateSession of the other", err, recharge.OverBudget)
	if n := len(srv.requests()); n != 1 {
		t.Errorf("%d calls; want 1", n)
	}
}

// TestReleaseReportsA429: Release reports a 429 once, even for a caller that has gone. Until it
// does, this process makes no call either.
func TestReleaseReportsA429(t *testing.T) {
	s := &sharedLimiter{}
	now := newClock()
	srv, all := sharing(t, s, answer{status: 429, header: http.Header{"Retry-After": {"30"}}}, func(o *recharge.Options) {
		o.Now, o.Rate = now.Now, 2
	})
	g := all[0].reserve(t, recharge.Ask{recharge.High: 1, recharge.Normal: 2})
	_, err := all[0].FindCustomer(t.Context(), g, shopifyID, recharge.High)
	checkReason(t, "FindCustomer", err, recharge.Limited)
	checkReason(t, "FindCustomer of the same process", all[0].find(t), recharge.Limited)
	if s.takes != 1 {
		t.Errorf("before Release there were %d Takes; want 1", s.takes)
	}
	now.Advance(10 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Release(ctx)
	g.Release(ctx)
	if want := 40 + 20*2.0; s.takes != 2 || s.level != want {
		t.Errorf("after Release there were %d Takes and the bucket holds %v; want 2 and %v: the burst, and the 20s that are left", s.takes, s.level, want)
	}
	if n := len(srv.requests()); n != 1 {
		t.Errorf("%d calls; want 1", n)
	}
	(*recharge.Grant)(nil).Release(ctx)
	free(all[1].Client).Release(ctx)

	// Release does not fail if the shared limiter is gone.
	s.fails = errGone
	alone := process{newClient(t, srv.URL), s}
	checkReason(t, "FindCustomer with the shared limiter gone", alone.find(t), recharge.Limited)
}

// TestReserve: a click's calls are taken together. Unused ones are given back, and refused ones are
// not asked for again.
func TestReserve(t *testing.T) {
	s := &sharedLimiter{}
	_, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")))
	g := all[0].reserve(t, recharge.Ask{recharge.High: 1, recharge.Normal: 2})
	if s.level != 3 {
		t.Fatalf("the bucket holds %v; want 3", s.level)
	}
	_, err := all[0].FindCustomer(t.Context(), g, shopifyID, recharge.High)
	checkReason(t, "FindCustomer", err, recharge.NoCustomer)
	g.Release(t.Context())
	g.Release(t.Context())
	if s.takes != 1 {
		t.Errorf("%d Takes; want 1", s.takes)
	}
	if got := all[0].left(); got != 39 {
		t.Errorf("%d calls left; want 39", got)
	}
	checkReason(t, "FindCustomer", all[0].find(t), recharge.NoCustomer)
	if s.level != 2 {
		t.Errorf("the bucket holds %v; want the 2 calls that were made", s.level)
	}

	s.level, s.takes = 35, 0
	g = all[1].reserve(t, recharge.Ask{recharge.High: 1, recharge.Normal: 2})
	_, err = all[1].CreateSession(t.Context(), g, pat())
	checkReason(t, "CreateSession that was refused", err, recharge.OverBudget)
	if s.takes != 1 {
		t.Errorf("%d Takes; want 1", s.takes)
	}
	s.level = 40
	_, err = all[1].Limiter().Reserve(t.Context(), s, recharge.Ask{recharge.High: 1, recharge.Normal: 2})
	checkReason(t, "Reserve of a full bucket", err, recharge.OverBudget)
}

// TestReserveNothing: the zero Ask asks no limiter and cannot fail.
func TestReserveNothing(t *testing.T) {
	s := &sharedLimiter{fails: errGone}
	_, all := sharing(t, s, answer{status: 429})
	checkReason(t, "FindCustomer", find(t, all[0].Client), recharge.Limited)
	g := all[0].reserve(t, recharge.Ask{})
	g.Release(t.Context())
	if s.takes != 0 || g.At() != 0 || len(g.Calls()) != 0 {
		t.Errorf("%d Takes, At %d, calls %v; want none", s.takes, g.At(), g.Calls())
	}
}

// TestGrantBeyondReservation: a call that was not reserved is taken when it is made, and so is a
// retry.
func TestGrantBeyondReservation(t *testing.T) {
	s := &sharedLimiter{}
	_, all := sharing(t, s, answer{status: 500}, func(o *recharge.Options) { o.Now = time.Now })
	g := all[0].reserve(t, recharge.Ask{recharge.High: 1})
	_, err := all[0].FindCustomer(t.Context(), g, shopifyID, recharge.High)
	checkReason(t, "FindCustomer", err, recharge.Unavailable)
	if s.level != 2 || s.takes != 2 {
		t.Errorf("the bucket holds %v after %d Takes; want 2 calls, each of them taken", s.level, s.takes)
	}
	_, err = all[0].CreateSession(t.Context(), g, pat())
	checkReason(t, "CreateSession", err, recharge.Unavailable)
	if s.level != 3 || s.takes != 3 {
		t.Errorf("the bucket holds %v after %d Takes; want 3 and 3", s.level, s.takes)
	}
	var got []string
	for _, call := range g.Calls() {
		got = append(got, call.Endpoint)
		if call.Failed == nil || call.Failed.Reason != recharge.Unavailable || call.Start.IsZero() {
			t.Errorf("call %+v; want it failed", call)
		}
	}
	if want := []string{recharge.Customers, recharge.Customers, recharge.Sessions}; !cmp.Equal(got, want) {
		t.Errorf("Calls = %v; want %v", got, want)
	}
	if g.At() != 1 {
		t.Errorf("At = %d; want that of the first Take", g.At())
	}
}

// TestAtOfOwnAccount: this process's own account has no clock that others know.
func TestAtOfOwnAccount(t *testing.T) {
	s := &sharedLimiter{fails: errGone, instances: 1}
	_, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")))
	g := all[0].reserve(t, recharge.Ask{recharge.High: 1})
	s.fails = nil
	for range 2 {
		_, err := all[0].FindCustomer(t.Context(), g, shopifyID, recharge.High)
		checkReason(t, "FindCustomer", err, recharge.NoCustomer)
	}
	if g.At() != 0 || s.takes != 2 {
		t.Errorf("At = %d after %d Takes; want 0 after 2", g.At(), s.takes)
	}
	if g := all[0].reserve(t, recharge.Ask{recharge.High: 1}); g.At() == 0 {
		t.Error("At of a shared call = 0; want the shared limiter's clock")
	}
}

// TestHeldAndChanged: both are returned unchanged, nothing is taken, and this process does not take
// from its own account instead.
func TestHeldAndChanged(t *testing.T) {
	for _, want := range []error{recharge.ErrHeld, recharge.ErrChanged} {
		s := &sharedLimiter{fails: want, instances: 1}
		srv, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")))
		g, err := all[0].Limiter().Reserve(t.Context(), s, recharge.Ask{recharge.High: 1})
		if g != nil || err != want { //nolint:errorlint // must be this very error
			t.Errorf("Reserve = %v, %v; want %v", g, err, want)
		}
		_, err = all[0].FindCustomer(t.Context(), grantOf(all[0].Client, s), shopifyID, recharge.High)
		if err != want { //nolint:errorlint // must be this very error
			t.Errorf("FindCustomer = %v; want %v", err, want)
		}
		if n := len(srv.requests()); n != 0 || all[0].left() != 40 {
			t.Errorf("%v: %d calls were made, %d are left; want 0 and 40", want, n, all[0].left())
		}
	}
}

// TestCancelledTake: a Take that ends because its caller has gone does not mean that the shared
// limiter is gone.
func TestCancelledTake(t *testing.T) {
	s := &sharedLimiter{instances: 1}
	_, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := all[0].Limiter().Reserve(ctx, s, recharge.Ask{recharge.High: 1})
	checkReason(t, "Reserve of a cancelled caller", err, recharge.Cancelled)
	late, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err = all[0].Limiter().Reserve(late, s, recharge.Ask{recharge.High: 1})
	checkReason(t, "Reserve of a late caller", err, recharge.TooSlow)
	if got := all[0].left(); got != 40 {
		t.Errorf("%d calls left; want 40", got)
	}
}

// TestMaxWait: a call that would wait longer than a second is not made.
func TestMaxWait(t *testing.T) {
	for level, want := range map[float64]recharge.Reason{49.5: recharge.OverBudget, 40: ""} {
		_, all := sharing(t, &sharedLimiter{level: level}, says(fixture(t, "customers_one_match_2021_11")), func(o *recharge.Options) {
			o.Rate = 10
		})
		checkReason(t, "FindCustomer behind a bucket that is too full", all[0].find(t), want)
	}
}

// TestUnreported: calls made while the shared limiter was gone are reported when it is back, and
// calls given back are not.
func TestUnreported(t *testing.T) {
	s := &sharedLimiter{instances: 1}
	_, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")))
	s.fails = errGone
	for range 10 {
		g := all[0].reserve(t, recharge.Ask{recharge.High: 1, recharge.Normal: 2})
		_, err := all[0].FindCustomer(t.Context(), g, shopifyID, recharge.High)
		checkReason(t, "FindCustomer", err, recharge.NoCustomer)
		g.Release(t.Context())
	}
	s.fails, s.level = nil, 20 // spent by the others
	checkReason(t, "FindCustomer", all[0].find(t), recharge.NoCustomer)
	if s.level != 31 {
		t.Errorf("the bucket holds %v; want 31: 20, the 10 unreported ones, and this one", s.level)
	}
}

// TestGivenBackInTime: calls that were given back long ago have leaked since, and make no room for
// others now.
func TestGivenBackInTime(t *testing.T) {
	s := &sharedLimiter{instances: 2}
	now := newClock()
	_, all := sharing(t, s, says(fixture(t, "customers_empty_2021_11")), func(o *recharge.Options) { o.Now, o.Rate = now.Now, 2 })
	var grants []*recharge.Grant
	for range 10 {
		grants = append(grants, all[0].reserve(t, recharge.Ask{recharge.High: 1, recharge.Normal: 2}))
	}
	for _, g := range grants {
		g.Release(t.Context())
	}
	now.Advance(time.Minute)
	s.level = 38 // spent by the other meanwhile
	checkReason(t, "FindCustomer", all[0].find(t), recharge.NoCustomer)
	if s.level < 39 {
		t.Errorf("the bucket holds %v; want 39: 38, and this call", s.level)
	}
}

// flaky is a shared limiter with a prepared result for each Take.
type flaky struct {
	takes []func() (recharge.Turn, error)
	taken int
}

func (f *flaky) Take(context.Context, recharge.Bucket, recharge.Ask, float64, float64) (recharge.Turn, error) {
	f.taken++
	return f.takes[f.taken-1]()
}

func (f *flaky) Instances() int { return 1 }

// TestFailingSharedLimiter: the account of this process never holds less than it has spent or than
// the shared limiter has reported, in whatever order the answers come.
func TestFailingSharedLimiter(t *testing.T) {
	t.Parallel()
	fails := func() (recharge.Turn, error) { return recharge.Turn{}, errGone }
	answers := func(level float64, at int64) func() (recharge.Turn, error) {
		return func() (recharge.Turn, error) {
			return recharge.Turn{Ask: recharge.Ask{recharge.High: 1}, Level: level, At: at}, nil
		}
	}
	late := func(take func() (recharge.Turn, error)) func() (recharge.Turn, error) {
		return func() (recharge.Turn, error) {
			time.Sleep(time.Second / 10)
			return take()
		}
	}
	tests := []struct {
		name  string
		takes []func() (recharge.Turn, error) // the first begins first and may end last; the others run in order
		spent int
	}{
		{"an older answer comes last", []func() (recharge.Turn, error){late(answers(1, 1)), answers(40, 2)}, 40},
		{"a clock is set back", []func() (recharge.Turn, error){answers(3, 9), answers(4, 2)}, 4},
		{"a call is granted while a report is under way", []func() (recharge.Turn, error){fails, fails, late(fails), answers(1, 1)}, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shared := &flaky{takes: test.takes}
				l := recharge.NewLimiter("", 1e-6, 40, time.Now)
				for range test.takes {
					go func() { _, _ = l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 1}) }()
					synctest.Wait()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := l.Budget(); got.Burst-got.Left != test.spent {
					t.Errorf("%d calls spent; want %d", got.Burst-got.Left, test.spent)
				}
			})
		})
	}
}

// TestGivenBackOnce: calls are given back only once, even if we do not know whether the shared
// limiter has heard of it.
func TestGivenBackOnce(t *testing.T) {
	t.Parallel()
	// given returns the state after 20 calls here, 10 of them given back, and 10 elsewhere.
	given := func(t *testing.T) (*recharge.Limiter, *sharedLimiter) {
		l, shared := recharge.NewLimiter("", 1e-6, 40, time.Now), &sharedLimiter{}
		if _, err := l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 10}); err != nil {
			t.Fatal(err)
		}
		grant, err := l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 10})
		if err != nil {
			t.Fatal(err)
		}
		grant.Release(t.Context())
		shared.level += 10
		return l, shared
	}
	t.Run("the report's answer is lost", func(t *testing.T) {
		l, shared := given(t)
		shared.lost = true
		for range 3 {
			if _, err := l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if shared.level < 20+3 {
			t.Errorf("the shared limiter knows of %v calls; want the 20 and 3 that were made", shared.level)
		}
	})
	t.Run("the report is under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, shared := given(t)
			held := make(chan struct{})
			shared.held = held
			go func() { _, _ = l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 1}) }()
			synctest.Wait()
			if _, err := l.Reserve(t.Context(), shared, recharge.Ask{recharge.High: 1}); err != nil {
				t.Fatal(err)
			}
			if b := l.Budget(); b.Burst-b.Left < 20+2 {
				t.Errorf("this process knows of %d calls; want the 20 and 2 that were made", b.Burst-b.Left)
			}
			close(held)
			synctest.Wait()
		})
	})
}

package recharge_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"manage-subscriptions/recharge"
)

// ledger is one for two clients in a test. It stands still: nothing leaks.
type ledger struct {
	mu      sync.Mutex
	level   float64
	asked   int
	fails   error
	sharers int
}

func (l *ledger) Take(_ context.Context, b recharge.Bucket, ask recharge.Ask, owed, level float64) (recharge.Turn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.fails != nil {
		return recharge.Turn{}, l.fails
	}
	l.level = max(0, l.level+owed, level)
	turn := b.Grant(l.level, ask, 1)
	l.level = turn.Level
	return turn, nil
}

func (l *ledger) Sharers() int { return l.sharers }

// sharing returns clients that share a ledger, of a Recharge that answers each call
// with answer.
func sharing(t *testing.T, l *ledger, answer answer, change ...func(*recharge.Options)) (*script, []*recharge.Client) {
	t.Helper()
	srv := newScript(t, answer)
	now := newClock()
	var clients []*recharge.Client
	for range 2 {
		clients = append(clients, newClient(t, srv.URL, append([]func(*recharge.Options){func(o *recharge.Options) {
			o.Ledger, o.Now, o.Rate = l, now.Now, 1e-6
		}}, change...)...))
	}
	return srv, clients
}

func find(t *testing.T, c *recharge.Client) error {
	_, err := c.FindCustomer(t.Context(), shopifyID)
	return err
}

// TestShared: what one client spends is spent for the other.
func TestShared(t *testing.T) {
	l := &ledger{}
	_, clients := sharing(t, l, says(fixture(t, "customers_one_match_2021_11")))
	for i := range 40 {
		checkReason(t, "FindCustomer", find(t, clients[i%2]), "")
	}
	for _, c := range clients {
		checkReason(t, "FindCustomer with the burst spent", find(t, c), recharge.OverBudget)
	}
}

// TestShare: when the ledger is gone each of four has a quarter of the burst, less
// what it knows to be spent.
func TestShare(t *testing.T) {
	l := &ledger{sharers: 4}
	_, clients := sharing(t, l, says(fixture(t, "customers_one_match_2021_11")))
	var spent int
	for range 8 {
		checkReason(t, "FindCustomer", find(t, clients[0]), "")
	}
	l.fails = errors.New("gone")
	for i, want := range []int{8, 10} { // the second knows of nothing
		spent = 0
		for range 40 {
			if err := find(t, clients[i]); err == nil {
				spent++
			} else {
				checkReason(t, "FindCustomer", err, recharge.OverBudget)
			}
		}
		if spent != want {
			t.Errorf("client %d made %d calls; want %d", i, spent, want)
		}
	}
}

// TestFollowsLimit: somebody else spends the same token, and the bucket is smaller
// than was configured.
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
		l := &ledger{}
		_, clients := sharing(t, l, limited)
		checkReason(t, "FindCustomer", find(t, clients[0]), "")
		if got := clients[0].Budget(); got.Left != test.left || got.Burst != test.burst {
			t.Errorf("%q: the budget is %+v; want %d of %d left", test.limit, got, test.left, test.burst)
		}
		if test.left == 0 {
			checkReason(t, "FindCustomer of a full bucket", find(t, clients[0]), recharge.OverBudget)
			checkReason(t, "FindCustomer of the other", find(t, clients[1]), recharge.OverBudget)
		}
	}
}

// TestPauseIsShared: after one client's 429, the other makes no call.
func TestPauseIsShared(t *testing.T) {
	srv, clients := sharing(t, &ledger{}, answer{status: 429})
	checkReason(t, "FindCustomer", find(t, clients[0]), recharge.Limited)
	checkReason(t, "FindCustomer of the other", find(t, clients[1]), recharge.OverBudget)
	if n := len(srv.requests()); n != 1 {
		t.Errorf("%d calls; want 1", n)
	}
}

// TestReserve: a click's calls are asked for once; what is not used comes back, and
// what was not granted is not asked for again.
func TestReserve(t *testing.T) {
	l := &ledger{}
	_, clients := sharing(t, l, says(fixture(t, "customers_empty_2021_11")))
	reserved, err := clients[0].Reserve(t.Context(), l, recharge.Ask{Needed: 1, Helpful: 2})
	if err != nil || l.level != 3 {
		t.Fatalf("Reserve = %v, the bucket holds %v; want 3", err, l.level)
	}
	checkReason(t, "FindCustomer", find(t, reserved), recharge.NoCustomer)
	reserved.Settle()
	reserved.Settle()
	clients[0].Settle() // that reserved nothing
	if l.asked != 1 {
		t.Errorf("the ledger was asked %d times; want once", l.asked)
	}
	if got := clients[0].Budget().Left; got != 39 {
		t.Errorf("%d calls left; want 39", got)
	}
	checkReason(t, "FindCustomer", find(t, clients[0]), recharge.NoCustomer)
	if l.level != 2 {
		t.Errorf("the bucket holds %v; want 2 calls, which were made", l.level)
	}

	l.level, l.asked = 35, 0
	reserved, err = clients[1].Reserve(t.Context(), l, recharge.Ask{Needed: 1, Helpful: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = reserved.CreateSession(t.Context(), pat())
	checkReason(t, "CreateSession that was not granted", err, recharge.OverBudget)
	if l.asked != 1 {
		t.Errorf("the ledger was asked %d times; want once", l.asked)
	}
	l.fails = recharge.ErrHeld
	if _, err := clients[1].Reserve(t.Context(), l, recharge.Ask{Needed: 1}); !errors.Is(err, recharge.ErrHeld) {
		t.Errorf("Reserve of what is held = %v; want ErrHeld", err)
	}
	l.fails = nil
	l.level = 40
	_, err = clients[1].Reserve(t.Context(), l, recharge.Ask{Needed: 1, Helpful: 2})
	checkReason(t, "Reserve of a full bucket", err, recharge.OverBudget)
}

// TestPostpaid: where there is plenty a helpful call asks nobody, but is told of.
func TestPostpaid(t *testing.T) {
	l := &ledger{}
	_, clients := sharing(t, l, says(fixture(t, "session_camel")))
	session := func() {
		t.Helper()
		_, err := clients[0].CreateSession(t.Context(), pat())
		checkReason(t, "CreateSession", err, "")
	}
	session()
	if l.asked != 0 || clients[0].Budget().Left != 39 {
		t.Errorf("the ledger was asked %d times and %d are left; want never, and 39", l.asked, clients[0].Budget().Left)
	}
	for range 5 {
		session()
	}
	if l.asked != 1 || l.level != 6 {
		t.Errorf("after 6 calls the ledger was asked %d times and holds %v; want once, and all six", l.asked, l.level)
	}
	l.level = 25
	checkReason(t, "FindCustomer", find(t, clients[0]), recharge.Malformed)
	before := l.asked
	session()
	if l.asked != before+1 {
		t.Error("with less than half left, a session was not asked for")
	}
}

// TestPatience: how long a click waits can be set.
func TestPatience(t *testing.T) {
	_, clients := sharing(t, &ledger{level: 40}, says(fixture(t, "customers_one_match_2021_11")), func(o *recharge.Options) {
		o.Rate, o.Patience = 10, 50*time.Millisecond
	})
	checkReason(t, "FindCustomer that would wait 100ms", find(t, clients[0]), recharge.OverBudget)
	_, clients = sharing(t, &ledger{level: 40}, says(fixture(t, "customers_one_match_2021_11")), func(o *recharge.Options) {
		o.Rate, o.Patience = 10, 150*time.Millisecond
	})
	checkReason(t, "FindCustomer that waits 100ms", find(t, clients[0]), "")
}

// TestGivenBackOnce: what was granted while the ledger was gone, and not made, is no
// gift to those who spent by it.
func TestGivenBackOnce(t *testing.T) {
	l := &ledger{sharers: 1}
	_, clients := sharing(t, l, says(fixture(t, "customers_empty_2021_11")))
	l.fails = errors.New("gone")
	for range 10 {
		reserved, err := clients[0].Reserve(t.Context(), l, recharge.Ask{Needed: 1, Helpful: 2})
		if err != nil {
			t.Fatal(err)
		}
		checkReason(t, "FindCustomer", find(t, reserved), recharge.NoCustomer)
		reserved.Settle()
	}
	l.fails, l.level = nil, 20 // what the others have spent
	checkReason(t, "FindCustomer", find(t, clients[0]), recharge.NoCustomer)
	if l.level != 31 {
		t.Errorf("the bucket holds %v; want 31: 20, the 10 that it was not told of, and this one", l.level)
	}
}

// TestGivenBackInTime: what was given back long ago has leaked since, and makes no
// room for others now.
func TestGivenBackInTime(t *testing.T) {
	l := &ledger{sharers: 2}
	now := newClock()
	_, clients := sharing(t, l, says(fixture(t, "customers_empty_2021_11")), func(o *recharge.Options) { o.Now, o.Rate = now.Now, 2 })
	var all []*recharge.Client
	for range 10 {
		reserved, err := clients[0].Reserve(t.Context(), l, recharge.Ask{Needed: 1, Helpful: 2})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, reserved)
	}
	for _, reserved := range all {
		reserved.Settle()
	}
	now.Advance(time.Minute)
	l.level = 38 // what the other has spent meanwhile
	checkReason(t, "FindCustomer", find(t, clients[0]), recharge.NoCustomer)
	if l.level < 39 {
		t.Errorf("the bucket holds %v; want 39: 38, and this call", l.level)
	}
}

package recharge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// emulated starts a rechargetest inside a synctest bubble. Its bucket, its
// sessions and the client's waits all run on the bubble's clock.
func emulated(t *testing.T, o rechargetest.Options, change ...func(*recharge.Options)) (*rechargetest.Server, *recharge.Client) {
	t.Helper()
	p := newPipes()
	o.Shop = shop
	if o.Tokens == nil {
		o.Tokens = []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers", "write_session"}}}
	}
	o.Customers = []rechargetest.Customer{{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID, Subscriptions: []rechargetest.Subscription{{ID: 1}}}}
	srv := rechargetest.NewServerOn(p, o)
	t.Cleanup(srv.Close)
	return srv, overPipes(t, p, change...)
}

func TestStatuses(t *testing.T) {
	const soon, locked = 50 * time.Millisecond, 500 * time.Millisecond
	tests := []struct {
		status int
		reason recharge.Reason
		retry  time.Duration // before a GET is retried; 0 means never
	}{
		{400, recharge.BadRequest, 0},
		{401, recharge.Unauthorized, 0},
		{402, recharge.RequestFailed, 0},
		{403, recharge.Forbidden, 0},
		{404, recharge.NotFound, 0},
		{405, recharge.NotAcceptable, 0},
		{406, recharge.NotAcceptable, 0},
		{409, recharge.Locked, locked},
		{415, recharge.NotAcceptable, 0},
		{422, recharge.Invalid, 0},
		{423, recharge.TwoFactor, 0},
		{426, recharge.BadVersion, 0},
		{429, recharge.Limited, 0},
		{500, recharge.Unavailable, soon},
		{501, recharge.Unavailable, soon},
		{502, recharge.Unavailable, soon}, // HTML
		{503, recharge.Unavailable, soon},
		{504, recharge.Unavailable, soon}, // HTML
		{418, recharge.Unexpected, 0},
		{200, recharge.Malformed, soon}, // an empty body
	}
	for _, test := range tests {
		t.Run(strconv.Itoa(test.status), func(t *testing.T) {
			calls := map[bool]int{true: 2, false: 1}[test.retry > 0]
			for _, ask := range asks(calls) {
				synctest.Test(t, func(t *testing.T) {
					srv, c := emulated(t, rechargetest.Options{})
					srv.SetFaults(func(f *rechargetest.Faults) { f.Status = test.status })
					start := time.Now()
					err := ask.do(t.Context(), c)
					checkReason(t, ask.name, err, test.reason)
					checkStatus(t, ask.name, err, test.status)
					if n := len(srv.Requests()); n != ask.calls {
						t.Errorf("%s of a %d: %d calls; want %d", ask.name, test.status, n, ask.calls)
					}
					if took, want := time.Since(start), test.retry*time.Duration(ask.calls-1); took != want {
						t.Errorf("%s of a %d took %v; want %v", ask.name, test.status, took, want)
					}
				})
			}
		})
	}
}

// ask is a method of the client, with the number of calls it may make.
type ask struct {
	name  string
	calls int
	do    func(context.Context, *recharge.Client) error
}

// asks are all methods that make calls. GETs may be retried; the POST never, because it may already
// have been carried out.
func asks(gets int) []ask {
	return []ask{
		{"FindCustomer", gets, func(ctx context.Context, c *recharge.Client) error {
			_, err := lookUp(ctx, c, shopifyID)
			return err
		}},
		{"PortalAccess", gets, func(ctx context.Context, c *recharge.Client) error {
			_, err := portalLink(ctx, c, pat(), recharge.Session{Token: opaqueSession}, visit(recharge.Subscriptions))
			return err
		}},
		{"CreateSession", 1, func(ctx context.Context, c *recharge.Client) error {
			_, err := createSession(ctx, c, pat())
			return err
		}},
	}
}

func checkStatus(t *testing.T, what string, err error, want int) {
	t.Helper()
	var e *recharge.Error
	if errors.As(err, &e) && e.Status != want {
		t.Errorf("%s: Status = %d; want %d", what, e.Status, want)
	}
}

// TestAnswers tries exact answers, some of which no healthy API gives. A retried call gets the same
// answer again.
func TestAnswers(t *testing.T) {
	const html = "<html>Bad Gateway</html>"
	htmlType := http.Header{"Content-Type": {"text/html"}}
	tests := []struct {
		name   string
		answer answer
		reason recharge.Reason
		gets   int
	}{
		{"error_401", answer{status: 401, body: fixture(t, "error_401")}, recharge.Unauthorized, 1},
		{"error_404", answer{status: 404, body: fixture(t, "error_404")}, recharge.NotFound, 1},
		{"error_409", answer{status: 409, body: fixture(t, "error_409_route_lock")}, recharge.Locked, 2},
		{"error_422 list", answer{status: 422, body: fixture(t, "error_422_list")}, recharge.Invalid, 1},
		{"error_422 string", answer{status: 422, body: fixture(t, "error_422_string")}, recharge.Invalid, 1},
		{"error_schema", answer{status: 400, body: fixture(t, "error_schema")}, recharge.BadRequest, 1},
		{"error_platform", answer{status: 403, body: fixture(t, "error_platform")}, recharge.Forbidden, 1},
		{
			"error_429", answer{
				status: 429, body: fixture(t, "error_429_with_header_X-Recharge-Limit_40-of-40"),
				header: http.Header{"X-Recharge-Limit": {"40/40"}},
			}, recharge.Limited, 1,
		},
		{"502 html", answer{status: 502, header: htmlType, body: html}, recharge.Unavailable, 2},
		{"504 empty", answer{status: 504}, recharge.Unavailable, 2},
		{"503 cut short", answer{status: 503, body: `{"err`, cut: true}, recharge.Unavailable, 2},
		{"404 cut short", answer{status: 404, body: `{"err`, cut: true}, recharge.NotFound, 1},
		{"an error that names the customer", answer{status: 422, body: `{"errors":{"email":"pat@example.test of 6100200300400"}}`}, recharge.Invalid, 1},
		{"204", answer{status: 204}, recharge.Unexpected, 1},
		{"200 cut short", answer{body: `{"customers":[{"id":70100200,`, cut: true}, recharge.Malformed, 2},
		{"200 cut after valid JSON", answer{body: fixture(t, "customers_one_match_2021_11"), cut: true}, recharge.Malformed, 2},
		{"200 empty", answer{}, recharge.Malformed, 2},
		{"200 html", answer{header: htmlType, body: html}, recharge.Malformed, 2},
		{"200 list", says(`[]`), recharge.Malformed, 2},
		{"200 string", says(`"1f2e3d4c5b6a7988"`), recharge.Malformed, 2},
		{"200 number", says(`70100200`), recharge.Malformed, 2},
		{
			"200 of wrong types",
			says(`{"customers":{},"customer_session":"eyJ","base_url":1,"customer_hash":2,"portal_url":3}`), recharge.Malformed, 2,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, ask := range asks(test.gets) {
				synctest.Test(t, func(t *testing.T) {
					srv := &script{answers: []answer{test.answer}}
					err := ask.do(t.Context(), inBubble(t, srv))
					checkReason(t, ask.name, err, test.reason)
					if n := len(srv.requests()); n != ask.calls {
						t.Errorf("%s: %d calls; want %d", ask.name, n, ask.calls)
					}
				})
			}
		})
	}
}

func TestRetryHelps(t *testing.T) {
	good := fixture(t, "customers_one_match_2021_11")
	for name, first := range map[string]answer{
		"409":       {status: 409, body: fixture(t, "error_409_route_lock")},
		"500":       {status: 500},
		"502 html":  {status: 502, body: "<html>Bad Gateway</html>"},
		"cut short": {body: good[:len(good)/2], cut: true},
		"empty":     {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := &script{answers: []answer{first, says(good)}}
				found, err := lookUp(t.Context(), inBubble(t, srv), shopifyID)
				got := found.Customer
				checkReason(t, "FindCustomer", err, "")
				if got != pat() {
					t.Errorf("FindCustomer = %+v; want %+v", got, pat())
				}
				if n := len(srv.requests()); n != 2 {
					t.Errorf("%d calls; want 2", n)
				}
			})
		})
	}
}

// TestCutByEmulator lets rechargetest cut its answers, over real sockets.
func TestCutByEmulator(t *testing.T) {
	t.Parallel()
	srv := rechargetest.NewServer(rechargetest.Options{
		Tokens:    []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers", "write_session"}}},
		Customers: []rechargetest.Customer{{ID: rechargeID, Hash: hash, ShopifyCustomerID: shopifyID}},
	})
	t.Cleanup(srv.Close)
	srv.SetFaults(func(f *rechargetest.Faults) { f.Truncate = true })
	c := newClient(t, srv.URL)
	_, err := lookUp(t.Context(), c, shopifyID)
	checkReason(t, "FindCustomer", err, recharge.Malformed)
	_, err = createSession(t.Context(), c, pat())
	checkReason(t, "CreateSession", err, recharge.Malformed)
	calls := map[string]int{}
	for _, r := range srv.Requests() {
		calls[r.Endpoint]++
	}
	if calls[rechargetest.EndpointCustomers] != 2 || calls[rechargetest.EndpointSessions] != 1 {
		t.Errorf("calls = %v; want 2 to customers, 1 to sessions", calls)
	}
}

// TestNoRedirectIsFollowed: a redirect would carry the token to another host.
func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := newScript(t, says(fixture(t, "customers_one_match_2021_11")))
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := newScript(t, answer{status: status, header: http.Header{"Location": {elsewhere.URL + "/customers"}}})
		for _, ask := range asks(1) {
			before := len(srv.requests())
			err := ask.do(t.Context(), newClient(t, srv.URL))
			checkReason(t, fmt.Sprintf("%s of a %d", ask.name, status), err, recharge.Unexpected)
			checkStatus(t, ask.name, err, status)
			if n := len(srv.requests()) - before; n != 1 {
				t.Errorf("%s of a %d: %d calls; want 1", ask.name, status, n)
			}
		}
	}
	if n := len(elsewhere.requests()); n != 0 {
		t.Errorf("%d calls to where the redirects point; want 0", n)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ask := range asks(2) {
		err := ask.do(t.Context(), newClient(t, "http://"+address))
		checkReason(t, ask.name, err, recharge.Unreachable)
		checkStatus(t, ask.name, err, 0)
	}
}

// TestDialsAgain counts connection attempts, which no server can count.
func TestDialsAgain(t *testing.T) {
	for _, ask := range asks(2) {
		synctest.Test(t, func(t *testing.T) {
			var dials atomic.Int32
			c := newClient(t, pipesURL)
			c.DialBy(func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				return nil, errors.New("no route to " + pipesURL)
			})
			err := ask.do(t.Context(), c)
			checkReason(t, ask.name, err, recharge.Unreachable)
			if n := int(dials.Load()); n != ask.calls {
				t.Errorf("%s: %d dials; want %d", ask.name, n, ask.calls)
			}
		})
	}
}

func TestConnectionDropped(t *testing.T) {
	for _, ask := range asks(2) {
		synctest.Test(t, func(t *testing.T) {
			srv, c := emulated(t, rechargetest.Options{})
			srv.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
			err := ask.do(t.Context(), c)
			checkReason(t, ask.name, err, recharge.Unreachable)
			if n := len(srv.Requests()); n != ask.calls {
				t.Errorf("%s: %d calls; want %d", ask.name, n, ask.calls)
			}
		})
	}
}

func TestTooSlow(t *testing.T) {
	const timeout = 3 * time.Second
	// Both wait for the client to go away.
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	stalled := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{"customers":[`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, handler := range map[string]http.HandlerFunc{"silent": silent, "stalled in the body": stalled} {
		t.Run(name, func(t *testing.T) {
			for _, ask := range asks(2) {
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int32
					count := func(w http.ResponseWriter, r *http.Request) {
						calls.Add(1)
						_, _ = io.Copy(io.Discard, r.Body) // only then does net/http notice that the client goes away
						handler(w, r)
					}
					c := inBubble(t, http.HandlerFunc(count), func(o *recharge.Options) { o.Timeout = timeout })
					start := time.Now()
					err := ask.do(t.Context(), c)
					checkReason(t, ask.name, err, recharge.TooSlow)
					checkStatus(t, ask.name, err, 0)
					if n := int(calls.Load()); n != ask.calls {
						t.Errorf("%s: %d calls; want %d", ask.name, n, ask.calls)
					}
					want := time.Duration(ask.calls)*timeout + time.Duration(ask.calls-1)*50*time.Millisecond
					if took := time.Since(start); took != want {
						t.Errorf("%s took %v; want %v: %v a call", ask.name, took, want, timeout)
					}
				})
			}
		})
	}
}

func TestLatencyWithinTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Timeout = 3 * time.Second })
		srv.SetFaults(func(f *rechargetest.Faults) { f.Latency = 2 * time.Second })
		found, err := lookUp(t.Context(), c, shopifyID)
		got := found.Customer
		checkReason(t, "FindCustomer", err, "")
		if got != pat() {
			t.Errorf("FindCustomer = %+v; want %+v", got, pat())
		}
	})
}

// TestContextEndsTheRetry: a click without time left makes no second call, and gets the first one's
// error no later than its deadline.
func TestContextEndsTheRetry(t *testing.T) {
	tests := []struct {
		name   string
		first  answer
		left   time.Duration // until the click's deadline
		reason recharge.Reason
		calls  int
	}{
		{"500, ends before the retry", answer{status: 500}, 49 * time.Millisecond, recharge.Unavailable, 1},
		{"500, ends after the retry", answer{status: 500}, 51 * time.Millisecond, recharge.Unavailable, 2},
		{"409, ends before the retry", answer{status: 409}, 499 * time.Millisecond, recharge.Locked, 1},
		{"empty, ends before the retry", answer{}, 49 * time.Millisecond, recharge.Malformed, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := &script{answers: []answer{test.first}}
				c := inBubble(t, srv)
				ctx, cancel := context.WithTimeout(t.Context(), test.left)
				defer cancel()
				start := time.Now()
				_, err := lookUp(ctx, c, shopifyID)
				checkReason(t, "FindCustomer", err, test.reason)
				if n := len(srv.requests()); n != test.calls {
					t.Errorf("%d calls; want %d", n, test.calls)
				}
				if took := time.Since(start); took > test.left {
					t.Errorf("took %v; want at most %v", took, test.left)
				}
			})
		})
	}
}

// TestContextEndsTheCall: the click's deadline ends a call that is under way.
func TestContextEndsTheCall(t *testing.T) {
	for _, ask := range asks(1) {
		synctest.Test(t, func(t *testing.T) {
			srv, c := emulated(t, rechargetest.Options{})
			srv.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Minute })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			err := ask.do(ctx, c)
			checkReason(t, ask.name, err, recharge.TooSlow)
			if took := time.Since(start); took != time.Second {
				t.Errorf("%s took %v; want 1s", ask.name, took)
			}
			if n := len(srv.Requests()); n != 1 {
				t.Errorf("%s: %d calls; want 1", ask.name, n)
			}
		})
	}
}

func TestContextOverBeforeTheCall(t *testing.T) {
	t.Parallel()
	srv := newScript(t, says(fixture(t, "customers_one_match_2021_11")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ask := range asks(1) {
		err := ask.do(ctx, newClient(t, srv.URL))
		checkReason(t, ask.name, err, recharge.Cancelled)
	}
	if n := len(srv.requests()); n != 0 {
		t.Errorf("%d calls; want 0", n)
	}
}

// TestErrorText fixes the texts that operators read.
func TestErrorText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  recharge.Error
		want string
	}{
		{recharge.Error{Endpoint: "customers", Reason: recharge.Unauthorized, Status: 401}, "recharge customers: bad token (401)"},
		{recharge.Error{Endpoint: "sessions", Reason: recharge.OverBudget}, "recharge sessions: call budget spent"},
		{recharge.Error{Endpoint: "portal_access", Reason: recharge.LinkRefused, Detail: "not a URL"}, "recharge portal_access: link refused: not a URL"},
	}
	for _, test := range tests {
		if got := test.err.Error(); got != test.want {
			t.Errorf("Error(%#v) = %q; want %q", test.err, got, test.want)
		}
		wrapped := fmt.Errorf("find customer: %w", &test.err)
		if !recharge.Is(wrapped, test.err.Reason) || recharge.Is(wrapped, "another") {
			t.Errorf("Is(%v, %q) = false; want true, and false for another reason", wrapped, test.err.Reason)
		}
	}
	if recharge.Is(nil, recharge.Limited) || recharge.Is(errors.New("rate limited"), recharge.Limited) {
		t.Error("Is(nil or a foreign error, Limited) = true; want false")
	}
}

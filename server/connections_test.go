package server_test

// Callers that open many connections and then send nothing, or hardly anything.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// caller is one connection to the program.
type caller struct {
	net.Conn
	answers *bufio.Reader
}

func dial(t *testing.T, address string) caller {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return caller{connection, bufio.NewReader(connection)}
}

// get sends a request and reads the answer.
func (c caller) get(t *testing.T, path string) *http.Response {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // a busy machine may need long
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		t.Fatalf("GET %s gets no answer: %v", path, err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response
}

// click makes Pat's click on a connection.
func (c caller) click(f *servertest.Fixture) {
	f.T.Helper()
	query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	if r := c.get(f.T, "/apps/subscriptions?"+query); !strings.Contains(r.Header.Get("Location"), "token=") {
		f.T.Errorf("a click = %d, to %q; want a signed-in link", r.StatusCode, r.Header.Get("Location"))
	}
}

// TestSilentConnections: each state of a connection has its own bound, beyond which the oldest
// connection in this state is closed. Meanwhile a new shopper's click and a probe are answered at
// once, and a load balancer's connections stay open.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	const surplus, head = 100, "GET /livez HTTP/1.1\r\nHost: a\r\n"
	for _, test := range []struct {
		name  string
		bound int
		idle  bool   // after one request that was answered
		sends string // then
		drips string // on each connection, once all are open
		ops   bool   // to OPS_ADDR
	}{
		{name: "nothing", bound: 512},
		{name: "nothing to OPS_ADDR", bound: 512, ops: true},
		{name: "half a request", bound: 512, sends: head + "X-A: " + strings.Repeat("a", 15<<10), drips: "a"},
		{name: "no second request", bound: 1024, idle: true},
		{name: "half a second request", bound: 1024, idle: true, sends: head, drips: "X"},
		{name: "no body", bound: 2048, sends: "POST /app/try HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", drips: "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := servertest.Start(t)
			address := f.Public
			if test.ops {
				address = f.Ops
			}
			balancer := dial(t, f.Public)
			balancer.click(f)
			begun := time.Now()
			all := make([]caller, test.bound+surplus)
			var closed atomic.Int64
			var waiting sync.WaitGroup
			for i := range all {
				c := dial(t, address)
				if test.idle {
					c.get(t, "/livez")
				}
				_, _ = io.WriteString(c, test.sends)
				waiting.Go(func() { _, _ = io.Copy(io.Discard, c); closed.Add(1) })
				all[i] = c
			}
			defer waiting.Wait()
			for _, c := range all {
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, test.drips)
			}
			// After 5 s, connections without a request are closed anyway. A machine that takes most of that
			// time to open them leaves none to see which are closed before.
			busy := time.Since(begun) > 3*time.Second
			inTime := func() bool { return time.Since(begun) < 5*time.Second }
			f.Until("the surplus is closed", func() bool { return closed.Load() >= surplus || !inTime() })
			if n := closed.Load(); n < surplus && !busy {
				t.Errorf("%d of %d connections are closed; want %d to be left", n, len(all), test.bound)
			}
			clicking := time.Now()
			dial(t, f.Public).click(f)
			dial(t, f.Ops).get(t, "/readyz")
			if !test.idle { // otherwise it is one of the oldest
				balancer.click(f)
			}
			if took := time.Since(clicking); took > 2*time.Second {
				t.Errorf("two clicks and a probe take %v", took)
			}
			// The click and the probe can each close one more, and so can the balancer.
			if n := closed.Load(); inTime() && n > surplus+3 {
				t.Errorf("%d of %d connections are closed; want %d to be left", n, len(all), test.bound)
			}
			if test.idle { // a shutdown does not wait for them
				f.Stop()
				select {
				case err := <-f.Ended:
					f.Ended <- err
				case <-time.After(4 * time.Second):
					t.Error("the server still drains after 4 s")
				}
			}
			if f.Log.Last("too many connections; the oldest is closed") == nil && !busy {
				t.Error("the log does not tell the operator")
			}
		})
	}
}

// TestHeaderLimit: a click fits, even with a long query behind a proxy that adds much. Beyond 24 KiB, it
// is refused.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	query := f.Store.SignedQuery("utm_content="+strings.Repeat("a", 8<<10), servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	for _, test := range []struct{ header, want int }{{1, 302}, {7 << 10, 302}, {17 << 10, 431}} {
		request, err := http.NewRequest(http.MethodGet, "http://"+f.Public+"/apps/subscriptions?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-A", strings.Repeat("a", test.header))
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Errorf("8 KiB of query and %d bytes of headers: %v", test.header, err)
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode != test.want {
			t.Errorf("8 KiB of query and %d bytes of headers = %d; want %d", test.header, response.StatusCode, test.want)
		}
	}
}

// TestNoHTTP2: HTTP/2 is not served without TLS, so a connection carries one request at a time.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	transport := &http.Transport{Protocols: &http.Protocols{}}
	defer transport.CloseIdleConnections()
	transport.Protocols.SetUnencryptedHTTP2(true)
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("http://" + f.Public + "/app/home.css")
	if err == nil {
		_ = response.Body.Close()
		t.Errorf("HTTP/2 without TLS = %d; want no answer", response.StatusCode)
	}
}

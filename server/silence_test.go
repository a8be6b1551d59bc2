package server_test

// Connections die silently if a host vanishes, a firewall drops its state or an address moves. Nothing
// comes back on them, while a new connection would work.

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	rc "github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// wire passes bytes on to one address. silence keeps all present connections open but lets nothing
// through; later ones work.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	lines []*line
}

type line struct {
	net.Conn
	other  net.Conn
	silent atomic.Bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if l := w.connect(conn); l != nil {
				running.Go(func() { l.pass(l.other, l.Conn) })
				running.Go(func() { l.pass(l.Conn, l.other) })
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, l := range w.lines {
			_, _ = l.Close(), l.other.Close()
		}
		w.mu.Unlock()
		running.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.listener.Addr().String() }

func (w *wire) connect(conn net.Conn) *line {
	other, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = conn.Close()
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &line{Conn: conn, other: other}
	w.lines = append(w.lines, l)
	return l
}

func (l *line) pass(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			if !l.silent.Load() {
				_ = to.Close()
			}
			return
		}
		if !l.silent.Load() {
			_, _ = to.Write(buf[:n])
		}
	}
}

func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		l.silent.Store(true)
	}
}

// TestRedisFallsSilent: a pool full of dead connections makes one or two clicks wait for Redis, not
// one click for each connection.
func TestRedisFallsSilent(t *testing.T) {
	t.Parallel()
	var redis *wire
	m := &matrix{people: servertest.Subscribers(40), client: servertest.NewClient(t)}
	m.Fixture = servertest.StartWith(t, storetest.Redis(t), func(s *config.Settings) {
		redis = newWire(t, strings.TrimPrefix(s.RedisURL, "redis://"))
		s.RedisURL = "redis://" + redis.addr()
	})
	m.Recharge.SetCustomers(append(servertest.Customers(), m.people...))
	m.well(m.people)
	redis.silence()
	waited := 0
	m.Until("Redis is in use again", func() bool {
		if m.click(m.people[0])[0].Took >= patience {
			waited++
		}
		m.Clock.Add(2 * time.Second) // the store tries Redis again
		return waited > 0 && m.reaches()
	})
	if waited > 3 {
		t.Errorf("%d clicks wait for Redis; want the first to get rid of the dead connections", waited)
	}
}

// TestRechargeFallsSilent: many dead connections make one click wait for one call in vain, not one
// click for each connection.
func TestRechargeFallsSilent(t *testing.T) {
	t.Parallel()
	var api *wire
	m := &matrix{people: servertest.Subscribers(24), client: servertest.NewClient(t)}
	m.Fixture = servertest.StartWith(t, storetest.Redis(t), func(s *config.Settings) {
		api = newWire(t, strings.TrimPrefix(s.RechargeAPIURL, "http://"))
		s.RechargeAPIURL = "http://" + api.addr()
		s.RechargeTimeout, s.ClickTimeout = oneCall.String(), oneClick.String()
	})
	m.Recharge.SetCustomers(append(servertest.Customers(), m.people...))
	m.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 50 * time.Millisecond }) // so that each needs its own connection
	m.well(m.people[:20])
	api.silence()
	for i, person := range m.people[20:] {
		if r := m.click(person)[0]; r.Outcome != "redirected" || i > 0 && r.Took > inOrder {
			t.Errorf("click %d = %s after %v; want redirected, and only the first to wait", i+1, r.Outcome, r.Took)
		}
	}
}

// TestRechargeFallsSilentWithHTTP2, which puts all calls on one connection.
func TestRechargeFallsSilentWithHTTP2(t *testing.T) {
	t.Parallel()
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a call comes by %s; want HTTP/2", r.Proto)
		}
		_, _ = fmt.Fprint(w, "{}")
	}))
	front.EnableHTTP2 = true
	front.StartTLS()
	defer front.Close()
	api := newWire(t, front.Listener.Addr().String())
	transport := rc.NewTransport(oneCall)
	transport.TLSClientConfig = front.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client := &http.Client{Transport: transport, Timeout: oneCall}
	defer client.CloseIdleConnections()
	call := func() error {
		response, err := client.Get("https://" + api.addr())
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	api.silence()
	begun := time.Now()
	for call() != nil {
		if took := time.Since(begun); took > 4*oneCall {
			t.Fatalf("nothing gets through after %v", took)
		}
	}
}

package server_test

// Connections die without a word where a host vanishes, a firewall forgets or an
// address moves: nothing comes back on them, while a new one would do.

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/store/storetest"
)

// wire passes bytes on to one address. silence lets all connections of until now
// go on without anything coming through; later ones are in order.
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

// TestRedisFallsSilent: a pool full of dead connections costs a click or two their
// patience, not one click for each.
func TestRedisFallsSilent(t *testing.T) {
	t.Parallel()
	var redis *wire
	m := &matrix{people: crowd(40), client: newClicker(t)}
	m.fixture = startWith(t, storetest.Redis(t), func(s *config.Settings) {
		redis = newWire(t, strings.TrimPrefix(s.RedisURL, "redis://"))
		s.RedisURL = "redis://" + redis.addr()
	})
	m.fixture.recharge.SetCustomers(append(customers(), m.people...))
	m.well(m.people)
	redis.silence()
	waited := 0
	m.until("Redis is in use again", func() bool {
		if m.click(m.people[0])[0].took >= patience {
			waited++
		}
		m.clock.add(2 * time.Second) // Redis has had its rest
		return waited > 0 && m.reaches()
	})
	if waited > 3 {
		t.Errorf("%d clicks wait for Redis; want what is dead to be found out by one", waited)
	}
}

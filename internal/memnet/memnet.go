// Package memnet is a network inside one process, for tests and benchmarks of the whole
// program. A goroutine that waits on it counts as idle for testing/synctest, so a simulated
// day takes seconds.
//
// A connection is a net.Pipe, so a write returns when the other side has read it.
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Network finds listeners by their addresses. The zero value is empty and ready to
// use. It is safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	lastPort  int
	open      map[string]int // the number of open connections, by the dialled address
}

// firstPort is the number after which Listen chooses ports for port 0.
const firstPort = 40000

// Listen listens on address. Port 0 stands for any free port.
func (n *Network) Listen(_ context.Context, network, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fail("listen", network, address, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		n.lastPort++
		port = strconv.Itoa(firstPort + n.lastPort)
	}
	l := &listener{
		net: n, addr: addr{network, net.JoinHostPort(host, port)},
		dialled: make(chan net.Conn), closed: make(chan struct{}),
	}
	if n.listeners[l.addr.address] != nil {
		return nil, fail("listen", network, address, errors.New("address already in use"))
	}
	if n.listeners == nil {
		n.listeners = map[string]*listener{}
	}
	n.listeners[l.addr.address] = l
	return l, nil
}

// Dial connects to the listener at address. It fails at once if there is none, and
// waits until ctx is done if the listener does not accept.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return nil, fail("dial", network, address, errors.New("connection refused"))
	}
	here, there := net.Pipe()
	n.count(address, 1)
	end := sync.OnceFunc(func() { n.count(address, -1) })
	near := &conn{Conn: here, local: addr{network, "dialler"}, remote: l.addr, end: end}
	far := &conn{Conn: there, local: l.addr, remote: near.local}
	select {
	case l.dialled <- far:
		return near, nil
	case <-l.closed:
		end()
		return nil, fail("dial", network, address, errors.New("connection refused"))
	case <-ctx.Done():
		end()
		return nil, fail("dial", network, address, ctx.Err())
	}
}

func (n *Network) count(address string, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		n.open = map[string]int{}
	}
	if n.open[address] += by; n.open[address] == 0 {
		delete(n.open, address)
	}
}

// Open returns the number of connections to address that their diallers have not closed.
func (n *Network) Open(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open[address]
}

// fail returns an error of the type that package net returns.
func fail(op, network, address string, err error) error {
	return &net.OpError{Op: op, Net: network, Addr: addr{network, address}, Err: fmt.Errorf("memnet: %w", err)}
}

type addr struct{ network, address string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.address }

type listener struct {
	net     *Network
	addr    addr
	dialled chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialled:
		return c, nil
	case <-l.closed:
		return nil, fail("accept", l.addr.network, l.addr.address, net.ErrClosed)
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr.address)
	})
	return nil
}

type conn struct {
	net.Conn
	local, remote addr
	end           func() // uncounts the connection; nil on the accepting side
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Close() error {
	if c.end != nil {
		c.end()
	}
	return c.Conn.Close()
}

package servertest

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// Line is all of an instance's connections to Redis and Recharge. Cut ends them for good, in the middle of
// anything. To everybody else, that is the same as a killed process.
type Line struct {
	f *Fixture

	mu   sync.Mutex
	cut  bool
	open []net.Conn
}

// Line returns a line for Instance's options.
func (f *Fixture) Line() (*Line, server.Options) {
	l := &Line{f: f}
	return l, server.Options{Network: server.Network{Dial: l.dial}}
}

var errCut = errors.New("the line is cut")

func (l *Line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.f.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.Join(errCut, conn.Close())
	}
	l.open = append(l.open, conn)
	return conn, nil
}

// Cut cuts the line.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, conn := range l.open {
		_ = conn.Close() // it may be closed already
	}
}

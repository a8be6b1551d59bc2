package store

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// embedded is a Redis inside this process. It listens nowhere: the client
// reaches it through a pipe.
type embedded struct {
	server *miniredis.Miniredis
	dial   func() (net.Conn, error)
	stop   chan struct{}
	done   sync.WaitGroup
}

func newEmbedded() (*embedded, error) {
	e := &embedded{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	var err error
	if e.dial, err = PipeTo(e.server); err != nil {
		return nil, err
	}
	e.done.Go(e.age)
	return e, nil
}

func (e *embedded) options() redis.UniversalOptions {
	return redis.UniversalOptions{
		Addrs:  []string{"embedded:0"},
		Dialer: func(context.Context, string, string) (net.Conn, error) { return e.dial() },
	}
}

// PipeTo starts m and returns what connects to it inside this process, as its own
// Dial does, but with room for answers. Its own has none: m waits for its first
// answer to be read, and who sends a long pipeline for m to read on, until one of
// them gives up.
func PipeTo(m *miniredis.Miniredis) (dial func() (net.Conn, error), err error) {
	first, err := m.Dial() // serves from then on
	if err != nil {
		return nil, err
	}
	server := m.Server()
	return func() (net.Conn, error) {
		here, there := net.Pipe()
		far := &roomy{Conn: there, more: make(chan struct{}, 1), closed: make(chan struct{})}
		go far.pass()
		server.ServeConn(far)
		return here, nil
	}, first.Close()
}

// roomy is an end of a pipe whose writes wait for no reader.
type roomy struct {
	net.Conn
	more   chan struct{} // there is something to pass on
	once   sync.Once
	closed chan struct{}

	mu      sync.Mutex
	waiting []byte
}

func (r *roomy) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.waiting = append(r.waiting, p...)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default: // it is known already
	}
	return len(p), nil
}

// pass ends when the pipe is closed at either end.
func (r *roomy) pass() {
	for {
		select {
		case <-r.closed:
			return
		case <-r.more:
		}
		r.mu.Lock()
		passing := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		if _, err := r.Conn.Write(passing); err != nil {
			return
		}
	}
}

func (r *roomy) Close() error {
	r.once.Do(func() { close(r.closed) })
	return r.Conn.Close()
}

// age lets entries expire. miniredis could do that itself, but would then walk
// through all of them at every command.
func (e *embedded) age() {
	last := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case now := <-ticker.C:
			e.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (e *embedded) close() {
	close(e.stop)
	e.done.Wait()
	e.server.Close()
}

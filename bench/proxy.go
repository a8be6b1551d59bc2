package main

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// proxy forwards connections to Redis. It counts commands and round trips. Everything
// sent before an answer arrives belongs to one round trip.
type proxy struct {
	listener net.Listener
	to       string
	trips    atomic.Int64
	commands atomic.Int64
	mu       sync.Mutex
	conns    []net.Conn
	running  sync.WaitGroup
}

func newProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to}
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to) //nolint:noctx // at once
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		var asked atomic.Bool
		sent := parser{count: &p.commands}
		p.running.Go(func() { pass(out, in, func(part []byte) { asked.Store(true); sent.read(part) }) })
		p.running.Go(func() {
			pass(in, out, func([]byte) {
				if asked.Swap(false) {
					p.trips.Add(1)
				}
			})
		})
	}
}

func pass(to io.WriteCloser, from io.ReadCloser, saw func([]byte)) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		saw(buffer[:n])
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// parser counts the commands that a client sends, each of which is an array of strings.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
type parser struct {
	count *atomic.Int64
	line  []byte // the beginning of an incomplete line
	skip  int    // bytes of a string that are still to come
}

func (p *parser) read(part []byte) {
	for len(part) > 0 {
		if p.skip > 0 {
			n := min(p.skip, len(part))
			p.skip, part = p.skip-n, part[n:]
			continue
		}
		begin, rest, ended := bytes.Cut(part, []byte("\r\n"))
		p.line = append(p.line, begin...)
		part = rest
		switch {
		case !ended:
			return
		case p.line[0] == '*':
			p.count.Add(1)
		default: // $ and a length
			n, _ := strconv.Atoi(string(p.line[1:]))
			p.skip = n + len("\r\n")
		}
		p.line = p.line[:0]
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// quiet returns once there was no round trip for the given time.
func (p *proxy) quiet(while time.Duration) {
	for before := int64(-1); before != p.trips.Load(); {
		before = p.trips.Load()
		time.Sleep(while)
	}
}

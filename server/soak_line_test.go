package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// stamp is a moment of a soak, counted from its start by the monotonic clock.
type stamp time.Duration

func (s stamp) String() string { return fmt.Sprintf("%.6fs", time.Duration(s).Seconds()) }

// tap is a server's listener that notes when each answer is written. Times taken by a client would
// include the time until the client is scheduled again.
type tap struct {
	net.Listener
	now func() stamp

	mu    sync.Mutex
	conns map[string]*tappedConn // by the client's address
}

func newTap(now func() stamp) (*tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &tap{Listener: listener, now: now, conns: map[string]*tappedConn{}}, nil
}

func (t *tap) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tapped := &tappedConn{Conn: conn, tap: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[conn.RemoteAddr().String()] = tapped
	return tapped, nil
}

// written returns when the server began to write the latest answer to the client at this address, and
// when its first bytes were written.
func (t *tap) written(client net.Addr) (begun, done stamp) {
	t.mu.Lock()
	conn := t.conns[client.String()]
	t.mu.Unlock()
	if conn == nil {
		return 0, 0
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.begun, conn.done
}

// tappedConn is the server's end of a connection. Its client sends a request only after it has the
// whole answer to the previous one.
type tappedConn struct {
	net.Conn
	tap *tap

	mu          sync.Mutex
	answering   bool // something was written since the last read
	begun, done stamp
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answering = false
	}
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answering {
		return c.Conn.Write(p)
	}
	c.answering, c.begun = true, c.tap.now()
	n, err := c.Conn.Write(p)
	c.done = c.tap.now()
	return n, err
}

func (c *tappedConn) Close() error {
	c.tap.mu.Lock()
	delete(c.tap.conns, c.RemoteAddr().String())
	c.tap.mu.Unlock()
	return c.Conn.Close()
}

const (
	lineTimeout = 40 * time.Second // of one request: longer than a click may take
	lineIdle    = time.Minute      // after which a line dials again, since the server closes it after two minutes
)

// soakLine is a client's keep-alive connection to one server, for one goroutine.
type soakLine struct {
	tap    *tap
	conn   net.Conn
	reader *bufio.Reader
	used   time.Time
}

// soakReply is the answer to a request.
type soakReply struct {
	status      int
	location    string
	contentType string
	body        string
	begun, done stamp // when the server began to write it, and when its first bytes were written
}

// do sends a whole request and reads the whole answer.
func (l *soakLine) do(request string) (soakReply, error) {
	if err := l.send(request); err != nil {
		return soakReply{}, err
	}
	response, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		l.close()
		return soakReply{}, fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		l.close()
		return soakReply{}, fmt.Errorf("read the answer's body: %w", err)
	}
	r := soakReply{
		status: response.StatusCode, location: response.Header.Get("Location"),
		contentType: response.Header.Get("Content-Type"), body: string(body),
	}
	r.begun, r.done = l.tap.written(l.conn.LocalAddr())
	if response.Close {
		l.close()
	}
	if r.begun == 0 {
		return r, errors.New("the server has not noted when it answered")
	}
	return r, nil
}

// send sends a request and leaves its answer to be read.
func (l *soakLine) send(request string) error {
	if time.Since(l.used) > lineIdle {
		l.close()
	}
	if l.conn == nil {
		conn, err := net.Dial("tcp", l.tap.Addr().String())
		if err != nil {
			return err
		}
		l.conn, l.reader = conn, bufio.NewReader(conn)
	}
	l.used = time.Now()
	if err := l.conn.SetDeadline(l.used.Add(lineTimeout)); err != nil {
		return err
	}
	_, err := io.WriteString(l.conn, request)
	if err != nil {
		l.close()
	}
	return err
}

func (l *soakLine) close() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn = nil
}

// getRequest returns a GET as it goes over the wire.
func getRequest(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: app.example\r\n\r\n" }

// postRequest returns a POST of JSON as it goes over the wire; headers are names and values.
func postRequest(path, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: app.example\r\n", path)
	fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

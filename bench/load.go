package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// shopperID and hash return the Shopify id and the portal hash of customer i.
func shopperID(i int) string { return strconv.Itoa(6100200400000 + i) }
func hash(i int) string      { return fmt.Sprintf("%016x", 0x1f2e3d4c00000000+i) }

// theirs reports whether a link leads to the portal of customer i.
func theirs(i int, location string) bool { return strings.HasPrefix(location, portalBase+hash(i)+"/") }

// signedIn reports whether a link signs its shopper in.
func signedIn(location string) bool { return strings.Contains(location, "token=") }

// click returns the bytes of a click as Shopify forwards it. The destination begins with
// a slash. The visitor's own parameters are in extra.
func click(method, shopper, destination string, at time.Time, extra url.Values) []byte {
	query := url.Values{
		"shop": {benchShop}, "logged_in_customer_id": {shopper}, "path_prefix": {"/apps/subscriptions"},
		"timestamp": {strconv.FormatInt(at.Unix(), 10)},
	}
	for name, values := range extra {
		query[name] = values
	}
	signed := query.Encode()
	signed += "&signature=" + shopifytest.Signature(appSecret, signed)
	return []byte(method + " /apps/subscriptions" + destination + "?" + signed + " HTTP/1.1\r\nHost: bench.example\r\n" +
		"User-Agent: Mozilla/5.0\r\nAccept: text/html\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
}

func clickNow(i int) []byte { return click("GET", shopperID(i), "", time.Now(), nil) }

// post returns the store's own server's request for the same link.
func post(shopper string) []byte {
	return postJSON("/api/portal-links", "Authorization: Bearer "+portalKey, `{"shopify_customer_id":"`+shopper+`"}`)
}

func postJSON(path, header, body string) []byte {
	const request = "POST %s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: node\r\nAccept: */*\r\n%s\r\n" +
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
	return fmt.Appendf(nil, request, path, header, len(body), body)
}

// answered is the answer to one request.
type answered struct {
	status, location string
	took             time.Duration
}

// connection sends one request after another. It does as little work as possible, since
// it shares the cores with the server under test.
type connection struct {
	net.Conn
	in *bufio.Reader
}

func dial(address string) (*connection, error) {
	conn, err := net.Dial("tcp", address) //nolint:noctx // on loopback
	if err != nil {
		return nil, err
	}
	return &connection{conn, bufio.NewReader(conn)}, nil
}

func (c *connection) ask(request []byte) (answered, error) {
	begun := time.Now()
	if _, err := c.Write(request); err != nil {
		return answered{}, err
	}
	var a answered
	length := 0
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return a, err
		}
		text := string(line[:len(line)-2])
		switch {
		case first:
			_, text, _ = strings.Cut(text, " ")
			a.status, _, _ = strings.Cut(text, " ")
		case text == "":
			if bytes.HasPrefix(request, []byte("HEAD ")) {
				length = 0
			}
			body, err := c.in.Peek(min(length, c.in.Size()))
			if url, ok := bytes.CutPrefix(body, []byte(`{"url":"`)); ok {
				a.location, _, _ = strings.Cut(string(url), `"`)
			}
			_, _ = c.in.Discard(length)
			a.took = time.Since(begun)
			return a, err
		case len(text) > 10 && strings.EqualFold(text[:10], "location: "):
			a.location = text[10:]
		case len(text) > 16 && strings.EqualFold(text[:16], "content-length: "):
			length, _ = strconv.Atoi(text[16:])
		}
	}
}

// askOnce sends one request on a new connection.
func askOnce(address string, request []byte) (answered, error) {
	conn, err := dial(address)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ask(request)
}

func unexpected(i int, a answered, err error) error {
	if err != nil {
		return fmt.Errorf("shopper %d: %w", i, err)
	}
	return fmt.Errorf("shopper %d got the answer %s with the location %q", i, a.status, a.location)
}

// loaded is the result of a load test.
type loaded struct {
	clicks    int
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // the server's, for each click
}

// load keeps connections busy for the given time. The answer to request i must be the
// link of customer i.
func load(ctx context.Context, p *process, connections int, life time.Duration, requests [][]byte) (loaded, error) {
	ctx, stop := context.WithTimeout(ctx, life)
	defer stop()
	cpu, begun := p.cpu(), time.Now()
	var next atomic.Int64
	times, err := together(connections, func(int) (times []time.Duration, err error) {
		conn, err := dial(p.at[0])
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		for ctx.Err() == nil {
			i := int(next.Add(1)) % len(requests)
			a, err := conn.ask(requests[i])
			if err != nil || a.status != "302" && a.status != "200" || !theirs(i, a.location) {
				return nil, unexpected(i, a, err)
			}
			times = append(times, a.took)
		}
		return times, nil
	})
	if err != nil {
		return loaded{}, err
	}
	took := time.Since(begun)
	slices.Sort(times)
	return loaded{
		clicks: len(times), perSecond: float64(len(times)) / took.Seconds(),
		p50: quantile(times, 0.5), p99: quantile(times, 0.99),
		cpu: (p.cpu() - cpu) / time.Duration(len(times)),
	}, nil
}

// together makes n concurrent calls of run and gathers their results.
func together[T any](n int, run func(i int) ([]T, error)) (gathered []T, err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		all.Go(func() {
			mine, failed := run(i)
			mu.Lock()
			defer mu.Unlock()
			gathered = append(gathered, mine...)
			if failed != nil {
				err = failed
			}
		})
	}
	all.Wait()
	return gathered, err
}

// firstClicks has each of the first n customers click once, which caches a session and a
// portal access for each.
func firstClicks(p *process, n int) error {
	const connections = 16
	_, err := together(connections, func(first int) ([]struct{}, error) {
		conn, err := dial(p.at[0])
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		for i := first; i < n; i += connections {
			if a, err := conn.ask(clickNow(i)); err != nil || !theirs(i, a.location) || !signedIn(a.location) {
				return nil, unexpected(i, a, err)
			}
		}
		return nil, nil
	})
	return err
}

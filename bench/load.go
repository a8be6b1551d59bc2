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

	"manage-subscriptions/shopify/shopifytest"
)

const (
	benchShop = "bench-shop.myshopify.com"
	appSecret = "bench-app-secret"
	firstID   = 6100200400000
)

func shopperID(i int) string { return strconv.Itoa(firstID + i) }

// click is a request as Shopify would make it, ready to be sent.
func click(shopper, path string) []byte {
	query := url.Values{
		"shop": {benchShop}, "logged_in_customer_id": {shopper}, "path_prefix": {"/apps/subscriptions"},
		"timestamp": {strconv.FormatInt(time.Now().Unix(), 10)},
	}.Encode()
	query += "&signature=" + shopifytest.Signature(appSecret, query)
	return []byte("GET /apps/subscriptions" + path + "?" + query + " HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
}

// portalKey is that of the store's middleware.
const portalKey = "bench-portal-key-0123456789"

// post is what the store's middleware asks for the same.
func post(shopper string) []byte {
	body := `{"shopify_customer_id":"` + shopper + `"}`
	return fmt.Appendf(nil, "POST /api/portal-links HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: node\r\nAccept: */*\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", portalKey, len(body), body)
}

// answered is what came back: how long it took, and where to.
type answered struct {
	status, location string
	took             time.Duration
}

// connection sends one request after the other: as cheaply as can be, since it
// shares the cores with what it measures.
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
			body, err := c.in.Peek(length) // it fits
			if url, ok := bytes.CutPrefix(body, []byte(`{"url":"`)); ok {
				a.location, _, _ = strings.Cut(string(url), `"`)
			}
			_, _ = c.in.Discard(len(body))
			a.took = time.Since(begun)
			return a, err
		case len(text) > 10 && strings.EqualFold(text[:10], "location: "):
			a.location = text[10:]
		case len(text) > 16 && strings.EqualFold(text[:16], "content-length: "):
			length, _ = strconv.Atoi(text[16:])
		}
	}
}

// loaded is what a server did under load.
type loaded struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the server, for each request
}

// load keeps connections busy for a time. Every answer has to send the shopper to
// the portal that is theirs.
func load(ctx context.Context, address string, p *process, connections int, life time.Duration, requests [][]byte, theirs func(i int, location string) bool) (loaded, error) {
	ctx, stop := context.WithTimeout(ctx, life)
	defer stop()
	var (
		all    sync.WaitGroup
		next   atomic.Int64
		mu     sync.Mutex
		times  []time.Duration
		failed error
	)
	cpu, begun := p.cpu(), time.Now()
	for range connections {
		conn, err := dial(address)
		if err != nil {
			return loaded{}, err
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			var own []time.Duration
			var err error
			for ctx.Err() == nil && err == nil {
				i := int(next.Add(1)) % len(requests)
				var a answered
				if a, err = conn.ask(requests[i]); err == nil && (a.status != "302" && a.status != "200" || !theirs(i, a.location)) {
					err = fmt.Errorf("shopper %d: %s to %q", i, a.status, a.location)
				}
				own = append(own, a.took)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
			if err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	if failed != nil {
		return loaded{}, failed
	}
	slices.Sort(times)
	return loaded{
		perSecond: float64(len(times)) / took.Seconds(), p50: quantile(times, 0.5), p99: quantile(times, 0.99),
		cpu: (p.cpu() - cpu) / time.Duration(len(times)),
	}, nil
}

package recharge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The values in the fixtures of testdata/facts. All of them are invented.
const (
	shop            = "fixture-shop.myshopify.com"
	portalURL       = "https://fixture-shop.example/tools/recurring/portal/"
	adminToken      = "sk_1x1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	storefrontToken = "strfnt_fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	shopifyID       = "6100200300400"
	rechargeID      = 70100200
	hash            = "1f2e3d4c5b6a7988"
	opaqueSession   = "header.payload.signature"
	portalToken     = "00112233445566778899aabbccddeeff"
)

// issued is the iat of the JWT fixture.
var issued = time.Unix(1735689600, 0).UTC()

func pat() recharge.Customer { return recharge.Customer{ID: rechargeID, Hash: hash, Active: 1} }

// fixture returns one of the answers in testdata/facts, byte for byte.
func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "facts", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(text, []byte("\n")))
}

// edited returns a fixture with one text replaced. It fails if the text is missing.
func edited(t testing.TB, name, from, to string) string {
	t.Helper()
	text := fixture(t, name)
	if !strings.Contains(text, from) {
		t.Fatalf("fixture %s does not hold %s", name, from)
	}
	return strings.ReplaceAll(text, from, to)
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// clock stands still until a test advances it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: issued} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newClient returns a client of the API at apiURL, configured as in production except for its
// clock, which stands still, and the changes of change.
func newClient(t testing.TB, apiURL string, change ...func(*recharge.Options)) *recharge.Client {
	t.Helper()
	o := recharge.Options{
		Shop:      shop,
		APIURL:    mustURL(t, apiURL),
		AppURL:    mustURL(t, apiURL),
		PortalURL: mustURL(t, portalURL),
		Token:     adminToken,
		Rate:      2,
		Burst:     40,
		Timeout:   10 * time.Second,
		Now:       newClock().Now,
		HTTP:      recharge.NewTransport(10 * time.Second),
	}
	for _, f := range change {
		f(&o)
	}
	c := recharge.NewClient(o)
	t.Cleanup(o.HTTP.CloseIdleConnections)
	return c
}

// free returns a grant without a reservation: each call is taken when it is made.
func free(c *recharge.Client) *recharge.Grant { return grantOf(c, nil) }

func grantOf(c *recharge.Client, shared recharge.SharedLimiter) *recharge.Grant {
	g, err := c.Limiter().Reserve(context.Background(), shared, recharge.Ask{})
	if err != nil {
		panic(err)
	}
	return g
}

func lookUp(ctx context.Context, c *recharge.Client, shopifyID string) (recharge.Found, error) {
	return c.FindCustomer(ctx, free(c), shopifyID, recharge.High)
}

func createSession(ctx context.Context, c *recharge.Client, customer recharge.Customer) (recharge.Session, error) {
	return c.CreateSession(ctx, free(c), customer)
}

func customerPage(ctx context.Context, c *recharge.Client, cursor string) (recharge.Page, error) {
	return c.CustomerPage(ctx, free(c), cursor)
}

// portalLink returns the link of PortalAccess.
func portalLink(
	ctx context.Context, c *recharge.Client, customer recharge.Customer, session recharge.Session, visit recharge.Visit,
) (recharge.Link, error) {
	_, link, err := c.PortalAccess(ctx, free(c), customer, session, visit)
	return link, err
}

func visit(to recharge.Destination) recharge.Visit { return recharge.Visit{To: to} }

// answer is the scripted answer to one call.
type answer struct {
	status int // 0 means 200
	header http.Header
	body   string
	cut    bool // Content-Length promises more than is sent
}

func (a answer) send(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	if a.cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)+100))
	}
	w.WriteHeader(max(a.status, http.StatusOK))
	_, _ = io.WriteString(w, a.body)
}

// seen is a request that reached the scripted Recharge.
type seen struct {
	method, path, query, body string
	header                    http.Header
}

// script is a Recharge that gives a test's exact answers and repeats the last one. Use rechargetest
// for tests that do not depend on exact bytes.
type script struct {
	URL     string
	answers []answer

	mu    sync.Mutex
	calls []seen
}

func newScript(t testing.TB, answers ...answer) *script {
	t.Helper()
	s := &script{answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

func says(body string) answer { return answer{body: body} }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.calls = append(s.calls, seen{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(body), r.Header.Clone()})
	next := s.answers[min(len(s.calls), len(s.answers))-1]
	s.mu.Unlock()
	next.send(w)
}

func (s *script) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.calls...)
}

// pipes is a listener and its dialer in memory, for synctest bubbles: real
// sockets would keep a bubble's clock from moving.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// pipesURL is on loopback, so that no proxy from the environment is used.
const pipesURL = "http://127.0.0.1:80"

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble serves h through pipes and returns a client for it on the bubble's clock.
func inBubble(t *testing.T, h http.Handler, change ...func(*recharge.Options)) *recharge.Client {
	t.Helper()
	p := newPipes()
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(p) // always ErrServerClosed
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return overPipes(t, p, change...)
}

func overPipes(t *testing.T, p *pipes, change ...func(*recharge.Options)) *recharge.Client {
	t.Helper()
	c := newClient(t, pipesURL, append([]func(*recharge.Options){func(o *recharge.Options) { o.Now = time.Now }}, change...)...)
	c.DialBy(p.Dial)
	return c
}

// jwtOf returns a token with that payload. Nobody checks its signature.
func jwtOf(payload string) string { return jwtWith(`{"alg":"RS256","typ":"JWT"}`, payload) }

func jwtWith(header, payload string) string {
	b := base64.RawURLEncoding
	return b.EncodeToString([]byte(header)) + "." + b.EncodeToString([]byte(payload)) + "." + b.EncodeToString([]byte("signature"))
}

// checkReason checks that err has that reason and no confidential text. All errors in these tests
// pass through here.
func checkReason(t testing.TB, what string, err error, want recharge.Reason) {
	t.Helper()
	checkSilent(t, what, err)
	if want == "" {
		if err != nil {
			t.Errorf("%s = %v; want no error", what, err)
		}
		return
	}
	if err == nil || !recharge.Is(err, want) {
		t.Errorf("%s = %v; want %q", what, err, want)
	}
}

// confidential holds all ids, hashes, tokens and queries of these tests, and parts that every URL
// has.
var confidential = []string{
	adminToken, storefrontToken, shopifyID, strconv.Itoa(rechargeID), hash, opaqueSession, portalToken,
	"6999999999999", "70100333", "2e3d4c5b6a798811", "70999001", "70999002", "aaaabbbbccccdddd", "eeeeffff00001111",
	"0a1b2c3d4e5f60718293a4b5c6d7e8", "70100200a1b2c3d4e5f60718", "example.test",
	"eyJ",                 // the start of every JWT
	"://", "?", "&", "/x", // no URL, query or path
	"external_customer_id", "shop_url", "page_destination", "127.0.0.1:",
}

// checkSilent checks that an error is an *Error and that none of its printed forms holds anything
// confidential, because the program logs errors as they are.
func checkSilent(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var own *recharge.Error
	if !errors.As(err, &own) {
		t.Errorf("%s fails with a %T; want a *recharge.Error", what, err)
	}
	if errors.Unwrap(err) != nil {
		t.Errorf("%s wraps a %T, whose text nobody checked", what, errors.Unwrap(err))
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(verb, err)
		// %#v of a struct starts with its type.
		text = strings.TrimPrefix(text, "&recharge.Error")
		for _, secret := range confidential {
			if strings.Contains(text, secret) {
				t.Errorf("%s: its error, printed with %s, holds %q: %s", what, verb, secret, text)
			}
		}
	}
}

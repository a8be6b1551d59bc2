// Package recharge asks Recharge who a shopper is and for a link that opens the
// customer portal. It takes no answer on trust: every record is compared with
// the customer asked for, every link passes a guard.
//
// It speaks the Admin API of 2021-11: https://developer.rechargepayments.com/2021-11
package recharge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	apiVersion = "2021-11"
	// maxBody bounds what is read of an answer; a full page of customers is
	// some 300 KB.
	maxBody = 4 << 20
)

// Options configure a Client. Needed are all down to Now, but the storefront
// token.
type Options struct {
	Shop            string   // x.myshopify.com
	APIURL          *url.URL // https://api.rechargeapps.com
	PortalURL       *url.URL // base of links by hash; ends in a slash
	Token           string   // Admin API token
	StorefrontToken string   // for sessions; whether one is needed is not known
	Rate            float64  // calls a second of the token
	Burst           int      // calls
	Timeout         time.Duration
	Now             func() time.Time

	Patience time.Duration               // how long a click waits for its turn; 0: Patience
	HTTP     *http.Transport             // shared with other clients; nil: one of its own
	OnCall   func(context.Context, Call) // after each call that was sent
	Like     *Client                     // one for the same shop that this one follows: what that has spent of a token is spent
	Ledger   Ledger                      // accounts for the calls of all processes; nil: there is no other
}

// Client talks to Recharge for one store. It is safe for concurrent use.
type Client struct {
	options  Options
	http     *http.Client
	budget   *budget
	breakers *breakers
	guard    guard
	byEmail  string
	reserved *reserved // of a click; nil: each call asks for itself
}

// NewClient returns a client for one store.
func NewClient(o Options) *Client {
	if o.HTTP == nil {
		o.HTTP = NewTransport(o.Timeout)
	}
	if o.OnCall == nil {
		o.OnCall = func(context.Context, Call) {}
	}
	c := &Client{
		options: o,
		http: &http.Client{
			Transport: o.HTTP,
			// Following one would carry the token to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		budget:   newBudget(o.Ledger, o.Rate, o.Burst, cmp.Or(o.Patience, Patience), o.Now),
		breakers: &breakers{},
		guard:    guard{shop: o.Shop, portal: o.PortalURL},
		byEmail:  byEmail(o.PortalURL),
	}
	if o.Like != nil && o.Like.options.Token == o.Token {
		c.budget, c.breakers = o.Like.budget, o.Like.breakers
	}
	c.options.Like = nil // not the whole line of ancestors
	return c
}

// NewTransport returns what carries the calls of one client or of many, each of
// which may take that long.
func NewTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: timeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		// A dead connection with HTTP/2 takes every call with it until the kernel
		// gives up, which is a quarter of an hour.
		HTTP2: &http.HTTP2Config{SendPingTimeout: timeout, PingTimeout: timeout},
	}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// The endpoints of a click, as they are called in errors and numbers.
const (
	Customers    = "customers"
	Sessions     = "sessions"
	PortalAccess = "portal_access"
)

// Endpoints are all that a client calls.
func Endpoints() []string {
	return []string{Customers, Sessions, PortalAccess, "store", "token_information", "webhooks"}
}

// Call is one that was sent, as OnCall is told of it.
type Call struct {
	Endpoint string
	Start    time.Time
	Took     time.Duration
	Failed   *Error // nil: an answer that will do
}

// call is one request of the API.
type call struct {
	endpoint string // its name in errors and metrics
	method   string
	path     []string // segments, escaped here, so that none can become two
	urgency  urgency
	query    url.Values
	header   http.Header
	body     string // of a POST; "" is {}
}

// do makes the call and returns its answer. A GET is tried twice where another
// try may help and the context leaves time for it, unless nobody waits for it; a
// POST once, as it may have been carried out.
func do[T any](ctx context.Context, c *Client, call call) (T, *Error) {
	answer, failed := try[T](ctx, c, call)
	if failed == nil || call.method != http.MethodGet || call.urgency == spare || !failed.retryable() {
		return answer, failed
	}
	if c.Resting(call.endpoint) || !wait(ctx, failed.retryDelay()) {
		return answer, failed
	}
	return try[T](ctx, c, call)
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func try[T any](ctx context.Context, c *Client, call call) (answer T, failed *Error) {
	if c.Resting(call.endpoint) {
		return answer, &Error{Endpoint: call.endpoint, Reason: Tripped}
	}
	if reason := c.allow(ctx, call.urgency); reason != "" {
		return answer, &Error{Endpoint: call.endpoint, Reason: reason}
	}
	if call.urgency != spare { // a page that is too long says nothing of lookups, and who is in haste gives up early
		done, ok := c.breakers.try(call.endpoint)
		if !ok {
			c.budget.giveBack(1)
			return answer, &Error{Endpoint: call.endpoint, Reason: Tripped}
		}
		defer func() { done(failed) }()
	}
	start := c.options.Now()
	answer, failed = ask[T](ctx, c, call)
	took := c.options.Now().Sub(start)
	if failed != nil && failed.Reason == TooSlow && call.urgency != spare {
		// It may be the connection that is dead, and nobody has said so: then those
		// that lie idle are, too, and would cost a call each.
		c.Close()
	}
	c.options.OnCall(ctx, Call{call.endpoint, start, took, failed})
	return answer, failed
}

// ask decodes into a value of its own: one try's records must never mix with
// what another has left behind, which encoding/json would do.
func ask[T any](ctx context.Context, c *Client, call call) (T, *Error) {
	var none, answer T
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	response, err := c.send(ctx, call)
	if err != nil {
		return none, &Error{Endpoint: call.endpoint, Reason: whyNoAnswer(err)}
	}
	defer func() { _ = response.Body.Close() }()
	c.budget.follow(response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if call.method == http.MethodDelete && (response.StatusCode == http.StatusNoContent || response.StatusCode == http.StatusOK) {
		return none, nil
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return none, c.refused(ctx, call, response)
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil && ctx.Err() == nil {
		return none, &Error{Endpoint: call.endpoint, Reason: Malformed, Status: response.StatusCode}
	}
	if err != nil {
		return none, &Error{Endpoint: call.endpoint, Reason: TooSlow}
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	target := *c.options.APIURL
	target.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, call.method, target.JoinPath(escaped(call.path)...).String(), requestBody(call))
	if err != nil {
		return nil, err
	}
	for name, values := range call.header {
		request.Header[name] = values
	}
	request.Header.Set("X-Recharge-Version", apiVersion)
	request.Header.Set("Accept", "application/json")
	if call.method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	return c.http.Do(request)
}

func escaped(segments []string) []string {
	out := make([]string, len(segments))
	for i, segment := range segments {
		out[i] = url.PathEscape(segment)
	}
	return out
}

func requestBody(call call) io.Reader {
	switch {
	case call.method != http.MethodPost:
		return nil
	case call.body == "":
		return strings.NewReader("{}")
	}
	return strings.NewReader(call.body)
}

// whyNoAnswer drops err itself: net/http puts the URL into it, and with that a
// customer id.
func whyNoAnswer(err error) Reason {
	var netError net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netError) && netError.Timeout() {
		return TooSlow
	}
	return Unreachable
}

func (c *Client) refused(ctx context.Context, call call, response *http.Response) *Error {
	failed := &Error{Endpoint: call.endpoint, Reason: reasonFor(response.StatusCode), Status: response.StatusCode}
	if failed.Reason == Limited {
		failed.RetryAfter = retryAfter(response.Header)
		c.budget.pause(ctx, failed.RetryAfter)
	}
	return failed
}

// retryAfter is what a 429 asks for. Recharge advises two seconds and is not
// known to send the header; a long one is cut, so that a slip of Recharge's
// does not close the store's portal for hours.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 2
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, longestPause)
}

// longestPause is how long a 429 may hold back all calls.
const longestPause = time.Minute

func (c *Client) adminHeader() http.Header {
	return http.Header{"X-Recharge-Access-Token": {c.options.Token}}
}

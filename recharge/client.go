// Package recharge looks shoppers up at Recharge and gets them access to the customer portal. It
// trusts no answer. It compares every record with the customer it asked for, and a guard checks
// every link.
//
// It uses version 2021-11 of the Admin API: https://developer.rechargepayments.com/2021-11
package recharge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// maxBody is the most that is read of an answer. A full page of customers takes about 300 KB.
	maxBody = 4 << 20
)

// Options configure a Client. StorefrontToken is optional. Rate and Burst are set together.
type Options struct {
	Shop            string        // x.myshopify.com
	APIURL          *url.URL      // https://api.rechargeapps.com
	AppURL          *url.URL      // where Shopify reaches this server
	PortalURL       *url.URL      // base of hash links; ends in a slash
	AccountPage     *url.URL      // from ParseAccountPage; nil: the portal is not in the Shopify account
	Token           string        // Admin API token
	StorefrontToken string        // for sessions; we do not know whether they need one
	Rate            float64       // the token's calls per second; 0: by its prefix, see NewLimiter
	Burst           int           // calls
	Timeout         time.Duration // for each call
	Now             func() time.Time
	HTTP            *http.Transport // shared by many clients
	Limiter         *Limiter        // of the same token; nil for a new one
}

// Client talks to Recharge for one store. It is safe for concurrent use.
type Client struct {
	options Options
	http    http.RoundTripper // an http.Client would follow a redirect and take the token along
	limiter *Limiter
	guard   guard
}

// NewClient returns a client for one store.
func NewClient(o Options) *Client {
	if o.Limiter == nil {
		o.Limiter = NewLimiter(o.Token, o.Rate, o.Burst, o.Now)
	}
	return &Client{o, o.HTTP, o.Limiter, guard{shop: o.Shop, portal: o.PortalURL}}
}

// Limiter returns the limiter of the client's token.
func (c *Client) Limiter() *Limiter { return c.limiter }

// Token returns the Admin API token, so that a registry can tell whether a new client may keep the
// limiter. Never print it.
func (c *Client) Token() string { return c.options.Token }

// NewTransport returns a transport that several clients may share. timeout limits each call.
func NewTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: timeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		// Without pings, every call on a dead HTTP/2 connection fails until the kernel gives up on
		// it, after 15 minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: timeout, PingTimeout: timeout},
	}
}

// The endpoints that a click calls, by their names in errors and metrics.
const (
	Customers    = "customers"
	Sessions     = "sessions"
	PortalAccess = "portal_access"
)

// Endpoints returns the names of all endpoints that a client calls.
func Endpoints() []string {
	return []string{Customers, Sessions, PortalAccess, Charges, "store", "token_information", "webhooks"}
}

// Call is a call that was made.
type Call struct {
	Endpoint string
	Start    time.Time
	Took     time.Duration
	Failed   *Error // nil if it succeeded
}

// call is one request of the API.
type call struct {
	endpoint string // its name in errors and metrics
	priority Priority
	method   string
	path     []string // constants and numbers, which need no escaping
	query    url.Values
	header   http.Header
	body     string // JSON; "" if there is none
}

// get returns a GET call with the admin token.
func (c *Client) get(p Priority, query url.Values, path ...string) call {
	header := http.Header{
		"X-Recharge-Access-Token": {c.options.Token}, "X-Recharge-Version": {apiVersion}, "Accept": {"application/json"},
	}
	return call{path[0], p, http.MethodGet, path, query, header, ""}
}

// do makes the call and returns its answer. It retries a GET once if that may help and the context
// leaves time for it, unless the priority is Background. It never retries a POST, which may already
// have been carried out.
func do[T any](ctx context.Context, c *Client, g *Grant, call call) (T, error) {
	answer, err := try[T](ctx, c, g, call)
	delay := retryDelay(err)
	if delay == 0 || call.method != http.MethodGet || call.priority == Background ||
		c.limiter.CircuitOpen(call.endpoint) || !Wait(ctx, delay) {
		return answer, err
	}
	return try[T](ctx, c, g, call)
}

// Wait waits for d. It returns false if ctx ends first.
func Wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// try makes the call once, if the caller is still waiting, the endpoint's circuit is closed, and
// the grant allows it.
func try[T any](ctx context.Context, c *Client, g *Grant, call call) (T, error) {
	var none T
	not := func(reason Reason) (T, error) { return none, &Error{Endpoint: call.endpoint, Reason: reason} }
	if reason := ended(ctx); reason != "" {
		return not(reason)
	}
	if c.limiter.CircuitOpen(call.endpoint) {
		return not(Tripped)
	}
	if err := g.spend(ctx, call.priority); ReasonOf(err) != "" {
		return not(ReasonOf(err))
	} else if err != nil {
		return none, err
	}
	done := func(error) {}
	if call.priority != Background {
		// Background calls do not count. An unreadable page says nothing about lookups, and a
		// caller in a hurry gives up early.
		var open error
		if done, open = c.limiter.breakers[call.endpoint].Allow(); open != nil {
			g.left[call.priority]++
			return not(Tripped)
		}
	}
	start := c.options.Now()
	answer, failed := ask[T](ctx, c, g, call)
	g.calls = append(g.calls, Call{call.endpoint, start, c.options.Now().Sub(start), failed})
	if failed == nil {
		done(nil)
		return answer, nil
	}
	done(failed)
	g.limited = g.limited || failed.Reason == Limited
	if failed.Reason == TooSlow && call.priority != Background {
		// The connection may have died silently. The idle ones are then dead, too, and each would
		// cost a call.
		c.options.HTTP.CloseIdleConnections()
	}
	return answer, failed
}

// ask sends the call and reads the answer. It decodes into a fresh value, because encoding/json
// would mix the records of two tries.
func ask[T any](ctx context.Context, c *Client, g *Grant, call call) (T, *Error) {
	var none, answer T
	timed, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	response, err := c.send(timed, call)
	if err != nil {
		return none, &Error{Endpoint: call.endpoint, Reason: whyNoAnswer(ctx, err)}
	}
	defer func() { _ = response.Body.Close() }()
	c.limiter.follow(response.Header)
	g.headers.read(response.Header, c.options.Now())
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	status := response.StatusCode
	if call.method == http.MethodDelete && (status == http.StatusNoContent || status == http.StatusOK) {
		return none, nil
	}
	if status == http.StatusTooManyRequests {
		c.limiter.pause(retryAfter(response.Header))
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return none, &Error{Endpoint: call.endpoint, Reason: reasonFor(status), Status: status}
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	switch {
	case err == nil:
		return answer, nil
	case timed.Err() == nil:
		return none, malformed(call.endpoint)
	}
	return none, &Error{Endpoint: call.endpoint, Reason: whyNoAnswer(ctx, timed.Err())}
}

func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	target := c.options.APIURL.JoinPath(call.path...)
	target.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), strings.NewReader(call.body))
	if err != nil {
		return nil, err
	}
	request.Header = call.header
	if call.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return c.http.RoundTrip(request)
}

// ended returns why a caller has stopped waiting, or "" if it is still waiting.
func ended(ctx context.Context) Reason {
	switch err := ctx.Err(); {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return Cancelled
	}
	return TooSlow
}

// whyNoAnswer returns the reason for err. ctx is the caller's. It drops err itself, because
// net/http puts the URL in it, and with it a customer id.
func whyNoAnswer(ctx context.Context, err error) Reason {
	if reason := ended(ctx); reason != "" {
		return reason
	}
	failed, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && failed.Timeout() {
		return TooSlow
	}
	return Unreachable
}

// Headers summarizes the headers of all answers to a grant's calls.
type Headers struct {
	Used, Size int           // the last X-Recharge-Limit; Size is 0 if there was none
	RetryAfter bool          // the header was seen
	Dated      bool          // Ahead is known
	Ahead      time.Duration // how far Recharge's clock is ahead of ours
}

func (h *Headers) read(header http.Header, now time.Time) {
	if used, size, ok := readLimit(header); ok {
		h.Used, h.Size = used, size
	}
	h.RetryAfter = h.RetryAfter || header.Get("Retry-After") != ""
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		h.Dated, h.Ahead = true, date.Sub(now)
	}
}

// rateOf returns the limit that a token's prefix stands for. A token that begins with sk_5x2_ has 5
// times the usual rate, and 2 times the usual burst.
func rateOf(token string) (perSecond, burst float64) {
	var rate, size int
	if _, err := fmt.Sscanf(token, "sk_%2dx%2d_", &rate, &size); err != nil || rate < 1 || size < 1 {
		return 2, 40 // what Recharge allows most tokens
	}
	return float64(2 * rate), float64(40 * size)
}

// readLimit reads Recharge's own count of a token's calls, and the size of its bucket.
func readLimit(header http.Header) (used, size int, ok bool) {
	before, after, ok := strings.Cut(header.Get("X-Recharge-Limit"), "/")
	used, err := strconv.Atoi(before)
	size, err2 := strconv.Atoi(after)
	return used, size, ok && err == nil && err2 == nil && used >= 0 && size >= 1
}

// retryAfter returns how long a 429 asks us to wait. Recharge advises two seconds and is not known
// to send the header. Long times are capped, so that a mistake at Recharge does not close the
// store's portal for hours.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 2
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, longestPause)
}

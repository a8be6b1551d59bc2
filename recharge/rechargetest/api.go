package rechargetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The endpoints, as named by [Request].Endpoint and [Faults].Only.
const (
	EndpointCustomers    = "customers"         // GET /customers
	EndpointCustomer     = "customer"          // GET /customers/{id}
	EndpointSessions     = "sessions"          // POST /customers/{id}/sessions
	EndpointPortalAccess = "portal_access"     // GET /portal_access
	EndpointToken        = "token_information" // GET /token_information
	EndpointStore        = "store"             // GET /store
	EndpointCharges      = "charges"           // GET /charges
	EndpointWebhooks     = "webhooks"          // GET and POST /webhooks
	EndpointWebhook      = "webhook"           // GET, PUT and DELETE /webhooks/{id}, POST /webhooks/{id}/test
	EndpointUnknown      = "unknown"           // anything else
)

const (
	apiVersion    = "2021-11"
	answerTimeout = 30 * time.Second
	maxBody       = 1 << 20
)

// endpoint is one route of the API and its requirements.
type endpoint struct {
	name, method string
	scopes       []string // one is enough; Recharge's documents spell them differently
	bySession    bool     // needs a session token instead of an Admin API token
	answer       func(*Server, call) answer
}

// call is a request to an endpoint.
type call struct {
	endpoint
	requestMethod string
	id            string // of the path
	query         url.Values
	header        http.Header
	body          []byte
	now           time.Time
	faults        Faults
	token         *adminToken // its bucket pays; nil if the caller is unknown
	session       *session    // the caller's, if the call has a session token
}

// answer is an answer that has not been sent yet.
type answer struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
}

func jsonAnswer(status int, v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		return refusal(http.StatusInternalServerError)
	}
	return answer{status: status, contentType: "application/json", body: body}
}

func (s *Server) endpointOf(method string, segments []string) (e endpoint, id string) {
	switch segments[0] {
	case "customers":
		return s.customerEndpoint(segments[1:])
	case "webhooks":
		return s.webhookEndpoint(method, segments[1:])
	}
	if len(segments) > 1 {
		return endpoint{name: EndpointUnknown}, ""
	}
	switch segments[0] {
	case "charges":
		return endpoint{
			name: EndpointCharges, method: "GET", scopes: chargeScopes(), answer: (*Server).listCharges,
		}, ""
	case "portal_access":
		return endpoint{name: EndpointPortalAccess, method: "GET", bySession: true, answer: (*Server).portalAccess}, ""
	case "token_information":
		return endpoint{name: EndpointToken, method: "GET", answer: (*Server).tokenInformation}, ""
	case "store":
		return endpoint{
			name: EndpointStore, method: "GET", scopes: []string{"read_store", "store_info"},
			answer: (*Server).store,
		}, ""
	}
	return endpoint{name: EndpointUnknown}, ""
}

func (s *Server) customerEndpoint(segments []string) (e endpoint, id string) {
	switch {
	case len(segments) == 0:
		return endpoint{
			name: EndpointCustomers, method: "GET", scopes: []string{"read_customers"},
			answer: (*Server).listCustomers,
		}, ""
	case len(segments) == 1 && segments[0] != "":
		return endpoint{
			name: EndpointCustomer, method: "GET", scopes: []string{"read_customers"},
			answer: (*Server).oneCustomer,
		}, segments[0]
	case len(segments) == 2 && segments[1] == "sessions":
		return endpoint{
			name: EndpointSessions, method: "POST", scopes: []string{"write_session", "write_sessions"},
			answer: (*Server).makeSession,
		}, segments[0]
	}
	return endpoint{name: EndpointUnknown}, ""
}

func (s *Server) webhookEndpoint(method string, segments []string) (e endpoint, id string) {
	switch {
	case len(segments) == 0 && method == http.MethodPost:
		return endpoint{
			name: EndpointWebhooks, method: "POST", scopes: []string{"read_customers"},
			answer: (*Server).addWebhook,
		}, ""
	case len(segments) == 0:
		return endpoint{name: EndpointWebhooks, method: "GET", answer: (*Server).listWebhooks}, ""
	case len(segments) == 1 && (method == http.MethodPut || method == http.MethodDelete):
		return endpoint{name: EndpointWebhook, method: method, answer: (*Server).oneWebhook}, segments[0]
	case len(segments) == 1:
		return endpoint{name: EndpointWebhook, method: "GET", answer: (*Server).oneWebhook}, segments[0]
	case len(segments) == 2 && segments[1] == "test":
		return endpoint{name: EndpointWebhook, method: "POST", answer: (*Server).oneWebhook}, segments[0]
	}
	return endpoint{name: EndpointUnknown}, ""
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, segments []string) {
	e, id := s.endpointOf(r.Method, segments)
	now := s.opts.Now()
	status := s.recordRequest(r, e.name, now)
	faults := s.Faults().at(e.name)

	// Read it all first. Only then does net/http notice a client that goes away meanwhile.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status(http.StatusBadRequest)
		refusal(http.StatusBadRequest).send(w, false)
		return
	}
	if !delay(w, r, faults.Latency) || faults.Down {
		panic(http.ErrAbortHandler) // net/http's way to drop a connection
	}
	a := s.decide(call{
		endpoint: e, requestMethod: r.Method, id: id, query: r.URL.Query(), header: r.Header, body: body,
		now: now, faults: faults,
	})
	if !delay(w, r, faults.Lag) {
		panic(http.ErrAbortHandler)
	}
	status(a.status) // before sending, so that a client with the answer also finds the status
	a.send(w, faults.Truncate)
}

// recordRequest records a request on arrival. The function it returns adds the answer's status.
func (s *Server) recordRequest(r *http.Request, endpoint string, at time.Time) func(status int) {
	entry := &Request{
		Method: r.Method, Path: r.URL.Path, Endpoint: endpoint, Query: r.URL.Query(), Header: r.Header.Clone(), At: at,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests.add(entry)
	return func(status int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		entry.Status = status
		s.answered[Answered{endpoint, status}]++
	}
}

// delay waits for d and reports whether the client is still waiting for the answer.
func delay(w http.ResponseWriter, r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	// The server's own timeouts count from the request's first byte.
	rc, deadline := http.NewResponseController(w), time.Now().Add(d+answerTimeout)
	if err := rc.SetReadDeadline(deadline); err != nil {
		return false
	}
	if err := rc.SetWriteDeadline(deadline); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	<-ctx.Done()
	return r.Context().Err() == nil
}

// decide charges the caller's bucket and answers.
func (s *Server) decide(c call) answer {
	fits, limit := s.charge(&c)
	a := c.check(fits)
	if a.status == 0 {
		a = c.answer(s, c)
	}
	a.header = make(http.Header)
	if limit != "" {
		a.header.Set("X-Recharge-Limit", limit)
	}
	if a.status == http.StatusTooManyRequests && c.faults.RetryAfter > 0 {
		a.header.Set("Retry-After", strconv.Itoa(int(math.Ceil(c.faults.RetryAfter.Seconds()))))
	}
	return a
}

// charge identifies the caller and charges its bucket. It reports whether the call fitted, and the bucket's level.
func (s *Server) charge(c *call) (fits bool, limit string) {
	value := c.header.Get("X-Recharge-Access-Token")
	s.mu.Lock()
	defer s.mu.Unlock()
	c.token = s.tokens[value]
	if c.token == nil {
		if live, ok := s.sessions.live(value, c.now); ok && s.holds(live.by) {
			c.session, c.token = &live, live.by
		}
	}
	if c.token == nil {
		if c.faults.Limited {
			return true, fmt.Sprintf("%d/%d", defaultBurst, defaultBurst)
		}
		return true, ""
	}
	used, fits := c.token.bucket.take(c.now)
	if c.faults.Limited {
		used = c.token.bucket.size
	}
	return fits, fmt.Sprintf("%d/%d", used, c.token.bucket.size)
}

// check returns the refusal of a call that must not reach its endpoint, or the zero answer.
func (c call) check(fits bool) answer {
	switch {
	case c.faults.Limited:
		return refusal(http.StatusTooManyRequests)
	case c.faults.Status != 0:
		return refusal(c.faults.Status)
	case !fits:
		return refusal(http.StatusTooManyRequests)
	case c.token == nil:
		return refusal(http.StatusUnauthorized)
	case c.name == EndpointUnknown:
		return refusal(http.StatusNotFound)
	case c.header.Get("X-Recharge-Version") != "" && c.header.Get("X-Recharge-Version") != apiVersion:
		return refusal(http.StatusUpgradeRequired)
	}
	return c.checkEndpoint()
}

func (c call) checkEndpoint() answer {
	media, _, _ := mime.ParseMediaType(c.header.Get("Content-Type")) // an unreadable type is not JSON
	switch {
	case c.requestMethod != c.method:
		return refusal(http.StatusMethodNotAllowed)
	case c.bySession != (c.session != nil):
		return refusal(http.StatusUnauthorized)
	case !c.token.hasAny(c.scopes):
		return refusal(http.StatusForbidden)
	case c.method == http.MethodPost && media != "application/json":
		return refusal(http.StatusUnsupportedMediaType)
	}
	return answer{}
}

// send writes the answer, or only half of a 200 if cut.
func (a answer) send(w http.ResponseWriter, cut bool) {
	h := w.Header()
	maps.Copy(h, a.header)
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if cut && a.status == http.StatusOK {
		a.body = a.body[:len(a.body)/2]
	}
	_, _ = io.Copy(w, bytes.NewReader(a.body)) // the client may have gone away
}

package rechargetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lifetimes of sessions and links, as documented by Recharge.
const (
	SessionLife = time.Hour      // of a session token, from POST sessions
	LinkLife    = 24 * time.Hour // of a portal link, from GET portal_access; it can be opened many times
)

// DefaultPage is the page of a portal link whose page_destination is missing or unknown.
const DefaultPage = "schedule"

// Remembered is how many requests, openings and deliveries a server keeps, oldest dropped first.
const Remembered = 10000

// Limits on the memory of a server that runs for days, as the sandbox's does.
const (
	maxHistory = Remembered
	maxGrants  = 20000 // live sessions, and live portal links, or twice the customers; the oldest are dropped first
)

// Subscription is one active subscription of a customer.
type Subscription struct {
	ID      int64  // Recharge's number for it
	Product string // its name on the portal pages, such as "House blend, 250 g"
}

// Customer is one customer record at Recharge. ID and Hash should be unique; several records may share a
// ShopifyCustomerID, as they do at Recharge.
type Customer struct {
	ID                         int64  // Recharge's number for it
	Hash                       string // the part of portal links that names the customer; an opaque [A-Za-z0-9_-]+
	ShopifyCustomerID          string // external_customer_id.ecommerce, digits; "" is sent as null
	Email, FirstName, LastName string
	Subscriptions              []Subscription // the active ones; subscriptions_active_count is their number
	NextCharge                 time.Time      // when the queued charge is due; zero if there is none
}

// Name is how the portal greets the customer: first and last name, or else the e-mail address.
func (c Customer) Name() string {
	if name := strings.TrimSpace(c.FirstName + " " + c.LastName); name != "" {
		return name
	}
	return c.Email
}

// Token is an Admin API token.
type Token struct {
	Value  string   // the token itself
	Scopes []string // such as read_customers, write_session (or write_sessions), read_store (or store_info)
	Rate   float64  // calls that leak out of its bucket each second; 0 means 2
	Burst  int      // calls that its bucket holds; 0 means 40
	// ClientSecret signs the webhooks of the token. Recharge calls it "API Client Secret".
	ClientSecret string
}

// Options configure a server. The zero value works, and refuses every call because there are no tokens.
type Options struct {
	// x.myshopify.com: the only accepted shop_url and proxying shop; "" accepts any
	Shop            string
	Tokens          []Token // Admin API tokens
	StorefrontToken string  // if set, POST sessions needs it in X-Recharge-Storefront-Access-Token
	// the secret of Recharge's own Shopify app, which verifies requests that the storefront
	// forwards to /proxy; "" refuses all
	ClientSecret string
	// base_url of portal links, absolute, ending in "/portal/"; "" means URL + "/portal/"
	PortalBase string
	Unity      bool             // the store's portal is Unity, in the Shopify account; see Server.SetUnity
	SigningKey *rsa.PrivateKey  // signs session tokens; nil means a key of 2048 bits, generated at first use
	Unsigned   bool             // session tokens have random bytes for a signature, since signing takes a millisecond
	Customers  []Customer       // in the order in which GET /customers lists them
	Now        func() time.Time // the clock of buckets, sessions, links and signatures; nil means time.Now

	// Deliver sends webhooks to their addresses; nil means an http.Transport.
	Deliver http.RoundTripper
	// RetryAfter is the wait before a webhook's next try, after the nth from 1; nil spreads 20 tries over two days.
	RetryAfter func(try int) time.Duration
}

// Request is one call to the API, with the caller's credentials. Requests for portal pages are not recorded.
type Request struct {
	Method, Path string
	Endpoint     string      // one of the Endpoint constants
	Query        url.Values  // not to be modified
	Header       http.Header // not to be modified
	Status       int         // of the answer; 0 as long as there is none
	At           time.Time   // when it arrived, by Options.Now
}

// Opening is a portal page that really opened: its reader was let in as the customer.
type Opening struct {
	Customer Customer
	Page     string // as in the address: "subscriptions", "subscriptions/123/cancel", ...
	How      string // HowToken, HowStorefront or HowAccount
	Locale   string // the address's locale parameter
	At       time.Time
}

// How a portal page was opened.
const (
	HowToken      = "token"      // by a live token of the customer
	HowStorefront = "storefront" // because Shopify says that the customer is signed in to the store
	HowAccount    = "account"    // Unity's page, because Shopify says that the customer is signed in to the account
)

// Server is an emulated Recharge that listens on a socket. It is safe for concurrent use.
type Server struct {
	URL string // http://host:port, without a slash at the end

	opts       Options
	signingKey func() (*rsa.PrivateKey, error)
	pages      *template.Template
	http       *http.Server
	ctx        context.Context    // ends when stop is called
	stop       context.CancelFunc // ends delayed answers, and deliveries
	deliverer  *http.Client
	delivering sync.WaitGroup
	done       chan struct{} // closed when the server has stopped accepting connections
	conns      sync.WaitGroup
	closeOnce  sync.Once

	mu         sync.Mutex
	faults     Faults
	customers  []Customer    // replaced, never changed in place
	positions  map[int64]int // of customers, by ID
	bySchedule []Customer    // those with a next charge; nil: not sorted yet
	portalBase string
	left       map[string]bool // bases of portals that have moved
	unity      bool
	tokens     map[string]*adminToken
	sessions   ledger[session]
	links      ledger[int64]  // portal token to customer id
	uses       map[string]int // portal token to the number of visits that it opened
	requests   history[*Request]
	answered   map[Answered]int
	openings   history[Opening]
	closed     bool   // no more deliveries may start
	hooks      []hook // replaced, never changed in place
	lastHook   int64
	deliveries history[Delivery]
}

// NewServer starts a server on a free loopback port. It panics if it cannot listen, as httptest does.
func NewServer(opts Options) *Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		var err6 error
		if l, err6 = net.Listen("tcp6", "[::1]:0"); err6 != nil {
			panic(fmt.Sprintf("rechargetest: listen on loopback: %v", errors.Join(err, err6)))
		}
	}
	return NewServerOn(l, opts)
}

// signingKey generates a key only for servers that are asked for a session.
func signingKey(given *rsa.PrivateKey) func() (*rsa.PrivateKey, error) {
	return sync.OnceValues(func() (*rsa.PrivateKey, error) {
		if given != nil {
			return given, nil
		}
		return rsa.GenerateKey(rand.Reader, 2048)
	})
}

// NewServerOn starts a server on l, which Close closes.
func NewServerOn(l net.Listener, opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.RetryAfter == nil {
		opts.RetryAfter = spread
	}
	if opts.Deliver == nil {
		opts.Deliver = &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{
		ctx: ctx,
		deliverer: &http.Client{
			Transport:     opts.Deliver,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		URL:   "http://" + l.Addr().String(),
		opts:  opts,
		pages: parsePages(),
		stop:  stop,
		done:  make(chan struct{}),
		// Lazily, because making a key takes longer than most tests.
		signingKey: signingKey(opts.SigningKey),
		tokens:     adminTokens(opts.Tokens),
		left:       map[string]bool{},
		uses:       map[string]int{},
		unity:      opts.Unity,
		answered:   map[Answered]int{},
	}
	s.SetCustomers(opts.Customers)
	s.SetPortalBase(opts.PortalBase)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.countConn,
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // always ErrServerClosed or a broken listener, which nobody needs to know
	}()
	return s
}

// countConn lets Close wait for the connections. net/http reports new ones from the accept loop
// itself, so none is added after that has ended.
func (s *Server) countConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// Close stops listening, drops every connection, and returns when nothing of the server is running. Its histories can
// still be read. It may be called twice.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.stop()
		s.delivering.Wait()
		s.deliverer.CloseIdleConnections()
		_ = s.http.Close()
		<-s.done
		s.conns.Wait()
	})
}

// SetFaults lets change edit the faults. change must not call the server.
func (s *Server) SetFaults(change func(*Faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

// Faults returns the current faults.
func (s *Server) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// Requests returns the newest 10000 API calls, oldest first. A call is recorded as soon as it arrives.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Request, 0, len(s.requests.items))
	for _, r := range s.requests.items {
		list = append(list, *r)
	}
	return list
}

// ResetRequests forgets the API calls so far.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = history[*Request]{}
}

// Openings returns the newest 10000 portal pages that opened, oldest first.
func (s *Server) Openings() []Opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.openings.items)
}

// LinkOwner returns the ID of the customer whose portal the token of a portal link opens, without
// opening it. It reports false if the token is unknown, has expired, or is older than the newest
// 20000, or twice the customers.
func (s *Server) LinkOwner(token string) (id int64, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links.live(token, s.opts.Now())
}

// SetCustomers replaces all customers. Sessions and links of removed customers stop working.
func (s *Server) SetCustomers(customers []Customer) {
	list, positions := slices.Clone(customers), make(map[int64]int, len(customers))
	for i := len(list) - 1; i >= 0; i-- { // of customers with the same ID, the first counts
		list[i].Subscriptions = slices.Clone(list[i].Subscriptions)
		positions[list[i].ID] = i
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customers, s.positions, s.bySchedule = list, positions, nil
	most := max(maxGrants, 2*len(list))
	s.sessions.most, s.links.most = most, most
}

// ExpireSessions ends every session and every portal link made so far.
func (s *Server) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = ledger[session]{most: s.sessions.most}
	s.links = ledger[int64]{most: s.links.most}
}

// serve passes a request to the API or to one of the two portals. It uses no ServeMux, which would redirect unclean
// paths. An API under test must not do that.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "rechargetest (emulator)")
	segments, err := pathSegments(r.URL)
	switch {
	case err != nil:
		http.Error(w, "bad path", http.StatusBadRequest)
	case segments[0] == "portal":
		s.serveHosted(w, r, segments[1:])
	case segments[0] == "pages":
		pageHeaders(w)
		if readOnly(w, r) {
			s.serveTask(w, r, "/portal/", trimSlash(segments[1:]), r.URL.Query())
		}
	case segments[0] == "proxy":
		s.serveProxied(w, r, segments[1:])
	case r.URL.Path == "/favicon.ico": // browsers request it on their own; it is no API call
		http.NotFound(w, r)
	default:
		s.serveAPI(w, r, segments)
	}
}

// pathSegments splits a path before it is unescaped, so that an escaped slash stays inside its segment.
func pathSegments(u *url.URL) ([]string, error) {
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, escaped := range segments {
		segment, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, fmt.Errorf("path segment: %w", err)
		}
		segments[i] = segment
	}
	return segments, nil
}

// customer returns the first customer that fits.
func (s *Server) customer(fits func(Customer) bool) (Customer, bool) {
	list := s.customerList()
	i := slices.IndexFunc(list, fits)
	if i < 0 {
		return Customer{}, false
	}
	return list[i], true
}

func (s *Server) customerByID(id int64) (Customer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.positions[id]
	if !ok {
		return Customer{}, false
	}
	return s.customers[i], true
}

func (s *Server) customerByHash(hash string) (Customer, bool) {
	return s.customer(func(c Customer) bool { return c.Hash == hash })
}

func (s *Server) customerList() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.customers
}

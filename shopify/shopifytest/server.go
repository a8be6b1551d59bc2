package shopifytest

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed templates
var templates embed.FS

const (
	accountsNew    = "new"
	accountsLegacy = "legacy"

	themeModern  = "modern"
	themeClassic = "classic"

	// Not documented by Shopify; "30 s" is what people have measured.
	defaultTimeout = 30 * time.Second

	historyLimit = 1000
)

// A Shopper is a customer of the store who can sign in.
type Shopper struct {
	ID        string // Shopify customer ID, digits; sent as logged_in_customer_id
	Email     string
	FirstName string
	LastName  string
	Note      string // a line beside the shopper on the sign-in page, which says what is special about this one
}

// Name is the shopper's full name, or the e-mail address if there is none.
func (s Shopper) Name() string {
	if name := strings.TrimSpace(s.FirstName + " " + s.LastName); name != "" {
		return name
	}
	return s.Email
}

// An App is an app installed in the store, with an app proxy.
type App struct {
	// PathPrefix is the path on the storefront, "/apps/subscriptions": a, apps, community or tools,
	// then up to 30 letters, digits, "_" and "-".
	PathPrefix string
	ProxyURL   string // the app's address, "http://127.0.0.1:8080/proxy"; the rest of the storefront's path is appended
	Secret     string // the app's client secret, which signs its requests
	OldSecret  string // the one before rotation, see Faults.OldSecret
	NoLink     bool   // the theme does not link to it
}

// Options describe a store. Only Shop is required.
type Options struct {
	Shop     string    // the store's permanent domain, "sandbox-store.myshopify.com", sent as shop
	Name     string    // shop.name in Liquid, shown in the header; Shop if empty
	Email    string    // shop.email in Liquid
	Country  string    // localization.country.iso_code in Liquid; empty leaves it out
	Accounts string    // the kind of customer accounts: "new" (the default) or "legacy", see the package's Routes
	Theme    string    // "modern" (the default) or "classic", see the package's Themes
	Shoppers []Shopper // who can sign in
	Apps     []App     // apps added at the start, see also Server.AddApp

	Now     func() time.Time // clock of the timestamp parameter; time.Now if nil
	Timeout time.Duration    // how long an app may take to answer; 30 s if zero
	// WebhookRetry is the time from the nth try, from 1, to the next; nil spreads 8 retries over four hours.
	WebhookRetry func(try int) time.Duration

	// Extension is the folder of a theme app extension: blocks, snippets, assets and locales. It is
	// read again for each page, so that with os.DirFS an edit shows after a reload.
	Extension fs.FS
	// Blocks are the app blocks that the merchant has placed. Only the modern theme has room for them.
	Blocks []Block
	// Embeds are the app embeds that are turned on, on each page of either theme. Their Block.Page
	// is ignored.
	Embeds []Block
	// Metafields are the app-data metafields that the app has written, by "namespace.key". Only a
	// block's Liquid reads them, as app.metafields.
	Metafields map[string]string

	// AccountPage draws what another app, such as Recharge, shows in current accounts: its full page, and its blocks
	// on Orders and Profile. The result is drawn unescaped. If it is "", or AccountPage is nil, there is nothing of
	// the app there.
	AccountPage func(AccountOpening) template.HTML

	// Around returns a handler for all requests to the storefront and to the account host, from the store's own. It may
	// add routes, and change pages. Nil changes nothing.
	Around func(http.Handler) http.Handler
}

// Forwarded is one request that the store forwarded to an app.
type Forwarded struct {
	App      string        // App.PathPrefix
	Method   string        // "GET"
	Path     string        // path on the storefront, escaped, with its locale prefix: "/fr/apps/subscriptions/orders"
	Query    string        // raw query sent to the app, signature included, without "?"
	Status   int           // the app's status; 502 or 504 if there was no answer
	Duration time.Duration // from the request to the last byte of the answer
	Header   http.Header   // the app's response headers before any were stripped; nil if there was no answer
}

// A Server is a running store. Its methods may be called at any time from any goroutine.
type Server struct {
	URL string // base URL of the storefront, "http://127.0.0.1:40123", without a trailing slash
	// AccountURL is the base URL of the account host, which serves only stores with current accounts. It stands for
	// https://account.brand.example and https://shopify.com/<shop id>/account.
	AccountURL string

	opts          Options
	cookie        string // name of the storefront's session cookie
	accountCookie string // name of the account host's
	theme         *template.Template
	accountPages  *template.Template
	backend       *http.Transport
	fronts        []*http.Server // of the storefront and of the account host
	ctx           context.Context
	cancel        context.CancelFunc
	served        sync.WaitGroup // goroutines of the listeners

	adminPages  *template.Template
	adminRoutes *http.ServeMux
	sameOrigin  *http.CrossOriginProtection

	running sync.WaitGroup // requests being answered
	mu      sync.Mutex     // guards the fields below
	closed  bool
	kind    string // of customer accounts
	faults  Faults
	apps    []App
	// sessions maps a session cookie's value to the signed-in shopper.
	sessions map[string]Shopper
	// codes maps a code that the account host has given out to its shopper.
	codes    map[string]Shopper
	history  []Forwarded
	openings []AccountOpening
	// liquidErrors are the errors of the extension's blocks.
	liquidErrors []string
	partners     []*partner
	metafields   map[string]string // by "namespace.key"
	ownDomain    string            // see SetDomain
	deliveries   []WebhookDelivery
}

// NewServer starts a store on a free loopback port. It panics if it cannot listen, or if opts are
// invalid. The caller must call Close when done.
func NewServer(opts Options) *Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("shopifytest: cannot listen on a loopback port: %v", err))
	}
	return NewServerOn(l, opts)
}

// NewServerOn is NewServer with the caller's listener, which Close closes.
func NewServerOn(l net.Listener, opts Options) *Server {
	account, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("shopifytest: cannot listen on a loopback port: %v", err))
	}
	s := &Server{
		URL:           "http://" + l.Addr().String(),
		AccountURL:    "http://" + account.Addr().String(),
		opts:          withDefaults(opts),
		cookie:        cookieName("storefront", l.Addr()),
		accountCookie: cookieName("account", account.Addr()),
		sessions:      map[string]Shopper{},
		codes:         map[string]Shopper{},
		metafields:    maps.Clone(opts.Metafields),
	}
	s.kind = s.opts.Accounts
	s.accountPages = template.Must(template.ParseFS(templates, "templates/account/*.html", "templates/shoppers.html"))
	s.theme = template.Must(template.ParseFS(templates, "templates/*.html", "templates/"+s.opts.Theme+"/*.html"))
	s.adminPages = template.Must(template.ParseFS(templates, "templates/admin/*.html"))
	s.adminRoutes, s.sameOrigin = s.routesOfAdmin(), http.NewCrossOriginProtection()
	for _, app := range opts.Apps {
		s.AddApp(app)
	}
	s.backend = newBackend()
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx, s.cancel = ctx, cancel
	s.serve(l, s.handle)
	s.serve(account, s.handleAccount)
	return s
}

func (s *Server) serve(l net.Listener, handle http.HandlerFunc) {
	front := newFront(s.ctx, s.opts.Around(handle), s.opts.Timeout)
	s.fronts = append(s.fronts, front)
	s.served.Go(func() {
		_ = front.Serve(l) // always returns an error, the expected one after Close
	})
}

func withDefaults(opts Options) Options {
	if opts.Shop == "" {
		panic("shopifytest: Options.Shop is empty")
	}
	if opts.Accounts == "" {
		opts.Accounts = accountsNew
	}
	checkAccounts(opts.Accounts)
	if opts.WebhookRetry == nil {
		opts.WebhookRetry = retries
	}
	if opts.Theme == "" {
		opts.Theme = themeModern
	}
	if opts.Theme != themeModern && opts.Theme != themeClassic {
		panic(fmt.Sprintf("shopifytest: Options.Theme is %q, neither %q nor %q", opts.Theme, themeModern, themeClassic))
	}
	if err := checkExtension(opts); err != nil {
		panic("shopifytest: " + err.Error())
	}
	if opts.Name == "" {
		opts.Name = opts.Shop
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	if opts.Around == nil {
		opts.Around = func(store http.Handler) http.Handler { return store }
	}
	opts.Shoppers = slices.Clone(opts.Shoppers)
	return opts
}

func checkAccounts(kind string) {
	if kind != accountsNew && kind != accountsLegacy {
		panic(fmt.Sprintf("shopifytest: Options.Accounts is %q, not %q or %q", kind, accountsNew, accountsLegacy))
	}
}

// newBackend returns the transport for requests to apps. It has no Proxy, so that the environment cannot send
// a test off this machine, and does not decompress, so that the response is seen exactly as the app sent it.
func newBackend() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}
}

func newFront(ctx context.Context, h http.Handler, appTimeout time.Duration) *http.Server {
	return &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      appTimeout + 30*time.Second, // the answer to a slow app still has to be written
		IdleTimeout:       time.Minute,
	}
}

// Close stops the store and returns when its last request has ended. Requests still waiting for an
// app are cut off. Close may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()

	s.cancel()
	for _, front := range s.fronts {
		_ = front.Close() // its only error is that the listener is closed already
	}
	s.running.Wait()
	s.backend.CloseIdleConnections()
	s.served.Wait()
}

// enter counts a request, unless the store is closing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// AddApp installs an app whose address is known only after the store's. It panics if Shopify would
// reject PathPrefix.
func (s *Server) AddApp(app App) {
	if !validPathPrefix(app.PathPrefix) {
		panic(fmt.Sprintf("shopifytest: App.PathPrefix is %q, not one that Shopify would take", app.PathPrefix))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, app)
}

func validPathPrefix(prefix string) bool {
	parts := strings.Split(prefix, "/")
	if len(parts) != 3 || parts[0] != "" || !slices.Contains([]string{"a", "apps", "community", "tools"}, parts[1]) {
		return false
	}
	notAllowed := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		return !letter && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	return parts[2] != "" && len(parts[2]) <= 30 && !strings.ContainsFunc(parts[2], notAllowed)
}

// Forwarded returns the requests that were forwarded to apps and answered, oldest first. It keeps the newest 1000.
func (s *Server) Forwarded() []Forwarded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history[max(0, len(s.history)-historyLimit):])
}

func (s *Server) record(f Forwarded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, f)
	// Trimmed only at twice the limit, so that a full history does not move on every request.
	if len(s.history) >= 2*historyLimit {
		s.history = slices.Clone(s.history[len(s.history)-historyLimit:])
	}
}

// installed returns the apps in the order in which they were added.
func (s *Server) installed() []App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.apps)
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.running.Done()

	w.Header().Set("Server", "shopifytest")
	switch {
	case r.URL.Path == "/admin" || strings.HasPrefix(r.URL.Path, "/admin/") || strings.HasPrefix(r.URL.Path, "/store/"):
		s.admin(w, r)
		return
	case strings.HasPrefix(r.URL.Path, "/cdn/shopifycloud/"):
		shopifyScript(w, r)
		return
	}
	v := s.visit(r)
	if app, rest, ok := s.findApp(v.path); ok {
		s.proxy(w, r, v, app, rest)
		return
	}
	s.page(w, r, v)
}

package recharge

import (
	"context"
	"crypto/rand"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Prober makes single calls and reports the shape of their answers, for an operator:
// some of Recharge's shapes are not known for sure. What it returns holds no id, hash
// or token.
type Prober struct {
	client   *Client
	grant    *Grant
	customer Customer
	session  Session
}

// NewProber returns a prober that calls as c does, under g. It passes the headers of
// each answer to heard, with how long the answer took.
func NewProber(c *Client, g *Grant, heard func(http.Header, time.Duration)) *Prober {
	client := *c
	client.http = &http.Client{
		Transport: hearing{c.options.HTTP, heard}, CheckRedirect: c.http.CheckRedirect,
	}
	return &Prober{client: &client, grant: g}
}

// hearing passes on the headers of answers.
type hearing struct {
	*http.Transport
	heard func(http.Header, time.Duration)
}

func (h hearing) RoundTrip(request *http.Request) (*http.Response, error) {
	start := time.Now()
	response, err := h.Transport.RoundTrip(request)
	if err == nil {
		h.heard(response.Header, time.Since(start))
	}
	return response, err
}

// probe makes a call once.
func probe[T any](ctx context.Context, p *Prober, call call) (T, error) {
	return try[T](ctx, p.client, p.grant, call)
}

// Scopes are what the token may do.
type Scopes struct {
	All         []string
	Read        bool   // customers
	Session     string // the spelling of the scope for sessions; "" none
	Store       bool   // GET /store
	WantRead    string // what to ask for where it lacks
	WantSession string
}

// Token asks what the token may do.
func (p *Prober) Token(ctx context.Context) (Scopes, error) {
	answer, err := probe[tokenAnswer](ctx, p, p.client.get(Normal, nil, "token_information"))
	if err == nil && answer.Token == nil {
		err = &Error{Endpoint: "token_information", Reason: Malformed}
	}
	if err != nil {
		return Scopes{}, err
	}
	all := answer.Token.Scopes
	scopes := Scopes{
		All: all, Read: hasAny(all, scopeRead()), Store: hasAny(all, scopeStore()),
		WantRead: scopeRead()[0], WantSession: scopeSession()[0],
	}
	for _, spelling := range scopeSession() {
		if slices.Contains(all, spelling) {
			scopes.Session = spelling
		}
	}
	return scopes, nil
}

// StoreSeen is what GET /store says.
type StoreSeen struct {
	Ours   bool   // it is this shop's token
	Told   bool   // Recharge says whose it is
	Portal string // host and path of customer_portal_base_url; "" if there is none
	Usable bool   // the guard lets links to that host out
}

// Store asks whose the token is.
func (p *Prober) Store(ctx context.Context) (StoreSeen, error) {
	answer, err := probe[storeAnswer](ctx, p, p.client.get(Normal, nil, "store"))
	if err != nil {
		return StoreSeen{}, err
	}
	seen := StoreSeen{Told: answer.shop() != "", Ours: answer.shop() == p.client.options.Shop}
	if base, err := ParsePortalURL(answer.Store.Portal); err == nil {
		seen.Portal, seen.Usable = base.Host+base.Path, p.client.guard.trusts(base)
	}
	return seen, nil
}

// Filter is the result of asking for a customer that does not exist.
type Filter string

// The results.
const (
	FilterWorks Filter = "works"
	FilterNot   Filter = "ignored"
	FilterEmpty Filter = "nobody there" // the store has no customers, so this is not known
)

// Filter asks for a Shopify customer that there cannot be: where external_customer_id
// filters, the page is empty.
func (p *Prober) Filter(ctx context.Context) (Filter, error) {
	nobody, err := rand.Int(rand.Reader, big.NewInt(1e9))
	if err != nil {
		return "", err
	}
	// Longer than any id of Shopify's is today.
	id := strconv.FormatInt(9e17+nobody.Int64(), 10)
	n, err := p.count(ctx, url.Values{"external_customer_id": {id}, "limit": {"1"}})
	switch {
	case err != nil:
		return "", err
	case n > 0:
		return FilterNot, nil
	}
	n, err = p.count(ctx, url.Values{"limit": {"1"}})
	switch {
	case err != nil:
		return "", err
	case n == 0:
		return FilterEmpty, nil
	}
	return FilterWorks, nil
}

func (p *Prober) count(ctx context.Context, query url.Values) (int, error) {
	page, err := probe[customerPage](ctx, p, p.client.get(Normal, query, "customers"))
	if err == nil && page.Customers == nil {
		err = &Error{Endpoint: Customers, Reason: Malformed}
	}
	if err != nil {
		return 0, err
	}
	return len(*page.Customers), nil
}

// Customer looks up a Shopify customer. Sessions are then this customer's.
func (p *Prober) Customer(ctx context.Context, shopifyID string) error {
	found, err := p.client.FindCustomer(ctx, p.grant, shopifyID, High)
	p.customer = found.Customer
	return err
}

// SessionSeen is what POST sessions answers.
type SessionSeen struct {
	Key     string        // apiToken or api_token
	Expires time.Duration // from now, as the token says; 0: it does not
}

// Storefront reports whether there is a storefront token.
func (p *Prober) Storefront() bool { return p.client.options.StorefrontToken != "" }

// Session makes a session as CreateSession does, which Portal then uses.
func (p *Prober) Session(ctx context.Context) (SessionSeen, error) {
	seen, session, err := p.makeSession(ctx, p.client.options.StorefrontToken)
	p.session = session
	return seen, err
}

// SessionBare makes one without the storefront token.
func (p *Prober) SessionBare(ctx context.Context) (SessionSeen, error) {
	seen, _, err := p.makeSession(ctx, "")
	return seen, err
}

func (p *Prober) makeSession(ctx context.Context, storefrontToken string) (SessionSeen, Session, error) {
	answer, err := probe[sessionAnswer](ctx, p, p.client.sessionCall(p.customer, storefrontToken))
	if err != nil {
		return SessionSeen{}, Session{}, err
	}
	token, claims, err := answer.read(p.customer)
	if err != nil {
		return SessionSeen{}, Session{}, err
	}
	seen := SessionSeen{Key: "apiToken"}
	if answer.Session.APIToken == "" {
		seen.Key = "api_token"
	}
	if claims.Expires > 0 {
		seen.Expires = time.Unix(int64(claims.Expires), 0).Sub(p.client.options.Now())
	}
	return seen, Session{Token: token}, nil
}

// PortalSeen is what GET /portal_access answers.
type PortalSeen struct {
	Base     string        // host and path of base_url; "" if it is not said, or is none
	LinkHost string        // the link's; "(strange)" if it is none to be shown
	Trusted  bool          // the guard lets links to that host out
	Zone     bool          // expires_at has one
	Expires  time.Duration // from now; 0: expires_at cannot be read
}

// Portal asks for a link with the last session, and throws it away.
// Errors: LinkRefused if the guard refuses the link.
func (p *Prober) Portal(ctx context.Context) (PortalSeen, error) {
	visit := Visit{To: Subscriptions}
	access, err := probe[portalAccess](ctx, p, p.client.portalAccessCall(p.session, visit))
	if err != nil {
		return PortalSeen{}, err
	}
	target := access.url(visit)
	link, err := url.Parse(target)
	switch {
	case target == "" || err != nil:
		return PortalSeen{}, &Error{Endpoint: PortalAccess, Reason: Malformed}
	case access.CustomerHash != p.customer.Hash:
		return PortalSeen{}, &Error{Endpoint: PortalAccess, Reason: Foreign}
	}
	seen := PortalSeen{LinkHost: printable(link, p.customer.Hash), Trusted: p.client.guard.trusts(link)}
	base, err := ParsePortalURL(access.BaseURL)
	if err == nil && !hasPart(base, p.customer.Hash) && !hasPart(base, access.TempToken) {
		seen.Base = base.Host + base.Path
	}
	if expires := access.expires(); !expires.IsZero() {
		_, err := time.Parse(time.RFC3339, access.ExpiresAt)
		seen.Zone, seen.Expires = err == nil, expires.Sub(p.client.options.Now())
	}
	_, err = p.client.guarded(PortalAccess, target, p.customer, time.Time{})
	return seen, err
}

package recharge

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Prober makes single calls and says what their answers look like, for an
// operator: which of the shapes that are not known for sure a store has. Each call
// is made once, and inside the token's budget. What it says holds no id, hash or
// token.
type Prober struct {
	client   *Client
	customer Customer
	session  Session
}

// NewProber returns a prober; heard is told the headers
// of each answer, and how long it took.
func NewProber(o Options, heard func(http.Header, time.Duration)) *Prober {
	client := NewClient(o)
	client.http.Transport = hearing{client.options.HTTP, heard}
	return &Prober{client: client}
}

// hearing lets somebody hear the headers of answers.
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
	answer, failed := try[tokenAnswer](ctx, p.client, p.get("token_information", nil))
	if failed == nil && answer.Token == nil {
		failed = &Error{Endpoint: "token_information", Reason: Malformed}
	}
	if failed != nil {
		return Scopes{}, failed
	}
	i := inspector{scopes: answer.Token.Scopes}
	scopes := Scopes{All: i.scopes, Read: i.has(scopeRead()), Store: i.has(scopeStore()), WantRead: scopeRead()[0], WantSession: scopeSession()[0]}
	for _, spelling := range scopeSession() {
		if (&inspector{scopes: i.scopes}).has([]string{spelling}) {
			scopes.Session = spelling
		}
	}
	return scopes, nil
}

// StoreSeen is what GET /store says.
type StoreSeen struct {
	Ours   bool   // it is this shop's token
	Told   bool   // it says whose it is
	Portal string // host and path of customer_portal_base_url; "" if there is none
	Usable bool   // links to that host may leave
}

// Store asks whose the token is.
func (p *Prober) Store(ctx context.Context) (StoreSeen, error) {
	answer, failed := try[storeAnswer](ctx, p.client, p.get("store", nil))
	if failed != nil {
		return StoreSeen{}, failed
	}
	identifier := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(answer.Store.Identifier, "https://"), "/"))
	seen := StoreSeen{Told: identifier != "", Ours: identifier == p.client.options.Shop}
	if base, err := ParsePortalURL(answer.Store.Portal); err == nil {
		seen.Portal, seen.Usable = base.Host+base.Path, p.client.guard.trusts(base)
	}
	return seen, nil
}

// Filter is what came of asking for a customer whom nobody has.
type Filter string

// What can come of it.
const (
	FilterWorks Filter = "works"
	FilterNot   Filter = "ignored"
	FilterEmpty Filter = "nobody there" // the store has no customers: nothing to tell by
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
	n, failed := p.count(ctx, url.Values{"external_customer_id": {id}, "limit": {"1"}})
	switch {
	case failed != nil:
		return "", failed
	case n > 0:
		return FilterNot, nil
	}
	n, failed = p.count(ctx, url.Values{"limit": {"1"}})
	switch {
	case failed != nil:
		return "", failed
	case n == 0:
		return FilterEmpty, nil
	}
	return FilterWorks, nil
}

func (p *Prober) count(ctx context.Context, query url.Values) (int, *Error) {
	page, failed := try[customerPage](ctx, p.client, p.get("customers", query))
	if failed == nil && page.Customers == nil {
		failed = &Error{Endpoint: Customers, Reason: Malformed}
	}
	if failed != nil {
		return 0, failed
	}
	return len(*page.Customers), nil
}

// Customer finds who a Shopify customer is at Recharge; sessions are then this
// customer's.
func (p *Prober) Customer(ctx context.Context, shopifyID string) error {
	found, err := p.client.FindCustomer(ctx, shopifyID)
	p.customer = found.Customer
	return err
}

// SessionSeen is what POST sessions answers.
type SessionSeen struct {
	Key     string        // apiToken or api_token
	Expires time.Duration // from now, as the token says; 0: it does not
}

// Storefront tells whether there is a storefront token.
func (p *Prober) Storefront() bool { return p.client.options.StorefrontToken != "" }

// Session makes a session as CreateSession does; Portal then asks with it.
// Recharge forgets it after an hour.
func (p *Prober) Session(ctx context.Context) (SessionSeen, error) {
	seen, session, err := p.makeSession(ctx, p.Storefront())
	p.session = session
	return seen, err
}

// SessionBare makes one without the storefront token.
func (p *Prober) SessionBare(ctx context.Context) (SessionSeen, error) {
	seen, _, err := p.makeSession(ctx, false)
	return seen, err
}

func (p *Prober) makeSession(ctx context.Context, storefront bool) (SessionSeen, Session, error) {
	header := p.client.adminHeader()
	if storefront {
		header.Set("X-Recharge-Storefront-Access-Token", p.client.options.StorefrontToken)
	}
	raw, failed := try[json.RawMessage](ctx, p.client, call{
		endpoint: Sessions, urgency: helpful, method: http.MethodPost, header: header,
		path: []string{"customers", strconv.FormatInt(p.customer.ID, 10), "sessions"},
	})
	if failed != nil {
		return SessionSeen{}, Session{}, failed
	}
	var answer sessionAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return SessionSeen{}, Session{}, &Error{Endpoint: Sessions, Reason: Malformed}
	}
	seen, token := SessionSeen{Key: "apiToken"}, answer.Session.APIToken
	if token == "" {
		seen.Key, token = "api_token", answer.Session.APITokenSnake
	}
	if token == "" {
		return SessionSeen{}, Session{}, &Error{Endpoint: Sessions, Reason: Malformed}
	}
	claims := readClaims(token)
	for _, id := range []number{answer.Session.CustomerID, answer.Session.CustomerSnake, claims.CustomerID} {
		if id != 0 && int64(id) != p.customer.ID {
			return SessionSeen{}, Session{}, &Error{Endpoint: Sessions, Reason: Foreign}
		}
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
	Trusted  bool          // links to that host may leave
	Zone     bool          // expires_at has one
	Expires  time.Duration // from now; 0: expires_at cannot be read
}

// Portal asks for a link with the last session, and throws it away.
// Errors: LinkRefused if the link leads where none may.
func (p *Prober) Portal(ctx context.Context) (PortalSeen, error) {
	access, failed := try[portalAccess](ctx, p.client, p.client.portalAccessCall(p.session, Subscriptions, ""))
	if failed != nil {
		return PortalSeen{}, failed
	}
	target, ok := access.url(Subscriptions, "")
	link, err := url.Parse(target)
	switch {
	case !ok || err != nil:
		return PortalSeen{}, &Error{Endpoint: PortalAccess, Reason: Malformed}
	case access.CustomerHash != p.customer.Hash:
		return PortalSeen{}, &Error{Endpoint: PortalAccess, Reason: Foreign}
	}
	seen := PortalSeen{LinkHost: printable(link, p.customer.Hash), Trusted: p.client.guard.trusts(link)}
	if base, err := ParsePortalURL(access.BaseURL); err == nil && !hasPart(base, p.customer.Hash) && !hasPart(base, access.TempToken) {
		seen.Base = base.Host + base.Path
	}
	if expires := access.expires(); !expires.IsZero() {
		_, err := time.Parse(time.RFC3339, access.ExpiresAt)
		seen.Zone, seen.Expires = err == nil, expires.Sub(p.client.options.Now())
	}
	if detail := p.client.guard.refuses(target, p.customer.Hash); detail != "" {
		return seen, &Error{Endpoint: PortalAccess, Reason: LinkRefused, Detail: detail}
	}
	return seen, nil
}

func (p *Prober) get(endpoint string, query url.Values) call {
	return call{endpoint: endpoint, urgency: helpful, method: http.MethodGet, path: []string{endpoint}, query: query, header: p.client.adminHeader()}
}

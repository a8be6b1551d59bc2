package recharge

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Check is the name of one thing that Inspect checks.
type Check string

// The checks, in their order.
const (
	CheckToken     Check = "token"     // Recharge knows the token, and it may do what is needed
	CheckStore     Check = "store"     // it is this shop's
	CheckCustomers Check = "customers" // customers can be read
	CheckSessions  Check = "sessions"  // a session can be made for one of them
	CheckPortal    Check = "portal"    // and opens the portal
)

// State is the result of a check.
type State string

// The states.
const (
	Passed  State = "passed"
	Failed  State = "failed"  // must be fixed
	Warned  State = "warned"  // could be better, or could not be checked now
	Skipped State = "skipped" // there was nothing to check
)

// Finding is what one check found.
type Finding struct {
	Check   Check
	State   State
	Why     Reason   // "" where it passed
	Missing []string // scopes that the token lacks
	Detail  string   // the portal's host
	Took    time.Duration
}

// Findings are what all checks found.
type Findings struct {
	List      []Finding
	PortalURL string // base of links by hash, as Recharge says; "" if it does not
	Sessions  bool   // a real session has opened a link to the portal
}

// Usable reports whether shoppers can be sent to the portal, at least by hash: the
// token is this shop's, and may read customers.
func (f Findings) Usable() bool {
	good := map[Check]bool{}
	for _, finding := range f.List {
		good[finding.Check] = finding.State == Passed
		if finding.Check == CheckStore && finding.State == Failed {
			return false
		}
	}
	return good[CheckToken] && good[CheckCustomers]
}

// inspector makes the calls of Inspect.
type inspector struct {
	client   *Client
	grant    *Grant
	findings Findings
	scopes   []string
	customer Customer // one of the store's; zero if it has none
	session  Session
}

// Inspect checks a shop's tokens and detects what the store is like, in a few calls.
// It tells each finding as soon as it is made. It keeps nothing of the customer that
// it tries a session with.
func Inspect(ctx context.Context, c *Client, g *Grant, tell func(Finding)) Findings {
	i := &inspector{client: c, grant: g}
	for _, check := range []func(context.Context) Finding{i.token, i.store, i.customers, i.sessions, i.portal} {
		start := c.options.Now()
		finding := check(ctx)
		finding.Took = c.options.Now().Sub(start)
		i.findings.List = append(i.findings.List, finding)
		tell(finding)
		if finding.Check == CheckToken && finding.State != Passed || finding.Why == WrongStore {
			break // what follows would only say so again
		}
	}
	return i.findings
}

// The scopes that matter, each with the spellings in Recharge's own texts.
func scopeRead() []string    { return []string{"read_customers", "read_customer", "write_customers"} }
func scopeSession() []string { return []string{"write_session", "write_sessions"} }
func scopeStore() []string   { return []string{"read_store", "store_info"} }

// hasAny reports whether a token has a scope, in any of its spellings.
func hasAny(scopes, spellings []string) bool {
	return slices.ContainsFunc(spellings, func(s string) bool { return slices.Contains(scopes, s) })
}

type tokenAnswer struct {
	Token *struct {
		Scopes []string `json:"scopes"`
	} `json:"token_information"`
}

func (i *inspector) token(ctx context.Context) Finding {
	answer, err := do[tokenAnswer](ctx, i.client, i.grant, i.client.get(Normal, nil, "token_information"))
	if err == nil && answer.Token == nil {
		err = &Error{Endpoint: "token_information", Reason: Malformed}
	}
	if err != nil {
		return failing(CheckToken, err)
	}
	i.scopes = answer.Token.Scopes
	if !hasAny(i.scopes, scopeRead()) {
		return Finding{Check: CheckToken, State: Failed, Why: Forbidden, Missing: scopeRead()[:1]}
	}
	return Finding{Check: CheckToken, State: Passed}
}

type storeAnswer struct {
	Store struct {
		Identifier string `json:"identifier"`
		Portal     string `json:"customer_portal_base_url"`
	} `json:"store"`
}

// shop returns the shop whose token it is; "" if Recharge does not say.
func (a storeAnswer) shop() string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(a.Store.Identifier, "https://"), "/"))
}

// store checks that the token is this shop's, if the token may ask. A token that was
// copied from another store would open nothing, and nobody would know why.
func (i *inspector) store(ctx context.Context) Finding {
	if !hasAny(i.scopes, scopeStore()) {
		return Finding{Check: CheckStore, State: Skipped, Why: Forbidden, Missing: scopeStore()[:1]}
	}
	answer, err := do[storeAnswer](ctx, i.client, i.grant, i.client.get(Normal, nil, "store"))
	if err != nil {
		return Finding{Check: CheckStore, State: Warned, Why: ReasonOf(err)}
	}
	switch identifier := answer.shop(); {
	case identifier == "":
		return Finding{Check: CheckStore, State: Skipped, Why: Malformed}
	case identifier != i.client.options.Shop:
		return Finding{Check: CheckStore, State: Failed, Why: WrongStore}
	}
	if base, err := ParsePortalURL(answer.Store.Portal); err == nil {
		// Whether it ends in /portal is not known.
		if !strings.HasSuffix(base.Path, "/portal/") {
			base = base.JoinPath("portal/")
		}
		i.findings.PortalURL = base.String()
	}
	return Finding{Check: CheckStore, State: Passed}
}

func (i *inspector) customers(ctx context.Context) Finding {
	call := i.client.get(Normal, url.Values{"limit": {"5"}}, "customers")
	page, err := do[customerPage](ctx, i.client, i.grant, call)
	if err == nil && page.Customers == nil {
		err = &Error{Endpoint: Customers, Reason: Malformed}
	}
	if err != nil {
		return failing(CheckCustomers, err)
	}
	for _, record := range *page.Customers {
		if customer, reason := record.customer(); reason == "" {
			i.customer = customer
			break
		}
	}
	return Finding{Check: CheckCustomers, State: Passed}
}

// sessions tries one, since it is not known for sure how Recharge spells the scope
// for it, nor whether it takes a storefront token.
func (i *inspector) sessions(ctx context.Context) Finding {
	switch {
	case i.customer.ID == 0 && !hasAny(i.scopes, scopeSession()):
		return Finding{Check: CheckSessions, State: Warned, Why: NoCustomer, Missing: scopeSession()[:1]}
	case i.customer.ID == 0:
		return Finding{Check: CheckSessions, State: Skipped, Why: NoCustomer}
	}
	session, err := i.client.CreateSession(ctx, i.grant, i.customer)
	if err != nil {
		finding := Finding{Check: CheckSessions, State: Warned, Why: ReasonOf(err)}
		if Is(err, Forbidden) && !hasAny(i.scopes, scopeSession()) {
			finding.Missing = scopeSession()[:1]
		}
		return finding
	}
	i.session = session
	return Finding{Check: CheckSessions, State: Passed}
}

// portal trusts the host that Recharge itself names. It throws the link away.
func (i *inspector) portal(ctx context.Context) Finding {
	if i.session.Token == "" {
		return Finding{Check: CheckPortal, State: Skipped}
	}
	visit := Visit{To: Subscriptions}
	access, err := do[portalAccess](ctx, i.client, i.grant, i.client.portalAccessCall(i.session, visit))
	if err != nil {
		return Finding{Check: CheckPortal, State: Warned, Why: ReasonOf(err)}
	}
	base, err := ParsePortalURL(access.BaseURL)
	target := access.url(visit)
	switch {
	case err != nil || target == "" || hasPart(base, i.customer.Hash) || hasPart(base, access.TempToken):
		// The base is kept and makes everybody's links: it must not be one customer's.
		return Finding{Check: CheckPortal, State: Warned, Why: Malformed}
	case access.CustomerHash != i.customer.Hash:
		return Finding{Check: CheckPortal, State: Warned, Why: Foreign}
	case guard{shop: i.client.options.Shop, portal: base}.refuses(target, i.customer.Hash) != "":
		return Finding{Check: CheckPortal, State: Warned, Why: LinkRefused}
	}
	i.findings.PortalURL, i.findings.Sessions = base.String(), true
	return Finding{Check: CheckPortal, State: Passed, Detail: base.Host}
}

// hasPart reports whether a secret is part of the base's host or path.
func hasPart(base *url.URL, secret string) bool {
	// Hosts are lowercase here.
	return secret != "" && strings.Contains(strings.ToLower(base.Host+base.Path), strings.ToLower(secret))
}

// failing returns the finding of a check whose call failed.
func failing(check Check, err error) Finding {
	finding := Finding{Check: check, State: Failed, Why: ReasonOf(err)}
	if finding.Why.Transient() {
		finding.State = Warned
	}
	return finding
}

// Known fails with Unauthorized or Forbidden if Recharge no longer accepts the
// client's token: the store has left Recharge, or has revoked it.
func (c *Client) Known(ctx context.Context, g *Grant) error {
	_, err := do[tokenAnswer](ctx, c, g, c.get(Normal, nil, "token_information"))
	return err
}

package recharge

// This file checks a store's tokens, for the merchant who connects it and the operator who runs
// doctor. It uses the same code as a click.

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Check is the name of one thing that Inspect checks.
type Check string

// The checks, in their order.
const (
	CheckToken     Check = "token"        // Recharge accepts the token, and it has the scope to read customers
	CheckStore     Check = "store"        // the token is this shop's
	CheckCustomers Check = "customers"    // customers can be read; the named one exists
	CheckFilter    Check = "filter"       // external_customer_id filters customers
	CheckSessions  Check = "sessions"     // a session can be made for a customer
	CheckBare      Check = "session_bare" // the same without the storefront token
	CheckPortal    Check = "portal"       // the session opens the portal
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
	Why     Reason   // "" if it passed
	Status  int      // HTTP status of a call that failed; 0 if none did
	Missing []string // scopes that the token lacks
	Detail  string   // the portal's host
	Took    time.Duration
}

// Findings are the results of all checks. Apart from Link they hold no id, hash or token.
type Findings struct {
	List      []Finding
	PortalURL string // base of hash links, as named by Recharge; "" if it names none
	Link      string // signed in, if InspectOptions.Link is set and portal_access gave a good one

	Scopes     []string      // of the token
	Store      PortalFacts   // the portal that GET /store names
	Storefront bool          // sessions are made with a storefront token
	Session    SessionFacts  // the session that was made
	Portal     PortalFacts   // the portal that portal_access names
	Headers    Headers       // of all answers
	Slowest    time.Duration // of all calls
}

// PortalFacts say where a portal is.
type PortalFacts struct {
	Base     string        // its host and path; "" if Recharge names no usable one
	LinkHost string        // of Recharge's own link; "(strange)" if it must not be shown, "" if there is no link
	Trusted  bool          // the guard allows links to that host
	Opens    bool          // the guard allows the link itself
	Zone     bool          // expires_at has a zone
	Expires  time.Duration // from now; 0 if expires_at cannot be read
}

// SessionFacts describe a session.
type SessionFacts struct {
	Key   string        // the token's key in the answer: apiToken or api_token
	Lives time.Duration // by the token's own claims; 0 if they do not say
}

// Usable reports whether shoppers can be sent to the portal, at least with hash links. The token
// must be this shop's and be allowed to read customers.
func (f Findings) Usable() bool {
	return f.Of(CheckToken).State == Passed && f.Of(CheckCustomers).State == Passed && f.Of(CheckStore).State != Failed
}

// Of returns the finding of a check, or the zero Finding if the check was not made.
func (f Findings) Of(check Check) Finding {
	for _, finding := range f.List {
		if finding.Check == check {
			return finding
		}
	}
	return Finding{}
}

// InspectOptions select what Inspect checks. The zero value is for connecting a store.
type InspectOptions struct {
	Customer  string // Shopify's id of the customer to try a session with; "" for any customer
	NoSession bool   // make no session
	Extras    bool   // also check the filter, and a session without the storefront token
	Link      bool   // keep the link to the portal instead of discarding it
}

// inspector makes the calls of Inspect.
type inspector struct {
	*Client
	grant    *Grant
	asked    InspectOptions
	findings Findings
	someone  bool     // the store has customers
	customer Customer // one of the store's; zero if there is none to try
	session  Session
}

// inspection is one check. InspectOptions can leave out one that is extra or needs a session. If do
// sets no State, its error decides.
type inspection struct {
	check          Check
	extra, session bool
	do             func(context.Context) (Finding, error)
}

// Inspect checks a shop's tokens and detects the store's settings, in at most eight calls if none
// has to be retried. It passes each finding to tell as soon as it is made, and stops if all further
// checks would fail the same way. It keeps nothing about the customer that it tries a session with.
func Inspect(ctx context.Context, c *Client, g *Grant, o InspectOptions, tell func(Finding)) Findings {
	i := &inspector{Client: c, grant: g, asked: o}
	i.findings.Storefront = c.options.StorefrontToken != ""
	for _, next := range []inspection{
		{check: CheckToken, do: i.checkToken},
		{check: CheckStore, do: i.checkStore},
		{check: CheckCustomers, do: i.checkCustomers},
		{check: CheckFilter, do: i.checkFilter, extra: true},
		{check: CheckSessions, do: i.checkSession, session: true},
		{check: CheckBare, do: i.checkBare, session: true, extra: true},
		{check: CheckPortal, do: i.checkPortal, session: true},
	} {
		if next.extra && !o.Extras || next.session && o.NoSession {
			continue
		}
		start := c.options.Now()
		finding, err := next.do(ctx)
		finding.Check, finding.Took = next.check, c.options.Now().Sub(start)
		finding = finding.judged(err)
		i.findings.List = append(i.findings.List, finding)
		tell(finding)
		if finding.Check == CheckToken && finding.State != Passed || finding.Why == WrongStore {
			break
		}
	}
	i.findings.Headers = g.headers
	for _, call := range g.Calls() {
		i.findings.Slowest = max(i.findings.Slowest, call.Took)
	}
	return i.findings
}

// judged returns a finding with the reason of err and, unless it already has one, a state. Only a
// check that every click depends on can be Failed.
func (f Finding) judged(err error) Finding {
	if failed, ok := errors.AsType[*Error](err); ok {
		f.Why, f.Status = failed.Reason, failed.Status
	}
	needed := f.Check == CheckToken || f.Check == CheckCustomers || f.Check == CheckFilter
	passing := f.Why.Transient() || f.Why == NoCustomer || f.Why == Ambiguous
	switch {
	case f.State != "":
	case err == nil:
		f.State = Passed
	case f.Why == WrongStore || needed && !passing:
		f.State = Failed
	default:
		f.State = Warned
	}
	return f
}

// lacks returns the scope to ask the merchant for if the token has none of its spellings, and nil
// otherwise. Recharge's documents spell each scope in several ways.
func (i *inspector) lacks(spellings ...string) []string {
	if slices.ContainsFunc(spellings, func(s string) bool { return slices.Contains(i.findings.Scopes, s) }) {
		return nil
	}
	return spellings[:1]
}

func (i *inspector) checkToken(ctx context.Context) (Finding, error) {
	var err error
	if i.findings.Scopes, err = i.Scopes(ctx, i.grant); err != nil {
		return Finding{}, err
	}
	if missing := i.lacks("read_customers", "read_customer", "write_customers"); missing != nil {
		return Finding{Missing: missing}, &Error{Reason: Forbidden}
	}
	return Finding{}, nil
}

// Scopes returns the scopes of the client's token. It fails with Unauthorized or Forbidden if Recharge
// does not accept the token, because the store has left Recharge or has revoked it.
func (c *Client) Scopes(ctx context.Context, g *Grant) ([]string, error) {
	answer, err := do[struct {
		Token *struct {
			Scopes []string `json:"scopes"`
		} `json:"token_information"`
	}](ctx, c, g, c.get(Normal, nil, "token_information"))
	if err == nil && answer.Token == nil {
		err = malformed("token_information")
	}
	if err != nil {
		return nil, err
	}
	return answer.Token.Scopes, nil
}

// checkStore checks that the token is this shop's, if its scopes allow that. A token copied from
// another store would open nothing, and nobody would know why.
func (i *inspector) checkStore(ctx context.Context) (Finding, error) {
	if missing := i.lacks("read_store", "store_info"); missing != nil {
		return Finding{State: Skipped, Why: Forbidden, Missing: missing}, nil
	}
	answer, err := do[struct {
		Store struct {
			Identifier string `json:"identifier"`
			Portal     string `json:"customer_portal_base_url"`
		} `json:"store"`
	}](ctx, i.Client, i.grant, i.get(Normal, nil, "store"))
	if err != nil {
		return Finding{}, err
	}
	shop := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(answer.Store.Identifier, "https://"), "/"))
	switch {
	case shop == "": // Recharge does not say
		return Finding{State: Skipped, Why: Malformed}, nil
	case shop != i.options.Shop:
		return Finding{}, &Error{Reason: WrongStore}
	}
	if base, err := ParsePortalURL(answer.Store.Portal, i.options.AppURL); err == nil {
		i.findings.Store = PortalFacts{Base: base.Host + base.Path, Trusted: i.guard.trusts(base)}
		// We do not know whether it ends in /portal.
		if !strings.HasSuffix(base.Path, "/portal/") {
			base = base.JoinPath("portal/")
		}
		i.findings.PortalURL = base.String()
	}
	return Finding{}, nil
}

func (i *inspector) checkCustomers(ctx context.Context) (Finding, error) {
	if i.asked.Customer != "" {
		found, err := i.FindCustomer(ctx, i.grant, i.asked.Customer, High)
		i.customer, i.someone = found.Customer, err == nil
		return Finding{}, err
	}
	page, err := i.customerPage(ctx, i.grant, Normal, url.Values{"limit": {"5"}})
	i.someone = len(page.Customers) > 0
	for _, record := range page.Customers {
		if customer, err := record.customer(); err == nil {
			i.customer = customer
			break
		}
	}
	return Finding{}, err
}

// checkFilter asks for a Shopify customer that cannot exist, because today's ids are shorter. If
// external_customer_id filters, the page is empty.
func (i *inspector) checkFilter(ctx context.Context) (Finding, error) {
	query := url.Values{"external_customer_id": {"900000000000000001"}, "limit": {"1"}}
	page, err := i.customerPage(ctx, i.grant, Normal, query)
	if len(page.Customers) > 0 {
		return Finding{}, &Error{Reason: FilterIgnored}
	}
	if err == nil && !i.someone {
		page, err = i.customerPage(ctx, i.grant, Normal, url.Values{"limit": {"1"}})
	}
	if err == nil && !i.someone && len(page.Customers) == 0 {
		err = &Error{Reason: NoCustomer}
	}
	return Finding{}, err
}

// checkSession makes a session, because we do not know for sure how Recharge spells its scope, or
// whether it needs a storefront token.
func (i *inspector) checkSession(ctx context.Context) (Finding, error) {
	missing := i.lacks("write_session", "write_sessions")
	switch {
	case i.customer.ID == 0 && missing != nil:
		return Finding{Missing: missing}, &Error{Reason: NoCustomer}
	case i.customer.ID == 0:
		return Finding{State: Skipped, Why: NoCustomer}, nil
	}
	var err error
	i.session, i.findings.Session, err = i.createSession(ctx, i.grant, i.customer, i.options.StorefrontToken)
	if Is(err, Forbidden) {
		return Finding{Missing: missing}, err
	}
	return Finding{}, err
}

// checkBare shows whether the store needs the storefront token. Its session is not used.
func (i *inspector) checkBare(ctx context.Context) (Finding, error) {
	if i.customer.ID == 0 || i.options.StorefrontToken == "" {
		return Finding{State: Skipped}, nil
	}
	_, _, err := i.createSession(ctx, i.grant, i.customer, "")
	return Finding{}, err
}

// checkPortal trusts the host that Recharge itself names.
func (i *inspector) checkPortal(ctx context.Context) (Finding, error) {
	if i.session.Token == "" {
		return Finding{State: Skipped}, nil
	}
	answer, target, err := i.askPortal(ctx, i.grant, i.customer, i.session, Visit{To: Subscriptions})
	if err != nil {
		return Finding{}, err
	}
	i.findings.Portal = i.portalFacts(answer, target)
	base, err := ParsePortalURL(answer.BaseURL, i.options.AppURL)
	// The base is kept for everybody's links, so it must not be one customer's.
	if err != nil || hasPart(base, i.customer.Hash) || hasPart(base, answer.TempToken) {
		return Finding{}, &Error{Reason: Malformed}
	}
	i.findings.Portal.Base = base.Host + base.Path
	named := guard{shop: i.options.Shop, portal: base}
	if named.refuses(target, i.customer.Hash) != "" {
		return Finding{}, &Error{Reason: LinkRefused}
	}
	i.findings.PortalURL = base.String()
	if i.asked.Link && i.findings.Portal.Opens {
		i.findings.Link = target
	}
	return Finding{Detail: base.Host}, nil
}

// portalFacts returns what the configured guard makes of a link, and when it expires.
func (i *inspector) portalFacts(answer portalAccess, target string) PortalFacts {
	facts := PortalFacts{LinkHost: "(strange)", Opens: i.guard.refuses(target, i.customer.Hash) == ""}
	if link, err := url.Parse(target); err == nil {
		facts.LinkHost, facts.Trusted = printable(link, i.customer.Hash), i.guard.trusts(link)
	}
	if expires := answer.expires(); !expires.IsZero() {
		_, err := time.Parse(time.RFC3339, answer.ExpiresAt)
		facts.Zone, facts.Expires = err == nil, expires.Sub(i.options.Now())
	}
	return facts
}

// hasPart reports whether a secret is part of a portal's host or path. Such a portal belongs to one
// customer, so nobody else's links can be built on it.
func hasPart(base *url.URL, secret string) bool {
	// Hosts are lowercase here.
	return secret != "" && strings.Contains(strings.ToLower(base.Host+base.Path), strings.ToLower(secret))
}

package recharge

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Check names what Inspect looks at.
type Check string

// The checks, in their order.
const (
	CheckToken     Check = "token"     // Recharge knows the token, and it may do what is needed
	CheckStore     Check = "store"     // it is this shop's
	CheckCustomers Check = "customers" // customers can be read
	CheckSessions  Check = "sessions"  // a session can be made for one of them
	CheckPortal    Check = "portal"    // and opens the portal
)

// State is how a check ended.
type State string

// The states.
const (
	Passed  State = "passed"
	Failed  State = "failed"  // has to be mended
	Warned  State = "warned"  // could be better, or could not be looked at now
	Skipped State = "skipped" // there was nothing to look at
)

// Finding is what came of one check.
type Finding struct {
	Check   Check
	State   State
	Why     Reason   // "" where it passed
	Missing []string // scopes that the token lacks
	Detail  string   // the portal's host
	Took    time.Duration
}

// Findings are what came of all of them.
type Findings struct {
	List      []Finding
	PortalURL string // base of links by hash, as Recharge says; "" if it does not
	Sessions  bool   // a real session has opened a link to the portal
}

// Usable tells whether shoppers can be let through, be it by hash: the token is
// right, this shop's, and may read customers.
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
	tell     func(Finding)
	findings Findings
	scopes   []string
	customer Customer // one of the store's; zero: none was there
	session  Session
}

// Inspect looks whether a shop's tokens will do, as far as a few calls can tell,
// and what the store is like. Each finding is told as soon as it is there. Of
// the customer that it tries a session with nothing is kept.
func Inspect(ctx context.Context, o Options, tell func(Finding)) Findings {
	i := &inspector{client: NewClient(o), tell: tell}
	for _, check := range []func(context.Context) Finding{i.token, i.store, i.customers, i.sessions, i.portal} {
		start := o.Now()
		finding := check(ctx)
		finding.Took = o.Now().Sub(start)
		i.findings.List = append(i.findings.List, finding)
		tell(finding)
		if finding.Check == CheckToken && finding.State != Passed || finding.Why == WrongStore {
			break // what follows would only say so again
		}
	}
	return i.findings
}

// The scopes that are looked for, each with the spellings that Recharge's own
// texts have for it.
func scopeRead() []string    { return []string{"read_customers", "read_customer", "write_customers"} }
func scopeSession() []string { return []string{"write_session", "write_sessions"} }
func scopeStore() []string   { return []string{"read_store", "store_info"} }

func (i *inspector) has(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(i.scopes, s) })
}

type tokenAnswer struct {
	Token *struct {
		Scopes []string `json:"scopes"`
	} `json:"token_information"`
}

func (i *inspector) token(ctx context.Context) Finding {
	answer, failed := do[tokenAnswer](ctx, i.client, i.get("token_information", nil))
	if failed == nil && answer.Token == nil {
		failed = &Error{Endpoint: "token_information", Reason: Malformed}
	}
	if failed != nil {
		return failing(CheckToken, failed)
	}
	i.scopes = answer.Token.Scopes
	if !i.has(scopeRead()) {
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

// store finds out whose the token is, if it may: one that was copied from another
// store's Recharge would open nothing, and nobody would know why.
func (i *inspector) store(ctx context.Context) Finding {
	if !i.has(scopeStore()) {
		return Finding{Check: CheckStore, State: Skipped, Why: Forbidden, Missing: scopeStore()[:1]}
	}
	answer, failed := do[storeAnswer](ctx, i.client, i.get("store", nil))
	if failed != nil {
		finding := failing(CheckStore, failed)
		finding.State = Warned
		return finding
	}
	identifier := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(answer.Store.Identifier, "https://"), "/"))
	switch {
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
	page, failed := do[customerPage](ctx, i.client, i.get("customers", url.Values{"limit": {"5"}}))
	if failed == nil && page.Customers == nil {
		failed = &Error{Endpoint: Customers, Reason: Malformed}
	}
	if failed != nil {
		return failing(CheckCustomers, failed)
	}
	for _, record := range *page.Customers {
		if customer, reason := record.customer(); reason == "" {
			i.customer = customer
			break
		}
	}
	return Finding{Check: CheckCustomers, State: Passed}
}

// sessions tries one: how Recharge spells the scope for it is not known for sure,
// nor whether it takes a storefront token.
func (i *inspector) sessions(ctx context.Context) Finding {
	switch {
	case i.customer.ID == 0 && !i.has(scopeSession()):
		return Finding{Check: CheckSessions, State: Warned, Why: NoCustomer, Missing: scopeSession()[:1]}
	case i.customer.ID == 0:
		return Finding{Check: CheckSessions, State: Skipped, Why: NoCustomer}
	}
	session, err := i.client.CreateSession(ctx, i.customer)
	var failed *Error
	if errors.As(err, &failed) {
		finding := failing(CheckSessions, failed)
		finding.State = Warned
		if failed.Reason == Forbidden && !i.has(scopeSession()) {
			finding.Missing = scopeSession()[:1]
		}
		return finding
	}
	i.session = session
	return Finding{Check: CheckSessions, State: Passed}
}

// portal trusts the host that Recharge itself names to who has the shop's token.
// The link is thrown away.
func (i *inspector) portal(ctx context.Context) Finding {
	if i.session.Token == "" {
		return Finding{Check: CheckPortal, State: Skipped}
	}
	access, failed := i.client.portalAccess(ctx, i.session, Subscriptions, "")
	if failed != nil {
		finding := failing(CheckPortal, failed)
		finding.State = Warned
		return finding
	}
	base, err := ParsePortalURL(access.BaseURL)
	target, ok := access.url(Subscriptions, "")
	switch {
	case err != nil || !ok || hasPart(base, i.customer.Hash) || hasPart(base, access.TempToken):
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

// hasPart tells a base that has a secret as a part of its host or path.
func hasPart(base *url.URL, secret string) bool {
	// Hosts are lowercase here.
	return secret != "" && strings.Contains(strings.ToLower(base.Host+base.Path), strings.ToLower(secret))
}

func (i *inspector) get(endpoint string, query url.Values) call {
	return call{endpoint: endpoint, urgency: helpful, method: http.MethodGet, path: []string{endpoint}, query: query, header: i.client.adminHeader()}
}

// failing is a check whose call gave nothing.
func failing(check Check, failed *Error) Finding {
	finding := Finding{Check: check, State: Failed, Why: failed.Reason}
	if failed.Reason.Passing() {
		finding.State = Warned
	}
	return finding
}

// Known fails with Unauthorized or Forbidden if Recharge does not take the
// client's token any more: the store has left Recharge, or has revoked it.
func (c *Client) Known(ctx context.Context) error {
	_, failed := do[tokenAnswer](ctx, c, call{
		endpoint: "token_information", urgency: helpful, method: http.MethodGet, path: []string{"token_information"}, header: c.adminHeader(),
	})
	return orNil(failed)
}

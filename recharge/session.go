package recharge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// sessionLife is how long a session lives, according to Recharge's documents.
	sessionLife = time.Hour
	// sessionMargin is how long before its end we stop using a session.
	sessionMargin = time.Minute
)

// Session is the right to act as one customer.
type Session struct {
	Token   string
	Expires time.Time // do not use it afterwards
}

// Recharge's documents spell each of these in two ways.
type sessionAnswer struct {
	Session struct {
		APIToken      string `json:"apiToken"`
		APITokenSnake string `json:"api_token"`
		CustomerID    number `json:"customerId"`
		CustomerSnake number `json:"customer_id"`
	} `json:"customer_session"`
}

// sessionClaims are what a session token says about itself.
type sessionClaims struct {
	Expires    float64 `json:"exp"` // seconds since 1970
	CustomerID number  `json:"customer_id"`
}

// CreateSession opens a session for a customer.
// Errors: Foreign if Recharge opens one for another customer, and those of any call.
func (c *Client) CreateSession(ctx context.Context, g *Grant, customer Customer) (Session, error) {
	session, _, err := c.createSession(ctx, g, customer, c.options.StorefrontToken)
	return session, err
}

func (c *Client) createSession(
	ctx context.Context, g *Grant, customer Customer, storefrontToken string,
) (Session, SessionFacts, error) {
	call := c.get(Normal, nil, "customers", strconv.FormatInt(customer.ID, 10), "sessions")
	call.endpoint, call.method, call.body = Sessions, http.MethodPost, "{}"
	if storefrontToken != "" {
		call.header.Set("X-Recharge-Storefront-Access-Token", storefrontToken)
	}
	answer, err := do[sessionAnswer](ctx, c, g, call)
	if err != nil {
		return Session{}, SessionFacts{}, err
	}
	return answer.session(customer, c.options.Now())
}

// session returns the session that Recharge has just made.
// Errors: Malformed, and Foreign if it is not the customer's.
func (a sessionAnswer) session(customer Customer, now time.Time) (Session, SessionFacts, error) {
	token, facts := a.Session.APIToken, SessionFacts{Key: "apiToken"}
	if token == "" {
		token, facts.Key = a.Session.APITokenSnake, "api_token"
	}
	if token == "" {
		return Session{}, SessionFacts{}, malformed(Sessions)
	}
	claims := readClaims(token)
	for _, id := range []number{a.Session.CustomerID, a.Session.CustomerSnake, claims.CustomerID} {
		if id != 0 && int64(id) != customer.ID {
			return Session{}, SessionFacts{}, &Error{Endpoint: Sessions, Reason: Foreign}
		}
	}
	end := now.Add(sessionLife)
	if claims.Expires > 0 {
		says := time.Unix(int64(min(claims.Expires, 1e10)), 0)
		facts.Lives = says.Sub(now)
		if says.Before(end) {
			end = says
		}
	}
	return Session{Token: token, Expires: end.Add(-sessionMargin)}, facts, nil
}

// readClaims reads a token's claims without verifying them: Recharge has just sent the token over
// TLS, and the claims are only used to refuse or expire it. A token that is not a JWT has none.
func readClaims(token string) sessionClaims {
	var claims sessionClaims
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	return claims
}

// PortalAccess asks for access to the customer's portal. The session must be the customer's. The
// link leads to the visit's destination. It is Recharge's own if there is one, and is otherwise
// built from the access. The access is zero if it cannot be used for other links.
// Errors: Foreign, Malformed, LinkRefused, and those of any call; Unauthorized means that the
// session has ended.
func (c *Client) PortalAccess(
	ctx context.Context, g *Grant, customer Customer, session Session, visit Visit,
) (Access, Link, error) {
	answer, target, err := c.askPortal(ctx, g, customer, session, visit)
	if bare := (Visit{To: visit.To, Return: visit.Return}); visit != bare && (Is(err, Invalid) || Is(err, BadRequest)) {
		// We do not know which locales and countries Recharge accepts. An unknown one is no reason
		// to sign the shopper out.
		return c.PortalAccess(ctx, g, customer, session, bare)
	}
	if err != nil {
		return Access{}, Link{}, err
	}
	access := answer.access()
	link, err := c.guarded(PortalAccess, target, customer, access.Expires)
	if err != nil {
		return Access{}, Link{}, err
	}
	if _, err := c.SignedInLink(customer, access, visit); err != nil {
		access = Access{}
	}
	return access, link, nil
}

// askPortal returns Recharge's answer and the link in it, which the guard has not checked.
func (c *Client) askPortal(
	ctx context.Context, g *Grant, customer Customer, session Session, visit Visit,
) (portalAccess, string, error) {
	query := visit.query()
	query.Set("shop_url", c.options.Shop)
	page, _ := visit.To.names()
	query.Set("page_destination", page)
	call := c.get(Normal, query, PortalAccess)
	call.header.Set("X-Recharge-Access-Token", session.Token)
	// As Recharge's own SDK sends them, since we do not know whether the route looks at them.
	call.header.Set("X-Recharge-App", "storefront-client")
	call.header.Set("X-Recharge-Sdk-App-Name", "manage-subscriptions")
	answer, err := do[portalAccess](ctx, c, g, call)
	if err != nil {
		return portalAccess{}, "", err
	}
	target, err := c.target(answer, customer, visit)
	return answer, target, err
}

type portalAccess struct {
	BaseURL      string `json:"base_url"`
	CustomerHash string `json:"customer_hash"`
	ExpiresAt    string `json:"expires_at"`
	PortalURL    string `json:"portal_url"`
	TempToken    string `json:"temp_token"`
}

// access returns the parts that links are built from. The part of Recharge's own link before the
// hash is preferred to base_url, so that built links lead to the same place as Recharge's on a
// store where the two differ.
func (a portalAccess) access() Access {
	base := a.BaseURL
	if before, _, ok := strings.Cut(a.PortalURL, "/"+a.CustomerHash+"/"); ok && a.CustomerHash != "" {
		base = before + "/"
	}
	return Access{Base: base, TempToken: a.TempToken, Expires: a.expires()}
}

// target returns Recharge's own link if Recharge can make one for the destination. It cannot for a
// single subscription or a task, so that link is built from the parts.
// Errors: Malformed if a part is missing, and Foreign if it is not the customer's.
func (c *Client) target(a portalAccess, customer Customer, visit Visit) (string, error) {
	target := a.PortalURL
	if visit.To.single() || target == "" {
		target = c.url(a.access(), a.CustomerHash, visit)
	}
	switch {
	case target == "" || a.CustomerHash == "":
		return "", malformed(PortalAccess)
	case a.CustomerHash != customer.Hash:
		return "", &Error{Endpoint: PortalAccess, Reason: Foreign}
	}
	return target, nil
}

// expires parses expires_at, which has been seen with and without a zone. Without one it is taken
// as UTC. An access lives for a day and is reused for minutes, so an error of some hours does no
// harm.
func (a portalAccess) expires() time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, a.ExpiresAt); err == nil {
			return t
		}
	}
	return time.Time{}
}

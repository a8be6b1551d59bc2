package recharge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// sessionLife is how long Recharge documents a session to live; a token
	// that does not say so itself is given a little less.
	sessionLife = time.Hour
	// sessionMargin is how long before its end a session is no longer used.
	sessionMargin = time.Minute
)

// Session is the right to act as one customer.
type Session struct {
	Token   string
	Expires time.Time // use it no longer than until then
}

// Recharge's own texts spell these in two ways each.
type sessionAnswer struct {
	Session struct {
		APIToken      string `json:"apiToken"`
		APITokenSnake string `json:"api_token"`
		CustomerID    number `json:"customerId"`
		CustomerSnake number `json:"customer_id"`
	} `json:"customer_session"`
}

// sessionClaims are what a session token says of itself.
type sessionClaims struct {
	Expires    float64 `json:"exp"` // seconds since 1970
	CustomerID number  `json:"customer_id"`
}

// CreateSession opens a session for a customer.
// Errors: Foreign if it is for someone else, and those of any call.
func (c *Client) CreateSession(ctx context.Context, customer Customer) (Session, error) {
	header := c.adminHeader()
	if c.options.StorefrontToken != "" {
		header.Set("X-Recharge-Storefront-Access-Token", c.options.StorefrontToken)
	}
	answer, failed := do[sessionAnswer](ctx, c, call{
		endpoint: Sessions,
		urgency:  helpful,
		method:   http.MethodPost,
		path:     []string{"customers", strconv.FormatInt(customer.ID, 10), "sessions"},
		header:   header,
	})
	if failed != nil {
		return Session{}, failed
	}
	token := answer.Session.APIToken
	if token == "" {
		token = answer.Session.APITokenSnake
	}
	if token == "" {
		return Session{}, &Error{Endpoint: Sessions, Reason: Malformed, Status: http.StatusOK}
	}
	claims := readClaims(token)
	for _, id := range []number{answer.Session.CustomerID, answer.Session.CustomerSnake, claims.CustomerID} {
		if id != 0 && int64(id) != customer.ID {
			return Session{}, &Error{Endpoint: Sessions, Reason: Foreign}
		}
	}
	return Session{Token: token, Expires: c.sessionEnd(claims)}, nil
}

// readClaims reads what the token says of itself, unverified: Recharge has just
// sent it over TLS, and its claims are only used to refuse or to forget it. A
// token that is no JWT says nothing, a claim that cannot be read is none.
func readClaims(token string) sessionClaims {
	var claims sessionClaims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims
	}
	if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
		_ = json.Unmarshal(payload, &claims)
	}
	return claims
}

func (c *Client) sessionEnd(claims sessionClaims) time.Time {
	end := c.options.Now().Add(sessionLife)
	if claims.Expires > 0 && claims.Expires < float64(end.Unix()) {
		end = time.Unix(int64(claims.Expires), 0)
	}
	return end.Add(-sessionMargin)
}

// SignedInLink returns a link that opens the customer's portal without another
// sign-in. The session must be the customer's.
// Errors: Foreign, LinkRefused, and those of any call; Unauthorized means that
// the session is over.
func (c *Client) SignedInLink(ctx context.Context, customer Customer, session Session, to Destination, locale Locale) (Link, error) {
	access, failed := c.portalAccess(ctx, session, to, locale)
	if failed != nil && (failed.Reason == Invalid || failed.Reason == BadRequest) && locale != "" {
		// Which languages Recharge knows is not known. One that it does not is no
		// reason to be signed out.
		return c.SignedInLink(ctx, customer, session, to, "")
	}
	if failed != nil {
		return Link{}, failed
	}
	target, ok := access.url(to, locale)
	if !ok || access.CustomerHash == "" {
		return Link{}, &Error{Endpoint: PortalAccess, Reason: Malformed, Status: http.StatusOK}
	}
	if access.CustomerHash != customer.Hash {
		return Link{}, &Error{Endpoint: PortalAccess, Reason: Foreign}
	}
	if detail := c.guard.refuses(target, customer.Hash); detail != "" {
		return Link{}, &Error{Endpoint: PortalAccess, Reason: LinkRefused, Detail: detail}
	}
	return Link{URL: target, Expires: access.expires()}, nil
}

func (c *Client) portalAccess(ctx context.Context, session Session, to Destination, locale Locale) (portalAccess, *Error) {
	return do[portalAccess](ctx, c, c.portalAccessCall(session, to, locale))
}

func (c *Client) portalAccessCall(session Session, to Destination, locale Locale) call {
	query := url.Values{"shop_url": {c.options.Shop}, "page_destination": {to.portalAccess()}}
	if locale != "" {
		query.Set("locale", string(locale))
	}
	return call{
		endpoint: PortalAccess,
		urgency:  helpful,
		method:   http.MethodGet,
		path:     []string{"portal_access"},
		query:    query,
		header: http.Header{
			"X-Recharge-Access-Token": {session.Token},
			// The SDK names itself here; whether the route asks for it is not known.
			"X-Recharge-App": {"manage-subscriptions"},
		},
	}
}

type portalAccess struct {
	BaseURL      string `json:"base_url"`
	CustomerHash string `json:"customer_hash"`
	ExpiresAt    string `json:"expires_at"`
	PortalURL    string `json:"portal_url"`
	TempToken    string `json:"temp_token"`
}

// url is Recharge's own link where it can make one for the destination. It
// cannot for a single subscription: that is put together from the parts.
func (a portalAccess) url(to Destination, locale Locale) (string, bool) {
	if !to.single() && a.PortalURL != "" {
		return a.PortalURL, true
	}
	base, err := url.Parse(a.BaseURL)
	if err != nil || a.BaseURL == "" || a.TempToken == "" {
		return "", false
	}
	query := url.Values{"token": {a.TempToken}}
	if locale != "" {
		query.Set("locale", string(locale))
	}
	return portalPage(base, a.CustomerHash, to, query), true
}

// expires reads expires_at, which was seen with and without a zone. Without one
// it is taken as UTC; a link is reused for a minute of the day it lives, so
// being some hours out does no harm.
func (a portalAccess) expires() time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, a.ExpiresAt); err == nil {
			return t
		}
	}
	return time.Time{}
}

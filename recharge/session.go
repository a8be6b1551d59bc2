package recharge

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
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

type sessionClaims struct {
	CustomerID number `json:"customer_id"`
	jwt.RegisteredClaims
}

// CreateSession opens a session for a customer.
// Errors: Foreign if it is for someone else, and those of any call.
func (c *Client) CreateSession(ctx context.Context, customer Customer) (Session, error) {
	header := c.adminHeader()
	if c.options.StorefrontToken != "" {
		header.Set("X-Recharge-Storefront-Access-Token", c.options.StorefrontToken)
	}
	// Recharge's own texts spell these in two ways each.
	var answer struct {
		Session struct {
			APIToken      string `json:"apiToken"`
			APITokenSnake string `json:"api_token"`
			CustomerID    number `json:"customerId"`
			CustomerSnake number `json:"customer_id"`
		} `json:"customer_session"`
	}
	failed := c.do(ctx, call{
		endpoint: "sessions",
		method:   http.MethodPost,
		path:     []string{"customers", strconv.FormatInt(customer.ID, 10), "sessions"},
		header:   header,
	}, &answer)
	if failed != nil {
		return Session{}, failed
	}
	token := answer.Session.APIToken
	if token == "" {
		token = answer.Session.APITokenSnake
	}
	if token == "" {
		return Session{}, &Error{Endpoint: "sessions", Reason: Malformed, Status: http.StatusOK}
	}
	claims := readClaims(token)
	for _, id := range []number{answer.Session.CustomerID, answer.Session.CustomerSnake, claims.CustomerID} {
		if id != 0 && int64(id) != customer.ID {
			return Session{}, &Error{Endpoint: "sessions", Reason: Foreign}
		}
	}
	return Session{Token: token, Expires: c.sessionEnd(claims)}, nil
}

// readClaims reads what the token says of itself, unverified: Recharge has just
// sent it over TLS, and its claims are only used to refuse or to forget it. A
// token that is no JWT says nothing.
func readClaims(token string) sessionClaims {
	var claims sessionClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return sessionClaims{}
	}
	return claims
}

func (c *Client) sessionEnd(claims sessionClaims) time.Time {
	end := c.options.Now().Add(sessionLife)
	if claims.ExpiresAt != nil && claims.ExpiresAt.Before(end) {
		end = claims.ExpiresAt.Time
	}
	return end.Add(-sessionMargin)
}

// SignedInLink returns a link that opens the customer's portal without another
// sign-in. The session must be the customer's.
// Errors: Foreign, LinkRefused, and those of any call; Unauthorized means that
// the session is over.
func (c *Client) SignedInLink(ctx context.Context, customer Customer, session Session, to Destination, locale Locale) (Link, error) {
	query := url.Values{"shop_url": {c.options.Shop}, "page_destination": {to.portalAccess()}}
	if locale != "" {
		query.Set("locale", string(locale))
	}
	var access portalAccess
	failed := c.do(ctx, call{
		endpoint: "portal_access",
		method:   http.MethodGet,
		path:     []string{"portal_access"},
		query:    query,
		header: http.Header{
			"X-Recharge-Access-Token": {session.Token},
			// The SDK names itself here; whether the route asks for it is not known.
			"X-Recharge-App": {"manage-subscriptions"},
		},
	}, &access)
	if failed != nil {
		return Link{}, failed
	}
	if access.CustomerHash != customer.Hash {
		return Link{}, &Error{Endpoint: "portal_access", Reason: Foreign}
	}
	target, ok := access.url(to, locale)
	if !ok {
		return Link{}, &Error{Endpoint: "portal_access", Reason: Malformed, Status: http.StatusOK}
	}
	if detail := c.guard.refuses(target, customer.Hash); detail != "" {
		return Link{}, &Error{Endpoint: "portal_access", Reason: LinkRefused, Detail: detail}
	}
	return Link{URL: target, Expires: access.expires()}, nil
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

package shopify

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	sessionLeeway = 10 * time.Second // how far Shopify's clock may be from ours
	sessionLife   = 10 * time.Minute // Shopify's tokens live for a minute; a much longer one is not from App Bridge
	sessionSize   = 4 << 10          // bytes; Shopify's have about 500
)

// Session is the content of a session token. It proves that a merchant's browser is in the admin of
// a shop that has the app.
type Session struct {
	Shop   Shop
	Issued time.Time
	User   string // Shopify's id of the staff member; "" if the token names none
}

// SessionTokens verifies App Bridge's session tokens.
// https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens
type SessionTokens struct {
	clientID string
	secrets  jwt.VerificationKeySet
	parser   *jwt.Parser
}

// NewSessionTokens verifies tokens for the app with that client ID, signed with any of its secrets.
func NewSessionTokens(clientID string, secrets []string, now func() time.Time) (*SessionTokens, error) {
	if clientID == "" || len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("the client id or a client secret is empty")
	}
	t := &SessionTokens{clientID: clientID, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithExpirationRequired(),
		jwt.WithNotBeforeRequired(),
		jwt.WithIssuedAt(), // which must not be in the future
		jwt.WithLeeway(sessionLeeway),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	)}
	for _, secret := range secrets {
		t.secrets.Keys = append(t.secrets.Keys, []byte(secret))
	}
	return t, nil
}

// tokenShape is stricter than the decoder, which skips line breaks. Compiled once and
// never changed.
var tokenShape = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// ErrNoSession is Verify's error. Its text has the cause for the log, and never the token.
var ErrNoSession = errors.New("no session token")

type sessionClaims struct {
	jwt.RegisteredClaims
	Destination string `json:"dest"` // https://<shop>
}

// Verify reads a session token. Its error is ErrNoSession.
func (t *SessionTokens) Verify(token string) (Session, error) {
	if len(token) > sessionSize || !tokenShape.MatchString(token) {
		return Session{}, refusedSession("missing, too long, or no token")
	}
	var claims sessionClaims
	_, err := t.parser.ParseWithClaims(token, &claims, func(unread *jwt.Token) (any, error) {
		if unread.Header["crit"] != nil { // names extensions that a reader must support
			return nil, jwt.ErrTokenUnverifiable
		}
		return t.secrets, nil
	})
	if err != nil {
		return Session{}, refusedSession(why(err))
	}
	return t.read(claims)
}

// why returns what is wrong with a token, without its content.
func why(err error) string {
	for _, known := range []error{
		jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenSignatureInvalid,
		jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenMalformed,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "not valid"
}

func (t *SessionTokens) read(claims sessionClaims) (Session, error) {
	name, https := strings.CutPrefix(claims.Destination, "https://")
	shop, err := ParseShop(name)
	issued := claims.NotBefore.Time
	if claims.IssuedAt != nil && claims.IssuedAt.Before(issued) {
		issued = claims.IssuedAt.Time
	}
	switch {
	case len(claims.Audience) != 1 || claims.Audience[0] != t.clientID:
		return Session{}, refusedSession("for another app")
	case !https || err != nil:
		return Session{}, refusedSession("its destination is not a shop")
	case claims.Issuer != claims.Destination+"/admin":
		return Session{}, refusedSession("issuer and destination differ")
	case claims.ExpiresAt.Sub(issued) > sessionLife:
		return Session{}, refusedSession("it lives too long")
	}
	session := Session{Shop: shop, Issued: issued}
	if isCustomer(claims.Subject) { // which has the same shape
		session.User = claims.Subject
	}
	return session, nil
}

func refusedSession(why string) error { return fmt.Errorf("%w: %s", ErrNoSession, why) }

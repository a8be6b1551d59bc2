package shopify

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// sessionLeeway is how far Shopify's clock may be from ours.
	sessionLeeway = 10 * time.Second
	// sessionLife is how long a session token may live at most. Shopify's live a
	// minute; one that lives for much longer was not made by App Bridge.
	sessionLife = 10 * time.Minute
	// sessionSize is more than any of Shopify's has: some 500 bytes.
	sessionSize = 4 << 10
)

// Session is what a session token says: a merchant's browser is in the admin of a
// shop that has the app.
type Session struct {
	Shop    Shop
	User    string // Shopify's id of the staff member
	Issued  time.Time
	Expires time.Time
}

// SessionTokens tells App Bridge's session tokens from all others.
// https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens
type SessionTokens struct {
	clientID string
	secrets  []string
	parser   *jwt.Parser
}

// NewSessionTokens reads the tokens of the app with that client id, signed with
// any of its secrets.
func NewSessionTokens(clientID string, secrets []string, now func() time.Time) (*SessionTokens, error) {
	if clientID == "" || len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("the client id or a client secret is empty")
	}
	return &SessionTokens{clientID, secrets, jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithExpirationRequired(),
		jwt.WithNotBeforeRequired(),
		jwt.WithLeeway(sessionLeeway),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	)}, nil
}

// tokenShape is stricter than the decoding, which skips line breaks. Compiled once
// and never changed.
var tokenShape = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// ErrNoSession is what Verify fails with: what was wrong stands behind it, for
// the log. It never holds the token.
var ErrNoSession = errors.New("no session token")

type sessionClaims struct {
	jwt.RegisteredClaims
	Destination string `json:"dest"` // https://<shop>
}

// Verify reads a session token.
func (t *SessionTokens) Verify(token string) (Session, error) {
	if len(token) > sessionSize || !tokenShape.MatchString(token) {
		return Session{}, refusedSession("missing, too long, or no token")
	}
	var claims sessionClaims
	var err error
	for _, secret := range t.secrets {
		claims = sessionClaims{}
		_, err = t.parser.ParseWithClaims(token, &claims, func(unread *jwt.Token) (any, error) {
			if unread.Header["crit"] != nil { // what must be understood, and is not
				return nil, jwt.ErrTokenUnverifiable
			}
			return []byte(secret), nil
		})
		if !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			break
		}
	}
	if err != nil {
		return Session{}, refusedSession(why(err))
	}
	return t.read(claims)
}

// why is what is wrong with a token, without what stands in it.
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
	if len(claims.Audience) != 1 || claims.Audience[0] != t.clientID {
		return Session{}, refusedSession("for another app")
	}
	name, ok := strings.CutPrefix(claims.Destination, "https://")
	shop, err := ParseShop(name)
	if !ok || err != nil {
		return Session{}, refusedSession("its destination is no shop")
	}
	if claims.Issuer != "https://"+string(shop)+"/admin" {
		return Session{}, refusedSession("issuer and destination are two shops")
	}
	issued := claims.NotBefore.Time
	if claims.IssuedAt != nil && claims.IssuedAt.Before(issued) {
		issued = claims.IssuedAt.Time
	}
	if claims.ExpiresAt.Sub(issued) > sessionLife {
		return Session{}, refusedSession("it lives too long")
	}
	return Session{Shop: shop, User: claims.Subject, Issued: issued, Expires: claims.ExpiresAt.Time}, nil
}

type refusedSession string

func (r refusedSession) Error() string { return ErrNoSession.Error() + ": " + string(r) }
func (r refusedSession) Unwrap() error { return ErrNoSession }

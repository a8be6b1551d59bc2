package shopify

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const sessionClient = "fixture-client-id"

var sessionSecrets = []string{"fixture-app-secret", "fixture-old-secret"}

func sessionTokens(t testing.TB, now time.Time) *SessionTokens {
	t.Helper()
	tokens, err := NewSessionTokens(sessionClient, sessionSecrets, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// sessionToken returns a token like App Bridge's, edited by change.
func sessionToken(t testing.TB, at time.Time, secret string, change func(header map[string]any, claims jwt.MapClaims)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "https://fixture-shop.myshopify.com/admin", "dest": "https://fixture-shop.myshopify.com", "aud": sessionClient, "sub": "42",
		"exp": at.Unix() + 60, "nbf": at.Unix(), "iat": at.Unix(), "jti": "1", "sid": "2",
	})
	if change != nil {
		change(token.Header, token.Claims.(jwt.MapClaims))
	}
	signed, err := token.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestSession: a good token is read, and everything else is rejected with an error that does not repeat it.
// handlers/admin_test.go tests the same on a running server.
func TestSession(t *testing.T) {
	now := time.Unix(1735689600, 0)
	claim := func(name string, value any) func(map[string]any, jwt.MapClaims) {
		return func(_ map[string]any, claims jwt.MapClaims) { claims[name] = value }
	}
	for name, test := range map[string]struct {
		token string
		good  bool
	}{
		"good":                   {sessionToken(t, now, sessionSecrets[0], nil), true},
		"the old secret":         {sessionToken(t, now, sessionSecrets[1], nil), true},
		"a list of one":          {sessionToken(t, now, sessionSecrets[0], claim("aud", []string{sessionClient})), true},
		"9 s early":              {sessionToken(t, now.Add(9*time.Second), sessionSecrets[0], nil), true},
		"9 s late":               {sessionToken(t, now.Add(-69*time.Second), sessionSecrets[0], nil), true},
		"another kid":            {sessionToken(t, now, sessionSecrets[0], func(h map[string]any, _ jwt.MapClaims) { h["kid"], h["jku"] = "x", "https://evil.example" }), true},
		"11 s early":             {sessionToken(t, now.Add(11*time.Second), sessionSecrets[0], nil), false},
		"11 s late":              {sessionToken(t, now.Add(-71*time.Second), sessionSecrets[0], nil), false},
		"another secret":         {sessionToken(t, now, "another", nil), false},
		"another app":            {sessionToken(t, now, sessionSecrets[0], claim("aud", "another")), false},
		"two apps":               {sessionToken(t, now, sessionSecrets[0], claim("aud", []string{sessionClient, "another"})), false},
		"capitals":               {sessionToken(t, now, sessionSecrets[0], claim("dest", "https://Fixture-shop.myshopify.com")), false},
		"a port":                 {sessionToken(t, now, sessionSecrets[0], claim("dest", "https://fixture-shop.myshopify.com:443")), false},
		"a path":                 {sessionToken(t, now, sessionSecrets[0], claim("dest", "https://fixture-shop.myshopify.com/")), false},
		"another issuer":         {sessionToken(t, now, sessionSecrets[0], claim("iss", "https://other-shop.myshopify.com/admin")), false},
		"an issuer's path":       {sessionToken(t, now, sessionSecrets[0], claim("iss", "https://fixture-shop.myshopify.com/admin/x")), false},
		"exp as text":            {sessionToken(t, now, sessionSecrets[0], claim("exp", "9999999999")), false},
		"exp far":                {sessionToken(t, now, sessionSecrets[0], claim("exp", 9999999999)), false},
		"exp far, not yet valid": {sessionToken(t, now, sessionSecrets[0], func(_ map[string]any, c jwt.MapClaims) { c["nbf"], c["exp"] = now.Unix()+3600, now.Unix()+3660 }), false},
		"an old iat, long life":  {sessionToken(t, now, sessionSecrets[0], claim("iat", now.Unix()-3600)), false},
		"iat in the future":      {sessionToken(t, now, sessionSecrets[0], claim("iat", now.Unix()+11)), false},
		"iat 9 s early":          {sessionToken(t, now, sessionSecrets[0], claim("iat", now.Unix()+9)), true},
		"None":                   {unsigned(`{"alg":"None","typ":"JWT"}`), false},
		"nOnE":                   {unsigned(`{"alg":"nOnE","typ":"JWT"}`), false},
		"no alg":                 {unsigned(`{"typ":"JWT"}`), false},
		"none":                   {unsigned(`{"alg":"none","typ":"JWT"}`), false},
		"HS512":                  {otherwise(t, jwt.SigningMethodHS512, now), false},
		"HS384":                  {otherwise(t, jwt.SigningMethodHS384, now), false},
		"crit":                   {sessionToken(t, now, sessionSecrets[0], func(h map[string]any, _ jwt.MapClaims) { h["crit"] = []string{"x"} }), false},
		"long":                   {strings.Repeat("a", 5000), false},
		"longest life":           {sessionToken(t, now, sessionSecrets[0], claim("exp", now.Unix()+600)), true},
		"a longer life":          {sessionToken(t, now, sessionSecrets[0], claim("exp", now.Unix()+601)), false},
		"no https":               {sessionToken(t, now, sessionSecrets[0], claim("dest", "http://fixture-shop.myshopify.com")), false},
		"no scheme":              {sessionToken(t, now, sessionSecrets[0], claim("dest", "fixture-shop.myshopify.com")), false},
		"no shop": {sessionToken(t, now, sessionSecrets[0], func(_ map[string]any, c jwt.MapClaims) {
			c["dest"], c["iss"] = "https://evil.example", "https://evil.example/admin"
		}), false},
		"no exp":              {sessionToken(t, now, sessionSecrets[0], without("exp")), false},
		"no nbf":              {sessionToken(t, now, sessionSecrets[0], without("nbf")), false},
		"no aud":              {sessionToken(t, now, sessionSecrets[0], without("aud")), false},
		"no iss":              {sessionToken(t, now, sessionSecrets[0], without("iss")), false},
		"no dest":             {sessionToken(t, now, sessionSecrets[0], without("dest")), false},
		"no iat":              {sessionToken(t, now, sessionSecrets[0], without("iat")), true},
		"RS256 by the secret": {sessionToken(t, now, sessionSecrets[0], func(h map[string]any, _ jwt.MapClaims) { h["alg"] = "RS256" }), false},
		"ES256 by the secret": {sessionToken(t, now, sessionSecrets[0], func(h map[string]any, _ jwt.MapClaims) { h["alg"] = "ES256" }), false},
		"another header":      {tampered(t, now, 0), false},
		"another payload":     {tampered(t, now, 1), false},
		"another signature":   {tampered(t, now, 2), false},
		"no signature":        {strings.TrimRight(sessionToken(t, now, sessionSecrets[0], nil), alphabet), false},
		"empty":               {"", false},
		"dots":                {"..", false},
		"padding":             {sessionToken(t, now, sessionSecrets[0], nil) + "=", false},
		"four parts":          {sessionToken(t, now, sessionSecrets[0], nil) + ".x", false},
		"a line break":        {sessionToken(t, now, sessionSecrets[0], nil) + "\n", false},
	} {
		session, err := sessionTokens(t, now).Verify(test.token)
		switch {
		case test.good && (err != nil || session.Shop != "fixture-shop.myshopify.com" || session.User != "42"):
			t.Errorf("%s: %+v, %v; want it taken", name, session, err)
		case !test.good && (!errors.Is(err, ErrNoSession) || session != Session{}):
			t.Errorf("%s: %+v, %v; want it refused", name, session, err)
		case err != nil && (strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "myshopify")):
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
	for _, subject := range []any{"", "gid://shopify/User/42", "4 2", nil} {
		session, err := sessionTokens(t, now).Verify(sessionToken(t, now, sessionSecrets[0], claim("sub", subject)))
		if err != nil || session.User != "" {
			t.Errorf("sub %v: %+v, %v; want it taken, without a staff member", subject, session, err)
		}
	}
	for _, secrets := range [][]string{nil, {""}, {"a", ""}} {
		if _, err := NewSessionTokens(sessionClient, secrets, time.Now); err == nil {
			t.Errorf("NewSessionTokens takes the secrets %q", secrets)
		}
	}
	if _, err := NewSessionTokens("", sessionSecrets, time.Now); err == nil {
		t.Error("NewSessionTokens takes an empty client id")
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func without(name string) func(map[string]any, jwt.MapClaims) {
	return func(_ map[string]any, claims jwt.MapClaims) { delete(claims, name) }
}

// tampered returns a good token with one bit changed at the end of a part.
func tampered(t *testing.T, now time.Time, part int) string {
	t.Helper()
	parts := strings.Split(sessionToken(t, now, sessionSecrets[0], nil), ".")
	last := len(parts[part]) - 1
	parts[part] = parts[part][:last] + string(alphabet[strings.IndexByte(alphabet, parts[part][last])^1])
	return strings.Join(parts, ".")
}

// otherwise returns a good token that is signed with another method.
func otherwise(t *testing.T, method jwt.SigningMethod, now time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": "https://fixture-shop.myshopify.com/admin", "dest": "https://fixture-shop.myshopify.com", "aud": sessionClient, "exp": now.Unix() + 60, "nbf": now.Unix(),
	}).SignedString([]byte(sessionSecrets[0]))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func unsigned(header string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(`{"iss":"https://fixture-shop.myshopify.com/admin","dest":"https://fixture-shop.myshopify.com","aud":"fixture-client-id","exp":1735689660,"nbf":1735689600}`)) + ".c2lnbmVk"
}

// FuzzSessionToken: no input makes Verify panic, and every accepted token is signed.
func FuzzSessionToken(f *testing.F) {
	now := time.Unix(1735689600, 0)
	f.Add(sessionToken(f, now, sessionSecrets[0], nil))
	f.Add(unsigned(`{"alg":"none"}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := sessionTokens(t, now).Verify(token); err != nil {
			return
		}
		at := strings.LastIndexByte(token, '.')
		for _, secret := range sessionSecrets {
			if signature, err := jwt.SigningMethodHS256.Sign(token[:at], []byte(secret)); err == nil && base64.RawURLEncoding.EncodeToString(signature) == token[at+1:] {
				return
			}
		}
		t.Errorf("Verify takes %q, which no secret has signed", token)
	})
}

package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
)

const (
	clientID      = "fixture-client-id"
	otherShop     = "other-shop.myshopify.com"
	encryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// many makes it a server for many stores.
func many(s *config.Settings) {
	s.ShopifyShop, s.RechargeAPIToken, s.RechargeStorefrontToken, s.RechargePortalURL = "", "", "", ""
	s.EncryptionKey = encryptionKey
}

// sessionToken is one as Shopify makes it, but for what change does to it.
func (f *fixture) sessionToken(change func(jwt.MapClaims)) string {
	f.t.Helper()
	return sign(f.t, f.claims(change), jwt.SigningMethodHS256, []byte(appSecret))
}

func (f *fixture) claims(change func(jwt.MapClaims)) jwt.MapClaims {
	now := f.clock.now().Unix()
	claims := jwt.MapClaims{
		"iss": "https://" + shop + "/admin", "dest": "https://" + shop, "aud": clientID, "sub": "42",
		"exp": now + 60, "nbf": now, "iat": now, "jti": "f8912129-1af6-4cad-9ca3-76b0f7621087", "sid": "aaea182f2732d44c",
	}
	if change != nil {
		change(claims)
	}
	return claims
}

// of is the change that makes a token another shop's.
func of(shop string) func(jwt.MapClaims) {
	return func(claims jwt.MapClaims) {
		claims["iss"], claims["dest"] = "https://"+shop+"/admin", "https://"+shop
	}
}

func sign(t *testing.T, claims jwt.MapClaims, method jwt.SigningMethod, key any) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ask is a call of the app home's, with a session token and a form; nil is a GET.
func (f *fixture) ask(path, token string, form url.Values, header ...string) (*http.Response, string) {
	f.t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequest(method, "http://"+f.public+path, strings.NewReader(form.Encode()))
	if err != nil {
		f.t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response, string(body)
}

func tokens() url.Values {
	return url.Values{"token": {apiToken}, "storefront": {strToken}, "secret": {whSecret}}
}

// connect connects the fixture's shop.
func (f *fixture) connect() {
	f.t.Helper()
	if _, body := f.ask("/app/connect", f.sessionToken(nil), tokens()); !strings.Contains(body, `data-result="saved"`) {
		f.t.Fatalf("connect: %s; want it saved", body)
	}
}

// calls of the app home that a session token is needed for.
func guarded() map[string]url.Values {
	return map[string]url.Values{
		"/app/connection": nil, "/app/health": nil,
		"/app/connect": tokens(), "/app/settings": {}, "/app/disconnect": {}, "/app/try": {"customer": {pat}},
	}
}

// TestSessionTokens: who has no token of this app's for a shop, made just now by
// Shopify, gets nowhere.
func TestSessionTokens(t *testing.T) {
	f := start(t, many)
	f.connect()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := f.clock.now().Unix()
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(claims jwt.MapClaims) { claims[name] = value }
	}
	without := func(name string) func(jwt.MapClaims) {
		return func(claims jwt.MapClaims) { delete(claims, name) }
	}
	for name, token := range map[string]string{
		"none":                   "",
		"not a token":            "x.y.z",
		"expired":                f.sessionToken(func(c jwt.MapClaims) { c["iat"], c["nbf"], c["exp"] = now-120, now-120, now-60 }),
		"not yet valid":          f.sessionToken(func(c jwt.MapClaims) { c["nbf"], c["exp"] = now+60, now+120 }),
		"for another app":        f.sessionToken(set("aud", "another-client-id")),
		"for two apps":           f.sessionToken(set("aud", []string{clientID, "another-client-id"})),
		"issued by another":      f.sessionToken(set("iss", "https://"+otherShop+"/admin")),
		"for another shop":       f.sessionToken(set("dest", "https://"+otherShop)),
		"for no shop":            f.sessionToken(of("evil.example")),
		"for a shop in a path":   f.sessionToken(of("evil.example/" + shop)),
		"by http":                f.sessionToken(set("dest", "http://"+shop)),
		"without exp":            f.sessionToken(without("exp")),
		"without nbf":            f.sessionToken(without("nbf")),
		"without aud":            f.sessionToken(without("aud")),
		"without dest":           f.sessionToken(without("dest")),
		"for a year":             f.sessionToken(set("exp", now+365*24*3600)),
		"alg=none":               sign(t, f.claims(nil), jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"HS512":                  sign(t, f.claims(nil), jwt.SigningMethodHS512, []byte(appSecret)),
		"RS256":                  sign(t, f.claims(nil), jwt.SigningMethodRS256, rsaKey),
		"RS256, secret as key":   retitled(f.sessionToken(nil), "RS256"),
		"another secret":         sign(t, f.claims(nil), jwt.SigningMethodHS256, []byte("another-secret")),
		"tampered":               f.sessionToken(nil) + "A",
		"the client id as key":   sign(t, f.claims(nil), jwt.SigningMethodHS256, []byte(clientID)),
		"signed by an empty key": sign(t, f.claims(nil), jwt.SigningMethodHS256, []byte{}),
	} {
		for path, form := range guarded() {
			response, body := f.ask(path, token, form)
			if response.StatusCode != http.StatusUnauthorized || body != "Unauthorized\n" || response.Header.Get("X-Shopify-Retry-Invalid-Session-Request") != "1" {
				t.Errorf("%s, %s = %d %q; want 401 that App Bridge answers with a new token", path, name, response.StatusCode, body)
			}
		}
		response, body := f.ask("/?embedded=1&shop="+shop+"&id_token="+url.QueryEscape(token), "", nil)
		if name != "none" && response.StatusCode != http.StatusFound || strings.Contains(body, "data-state") {
			t.Errorf("home, %s = %d; want the bounce", name, response.StatusCode)
		}
	}
	for name, token := range map[string]string{
		"the new secret": f.sessionToken(nil),
		"the old secret": sign(t, f.claims(nil), jwt.SigningMethodHS256, []byte(oldSecret)),
		"5 s early":      f.sessionToken(func(c jwt.MapClaims) { c["nbf"], c["iat"] = now+5, now+5 }),
		"aud as a list":  f.sessionToken(set("aud", []string{clientID})),
	} {
		if response, body := f.ask("/app/connection", token, nil); response.StatusCode != http.StatusOK || !strings.Contains(body, `data-state="connected"`) {
			t.Errorf("%s = %d %s; want it taken", name, response.StatusCode, body)
		}
	}
}

// retitled is a token that says of itself that it was signed in another way.
func retitled(token, algorithm string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	unsigned := fmt.Sprintf("%s.%s", base64URL(`{"alg":"`+algorithm+`","typ":"JWT"}`), payload)
	signature, err := jwt.SigningMethodHS256.Sign(unsigned, []byte(appSecret))
	if err != nil {
		panic(err)
	}
	return unsigned + "." + base64URL(string(signature))
}

func base64URL(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// TestSessionTokenOfBefore: one that was made before the app was uninstalled is
// not good for what comes after.
func TestSessionTokenOfBefore(t *testing.T) {
	f := start(t, many)
	f.connect()
	before := f.sessionToken(nil)
	if response, _ := f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret); response.StatusCode != http.StatusOK {
		t.Fatalf("app/uninstalled = %d; want 200", response.StatusCode)
	}
	for path, form := range guarded() {
		if response, _ := f.ask(path, before, form); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s after the uninstall = %d; want 401", path, response.StatusCode)
		}
	}
	if response, _ := f.ask("/?embedded=1&shop="+shop+"&id_token="+before, "", nil); response.StatusCode == http.StatusOK {
		t.Error("the home is drawn for a token of before the uninstall")
	}
	f.clock.add(12 * time.Second)
	after := f.sessionToken(nil) // installed again
	if response, body := f.ask("/app/connection", after, nil); response.StatusCode != http.StatusOK || !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("installed again = %d %s; want not connected", response.StatusCode, body)
	}
	f.until("it connects again", func() bool {
		_, body := f.ask("/app/connect", f.sessionToken(nil), tokens())
		return strings.Contains(body, `data-result="saved"`)
	})
	f.clock.add(80 * time.Second)
	if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
		t.Error("the uninstall of before has taken the new connection with it")
	}
}

// TestMerchantReachesOwnShopOnly: whatever a merchant sends beside the token, the
// shop is the token's.
func TestMerchantReachesOwnShopOnly(t *testing.T) {
	f := start(t, many)
	f.connect()
	foreign := f.sessionToken(of(otherShop))
	for path, form := range guarded() {
		sent := url.Values{"shop": {shop}, "dest": {"https://" + shop}, "myshopify_domain": {shop}}
		if form == nil {
			sent = nil
		}
		for name, values := range form {
			sent[name] = values
		}
		if path == "/app/connect" { // what would be saved is the fixture's: not the other shop's
			sent.Del("storefront")
		}
		f.ask(path+"?shop="+shop+"&host="+shop, foreign, sent, "X-Shopify-Shop-Domain", shop, "X-Forwarded-Host", shop, "Cookie", "shop="+shop)
	}
	if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) || !strings.Contains(body, f.store.URL) {
		t.Errorf("after what another shop's merchant sent: %s; want the shop connected as before", body)
	}
	_, body := f.ask("/app/connection?shop="+shop, f.sessionToken(of("third-shop.myshopify.com")), nil)
	if !strings.Contains(body, `data-state="not_connected"`) || strings.Contains(body, f.store.URL) {
		t.Errorf("another shop's merchant reads %s; want their own shop, not connected", body)
	}
	response, home := f.ask("/?shop="+shop+"&embedded=1&id_token="+f.sessionToken(of("third-shop.myshopify.com")), "", nil)
	if strings.Contains(home, ">"+shop+"<") || !strings.Contains(home, "third-shop.myshopify.com") {
		t.Errorf("the home with another shop in its address is drawn for that one: %s", home)
	}
	if policy := response.Header.Get("Content-Security-Policy"); strings.Contains(policy, "https://"+shop) {
		t.Errorf("Content-Security-Policy = %q; want the token's shop in it", policy)
	}
}

// TestCrossSite: another site's page changes nothing, even with a token.
func TestCrossSite(t *testing.T) {
	f := start(t, many)
	for path, form := range guarded() {
		if form == nil {
			continue
		}
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if response, _ := f.ask(path, f.sessionToken(nil), form, header...); response.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s with %s = %d; want 403", path, header, response.StatusCode)
			}
		}
	}
	if response, _ := f.ask("/app/settings", f.sessionToken(nil), url.Values{}, "Sec-Fetch-Site", "same-origin"); response.StatusCode != http.StatusOK {
		t.Errorf("from the app home itself = %d; want 200", response.StatusCode)
	}
}

// TestHomeIsFramedByTheAdminOnly, and bounces without a session token.
func TestHomeIsFramedByTheAdminOnly(t *testing.T) {
	f := start(t, many)
	response, body := f.ask("/?embedded=1&shop="+shop+"&host=YWRtaW4&id_token="+f.sessionToken(nil), "", nil)
	policy := response.Header.Get("Content-Security-Policy")
	if response.StatusCode != http.StatusOK || !strings.HasSuffix(policy, "; frame-ancestors "+f.store.URL+" https://admin.shopify.com") {
		t.Errorf("home = %d, policy %q; want the shop and the admin as frame-ancestors", response.StatusCode, policy)
	}
	if !strings.Contains(body, `<meta name="shopify-api-key" content="`+clientID+`">`) || !strings.Contains(body, `<script src="https://cdn.shopify.com/shopifycloud/app-bridge.js"></script>`) {
		t.Errorf("home = %s; want App Bridge in it", body)
	}
	for _, tag := range []string{"<script>", "onclick=", "style=", "javascript:"} {
		if strings.Contains(body, tag) {
			t.Errorf("home has %q in it, which its policy forbids", tag)
		}
	}

	response, _ = f.ask("/?embedded=1&shop="+shop+"&host=YWRtaW4&locale=de&hmac=00", "", nil)
	to, err := response.Location()
	if err != nil || response.StatusCode != http.StatusFound || to.Path != "/app/bounce" {
		t.Fatalf("home without a token = %d %v; want the bounce", response.StatusCode, to)
	}
	reload, err := url.Parse(to.Query().Get("shopify-reload"))
	if err != nil || reload.Host != "app.example" || reload.Path != "/" || reload.Query().Get("shop") != shop || reload.Query().Get("host") != "YWRtaW4" || reload.Query().Get("locale") != "de" {
		t.Errorf("shopify-reload = %v; want the home as it was asked for", reload)
	}
	response, body = f.ask(to.RequestURI(), "", nil)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "app-bridge.js") || !strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors "+f.store.URL+" https://admin.shopify.com") {
		t.Errorf("bounce = %d %s; want App Bridge, framed by the admin only", response.StatusCode, body)
	}
	// The reload comes back with a token that is not taken: not for ever.
	response, body = f.ask(reload.RequestURI()+"&id_token=x.y.z", "", nil)
	if response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "session token was not accepted") {
		t.Errorf("the second time = %d %s; want a page that says so", response.StatusCode, body)
	}
	for _, reload := range []string{"https://evil.example/", "https://app.example.evil.example/", "//evil.example", "/", "https://app.example@evil.example/", "javascript:alert(1)", "https://app.example/apps/subscriptions", ""} {
		if response, _ := f.ask("/app/bounce?shop="+shop+"&shopify-reload="+url.QueryEscape(reload), "", nil); response.StatusCode != http.StatusBadRequest {
			t.Errorf("bounce to %q = %d; want 400", reload, response.StatusCode)
		}
	}
	response, body = f.ask("/", "", nil)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "<h1>") || !strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("home from elsewhere = %d, %s; want a page that nobody frames", response.StatusCode, response.Header.Get("Content-Security-Policy"))
	}
}

// TestSavedSurvivesACrash: what was saved is there when Redis is back, killed
// though it was in the moment of "Saved".
func TestSavedSurvivesACrash(t *testing.T) {
	// Before 7.2 Redis cannot say when it has flushed.
	f := startWith(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), many)
	save := func(form url.Values) {
		f.until("it says that it is saved", func() bool { // connections of before the crash may be met
			_, body := f.ask("/app/settings", f.sessionToken(nil), form)
			return strings.Contains(body, ">Saved.<")
		})
	}
	for range 5 {
		f.connect()
		f.redis.Stop()
		f.stop()
		f.redis.Start()
		f.run(many) // a new process: it remembers nothing
		if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
			t.Fatalf("after the crash: %s; want connected", body)
		}
		save(url.Values{"accounts": {"legacy"}, "link": {"hash"}})
		f.redis.Stop()
		f.redis.Start()
		if _, body := f.ask("/app/connection", f.sessionToken(nil), nil); !strings.Contains(body, `<option value="legacy" selected>`) || !strings.Contains(body, `<option value="hash" selected>`) {
			t.Fatalf("after the second crash: %s; want what was chosen", body)
		}
		save(url.Values{})
	}
}

// TestNotSaved: without Redis nothing is said to be saved.
func TestNotSaved(t *testing.T) {
	f := start(t, many)
	f.connect()
	f.redis.Stop()
	if _, body := f.ask("/app/connect", f.sessionToken(nil), tokens()); strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect without Redis: %s; want it not saved", body)
	}
}

// TestRedisDownIsNoBadToken: a merchant is told what it is, and not sent to find
// another token.
func TestRedisDownIsNoBadToken(t *testing.T) {
	f := start(t, many)
	f.connect()
	f.redis.Stop()
	for path, form := range guarded() {
		if response, _ := f.ask(path, f.sessionToken(nil), form); response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s without Redis = %d; want 503", path, response.StatusCode)
		}
	}
	response, body := f.ask("/?embedded=1&shop="+shop+"&id_token="+f.sessionToken(nil), "", nil)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "reach our database right now") {
		t.Errorf("home without Redis = %d %s; want 503, and why", response.StatusCode, body)
	}
}

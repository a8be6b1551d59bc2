package servertest

import (
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// The settings that a server for many stores has besides the app's secret.
const (
	ClientID      = "fixture-client-id"
	EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// ManyStores changes the settings to those of a server for many stores.
func ManyStores(s *config.Settings) {
	s.ShopifyShop, s.RechargeAPIToken, s.RechargeStorefrontToken, s.RechargePortalURL = "", "", "", ""
	s.EncryptionKey = EncryptionKey
}

// SessionToken returns a session token like Shopify's, with its claims edited by change.
func (f *Fixture) SessionToken(change func(jwt.MapClaims)) string {
	f.T.Helper()
	return Sign(f.T, f.Claims(change), jwt.SigningMethodHS256, []byte(AppSecret))
}

// Claims returns the claims of a session token, edited by change.
func (f *Fixture) Claims(change func(jwt.MapClaims)) jwt.MapClaims {
	now := f.Clock.Now().Unix()
	claims := jwt.MapClaims{
		"iss": "https://" + Shop + "/admin", "dest": "https://" + Shop, "aud": ClientID, "sub": "42",
		"exp": now + 60, "nbf": now, "iat": now, "jti": "f8912129-1af6-4cad-9ca3-76b0f7621087", "sid": "aaea182f2732d44c",
	}
	if change != nil {
		change(claims)
	}
	return claims
}

// ForShop returns the change that makes a token another shop's.
func ForShop(shop string) func(jwt.MapClaims) {
	return func(claims jwt.MapClaims) {
		claims["iss"], claims["dest"] = "https://"+shop+"/admin", "https://"+shop
	}
}

// Sign signs a session token.
func Sign(t *testing.T, claims jwt.MapClaims, method jwt.SigningMethod, key any) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// AppHome sends a request of the app home with a session token, a POST of form or, if
// form is nil, a GET.
func (f *Fixture) AppHome(path, token string, form url.Values, header ...string) (*http.Response, string) {
	f.T.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequest(method, "http://"+f.Public+path, strings.NewReader(form.Encode()))
	if err != nil {
		f.T.Fatal(err)
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
	client := &http.Client{Timeout: time.Minute, CheckRedirect: noRedirect}
	response, err := client.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	return response, string(body)
}

// ConnectForm returns the form that connects the shop.
func ConnectForm() url.Values {
	return url.Values{"token": {APIToken}, "storefront": {StorefrontToken}, "secret": {WebhookSecret}}
}

// AllowOrders lets the Admin token read orders, too. Connecting detects that.
func (f *Fixture) AllowOrders() {
	f.Recharge.AddToken(rechargetest.Token{
		Value: APIToken, Scopes: []string{"read_customers", "write_session", "read_orders"},
		Rate: 1000, Burst: 10000, ClientSecret: WebhookSecret,
	})
}

// Connect connects the fixture's shop.
func (f *Fixture) Connect() {
	f.T.Helper()
	_, body := f.AppHome("/app/connect", f.SessionToken(nil), ConnectForm())
	if !strings.Contains(body, `data-result="saved"`) {
		f.T.Fatalf("connect: %s; want it saved", body)
	}
}

// Connected starts a server for many stores, connects the shop, and has Pat cached. The message that Recharge was
// asked to send has been answered, so that no later one is taken for it.
func Connected(t *testing.T) *Fixture {
	t.Helper()
	f := Start(t, ManyStores)
	f.Connect()
	f.Until("the webhooks are tested", func() bool { return len(f.Recharge.Deliveries()) > 0 })
	f.ClickAll(Pat, "")
	f.Calls()
	return f
}

// SaveElsewhere saves a connection as another instance would.
func (f *Fixture) SaveElsewhere(connection store.Connection) {
	f.T.Helper()
	key, err := base64.StdEncoding.DecodeString(EncryptionKey)
	if err != nil {
		f.T.Fatal(err)
	}
	beside, err := store.Open(store.Options{
		Redis: &redis.UniversalOptions{Addrs: []string{f.Redis.Addr}}, Keys: [][]byte{key},
		Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.T.Fatal(err)
	}
	defer beside.Close()
	if err := beside.SaveConnection(f.T.Context(), connection); err != nil {
		f.T.Fatal(err)
	}
}

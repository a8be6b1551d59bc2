package handlers_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
)

const (
	otherShop = "other-shop.myshopify.com"
)

// guarded returns the requests to the app home that need a session token.
func guarded() map[string]url.Values {
	return map[string]url.Values{
		"/app/connection": nil, "/app/health": nil,
		"/app/connect": servertest.ConnectForm(), "/app/settings": {}, "/app/disconnect": {}, "/app/try": {"customer": {servertest.Pat}},
	}
}

// TestSessionTokens checks that only a fresh session token from Shopify, for this app and for a
// shop, is accepted.
func TestSessionTokens(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := f.Clock.Now().Unix()
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(claims jwt.MapClaims) { claims[name] = value }
	}
	without := func(name string) func(jwt.MapClaims) {
		return func(claims jwt.MapClaims) { delete(claims, name) }
	}
	for name, token := range map[string]string{
		"none":                   "",
		"not a token":            "x.y.z",
		"expired":                f.SessionToken(func(c jwt.MapClaims) { c["iat"], c["nbf"], c["exp"] = now-120, now-120, now-60 }),
		"not yet valid":          f.SessionToken(func(c jwt.MapClaims) { c["nbf"], c["exp"] = now+60, now+120 }),
		"for another app":        f.SessionToken(set("aud", "another-client-id")),
		"for two apps":           f.SessionToken(set("aud", []string{servertest.ClientID, "another-client-id"})),
		"issued by another":      f.SessionToken(set("iss", "https://"+otherShop+"/admin")),
		"for another shop":       f.SessionToken(set("dest", "https://"+otherShop)),
		"for no shop":            f.SessionToken(servertest.ForShop("evil.example")),
		"for a shop in a path":   f.SessionToken(servertest.ForShop("evil.example/" + servertest.Shop)),
		"by http":                f.SessionToken(set("dest", "http://"+servertest.Shop)),
		"without exp":            f.SessionToken(without("exp")),
		"without nbf":            f.SessionToken(without("nbf")),
		"without aud":            f.SessionToken(without("aud")),
		"without dest":           f.SessionToken(without("dest")),
		"for a year":             f.SessionToken(set("exp", now+365*24*3600)),
		"alg=none":               servertest.Sign(t, f.Claims(nil), jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"HS512":                  servertest.Sign(t, f.Claims(nil), jwt.SigningMethodHS512, []byte(servertest.AppSecret)),
		"RS256":                  servertest.Sign(t, f.Claims(nil), jwt.SigningMethodRS256, rsaKey),
		"RS256, secret as key":   retitled(f.SessionToken(nil), "RS256"),
		"another secret":         servertest.Sign(t, f.Claims(nil), jwt.SigningMethodHS256, []byte("another-secret")),
		"tampered":               f.SessionToken(nil) + "A",
		"the client id as key":   servertest.Sign(t, f.Claims(nil), jwt.SigningMethodHS256, []byte(servertest.ClientID)),
		"signed by an empty key": servertest.Sign(t, f.Claims(nil), jwt.SigningMethodHS256, []byte{}),
	} {
		for path, form := range guarded() {
			response, body := f.AppHome(path, token, form)
			if response.StatusCode != http.StatusUnauthorized || body != "Unauthorized\n" || response.Header.Get("X-Shopify-Retry-Invalid-Session-Request") != "1" {
				t.Errorf("%s, %s = %d %q; want 401 that App Bridge answers with a new token", path, name, response.StatusCode, body)
			}
		}
		response, body := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+url.QueryEscape(token), "", nil)
		if name != "none" && response.StatusCode != http.StatusFound || strings.Contains(body, "data-state") {
			t.Errorf("home, %s = %d; want the bounce", name, response.StatusCode)
		}
	}
	for name, token := range map[string]string{
		"the new secret": f.SessionToken(nil),
		"the old secret": servertest.Sign(t, f.Claims(nil), jwt.SigningMethodHS256, []byte(servertest.OldAppSecret)),
		"5 s early":      f.SessionToken(func(c jwt.MapClaims) { c["nbf"], c["iat"] = now+5, now+5 }),
		"aud as a list":  f.SessionToken(set("aud", []string{servertest.ClientID})),
	} {
		if response, body := f.AppHome("/app/connection", token, nil); response.StatusCode != http.StatusOK || !strings.Contains(body, `data-state="connected"`) {
			t.Errorf("%s = %d %s; want it taken", name, response.StatusCode, body)
		}
	}
}

// retitled returns the token with another algorithm in its header, signed with HS256.
func retitled(token, algorithm string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	unsigned := fmt.Sprintf("%s.%s", base64URL(`{"alg":"`+algorithm+`","typ":"JWT"}`), payload)
	signature, err := jwt.SigningMethodHS256.Sign(unsigned, []byte(servertest.AppSecret))
	if err != nil {
		panic(err)
	}
	return unsigned + "." + base64URL(string(signature))
}

func base64URL(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// TestSessionTokenOfBefore checks that a token issued before the app was uninstalled is refused
// after that.
func TestSessionTokenOfBefore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	before := f.SessionToken(nil)
	if response, _ := f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret); response.StatusCode != http.StatusOK {
		t.Fatalf("app/uninstalled = %d; want 200", response.StatusCode)
	}
	for path, form := range guarded() {
		if response, _ := f.AppHome(path, before, form); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s after the uninstall = %d; want 401", path, response.StatusCode)
		}
	}
	if response, _ := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+before, "", nil); response.StatusCode == http.StatusOK {
		t.Error("the home accepts a token from before the uninstall")
	}
	f.Clock.Add(12 * time.Second)
	after := f.SessionToken(nil) // installed again
	if response, body := f.AppHome("/app/connection", after, nil); response.StatusCode != http.StatusOK || !strings.Contains(body, `data-state="not_connected"`) {
		t.Errorf("installed again = %d %s; want not connected", response.StatusCode, body)
	}
	f.Until("it connects again", func() bool {
		_, body := f.AppHome("/app/connect", f.SessionToken(nil), servertest.ConnectForm())
		return strings.Contains(body, `data-result="saved"`)
	})
	f.Clock.Add(80 * time.Second)
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
		t.Error("the earlier uninstall has erased the new connection")
	}
}

// TestMerchantReachesOwnShopOnly checks that the shop is the token's, whatever else a merchant
// sends.
func TestMerchantReachesOwnShopOnly(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	foreign := f.SessionToken(servertest.ForShop(otherShop))
	for path, form := range guarded() {
		sent := url.Values{"shop": {servertest.Shop}, "dest": {"https://" + servertest.Shop}, "myshopify_domain": {servertest.Shop}}
		if form == nil {
			sent = nil
		}
		for name, values := range form {
			sent[name] = values
		}
		if path == "/app/connect" { // it would save the fixture's token for the other shop
			sent.Del("storefront")
		}
		f.AppHome(path+"?shop="+servertest.Shop+"&host="+servertest.Shop, foreign, sent, "X-Shopify-Shop-Domain", servertest.Shop, "X-Forwarded-Host", servertest.Shop, "Cookie", "shop="+servertest.Shop)
	}
	if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) || !strings.Contains(body, f.Store.URL) {
		t.Errorf("after what another shop's merchant sent: %s; want the shop connected as before", body)
	}
	_, body := f.AppHome("/app/connection?shop="+servertest.Shop, f.SessionToken(servertest.ForShop("third-shop.myshopify.com")), nil)
	if !strings.Contains(body, `data-state="not_connected"`) || strings.Contains(body, f.Store.URL) {
		t.Errorf("another shop's merchant reads %s; want their own shop, not connected", body)
	}
	response, home := f.AppHome("/?shop="+servertest.Shop+"&embedded=1&id_token="+f.SessionToken(servertest.ForShop("third-shop.myshopify.com")), "", nil)
	if strings.Contains(home, ">"+servertest.Shop+"<") || !strings.Contains(home, "third-shop.myshopify.com") {
		t.Errorf("the home with another shop in its address is drawn for that one: %s", home)
	}
	if policy := response.Header.Get("Content-Security-Policy"); strings.Contains(policy, "https://"+servertest.Shop) {
		t.Errorf("Content-Security-Policy = %q; want the token's shop in it", policy)
	}
}

// TestCrossSite checks that another site's page can change nothing, even with a token.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	for path, form := range guarded() {
		if form == nil {
			continue
		}
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if response, _ := f.AppHome(path, f.SessionToken(nil), form, header...); response.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s with %s = %d; want 403", path, header, response.StatusCode)
			}
		}
	}
	if response, _ := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{}, "Sec-Fetch-Site", "same-origin"); response.StatusCode != http.StatusOK {
		t.Errorf("from the app home itself = %d; want 200", response.StatusCode)
	}
}

// TestHomeIsFramedByTheAdminOnly checks also that the home bounces without a session token.
func TestHomeIsFramedByTheAdminOnly(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	response, body := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&host=YWRtaW4&id_token="+f.SessionToken(nil), "", nil)
	policy := response.Header.Get("Content-Security-Policy")
	if response.StatusCode != http.StatusOK || !strings.HasSuffix(policy, "; frame-ancestors "+f.Store.URL+" https://admin.shopify.com") {
		t.Errorf("home = %d, policy %q; want the shop and the admin as frame-ancestors", response.StatusCode, policy)
	}
	// Merchants and other apps upload files to the same host.
	if !strings.Contains(policy, "script-src 'self' https://cdn.shopify.com/shopifycloud/;") {
		t.Errorf("policy %q; want scripts from Shopify's own folder only", policy)
	}
	if !strings.Contains(body, `<meta name="shopify-api-key" content="`+servertest.ClientID+`">`) || !strings.Contains(body, `<script src="https://cdn.shopify.com/shopifycloud/app-bridge.js"></script>`) {
		t.Errorf("home = %s; want App Bridge in it", body)
	}
	for _, tag := range []string{"<script>", "onclick=", "style=", "javascript:"} {
		if strings.Contains(body, tag) {
			t.Errorf("home has %q in it, which its policy forbids", tag)
		}
	}

	response, _ = f.AppHome("/?embedded=1&shop="+servertest.Shop+"&host=YWRtaW4&locale=de&hmac=00", "", nil)
	to, err := response.Location()
	if err != nil || response.StatusCode != http.StatusFound || to.Path != "/app/bounce" {
		t.Fatalf("home without a token = %d %v; want the bounce", response.StatusCode, to)
	}
	reload, err := url.Parse(to.Query().Get("shopify-reload"))
	if err != nil || reload.Host != "app.example" || reload.Path != "/" || reload.Query().Get("shop") != servertest.Shop || reload.Query().Get("host") != "YWRtaW4" || reload.Query().Get("locale") != "de" {
		t.Errorf("shopify-reload = %v; want the home as it was asked for", reload)
	}
	response, body = f.AppHome(to.RequestURI(), "", nil)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "app-bridge.js") || !strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors "+f.Store.URL+" https://admin.shopify.com") {
		t.Errorf("bounce = %d %s; want App Bridge, framed by the admin only", response.StatusCode, body)
	}
	// The reload returns with a token that is refused. That must not start a loop.
	response, body = f.AppHome(reload.RequestURI()+"&id_token=x.y.z", "", nil)
	if response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "Sitzungstoken von Shopify wurde nicht akzeptiert") || strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the second time = %d %s; want a page in the admin that says so", response.StatusCode, body)
	}
	for _, reload := range []string{"https://evil.example/", "https://app.example.evil.example/", "//evil.example", "/", "https://app.example@evil.example/", "javascript:alert(1)", "https://app.example/apps/subscriptions", "https://app.example/settings/..", "https://app.example/app/bounce", ""} {
		if response, _ := f.AppHome("/app/bounce?shop="+servertest.Shop+"&shopify-reload="+url.QueryEscape(reload), "", nil); response.StatusCode != http.StatusBadRequest {
			t.Errorf("bounce to %q = %d; want 400", reload, response.StatusCode)
		}
	}
	for _, reload := range []string{"&shopify-reload=https%3A%2F%2Fevil.example%2F", "&shopify-reload=https%3A%2F%2Fevil.example%2F%3F;&shopify-reload=https%3A%2F%2Fapp.example%2F"} {
		if response, _ := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil)+reload, "", nil); response.StatusCode != http.StatusBadRequest {
			t.Errorf("home with a good token and %s = %d; want 400", reload, response.StatusCode)
		}
	}
	response, body = f.AppHome("/", "", nil)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "<h1>") || !strings.Contains(response.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("home from elsewhere = %d, %s; want a page that nobody frames", response.StatusCode, response.Header.Get("Content-Security-Policy"))
	}
}

// TestPagesWithoutParameters: App Bridge may load a page in the admin's frame without any parameters. It goes to App
// Bridge for a session token, which names the shop, and back to the same page. No other site's frame shows it.
func TestPagesWithoutParameters(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	for _, page := range []string{"/", "/campaigns", "/try", "/keys", "/settings"} {
		response, _ := f.AppHome(page, "", nil, "Sec-Fetch-Dest", "iframe")
		to, err := response.Location()
		if err != nil || to.Path != "/app/bounce" {
			t.Fatalf("%s = %d %v; want the bounce", page, response.StatusCode, to)
		}
		reload, err := url.Parse(to.Query().Get("shopify-reload"))
		if err != nil || reload.Path != page || reload.Query().Has("shop") {
			t.Errorf("%s: shopify-reload = %v; want the same page", page, reload)
		}
		response, _ = f.AppHome(to.RequestURI(), "", nil, "Sec-Fetch-Dest", "iframe")
		if policy := response.Header.Get("Content-Security-Policy"); response.StatusCode != http.StatusOK || !strings.HasSuffix(policy, "; frame-ancestors https://admin.shopify.com") {
			t.Errorf("%s: bounce = %d, policy %q; want it framed by the admin only", page, response.StatusCode, policy)
		}
		response, body := f.AppHome(reload.RequestURI()+"&id_token="+f.SessionToken(nil), "", nil)
		if response.StatusCode != http.StatusOK || !strings.Contains(body, `data-shop="`+servertest.Shop+`"`) || !strings.HasSuffix(response.Header.Get("Content-Security-Policy"), "; frame-ancestors "+f.Store.URL+" https://admin.shopify.com") {
			t.Errorf("%s with a token = %d %s; want the token's shop", page, response.StatusCode, body)
		}
		response, body = f.AppHome(reload.RequestURI()+"&id_token=x.y.z", "", nil)
		if response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "session token was not accepted") {
			t.Errorf("%s, the second time = %d %s; want a page that says so", page, response.StatusCode, body)
		}
		response, _ = f.AppHome(page, "", nil, "Sec-Fetch-Dest", "document")
		if policy := response.Header.Get("Content-Security-Policy"); response.StatusCode != http.StatusOK || !strings.HasSuffix(policy, "; frame-ancestors 'none'") {
			t.Errorf("%s outside of a frame = %d, policy %q; want a page that nobody frames", page, response.StatusCode, policy)
		}
	}
}

// TestSavedSurvivesACrash checks that everything reported as saved is still there after Redis was
// killed right after "Saved".
func TestSavedSurvivesACrash(t *testing.T) {
	t.Parallel()
	// Redis before 7.2 has no WAITAOF, so it must flush at every write.
	f := servertest.StartWith(t, storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), servertest.ManyStores)
	save := func(form url.Values) {
		f.Until("it says that it is saved", func() bool { // connections from before the crash may fail
			_, body := f.AppHome("/app/settings", f.SessionToken(nil), form)
			return strings.Contains(body, ">Saved.<")
		})
	}
	for range 5 {
		f.Connect()
		f.Redis.Stop()
		f.Stop()
		f.Redis.Start()
		f.Run(servertest.ManyStores) // a new process, with an empty cache
		if _, body := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(body, `data-state="connected"`) {
			t.Fatalf("after the crash: %s; want connected", body)
		}
		save(url.Values{"accounts": {"legacy"}, "link": {"hash"}})
		f.Redis.Stop()
		f.Redis.Start()
		if _, body := f.AppHome("/app/settings", f.SessionToken(nil), nil); !strings.Contains(body, `<option value="legacy" selected>`) || !strings.Contains(body, `<option value="hash" selected>`) {
			t.Fatalf("after the second crash: %s; want what was chosen", body)
		}
		save(url.Values{})
	}
}

// TestNotSaved checks that nothing is reported as saved while Redis is down.
func TestNotSaved(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.Redis.Stop()
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), servertest.ConnectForm()); strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect without Redis: %s; want it not saved", body)
	}
}

// TestRedisDownIsNoBadToken checks that a merchant reads that Redis is down, and is not sent to get
// another token.
func TestRedisDownIsNoBadToken(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.Redis.Stop()
	for path, form := range guarded() {
		if response, _ := f.AppHome(path, f.SessionToken(nil), form); response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s without Redis = %d; want 503", path, response.StatusCode)
		}
	}
}

// TestRedisDownHome checks that the app home is drawn in the admin while Redis is down, that it says what clicks do
// then, and that the clicks do it.
func TestRedisDownHome(t *testing.T) {
	t.Parallel()
	const works, waits, notSetUp = "still reach their portal", "asks them to try again", "not set up"
	for name, tt := range map[string]struct {
		many, connected, restarted bool
		want, click                string
	}{
		"one store":                     {false, true, false, works, "1f2e3d4c5b6a7988"},
		"one store, restarted":          {false, true, true, works, "1f2e3d4c5b6a7988"},
		"many stores":                   {true, true, false, works, "1f2e3d4c5b6a7988"},
		"many stores, restarted":        {true, true, true, waits, "unavailable"},
		"many stores, not connected":    {true, false, false, waits, "unavailable"},
		"another's, which is one store": {false, false, false, notSetUp, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop, change := servertest.Shop, []func(*config.Settings){}
			if tt.many {
				change = append(change, servertest.ManyStores)
			}
			f := servertest.Start(t, change...)
			if tt.many && tt.connected {
				f.Connect()
			}
			if !tt.many && !tt.connected {
				shop = otherShop
			}
			if tt.restarted { // without Redis, since a server reads all records when it starts
				f.Restart(f.Redis.Stop, change...)
			}
			f.Redis.Stop()
			token := f.SessionToken(servertest.ForShop(shop))
			response, body := f.AppHome("/?embedded=1&host=YWRtaW4&shop="+shop+"&id_token="+token, "", nil)
			if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "reach our database right now") || !strings.Contains(body, tt.want) {
				t.Errorf("home without Redis = %d %s; want 503, why, and %q", response.StatusCode, body, tt.want)
			}
			if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors "+f.Store.URL) {
				t.Errorf("home without Redis: %s; want it framed by the shop's admin", policy)
			}
			if want := `data-home="/?embedded=1&amp;host=YWRtaW4&amp;shop=` + shop; !strings.Contains(body, want) || strings.Contains(body, token) {
				t.Errorf("home without Redis: %s; want %s, without the token", body, want)
			}
			if tt.click == "" {
				return
			}
			if got := f.LinkedHash(servertest.Pat); got != tt.click {
				t.Errorf("a click = %q; want %q, as the page says", got, tt.click)
			}
		})
	}
}

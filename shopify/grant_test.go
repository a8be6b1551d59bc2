package shopify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goshopify "github.com/bold-commerce/go-shopify/v4"

	"manage-subscriptions/shopify/shopifytest"
)

const grantTime = 1337178173

func grant(t *testing.T, secrets []string, at string) *Grant {
	t.Helper()
	platform := Platform{}
	if at != "" {
		platform.Shops = map[Shop]string{"": at}
	}
	g, err := NewGrant(GrantOptions{
		ClientID: "id", Secrets: secrets, CallbackURL: "https://app.example/app/installed", Platform: platform,
		Now: func() time.Time { return time.Unix(grantTime, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// callback is a query as Shopify signs it: sorted, joined as it is.
func callback(secret string, pairs ...string) string {
	message := strings.Join(pairs, "&")
	return message + "&hmac=" + hmacOf(secret, message)
}

func TestVerifyCallback(t *testing.T) {
	// The vector that go-shopify has, without the state that this app always has.
	const vector = "code=0907a61c0c8d55e99db179b68161bc00&shop=some-shop.myshopify.com&timestamp=1337178173"
	if got := hmacOf("hush", vector); got != "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20" {
		t.Fatalf("the vector signs as %s", got)
	}
	signed := &url.URL{RawQuery: vector + "&hmac=" + hmacOf("hush", vector)}
	if ok, err := (goshopify.App{ApiSecret: "hush"}).VerifyAuthorizationURL(signed); !ok || err != nil {
		t.Errorf("go-shopify refuses its own vector: %v", err)
	}
	good := []string{"code=0907a61c0c8d55e99db179b68161bc00", "host=YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvc29tZS1zaG9w", "shop=some-shop.myshopify.com", "state=ABC", "timestamp=1337178173"}
	with := func(i int, pair string) []string {
		changed := append([]string{}, good...)
		changed[i] = pair
		return changed
	}
	for name, test := range map[string]struct {
		query string
		good  bool
	}{
		"good":                  {callback("hush", good...), true},
		"the old secret":        {callback("old", good...), true},
		"the vector, no state":  {vector + "&hmac=4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20", false},
		"another secret":        {callback("other", good...), false},
		"no hmac":               {strings.Join(good, "&"), false},
		"hmac twice":            {callback("hush", good...) + "&hmac=" + strings.Repeat("0", 64), false},
		"hmac in capitals":      {strings.ToUpper(callback("hush", good...)), false},
		"shop twice":            {callback("hush", append(good, "shop=other-shop.myshopify.com")...), false},
		"state twice":           {callback("hush", append(good, "state=X")...), false},
		"a strange shop":        {callback("hush", with(2, "shop=evil.example")...), false},
		"a shop in capitals":    {callback("hush", with(2, "shop=Some-shop.myshopify.com")...), false},
		"a strange code":        {callback("hush", with(0, "code=a/b")...), false},
		"a strange state":       {callback("hush", with(3, "state=a b")...), false},
		"late":                  {callback("hush", with(4, "timestamp=1337178082")...), false},
		"early":                 {callback("hush", with(4, "timestamp=1337178264")...), false},
		"90 s early":            {callback("hush", with(4, "timestamp=1337178263")...), true},
		"one more, signed":      {callback("hush", append(good, "zone=eu")...), true},
		"90 s late":             {callback("hush", with(4, "timestamp=1337178083")...), true},
		"& inside a value":      {strings.Replace(callback("hush", good...), "&shop=", "%26shop=", 1), false},
		"= inside a name":       {strings.Replace(callback("hush", good...), "state=ABC", "state%3DABC=", 1), false},
		"a parameter more":      {callback("hush", good...) + "&x=1", false},
		"a signature beside":    {callback("hush", good...) + "&signature=1", false},
		"a semicolon":           {callback("hush", good...) + ";x", false},
		"a bad escape":          {callback("hush", good...) + "&x=%zz", false},
		"host with its padding": {callback("hush", with(1, "host=YWRtaW4uc2hvcGlmeS5jb20v==")...), true},
	} {
		got, err := grant(t, []string{"hush", "old"}, "").VerifyCallback(test.query)
		want := Callback{"some-shop.myshopify.com", "0907a61c0c8d55e99db179b68161bc00", "ABC"}
		if test.good && (err != nil || got != want) || !test.good && (!errors.Is(err, ErrNoGrant) || got != Callback{}) {
			t.Errorf("%s: %+v, %v; want it taken: %v", name, got, err, test.good)
		}
	}
}

// TestVerifyCallbackParameters: each is there once and in its shape, or it is the
// one that the log names, however well the query is signed.
func TestVerifyCallbackParameters(t *testing.T) {
	good := map[string]string{"code": "abc", "shop": "some-shop.myshopify.com", "state": "ABC", "timestamp": "1337178173"}
	for name, value := range good {
		for what, pairs := range map[string][]string{
			"missing": nil, "empty": {name + "="}, "bare": {name}, "twice": {name + "=" + value, name + "=" + value}, "a list": {name + "=" + value + "," + value},
			"misshapen": {name + "=<b>"}, "long": {name + "=" + strings.Repeat("a", 300)}, "with a line break": {name + "=" + value + "%0A"},
			"holding another": {name + "=" + value + "%26x%3D1"},
		} {
			for other, value := range good {
				if other != name {
					pairs = append(pairs, other+"="+value)
				}
			}
			query, err := url.ParseQuery(strings.Join(pairs, "&"))
			if err != nil {
				t.Fatal(err)
			}
			message, err := url.QueryUnescape(query.Encode())
			if err != nil {
				t.Fatal(err)
			}
			got, err := grant(t, []string{"hush"}, "").VerifyCallback(query.Encode() + "&hmac=" + hmacOf("hush", message))
			if !errors.Is(err, ErrNoGrant) || got != (Callback{}) || !strings.HasSuffix(err.Error(), ": "+name) {
				t.Errorf("%s %s: %+v, %v; want it refused for it", name, what, got, err)
			}
		}
	}
}

// TestVerifyCallbackResplit: go-shopify signs what is left when all escapes are
// undone, so that these sign as a good query does.
func TestVerifyCallbackResplit(t *testing.T) {
	const message = "code=abc&shop=some-shop.myshopify.com&state=ABC&timestamp=1337178173"
	for _, query := range []string{
		"code=abc%26shop%3Dsome-shop.myshopify.com&state=ABC&timestamp=1337178173",
		"code=abc&shop=some-shop.myshopify.com%26state%3DABC&timestamp=1337178173",
		"code=abc&shop=some-shop.myshopify.com&state=ABC%26timestamp%3D1337178173",
		"code=abc%26shop%3Dsome-shop.myshopify.com%26state%3DABC%26timestamp%3D1337178173",
		"code=abc&shop=some-shop.myshopify.com&state%3DABC%26timestamp=1337178173",
	} {
		query += "&hmac=" + hmacOf("hush", message)
		if ok, err := (goshopify.App{ApiSecret: "hush"}).VerifyAuthorizationURL(&url.URL{RawQuery: query}); !ok || err != nil {
			t.Errorf("%s does not sign as %s: it tries nothing", query, message)
		}
		if got, err := grant(t, []string{"hush"}, "").VerifyCallback(query); !errors.Is(err, ErrNoGrant) || got != (Callback{}) {
			t.Errorf("VerifyCallback(%s) = %+v, %v; want it refused", query, got, err)
		}
	}
}

func TestAuthorizeURL(t *testing.T) {
	got, err := url.Parse(grant(t, []string{"hush"}, "").AuthorizeURL("some-shop.myshopify.com", "ABC"))
	want := "client_id=id&redirect_uri=https%3A%2F%2Fapp.example%2Fapp%2Finstalled&scope=write_app_proxy&state=ABC"
	if err != nil || got.Host != "some-shop.myshopify.com" || got.Scheme != "https" || got.Path != "/admin/oauth/authorize" || got.RawQuery != want {
		t.Errorf("AuthorizeURL = %v, %v", got, err)
	}
	for _, secrets := range [][]string{nil, {""}} {
		if _, err := NewGrant(GrantOptions{ClientID: "id", Secrets: secrets, Now: time.Now}); err == nil {
			t.Errorf("NewGrant takes the secrets %q", secrets)
		}
	}
	if _, err := NewGrant(GrantOptions{Secrets: []string{"hush"}, Now: time.Now}); err == nil {
		t.Error("NewGrant takes an empty client id")
	}
}

// TestRedeem: only an exchange that yields a token proves anything, and nothing of
// the answer is kept or told.
func TestRedeem(t *testing.T) {
	const token = "shpat_very_secret"
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		good   bool
	}{
		"a token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"access_token":%q}`, token) }, true},
		"none":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) }, false},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, token) }, false},
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":"`+token+`"}`, http.StatusBadRequest)
		}, false},
		"a fault":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, token, http.StatusInternalServerError) }, false},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, false},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token":"`+strings.Repeat("a", 1<<20)+`"}`)
		}, false},
		"a number":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":1}`) }, false},
		"null":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `null`) }, false},
		"a list":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `[%q]`, token) }, false},
		"too many":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, token, http.StatusTooManyRequests) }, false},
		"no answer":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"empty body": {func(http.ResponseWriter, *http.Request) {}, false},
	} {
		var path atomic.Value
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/other" {
				fmt.Fprintf(w, `{"access_token":%q}`, token)
				return
			}
			path.Store(r.Method + " " + r.URL.Path)
			test.answer(w, r)
		}))
		err := grant(t, []string{"hush"}, server.URL).Redeem(t.Context(), "some-shop.myshopify.com", "code")
		if test.good != (err == nil) || err != nil && !errors.Is(err, ErrNoGrant) || path.Load() != "POST /admin/oauth/access_token" {
			t.Errorf("%s: %v by %s; want it to prove: %v", name, err, path.Load(), test.good)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error holds what was answered: %v", name, err)
		}
		server.Close()
	}
}

// TestRedeemGivesUp: a server that never answers keeps nobody longer than the
// caller waits.
func TestRedeemGivesUp(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client has left
		giveUp()
		<-r.Context().Done()
	}))
	defer server.Close()
	if err := grant(t, []string{"hush"}, server.URL).Redeem(ctx, "some-shop.myshopify.com", "code"); !errors.Is(err, ErrNoGrant) {
		t.Errorf("Redeem = %v; want ErrNoGrant", err)
	}
}

// TestRedeemAtTheEmulator goes the whole way of the grant.
func TestRedeemAtTheEmulator(t *testing.T) {
	const back = "https://app.example/app/installed"
	var late atomic.Int64 // seconds
	now := func() time.Time { return time.Unix(grantTime+late.Load(), 0) }
	store := shopifytest.NewServer(shopifytest.Options{Shop: "some-shop.myshopify.com", Now: now})
	defer store.Close()
	store.Register(shopifytest.PartnerApp{ClientID: "id", Secret: "hush", RedirectURLs: []string{back}, Scopes: grantScope, PathPrefix: "/apps/x"})
	by := func(secrets ...string) *Grant {
		g, err := NewGrant(GrantOptions{ClientID: "id", Secrets: secrets, CallbackURL: back, Platform: Platform{Shops: map[Shop]string{"": store.URL}}, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	approve := func() Callback {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, by("hush").AuthorizeURL("some-shop.myshopify.com", "ABC"), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		to, err := response.Location()
		if err != nil {
			t.Fatal(err)
		}
		callback, err := by("new", "hush").VerifyCallback(to.RawQuery)
		if err != nil || callback.Shop != "some-shop.myshopify.com" || callback.State != "ABC" {
			t.Fatalf("VerifyCallback = %+v, %v", callback, err)
		}
		return callback
	}
	for _, test := range []struct {
		name, secret string
		late         int64
		twice, good  bool
	}{
		{"at once", "hush", 0, false, true},
		{"twice", "hush", 0, true, false},
		{"a minute late", "hush", 60, false, true},
		{"too late", "hush", 61, false, false},
		{"another secret", "other", 0, false, false},
	} {
		code := approve().Code
		if test.twice {
			if err := by(test.secret).Redeem(t.Context(), "some-shop.myshopify.com", code); err != nil {
				t.Errorf("%s: %v at first", test.name, err)
			}
		}
		late.Add(test.late)
		err := by(test.secret).Redeem(t.Context(), "some-shop.myshopify.com", code)
		if (err == nil) != test.good || err != nil && !errors.Is(err, ErrNoGrant) {
			t.Errorf("%s: %v; want it to prove: %v", test.name, err, test.good)
		}
		if err != nil && strings.Contains(err.Error(), code) {
			t.Errorf("%s: the error holds the code: %v", test.name, err)
		}
	}
}

// TestDetectAccounts looks at the sign-in as a visitor sees it.
func TestDetectAccounts(t *testing.T) {
	form := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<form method="post" action="/account/login">`)
	}
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}
	}
	for name, test := range map[string]struct {
		login http.HandlerFunc
		want  string
	}{
		"a form":              {form, "legacy"},
		"to Shopify":          {to("https://shopify.com/1/account"), "new"},
		"to the account host": {to("https://account.brand.example/"), "new"},
		"authentication":      {to("/customer_authentication/redirect?locale=en"), "new"},
		"password page":       {to("/password"), ""},
		"another page":        {to("/challenge"), ""},
		"no form":             {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, ""},
		"forbidden":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, ""},
		"a loop":              {to("/account/login"), ""},
		"another scheme":      {to("ftp://brand.example/account/login"), ""},
	} {
		server := httptest.NewServer(test.login)
		got, err := DetectAccounts(t.Context(), Platform{Shops: map[Shop]string{"": server.URL}}, "some-shop.myshopify.com")
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
		server.Close()
	}
	own := httptest.NewServer(http.HandlerFunc(form))
	defer own.Close()
	shop := httptest.NewServer(to(own.URL + "/account/login"))
	defer shop.Close()
	if got, err := DetectAccounts(t.Context(), Platform{Shops: map[Shop]string{"": shop.URL}}, "some-shop.myshopify.com"); got != "legacy" {
		t.Errorf("by way of the store's own domain: %q, %v; want legacy", got, err)
	}
}

// TestPublicOnly: a store's own domain could be a name for a machine beside this
// one.
func TestPublicOnly(t *testing.T) {
	for address, want := range map[string]bool{
		"23.227.38.65:443": true, "[2620:127:f00f:e::]:443": true, "23.227.38.65:80": false, "23.227.38.65:6379": false,
		"127.0.0.1:443": false, "10.0.0.1:443": false, "172.16.0.1:443": false, "192.168.1.1:443": false, "169.254.169.254:443": false,
		"100.64.0.1:443": false, "0.0.0.0:443": false, "224.0.0.1:443": false, "255.255.255.255:443": false, "198.18.0.1:443": false,
		"[::1]:443": false, "[::]:443": false, "[fd00::1]:443": false, "[fe80::1]:443": false, "[::ffff:127.0.0.1]:443": false, "[::ffff:10.0.0.1]:443": false,
		"[64:ff9b::7f00:1]:443": false, "[::127.0.0.1]:443": false, "[fec0::1]:443": false, "192.0.2.1:443": false, "192.88.99.1:443": false, "[2002:7f00:1::]:443": false, "nonsense": false,
	} {
		if err := publicOnly("tcp", address, nil); (err == nil) != want {
			t.Errorf("dial %s: %v; want it let through: %v", address, err, want)
		}
	}
	if !public(netip.MustParseAddr("8.8.8.8")) {
		t.Error("a public address is none")
	}
}

func hmacOf(secret, message string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}

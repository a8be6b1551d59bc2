package handlers_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/internal/servertest"
	"manage-subscriptions/shopify/shopifytest"
)

// TestGrant installs from outside of the admin: the proof is for this browser, for
// this shop, and once.
func TestGrant(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	app := shopifytest.PartnerApp{
		ClientID: servertest.ClientID, Secret: servertest.AppSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.Public + "/apps/subscriptions",
	}
	f.Store.Register(app)
	begin := func(who *http.Client) (callback string) {
		response := get(f, who, "http://"+f.Public+"/app/install?shop="+servertest.Shop)
		to, err := response.Location()
		if err != nil || response.StatusCode != http.StatusFound || !strings.HasPrefix(to.String(), f.Store.URL+"/admin/oauth/authorize?") || to.Query().Get("scope") != "write_app_proxy" {
			t.Fatalf("install = %d %v; want Shopify's page to authorize", response.StatusCode, to)
		}
		cookie := response.Header.Get("Set-Cookie")
		for _, want := range []string{"__Host-ms_state=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("the state's cookie is %q; want %s in it", cookie, want)
			}
		}
		form, err := who.PostForm(to.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = form.Body.Close()
		back, err := form.Location()
		if err != nil || !strings.HasPrefix(back.String(), "https://app.example/app/installed?") {
			t.Fatalf("authorized = %d %v; want the way back", form.StatusCode, back)
		}
		return "http://" + f.Public + back.RequestURI()
	}
	pats, robins := newBrowser(t), newBrowser(t)
	callback := begin(pats)
	if response := get(f, robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("another browser comes back with it = %d; want 403", response.StatusCode)
	}
	begin(robins)
	if response := get(f, robins, callback); response.StatusCode != http.StatusForbidden {
		t.Errorf("a browser with another state comes back with it = %d; want 403", response.StatusCode)
	}
	cookie := pats.Jar.(*plainJar).header()
	response, body := f.AppHome(strings.TrimPrefix(callback, "http://"+f.Public), "", nil, "Cookie", cookie)
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || proof == nil || !strings.Contains(body, `data-state="not_connected"`) || strings.Contains(body, "app-bridge.js") {
		t.Fatalf("installed = %d %s; want the app home with a proof", response.StatusCode, body)
	}
	if response, _ := f.AppHome(strings.TrimPrefix(callback, "http://"+f.Public), "", nil, "Cookie", cookie); response.StatusCode != http.StatusForbidden {
		t.Errorf("the same again = %d; want 403", response.StatusCode)
	}
	if _, body := f.AppHome("/app/connect", proof[1], servertest.ConnectForm()); !strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect by the proof: %s; want it saved", body)
	}
	f.Clock.Add(50 * time.Second)
	response, _ = f.AppHome("/app/health", proof[1], nil)
	renewed := response.Header.Get("X-Proof")
	f.Clock.Add(50 * time.Second)
	for name, test := range map[string]struct {
		proof string
		want  int
	}{"the first": {proof[1], http.StatusUnauthorized}, "the one that came with an answer": {renewed, http.StatusOK}} {
		if response, _ := f.AppHome("/app/connection", test.proof, nil); response.StatusCode != test.want {
			t.Errorf("after 100 s, %s = %d; want %d", name, response.StatusCode, test.want)
		}
	}
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if response, _ := f.AppHome("/app/connection", renewed, nil); response.StatusCode != http.StatusUnauthorized || response.Header.Get("X-Proof") != "" {
		t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
	}
	granted := f.Store.GrantedTokens()
	if len(granted) == 0 {
		t.Fatal("no code was exchanged")
	}
	everything := f.Log.String()
	for key, value := range f.Redis.Dump() {
		everything += key + value
	}
	for _, token := range granted {
		if strings.Contains(everything, token) {
			t.Error("Shopify's token is kept, or logged")
		}
	}
	for name, path := range map[string]string{
		"no shop": "/app/install", "a host": "/app/install?shop=evil.example", "a path": "/app/install?shop=evil.example/.myshopify.com",
		"a user": "/app/install?shop=x@evil.example%23.myshopify.com",
	} {
		if response, _ := f.AppHome(path, "", nil); response.StatusCode != http.StatusBadRequest {
			t.Errorf("install with %s = %d; want 400", name, response.StatusCode)
		}
	}
}

// plainJar is a cookie jar that sends secure cookies to a test's http server, too.
type plainJar struct {
	http.CookieJar
	cookies map[string]string
}

func (j *plainJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, cookie := range cookies {
		j.cookies[cookie.Name] = cookie.Value
	}
	j.CookieJar.SetCookies(u, cookies)
}

func (j *plainJar) header() string {
	var pairs []string
	for name, value := range j.cookies {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{
		Jar: &plainJar{jar, map[string]string{}}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(f *servertest.Fixture, who *http.Client, address string) *http.Response {
	f.T.Helper()
	request, err := http.NewRequest("GET", address, nil)
	if err != nil {
		f.T.Fatal(err)
	}
	request.Header.Set("Cookie", who.Jar.(*plainJar).header())
	response, err := who.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

// TestProofsEnd: renewed with every answer, a proof is still no older than the
// grant, and an uninstall ends it.
func TestProofsEnd(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	proof := signedProof(f)
	for range 9 {
		f.Clock.Add(50 * time.Second)
		response, _ := f.AppHome("/app/connection", proof, nil)
		if proof = response.Header.Get("X-Proof"); proof == "" {
			t.Fatalf("a call in time = %d; want it renewed", response.StatusCode)
		}
	}
	renewed := 0
	for range 10 {
		f.Clock.Add(50 * time.Second)
		response, _ := f.AppHome("/app/connection", proof, nil)
		if next := response.Header.Get("X-Proof"); next != "" {
			proof, renewed = next, renewed+1
		}
	}
	if renewed > 2 {
		t.Errorf("after 10 minutes it was renewed %d times more; want the grant to end", renewed)
	}
	proof = signedProof(f)
	uninstalled := f.Clock.Now().Add(2 * time.Second)
	f.Clock.Add(5 * time.Second)
	response, _ := f.AppHome("/app/connection", proof, nil) // before the webhook is here
	proof = response.Header.Get("X-Proof")
	f.WebhookAt("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret, uninstalled, "late")
	for range 3 {
		if response, _ := f.AppHome("/app/connection", proof, nil); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a proof of before the uninstall = %d; want 401", response.StatusCode)
		}
		f.Clock.Add(40 * time.Second)
	}
}

// proof installs from outside of the admin.
func signedProof(f *servertest.Fixture) string {
	f.T.Helper()
	f.Store.Register(shopifytest.PartnerApp{
		ClientID: servertest.ClientID, Secret: servertest.AppSecret, Name: "Manage Subscriptions", AppURL: "https://app.example", RedirectURLs: []string{"https://app.example/app/installed"},
		Scopes: "write_app_proxy", PathPrefix: "/apps/other-path", ProxyURL: "http://" + f.Public + "/apps/subscriptions",
	})
	who := newBrowser(f.T)
	to, err := get(f, who, "http://"+f.Public+"/app/install?shop="+servertest.Shop).Location()
	if err != nil {
		f.T.Fatal(err)
	}
	response, err := who.PostForm(to.String(), nil)
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		f.T.Fatal(err)
	}
	_, body := f.AppHome(back.RequestURI(), "", nil, "Cookie", who.Jar.(*plainJar).header())
	proof := regexp.MustCompile(`<meta name="proof" content="([^"]+)">`).FindStringSubmatch(body)
	if proof == nil {
		f.T.Fatalf("no proof in %s", body)
	}
	return proof[1]
}

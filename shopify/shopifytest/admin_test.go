package shopifytest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"manage-subscriptions/shopify"
	"manage-subscriptions/shopify/shopifytest"
)

// embedded is an app that keeps what it is asked.
type embedded struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []*http.Request
	bodies []string
}

func (e *embedded) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.got)
}

const appID = "the-client-id"

// administered is a store whose admin knows an app that is not installed.
func administered(t *testing.T, change ...func(*shopifytest.PartnerApp)) (*shopifytest.Server, *embedded) {
	t.Helper()
	e := &embedded{status: http.StatusOK}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got, e.bodies = append(e.got, r), append(e.bodies, string(body))
		w.WriteHeader(e.status)
	}))
	t.Cleanup(e.Close)
	s := shopifytest.NewServer(shopifytest.Options{
		Shop: "some-shop.myshopify.com", Name: "Some Shop", Shoppers: []shopifytest.Shopper{{ID: "7", Email: "pat@example.test"}},
		WebhookRetry: func(int) time.Duration { return time.Millisecond },
	})
	t.Cleanup(s.Close)
	app := shopifytest.PartnerApp{
		ClientID: appID, Secret: "hush", OldSecret: "old", Name: "The App", AppURL: e.URL, RedirectURLs: []string{e.URL + "/back"}, Scopes: "write_app_proxy",
		Embedded: true, PathPrefix: "/apps/the-app", ProxyURL: e.URL + "/proxy", Webhooks: e.URL + "/webhooks",
	}
	for _, edit := range change {
		edit(&app)
	}
	s.Register(app)
	return s, e
}

func ask(t *testing.T, method, address string, form url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// TestAdminInstalls goes the merchant's way by hand: the app's path lives from
// install to uninstall.
func TestAdminInstalls(t *testing.T) {
	s, _ := administered(t)
	path := func() int { response, _ := ask(t, "GET", s.URL+"/apps/the-app/x", nil); return response.StatusCode }
	if _, page := ask(t, "GET", s.URL+"/admin", nil); !strings.Contains(page, `data-install="the-client-id"`) || path() != http.StatusNotFound {
		t.Errorf("before: %s; want a button to install it", page)
	}
	consent := s.URL + "/admin/oauth/install?client_id=" + appID
	if _, page := ask(t, "GET", consent, nil); !strings.Contains(page, "/apps/the-app") {
		t.Errorf("consent: %s; want what it may do", page)
	}
	if response, _ := ask(t, "POST", consent, nil, "Origin", "https://evil.example"); response.StatusCode != http.StatusForbidden || s.Installed(appID) {
		t.Errorf("installed by another site = %d; want 403", response.StatusCode)
	}
	response, _ := ask(t, "POST", consent, nil)
	if to := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || to != "/admin/apps/the-client-id" || path() != http.StatusOK {
		t.Errorf("install = %d %q; want the app opened, and its path live", response.StatusCode, to)
	}
	ask(t, "POST", s.URL+"/admin/apps/the-client-id/uninstall", nil)
	if s.Installed(appID) || path() != http.StatusNotFound {
		t.Error("uninstalled, it is still there")
	}
	eventually(t, "app/uninstalled", func() bool { return len(s.WebhookDeliveries()) == 1 })
	for name, page := range map[string]string{
		"customers": "data_request", "webhooks": "app/uninstalled", "themes/current/editor?template=index&addAppBlockId=the-client-id/the-block": "the-block",
		"themes/current/editor?activateAppId=the-client-id/the-embed": "turned on", "apps/another": "No such app",
	} {
		if _, got := ask(t, "GET", s.URL+"/admin/"+name, nil); !strings.Contains(got, page) {
			t.Errorf("/admin/%s: %s; want %s", name, got, page)
		}
	}
	if _, script := ask(t, "GET", s.URL+"/cdn/shopifycloud/app-bridge.js", nil); !strings.Contains(script, "shopify-reload") {
		t.Error("there is no App Bridge")
	}
}

// TestAdminFrame: how the app is loaded, and that the tokens are good.
func TestAdminFrame(t *testing.T) {
	s, e := administered(t)
	tokens, err := shopify.NewSessionTokens(appID, []string{"hush"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	fresh := s.URL + "/admin/apps/the-client-id/session-token"
	if response, _ := ask(t, "POST", fresh, nil); response.StatusCode != http.StatusNotFound {
		t.Errorf("a token for an app that is not installed = %d; want 404", response.StatusCode)
	}
	s.Install(appID)
	source := func(query string) url.Values {
		t.Helper()
		_, page := ask(t, "GET", s.URL+"/admin/apps/the-client-id"+query, nil)
		_, rest, _ := strings.Cut(page, `src="`)
		address, _, _ := strings.Cut(rest, `"`)
		u, err := url.Parse(strings.ReplaceAll(address, "&amp;", "&"))
		if err != nil || !strings.HasPrefix(u.String(), e.URL+"/?") {
			t.Fatalf("the frame shows %q", address)
		}
		return u.Query()
	}
	query := source("")
	session, err := tokens.Verify(query.Get("id_token"))
	if err != nil || session.Shop != "some-shop.myshopify.com" || query.Get("embedded") != "1" || query.Get("shop") != string(session.Shop) || query.Get("host") == "" || query.Get("hmac") == "" {
		t.Errorf("the frame is loaded with %v: %v", query, err)
	}
	if query := source("?first=bare"); query.Has("id_token") {
		t.Error("?first=bare has a token")
	}
	s.SetFaults(func(f *shopifytest.Faults) { f.NoIDToken = true })
	if query := source(""); query.Has("id_token") {
		t.Error("with NoIDToken there is a token")
	}
	_, body := ask(t, "POST", fresh, nil)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(answer.Token); err != nil {
		t.Errorf("a fresh token: %v", err)
	}
	if response, _ := ask(t, "POST", fresh, nil, "Sec-Fetch-Site", "cross-site"); response.StatusCode != http.StatusForbidden {
		t.Errorf("a token for another site = %d; want 403", response.StatusCode)
	}
}

// TestAdminGrant is the code grant: asked for by who has registered the address,
// good once.
func TestAdminGrant(t *testing.T) {
	s, e := administered(t, func(a *shopifytest.PartnerApp) { a.LegacyInstall = true })
	response, _ := ask(t, "POST", s.URL+"/admin/oauth/install?client_id="+appID, nil)
	if to := response.Header.Get("Location"); !strings.HasPrefix(to, e.URL+"/?") || !strings.Contains(to, "hmac=") || s.Installed(appID) {
		t.Errorf("a legacy install leads to %q; want the app's own address, signed", to)
	}
	authorize := func(back string) string {
		return s.URL + "/admin/oauth/authorize?" + url.Values{"client_id": {appID}, "redirect_uri": {back}, "scope": {"write_app_proxy"}, "state": {"S"}}.Encode()
	}
	if response, _ := ask(t, "POST", authorize("https://evil.example/"), nil); response.StatusCode != http.StatusBadRequest {
		t.Errorf("an address that is not registered = %d; want 400", response.StatusCode)
	}
	response, _ = ask(t, "POST", authorize(e.URL+"/back"), nil)
	to, err := response.Location()
	if err != nil || !s.Installed(appID) || to.Query().Get("state") != "S" {
		t.Fatalf("authorized: %v %v", to, err)
	}
	if response, _ := ask(t, "GET", authorize(e.URL+"/back"), nil); response.StatusCode != http.StatusFound {
		t.Errorf("an installed app is asked for again: %d; want it sent on at once", response.StatusCode)
	}
	exchange := func(secret, code string) int {
		response, _ := ask(t, "POST", s.URL+"/admin/oauth/access_token", url.Values{"client_id": {appID}, "client_secret": {secret}, "code": {code}})
		return response.StatusCode
	}
	code := to.Query().Get("code")
	if got := []int{exchange("wrong", code), exchange("hush", code), exchange("hush", code)}; got[0] != 400 || got[1] != 200 || got[2] != 400 || len(s.GrantedTokens()) != 1 {
		t.Errorf("exchanged by a wrong secret, the right one, and again: %v; want only the second", got)
	}
}

// TestAdminWebhooks: signed, sent again with the same id, and not for ever.
func TestAdminWebhooks(t *testing.T) {
	s, e := administered(t)
	verifier, err := shopify.NewVerifier([]string{"hush"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	e.status = http.StatusInternalServerError
	s.Redact("7")
	eventually(t, "nine tries", func() bool { return len(s.WebhookDeliveries()) == 9 })
	webhook, err := verifier.VerifyWebhook(e.got[0].Header, []byte(e.bodies[0]))
	if err != nil || webhook.Topic != shopify.CustomersRedact || webhook.Customer != "7" || webhook.Shop != "some-shop.myshopify.com" || webhook.Triggered.IsZero() {
		t.Errorf("customers/redact = %+v, %v", webhook, err)
	}
	ids := map[string]bool{}
	for _, delivery := range s.WebhookDeliveries() {
		ids[delivery.ID] = true
	}
	if len(ids) != 1 || e.count() != 9 {
		t.Errorf("nine tries have %d ids, and %d arrived; want one", len(ids), e.count())
	}
	e.mu.Lock()
	e.status = http.StatusOK
	e.mu.Unlock()
	s.SetFaults(func(f *shopifytest.Faults) { f.WebhooksTwice = true })
	s.RedactShop()
	s.RequestData("7")
	eventually(t, "both, twice", func() bool { return e.count() == 13 })
	s.SetFaults(func(f *shopifytest.Faults) { f.WebhooksTwice, f.OldSecret = false, true })
	s.RedactShop()
	eventually(t, "one more", func() bool { return e.count() == 14 })
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := verifier.VerifyWebhook(e.got[13].Header, []byte(e.bodies[13])); err == nil {
		t.Error("signed with the old secret it verifies with the new one")
	}
}

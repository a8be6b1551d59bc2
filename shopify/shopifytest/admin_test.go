package shopifytest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// embedded is an app that records the requests that it gets.
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

// administered returns a store whose admin knows an app that is not installed.
func administered(t *testing.T, change ...func(*shopifytest.PartnerApp)) (*shopifytest.Server, *embedded) {
	t.Helper()
	return store(t, func(*shopifytest.Options) {}, change...)
}

// store is administered with other options.
func store(t *testing.T, of func(*shopifytest.Options), change ...func(*shopifytest.PartnerApp)) (*shopifytest.Server, *embedded) {
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
	options := shopifytest.Options{
		Shop: "some-shop.myshopify.com", Name: "Some Shop", Shoppers: []shopifytest.Shopper{{ID: "7", Email: "pat@example.test"}},
		WebhookRetry: func(int) time.Duration { return time.Millisecond },
	}
	of(&options)
	s := shopifytest.NewServer(options)
	t.Cleanup(s.Close)
	app := shopifytest.PartnerApp{
		ClientID: appID, Secret: "hush", OldSecret: "old", Name: "The App", AppURL: e.URL, Scopes: "write_app_proxy",
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
			t.Fatalf("timed out: %s", what)
		}
	}
}

// TestAdminInstalls follows the merchant's steps. The app's path works from install to uninstall.
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
	link := s.URL + "/store/some-shop/oauth/install?client_id=" + appID
	if response, _ := ask(t, "GET", link, nil); response.Header.Get("Location") != "/admin/apps/the-client-id" {
		t.Errorf("the install link of an installed app = %d; want the app opened", response.StatusCode)
	}
	ask(t, "POST", s.URL+"/admin/apps/the-client-id/uninstall", nil)
	if response, page := ask(t, "GET", link, nil); response.StatusCode != http.StatusOK || !strings.Contains(page, `action="/store/some-shop/oauth/install?client_id=the-client-id"`) {
		t.Errorf("the install link = %d: %s; want the merchant asked", response.StatusCode, page)
	}
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
	for file, part := range map[string]string{"app-bridge.js": "shopify-reload", "polaris-1.js": "s-page", "polaris-2.js": "s-page", "polaris.js": "404"} {
		if _, script := ask(t, "GET", s.URL+"/cdn/shopifycloud/"+file, nil); !strings.Contains(script, part) {
			t.Errorf("%s = %s; want %s in it", file, script, part)
		}
	}
}

// TestAdminButtons: each button is a form that does what it says, and does nothing for another
// site.
func TestAdminButtons(t *testing.T) {
	s, _ := administered(t)
	sent := 0
	for _, test := range []struct {
		path, topic string
		status      int
	}{
		{"/admin/customers/7/data_request", "customers/data_request", 303},
		{"/admin/customers/7/redact", "customers/redact", 303},
		{"/admin/redact", "shop/redact", 303},
		{"/admin/customers/7/wave", "", 404},
		{"/admin/customers/pat/redact", "", 303},
		{"/admin/apps/the-client-id/uninstall", "", 303}, // not installed
		{"/admin/apps/another/uninstall", "", 303},
		{"/admin/oauth/install?client_id=another", "", 404},
		{"/store/some-shop/oauth/install?client_id=another", "", 404},
	} {
		if response, _ := ask(t, "POST", s.URL+test.path, nil, "Sec-Fetch-Site", "cross-site"); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s by another site = %d; want 403", test.path, response.StatusCode)
		}
		if response, _ := ask(t, "POST", s.URL+test.path, nil); response.StatusCode != test.status {
			t.Errorf("%s = %d; want %d", test.path, response.StatusCode, test.status)
		}
		if test.topic == "" {
			continue
		}
		sent++
		eventually(t, test.topic, func() bool { return len(s.WebhookDeliveries()) == sent })
		if got := s.WebhookDeliveries()[sent-1]; got.Topic != test.topic || got.Status != http.StatusOK || got.Try != 1 {
			t.Errorf("%s sends %+v; want %s", test.path, got, test.topic)
		}
	}
	s.Close()
	if got := len(s.WebhookDeliveries()); got != sent {
		t.Errorf("%d webhooks were sent; want %d", got, sent)
	}
}

// TestAdminOpens: an app that is not installed is offered for installation, and an app that is not
// embedded opens outside the admin.
func TestAdminOpens(t *testing.T) {
	for name, test := range map[string]struct {
		slash, install bool
		want           string // after the app's address, or the store's
	}{
		"not installed": {false, false, "/admin/oauth/install?client_id=the-client-id"},
		"installed":     {false, true, "/?"},
		"with a slash":  {true, true, "/?"},
	} {
		s, e := administered(t, func(a *shopifytest.PartnerApp) {
			a.Embedded = false
			if test.slash {
				a.AppURL += "/"
			}
		})
		at := ""
		if test.install {
			s.Install(appID)
			s.Install(appID) // a second time, which changes nothing
			at = e.URL
		}
		response, _ := ask(t, "GET", s.URL+"/admin/apps/the-client-id", nil)
		if to := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, at+test.want) {
			t.Errorf("%s: %d %s; want %s", name, response.StatusCode, to, at+test.want)
		}
	}
}

// TestAdminIsInNoLanguage: the admin and App Bridge have one address each.
func TestAdminIsInNoLanguage(t *testing.T) {
	s, _ := administered(t)
	for path, want := range map[string]int{
		"/admin": 200, "/fr/admin": 404, "/cdn/shopifycloud/app-bridge.js": 200, "/fr/cdn/shopifycloud/app-bridge.js": 404,
	} {
		if response, _ := ask(t, "GET", s.URL+path, nil); response.StatusCode != want {
			t.Errorf("GET %s = %d; want %d", path, response.StatusCode, want)
		}
	}
}

// TestAdminFrame checks how the app is loaded, and that the tokens are valid.
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

// TestAdminWebhookHeaders checks the headers sent with the body.
func TestAdminWebhookHeaders(t *testing.T) {
	at := time.Date(2026, 8, 1, 12, 0, 0, 5e8, time.UTC)
	s, e := store(t, func(o *shopifytest.Options) { o.Now = func() time.Time { return at } })
	s.RedactShop()
	eventually(t, "shop/redact", func() bool { return e.count() == 1 })
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Shopify-Topic": "shop/redact", "X-Shopify-Shop-Domain": "some-shop.myshopify.com",
		"X-Shopify-Api-Version": "2026-07", "X-Shopify-Triggered-At": "2026-08-01T12:00:00.5Z",
	} {
		if got := e.got[0].Header.Get(name); got != want {
			t.Errorf("%s = %q; want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Shopify-Webhook-Id", "X-Shopify-Event-Id", "X-Shopify-Hmac-Sha256"} {
		if e.got[0].Header.Get(name) == "" {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestAdminWebhookSecrets checks which of an app's secrets signs.
func TestAdminWebhookSecrets(t *testing.T) {
	for name, test := range map[string]struct {
		faults shopifytest.Faults
		signed string
	}{
		"in order": {shopifytest.Faults{}, "hush"}, "old": {shopifytest.Faults{OldSecret: true}, "old"},
		"wrong": {shopifytest.Faults{WrongSecret: true}, ""}, "both": {shopifytest.Faults{WrongSecret: true, OldSecret: true}, ""},
	} {
		s, e := administered(t)
		s.SetFaults(func(f *shopifytest.Faults) { *f = test.faults })
		s.RedactShop()
		eventually(t, name, func() bool { return e.count() == 1 })
		for _, secret := range []string{"hush", "old"} {
			verifier, err := shopify.NewVerifier([]string{secret}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifier.VerifyWebhook(e.got[0].Header, []byte(e.bodies[0])); (err == nil) != (secret == test.signed) {
				t.Errorf("%s: by %q: %v; want %q to have signed", name, secret, err, test.signed)
			}
		}
	}
}

// TestAdminWebhookRetries: there is no wait after the last try.
func TestAdminWebhookRetries(t *testing.T) {
	var mu sync.Mutex
	var waits []int
	s, e := store(t, func(o *shopifytest.Options) {
		o.WebhookRetry = func(try int) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, try)
			return 0
		}
	})
	e.status = http.StatusMovedPermanently // counts as a failure
	s.RedactShop()
	eventually(t, "nine tries", func() bool { return len(s.WebhookDeliveries()) == 9 })
	s.Close()
	if want := []int{1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(waits, want) {
		t.Errorf("waited after the tries %v; want %v", waits, want)
	}
}

// TestAdminCloseEndsWebhooks: Close ends deliveries in progress and those that wait for a retry.
func TestAdminCloseEndsWebhooks(t *testing.T) {
	for name, hang := range map[string]bool{"on their way": true, "to be sent again": false} {
		ignore := goleak.IgnoreCurrent()
		asked := make(chan struct{}, 1)
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the store has gone
			w.WriteHeader(http.StatusInternalServerError)
			asked <- struct{}{}
			if hang {
				<-r.Context().Done()
			}
		}))
		s := shopifytest.NewServer(shopifytest.Options{Shop: "some-shop.myshopify.com", WebhookRetry: func(int) time.Duration { return time.Hour }})
		s.Register(shopifytest.PartnerApp{ClientID: appID, Secret: "hush", PathPrefix: "/apps/x", Webhooks: app.URL})
		s.RedactShop()
		<-asked
		if !hang {
			eventually(t, "the first try", func() bool { return len(s.WebhookDeliveries()) == 1 })
		}
		s.Close()
		s.RedactShop() // a closed store does not send this
		app.Close()
		if err := goleak.Find(ignore); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAdminWebhooks: webhooks are signed, are sent again with the same ID, and are given up in the end.
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

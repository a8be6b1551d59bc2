package shopifytest

import (
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// subscriptions draws the extension of another app.
func subscriptions(o AccountOpening) template.HTML {
	return template.HTML("<p>Subscriptions of " + template.HTMLEscapeString(o.Shopper.ID+" at "+o.Page+o.Path) + "</p>")
}

func nobody(http.ResponseWriter, *http.Request) {}

// hops follows redirects, and returns the paths on the way, with "account" before those of the account host.
func hops(t *testing.T, s *Server, c *http.Client, address string) (paths []string, body string) {
	t.Helper()
	for range 10 {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		at := u.Path
		if strings.HasPrefix(address, s.AccountURL+"/") {
			at = "account " + at
		}
		paths = append(paths, at)
		res, got := get(t, c, address)
		to, err := res.Location()
		if err != nil {
			return paths, got
		}
		address = to.String()
	}
	t.Fatalf("redirected too often: %q", paths)
	return nil, ""
}

// TestSignInOnTheAccountHost: a sign-in that begins on the storefront is on the account host, and ends where it began.
func TestSignInOnTheAccountHost(t *testing.T) {
	s := start(t, Options{}, nobody)
	c := browser(t)
	res, _ := get(t, c, s.URL+newLoginPath+"?return_to=%2Fapps%2Fsubscriptions%3Fa%3D1")
	authorize := res.Header.Get("Location")
	if !strings.HasPrefix(authorize, s.AccountURL+"/authentication/oauth/authorize?") || s.AccountURL == s.URL {
		t.Fatalf("the sign-in is at %s; want it on the account host, %s", authorize, s.AccountURL)
	}
	callback := signInAs(t, c, authorize, ada().ID, "").Header.Get("Location")
	if !strings.HasPrefix(callback, s.URL+"/customer_authentication/callback?code=") {
		t.Fatalf("signed in, the shopper goes to %s; want the store's callback", callback)
	}
	res, _ = get(t, browser(t), callback)
	if got := res.Header.Get("Location"); got != "/apps/subscriptions?a=1" {
		t.Errorf("the callback leads to %q; want the page that the shopper came from", got)
	}
	if res, _ := get(t, c, callback); res.StatusCode != http.StatusNotFound || len(res.Cookies()) != 0 {
		t.Errorf("the same code again = %d with cookies %v; want 404 and none", res.StatusCode, res.Cookies())
	}
}

// TestAccountAndStorefrontSessions: the account host knows who is signed in to the storefront by its sign-in, and
// someone signed in there gets a storefront session without a form.
func TestAccountAndStorefrontSessions(t *testing.T) {
	s := start(t, Options{AccountPage: subscriptions}, nobody)
	c := browser(t)
	page := s.AccountPage() + "?locale=fr&region_country=CA"
	paths, _ := hops(t, s, c, page)
	if diff := cmp.Diff(paths, []string{"account " + extensionPath, "account " + authorizePath}); diff != "" {
		t.Fatalf("signed out (-got +want):\n%s", diff)
	}
	res, _ := get(t, c, page)
	back := signInAs(t, c, s.AccountURL+res.Header.Get("Location"), ada().ID, "").Header.Get("Location")
	if want := strings.TrimPrefix(page, s.AccountURL); back != want {
		t.Errorf("after the sign-in the shopper is at %q; want %q", back, want)
	}
	if res, _ := get(t, c, s.URL+"/account"); res.StatusCode != http.StatusFound {
		t.Errorf("the storefront = %d; want 302, since it has no session yet", res.StatusCode)
	}
	paths, _ = hops(t, s, c, s.URL+newLoginPath+"?return_to=%2Fcollections%2Fall")
	want := []string{newLoginPath, "account " + authorizePath, callbackPath, "/collections/all"}
	if diff := cmp.Diff(paths, want); diff != "" {
		t.Errorf("a sign-in without a form (-got +want):\n%s", diff)
	}
	get(t, c, s.URL+"/account/logout")
	if paths, _ := hops(t, s, c, page); len(paths) != 2 {
		t.Errorf("signed out at the storefront, the account page leads over %q; want the sign-in", paths)
	}

	other := browser(t)
	signInAs(t, other, s.URL+newLoginPath, hostile().ID, "/")
	if paths, _ := hops(t, s, other, page); len(paths) != 1 {
		t.Errorf("signed in at the storefront, the account page leads over %q; want the page itself", paths)
	}
}

func TestAccountPage(t *testing.T) {
	s := start(t, Options{AccountPage: subscriptions}, nobody)
	c := browser(t)
	signInAs(t, c, s.URL+newLoginPath, ada().ID, "/")
	_, body := get(t, c, s.AccountPage()+"/orders?locale=pt-BR&region_country=BR")
	for _, want := range []string{
		"Subscriptions of 1001 at /orders", `data-locale="pt-BR"`, `data-country="BR"`,
		`id="menu-subscriptions" href="` + s.URL + prefix + `"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %s:\n%s", want, body)
		}
	}
	opened := s.AccountOpenings()
	if len(opened) != 1 || opened[0].Shopper != ada() || opened[0].Path != "/orders" || opened[0].Query.Get("region_country") != "BR" {
		t.Errorf("openings = %+v; want one, of Ada's orders, for BR", opened)
	}
	for _, path := range []string{"/orders", "/profile"} {
		if _, body := get(t, c, s.AccountURL+path); !strings.Contains(body, "Subscriptions of 1001 at "+path) {
			t.Errorf("%s has no block of the app:\n%s", path, body)
		}
	}
	if opened := s.AccountOpenings(); len(opened) != 3 || opened[2].Page != "/profile" || opened[2].Path != "" {
		t.Errorf("openings = %+v; want three, the last of the profile", opened)
	}
	for _, tt := range []struct {
		path string
		want int
	}{
		{"/", 200}, {"/assets/account.css", 200}, {"/pages/another", 404}, {extensionPath + "x", 404},
		{authorizePath + "?redirect_uri=https%3A%2F%2Fevil.example%2F", 400},
	} {
		if res, body := get(t, c, s.AccountURL+tt.path); res.StatusCode != tt.want {
			t.Errorf("%s = %d; want %d:\n%s", tt.path, res.StatusCode, tt.want, body)
		}
	}
	if res := signInAs(t, browser(t), s.AccountURL+authorizePath, "7", ""); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("signing in as nobody known = %d; want 422", res.StatusCode)
	}
}

// TestNoAccountPage: the app's page is not there if no app fills it, and is then not recorded. Shopify's own are.
func TestNoAccountPage(t *testing.T) {
	for name, hook := range map[string]func(AccountOpening) template.HTML{
		"no app": nil, "an app that shows nothing": func(AccountOpening) template.HTML { return "" },
	} {
		s := start(t, Options{AccountPage: hook}, nobody)
		c := browser(t)
		signInAs(t, c, s.URL+newLoginPath, ada().ID, "/")
		if res, _ := get(t, c, s.AccountURL+"/orders"); res.StatusCode != http.StatusOK {
			t.Errorf("%s: orders = %d; want 200", name, res.StatusCode)
		}
		if res, _ := get(t, c, s.AccountPage()); res.StatusCode != http.StatusNotFound || len(s.AccountOpenings()) != 0 {
			t.Errorf("%s: %d, openings %+v; want 404 and none", name, res.StatusCode, s.AccountOpenings())
		}
	}
}

// TestSetAccounts: a store that is upgraded drops the way back from /account/login.
func TestSetAccounts(t *testing.T) {
	s := start(t, Options{Accounts: "legacy", AccountPage: subscriptions}, nobody)
	legacy := "/account/login?return_url=%2Fapps%2Fsubscriptions"
	if res, _ := get(t, browser(t), s.AccountPage()); res.StatusCode != http.StatusNotFound {
		t.Errorf("the account host of a store with legacy accounts = %d; want 404", res.StatusCode)
	}
	if paths, _ := hops(t, s, browser(t), s.URL+legacy); len(paths) != 1 {
		t.Errorf("legacy: the sign-in leads over %q; want it on the storefront", paths)
	}

	s.SetAccounts("new")
	c := browser(t)
	paths, _ := hops(t, s, c, s.URL+legacy)
	if diff := cmp.Diff(paths, []string{legacyLoginPath, newLoginPath, "account " + authorizePath}); diff != "" {
		t.Errorf("upgraded (-got +want):\n%s", diff)
	}
	signInAs(t, c, s.AccountURL+authorizePath, ada().ID, "")
	if paths, _ := hops(t, s, c, s.URL+legacy); paths[len(paths)-1] != "/account" {
		t.Errorf("upgraded: the sign-in leads over %q; want it to end at /account, without the way back", paths)
	}

	s.SetAccounts("legacy")
	if res, _ := get(t, browser(t), s.URL+newLoginPath); res.StatusCode != http.StatusNotFound {
		t.Errorf("reverted: %s = %d; want 404", newLoginPath, res.StatusCode)
	}
}

func TestBotsAreRefused(t *testing.T) {
	s := start(t, Options{}, nobody)
	signed := []string{"Signature", "sig1=:AA==:", "Signature-Input", "sig1=()", "Signature-Agent", `"https://bot.example"`}
	for _, tt := range []struct {
		name, address string
		header        []string
		want          int
	}{
		{"a bot", s.URL + "/account/login", nil, 430},
		{"a bot on the account host", s.AccountURL + authorizePath, nil, 430},
		{"half a signature", s.URL + "/account/login", signed[:4], 430},
		{"a signed bot", s.URL + "/account/login", signed, 302},
		{"a browser", s.URL + "/account/login", []string{"Sec-Fetch-Mode", "navigate"}, 302},
		{"the proxy", s.URL + prefix, nil, 200},
		{"the admin", s.URL + "/admin", nil, 200},
	} {
		for _, status := range []int{430, 0} {
			s.SetFaults(func(f *Faults) { f.Bots = status })
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tt.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			res, _ := do(t, browser(t), req)
			if refused := res.StatusCode == 430; refused != (status != 0 && tt.want == 430) {
				t.Errorf("%s, with Bots %d: %d; want %d", tt.name, status, res.StatusCode, tt.want)
			}
		}
	}
}

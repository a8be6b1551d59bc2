package shopifytest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

const (
	shopDomain = "sandbox-store.myshopify.com"
	prefix     = "/apps/subscriptions"
	secret     = "hush"
	oldSecret  = "hush-before"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func ada() Shopper {
	return Shopper{ID: "1001", Email: "ada@example.com", FirstName: "Ada", LastName: "Coffee"}
}

func hostile() Shopper {
	return Shopper{ID: "1002", Email: "x@example.com", FirstName: "<b>&", Note: `"><script>`}
}

// start runs a store with one app.
func start(t *testing.T, opts Options, app http.HandlerFunc) *Server {
	t.Helper()
	opts.Shop = shopDomain
	opts.Shoppers = []Shopper{ada(), hostile()}
	opts.Now = func() time.Time { return noon }
	s := NewServer(opts)
	t.Cleanup(s.Close)
	backend := httptest.NewServer(app)
	t.Cleanup(backend.Close)
	s.AddApp(App{PathPrefix: prefix, ProxyURL: backend.URL + "/proxy/", Secret: secret, OldSecret: oldSecret})
	return s
}

// browser returns a client that keeps cookies and does not follow redirects.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Jar:           jar,
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func do(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, req)
}

// getAll is get with the redirects followed.
func getAll(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	for range 10 {
		res, body := get(t, c, url)
		to, err := res.Location()
		if err != nil {
			return res, body
		}
		url = to.String()
	}
	t.Fatalf("redirected too often, at last to %s", url)
	return nil, ""
}

// signInAs posts the sign-in form and returns the answer.
func signInAs(t *testing.T, c *http.Client, loginURL, id, returnTo string) *http.Response {
	t.Helper()
	form := url.Values{"customer": {id}, "return_to": {returnTo}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, loginURL, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, _ := do(t, c, req)
	return res
}

func lastForwarded(t *testing.T, s *Server) Forwarded {
	t.Helper()
	all := s.Forwarded()
	if len(all) == 0 {
		t.Fatal("nothing was forwarded")
	}
	return all[len(all)-1]
}

func parse(t *testing.T, rawQuery string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestSignatureVectors(t *testing.T) {
	const v1 = "extra=1&extra=2&shop=shop-name.myshopify.com&logged_in_customer_id=1&path_prefix=%2Fapps%2Fawesome_reviews&timestamp=1317327555"
	const v1Signature = "4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddb"
	tests := []struct {
		name, secret, query string
		want                string
	}{
		{"Shopify's documentation", "hush", v1, v1Signature},
		{"a signature in the query is left out", "hush", "signature=" + v1Signature + "&" + v1, v1Signature},
		{
			"go-shopify TestSignature", "hush",
			"extra=1&extra=2&shop=shop-name.myshopify.com&path_prefix=%2Fapps%2Fawesome_reviews&timestamp=1317327555",
			"a9718877bea71c2484f91608a7eaea1532bdf71f5c56825065fa4ccabe549ef3",
		},
		{
			"shopify_app", "secret",
			"shop=some-random-store.myshopify.com&path_prefix=%2Fapps%2Fmy-app&timestamp=1466106083",
			"f5cd7233558b1c50102a6f33c0b63ad1e1072a2fc126cb58d4500f75223cefcd",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Signature(tt.secret, tt.query); got != tt.want {
				t.Errorf("Signature(%q, %q) = %s; want %s", tt.secret, tt.query, got, tt.want)
			}
			if got := Signature(tt.secret, tt.query+"&notok=true"); got == tt.want {
				t.Errorf("Signature did not change with another parameter: %s", got)
			}
		})
	}
}

func TestSignatureSignsThisText(t *testing.T) {
	tests := []struct {
		name, query, text string
	}{
		{"nothing", "", ""},
		{"plus and %20 are spaces", "a=x+y%20z", "a=x y z"},
		{"bare key is an empty value", "b&a=", "a=b="},
		{"repeated values in order of appearance", "a=2&b=3&a=1", "a=2,1b=3"},
		{"brackets are part of the key", "ids%5B%5D=1&ids[]=2", "ids[]=1,2"},
		{"sorted by byte, the value included", "a=1&a-b=1&B=1&shop=1&shop2=1", "B=1a-b=1a=1shop2=1shop=1"},
		{"empty pairs are nothing", "&&a=1&", "a=1"},
		{"only the first = divides", "a=b=c", "a=b=c"},
		{"UTF-8", "n=%C3%A9", "n=é"},
		{"malformed escapes stand for themselves", "a=%zz%4&b=%", "a=%zz%4b=%"},
		{"a semicolon does not divide", "a=1;b=2", "a=1;b=2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(tt.text))
			want := hex.EncodeToString(mac.Sum(nil))
			if got := Signature(secret, tt.query); got != want {
				t.Errorf("Signature(%q) = %s; want %s, the signature of %q", tt.query, got, want, tt.text)
			}
		})
	}
}

func TestProxyForwards(t *testing.T) {
	type seen struct {
		Method, Path, Body                       string
		Query                                    url.Values
		Cookie, Auth, Host, ForwardedFor, Custom string
	}
	var got seen
	s := start(t, Options{}, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{
			Method: r.Method, Path: r.URL.EscapedPath(), Body: string(body), Query: r.URL.Query(),
			Cookie: r.Header.Get("Cookie"), Auth: r.Header.Get("Authorization"), Custom: r.Header.Get("X-Custom"),
			Host: r.Header.Get("X-Forwarded-Host"), ForwardedFor: r.Header.Get("X-Forwarded-For"),
		}
	})
	c := browser(t)
	signInAs(t, c, s.URL+newLoginPath, ada().ID, "/")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		s.URL+prefix+"/a%2Fb/?utm_source=mail&x=1&x=2", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer t")
	req.Header.Set("X-Custom", "kept")
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	do(t, c, req)

	forwarded := lastForwarded(t, s)
	want := seen{
		Method: "POST", Path: "/proxy/a%2Fb/", Body: "hello", Custom: "kept",
		Host: strings.TrimPrefix(s.URL, "http://"), ForwardedFor: "127.0.0.1",
		Query: url.Values{
			"utm_source":            {"mail"},
			"x":                     {"1", "2"},
			"shop":                  {shopDomain},
			"logged_in_customer_id": {ada().ID},
			"path_prefix":           {prefix},
			"timestamp":             {strconv.FormatInt(noon.Unix(), 10)},
			"signature":             {Signature(secret, forwarded.Query)},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the app saw (-want +got):\n%s", diff)
	}
	if got, want := forwarded.App+" "+forwarded.Method+" "+forwarded.Path, prefix+" POST "+prefix+"/a%2Fb/"; got != want {
		t.Errorf("Forwarded = %q; want %q", got, want)
	}
	if want := s.SignedQuery("utm_source=mail&x=1&x=2", ada().ID, prefix, secret); forwarded.Query != want {
		t.Errorf("forwarded query = %q; want that of SignedQuery, %q", forwarded.Query, want)
	}
}

func TestProxyPaths(t *testing.T) {
	s := start(t, Options{}, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "app "+r.URL.Path) })
	tests := []struct {
		path       string
		wantStatus int
		wantBody   string // "" if the app gets no request
	}{
		{prefix, 200, "app /proxy"},
		{prefix + "/", 200, "app /proxy/"},
		{prefix + "/orders/1", 200, "app /proxy/orders/1"},
		{prefix + "//x", 200, "app /proxy//x"},
		{"/fr" + prefix, 200, "app /proxy"},
		{"/pt-br" + prefix + "/orders", 200, "app /proxy/orders"},
		{prefix + "-old", 404, ""},
		{"/apps", 404, ""},
		{"/eng" + prefix, 404, ""},
		{"/fr/de" + prefix, 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			before := len(s.Forwarded())
			res, body := get(t, browser(t), s.URL+tt.path)
			if res.StatusCode != tt.wantStatus {
				t.Errorf("GET %s = %d; want %d", tt.path, res.StatusCode, tt.wantStatus)
			}
			if asked := len(s.Forwarded()) > before; asked != (tt.wantBody != "") {
				t.Errorf("app asked = %t; want %t", asked, tt.wantBody != "")
			}
			if tt.wantBody != "" && body != tt.wantBody {
				t.Errorf("GET %s body = %q; want %q", tt.path, body, tt.wantBody)
			}
		})
	}
}

func TestReservedNamesOfTheBrowserAreKept(t *testing.T) {
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	get(t, browser(t), s.URL+prefix+"?shop=evil.myshopify.com&signature=00")
	got := parse(t, lastForwarded(t, s).Query)
	if diff := cmp.Diff([]string{"evil.myshopify.com", shopDomain}, got["shop"]); diff != "" {
		t.Errorf("shop (-want +got):\n%s", diff)
	}
	if len(got["signature"]) != 2 || got["signature"][0] != "00" {
		t.Errorf("signature = %q; want the browser's 00, then the store's", got["signature"])
	}
}

func TestFaults(t *testing.T) {
	at := func(d time.Duration) []string { return []string{strconv.FormatInt(noon.Add(d).Unix(), 10)} }
	in := func(change func(url.Values)) url.Values { // a store without faults, changed
		v := url.Values{
			"shop": {shopDomain}, "logged_in_customer_id": {ada().ID}, "path_prefix": {prefix}, "timestamp": at(0),
		}
		change(v)
		return v
	}
	tests := []struct {
		name       string
		faults     Faults
		want       url.Values
		wantSecret string // "" if the app's secrets must both fail
	}{
		{"none", Faults{}, in(func(url.Values) {}), secret},
		{"wrong secret", Faults{WrongSecret: true}, in(func(url.Values) {}), ""},
		{"wrong secret goes before old", Faults{WrongSecret: true, OldSecret: true}, in(func(url.Values) {}), ""},
		{"old secret", Faults{OldSecret: true}, in(func(url.Values) {}), oldSecret},
		{
			"clock off", Faults{ClockOffset: -time.Hour},
			in(func(v url.Values) { v["timestamp"] = at(-time.Hour) }), secret,
		},
		{
			"twice", Faults{Twice: true},
			in(func(v url.Values) {
				v["shop"] = []string{shopDomain, shopDomain}
				v["logged_in_customer_id"] = []string{ada().ID, hostile().ID}
				v["path_prefix"] = []string{prefix, prefix}
				v["timestamp"] = append(at(0), at(0)...)
			}), secret,
		},
		{
			"forgets the shopper", Faults{ForgetShopper: true},
			in(func(v url.Values) { v["logged_in_customer_id"] = []string{""} }), secret,
		},
		{
			"another shop", Faults{Shop: "other.myshopify.com"},
			in(func(v url.Values) { v["shop"] = []string{"other.myshopify.com"} }), secret,
		},
	}
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	c := browser(t)
	signInAs(t, c, s.URL+newLoginPath, ada().ID, "/")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.SetFaults(func(f *Faults) { *f = tt.faults })
			if got := s.Faults(); got != tt.faults {
				t.Errorf("Faults() = %+v; want %+v", got, tt.faults)
			}
			get(t, c, s.URL+prefix)
			query := lastForwarded(t, s).Query
			got := parse(t, query)
			signature := got.Get("signature")
			got.Del("signature")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("forwarded (-want +got):\n%s", diff)
			}
			for _, secret := range []string{secret, oldSecret} {
				if fits := signature == Signature(secret, query); fits != (secret == tt.wantSecret) {
					t.Errorf("signed with %q = %t; want %t", secret, fits, secret == tt.wantSecret)
				}
			}
		})
	}
}

func TestResponseHeaders(t *testing.T) {
	stripped := []string{
		"Accept-Patch", "Accept-Ranges", "Cookie", "Delta-Base", "Im", "P3p", "Pragma", "Preference-Applied",
		"Proxy-Authenticate", "Public-Key-Pins", "Service-Worker-Allowed", "Set-Cookie", "Tk", "Warning", "X-Powered-By",
	}
	kept := []string{"Cache-Control", "Content-Type", "Vary", "Content-Security-Policy", "Referrer-Policy", "X-Robots-Tag"}
	s := start(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range append(append([]string{"Date", "Server"}, stripped...), kept...) {
			w.Header().Set(name, "app")
		}
		w.WriteHeader(http.StatusNotFound)
	})
	res, _ := get(t, browser(t), s.URL+prefix)
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("status = %d; want the app's %d", res.StatusCode, http.StatusNotFound)
	}
	for _, name := range stripped {
		if got := res.Header.Get(name); got != "" {
			t.Errorf("%s = %q; want it stripped", name, got)
		}
	}
	for _, name := range []string{"Date", "Server"} { // the store has its own
		if got := res.Header.Get(name); got == "app" {
			t.Errorf("%s = %q; want it not to be the app's", name, got)
		}
	}
	for _, name := range kept {
		if got := res.Header.Get(name); got != "app" {
			t.Errorf("%s = %q; want the app's", name, got)
		}
	}
	if got := lastForwarded(t, s).Header.Get("Set-Cookie"); got != "app" {
		t.Errorf("Forwarded.Header Set-Cookie = %q; want it as the app sent it", got)
	}
}

func TestRedirectIsHandedToTheBrowser(t *testing.T) {
	for _, location := range []string{
		"https://portal.example/p?token=%2F+x", "/customer_authentication/login?return_to=%2Fapps", "//odd//path/../x", "http://[bad",
	} {
		t.Run(location, func(t *testing.T) {
			s := start(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{location}
				w.WriteHeader(http.StatusFound)
			})
			// Not http.Client, which would refuse some of these itself.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+prefix, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := browser(t).Transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != location {
				t.Errorf("got %d to %q; want 302 to %q", res.StatusCode, got, location)
			}
			if got := len(s.Forwarded()); got != 1 {
				t.Errorf("forwarded %d requests; want 1", got)
			}
		})
	}
}

func TestLiquid(t *testing.T) {
	tests := []struct {
		name, path, source string
		customer           string // ID of the signed-in shopper
		want               string
	}{
		{"plain", prefix, "<p>hi</p>", "", "<p>hi</p>"},
		{"shop", prefix, "{{ shop.name }}|{{ shop.email }}|{{ shop.permanent_domain }}", "", "Bean & Co|help@example.com|" + shopDomain},
		{"nobody", prefix, "{% if customer %}in{% else %}out{% endif %}", "", "out"},
		{"customer", prefix, "{{ customer.first_name }} {{ customer.last_name }} {{ customer.email }}", "1001", "Ada Coffee ada@example.com"},
		{"escaped", prefix, "{{ customer.first_name | escape }}", "1002", "&lt;b&gt;&amp;"},
		{"not escaped unless asked", prefix, "{{ customer.first_name }}", "1002", "<b>&"},
		{"default locale", prefix, "{{ request.locale.iso_code }}|{{ request.path }}", "", "en|" + prefix},
		{"locale", "/fr" + prefix + "/x", "{{ request.locale.iso_code }}|{{ request.path }}", "", "fr|/fr" + prefix + "/x"},
		{"locale with region", "/pt-br" + prefix, "{{ request.locale.iso_code }}", "", "pt-BR"},
		{
			"routes", prefix,
			"{{ routes.root_url }} {{ routes.account_url }} {{ routes.account_login_url }} {{ routes.storefront_login_url }} {{ routes.all_products_collection_url }}",
			"", "/ /account /account/login /customer_authentication/login?return_to=%2Fapps%2Fsubscriptions /collections/all",
		},
		{"routes under a locale", "/fr" + prefix, "{{ routes.root_url }} {{ routes.account_url }}", "", "/fr /fr/account"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{Name: "Bean & Co", Email: "help@example.com"}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/liquid; charset=utf-8")
				w.Header().Set("Cache-Control", "no-store, private")
				_, _ = io.WriteString(w, "[["+tt.source+"]]")
			})
			c := browser(t)
			if tt.customer != "" {
				signInAs(t, c, s.URL+newLoginPath, tt.customer, "/")
			}
			res, body := get(t, c, s.URL+tt.path)
			if !strings.Contains(body, "[["+tt.want+"]]") {
				t.Errorf("page has no %q:\n%s", tt.want, body)
			}
			if !strings.Contains(body, "<header") || !strings.Contains(body, "Bean &amp; Co") {
				t.Errorf("page is not in the theme's layout:\n%s", body)
			}
			if got, want := res.Header.Get("Content-Type"), "text/html; charset=utf-8"; got != want {
				t.Errorf("Content-Type = %q; want %q", got, want)
			}
			if got, want := res.Header.Get("Cache-Control"), "no-store, private"; got != want {
				t.Errorf("Cache-Control = %q; want the app's, %q", got, want)
			}
		})
	}
}

func TestLiquidWithoutLayout(t *testing.T) {
	s := start(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/liquid")
		_, _ = io.WriteString(w, "{% layout none %}<p>{{ shop.permanent_domain }}</p>")
	})
	if _, got := get(t, browser(t), s.URL+prefix); got != "<p>"+shopDomain+"</p>" {
		t.Errorf("page = %q; want the body alone", got)
	}
}

func TestLiquidErrorsAreShown(t *testing.T) {
	for _, source := range []string{"{% if %}", "{{ 'a' | no_such_filter }}", "{% include 'doc.go' %}", "{% layout 'other' %}"} {
		t.Run(source, func(t *testing.T) {
			s := start(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/liquid")
				_, _ = io.WriteString(w, source)
			})
			res, body := get(t, browser(t), s.URL+prefix)
			if res.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "Liquid error") {
				t.Errorf("got %d; want 500 and the error:\n%s", res.StatusCode, body)
			}
		})
	}
}

func TestOtherTypesAreReturnedAsTheyAre(t *testing.T) {
	s := start(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"a":"{{ shop.name }}"}`)
	})
	res, body := get(t, browser(t), s.URL+prefix)
	if got := res.Header.Get("Content-Type"); got != "application/json" || body != `{"a":"{{ shop.name }}"}` {
		t.Errorf("got %q %q; want the app's JSON untouched", got, body)
	}
}

func TestErrorsOfTheAppAreReplaced(t *testing.T) {
	const themed = "There was an error in the third-party application"
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-App", "yes")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "the app's own words")
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "the app's own words")
	}
	tests := []struct {
		name       string
		app        http.HandlerFunc
		timeout    time.Duration
		wantStatus int
		wantThemed bool
	}{
		{"400 passes", status(400), 0, 400, false},
		{"403 passes", status(403), 0, 403, false},
		{"500", status(500), 0, 500, true},
		{"503", status(503), 0, 503, true},
		{"breaks off before the answer", abort, 0, 502, true},
		{"breaks off within the answer", half, 0, 502, true},
		{"too slow", hang, 50 * time.Millisecond, 504, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{Timeout: tt.timeout}, tt.app)
			res, body := get(t, browser(t), s.URL+prefix)
			if res.StatusCode != tt.wantStatus {
				t.Errorf("status = %d; want %d", res.StatusCode, tt.wantStatus)
			}
			if got := strings.Contains(body, themed); got != tt.wantThemed {
				t.Errorf("themed error page = %t; want %t:\n%s", got, tt.wantThemed, body)
			}
			if got := strings.Contains(body, "the app's own words") || res.Header.Get("X-App") != ""; got == tt.wantThemed {
				t.Errorf("app's own answer shown = %t; want %t", got, !tt.wantThemed)
			}
			if got := lastForwarded(t, s).Status; got != tt.wantStatus {
				t.Errorf("Forwarded.Status = %d; want %d", got, tt.wantStatus)
			}
		})
	}
}

func TestUnreachableApp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	s := NewServer(Options{Shop: shopDomain, Apps: []App{{PathPrefix: prefix, ProxyURL: dead, Secret: secret}}})
	t.Cleanup(s.Close)
	if res, _ := get(t, browser(t), s.URL+prefix); res.StatusCode != http.StatusBadGateway {
		t.Errorf("status = %d; want %d", res.StatusCode, http.StatusBadGateway)
	}
}

func TestReturnPathStaysInTheStore(t *testing.T) {
	tests := []struct {
		name, asked string
		want        string
	}{
		{"relative", "/apps/subscriptions?from=login&x=1", "/apps/subscriptions?from=login&x=1"},
		{"double slashes inside stay", "/a//b", "/a//b"},
		{"none", "", "/account"},
		{"absolute", "https://evil.example/", "/account"},
		{"no scheme", "//evil.example/", "/account"},
		{"backslash", `/\evil.example`, "/account"},
		{"backslash later", `/a\b`, "/account"},
		{"tab, which browsers drop", "/\t/evil.example", "/account"},
		{"line break", "/\r\nSet-Cookie: a=b", "/account"},
		{"delete", "/\x7f/evil.example", "/account"},
		{"no slash", "evil.example", "/account"},
		{"script", "javascript:alert(1)", "/account"},
		{"not ASCII", "/caf\u00e9 au lait", "/caf%C3%A9%20au%20lait"},
	}
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := browser(t)
			res := signInAs(t, c, s.URL+newLoginPath, ada().ID, tt.asked)
			if got := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || got != tt.want {
				t.Errorf("signing in: %d to %q; want 303 to %q", res.StatusCode, got, tt.want)
			}
			res, _ = get(t, c, s.URL+newLoginPath+"?return_to="+url.QueryEscape(tt.asked))
			if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != tt.want {
				t.Errorf("signed in already: %d to %q; want 302 to %q", res.StatusCode, got, tt.want)
			}
		})
	}
}

func TestSignInPage(t *testing.T) {
	for accounts, login := range map[string]string{"new": newLoginPath + "?return_to=", "legacy": legacyLoginPath + "?return_url="} {
		s := start(t, Options{Accounts: accounts}, func(http.ResponseWriter, *http.Request) {})
		_, body := getAll(t, browser(t), s.URL+login+"%2Fapps%2Fx%3Fa%3D1%26b%3D%22")
		for _, want := range []string{
			`data-shopper="1001"`, `data-shopper="1002"`, `<code>/apps/x?a=1&amp;b=&#34;</code>`,
			"&lt;b&gt;&amp;", "&#34;&gt;&lt;script&gt;",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("sign-in page has no %s:\n%s", want, body)
			}
		}
	}
}

func TestSessions(t *testing.T) {
	s := start(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	c := browser(t)

	res, _ := get(t, c, s.URL+"/account")
	if got := res.Header.Get("Location"); got != "/account/login" {
		t.Errorf("/account signed out leads to %q; want /account/login", got)
	}
	res, _ = get(t, c, s.URL+"/account/login?return_url=%2Felsewhere")
	if got, want := res.Header.Get("Location"), "/customer_authentication/login?return_to=%2Faccount"; got != want {
		t.Errorf("/account/login leads to %q; want %q", got, want)
	}

	res = signInAs(t, c, s.URL+newLoginPath, ada().ID, "/account")
	cookies := res.Cookies()
	if len(cookies) != 2 {
		t.Fatalf("cookies = %v; want one for the storefront and one for the account", cookies)
	}
	for _, cookie := range cookies {
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || len(cookie.Value) < 26 {
			t.Errorf("cookie %v; want HttpOnly, SameSite=Lax, and a random value", cookie)
		}
	}
	_, body := get(t, c, s.URL+"/account")
	for _, want := range []string{"Hello, Ada", `id="manage-subscriptions" href="/apps/subscriptions"`} {
		if !strings.Contains(body, want) {
			t.Errorf("account page has no %s:\n%s", want, body)
		}
	}
	if _, body := get(t, c, s.URL+"/fr/account"); !strings.Contains(body, `href="/fr/apps/subscriptions"`) {
		t.Errorf("account page under a locale does not keep it:\n%s", body)
	}

	again := signInAs(t, c, s.URL+newLoginPath, hostile().ID, "/account")
	if got := again.Cookies(); len(got) != 2 || got[0].Value == cookies[0].Value || got[1].Value == cookies[1].Value {
		t.Errorf("signing in again gave %v; want a new session", got)
	}
	get(t, c, s.URL+"/account/logout")
	if res, _ := get(t, c, s.URL+"/account"); res.StatusCode != http.StatusFound {
		t.Errorf("/account after signing out = %d; want 302", res.StatusCode)
	}
	get(t, c, s.URL+prefix)
	if got := parse(t, lastForwarded(t, s).Query)["logged_in_customer_id"]; !cmp.Equal(got, []string{""}) {
		t.Errorf("logged_in_customer_id after signing out = %q; want one empty value", got)
	}
	if res := signInAs(t, c, s.URL+newLoginPath, "7", "/"); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("signing in as nobody known = %d; want 422", res.StatusCode)
	}
}

func TestLegacyAccounts(t *testing.T) {
	s := start(t, Options{Accounts: "legacy"}, func(http.ResponseWriter, *http.Request) {})
	c := browser(t)
	if res, _ := get(t, c, s.URL+"/customer_authentication/login?return_to=%2Fx"); res.StatusCode != http.StatusNotFound {
		t.Errorf("/customer_authentication/login = %d; want 404", res.StatusCode)
	}
	login := s.URL + "/account/login?return_url=%2Fapps%2Fsubscriptions"
	if _, body := get(t, c, login); !strings.Contains(body, `name="return_to" value="/apps/subscriptions"`) {
		t.Errorf("sign-in page does not keep return_url:\n%s", body)
	}
	signInAs(t, c, s.URL+"/account/login", ada().ID, "/account")
	if res, _ := get(t, c, login); res.Header.Get("Location") != prefix {
		t.Errorf("signed in already: Location = %q; want %q", res.Header.Get("Location"), prefix)
	}
	for query, want := range map[string]string{"": "/", "?return_url=%2Fapps%2Fsubscriptions": "/apps/subscriptions", "?return_url=%2F%2Fevil.example": "/"} {
		if res, _ := get(t, new(http.Client), s.URL+"/account/logout"+query); res.Request.URL.Path != want {
			t.Errorf("/account/logout%s leads to %s; want %s", query, res.Request.URL, want)
		}
	}
	if res, _ := get(t, c, s.URL+"/account/login?return_url=%2F%2Fevil.example"); res.Header.Get("Location") != "/account" {
		t.Errorf("open redirect to %q; want /account", res.Header.Get("Location"))
	}
}

func TestPages(t *testing.T) {
	opts := Options{
		Around: func(store http.Handler) http.Handler {
			around := http.NewServeMux()
			around.Handle("/", store)
			around.HandleFunc("POST /panel", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			return around
		},
	}
	s := start(t, opts, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	tests := []struct {
		method, path string
		want         int
		themed       bool
	}{
		{"GET", "/", 200, true},
		{"GET", "/fr", 200, true},
		{"GET", "/fr/", 200, true},
		{"GET", "/collections/all", 200, true},
		{"GET", "/customer_authentication/login", 302, false},
		{"GET", "/fr/customer_authentication/login", 404, true},
		{"GET", prefix, 502, true},
		{"GET", "/nothing", 404, true},
		{"GET", "/panel", 404, true},
		{"POST", "/panel", 204, false},
		{"GET", "/assets/theme.css", 200, false},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, body := do(t, browser(t), req)
			if res.StatusCode != tt.want {
				t.Errorf("%s %s = %d; want %d", tt.method, tt.path, res.StatusCode, tt.want)
			}
			if got := strings.Contains(body, `</html>`); got != tt.themed {
				t.Errorf("a page = %t; want %t", got, tt.themed)
			}
			if got := res.Header.Get("Server"); got != "shopifytest" && tt.path != "/panel" {
				t.Errorf("Server = %q; want shopifytest", got)
			}
		})
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var s Server
	for i := range 5*historyLimit + 7 {
		s.record(Forwarded{Status: i})
		if n := i + 1; n%137 == 0 {
			if got, want := len(s.Forwarded()), min(n, historyLimit); got != want {
				t.Fatalf("after %d: %d kept; want %d", n, got, want)
			}
		}
	}
	all := s.Forwarded()
	if got, want := all[len(all)-1].Status, 5*historyLimit+6; got != want {
		t.Errorf("newest = %d; want %d", got, want)
	}
	if got, want := all[0].Status, 4*historyLimit+7; got != want {
		t.Errorf("oldest = %d; want %d", got, want)
	}
}

func TestWrongOptionsPanic(t *testing.T) {
	tests := []struct {
		name string
		opts Options
	}{
		{"no shop", Options{}},
		{"accounts", Options{Shop: shopDomain, Accounts: "classic"}},
		{"prefix", Options{Shop: shopDomain, Apps: []App{{PathPrefix: "/account/x"}}}},
		{"no subpath", Options{Shop: shopDomain, Apps: []App{{PathPrefix: "/apps/"}}}},
		{"trailing slash", Options{Shop: shopDomain, Apps: []App{{PathPrefix: prefix + "/"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			defer func() {
				if recover() == nil {
					t.Error("NewServerOn returned; want a panic")
				}
			}()
			NewServerOn(l, tt.opts).Close()
		})
	}
}

// TestCloseEndsEverything closes a store while a request waits for an app that does not answer.
func TestCloseEndsEverything(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	asked := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	s := NewServer(Options{Shop: shopDomain, Apps: []App{{PathPrefix: prefix, ProxyURL: backend.URL, Secret: secret}}})
	transport := &http.Transport{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err := (&http.Client{Transport: transport}).Get(s.URL + prefix)
		if err == nil {
			res.Body.Close()
		}
	}()
	<-asked
	s.Close()
	s.Close()
	<-done
	transport.CloseIdleConnections()
	backend.Close()
	goleak.VerifyNone(t, ignore)
}

func TestRetriesTakeFourHours(t *testing.T) {
	var all, last time.Duration
	for try := 1; try <= webhookRetries; try++ {
		wait := retries(try)
		if wait <= last {
			t.Errorf("after try %d it waits %v; want more than %v", try, wait, last)
		}
		all, last = all+wait, wait
	}
	if all != 4*time.Hour {
		t.Errorf("the retries take %v; want 4h", all)
	}
}

package rechargetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

const (
	shop         = "fixture-shop.myshopify.com"
	adminToken   = "admin-token"
	clientSecret = "fixture-recharge-secret"
)

var (
	pat = rechargetest.Customer{
		ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400",
		Email: "pat@example.test", FirstName: "Pat", LastName: "Doe",
		Subscriptions: []rechargetest.Subscription{{ID: 50500600, Product: "House blend"}},
	}
	sam = rechargetest.Customer{
		ID: 70100300, Hash: "70100300eeeeffff00001111", ShopifyCustomerID: "6100200300500",
		Email: "sam@example.test", FirstName: "Sam", LastName: "Roe",
		Subscriptions: []rechargetest.Subscription{{ID: 50500700, Product: "Green tea"}},
	}
	noShopify = rechargetest.Customer{ID: 70100400, Hash: "0a1b2c3d4e5f60718293a4b5c6d7e8", Email: "kim@example.test"}
)

// clock only moves when a test advances it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1735689600, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a server, its clock, and a client that returns redirects instead of following them.
type world struct {
	*rechargetest.Server
	*clock
	t      *testing.T
	client *http.Client
}

func newWorld(t *testing.T, change ...func(*rechargetest.Options)) *world {
	t.Helper()
	c := newClock()
	opts := rechargetest.Options{
		Shop:         shop,
		Tokens:       []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers", "read_store", "write_session"}}},
		ClientSecret: clientSecret,
		Customers:    []rechargetest.Customer{pat, sam, noShopify},
		Now:          c.Now,
	}
	for _, f := range change {
		f(&opts)
	}
	srv := rechargetest.NewServer(opts)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
	})
	return &world{srv, c, t, &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// reply is the server's response.
type reply struct {
	Status int
	Body   string
	Header http.Header
}

func (w *world) do(req *http.Request) (reply, error) {
	res, err := w.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, string(body), res.Header}, err
}

func (w *world) request(method, target, token string, header ...string) *http.Request {
	w.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("X-Recharge-Version", "2021-11")
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("X-Recharge-Access-Token", token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// call calls the API as a client would.
func (w *world) call(method, target, token string, header ...string) reply {
	w.t.Helper()
	r, err := w.do(w.request(method, target, token, header...))
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	return r
}

func (w *world) get(target string) reply {
	w.t.Helper()
	return w.call(http.MethodGet, target, adminToken)
}

// session makes a session token for the customer.
func (w *world) session(c rechargetest.Customer) string {
	w.t.Helper()
	r := w.call(http.MethodPost, fmt.Sprintf("/customers/%d/sessions", c.ID), adminToken)
	token, _ := decode[map[string]map[string]any](w.t, r)["customer_session"]["apiToken"].(string)
	if token == "" {
		w.t.Fatalf("session of %d = %d %s; want a token", c.ID, r.Status, r.Body)
	}
	return token
}

type access struct {
	BaseURL      string `json:"base_url"`
	CustomerHash string `json:"customer_hash"`
	ExpiresAt    string `json:"expires_at"`
	PortalURL    string `json:"portal_url"`
	TempToken    string `json:"temp_token"`
}

// access makes a portal link for the customer.
func (w *world) access(c rechargetest.Customer, query string) access {
	w.t.Helper()
	return decode[access](w.t, w.call(http.MethodGet, "/portal_access?shop_url="+shop+query, w.session(c)))
}

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
		t.Fatalf("answer %d %q: %v", r.Status, r.Body, err)
	}
	return v
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *rechargetest.Options) {
		o.StorefrontToken = "strfnt"
		o.Tokens = append(o.Tokens,
			rechargetest.Token{Value: "bare"},
			rechargetest.Token{Value: "plural", Scopes: []string{"write_sessions"}},
			rechargetest.Token{Value: ""},
		)
	})
	sessions := fmt.Sprintf("/customers/%d/sessions", pat.ID)
	one := fmt.Sprintf("/customers/%d", pat.ID)
	strfnt := []string{"X-Recharge-Storefront-Access-Token", "strfnt"}
	tests := []struct {
		method, target, token string
		header                []string
		want                  int
		wantBody              string
	}{
		{"GET", "/customers", adminToken, nil, 200, ""},
		{"GET", "/customers", "", nil, 401, `{"error":"bad authentication"}`},
		{"GET", "/customers", "wrong", nil, 401, `{"error":"bad authentication"}`},
		{"GET", "/customers", "bare", nil, 403, ""},
		{"GET", "/customers", adminToken, []string{"X-Recharge-Version", "2019-01"}, 426, ""},
		{"GET", "/customers", adminToken, []string{"X-Recharge-Version", ""}, 200, ""},
		{"POST", "/customers", adminToken, nil, 405, ""},
		{"GET", one, adminToken, nil, 200, ""},
		{"GET", one, "bare", nil, 403, ""},
		{"GET", "/customers/1", adminToken, nil, 404, `{"errors":"Not Found"}`},
		{"GET", "/customers/..%2Fstore", adminToken, nil, 404, `{"errors":"Not Found"}`},
		{"GET", "/customers/", adminToken, nil, 404, `{"errors":"Not Found"}`},
		{"POST", sessions, adminToken, strfnt, 200, ""},
		{"POST", sessions, "plural", strfnt, 200, ""},
		{"POST", sessions, "bare", strfnt, 403, ""},
		{"POST", sessions, "wrong", strfnt, 401, `{"error":"bad authentication"}`},
		{"POST", sessions, adminToken, nil, 401, `{"error":"bad authentication"}`},
		{"POST", sessions, adminToken, append([]string{"Content-Type", "text/plain"}, strfnt...), 415, ""},
		{"POST", "/customers/1/sessions", adminToken, strfnt, 404, `{"errors":"Not Found"}`},
		{"GET", sessions, adminToken, strfnt, 405, ""},
		{"GET", "/portal_access?shop_url=" + shop, adminToken, nil, 401, `{"error":"bad authentication"}`},
		{"GET", "/token_information", "bare", nil, 200, ""},
		{"GET", "/token_information", "", nil, 401, ""},
		{"GET", "/store", adminToken, nil, 200, ""},
		{"GET", "/store", "bare", nil, 403, ""},
		{"GET", "/orders", adminToken, nil, 404, `{"errors":"Not Found"}`},
		{"GET", "/orders", "", nil, 401, ""},
	}
	for _, tt := range tests {
		got := w.call(tt.method, tt.target, tt.token, tt.header...)
		if got.Status != tt.want || tt.wantBody != "" && got.Body != tt.wantBody {
			t.Errorf("%s %q with %q %q = %d %s; want %d %s",
				tt.method, tt.target, tt.token, tt.header, got.Status, got.Body, tt.want, tt.wantBody)
		}
	}
}

func TestListCustomersShape(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := decode[any](t, w.get("/customers?external_customer_id="+pat.ShopifyCustomerID))
	want := decode[any](t, reply{Body: `{"next_cursor":null,"previous_cursor":null,"customers":[{"id":70100200,
		"analytics_data":{"utm_params":[]},"apply_credit_to_next_checkout_charge":false,
		"apply_credit_to_next_recurring_charge":false,"created_at":"2024-03-09T02:36:35","email":"pat@example.test",
		"external_customer_id":{"ecommerce":"6100200300400"},"first_charge_processed_at":"2024-03-09T02:37:30",
		"first_name":"Pat","has_payment_method_in_dunning":false,"has_valid_payment_method":true,"hash":"1f2e3d4c5b6a7988",
		"last_name":"Doe","phone":null,"subscription_related_charge_streak":1,"subscriptions_active_count":1,
		"subscriptions_total_count":1,"tax_exempt":false,"updated_at":"2025-04-02T10:11:12+00:00"}]}`})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GET /customers (-want +got):\n%s", diff)
	}
	none := w.get("/customers?external_customer_id=1").Body
	if want := `{"next_cursor":null,"previous_cursor":null,"customers":[]}`; none != want {
		t.Errorf("GET /customers of nobody = %s; want %s", none, want)
	}
	single := decode[map[string]any](t, w.get("/customers/70100200"))
	wantSingle := map[string]any{"customer": want.(map[string]any)["customers"].([]any)[0]}
	if diff := cmp.Diff(wantSingle, single); diff != "" {
		t.Errorf("GET /customers/70100200 (-want +got):\n%s", diff)
	}
}

type page struct {
	Next      *string `json:"next_cursor"`
	Previous  *string `json:"previous_cursor"`
	Customers []struct {
		ID       int64 `json:"id"`
		External struct {
			Ecommerce *string `json:"ecommerce"`
		} `json:"external_customer_id"`
	} `json:"customers"`
}

func (p page) ids() []int64 {
	ids := []int64{}
	for _, c := range p.Customers {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestCustomerFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := []struct {
		query string
		want  []int64
	}{
		{"", []int64{pat.ID, sam.ID, noShopify.ID}},
		{"external_customer_id=6100200300500", []int64{sam.ID}},
		{"external_customer_id=", []int64{pat.ID, sam.ID, noShopify.ID}},
		{"email=PAT@example.test", []int64{pat.ID}},
		{"hash=" + sam.Hash, []int64{sam.ID}},
		{"ids=70100400,70100200", []int64{pat.ID, noShopify.ID}},
		{"email=pat@example.test&external_customer_id=6100200300500", []int64{}},
		{"shopify_customer_id=6100200300500", []int64{pat.ID, sam.ID, noShopify.ID}}, // 2021-01's name is unknown, so ignored
	}
	for _, tt := range tests {
		p := decode[page](t, w.get("/customers?"+tt.query))
		if diff := cmp.Diff(tt.want, p.ids()); diff != "" {
			t.Errorf("GET /customers?%s (-want +got):\n%s", tt.query, diff)
		}
	}
	if got := decode[page](t, w.get("/customers?ids=70100400")).Customers[0].External.Ecommerce; got != nil {
		t.Errorf("ecommerce id of a customer without one = %q; want null", *got)
	}
}

func TestCustomerPages(t *testing.T) {
	t.Parallel()
	var many []rechargetest.Customer
	var wantIDs []int64
	for i := int64(1); i <= 300; i++ {
		many = append(many, rechargetest.Customer{ID: i, Hash: fmt.Sprintf("h%d", i), Email: fmt.Sprintf("%d@example.test", i%2)})
		if i%2 == 1 {
			wantIDs = append(wantIDs, i)
		}
	}
	w := newWorld(t, func(o *rechargetest.Options) { o.Customers = many })

	var got []int64
	var last page
	sizes := []int{}
	for target := "/customers?email=1@example.test&limit=60"; ; {
		last = decode[page](t, w.get(target))
		got = append(got, last.ids()...)
		sizes = append(sizes, len(last.Customers))
		if last.Next == nil {
			break
		}
		target = "/customers?limit=60&cursor=" + url.QueryEscape(*last.Next)
	}
	if diff := cmp.Diff(wantIDs, got); diff != "" {
		t.Errorf("all pages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{60, 60, 30}, sizes); diff != "" {
		t.Errorf("page sizes (-want +got):\n%s", diff)
	}
	previous := decode[page](t, w.get("/customers?limit=60&cursor="+url.QueryEscape(*last.Previous)))
	if diff := cmp.Diff(wantIDs[60:120], previous.ids()); diff != "" {
		t.Errorf("previous page (-want +got):\n%s", diff)
	}

	for query, want := range map[string]int{"": 50, "limit=250": 250} {
		if got := len(decode[page](t, w.get("/customers?"+query)).Customers); got != want {
			t.Errorf("GET /customers?%s holds %d; want %d", query, got, want)
		}
	}
	cursor := "cursor=" + url.QueryEscape(*last.Previous)
	for query, want := range map[string]string{
		"limit=251":                 `{"errors":{"limit":["Invalid value"]}}`,
		"limit=0":                   `{"errors":{"limit":["Invalid value"]}}`,
		"limit=x":                   `{"errors":{"limit":["Invalid value"]}}`,
		"cursor=x":                  `{"errors":{"cursor":["Invalid value"]}}`,
		cursor + "&email=a@b":       `{"errors":{"cursor":["Invalid value"]}}`,
		cursor + "&sort_by=id-desc": `{"errors":{"cursor":["Invalid value"]}}`,
	} {
		if got := w.get("/customers?" + query); got.Status != 422 || got.Body != want {
			t.Errorf("GET /customers?%s = %d %s; want 422 %s", query, got.Status, got.Body, want)
		}
	}
}

func TestTokenInformationAndStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.get("/token_information").Body
	want := `{"token_information":{"client":{"name":"Emulated client","email":"dev@example.test"},` +
		`"contact_email":"dev@example.test","name":"emulated token","scopes":["read_customers","read_store","write_session"]}}`
	if got != want {
		t.Errorf("GET /token_information = %s; want %s", got, want)
	}
	w.SetPortalBase("https://" + shop + "/tools/recurring/portal/")
	store := decode[map[string]map[string]any](t, w.get("/store"))["store"]
	for key, want := range map[string]any{
		"identifier": shop, "default_api_version": "2021-11", "external_platform": "shopify",
		"customer_portal_base_url": "https://" + shop + "/tools/recurring/portal", "id": 3344622769.0,
	} {
		if store[key] != want {
			t.Errorf("store[%q] = %v; want %v", key, store[key], want)
		}
	}
}

func TestBucketFillsAndLeaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Tokens = append(o.Tokens, rechargetest.Token{Value: "fast", Rate: 4, Burst: 2})
	})
	expect := func(token string, wantStatus int, wantLimit string) {
		t.Helper()
		got := w.call(http.MethodGet, "/token_information", token)
		if limit := got.Header.Get("X-Recharge-Limit"); got.Status != wantStatus || limit != wantLimit {
			t.Errorf("call with %q = %d, limit %q; want %d, %q", token, got.Status, limit, wantStatus, wantLimit)
		}
	}
	for i := 1; i <= 40; i++ {
		expect(adminToken, 200, fmt.Sprintf("%d/40", i))
	}
	expect(adminToken, 429, "40/40")
	expect("fast", 200, "1/2") // a bucket of its own
	expect("unknown", 401, "")
	w.advance(250 * time.Millisecond) // half a call leaks: still no room
	expect(adminToken, 429, "40/40")
	w.advance(250 * time.Millisecond)
	expect(adminToken, 200, "40/40")
	w.advance(-time.Hour)
	expect(adminToken, 429, "40/40")
	w.advance(10 * time.Second)
	expect(adminToken, 200, "21/40")
	w.advance(time.Hour)
	expect(adminToken, 200, "1/40")

	session := w.session(pat) // 2/40
	got := w.call(http.MethodGet, "/portal_access?shop_url="+shop, session)
	if limit := got.Header.Get("X-Recharge-Limit"); got.Status != 200 || limit != "3/40" {
		t.Errorf("portal_access = %d, limit %q; want 200, %q", got.Status, limit, "3/40")
	}
	if got := w.get("/token_information"); got.Header.Get("Retry-After") != "" {
		t.Errorf("Retry-After = %q; want none", got.Header.Get("Retry-After"))
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const list = "/customers?external_customer_id=6100200300500"
	tests := []struct {
		name      string
		faults    rechargetest.Faults
		want      int
		wantBody  string
		wantType  string
		wantLimit string
	}{
		{"none", rechargetest.Faults{}, 200, "", "application/json", "1/40"},
		{"limited", rechargetest.Faults{Limited: true}, 429, `{"warning":"too many requests"}`, "application/json", "40/40"},
		{"limited elsewhere", rechargetest.Faults{Limited: true, Only: rechargetest.EndpointSessions}, 200, "", "application/json", "1/40"},
		{"limited here", rechargetest.Faults{Limited: true, Only: rechargetest.EndpointCustomers}, 429, "", "application/json", "40/40"},
		{"empty", rechargetest.Faults{Status: 200}, 200, "", "application/json", "1/40"},
		{"400", rechargetest.Faults{Status: 400}, 400, `{"errors":{"_schema":["Invalid input"]}}`, "application/json", "1/40"},
		{"401", rechargetest.Faults{Status: 401}, 401, `{"error":"bad authentication"}`, "application/json", "1/40"},
		{"403", rechargetest.Faults{Status: 403}, 403, "", "application/json", "1/40"},
		{"404", rechargetest.Faults{Status: 404}, 404, `{"errors":"Not Found"}`, "application/json", "1/40"},
		{"409", rechargetest.Faults{Status: 409}, 409, `{"error":"A call to this route is already in progress."}`, "application/json", "1/40"},
		{"422", rechargetest.Faults{Status: 422}, 422, `{"errors":{"cursor":["Invalid value"]}}`, "application/json", "1/40"},
		{"423", rechargetest.Faults{Status: 423}, 423, "", "application/json", "1/40"},
		{"426", rechargetest.Faults{Status: 426}, 426, "", "application/json", "1/40"},
		{"429", rechargetest.Faults{Status: 429}, 429, `{"warning":"too many requests"}`, "application/json", "1/40"},
		{"500", rechargetest.Faults{Status: 500}, 500, "", "application/json", "1/40"},
		{"502", rechargetest.Faults{Status: 502}, 502, "<html>Bad Gateway</html>", "text/html", "1/40"},
		{"503", rechargetest.Faults{Status: 503}, 503, "", "application/json", "1/40"},
		{"504", rechargetest.Faults{Status: 504}, 504, "<html>Gateway Timeout</html>", "text/html", "1/40"},
		{"no final status", rechargetest.Faults{Status: 100}, 500, "", "application/json", "1/40"},
		{"502 elsewhere", rechargetest.Faults{Status: 502, Only: rechargetest.EndpointStore}, 200, "", "application/json", "1/40"},
		{"late", rechargetest.Faults{Latency: time.Millisecond}, 200, "", "application/json", "1/40"},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.SetFaults(func(f *rechargetest.Faults) { *f = tt.faults })
		if diff := cmp.Diff(tt.faults, w.Faults()); diff != "" {
			t.Errorf("%s: Faults() (-want +got):\n%s", tt.name, diff)
		}
		got := w.get(list)
		gotType, gotLimit := got.Header.Get("Content-Type"), got.Header.Get("X-Recharge-Limit")
		if got.Status != tt.want || tt.wantBody != "" && got.Body != tt.wantBody || gotType != tt.wantType || gotLimit != tt.wantLimit {
			t.Errorf("%s = %d %s, %s, limit %q; want %d %s, %s, limit %q",
				tt.name, got.Status, got.Body, gotType, gotLimit, tt.want, tt.wantBody, tt.wantType, tt.wantLimit)
		}
		if tt.faults.Status != 200 && !json.Valid([]byte(got.Body)) && gotType == "application/json" {
			t.Errorf("%s: body %q is not JSON", tt.name, got.Body)
		}
		if got, want := w.Requests()[0].Status, tt.want; got != want {
			t.Errorf("%s: recorded status = %d; want %d", tt.name, got, want)
		}
	}
}

func TestFaultDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	if got, err := w.do(w.request(http.MethodGet, "/customers", adminToken)); !errors.Is(err, io.EOF) {
		t.Errorf("GET /customers = %v, %v; want EOF", got, err)
	}
	if got := w.Requests(); len(got) != 1 || got[0].Status != 0 || got[0].Endpoint != rechargetest.EndpointCustomers {
		t.Errorf("Requests() = %v; want one without status", got)
	}
	w.SetFaults(func(f *rechargetest.Faults) { f.Down = false })
	if got := w.get("/customers").Status; got != 200 {
		t.Errorf("GET /customers afterwards = %d; want 200", got)
	}
}

func TestFaultTruncate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.Truncate = true })
	got, err := w.do(w.request(http.MethodGet, "/customers", adminToken))
	if got.Status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || json.Valid([]byte(got.Body)) {
		t.Errorf("GET /customers = %d %q, %v; want 200, half a body, %v", got.Status, got.Body, err, io.ErrUnexpectedEOF)
	}
	if got := w.get("/customers/1"); got.Status != 404 || got.Body != `{"errors":"Not Found"}` {
		t.Errorf("GET /customers/1 = %d %s; want a whole 404", got.Status, got.Body)
	}
}

// TestFaultLag: a delayed answer shows the state from before the delay.
func TestFaultLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.Lag, f.Only = 500*time.Millisecond, rechargetest.EndpointCustomer })
	answered := make(chan reply, 1)
	go func() {
		got, _ := w.do(w.request(http.MethodGet, "/customers/70100200", adminToken))
		answered <- got
	}()
	for len(w.Requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // the answer is made and on its way
	w.SetCustomers(nil)
	if got := w.get("/customers").Body; strings.Contains(got, "70100200") {
		t.Errorf("GET /customers = %s; want nobody, at once", got)
	}
	if got := <-answered; got.Status != 200 || !strings.Contains(got.Body, "70100200") {
		t.Errorf("GET /customers/70100200 = %d %s; want the customer who was there", got.Status, got.Body)
	}
	if got := w.get("/customers/70100200").Status; got != 404 {
		t.Errorf("GET /customers/70100200 afterwards = %d; want 404", got)
	}
}

func TestFaultRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.Limited, f.RetryAfter = true, 1500*time.Millisecond })
	if got := w.get("/customers").Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After = %q; want %q", got, "2")
	}
	w.SetFaults(func(f *rechargetest.Faults) { f.Limited = false })
	if got := w.get("/customers").Header.Get("Retry-After"); got != "" {
		t.Errorf("Retry-After of a 200 = %q; want none", got)
	}
}

func TestLatencyEndsAtClose(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w := newWorld(t)
		w.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Hour })
		failed := w.start(w.request(method, "/customers/70100200/sessions", adminToken))
		w.Close()
		if err := <-failed; err == nil {
			t.Errorf("%s during Close = no error; want one", method)
		}
	}
}

// TestLatencyEndsWithClient is not parallel: it looks at every goroutine of the process.
func TestLatencyEndsWithClient(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w := newWorld(t)
		w.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		failed := w.start(w.request(method, "/customers/70100200/sessions", adminToken).WithContext(ctx))
		waitForGoroutines(t, "rechargetest.delay(", true)
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v; want %v", method, err, context.Canceled)
		}
		waitForGoroutines(t, "rechargetest.delay(", false)
		if got := w.Requests()[0].Status; got != 0 {
			t.Errorf("recorded status = %d; want 0", got)
		}
	}
}

// start sends a request. It returns once the server has it, with a channel for its error.
func (w *world) start(req *http.Request) <-chan error {
	failed := make(chan error, 1)
	go func() {
		_, err := w.do(req)
		failed <- err
	}()
	for len(w.Requests()) == 0 { // a request is recorded on arrival
		runtime.Gosched()
	}
	return failed
}

// waitForGoroutines waits until some goroutine, or none, is in the function.
func waitForGoroutines(t *testing.T, function string, want bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if strings.Contains(string(stacks), function) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutine in %s: want %v:\n%s", function, want, stacks)
		}
		runtime.Gosched()
	}
}

func TestFaultShapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.IgnoreFilter = true })
	p := decode[page](t, w.get("/customers?external_customer_id=6100200300500"))
	if diff := cmp.Diff([]int64{pat.ID, sam.ID, noShopify.ID}, p.ids()); diff != "" {
		t.Errorf("with IgnoreFilter (-want +got):\n%s", diff)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{RefuseSessions: true} })
	if got := w.call(http.MethodPost, "/customers/70100200/sessions", adminToken).Status; got != 403 {
		t.Errorf("session with RefuseSessions = %d; want 403", got)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{RefusePortalAccess: true} })
	if got := w.call(http.MethodGet, "/portal_access?shop_url="+shop, w.session(pat)).Status; got != 401 {
		t.Errorf("portal_access with RefusePortalAccess = %d; want 401", got)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{SnakeCaseSession: true} })
	s := decode[map[string]map[string]any](t, w.call(http.MethodPost, "/customers/70100200/sessions", adminToken))["customer_session"]
	if s["api_token"] == nil || s["apiToken"] != nil {
		t.Errorf("customer_session with SnakeCaseSession = %v; want api_token only", s)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{ZonedExpiry: true} })
	if got, want := w.access(pat, "").ExpiresAt, "2025-01-02T00:00:00+00:00"; got != want {
		t.Errorf("expires_at with ZonedExpiry = %q; want %q", got, want)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{ForeignPortal: true} })
	foreign := w.access(pat, "")
	if foreign.CustomerHash != sam.Hash || !strings.Contains(foreign.PortalURL, "/portal/"+sam.Hash+"/") {
		t.Errorf("portal_access with ForeignPortal = %+v; want the hash of Sam", foreign)
	}

	w.SetFaults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{ForeignSession: true} })
	s = decode[map[string]map[string]any](t, w.call(http.MethodPost, "/customers/70100200/sessions", adminToken))["customer_session"]
	if got := s["customer_id"]; got != float64(sam.ID) {
		t.Errorf("customer_id with ForeignSession = %v; want %d", got, sam.ID)
	}
	w.SetCustomers([]rechargetest.Customer{pat})
	s = decode[map[string]map[string]any](t, w.call(http.MethodPost, "/customers/70100200/sessions", adminToken))["customer_session"]
	if got := s["customer_id"]; got == float64(pat.ID) {
		t.Errorf("customer_id with ForeignSession and nobody else = %v; want an invented one", got)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.get("/customers?limit=2")
	w.get("/favicon.ico")
	w.get("/portal/x/subscriptions")
	w.call(http.MethodPost, "/customers/70100200/sessions", adminToken)
	w.get("/orders")
	type brief struct {
		Method, Path, Endpoint, Limit, Token string
		Status                               int
		At                                   time.Time
	}
	var got []brief
	for _, r := range w.Requests() {
		got = append(got, brief{r.Method, r.Path, r.Endpoint, r.Query.Get("limit"), r.Header.Get("X-Recharge-Access-Token"), r.Status, r.At})
	}
	want := []brief{
		{"GET", "/customers", "customers", "2", adminToken, 200, w.Now()},
		{"POST", "/customers/70100200/sessions", "sessions", "", adminToken, 200, w.Now()},
		{"GET", "/orders", "unknown", "", adminToken, 404, w.Now()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Requests() (-want +got):\n%s", diff)
	}
	w.ResetRequests()
	if got := len(w.Requests()); got != 0 {
		t.Errorf("after ResetRequests there are %d; want 0", got)
	}
	answered := map[rechargetest.Answered]int{{Endpoint: "customers", Status: 200}: 1, {Endpoint: "sessions", Status: 200}: 1, {Endpoint: "unknown", Status: 404}: 1}
	if diff := cmp.Diff(answered, w.Answered()); diff != "" {
		t.Errorf("Answered() (-want +got):\n%s", diff)
	}
}

// TestUnsigned: a session token without a signature is as long as another, and works.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	token := func(unsigned bool) string {
		w := newWorld(t, func(o *rechargetest.Options) { o.Unsigned = unsigned })
		session := w.call(http.MethodPost, "/customers/70100200/sessions", adminToken)
		token, _ := decode[map[string]map[string]any](t, session)["customer_session"]["apiToken"].(string)
		if got := w.call(http.MethodGet, "/portal_access?shop_url="+shop, token).Status; got != http.StatusOK {
			t.Errorf("unsigned %t: portal_access = %d; want 200", unsigned, got)
		}
		return token
	}
	if signed, unsigned := token(false), token(true); len(signed) != len(unsigned) || signed == unsigned {
		t.Errorf("a session token without a signature is %q; want one as long as %q", unsigned, signed)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Tokens[0].Burst = 1000
	})
	link := strings.TrimPrefix(w.access(pat, "").PortalURL, w.URL)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := w.do(w.request(http.MethodGet, "/customers", adminToken)); err != nil {
					t.Errorf("GET /customers: %v", err)
				}
				if _, err := w.do(w.request(http.MethodGet, link, "")); err != nil {
					t.Errorf("GET portal: %v", err)
				}
				w.SetFaults(func(f *rechargetest.Faults) { f.ZonedExpiry = !f.ZonedExpiry })
				w.SetCustomers([]rechargetest.Customer{pat, sam})
				w.SetPortalBase("")
				w.Requests()
				w.Openings()
			}
		})
	}
	wg.Wait()
	if got, want := len(w.Openings()), 80; got != want {
		t.Errorf("Openings() = %d; want %d", got, want)
	}
}

// TestCloseEndsGoroutines is not parallel: it looks at every goroutine of the process.
func TestCloseEndsGoroutines(t *testing.T) {
	w := newWorld(t)
	w.get("/customers")
	w.get("/portal/" + pat.Hash)
	w.Close()
	w.Close()
	w.client.CloseIdleConnections()
	if _, err := w.do(w.request(http.MethodGet, "/customers", adminToken)); err == nil {
		t.Error("GET after Close = no error; want one")
	}
	// A connection is counted out in its goroutine's last steps, so give the scheduler a chance to finish them.
	waitForGoroutines(t, "net/http.(*conn).serve", false)
	waitForGoroutines(t, "net/http.(*Server).Serve", false)
}

package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// fetch makes a GET request to the operator's listener or the public one.
func fetch(t *testing.T, at, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + at + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestSource: each click's line says where its answer came from and how long each step took.
func TestSource(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	steps := []struct {
		name    string
		shopper string
		before  func()
		source  string
		steps   string
	}{
		{"first", servertest.Pat, func() {}, "recharge", "verify redis_read budget customers sessions portal_access redis_write"},
		{"again", servertest.Pat, func() {}, "link", "verify redis_read"},
		{"link is over", servertest.Pat, func() { f.Clock.Add(2 * time.Minute) }, "session", "verify redis_read budget portal_access redis_write"},
		{"session is over, and who it was is an hour old", servertest.Pat, func() { f.Clock.Add(2 * time.Hour) }, "customer", "verify redis_read budget customers sessions portal_access redis_write"},
		{"out of date, and Recharge is down", servertest.Pat, func() {
			f.Clock.Add(30 * time.Hour)
			f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Status = 500 })
		}, "out_of_date", "verify redis_read budget customers customers redis_write"},
		{"nobody knows", servertest.Robin, func() {}, "none", "verify redis_read budget customers customers redis_write"},
		{"does not subscribe", servertest.Robin, func() { f.Recharge.SetFaults(func(x *rechargetest.Faults) { *x = rechargetest.Faults{} }) }, "recharge", "verify redis_read budget customers redis_write"},
		{"is known not to", servertest.Robin, func() {}, "nobody", "verify redis_read"},
		{"signed out", "", func() {}, "", "verify"},
	}
	for _, step := range steps {
		step.before()
		got := f.Click(f.Shopper(step.shopper), "/apps/subscriptions")
		source, _ := got.Line["source"].(string)
		text, _ := got.Line["steps"].(string)
		if names := regexp.MustCompile(`=[0-9.]+`).ReplaceAllString(text, ""); source != step.source || names != step.steps {
			t.Errorf("%s: source %q, steps %q; want %q, %q", step.name, source, names, step.source, step.steps)
		}
	}
}

// TestMetrics reads what an operator reads, after clicks of several kinds.
func TestMetrics(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions")
	f.Click(f.Shopper(""), "/apps/subscriptions")
	fetch(t, f.Public, "/apps/subscriptions")
	for _, shopper := range []string{servertest.Pat, servertest.Pat, servertest.Robin, ""} {
		f.Click(f.Shopper(shopper), "/apps/subscriptions/status")
	}
	fetch(t, f.Public, "/apps/subscriptions/status")
	response, err := http.Post("http://"+f.Public+"/webhooks/shopify", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	status, scraped := fetch(t, f.Ops, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("GET /metrics = %d", status)
	}
	for _, want := range []string{
		`clicks_total{outcome="redirected"} 1`, `clicks_total{outcome="not_a_subscriber"} 1`, `clicks_total{outcome="sign_in"} 1`, `clicks_total{outcome="forbidden"} 1`,
		`click_sources_total{source="recharge"} 2`, `step_seconds_count{step="portal_access"} 1`,
		`recharge_calls_total{endpoint="customers",status="ok"} 2`, `recharge_calls_total{endpoint="sessions",status="ok"} 1`,
		`webhooks_total{from="shopify",status="` + fmt.Sprint(response.StatusCode) + `"} 1`,
		`status_answers_total{answer="subscriber"} 2`, `status_answers_total{answer="not_a_subscriber"} 1`, `status_answers_total{answer="signed_out"} 1`,
		`status_answers_total{answer="forbidden"} 1`, `status_answers_total{answer="not_known"} 0`,
		"ready 1", "redis_up 1", "servers 1", "budget_burst 10000", `breakers_open{endpoint="customers"} 0`,
	} {
		if !slices.Contains(strings.Split(scraped, "\n"), "manage_subscriptions_"+want) {
			t.Errorf("no %s in the scrape", want)
		}
	}
	secrets := f.Secrets()
	secrets["the shop"], secrets["a customer"], secrets["another customer"] = servertest.Shop, servertest.Pat, servertest.Robin
	series := regexp.MustCompile(`(?m) [-+.e0-9]+$`).ReplaceAllString(scraped, "") // a number can look like an id
	for what, secret := range secrets {
		if strings.Contains(series, secret) {
			t.Errorf("the scrape holds %s", what)
		}
	}
	for _, path := range []string{"/metrics", "/livez", "/debug/pprof/"} {
		if status, _ := fetch(t, f.Public, path); status != http.StatusNotFound {
			t.Errorf("GET %s of the public listener = %d; want 404", path, status)
		}
	}
	if status, _ := fetch(t, f.Ops, "/debug/pprof/heap"); status != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/heap, which was not asked for = %d; want 404", status)
	}
}

// TestMetricsByShop: a connected store has metrics of its own, and no request makes any for another.
func TestMetricsByShop(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores, func(s *config.Settings) { s.MetricsShops = "top:50" })
	f.Connect()
	f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	stranger := shopifytest.NewServer(shopifytest.Options{Shop: "stranger.myshopify.com", Now: f.Clock.Now})
	defer stranger.Close()
	fetch(t, f.Public, "/apps/subscriptions?"+stranger.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret))
	fetch(t, f.Public, "/apps/subscriptions?shop=forged.myshopify.com&signature=0")
	fetch(t, f.Public, "/apps/subscriptions?signature=0&shop="+servertest.Shop)
	_, scraped := fetch(t, f.Ops, "/metrics")
	for _, want := range []string{
		`clicks_total{outcome="not_connected"} 1`, `clicks_total{outcome="forbidden"} 2`, `shop_budget_left{shop="` + servertest.Shop + `"} `,
		`shop_clicks_total{outcome="redirected",shop="` + servertest.Shop + `"} 1`, `shop_clicks_total{outcome="forbidden",shop="` + servertest.Shop + `"} 0`,
	} {
		if !strings.Contains(scraped, "\nmanage_subscriptions_"+want) {
			t.Errorf("no %s in the scrape", want)
		}
	}
	if strings.Contains(scraped, "stranger") || strings.Contains(scraped, "forged") {
		t.Errorf("the scrape names a store that is not connected:\n%s", scraped)
	}
}

// TestMetricsOfABrokenRedis: the scrape reports it and waits for nothing.
func TestMetricsOfABrokenRedis(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Redis.Stop()
	f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	if _, scraped := fetch(t, f.Ops, "/metrics"); !strings.Contains(scraped, "\nmanage_subscriptions_redis_up 0\n") {
		t.Error("the scrape does not say that Redis is down")
	}
}

// TestMetricsOfAnIndex: a scrape has what the store knows about an index.
func TestMetricsOfAnIndex(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 600)
	f.WaitForImport()
	f.Clock.Add(time.Hour)
	f.Restart(func() {})
	scraped := ""
	f.Until("the index is in the scrape", func() bool {
		_, scraped = fetch(t, f.Ops, "/metrics")
		return strings.Contains(scraped, "\nmanage_subscriptions_index_customers 606\n")
	})
	for _, want := range []string{"index_shops 1", "index_shops_never_read 0", "index_shops_stuck 0", "index_imports_running 0"} {
		if !strings.Contains(scraped, "\nmanage_subscriptions_"+want+"\n") {
			t.Errorf("no %s in the scrape", want)
		}
	}
	if age := regexp.MustCompile(`index_age_seconds 36\d\d`).FindString(scraped); age == "" {
		t.Error("the index is not an hour old in the scrape")
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.PProf = "on" })
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/profile?seconds=1": 200,
		"/debug/pprof/cmdline": 404, // flags can hold secrets
	} {
		if status, _ := fetch(t, f.Ops, path); status != want {
			t.Errorf("GET %s = %d; want %d", path, status, want)
		}
	}
	if status, _ := fetch(t, f.Public, "/debug/pprof/heap"); status != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/heap of the public listener = %d; want 404", status)
	}
}

// TestTraces lets a collector read the spans of a click.
func TestTraces(t *testing.T) {
	sent := make(chan []byte, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Api-Key") != "hush, hush" {
			t.Errorf("the collector gets the header X-Api-Key: %q", r.Header.Get("X-Api-Key"))
		}
		if r.URL.Path == "/v1/traces" && r.Method == http.MethodPost {
			sent <- body
		}
		if got := r.Header.Get("Content-Type"); got != "application/x-protobuf" {
			t.Errorf("the collector gets the content type %q", got)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	f := servertest.Start(t, func(s *config.Settings) {
		s.OTLPEndpoint, s.OTLPHeaders = collector.URL, "x-team=a, x-api-key=hush%2C%20hush"
	})
	got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	f.Stop() // sends the remaining spans
	f.Ended <- <-f.Ended
	var request tracepb.TracesData
	body := <-sent
	if err := proto.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	var root []byte
	var names []string
	spans := request.ResourceSpans[0].ScopeSpans[0].Spans
	for _, span := range spans {
		if span.Name == "click" {
			root = span.SpanId
			attributes := map[string]string{}
			for _, a := range span.Attributes {
				attributes[a.Key] = a.Value.GetStringValue()
			}
			if attributes["outcome"] != "redirected" || attributes["source"] != "recharge" || attributes["request_id"] != got.Line["request_id"] {
				t.Errorf("the click's attributes are %v", attributes)
			}
		}
	}
	for _, span := range spans {
		if span.Name != "click" {
			names = append(names, span.Name)
			if string(span.ParentSpanId) != string(root) || span.EndTimeUnixNano < span.StartTimeUnixNano {
				t.Errorf("the span %s is not one of the click's, or ends before it begins", span.Name)
			}
		}
	}
	if got, want := strings.Join(names, " "), "verify redis_read budget customers sessions portal_access redis_write"; got != want {
		t.Errorf("spans %q; want %q", got, want)
	}
	for what, secret := range f.Secrets() {
		if strings.Contains(string(body), secret) {
			t.Errorf("a span holds %s", what)
		}
	}
}

// TestTracesKeepTheKey: if a collector repeats the key that we sent, the log does not have it. If it
// redirects us, the other host does not get it.
func TestTracesKeepTheKey(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host is asked, with the key %q", r.Header.Get("X-Api-Key"))
	}))
	defer elsewhere.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"repeats it": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "unknown key "+r.Header.Get("X-Api-Key"), http.StatusUnauthorized)
		},
		"sends us on": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			collector := httptest.NewServer(answer)
			defer collector.Close()
			f := servertest.Start(t, func(s *config.Settings) { s.OTLPEndpoint, s.OTLPHeaders = collector.URL, "x-api-key=hush-hush" })
			f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
			f.Stop()
			f.Ended <- <-f.Ended
			line := f.Log.Last("cannot send traces; it is tried again")
			if text := fmt.Sprint(line); line == nil || strings.Contains(text, "hush") || !strings.Contains(text, "does not take them") {
				t.Errorf("the log has %s; want it to say that the collector does not take them, without the key", text)
			}
		})
	}
}

// TestTracesNobodyTakes: without a collector, clicks go on, and the log says so once.
func TestTracesNobodyTakes(t *testing.T) {
	f := servertest.Start(t, func(s *config.Settings) { s.OTLPEndpoint = "http://127.0.0.1:1" })
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions"); got.Outcome() != "redirected" {
		t.Errorf("click = %s; want redirected", got.Outcome())
	}
	f.Stop()
	f.Ended <- <-f.Ended
	if line := f.Log.Last("cannot send traces; it is tried again"); line == nil {
		t.Error("the log does not say that traces cannot be sent")
	}
}

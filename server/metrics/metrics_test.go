package metrics_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/server/metrics"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("GET /metrics = %d, %v", w.Code, err)
	}
	return string(body)
}

func want(t *testing.T, scraped string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !slices.Contains(strings.Split(scraped, "\n"), "manage_subscriptions_"+line) {
			t.Errorf("no %s in the scrape", line)
		}
	}
}

// fixed is a server whose state does not change.
type fixed metrics.State

func (f fixed) State() metrics.State { return metrics.State(f) }

// Connected accepts the shops with one letter.
func (fixed) Connected(shop shopify.Shop) bool {
	return regexp.MustCompile(`^\w\.`).MatchString(string(shop))
}

func TestEvents(t *testing.T) {
	m := metrics.New("v1.2.3", fixed{}, metrics.Shops{})
	m.Click(portal.Click{
		Shop: "a-shop.myshopify.com", Outcome: portal.Redirected, Source: portal.FromLink, Took: 3 * time.Millisecond,
		Steps: []portal.Step{{Name: "redis_read", Took: 2 * time.Millisecond}},
		Cause: errors.New("a cause"),
	})
	m.Click(portal.Click{Outcome: portal.Forbidden})
	for _, failed := range []*recharge.Error{
		nil, {Status: 429, Reason: recharge.Limited}, {Status: 200, Reason: recharge.Malformed}, {Reason: recharge.TooSlow}, {Status: 799, Reason: recharge.Unexpected},
	} {
		m.Call(recharge.Call{Endpoint: recharge.Customers, Took: time.Second, Failed: failed})
	}
	m.Webhook(portal.SentByShopify, 401)
	scraped := scrape(t, m)
	want(t, scraped,
		`clicks_total{outcome="redirected"} 1`, `clicks_total{outcome="forbidden"} 1`, `clicks_total{outcome="unavailable"} 0`,
		`click_sources_total{source="link"} 1`, `click_sources_total{source="recharge"} 0`,
		`click_seconds_bucket{outcome="redirected",le="0.0025"} 0`, `click_seconds_bucket{outcome="redirected",le="0.005"} 1`,
		`step_seconds_count{step="redis_read"} 1`, `step_seconds_count{step="portal_access"} 0`,
		`recharge_calls_total{endpoint="customers",status="ok"} 1`, `recharge_calls_total{endpoint="customers",status="429"} 1`,
		`recharge_calls_total{endpoint="customers",status="malformed_answer"} 1`, `recharge_calls_total{endpoint="customers",status="too_slow"} 1`,
		`recharge_calls_total{endpoint="customers",status="other"} 1`, `recharge_call_seconds_count{endpoint="customers"} 5`,
		`webhooks_total{from="shopify",status="401"} 1`, `build_info{version="v1.2.3"} 1`)
	if strings.Contains(scraped, "a-shop") || strings.Contains(scraped, "a cause") {
		t.Error("the scrape names a shop, or a cause")
	}
	if strings.Contains(scraped, "budget_left ") {
		t.Error("the scrape has a budget although there is no token")
	}
}

func TestState(t *testing.T) {
	now := time.Unix(1735689600, 0)
	m := metrics.New("", fixed{
		Ready: true, Servers: 3, RedisUp: true, RedisPing: time.Millisecond, Now: now,
		RedisPool: redis.PoolStats{TotalConns: 5, Timeouts: 1},
		Budgets: map[shopify.Shop]recharge.Budget{
			"a.myshopify.com": {Left: 30, Burst: 40}, "b.myshopify.com": {Left: 7, Burst: 80, Paused: time.Second},
		},
		OpenCircuits: map[string]int{recharge.Sessions: 2},
		Imports: map[shopify.Shop]store.Import{
			"a.myshopify.com": {Size: 100, Done: now.Add(-time.Hour)}, "c.myshopify.com": {Problem: "no scope"},
			"b.myshopify.com": {Size: 50, Done: now.Add(-time.Minute), Running: true, Customers: 20},
		},
	}, metrics.Shops{Named: []shopify.Shop{"a.myshopify.com"}})
	want(t, scrape(t, m),
		"ready 1", "servers 3", "redis_up 1", "redis_ping_seconds 0.001", "redis_connections 5", "redis_pool_timeouts_total 1",
		"budget_left 7", "budget_burst 80", "budget_paused 1",
		`breakers_open{endpoint="sessions"} 2`, `breakers_open{endpoint="customers"} 0`,
		"index_shops 3", "index_shops_never_read 1", "index_shops_stuck 1", "index_customers 150", "index_age_seconds 3600",
		"index_imports_running 1", "index_progress_customers 20",
		`shop_clicks_total{outcome="redirected",shop="a.myshopify.com"} 0`, `shop_budget_left{shop="a.myshopify.com"} 30`,
		`shop_index_age_seconds{shop="a.myshopify.com"} 3600`)
}

// TestShops: only the shops of METRICS_SHOPS have series, whatever the traffic, and their counters never go back.
func TestShops(t *testing.T) {
	click := func(m *metrics.Metrics, shop shopify.Shop, n int) {
		for range n {
			m.Click(portal.Click{Shop: shop, Outcome: portal.Redirected})
		}
	}
	shopsIn := func(m *metrics.Metrics) []string {
		var found []string
		for _, row := range regexp.MustCompile(`(?m)^\w+\{outcome="redirected",shop="(.*)"\} .*$`).FindAllStringSubmatch(scrape(t, m), -1) {
			found = append(found, row[1])
		}
		return found
	}
	top := metrics.New("", fixed{}, metrics.Shops{Top: 2})
	named := metrics.New("", fixed{}, metrics.Shops{Named: []shopify.Shop{"a.myshopify.com", "quiet.myshopify.com"}})
	for _, m := range []*metrics.Metrics{top, named} {
		for i := range 1000 {
			click(m, shopify.Shop(fmt.Sprintf("stranger-%d.myshopify.com", i)), 9)
		}
		click(m, "", 9) // not verified
		click(m, "a.myshopify.com", 3)
		click(m, "b.myshopify.com", 2)
		click(m, "c.myshopify.com", 1)
	}
	if got, want := shopsIn(named), []string{"a.myshopify.com", "quiet.myshopify.com"}; !slices.Equal(got, want) {
		t.Errorf("with a list, the scrape has %q; want %q", got, want)
	}
	if got, want := shopsIn(top), []string{"a.myshopify.com", "b.myshopify.com"}; !slices.Equal(got, want) {
		t.Errorf("with top:2, the scrape has %q; want %q", got, want)
	}
	click(top, "c.myshopify.com", 4)
	if got, want := shopsIn(top), []string{"a.myshopify.com", "c.myshopify.com"}; !slices.Equal(got, want) {
		t.Errorf("later the scrape has %q; want %q", got, want)
	}
	want(t, scrape(t, top), `shop_clicks_total{outcome="redirected",shop="c.myshopify.com"} 5`)
}

// full is a server whose scrape, with everyShop, has every metric.
func full() fixed {
	return fixed{
		Budgets: map[shopify.Shop]recharge.Budget{"a.myshopify.com": {}}, Now: time.Unix(2, 0),
		Imports: map[shopify.Shop]store.Import{"a.myshopify.com": {Done: time.Unix(1, 0)}},
	}
}

func everyShop() metrics.Shops { return metrics.Shops{Top: 1} }

const doc = "../../docs/metrics.md"

// TestDoc compares docs/metrics.md with a scrape. -update rewrites it.
func TestDoc(t *testing.T) {
	m := metrics.New("", full(), everyShop())
	before, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics -->\n", "<!-- /metrics -->\n"
	head, rest, ok := strings.Cut(string(before), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", doc, begin, end)
	}
	after := head + begin + table(scrape(t, m)) + end + tail
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(doc, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(before), after); diff != "" {
		t.Errorf("%s differs from a scrape; go test ./server/metrics -update rewrites it (-is +want):\n%s", doc, diff)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write docs/metrics.md")
	flag.Parse()
	os.Exit(m.Run())
}

var labelShape = regexp.MustCompile(`(\w+)="([^"]*)"`)

// table returns a table with a row for each of our metrics in a scrape.
func table(scraped string) string {
	type row struct {
		help, kind string
		labels     map[string][]string
		names      []string
	}
	rows := map[string]*row{}
	var names []string
	for line := range strings.Lines(scraped) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case fields[0] == "#" && fields[1] == "HELP" && strings.HasPrefix(fields[2], "manage_subscriptions_"):
			rows[fields[2]] = &row{help: fields[3], labels: map[string][]string{}}
			names = append(names, fields[2])
		case fields[0] == "#" && rows[fields[2]] != nil:
			rows[fields[2]].kind = fields[3]
		case fields[0] != "#":
			name, _, _ := strings.Cut(fields[0], "{")
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			of := rows[name]
			if of == nil {
				continue
			}
			for _, label := range labelShape.FindAllStringSubmatch(line, -1) {
				if label[1] == "le" || label[1] == "version" {
					continue
				}
				if of.labels[label[1]] == nil {
					of.names = append(of.names, label[1])
				}
				if !slices.Contains(of.labels[label[1]], label[2]) {
					of.labels[label[1]] = append(of.labels[label[1]], label[2])
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("| metric | kind | what it tells | labels |\n|---|---|---|---|\n")
	for _, name := range names {
		var labels []string
		for _, label := range rows[name].names {
			if label == "status" || label == "shop" {
				labels = append(labels, "`"+label+"`")
				continue
			}
			labels = append(labels, fmt.Sprintf("`%s`: `%s`", label, strings.Join(rows[name].labels[label], "` `")))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, rows[name].kind, rows[name].help, strings.Join(labels, "; "))
	}
	return b.String()
}

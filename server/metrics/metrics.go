// Package metrics counts events and reports state for Prometheus. It has a registry of its own. No
// label has values that a visitor could choose, such as a path or customer. Shops are only those of Shops.
package metrics

import (
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const namespace = "manage_subscriptions"

// Metrics holds the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	source   Source
	shops    *shopClicks

	// Maps, because each click looks these up.
	clicks       map[portal.Outcome]prometheus.Counter
	sources      map[portal.Source]prometheus.Counter
	clickSeconds map[portal.Outcome]prometheus.Observer
	stepSeconds  map[string]prometheus.Observer

	calls       *prometheus.CounterVec
	callSeconds map[string]prometheus.Observer
	webhooks    *prometheus.CounterVec
	statuses    map[portal.StatusAnswer]prometheus.Counter
}

// New returns metrics. Every series whose labels are known, or that an alert looks at, starts at 0, since
// increase() does not see the first event of a series that begins with it.
func New(version string, source Source, shops Shops) *Metrics {
	registry, byShop := prometheus.NewRegistry(), newShopClicks(shops)
	registry.MustRegister(collector{source, byShop},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	add := factory{promauto.With(registry)}
	clicks := add.counter("clicks_total", "Answered clicks, by outcome.", "outcome")
	sources := add.counter("click_sources_total", "Clicks, by where the server found what they needed.", "source")
	clickSeconds := add.histogram("click_seconds", "How long a click took, from request to answer.", "outcome")
	stepSeconds := add.histogram("step_seconds", "How long one step of a click took.", "step")
	calls := add.counter("recharge_calls_total",
		"Calls to the Recharge API, by endpoint and status. The status is ok, an HTTP status, or why there was none.",
		"endpoint", "status")
	callSeconds := add.histogram("recharge_call_seconds", "How long a call to the Recharge API took.", "endpoint")
	webhooks := add.counter("webhooks_total", "Answered webhooks, by sender and status.", "from", "status")
	statuses := add.counter("status_answers_total", "Answers to themes that asked whether to show the link.", "answer")
	for _, endpoint := range recharge.Endpoints() {
		for _, status := range []string{"ok", "401", "403", "429"} {
			calls.WithLabelValues(endpoint, status)
		}
	}
	for _, from := range []portal.Sender{portal.SentByShopify, portal.SentByRecharge} {
		for _, status := range []string{"200", "400", "401", "413", "500"} {
			webhooks.WithLabelValues(string(from), status)
		}
	}
	add.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1. The label is the version that is running.",
	}, []string{"version"}).WithLabelValues(version).Set(1)
	return &Metrics{
		registry:     registry,
		source:       source,
		shops:        byShop,
		clicks:       each(portal.Outcomes(), clicks.WithLabelValues),
		sources:      each(portal.Sources(), sources.WithLabelValues),
		clickSeconds: each(portal.Outcomes(), clickSeconds.WithLabelValues),
		stepSeconds:  each(portal.StepNames(), stepSeconds.WithLabelValues),
		calls:        calls,
		callSeconds:  each(recharge.Endpoints(), callSeconds.WithLabelValues),
		webhooks:     webhooks,
		statuses:     each(portal.StatusAnswers(), statuses.WithLabelValues),
	}
}

// each returns the series for each value of a label.
func each[Label ~string, Series any](values []Label, with func(...string) Series) map[Label]Series {
	series := map[Label]Series{}
	for _, value := range values {
		series[value] = with(string(value))
	}
	return series
}

// factory registers the metrics that it creates.
type factory struct{ promauto.Factory }

func (f factory) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return f.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// histogram's buckets, in seconds, range from a click that finds its link in the cache to one that
// takes all of CLICK_TIMEOUT.
func (f factory) histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return f.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
	}, labels)
}

// Handler answers a scrape.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: 5 * time.Second,
	})
}

// Click counts a click.
func (m *Metrics) Click(click portal.Click) {
	m.clicks[click.Outcome].Inc()
	m.shops.count(click, m.source)
	m.clickSeconds[click.Outcome].Observe(click.Took.Seconds())
	if click.Source != "" {
		m.sources[click.Source].Inc()
	}
	for _, step := range click.Steps {
		m.stepSeconds[step.Name].Observe(step.Took.Seconds())
	}
}

// Call counts a call of the Recharge API.
func (m *Metrics) Call(call recharge.Call) {
	m.calls.WithLabelValues(call.Endpoint, statusOf(call.Failed)).Inc()
	m.callSeconds[call.Endpoint].Observe(call.Took.Seconds())
}

// Status counts an answer to a theme.
func (m *Metrics) Status(answer portal.StatusAnswer) {
	m.statuses[answer].Inc()
}

// statusOf returns one of few values. An unregistered HTTP status is "other".
func statusOf(failed *recharge.Error) string {
	switch {
	case failed == nil:
		return "ok"
	case failed.Status < 300: // no answer, or one whose body cannot be read
		return strings.ReplaceAll(string(failed.Reason), " ", "_")
	case http.StatusText(failed.Status) != "":
		return strconv.Itoa(failed.Status)
	}
	return "other"
}

// Webhook counts a webhook that was answered with an HTTP status.
func (m *Metrics) Webhook(from portal.Sender, status int) {
	m.webhooks.WithLabelValues(string(from), strconv.Itoa(status)).Inc()
}

// Source reports the state of a server. It must not wait for anything.
type Source interface {
	State() State
	Connected(shop shopify.Shop) bool // as far as this server has met the shop
}

// State is what a server knows about itself and its surroundings at a scrape.
type State struct {
	Ready   bool
	Servers int // that share the tokens' calls, this one included

	Budgets      map[shopify.Shop]recharge.Budget // of the tokens in use
	OpenCircuits map[string]int                   // by endpoint: for how many shops it is not called because it fails
	InCampaign   int                              // shops

	RedisUp   bool
	RedisPing time.Duration // of the last ping
	RedisPool redis.PoolStats

	Imports map[shopify.Shop]store.Import // of the shops in use
	Now     time.Time
}

// collector reads a State at each scrape.
type collector struct {
	source Source
	shops  *shopClicks
}

// Describe describes nothing, because which metrics exist depends on the State.
func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{c.source.State(), out}
	s.send("ready", "1 if this server accepts clicks, as /readyz reports.", number(s.Ready))
	s.send("servers", "Servers that share the tokens' calls, at this server's last count.", float64(s.Servers))
	s.send("campaigns_running", "Shops that have a running campaign.", float64(s.InCampaign))
	s.send("redis_up", "1 if Redis answers, runs scripts and accepts writes.", number(s.RedisUp))
	s.send("redis_ping_seconds", "How long the last ping of Redis took.", s.RedisPing.Seconds())
	s.send("redis_connections", "Connections to Redis.", float64(s.RedisPool.TotalConns))
	s.send("redis_pool_timeouts_total", "How often no Redis connection was free in time.", float64(s.RedisPool.Timeouts))
	for _, endpoint := range recharge.Endpoints() {
		s.send("breakers_open", "Shops for which this server does not call an endpoint, because its last calls failed.",
			float64(s.OpenCircuits[endpoint]), "endpoint", endpoint)
	}
	s.budgets()
	s.imports()
	c.shops.send(s)
}

// scrape sends the values of a State.
type scrape struct {
	State

	out chan<- prometheus.Metric
}

// send treats a name that ends in _total as a counter and any other as a gauge. labels are pairs of a name and a value.
func (s scrape) send(name, help string, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	var names, values []string
	for pair := range slices.Chunk(labels, 2) {
		names, values = append(names, pair[0]), append(values, pair[1])
	}
	desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, names, nil)
	s.out <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

// budgets leaves out the metrics of a token if none is in use.
func (s scrape) budgets() {
	paused := 0.0
	for _, budget := range s.Budgets {
		paused += number(budget.Paused > 0)
	}
	s.send("budget_paused", "Tokens that are paused because Recharge answered 429.", paused)
	if len(s.Budgets) == 0 {
		return
	}
	byLeft := func(a, b recharge.Budget) int { return cmp.Compare(a.Left, b.Left) }
	scarcest := slices.SortedFunc(maps.Values(s.Budgets), byLeft)[0]
	s.send("budget_left", "Calls left to make at once with the token that has the fewest.", float64(scarcest.Left))
	s.send("budget_burst", "The most that budget_left can be, for the same token.", float64(scarcest.Burst))
}

func (s scrape) imports() {
	var never, stuck, customers, running, read float64
	var age time.Duration
	for _, shop := range s.Imports {
		never += number(shop.Done.IsZero())
		stuck += number(shop.Problem != "")
		customers += float64(shop.Size)
		if !shop.Done.IsZero() {
			age = max(age, s.Now.Sub(shop.Done))
		}
		if shop.Running {
			running++
			read += float64(shop.Customers)
		}
	}
	s.send("index_shops", "Shops whose clicks this server has received, or the configured shop.", float64(len(s.Imports)))
	s.send("index_shops_never_read", "Shops in index_shops whose import has never been completed.", never)
	s.send("index_shops_stuck", "Shops in index_shops whose import cannot continue.", stuck)
	s.send("index_customers", "Customers that the last imports of the shops in index_shops have read.", customers)
	s.send("index_age_seconds", "Age of the oldest last import in index_shops. 0 if there is none.", age.Seconds())
	s.send("index_imports_running", "Imports of the shops in index_shops that are running, on any server.", running)
	s.send("index_progress_customers", "Customers that the running imports have read so far.", read)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Package metrics counts events and reports state for Prometheus. It has a registry of its own. No
// label has values that a visitor could choose, such as a shop, path or customer.
package metrics

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
)

const namespace = "manage_subscriptions"

// Metrics holds the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

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

// New returns metrics. Every series whose labels are known starts at 0, so that a rule about one
// need not wait for its first event.
func New(version string, source Source) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{source},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	add := factory{promauto.With(registry)}
	clicks := add.counter("clicks_total", "Clicks that were answered, by outcome.", "outcome")
	sources := add.counter("click_sources_total", "Clicks by the nearest place that had what they needed.", "source")
	clickSeconds := add.histogram("click_seconds", "How long a click took, from request to answer.", "outcome")
	stepSeconds := add.histogram("step_seconds", "How long one step of a click took.", "step")
	calls := add.counter("recharge_calls_total",
		"Calls of the Recharge API, by endpoint and by status: ok, an HTTP status, or why there was none.",
		"endpoint", "status")
	callSeconds := add.histogram("recharge_call_seconds", "How long a call of the Recharge API took.", "endpoint")
	webhooks := add.counter("webhooks_total", "Webhooks that were answered, by sender and by status.", "from", "status")
	statuses := add.counter("status_answers_total", "Answers to themes that asked whether to show the link.", "answer")
	for _, endpoint := range recharge.Endpoints() {
		calls.WithLabelValues(endpoint, "ok")
	}
	for _, from := range []portal.Sender{portal.SentByShopify, portal.SentByRecharge} {
		webhooks.WithLabelValues(string(from), "200")
	}
	add.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1; its label is the version that runs.",
	}, []string{"version"}).WithLabelValues(version).Set(1)
	return &Metrics{
		registry:     registry,
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

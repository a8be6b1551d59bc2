// Package metrics counts events and reports state, for Prometheus. It has a registry
// of its own. No label has values that a visitor could choose: no shop, path or
// customer.
package metrics

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
)

const namespace = "manage_subscriptions"

// Metrics are those of one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	// By outcome, source and step: each click looks them up.
	clicks       map[portal.Outcome]prometheus.Counter
	sources      map[portal.Source]prometheus.Counter
	clickSeconds map[portal.Outcome]prometheus.Observer
	stepSeconds  map[string]prometheus.Observer

	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec
	webhooks    *prometheus.CounterVec
	statuses    *prometheus.CounterVec
}

// New returns metrics. Every series that can be is at 0, so that a rule about one
// does not wait for its first event.
func New(version string, source Source) *Metrics {
	clicks := counter("clicks_total", "Clicks that were answered, by outcome.", "outcome")
	sources := counter("click_sources_total", "Clicks by the nearest place that had what they needed.", "source")
	clickSeconds := histogram("click_seconds", "How long a click took, from request to answer.", "outcome")
	stepSeconds := histogram("step_seconds", "How long one step of a click took.", "step")
	m := &Metrics{
		registry:     prometheus.NewRegistry(),
		clicks:       map[portal.Outcome]prometheus.Counter{},
		sources:      map[portal.Source]prometheus.Counter{},
		clickSeconds: map[portal.Outcome]prometheus.Observer{},
		stepSeconds:  map[string]prometheus.Observer{},
		calls: counter("recharge_calls_total",
			"Calls of the Recharge API, by endpoint and by status: ok, an HTTP status, or why there was none.",
			"endpoint", "status"),
		callSeconds: histogram("recharge_call_seconds", "How long a call of the Recharge API took.", "endpoint"),
		webhooks:    counter("webhooks_total", "Webhooks that were answered, by sender and by status.", "from", "status"),
		statuses:    counter("status_answers_total", "Answers to themes that asked whether to show the link.", "answer"),
	}
	for _, outcome := range portal.Outcomes() {
		m.clicks[outcome] = clicks.WithLabelValues(string(outcome))
		m.clickSeconds[outcome] = clickSeconds.WithLabelValues(string(outcome))
	}
	for _, source := range portal.Sources() {
		m.sources[source] = sources.WithLabelValues(string(source))
	}
	for _, step := range portal.StepNames() {
		m.stepSeconds[step] = stepSeconds.WithLabelValues(step)
	}
	for _, endpoint := range recharge.Endpoints() {
		m.calls.WithLabelValues(endpoint, "ok")
		m.callSeconds.WithLabelValues(endpoint)
	}
	for _, from := range []portal.Sender{portal.SentByShopify, portal.SentByRecharge} {
		m.webhooks.WithLabelValues(string(from), "200")
	}
	for _, answer := range portal.StatusAnswers() {
		m.statuses.WithLabelValues(string(answer))
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1; its label is the version that runs.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(clicks, sources, clickSeconds, stepSeconds, m.calls, m.callSeconds, m.webhooks, m.statuses,
		build, collector{source},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// histogram has buckets, in seconds, from a click that finds its link in the cache to
// one that takes all of CLICK_TIMEOUT.
func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
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
	m.callSeconds.WithLabelValues(call.Endpoint).Observe(call.Took.Seconds())
}

// Status counts an answer to a theme.
func (m *Metrics) Status(answer portal.StatusAnswer) {
	m.statuses.WithLabelValues(string(answer)).Inc()
}

// statusOf returns one of few values. An HTTP status that is not registered is
// "other".
func statusOf(failed *recharge.Error) string {
	switch {
	case failed == nil:
		return "ok"
	case failed.Status < 300: // none, or one whose body cannot be read
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

package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// Source reports the state of a server. It must not wait for anything.
type Source interface{ State() State }

// State is what a server knows of itself and its surroundings at a scrape.
type State struct {
	Ready   bool
	Servers int // that share the tokens' calls, this one included

	Budgets      []recharge.Budget // one for each token in use
	OpenCircuits map[string]int    // endpoints that are not called because they fail, and for how many shops

	RedisUp   bool
	RedisPing time.Duration // of the last ping
	RedisPool redis.PoolStats

	Imports []store.Import // one for each shop in use
	Now     time.Time
}

// sample is one value of a State. A name that ends in _total is a counter, any
// other a gauge.
type sample struct {
	name, help string
	value      float64
}

func (s State) samples() []sample {
	samples := []sample{
		{"ready", "1 if this server wants clicks, as /readyz says.", number(s.Ready)},
		{"servers", "Servers that share the tokens' calls, as this one last counted them.", float64(s.Servers)},

		{"redis_up", "1 if Redis answers and runs scripts.", number(s.RedisUp)},
		{"redis_ping_seconds", "How long the last ping of Redis took.", s.RedisPing.Seconds()},
		{"redis_connections", "Connections to Redis.", float64(s.RedisPool.TotalConns)},
		{"redis_connections_idle", "Unused connections to Redis.", float64(s.RedisPool.IdleConns)},
		{"redis_pool_hits_total", "Times that a free connection to Redis was there.", float64(s.RedisPool.Hits)},
		{"redis_pool_misses_total", "Times that there was none.", float64(s.RedisPool.Misses)},
		{"redis_pool_timeouts_total", "Times that none came in time.", float64(s.RedisPool.Timeouts)},
	}
	return append(append(samples, s.budgets()...), s.imports()...)
}

// budgets leaves out what only a token has where there is none.
func (s State) budgets() []sample {
	var scarcest *recharge.Budget
	paused := 0.0
	for _, budget := range s.Budgets {
		if scarcest == nil || budget.Left < scarcest.Left {
			scarcest = &budget
		}
		paused += number(budget.Paused > 0)
	}
	samples := []sample{{"budget_paused", "Tokens that are paused because Recharge answered 429.", paused}}
	if scarcest == nil {
		return samples
	}
	return append(samples,
		sample{"budget_left", "Calls that the token with the fewest left can make at once.", float64(scarcest.Left)},
		sample{"budget_burst", "Calls that this token can make at once at most.", float64(scarcest.Burst)})
}

func (s State) imports() []sample {
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
	return []sample{
		{"index_shops", "Shops whose clicks this server has met, or the configured one.", float64(len(s.Imports))},
		{"index_shops_never_read", "Of these, shops whose customers were never all imported.", never},
		{"index_shops_stuck", "Of these, shops whose import cannot go on.", stuck},
		{"index_customers", "Customers that the last imports of these shops have read.", customers},
		{"index_age_seconds", "Age of the oldest of their last imports; 0: there is none.", age.Seconds()},
		{"index_sweeps_running", "Imports of these shops that are running, on any server.", running},
		{"index_progress_customers", "Customers that these imports have read so far.", read},
	}
}

// collector reads a State at each scrape.
type collector struct{ source Source }

// Describe describes nothing: which metrics there are depends on the State.
func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	state := c.source.State()
	for _, of := range state.samples() {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(of.name, "_total") {
			kind = prometheus.CounterValue
		}
		desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", of.name), of.help, nil, nil)
		out <- prometheus.MustNewConstMetric(desc, kind, of.value)
	}
	desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", "breakers_open"),
		"Shops for which an endpoint of Recharge is not called because its last calls failed.", []string{"endpoint"}, nil)
	for _, endpoint := range recharge.Endpoints() {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(state.OpenCircuits[endpoint]), endpoint)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

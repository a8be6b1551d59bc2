package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// Source reports the state of a server. It must not wait for anything.
type Source interface{ State() State }

// State is what a server knows about itself and its surroundings at a scrape.
type State struct {
	Ready   bool
	Servers int // that share the tokens' calls, this one included

	Budgets      []recharge.Budget // one for each token in use
	OpenCircuits map[string]int    // by endpoint: for how many shops it is not called because it fails

	RedisUp   bool
	RedisPing time.Duration // of the last ping
	RedisPool redis.PoolStats

	Imports []store.Import // one for each shop in use
	Now     time.Time
}

// collector reads a State at each scrape.
type collector struct{ source Source }

// Describe describes nothing, because which metrics exist depends on the State.
func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{c.source.State(), out}
	s.send("ready", "1 if this server wants clicks, as /readyz says.", number(s.Ready))
	s.send("servers", "Servers that share the tokens' calls, as this one last counted them.", float64(s.Servers))
	s.send("redis_up", "1 if Redis answers and runs scripts.", number(s.RedisUp))
	s.send("redis_ping_seconds", "How long the last ping of Redis took.", s.RedisPing.Seconds())
	s.send("redis_connections", "Connections to Redis.", float64(s.RedisPool.TotalConns))
	s.send("redis_connections_idle", "Unused connections to Redis.", float64(s.RedisPool.IdleConns))
	s.send("redis_pool_hits_total", "Times that a free connection to Redis was there.", float64(s.RedisPool.Hits))
	s.send("redis_pool_misses_total", "Times that there was none.", float64(s.RedisPool.Misses))
	s.send("redis_pool_timeouts_total", "Times that none came in time.", float64(s.RedisPool.Timeouts))
	for _, endpoint := range recharge.Endpoints() {
		s.send("breakers_open", "Shops for which an endpoint of Recharge is not called because its last calls failed.",
			float64(s.OpenCircuits[endpoint]), endpoint)
	}
	s.budgets()
	s.imports()
}

// scrape sends the values of a State.
type scrape struct {
	State

	out chan<- prometheus.Metric
}

// send treats a name that ends in _total as a counter and any other as a gauge.
func (s scrape) send(name, help string, value float64, endpoint ...string) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	labels := []string{"endpoint"}[:len(endpoint)]
	desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	s.out <- prometheus.MustNewConstMetric(desc, kind, value, endpoint...)
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
	scarcest := slices.MinFunc(s.Budgets, func(a, b recharge.Budget) int { return cmp.Compare(a.Left, b.Left) })
	s.send("budget_left", "Calls that the token with the fewest left can make at once.", float64(scarcest.Left))
	s.send("budget_burst", "Calls that this token can make at once at most.", float64(scarcest.Burst))
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
	s.send("index_shops", "Shops whose clicks this server has met, or the configured one.", float64(len(s.Imports)))
	s.send("index_shops_never_read", "Of these, shops whose customers were never all imported.", never)
	s.send("index_shops_stuck", "Of these, shops whose import cannot go on.", stuck)
	s.send("index_customers", "Customers that the last imports of these shops have read.", customers)
	s.send("index_age_seconds", "Age of the oldest of their last imports; 0: there is none.", age.Seconds())
	s.send("index_imports_running", "Imports of these shops that are running, on any server.", running)
	s.send("index_progress_customers", "Customers that these imports have read so far.", read)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manage-subscriptions/recharge"
)

// State is how things stand at a scrape, as far as this server knows.
type State struct {
	Ready   bool
	Servers int // that share the tokens' calls, this one among them

	Budgets []recharge.Budget // one for each token in use
	Tripped map[string]int    // endpoints that are left alone because they are dead, and of how many shops

	RedisUp   bool
	RedisPing time.Duration // of the last round trip that was made to find out
	RedisPool Pool

	Indexes []Index // one for each shop in use
	Now     time.Time
}

// Pool is how the connections to Redis stand.
type Pool struct {
	Connections, Idle      uint32
	Hits, Misses, Timeouts uint32 // since the start
}

// Index is how far the index of one shop is.
type Index struct {
	Customers int       // that the last sweep read
	Done      time.Time // when that was; zero: none was
	Running   bool      // a sweep is under way, and
	Read      int       // has read as many customers
	Stuck     bool      // it does not go on
}

// reading is one metric that is read from a State.
type reading struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(State) map[string]float64 // by the label's value; "" where there is none
}

// collector reads a State at each scrape.
type collector struct {
	state    func() State
	readings []reading
}

func newCollector(state func() State) *collector {
	c := &collector{state: state}
	gauge := func(name, help string, read func(State) float64) {
		c.add(name, help, prometheus.GaugeValue, func(s State) map[string]float64 { return map[string]float64{"": read(s)} })
	}
	total := func(name, help string, read func(State) float64) {
		c.add(name, help, prometheus.CounterValue, func(s State) map[string]float64 { return map[string]float64{"": read(s)} })
	}
	gauge("ready", "1 if this server wants clicks, as /readyz says.", func(s State) float64 { return is(s.Ready) })
	gauge("servers", "Servers that share the tokens' calls, as this one has last counted them.", func(s State) float64 { return float64(s.Servers) })

	c.add("budget_left", "Calls that could be made at once, of the token that has the fewest left.", prometheus.GaugeValue, ofBudgets(State.left))
	c.add("budget_burst", "Calls that this token can make at once at most.", prometheus.GaugeValue, ofBudgets(State.burst))
	gauge("budget_paused", "Tokens that are held back because Recharge has answered 429.", State.paused)
	c.add("breakers_open", "Shops for which an endpoint of Recharge is left alone because its last calls have failed.", prometheus.GaugeValue, tripped, "endpoint")

	gauge("redis_up", "1 if Redis answers, and runs scripts.", func(s State) float64 { return is(s.RedisUp) })
	gauge("redis_ping_seconds", "How long Redis took for the last question whether it is there.", func(s State) float64 { return s.RedisPing.Seconds() })
	gauge("redis_connections", "Connections to Redis.", func(s State) float64 { return float64(s.RedisPool.Connections) })
	gauge("redis_connections_idle", "Connections to Redis that nobody uses.", func(s State) float64 { return float64(s.RedisPool.Idle) })
	total("redis_pool_hits_total", "Times that an idle connection to Redis was there.", func(s State) float64 { return float64(s.RedisPool.Hits) })
	total("redis_pool_misses_total", "Times that none was there.", func(s State) float64 { return float64(s.RedisPool.Misses) })
	total("redis_pool_timeouts_total", "Times that none came in time.", func(s State) float64 { return float64(s.RedisPool.Timeouts) })

	gauge("index_shops", "Shops whose clicks this server has met, or the one that is configured.", func(s State) float64 { return float64(len(s.Indexes)) })
	gauge("index_shops_never_read", "Of these, shops whose customers were never all read.", State.neverRead)
	gauge("index_shops_stuck", "Of these, shops whose sweep does not go on.", State.stuck)
	gauge("index_customers", "Customers that the last sweeps of these shops have read.", State.customers)
	gauge("index_age_seconds", "How long ago the oldest of their last sweeps came to its end; 0: there is none.", State.age)
	gauge("index_sweeps_running", "Sweeps of these shops that are under way, on any server.", State.running)
	gauge("index_progress_customers", "Customers that these sweeps have read so far.", State.read)
	return c
}

func (c *collector) add(name, help string, kind prometheus.ValueType, values func(State) map[string]float64, labels ...string) {
	desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	c.readings = append(c.readings, reading{desc, kind, values})
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, reading := range c.readings {
		out <- reading.desc
	}
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	state := c.state()
	for _, reading := range c.readings {
		for label, value := range reading.values(state) {
			var labels []string
			if label != "" {
				labels = []string{label}
			}
			out <- prometheus.MustNewConstMetric(reading.desc, reading.kind, value, labels...)
		}
	}
}

func is(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// ofBudgets leaves a value out where there is no token.
func ofBudgets(read func(State) float64) func(State) map[string]float64 {
	return func(s State) map[string]float64 {
		if len(s.Budgets) == 0 {
			return nil
		}
		return map[string]float64{"": read(s)}
	}
}

func (s State) scarcest() recharge.Budget {
	scarcest := s.Budgets[0]
	for _, budget := range s.Budgets {
		if budget.Left < scarcest.Left {
			scarcest = budget
		}
	}
	return scarcest
}

func (s State) left() float64  { return float64(s.scarcest().Left) }
func (s State) burst() float64 { return float64(s.scarcest().Burst) }

func (s State) paused() (n float64) {
	for _, budget := range s.Budgets {
		n += is(budget.Paused > 0)
	}
	return n
}

func tripped(s State) map[string]float64 {
	all := map[string]float64{}
	for _, endpoint := range recharge.Endpoints() {
		all[endpoint] = float64(s.Tripped[endpoint])
	}
	return all
}

func (s State) neverRead() (n float64) {
	for _, index := range s.Indexes {
		n += is(index.Done.IsZero())
	}
	return n
}

func (s State) stuck() (n float64) {
	for _, index := range s.Indexes {
		n += is(index.Stuck)
	}
	return n
}

func (s State) customers() (n float64) {
	for _, index := range s.Indexes {
		n += float64(index.Customers)
	}
	return n
}

func (s State) running() (n float64) {
	for _, index := range s.Indexes {
		n += is(index.Running)
	}
	return n
}

func (s State) read() (n float64) {
	for _, index := range s.Indexes {
		if index.Running {
			n += float64(index.Read)
		}
	}
	return n
}

func (s State) age() float64 {
	var oldest time.Duration
	for _, index := range s.Indexes {
		if !index.Done.IsZero() {
			oldest = max(oldest, s.Now.Sub(index.Done))
		}
	}
	return oldest.Seconds()
}

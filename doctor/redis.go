package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/store"
)

const (
	// redisSlow is a round trip that shoppers notice: a click makes up to three.
	redisSlow = 10 * time.Millisecond
	// redisTooSlow is when a click goes on without.
	redisTooSlow = 100 * time.Millisecond
	// pings is how many round trips the latency is the middle of.
	pings = 5
	slots = "16384"

	fixCluster = "repair the cluster: redis-cli --cluster check"
	addCluster = "add ?cluster=true to REDIS_URL"
)

// errNoNodes is a cluster that serves no slots.
var errNoNodes = errors.New("cluster has no nodes")

// redis checks Redis.
func (d *doctor) redis(ctx context.Context, tell func(Check)) {
	if d.Config.Redis == nil {
		embedded := warn("none: an embedded one, in memory",
			"set REDIS_URL, unless there is one server and it may forget everything")
		tell(embedded.named("redis", "REDIS_URL", 0))
		return
	}
	client := d.Store.Client()
	var condition Condition
	var evicting, reached bool
	need := func(check func(context.Context) result) func(context.Context) result {
		return func(ctx context.Context) result {
			if !reached {
				return skipped("Redis was not reached", "fix redis.reach")
			}
			return check(ctx)
		}
	}
	each(ctx, []step{
		{"redis.reach", "PING and INFO", func(ctx context.Context) result {
			var err error
			condition, err = CheckRedis(ctx, d.Store)
			evicting = errors.Is(err, ErrEvicting)
			if err != nil && !evicting && !errors.Is(err, store.ErrNoEval) {
				return redisFailed(err)
			}
			if err == nil && condition.nodes == 0 {
				return redisFailed(errNoNodes)
			}
			reached = true
			return ok(fmt.Sprintf("answers; %d node(s) with keys", max(condition.nodes, 1)))
		}},
		{"redis.write", "SET of a key that is not there, only if it is, and EVAL", need(func(ctx context.Context) result {
			if err := tryWrite(ctx, client); err != nil {
				return redisFailed(err)
			}
			return ok("Redis would write it")
		})},
		{"redis.version", "INFO server", need(func(context.Context) result { return version(condition.version) })},
		{"redis.persistence", "INFO persistence, CONFIG GET appendfsync, save", need(func(context.Context) result {
			return persistence(condition, d.oneStore())
		})},
		{"redis.eviction", "CONFIG GET maxmemory-policy", need(func(context.Context) result {
			return eviction(condition.policy, evicting && !d.oneStore())
		})},
		{"redis.latency", "PING, the middle of five", need(func(ctx context.Context) result { return latency(ctx, client) })},
		{"redis.cluster", "CLUSTER INFO", need(func(ctx context.Context) result { return cluster(ctx, client, condition) })},
	}, tell)
}

// oneStore reports whether merchants save nothing here: what Redis loses is looked up
// again.
func (d *doctor) oneStore() bool { return d.Config.Shop != "" }

// redisFailed says why Redis gave no answer, without what it has put into the error.
func redisFailed(err error) result {
	if errors.Is(err, store.ErrNoEval) {
		return fail("Redis refuses EVAL: nothing is cached, locked or counted across servers",
			"allow its user the command EVAL: +eval")
	}
	for _, known := range redisErrors() {
		if slices.ContainsFunc(known.texts, func(text string) bool { return strings.Contains(err.Error(), text) }) {
			return fail(known.found, known.remedy)
		}
	}
	var network net.Error
	found := "no connection"
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		found = "no answer in time"
	}
	return fail(found, "check that Redis runs at the address in REDIS_URL, and that no firewall is between")
}

// redisError is what an error of Redis' means.
type redisError struct {
	texts         []string // of which it has one
	found, remedy string
}

func redisErrors() []redisError {
	return []redisError{
		{[]string{"WRONGPASS", "NOAUTH", "AUTH <password>"},
			"Redis does not accept the user or password", "correct user and password in REDIS_URL"},
		{[]string{"can't run this command", "NOPERM"},
			"Redis does not let this user do what is needed", "give the user the rights that the docs name"},
		{[]string{"READONLY"}, "it is a replica, which takes no writes",
			"name the master in REDIS_URL; with Sentinel, the sentinels and ?master_name="},
		{[]string{"OOM"}, "its memory is full, and it takes no writes", "raise maxmemory in Redis"},
		{[]string{"MISCONF"}, "it cannot write its disk, and takes no writes",
			"see Redis' log and the disk that it writes to"},
		{[]string{"NOREPLICAS"}, "it has too few replicas, and takes no writes",
			"see Redis' replicas, and min-replicas-to-write"},
		{[]string{"LOADING"}, "Redis is still loading its data", "wait until it has, then run doctor again"},
		{[]string{"cluster support disabled"}, "this Redis is not a cluster",
			"remove ?cluster=true, or all hosts but one, from REDIS_URL"},
		{[]string{"CLUSTERDOWN", "cluster has no nodes"}, "the cluster is down: it does not serve all its slots", fixCluster},
		{[]string{"MOVED"}, "this Redis is a node of a cluster", addCluster},
		{[]string{"tls:", "x509:", "first record does not look"}, "the TLS handshake failed",
			"use rediss:// in REDIS_URL only where Redis speaks TLS, and check its certificate"},
	}
}

// tryWrite reports whether Redis takes what a click asks of it. It changes nothing: the
// key is not there, and is set only if it is, which Redis refuses for the same reasons.
// Errors: store.ErrNoEval; any other is Redis' own.
func tryWrite(ctx context.Context, client redis.UniversalClient) error {
	const key = "ms2:doctor"
	if err := client.SetXX(ctx, key, "", time.Second).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if err := client.MGet(ctx, key).Err(); err != nil {
		return err
	}
	err := client.Eval(ctx, "redis.call('GETRANGE', KEYS[1], 0, 0) redis.call('HGET', KEYS[1], 'f') "+
		"redis.call('UNLINK', KEYS[1]) redis.call('TIME') return 1", []string{key}).Err()
	if store.RefusesEval(err) {
		return store.ErrNoEval
	}
	return err
}

func version(text string) result {
	var major, minor int
	if n, _ := fmt.Sscanf(text, "%d.%d", &major, &minor); n < 2 {
		return warn("Redis does not tell its version", "let its user ask INFO")
	}
	found := fmt.Sprintf("%d.%d", major, minor)
	if major < 6 || major == 6 && minor < 2 {
		return warn(found, "use Redis 6.2 or newer: this one is not tested")
	}
	return ok(found)
}

// persistence reports what the server itself warns of when it starts.
func persistence(condition Condition, oneStore bool) result {
	for _, warning := range condition.Warnings {
		if warning.fix != "" && (!oneStore || !warning.Merchants) {
			found, _, _ := strings.Cut(warning.Text, ";")
			return warn(found, warning.fix)
		}
	}
	if oneStore {
		return ok("nothing that was erased comes back; what is lost is looked up again")
	}
	return ok("append-only file")
}

func eviction(policy string, fatal bool) result {
	const remedy = "set Redis' maxmemory-policy to noeviction"
	switch {
	case fatal:
		return fail("an allkeys policy: what merchants saved may be dropped, so that the server does not start", remedy)
	case policy == "":
		return warn("Redis does not tell its maxmemory-policy", "check that it is noeviction")
	case policy != "noeviction":
		return warn("Redis may evict keys before their time: "+
			"a webhook about a customer who has moved could miss the shopper who had the record", remedy)
	}
	return ok(policy)
}

// latency pings every node with keys. The slowest counts.
func latency(ctx context.Context, client redis.UniversalClient) result {
	var worst time.Duration
	err := eachMaster(ctx, client, func(ctx context.Context, node *redis.Client) error {
		var all [pings]time.Duration
		for i := range all {
			start := time.Now()
			if err := node.Ping(ctx).Err(); err != nil {
				return err
			}
			all[i] = time.Since(start)
		}
		slices.Sort(all[:])
		worst = max(worst, all[pings/2])
		return nil
	})
	found := fmt.Sprintf("%.1f ms", float64(worst.Microseconds())/1000)
	switch {
	case err != nil:
		return redisFailed(err)
	case worst > redisTooSlow:
		return fail(found, "put Redis next to the server: clicks go on without it")
	case worst > redisSlow:
		return warn(found, "put Redis into the server's own network: each click waits for it up to three times")
	}
	return ok(found)
}

func cluster(ctx context.Context, client redis.UniversalClient, condition Condition) result {
	if _, is := client.(*redis.ClusterClient); !is {
		if condition.mode == "cluster" {
			return fail("one node of a cluster, addressed as if it were alone", addCluster)
		}
		return ok("not a cluster")
	}
	info, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return redisFailed(err)
	}
	s := settings{}
	s.add(info)
	if served := s["cluster_slots_ok"]; s["cluster_state"] != "ok" || served != slots {
		const found = "cluster_state is not ok, or not all slots are served: %s of %s"
		return fail(fmt.Sprintf(found, number(served), slots), fixCluster)
	}
	return ok(fmt.Sprintf("ok, all %s slots on %d masters", slots, condition.nodes))
}

// number is text if it is one: nothing else of Redis' is repeated.
func number(text string) string {
	if strings.Trim(text, "0123456789") != "" || len(text) > 5 {
		return "?"
	}
	return text
}

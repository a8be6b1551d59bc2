package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	slots        = 16384 // of a cluster

	fixCluster = "repair the cluster: redis-cli --cluster check"
	addCluster = "add ?cluster=true to REDIS_URL"
)

// redis checks Redis.
func (d *doctor) redis(ctx context.Context) []Check {
	if d.Config.RedisURL.Empty() {
		return each(ctx, []step{{"redis", "REDIS_URL", "", func(context.Context) Check {
			return warn("none: an embedded one, in memory",
				"set REDIS_URL, unless there is one server and it may forget everything")
		}}})
	}
	const reach = "redis.reach"
	client := d.Store.Client()
	var condition Condition
	var evicting bool
	return each(ctx, []step{
		{reach, "PING and INFO", "", func(ctx context.Context) Check {
			var err error
			condition, err = CheckRedis(ctx, d.Store)
			evicting = errors.Is(err, ErrEvicting)
			switch {
			case err != nil && !evicting && !errors.Is(err, store.ErrNoEval):
				return redisFailed(err)
			case err == nil && condition.nodes == 0:
				return redisFailed(errors.New("cluster has no nodes"))
			}
			return ok(fmt.Sprintf("answers; %d node(s) with keys", max(condition.nodes, 1)))
		}},
		{"redis.write", "SET of a key that is not there, only if it is, and EVAL", reach, func(ctx context.Context) Check {
			if err := tryWrite(ctx, client); err != nil {
				return redisFailed(err)
			}
			return ok("Redis would write it")
		}},
		{"redis.version", "INFO server", reach, func(context.Context) Check {
			return version(condition.first["redis_version"])
		}},
		{"redis.persistence", "INFO persistence, CONFIG GET appendfsync, save", reach, func(context.Context) Check {
			return persistence(condition, d.oneStore())
		}},
		{"redis.eviction", "CONFIG GET maxmemory-policy", reach, func(context.Context) Check {
			return eviction(condition.first["maxmemory_policy"], evicting && !d.oneStore())
		}},
		{"redis.latency", "PING, the middle of five", reach, func(ctx context.Context) Check { return latency(ctx, client) }},
		{"redis.cluster", "CLUSTER INFO", reach, func(ctx context.Context) Check {
			return cluster(ctx, client, condition)
		}},
	})
}

// redisFailed says why Redis gave no answer, without what it has put into the error.
func redisFailed(err error) Check {
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
	}
	return first([]verdict{
		{errors.Is(err, store.ErrNoEval), fail("Redis refuses EVAL: nothing is cached, locked or counted across servers",
			"allow its user the command EVAL: +eval")},
		{says("WRONGPASS", "NOAUTH", "AUTH <password>"),
			fail("Redis does not accept the user or password", "correct user and password in REDIS_URL")},
		{says("can't run this command", "NOPERM"),
			fail("Redis does not let this user do what is needed", "give the user the rights that the docs name")},
		{says("READONLY"), fail("it is a replica, which takes no writes",
			"name the master in REDIS_URL; with Sentinel, the sentinels and ?master_name=")},
		{says("OOM"), fail("its memory is full, and it takes no writes", "raise maxmemory in Redis")},
		{says("MISCONF"), fail("it cannot write its disk, and takes no writes",
			"see Redis' log and the disk that it writes to")},
		{says("NOREPLICAS"), fail("it has too few replicas, and takes no writes",
			"see Redis' replicas, and min-replicas-to-write")},
		{says("LOADING"), fail("Redis is still loading its data", "wait until it has, then run doctor again")},
		{says("cluster support disabled"), fail("this Redis is not a cluster",
			"remove ?cluster=true, or all hosts but one, from REDIS_URL")},
		{says("CLUSTERDOWN", "cluster has no nodes"),
			fail("the cluster is down: it does not serve all its slots", fixCluster)},
		{says("MOVED"), fail("this Redis is a node of a cluster", addCluster)},
		{true, unreachable(err, "REDIS_URL", "Redis")},
	})
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

func version(text string) Check {
	var major, minor int
	n, _ := fmt.Sscanf(text, "%d.%d", &major, &minor)
	found := fmt.Sprintf("%d.%d", major, minor)
	return first([]verdict{
		{n < 2, warn("Redis does not tell its version", "let its user ask INFO")},
		{major < 6 || major == 6 && minor < 2, warn(found, "use Redis 6.2 or newer: this one is not tested")},
		{true, ok(found)},
	})
}

// persistence reports what the server itself warns of when it starts.
func persistence(condition Condition, oneStore bool) Check {
	for _, warning := range condition.Warnings {
		if warning.disk && (!oneStore || !warning.Merchants) {
			found, _, _ := strings.Cut(warning.Text, ";")
			return warn(found, "set appendonly yes in Redis, and appendfsync everysec from 7.2 on, always before")
		}
	}
	if oneStore {
		return ok("nothing that was erased comes back; what is lost is looked up again")
	}
	return ok("append-only file")
}

func eviction(policy string, fatal bool) Check {
	const remedy = "set Redis' maxmemory-policy to noeviction"
	return first([]verdict{
		{fatal, fail("an allkeys policy: what merchants saved may be dropped, so that the server does not start", remedy)},
		{policy == "", warn("Redis does not tell its maxmemory-policy", "check that it is noeviction")},
		{policy != "noeviction", warn("Redis may evict keys before their time: "+
			"a webhook about a customer who has moved could miss the shopper who had the record", remedy)},
		{true, ok(policy)},
	})
}

// latency pings every node with keys. The slowest counts.
func latency(ctx context.Context, client redis.UniversalClient) Check {
	var worst time.Duration
	err := eachMaster(ctx, client, func(ctx context.Context, node *redis.Client) error {
		var all [5]time.Duration
		for i := range all {
			start := time.Now()
			if err := node.Ping(ctx).Err(); err != nil {
				return err
			}
			all[i] = time.Since(start)
		}
		slices.Sort(all[:])
		worst = max(worst, all[len(all)/2])
		return nil
	})
	if err != nil {
		return redisFailed(err)
	}
	found := fmt.Sprintf("%.1f ms", float64(worst.Microseconds())/1000)
	return first([]verdict{
		{worst > redisTooSlow, fail(found, "put Redis next to the server: clicks go on without it")},
		{worst > redisSlow,
			warn(found, "put Redis into the server's own network: each click waits for it up to three times")},
		{true, ok(found)},
	})
}

func cluster(ctx context.Context, client redis.UniversalClient, condition Condition) Check {
	if _, is := client.(*redis.ClusterClient); !is {
		if condition.first["redis_mode"] == "cluster" {
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
	served, _ := strconv.Atoi(s["cluster_slots_ok"])
	if s["cluster_state"] != "ok" || served != slots {
		return fail(fmt.Sprintf("cluster_state is not ok, or not all slots are served: %d of %d", served, slots), fixCluster)
	}
	return ok(fmt.Sprintf("ok, all %d slots on %d masters", slots, condition.nodes))
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"manage-subscriptions/store"
)

const (
	// redisSlow is how long a round trip takes that shoppers notice: a click makes
	// up to three.
	redisSlow = 10 * time.Millisecond
	// redisTooSlow is where a click goes on without.
	redisTooSlow = 100 * time.Millisecond
	slots        = 16384
)

// redis are the checks of Redis.
func (d *doctor) redis() []step {
	if d.Config.Redis == nil {
		return []step{{"redis", "REDIS_URL", func(context.Context) result {
			return warn("none: an embedded one, in memory", "set REDIS_URL, unless it may forget all when it ends and there is one server")
		}}}
	}
	var facts redisFacts
	var condition Condition
	var evicting bool
	reached := false
	of := func(what func() result) func(context.Context) result {
		return func(context.Context) result {
			if !reached {
				return skipped("Redis was not reached", "mend redis.reach")
			}
			return what()
		}
	}
	return []step{
		{"redis.reach", "PING and INFO", func(ctx context.Context) result {
			var err error
			if facts, err = askRedis(ctx, d.Store.Client()); err != nil {
				return unreached(err)
			}
			condition, err = CheckRedis(ctx, d.Store)
			if evicting = errors.Is(err, ErrEvicting); err != nil && !evicting && !errors.Is(err, store.ErrNoEval) {
				return unreached(err)
			}
			reached = true
			return ok(fmt.Sprintf("answers; %d node(s) with keys", facts.Nodes))
		}},
		{"redis.write", "SET of a key that is not there, only if it is, and EVAL", func(ctx context.Context) result {
			if !reached {
				return skipped("Redis was not reached", "mend redis.reach")
			}
			if err := tryWrite(ctx, d.Store.Client()); err != nil {
				return unreached(err)
			}
			return ok("it would be written")
		}},
		{"redis.version", "INFO server", of(func() result { return version(facts) })},
		{"redis.persistence", "INFO persistence, CONFIG GET appendfsync, save", of(func() result { return persistence(condition, d.oneStore()) })},
		{"redis.eviction", "CONFIG GET maxmemory-policy", of(func() result { return eviction(facts, evicting, d.oneStore()) })},
		{"redis.latency", "PING, the middle of five", of(func() result { return slow(facts) })},
		{"redis.cluster", "CLUSTER INFO", of(func() result { return cluster(facts) })},
	}
}

// unreached says why, without what somebody else has put into the error.
func unreached(err error) result {
	if errors.Is(err, store.ErrNoEval) {
		return fail("Redis refuses EVAL: nothing is cached, locked or counted across servers", "allow its user the command EVAL: +eval")
	}
	text := err.Error()
	for _, refusal := range refusals() {
		if strings.Contains(text, refusal.says) {
			return fail(refusal.found, refusal.remedy)
		}
	}
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		return fail("no answer in time", "see that Redis runs at the address in REDIS_URL, and that no firewall is between")
	}
	return fail("no connection", "see that Redis runs at the address in REDIS_URL, and that no firewall is between")
}

// redisRefusal is what an error of Redis' has in it.
type redisRefusal struct{ says, found, remedy string }

func refusals() []redisRefusal {
	const (
		signIn  = "Redis does not take the user or password"
		correct = "correct user and password in REDIS_URL"
		down    = "the cluster is down: it does not serve all its slots"
		mend    = "mend the cluster: redis-cli --cluster check"
		noTLS   = "TLS does not come about"
		useTLS  = "see that REDIS_URL begins with rediss:// just where Redis speaks TLS, and that its certificate is valid"
	)
	return []redisRefusal{
		{"WRONGPASS", signIn, correct},
		{"NOAUTH", signIn, correct},
		{"AUTH <password>", signIn, correct},
		{"can't run this command", "Redis does not let this user do what is needed", "give the user the rights that the docs name"},
		{"NOPERM", "Redis does not let this user do what is needed", "give the user the rights that the docs name"},
		{"READONLY", "it is a replica, which takes no writes", "name the master in REDIS_URL; with Sentinel, the sentinels and ?master_name="},
		{"OOM", "its memory is full, and it takes no writes", "raise maxmemory in Redis"},
		{"MISCONF", "it cannot write its disk, and takes no writes", "see Redis' log and the disk that it writes to"},
		{"NOREPLICAS", "it has too few replicas, and takes no writes", "see Redis' replicas, and min-replicas-to-write"},
		{"LOADING", "Redis is still loading its data", "wait until it has, then ask again"},
		{"cluster support disabled", "this Redis is not a cluster", "take ?cluster=true, or the hosts but one, out of REDIS_URL"},
		{"CLUSTERDOWN", down, mend},
		{"cluster has no nodes", down, mend},
		{"MOVED", "this Redis is a node of a cluster", "add ?cluster=true to REDIS_URL"},
		{"tls:", noTLS, useTLS},
		{"x509:", noTLS, useTLS},
		{"first record does not look", noTLS, useTLS},
	}
}

func version(facts redisFacts) result {
	var major, minor int
	if n, _ := fmt.Sscanf(facts.Version, "%d.%d", &major, &minor); n < 2 {
		return warn("Redis does not tell its version", "let its user ask INFO")
	}
	found := fmt.Sprintf("%d.%d", major, minor)
	if major < 6 || major == 6 && minor < 2 {
		return warn(found, "use Redis 6.2 or newer: this one is not tried by anybody")
	}
	return ok(found)
}

// oneStore tells that nothing is saved by merchants: what Redis forgets is learned
// again.
func (d *doctor) oneStore() bool { return d.Config.Shop != "" }

// persistence says what the server itself warns of when it starts.
func persistence(condition Condition, oneStore bool) result {
	risks := condition.Erased
	if !oneStore {
		risks = append(condition.Saved, risks...)
	}
	i := slices.IndexFunc(risks, func(w string) bool { return !strings.Contains(w, "maxmemory-policy") })
	switch {
	case i < 0 && oneStore:
		return ok("nothing that was erased comes back; what is lost is looked up again")
	case i < 0:
		return ok("append-only file")
	}
	found, _, _ := strings.Cut(risks[i], ";")
	if strings.Contains(found, "before 7.2") {
		return warn(found, "use Redis 7.2 or newer, or set appendfsync always in Redis")
	}
	return warn(found, "set appendonly yes and appendfsync everysec in Redis")
}

func eviction(facts redisFacts, evicting, oneStore bool) result {
	switch {
	case evicting && !oneStore:
		return fail("an allkeys policy: what merchants saved may be dropped, so that the server does not start", "set Redis' maxmemory-policy to noeviction")
	case facts.Policy == "":
		return warn("Redis does not tell its maxmemory-policy", "see that it is noeviction")
	case facts.Policy != "noeviction":
		return warn("Redis may evict keys before their time: a webhook about a customer who has moved could miss the shopper who had the record",
			"set Redis' maxmemory-policy to noeviction")
	}
	return ok(plainWord.FindString(facts.Policy))
}

// plainWord is all that is repeated of what somebody else says.
var plainWord = regexp.MustCompile(`^[a-z_-]{1,40}$`)

func slow(facts redisFacts) result {
	found := fmt.Sprintf("%.1f ms", float64(facts.Latency.Microseconds())/1000)
	switch {
	case facts.Latency > redisTooSlow:
		return fail(found, "put Redis next to the server: clicks go on without it")
	case facts.Latency > redisSlow:
		return warn(found, "put Redis into the server's own network: each click waits for it up to three times")
	}
	return ok(found)
}

func cluster(facts redisFacts) result {
	switch {
	case !facts.Cluster && facts.State != "":
		return fail("one node of a cluster, spoken to as if it were alone", "add ?cluster=true to REDIS_URL")
	case !facts.Cluster:
		return ok("not a cluster")
	case facts.State != "ok" || facts.Slots != slots:
		return fail(fmt.Sprintf("cluster_state is not ok, or not all slots are served: %d of %d", facts.Slots, slots), "mend the cluster: redis-cli --cluster check")
	}
	return ok(fmt.Sprintf("ok, all %d slots on %d masters", slots, facts.Nodes))
}

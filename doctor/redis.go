package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// redisSlow is a round trip that shoppers notice, since a click makes up to three.
	redisSlow = 10 * time.Millisecond
	// redisTooSlow is a round trip at which clicks may go on without Redis.
	redisTooSlow = 100 * time.Millisecond
	slots        = 16384 // of a cluster
)

func (d *doctor) redis(ctx context.Context) []Check {
	if d.config.RedisURL.Empty() {
		return each(ctx, []step{{"redis", "REDIS_URL", "", func(context.Context) Check {
			return warn("none: an embedded one, in memory")
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
				return d.unreached(ctx, err)
			case err == nil && condition.nodes == 0:
				return redisFailed(errors.New("cluster has no nodes"))
			}
			return ok(fmt.Sprintf("answers; %d node(s) with keys", max(condition.nodes, 1)))
		}},
		{"redis.write", "SET XX of a missing key, MGET, EVAL", reach, func(ctx context.Context) Check {
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

// unreached is redisFailed, but first tries the other scheme, without a password. The error does not show
// that the scheme is wrong, since a port with TLS cuts a plain connection, and one without waits for more.
func (d *doctor) unreached(ctx context.Context, err error) Check {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	configured, wrong := d.config.Redis(), fail("Redis speaks no TLS at this port")
	options := &redis.Options{Addr: configured.Addrs[0], Protocol: 2, ContextTimeoutEnabled: true, DialerRetries: 1}
	if configured.TLSConfig == nil {
		wrong = fail("Redis speaks TLS at this port")
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	answer := client.Ping(ctx).Err()
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](answer)
	if unlessRefused(err) != nil && (unlessRefused(answer) == nil || distrusted) {
		return wrong
	}
	return redisFailed(err)
}

// redisFailed returns the result for an error from Redis, without repeating the error's text.
func redisFailed(err error) Check {
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
	}
	return first([]verdict{
		{errors.Is(err, store.ErrNoEval), fail("Redis refuses EVAL: nothing is cached, locked or counted across servers")},
		{says("WRONGPASS", "NOAUTH", "AUTH <password>"), fail("Redis does not accept the user or password")},
		{says("can't run this command", "NOPERM"), fail("Redis denies this user commands that the server needs")},
		{says("READONLY"), fail("it is a replica, which takes no writes")},
		{says("OOM"), fail("its memory is full, and it takes no writes")},
		{says("MISCONF"), fail("it cannot write its disk, and takes no writes")},
		{says("NOREPLICAS"), fail("it has too few replicas, and takes no writes")},
		{says("LOADING"), fail("Redis is still loading its data")},
		{says("cluster support disabled"), fail("this Redis is not a cluster")},
		{says("CLUSTERDOWN", "cluster has no nodes"), fail("the cluster is down: it does not serve all its slots")},
		{says("MOVED"), fail("this Redis is a node of a cluster")},
		{says("unknown authority"), fail("its certificate is not trusted")},
	}, unreachable(err, "REDIS_URL", "Redis"))
}

// tryWrite runs the kinds of commands that a click runs. It changes nothing, since the key does not
// exist and is set only if it does. Redis refuses that for the same reasons as any other write.
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
		{n < 2, warn("Redis does not report its version")},
		{major < 6 || major == 6 && minor < 2, warn("%s", found).fix("use Redis 6.2 or newer: this one is not tested")},
	}, ok(found))
}

// persistence reports what the server itself warns about when it starts.
func persistence(condition Condition, oneStore bool) Check {
	for _, warning := range condition.Warnings {
		if warning.disk && (!oneStore || !warning.Merchants) {
			found, _, _ := strings.Cut(warning.Text, ";")
			return warn("%s", found).fix("set appendonly yes in Redis, and appendfsync everysec from 7.2 on, always before")
		}
	}
	if oneStore {
		return ok("erased data does not come back, and lost data is looked up again")
	}
	return ok("append-only file")
}

func eviction(policy string, fatal bool) Check {
	return first([]verdict{
		{fatal, fail("an allkeys policy: what merchants saved may be dropped, so that the server does not start")},
		{policy == "", warn("Redis does not report its maxmemory-policy")},
		{policy != "noeviction", warn("Redis may evict keys before their time: " +
			"a webhook about a customer who has moved could miss the shopper who had the record")},
	}, ok(policy))
}

// latency pings every node that has keys. The slowest counts.
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
		{worst > redisTooSlow, fail("%s", found).
			fix("put Redis next to the server: a click that waits longer goes on without it")},
		{worst > redisSlow,
			warn("%s", found).fix("put Redis into the server's own network: each click waits for it up to three times")},
	}, ok(found))
}

func cluster(ctx context.Context, client redis.UniversalClient, condition Condition) Check {
	if _, is := client.(*redis.ClusterClient); !is {
		if condition.first["redis_mode"] == "cluster" {
			return fail("one node of a cluster, addressed as if it were alone")
		}
		return ok("not a cluster")
	}
	info, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return redisFailed(err)
	}
	s := linesOf(info)
	served, _ := strconv.Atoi(s["cluster_slots_ok"])
	if s["cluster_state"] != "ok" || served != slots {
		return fail("cluster_state is not ok, or not all slots are served: %d of %d", served, slots)
	}
	return ok(fmt.Sprintf("ok, all %d slots on %d masters", slots, condition.nodes))
}

// ErrEvicting means that Redis may evict data that must not be lost.
var ErrEvicting = errors.New("keys that do not expire may be evicted by Redis: set its maxmemory-policy to noeviction")

// Condition is how Redis keeps its data, on all nodes that have keys of their own. Settings that
// Redis does not report are empty.
type Condition struct {
	Warnings []Warning

	nodes int
	first settings // of the first node
}

// Warning describes a risk to an operator.
type Warning struct {
	Text      string
	Merchants bool // it is about merchants' saved data, which a server for one store does not have

	disk bool // doctor's redis.persistence reports it
}

// CheckRedis checks how well Redis keeps data that must not be lost.
// Errors: ErrEvicting, store.ErrNoEval, and Redis' own if it does not answer.
func CheckRedis(ctx context.Context, s *store.Store) (Condition, error) {
	var condition Condition
	if s.InMemory() {
		embedded := Warning{"Redis is embedded: what merchants saved is lost when this process ends", true, false}
		return Condition{Warnings: []Warning{embedded}}, nil
	}
	if err := eachMaster(ctx, s.Client(), condition.check); err != nil {
		return condition, fmt.Errorf("check Redis: %w", err)
	}
	return condition, nil
}

// check checks one node.
func (c *Condition) check(ctx context.Context, node *redis.Client) error {
	if err := node.Eval(ctx, "return 1", nil).Err(); store.RefusesEval(err) {
		return store.ErrNoEval
	}
	if err := node.Ping(ctx).Err(); err != nil {
		return err
	}
	s, err := settingsOf(ctx, node)
	if err != nil {
		return err
	}
	if c.nodes++; c.nodes == 1 {
		c.first = s
	}
	for _, warning := range s.warnings() {
		if !slices.Contains(c.Warnings, warning) {
			c.Warnings = append(c.Warnings, warning)
		}
	}
	if strings.HasPrefix(s["maxmemory_policy"], "allkeys-") {
		return ErrEvicting
	}
	return nil
}

// settings are what Redis reports about itself. Those that it does not report are missing.
type settings map[string]string

func settingsOf(ctx context.Context, node *redis.Client) (settings, error) {
	info, err := node.Info(ctx).Result()
	if err := unlessRefused(err); err != nil {
		return nil, err
	}
	all := linesOf(info)
	// A hosted Redis often forbids CONFIG.
	for _, name := range []string{"maxmemory-policy", "appendfsync", "save"} {
		values, err := node.ConfigGet(ctx, name).Result()
		if err := unlessRefused(err); err != nil {
			return nil, err
		}
		if value, ok := values[name]; ok {
			all[strings.ReplaceAll(name, "-", "_")] = value
		}
	}
	// With nothing to wait for, Redis answers at once, with two numbers; the client's own WaitAOF expects one.
	if err = node.Do(ctx, "WAITAOF", 0, 0, 1).Err(); err == nil {
		all["waitaof"] = "yes"
	}
	return all, unlessRefused(err)
}

// linesOf reads lines of "name:value".
func linesOf(text string) settings {
	s := settings{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			s[name] = value
		}
	}
	return s
}

// unlessRefused returns err, or nil if Redis did answer but refused the command.
func unlessRefused(err error) error {
	if _, refused := errors.AsType[redis.Error](err); refused {
		return nil
	}
	return err
}

// warnings returns how merchants' saved data could be lost, and how a shopper could be sent to a
// record that used to be theirs.
func (s settings) warnings() []Warning {
	var warnings []Warning
	if text := s.diskRisk(); text != "" {
		warnings = append(warnings, Warning{text, true, true})
	}
	switch policy := s["maxmemory_policy"]; policy {
	case "noeviction":
	case "":
		warnings = append(warnings, Warning{"Redis does not report its maxmemory-policy: " +
			"with an allkeys policy, what merchants saved may be evicted", true, false})
	default:
		warnings = append(warnings, Warning{"Redis may evict keys before their time (maxmemory-policy " + policy + "): " +
			"a webhook about a customer who has moved could then miss the shopper who had the record; " +
			"set maxmemory-policy to noeviction", false, false})
	}
	if s["aof_enabled"] == "0" && s["save"] != "" {
		warnings = append(warnings, Warning{"Redis goes back to its last snapshot when it crashes, " +
			"and brings back what webhooks have erased since; " + `set appendonly to yes, or save to ""`, false, true})
	}
	return warnings
}

// diskRisk returns how merchants' data could be lost on its way to the disk; "" if it could not.
func (s settings) diskRisk() string {
	const ask = "; set appendonly to yes"
	save, tells := s["save"]
	switch aof := s["aof_enabled"]; {
	case aof == "0" && tells && save == "":
		return "Redis keeps nothing on disk: what merchants saved is lost when Redis restarts" + ask
	case aof == "0" && tells:
		return "Redis has no append-only file: what merchants saved since its last snapshot is lost when it crashes" + ask
	case aof == "0":
		return "Redis has no append-only file, and does not report whether it makes snapshots: " +
			"what merchants saved may be lost when it restarts" + ask
	case aof != "1":
		return "Redis does not report whether it keeps its data on disk: what merchants saved may be lost when it restarts"
	case s["appendfsync"] == "no":
		return "Redis leaves flushing its file to the operating system (appendfsync no): " +
			"what merchants saved in the last half minute may be lost in a power failure"
	case s["appendfsync"] == "always" || s["waitaof"] != "":
		return "" // Redis has flushed it, or we wait until it has
	case s["appendfsync"] == "everysec":
		return "Redis flushes its disk every second and cannot say when it has (before 7.2): " +
			"what merchants saved up to a second before a power failure may be lost"
	}
	return "Redis does not report how often it flushes its disk: " +
		"what merchants saved just before a power failure may be lost"
}

// eachMaster calls do with every node that has keys of its own, one after the other.
func eachMaster(
	ctx context.Context, client redis.UniversalClient, do func(context.Context, *redis.Client) error,
) error {
	switch client := client.(type) {
	case *redis.Client:
		return do(ctx, client)
	case *redis.ClusterClient:
		var mu sync.Mutex
		return client.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return do(ctx, master)
		})
	}
	return nil
}

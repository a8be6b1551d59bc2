package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/store"
)

// ErrEvicting says that Redis may drop what must not be lost.
var ErrEvicting = errors.New("keys that have no end may be evicted by Redis: set its maxmemory-policy to noeviction")

// Condition is what is known of Redis' care for what it keeps. Each text names a risk, for
// an operator.
type Condition struct {
	Saved  []string // that what merchants saved is lost
	Erased []string // that what was erased comes back, or that a webhook misses a shopper
}

func (c *Condition) add(other Condition) {
	for _, warnings := range []struct{ all, more *[]string }{{&c.Saved, &other.Saved}, {&c.Erased, &other.Erased}} {
		for _, warning := range *warnings.more {
			if !slices.Contains(*warnings.all, warning) {
				*warnings.all = append(*warnings.all, warning)
			}
		}
	}
}

// CheckRedis asks Redis, at the start, how well it keeps what must not be lost. It
// fails with ErrEvicting if it does not, and otherwise if it does not answer.
func CheckRedis(ctx context.Context, s *store.Store) (Condition, error) {
	if s.InMemory() {
		return Condition{Saved: []string{"Redis is embedded: what merchants saved is lost when this process ends"}}, nil
	}
	var condition Condition
	err := eachMaster(ctx, s.Client(), func(ctx context.Context, node *redis.Client) error {
		found, err := checkNode(ctx, node)
		condition.add(found)
		return err
	})
	if err != nil {
		return condition, fmt.Errorf("check Redis: %w", err)
	}
	return condition, nil
}

func checkNode(ctx context.Context, node *redis.Client) (Condition, error) {
	if err := node.Eval(ctx, "return 1", nil).Err(); store.RefusesEval(err) {
		return Condition{}, store.ErrNoEval
	}
	if err := node.Ping(ctx).Err(); err != nil {
		return Condition{}, err
	}
	settings, err := settingsOf(ctx, node)
	if err != nil {
		return Condition{}, err
	}
	condition := Condition{Saved: settings.warnings(), Erased: settings.eraseWarnings()}
	switch policy := settings["maxmemory_policy"]; {
	case strings.HasPrefix(policy, "allkeys-"):
		return condition, ErrEvicting
	case policy == "":
		condition.Saved = append(condition.Saved,
			"Redis does not tell its maxmemory-policy: with an allkeys policy, what merchants saved may be evicted")
	}
	return condition, nil
}

// eraseWarnings are where a shopper could be sent by a record that was theirs once.
func (s settings) eraseWarnings() (warnings []string) {
	if policy := s["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		warnings = append(warnings, "Redis may evict keys before their time (maxmemory-policy "+policy+
			"): a webhook about a customer who has moved could then miss the shopper who had the record; set maxmemory-policy to noeviction")
	}
	if s["aof_enabled"] == "0" && s["save"] != "" {
		warnings = append(warnings, "Redis goes back to its last snapshot when it crashes, and brings back what webhooks have erased since"+
			`; set appendonly to yes, or save to ""`)
	}
	return warnings
}

// settings are what Redis tells of itself. What it does not tell is not there.
type settings map[string]string

func settingsOf(ctx context.Context, node *redis.Client) (settings, error) {
	told := settings{}
	for _, section := range []string{"server", "memory", "persistence"} {
		info, err := node.Info(ctx, section).Result()
		if err := unlessRefused(err); err != nil {
			return nil, err
		}
		for line := range strings.Lines(info) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				told[name] = value
			}
		}
	}
	// Often forbidden where somebody else runs Redis.
	for _, name := range []string{"maxmemory-policy", "appendfsync", "save"} {
		values, err := node.ConfigGet(ctx, name).Result()
		if err := unlessRefused(err); err != nil {
			return nil, err
		}
		if value, ok := values[name]; ok {
			told[strings.ReplaceAll(name, "-", "_")] = value
		}
	}
	// To wait for nothing is answered at once.
	err := node.WaitAOF(ctx, 0, 0, time.Millisecond).Err()
	if err == nil {
		told["waitaof"] = "yes"
	}
	return told, unlessRefused(err)
}

// unlessRefused drops the error of a Redis that answers, but not this.
func unlessRefused(err error) error {
	var refusal redis.Error
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}

// warnings are what an operator should know of how Redis keeps its data.
func (s settings) warnings() []string {
	save, tells := s["save"]
	switch s["aof_enabled"] {
	case "1":
		return s.flushWarnings()
	case "0":
		switch {
		case tells && save == "":
			return []string{"Redis keeps nothing on disk: what merchants saved is lost when Redis restarts; set appendonly to yes"}
		case tells:
			return []string{"Redis has no append-only file: what merchants saved since its last snapshot is lost when it crashes; set appendonly to yes"}
		}
		return []string{"Redis has no append-only file, and does not tell whether it makes snapshots: what merchants saved may be lost when it restarts; set appendonly to yes"}
	}
	return []string{"Redis does not tell whether it keeps its data on disk: what merchants saved may be lost when it restarts"}
}

func (s settings) flushWarnings() []string {
	switch {
	case s["appendfsync"] == "no":
		return []string{"Redis leaves it to the system when its file gets on the disk (appendfsync no): what merchants saved in the last half minute may be lost in a power failure"}
	case s["appendfsync"] == "always" || s["waitaof"] != "":
		return nil // it is flushed, or we wait until it is
	case s["appendfsync"] == "everysec":
		return []string{"Redis flushes its disk every second and cannot say when it has (before 7.2): what merchants saved up to a second before a power failure may be lost"}
	}
	return []string{"Redis does not tell how often it flushes its disk: what merchants saved just before a power failure may be lost"}
}

// eachMaster calls do with every node that has keys of its own, one after the
// other.
func eachMaster(ctx context.Context, client redis.UniversalClient, do func(context.Context, *redis.Client) error) error {
	var masters []*redis.Client
	switch client := client.(type) {
	case *redis.Client:
		masters = []*redis.Client{client}
	case *redis.ClusterClient:
		var mu sync.Mutex
		err := client.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters = append(masters, master)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, master := range masters {
		if err := do(ctx, master); err != nil {
			return err
		}
	}
	return nil
}

// redisFacts are what Redis says of itself, for an operator who asks. Of several nodes
// with keys of their own, they are the first's, and the slowest round trip. What
// Redis does not tell is empty.
type redisFacts struct {
	Nodes   int
	Version string
	AOF     string        // "1", "0"
	Policy  string        // maxmemory-policy
	Latency time.Duration // the middle of some round trips

	Cluster bool
	State   string // cluster_state
	Slots   int    // that a node serves
}

// examined is how many round trips the latency is the middle of.
const examined = 5

// askRedis asks Redis what it is. It only reads, and fails if Redis does not answer.
func askRedis(ctx context.Context, client redis.UniversalClient) (redisFacts, error) {
	var facts redisFacts
	if _, cluster := client.(*redis.ClusterClient); cluster {
		facts.Cluster = true
		info, err := client.ClusterInfo(ctx).Result()
		if err != nil {
			return facts, err
		}
		facts.State, facts.Slots = slotsOf(info)
	}
	err := eachMaster(ctx, client, func(ctx context.Context, node *redis.Client) error {
		took, err := pingTime(ctx, node)
		if err != nil {
			return err
		}
		facts.Latency = max(facts.Latency, took)
		facts.Nodes++
		if facts.Nodes > 1 {
			return nil
		}
		told, err := settingsOf(ctx, node)
		facts.Version, facts.AOF, facts.Policy = told["redis_version"], told["aof_enabled"], told["maxmemory_policy"]
		if told["redis_mode"] == "cluster" && !facts.Cluster {
			facts.State = "not told of" // a node of a cluster, spoken to as if it were alone
		}
		return err
	})
	return facts, err
}

func pingTime(ctx context.Context, node *redis.Client) (time.Duration, error) {
	// The first opens the connection.
	if err := node.Ping(ctx).Err(); err != nil {
		return 0, err
	}
	var all [examined]time.Duration
	for i := range all {
		start := time.Now()
		if err := node.Ping(ctx).Err(); err != nil {
			return 0, err
		}
		all[i] = time.Since(start)
		for j := i; j > 0 && all[j] < all[j-1]; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all[examined/2], nil
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

func slotsOf(info string) (state string, slots int) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "cluster_state":
			state = value
		case "cluster_slots_ok":
			slots, _ = strconv.Atoi(value)
		}
	}
	return state, slots
}

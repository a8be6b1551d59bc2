package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Facts are what Redis says of itself, for an operator who asks. Of several nodes
// with keys of their own, they are the first's, and the slowest round trip. What
// Redis does not tell is empty.
type Facts struct {
	Embedded bool
	Nodes    int
	Version  string
	AOF      string        // "1", "0"
	Policy   string        // maxmemory-policy
	Latency  time.Duration // the middle of some round trips

	Cluster bool
	State   string // cluster_state
	Slots   int    // that a node serves
}

// examined is how many round trips the latency is the middle of.
const examined = 5

// Examine asks Redis what it is. It only reads, and fails if Redis does not answer.
func (s *Store) Examine(ctx context.Context) (Facts, error) {
	facts := Facts{Embedded: s.embedded != nil}
	if facts.Embedded {
		return facts, nil
	}
	if _, cluster := s.redis.(*redis.ClusterClient); cluster {
		facts.Cluster = true
		info, err := s.redis.ClusterInfo(ctx).Result()
		if err != nil {
			return facts, err
		}
		facts.State, facts.Slots = slotsOf(info)
	}
	err := s.eachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		took, err := latency(ctx, node)
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

func latency(ctx context.Context, node *redis.Client) (time.Duration, error) {
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

// TryWrite tells whether Redis takes what a click asks of it. It changes nothing: the
// key is not there, and is set only if it is, which Redis refuses for the same reasons.
func (s *Store) TryWrite(ctx context.Context) error {
	const key = "ms1:doctor"
	if err := s.redis.SetXX(ctx, key, "", time.Second).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	_, err := s.redis.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.MGet(ctx, key)
		tx.HMGet(ctx, key, "field")
		tx.HDel(ctx, key, "field")
		tx.PExpire(ctx, key, time.Second)
		tx.Del(ctx, key)
		return nil
	})
	if err != nil {
		return err
	}
	return s.redis.Eval(ctx, "return 1", []string{key}).Err()
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

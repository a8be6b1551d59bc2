package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/store"
)

// ErrEvicting says that Redis may drop what must not be lost.
var ErrEvicting = errors.New("keys that have no end may be evicted by Redis: set its maxmemory-policy to noeviction")

// Condition is how Redis keeps its data, on all nodes that have keys of their own. What
// Redis does not tell is empty.
type Condition struct {
	Warnings []Warning

	nodes int
	first settings // of the first node
}

// Warning is a risk, for an operator.
type Warning struct {
	Text      string
	Merchants bool // it is about what merchants have saved, of which a server for one store has nothing

	disk bool // doctor's redis.persistence reports it
}

// CheckRedis asks Redis how well it keeps what must not be lost.
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

// check asks one node.
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

// settings are what Redis tells of itself. What it does not tell is not there.
type settings map[string]string

func settingsOf(ctx context.Context, node *redis.Client) (settings, error) {
	all := settings{}
	for _, section := range []string{"server", "memory", "persistence"} {
		info, err := node.Info(ctx, section).Result()
		if err := unlessRefused(err); err != nil {
			return nil, err
		}
		all.add(info)
	}
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
	// Waiting for no replica is answered at once.
	err := node.WaitAOF(ctx, 0, 0, time.Millisecond).Err()
	if err == nil {
		all["waitaof"] = "yes"
	}
	return all, unlessRefused(err)
}

// add reads lines of "name:value".
func (s settings) add(lines string) {
	for line := range strings.Lines(lines) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			s[name] = value
		}
	}
}

// unlessRefused drops the error of a Redis that answers, but not this.
func unlessRefused(err error) error {
	var refusal redis.Error
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}

// warnings are how what merchants saved could be lost, and how a shopper could be sent to
// a record that was theirs once.
func (s settings) warnings() []Warning {
	var warnings []Warning
	if text := s.diskRisk(); text != "" {
		warnings = append(warnings, Warning{text, true, true})
	}
	switch policy := s["maxmemory_policy"]; policy {
	case "noeviction":
	case "":
		warnings = append(warnings, Warning{"Redis does not tell its maxmemory-policy: " +
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

// diskRisk is how what merchants saved could be lost with the disk; "": it is not.
func (s settings) diskRisk() string {
	const ask = "; set appendonly to yes"
	save, tells := s["save"]
	switch aof := s["aof_enabled"]; {
	case aof == "0" && tells && save == "":
		return "Redis keeps nothing on disk: what merchants saved is lost when Redis restarts" + ask
	case aof == "0" && tells:
		return "Redis has no append-only file: what merchants saved since its last snapshot is lost when it crashes" + ask
	case aof == "0":
		return "Redis has no append-only file, and does not tell whether it makes snapshots: " +
			"what merchants saved may be lost when it restarts" + ask
	case aof != "1":
		return "Redis does not tell whether it keeps its data on disk: what merchants saved may be lost when it restarts"
	case s["appendfsync"] == "no":
		return "Redis leaves it to the system when its file gets on the disk (appendfsync no): " +
			"what merchants saved in the last half minute may be lost in a power failure"
	case s["appendfsync"] == "always" || s["waitaof"] != "":
		return "" // it is flushed, or we wait until it is
	case s["appendfsync"] == "everysec":
		return "Redis flushes its disk every second and cannot say when it has (before 7.2): " +
			"what merchants saved up to a second before a power failure may be lost"
	}
	return "Redis does not tell how often it flushes its disk: " +
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

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// durablePatience is how long a write that must not be lost may take. Nobody
	// clicks meanwhile; a disk that is flushed once a second takes its second.
	durablePatience = 3 * time.Second
	// flushPatience is how much of it Redis gets to flush its disk.
	flushPatience = 2 * time.Second
	// flushers is how many may wait for the disk at once.
	flushers = 5
)

var errNotFlushed = errors.New("not on the disk of Redis in time")

// durably lets write write, and returns nil only when Redis has it on its disk,
// as far as Redis can tell; Check warns of one that cannot.
func (s *Store) durably(ctx context.Context, key string, write func(context.Context, *redis.Tx) error) error {
	// Each waits for the disk on a connection of its own: some must be left to clicks.
	ctx, cancel := context.WithTimeout(ctx, durablePatience)
	defer cancel()
	select {
	case s.flushing <- struct{}{}:
		defer func() { <-s.flushing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.watched(ctx, key, func(ctx context.Context, tx *redis.Tx) error {
		if err := write(ctx, tx); err != nil {
			return err
		}
		return flushed(tx.WaitAOF(ctx, 1, 0, flushPatience).Result())
	})
}

// watched lets write write while key is watched, on one connection, to the node
// where key is. write may be called several times. Unlike a click's, such a
// write tries even a Redis that is left alone.
func (s *Store) watched(ctx context.Context, key string, write func(context.Context, *redis.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, durablePatience)
	defer cancel()
	for cut := 0; ; {
		err := s.redis.Watch(ctx, func(tx *redis.Tx) error { return write(ctx, tx) }, key)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, redis.TxFailedErr): // it met another's write: one of the two got through
		case wasCut(err) && cut < 2:
			cut++
		default:
			return err
		}
	}
}

// wasCut tells whether the connection was cut: a restarted Redis has closed all
// that were open, and a new one may do. What Redis refuses, it would refuse again.
func wasCut(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF)
}

// flushed reads the answer to WAITAOF. A Redis before 7.2 does not know it, one
// without an append-only file has nothing to wait for, and some do not let
// everybody ask: of all these Check has warned.
func flushed(done []int64, err error) error {
	var refusal redis.Error
	switch {
	case errors.As(err, &refusal):
		return nil
	case err != nil:
		return err
	case len(done) == 0 || done[0] == 0:
		return errNotFlushed
	}
	return nil
}

func unlink(key string) func(context.Context, *redis.Tx) error {
	return func(ctx context.Context, tx *redis.Tx) error { return tx.Unlink(ctx, key).Err() }
}

// unlinkWatched drops the watched key, if nobody has changed it.
func unlinkWatched(ctx context.Context, tx *redis.Tx, key string) error {
	_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Unlink(ctx, key)
		return nil
	})
	return err
}

func notNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// ErrEvicting says that Redis may drop what must not be lost.
var ErrEvicting = errors.New("keys that have no end may be evicted by Redis: set its maxmemory-policy to noeviction or volatile-lru")

// Condition is what is known of Redis' care for what it keeps.
type Condition struct {
	Warnings []string // each names a risk, for an operator
}

// Check asks Redis, at the start, how well it keeps what must not be lost. It
// fails with ErrEvicting if it does not, and otherwise if it does not answer.
func (s *Store) Check(ctx context.Context) (Condition, error) {
	if s.embedded != nil {
		return Condition{[]string{"Redis is embedded: what merchants saved is lost when this process ends"}}, nil
	}
	var condition Condition
	err := s.eachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		warnings, err := checkNode(ctx, node)
		for _, warning := range warnings {
			if !slices.Contains(condition.Warnings, warning) {
				condition.Warnings = append(condition.Warnings, warning)
			}
		}
		return err
	})
	if err != nil {
		return condition, fmt.Errorf("check Redis: %w", err)
	}
	return condition, nil
}

func checkNode(ctx context.Context, node *redis.Client) ([]string, error) {
	if err := node.Ping(ctx).Err(); err != nil {
		return nil, err
	}
	settings, err := settingsOf(ctx, node)
	if err != nil {
		return nil, err
	}
	warnings := settings.warnings()
	if strings.HasPrefix(settings["maxmemory_policy"], "allkeys-") {
		return warnings, ErrEvicting
	}
	if settings["maxmemory_policy"] == "" {
		warnings = append(warnings, "Redis does not tell its maxmemory-policy: with an allkeys policy, what merchants saved may be evicted")
	}
	return warnings, nil
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

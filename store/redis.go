package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// clickTimeout limits a round trip that a click waits for.
	clickTimeout = 500 * time.Millisecond
	// backgroundTimeout limits one that no click waits for.
	backgroundTimeout = 3 * time.Second
	// durableTimeout limits a write that must not be lost, and flushTimeout the part of it in which
	// Redis flushes to disk. With "appendfsync everysec" that takes up to a second.
	durableTimeout = 3 * time.Second
	flushTimeout   = 2 * time.Second
	// restFor is how long a breaker stays open before one click tries again for all others.
	restFor = time.Second
)

// breaker keeps clicks away from a failing Redis, and logs each failure and recovery once.
type breaker struct {
	action string // what fails, for the log
	now    func() time.Time
	log    *slog.Logger

	open  atomic.Bool
	retry atomic.Int64 // while open, when to try again, in nanoseconds since 1970
}

// allow reports whether to try.
func (b *breaker) allow() bool {
	if !b.open.Load() {
		return true
	}
	now, retry := b.now(), b.retry.Load()
	return now.UnixNano() >= retry && b.retry.CompareAndSwap(retry, now.Add(restFor).UnixNano())
}

// report records the result of an attempt, and reports whether that opened the breaker.
func (b *breaker) report(ctx context.Context, err error) (opened bool) {
	if err == nil && !b.open.Load() {
		return false
	}
	b.retry.Store(b.now().Add(restFor).UnixNano())
	wasOpen := b.open.Swap(err != nil)
	switch {
	case err != nil && !wasOpen:
		b.log.ErrorContext(ctx, "cannot "+b.action+"; clicks go on without it", "error", err)
		return true
	case err == nil && wasOpen:
		b.log.InfoContext(ctx, "can "+b.action+" again")
	}
	return false
}

var errResting = errors.New("not tried, since it failed a moment ago")

// try sends a command that a click waits for, unless a breaker is open. Running into clickTimeout
// is a failure of Redis; a click that ends earlier says nothing about Redis.
func (s *Store) try(click context.Context, kind *breaker, send func(context.Context) error) error {
	if !s.reach.allow() || !kind.allow() {
		return errResting
	}
	err := send(until{click, time.Now().Add(clickTimeout)})
	_, refused := errors.AsType[redis.Error](err)
	switch {
	case isAnswer(err):
		s.reach.report(click, nil)
		kind.report(click, nil)
		return nil
	case click.Err() != nil:
	case refused:
		s.reach.report(click, nil)
		kind.report(click, err)
	default:
		if s.reach.report(click, err) {
			s.background.Go(s.dropDeadConnections)
		}
		s.reloadCluster()
	}
	return err
}

// until is a context that limits how long a go-redis command may take. Unlike context.WithTimeout,
// it needs no timer, which every click would have to set and stop.
type until struct {
	context.Context
	deadline time.Time
}

// Deadline returns the earlier of this deadline and the click's own.
func (u until) Deadline() (time.Time, bool) {
	if own, ok := u.Context.Deadline(); ok && own.Before(u.deadline) {
		return own, true
	}
	return u.deadline, true
}

// isAnswer reports whether Redis answered with a value, with none, or with one of another type.
func isAnswer(err error) bool {
	return err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE")
}

// mget reads keys of one slot for a click.
func (s *Store) mget(ctx context.Context, keys []string) (values []any, err error) {
	err = s.try(ctx, &s.reads, func(ctx context.Context) error {
		values, err = s.redis.MGet(ctx, keys...).Result()
		return err
	})
	return values, err
}

// eval runs a script for a click. It sends the text instead of the digest, since a Redis that has
// just started, or a replica that was just promoted, knows no script.
func (s *Store) eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	result := redis.NewCmd(ctx)
	err := s.try(ctx, &s.writes, func(ctx context.Context) error {
		result = s.redis.Eval(ctx, script, keys, args...)
		return result.Err()
	})
	if err != nil {
		result.SetErr(err)
	}
	return result
}

// readNow is mget where no click waits. It ignores the breakers, since nobody would try again later.
func (s *Store) readNow(ctx context.Context, keys ...string) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	return s.redis.MGet(ctx, keys...).Result()
}

// evalNow is eval where no click waits. It ignores the breakers, too.
func (s *Store) evalNow(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	return s.redis.Eval(ctx, script, keys, args...)
}

// reloadCluster makes a cluster client ask which node is the master of which slots. On its own it
// asks once a minute or when a node redirects it, and a dead node redirects nobody.
func (s *Store) reloadCluster() {
	for _, client := range []redis.UniversalClient{s.redis, s.slow} {
		if cluster, ok := client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background())
		}
	}
}

// dropDeadConnections pings on all idle connections at once, so that the pool drops the dead ones.
// After a failover that moves an address, each of them would cost a click its timeout.
func (s *Store) dropDeadConnections() {
	ctx, cancel := context.WithTimeout(context.Background(), clickTimeout)
	defer cancel()
	var pings sync.WaitGroup
	for range s.redis.PoolStats().IdleConns {
		pings.Go(func() { _ = s.redis.Ping(ctx).Err() })
	}
	pings.Wait()
}

var errNotFlushed = errors.New("not on the disk of Redis in time")

// durably calls write while it watches keys of one slot, and returns nil only once Redis has the
// result on disk, as far as Redis can tell. doctor and the start warn about a Redis that cannot
// tell. write may be called several times. The breakers are ignored.
func (s *Store) durably(ctx context.Context, write func(context.Context, *redis.Tx) error, keys ...string) error {
	ctx, cancel := context.WithTimeout(ctx, durableTimeout)
	defer cancel()
	for cuts := 0; ; {
		err := s.slow.Watch(ctx, func(tx *redis.Tx) error {
			if err := write(ctx, tx); err != nil {
				return err
			}
			// This must use the write's own connection. The client's WaitAOF expects a single number.
			return flushed(tx.Do(ctx, "WAITAOF", 1, 0, flushTimeout.Milliseconds()).Int64Slice())
		}, keys...)
		cut := wasCut(err)
		if cut {
			s.reloadCluster()
			cuts++
		}
		conflict := errors.Is(err, redis.TxFailedErr) // another write to these keys succeeded
		if err == nil || ctx.Err() != nil || !conflict && (!cut || cuts > 2) {
			return err
		}
	}
}

// wasCut reports whether the connection was cut. A restarted Redis has closed all connections, and
// a new one may work. A refusal is final.
func wasCut(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF)
}

// flushed reads the answer to WAITAOF. A refusal counts as flushed. It means that Redis is older
// than 7.2, has no append-only file or does not allow the command; the start warns about each.
func flushed(local []int64, err error) error {
	switch _, refused := errors.AsType[redis.Error](err); {
	case refused:
		return nil
	case err == nil && (len(local) == 0 || local[0] == 0):
		return errNotFlushed
	}
	return err
}

// Client returns the Redis client, for checks of the server's condition.
func (s *Store) Client() redis.UniversalClient { return s.redis }

// InMemory reports whether Redis is the embedded one.
func (s *Store) InMemory() bool { return s.embedded != nil }

// ErrNoEval means that Redis refuses scripts.
var ErrNoEval = errors.New("EVAL is refused by Redis, so nothing is cached, locked or counted: allow it (ACL: +eval)")

// Ping returns how long Redis takes to run a script, as clicks do. It ignores the breakers but
// reports to them, so that an instance without clicks notices an outage, too. It fails with
// ErrNoEval if Redis answers but refuses scripts.
func (s *Store) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	within, cancel := context.WithTimeout(ctx, clickTimeout)
	defer cancel()
	err := s.redis.Eval(within, "return 1", []string{instancesKey}).Err()
	switch {
	case ctx.Err() != nil:
	case RefusesEval(err):
		s.reach.report(ctx, nil)
		err = ErrNoEval
	default:
		s.reach.report(ctx, err)
	}
	return time.Since(start), err
}

// RefusesEval reports whether an error means that Redis never runs scripts, for this user or for
// anyone, as opposed to failing now.
func RefusesEval(err error) bool {
	denied := redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "'eval'")
	return denied || redis.HasErrorPrefix(err, "unknown command")
}

// Reachable reports whether Redis answered the last time it was asked.
func (s *Store) Reachable() bool { return !s.reach.open.Load() }

// Writable reports whether Redis took the last write. A replica and a full Redis take none.
func (s *Store) Writable() bool { return !s.writes.open.Load() }

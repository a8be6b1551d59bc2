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
	// clickTimeout is how long one round trip may take that a click waits for.
	clickTimeout = 500 * time.Millisecond
	// askTimeout is how long one may take that no click waits for.
	askTimeout = 3 * time.Second
	// durableTimeout is how long a write that must not be lost may take, and flushTimeout how much
	// of it Redis gets to flush its disk: one that flushes once a second takes its second.
	durableTimeout = 3 * time.Second
	flushTimeout   = 2 * time.Second
	// restFor is how long Redis is left alone after it failed; then one click tries it for all.
	restFor = time.Second
)

// gate keeps clicks from a Redis that fails, and says so once.
type gate struct {
	what string
	now  func() time.Time
	log  *slog.Logger

	down  atomic.Bool
	retry atomic.Int64 // while down: leave it alone until then, in nanoseconds since 1970
}

// allow reports whether to try.
func (g *gate) allow() bool {
	if !g.down.Load() {
		return true
	}
	now, retry := g.now(), g.retry.Load()
	return now.UnixNano() >= retry && g.retry.CompareAndSwap(retry, now.Add(restFor).UnixNano())
}

// report takes the result of a try, and reports whether this one has closed the gate.
func (g *gate) report(ctx context.Context, err error) (closed bool) {
	if err == nil && !g.down.Load() {
		return false
	}
	g.retry.Store(g.now().Add(restFor).UnixNano())
	was := g.down.Swap(err != nil)
	switch {
	case err != nil && !was:
		g.log.ErrorContext(ctx, "cannot "+g.what+"; clicks go on without it", "error", err)
		return true
	case err == nil && was:
		g.log.InfoContext(ctx, "can "+g.what+" again")
	}
	return false
}

var errResting = errors.New("left alone for a moment, since it failed")

// try sends something that a click waits for, unless Redis is left alone. That its own
// time is up is a failure of Redis, that the click's is up is none.
func (s *Store) try(click context.Context, kind *gate, send func(context.Context) error) error {
	if !s.reach.allow() || !kind.allow() {
		return errResting
	}
	err := send(until{click, time.Now().Add(clickTimeout)})
	var refusal redis.Error
	switch {
	case isAnswer(err):
		s.reach.report(click, nil)
		kind.report(click, nil)
		return nil
	case click.Err() != nil: // nobody knows whose fault it is
	case errors.As(err, &refusal):
		s.reach.report(click, nil)
		kind.report(click, err)
	default:
		if s.reach.report(click, err) {
			s.background.Go(s.shake)
		}
		s.relearn()
	}
	return err
}

// until is a context that tells go-redis how long a command may take. Unlike one with a
// timeout it needs no timer, of which each click would set and stop one.
type until struct {
	context.Context
	deadline time.Time
}

// Deadline is the earlier one of this and the click's own.
func (u until) Deadline() (time.Time, bool) {
	if own, ok := u.Context.Deadline(); ok && own.Before(u.deadline) {
		return own, true
	}
	return u.deadline, true
}

// isAnswer tells that there is nothing, or something of another type, in a place from a failure.
func isAnswer(err error) bool {
	return err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE")
}

// mget reads keys of one slot in one command.
func (s *Store) mget(ctx context.Context, keys []string) (values []any, err error) {
	err = s.try(ctx, &s.reads, func(ctx context.Context) error {
		values, err = s.redis.MGet(ctx, keys...).Result()
		return err
	})
	return values, err
}

// eval runs a script that a click waits for. Its text is sent, not its digest: a Redis
// that has just started, or a replica that has just become the master, knows no script.
func (s *Store) eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	var result *redis.Cmd
	err := s.try(ctx, &s.writes, func(ctx context.Context) error {
		result = s.redis.Eval(ctx, script, keys, args...)
		return result.Err()
	})
	if result == nil {
		result = redis.NewCmd(ctx)
		result.SetErr(err)
	}
	return result
}

// ask sends all that queue puts into the pipe, in one round trip. Unlike a click's, it
// tries even a Redis that is left alone: nobody else will do it.
func (s *Store) ask(ctx context.Context, queue func(context.Context, redis.Pipeliner)) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	sent, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		queue(ctx, pipe)
		return nil
	})
	if !isAnswer(err) {
		return err
	}
	for _, command := range sent {
		if err := command.Err(); !isAnswer(err) {
			return err
		}
	}
	return nil
}

// relearn lets a cluster's client ask who is master of what. By itself it asks a minute after it
// last did, or when a node sends it elsewhere, which one that is dead does not.
func (s *Store) relearn() {
	for _, client := range []redis.UniversalClient{s.redis, s.slow} {
		if cluster, ok := client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background())
		}
	}
}

// shake lets go of connections that are dead without anybody having said so, as after a failover
// that took an address along: each would cost a click its timeout, one in every rest. There are as
// many pings as connections lie idle, all at once, so that each has one.
func (s *Store) shake() {
	ctx, cancel := context.WithTimeout(context.Background(), clickTimeout)
	defer cancel()
	var pings sync.WaitGroup
	for range s.redis.PoolStats().IdleConns {
		pings.Go(func() { _ = s.redis.Ping(ctx).Err() })
	}
	pings.Wait()
}

var errNotFlushed = errors.New("not on the disk of Redis in time")

// durably lets write write while keys of one slot are watched, on one connection, and
// returns nil only when Redis has it on its disk, as far as Redis can say; the start warns
// of one that cannot. write may be called several times. Unlike a click's, such a write
// tries even a Redis that is left alone.
func (s *Store) durably(ctx context.Context, write func(context.Context, *redis.Tx) error, keys ...string) error {
	ctx, cancel := context.WithTimeout(ctx, durableTimeout)
	defer cancel()
	for cut := 0; ; {
		err := s.slow.Watch(ctx, func(tx *redis.Tx) error {
			if err := write(ctx, tx); err != nil {
				return err
			}
			return flushed(tx.WaitAOF(ctx, 1, 0, flushTimeout).Result())
		}, keys...)
		if wasCut(err) {
			s.relearn()
		}
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

// wasCut reports whether the connection was cut: a restarted Redis has closed all that
// were open, and a new one may do. What Redis refuses, it would refuse again.
func wasCut(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF)
}

// flushed reads the answer to WAITAOF. A Redis before 7.2 does not know it, one without
// an append-only file has nothing to wait for, and some do not let everybody ask: of
// all these the start has warned.
func flushed(done []int64, err error) error {
	var refusal redis.Error
	if errors.As(err, &refusal) {
		return nil
	}
	if err == nil && (len(done) == 0 || done[0] == 0) {
		return errNotFlushed
	}
	return err
}

func notNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// Client is Redis itself, to look what it is like.
func (s *Store) Client() redis.UniversalClient { return s.redis }

// InMemory reports whether Redis is the embedded one.
func (s *Store) InMemory() bool { return s.embedded != nil }

// ErrNoEval is that Redis refuses scripts.
var ErrNoEval = errors.New("the command EVAL is refused by Redis, " +
	"so nothing is cached, locked or counted across instances: allow it (in an ACL: +eval)")

// Ping returns how long Redis takes to answer a script, which is what clicks ask of it.
// It is a try like a click's: an instance that nobody clicks on finds out by it. It fails
// with ErrNoEval if Redis answers, and refuses scripts.
func (s *Store) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	within, cancel := context.WithTimeout(ctx, clickTimeout)
	defer cancel()
	err := s.redis.Eval(within, "return 1", []string{maintenanceKey}).Err()
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

// RefusesEval tells a Redis that does not run scripts, for this user or for anybody,
// from one that cannot now.
func RefusesEval(err error) bool {
	denied := redis.HasErrorPrefix(err, "NOPERM") && strings.Contains(err.Error(), "'eval'")
	return denied || redis.HasErrorPrefix(err, "unknown command")
}

// Reachable reports whether Redis answered what it was last asked.
func (s *Store) Reachable() bool { return !s.reach.down.Load() }

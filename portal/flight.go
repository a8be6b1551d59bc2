package portal

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// share runs do once in this process for all clicks that ask for the same key at the same time. It
// reports whether do ran for this click. It fails if do panicked, which would otherwise end the
// process, or if do is still running after ctx has ended and grace has passed.
func share[T any](
	ctx context.Context, flights *singleflight.Group, key string, do func() T,
) (result T, led bool, err error) {
	ran := false // apart from led, since do may still start after ctx has ended
	flight := flights.DoChan(key, func() (value any, err error) {
		defer func() {
			if panicked := recover(); panicked != nil {
				err = &Fault{panicked, debug.Stack()}
			}
		}()
		ran = true
		return do(), nil
	})
	var landed singleflight.Result
	select {
	case landed = <-flight:
	case <-ctx.Done():
		select {
		case landed = <-flight:
		case <-time.After(grace):
			return result, false, ctx.Err()
		}
	}
	if landed.Err == nil {
		result = landed.Val.(T)
	}
	return result, ran, landed.Err
}

// lookup is the result of a lookup at Recharge, for every click that waited for it.
type lookup struct {
	found
	of    *store.Record // the shop's record at that time
	steps []Step
	calls []recharge.Call
	late  bool // the click that made it ran out of time
}

// fetch asks Recharge for what is missing. Simultaneous clicks of one shopper share the lookup, by
// singleflight in this process and by a lock across instances. Each makes its own link.
func (c *click) fetch(ctx context.Context, result *Result) found {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	if c.Dry {
		return c.lead(result, c.lookUp(ctx))
	}
	start := c.trace.Now()
	l, led, err := share(ctx, &c.lookups, c.key(), func() lookup { return c.lookUp(ctx) })
	switch _, isFault := errors.AsType[*Fault](err); {
	case led && isFault:
		return found{outcome: Unavailable, cause: err}
	case led && err == nil:
		return c.lead(result, l)
	case err != nil && !isFault:
		c.trace.End(stepJoin, start, err)
		return c.orByHash(c.loaded.Cached, err)
	}
	c.trace.End(stepJoin, start, nil)
	useful := l.nobody || l.customer.ID != 0
	if err != nil || !c.mayJoin(l, useful) {
		return found{again: true} // this click has time left, or another record of the shop
	}
	if useful {
		l.source = FromJoined
	}
	return l.found
}

// mayJoin reports whether this click may use what another one has found. It may not share an access that
// opens one visit.
func (c *click) mayJoin(l lookup, useful bool) bool {
	return !l.again && l.of == c.loaded.Record && (useful || !l.late) && (!c.Once || l.access == recharge.Access{})
}

// key identifies a shopper's lookup. A click does not join a status request's lookup, which asks
// for less and gives up sooner.
func (c *click) key() string {
	who, status := c.Shopper, ""
	if c.statusOnly {
		status = "status "
	}
	return status + string(who.Shop) + " " + string(who.Customer) + " " + strconv.FormatInt(who.RechargeID, 10)
}

func (c *click) lookUp(ctx context.Context) lookup {
	q := c.query(NewTrace(c.trace.now))
	l := lookup{of: c.loaded.Record, found: q.run(ctx)}
	l.steps, l.late = q.trace.steps, ctx.Err() != nil
	if q.grant != nil {
		l.calls = q.grant.Calls()
	}
	return l
}

// lead returns what this click found itself, and records the steps and calls that it took.
func (c *click) lead(result *Result, l lookup) found {
	c.trace.steps = append(c.trace.steps, l.steps...)
	result.Calls = append(result.Calls, l.calls...)
	c.refuted = l.refuted
	return l.found
}

package portal

import (
	"context"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// sharedLookup is the result of one lookup, shared by every click that waited for it.
type sharedLookup struct {
	found
	leader *click        // the click that made the lookup
	of     *store.Record // that the leader had loaded then
	steps  []Step
	calls  []recharge.Call
	fault  *Fault
	late   bool // the leader ran out of time
}

// fetch asks Recharge for what is missing. Clicks of the same shopper in this process do
// so once, and each puts its own link together; across instances there is a lock.
func (c *click) fetch(ctx context.Context, result *Result) found {
	if c.Dry {
		f := c.lookUpOnce(ctx)
		return c.take(result, f)
	}
	start := c.trace.Now()
	lookup := c.lookups.DoChan(lookupKey(c.Shopper), func() (any, error) { return c.lookUpOnce(ctx), nil })
	f := wait(ctx, lookup)
	if f == nil {
		c.trace.End(stepJoin, start, ctx.Err())
		return c.orByHash(ctx.Err())
	}
	if f.leader != c {
		c.trace.End(stepJoin, start, nil)
	}
	return c.take(result, f)
}

func lookupKey(who store.Shopper) string {
	return string(who.Shop) + " " + string(who.Customer) + " " + strconv.FormatInt(who.RechargeID, 10)
}

// wait waits for a shared lookup, which ends soon after its leader's time is up. It
// returns nil if the lookup is still running.
func wait(ctx context.Context, lookup <-chan singleflight.Result) *sharedLookup {
	select {
	case r := <-lookup:
		return r.Val.(*sharedLookup)
	case <-ctx.Done():
	}
	select {
	case r := <-lookup:
		return r.Val.(*sharedLookup)
	case <-time.After(grace):
		return nil
	}
}

// take returns what a lookup found for this click.
func (c *click) take(result *Result, f *sharedLookup) found {
	if f.leader != c {
		other := f.found
		useful := other.nobody || other.customer.ID != 0
		if f.fault != nil || f.again || f.of != c.loaded.Record || f.late && !useful {
			return found{again: true} // this one has time left, or another record of the shop
		}
		if useful {
			other.source = FromJoined
		}
		return other
	}
	c.trace.steps = append(c.trace.steps, f.steps...)
	result.Calls = append(result.Calls, f.calls...)
	c.refuted = f.refuted
	return f.found
}

// lookUpOnce makes the lookup. It recovers from a panic, which would end the process.
func (c *click) lookUpOnce(ctx context.Context) (f *sharedLookup) {
	q := c.query(NewTrace(c.trace.now))
	defer func() {
		if value := recover(); value != nil {
			fault := &Fault{value, debug.Stack()}
			f = &sharedLookup{leader: c, fault: fault, found: found{outcome: Unavailable, cause: fault}}
			q.release(ctx)
		}
	}()
	f = &sharedLookup{leader: c, of: c.loaded.Record, found: q.run(ctx)}
	f.steps, f.late = q.trace.steps, ctx.Err() != nil
	if q.grant != nil {
		f.calls = q.grant.Calls()
	}
	return f
}

package portal

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// statusTimeout is how long a question of a theme's may take. The shopper may be about to
// click, and would wait for it.
const statusTimeout = 1500 * time.Millisecond

// SubscriberStatus is how a shopper stands with Recharge. The zero value is not known.
type SubscriberStatus struct {
	Known      bool
	Subscriber bool            // a click would open the portal
	Active     int             // subscriptions
	Cause      error           // why it is not known, or an alert; safe to log
	Calls      []recharge.Call // made for it
}

// Status returns how a signed-in shopper stands. It uses what is cached, even if that is too
// old for a click, or else one lookup, unless cacheOnly. The lookup is cached for the click to
// come.
func (r *Resolver) Status(ctx context.Context, who store.Shopper, cacheOnly bool) SubscriberStatus {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(r.Timeout, statusTimeout))
	defer cancel()
	c := &click{Resolver: r, Request: Request{Shopper: who}, trace: NewTrace(r.Now)}
	for {
		if err := c.load(ctx); err != nil || c.merchant == nil {
			return SubscriberStatus{Cause: err}
		}
		cached := c.loaded.Cached
		switch {
		case cached.NotSubscriber:
			return SubscriberStatus{Known: true}
		case cached.Fresh || cacheOnly:
			return subscriber(cached, nil)
		}
		status, again := c.status(ctx)
		if !again || ctx.Err() != nil {
			return status
		}
	}
}

func subscriber(cached store.Cached, cause error) SubscriberStatus {
	if !cached.Known() {
		return SubscriberStatus{Cause: cause}
	}
	return SubscriberStatus{Known: true, Subscriber: true, Active: cached.Customer.Active, Cause: cause}
}

// status looks a shopper up, once for all who ask at the same time.
func (c *click) status(ctx context.Context) (status SubscriberStatus, again bool) {
	type answer struct {
		SubscriberStatus
		again  bool
		leader *click
	}
	lookup := c.lookups.DoChan("status "+lookupKey(c.Shopper), func() (result any, _ error) {
		defer func() {
			if value := recover(); value != nil {
				result = answer{SubscriberStatus: SubscriberStatus{Cause: &Fault{value, debug.Stack()}}}
			}
		}()
		status, again := c.lookUpStatus(ctx)
		return answer{status, again, c}, nil
	})
	select {
	case r := <-lookup:
		a := r.Val.(answer)
		if a.leader != c {
			a.Calls = nil
		}
		return a.SubscriberStatus, a.again
	case <-ctx.Done():
		return subscriber(c.loaded.Cached, ctx.Err()), false
	}
}

func (c *click) lookUpStatus(ctx context.Context) (status SubscriberStatus, again bool) {
	q := c.query(c.trace)
	q.priority = recharge.Background
	var err error
	q.grant, err = c.merchant.Client.Limiter().Reserve(ctx, q.shared(), recharge.Ask{Background: 1})
	switch {
	case errors.Is(err, recharge.ErrChanged):
		return subscriber(c.loaded.Cached, err), true
	case errors.Is(err, recharge.ErrHeld):
		q.waitForLock(ctx)
		return subscriber(c.loaded.Cached, err), true
	case err != nil:
		q.release(ctx)
		return subscriber(c.loaded.Cached, err), false
	}
	defer q.lock.Renew(ctx)()
	f, done := q.lookUp(ctx)
	q.grant.Release(ctx)
	if !done {
		f = found{customer: q.cached.Customer, cause: q.alert}
	}
	if q.cached.Customer.ID != 0 || q.cached.NotSubscriber {
		_ = q.Store.SaveIfUnchanged(ctx, q.loaded, q.Shopper, q.cached, q.grant.At()) // no click: a redaction stays
	}
	q.release(ctx)
	switch {
	case f.nobody:
		status = SubscriberStatus{Known: true, Cause: f.cause}
	case done:
		status = subscriber(q.last, f.cause)
	default:
		status = subscriber(q.cached, f.cause)
	}
	status.Calls = q.grant.Calls()
	return status, false
}

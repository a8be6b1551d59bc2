package portal

import (
	"context"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// statusTimeout limits the lookup for a theme's status request. If the shopper clicks meanwhile,
// the click waits for that lookup.
const statusTimeout = 1500 * time.Millisecond

// SubscriberStatus is a shopper's status at Recharge. The zero value means that it is not known.
type SubscriberStatus struct {
	Known      bool
	Subscriber bool            // a click would open the portal
	Active     int             // subscriptions
	Cause      error           // why it is not known, or an alert; safe to log
	Calls      []recharge.Call // made to find out
}

// Status returns a signed-in shopper's status from the cache or, unless cacheOnly, from one lookup,
// which is cached for the next click. A cached non-subscriber counts even if too old for a click
// and, with cacheOnly, so does any cached shopper.
func (r *Resolver) Status(ctx context.Context, who store.Shopper, cacheOnly bool) SubscriberStatus {
	ctx = context.WithoutCancel(ctx)
	c := &click{Resolver: r, Request: Request{Shopper: who}, trace: NewTrace(r.Now), statusOnly: true}
	c.deadline = time.Now().Add(min(r.Timeout, statusTimeout))
	var result Result
	for {
		if err := c.load(ctx); err != nil || c.merchant == nil {
			return SubscriberStatus{Cause: err, Calls: result.Calls}
		}
		var f found
		switch cached := c.loaded.Cached; {
		case cached.NotSubscriber:
			f.nobody = true
		case cached.Fresh || cacheOnly:
			f = c.orByHash(c.loaded.Cached, nil)
		default:
			f = c.fetch(ctx, &result)
		}
		if f.again && !c.late() {
			continue
		}
		if f.again {
			f = c.orByHash(c.loaded.Cached, context.DeadlineExceeded)
		}
		return SubscriberStatus{
			Known: f.nobody || f.customer.ID != 0, Subscriber: f.customer.ID != 0, Active: f.customer.Active,
			Cause: f.cause, Calls: result.Calls,
		}
	}
}

package portal

import (
	"context"
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
			f = c.orByHash(nil)
		default:
			f = c.fetch(ctx, &result)
		}
		if f.again && !c.late() {
			continue
		}
		if f.again {
			f = c.orByHash(context.DeadlineExceeded)
		}
		return SubscriberStatus{
			Known: f.nobody || f.customer.ID != 0, Subscriber: f.customer.ID != 0, Active: f.customer.Active,
			Cause: f.cause, Calls: result.Calls,
		}
	}
}

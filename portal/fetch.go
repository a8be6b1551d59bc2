package portal

import (
	"context"
	"errors"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// query is a lookup at Recharge in progress.
type query struct {
	*click
	trace  *Trace
	grant  *recharge.Grant
	lock   *store.Lock
	cached store.Cached // updated as more is learned
	last   store.Cached // as loaded; empty once it turned out wrong
	at     time.Time    // when Recharge, or else Redis, was asked who the shopper is
	source Source
	alert  error
}

// query starts a lookup from the cached value.
func (c *click) query(trace *Trace) *query {
	return &query{click: c, trace: trace, cached: c.loaded.Cached, last: c.loaded.Cached, at: c.loaded.At}
}

// shared returns the limiter that counts the calls, with the shopper's lock. A click that saves
// nothing, or could not read the cache, takes no lock, so that nobody waits for it.
func (q *query) shared() recharge.SharedLimiter {
	if q.Dry || q.loaded.Err != nil {
		return q.Store.Limiter(q.Shopper.Shop)
	}
	q.lock = q.Store.Lock(q.loaded, q.Shopper)
	return q.lock
}

// run reserves calls, asks Recharge and saves the result. It releases the lock even if it panics,
// so that others need not wait.
func (q *query) run(ctx context.Context) found {
	defer q.release(ctx)
	q.source = sourceOf(q.cached)
	start := q.trace.Now()
	var err error
	q.grant, err = q.merchant.Client.Limiter().Reserve(ctx, q.shared(), q.ask())
	q.trace.End(stepBudget, start, err)
	switch {
	case errors.Is(err, recharge.ErrChanged):
		return found{again: true}
	case errors.Is(err, recharge.ErrHeld):
		return q.waitForLock(ctx)
	case err != nil:
		return q.orByHash(q.last, err)
	}
	defer q.lock.Renew(ctx)()
	f := q.learn(ctx)
	q.trace.addCalls(q.grant.Calls())
	q.grant.Release(ctx)
	return q.save(ctx, f)
}

// ask returns the calls that the click will make if all goes well. It leaves out calls to endpoints
// whose circuit is open.
func (q *query) ask() (ask recharge.Ask) {
	if q.statusOnly {
		return recharge.Ask{recharge.Background: 1}
	}
	limiter := q.merchant.Client.Limiter()
	if !q.cached.Fresh && !limiter.CircuitOpen(recharge.Customers) {
		ask[recharge.High] = 1
	}
	if q.merchant.NoAccess || limiter.CircuitOpen(recharge.Sessions) || limiter.CircuitOpen(recharge.PortalAccess) {
		return ask
	}
	verify := q.cached.Fresh && !q.trusted(q.cached)
	if verify {
		ask[recharge.Normal]++
	}
	if verify && q.cached.For != "" { // only that
		return ask
	}
	ask[recharge.Normal]++
	if q.cached.Session.Token == "" {
		ask[recharge.Normal]++
	}
	return ask
}

// trusted reports whether a cached customer needs no verification before a signed-in link is made:
// either webhooks would have reported a moved record, or the last verification is less than
// trustFor old.
func (c *click) trusted(cached store.Cached) bool {
	return c.Store.WebhooksProven(c.loaded.Record) || c.Now().Sub(cached.Verified) < trustFor
}

// waitForLock waits while another instance asks for the same shopper. The click then loads what
// that instance saved.
func (q *query) waitForLock(ctx context.Context) found {
	start := q.trace.Now()
	err := q.lock.Wait(ctx)
	q.trace.End(stepWait, start, err)
	if ctx.Err() != nil {
		return q.orByHash(q.last, ctx.Err())
	}
	return found{again: true}
}

// orByHash falls back on a cached customer when Recharge cannot be asked.
func (c *click) orByHash(cached store.Cached, cause error) found {
	if !cached.Known() {
		return found{cause: cause, source: FromNothingLeft}
	}
	f := found{customer: cached.Customer, cause: cause, source: sourceOf(cached), at: c.loaded.At}
	if !cached.Fresh {
		f.source = FromOutOfDate
	}
	return f
}

// learn asks Recharge for what is missing.
func (q *query) learn(ctx context.Context) found {
	if !q.cached.Fresh {
		q.source = FromRecharge
		if f, done := q.identify(ctx); done {
			return f
		}
	} else if !q.merchant.NoAccess && !q.trusted(q.cached) {
		if f, done := q.verify(ctx); done {
			return f
		}
	}
	f := found{customer: q.cached.Customer, cause: q.alert, source: q.source, visit: q.Visit, at: q.at}
	if q.merchant.NoAccess || q.statusOnly {
		return f
	}
	if q.cached.For != "" { // it waited only for the customer to be verified
		f.access = q.cached.Access
		if q.Once {
			q.cached.DropAccess()
		}
		return f
	}
	access, link, err := q.signIn(ctx)
	if err != nil {
		f.cause = errors.Join(q.alert, err)
		return f
	}
	f.access, f.link = access, link
	return f
}

// identify asks who the shopper is. It reports whether the answer ends the lookup.
func (q *query) identify(ctx context.Context) (found, bool) {
	customer, names, err := q.find(ctx)
	now := q.Now()
	switch {
	case NotACustomer(err):
		q.cached = store.Cached{NotSubscriber: true, LookedUp: now, ShopifyID: q.Shopper.Customer}
		return found{nobody: true, cause: err, source: q.source}, true
	case err != nil:
		// Recharge is failing, so the last known customer still counts.
		return q.orByHash(q.last, err), true
	}
	before := q.cached
	q.cached = store.Cached{Customer: customer, ShopifyID: names, LookedUp: now, Verified: now}
	if before.Customer.ID == customer.ID && before.Customer.Hash == customer.Hash {
		q.cached.Session = before.Session
	}
	return found{}, false
}

// NotACustomer reports whether Recharge has no customer whose portal could be opened.
func NotACustomer(err error) bool {
	return recharge.Is(err, recharge.NoCustomer) || recharge.Is(err, recharge.Ambiguous)
}

// find returns the shopper's customer record, and the Shopify id in it.
func (q *query) find(ctx context.Context) (recharge.Customer, shopify.CustomerID, error) {
	client := q.merchant.Client
	q.at = time.Now()
	if id := q.Shopper.RechargeID; id != 0 {
		customer, names, err := client.OwnCustomer(ctx, q.grant, id)
		if recharge.Is(err, recharge.Foreign) {
			// Recharge mixes customers up, so its earlier answers may be wrong, too.
			q.forget(ctx)
		}
		return customer, shopify.CustomerID(names), err
	}
	priority := recharge.High
	if q.statusOnly {
		priority = recharge.Background
	}
	result, err := client.FindCustomer(ctx, q.grant, string(q.Shopper.Customer), priority)
	q.alert = result.Alert
	if recharge.Is(err, recharge.FilterIgnored) {
		q.alert = err
		result.Customer, err = q.findUnfiltered(ctx, err)
	}
	return result.Customer, q.Shopper.Customer, err
}

// findUnfiltered handles a store where Recharge's filter does not work. It looks up a cached
// customer by Recharge's id. A shopper who is missing from a complete import is no customer.
func (q *query) findUnfiltered(ctx context.Context, alert error) (recharge.Customer, error) {
	if id := q.cached.Customer.ID; id != 0 {
		customer, err := q.merchant.Client.CustomerByID(ctx, q.grant, id, string(q.Shopper.Customer))
		if err == nil {
			return customer, nil
		}
		if !recharge.Is(err, recharge.NoCustomer) {
			return recharge.Customer{}, alert
		}
		// The record is no longer this shopper's, so it must not open for them.
		q.forget(ctx)
	}
	if q.Store.Imported(ctx, q.Shopper.Shop) {
		return recharge.Customer{}, &recharge.Error{Endpoint: recharge.Customers, Reason: recharge.NoCustomer}
	}
	return recharge.Customer{}, alert
}

// verify asks whether the customer record is still the shopper's. It reports whether that ends the
// lookup: by hash if Recharge cannot say, and to load again if the record has moved.
func (q *query) verify(ctx context.Context) (found, bool) {
	q.at = time.Now()
	customer, err := q.verified(ctx, q.grant, q.cached.Customer.ID)
	switch {
	case err == nil:
		if customer.Hash != q.cached.Customer.Hash {
			q.cached.Session = recharge.Session{}
			q.cached.DropAccess()
		}
		q.cached.Customer, q.cached.Verified = customer, q.Now()
		return found{}, false
	case recharge.Is(err, recharge.NoCustomer), recharge.Is(err, recharge.Foreign):
		refuted := q.cached.Customer.ID
		q.forget(ctx)
		return found{again: true, refuted: refuted}, true
	}
	return q.orByHash(q.last, err), true
}

// verified returns a customer record as Recharge has it now, if it is still the shopper's.
func (c *click) verified(ctx context.Context, grant *recharge.Grant, id int64) (recharge.Customer, error) {
	if c.Shopper.RechargeID != 0 {
		own, _, err := c.merchant.Client.OwnCustomer(ctx, grant, c.Shopper.RechargeID)
		return own, err
	}
	return c.merchant.Client.CustomerByID(ctx, grant, id, string(c.Shopper.Customer))
}

// signIn asks for portal access, with the cached session if there is one.
func (q *query) signIn(ctx context.Context) (recharge.Access, recharge.Link, error) {
	if q.cached.Session.Token != "" {
		access, link, err := q.access(ctx)
		if !recharge.Is(err, recharge.Unauthorized) {
			return access, link, err
		}
		q.cached.Session = recharge.Session{} // it ended early, and a new one may work
	}
	session, err := q.merchant.Client.CreateSession(ctx, q.grant, q.cached.Customer)
	if err != nil {
		if recharge.Is(err, recharge.Foreign) || recharge.Is(err, recharge.NotFound) {
			// Recharge no longer knows the customer by this id.
			q.forget(ctx)
		}
		q.refused(err)
		return recharge.Access{}, recharge.Link{}, err
	}
	q.cached.Session = session
	return q.access(ctx)
}

func (q *query) access(ctx context.Context) (recharge.Access, recharge.Link, error) {
	access, link, err := q.merchant.Client.PortalAccess(ctx, q.grant, q.cached.Customer, q.cached.Session, q.Visit)
	switch {
	case recharge.Is(err, recharge.Foreign):
		// The hash has changed, or the session is not this customer's.
		q.forget(ctx)
	case err == nil && q.LinkTTL > 0:
		until := q.Now().Add(q.LinkTTL)
		if !access.Expires.IsZero() && access.Expires.Before(until) {
			until = access.Expires
		}
		q.cached.DropAccess()
		q.cached.Access, q.cached.AccessUntil, q.cached.NoAccessUntil = access, until, time.Time{}
	}
	q.refused(err)
	return access, link, err
}

// refused remembers a refusal that Recharge would repeat.
func (q *query) refused(err error) {
	reason := recharge.ReasonOf(err)
	if reason != "" && !reason.Transient() && reason != recharge.Cancelled && q.LinkTTL > 0 {
		q.cached.NoAccessUntil = q.Now().Add(min(noAccessFor, q.LinkTTL))
	}
}

// forget drops everything cached or just learned about the shopper, since it turned out wrong.
func (q *query) forget(ctx context.Context) {
	if !q.Dry && q.loaded.Record != nil {
		_ = q.Store.Forget(ctx, q.loaded.Record, q.Shopper)
	}
	q.cached, q.last = store.Cached{}, store.Cached{}
}

// release releases the lock, unless save has. The lock may have been taken even if the calls were
// not granted in time.
func (q *query) release(ctx context.Context) {
	if q.lock != nil && q.loaded.Record != nil {
		_ = q.Store.Save(ctx, q.loaded.Record, q.Shopper, nil, 0, q.lock)
	}
}

// save caches what was learned, and releases the lock. If the shopper was erased or moved
// meanwhile, the click has to load again.
func (q *query) save(ctx context.Context, f found) found {
	if q.Dry {
		return f
	}
	var value *store.Cached
	if q.cached.Customer.ID != 0 && q.cached != q.loaded.Cached || q.cached.NotSubscriber {
		value = &q.cached
		value.Seen = q.Now()
	}
	if q.statusOnly { // only a click lifts a redaction
		if value != nil {
			_, _ = q.Store.SaveIfUnchanged(ctx, q.loaded, q.Shopper, *value, q.grant.At(), nil)
		}
		return f
	}
	start := q.trace.Now()
	at := time.Now()
	err := q.Store.Save(ctx, q.loaded.Record, q.Shopper, value, q.grant.At(), q.lock)
	q.trace.End(stepSave, start, err)
	q.lock = nil
	switch {
	case f.again:
	case errors.Is(err, store.ErrOutdated):
		return found{again: true}
	case err != nil || value == nil:
		f.unsaved = value != nil || q.cached.Customer.ID == 0
	default:
		f.at = at
	}
	return f
}

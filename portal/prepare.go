package portal

import (
	"context"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// accessLife is how long a portal access lives, according to Recharge's documents. Recharge's own
	// expires_at may have no zone, so it can only shorten that.
	accessLife = 24 * time.Hour
	// accessMargin is how long before its end a prepared access is last used, since the portal needs it
	// for every page of a visit.
	accessMargin = 30 * time.Minute
	// PreparedFor is the longest that a prepared access is used.
	PreparedFor = accessLife - accessMargin
)

// Prepare makes a portal access for a shopper ahead of the click, and reports whether it was saved. A
// click has the same access made if it comes now, so both take the shopper's lock. All calls are
// Background ones. It returns the calls that were made.
// Errors: recharge.ErrHeld and recharge.ErrChanged if a click is under way, and those of any call.
func (r *Resolver) Prepare(
	ctx context.Context, merchant *Merchant, who store.Named, campaign store.Campaign,
) (calls []recharge.Call, made bool, err error) {
	visit := recharge.Visit{To: recharge.Subscriptions}
	c := &click{Resolver: r, Request: Request{Shopper: who.Shopper, Visit: visit}, merchant: merchant, loaded: who.Loaded}
	q := c.query(NewTrace(r.Now))
	ask := recharge.Ask{recharge.Background: 1}
	if q.cached.Session.Token == "" {
		ask[recharge.Background]++
	}
	q.grant, err = merchant.Client.Limiter().Reserve(ctx, q.shared(), ask)
	defer q.release(ctx)
	if err != nil {
		return nil, false, err
	}
	defer q.lock.Renew(ctx)()
	asked := r.Now()
	access, _, err := q.signIn(ctx)
	q.grant.Release(ctx)
	if until := usableUntil(access, asked, campaign); err == nil && until.After(r.Now()) {
		q.cached.Access, q.cached.AccessUntil, q.cached.NoAccessUntil = access, until, time.Time{}
		q.cached.For, q.cached.MadeAt = campaign.ID, asked
	}
	if q.cached.Customer.ID == 0 || ctx.Err() != nil { // it turned out wrong, and is forgotten
		return q.grant.Calls(), false, err
	}
	saved, failed := r.Store.SaveIfUnchanged(ctx, who.Loaded, who.Shopper, q.cached, q.grant.At(), q.lock)
	if failed == nil {
		q.lock = nil
	}
	if err == nil {
		err = failed
	}
	return q.grant.Calls(), saved && err == nil && q.cached.For != "", err
}

// usableUntil returns how long a prepared access is used. It is not used after the campaign.
func usableUntil(access recharge.Access, made time.Time, campaign store.Campaign) time.Time {
	if access == (recharge.Access{}) {
		return time.Time{}
	}
	until := made.Add(accessLife)
	if !access.Expires.IsZero() && access.Expires.Before(until) {
		until = access.Expires
	}
	until = until.Add(-accessMargin)
	if !campaign.EndsAt.IsZero() && campaign.EndsAt.Before(until) {
		return campaign.EndsAt
	}
	return until
}

// PreparedUntil returns how long clicks use a cached access that was made ahead; zero if they do not.
func (r *Resolver) PreparedUntil(merchant *Merchant, cached store.Cached) time.Time {
	c := &click{Resolver: r, merchant: merchant}
	if cached.For == "" || !c.holdsAccess(cached) {
		return time.Time{}
	}
	return cached.AccessUntil
}

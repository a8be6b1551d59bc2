package importer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// This file works on campaigns: it makes the portal accesses of their audience ahead. One instance at a
// time works on a shop's. Clicks go first, and imports, too.

const (
	// campaignsAtOnce is how many shops' campaigns one instance works on at the same time.
	campaignsAtOnce = 64
	// cover is how long after a campaign's start an access that was made before it should still open, and
	// how long before its end an access is made again.
	cover = 6 * time.Hour
	// early is how much sooner than the forecast says the work begins, and earlyShare how much of the
	// time that it needs, since clicks and imports take calls, too.
	early, earlyShare = 15 * time.Minute, 0.1
	// passAgain is how soon a campaign's list is gone through again, for what has expired or was dropped.
	passAgain = 5 * time.Minute
	// holdFor is the longest wait during which an instance keeps the lease.
	holdFor = 10 * time.Second
	// pausedAfter is the wait after a 429 or a failed call, and refusedAgain after a refusal that the next
	// shopper would meet, too.
	pausedAfter, refusedAgain = 10 * time.Second, 10 * time.Minute
	// readAhead is how many shoppers are looked at in one step.
	readAhead = 50
	// loadAtOnce is how many values are read at once to put an audience in order.
	loadAtOnce = 500
)

// The reasons why the work on a campaign waits, besides those of calls.
const (
	WaitsForImport = "import"    // no import is complete, so that nobody knows who is a subscriber
	ListLost       = "list lost" // what was listed is no longer readable
)

var errLeaseLost = errors.New("another instance works on the shop's campaigns")

// earliest returns when the work on a campaign can begin. An access that is made sooner would end too soon.
func earliest(c store.Campaign) time.Time { return until(c, c.StartsAt).Add(-portal.PreparedFor) }

// until returns how long an access should open if it is needed at a time.
func until(c store.Campaign, at time.Time) time.Time {
	at = at.Add(cover)
	if !c.EndsAt.IsZero() && c.EndsAt.Before(at) {
		return c.EndsAt
	}
	return at
}

// begin returns when the work on a campaign begins: as late as it can, since accesses that are made later
// open for longer.
func begin(c store.Campaign, size int, each time.Duration) time.Time {
	need := time.Duration((1 + earlyShare) * float64(size) * float64(each))
	if c.Audience == store.Renewals {
		return c.StartsAt
	}
	return later(earliest(c), c.StartsAt.Add(-need-early))
}

// each returns how long one access takes at half of the token's rate.
func each(merchant *portal.Merchant) time.Duration {
	return time.Duration(2 * callsEach / merchant.Client.Limiter().Budget().Rate * float64(time.Second))
}

// campaigns works on a shop's campaigns until it has to wait for long. If ctx ends, another instance may
// continue at once.
func (x *Importer) campaigns(ctx context.Context, lease *store.Lease) {
	for ctx.Err() == nil {
		had, err := x.recorder.Store.KeepCampaigns(ctx, lease, store.ImportLease)
		next := retryAfter
		switch {
		case err == nil && !had:
			return
		case err == nil:
			next, err = x.step(ctx, lease)
			if ctx.Err() == nil && (err != nil || next < 0 || next > holdFor) {
				x.leave(ctx, lease, next, err)
				return
			}
		}
		recharge.Wait(ctx, next)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
	defer cancel()
	x.leave(last, lease, 0, nil)
}

func (x *Importer) leave(ctx context.Context, lease *store.Lease, next time.Duration, why error) {
	if why != nil {
		next = restartAfter
	}
	_, err := x.recorder.Store.KeepCampaigns(ctx, lease, next)
	if err = errors.Join(why, err); err != nil && ctx.Err() == nil {
		x.recorder.Log.WarnContext(ctx, "work on campaigns interrupted; it is taken up again",
			"shop", string(lease.Shop), "cause", err)
	}
}

// step does the next thing for a shop's campaigns, and returns how long to wait then. It is negative if
// there is no campaign.
func (x *Importer) step(ctx context.Context, lease *store.Lease) (time.Duration, error) {
	shop := lease.Shop
	record, merchant, err := x.preparing(ctx, shop)
	var cannot PlanError
	switch {
	case errors.Is(err, NotConnected):
		return -time.Millisecond, nil
	case errors.As(err, &cannot), errors.Is(err, store.ErrUnreadable): // it may be possible again later
		return refusedAgain, nil
	case err != nil:
		return 0, err
	}
	progress, err := x.recorder.Store.Import(ctx, shop)
	if err != nil || progress.Running && progress.Problem == "" {
		return retryAfter, err
	}
	next := -time.Millisecond
	if record.Connection == nil {
		return next, nil
	}
	all := slices.Clone(record.Connection.Campaigns)
	slices.SortStableFunc(all, func(a, b store.Campaign) int { return a.StartsAt.Compare(b.StartsAt) })
	for _, one := range all {
		if one.Over(x.now()) {
			continue
		}
		wait, err := x.workOn(ctx, lease, record, merchant, one)
		if err != nil || wait == 0 {
			return 0, err
		}
		if next < 0 || wait < next {
			next = wait
		}
	}
	return next, nil
}

// workOn does the next thing for one campaign. It returns how long to wait, 0 if there is more to do.
func (x *Importer) workOn(
	ctx context.Context, lease *store.Lease, r *store.Record, merchant *portal.Merchant, c store.Campaign,
) (time.Duration, error) {
	p, err := x.recorder.Store.Progress(ctx, r.Shop, c)
	if err != nil {
		return 0, err
	}
	now := x.now()
	if wait := begin(c, p.Size, each(merchant)).Sub(now); wait > 0 && (p.Size > 0 || earliest(c).After(now)) {
		return wait, nil
	}
	switch {
	case !p.Planned:
		return x.order(ctx, lease, r, merchant, c, p)
	case p.NextPass.After(now):
		return p.NextPass.Sub(now), nil
	}
	names, err := x.recorder.Store.ReadNames(ctx, r, c, p.Position, readAhead)
	if err != nil {
		return 0, err
	}
	if len(names) == 0 {
		return x.endPass(ctx, r, c, p)
	}
	shoppers, err := x.recorder.Store.LoadNamed(ctx, r, names)
	if err != nil {
		return 0, err
	}
	var wait time.Duration
	for _, who := range shoppers {
		needs := x.needs(merchant, c, who)
		if needs && can(who) {
			if wait = x.prepare(ctx, merchant, c, who, &p); ctx.Err() != nil {
				return 0, ctx.Err()
			}
			break
		}
		p.Next(!needs)
	}
	_, err = x.recorder.Store.SaveProgress(ctx, r, c, p)
	return wait, err
}

func (x *Importer) endPass(
	ctx context.Context, r *store.Record, c store.Campaign, p store.Progress,
) (time.Duration, error) {
	gone := p.Position
	p.EndPass()
	p.NextPass = x.now().Add(passAgain)
	if c.Audience != store.Renewals {
		_, err := x.recorder.Store.SaveProgress(ctx, r, c, p)
		return passAgain, err
	}
	p.NextPass = time.Time{} // those who are added wake the work
	return time.Hour, x.recorder.Store.TrimNames(ctx, r, c, gone, p)
}

// can reports whether an access can be made for a shopper.
func can(who store.Named) bool {
	return who.Record != nil && subscribes(who.Cached) && who.Cached.Fresh && who.Cached.NoAccessUntil.IsZero()
}

// needs reports whether a shopper has no access that opens for long enough.
func (x *Importer) needs(merchant *portal.Merchant, c store.Campaign, who store.Named) bool {
	return x.resolver.PreparedUntil(merchant, who.Cached).Before(until(c, later(x.now(), c.StartsAt)))
}

func subscribes(cached store.Cached) bool { return cached.Known() && cached.Customer.Active > 0 }

// prepare makes a shopper's access, and updates the progress. It returns how long to wait. A shopper for
// whom none can be made now is met again in the next pass.
func (x *Importer) prepare(
	ctx context.Context, merchant *portal.Merchant, c store.Campaign, who store.Named, p *store.Progress,
) time.Duration {
	if !merchant.Client.Limiter().WaitBackground(ctx, callsEach) {
		return 0
	}
	calls, made, err := x.resolver.Prepare(ctx, merchant, who, c)
	x.recorder.Calls(who.Shop, calls)
	reason := recharge.ReasonOf(err)
	p.Problem = string(reason)
	switch {
	case reason == recharge.OverBudget: // shoppers go first
		p.Problem = ""
		return retryAfter
	case reason == recharge.Limited:
		return pausedAfter
	case reason != "":
		// The next shopper may meet the same, so the waits grow.
		p.Next(false)
		x.recorder.Log.Log(ctx, portal.Level(portal.RedirectedByHash, err), "access not made ahead",
			"shop", string(who.Shop), "campaign", c.ID, "cause", err)
		p.Failures++
		return min(pausedAfter<<min(p.Failures-1, 6), refusedAgain)
	}
	p.Failures = 0
	p.Next(made) // not made if a click is under way, which makes one itself
	if made {
		p.Made++
	}
	return 0
}

// order puts a campaign's audience in order.
func (x *Importer) order(
	ctx context.Context, lease *store.Lease, r *store.Record, merchant *portal.Merchant,
	c store.Campaign, p store.Progress,
) (time.Duration, error) {
	if p.Began.IsZero() {
		p.Began = x.now()
	}
	if !x.recorder.Store.Imported(ctx, r.Shop) && x.now().Before(c.StartsAt) {
		p.Problem = WaitsForImport
		_, err := x.recorder.Store.SaveProgress(ctx, r, c, p)
		return holdFor, err
	}
	var listed []string
	for c.Audience == store.ListedCustomers {
		names, err := x.recorder.Store.ReadNames(ctx, r, c, len(listed), loadAtOnce)
		if err != nil {
			return 0, err
		}
		if listed = append(listed, names...); len(names) < loadAtOnce {
			break
		}
	}
	charges, err := x.nextCharges(ctx, lease, r, merchant)
	if err != nil {
		return 0, err
	}
	members, err := x.members(ctx, r, c, listed)
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(members, func(a, b member) int {
		return cmp.Or(soonest(charges[a.id], charges[b.id]), -a.seen.Compare(b.seen), strings.Compare(a.name, b.name))
	})
	names := make([]string, len(members))
	for i, one := range members {
		names[i] = one.name
	}
	p.Problem = ""
	if c.Audience == store.ListedCustomers {
		if p.Unknown = max(0, p.Size+p.Unknown-len(names)); len(listed) == 0 {
			p.Problem = ListLost
		}
	}
	p.Planned, p.Size = true, len(names)
	return 0, x.recorder.Store.ReplaceNames(ctx, r, c, names, p)
}

// soonest compares two times. The zero time comes last.
func soonest(a, b time.Time) int {
	if a.IsZero() != b.IsZero() {
		return -a.Compare(b)
	}
	return a.Compare(b)
}

// member is one of a campaign's audience.
type member struct {
	name string
	id   int64     // Recharge's
	seen time.Time // when a click last asked Recharge for the shopper
}

// members returns those of a campaign's audience who have an active subscription.
func (x *Importer) members(
	ctx context.Context, r *store.Record, c store.Campaign, listed []string,
) ([]member, error) {
	names := listed
	if c.Audience == store.ActiveSubscribers {
		var err error
		if names, err = x.recorder.Store.AllNames(ctx, r); err != nil {
			return nil, err
		}
	}
	var members []member
	for chunk := range slices.Chunk(names, loadAtOnce) {
		shoppers, err := x.recorder.Store.LoadNamed(ctx, r, chunk)
		if err != nil {
			return nil, err
		}
		for i, who := range shoppers {
			if subscribes(who.Cached) {
				members = append(members, member{chunk[i], who.Cached.Customer.ID, who.Cached.Seen})
			}
		}
	}
	return members, nil
}

// nextCharges returns when Recharge charges each customer next, by its own ids, as far as the token may
// read that and clicks leave calls for it. It keeps the lease, and fails if that is lost.
func (x *Importer) nextCharges(
	ctx context.Context, lease *store.Lease, r *store.Record, merchant *portal.Merchant,
) (map[int64]time.Time, error) {
	next := map[int64]time.Time{}
	if r.Connection == nil || !r.Connection.ReadsCharges() {
		return next, nil
	}
	for cursor := ""; merchant.Client.Limiter().WaitBackground(ctx, 1); {
		if had, err := x.recorder.Store.KeepCampaigns(ctx, lease, store.ImportLease); err != nil || !had {
			return nil, errors.Join(errLeaseLost, err)
		}
		var page recharge.ChargePage
		err := x.recorder.Call(ctx, r.Shop, merchant.Client, recharge.Background, func(grant *recharge.Grant) (err error) {
			page, err = merchant.Client.ChargePage(ctx, grant, cursor)
			return err
		})
		if err != nil { // those who are known come first, and the others by when they were seen
			x.recorder.Log.InfoContext(ctx, "next charges not read", "shop", string(r.Shop), "cause", err)
			return next, nil
		}
		for _, charge := range page.Charges {
			if _, known := next[charge.CustomerID]; !known {
				next[charge.CustomerID] = charge.Day
			}
		}
		if page.Next == "" || page.Next == cursor {
			return next, nil
		}
		cursor = page.Next
	}
	return next, ctx.Err()
}

// Upcoming adds a shopper whom Recharge will soon charge to the shop's campaigns for renewals.
func (x *Importer) Upcoming(ctx context.Context, shop shopify.Shop, customer shopify.CustomerID) error {
	record, err := x.recorder.Store.Record(ctx, shop)
	if err != nil || record == nil || record.Connection == nil || customer == "" {
		return err
	}
	for _, c := range record.Connection.Campaigns {
		if c.Audience == store.Renewals && !c.Over(x.now()) {
			err = errors.Join(err, x.recorder.Store.AddName(ctx, record, c, customer),
				x.recorder.Store.WakeCampaigns(ctx, shop))
		}
	}
	wake(x.planned)
	return err
}

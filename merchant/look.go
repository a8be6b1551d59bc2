package merchant

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// This file detects the traits of connected stores again, since neither Shopify nor Recharge says when
// they change.

const (
	// lookEvery is how often a store's traits are detected again if nothing casts doubt on them.
	lookEvery = 24 * time.Hour
	// lookAgain is how long we wait after a look that did not end, or that another server has begun, and
	// while shoppers do not arrive signed in, since that may be over at any time.
	lookAgain = time.Hour
	// askAgain is how long we wait before we look at the sign-in again, for the sake of shoppers who do not
	// come back from it. Most of them never do, such as crawlers.
	askAgain = 10 * time.Minute
)

// Doubt is a click's reason to detect a shop's traits again.
type Doubt struct {
	shop    shopify.Shop
	path    string // the app's path on the storefront, if the last one was another; else ""
	refused bool   // Recharge refused a link, and would refuse the next one
	lost    bool   // shoppers may be lost at the sign-in
	reached bool   // the click is the first to end in the portal
}

// Noticed learns from a click that was answered. path is the app's on the storefront, "" if the click
// did not come from there. returned says that the shopper came back from the sign-in.
func (s *Service) Noticed(shop shopify.Shop, path string, returned bool, result portal.Result) {
	merchant := result.Merchant
	if merchant == nil {
		return
	}
	doubt := Doubt{shop: shop, refused: lasting(result.Cause) && !s.Now().Before(merchant.NextLook)}
	otherPath, first := path != "" && path != merchant.Path, !merchant.Reached && result.Outcome.InPortal()
	if otherPath || first || returned || result.Outcome == portal.SignIn {
		one, _ := s.away.LoadOrStore(shop, &away{})
		a := one.(*away)
		doubt.lost = s.lost(a, merchant, returned, result.Outcome)
		doubt.reached = first && s.once(&a.reached, time.Minute)
		if otherPath && s.once(&a.path, time.Minute) {
			doubt.path = path
		}
	}
	if doubt != (Doubt{shop: shop}) {
		select {
		case s.Doubts <- doubt:
		default: // there is enough to do already
		}
	}
}

// lasting reports whether Recharge refused a link for a reason that will not pass by itself.
func lasting(cause error) bool {
	reasons := []recharge.Reason{
		recharge.LinkRefused, recharge.Forbidden, recharge.Unauthorized, recharge.NotFound, recharge.Invalid,
		recharge.BadRequest,
	}
	return slices.ContainsFunc(reasons, func(reason recharge.Reason) bool { return recharge.Is(cause, reason) })
}

// away counts the shoppers who were sent to a shop's sign-in since one came back from it. asked, path and reached
// are when, in ns, a doubt was last passed on because of them, of the app's path, and of the first to reach the portal.
type away struct{ shoppers, asked, path, reached atomic.Int64 }

// once reports whether a time is at least that long ago, and if so sets it to now. Only one caller gets true.
func (s *Service) once(last *atomic.Int64, every time.Duration) bool {
	at, now := last.Load(), s.Now().UnixNano()
	return now-at >= int64(every) && last.CompareAndSwap(at, now)
}

// lost reports whether shoppers may be lost at the sign-in. Shopify moves stores from legacy to current
// accounts, where the legacy way back does not work, so one shopper is enough to look.
func (s *Service) lost(a *away, m *portal.Merchant, returned bool, outcome portal.Outcome) bool {
	most, every := int64(10), askAgain
	switch {
	case returned:
		a.shoppers.Store(0)
		return false
	case outcome != portal.SignIn:
		return false
	case m.LegacyAccounts:
		most, every = 1, time.Minute
	}
	return a.shoppers.Add(1) >= most && s.once(&a.asked, every)
}

// Watch resolves doubts until ctx ends.
func (s *Service) Watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case doubt := <-s.Doubts:
			if err := s.resolve(ctx, doubt); err != nil && ctx.Err() == nil {
				s.Log.InfoContext(ctx, "store not looked at", "shop", string(doubt.shop), "cause", err)
			}
		}
	}
}

func (s *Service) resolve(ctx context.Context, doubt Doubt) error {
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	connection, err := s.current(ctx, doubt.shop)
	if err != nil || connection == nil {
		return err
	}
	var seen store.Traits
	if doubt.lost && connection.Chosen.Accounts == "" {
		seen, err = s.detectAccounts(ctx, doubt.shop, func(Step) {})
	}
	if errors.Is(err, shopify.ErrNotSeen) { // it would not be seen in a minute either
		one, _ := s.away.LoadOrStore(doubt.shop, &away{})
		one.(*away).asked.Store(s.Now().Add(askAgain).UnixNano())
	}
	seen.Path, seen.Reached = doubt.path, doubt.reached
	err = errors.Join(err, s.change(ctx, connection, func(c *store.Connection) bool { return c.Learn(seen, s.Now()) }))
	if doubt.refused {
		due := func(look store.Look) bool { return !s.Now().Before(look.Next()) }
		err = errors.Join(err, s.lookAt(ctx, connection, due, true))
	}
	return err
}

// Look detects a shop's traits again because its merchant asks for it, and returns what to tell them.
func (s *Service) Look(ctx context.Context, shop shopify.Shop) Said {
	before, err := s.current(ctx, shop)
	if err == nil && before != nil {
		err = s.lookAt(ctx, before, func(store.Look) bool { return true }, true)
	}
	after, _ := s.current(ctx, shop)
	switch {
	case after != nil && after.Look.Refused:
		return bad("looked, refused")
	case err != nil || before == nil || after == nil:
		return bad("not looked")
	case after.Detected != before.Detected:
		return Said{Text: sentence("looked, changed")}
	}
	return Said{Text: sentence("looked")}
}

// lookIfDue detects a store's traits again if they have not been for a while.
func (s *Service) lookIfDue(ctx context.Context, connection store.Connection) {
	every := lookEvery
	switch link := connection.Detected.Link; {
	case s.NoLook:
		return
	case connection.Shop == s.Merchants.Own() && !s.started: // its settings may have changed
		every = time.Minute
	case link != "" && link != "signed_in" && connection.Chosen.Link == "":
		every = lookAgain
	}
	due := func(look store.Look) bool {
		return s.passed(look.At, every) && s.passed(look.ClaimedAt, min(every, lookAgain))
	}
	if !due(connection.Look) {
		return
	}
	err := s.lookAt(ctx, &connection, due, false)
	if err != nil && ctx.Err() == nil {
		s.Log.InfoContext(ctx, "store not looked at", "shop", string(connection.Shop), "cause", err)
	}
	s.started = s.started || err == nil
}

// passed reports whether it is that long since at, or that long until then. Such a time comes from a
// server whose clock was ahead, and would otherwise hold up a job until then.
func (s *Service) passed(at time.Time, d time.Duration) bool { return s.Now().Sub(at).Abs() >= d }

// lookAt detects all traits of a store again, if that is due. A single customer's portal that Recharge
// does not open says little about the others, so it only counts if it was met by a click, too, or is
// what a merchant asks about.
func (s *Service) lookAt(
	ctx context.Context, connection *store.Connection, due func(store.Look) bool, met bool,
) error {
	claimed := false
	err := s.change(ctx, connection, func(c *store.Connection) bool {
		if claimed = due(c.Look); claimed {
			c.Look.ClaimedAt = s.Now()
		}
		return claimed
	})
	if err != nil || !claimed {
		return err
	}
	findings, err := s.inspect(ctx, connection, func(Step) {})
	if findings.Of(recharge.CheckPortal).State != recharge.Passed && connection.Detected.PortalURL != "" {
		findings.PortalURL = "" // where GET /store says that it is can be another address of the same portal
	}
	seen, notSeen := s.detect(ctx, connection.Shop, findings, func(Step) {})
	if !met && seen.Link != "signed_in" && connection.Detected.Link == "signed_in" {
		seen.Link = ""
	}
	err = errors.Join(err, notSeen)
	token := findings.Of(recharge.CheckToken).State
	return errors.Join(err, s.change(ctx, connection, func(c *store.Connection) bool {
		changed, refused := c.Learn(seen, s.Now()), c.Look.Refused
		if err == nil {
			c.Look.At, c.Look.Vain = s.Now(), met && !changed
		}
		if token == recharge.Failed || token == recharge.Passed { // else Recharge could not be asked
			c.Look.Refused = token == recharge.Failed
		}
		return changed || err == nil || c.Look.Refused != refused
	}))
}

// current returns a shop's connection as Redis has it now, or nil if there is none. In one-store mode it
// creates the shop's record.
func (s *Service) current(ctx context.Context, shop shopify.Shop) (*store.Connection, error) {
	loaded := s.Store.Load(ctx, store.Shopper{Shop: shop})
	return s.Merchants.Connection(shop, loaded.Record), loaded.Err
}

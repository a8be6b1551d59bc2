package merchant

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// This file detects the traits of connected stores again, since neither Shopify nor Recharge says when
// they change.

const (
	// lookEvery is how often a store's traits are detected again if nothing casts doubt on them.
	lookEvery = 24 * time.Hour
	// lookAgain is how long we wait after a look that did not end, or that another server has begun.
	lookAgain = time.Hour
	// doubtAfter is how old a look must be before a click that Recharge refused causes another, since it may
	// refuse every click.
	doubtAfter = 10 * time.Minute
)

// Doubt is a click's reason to detect a shop's traits again.
type Doubt struct {
	shop    shopify.Shop
	path    string // the app's path on the storefront, if the last one was another; else ""
	refused bool   // Recharge refused a link, and would refuse the next one
	lost    bool   // shoppers may be lost at the sign-in
}

// Noticed learns from a click that was answered. path is the app's on the storefront, "" if the click
// did not come from there. returned says that the shopper came back from the sign-in.
func (s *Service) Noticed(shop shopify.Shop, path string, returned bool, result portal.Result) {
	merchant := result.Merchant
	if merchant == nil {
		return
	}
	doubt := Doubt{
		shop: shop, lost: s.lost(shop, merchant, returned, result.Outcome),
		refused: lasting(result.Cause) && s.Now().Sub(merchant.LookedAt) >= doubtAfter,
	}
	if path != merchant.Path {
		doubt.path = path
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

// away says who was sent to a shop's sign-in and has not come back.
type away struct {
	shoppers atomic.Int64
	asked    atomic.Int64 // when the shop's kind of accounts was last looked at for their sake, in ns
}

// lost reports whether shoppers may be lost at the sign-in. Shopify moves stores from legacy to current
// accounts, where the legacy way back does not work, so one shopper is enough to look. Many others
// never come back, such as crawlers.
func (s *Service) lost(shop shopify.Shop, m *portal.Merchant, returned bool, outcome portal.Outcome) bool {
	if !returned && outcome != portal.SignIn {
		return false
	}
	one, _ := s.away.LoadOrStore(shop, &away{})
	a := one.(*away)
	if returned {
		a.shoppers.Store(0)
		return false
	}
	most, every := int64(10), doubtAfter
	if m.LegacyAccounts {
		most, every = 1, time.Minute
	}
	now, last := s.Now().UnixNano(), a.asked.Load()
	return a.shoppers.Add(1) >= most && now-last >= int64(every) && a.asked.CompareAndSwap(last, now)
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
	if doubt.lost {
		seen, err = s.detectAccounts(ctx, doubt.shop, func(Step) {})
	}
	seen.Path = doubt.path
	err = errors.Join(err, s.learn(ctx, connection, seen, time.Time{}))
	if doubt.refused {
		err = errors.Join(err, s.lookAt(ctx, connection, doubtAfter))
	}
	return err
}

// Look detects a shop's traits again because its merchant asks for it, and returns what to tell them.
func (s *Service) Look(ctx context.Context, shop shopify.Shop) Said {
	before, err := s.current(ctx, shop)
	if err == nil && before != nil {
		err = s.lookAt(ctx, before, 0)
	}
	after, _ := s.Connection(ctx, shop)
	switch {
	case err != nil || after == nil:
		return bad("not looked")
	case after.Detected != before.Detected:
		return Said{Text: sentence("looked, changed")}
	}
	return Said{Text: sentence("looked")}
}

// lookAgain detects a store's traits again if that is due.
func (s *Service) lookAgain(ctx context.Context, connection store.Connection) {
	if s.NoLook || s.Now().Sub(connection.Look.At) < lookEvery {
		return
	}
	if err := s.lookAt(ctx, &connection, lookEvery); err != nil && ctx.Err() == nil {
		s.Log.InfoContext(ctx, "store not looked at", "shop", string(connection.Shop), "cause", err)
	}
}

// lookAt detects all traits of a store again, unless that was done, or begun by another server, in the
// time before.
func (s *Service) lookAt(ctx context.Context, connection *store.Connection, before time.Duration) error {
	claimed := false
	_, err := s.Update(ctx, connection.Shop, func(c *store.Connection) bool {
		now := s.Now()
		claimed = now.Sub(c.Look.At) >= before && now.Sub(c.Look.ClaimedAt) >= min(before, lookAgain)
		if claimed {
			c.Look.ClaimedAt = now
		}
		return claimed
	})
	if err != nil || !claimed {
		return err
	}
	findings, notInspected := s.inspect(ctx, connection, func(Step) {})
	if findings.Of(recharge.CheckPortal).State != recharge.Passed && connection.Detected.PortalURL != "" {
		findings.PortalURL = "" // where GET /store says that it is can be another address of the same portal
	}
	seen, notSeen := s.detect(ctx, connection.Shop, findings, func(Step) {})
	at := s.Now()
	if notInspected != nil || notSeen != nil {
		at = time.Time{}
	}
	return errors.Join(notInspected, notSeen, s.learn(ctx, connection, seen, at))
}

// learn saves what was detected for a connection, and when, unless the merchant has connected anew
// meanwhile. at is zero if that was not everything.
func (s *Service) learn(ctx context.Context, connection *store.Connection, seen store.Traits, at time.Time) error {
	_, err := s.Update(ctx, connection.Shop, func(c *store.Connection) bool {
		if !c.SavedAt.Equal(connection.SavedAt) {
			return false
		}
		changed := c.Learn(seen, s.Now())
		if !at.IsZero() {
			c.Look.At = at
		}
		return changed || !at.IsZero()
	})
	return err
}

// current returns a shop's connection as Redis has it now, or nil if there is none. In one-store mode it
// creates the shop's record.
func (s *Service) current(ctx context.Context, shop shopify.Shop) (*store.Connection, error) {
	loaded := s.Store.Load(ctx, store.Shopper{Shop: shop})
	return s.Merchants.Connection(shop, loaded.Record), loaded.Err
}

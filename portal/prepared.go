package portal

import (
	"context"

	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// This file decides whether a click uses an access that was made ahead. prepare.go makes them.

// holdsAccess reports whether a cached access may be used: one that a click has made, or one that was made
// for a campaign that still goes on. From before the portal has moved, it leads to where the portal was.
func (c *click) holdsAccess(cached store.Cached) bool {
	switch made := cached.AccessUntil.Add(-c.LinkTTL); {
	case c.merchant.NoAccess:
		return false
	case cached.For == "":
		return !made.Before(c.merchant.movedAt)
	case c.NoPrepare, c.unprepared, c.Once && c.CacheOnly: // a request that nobody waits for must not use it up
		return false
	}
	return !cached.MadeAt.Before(c.merchant.movedAt) && c.merchant.prepares(cached.For, c.Now())
}

// ready reports whether a cached access needs no call. One that a click has made is too young to. One that
// was made ahead needs a fresh customer, in case the webhook about a moved record was lost.
func (c *click) ready(cached store.Cached) bool {
	return cached.For == "" || cached.Fresh && c.trusted(cached)
}

// take uses up a prepared access, and reports whether this click was the one to do so. If not, it goes on
// without.
func (c *click) take(ctx context.Context) bool {
	if c.Dry {
		return true
	}
	left := c.loaded.Cached
	left.DropAccess()
	taken, err := c.Store.SaveIfUnchanged(ctx, c.loaded, c.Shopper, left, 0, nil)
	c.unprepared = err != nil || !taken
	return !c.unprepared
}

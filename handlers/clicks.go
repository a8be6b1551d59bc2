package handlers

import (
	"context"
	"errors"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Clicks finds the portal link for a shopper: from the store where it can, from
// Recharge where it must. All fields are needed; it is safe for concurrent use.
type Clicks struct {
	Store    *store.Store
	Recharge func(shopify.Shop) *recharge.Client // nil: that shop has not connected Recharge
	ByHash   bool                                // never ask for a signed-in link
	Timeout  time.Duration                       // of one click

	turns turns // one shopper's simultaneous clicks cost what one does
}

// Ending is how a click ended.
type Ending struct {
	Outcome Outcome
	Link    recharge.Link // where to, with Redirected and RedirectedByHash
	Cause   error         // why it is not a better outcome; safe to log
}

// Connected tells whether the shop has connected Recharge.
func (c *Clicks) Connected(shop shopify.Shop) bool { return c.Recharge(shop) != nil }

// Open ends the click of a signed-in shopper of a connected shop. It goes on when
// the shopper leaves: what it learns, the next click would have to ask again.
func (c *Clicks) Open(ctx context.Context, who store.Shopper, visit store.Visit) Ending {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	ending, err := c.turns.do(ctx, who, visit, func() Ending {
		return c.open(ctx, click{c.Recharge(who.Shop), who, visit})
	})
	if err != nil {
		return Ending{Outcome: Unavailable, Cause: err}
	}
	return ending
}

// click is one shopper on the way to one page.
type click struct {
	client *recharge.Client
	who    store.Shopper
	visit  store.Visit
}

func (c *Clicks) open(ctx context.Context, k click) Ending {
	known := c.Store.Recall(ctx, k.who, k.visit)
	if !c.ByHash && k.client.Allows(known.Link, known.Customer) {
		return Ending{Outcome: Redirected, Link: known.Link}
	}
	if known.NotSubscriber {
		return Ending{Outcome: NotASubscriber}
	}
	customer := known.Customer
	var alert error
	if !known.Fresh {
		found, err := c.find(ctx, k)
		switch {
		case recharge.Is(err, recharge.NoCustomer), recharge.Is(err, recharge.Ambiguous):
			return Ending{Outcome: NotASubscriber, Cause: err}
		case err != nil && customer.ID == 0:
			return Ending{Outcome: Unavailable, Cause: err}
		case err != nil:
			// Recharge is in trouble; who the shopper was last time still holds.
			return linkByHash(k, customer, err)
		}
		customer, alert = found.Customer, found.Alert
	}
	if c.ByHash {
		return linkByHash(k, customer, alert)
	}
	link, err := c.signedIn(ctx, k, customer, known.Session)
	if err != nil {
		return linkByHash(k, customer, errors.Join(alert, err))
	}
	return Ending{Outcome: Redirected, Link: link, Cause: alert}
}

// find asks Recharge who the shopper is and remembers the answer.
func (c *Clicks) find(ctx context.Context, k click) (recharge.Found, error) {
	found, err := k.client.FindCustomer(ctx, string(k.who.Customer))
	switch {
	case err == nil:
		c.Store.RememberCustomer(ctx, k.who, found.Customer)
	case recharge.Is(err, recharge.NoCustomer), recharge.Is(err, recharge.Ambiguous):
		c.Store.RememberNotSubscriber(ctx, k.who)
	}
	return found, err
}

// signedIn asks for a signed-in link, by the remembered session if there is one.
func (c *Clicks) signedIn(ctx context.Context, k click, customer recharge.Customer, session recharge.Session) (recharge.Link, error) {
	if session.Token != "" {
		link, err := c.link(ctx, k, customer, session)
		if !recharge.Is(err, recharge.Unauthorized) {
			return link, err
		}
		// It is over before its time: a new one may do.
		c.Store.ForgetSession(ctx, k.who)
	}
	session, err := k.client.CreateSession(ctx, customer)
	if recharge.Is(err, recharge.Foreign) || recharge.Is(err, recharge.NotFound) {
		// Recharge does not know the customer by this id any more.
		c.Store.Forget(ctx, k.who)
	}
	if err != nil {
		return recharge.Link{}, err
	}
	return c.link(ctx, k, customer, session)
}

func (c *Clicks) link(ctx context.Context, k click, customer recharge.Customer, session recharge.Session) (recharge.Link, error) {
	link, err := k.client.SignedInLink(ctx, customer, session, k.visit.To, k.visit.Locale)
	switch {
	case recharge.Is(err, recharge.Foreign):
		// The hash has changed, or the session is not this customer's.
		c.Store.Forget(ctx, k.who)
	case !recharge.Is(err, recharge.Unauthorized):
		c.Store.RememberLink(ctx, k.who, k.visit, session, link)
	}
	return link, err
}

func linkByHash(k click, customer recharge.Customer, cause error) Ending {
	link, err := k.client.LinkByHash(customer, k.visit.To, k.visit.Locale)
	if err != nil {
		return Ending{Outcome: Unavailable, Cause: err}
	}
	return Ending{Outcome: RedirectedByHash, Link: link, Cause: cause}
}

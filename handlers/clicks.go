package handlers

import (
	"context"
	"errors"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// Clicks finds the portal link for a shopper: from the store where it can, from
// Recharge where it must. All fields are needed; it is safe for concurrent use.
type Clicks struct {
	Store   *store.Store
	Shops   *Shops
	Timeout time.Duration // of one click

	turns turns // one shopper's simultaneous clicks cost what one does
}

// Ending is how a click ended.
type Ending struct {
	Outcome Outcome
	Link    recharge.Link // where to, with Redirected and RedirectedByHash
	Cause   error         // why it is not a better outcome; safe to log
	Way     *Way          // the shop's; nil: not connected, or not known
}

// Open ends the click of a signed-in shopper. It goes on when the shopper
// leaves: what it learns, the next click would have to ask again.
func (c *Clicks) Open(ctx context.Context, who store.Shopper, visit store.Visit) Ending {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	ending, err := take(ctx, &c.turns, who, visit, func() Ending {
		return c.open(ctx, who, visit)
	})
	if err != nil {
		return Ending{Outcome: Unavailable, Cause: err}
	}
	return ending
}

// standingTimeout is how long a question of how a shopper stands may take. The
// shopper may be about to click, and would wait for it.
const standingTimeout = 1500 * time.Millisecond

// Standing is how a shopper stands with Recharge. The zero value is not known.
type Standing struct {
	Known      bool
	Subscriber bool  // a click would open the portal
	Active     int   // subscriptions
	Cause      error // why it is not known, or an alert; safe to log
}

// aboutStanding is what Standing asks in a shopper's turn.
type aboutStanding struct{}

// Standing tells how a signed-in shopper stands, by what is remembered, which may
// be older than a click would take it, or by one lookup. The lookup is remembered
// for the click to come. Nothing is opened.
func (c *Clicks) Standing(ctx context.Context, who store.Shopper) Standing {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(c.Timeout, standingTimeout))
	defer cancel()
	standing, err := take(ctx, &c.turns, who, aboutStanding{}, func() Standing { return c.standing(ctx, who) })
	if err != nil {
		return Standing{Cause: err}
	}
	return standing
}

func (c *Clicks) standing(ctx context.Context, who store.Shopper) Standing {
	known := c.Store.Recall(ctx, who, store.Visit{})
	way, err := c.Shops.recalled(who.Shop, known)
	if way == nil {
		return Standing{Cause: err}
	}
	customer := known.Customer
	var cause error
	switch {
	case known.NotSubscriber:
		return Standing{Known: true}
	case !known.Fresh:
		found, err := c.find(ctx, who, way.Client.PeekCustomer)
		switch {
		case nobody(err):
			return Standing{Known: true, Cause: err}
		case err == nil:
			customer, cause = found.Customer, found.Alert
		default:
			cause = err
		}
	}
	if customer.ID == 0 {
		return Standing{Cause: cause}
	}
	return Standing{Known: true, Subscriber: true, Active: customer.Active, Cause: cause}
}

// click is one shopper on the way to one page.
type click struct {
	client *recharge.Client
	who    store.Shopper
	visit  store.Visit
}

func (c *Clicks) open(ctx context.Context, who store.Shopper, visit store.Visit) Ending {
	known := c.Store.Recall(ctx, who, visit)
	way, err := c.Shops.recalled(who.Shop, known)
	switch {
	case err != nil:
		return Ending{Outcome: Unavailable, Cause: err}
	case way == nil:
		return Ending{Outcome: NotConnected}
	}
	ending := c.follow(ctx, click{way.Client, who, visit}, known, way.ByHash)
	ending.Way = way
	return ending
}

// follow goes the way of a connected shop, from what is known already.
func (c *Clicks) follow(ctx context.Context, k click, known store.Memory, byHash bool) Ending {
	if !byHash && k.client.Allows(known.Link, known.Customer) {
		return Ending{Outcome: Redirected, Link: known.Link}
	}
	if known.NotSubscriber && known.Fresh {
		return Ending{Outcome: NotASubscriber}
	}
	customer := known.Customer
	var alert error
	if !known.Fresh {
		found, err := c.find(ctx, k.who, k.client.FindCustomer)
		switch {
		case nobody(err):
			return Ending{Outcome: NotASubscriber, Cause: err}
		case err != nil && customer.ID == 0:
			return Ending{Outcome: Unavailable, Cause: err}
		case err != nil:
			// Recharge is in trouble; who the shopper was last time still holds.
			return linkByHash(k, customer, err)
		}
		customer, alert = found.Customer, found.Alert
	}
	if byHash {
		return linkByHash(k, customer, alert)
	}
	link, err := c.signedIn(ctx, k, customer, known.Session)
	if err != nil {
		return linkByHash(k, customer, errors.Join(alert, err))
	}
	return Ending{Outcome: Redirected, Link: link, Cause: alert}
}

// find asks Recharge who the shopper is and remembers the answer.
func (c *Clicks) find(ctx context.Context, who store.Shopper, ask func(context.Context, string) (recharge.Found, error)) (recharge.Found, error) {
	found, err := ask(ctx, string(who.Customer))
	switch {
	case err == nil:
		c.Store.RememberCustomer(ctx, who, found.Customer)
	case nobody(err):
		c.Store.RememberNotSubscriber(ctx, who)
	}
	return found, err
}

// nobody tells that Recharge knows no customer to open the portal for.
func nobody(err error) bool {
	return recharge.Is(err, recharge.NoCustomer) || recharge.Is(err, recharge.Ambiguous)
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

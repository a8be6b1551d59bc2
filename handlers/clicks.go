package handlers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Clicks finds the portal link for a shopper: from the store where it can, from
// Recharge where it must. It is safe for concurrent use; NewClicks makes one.
type Clicks struct {
	store    *store.Store
	recharge func(shopify.Shop) *recharge.Client
	byHash   bool
	timeout  time.Duration

	// One shopper's simultaneous clicks are one: visits joins those to the same
	// page, lookups the questions who it is of those to different ones.
	visits  singleflight.Group
	lookups singleflight.Group
	running sync.WaitGroup // work that may outlast the click that began it
}

// ClickOptions configure Clicks.
type ClickOptions struct {
	Store    *store.Store
	Recharge func(shopify.Shop) *recharge.Client // nil: that shop has not connected Recharge
	ByHash   bool                                // never ask for a signed-in link
	Timeout  time.Duration                       // of one click
}

// NewClicks returns Clicks.
func NewClicks(o ClickOptions) *Clicks {
	return &Clicks{store: o.Store, recharge: o.Recharge, byHash: o.ByHash, timeout: o.Timeout}
}

// Wait waits for work that its clicks have not waited for. Call it when no new
// click can come.
func (c *Clicks) Wait() { c.running.Wait() }

// Ending is how a click ended.
type Ending struct {
	Outcome Outcome
	Link    recharge.Link // where to, with Redirected and RedirectedByHash
	Cause   error         // why it is not a better outcome; safe to log

	who store.Shopper // whose click it was
}

// Connected tells whether the shop has connected Recharge.
func (c *Clicks) Connected(shop shopify.Shop) bool { return c.recharge(shop) != nil }

// Open ends the click of a signed-in shopper of a connected shop.
func (c *Clicks) Open(ctx context.Context, who store.Shopper, visit store.Visit) Ending {
	client := c.recharge(who.Shop)
	key := fmt.Sprintf("%q %q %q %q", who.Shop, who.Customer, visit.To, visit.Locale)
	ending, err := share(ctx, c, &c.visits, key, func(ctx context.Context) (Ending, error) {
		ending := c.open(ctx, click{client, who, visit})
		ending.who = who
		return ending, nil
	})
	// Clicks are joined by a text. Should two shoppers ever have the same, nobody
	// goes to the other's portal.
	if err == nil && ending.who != who {
		err = errors.New("joined with another shopper's click")
	}
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
	known := c.store.Recall(ctx, k.who, k.visit)
	if !c.byHash && k.client.Allows(known.Link, known.Customer) {
		return Ending{Outcome: Redirected, Link: known.Link}
	}
	if known.NotSubscriber {
		return Ending{Outcome: NotASubscriber}
	}
	customer := known.Customer
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
		customer = found
	}
	if c.byHash {
		return linkByHash(k, customer, nil)
	}
	link, err := c.signedIn(ctx, k, customer, known.Session)
	if err != nil {
		return linkByHash(k, customer, err)
	}
	return Ending{Outcome: Redirected, Link: link}
}

// find asks Recharge who the shopper is and remembers the answer.
func (c *Clicks) find(ctx context.Context, k click) (recharge.Customer, error) {
	key := fmt.Sprintf("%q %q", k.who.Shop, k.who.Customer)
	return share(ctx, c, &c.lookups, key, func(ctx context.Context) (recharge.Customer, error) {
		customer, err := k.client.FindCustomer(ctx, string(k.who.Customer))
		switch {
		case err == nil:
			c.store.RememberCustomer(ctx, k.who, customer)
		case recharge.Is(err, recharge.NoCustomer), recharge.Is(err, recharge.Ambiguous):
			c.store.RememberNotSubscriber(ctx, k.who)
		}
		return customer, err
	})
}

// signedIn asks for a signed-in link, by the remembered session if there is one.
func (c *Clicks) signedIn(ctx context.Context, k click, customer recharge.Customer, session recharge.Session) (recharge.Link, error) {
	if session.Token != "" {
		link, err := c.link(ctx, k, customer, session)
		if !recharge.Is(err, recharge.Unauthorized) {
			return link, err
		}
		// It is over before its time: a new one may do.
	}
	session, err := k.client.CreateSession(ctx, customer)
	if recharge.Is(err, recharge.Foreign) || recharge.Is(err, recharge.NotFound) {
		// Recharge does not know the customer by this id any more.
		c.store.Forget(ctx, k.who)
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
		c.store.Forget(ctx, k.who)
	case !recharge.Is(err, recharge.Unauthorized):
		c.store.RememberLink(ctx, k.who, k.visit, session, link)
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

// share runs work once for all who ask for key at the same time. Whoever asked
// first may go away without ending it for the others, so it runs in a context of
// its own.
func share[T any](ctx context.Context, c *Clicks, group *singleflight.Group, key string, work func(context.Context) (T, error)) (T, error) {
	c.running.Add(1)
	defer c.running.Done()
	results := group.DoChan(key, func() (result any, err error) {
		c.running.Add(1)
		defer c.running.Done()
		// Without this, singleflight would end the process.
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
		defer cancel()
		return work(ctx)
	})
	var zero T
	select {
	case <-ctx.Done():
		return zero, ctx.Err()
	case result := <-results:
		if result.Err != nil {
			return zero, result.Err
		}
		return result.Val.(T), nil
	}
}

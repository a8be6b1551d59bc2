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
// Recharge where it must. All fields but Dry are needed; it is safe for concurrent use.
type Clicks struct {
	Store   *store.Store
	Shops   *Shops
	Timeout time.Duration // of one click
	Dry     bool          // remember nothing: for those who only want to know how a click would end

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
	return c.openFrom(ctx, who, visit, nil)
}

// openFrom is Open for who has just asked Redis what is remembered; nil: nobody has.
func (c *Clicks) openFrom(ctx context.Context, who store.Shopper, visit store.Visit, known *store.Memory) Ending {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	trail := trailOf(ctx)
	trail.from(FromTurn)
	waited := trail.begin(stepTurn)
	ending, err := take(ctx, &c.turns, who, visit, func(undisturbed bool) Ending {
		waited(nil)
		waited = nil
		if !undisturbed {
			known = nil
		}
		return c.open(ctx, who, visit, known)
	})
	if waited != nil {
		waited(err)
	}
	if err != nil {
		trail.from(FromNothingLeft)
		return Ending{Outcome: Unavailable, Cause: err}
	}
	return ending
}

// Preview ends a click as Open does, and tells how it went.
func (c *Clicks) Preview(ctx context.Context, who store.Shopper, visit store.Visit, now func() time.Time) (Ending, Click) {
	start := now()
	trail, ctx := newTrail(ctx, now)
	ending := c.Open(ctx, who, visit)
	return ending, Click{
		Shop: who.Shop, Outcome: ending.Outcome, Source: trail.source, Start: start, Took: now().Sub(start),
		Steps: trail.steps, Cause: ending.Cause, Level: ending.level(),
	}
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
	standing, err := take(ctx, &c.turns, who, aboutStanding{}, func(bool) Standing { return c.standing(ctx, who) })
	if err != nil {
		return Standing{Cause: err}
	}
	return standing
}

func (c *Clicks) standing(ctx context.Context, who store.Shopper) Standing {
	for {
		known := c.Store.Recall(ctx, who, store.Visit{})
		way, err := c.Shops.recalled(who.Shop, known)
		if way == nil {
			return Standing{Cause: err}
		}
		if known.NotSubscriber {
			return Standing{Known: true}
		}
		if known.Fresh {
			return subscriber(known.Customer, nil)
		}
		k := &click{client: way.Client, who: who, known: known}
		if err = c.reserve(ctx, k, recharge.Ask{Spare: 1}); errors.Is(err, recharge.ErrHeld) {
			if _, err = k.learned.Lease.Wait(ctx); ctx.Err() == nil {
				continue
			}
		}
		defer c.learn(ctx, k)
		if err != nil {
			return subscriber(known.Customer, err)
		}
		found, err := c.find(ctx, k, k.client.PeekCustomer)
		switch {
		case nobody(err):
			return Standing{Known: true, Cause: err}
		case err != nil:
			return subscriber(k.known.Customer, err)
		}
		return subscriber(found.Customer, found.Alert)
	}
}

func subscriber(customer recharge.Customer, cause error) Standing {
	if customer.ID == 0 {
		return Standing{Cause: cause}
	}
	return Standing{Known: true, Subscriber: true, Active: customer.Active, Cause: cause}
}

// click is one shopper on the way to one page.
type click struct {
	client  *recharge.Client
	who     store.Shopper
	visit   store.Visit
	known   store.Memory
	byHash  bool          // never ask for a signed-in link
	learned store.Learned // on the way
}

func (c *Clicks) open(ctx context.Context, who store.Shopper, visit store.Visit, just *store.Memory) Ending {
	trail := trailOf(ctx)
	for {
		var known store.Memory
		if just != nil {
			known, just = *just, nil // a second look has to be a new one
		} else {
			recalled := trail.begin(stepRecall)
			known = c.Store.Recall(ctx, who, visit)
			recalled(nil)
		}
		trail.from("")
		way, err := c.Shops.recalled(who.Shop, known)
		switch {
		case err != nil:
			return Ending{Outcome: Unavailable, Cause: err}
		case way == nil:
			return Ending{Outcome: NotConnected}
		}
		k := &click{client: way.Client, who: who, visit: visit, known: known, byHash: way.ByHash}
		ending, held := c.follow(ctx, k)
		if held {
			ending, held = c.overhear(ctx, k)
		}
		if !held {
			ending.Way = way
			return ending
		}
	}
}

// sharedPause is before another server is asked again what it has found out.
const sharedPause = 50 * time.Millisecond

// overhear takes the answer that the shopper gets from another server, if that was
// asked for the same; else the click has to begin anew.
func (c *Clicks) overhear(ctx context.Context, k *click) (ending Ending, again bool) {
	trail := trailOf(ctx)
	trail.from(FromOther)
	heard := trail.begin(stepOverhear)
	answer, err := k.learned.Lease.Wait(ctx)
	heard(err)
	if ctx.Err() != nil {
		return orByHash(ctx, k, ctx.Err()), false
	}
	if err != nil { // Redis does not say; it may in a moment
		pause(ctx, sharedPause)
		return Ending{}, true
	}
	return readAnswer(answer, k)
}

// follow goes the way of a connected shop, from what is known already. It stops
// where another server is asking Recharge for this shopper.
func (c *Clicks) follow(ctx context.Context, k *click) (ending Ending, held bool) {
	trail := trailOf(ctx)
	trail.from(sourceOf(k.known))
	switch {
	case !k.byHash && k.client.Allows(k.known.Link, k.known.Customer):
		return Ending{Outcome: Redirected, Link: k.known.Link}, false
	case k.known.NotSubscriber && k.known.Fresh:
		return Ending{Outcome: NotASubscriber}, false
	case k.byHash && k.known.Fresh:
		return linkByHash(k, k.known.Customer, nil), false
	}
	if k.known.Fresh {
		known := k.known
		known.Link, known.Recent = recharge.Link{}, false // there is none, or it is not let out
		trail.from(sourceOf(known))
	} else {
		trail.from(FromRecharge)
	}
	reserved := trail.begin(stepBudget)
	err := c.reserve(ctx, k, k.asks())
	reserved(err)
	if errors.Is(err, recharge.ErrHeld) {
		return Ending{}, true
	}
	defer func() { // even if that panics, nobody is to wait for it
		k.learned.Answer = answerOf(ending, k)
		c.learn(ctx, k)
	}()
	if err != nil {
		return orByHash(ctx, k, err), false
	}
	return c.ask(ctx, k), false
}

// asks are the calls that the click will make, if all goes well. Those of an
// endpoint that is dead are not made.
func (k *click) asks() (ask recharge.Ask) {
	if !k.known.Fresh && !k.client.Resting(recharge.Customers) {
		ask.Needed = 1
	}
	if k.byHash || k.client.Resting(recharge.Sessions) || k.client.Resting(recharge.PortalAccess) {
		return ask
	}
	ask.Helpful = 2
	if k.known.Session.Token != "" {
		ask.Helpful = 1
	}
	return ask
}

// reserve takes the lease and the calls. For a single link it takes neither: two
// servers that make one at the same time do no harm, and it saves a round trip.
func (c *Clicks) reserve(ctx context.Context, k *click, ask recharge.Ask) error {
	if ask == (recharge.Ask{}) || ask == (recharge.Ask{Helpful: 1}) {
		return nil
	}
	var ledger recharge.Ledger // none but the budget's: nobody is to wait for who remembers nothing
	if !c.Dry {
		k.learned.Lease = c.Store.Lease(k.who)
		ledger = k.learned.Lease
	}
	client, err := k.client.Reserve(ctx, ledger, ask)
	if err == nil {
		k.client = client
	}
	return err
}

// learn remembers what a click has learned, lets those in who wait for it, and
// gives back the calls that it did not make.
func (c *Clicks) learn(ctx context.Context, k *click) {
	k.client.Settle()
	if c.Dry {
		return
	}
	remembered := trailOf(ctx).begin(stepRemember)
	c.Store.Learn(ctx, k.who, k.learned)
	remembered(nil)
}

// ask asks Recharge for what is not known.
func (c *Clicks) ask(ctx context.Context, k *click) Ending {
	customer, alert := k.known.Customer, error(nil)
	if !k.known.Fresh {
		found, err := c.find(ctx, k, k.client.FindCustomer)
		switch {
		case nobody(err):
			return Ending{Outcome: NotASubscriber, Cause: err}
		case err != nil:
			// Recharge is in trouble; who the shopper was last time still holds.
			return orByHash(ctx, k, err)
		}
		customer, alert = found.Customer, found.Alert
	}
	if k.byHash {
		return linkByHash(k, customer, alert)
	}
	link, err := c.signedIn(ctx, k, customer)
	if err != nil {
		return linkByHash(k, customer, errors.Join(alert, err))
	}
	return Ending{Outcome: Redirected, Link: link, Cause: alert}
}

// find asks Recharge who the shopper is.
func (c *Clicks) find(ctx context.Context, k *click, ask func(context.Context, string) (recharge.Found, error)) (recharge.Found, error) {
	if k.who.RechargeID != 0 {
		return c.findByRecharge(ctx, k)
	}
	found, err := ask(ctx, string(k.who.Customer))
	if recharge.Is(err, recharge.FilterIgnored) {
		found, err = c.findUnfiltered(ctx, k, err)
	}
	k.learned.Customer, k.learned.NotSubscriber = found.Customer, nobody(err)
	return found, err
}

// findByRecharge asks for a shopper whom the shop's middleware knows by Recharge's id.
func (c *Clicks) findByRecharge(ctx context.Context, k *click) (recharge.Found, error) {
	customer, names, err := k.client.OwnCustomer(ctx, k.who.RechargeID)
	if recharge.Is(err, recharge.Foreign) {
		// Recharge mixes customers up: what it said before may be as wrong.
		c.forget(ctx, k)
	}
	k.learned.Customer, k.learned.Names, k.learned.NotSubscriber = customer, shopify.CustomerID(names), nobody(err)
	return recharge.Found{Customer: customer}, err
}

// findUnfiltered is for a store whose filter does not work. Whoever is known is
// asked for by Recharge's id; whoever is not in an index of all is nobody.
func (c *Clicks) findUnfiltered(ctx context.Context, k *click, alert error) (recharge.Found, error) {
	none := &recharge.Error{Endpoint: recharge.Customers, Reason: recharge.NoCustomer}
	if id := k.known.Customer.ID; id != 0 {
		customer, err := k.client.CustomerByID(ctx, id, string(k.who.Customer))
		if err == nil {
			return recharge.Found{Customer: customer, Alert: alert}, nil
		}
		if !recharge.Is(err, recharge.NoCustomer) {
			return recharge.Found{}, alert
		}
		// It is not theirs any more, so it must not open for them.
		c.forget(ctx, k)
	}
	if c.Store.Indexed(ctx, k.who.Shop) {
		return recharge.Found{}, none
	}
	return recharge.Found{}, alert
}

// nobody tells that Recharge knows no customer to open the portal for.
func nobody(err error) bool {
	return recharge.Is(err, recharge.NoCustomer) || recharge.Is(err, recharge.Ambiguous)
}

// signedIn asks for a signed-in link, by the remembered session if there is one.
func (c *Clicks) signedIn(ctx context.Context, k *click, customer recharge.Customer) (recharge.Link, error) {
	if k.known.Session.Token != "" {
		link, err := c.link(ctx, k, customer, k.known.Session)
		if !recharge.Is(err, recharge.Unauthorized) {
			return link, err
		}
		// It is over before its time: a new one may do.
		if !c.Dry {
			c.Store.ForgetSession(ctx, k.who)
		}
	}
	session, err := k.client.CreateSession(ctx, customer)
	if recharge.Is(err, recharge.Foreign) || recharge.Is(err, recharge.NotFound) {
		// Recharge does not know the customer by this id any more.
		c.forget(ctx, k)
	}
	if err != nil {
		return recharge.Link{}, err
	}
	return c.link(ctx, k, customer, session)
}

func (c *Clicks) link(ctx context.Context, k *click, customer recharge.Customer, session recharge.Session) (recharge.Link, error) {
	link, err := k.client.SignedInLink(ctx, customer, session, k.visit.To, k.visit.Locale)
	switch {
	case recharge.Is(err, recharge.Foreign):
		// The hash has changed, or the session is not this customer's.
		c.forget(ctx, k)
	case !recharge.Is(err, recharge.Unauthorized):
		k.learned.Session, k.learned.Link, k.learned.Visit = session, link, k.visit
	}
	return link, err
}

// forget is for when what is known, or was learned just now, turned out wrong.
func (c *Clicks) forget(ctx context.Context, k *click) {
	if !c.Dry {
		c.Store.Forget(ctx, k.who)
	}
	k.known.Customer, k.learned.Customer = recharge.Customer{}, recharge.Customer{}
}

// orByHash is for when Recharge cannot be asked: whoever is known goes on.
func orByHash(ctx context.Context, k *click, cause error) Ending {
	if k.known.Customer.ID == 0 {
		trailOf(ctx).from(FromNothingLeft)
		return Ending{Outcome: Unavailable, Cause: cause}
	}
	if !k.known.Fresh {
		trailOf(ctx).from(FromOutOfDate)
	}
	return linkByHash(k, k.known.Customer, cause)
}

func linkByHash(k *click, customer recharge.Customer, cause error) Ending {
	link, err := k.client.LinkByHash(customer, k.visit.To, k.visit.Locale)
	if err != nil {
		return Ending{Outcome: Unavailable, Cause: err}
	}
	return Ending{Outcome: RedirectedByHash, Link: link, Cause: cause}
}

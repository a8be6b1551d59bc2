package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// tryTimeout is for the three calls that a try makes.
const tryTimeout = 15 * time.Second

// try tells step by step what would happen to a shopper who clicks. Nothing is
// opened, nothing is remembered, and neither link nor hash is shown. Its calls
// are spared if shoppers need them.
func (a *Admin) try(c echo.Context, shop shopify.Shop) error {
	customer, err := shopify.ParseCustomerID(c.FormValue("customer"))
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), tryTimeout)
	defer cancel()
	steps := &steps{admin: a, response: c.Response()}
	if err := steps.begin(); err != nil {
		return err
	}
	outcome, text := a.follow(ctx, steps, store.Shopper{Shop: shop, Customer: customer})
	return steps.end(string(outcome), text)
}

// timed measures what takes time.
func (a *Admin) timed(do func()) time.Duration {
	start := a.Now()
	do()
	return a.Now().Sub(start)
}

func (a *Admin) follow(ctx context.Context, s *steps, who store.Shopper) (portal.Outcome, string) {
	var loaded store.Loaded
	took := a.timed(func() { loaded = a.Store.Load(ctx, who) })
	merchant, err := a.Merchants.Of(who.Shop, loaded.Record)
	switch {
	case err != nil, merchant == nil && loaded.Err != nil:
		s.add(step{Name: "store", State: recharge.Failed, Title: "The store", Text: noDatabase}, took)
		return portal.Unavailable, "The shopper would be asked to try again."
	case merchant == nil:
		s.add(step{Name: "store", State: recharge.Failed, Title: "The store", Text: "It has not connected Recharge.", Do: "Connect it above."}, took)
		return portal.NotConnected, "The shopper would see a page that says that subscriptions are not set up."
	}
	s.add(step{Name: "memory", State: recharge.Passed, Title: "What is cached", Text: cachedWords(loaded.Cached)}, took)
	grant, err := merchant.Client.Limiter().Reserve(ctx, a.Store.Limiter(who.Shop), recharge.Ask{Background: 1})
	var found recharge.Found
	if err == nil {
		defer func() {
			grant.Release(ctx)
			a.Recorder.Calls(who.Shop, grant.Calls())
		}()
		took = a.timed(func() {
			found, err = merchant.Client.FindCustomer(ctx, grant, string(who.Customer), recharge.Background)
		})
	}
	if recharge.Is(err, recharge.FilterIgnored) && loaded.Cached.Fresh && loaded.Cached.Known() {
		found, err = recharge.Found{Customer: loaded.Cached.Customer}, nil // a click would not have asked
	}
	switch {
	case portal.NotACustomer(err):
		text := "Recharge knows no customer with this number. Is it right?"
		if recharge.Is(err, recharge.Ambiguous) {
			text = advice(err.Error())
		}
		s.add(step{Name: "customer", State: recharge.Warned, Title: "The customer in Recharge", Text: text}, took)
		return portal.NotASubscriber, "The shopper would see a page that says that there is no subscription, and what to do next."
	case err != nil:
		s.add(step{Name: "customer", State: recharge.Failed, Title: "The customer in Recharge", Text: advice(err.Error())}, took)
		if loaded.Cached.Known() {
			return byHash(merchant, loaded.Cached.Customer)
		}
		return portal.Unavailable, "The shopper would be asked to try again in a moment."
	}
	s.add(step{
		Name: "customer", State: recharge.Passed, Title: "The customer in Recharge",
		Text: "Found, with " + plural(found.Customer.Active, "active subscription") + ".",
	}, took)
	if merchant.ByHash {
		return byHash(merchant, found.Customer)
	}
	return a.signIn(ctx, s, merchant, grant, found.Customer)
}

// signIn goes the signed-in way, and throws away what it gets.
func (a *Admin) signIn(
	ctx context.Context, s *steps, merchant *portal.Merchant, grant *recharge.Grant, customer recharge.Customer,
) (portal.Outcome, string) {
	var session recharge.Session
	var err error
	took := a.timed(func() { session, err = merchant.Client.CreateSession(ctx, grant, customer) })
	if err != nil {
		s.add(step{Name: "session", State: recharge.Failed, Title: "A session for the customer", Text: advice(err.Error())}, took)
		return byHash(merchant, customer)
	}
	s.add(step{Name: "session", State: recharge.Passed, Title: "A session for the customer"}, took)
	var link recharge.Link
	visit := recharge.Visit{To: recharge.Subscriptions}
	took = a.timed(func() { _, link, err = merchant.Client.PortalAccess(ctx, grant, customer, session, visit) })
	if err != nil {
		s.add(step{Name: "link", State: recharge.Failed, Title: "The way into the portal", Text: advice(err.Error())}, took)
		return byHash(merchant, customer)
	}
	s.add(step{Name: "link", State: recharge.Passed, Title: "The way into the portal", Text: "It leads to " + host(link) + "."}, took)
	return portal.Redirected, "The shopper would be in the portal, signed in."
}

func byHash(merchant *portal.Merchant, customer recharge.Customer) (portal.Outcome, string) {
	link, err := merchant.Client.LinkByHash(customer, recharge.Visit{To: recharge.Subscriptions})
	if err != nil {
		return portal.Unavailable, "The shopper would be asked to try again: " + advice(err.Error())
	}
	return portal.RedirectedByHash, fmt.Sprintf("The shopper would be sent to the portal at %s, where Recharge may ask for a sign-in.", host(link))
}

// host is all that is shown of a link.
func host(link recharge.Link) string {
	u, err := url.Parse(link.URL)
	if err != nil {
		return "?"
	}
	return u.Host
}

func cachedWords(cached store.Cached) string {
	switch {
	case cached.Known() && cached.Fresh:
		return "Who the shopper is in Recharge: a click would not ask again."
	case cached.Known():
		return "Who the shopper was in Recharge: a click asks again, and goes on with that if Recharge is down."
	case cached.NotSubscriber:
		return "That Recharge did not know the shopper a few minutes ago."
	}
	return "Nothing: it would be the shopper’s first click for a while."
}

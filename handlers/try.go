package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// tryTimeout is for the three calls that a try makes.
const tryTimeout = 15 * time.Second

var customerShape = regexp.MustCompile(`^[0-9]{1,20}$`)

// try tells step by step what would happen to a shopper who clicks. Nothing is
// opened, nothing is remembered, and neither link nor hash is shown. Its calls
// are spared if shoppers need them.
func (a *Admin) try(c echo.Context, shop shopify.Shop) error {
	customer := c.FormValue("customer")
	if !customerShape.MatchString(customer) {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), tryTimeout)
	defer cancel()
	steps := &steps{admin: a, response: c.Response()}
	if err := steps.begin(); err != nil {
		return err
	}
	outcome, text := a.follow(ctx, steps, store.Shopper{Shop: shop, Customer: shopify.CustomerID(customer)})
	return steps.end(string(outcome), text)
}

// timed measures what takes time.
func (a *Admin) timed(do func()) time.Duration {
	start := a.Now()
	do()
	return a.Now().Sub(start)
}

func (a *Admin) follow(ctx context.Context, s *steps, who store.Shopper) (Outcome, string) {
	var memory store.Memory
	took := a.timed(func() { memory = a.Store.Recall(ctx, who, store.Visit{To: recharge.Subscriptions}) })
	way, err := a.Shops.recalled(who.Shop, memory)
	switch {
	case err != nil:
		s.add(step{Name: "store", State: recharge.Failed, Title: "The store", Text: "The app cannot reach its memory right now."}, took)
		return Unavailable, "The shopper would be asked to try again."
	case way == nil:
		s.add(step{Name: "store", State: recharge.Failed, Title: "The store", Text: "It has not connected Recharge.", Do: "Connect it above."}, took)
		return NotConnected, "The shopper would see a page that says that subscriptions are not set up."
	}
	s.add(step{Name: "memory", State: recharge.Passed, Title: "What is remembered", Text: remembered(memory)}, took)
	var found recharge.Found
	took = a.timed(func() { found, err = way.Client.PeekCustomer(ctx, string(who.Customer)) })
	if recharge.Is(err, recharge.FilterIgnored) && memory.Fresh && memory.Customer.ID != 0 {
		found, err = recharge.Found{Customer: memory.Customer}, nil // a click would not have asked
	}
	switch {
	case nobody(err):
		text := "Recharge knows no customer with this number. Is it right?"
		if recharge.Is(err, recharge.Ambiguous) {
			text = advice(err.Error())
		}
		s.add(step{Name: "customer", State: recharge.Warned, Title: "The customer in Recharge", Text: text}, took)
		return NotASubscriber, "The shopper would see a page that says that there is no subscription, and what to do next."
	case err != nil:
		s.add(step{Name: "customer", State: recharge.Failed, Title: "The customer in Recharge", Text: advice(err.Error())}, took)
		if memory.Customer.ID != 0 {
			return byHash(way, memory.Customer)
		}
		return Unavailable, "The shopper would be asked to try again in a moment."
	}
	s.add(step{Name: "customer", State: recharge.Passed, Title: "The customer in Recharge", Text: "Found, with " + plural(found.Customer.Active, "active subscription") + "."}, took)
	if way.ByHash {
		return byHash(way, found.Customer)
	}
	return a.signIn(ctx, s, way, found.Customer)
}

// signIn goes the signed-in way, and throws away what it gets.
func (a *Admin) signIn(ctx context.Context, s *steps, way *Way, customer recharge.Customer) (Outcome, string) {
	var session recharge.Session
	var err error
	took := a.timed(func() { session, err = way.Client.CreateSession(ctx, customer) })
	if err != nil {
		s.add(step{Name: "session", State: recharge.Failed, Title: "A session for the customer", Text: advice(err.Error())}, took)
		return byHash(way, customer)
	}
	s.add(step{Name: "session", State: recharge.Passed, Title: "A session for the customer"}, took)
	var link recharge.Link
	took = a.timed(func() { link, err = way.Client.SignedInLink(ctx, customer, session, recharge.Subscriptions, "") })
	if err != nil {
		s.add(step{Name: "link", State: recharge.Failed, Title: "The way into the portal", Text: advice(err.Error())}, took)
		return byHash(way, customer)
	}
	s.add(step{Name: "link", State: recharge.Passed, Title: "The way into the portal", Text: "It leads to " + host(link) + "."}, took)
	return Redirected, "The shopper would be in the portal, signed in."
}

func byHash(way *Way, customer recharge.Customer) (Outcome, string) {
	link, err := way.Client.LinkByHash(customer, recharge.Subscriptions, "")
	if err != nil {
		return Unavailable, "The shopper would be asked to try again: " + advice(err.Error())
	}
	return RedirectedByHash, fmt.Sprintf("The shopper would be sent to the portal at %s, where Recharge may ask for a sign-in.", host(link))
}

// host is all that is shown of a link.
func host(link recharge.Link) string {
	u, err := url.Parse(link.URL)
	if err != nil {
		return "?"
	}
	return u.Host
}

func remembered(memory store.Memory) string {
	switch {
	case memory.Customer.ID != 0 && memory.Fresh:
		return "Who the shopper is in Recharge: a click would not ask again."
	case memory.Customer.ID != 0:
		return "Who the shopper was in Recharge: a click asks again, and goes on with that if Recharge is down."
	case memory.NotSubscriber:
		return "That Recharge did not know the shopper a few minutes ago."
	}
	return "Nothing: it would be the shopper’s first click for a while."
}

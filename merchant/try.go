package merchant

import (
	"context"
	"errors"
	"net/url"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// Try decides a shopper's click as a click would be decided, and saves nothing. It passes
// what the click would have met to tell, and returns how the click would end, with a
// sentence about it. Neither holds a link or a hash.
func (s *Service) Try(ctx context.Context, who store.Shopper, tell func(Step)) (portal.Outcome, string) {
	trace := portal.NewTrace(s.Now)
	start := s.Now()
	loaded := s.Resolver.Load(ctx, who, trace)
	cached := Step{
		Name: "cached", State: recharge.Passed, Title: "What is cached",
		Text: cachedWords(loaded.Cached), Took: s.Now().Sub(start),
	}
	result := s.Resolver.Resolve(ctx, portal.Request{
		Shopper: who, Visit: recharge.Visit{To: recharge.Subscriptions}, Loaded: &loaded, Dry: true,
	}, trace)
	s.Recorder.Calls(who.Shop, result.Calls)
	switch {
	case errors.Is(result.Cause, portal.ErrRedisDown):
		tell(Step{Name: "store", State: recharge.Failed, Title: "The store", Text: NoDatabase})
		return result.Outcome, ending(result)
	case result.Merchant == nil:
		tell(Step{
			Name: "store", State: recharge.Failed, Title: "The store",
			Text: "It has not connected Recharge.", Do: "Connect it above.",
		})
		return result.Outcome, ending(result)
	}
	tell(cached)
	for _, call := range result.Calls {
		tell(called(call, result))
	}
	return result.Outcome, ending(result)
}

func cachedWords(cached store.Cached) string {
	switch {
	case cached.Known() && cached.Fresh:
		return "The customer’s record in Recharge. A click does not ask for it again."
	case cached.Known():
		return "An older record of the customer. A click asks for it again, and uses it if Recharge is down."
	case cached.NotSubscriber:
		return "Recharge did not know the customer a few minutes ago."
	}
	return "Nothing: it would be the shopper’s first click for a while."
}

// called returns a call in words.
func called(call recharge.Call, result portal.Result) Step {
	titles := map[string]string{
		recharge.Customers: "The customer in Recharge", recharge.Sessions: "A session for the customer",
		recharge.PortalAccess: "The link to the portal",
	}
	step := Step{
		Name: call.Endpoint, State: recharge.Passed, Title: titles[call.Endpoint], Took: max(call.Took, time.Millisecond),
	}
	switch {
	case call.Failed != nil:
		step.State, step.Text = recharge.Failed, Words(string(call.Failed.Reason))
	case call.Endpoint == recharge.Customers && result.Outcome == portal.NotASubscriber:
		step.State, step.Text = recharge.Warned, Words(Reason(result.Cause))
	}
	return step
}

// ending says what the shopper would see.
func ending(result portal.Result) string {
	because := ""
	if result.Cause != nil {
		because = " " + Words(Reason(result.Cause))
	}
	switch result.Outcome {
	case portal.Redirected:
		return "The shopper would be in the portal, signed in."
	case portal.RedirectedByHash:
		at := ""
		if link, err := url.Parse(result.Link.URL); err == nil {
			at = " at " + link.Host
		}
		return "The shopper would be sent to the portal" + at + ", where Recharge may ask for a sign-in." + because
	case portal.NotASubscriber:
		return "The shopper would see a page that says there is no subscription, and what to do next."
	case portal.NotConnected:
		return "The shopper would see a page that says subscriptions are not set up."
	}
	return "The shopper would be asked to try again in a moment." + because
}

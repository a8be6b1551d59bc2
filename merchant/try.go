package merchant

import (
	"context"
	"errors"
	"net/url"
	"slices"
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
	if result.Merchant == nil {
		tell(noMerchant(result))
		return result.Outcome, ending(result)
	}
	tell(cached)
	for i, call := range result.Calls {
		step := called(call)
		if failed := failedAt(call.Endpoint, result.Cause); failed != nil && isLast(result.Calls[i:]) {
			step.State, step.Text = recharge.Failed, Words(string(failed.Reason))
			if result.Outcome == portal.NotASubscriber || result.Outcome == portal.Redirected {
				step.State = recharge.Warned
			}
		}
		tell(step)
	}
	return result.Outcome, ending(result)
}

// noMerchant says why a click does not come so far as to look a customer up.
func noMerchant(result portal.Result) Step {
	step := Step{Name: "store", State: recharge.Failed, Title: "The store"}
	if result.Outcome == portal.NotConnected {
		step.Text, step.Do = "It has not connected Recharge.", "Connect it above."
		return step
	}
	step.Text = Words(portal.Reason(result.Cause))
	return step
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
func called(call recharge.Call) Step {
	titles := map[string]string{
		recharge.Customers: "The customer in Recharge", recharge.Sessions: "A session for the customer",
		recharge.PortalAccess: "The link to the portal",
	}
	step := Step{
		Name: call.Endpoint, State: recharge.Passed, Title: titles[call.Endpoint], Took: max(call.Took, time.Millisecond),
	}
	if call.Failed != nil {
		step.State, step.Text = recharge.Failed, Words(string(call.Failed.Reason))
	}
	return step
}

// failedAt returns what was wrong with an endpoint's answer, nil if nothing was. A call that
// succeeded may still have brought nothing that can be used.
func failedAt(endpoint string, cause error) *recharge.Error {
	if joined, ok := cause.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			if failed := failedAt(endpoint, err); failed != nil {
				return failed
			}
		}
		return nil
	}
	var failed *recharge.Error
	if errors.As(cause, &failed) && failed.Endpoint == endpoint {
		return failed
	}
	return nil
}

// isLast reports whether the first of the calls is the last of its endpoint.
func isLast(calls []recharge.Call) bool {
	return !slices.ContainsFunc(calls[1:], func(c recharge.Call) bool { return c.Endpoint == calls[0].Endpoint })
}

// ending says what the shopper would see.
func ending(result portal.Result) string {
	because := ""
	if result.Cause != nil {
		because = " " + Words(portal.Reason(result.Cause))
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

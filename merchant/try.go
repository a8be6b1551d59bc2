package merchant

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// Try resolves a shopper's click like a real one, but saves nothing. It passes each step to tell,
// and returns the outcome and a sentence about it. Neither contains a link or a hash.
func (s *Service) Try(ctx context.Context, who store.Shopper, tell func(Step)) (portal.Outcome, string) {
	trace := portal.NewTrace(s.Now)
	start := s.Now()
	loaded := s.Resolver.Load(ctx, who, trace)
	took := s.Now().Sub(start)
	result := s.Resolver.Resolve(ctx, portal.Request{
		Shopper: who, Visit: recharge.Visit{To: recharge.Subscriptions}, Loaded: &loaded, Dry: true,
	}, trace)
	s.Recorder.Calls(who.Shop, result.Calls)
	if result.Merchant == nil {
		tell(noMerchant(result))
		return result.Outcome, ending(result)
	}
	tell(Step{
		Name: "cached", State: recharge.Passed, Title: "What is cached", Text: cachedWords(loaded.Cached), Took: took,
	})
	for i := range result.Calls {
		tell(called(result, i))
	}
	return result.Outcome, ending(result)
}

// noMerchant explains why a click ends before it looks up the customer.
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

// called describes the i-th call of a result. If it is the last call to its endpoint, the click can
// have failed because of its answer although the call succeeded.
func called(result portal.Result, i int) Step {
	call := result.Calls[i]
	titles := map[string]string{
		recharge.Customers: "The customer in Recharge", recharge.Sessions: "A session for the customer",
		recharge.PortalAccess: "The link to the portal",
	}
	step := Step{
		Name: call.Endpoint, State: recharge.Passed, Title: titles[call.Endpoint], Took: max(call.Took, time.Millisecond),
	}
	again := slices.ContainsFunc(result.Calls[i+1:], func(c recharge.Call) bool { return c.Endpoint == call.Endpoint })
	state, failed := recharge.Failed, failedAt(call.Endpoint, result.Cause)
	switch {
	case failed == nil || again:
		failed = call.Failed
	case result.Outcome == portal.NotASubscriber || result.Outcome == portal.Redirected:
		state = recharge.Warned
	}
	if failed != nil {
		step.State, step.Text = state, Words(string(failed.Reason))
	}
	return step
}

// failedAt returns the part of cause that is about an endpoint's answer, or nil.
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

// ending describes what the shopper would see.
func ending(result portal.Result) string {
	because := ""
	if result.Cause != nil {
		because = " " + Words(portal.Reason(result.Cause))
	}
	at := ""
	if link, err := url.Parse(result.Link.URL); err == nil {
		at = " at " + link.Host
	}
	endings := map[portal.Outcome]string{
		portal.Redirected: "The shopper would be in the portal, signed in.",
		portal.RedirectedByHash: "The shopper would be sent to the portal" + at +
			", where Recharge may ask for a sign-in." + because,
		portal.NotASubscriber: "The shopper would see a page that says there is no subscription, and what to do next.",
		portal.NotConnected:   "The shopper would see a page that says subscriptions are not set up.",
	}
	return cmp.Or(endings[result.Outcome], "The shopper would be asked to try again in a moment."+because)
}

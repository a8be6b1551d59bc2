package merchant

import (
	"context"
	"errors"
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
	loaded := s.Load(ctx, who, trace)
	took := s.Now().Sub(start)
	result := s.Resolve(ctx, portal.Request{
		Shopper: who, Visit: recharge.Visit{To: recharge.Subscriptions}, Loaded: &loaded, Dry: true,
	}, trace)
	s.Recorder.Calls(who.Shop, result.Calls)
	if result.Merchant == nil {
		tell(noMerchant(result))
		return result.Outcome, ending(result)
	}
	tell(cachedStep(loaded.Cached, took))
	for i := range result.Calls {
		tell(called(result, i))
	}
	return result.Outcome, ending(result)
}

// called describes the i-th call of a result. If it is the last call to its endpoint, the click can
// have failed because of its answer although the call succeeded.
func called(result portal.Result, i int) Step {
	call := result.Calls[i]
	step := Step{
		Name: call.Endpoint, State: recharge.Passed, Title: sentence("call " + call.Endpoint),
		Took: max(call.Took, time.Millisecond),
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
	if failed, ok := errors.AsType[*recharge.Error](cause); ok && failed.Endpoint == endpoint {
		return failed
	}
	return nil
}

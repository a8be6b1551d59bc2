package merchant

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Tried is how a try ended.
type Tried struct {
	Result   string // an outcome, "invalid", or "not_found"
	State    recharge.State
	Text     Text
	Customer shopify.CustomerID // "" if none was found
	Support  bool               // a link for support can be made
	Link     string             // which was made
}

// leads reports whether the click would lead to the portal.
func (t Tried) leads() bool { return portal.Outcome(t.Result).InPortal() }

// Try resolves the click of a customer, whom the merchant names by Shopify's id or by e-mail address, like a
// real one, but saves nothing of the customer. It passes each step to tell. Neither a step nor the result contains
// a link or a hash.
func (s *Service) Try(ctx context.Context, shop shopify.Shop, customer string, tell func(Step)) Tried {
	id, ended := s.customer(ctx, shop, strings.TrimSpace(customer), tell)
	if id == "" {
		return ended
	}
	who := store.Shopper{Shop: shop, Customer: id}
	result := s.tryClick(ctx, who, tell)
	tried := Tried{Result: string(result.Outcome), State: recharge.Failed, Text: ending(result), Customer: id}
	switch {
	case inAccount(result): // nobody has opened the page, and it needs no answer of Recharge's
		tried.State = recharge.Warned
	case result.Outcome == portal.Redirected || result.Outcome == portal.RedirectedByHash && result.Cause == nil:
		tried.State = recharge.Passed
	case result.Outcome == portal.RedirectedByHash || result.Outcome == portal.NotASubscriber:
		tried.State = recharge.Warned
	}
	if tried.State == recharge.Passed && !result.Merchant.Reached {
		s.reached(ctx, shop)
	}
	if tried.leads() && !result.Merchant.InAccount { // where only the customer's own sign-in opens anything
		record, err := s.Store.Record(ctx, shop)
		tried.Support = err == nil && record.SupportSecret() != nil
	}
	return tried
}

// inAccount reports whether a result leads to a page in the customer's Shopify account.
func inAccount(result portal.Result) bool {
	return result.Outcome == portal.Redirected && result.Merchant.InAccount
}

// customer returns the customer whom a merchant names, or "" and how the try ends. The address is used for one
// call to Recharge, and kept nowhere.
func (s *Service) customer(
	ctx context.Context, shop shopify.Shop, named string, tell func(Step),
) (id shopify.CustomerID, ended Tried) {
	if !strings.Contains(named, "@") {
		id, err := shopify.ParseCustomerGID(named)
		if err != nil {
			return "", Tried{Result: "invalid", State: recharge.Failed, Text: sentence("try invalid")}
		}
		return id, Tried{}
	}
	if !recharge.IsEmail(named) {
		return "", Tried{Result: "invalid", State: recharge.Failed, Text: sentence("try invalid")}
	}
	step := Step{Name: "email", State: recharge.Passed, Title: sentence("email"), Text: sentence("email found")}
	start := s.Now()
	connection, err := s.Connection(ctx, shop)
	if err != nil || connection == nil {
		result := portal.Result{Outcome: portal.NotConnected}
		if err != nil {
			result = portal.Result{Outcome: portal.Unavailable, Cause: portal.ErrRedisDown}
		}
		tell(noMerchant(result))
		return "", Tried{Result: string(result.Outcome), State: recharge.Failed, Text: ending(result)}
	}
	err = s.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) (err error) {
		found, err := client.ShopifyIDByEmail(ctx, grant, named, recharge.Normal)
		if err == nil {
			id, err = shopify.ParseCustomerID(found)
		}
		return err
	})
	step.Took = max(s.Now().Sub(start), time.Millisecond)
	if err != nil {
		reason := portal.Reason(err)
		step.State, step.Text = recharge.Warned, either(sentence("email "+reason), Words(reason))
		tell(step)
		return "", Tried{Result: "not_found", State: recharge.Warned, Text: sentence("email not found")}
	}
	tell(step)
	return id, Tried{}
}

// tryClick resolves a shopper's click, but saves nothing.
func (s *Service) tryClick(ctx context.Context, who store.Shopper, tell func(Step)) portal.Result {
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
		return result
	}
	tell(cachedStep(loaded.Cached, took))
	for i := range result.Calls {
		tell(called(result, i))
	}
	return result
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

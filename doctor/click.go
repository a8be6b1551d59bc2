package doctor

import (
	"context"
	"net/url"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// DryClick decides a click as the server would, and saves nothing.
func DryClick(ctx context.Context, t Target, who store.Shopper, visit recharge.Visit) portal.Result {
	resolver := &portal.Resolver{
		Store: t.Store, Merchants: t.Merchants, Timeout: t.Config.ClickTimeout, LinkTTL: t.Config.LinkTTL, Now: t.Now,
	}
	return resolver.Resolve(ctx, portal.Request{Shopper: who, Visit: visit, Dry: true}, portal.NewTrace(t.Now))
}

// Outcome says how a click ends, without what would open a portal. byPage is REDIRECT=page.
func Outcome(result portal.Result, byPage bool) string {
	text := string(result.Outcome)
	way := ": 302 to the portal at "
	if byPage {
		way = ": a page that forwards to the portal at "
	}
	switch result.Outcome {
	case portal.Redirected, portal.RedirectedByHash:
		if link, err := url.Parse(result.Link.URL); err == nil {
			return text + way + link.Host
		}
	case portal.NotASubscriber:
		return text + ": a page that says what to do next"
	case portal.Unavailable:
		return text + ": a page that asks to try again"
	case portal.NotConnected:
		return text + ": a page; the store has not connected Recharge"
	}
	return text
}

// click decides a click of the customer's. It goes the whole way of a click, so that it
// cannot disagree with one.
func (r *rechargeReport) click(ctx context.Context) Check {
	if r.Customer == "" {
		return noCustomer()
	}
	who := store.Shopper{Shop: r.shop, Customer: shopify.CustomerID(r.Customer)}
	end := DryClick(ctx, r.Target, who, recharge.Visit{To: recharge.Subscriptions})
	found := Outcome(end, r.Config.RedirectByPage)
	if end.Cause != nil {
		found += "; " + end.Cause.Error()
	}
	return first([]verdict{
		{end.Outcome == portal.Unavailable || end.Outcome == portal.NotConnected, fail(found, "fix what failed above")},
		{end.Outcome == portal.NotASubscriber, warn(found, anySubscriber)},
		{end.Cause != nil, warn(found, "fix what is marked above")},
		{true, ok(found)},
	})
}

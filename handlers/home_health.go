package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/merchant"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// healthView holds what the page shows about the last 24 hours.
type healthView struct {
	Unknown                        bool
	Hours                          []hour
	Most                           int64 // clicks in the busiest hour, at least 1
	Outcomes                       []count
	Summary                        merchant.Text
	Clicks, Calls, Failed, Limited int64
	P50, P95                       merchant.Text
	Budget                         *recharge.Budget
	Paused                         merchant.Text // how long Recharge has asked us to wait; none if it has not
	Import                         *store.Import
	ImportText, Webhooks           merchant.Text
	Errors                         []errorView
}

// hour is one bar of the chart.
type hour struct {
	Title    merchant.Text
	Outcomes []count
}

// count is a part of a bar. The bar has Below clicks below it.
type count struct {
	Name, Class  string
	Label        merchant.Text
	Count, Below int64
}

type errorView struct {
	store.RecentError
	Ago, Text merchant.Text
}

// outcomesOf returns the chart's outcomes, from the bottom up, and the total number of clicks.
func outcomesOf(counts map[string]int64) (outcomes []count, clicks int64) {
	outcomes = []count{
		{Name: string(portal.Redirected), Class: "portal"},
		{Name: string(portal.RedirectedByHash), Class: "hash"},
		{Name: string(portal.SignIn), Class: "page"},
		{Name: string(portal.SignInFailed), Class: "page"},
		{Name: string(portal.NotASubscriber), Class: "page"},
		{Name: string(portal.Unavailable), Class: "lost"},
	}
	for i, outcome := range outcomes {
		outcomes[i].Label = merchant.Text{Key: "outcome " + outcome.Name}
		outcomes[i].Count, outcomes[i].Below = counts[outcome.Name], clicks
		clicks += outcomes[i].Count
	}
	return outcomes, clicks
}

// health answers with the part of the page that shows the last day.
func (a *Admin) health(c echo.Context, shop shopify.Shop) error {
	return a.part(c, http.StatusOK, "health", a.healthView(c.Request().Context(), shop))
}

func (a *Admin) healthView(ctx context.Context, shop shopify.Shop) healthView {
	connected, err := a.Merchant.Merchants.Find(ctx, shop)
	health, notRead := a.Merchant.Store.Health(ctx, shop)
	if err != nil || notRead != nil {
		return healthView{Unknown: true}
	}
	all := map[string]int64{}
	for _, hour := range health.Hours {
		for name, n := range hour.Counts {
			all[name] += n
		}
	}
	v := healthView{
		Most: 1, Calls: all[portal.CallsMade], Failed: all[portal.CallsFailed], Limited: all[portal.CallsLimited],
		P50: atMost(portal.Percentile(all, 0.5)), P95: atMost(portal.Percentile(all, 0.95)),
	}
	v.Outcomes, v.Clicks = outcomesOf(all)
	for _, of := range health.Hours {
		outcomes, clicks := outcomesOf(of.Counts)
		// In UTC, because we do not know the merchant's time zone.
		title := merchant.Text{Key: "health hour", Values: []any{
			"time", of.Start.UTC().Format("15:04"), "clicks", merchant.Plural(int(clicks), "click"),
		}}
		v.Hours, v.Most = append(v.Hours, hour{title, outcomes}), max(v.Most, clicks)
	}
	inPortal := all[string(portal.Redirected)] + all[string(portal.RedirectedByHash)]
	clicks := merchant.Plural(int(v.Clicks), "click")
	v.Summary = merchant.Text{Key: "health summary", Values: []any{"clicks", clicks, "portal", inPortal}}
	v.Webhooks = a.Merchant.WebhookNews(ctx, shop, all)
	if connected != nil {
		budget := connected.Client.Limiter().Budget()
		v.Budget = &budget
		if budget.Paused > 0 {
			v.Paused = merchant.ShortTime(budget.Paused.Truncate(time.Second) + time.Second)
		}
	}
	if progress, err := a.Merchant.Store.Import(ctx, shop); a.Merchant.Importer != nil && err == nil && connected != nil {
		v.Import, v.ImportText = &progress, a.Merchant.ImportWords(progress)
	}
	for _, recent := range health.Errors {
		ago := merchant.Ago(a.Merchant.Now().Sub(recent.At))
		v.Errors = append(v.Errors, errorView{recent, ago, merchant.Words(recent.What)})
	}
	return v
}

// atMost describes what portal.Percentile returns, which is 0 for times over 25 s.
func atMost(d time.Duration) merchant.Text {
	if d == 0 {
		return merchant.Text{Key: "time over", Values: []any{merchant.ShortTime(25 * time.Second)}}
	}
	return merchant.Text{Key: "time at most", Values: []any{merchant.ShortTime(d)}}
}

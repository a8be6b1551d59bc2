package handlers

import (
	"context"
	"fmt"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// healthView is what the page shows of the last 24 hours.
type healthView struct {
	Unknown                        bool
	Width, Base                    int // of the chart, in its own units
	Bars                           []bar
	Outcomes                       []count
	Summary                        string
	Clicks, Calls, Failed, Limited int64
	P50, P95                       string
	Budget                         *budgetView
	Index                          *indexView
	Webhooks                       string
	Troubles                       []troubleView
}

type bar struct {
	Title string
	X, W  int
	Parts []rect
}

type rect struct {
	Class   string
	X, Y, W int
	H       int
}

type count struct {
	Name, Label, Class string
	Count              int64
}

type budgetView struct {
	Left, Burst int
	Rate        float64
	Paused      string
}

// indexView is how far the index is.
type indexView struct {
	Text, Problem string
	Running       bool
	Percent       int // of what the last sweep read; 0: there was none
}

type troubleView struct {
	At, Ago, Text, RequestID string
	Times                    int
}

// The chart's measures, in its own units.
const barStep, barWidth, chartBase = 26, 20, 100

// outcomes are what the chart shows, from the bottom up.
func outcomes() []count {
	return []count{
		{Name: string(Redirected), Label: "In the portal, signed in", Class: "portal"},
		{Name: string(RedirectedByHash), Label: "To the portal by hash", Class: "hash"},
		{Name: string(SignIn), Label: "Sent to sign in", Class: "page"},
		{Name: string(SignInFailed), Label: "Came back not signed in", Class: "page"},
		{Name: string(NotASubscriber), Label: "No subscriber", Class: "page"},
		{Name: string(Unavailable), Label: "Asked to try again", Class: "lost"},
	}
}

// health answers with the part of the page that shows the last day.
func (a *Admin) health(c echo.Context, shop shopify.Shop) error {
	return a.part(c, "health", a.healthView(c.Request().Context(), shop))
}

func (a *Admin) healthView(ctx context.Context, shop shopify.Shop) healthView {
	way, err := a.Shops.Find(ctx, shop)
	if err != nil {
		return healthView{Unknown: true}
	}
	health, err := a.Store.Health(ctx, shop)
	if err != nil {
		return healthView{Unknown: true}
	}
	all := map[string]int64{}
	for _, hour := range health.Hours {
		for name, n := range hour.Numbers {
			all[name] += n
		}
	}
	v := healthView{
		Width: barStep * len(health.Hours), Base: chartBase,
		Calls: all[callsMade], Failed: all[callsFailed], Limited: all[callsLimited],
		P50: percentile(all, 0.5), P95: percentile(all, 0.95),
	}
	for _, outcome := range outcomes() {
		outcome.Count = all[outcome.Name]
		v.Clicks += outcome.Count
		v.Outcomes = append(v.Outcomes, outcome)
	}
	v.draw(health.Hours[:])
	v.Summary = fmt.Sprintf("%s in the last 24 hours, %d of them in the portal.", plural(int(v.Clicks), "click"), all[string(Redirected)]+all[string(RedirectedByHash)])
	v.Webhooks = plural(int(all[webhooksTold]), "message") + " from Recharge in that time"
	if connection, err := a.Store.Connection(ctx, shop); a.Shops.Own == "" && err == nil && connection != nil {
		v.Webhooks += ". A change there is " + a.webhookWords(connection)
	}
	if lost := all[webhooksLost]; lost > 0 {
		v.Webhooks += " " + plural(int(lost), "message") + " could not be told from forged ones: is the webhook secret the API Client Secret of this Admin token? Paste it again under Connect."
	}
	if way != nil {
		budget := way.Client.Budget()
		v.Budget = &budgetView{Left: budget.Left, Burst: budget.Burst, Rate: budget.Rate}
		if budget.Paused > 0 {
			v.Budget.Paused = shortTime(int(budget.Paused/time.Second+1) * 1000)
		}
	}
	if index, err := a.Store.Index(ctx, shop); a.Indexer != nil && err == nil && way != nil {
		v.Index = viewIndex(index, a.Now())
	}
	v.tell(health.Troubles, a.Now())
	return v
}

func viewIndex(index store.Index, now time.Time) *indexView {
	v := &indexView{Running: index.Running, Problem: index.Problem, Percent: index.Percent()}
	switch {
	case index.Running:
		v.Text = plural(index.Customers, "customer") + " read so far"
		if index.Size > 0 {
			v.Text += fmt.Sprintf(", about %d %%", v.Percent)
		}
	case index.Done.IsZero():
		v.Text = "not read yet"
	default:
		v.Text = plural(index.Size, "customer") + ", read " + ago(now.Sub(index.Done)) + ". They are read again each night."
	}
	return v
}

// draw makes a bar of each hour. Where the merchant is, is not known: so the axis
// counts hours back.
func (v *healthView) draw(hours []store.Hour) {
	most := int64(1)
	for _, hour := range hours {
		most = max(most, clicksOf(hour))
	}
	for i, h := range hours {
		b := bar{X: i*barStep + (barStep-barWidth)/2, W: barWidth}
		b.Title = fmt.Sprintf("%s UTC: %s", h.Start.UTC().Format("15:04"), plural(int(clicksOf(h)), "click"))
		top := int64(0) // of what is drawn so far, in clicks
		for _, outcome := range outcomes() {
			n := h.Numbers[outcome.Name]
			if n == 0 {
				continue
			}
			below, above := int(top*chartBase/most), int((top+n)*chartBase/most)
			b.Parts = append(b.Parts, rect{Class: outcome.Class, X: b.X, W: b.W, Y: chartBase - above, H: max(above-below, 1)})
			top += n
		}
		v.Bars = append(v.Bars, b)
	}
}

func clicksOf(hour store.Hour) (n int64) {
	for _, outcome := range outcomes() {
		n += hour.Numbers[outcome.Name]
	}
	return n
}

func (v *healthView) tell(troubles []store.Trouble, now time.Time) {
	for _, t := range troubles {
		v.Troubles = append(v.Troubles, troubleView{
			At: t.At.UTC().Format(time.RFC3339), Ago: ago(now.Sub(t.At)), Text: advice(t.What), RequestID: t.RequestID, Times: t.Times,
		})
	}
}

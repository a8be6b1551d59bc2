package handlers

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/http"
	"strconv"
	"time"
	_ "time/tzdata" // an empty container has no time zones

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// period is a number of days that a merchant can look at, up to the day that was so many days ago.
type period struct {
	Name      string
	days, ago int
	Shown     bool
}

// Label returns the period's name for merchants.
func (p period) Label() merchant.Text { return merchant.Text{Key: "period " + p.Name} }

func periods() []period {
	return []period{
		{Name: "today", days: 1}, {Name: "yesterday", days: 1, ago: 1}, {Name: "7", days: 7}, {Name: "28", days: 28},
	}
}

// span is a period in a time zone.
type span struct {
	period
	now        time.Time // in the time zone
	start, end time.Time
	before     time.Time // begins the time of the same length that the period is compared with
}

// spanOf returns the period that a request asks for, in its time zone. By default that is today, in UTC.
func (a *Admin) spanOf(c echo.Context) span {
	zone, err := time.LoadLocation(c.QueryParam("zone"))
	if err != nil {
		zone = time.UTC
	}
	s := span{period: periods()[0], now: a.Merchant.Now().In(zone)}
	for _, p := range periods() {
		if p.Name == c.QueryParam("period") {
			s.period = p
		}
	}
	s.end = s.midnight(s.ago - 1)
	s.start, s.before = s.midnight(s.ago+s.days-1), s.midnight(s.ago+2*s.days-1)
	return s
}

// midnight returns when the day began that was so many days ago.
func (s span) midnight(ago int) time.Time {
	year, month, day := s.now.Date()
	at := time.Date(year, month, day-ago, 0, 0, 0, 0, s.now.Location())
	if noon := at.Add(12 * time.Hour); noon.Day() != at.Day() { // clocks go from 23:59 to 01:00, and this is 23:00
		_, at = at.ZoneBounds()
	}
	return at
}

// parts returns when each bar of the chart begins, and when the last one ends: hours of a day, and else days.
// Counters are by the hour of UTC, so in some time zones an hour begins at half past.
func (s span) parts() (starts []time.Time) {
	if s.days > 1 {
		for ago := s.ago + s.days - 1; ago >= s.ago-1; ago-- {
			starts = append(starts, s.midnight(ago))
		}
		return starts
	}
	at := s.start.Truncate(time.Hour)
	for ; at.Before(s.end); at = at.Add(time.Hour) {
		if !at.Before(s.start) {
			starts = append(starts, at)
		}
	}
	return append(starts, at)
}

// bar is a part of the chart and a row of its table.
type bar struct {
	Start  time.Time
	Clock  string // "": the bar is a day
	Tick   bool
	Visits int64
	Pieces []piece // from the bottom up
}

// piece is a part of a bar: visits that ended alike. Height is its percentage of the chart.
type piece struct {
	Class  string
	Count  int64
	Height float64
}

// classes are how the chart groups the ways in which visits end.
func classes() []string { return []string{"portal", "hash", "page", "lost"} }

func pieces(v merchant.Visits) []piece {
	all := []piece{
		{Class: "portal", Count: v.SignedIn}, {Class: "hash", Count: v.ByHash()}, {Class: "page"}, {Class: "lost"},
	}
	for _, out := range v.Out {
		switch out.Outcome {
		case portal.SignIn, portal.SignInFailed, portal.NotASubscriber:
			all[2].Count += out.Count
		case merchant.Unverified: // is no visit
		default:
			all[3].Count += out.Count
		}
	}
	return all
}

// healthView holds what the page shows about the visits of a period.
type healthView struct {
	Unknown                bool
	Connected              bool
	Shop, Zone, Version    string
	Now                    time.Time
	Period                 period
	Periods                []period
	Headline, Trend        merchant.Text
	Visits                 merchant.Visits
	Bars                   []bar
	Top, Half              int64 // the values at the chart's axis
	Classes                []string
	Calls, Failed, Limited int64
	Budget                 merchant.Text
	Import                 *store.Import
	ImportText, Webhooks   merchant.Text
	Errors                 []merchant.ErrorSum
}

// Last is the number of the last bar that has begun.
func (v healthView) Last() int {
	last := 0
	for i, bar := range v.Bars {
		if !bar.Start.After(v.Now) {
			last = i
		}
	}
	return last
}

// End is the number of the last bar.
func (v healthView) End() int { return len(v.Bars) - 1 }

// health answers with the part of the page that shows how visits ended.
func (a *Admin) health(c echo.Context, shop shopify.Shop) error {
	return a.part(c, http.StatusOK, "health", a.healthView(c.Request().Context(), shop, a.spanOf(c)))
}

func (a *Admin) healthView(ctx context.Context, shop shopify.Shop, s span) healthView {
	connected, err := a.Merchant.Merchants.Find(ctx, shop)
	health, notRead := a.Merchant.Health(ctx, shop, s.before)
	if err != nil || notRead != nil {
		return healthView{Unknown: true}
	}
	counts := merchant.Sum(merchant.Within(health.Hours, s.start, s.end))
	visits := merchant.VisitsOf(counts)
	v := healthView{
		Connected: connected != nil, Shop: string(shop), Zone: s.now.Location().String(), Version: a.Version, Now: s.now,
		Period: s.period, Periods: periods(), Visits: visits, Headline: visits.Headline(), Classes: classes(),
		Calls: counts[portal.CallsMade], Failed: counts[portal.CallsFailed], Limited: counts[portal.CallsLimited],
		Webhooks: a.Merchant.WebhookNews(ctx, shop, counts), Errors: merchant.SumErrors(health.Errors),
	}
	for i := range v.Periods {
		v.Periods[i].Shown = v.Periods[i].Name == s.Name
	}
	until := s.start
	if s.Name == "today" {
		until = s.before.Add(s.now.Sub(s.start))
	}
	if before := merchant.VisitsOf(merchant.Sum(merchant.Within(health.Hours, s.before, until))); before.All > 0 {
		v.Trend = merchant.Text{Key: "trend " + s.Name, Values: []any{
			"visits", merchant.Plural(int(before.All), "visit"), "share", 100 * before.Portal / before.All,
		}}
	}
	v.draw(s, health.Hours)
	if connected != nil {
		v.Budget = merchant.BudgetWords(connected.Client.Limiter().Budget())
	}
	if progress, err := a.Merchant.Store.Import(ctx, shop); a.Merchant.Importer != nil && err == nil && connected != nil {
		v.Import, v.ImportText = &progress, a.Merchant.ImportWords(progress)
	}
	return v
}

// draw makes the chart.
func (v *healthView) draw(s span, hours []store.Hour) {
	starts := s.parts()
	most := int64(1)
	for i, start := range starts[:len(starts)-1] {
		visits := merchant.VisitsOf(merchant.Sum(merchant.Within(hours, start, starts[i+1])))
		b := bar{Start: start, Visits: visits.All, Pieces: pieces(visits), Tick: s.days == 7 || i%7 == 0}
		if s.days == 1 {
			b.Clock, b.Tick = start.Format("15:04"), start.Hour()%6 == 0
		}
		v.Bars, most = append(v.Bars, b), max(most, b.Visits)
	}
	v.Top = 2
	for steps := []int64{4, 10, 20}; v.Top < most; steps = append(steps[1:], 10*steps[0]) {
		v.Top = steps[0]
	}
	v.Half = v.Top / 2
	for _, b := range v.Bars {
		for i := range b.Pieces {
			b.Pieces[i].Height = 100 * float64(b.Pieces[i].Count) / float64(v.Top)
		}
	}
}

// healthFile answers with the numbers of a period as CSV, by the hour or the day.
func (a *Admin) healthFile(c echo.Context, shop shopify.Shop) error {
	s := a.spanOf(c)
	health, err := a.Merchant.Health(c.Request().Context(), shop, s.start)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	header := []string{"start", "visits", "in_portal", "signed_in"}
	for _, reason := range merchant.Reasons() {
		name := string(reason)
		if reason == portal.SignIn {
			name = "left_at_sign_in"
		}
		header = append(header, name)
	}
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	_ = w.Write(header) // a buffer takes everything
	starts := s.parts()
	for i, start := range starts[:len(starts)-1] {
		v := merchant.VisitsOf(merchant.Sum(merchant.Within(health.Hours, start, starts[i+1])))
		row := []string{start.Format(time.RFC3339)}
		for _, n := range []int64{v.All, v.Portal, v.SignedIn} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		for _, reason := range merchant.Reasons() {
			row = append(row, strconv.FormatInt(v.KeptOutBy(reason), 10))
		}
		_ = w.Write(row)
	}
	w.Flush()
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", file.Bytes())
}

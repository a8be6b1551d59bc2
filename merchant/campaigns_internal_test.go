package merchant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestCampaignWords checks what is said of campaigns that differ in the notice, the audience and how far
// they are.
func TestCampaignWords(t *testing.T) {
	t.Parallel()
	starts := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	at := func(before time.Duration, change func(*importer.Campaign)) (importer.Campaign, time.Time) {
		c := importer.Campaign{
			Campaign: store.Campaign{StartsAt: starts, EndsAt: starts.Add(24 * time.Hour), Audience: store.ActiveSubscribers},
			Progress: store.Progress{Size: 20_000},
			Forecast: importer.Forecast{Counted: true, Proven: true, Each: 2 * time.Second, Need: 40_000 * time.Second, StartBy: starts.Add(-40_000 * time.Second)},
		}
		c.Ready = min(c.Size, int(max(0, before)/c.Each))
		if change != nil {
			change(&c)
		}
		return c, starts.Add(-before)
	}
	need := "20,000 links need about 11 h 10 min at your token’s rate. "
	for name, test := range map[string]struct {
		before          time.Duration
		change          func(*importer.Campaign)
		state           string
		says, forecasts string // the beginning of both
	}{
		"half a day": {13 * time.Hour, nil, "planned", "Planned: it starts at 10:00 UTC on 28 November.",
			need + "The app starts by 22:50 UTC on 27 November at the latest, and is ready by 10:00 UTC on 28 November."},
		"six hours": {6 * time.Hour, nil, "planned", "Planned",
			need + "With 6 h, about 54 % will be ready at 10:00 UTC on 28 November, the most likely to click first. The work goes on afterwards."},
		"a day, at a slow rate": {20 * time.Hour, func(c *importer.Campaign) { c.Size, c.Ready, c.Need = 100_000, 32_400, 200_000*time.Second },
			"planned", "Planned", "100,000 links need about 55 h 40 min at your token’s rate. With 18 h, about 32 % will be ready"},
		"halfway": {6 * time.Hour, func(c *importer.Campaign) { c.Planned, c.Position, c.Ready = true, 10_800, 20_000 },
			"preparing", "Being prepared: 54 %, 10,800 of 20,000.", need + "All should be ready by 10:00"},
		"a refused token": {6 * time.Hour, func(c *importer.Campaign) { c.Planned, c.Problem = true, "bad token" },
			"preparing", "Being prepared: 0 %, 0 of 20,000. Recharge does not accept the token.", need},
		"a lost list": {6 * time.Hour, func(c *importer.Campaign) { c.Size, c.Planned, c.Problem = 0, true, importer.ListLost },
			"preparing", "Being prepared: 0 %, 0 of 0. The list can no longer be read", "Nobody"},
		"all": {time.Hour, func(c *importer.Campaign) { c.Planned, c.Pass, c.Ready = true, 1, 20_000 },
			"ready", "Ready: 20,000 of 20,000 are prepared.", need + "All should be ready by"},
		"not imported": {13 * time.Hour, func(c *importer.Campaign) { c.Counted, c.Size, c.Problem = false, 0, importer.WaitsForImport },
			"waiting", "Planned. It waits until all customers have been read from Recharge.", "The customers are not all read"},
		"planned at its start": {0, nil, "running", "Running: 0 clicks, 0 signed in (0 %), 0 by a link that Recharge checks. 0 % are prepared.",
			need + "The campaign has begun, and 0 % are ready."},
		"running": {-time.Hour, func(c *importer.Campaign) {
			c.Planned, c.Pass = true, 1
			c.Clicks = map[string]int64{"redirected": 1234, "redirected_by_hash": 5, "sign_in": 9, "unavailable": 1, portal.ByPrepared: 1200}
		}, "running", "Running: 1,240 clicks, 1,234 signed in (99 %), 5 by a link that Recharge checks. 100 % are prepared.", ""},
		"ended": {-25 * time.Hour, func(c *importer.Campaign) { c.Clicks = map[string]int64{"redirected": 1} },
			"ended", "Ended: 1 click, 1 signed in (100 %), 0 by a link that Recharge checks.", ""},
		"unknown ids, no webhooks": {13 * time.Hour, func(c *importer.Campaign) { c.Unknown, c.Proven = 1500, false }, "planned", "Planned",
			need + "The app starts by 22:50 UTC on 27 November at the latest, and is ready by 10:00 UTC on 28 November. 1,500 listed customers without an active subscription will be left out. No message"},
		"renewals": {time.Hour, func(c *importer.Campaign) { c.Audience, c.EndsAt = store.Renewals, time.Time{} },
			"planned", "Planned", "A link is made for each customer whose renewal"},
		"renewals, running": {-time.Hour, func(c *importer.Campaign) {
			c.Audience, c.EndsAt, c.Size, c.Made = store.Renewals, time.Time{}, 0, 1500
		}, "running", "Running: 0 clicks, 0 signed in (0 %), 0 by a link that Recharge checks. 1,500 links made so far.", "A link is made"},
		"renewals that are no longer announced": {-time.Hour, func(c *importer.Campaign) {
			c.Audience, c.EndsAt, c.Size, c.Missing = store.Renewals, time.Time{}, 0, importer.NoOrders
		}, "running", "Running: 0 clicks", "Recharge announces no renewals"},
	} {
		campaign, now := at(test.before, test.change)
		s := &Service{Resolver: &portal.Resolver{Now: func() time.Time { return now }}}
		got := s.CampaignWords(campaign)
		progress, forecast := got.Progress.String(), got.Forecast.String()
		if got.State != test.state || !strings.HasPrefix(progress, test.says) || !strings.HasPrefix(forecast, test.forecasts) ||
			test.forecasts == "" && forecast != "" || strings.ContainsAny(progress+forecast, "{}") {
			t.Errorf("%s: %s: %q, %q; want %s: %q, %q", name, got.State, progress, forecast, test.state, test.says, test.forecasts)
		}
	}
}

// TestPlanWords checks that each refusal of a plan has words of its own, with the line of a list.
func TestPlanWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"": true}
	for _, refused := range []importer.PlanError{
		importer.BadName, importer.BadStart, importer.BadEnd, importer.BadAudience, importer.NoCustomers, importer.BadCustomers,
		importer.TooMany, importer.Twice, importer.Off, importer.NotConnected, importer.NoLinks,
		importer.NoOrders, importer.NotProven,
	} {
		text, ok := PlanWords(fmt.Errorf("context: %w", refused))
		if !ok || seen[text.String()] {
			t.Errorf("PlanWords(%s) = %q, %t; want words of its own", refused, text, ok)
		}
		seen[text.String()] = true
	}
	for name, want := range map[string]string{"line": " Check line 1234.", "entry": " Check entry 1234.", "id": " Its id is 1234."} {
		text, _ := PlanWords(fmt.Errorf("%w: %w", importer.BadCustomers, importer.PlanDetail{Name: name, Value: "1234"}))
		if !strings.HasPrefix(text.String(), "List customers by") || !strings.HasSuffix(text.String(), want) {
			t.Errorf("PlanWords with a detail = %q; want %q at its end", text, want)
		}
	}
	if _, ok := PlanWords(portal.ErrRedisDown); ok {
		t.Error("PlanWords describes an error of Redis")
	}
}

func TestRoughly(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 min", time.Second: "10 min", 6 * time.Hour: "6 h", 40_000 * time.Second: "11 h 10 min", 1200*time.Hour + 1: "1,200 h 10 min",
	} {
		if got := roughly(d).String(); got != want {
			t.Errorf("roughly(%s) = %q; want %q", d, got, want)
		}
	}
}

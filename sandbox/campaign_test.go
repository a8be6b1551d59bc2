package sandbox_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestCampaign: a merchant in Tokyo plans a campaign for tomorrow, and sees what is possible and how far it is while
// the clock runs there. A shopper who then clicks the link in the e-mail lands signed in, without a call.
func TestCampaign(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Index: true, Subscribers: 5})
	machine := chromium(t)
	m, shopper := newMerchant(t, s, machine), newWalker(t, s, machine)
	tokyo := time.FixedZone("Tokyo", 9*60*60)
	if _, err := chromedp.Call(m.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"}); err != nil {
		t.Fatal(err)
	}
	year, month, day := time.Now().In(tokyo).AddDate(0, 0, 1).Date()
	starts := time.Date(year, month, day, 10, 0, 0, 0, tokyo)

	signIn(t, shopper.ctx, s, pat)
	run := func(want string) {
		t.Helper()
		do(t, shopper.ctx, chromedp.Click(css(`[data-switch="run"]`)), chromedp.WaitVisible(css("[data-clock]")))
		until(t, "the panel says "+want, func() bool {
			got, _ := chromedp.Run(shopper.ctx, chromedp.Text(css("[data-clock]"))) // fails while the page is loading
			return strings.Contains(got, want)
		})
	}
	do(t, shopper.ctx, chromedp.Click(css("#sandbox summary")))
	run("there is no campaign ahead")

	m.open(`[data-state="connected"]`)
	m.goes("Campaigns", "#campaign-name")
	m.types("#campaign-name", "Spring mailing")
	m.types("#campaign-starts", starts.Format("2006-01-02T15:04"))
	until(t, "there is a forecast", func() bool {
		m.clicks(`.plan button[name="dry"]`)
		m.sees(`#forecast [data-result="forecast"]`)
		return strings.Contains(m.reads("#forecast"), "8 links need")
	})
	if got, want := m.reads("#forecast"), "is ready by "+starts.Format("15:04 on 2 January"); !strings.Contains(got, want) || strings.Contains(got, "UTC") {
		t.Errorf("the forecast reads %q; want %q, and no UTC", got, want)
	}
	picture(t, m.ctx, "campaign-forecast", 1000, 1100)
	m.clicks(`.plan button:not([name])`)
	m.sees(`#campaigns [data-progress="planned"]`)
	if got := read(t, m.ctx, chromedp.AttributeValue(css("[data-starts]"), "data-starts", m.app())).Value; got != starts.UTC().Format(time.RFC3339) {
		t.Errorf("it starts at %s; want %s", got, starts.UTC().Format(time.RFC3339))
	}
	if got := read(t, m.ctx, chromedp.Value(css("#campaign-name"), m.app())); got != "" {
		t.Errorf("after it is planned, the form has %q; want it empty", got)
	}

	// The links are still being made when the page looks at them. A call must not take too long on a busy machine.
	s.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 700 * time.Millisecond })
	run("The clock runs.")
	m.sees(`[data-progress="preparing"] progress`)
	m.sees(`[data-progress="preparing"] progress:not([value="0"])`)
	s.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 0 })
	do(t, m.ctx, chromedp.EmulateViewport(1000, 820), chromedp.ScrollIntoView(css("#campaigns details"), m.app()))
	picture(t, m.ctx, "install-campaign", 1000, 820)
	m.listing("campaign", "#campaigns details")
	m.sees(`[data-progress="running"] progress[value="100"]`)

	before := s.Recharge.Requests()
	do(t, shopper.ctx,
		chromedp.Navigate(s.Store.URL+"/apps/subscriptions?utm_source=spring"),
		chromedp.WaitVisible(css(`main[data-portal="open"][data-customer="Pat Doe"]`)),
	)
	if after := s.Recharge.Requests(); len(after) != len(before) {
		t.Errorf("the click made calls: %v", after[len(before):])
	}
	if openings := s.Recharge.Openings(); len(openings) != 1 || openings[0].How != "token" {
		t.Errorf("the portal opened %v; want once, signed in by a token", openings)
	}
	until(t, "the click is counted", func() bool {
		got := m.reads("#campaigns")
		return strings.Contains(got, "1 click, 1 signed in (100 %)") && strings.Contains(got, "1 of the clicks found a link")
	})
	picture(t, m.ctx, "campaign-running", 1000, 1100)
	picture(t, shopper.ctx, "campaign-clock", 390, 844)

	do(t, m.ctx, chromedp.Click(css(`#campaigns summary`), m.app()))
	time.Sleep(3500 * time.Millisecond) // the page draws the campaigns again meanwhile
	m.sees(`#campaigns details[open] .danger`)
	m.clicks(`#campaigns .danger`)
	m.sees(`#campaigns [data-campaigns="none"]`)
	if got := m.reads("#campaigns"); !strings.Contains(got, "Cancelled.") {
		t.Errorf("after it is cancelled it reads %q", got)
	}
}

// TestCampaignsForEveryone inspects the app home with a campaign, and with all that can be opened.
func TestCampaignsForEveryone(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Index: true})
	w := &walk{newInspector(t), s, "campaigns"}
	form := url.Values{"name": {"Spring mailing"}, "audience": {"active"}, "starts_at": {time.Now().Add(time.Hour).Format(time.RFC3339)}}
	request, err := http.NewRequest(http.MethodPost, s.AppURL()+"/app/campaigns", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+s.Store.SessionToken(sandbox.ClientID))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	w.open(t, s.AppURL()+"/campaigns?embedded=1&shop="+s.Shop()+"&id_token="+s.Store.SessionToken(sandbox.ClientID))
	do(t, w.ctx,
		chromedp.WaitVisible(css(`#campaigns [data-campaign] progress`)),
		chromedp.Click(css(`[name="audience"][value="list"]`)),
		chromedp.WaitVisible(css("#campaign-file")),
		chromedp.Click(css("#campaigns summary")),
		chromedp.WaitVisible(css("#campaigns .danger")),
	)
	w.at(t, "the app home")
	picture(t, w.ctx, "campaigns-phone", 390, 844)
	picture(t, w.ctx, "campaigns-wide", 1200, 900)
	do(t, w.ctx, chromedp.Click(css(`[name="audience"][value="renewals"]`)), chromedp.WaitNotVisible(css("#campaign-starts")))
	w.at(t, "the app home, always ready")
}

package handlers_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestCampaignsOfTheAppHome plans a campaign, in both modes: first what would be possible, then in earnest. A
// refused plan is explained, and another shop can neither see nor cancel the campaign.
func TestCampaignsOfTheAppHome(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][]func(*config.Settings){"one store": nil, "many stores": {servertest.ManyStores}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.StartWithImport(t, 20, change...)
			if name == "many stores" {
				f.Connect()
			}
			f.WaitForImport()
			starts := f.Clock.Now().Add(20 * time.Hour).UTC()
			plan := url.Values{"name": {"Spring <b>"}, "audience": {"active"}, "starts_at": {starts.Format(time.RFC3339)}}
			post := func(form url.Values, with ...string) string {
				t.Helper()
				for i := 0; i < len(with); i += 2 {
					form = merged(form, with[i], with[i+1])
				}
				response, body := f.AppHome("/app/campaigns", f.SessionToken(nil), form)
				if response.StatusCode != http.StatusOK {
					t.Fatalf("POST = %d %s", response.StatusCode, body)
				}
				return body
			}
			shown := func(shop string) string {
				_, body := f.AppHome("/app/campaigns", f.SessionToken(servertest.ForShop(shop)), nil)
				return body
			}
			for want, with := range map[string][]string{
				"Give the campaign a name":           {"name", " "},
				"between now and 60 days from now":   {"starts_at", "tomorrow"},
				"Choose an audience":                 {"audience", "everyone"},
				"List at least one and at most":      {"audience", "list"},
				"one a line, or as a JSON array":     {"audience", "list", "customers", "id\npat"},
				"Let the campaign start between now": {"starts_at", f.Clock.Now().Add(-25 * time.Hour).Format(time.RFC3339)},
			} {
				if got := post(plan, with...); !strings.Contains(got, `data-result="refused"`) || !strings.Contains(got, want) {
					t.Errorf("with %q: %s; want it refused, and %q", with, got, want)
				}
			}
			f.Calls()
			if got := post(plan, "dry", "1"); !strings.Contains(got, `data-result="forecast"`) || !strings.Contains(got, " links need about 10 min") {
				t.Errorf("forecast = %s; want what the links need", got)
			}
			if got := shown(servertest.Shop); !strings.Contains(got, `data-campaigns="none"`) {
				t.Errorf("after a forecast: %s; want no campaign", got)
			}
			if got := post(plan, "starts_at", starts.In(time.FixedZone("", 3600)).Format(time.RFC3339)); !strings.Contains(got, `data-result="saved"`) {
				t.Errorf("plan = %s; want it planned", got)
			}
			got := shown(servertest.Shop)
			if !strings.Contains(got, "Spring &lt;b&gt;") || !strings.Contains(got, starts.Format("15:04 UTC on 2 January")) || !strings.Contains(got, "<progress") {
				t.Errorf("campaigns = %s; want the one that is planned", got)
			}
			if got := post(plan, "name", "Summer"); !strings.Contains(got, `data-result="saved"`) {
				t.Errorf("another plan = %s; want it planned", got)
			}
			id := regexp.MustCompile(`data-campaign="(\w+)"[^>]*>\s*<h3>Spring`).FindStringSubmatch(got)
			if id == nil {
				t.Fatalf("no id in %s", got)
			}
			if got := post(plan); !strings.Contains(got, "There is a campaign with this name") || strings.Contains(got, id[1]) {
				t.Errorf("the same plan again = %s; want it refused, without an id, which merchants do not see", got)
			}
			if _, body := f.AppHome("/app/campaigns/cancel", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"id": {id[1]}}); strings.Contains(body, "Spring") {
				t.Errorf("another shop sees %s", body)
			}
			if strings.Contains(shown(otherShop), "Spring") || !strings.Contains(shown(servertest.Shop), "Spring") {
				t.Errorf("after another shop's cancel: %s, %s; want the campaign still here, and not there", shown(servertest.Shop), shown(otherShop))
			}
			if _, body := f.AppHome("/app/campaigns/cancel", f.SessionToken(nil), url.Values{"id": {id[1]}}); !strings.Contains(body, "Cancelled.") || strings.Contains(body, "Spring") || !strings.Contains(body, "Summer") {
				t.Errorf("cancel = %s; want it gone, and the other one not", body)
			}
		})
	}
}

func merged(form url.Values, name, value string) url.Values {
	changed := url.Values{name: {value}}
	for other, values := range form {
		if other != name {
			changed[other] = values
		}
	}
	return changed
}

// TestAlwaysReady checks that a campaign for renewals is only planned if Recharge announces renewals, and says so if
// it no longer does.
func TestAlwaysReady(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		orders, webhooks bool
		result, says     string
	}{
		"both":                     {true, true, "saved", "A link is made for each customer whose renewal Recharge announces"},
		"no permission for orders": {false, true, "refused", "the Admin token may not read orders (read_orders)"},
		"no webhook has verified":  {true, false, "refused", "No message from Recharge was verified in the last week"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.StartWithImport(t, 0, servertest.ManyStores)
			if test.orders {
				f.AllowOrders()
			}
			f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.NoTests = !test.webhooks })
			f.Connect()
			f.WaitForImport()
			for _, dry := range []string{"1", ""} {
				_, body := f.AppHome("/app/campaigns", f.SessionToken(nil), url.Values{"name": {"Always"}, "audience": {"renewals"}, "dry": {dry}})
				if result := strings.ReplaceAll(test.result, "saved", map[string]string{"1": "forecast", "": "saved"}[dry]); !strings.Contains(body, `data-result="`+result+`"`) || !strings.Contains(body, test.says) {
					t.Errorf("dry %q: %s; want it %s: %q", dry, body, result, test.says)
				}
			}
		})
	}
}

// TestListOfTheAppHome sends lists as the page does. One can be far larger than any other form.
func TestListOfTheAppHome(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20)
	f.WaitForImport()
	send := func(list string) (int, string) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for name, value := range map[string]string{
			"name": "Spring", "audience": "list", "dry": "1", "starts_at": f.Clock.Now().Add(time.Hour).Format(time.RFC3339), "customers": list,
		} {
			_ = form.WriteField(name, value) // cannot fail
		}
		_ = form.Close()
		request, err := http.NewRequest(http.MethodPost, "http://"+f.Public+"/app/campaigns", &body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", form.FormDataContentType())
		request.Header.Set("Authorization", "Bearer "+f.SessionToken(nil))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var answer bytes.Buffer
		_, _ = answer.ReadFrom(response.Body) // a cut answer fails the checks
		return response.StatusCode, answer.String()
	}
	if status, body := send("Customer ID,Email\n'" + servertest.Pat + ",pat@example.test\n'" + servertest.Robin + ",robin@example.test\n"); status != http.StatusOK ||
		!strings.Contains(body, "1 link needs ") || !strings.Contains(body, "1 listed customer") {
		t.Errorf("a list of two = %d %s; want one link, and one customer without a subscription", status, body)
	}
	if status, body := send(strings.Repeat("7123456789012\n", 70_000)); status != http.StatusOK || !strings.Contains(body, `data-result="forecast"`) {
		t.Errorf("a list of 1 MB = %d %s; want a forecast", status, body)
	}
	if status, body := send(strings.Repeat(" \n", 9<<20)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a list of 18 MB = %d %s; want 413", status, body)
	}
}

// TestPrepareOff: the app home says that the operator allows no campaign.
func TestPrepareOff(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 1, func(s *config.Settings) { s.Prepare = "off" })
	_, home := f.AppHome("/campaigns?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if !strings.Contains(home, "PREPARE=off") || strings.Contains(home, `data-post="/app/campaigns"`) {
		t.Errorf("home = %s; want why there is no form", home)
	}
	if _, body := f.AppHome("/app/campaigns", f.SessionToken(nil), url.Values{"name": {"Spring"}, "audience": {"renewals"}}); !strings.Contains(body, "PREPARE=off") {
		t.Errorf("plan = %s; want it refused", body)
	}
}

package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// campaignAnswer is an answer of /api/campaigns.
type campaignAnswer struct {
	Status int
	Header http.Header
	Body   string
	Sent   *http.Request // with its body, for the description

	Campaigns                                     []campaignAnswer // of the list
	ID, Name, Audience, State, Text, Type, Detail string
	StartsAt                                      time.Time  `json:"starts_at"`
	EndsAt                                        *time.Time `json:"ends_at"`
	Size, Unknown, Prepared, Percent              int
	Clicks                                        map[string]int64
	Forecast                                      struct {
		NeedSeconds int       `json:"need_seconds"`
		StartBy     time.Time `json:"start_by"`
		Ready       int
		Share       float64
		Text        string
	}
}

// campaign sends a request to /api/campaigns, in JSON unless media says otherwise.
func campaign(f *servertest.Fixture, method, path, key, media, body string) campaignAnswer {
	f.T.Helper()
	var headers []string
	if body != "" {
		headers = []string{"Content-Type", media}
	}
	response, raw := f.CallAPI(method, "/api/campaigns"+path, key, body, headers...)
	a := campaignAnswer{Status: response.StatusCode, Header: response.Header, Body: raw}
	a.Sent = httptest.NewRequest(method, "http://app.test/api/campaigns"+path, strings.NewReader(body))
	a.Sent.Header = response.Request.Header
	if len(raw) > 0 {
		if err := json.Unmarshal([]byte(raw), &a); err != nil {
			f.T.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

const inJSON, inCSV = "application/json", "text/csv"

// spring is the body that plans a campaign.
func spring(starts time.Time, audience, more string) string {
	return fmt.Sprintf(`{"name":"Spring","starts_at":%q,"audience":%s%s}`, starts.UTC().Format(time.RFC3339), audience, more)
}

// TestCampaignAPI checks that a mail tool can ask what is possible, plan a campaign, see how far it is and
// what came of it, and cancel it.
func TestCampaignAPI(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20, servertest.WithAPIKeys, func(s *config.Settings) { s.RechargeRate = "200,400" })
	f.WaitForImport()
	starts := f.Clock.Now().Add(time.Minute)
	dry := campaign(f, http.MethodPost, "", servertest.APIKey, inJSON, spring(starts, `"active"`, `,"dry_run":true`))
	if dry.Status != http.StatusOK || dry.ID != "" || dry.Size < 20 || dry.Forecast.Ready != dry.Size || dry.Forecast.Share != 1 ||
		!strings.HasPrefix(dry.Forecast.Text, fmt.Sprintf("%d links need about 10 min", dry.Size)) {
		t.Fatalf("dry run = %d %s; want a forecast for all", dry.Status, dry.Body)
	}
	if line := f.Log.Last("campaign planned"); line != nil {
		t.Errorf("a dry run plans: %v", line)
	}
	made := campaign(f, http.MethodPost, "", servertest.APIKey, inJSON, spring(starts, `"active"`, ""))
	if made.Status != http.StatusCreated || made.Header.Get("Location") != "/api/campaigns/"+made.ID || made.Audience != "active" ||
		!made.EndsAt.Equal(made.StartsAt.Add(24*time.Hour)) || made.State != "planned" {
		t.Fatalf("POST = %d %v %s; want 201 and a planned campaign", made.Status, made.Header, made.Body)
	}
	again := campaign(f, http.MethodPost, "", servertest.APIKey, inJSON, spring(starts, `"active"`, ""))
	if again.Status != http.StatusConflict || !strings.Contains(again.Detail, made.ID) {
		t.Errorf("the same POST again = %d %s; want 409, and the campaign that is there", again.Status, again.Body)
	}
	get := func() campaignAnswer {
		return campaign(f, http.MethodGet, "/"+made.ID, servertest.APIKey, "", "")
	}
	f.Until("all are prepared", func() bool { return get().State == "ready" })
	if got := get(); got.Percent != 100 || got.Prepared != made.Size || got.Name != "Spring" {
		t.Errorf("GET = %s; want all prepared", got.Body)
	}
	f.Clock.Add(2 * time.Minute)
	got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat))
	if !got.SignedIn || f.Log.Last("click")["source"] != "prepared" {
		t.Errorf("a click in the campaign = %s, from %v", got.Body, f.Log.Last("click")["source"])
	}
	f.Until("the click is counted", func() bool { return get().Clicks["all"] == 1 })
	if got := get(); got.State != "running" || got.Clicks["signed_in"] != 1 || got.Clicks["prepared"] != 1 {
		t.Errorf("GET = %s; want one prepared click", got.Body)
	}
	for _, secret := range []string{servertest.Pat, servertest.PatsHash, "70100200", "token"} {
		if body := get().Body; strings.Contains(body, secret) {
			t.Errorf("GET = %s, which contains %s", body, secret)
		}
	}
	if got := campaign(f, http.MethodGet, "", servertest.APIKey, "", ""); len(got.Campaigns) != 1 || got.Campaigns[0].ID != made.ID || got.Campaigns[0].Percent != 100 {
		t.Errorf("GET of all = %d %s; want the campaign", got.Status, got.Body)
	}
	if got := campaign(f, http.MethodDelete, "/"+made.ID, servertest.APIKey, "", ""); got.Status != http.StatusNoContent {
		t.Errorf("DELETE = %d %s", got.Status, got.Body)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if got := campaign(f, method, "/"+made.ID, servertest.APIKey, "", ""); got.Status != http.StatusNotFound || got.Type != "urn:manage-subscriptions:problem:no_such_campaign" {
			t.Errorf("%s of a cancelled campaign = %d %s; want 404", method, got.Status, got.Body)
		}
	}
	if got := campaign(f, http.MethodGet, "", servertest.APIKey, "", ""); got.Status != http.StatusOK || !strings.Contains(got.Body, `"campaigns":[]`) {
		t.Errorf("GET of all, after they were cancelled = %d %s; want none", got.Status, got.Body)
	}
}

// TestCampaignLists checks the lists of customers, in JSON and as CSV.
func TestCampaignLists(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20, servertest.WithAPIKeys)
	f.WaitForImport()
	starts := f.Clock.Now().Add(time.Minute)
	query := "?" + url.Values{"name": {"Spring"}, "starts_at": {starts.UTC().Format(time.RFC3339)}}.Encode()
	for name, test := range map[string]struct{ path, media, body string }{
		"JSON":           {"", inJSON, spring(starts, `["`+servertest.Pat+`","gid://shopify/Customer/6200000000001","999"]`, `,"dry_run":true`)},
		"CSV":            {query + "&dry_run=true", inCSV + "; charset=utf-8", "Customer ID,Email\n'" + servertest.Pat + ",a@example.test\n6200000000001,\n999,\n"},
		"a planned list": {query, inCSV, servertest.Pat + "\n6200000000001\n999\n"},
	} {
		got := campaign(f, http.MethodPost, test.path, servertest.APIKey, test.media, test.body)
		if got.Audience != "list" || got.Size != 2 || got.Unknown != 1 || !strings.Contains(got.Forecast.Text, "1 listed customer without") {
			t.Errorf("%s: %d %s; want two customers and an unknown one", name, got.Status, got.Body)
		}
	}
	many := strings.Repeat(servertest.Pat+"\n", 1_100_000)
	if got := campaign(f, http.MethodPost, query, servertest.APIKey, inCSV, many); got.Status != http.StatusBadRequest || !strings.Contains(got.Detail, "500,000") {
		t.Errorf("a list of 15 MB = %d %s; want too many customers", got.Status, got.Body)
	}
	if got := campaign(f, http.MethodPost, query, servertest.APIKey, inCSV, many+many[:5<<20]); got.Status != http.StatusBadRequest || !strings.Contains(got.Detail, "16 MiB") {
		t.Errorf("a list of 20 MB = %d %s; want it refused", got.Status, got.Body)
	}
}

// TestCampaignProblems checks that each refusal names the field, or says what else to do.
func TestCampaignProblems(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0, servertest.WithAPIKeys)
	f.WaitForImport()
	starts := f.Clock.Now().Add(time.Hour)
	good, late := starts.UTC().Format(time.RFC3339), starts.Add(100*24*time.Hour)
	at := func(rest string) string { return `{"name":"Spring","starts_at":"` + good + `",` + rest + `}` }
	for name, test := range map[string]struct {
		path, key, media, body string
		status                 int
		problem, detail        string
	}{
		"no key":              {"", "", inJSON, spring(starts, `"active"`, ""), 403, "forbidden", ""},
		"a wrong key":         {"", servertest.APIKey + "x", inJSON, `{`, 403, "forbidden", ""},
		"no body":             {"", servertest.APIKey, inJSON, "", 400, "invalid_request", "Content-Type"},
		"no JSON":             {"", servertest.APIKey, inJSON, `{`, 400, "invalid_request", "JSON"},
		"a form":              {"", servertest.APIKey, "application/x-www-form-urlencoded", "name=x", 400, "invalid_request", "Content-Type"},
		"JSON, but a query":   {"?dry_run=true", servertest.APIKey, inJSON, spring(starts, `"active"`, ""), 400, "invalid_request", "no query"},
		"an unknown name":     {"", servertest.APIKey, inJSON, spring(starts, `"active"`, `,"dryrun":true`), 400, "invalid_request", "dry_run"},
		"a name twice":        {"", servertest.APIKey, inJSON, spring(starts, `"active"`, `,"name":"x"`), 400, "invalid_request", "once"},
		"in other letters":    {"", servertest.APIKey, inJSON, at(`"Audience":"active"`), 400, "invalid_request", "names"},
		"nested":              {"", servertest.APIKey, inJSON, at(`"audience":{"a":1}`), 400, "invalid_request", "nested"},
		"a list as a name":    {"", servertest.APIKey, inJSON, at(`"ends_at":["x"],"audience":"active"`), 400, "invalid_request", "nested"},
		"no name":             {"", servertest.APIKey, inJSON, `{"starts_at":"` + good + `","audience":"active"}`, 400, "invalid_request", "name: "},
		"no time":             {"", servertest.APIKey, inJSON, `{"name":"x","audience":"active"}`, 400, "invalid_request", "starts_at: "},
		"no zone":             {"", servertest.APIKey, inJSON, `{"name":"x","starts_at":"2026-11-28T10:00:00","audience":"active"}`, 400, "invalid_request", "starts_at: "},
		"too late":            {"", servertest.APIKey, inJSON, spring(late, `"active"`, ""), 400, "invalid_request", "starts_at: "},
		"ends before":         {"", servertest.APIKey, inJSON, spring(starts, `"active"`, `,"ends_at":"2020-01-01T00:00:00Z"`), 400, "invalid_request", "ends_at: "},
		"no audience":         {"", servertest.APIKey, inJSON, at(`"dry_run":false`), 400, "invalid_request", "audience: "},
		"another audience":    {"", servertest.APIKey, inJSON, spring(starts, `"everyone"`, ""), 400, "invalid_request", "audience: "},
		"a list without list": {"", servertest.APIKey, inJSON, spring(starts, `"list"`, ""), 400, "invalid_request", "audience: "},
		"nobody":              {"", servertest.APIKey, inJSON, spring(starts, `[]`, ""), 400, "invalid_request", "audience: "},
		"no id":               {"", servertest.APIKey, inJSON, spring(starts, `["7123456789012","x"]`, ""), 400, "invalid_request", " Check entry 2."},
		"a number":            {"", servertest.APIKey, inJSON, spring(starts, `[7123456789012]`, ""), 400, "invalid_request", "audience: "},
		"no truth":            {"", servertest.APIKey, inJSON, spring(starts, `"active"`, `,"dry_run":"yes"`), 400, "invalid_request", "dry_run: "},
		"CSV, no name":        {"?starts_at=" + good, servertest.APIKey, inCSV, servertest.Pat, 400, "invalid_request", "name: "},
		"CSV, an email":       {"?name=x&starts_at=" + good, servertest.APIKey, inCSV, "pat@example.test", 400, "invalid_request", "audience: "},
		"CSV, an audience":    {"?name=x&audience=active&starts_at=" + good, servertest.APIKey, inCSV, servertest.Pat, 400, "invalid_request", "names"},
		"CSV, a name twice":   {"?name=x&name=y&starts_at=" + good, servertest.APIKey, inCSV, servertest.Pat, 400, "invalid_request", "once"},
		"CSV, no query":       {"?%zz", servertest.APIKey, inCSV, servertest.Pat, 400, "invalid_request", "once"},
	} {
		got := campaign(f, http.MethodPost, test.path, test.key, test.media, test.body)
		if got.Status != test.status || got.Type != "urn:manage-subscriptions:problem:"+test.problem || !strings.Contains(got.Detail, test.detail) || got.Detail == "" {
			t.Errorf("%s: POST %s = %d %s; want %d %s with %q", name, test.body, got.Status, got.Body, test.status, test.problem, test.detail)
		}
		if strings.Contains(got.Detail, "pat@") || strings.Contains(got.Detail, "everyone") {
			t.Errorf("%s: %s repeats what was sent", name, got.Detail)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if got := campaign(f, method, "/0123456789abcdef", "", "", ""); got.Status != http.StatusForbidden {
			t.Errorf("%s without a key = %d", method, got.Status)
		}
	}
	if line := f.Log.Last("campaign planned"); line != nil {
		t.Errorf("a refused campaign was planned: %v", line)
	}
}

// TestNoCampaigns checks the errors that a mail tool gets when no campaign can be planned.
func TestNoCampaigns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*config.Settings)
		problem string
	}{
		"PREPARE=off":   {func(s *config.Settings) { s.Prepare = "off" }, "no_campaigns"},
		"by hash":       {func(s *config.Settings) { s.PortalLink = "hash" }, "no_campaigns"},
		"not connected": {func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" }, "not_connected"},
	} {
		f := servertest.StartWithImport(t, 0, servertest.WithAPIKeys, test.change)
		got := campaign(f, http.MethodPost, "", servertest.APIKey, inJSON, spring(f.Clock.Now().Add(time.Hour), `"active"`, ""))
		if got.Status != http.StatusConflict || got.Type != "urn:manage-subscriptions:problem:"+test.problem || got.Detail == "" {
			t.Errorf("%s: %d %s; want 409 %s", name, got.Status, got.Body, test.problem)
		}
	}
	without := servertest.StartWithImport(t, 0)
	if got, body := without.Request(http.MethodGet, without.Public, "/api/campaigns/0123456789abcdef"); got.StatusCode != http.StatusNotFound || strings.Contains(body, "problem") {
		t.Errorf("without PORTAL_API_KEY: %d %s; want no such route", got.StatusCode, body)
	}
	down := servertest.StartWithImport(t, 0, servertest.WithAPIKeys)
	down.WaitForImport()
	body := spring(down.Clock.Now().Add(time.Hour), `"active"`, "")
	made := campaign(down, http.MethodPost, "", servertest.APIKey, inJSON, body)
	down.Redis.Stop()
	for method, body := range map[string]string{http.MethodPost: body, http.MethodGet: "", http.MethodDelete: ""} {
		path := "/" + made.ID
		if body != "" {
			path = ""
		}
		if got := campaign(down, method, path, servertest.APIKey, inJSON, body); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
			t.Errorf("%s without Redis = %d %s; want 503", method, got.Status, got.Body)
		}
	}
}

// TestCampaignsOfOthers checks that a key reaches only its own store's campaigns.
func TestCampaignsOfOthers(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 5, servertest.ManyStores)
	f.Connect()
	f.WaitForImport()
	key := f.MakeKey(servertest.Shop, "mails")
	made := campaign(f, http.MethodPost, "", key, inJSON, spring(f.Clock.Now().Add(time.Hour), `"active"`, ""))
	if made.Status != http.StatusCreated {
		t.Fatalf("POST = %d %s", made.Status, made.Body)
	}
	forged := strings.Replace(key, "fixture-shop", "other-shop", 1)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if got := campaign(f, method, "/"+made.ID, forged, "", ""); got.Status != http.StatusForbidden {
			t.Errorf("%s with a key of another store = %d %s; want 403", method, got.Status, got.Body)
		}
		if got := campaign(f, method, "/0123456789abcdef", key, "", ""); got.Status != http.StatusNotFound {
			t.Errorf("%s of another id = %d %s; want 404", method, got.Status, got.Body)
		}
	}
	if got := campaign(f, http.MethodGet, "/"+made.ID, key, "", ""); got.Status != http.StatusOK {
		t.Errorf("GET = %d %s", got.Status, got.Body)
	}
	f.RevokeKey(servertest.Shop, "mails")
	if got := campaign(f, http.MethodGet, "/"+made.ID, key, "", ""); got.Status != http.StatusForbidden {
		t.Errorf("GET with a revoked key = %d; want 403", got.Status)
	}
}

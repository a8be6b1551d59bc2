package handlers_test

import (
	"encoding/csv"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestHealth checks that clicks and calls are counted, and that errors are explained in words.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Robin)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Limited = true })
	f.LinkedHash(servertest.Sam)
	health := func() string {
		_, body := f.AppHome("/app/health", f.SessionToken(nil), nil)
		return body
	}
	for _, want := range []string{
		"Of 4 visits, 2 reached the portal, 2 signed in.", "1 had no subscription in Recharge.", "1 was asked to try again",
		"Recharge received too many calls", "1 refused for being too many", "Recharge has asked to wait",
	} {
		if got := health(); !strings.Contains(got, want) {
			t.Errorf("health = %s; want %q in it", got, want)
		}
	}
	f.Until("what is counted is in Redis", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(f.Redis.Dump())), func(key string) bool { return strings.Contains(key, "}:h:") })
	})
	f.Calls()
	health()
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("health makes calls %v; want none", calls)
	}
	if _, other := f.AppHome("/app/health", f.SessionToken(servertest.ForShop(otherShop)), nil); !strings.Contains(other, "No visits.") || strings.Contains(other, "too many") {
		t.Errorf("another shop reads %s; want nothing of this one's", other)
	}
}

// TestContact: the app home says whom to ask, while Redis is down, too.
func TestContact(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.SupportContact = "help@agency.example" })
	home := "/?embedded=1&shop=" + servertest.Shop + "&id_token=" + f.SessionToken(nil)
	const want = `<a href="mailto:help@agency.example" target="_blank" rel="noopener">help@agency.example</a>`
	if _, body := f.AppHome(home, "", nil); !strings.Contains(body, want) {
		t.Errorf("home = %s; want %s in it", body, want)
	}
	f.Redis.Stop()
	if _, body := f.AppHome(home, "", nil); !strings.Contains(body, "data-outage") || !strings.Contains(body, want) {
		t.Errorf("without Redis, home = %s; want %s in it", body, want)
	}
}

// TestVisits checks that every way in which a visit ends is counted, and one through the sign-in only once.
func TestVisits(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	pat, nobody := f.Shopper(servertest.Pat), f.Shopper("")
	health := func(query string) string {
		_, body := f.AppHome("/app/health?"+query, f.SessionToken(nil), nil)
		return body
	}
	click := func(who *http.Client, outcome, path string) {
		t.Helper()
		if got := f.Click(who, path).Outcome(); got != outcome {
			t.Fatalf("%s = %s; want %s", path, got, outcome)
		}
	}
	forged := func(shop string) {
		f.Request("GET", f.Public, "/apps/subscriptions?shop="+shop+"&timestamp=1&signature=00")
	}
	shows := func(when, query string, wants ...string) {
		t.Helper()
		body := health(query)
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s: health = %s; want %q in it", when, body, want)
			}
		}
	}
	forged(servertest.Shop) // the app knows no such shop yet
	click(pat, "not_connected", "/apps/subscriptions")
	shows("not connected", "", "Of 1 visit, 0 reached the portal, 0 signed in.", "1 came while Recharge was not connected.")
	f.Connect()
	click(nobody, "sign_in", "/apps/subscriptions")
	click(pat, "redirected", "/apps/subscriptions?ms_returned=1") // one visit
	click(nobody, "sign_in", "/apps/subscriptions")
	click(nobody, "sign_in_failed", "/apps/subscriptions?ms_returned=1") // another
	click(nobody, "sign_in", "/apps/subscriptions")                      // does not come back
	click(f.Shopper(servertest.Robin), "not_a_subscriber", "/apps/subscriptions")
	forged(servertest.Shop)
	forged(servertest.Shop)
	forged(otherShop)
	all := []string{
		"Of 5 visits, 1 reached the portal, 1 signed in.",
		"1 came while Recharge was not connected.", "1 left at the store’s sign-in.", "1 came back from the sign-in without being signed in.",
		"1 had no subscription in Recharge.", "2 were refused because Shopify’s signature was missing",
	}
	shows("connected", "", all...)
	shows("a zone", "zone=Asia/Kolkata", "Times are in the time zone Asia/Kolkata.", ":30</th>")
	shows("no zone", "zone=../../etc/passwd&period=x", append(all, "Times are in the time zone UTC.")...)
	written := func(day time.Time, field string) {
		t.Helper()
		f.Until(field+" is written", func() bool {
			for key, value := range f.Redis.Dump() {
				if strings.HasSuffix(key, "}:h:"+day.UTC().Format("20060102")) && strings.Contains(value, field) {
					return true
				}
			}
			return false
		})
	}
	written(f.Clock.Now(), ":unverified\n2")

	f.Clock.Add(24 * time.Hour)
	shows("the next day", "", "No visits.", "By this time yesterday")
	shows("yesterday", "period=yesterday", all...)
	click(pat, "redirected", "/apps/subscriptions")
	shows("7 days", "period=7", "Of 6 visits, 2 reached the portal, 2 signed in.")
	written(f.Clock.Now(), ":redirected\n1")
	f.Clock.Add(20 * 24 * time.Hour)
	shows("7 days, later", "period=7", "No visits.")
	shows("28 days", "period=28", "Of 6 visits")
	f.Clock.Add(20 * 24 * time.Hour)
	shows("28 days, later", "period=28", "No visits.", "The 28 days before: 6 visits, 33 % of them in the portal.")

	f.Clock.Add(-41 * 24 * time.Hour)
	response, file := f.AppHome("/app/health.csv?zone=UTC", f.SessionToken(nil), nil)
	if got := response.Header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
		t.Errorf("Content-Type = %q; want CSV", got)
	}
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	header := "start visits in_portal signed_in left_at_sign_in sign_in_failed not_a_subscriber unavailable not_connected forbidden unverified"
	if err != nil || len(rows) != 25 || strings.Join(rows[0], " ") != header {
		t.Fatalf("the file = %s, %v; want %q and 24 rows", file, err, header)
	}
	sums := map[string]int{}
	for _, row := range rows[1:] {
		for i, cell := range row[1:] {
			n, err := strconv.Atoi(cell)
			if err != nil {
				t.Errorf("row %v: %v", row, err)
			}
			sums[rows[0][i+1]] += n
		}
	}
	if sums["visits"] != 5 || sums["unverified"] != 2 || sums["left_at_sign_in"] != 1 {
		t.Errorf("the file adds up to %v; want 5 visits, 2 unverified, 1 left", sums)
	}
}

// TestVisitsAddUp checks that days and hours add up to the whole: where a day begins at one o'clock, since the clocks
// change at midnight, and where a shopper comes back from the sign-in in the next hour.
func TestVisitsAddUp(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Clock.Add(time.Date(2027, 9, 5, 15, 59, 0, 0, time.UTC).Sub(f.Clock.Now())) // that day began so in Santiago
	if got := f.Click(f.Shopper(""), "/apps/subscriptions").Outcome(); got != "sign_in" {
		t.Fatalf("click = %s; want sign_in", got)
	}
	f.Until("it is written", func() bool {
		for _, value := range f.Redis.Dump() {
			if strings.Contains(value, "15:sign_in\n1") {
				return true
			}
		}
		return false
	})
	f.Clock.Add(2 * time.Minute)
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions?ms_returned=1").Outcome(); got != "redirected" {
		t.Fatalf("click = %s; want redirected", got)
	}
	for query, want := range map[string]string{
		"period=today&zone=America/Santiago": "2027-09-05T01:00:00-03:00", "period=7&zone=America/Santiago": "2027-09-05T01:00:00-03:00",
	} {
		_, file := f.AppHome("/app/health.csv?"+query, f.SessionToken(nil), nil)
		rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		visits, days := 0, map[string]bool{}
		for _, row := range rows[1:] {
			n, _ := strconv.Atoi(row[1])
			visits += n
			days[row[0]] = true
		}
		if visits != 1 || !days[want] || len(days) != len(rows)-1 {
			t.Errorf("%s: %s; want one visit, and %s among the times", query, file, want)
		}
	}
}

// TestHomeOfOneStore checks that settings from the environment are shown and cannot be changed, and
// that the rest of the app home works.
func TestHomeOfOneStore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	_, home := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if !strings.Contains(home, `data-state="connected"`) || !strings.Contains(home, f.Store.URL+"/tools/recurring/portal/") || strings.Contains(home, `name="token"`) {
		t.Errorf("home = %s; want it connected, and nothing to paste", home)
	}
	for _, path := range []string{"/app/connect", "/app/settings", "/app/disconnect"} {
		if response, _ := f.AppHome(path, f.SessionToken(nil), servertest.ConnectForm()); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s = %d; want 403", path, response.StatusCode)
		}
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="redirected"`) {
		t.Errorf("try: %s; want redirected", body)
	}
	f.LinkedHash(servertest.Pat)
	if _, body := f.AppHome("/app/health", f.SessionToken(nil), nil); !strings.Contains(body, "Of 1 visit, 1 reached the portal, 1 signed in.") {
		t.Errorf("health: %s; want the click", body)
	}
	// Another shop can install the app, too.
	_, home = f.AppHome("/?embedded=1&shop="+otherShop+"&id_token="+f.SessionToken(servertest.ForShop(otherShop)), "", nil)
	if !strings.Contains(home, "another store") || strings.Contains(home, "/tools/recurring/portal/") {
		t.Errorf("another shop's home = %s; want it told, and nothing of the one store's", home)
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="not_connected"`) {
		t.Errorf("another shop's try: %s; want not_connected", body)
	}
}

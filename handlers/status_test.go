package handlers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

const (
	subscriber    = `{"signed_in":true,"subscriber":true,"active_subscriptions":1}`
	notSubscriber = `{"signed_in":true,"subscriber":false,"active_subscriptions":0}`
	signedOut     = `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`
	notKnown      = `{"signed_in":true,"subscriber":null,"active_subscriptions":null}`
)

// statusCase is one request of a theme.
type statusCase struct {
	name   string
	who    string
	path   string
	broken func(*servertest.Fixture)
	want   string
	calls  map[string]int // to Recharge
}

// refused returns a request that Shopify has not signed.
func refused() statusCase {
	return statusCase{name: "wrong signature", who: servertest.Pat, path: "/apps/subscriptions/status", broken: func(f *servertest.Fixture) {
		f.Store.SetFaults(func(x *shopifytest.Faults) { x.WrongSecret = true })
	}}
}

// statuses returns every answer that a theme can get, with its calls.
func statuses() []statusCase {
	return []statusCase{
		{"subscriber", servertest.Pat, "/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"with a slash", servertest.Pat, "/apps/subscriptions/status/", nil, subscriber, map[string]int{"customers": 1}},
		{"under a locale", servertest.Pat, "/fr/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"two records, one active", servertest.Sam, "/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"two records, no telling", servertest.Kim, "/apps/subscriptions/status", nil, notSubscriber, map[string]int{"customers": 1}},
		{"never subscribed", servertest.Robin, "/apps/subscriptions/status", nil, notSubscriber, map[string]int{"customers": 1}},
		{"signed out", "", "/apps/subscriptions/status", nil, signedOut, map[string]int{}},
		{"limited", servertest.Pat, "/apps/subscriptions/status", func(f *servertest.Fixture) { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited = true }) }, notKnown, map[string]int{"customers": 1}},
		{"Recharge down", servertest.Pat, "/apps/subscriptions/status", func(f *servertest.Fixture) { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }, notKnown, map[string]int{"customers": 1}},
		{"filter ignored", servertest.Robin, "/apps/subscriptions/status", func(f *servertest.Fixture) {
			f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.IgnoreFilter = true })
		}, notKnown, map[string]int{"customers": 1}},
		{"another store's", servertest.Pat, "/apps/subscriptions/status", func(f *servertest.Fixture) {
			f.Store.SetFaults(func(x *shopifytest.Faults) { x.Shop = "another-shop.myshopify.com" })
		}, notKnown, map[string]int{}},
		{"Redis gone", servertest.Pat, "/apps/subscriptions/status", func(f *servertest.Fixture) { f.Redis.Stop() }, subscriber, map[string]int{"customers": 1}},
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range statuses() {
		t.Run(tt.name, func(t *testing.T) {
			f := servertest.Start(t)
			shopper := f.Shopper(tt.who)
			if tt.broken != nil {
				tt.broken(f)
			}
			got := f.Click(shopper, tt.path)
			if got.Status != http.StatusOK || strings.TrimSpace(got.Body) != tt.want {
				t.Errorf("GET %s = %d %s; want 200 %s", tt.path, got.Status, got.Body, tt.want)
			}
			if calls := f.Calls(); !maps.Equal(calls, tt.calls) {
				t.Errorf("GET %s made the calls %v; want %v", tt.path, calls, tt.calls)
			}
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Referrer-Policy") != "no-referrer" || got.Header.Get("Set-Cookie") != "" {
				t.Errorf("GET %s has the headers %v; want no-store, no-referrer, no cookie", tt.path, got.Header)
			}
		})
	}
}

func TestStatusRefusesWhatIsNotShopifys(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	refused().broken(f)
	got := f.Click(f.Shopper(servertest.Pat), refused().path)
	if got.Status != http.StatusForbidden || strings.Contains(got.Body, "{") || len(f.Calls()) != 0 {
		t.Errorf("status with a wrong signature = %d %s; want 403, and nothing asked", got.Status, got.Body)
	}
}

// TestStatusWarmsTheClick checks that a status saves the next click its lookup, and that a click
// saves the next status its own.
func TestStatusWarmsTheClick(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	shopper := f.Shopper(servertest.Pat)
	for _, step := range []struct {
		path  string
		calls map[string]int
	}{
		{"/apps/subscriptions/status", map[string]int{"customers": 1}},
		{"/apps/subscriptions/status", map[string]int{}},
		{"/apps/subscriptions", map[string]int{"sessions": 1, "portal_access": 1}},
		{"/apps/subscriptions/status", map[string]int{}},
	} {
		f.Click(shopper, step.path)
		if got := f.Calls(); !maps.Equal(got, step.calls) {
			t.Errorf("GET %s made the calls %v; want %v", step.path, got, step.calls)
		}
	}
}

// TestStatusOfWhoJustSubscribed checks that a click asks again after a minute, and a status after
// ten.
func TestStatusOfWhoJustSubscribed(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	shopper := f.Shopper(servertest.Robin)
	for _, step := range []struct {
		after time.Duration
		path  string
		calls int
	}{
		{0, "/apps/subscriptions/status", 1},
		{0, "/apps/subscriptions", 0},
		{time.Minute + time.Second, "/apps/subscriptions/status", 0},
		{0, "/apps/subscriptions", 1},
		{10 * time.Minute, "/apps/subscriptions/status", 1},
	} {
		f.Clock.Add(step.after)
		f.Click(shopper, step.path)
		if got := f.Calls()["customers"]; got != step.calls {
			t.Errorf("GET %s, %v later: %d lookups; want %d", step.path, step.after, got, step.calls)
		}
	}
}

// TestStatusWhenStale checks that a cached subscriber stays one while Recharge is down.
func TestStatusWhenStale(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	shopper := f.Shopper(servertest.Pat)
	f.Click(shopper, "/apps/subscriptions/status")
	f.Clock.Add(27 * time.Hour)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
	if got := f.Click(shopper, "/apps/subscriptions/status"); strings.TrimSpace(got.Body) != subscriber {
		t.Errorf("status, stale and Recharge down = %s; want %s", got.Body, subscriber)
	}
}

// TestThemesCannotStarveClicks checks that half of the burst is left to clicks, however many pages
// ask for a status.
func TestThemesCannotStarveClicks(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.RechargeRate = "1,40" })
	begun := time.Now()
	for i := range 40 {
		query := f.Store.SignedQuery("", fmt.Sprint(7000000000000+i), "/apps/subscriptions", servertest.AppSecret)
		response, err := http.Get("http://" + f.Public + "/apps/subscriptions/status?" + query)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	asked := f.Calls()["customers"]
	leaked := int(time.Since(begun).Seconds()) + 1
	if asked > 20+leaked || asked < 15 {
		t.Errorf("40 shoppers' pages made %d lookups; want about half of a burst of 40, and %d that leak", asked, leaked)
	}
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions"); got.Outcome() != "redirected" {
		t.Errorf("then a click ended in %q; want redirected", got.Outcome())
	}
}

// TestOpenAPI checks docs/openapi.yaml against the server, both ways. Every answer is described,
// and every described answer occurs.
func TestOpenAPI(t *testing.T) {
	storetest.Redis(t) // skips the whole test if there is none
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc.Servers = openapi3.Servers{{URL: "http://store.test/apps/subscriptions"}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	answers, codes := map[string]bool{}, map[string]bool{}
	for _, tt := range append(statuses(), refused()) {
		t.Run(tt.name, func(t *testing.T) {
			f := servertest.Start(t)
			shopper := f.Shopper(tt.who)
			if tt.broken != nil {
				tt.broken(f)
			}
			got := f.Click(shopper, tt.path)
			request := httptest.NewRequest(http.MethodGet, "http://store.test/apps/subscriptions/status", nil)
			route, parameters, err := router.FindRoute(request)
			if err != nil {
				t.Fatal(err)
			}
			answer := &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route},
				Status:                 got.Status,
				Header:                 got.Header,
				Options:                &openapi3filter.Options{IncludeResponseStatus: true},
			}
			answer.SetBodyBytes([]byte(got.Body))
			answers[strings.TrimSpace(got.Body)] = true
			codes[strconv.Itoa(got.Status)] = true
			if err := openapi3filter.ValidateResponse(t.Context(), answer); err != nil {
				t.Errorf("docs/openapi.yaml does not describe %d %s: %v", got.Status, got.Body, err)
			}
		})
	}
	described := slices.Sorted(maps.Keys(doc.Paths.Value("/status").Get.Responses.Map()))
	if given := slices.Sorted(maps.Keys(codes)); !slices.Equal(described, given) {
		t.Errorf("docs/openapi.yaml describes the answers %v; the server gives %v", described, given)
	}
	for name, example := range doc.Paths.Value("/status").Get.Responses.Status(http.StatusOK).Value.Content["application/json"].Examples {
		var said struct {
			SignedIn            bool  `json:"signed_in"`
			Subscriber          *bool `json:"subscriber"`
			ActiveSubscriptions *int  `json:"active_subscriptions"`
		}
		raw, err := json.Marshal(example.Value.Value)
		if err == nil {
			err = json.Unmarshal(raw, &said)
		}
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = json.Marshal(said); err != nil || !answers[string(raw)] {
			t.Errorf("docs/openapi.yaml has the example %q, %s (%v); the server gives %v", name, raw, err, slices.Collect(maps.Keys(answers)))
		}
	}
}

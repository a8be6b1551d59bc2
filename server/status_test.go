package server_test

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

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/shopify/shopifytest"
)

const (
	subscriber    = `{"signed_in":true,"subscriber":true,"active_subscriptions":1}`
	notSubscriber = `{"signed_in":true,"subscriber":false,"active_subscriptions":0}`
	signedOut     = `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`
	notKnown      = `{"signed_in":true,"subscriber":null,"active_subscriptions":null}`
)

// statusCase is a theme's question.
type statusCase struct {
	name   string
	who    string
	path   string
	broken func(*fixture)
	want   string
	calls  map[string]int // to Recharge
}

// refused is one that is not Shopify's.
func refused() statusCase {
	return statusCase{name: "wrong signature", who: pat, path: "/apps/subscriptions/status", broken: func(f *fixture) {
		f.store.SetFaults(func(x *shopifytest.Faults) { x.WrongSecret = true })
	}}
}

// statuses are all that a theme can be told, and what it costs.
func statuses() []statusCase {
	return []statusCase{
		{"subscriber", pat, "/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"with a slash", pat, "/apps/subscriptions/status/", nil, subscriber, map[string]int{"customers": 1}},
		{"under a locale", pat, "/fr/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"two records, one active", sam, "/apps/subscriptions/status", nil, subscriber, map[string]int{"customers": 1}},
		{"two records, no telling", kim, "/apps/subscriptions/status", nil, notSubscriber, map[string]int{"customers": 1}},
		{"never subscribed", robin, "/apps/subscriptions/status", nil, notSubscriber, map[string]int{"customers": 1}},
		{"signed out", "", "/apps/subscriptions/status", nil, signedOut, map[string]int{}},
		{"limited", pat, "/apps/subscriptions/status", func(f *fixture) { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Limited = true }) }, notKnown, map[string]int{"customers": 1}},
		{"Recharge down", pat, "/apps/subscriptions/status", func(f *fixture) { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true }) }, notKnown, map[string]int{"customers": 1}},
		{"filter ignored", robin, "/apps/subscriptions/status", func(f *fixture) { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.IgnoreFilter = true }) }, notKnown, map[string]int{"customers": 1}},
		{"another store's", pat, "/apps/subscriptions/status", func(f *fixture) {
			f.store.SetFaults(func(x *shopifytest.Faults) { x.Shop = "another-shop.myshopify.com" })
		}, notKnown, map[string]int{}},
		{"Redis gone", pat, "/apps/subscriptions/status", func(f *fixture) { f.redis.Stop() }, subscriber, map[string]int{"customers": 1}},
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range statuses() {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t)
			shopper := f.shopper(tt.who)
			if tt.broken != nil {
				tt.broken(f)
			}
			got := f.click(shopper, tt.path)
			if got.status != http.StatusOK || strings.TrimSpace(got.body) != tt.want {
				t.Errorf("GET %s = %d %s; want 200 %s", tt.path, got.status, got.body, tt.want)
			}
			if calls := f.calls(); !maps.Equal(calls, tt.calls) {
				t.Errorf("GET %s made the calls %v; want %v", tt.path, calls, tt.calls)
			}
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Referrer-Policy") != "no-referrer" || got.header.Get("Set-Cookie") != "" {
				t.Errorf("GET %s has the headers %v; want no-store, no-referrer, no cookie", tt.path, got.header)
			}
		})
	}
}

func TestStatusRefusesWhatIsNotShopifys(t *testing.T) {
	f := start(t)
	refused().broken(f)
	got := f.click(f.shopper(pat), refused().path)
	if got.status != http.StatusForbidden || strings.Contains(got.body, "{") || len(f.calls()) != 0 {
		t.Errorf("status with a wrong signature = %d %s; want 403, and nothing asked", got.status, got.body)
	}
}

// TestStatusWarmsTheClick: the click to come is spared the lookup; and a click
// spares the theme its question.
func TestStatusWarmsTheClick(t *testing.T) {
	f := start(t)
	shopper := f.shopper(pat)
	for _, step := range []struct {
		path  string
		calls map[string]int
	}{
		{"/apps/subscriptions/status", map[string]int{"customers": 1}},
		{"/apps/subscriptions/status", map[string]int{}},
		{"/apps/subscriptions", map[string]int{"sessions": 1, "portal_access": 1}},
		{"/apps/subscriptions/status", map[string]int{}},
	} {
		f.click(shopper, step.path)
		if got := f.calls(); !maps.Equal(got, step.calls) {
			t.Errorf("GET %s made the calls %v; want %v", step.path, got, step.calls)
		}
	}
}

// TestStatusOfWhoJustSubscribed: a click asks again after a minute, a theme's
// question after ten.
func TestStatusOfWhoJustSubscribed(t *testing.T) {
	f := start(t)
	shopper := f.shopper(robin)
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
		f.clock.add(step.after)
		f.click(shopper, step.path)
		if got := f.calls()["customers"]; got != step.calls {
			t.Errorf("GET %s, %v later: %d lookups; want %d", step.path, step.after, got, step.calls)
		}
	}
}

// TestStatusWhenStale: Recharge down does not make a subscriber a stranger.
func TestStatusWhenStale(t *testing.T) {
	f := start(t)
	shopper := f.shopper(pat)
	f.click(shopper, "/apps/subscriptions/status")
	f.clock.add(27 * time.Hour)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
	if got := f.click(shopper, "/apps/subscriptions/status"); strings.TrimSpace(got.body) != subscriber {
		t.Errorf("status, stale and Recharge down = %s; want %s", got.body, subscriber)
	}
}

// TestThemesCannotStarveClicks: however many shoppers' pages ask, half of the
// burst is left to those who click.
func TestThemesCannotStarveClicks(t *testing.T) {
	f := start(t, func(s *config.Settings) { s.RechargeRate = "1,40" })
	for i := range 40 {
		query := f.store.SignedQuery("", fmt.Sprint(7000000000000+i), "/apps/subscriptions", appSecret)
		response, err := http.Get("http://" + f.public + "/apps/subscriptions/status?" + query)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	asked := f.calls()["customers"]
	if asked > 22 || asked < 15 {
		t.Errorf("40 shoppers' pages made %d lookups; want about half of a burst of 40", asked)
	}
	if got := f.click(f.shopper(pat), "/apps/subscriptions"); got.outcome() != "redirected" {
		t.Errorf("then a click ended in %q; want redirected", got.outcome())
	}
}

// TestOpenAPI holds docs/openapi.yaml and the server together, both ways: every
// answer is as described, and what is described as possible does occur.
func TestOpenAPI(t *testing.T) {
	storetest.Redis(t) // without one, all of it is skipped
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
			f := start(t)
			shopper := f.shopper(tt.who)
			if tt.broken != nil {
				tt.broken(f)
			}
			got := f.click(shopper, tt.path)
			request := httptest.NewRequest(http.MethodGet, "http://store.test/apps/subscriptions/status", nil)
			route, parameters, err := router.FindRoute(request)
			if err != nil {
				t.Fatal(err)
			}
			answer := &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route},
				Status:                 got.status,
				Header:                 got.header,
				Options:                &openapi3filter.Options{IncludeResponseStatus: true},
			}
			answer.SetBodyBytes([]byte(got.body))
			answers[strings.TrimSpace(got.body)] = true
			codes[strconv.Itoa(got.status)] = true
			if err := openapi3filter.ValidateResponse(t.Context(), answer); err != nil {
				t.Errorf("docs/openapi.yaml does not describe %d %s: %v", got.status, got.body, err)
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

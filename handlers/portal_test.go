package handlers

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

var pat = store.Shopper{Shop: "a.myshopify.com", Customer: "1"}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Click(portal.Click)         {}
func (noMeter) Call(recharge.Call)         {}
func (noMeter) Status(portal.StatusAnswer) {}
func (noMeter) Webhook(portal.Sender, int) {}

// TestFaultOfOursIsUnavailable checks that a panic anywhere on the route fails one click with a
// page, and that the stack goes only to the log.
func TestFaultOfOursIsUnavailable(t *testing.T) {
	s, err := store.Open(store.Options{Keys: [][]byte{make([]byte, 32)}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	pages := templates.Load()
	const secret = "fixture-app-secret"
	verifier, err := shopify.NewVerifier([]string{secret}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	// Its client has no clock, so that it fails as soon as it is used.
	broken, err := portal.NewMerchants(s, portal.Settings{Options: recharge.Options{Rate: 2, Burst: 40, Timeout: time.Second}}, &store.Connection{Shop: pat.Shop, APIToken: "sk_fixture"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		verifier  *shopify.Verifier
		merchants *portal.Merchants
	}{
		"before the click": {nil, nil},
		"in the click":     {verifier, nil},
		"in the flight":    {verifier, broken},
	} {
		var log bytes.Buffer
		portals := Portal{Verifier: test.verifier, Pages: pages, Merchant: &merchant.Service{
			Resolver: &portal.Resolver{Store: s, Timeout: time.Second, Now: time.Now, Merchants: test.merchants},
			Recorder: &portal.Recorder{Store: s, Log: slog.New(slog.NewJSONHandler(&log, nil)), Meter: noMeter{}},
		}}
		e := echo.New()
		portals.Register(e)
		query := url.Values{
			"shop": {string(pat.Shop)}, "logged_in_customer_id": {string(pat.Customer)}, "path_prefix": {"/apps/subscriptions"},
			"timestamp": {strconv.FormatInt(time.Now().Unix(), 10)},
		}.Encode()
		query += "&signature=" + shopifytest.Signature(secret, query)
		for range 2 { // the first must not leave a lookup that blocks the second
			log.Reset()
			response := httptest.NewRecorder()
			e.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/apps/subscriptions?"+query, nil))
			if body := response.Body.String(); response.Code != http.StatusOK || !strings.Contains(body, `data-outcome="unavailable"`) || strings.Contains(body, "goroutine") {
				t.Errorf("%s: %d %s; want the page unavailable, without the stack", name, response.Code, body)
			}
			var line struct{ Level, Outcome, Cause, Stack string }
			if err := json.Unmarshal(log.Bytes(), &line); err != nil {
				t.Fatalf("%s: log %q: %v", name, &log, err)
			}
			if line.Level != "ERROR" || line.Outcome != "unavailable" || !strings.Contains(line.Stack, "goroutine") || strings.Contains(line.Cause, "goroutine") {
				t.Errorf("%s: logged %+v; want an error with cause and stack apart", name, line)
			}
		}
	}
}

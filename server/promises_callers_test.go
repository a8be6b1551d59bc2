package server_test

// Callers who leave before they get an answer.

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestCallersWhoLeave: five callers in a row who leave before Recharge has answered do not open the
// circuit. The next shopper reaches their portal.
func TestCallersWhoLeave(t *testing.T) {
	t.Parallel()
	people := servertest.Subscribers(6)
	for _, test := range []struct{ from, endpoint string }{
		{"click", "customers"}, {"click", "sessions"}, {"click", "portal_access"}, {"status", "customers"},
		{"try", "customers"}, {"try", "sessions"}, {"try", "portal_access"},
	} {
		t.Run(test.from+" at "+test.endpoint, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t)
			f.Recharge.SetCustomers(append(people, servertest.Customers()...))
			f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency, x.Only = 250*time.Millisecond, test.endpoint })
			calls := func() (n int) {
				for _, request := range f.Recharge.Requests() {
					if request.Endpoint == test.endpoint {
						n++
					}
				}
				return n
			}
			for i, who := range people[:5] {
				before := calls()
				ctx, leave := context.WithCancel(t.Context())
				gone := make(chan error, 1)
				go func() { gone <- from(f, ctx, test.from, who.ShopifyCustomerID) }()
				for until := time.Now().Add(3 * time.Second); calls() == before && time.Now().Before(until); {
					time.Sleep(2 * time.Millisecond)
				}
				if calls() == before {
					t.Errorf("the program makes no call for caller %d", i)
				}
				leave()
				if err := <-gone; err == nil {
					t.Errorf("caller %d got an answer before they could leave", i)
				}
			}
			time.Sleep(300 * time.Millisecond) // the last call ends, with no caller left
			f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 0 })
			who := people[5]
			if r := f.Visit(servertest.NewClient(t), f.Public, who.ShopifyCustomerID); r.Outcome != "redirected" || !r.LeadsTo(who.Hash) {
				t.Errorf("the next shopper is sent to %q (%s); want their portal, signed in", r.Location, r.Outcome)
			}
		})
	}
}

// from makes a request about a shopper through one of the program's routes and reads the answer.
func from(f *servertest.Fixture, ctx context.Context, door, who string) error {
	query := f.Store.SignedQuery("", who, "/apps/subscriptions", servertest.AppSecret)
	method, path, body := http.MethodGet, "/apps/subscriptions?"+query, ""
	switch door {
	case "status":
		path = "/apps/subscriptions/status?" + query
	case "try":
		method, path, body = http.MethodPost, "/app/try", url.Values{"customer": {who}}.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+f.Public+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if door == "try" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Authorization", "Bearer "+f.SessionToken(nil))
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusTooManyRequests { // the server is still finishing with the previous caller
		time.Sleep(20 * time.Millisecond)
		return from(f, ctx, door, who)
	}
	_, err = io.Copy(io.Discard, response.Body) // a try reports its steps one by one
	return err
}

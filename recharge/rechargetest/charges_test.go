package rechargetest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestCharges: GET /charges lists the queued charges, the soonest first if asked, over several pages.
func TestCharges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Tokens = append(o.Tokens, rechargetest.Token{Value: "orders", Scopes: []string{"read_customers", "read_orders"}})
		o.Customers = nil
		for i, day := range []int{9, 3, 0, 5, 3} { // 0: nothing is queued
			c := rechargetest.Customer{ID: int64(i + 1), Hash: "h", ShopifyCustomerID: fmt.Sprint(61 + i), Email: "a@example.test"}
			if day > 0 {
				c.NextCharge = time.Date(2025, 1, day, 23, 0, 0, 0, time.UTC)
			}
			o.Customers = append(o.Customers, c)
		}
	})
	type charges struct {
		Next    string `json:"next_cursor"`
		Charges []struct {
			Customer struct{ ID int64 }
		}
	}
	ids := func(target string) (all []int64) {
		t.Helper()
		for pages := 0; pages < 5; pages++ {
			page := decode[charges](t, w.call(http.MethodGet, target, "orders"))
			for _, charge := range page.Charges {
				all = append(all, charge.Customer.ID)
			}
			if page.Next == "" {
				break
			}
			target = "/charges?limit=2&cursor=" + page.Next
		}
		return all
	}
	for query, want := range map[string][]int64{
		"?status=queued&sort_by=scheduled_at-asc&limit=2": {2, 5, 4, 1},
		"?limit=2":        {5, 4, 2, 1},
		"":                {5, 4, 2, 1},
		"?status=success": nil,
	} {
		if diff := cmp.Diff(want, ids("/charges"+query)); diff != "" {
			t.Errorf("GET /charges%s (-want +got):\n%s", query, diff)
		}
	}
	got := w.call(http.MethodGet, "/charges?sort_by=scheduled_at-asc&limit=1", "orders").Body
	want := `{"id":600000002,"customer":{"id":2,"email":"a@example.test","external_customer_id":{"ecommerce":"62"},"hash":"h"},"scheduled_at":"2025-01-03","status":"queued"}`
	if !strings.Contains(got, want) {
		t.Errorf("GET /charges = %s; want %s in it", got, want)
	}
	all := w.Requests()
	if last := all[len(all)-1]; last.Endpoint != rechargetest.EndpointCharges || last.Status != http.StatusOK {
		t.Errorf("the call is recorded as %+v; want charges", last)
	}
	for target, want := range map[string]int{"/charges?limit=251": 422, "/charges?cursor=x": 422, "/charges/1": 404} {
		if got := w.call(http.MethodGet, target, "orders").Status; got != want {
			t.Errorf("GET %s = %d; want %d", target, got, want)
		}
	}
	if got := w.get("/charges").Status; got != http.StatusForbidden {
		t.Errorf("GET /charges without the scope = %d; want 403", got)
	}
	w.SetCustomers([]rechargetest.Customer{{ID: 7, NextCharge: time.Unix(1, 0)}})
	if diff := cmp.Diff([]int64{7}, ids("/charges?sort_by=scheduled_at-asc")); diff != "" {
		t.Errorf("after the customers have changed (-want +got):\n%s", diff)
	}
}

// TestUpcomingCharge: charge/upcoming needs a scope of its own, and names the customer.
func TestUpcomingCharge(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, http.StatusOK)
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Tokens = append(o.Tokens, rechargetest.Token{Value: "orders", Scopes: []string{"read_customers", "read_orders"}})
	})
	for token, want := range map[string]int{adminToken: 403, "orders": 201} {
		body := `{"address":"` + r.URL + `","topic":"charge/upcoming"}`
		if got := w.send(http.MethodPost, "/webhooks", token, body); got.Status != want {
			t.Errorf("registering charge/upcoming with %s = %d %s; want %d", token, got.Status, got.Body, want)
		}
	}
	w.UpcomingCharge(pat.ID)
	until(t, "it arrives", func() bool { return r.count() == 1 })
	w.call(http.MethodPost, "/webhooks/900101/test", "orders")
	until(t, "the sample arrives", func() bool { return r.count() == 2 })
	for i, want := range []string{
		`"customer":{"id":70100200,"email":"pat@example.test","external_customer_id":{"ecommerce":"6100200300400"}`,
		`"customer":{"id":1,"email":"","external_customer_id":{"ecommerce":null}`,
	} {
		body, topic := r.bodies[i], r.got[i].Header.Get("X-Recharge-Topic")
		if topic != "charge/upcoming" || !strings.HasPrefix(body, `{"charge":{"id":`) || !strings.Contains(body, want) {
			t.Errorf("%s came with %s; want charge/upcoming with %s", topic, body, want)
		}
	}
}

package recharge_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"manage-subscriptions/recharge"
)

// TestSweepTripsNobody: a page that cannot be read is a sweep's trouble, not that of
// clicks, whose lookups are answered.
func TestSweepTripsNobody(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("external_customer_id") == "" {
			_, _ = w.Write([]byte(`{"next_cursor":null,"customers":[{"id":1,"subscriptions_active_count":"three"}]}`))
			return
		}
		_, _ = w.Write([]byte(fixture(t, "customers_one_match_2021_11")))
	}))
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	for range 10 {
		if _, err := c.CustomerPage(t.Context(), ""); err == nil {
			t.Fatal("CustomerPage of what cannot be read = nil; want it to fail")
		}
	}
	checkReason(t, "FindCustomer meanwhile", find(t, c), "")
	if c.Resting(recharge.Customers) {
		t.Error("the endpoint is left alone, though it answers")
	}
}

package rechargetest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"manage-subscriptions/recharge/rechargetest"
)

// receiver answers deliveries by a status, and keeps what came.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []*http.Request
	bodies []string
}

func newReceiver(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{status: status}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got, r.bodies = append(r.got, request), append(r.bodies, string(body))
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func hooked(t *testing.T) *rechargetest.Server {
	t.Helper()
	srv := rechargetest.NewServer(rechargetest.Options{
		Shop: "fixture-shop.myshopify.com", Tokens: []rechargetest.Token{{Value: "admin", Scopes: []string{"read_customers"}, ClientSecret: "fixture-client-secret"}},
		Customers: []rechargetest.Customer{{ID: 1, Hash: "a", ShopifyCustomerID: "11"}},
		Now:       func() time.Time { return time.Unix(1735689600, 0) }, RetryAfter: func(int) time.Duration { return time.Millisecond },
	})
	t.Cleanup(srv.Close)
	return srv
}

// TestDelivery is what a webhook looks like, by the vectors that are known.
func TestDelivery(t *testing.T) {
	srv, r := hooked(t), newReceiver(t, http.StatusOK)
	srv.AddWebhook("admin", "customer/deleted", r.URL+"/here")
	srv.SetCustomers([]rechargetest.Customer{{ID: 70100200}})
	srv.DeleteCustomer(70100200)
	until(t, "it arrives", func() bool { return r.count() == 1 })
	request := r.got[0]
	for name, want := range map[string]string{
		"X-Recharge-Topic": "customer/deleted", "X-Recharge-Hmac-Sha256": "c9c876ba76374b0a5b13ad9dbea937e7d8b4a5e014d2377f2c827cb06e2657e4",
		"X-Recharge-Webhook-Timestamp": "1735689600", "X-Recharge-Webhook-Signature": "t=1735689600,v1=8163bb8409ad8fb2df31436413cc23714b293a77ad25ec47882bbe5900b9974a",
	} {
		if got := request.Header.Get(name); got != want {
			t.Errorf("%s = %q; want %q", name, got, want)
		}
	}
	if request.URL.Path != "/here" || r.bodies[0] != `{"customer":{"id":70100200}}` {
		t.Errorf("%s %s; want the customer's id only", request.URL, r.bodies[0])
	}
}

// TestDeliveryTopics: what a change of a customer sends.
func TestDeliveryTopics(t *testing.T) {
	one := []rechargetest.Subscription{{ID: 5}}
	for name, test := range map[string]struct {
		change rechargetest.Customer
		want   string
	}{
		"new":            {rechargetest.Customer{ID: 2}, "customer/created"},
		"new subscriber": {rechargetest.Customer{ID: 2, Subscriptions: one}, "customer/activated customer/created"},
		"changed":        {rechargetest.Customer{ID: 1, Hash: "b"}, "customer/updated"},
		"subscribes":     {rechargetest.Customer{ID: 1, Subscriptions: one}, "customer/activated customer/updated"},
	} {
		srv, r := hooked(t), newReceiver(t, http.StatusOK)
		for _, topic := range []string{"customer/activated", "customer/created", "customer/deactivated", "customer/updated"} {
			srv.AddWebhook("admin", topic, r.URL)
		}
		srv.ChangeCustomer(test.change)
		until(t, name, func() bool { return r.count() == len(strings.Fields(test.want)) })
		for _, delivery := range srv.Deliveries() {
			if !strings.Contains(test.want, delivery.Topic) {
				t.Errorf("%s sends %s; want %s", name, delivery.Topic, test.want)
			}
		}
	}
}

// TestDeliveryTries: 20 times, then the webhook is gone; a 404 is an answer.
func TestDeliveryTries(t *testing.T) {
	for status, want := range map[int]int{http.StatusInternalServerError: 20, http.StatusTooManyRequests: 20, http.StatusNotFound: 1, http.StatusOK: 1} {
		srv, r := hooked(t), newReceiver(t, status)
		srv.AddWebhook("admin", "customer/updated", r.URL)
		srv.Send("customer/updated", []byte(`{}`))
		until(t, "all tries", func() bool { return r.count() == want && len(srv.Deliveries()) == want })
		until(t, "what comes of it", func() bool { return (len(srv.Webhooks()) == 0) == (want == 20) })
		if tries := srv.Deliveries(); tries[len(tries)-1].Try != want || tries[0].Status != status {
			t.Errorf("answered by %d: the tries are %+v", status, tries)
		}
	}
}

// TestTogether: one address, and the token tells the store.
func TestTogether(t *testing.T) {
	one, other := hooked(t), rechargetest.NewServer(rechargetest.Options{
		Tokens:    []rechargetest.Token{{Value: "other", Scopes: []string{"read_customers", "write_session"}}},
		Customers: []rechargetest.Customer{{ID: 9, Hash: "z"}},
	})
	t.Cleanup(other.Close)
	front := rechargetest.Together(one, other)
	defer front.Close()
	ask := func(token string) string {
		request, err := http.NewRequest("GET", front.URL+"/customers", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Recharge-Access-Token", token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		return response.Status + string(body)
	}
	for token, want := range map[string]string{"admin": `"hash":"a"`, "other": `"hash":"z"`, "nobody's": "401"} {
		if got := ask(token); !strings.Contains(got, want) {
			t.Errorf("with the token %s: %s; want %s", token, got, want)
		}
	}
	one.RevokeToken("admin")
	if got := ask("admin"); !strings.HasPrefix(got, "401") {
		t.Errorf("with a token that was revoked: %s; want 401", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

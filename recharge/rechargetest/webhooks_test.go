package rechargetest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// receiver answers deliveries with a status, and records them.
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
			t.Fatalf("timed out waiting until: %s", what)
		}
	}
}

func hooked(t *testing.T) *rechargetest.Server {
	t.Helper()
	srv := rechargetest.NewServer(rechargetest.Options{
		Shop: "fixture-shop.myshopify.com", Tokens: []rechargetest.Token{{Value: "admin", Scopes: []string{"read_customers"}, ClientSecret: "fixture-client-secret"}},
		Customers: []rechargetest.Customer{{ID: 1, Hash: "a", ShopifyCustomerID: "11"}, {ID: 3, Hash: "c", Subscriptions: []rechargetest.Subscription{{ID: 6}}}},
		Now:       func() time.Time { return time.Unix(1735689600, 0) }, RetryAfter: func(int) time.Duration { return time.Millisecond },
	})
	t.Cleanup(srv.Close)
	return srv
}

// TestDelivery checks a delivered webhook against the known vectors.
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

// TestDeliveryTopics checks which topics a change of a customer sends.
func TestDeliveryTopics(t *testing.T) {
	one := []rechargetest.Subscription{{ID: 5}}
	for name, test := range map[string]struct {
		change rechargetest.Customer
		want   string
	}{
		"new":            {rechargetest.Customer{ID: 2}, "customer/created"},
		"new subscriber": {rechargetest.Customer{ID: 2, Subscriptions: one}, "customer/activated customer/created"},
		"changed":        {rechargetest.Customer{ID: 1, Hash: "b"}, "customer/updated"},
		"unsubscribes":   {rechargetest.Customer{ID: 3}, "customer/deactivated customer/updated"},
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

// TestDeliveryTries: after 20 tries the webhook is deleted; a 404 counts as an answer.
func TestDeliveryTries(t *testing.T) {
	for status, want := range map[int]int{http.StatusInternalServerError: 20, http.StatusTooManyRequests: 20, http.StatusNotFound: 1, http.StatusOK: 1} {
		srv, r := hooked(t), newReceiver(t, status)
		srv.AddWebhook("admin", "customer/updated", r.URL)
		srv.Send("customer/updated", []byte(`{}`))
		until(t, "all tries", func() bool { return r.count() == want && len(srv.Deliveries()) == want })
		until(t, "the webhook is kept or deleted", func() bool { return (len(srv.Webhooks()) == 0) == (want == 20) })
		if tries := srv.Deliveries(); tries[len(tries)-1].Try != want || tries[0].Status != status {
			t.Errorf("answered by %d: the tries are %+v", status, tries)
		}
	}
}

// TestTogether: with one address for all, the token decides which store answers.
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

// send makes a call with a body, which newWorld's own call does not allow.
func (w *world) send(method, target, token, body string) reply {
	w.t.Helper()
	request := w.request(method, target, token)
	request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r, err := w.do(request)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	return r
}

// TestWebhooksAPI: which calls for webhooks are allowed, to whom, and which are refused.
func TestWebhooksAPI(t *testing.T) {
	w := newWorld(t, func(o *rechargetest.Options) {
		o.Tokens = append(o.Tokens, rechargetest.Token{Value: "other", Scopes: []string{"read_customers"}}, rechargetest.Token{Value: "none"})
	})
	r := newReceiver(t, http.StatusOK)
	const first = "/webhooks/900101"
	made := `{"webhook":{"id":900101,"address":"https://app.example/a","topic":"customer/updated","included_objects":["metafields"]}}`
	moved := strings.Replace(made, "https://app.example/a", r.URL, 1)
	for _, step := range []struct {
		what, method, target, token, body string
		status                            int
		want                              string
	}{
		{"register", "POST", "/webhooks", adminToken, `{"address":"https://app.example/a","topic":"customer/updated","included_objects":["metafields"]}`, 201, made},
		{"read", "GET", first, adminToken, "", 200, made},
		{"list", "GET", "/webhooks", adminToken, "", 200, `"id":900101`},
		{"list another's", "GET", "/webhooks", "other", "", 200, `"webhooks":[]`},
		{"read another's", "GET", first, "other", "", 404, ""},
		{"delete another's", "DELETE", first, "other", "", 404, ""},
		{"without the scope", "POST", "/webhooks", "none", `{"address":"https://app.example/a","topic":"customer/updated"}`, 403, ""},
		{"without a token", "GET", "/webhooks", "", "", 401, ""},
		{"no JSON", "POST", "/webhooks", adminToken, `{`, 400, ""},
		{"no such topic", "POST", "/webhooks", adminToken, `{"address":"https://app.example/a","topic":"customer/sneezed"}`, 422, ""},
		{"not https", "POST", "/webhooks", adminToken, `{"address":"http://app.example/a","topic":"customer/updated"}`, 422, ""},
		{"change to no topic", "PUT", first, adminToken, `{"topic":"customer/sneezed","included_objects":["customer"]}`, 422, ""},
		{"which changes nothing", "GET", first, adminToken, "", 200, made},
		{"change", "PUT", first, adminToken, `{"address":"` + r.URL + `"}`, 200, moved},
		{"test", "POST", first + "/test", adminToken, `{}`, 200, "{}"},
		{"delete", "DELETE", first, adminToken, "", 200, ""},
		{"delete again", "DELETE", first, adminToken, "", 404, ""},
		{"no number", "GET", "/webhooks/x", adminToken, "", 404, ""},
		{"a limit too high", "GET", "/webhooks?limit=251", adminToken, "", 422, ""},
		{"a cursor of nobody's", "GET", "/webhooks?cursor=x", adminToken, "", 422, ""},
	} {
		if got := w.send(step.method, step.target, step.token, step.body); got.Status != step.status || !strings.Contains(got.Body, step.want) {
			t.Errorf("%s: %d %s; want %d %s", step.what, got.Status, got.Body, step.status, step.want)
		}
		if step.what == "test" {
			until(t, "the trial arrives", func() bool { return r.count() == 1 })
		}
	}
	for i := range 11 {
		want := map[bool]int{true: 201, false: 422}[i < 10]
		got := w.send("POST", "/webhooks", adminToken, fmt.Sprintf(`{"address":"https://app.example/%d","topic":"customer/created"}`, i))
		if got.Status != want {
			t.Errorf("webhook %d of a topic = %d; want %d", i+1, got.Status, want)
		}
	}
}

// TestDeliveryFaults checks how each fault changes a delivery.
func TestDeliveryFaults(t *testing.T) {
	const (
		older = "c9c876ba76374b0a5b13ad9dbea937e7d8b4a5e014d2377f2c827cb06e2657e4"
		newer = "t=1735689600,v1=8163bb8409ad8fb2df31436413cc23714b293a77ad25ec47882bbe5900b9974a"
	)
	for name, test := range map[string]struct {
		set                     func(*rechargetest.Faults)
		topic, newer, older, id bool // as it is without faults
		count                   int
	}{
		"no topic":    {func(f *rechargetest.Faults) { f.NoTopicHeader = true }, false, true, true, true, 1},
		"older only":  {func(f *rechargetest.Faults) { f.LegacyOnly = true }, true, false, true, true, 1},
		"wrong newer": {func(f *rechargetest.Faults) { f.WrongNewSignature = true }, true, false, true, true, 1},
		"wrong older": {func(f *rechargetest.Faults) { f.WrongLegacySignature = true }, true, true, false, true, 1},
		"twice":       {func(f *rechargetest.Faults) { f.DeliverTwice = true }, true, true, true, true, 2},
		"id as text":  {func(f *rechargetest.Faults) { f.StringID = true }, true, false, false, false, 1},
	} {
		srv, r := hooked(t), newReceiver(t, http.StatusOK)
		srv.AddWebhook("admin", "customer/deleted", r.URL)
		srv.SetFaults(test.set)
		srv.DeleteCustomer(70100200)
		until(t, name, func() bool { return len(srv.Deliveries()) == test.count })
		h := r.got[0].Header
		if (h.Get("X-Recharge-Topic") != "") != test.topic || (h.Get("X-Recharge-Webhook-Signature") == newer) != test.newer ||
			(h.Get("X-Recharge-Hmac-Sha256") == older) != test.older || (r.bodies[0] == `{"customer":{"id":70100200}}`) != test.id {
			t.Errorf("%s: %s with %v", name, r.bodies[0], h)
		}
	}
}

// TestCloseEndsDeliveries: Close ends deliveries that are under way and those that wait for their next try.
func TestCloseEndsDeliveries(t *testing.T) {
	arrived, over := make(chan struct{}, 1), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body) // only then does net/http notice that a client goes away
		arrived <- struct{}{}
		<-request.Context().Done()
		close(over)
	}))
	defer hanging.Close()
	failing := newReceiver(t, http.StatusInternalServerError)
	srv := rechargetest.NewServer(rechargetest.Options{Tokens: []rechargetest.Token{{Value: "admin"}}}) // the next try is minutes away
	srv.AddWebhook("admin", "customer/updated", hanging.URL)
	srv.AddWebhook("admin", "customer/updated", failing.URL)
	srv.Send("customer/updated", []byte(`{}`))
	<-arrived
	until(t, "one has failed", func() bool { return len(srv.Deliveries()) == 1 })
	srv.Close()
	<-over
	srv.Send("customer/updated", []byte(`{}`))
	if n := failing.count(); n != 1 || len(srv.Deliveries()) != 1 || len(srv.Webhooks()["customer/updated"]) != 2 {
		t.Errorf("after Close there were %d tries, %+v, %v; want one, and both webhooks still there", n, srv.Deliveries(), srv.Webhooks())
	}
	waitForGoroutines(t, "rechargetest.(*Server).deliver", false)
}

// TestTogetherSessions: a session leads to the store that made it, until that store has removed its
// token. It does so even if two stores make sessions for the same customer number in the same second.
func TestTogetherSessions(t *testing.T) {
	sam := sam
	sam.ID = pat.ID
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	one := newWorld(t, func(o *rechargetest.Options) { o.SigningKey = key })
	other := newWorld(t, func(o *rechargetest.Options) {
		o.SigningKey = key
		o.Shop, o.Tokens[0].Value, o.Customers = "other-shop.myshopify.com", "other", []rechargetest.Customer{sam}
	})
	front := rechargetest.Together(one.Server, other.Server)
	defer front.Close()
	tokens := map[string]string{pat.Hash: one.session(pat), sam.Hash: ""}
	session := other.call(http.MethodPost, fmt.Sprintf("/customers/%d/sessions", sam.ID), "other")
	tokens[sam.Hash], _ = decode[map[string]map[string]any](t, session)["customer_session"]["apiToken"].(string)
	ask := func(shop, token string) reply {
		request := one.request(http.MethodGet, "/portal_access?shop_url="+shop, token)
		request.URL.Host = strings.TrimPrefix(front.URL, "http://")
		r, err := one.do(request)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for hash, at := range map[string]string{pat.Hash: shop, sam.Hash: "other-shop.myshopify.com"} {
		if got := ask(at, tokens[hash]); got.Status != http.StatusOK || !strings.Contains(got.Body, hash) {
			t.Errorf("a session at %s: %d %s; want the portal of %s", at, got.Status, got.Body, hash)
		}
	}
	if got := ask(shop, tokens[sam.Hash]); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("another store's session: %d; want 422", got.Status)
	}
	other.UninstallApp()
	if got := ask("other-shop.myshopify.com", tokens[sam.Hash]); got.Status != http.StatusUnauthorized {
		t.Errorf("a session whose store has left: %d; want 401", got.Status)
	}
}

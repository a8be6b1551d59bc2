package recharge_test

import (
	"net/http"
	"testing"
	"time"

	"manage-subscriptions/recharge"
)

// TestProber: its calls are those of one grant, and it hears their headers.
func TestProber(t *testing.T) {
	srv, o := inspected(t, "read_customers", "write_session", "read_store")
	o.PortalURL = mustURL(t, "https://www.brand.example/tools/recurring/portal/")
	c := recharge.NewClient(o)
	g, err := c.Limiter().Reserve(t.Context(), nil, recharge.Ask{High: 1, Normal: 6})
	if err != nil {
		t.Fatal(err)
	}
	heard := 0
	p := recharge.NewProber(c, g, func(h http.Header, _ time.Duration) {
		if h.Get("Content-Type") != "" {
			heard++
		}
	})
	scopes, err := p.Token(t.Context())
	if err != nil || !scopes.Read || !scopes.Store || scopes.Session != "write_session" {
		t.Errorf("Token = %+v, %v; want all scopes", scopes, err)
	}
	if seen, err := p.Store(t.Context()); err != nil || !seen.Ours || !seen.Usable {
		t.Errorf("Store = %+v, %v; want ours", seen, err)
	}
	if got, err := p.Filter(t.Context()); err != nil || got != recharge.FilterWorks {
		t.Errorf("Filter = %q, %v; want %q", got, err, recharge.FilterWorks)
	}
	if err := p.Customer(t.Context(), shopifyID); err != nil {
		t.Errorf("Customer = %v", err)
	}
	if seen, err := p.Session(t.Context()); err != nil || seen.Key != "apiToken" || seen.Expires <= 0 {
		t.Errorf("Session = %+v, %v; want apiToken and an expiry", seen, err)
	}
	if seen, err := p.Portal(t.Context()); err != nil || !seen.Trusted || seen.Base != "www.brand.example/tools/recurring/portal/" {
		t.Errorf("Portal = %+v, %v; want it trusted", seen, err)
	}
	_, err = p.SessionBare(t.Context())
	checkReason(t, "SessionBare", err, recharge.Unauthorized)
	if n := len(srv.Requests()); heard != n || len(g.Calls()) != n || n != 8 {
		t.Errorf("heard %d answers, the grant has %d calls of %d; want 8", heard, len(g.Calls()), n)
	}
	if err := c.Known(t.Context(), g); err != nil || heard != 8 {
		t.Errorf("Known of the client itself = %v, and %d answers were heard; want 8", err, heard)
	}
}

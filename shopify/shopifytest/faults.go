package shopifytest

import "time"

// Faults make the store misbehave. The zero value is a store without faults.
type Faults struct {
	// WrongSecret signs with a secret that is not the app's, webhooks too. It takes precedence over OldSecret.
	WrongSecret bool
	// OldSecret signs with App.OldSecret, webhooks too, as Shopify may for up to an hour after a rotation.
	OldSecret bool
	// ClockOffset is added to the timestamp parameter. A negative one makes an old request, as in a replay.
	ClockOffset time.Duration
	// Twice sends shop, logged_in_customer_id, path_prefix and timestamp twice, the second time for
	// another shopper, with one signature over both.
	Twice bool
	// ForgetShopper leaves logged_in_customer_id empty though the shopper is signed in, a reported
	// Shopify defect. Liquid still has the customer.
	ForgetShopper bool
	// Bots, if not 0, is the status (403, 429 or 430) with which the store's own pages and the account host refuse a
	// request that has neither Sec-Fetch-Mode, which every browser sends, nor all of Signature, Signature-Input and
	// Signature-Agent (Web Bot Auth). The signature is not verified. The proxy lets every request through.
	Bots int
	// NoIDToken loads an app in the admin's frame without id_token, so that it must ask App Bridge for a session token.
	NoIDToken bool
	// NoDirectAPI refuses an app's page direct access to the Admin API, as without embedded_app_direct_api_access.
	NoDirectAPI bool
	// WebhooksTwice delivers every webhook twice.
	WebhooksTwice bool
	// Shop, if set, is sent as shop instead of Options.Shop, like another store that installed the app.
	Shop string
}

// SetFaults lets change edit the faults. No request sees them half changed.
func (s *Server) SetFaults(change func(*Faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

// Faults returns the faults in force.
func (s *Server) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

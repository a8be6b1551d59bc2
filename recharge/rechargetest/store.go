package rechargetest

import (
	"net/http"
	"strings"
)

func (s *Server) tokenInformation(c call) answer {
	type client struct {
		Name  string `json:"name"`
		Email string `json:"email"`
	}
	scopes := append([]string{}, c.token.scopes...) // no scopes are sent as [], not null
	return jsonAnswer(http.StatusOK, map[string]any{"token_information": struct {
		Client       client   `json:"client"`
		ContactEmail string   `json:"contact_email"`
		Name         string   `json:"name"`
		Scopes       []string `json:"scopes"`
	}{client{"Emulated client", "dev@example.test"}, "dev@example.test", "emulated token", scopes}})
}

func (s *Server) store(call) answer {
	s.mu.Lock()
	base := s.portalBase
	s.mu.Unlock()
	name, _, _ := strings.Cut(s.opts.Shop, ".")
	return jsonAnswer(http.StatusOK, map[string]any{"store": map[string]any{
		"id":                             s.storeID(),
		"checkout_logo_url":              nil,
		"checkout_platform":              "shopify",
		"created_at":                     "2024-01-01T00:00:00+00:00",
		"currency":                       "USD",
		"customer_portal_base_url":       strings.TrimSuffix(base, "/"),
		"default_api_version":            apiVersion,
		"email":                          "owner@example.test",
		"enabled_presentment_currencies": []string{"USD"},
		"external_platform":              "shopify",
		"identifier":                     s.opts.Shop,
		"merchant_portal_base_url":       s.URL,
		"name":                           name,
		"phone":                          nil,
		"timezone": map[string]string{
			"iana_name": "America/New_York", "name": "(GMT-05:00) Eastern Time",
		},
		"updated_at":  "2025-01-01T00:00:00+00:00",
		"weight_unit": "lb",
	}})
}

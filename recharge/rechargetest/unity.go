package rechargetest

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// SetPortalBase sets the base_url of new portal links, and adds a slash at its end if there is none. "" means this
// server's own portal. The pages at the old base still open.
func (s *Server) SetPortalBase(base string) {
	if base == "" {
		base = s.URL + "/portal/"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.portalBase = strings.TrimSuffix(base, "/") + "/"
	delete(s.left, s.portalBase)
}

// MovePortal is SetPortalBase for a merchant who moves the portal, from the store's host to Recharge's or back:
// addresses at the old base no longer open, whatever their token.
func (s *Server) MovePortal(base string) {
	s.mu.Lock()
	old := s.portalBase
	s.mu.Unlock()
	s.SetPortalBase(base)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old != s.portalBase {
		s.left[old] = true
	}
}

// SetUnity moves the store between the two kinds of portal that Recharge offers: Unity, whose pages are in the
// Shopify account, and Affinity, whose pages are at the portal base. Sessions work with both. With Unity, portal
// access is refused (see [Faults].UnityAccess), and the pages at the portal base say where the portal is.
func (s *Server) SetUnity(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unity = on
}

func (s *Server) isUnity() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unity
}

// moved returns the view of a page whose portal is not there any more. base is the portal's address in
// the request.
func (s *Server) moved(base string) (shown view, status int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unity:
		return view{State: "account", Title: "Your subscriptions are in your account"}, http.StatusOK, true
	case s.left[base]:
		return missingView(), http.StatusNotFound, true
	}
	return view{}, 0, false
}

// AccountPage returns what Unity shows in the Shopify account: HTML for the signed-in Shopify customer, or "" if the
// store has no Unity. path is "" for Recharge's full page, and "/orders" or "/profile" for its blocks on Shopify's own
// pages; the query may have a locale. It records the opening, unless the customer is not a subscriber.
func (s *Server) AccountPage(shopifyCustomerID, path string, query url.Values) template.HTML {
	if !s.isUnity() {
		return ""
	}
	page := strings.Trim(path, "/")
	if page == "" {
		page = "subscriptions"
	}
	shown := view{State: "none"}
	customer, ok := s.accountOf(shopifyCustomerID)
	if ok {
		shown = view{State: "open", Name: customer.Name(), Page: page, How: HowAccount}
		for _, sub := range customer.Subscriptions {
			shown.Subscriptions = append(shown.Subscriptions, subscriptionView{ID: sub.ID, Product: sub.Product})
		}
		s.mu.Lock()
		s.openings.add(Opening{
			Customer: customer, Page: page, How: HowAccount, Locale: query.Get("locale"), At: s.opts.Now(),
		})
		s.mu.Unlock()
	}
	var out bytes.Buffer
	if err := s.pages.ExecuteTemplate(&out, "unity.html", shown); err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return template.HTML(out.String()) // html/template has escaped it
}

// accountOf returns a Shopify customer's record, one with subscriptions if there is one.
func (s *Server) accountOf(shopifyCustomerID string) (Customer, bool) {
	mine := func(c Customer) bool { return shopifyCustomerID != "" && c.ShopifyCustomerID == shopifyCustomerID }
	if c, ok := s.customer(func(c Customer) bool { return mine(c) && len(c.Subscriptions) > 0 }); ok {
		return c, true
	}
	return s.customer(mine)
}

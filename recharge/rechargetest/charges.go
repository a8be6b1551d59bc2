package rechargetest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// chargeScopes are the scopes for charges, one of which is enough.
func chargeScopes() []string { return []string{"read_orders", "read_charges"} }

// chargeJSON is a queued charge as Recharge sends it, as far as it is emulated.
type chargeJSON struct {
	ID       int64 `json:"id"`
	Customer struct {
		ID                 int64  `json:"id"`
		Email              string `json:"email"`
		ExternalCustomerID struct {
			Ecommerce *string `json:"ecommerce"`
		} `json:"external_customer_id"`
		Hash string `json:"hash"`
	} `json:"customer"`
	ScheduledAt string `json:"scheduled_at"` // a day
	Status      string `json:"status"`
}

func chargeOf(c Customer) chargeJSON {
	j := chargeJSON{ID: 600000000 + c.ID, ScheduledAt: c.NextCharge.UTC().Format(time.DateOnly), Status: "queued"}
	j.Customer.ID, j.Customer.Email, j.Customer.Hash = c.ID, c.Email, c.Hash
	j.Customer.ExternalCustomerID = toJSON(c).ExternalCustomerID
	return j
}

func (s *Server) listCharges(c call) answer {
	w, wrong := c.window()
	if wrong != "" {
		return invalid(wrong)
	}
	all := s.charged()
	if status := w.filter.Get("status"); status != "" && status != "queued" {
		all = nil
	}
	if w.filter.Get("sort_by") != "scheduled_at-asc" { // otherwise the newest first
		all = slices.Clone(all)
		slices.SortFunc(all, func(a, b Customer) int { return cmp.Compare(b.ID, a.ID) })
	}
	charges := []chargeJSON{}
	page, next, previous := cut(w, all)
	for _, customer := range page {
		charges = append(charges, chargeOf(customer))
	}
	return jsonAnswer(http.StatusOK, map[string]any{
		"charges": charges, "next_cursor": next, "previous_cursor": previous,
	})
}

// charged returns the customers who have a next charge, the soonest first. Not to be modified.
func (s *Server) charged() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bySchedule == nil {
		list := slices.Clone(s.customers)
		list = slices.DeleteFunc(list, func(c Customer) bool { return c.NextCharge.IsZero() })
		slices.SortStableFunc(list, func(a, b Customer) int { return a.NextCharge.Compare(b.NextCharge) })
		s.bySchedule = list
	}
	return s.bySchedule
}

// UpcomingCharge sends charge/upcoming about a customer's next charge, as Recharge does some days before.
func (s *Server) UpcomingCharge(customerID int64) {
	customer, ok := s.customerByID(customerID)
	if !ok {
		panic("rechargetest: no such customer")
	}
	body, _ := json.Marshal(map[string]chargeJSON{"charge": chargeOf(customer)}) // cannot fail
	s.Send(topicUpcoming, body)
}

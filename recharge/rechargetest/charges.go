package rechargetest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
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
	limit, ok := parseLimit(c.query.Get("limit"))
	if !ok {
		return invalid("limit")
	}
	from, ok := start(c.query)
	if !ok {
		return invalid("cursor")
	}
	filter, err := url.ParseQuery(from.Filter)
	if err != nil {
		return invalid("cursor")
	}
	all := s.charged()
	if status := filter.Get("status"); status != "" && status != "queued" {
		all = nil
	}
	if filter.Get("sort_by") != "scheduled_at-asc" { // otherwise the newest first
		all = slices.Clone(all)
		slices.SortFunc(all, func(a, b Customer) int { return cmp.Compare(b.ID, a.ID) })
	}
	first := min(from.Start, len(all))
	last := min(first+limit, len(all))
	charges := make([]chargeJSON, 0, last-first)
	for _, customer := range all[first:last] {
		charges = append(charges, chargeOf(customer))
	}
	page := map[string]any{"charges": charges, "next_cursor": nil, "previous_cursor": nil}
	if last < len(all) {
		page["next_cursor"] = position{last, from.Filter}.cursor()
	}
	if first > 0 {
		page["previous_cursor"] = position{max(0, first-limit), from.Filter}.cursor()
	}
	return jsonAnswer(http.StatusOK, page)
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

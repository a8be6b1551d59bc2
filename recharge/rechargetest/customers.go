package rechargetest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The number of customers on a page of GET /customers.
const (
	defaultLimit = 50
	maxLimit     = 250
)

// customerJSON is a customer as Recharge sends it. Fields that no test sets have fixed values.
type customerJSON struct {
	ID            int64 `json:"id"`
	AnalyticsData struct {
		UTMParams []string `json:"utm_params"`
	} `json:"analytics_data"`
	ApplyCreditToNextCheckoutCharge  bool   `json:"apply_credit_to_next_checkout_charge"`
	ApplyCreditToNextRecurringCharge bool   `json:"apply_credit_to_next_recurring_charge"`
	CreatedAt                        string `json:"created_at"`
	Email                            string `json:"email"`
	ExternalCustomerID               struct {
		Ecommerce *string `json:"ecommerce"`
	} `json:"external_customer_id"`
	FirstChargeProcessedAt          *string `json:"first_charge_processed_at"`
	FirstName                       string  `json:"first_name"`
	HasPaymentMethodInDunning       bool    `json:"has_payment_method_in_dunning"`
	HasValidPaymentMethod           bool    `json:"has_valid_payment_method"`
	Hash                            string  `json:"hash"`
	LastName                        string  `json:"last_name"`
	Phone                           *string `json:"phone"`
	SubscriptionRelatedChargeStreak int     `json:"subscription_related_charge_streak"`
	SubscriptionsActiveCount        int     `json:"subscriptions_active_count"`
	SubscriptionsTotalCount         int     `json:"subscriptions_total_count"`
	TaxExempt                       bool    `json:"tax_exempt"`
	UpdatedAt                       string  `json:"updated_at"`
}

func toJSON(c Customer) customerJSON {
	j := customerJSON{
		ID: c.ID, Hash: c.Hash, Email: c.Email, FirstName: c.FirstName, LastName: c.LastName,
		// Both spellings of a date have been seen in one answer.
		CreatedAt: "2024-03-09T02:36:35", UpdatedAt: "2025-04-02T10:11:12+00:00",
		HasValidPaymentMethod:    true,
		SubscriptionsActiveCount: len(c.Subscriptions), SubscriptionsTotalCount: len(c.Subscriptions),
	}
	j.AnalyticsData.UTMParams = []string{}
	if c.ShopifyCustomerID != "" {
		j.ExternalCustomerID.Ecommerce = &c.ShopifyCustomerID
	}
	if len(c.Subscriptions) > 0 {
		charged := "2024-03-09T02:37:30"
		j.FirstChargeProcessedAt = &charged
		j.SubscriptionRelatedChargeStreak = 1
	}
	return j
}

// customersPage is the answer of GET /customers, in the order of Recharge's.
type customersPage struct {
	NextCursor     *string        `json:"next_cursor"`
	PreviousCursor *string        `json:"previous_cursor"`
	Customers      []customerJSON `json:"customers"`
}

// position is the content of a cursor: a position in a list, and which list.
type position struct {
	Start  int    `json:"start"`
	Filter string `json:"filter"` // the query of the first request, which the following ones do not repeat
}

func (p position) cursor() *string {
	text, err := json.Marshal(p)
	if err != nil {
		return nil // a number and a string cannot fail
	}
	cursor := base64.StdEncoding.EncodeToString(text)
	return &cursor
}

func parseCursor(cursor string) (p position, ok bool) {
	text, err := base64.StdEncoding.DecodeString(cursor)
	if err != nil {
		return position{}, false
	}
	return p, json.Unmarshal(text, &p) == nil && p.Start >= 0
}

func (s *Server) listCustomers(c call) answer {
	w, wrong := c.window()
	if wrong != "" {
		return invalid(wrong)
	}
	if c.faults.IgnoreFilter {
		w.filter.Del("external_customer_id")
		w.filter.Del("email")
	}
	var all []*Customer
	passes, list := matching(w.filter), s.customerList()
	for i := range list {
		if passes(list[i]) {
			all = append(all, &list[i])
		}
	}
	part, next, previous := cut(w, all)
	page := customersPage{next, previous, make([]customerJSON, 0, len(part))}
	for _, x := range part {
		page.Customers = append(page.Customers, toJSON(*x))
	}
	return jsonAnswer(http.StatusOK, page)
}

// window is the part of a list that a request asks for.
type window struct {
	limit  int
	from   position
	filter url.Values
}

// window reads it from a request, and returns the parameter that is refused, or "".
func (c call) window() (w window, wrong string) {
	var ok bool
	if w.limit, ok = parseLimit(c.query.Get("limit")); !ok {
		return w, "limit"
	}
	if w.from, ok = start(c.query); !ok {
		return w, "cursor"
	}
	var err error
	if w.filter, err = url.ParseQuery(w.from.Filter); err != nil {
		return w, "cursor"
	}
	return w, ""
}

// cut returns the part of a list that w asks for, and the cursors of the pages before and after it.
func cut[T any](w window, all []T) (page []T, next, previous *string) {
	first := min(w.from.Start, len(all))
	last := min(first+w.limit, len(all))
	if last < len(all) {
		next = position{last, w.from.Filter}.cursor()
	}
	if first > 0 {
		previous = position{max(0, first-w.limit), w.from.Filter}.cursor()
	}
	return all[first:last], next, previous
}

func parseLimit(text string) (limit int, ok bool) {
	if text == "" {
		return defaultLimit, true
	}
	limit, err := strconv.Atoi(text)
	return limit, err == nil && limit >= 1 && limit <= maxLimit
}

// start returns where a page begins: at the start of the list that the query selects, or at its cursor, which only
// allows a limit beside it.
func start(query url.Values) (position, bool) {
	if !query.Has("cursor") {
		return position{Filter: query.Encode()}, true
	}
	for name := range query {
		if name != "cursor" && name != "limit" {
			return position{}, false
		}
	}
	return parseCursor(query.Get("cursor"))
}

// matching checks a customer against all filters that are known and not empty. Recharge ignores others silently.
func matching(filter url.Values) func(Customer) bool {
	id, email, hash := filter.Get("external_customer_id"), filter.Get("email"), filter.Get("hash")
	var ids []string
	if list := filter.Get("ids"); list != "" {
		ids = strings.Split(list, ",")
	}
	return func(c Customer) bool {
		return (id == "" || c.ShopifyCustomerID == id) &&
			(email == "" || strings.EqualFold(c.Email, email)) &&
			(hash == "" || c.Hash == hash) &&
			(ids == nil || slices.Contains(ids, strconv.FormatInt(c.ID, 10)))
	}
}

func (s *Server) oneCustomer(c call) answer {
	customer, ok := s.customerOf(c)
	if !ok {
		return refusal(http.StatusNotFound)
	}
	if c.faults.OtherRecord {
		customer = s.somebodyElse(customer)
	}
	return jsonAnswer(http.StatusOK, map[string]customerJSON{"customer": toJSON(customer)})
}

// customerOf returns the customer that the path names.
func (s *Server) customerOf(c call) (Customer, bool) {
	id, err := strconv.ParseInt(c.id, 10, 64)
	if err != nil {
		return Customer{}, false
	}
	return s.customerByID(id)
}

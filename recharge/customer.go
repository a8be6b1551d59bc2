package recharge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
)

// Customer is the part of a Recharge customer that we keep: no name, no e-mail address.
type Customer struct {
	ID     int64  // Recharge's id
	Hash   string // a segment of its portal URLs; confidential
	Active int    // subscriptions_active_count
}

// Found is the answer of FindCustomer.
type Found struct {
	Customer Customer
	// Alert is FilterIgnored if the answer held other people's records, too: this
	// shopper was among the first, the next may not be. It is nil otherwise.
	Alert error
}

// hashShape is as wide as the hashes seen (16 hex, 30 hex, 24 characters
// beginning with the id) and too narrow to be anything but a path segment.
var hashShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

type customerRecord struct {
	ID       number `json:"id"`
	Hash     string `json:"hash"`
	Active   int    `json:"subscriptions_active_count"`
	External struct {
		Ecommerce text `json:"ecommerce"`
	} `json:"external_customer_id"`
}

// records are one page of customers. They are decoded afresh, since encoding/json
// fills a slice that it has met before on top of what is in it.
type records []customerRecord

func (r *records) UnmarshalJSON(raw []byte) error {
	var fresh []customerRecord
	err := json.Unmarshal(raw, &fresh)
	*r = fresh
	return err
}

type customerPage struct {
	Customers *records `json:"customers"` // not nil
	Next      text     `json:"next_cursor"`
}

func (c *Client) customerPage(ctx context.Context, g *Grant, p Priority, query url.Values) (customerPage, error) {
	page, err := do[customerPage](ctx, c, g, c.get(p, query, "customers"))
	if err == nil && page.Customers == nil {
		err = &Error{Endpoint: Customers, Reason: Malformed, Status: http.StatusOK}
	}
	return page, err
}

// FindCustomer returns the Recharge customer of a Shopify customer. With priority
// Background it asks once at most.
//
// Recharge ignores parameters that it does not know, so an answer may hold
// anybody's records: only one that names this Shopify customer counts.
// Errors: NoCustomer, FilterIgnored, Ambiguous, and those of any call.
func (c *Client) FindCustomer(ctx context.Context, g *Grant, shopifyID string, p Priority) (Found, error) {
	if shopifyID == "" {
		return Found{}, &Error{Endpoint: Customers, Reason: NoCustomer}
	}
	query := url.Values{"external_customer_id": {shopifyID}, "limit": {"10"}}
	page, err := c.customerPage(ctx, g, p, query)
	if err != nil {
		return Found{}, err
	}
	own := named(*page.Customers, shopifyID)
	strangers := len(own) < len(*page.Customers)
	customer, reason := choose(own)
	if strangers && reason == NoCustomer {
		reason = FilterIgnored
	}
	if reason != "" {
		return Found{}, &Error{Endpoint: Customers, Reason: reason}
	}
	found := Found{Customer: customer}
	if strangers {
		found.Alert = &Error{Endpoint: Customers, Reason: FilterIgnored}
	}
	return found, nil
}

// named returns the records that name this Shopify customer.
func named(all []customerRecord, shopifyID string) []customerRecord {
	var own []customerRecord
	for _, record := range all {
		if string(record.External.Ecommerce) == shopifyID {
			own = append(own, record)
		}
	}
	return own
}

// choose picks one of a shopper's own records. If there are several it picks the one
// with active subscriptions, if exactly one has any. It does not guess.
func choose(own []customerRecord) (Customer, Reason) {
	var active []customerRecord
	for _, record := range own {
		if record.Active > 0 {
			active = append(active, record)
		}
	}
	switch {
	case len(own) == 0:
		return Customer{}, NoCustomer
	case len(own) == 1:
		return own[0].customer()
	case len(active) == 1:
		return active[0].customer()
	}
	return Customer{}, Ambiguous
}

func (r customerRecord) customer() (Customer, Reason) {
	if r.ID <= 0 || !hashShape.MatchString(r.Hash) {
		return Customer{}, Malformed
	}
	return Customer{ID: int64(r.ID), Hash: r.Hash, Active: r.Active}, ""
}

// number is an integer that Recharge sends as a number or as a string.
type number int64

func (n *number) UnmarshalJSON(raw []byte) error {
	var t text
	if err := t.UnmarshalJSON(raw); err != nil {
		return err
	}
	if t == "" { // null
		return nil
	}
	parsed, err := strconv.ParseInt(string(t), 10, 64)
	*n = number(parsed)
	return err
}

// text is a string that Recharge might also send as a number, or null.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	raw = bytes.TrimSpace(raw)
	switch {
	case bytes.Equal(raw, []byte("null")):
		return nil
	case len(raw) > 0 && raw[0] == '"':
		return json.Unmarshal(raw, (*string)(t))
	case len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'):
		*t = text(raw)
		return nil
	}
	return fmt.Errorf("neither text nor a number")
}

package recharge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Customer is the part of a Recharge customer that we keep: no name, no e-mail address.
type Customer struct {
	ID     int64  // Recharge's id
	Hash   string // a segment of its portal URLs; confidential
	Active int    // subscriptions_active_count
}

// Found is the result of FindCustomer.
type Found struct {
	Customer Customer
	// Alert is FilterIgnored if the answer also held other people's records. This shopper was on
	// the first page, but the next one may not be. It is nil otherwise.
	Alert error
}

// hashShape allows all hashes seen so far (16 hex digits, 30 hex digits, 24 characters that begin
// with the id) and nothing but a single path segment.
var hashShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

type customerRecord struct {
	ID       number `json:"id"`
	Hash     string `json:"hash"`
	Active   int    `json:"subscriptions_active_count"`
	External struct {
		Ecommerce text `json:"ecommerce"`
	} `json:"external_customer_id"`
}

// records are one page of customers. They are decoded into a new slice, because encoding/json
// reuses the elements of a slice that it has already filled.
type records []customerRecord

func (r *records) UnmarshalJSON(raw []byte) error {
	var fresh []customerRecord
	err := json.Unmarshal(raw, &fresh)
	*r = fresh
	return err
}

type customerPage struct {
	Customers records `json:"customers"` // not nil
	Next      text    `json:"next_cursor"`
}

func (c *Client) customerPage(ctx context.Context, g *Grant, p Priority, query url.Values) (customerPage, error) {
	page, err := do[customerPage](ctx, c, g, c.get(p, query, "customers"))
	if err == nil && page.Customers == nil {
		err = malformed(Customers)
	}
	return page, err
}

// FindCustomer returns the Recharge customer of a Shopify customer. With priority Background it
// makes at most one call.
//
// Recharge ignores parameters that it does not know, so an answer may hold anybody's records. Only
// those that name this Shopify customer count.
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
	foreign := func(r customerRecord) bool { return string(r.External.Ecommerce) != shopifyID }
	own := slices.DeleteFunc(slices.Clone(page.Customers), foreign)
	strangers := len(own) < len(page.Customers)
	// The same record can be on a page twice.
	slices.SortFunc(own, func(a, b customerRecord) int { return cmp.Compare(a.ID, b.ID) })
	own = slices.CompactFunc(own, func(a, b customerRecord) bool { return a.ID == b.ID })
	customer, err := choose(own)
	found, ignored := Found{Customer: customer}, &Error{Endpoint: Customers, Reason: FilterIgnored}
	switch {
	case strangers && err == nil:
		found.Alert = ignored
	case strangers && Is(err, NoCustomer):
		err = ignored
	}
	return found, err
}

// choose picks one of a shopper's own records. If there are several, it picks the only one with
// active subscriptions. It does not guess.
// Errors: NoCustomer, Ambiguous, Malformed.
func choose(own []customerRecord) (Customer, error) {
	if len(own) > 1 {
		own = slices.DeleteFunc(own, func(r customerRecord) bool { return r.Active <= 0 })
		if len(own) != 1 {
			return Customer{}, &Error{Endpoint: Customers, Reason: Ambiguous}
		}
	}
	if len(own) == 0 {
		return Customer{}, &Error{Endpoint: Customers, Reason: NoCustomer}
	}
	return own[0].customer()
}

// customer returns the part of a record that we keep.
// Errors: Malformed if it cannot be used.
func (r customerRecord) customer() (Customer, error) {
	if r.ID <= 0 || !hashShape.MatchString(r.Hash) {
		return Customer{}, malformed(Customers)
	}
	return Customer{ID: int64(r.ID), Hash: r.Hash, Active: r.Active}, nil
}

// CustomerByID returns a customer by Recharge's id, if the record names this Shopify customer. Use
// it where FindCustomer's filter does not work. Its priority is Normal.
// Errors: NoCustomer if it does not exist or names nobody or somebody else, and those of any call.
func (c *Client) CustomerByID(ctx context.Context, g *Grant, id int64, shopifyID string) (Customer, error) {
	record, err := c.recordByID(ctx, g, id, Normal)
	switch {
	case err != nil:
		return Customer{}, err
	case shopifyID == "" || string(record.External.Ecommerce) != shopifyID || int64(record.ID) != id:
		return Customer{}, &Error{Endpoint: Customers, Reason: NoCustomer}
	}
	return record.customer()
}

// IsEmail reports whether a text is a plain e-mail address, without a name or a host's number, and without what has
// a meaning in a mailto link.
func IsEmail(text string) bool {
	address, err := mail.ParseAddress(text)
	return err == nil && address.Address == text && len(text) <= 254 && !strings.ContainsAny(text, "?&%#[\"\r\n")
}

// ShopifyIDByEmail returns the Shopify id in the record with an e-mail address. It makes one call. Upper and lower
// case are the same. Only records with exactly this address count, and of them only those with a Shopify id.
// Errors: NoCustomer, FilterIgnored, Ambiguous if they name several Shopify customers, and those of any call.
func (c *Client) ShopifyIDByEmail(ctx context.Context, g *Grant, email string, p Priority) (string, error) {
	query := url.Values{"email": {email}, "limit": {"10"}}
	page, err := do[struct {
		Customers []struct {
			Email    text `json:"email"`
			External struct {
				Ecommerce text `json:"ecommerce"`
			} `json:"external_customer_id"`
		} `json:"customers"`
		Next text `json:"next_cursor"`
	}](ctx, c, g, c.get(p, query, "customers"))
	if err == nil && page.Customers == nil {
		err = malformed(Customers)
	}
	if err != nil {
		return "", err
	}
	var ids []string
	strangers := false
	for _, r := range page.Customers {
		own := len(r.Email) == len(email) && strings.EqualFold(string(r.Email), email) // "K" can also be three bytes
		strangers = strangers || !own
		if id := string(r.External.Ecommerce); own && id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	reason := NoCustomer
	switch {
	case len(ids) > 1:
		reason = Ambiguous
	case page.Next != "" || strangers && len(ids) == 0: // others with the address may be on the next page
		reason = FilterIgnored
	case len(ids) == 1:
		return ids[0], nil
	}
	return "", &Error{Endpoint: Customers, Reason: reason}
}

// OwnCustomer returns a customer by a Recharge id that the shop's own middleware vouches for, and
// the Shopify id in the record, or "" if it has none. Its priority is High.
// Errors: NoCustomer, Foreign (an alert) if the record is another customer's, and those of any
// call.
func (c *Client) OwnCustomer(ctx context.Context, g *Grant, id int64) (Customer, string, error) {
	record, err := c.recordByID(ctx, g, id, High)
	switch {
	case err != nil:
		return Customer{}, "", err
	case int64(record.ID) != id:
		return Customer{}, "", &Error{Endpoint: Customers, Reason: Foreign, Status: http.StatusOK}
	}
	customer, err := record.customer()
	return customer, string(record.External.Ecommerce), err
}

func (c *Client) recordByID(ctx context.Context, g *Grant, id int64, p Priority) (*customerRecord, error) {
	answer, err := do[struct {
		Customer *customerRecord `json:"customer"`
	}](ctx, c, g, c.get(p, nil, "customers", strconv.FormatInt(id, 10)))
	switch {
	case Is(err, NotFound):
		return nil, &Error{Endpoint: Customers, Reason: NoCustomer}
	case err == nil && answer.Customer == nil:
		return nil, malformed(Customers)
	}
	return answer.Customer, err
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
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] == '"':
		return json.Unmarshal(raw, (*string)(t))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		*t = text(raw)
		return nil
	}
	return fmt.Errorf("neither text nor a number")
}

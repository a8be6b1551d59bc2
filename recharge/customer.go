package recharge

import (
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
	var own []customerRecord
	for _, record := range page.Customers {
		if string(record.External.Ecommerce) == shopifyID {
			own = append(own, record)
		}
	}
	strangers := len(own) < len(page.Customers)
	customer, err := choose(own)
	if strangers && Is(err, NoCustomer) {
		err = &Error{Endpoint: Customers, Reason: FilterIgnored}
	}
	found := Found{Customer: customer}
	if strangers && err == nil {
		found.Alert = &Error{Endpoint: Customers, Reason: FilterIgnored}
	}
	return found, err
}

// choose picks one of a shopper's own records. If there are several it picks the one
// with active subscriptions, if exactly one has any. It does not guess.
// Errors: NoCustomer, Ambiguous, Malformed.
func choose(own []customerRecord) (Customer, error) {
	var active []customerRecord
	for _, record := range own {
		if record.Active > 0 {
			active = append(active, record)
		}
	}
	switch {
	case len(own) == 0:
		return Customer{}, &Error{Endpoint: Customers, Reason: NoCustomer}
	case len(own) == 1:
		return own[0].customer()
	case len(active) == 1:
		return active[0].customer()
	}
	return Customer{}, &Error{Endpoint: Customers, Reason: Ambiguous}
}

// customer returns the part of a record that we keep.
// Errors: Malformed if it cannot be used.
func (r customerRecord) customer() (Customer, error) {
	if r.ID <= 0 || !hashShape.MatchString(r.Hash) {
		return Customer{}, malformed(Customers)
	}
	return Customer{ID: int64(r.ID), Hash: r.Hash, Active: r.Active}, nil
}

// pageSize is the most that Recharge gives.
const pageSize = 250

// Record is a customer with the id of the Shopify customer that it names.
type Record struct {
	ShopifyID string
	Customer  Customer
}

// Page is one of the pages that hold all customers of a store.
type Page struct {
	Records []Record // those that name a Shopify customer and can be used
	Read    int      // how many records the page held
	Next    string   // the cursor of the next page; "" after the last
}

// CustomerPage returns the page at a cursor, "" being the first. Its priority is
// Background.
// Errors: Invalid or BadRequest if the cursor is no longer valid, and those of any
// call.
func (c *Client) CustomerPage(ctx context.Context, g *Grant, cursor string) (Page, error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if cursor != "" {
		query.Set("cursor", cursor) // beside which Recharge takes nothing but a limit
	}
	answer, err := c.customerPage(ctx, g, Background, query)
	if err != nil {
		return Page{}, err
	}
	page := Page{Read: len(answer.Customers), Next: string(answer.Next)}
	for _, record := range answer.Customers {
		customer, err := record.customer()
		id := string(record.External.Ecommerce)
		if err == nil && id != "" && shopifyIDShape.MatchString(id) {
			page.Records = append(page.Records, Record{id, customer})
		}
	}
	return page, nil
}

// CustomerByID returns a customer by Recharge's id, if that names this Shopify
// customer. It serves where the filter of FindCustomer does not work. Its priority is
// Normal.
// Errors: NoCustomer if it names nobody or somebody else, and those of any call.
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

// OwnCustomer returns a customer by Recharge's id, where the shop's own middleware
// says whose that is, and the Shopify id that the record names; "" if it names none.
// Its priority is High. An answer with another customer's record is an alert.
// Errors: NoCustomer, Foreign, and those of any call.
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

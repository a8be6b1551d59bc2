package recharge

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

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
	page := Page{Read: len(*answer.Customers), Next: string(answer.Next)}
	for _, record := range *answer.Customers {
		customer, reason := record.customer()
		id := string(record.External.Ecommerce)
		if reason == "" && id != "" && shopifyIDShape.MatchString(id) {
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
	return record.checked()
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
	customer, err := record.checked()
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
		return nil, &Error{Endpoint: Customers, Reason: Malformed, Status: http.StatusOK}
	}
	return answer.Customer, err
}

func (r customerRecord) checked() (Customer, error) {
	customer, reason := r.customer()
	if reason != "" {
		return Customer{}, &Error{Endpoint: Customers, Reason: reason, Status: http.StatusOK}
	}
	return customer, nil
}

package recharge

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// pageSize is the most that Recharge gives.
const pageSize = 250

// Record is a customer and the Shopify customer that it names.
type Record struct {
	ShopifyID string
	Customer  Customer
}

// Page is one of the pages that hold all customers of a store.
type Page struct {
	Records []Record // those that name a Shopify customer and can be used
	Read    int      // all that were there
	Next    string   // the cursor of the page behind; "": it was the last
}

type pageAnswer struct {
	customerPage
	Next text `json:"next_cursor"`
}

// CustomerPage returns the page at a cursor, "" being the first. No click waits for
// it: it leaves half of the burst to them.
// Errors: Invalid or BadRequest if the cursor is not good any more, and those of
// any call.
func (c *Client) CustomerPage(ctx context.Context, cursor string) (Page, error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if cursor != "" {
		query.Set("cursor", cursor) // beside which Recharge takes nothing but a limit
	}
	answer, failed := do[pageAnswer](ctx, c, call{
		endpoint: Customers, method: http.MethodGet, path: []string{"customers"}, query: query, header: c.adminHeader(), urgency: spare,
	})
	if failed != nil {
		return Page{}, failed
	}
	if answer.Customers == nil {
		return Page{}, &Error{Endpoint: Customers, Reason: Malformed, Status: http.StatusOK}
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
// customer. It serves where the filter of FindCustomer does not work.
// Errors: NoCustomer if it names nobody or somebody else, and those of any call.
func (c *Client) CustomerByID(ctx context.Context, id int64, shopifyID string) (Customer, error) {
	record, failed := c.recordByID(ctx, id, helpful)
	switch {
	case failed != nil:
		return Customer{}, failed
	case shopifyID == "" || string(record.External.Ecommerce) != shopifyID || int64(record.ID) != id:
		return Customer{}, &Error{Endpoint: Customers, Reason: NoCustomer}
	}
	return record.checked()
}

// OwnCustomer returns a customer by Recharge's id, where the shop's own middleware
// says whose that is, and the Shopify id that the record names; "" none. Another
// customer's record is an alert, and opens nothing.
// Errors: NoCustomer, Foreign, and those of any call.
func (c *Client) OwnCustomer(ctx context.Context, id int64) (customer Customer, shopifyID string, err error) {
	record, failed := c.recordByID(ctx, id, needed)
	switch {
	case failed != nil:
		return Customer{}, "", failed
	case int64(record.ID) != id:
		return Customer{}, "", &Error{Endpoint: Customers, Reason: Foreign, Status: http.StatusOK}
	}
	customer, err = record.checked()
	return customer, string(record.External.Ecommerce), err
}

func (c *Client) recordByID(ctx context.Context, id int64, of urgency) (*customerRecord, *Error) {
	answer, failed := do[struct {
		Customer *customerRecord `json:"customer"`
	}](ctx, c, call{
		endpoint: Customers, method: http.MethodGet, path: []string{"customers", strconv.FormatInt(id, 10)}, header: c.adminHeader(), urgency: of,
	})
	switch {
	case failed != nil && failed.Reason == NotFound:
		return nil, &Error{Endpoint: Customers, Reason: NoCustomer}
	case failed == nil && answer.Customer == nil:
		return nil, &Error{Endpoint: Customers, Reason: Malformed, Status: http.StatusOK}
	}
	return answer.Customer, failed
}

func (r customerRecord) checked() (Customer, error) {
	customer, reason := r.customer()
	if reason != "" {
		return Customer{}, &Error{Endpoint: Customers, Reason: reason, Status: http.StatusOK}
	}
	return customer, nil
}

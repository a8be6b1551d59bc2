package recharge

// This file is for jobs that make many calls, such as the import. No click runs it.

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// pageSize is the largest page that Recharge returns.
const pageSize = 250

// Record is a customer and the id of the Shopify customer that it names.
type Record struct {
	ShopifyID string
	Customer  Customer
}

// Page is one page of a store's customers.
type Page struct {
	Records []Record // the usable ones that name a Shopify customer
	Read    int      // how many records the page held
	Next    string   // the cursor of the next page; "" after the last
}

// CustomerPage returns the page at a cursor; "" is the first page. Its priority is Background.
// Errors: Invalid or BadRequest if the cursor has expired, and those of any call.
func (c *Client) CustomerPage(ctx context.Context, g *Grant, cursor string) (Page, error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if cursor != "" {
		query.Set("cursor", cursor) // Recharge accepts only a limit beside it
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

// Charges is the name of GET /charges in errors and metrics.
const Charges = "charges"

// chargesPage is how many charges are read at once. Each comes with its addresses and line items,
// so a page of pageSize could be larger than maxBody.
const chargesPage = "100"

// Charge is a charge that Recharge will make.
type Charge struct {
	CustomerID int64     // Recharge's id
	Day        time.Time // the start of the day, in UTC
}

// ChargePage is one page of a store's queued charges.
type ChargePage struct {
	Charges []Charge // the usable ones, soonest first
	Next    string   // the cursor of the next page; "" after the last
}

// ChargePage returns the page at a cursor; "" is the first page. The token needs the scope
// read_orders. Its priority is Background.
// Errors: Invalid or BadRequest if the cursor has expired, and those of any call.
func (c *Client) ChargePage(ctx context.Context, g *Grant, cursor string) (ChargePage, error) {
	query := url.Values{"limit": {chargesPage}, "status": {"queued"}, "sort_by": {"scheduled_at-asc"}}
	if cursor != "" {
		query = url.Values{"limit": {chargesPage}, "cursor": {cursor}}
	}
	answer, err := do[struct {
		Charges *[]struct {
			Customer  customerRecord `json:"customer"`
			Scheduled text           `json:"scheduled_at"` // a day, with or without a time
		} `json:"charges"`
		Next text `json:"next_cursor"`
	}](ctx, c, g, c.get(Background, query, Charges))
	if err == nil && answer.Charges == nil {
		err = malformed(Charges)
	}
	if err != nil {
		return ChargePage{}, err
	}
	page := ChargePage{Next: string(answer.Next)}
	for _, charge := range *answer.Charges {
		date, _, _ := strings.Cut(string(charge.Scheduled), "T")
		day, err := time.Parse(time.DateOnly, date)
		if err == nil && charge.Customer.ID > 0 {
			page.Charges = append(page.Charges, Charge{int64(charge.Customer.ID), day})
		}
	}
	return page, nil
}

// WaitBackground waits for the next turn of a job that makes many calls, such as an import. This
// process spends at most half of the token's rate on such jobs. calls is how many the turn is for. It
// returns false if ctx ends first.
func (l *Limiter) WaitBackground(ctx context.Context, calls float64) bool {
	l.mu.Lock()
	now := l.now()
	delay := max(0, l.background.Sub(now))
	l.background = now.Add(delay + time.Duration(2*calls/l.bucket.Rate*float64(time.Second)))
	l.mu.Unlock()
	return Wait(ctx, delay)
}

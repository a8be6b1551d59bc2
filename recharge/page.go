package recharge

// This file is for jobs that make many calls, such as the import. No click runs it.

import (
	"context"
	"net/url"
	"strconv"
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

package recharge_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// TestShopifyIDByEmail checks that only records with exactly this address count, and of them only those with a Shopify id.
func TestShopifyIDByEmail(t *testing.T) {
	t.Parallel()
	const pat = "pat@example.test"
	one := func(email, external string) string {
		return fmt.Sprintf(`{"id":1,"hash":"a","email":%s,"external_customer_id":%s}`, email, external)
	}
	next := func(body string) string { return strings.Replace(body, `"next_cursor":null`, `"next_cursor":"x"`, 1) }
	mine, his, hers := strconv.Quote(pat), strconv.Quote("expat@example.test"), one(strconv.Quote("kim@example.test"), another)
	for name, test := range map[string]struct {
		body   string
		want   string
		reason recharge.Reason
	}{
		"one":                           {pageOf(one(mine, own)), shopifyID, ""},
		"in capitals":                   {pageOf(one(`"PAT@Example.test"`, own)), shopifyID, ""},
		"a letter that folds to a k":    {pageOf(one(`"pat@example.te\u017ft"`, own)), "", recharge.FilterIgnored},
		"twice, of one customer":        {pageOf(one(mine, own), one(mine, own)), shopifyID, ""},
		"of two customers":              {pageOf(one(mine, own), one(mine, another)), "", recharge.Ambiguous},
		"of two customers, and a guest": {pageOf(one(mine, `{"ecommerce":null}`), one(mine, own)), shopifyID, ""},
		"a guest":                       {pageOf(one(mine, `{"ecommerce":null}`)), "", recharge.NoCustomer},
		"no external id":                {pageOf(one(mine, `null`)), "", recharge.NoCustomer},
		"none":                          {pageOf(), "", recharge.NoCustomer},
		"a longer address":              {pageOf(one(his, another)), "", recharge.FilterIgnored},
		"beside a longer address":       {pageOf(one(his, another), one(mine, own)), shopifyID, ""},
		"strangers only":                {pageOf(hers, hers), "", recharge.FilterIgnored},
		"no address":                    {pageOf(one(`null`, own)), "", recharge.FilterIgnored},
		"on the first of several pages": {next(pageOf(one(mine, own), hers)), "", recharge.FilterIgnored},
		"two, and more pages":           {next(pageOf(one(mine, own), one(mine, another))), "", recharge.Ambiguous},
		"no list":                       {`{}`, "", recharge.Malformed},
		"no JSON":                       {`<html>`, "", recharge.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(test.body), says(test.body))
			c := newClient(t, srv.URL)
			got, err := c.ShopifyIDByEmail(t.Context(), free(c), pat, recharge.Normal)
			checkReason(t, "ShopifyIDByEmail", err, test.reason)
			if got != test.want {
				t.Errorf("ShopifyIDByEmail = %q; want %q", got, test.want)
			}
		})
	}
}

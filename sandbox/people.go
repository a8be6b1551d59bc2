package sandbox

import (
	"fmt"
	"strconv"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// shoppers returns the accounts of every store.
func shoppers() []shopifytest.Shopper {
	return []shopifytest.Shopper{
		{ID: "6100200300400", Email: "pat@example.test", FirstName: "Pat", LastName: "Doe", Note: "has two subscriptions"},
		{ID: "6100200300500", Email: "robin@example.test", FirstName: "Robin", LastName: "Roe", Note: "never subscribed"},
		{ID: "6100200300600", Email: "sam@example.test", FirstName: "Sam", LastName: "Poe",
			Note: "has two Recharge records, one of them active"},
	}
}

// customers returns the store's customers at Recharge. Shopify does not have all of a headless store's.
func (k kind) customers() []rechargetest.Customer {
	all := customers()
	if k.shop == "sandbox-tea.myshopify.com" {
		all = append(all, rechargetest.Customer{
			ID: 70100500, Hash: "5e4d3c2b1a098877",
			Email: "kim@example.test", FirstName: "Kim", LastName: "Lee",
			Subscriptions: []rechargetest.Subscription{{ID: 50500800, Product: "First Flush, 100 g"}},
		})
	}
	return all
}

// subscribers returns customers for a campaign.
func subscribers(n int) []rechargetest.Customer {
	var all []rechargetest.Customer
	for i := range n {
		all = append(all, rechargetest.Customer{
			ID: 70200000 + int64(i), Hash: fmt.Sprintf("%016x", 0x5ab5c1be00000000+i),
			ShopifyCustomerID: strconv.Itoa(6200000000000 + i),
			Email:             fmt.Sprintf("subscriber%d@example.test", i+1),
			FirstName:         "Subscriber", LastName: strconv.Itoa(i + 1),
			Subscriptions: []rechargetest.Subscription{{ID: 50200000 + int64(i), Product: "Morning House, 250 g"}},
		})
	}
	return all
}

// customers returns Recharge's customers. A stranger comes first, so that code that takes the first
// record of an unfiltered page opens the wrong portal.
func customers() []rechargetest.Customer {
	type subscriptions = []rechargetest.Subscription
	return []rechargetest.Customer{
		{
			ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999",
			Email: "stranger@example.test", FirstName: "Someone", LastName: "Else",
			Subscriptions: subscriptions{{ID: 50999001, Product: "Night Shift, 1 kg"}},
		}, {
			ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400",
			Email: "pat@example.test", FirstName: "Pat", LastName: "Doe",
			Subscriptions: subscriptions{
				{ID: 50500600, Product: "Morning House, 250 g"}, {ID: 50500601, Product: "Slow Sunday, 250 g"},
			},
		}, {
			ID: 70100300, Hash: "2e3d4c5b6a798811", ShopifyCustomerID: "6100200300600",
			Email: "sam.old@example.test", FirstName: "Sam", LastName: "Poe",
		}, {
			ID: 70100301, Hash: "70100301a1b2c3d4e5f60718", ShopifyCustomerID: "6100200300600",
			Email: "sam@example.test", FirstName: "Sam", LastName: "Poe",
			Subscriptions: subscriptions{{ID: 50500700, Product: "Night Shift, 500 g"}},
		},
	}
}

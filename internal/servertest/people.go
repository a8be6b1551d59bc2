package servertest

import (
	"fmt"
	"slices"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// Pat's record at Recharge.
const (
	PatsRecord = int64(70100200)
	PatsHash   = "1f2e3d4c5b6a7988"
)

// Customers returns the records at Recharge. The stranger's is the first, so a click that
// takes the first record of an unfiltered page opens the stranger's portal.
func Customers() []rechargetest.Customer {
	one := []rechargetest.Subscription{{ID: 50500600, Product: "Morning House"}}
	return []rechargetest.Customer{
		{
			ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999",
			Email: "robin@example.test", FirstName: "Some", LastName: "Stranger", Subscriptions: one,
		},
		{
			ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: Pat,
			Email: "pat@example.test", FirstName: "Pat", LastName: "Doe", Subscriptions: one,
		},
		{ID: 70100300, Hash: "2e3d4c5b6a798811", ShopifyCustomerID: Sam, FirstName: "Sam", LastName: "Old"},
		{
			ID: 70100301, Hash: "70100301a1b2c3d4e5f60718", ShopifyCustomerID: Sam,
			FirstName: "Sam", LastName: "Poe", Subscriptions: one,
		},
		{
			ID: 70100400, Hash: "3d4c5b6a79881122", ShopifyCustomerID: Kim,
			FirstName: "Kim", LastName: "One", Subscriptions: one,
		},
		{
			ID: 70100401, Hash: "4c5b6a7988112233", ShopifyCustomerID: Kim,
			FirstName: "Kim", LastName: "Two", Subscriptions: one,
		},
	}
}

// Changed returns an edited copy of a record.
func Changed(c rechargetest.Customer, edit func(*rechargetest.Customer)) rechargetest.Customer {
	edit(&c)
	return c
}

// Subscribers returns n more records, each with its own hash.
func Subscribers(n int) []rechargetest.Customer {
	var people []rechargetest.Customer
	for i := range n {
		people = append(people, rechargetest.Customer{
			ID: int64(70200000 + i), Hash: fmt.Sprintf("crowd%019d", i), ShopifyCustomerID: fmt.Sprint(6200000000000 + i),
			Subscriptions: []rechargetest.Subscription{{ID: int64(1000 + i), Product: "Morning House"}},
		})
	}
	return people
}

// Record returns a copy of the record that Recharge has under the id.
func (f *Fixture) Record(id int64) rechargetest.Customer {
	f.T.Helper()
	i := slices.IndexFunc(f.Customers, func(c rechargetest.Customer) bool { return c.ID == id })
	if i < 0 {
		f.T.Fatalf("no record %d", id)
	}
	return f.Customers[i]
}

// PutRecord replaces the record with the same id at Recharge, without sending a webhook.
func (f *Fixture) PutRecord(c rechargetest.Customer) rechargetest.Customer {
	f.T.Helper()
	same := func(other rechargetest.Customer) bool { return other.ID == c.ID }
	f.Customers = slices.DeleteFunc(slices.Clone(f.Customers), same)
	f.Customers = append(f.Customers, c)
	f.Recharge.SetCustomers(f.Customers)
	return c
}

// MoveRecord assigns a record to another shopper, as a merchant's support does in Recharge.
// It sends no webhook, and returns the changed record.
func (f *Fixture) MoveRecord(id int64, to string) rechargetest.Customer {
	f.T.Helper()
	return f.PutRecord(Changed(f.Record(id), func(c *rechargetest.Customer) { c.ShopifyCustomerID = to }))
}

// crowdAtStore returns the first subscribers as shoppers who can sign in to the store.
func crowdAtStore() []shopifytest.Shopper {
	var shoppers []shopifytest.Shopper
	for _, person := range Subscribers(8) {
		shoppers = append(shoppers, shopifytest.Shopper{ID: person.ShopifyCustomerID})
	}
	return shoppers
}

// AddSubscribers gives Recharge records for so many subscribers, besides Customers.
func (f *Fixture) AddSubscribers(shoppers int) []rechargetest.Customer {
	people := Subscribers(shoppers)
	f.Recharge.SetCustomers(append(people, Customers()...))
	return people
}

package recharge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestCustomerPages reads all customers of a store, 250 a call.
func TestCustomerPages(t *testing.T) {
	t.Parallel()
	var people []rechargetest.Customer
	for i := range 600 {
		people = append(people, rechargetest.Customer{ID: int64(i + 1), Hash: fmt.Sprintf("%016x", i), ShopifyCustomerID: fmt.Sprint(6100 + i)})
	}
	people[7].ShopifyCustomerID = "" // null: a customer without an account
	people[8].Hash = "../8"
	srv := rechargetest.NewServer(rechargetest.Options{Tokens: []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers"}}}, Customers: people})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	seen, read, cursor := map[string]recharge.Customer{}, 0, ""
	for page := 0; ; page++ {
		got, err := customerPage(t.Context(), c, cursor)
		if err != nil || page > 2 {
			t.Fatalf("page %d: %v; want three", page, err)
		}
		read += got.Read
		for _, record := range got.Records {
			seen[record.ShopifyID] = record.Customer
		}
		if cursor = got.Next; cursor == "" {
			break
		}
	}
	if read != 600 || len(seen) != 598 || seen["6107"].ID != 0 || seen["6108"].ID != 0 {
		t.Errorf("%d customers read, %d of them usable; want 600 and 598", read, len(seen))
	}
	if want := (recharge.Customer{ID: 100, Hash: fmt.Sprintf("%016x", 99)}); seen["6199"] != want {
		t.Errorf("6199 is %+v; want %+v", seen["6199"], want)
	}
	_, err := customerPage(t.Context(), c, "not a cursor")
	checkReason(t, "CustomerPage at a bad cursor", err, recharge.Invalid)
}

// TestCustomerPageOfAnything: an answer that is not a page is not taken for an empty one.
func TestCustomerPageOfAnything(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]recharge.Reason{
		`{"customers":[],"next_cursor":null}`: "",
		`{"customers":null}`:                  recharge.Malformed,
		`{}`:                                  recharge.Malformed,
		`[]`:                                  recharge.Malformed,
		`{"customers":[{"id":1}`:              recharge.Malformed,
		`{"customers":[{"id":"x"}]}`:          recharge.Malformed,
		`{"customers":[{"id":1,"external_customer_id":null}]}`:                           "",
		`{"customers":[{"id":1,"hash":"a","external_customer_id":{"ecommerce":"x/y"}}]}`: "",
	} {
		c := newClient(t, newScript(t, answer{body: body}).URL)
		page, err := customerPage(t.Context(), c, "")
		checkReason(t, body, err, want)
		if len(page.Records) != 0 {
			t.Errorf("%s: records %+v; want none", body, page.Records)
		}
	}
}

// TestCustomerByID: a record counts only if it names the shopper.
func TestCustomerByID(t *testing.T) {
	t.Parallel()
	single := fixture(t, "customer_single_2021_11_hash_30hex")
	want := recharge.Customer{ID: 70100200, Hash: "0a1b2c3d4e5f60718293a4b5c6d7e8", Active: 1}
	for _, test := range []struct {
		name, body string
		status     int
		id         int64
		who        string
		reason     recharge.Reason
	}{
		{"theirs", single, 200, want.ID, "6100200300400", ""},
		{"another shopper's", single, 200, want.ID, "6100200300401", recharge.NoCustomer},
		{"nobody's", strings.ReplaceAll(single, `"6100200300400"`, "null"), 200, want.ID, "", recharge.NoCustomer},
		{"another record", single, 200, want.ID + 1, "6100200300400", recharge.NoCustomer},
		{"gone", fixture(t, "error_404"), 404, want.ID, "6100200300400", recharge.NoCustomer},
		{"nothing", `{}`, 200, want.ID, "6100200300400", recharge.Malformed},
		{"a bad hash", strings.ReplaceAll(single, want.Hash, "a/b"), 200, want.ID, "6100200300400", recharge.Malformed},
		{"refused", fixture(t, "error_401"), 401, want.ID, "6100200300400", recharge.Unauthorized},
	} {
		srv := newScript(t, answer{status: test.status, body: test.body})
		got, err := customerByID(t, srv.URL, test.id, test.who)
		checkReason(t, test.name, err, test.reason)
		if ok := cmp.Equal(got, want); ok != (test.reason == "") {
			t.Errorf("%s: CustomerByID = %+v", test.name, got)
		}
		if path := srv.requests()[0].path; path != fmt.Sprint("/customers/", test.id) {
			t.Errorf("%s: asked at %s", test.name, path)
		}
	}
}

// TestChargePages: the queued charges are read soonest first. An answer that is not a page is not taken for an empty
// one, and a charge that cannot be used is left out.
func TestChargePages(t *testing.T) {
	t.Parallel()
	day := time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	var people []rechargetest.Customer
	for i := range 250 {
		due := day.Add(time.Duration(250-i)*24*time.Hour + 9*time.Hour)
		people = append(people, rechargetest.Customer{ID: int64(i + 1), Hash: "h", NextCharge: due}, rechargetest.Customer{ID: int64(1000 + i)})
	}
	srv := rechargetest.NewServer(rechargetest.Options{Tokens: []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_orders"}}}, Customers: people})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	var all []recharge.Charge
	for page, cursor := 0, ""; page == 0 || cursor != ""; page++ {
		got, err := c.ChargePage(t.Context(), free(c), cursor)
		if err != nil || page > 2 {
			t.Fatalf("page %d: %v; want three", page, err)
		}
		all, cursor = append(all, got.Charges...), got.Next
	}
	for i, charge := range all {
		if want := (recharge.Charge{CustomerID: int64(250 - i), Day: day.AddDate(0, 0, i+1)}); charge != want {
			t.Fatalf("charge %d is %+v; want %+v", i, charge, want)
		}
	}
	if len(all) != 250 {
		t.Errorf("%d charges; want 250", len(all))
	}
	for body, want := range map[string]struct {
		reason  recharge.Reason
		charges int
	}{
		`{"charges":[],"next_cursor":null}`:     {},
		`{"charges":null}`:                      {reason: recharge.Malformed},
		`{}`:                                    {reason: recharge.Malformed},
		`{"charges":[{"customer":{"id":"x"}}]}`: {reason: recharge.Malformed},
		`{"charges":[{"customer":{"id":"7"},"scheduled_at":"2025-01-02T00:00:00"}]}`: {charges: 1},
		`{"charges":[{"customer":{"id":7},"scheduled_at":"2025-01-02"}]}`:            {charges: 1},
		`{"charges":[{"customer":{"id":7},"scheduled_at":null}]}`:                    {},
		`{"charges":[{"customer":null,"scheduled_at":"2025-01-02"}]}`:                {},
	} {
		c := newClient(t, newScript(t, answer{body: body}).URL)
		page, err := c.ChargePage(t.Context(), free(c), "")
		checkReason(t, body, err, want.reason)
		if len(page.Charges) != want.charges || want.charges > 0 && page.Charges[0] != (recharge.Charge{CustomerID: 7, Day: day}) {
			t.Errorf("%s: charges %+v; want %d", body, page.Charges, want.charges)
		}
	}
}

func customerByID(t *testing.T, url string, id int64, shopifyID string) (recharge.Customer, error) {
	c := newClient(t, url)
	return c.CustomerByID(t.Context(), free(c), id, shopifyID)
}

// TestWaitBackground: a job that makes many calls spends half of the token's rate.
func TestWaitBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := emulated(t, rechargetest.Options{}, func(o *recharge.Options) { o.Now = time.Now })
		start := time.Now()
		for range 101 {
			if !c.Limiter().WaitBackground(t.Context(), 1) {
				t.Fatal("WaitBackground = false")
			}
		}
		if took := time.Since(start); took != 100*time.Second {
			t.Errorf("101 turns took %v; want 100s, at 2 calls a second", took)
		}
		if _, err := customerPage(t.Context(), c, ""); err != nil {
			t.Errorf("CustomerPage = %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c.Limiter().WaitBackground(ctx, 1) {
			t.Error("WaitBackground of a context that is over = true; want false")
		}
	})
}

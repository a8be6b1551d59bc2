package recharge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

const ourAddress = "https://app.example/webhooks/recharge/fixture-shop/KEY"

func ours(address string) bool { return strings.HasPrefix(address, "https://app.example/") }

// TestKeepWebhooks: each topic has one webhook afterwards, and all others are left alone.
func TestKeepWebhooks(t *testing.T) {
	srv, o := inspected(t, "read_customers")
	client := recharge.NewClient(o)
	calls := func(do func() error) int {
		t.Helper()
		srv.ResetRequests()
		if err := do(); err != nil {
			t.Errorf("%v", err)
		}
		return len(srv.Requests())
	}
	keep := func(address string) func() error {
		return func() error { return client.KeepWebhooks(t.Context(), free(client), address, false, ours) }
	}
	check := func(when, address string, more int) {
		t.Helper()
		all := srv.Webhooks()
		count := 0
		for topic, addresses := range all {
			for _, got := range addresses {
				count++
				want := address
				if topic == "recharge/uninstalled" {
					want += "/uninstalled"
				}
				if ours(got) && got != want {
					t.Errorf("%s: %s goes to %q; want %q", when, topic, got, want)
				}
			}
		}
		if count != 6+more {
			t.Errorf("%s: there are %v; want six of ours and %d others", when, all, more)
		}
	}
	if got := calls(keep(ourAddress)); got != 7 {
		t.Errorf("at first it makes %d calls; want one to list webhooks and six to add them", got)
	}
	check("at first", ourAddress, 0)
	if got := calls(keep(ourAddress)); got != 1 {
		t.Errorf("when all is well it makes %d calls; want one", got)
	}
	// The webhooks of another program that uses the same token.
	for i := range 3 {
		add(t, srv, "customer/updated", fmt.Sprintf("https://other.example/%d", i))
	}
	add(t, srv, "customer/updated", ourAddress) // twice
	calls(keep(ourAddress))
	check("with some twice", ourAddress, 3)
	calls(keep("https://app.example/webhooks/recharge/fixture-shop/ANOTHER"))
	check("at another address", "https://app.example/webhooks/recharge/fixture-shop/ANOTHER", 3)
	calls(func() error { return client.KeepWebhooks(t.Context(), free(client), "", false, ours) })
	if all := srv.Webhooks(); len(all) != 1 || len(all["customer/updated"]) != 3 {
		t.Errorf("after KeepWebhooks without an address there are %v; want the others'", all)
	}
}

// TestKeepWebhooksRefused: a topic that Recharge refuses does not stop the others.
func TestKeepWebhooksRefused(t *testing.T) {
	srv, o := inspected(t, "read_customers")
	for i := range 10 {
		add(t, srv, "customer/created", fmt.Sprintf("https://other.example/%d", i))
	}
	client := recharge.NewClient(o)
	err := client.KeepWebhooks(t.Context(), free(client), ourAddress, false, ours)
	if !recharge.Is(err, recharge.Invalid) {
		t.Errorf("KeepWebhooks with one topic full = %v; want the refusal reported", err)
	}
	if all := srv.Webhooks(); len(all) != 6 || len(all["customer/created"]) != 10 {
		t.Errorf("there are %v; want five of ours", all)
	}
	srv.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	if err := client.KeepWebhooks(t.Context(), free(client), ourAddress, false, ours); !recharge.Is(err, recharge.Unreachable) {
		t.Errorf("KeepWebhooks with Recharge down = %v; want unreachable", err)
	}
}

// add registers a webhook without the client.
func add(t *testing.T, srv *rechargetest.Server, topic, address string) {
	t.Helper()
	srv.AddWebhook(adminToken, topic, address)
}

// TestWebhookPages: our webhooks are found even behind a first page of others.
func TestWebhookPages(t *testing.T) {
	srv, o := inspected(t, "read_customers")
	client := recharge.NewClient(o)
	for i := range 300 {
		add(t, srv, "store/updated", fmt.Sprintf("https://other.example/%d", i))
	}
	if err := client.KeepWebhooks(t.Context(), free(client), ourAddress, false, ours); err != nil {
		t.Fatal(err)
	}
	srv.ResetRequests()
	if err := client.KeepWebhooks(t.Context(), free(client), ourAddress, false, ours); err != nil || len(srv.Requests()) != 2 {
		t.Errorf("KeepWebhooks of two pages = %v with %d calls; want two", err, len(srv.Requests()))
	}
	if err := client.KeepWebhooks(t.Context(), free(client), "", false, ours); err != nil {
		t.Error(err)
	}
	if all := srv.Webhooks(); len(all) != 1 || len(all["store/updated"]) != 300 {
		t.Errorf("after KeepWebhooks without an address %d topics and %d others are left; want one and 300", len(all), len(all["store/updated"]))
	}
}

// TestKeepUpcoming: charge/upcoming is registered only if asked for, and removed when it is not any more.
func TestKeepUpcoming(t *testing.T) {
	srv, o := inspected(t, "read_customers", "read_orders")
	client := recharge.NewClient(o)
	for _, upcoming := range []bool{false, true, true, false} {
		if err := client.KeepWebhooks(t.Context(), free(client), ourAddress, upcoming, ours); err != nil {
			t.Fatal(err)
		}
		if got := srv.Webhooks()["charge/upcoming"]; (len(got) == 1 && got[0] == ourAddress) != upcoming || len(got) > 1 {
			t.Errorf("upcoming %v: charge/upcoming goes to %v", upcoming, got)
		}
	}
	srv, o = inspected(t, "read_customers")
	client = recharge.NewClient(o)
	err := client.KeepWebhooks(t.Context(), free(client), ourAddress, true, ours)
	if !recharge.Is(err, recharge.Forbidden) || len(srv.Webhooks()) != 6 {
		t.Errorf("without read_orders: %v, and %v; want the refusal reported, and the six others", err, srv.Webhooks())
	}
}

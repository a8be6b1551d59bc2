package server_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge/rechargetest"
)

// second runs another server on the same Redis, and returns where both are.
func (f *fixture) second(change ...func(*config.Settings)) []string {
	f.t.Helper()
	first := f.public
	f.run(change...)
	return []string{first, f.public}
}

// crowd makes shoppers known to the fixture's Recharge.
func (f *fixture) crowd(shoppers int) []rechargetest.Customer {
	people := crowd(shoppers)
	f.recharge.SetCustomers(append(people, customers()...))
	return people
}

// clickAt clicks at one server, and returns where to. It is nobody else's portal.
func (f *fixture) clickAt(client *http.Client, server string, who rechargetest.Customer, page string) string {
	query := f.store.SignedQuery("", who.ShopifyCustomerID, "/apps/subscriptions", appSecret)
	response, err := client.Get("http://" + server + "/apps/subscriptions" + page + "?" + query)
	if err != nil {
		f.t.Errorf("a click: %v", err)
		return ""
	}
	_ = response.Body.Close()
	location := response.Header.Get("Location")
	if location != "" && !strings.Contains(location, "/"+who.Hash+"/") {
		f.t.Errorf("%s is sent to %s; want their own portal", who.ShopifyCustomerID, location)
	}
	if response.StatusCode >= 500 || location == "" && response.StatusCode != http.StatusOK {
		f.t.Errorf("a click is answered %d, to %q", response.StatusCode, location)
	}
	return location
}

// TestOneLookupEverywhere: a thousand simultaneous first clicks of one shopper, on
// two servers, cost what one does.
func TestOneLookupEverywhere(t *testing.T) {
	f := start(t)
	servers := f.second()
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	client := newClicker(t)
	who := customers()[1]
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			<-begin
			if location := f.clickAt(client, servers[i%2], who, ""); !strings.Contains(location, "token=") {
				t.Errorf("click %d goes to %q; want a signed-in link", i, location)
			}
		})
	}
	close(begin)
	all.Wait()
	if diff := cmp.Diff(oneOfEach(), f.calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestTwoPagesOnTwoServers: one access does for both pages, and each click gets its own.
func TestTwoPagesOnTwoServers(t *testing.T) {
	f := start(t)
	servers := f.second()
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	client := newClicker(t)
	var all sync.WaitGroup
	for i, page := range []string{"/subscriptions", "/orders"} {
		all.Go(func() {
			if location := f.clickAt(client, servers[i], customers()[1], page); !strings.Contains(location, page+"?token=") {
				t.Errorf("a click on %s goes to %q", page, location)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(oneOfEach(), f.calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestFailureIsNotMultiplied: where Recharge is down, a hundred clicks find out once at
// each server.
func TestFailureIsNotMultiplied(t *testing.T) {
	f := start(t, func(s *config.Settings) { s.RechargeTimeout = "500ms" })
	servers := f.second(func(s *config.Settings) { s.RechargeTimeout = "500ms" })
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Status, r.Latency = 500, 100*time.Millisecond })
	client := newClicker(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { f.clickAt(client, servers[i%2], customers()[1], "") })
	}
	all.Wait()
	if calls := f.calls(); calls["customers"] > 4 {
		t.Errorf("calls = %v; want one of each server, and its second try", calls)
	}
}

// counted waits until each of two servers has said that it is there since the other
// has: so each knows of both.
func (f *fixture) counted() {
	f.t.Helper()
	said := func() []string { return strings.Split(f.redis.Dump()["ms2:instances"], "\n") }
	var before []string
	f.until("both are there", func() bool { before = said(); return len(before) == 4 })
	f.until("both have counted", func() bool {
		return !slices.ContainsFunc(said(), func(line string) bool { return len(line) < 20 && slices.Contains(before, line) })
	})
}

// TestOneBudget: two servers together spend one burst, with Redis and without.
func TestOneBudget(t *testing.T) {
	for _, redis := range []string{"there", "gone"} {
		t.Run("Redis is "+redis, func(t *testing.T) {
			t.Parallel()
			limit := func(s *config.Settings) { s.RechargeRate = "2,40" }
			f := start(t, limit)
			servers := f.second(limit)
			people := f.crowd(120)
			f.counted()
			f.calls()
			if redis == "gone" {
				f.redis.Stop()
			}
			client := newClicker(t)
			begun := time.Now()
			var all sync.WaitGroup
			for i, who := range people {
				all.Go(func() { f.clickAt(client, servers[i%2], who, "") })
			}
			all.Wait()
			calls := 0
			for _, n := range f.calls() {
				calls += n
			}
			// The burst, what leaks meanwhile, and those who wait a second.
			most := 40 + 2*int(time.Since(begun).Seconds()+1) + 2
			if calls < 20 || calls > most {
				t.Errorf("%d calls; want the burst, 40, and at most %d", calls, most)
			}
		})
	}
}

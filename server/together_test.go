package server_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestOneLookupEverywhere: a hundred simultaneous first clicks of one shopper, on two servers, make
// the calls of one.
func TestOneLookupEverywhere(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	servers := f.Second()
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	client := servertest.NewClient(t)
	who := servertest.Customers()[1]
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			<-begin
			if location := f.LocationAt(client, servers[i%2], who, ""); !strings.Contains(location, "token=") {
				t.Errorf("click %d goes to %q; want a signed-in link", i, location)
			}
		})
	}
	close(begin)
	all.Wait()
	if diff := cmp.Diff(servertest.OneCallEach(), f.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestTwoPagesOnTwoServers: one portal access serves both pages, and each click gets its own page.
func TestTwoPagesOnTwoServers(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	servers := f.Second()
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Latency = 100 * time.Millisecond })
	client := servertest.NewClient(t)
	var all sync.WaitGroup
	for i, page := range []string{"/subscriptions", "/orders"} {
		all.Go(func() {
			if location := f.LocationAt(client, servers[i], servertest.Customers()[1], page); !strings.Contains(location, page+"?token=") {
				t.Errorf("a click on %s goes to %q", page, location)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(servertest.OneCallEach(), f.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestFailureIsNotMultiplied: while Recharge is down, a hundred clicks find out once at each server.
func TestFailureIsNotMultiplied(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.RechargeTimeout = "500ms" })
	servers := f.Second(func(s *config.Settings) { s.RechargeTimeout = "500ms" })
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status, r.Latency = 500, 100*time.Millisecond })
	client := servertest.NewClient(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { f.LocationAt(client, servers[i%2], servertest.Customers()[1], "") })
	}
	all.Wait()
	if calls := f.Calls(); calls["customers"] > 4 {
		t.Errorf("calls = %v; want one of each server, and its second try", calls)
	}
}

// counted waits until each of two servers has registered after the other did, so that each has counted
// both.
func counted(f *servertest.Fixture) {
	f.T.Helper()
	said := func() []string { return strings.Split(f.Redis.Dump()["ms2:instances"], "\n") }
	var before []string
	f.Until("both are there", func() bool { before = said(); return len(before) == 4 })
	f.Until("both have counted", func() bool {
		return !slices.ContainsFunc(said(), func(line string) bool { return len(line) < 20 && slices.Contains(before, line) })
	})
}

// TestOneBudget: two servers together spend one burst, with Redis and without.
func TestOneBudget(t *testing.T) {
	t.Parallel()
	for _, redis := range []string{"there", "gone"} {
		t.Run("Redis is "+redis, func(t *testing.T) {
			t.Parallel()
			limit := func(s *config.Settings) { s.RechargeRate = "2,40" }
			f := servertest.Start(t, limit)
			servers := f.Second(limit)
			people := f.AddSubscribers(120)
			counted(f)
			f.Calls()
			if redis == "gone" {
				f.Redis.Stop()
			}
			client := servertest.NewClient(t)
			begun := time.Now()
			var all sync.WaitGroup
			// With more at once, some would wait too long for a connection to Redis on a busy machine,
			// and then count without it.
			room := make(chan struct{}, 30)
			for i, who := range people {
				room <- struct{}{}
				all.Go(func() { f.LocationAt(client, servers[i%2], who, ""); <-room })
			}
			all.Wait()
			calls := 0
			for _, n := range f.Calls() {
				calls += n
			}
			// The burst, the calls that are refilled meanwhile, and those that wait a second.
			most := 40 + 2*int(time.Since(begun).Seconds()+1) + 2
			if calls < 20 || calls > most {
				t.Errorf("%d calls; want the burst, 40, and at most %d", calls, most)
			}
		})
	}
}

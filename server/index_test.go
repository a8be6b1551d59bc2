package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/storetest"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
)

// indexed runs a program that remembers all customers: those of the fixture, and so
// many more, who come first.
func indexed(t *testing.T, more int, change ...func(*config.Settings)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{}, log: &logs{}, redis: storetest.Redis(t), index: true}
	f.people = append(crowd(more), customers()...)
	f.begin("new", "/apps/subscriptions", change...)
	return f
}

func (f *fixture) complete() {
	f.t.Helper()
	f.until("the index is complete", func() bool { return f.log.last("index complete") != nil })
}

// pages are the calls of sweeps so far.
func (f *fixture) pages() (pages []rechargetest.Request) {
	for _, request := range f.recharge.Requests() {
		if request.Endpoint == "customers" && !request.Query.Has("external_customer_id") {
			pages = append(pages, request)
		}
	}
	return pages
}

// TestIndex: whoever is in the index clicks without being looked up, and gets
// through when Recharge is down. Whoever is not is looked up.
func TestIndex(t *testing.T) {
	f := indexed(t, 600)
	f.complete()
	if got := len(f.pages()); got != 3 {
		t.Errorf("606 customers took %d calls; want 3", got)
	}
	f.calls()
	for _, who := range []rechargetest.Customer{f.people[0], f.people[300], customers()[1], customers()[3]} {
		f.clickAt(newClicker(t), f.public, who, "")
		if diff := cmp.Diff(map[string]int{"sessions": 1, "portal_access": 1}, f.calls()); diff != "" {
			t.Errorf("the first click of %s: calls (-want +got):\n%s", who.ShopifyCustomerID, diff)
		}
	}
	for who, outcome := range map[string]string{robin: "not_a_subscriber", kim: "not_a_subscriber"} {
		if got := f.click(f.shopper(who), "/apps/subscriptions").outcome(); got != outcome || f.calls()["customers"] != 1 {
			t.Errorf("the first click of %s = %s; want %s, after a lookup", who, got, outcome)
		}
	}
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
	stranger := f.people[100]
	if location := f.clickAt(newClicker(t), f.public, stranger, ""); !strings.Contains(location, stranger.Hash) {
		t.Errorf("with Recharge down, a first click goes to %q; want the shopper's portal", location)
	}
}

func (f *fixture) landAs(who string) rechargetest.Customer {
	return f.land(f.shopper(who), "/apps/subscriptions").Customer
}

// TestIndexWithoutFilter: a store whose filter does not work is served as any
// other, to whoever it is.
func TestIndexWithoutFilter(t *testing.T) {
	f := indexed(t, 0)
	f.complete()
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = true })
	for who, outcome := range map[string]string{pat: "redirected", sam: "redirected", robin: "not_a_subscriber", kim: "not_a_subscriber"} {
		for range 2 {
			opening := f.landAs(who)
			got := f.log.last("click")["outcome"]
			if got != outcome || outcome == "redirected" && opening.ShopifyCustomerID != who || outcome != "redirected" && opening.ID != 0 {
				t.Errorf("the click of %s = %v, in the portal of %q; want %s", who, got, opening.ShopifyCustomerID, outcome)
			}
		}
	}
	// Long after, what is known is looked at again, by Recharge's id.
	f.clock.add(30 * time.Hour)
	f.calls()
	if opening := f.landAs(pat); opening.ShopifyCustomerID != pat || f.log.last("click")["outcome"] != "redirected" {
		t.Errorf("pat's click after 30 hours = %v, in the portal of %q; want redirected, pat's", f.log.last("click")["outcome"], opening.ShopifyCustomerID)
	}
	// And is not believed if the record is somebody else's by then.
	f.clock.add(60 * time.Hour)
	f.recharge.SetCustomers([]rechargetest.Customer{change(f.people[1], func(c *rechargetest.Customer) { c.ShopifyCustomerID = robin })})
	if location := f.click(f.shopper(pat), "/apps/subscriptions").location; location != "" {
		t.Errorf("pat is sent to %q, which is robin's now", location)
	}
}

// TestOneSweep: of two servers one sweeps, and a restart goes on where it was.
func TestOneSweep(t *testing.T) {
	t.Parallel()
	slowly := func(s *config.Settings) { s.RechargeRate = "10,40" } // five pages a second
	f := indexed(t, 2000, slowly)
	f.second(slowly)
	f.until("a few pages are read", func() bool { return len(f.pages()) >= 3 })
	f.restart(func() {}, slowly)
	f.complete()
	var cursors []string
	for _, request := range f.pages() {
		cursors = append(cursors, request.Query.Get("cursor"))
		if request.Status != http.StatusOK {
			t.Errorf("a page is answered %d", request.Status)
		}
	}
	slices.Sort(cursors)
	if again := len(cursors) - len(slices.Compact(cursors)); len(cursors) < 9 || again > 1 {
		t.Errorf("the sweep took %d calls, %d of them again; want 9, and the one that was cut off", len(cursors), again)
	}
	who := f.people[1999]
	f.calls()
	f.clickAt(newClicker(t), f.public, who, "")
	if calls := f.calls(); calls["customers"] != 0 {
		t.Errorf("the last customer's first click makes calls %v; want no lookup", calls)
	}
}

// TestSweepGivesWay: a sweep stops for clicks, and goes on after them.
func TestSweepGivesWay(t *testing.T) {
	t.Parallel()
	slowly := func(s *config.Settings) { s.RechargeRate = "4,20" } // two pages a second
	f := indexed(t, 1200, slowly)
	f.until("the sweep has begun", func() bool { return len(f.pages()) > 0 })
	client := newClicker(t)
	var all sync.WaitGroup
	for i := range 40 { // each first click is three calls
		all.Go(func() { f.clickAt(client, f.public, f.people[i], "") })
	}
	all.Wait()
	before := len(f.pages())
	if before > 4 {
		t.Errorf("%d pages were read before and during the clicks; want a few", before)
	}
	f.complete()
}

// TestIndexLearns: what a webhook is about is asked for at once, so that the next
// click need not.
func TestIndexLearns(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"works", "is ignored"} {
		t.Run("the filter "+filter, func(t *testing.T) {
			f := indexed(t, 0, many)
			f.connect()
			f.complete()
			f.recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = filter == "is ignored" })
			const hash = "77777777aaaaaaaa"
			f.recharge.ChangeCustomer(change(customers()[1], func(c *rechargetest.Customer) { c.Hash = hash }))
			created := rechargetest.Customer{ID: 70100999, Hash: "88888888bbbbbbbb", ShopifyCustomerID: robin, Subscriptions: customers()[1].Subscriptions}
			f.recharge.ChangeCustomer(created)
			f.until("both are asked for", func() bool {
				asked := 0
				for _, request := range f.recharge.Requests() {
					ids := request.Query.Get("external_customer_id")
					if request.Status == http.StatusOK && (filter == "works" && (ids == pat || ids == robin) || filter != "works" && strings.HasSuffix(request.Path, fmt.Sprint("/customers/", created.ID))) {
						asked++
					}
				}
				return filter == "works" && asked == 2 || filter != "works" && asked == 1
			})
			f.until("both are known", func() bool { return f.hash(pat) == hash && f.hash(robin) == created.Hash })
			f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
			f.clock.add(2 * time.Hour)
			for who, want := range map[string]string{pat: hash, robin: created.Hash} {
				if got := f.hash(who); got != want {
					t.Errorf("with Recharge down %s is sent to the portal of %q; want %s", who, got, want)
				}
			}
		})
	}
}

// dueNow has the shop's next import begin.
func (f *fixture) dueNow() {
	f.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr})
	defer client.Close()
	if err := client.ZAdd(f.t.Context(), "ms2:shops", redis.Z{Member: shop}).Err(); err != nil {
		f.t.Fatal(err)
	}
}

// TestIndexInAppHome: the merchant sees how far it is.
func TestIndexInAppHome(t *testing.T) {
	t.Parallel()
	f := indexed(t, 600, many)
	f.connect()
	f.complete()
	if _, body := f.ask("/app/health", f.sessionToken(nil), nil); !strings.Contains(body, "606 customers, read just now") {
		t.Errorf("the app home says %s; want that 606 customers were read", body)
	}
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 500 })
	f.dueNow()
	f.until("the next sweep meets the fault", func() bool {
		_, body := f.ask("/app/health", f.sessionToken(nil), nil)
		return strings.Contains(body, "<progress") && strings.Contains(body, "0 customers read so far") && strings.Contains(body, "Recharge is down")
	})
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 0 })
	f.until("it goes on", func() bool { return len(f.log.lines("index complete")) == 2 })
}

// TestIndexGoesWithTheShop: after an uninstall nothing is left of it, though a sweep
// was under way.
func TestIndexGoesWithTheShop(t *testing.T) {
	t.Parallel()
	f := indexed(t, 2000, many, func(s *config.Settings) { s.RechargeRate = "10,40" })
	f.connect()
	f.until("the sweep has begun", func() bool { return len(f.remembered()) > 250 })
	f.webhook("/webhooks/shopify", "app/uninstalled", aboutUninstalled(), appSecret)
	f.until("the sweep has stopped", func() bool {
		before := len(f.pages())
		time.Sleep(time.Second)
		return len(f.pages()) == before
	})
	f.nothingOfTheShop()
	f.dueNow()
	f.until("the shop is on no list any more", func() bool { _, listed := f.redis.Dump()["ms2:shops"]; return !listed })
	if f.log.last("index complete") != nil {
		t.Error("the sweep came to its end")
	}
}

// TestIndexCommand: the command sweeps by itself, says how far it is, and what is
// wrong.
func TestIndexCommand(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.stop()
	f.recharge.SetCustomers(append(crowd(600), customers()...))
	settings := f.settings()
	settings.RechargeRate = "2,40"
	run := func() (string, error) {
		t.Helper()
		cfg, err := settings.Check()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = server.Index(t.Context(), cfg, "", &out, server.WithLog(slog.New(slog.NewJSONHandler(f.log, nil))))
		return out.String(), err
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "customers so far") || !strings.Contains(out, "[####################] done: 606 customers in 3 calls") {
		t.Errorf("index = %v, and says %q", err, out)
	}
	out, err = run()
	if err != nil || !strings.Contains(out, " %, ") || !strings.Contains(out, "customers of about 606") {
		t.Errorf("index again = %v, and says %q; want how much of the last time it has read", err, out)
	}
	f.recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 401 })
	if out, err = run(); err == nil || !strings.Contains(err.Error(), "does not take the token") {
		t.Errorf("index with a bad token = %v, and says %q", err, out)
	}
}

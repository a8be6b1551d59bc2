package importer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/virtual"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// pages returns the calls made by imports so far.
func pages(f *servertest.Fixture) (pages []rechargetest.Request) {
	for _, request := range f.Recharge.Requests() {
		if request.Endpoint == "customers" && !request.Query.Has("external_customer_id") {
			pages = append(pages, request)
		}
	}
	return pages
}

// TestIndex: imported shoppers click without a lookup, and reach their portal when Recharge is
// down. Others are looked up.
func TestIndex(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 600)
	f.WaitForImport()
	if got := len(pages(f)); got != 3 {
		t.Errorf("606 customers took %d calls; want 3", got)
	}
	f.Calls()
	for _, who := range []rechargetest.Customer{f.Customers[0], f.Customers[300], servertest.Customers()[1], servertest.Customers()[3]} {
		f.LocationAt(servertest.NewClient(t), f.Public, who, "")
		if diff := cmp.Diff(map[string]int{"sessions": 1, "portal_access": 1}, f.Calls()); diff != "" {
			t.Errorf("the first click of %s: calls (-want +got):\n%s", who.ShopifyCustomerID, diff)
		}
	}
	for who, outcome := range map[string]string{servertest.Robin: "not_a_subscriber", servertest.Kim: "not_a_subscriber"} {
		if got := f.Click(f.Shopper(who), "/apps/subscriptions").Outcome(); got != outcome || f.Calls()["customers"] != 1 {
			t.Errorf("the first click of %s = %s; want %s, after a lookup", who, got, outcome)
		}
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
	stranger := f.Customers[100]
	if location := f.LocationAt(servertest.NewClient(t), f.Public, stranger, ""); !strings.Contains(location, stranger.Hash) {
		t.Errorf("with Recharge down, a first click goes to %q; want the shopper's portal", location)
	}
}

func landAs(f *servertest.Fixture, who string) rechargetest.Customer {
	return f.Land(f.Shopper(who), "/apps/subscriptions").Customer
}

// TestIndexWithoutFilter: a store whose filter does not work is served like any other, whoever the
// shopper is.
func TestIndexWithoutFilter(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0)
	f.WaitForImport()
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = true })
	for who, outcome := range map[string]string{servertest.Pat: "redirected", servertest.Sam: "redirected", servertest.Robin: "not_a_subscriber", servertest.Kim: "not_a_subscriber"} {
		for range 2 {
			opening := landAs(f, who)
			got := f.Log.Last("click")["outcome"]
			if got != outcome || outcome == "redirected" && opening.ShopifyCustomerID != who || outcome != "redirected" && opening.ID != 0 {
				t.Errorf("the click of %s = %v, in the portal of %q; want %s", who, got, opening.ShopifyCustomerID, outcome)
			}
		}
	}
	// Much later the cached customer is checked again, by Recharge's id.
	f.Clock.Add(30 * time.Hour)
	f.Calls()
	if opening := landAs(f, servertest.Pat); opening.ShopifyCustomerID != servertest.Pat || f.Log.Last("click")["outcome"] != "redirected" {
		t.Errorf("pat's click after 30 hours = %v, in the portal of %q; want redirected, pat's", f.Log.Last("click")["outcome"], opening.ShopifyCustomerID)
	}
	// If the record is somebody else's by then, it is not used.
	f.Clock.Add(60 * time.Hour)
	f.Recharge.SetCustomers([]rechargetest.Customer{servertest.Changed(f.Customers[1], func(c *rechargetest.Customer) { c.ShopifyCustomerID = servertest.Robin })})
	if location := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions").Location; location != "" {
		t.Errorf("pat is sent to %q, which is robin's now", location)
	}
}

// TestOneImport: only one of two servers imports, and it continues where it was after a restart.
func TestOneImport(t *testing.T) {
	t.Parallel()
	slowly := func(s *config.Settings) { s.RechargeRate = "10,40" } // five pages a second
	f := servertest.StartWithImport(t, 2000, slowly)
	f.Second(slowly)
	f.Until("a few pages are read", func() bool { return len(pages(f)) >= 3 })
	f.Restart(func() {}, slowly)
	f.WaitForImport()
	var cursors []string
	for _, request := range pages(f) {
		cursors = append(cursors, request.Query.Get("cursor"))
		if request.Status != http.StatusOK {
			t.Errorf("a page got status %d", request.Status)
		}
	}
	slices.Sort(cursors)
	if again := len(cursors) - len(slices.Compact(cursors)); len(cursors) < 9 || again > 1 {
		t.Errorf("the import took %d calls, %d of them repeated; want 9, and at most the one that was cut off", len(cursors), again)
	}
	who := f.Customers[1999]
	f.Calls()
	f.LocationAt(servertest.NewClient(t), f.Public, who, "")
	if calls := f.Calls(); calls["customers"] != 0 {
		t.Errorf("the last customer's first click makes calls %v; want no lookup", calls)
	}
}

// TestImportGivesWay: an import stops for clicks, and continues after them.
func TestImportGivesWay(t *testing.T) {
	t.Parallel()
	slowly := func(s *config.Settings) { s.RechargeRate = "4,20" } // two pages a second
	f := servertest.StartWithImport(t, 1200, slowly)
	f.Until("the import has begun", func() bool { return len(pages(f)) > 0 })
	client := servertest.NewClient(t)
	var all sync.WaitGroup
	for i := range 40 { // each first click is three calls
		all.Go(func() { f.LocationAt(client, f.Public, f.Customers[i], "") })
	}
	all.Wait()
	before := len(pages(f))
	if before > 4 {
		t.Errorf("%d pages were read before and during the clicks; want a few", before)
	}
	f.WaitForImport()
}

// TestIndexLearns: a customer named by a webhook is looked up at once, so that the next click does
// not have to.
func TestIndexLearns(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"works", "is ignored"} {
		t.Run("the filter "+filter, func(t *testing.T) {
			f := servertest.StartWithImport(t, 0, servertest.ManyStores)
			f.Connect()
			f.WaitForImport()
			f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.IgnoreFilter = filter == "is ignored" })
			const hash = "77777777aaaaaaaa"
			f.Recharge.ChangeCustomer(servertest.Changed(servertest.Customers()[1], func(c *rechargetest.Customer) { c.Hash = hash }))
			created := rechargetest.Customer{ID: 70100999, Hash: "88888888bbbbbbbb", ShopifyCustomerID: servertest.Robin, Subscriptions: servertest.Customers()[1].Subscriptions}
			f.Recharge.ChangeCustomer(created)
			f.Until("both are asked for", func() bool {
				asked := 0
				for _, request := range f.Recharge.Requests() {
					ids := request.Query.Get("external_customer_id")
					if request.Status == http.StatusOK && (filter == "works" && (ids == servertest.Pat || ids == servertest.Robin) || filter != "works" && strings.HasSuffix(request.Path, fmt.Sprint("/customers/", created.ID))) {
						asked++
					}
				}
				return asked >= map[bool]int{true: 2, false: 1}[filter == "works"]
			})
			f.Until("both are known", func() bool {
				return f.LinkedHash(servertest.Pat) == hash && f.LinkedHash(servertest.Robin) == created.Hash
			})
			f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
			f.Clock.Add(2 * time.Hour)
			for who, want := range map[string]string{servertest.Pat: hash, servertest.Robin: created.Hash} {
				if got := f.LinkedHash(who); got != want {
					t.Errorf("with Recharge down %s is sent to the portal of %q; want %s", who, got, want)
				}
			}
		})
	}
}

// dueNow makes the shop's next import start now.
func dueNow(f *servertest.Fixture) {
	f.T.Helper()
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	if err := client.ZAdd(f.T.Context(), "ms2:shops", redis.Z{Member: servertest.Shop}).Err(); err != nil {
		f.T.Fatal(err)
	}
}

// TestIndexInAppHome: the merchant sees the import's progress.
func TestIndexInAppHome(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 600, servertest.ManyStores)
	f.Connect()
	f.WaitForImport()
	if _, body := f.AppHome("/app/health", f.SessionToken(nil), nil); !strings.Contains(body, "606 customers, read just now") {
		t.Errorf("the app home says %s; want that 606 customers were read", body)
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 500 })
	dueNow(f)
	f.Until("the next import meets the fault", func() bool {
		_, body := f.AppHome("/app/health", f.SessionToken(nil), nil)
		return strings.Contains(body, "<progress") && strings.Contains(body, "0 customers read so far") && strings.Contains(body, "Recharge is down")
	})
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 0 })
	f.Until("it goes on", func() bool { return len(f.Log.Lines("index complete")) == 2 })
}

// TestIndexGoesWithTheShop: after an uninstall nothing is left of the index, even if an import was
// running.
func TestIndexGoesWithTheShop(t *testing.T) {
	t.Parallel()
	// A page a second for 15 seconds, so that the uninstall comes in the middle even on a busy machine.
	f := servertest.StartWithImport(t, 4000, servertest.ManyStores, func(s *config.Settings) { s.RechargeRate = "2,40" })
	f.Connect()
	f.Until("the import has begun", func() bool { return len(f.CachedShoppers()) > 250 })
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	f.Until("the import has stopped", func() bool {
		before := len(pages(f))
		time.Sleep(3 * time.Second)
		return len(pages(f)) == before
	})
	f.WantNothingOfShop()
	dueNow(f)
	f.Until("the shop is on no list any more", func() bool { _, listed := f.Redis.Dump()["ms2:shops"]; return !listed })
	if f.Log.Last("index complete") != nil {
		t.Error("the import finished after the uninstall")
	}
}

// TestIndexCommand: the command imports on its own, and reports its progress and errors.
func TestIndexCommand(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Stop()
	f.Recharge.SetCustomers(append(servertest.Subscribers(600), servertest.Customers()...))
	settings := f.Settings()
	settings.RechargeRate = "2,40"
	run := func() (string, error) {
		t.Helper()
		cfg, err := settings.Check()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = server.Index(t.Context(), cfg, "", &out, server.Options{Log: slog.New(slog.NewJSONHandler(f.Log, nil))})
		return out.String(), err
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "customers read so far") || !strings.Contains(out, "606 customers, read just now") {
		t.Errorf("index = %v, and says %q", err, out)
	}
	out, err = run()
	if err != nil || !strings.Contains(out, "customers read so far, about 41 %") {
		t.Errorf("index again = %v, and says %q; want progress against the last import", err, out)
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 401 })
	if out, err = run(); err == nil || !strings.Contains(err.Error(), "bad token") {
		t.Errorf("index with a bad token = %v, and says %q", err, out)
	}
}

// TestIndexCommandEnds: the command waits for nothing that cannot come.
func TestIndexCommandEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		many      bool
		token     string
		before    func(f *servertest.Fixture, index func(context.Context) error)
		meanwhile func(*servertest.Fixture)
		want      string
	}{
		"no store": {many: true, want: "found no store that has connected"},
		"no token": {want: "found no store that has connected"},
		"another account's token": {token: "sk_test_another_account", before: func(f *servertest.Fixture, _ func(context.Context) error) {
			f.Recharge.AddToken(rechargetest.Token{Value: "sk_test_another_account", Scopes: []string{"read_customers"}})
		}, want: "another Recharge token"},
		"a connection that does not work": {many: true, before: func(f *servertest.Fixture, _ func(context.Context) error) {
			f.SaveElsewhere(store.Connection{Shop: servertest.Shop, APIToken: servertest.APIToken, Detected: store.Traits{PortalURL: "://"}, SavedAt: time.Now()})
		}, want: "address of a portal"},
		"an earlier import, which fails": {token: servertest.APIToken, before: func(f *servertest.Fixture, index func(context.Context) error) {
			read, stop := context.WithCancel(f.T.Context())
			go func() {
				f.Until("a page is read", func() bool { return len(pages(f)) > 0 })
				stop()
			}()
			if err := index(read); err == nil {
				f.T.Error("the earlier import is complete; want it cut off")
			}
			f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 401 })
		}, want: "bad token"},
		"an uninstall meanwhile": {many: true, before: func(f *servertest.Fixture, _ func(context.Context) error) { f.Connect() }, meanwhile: func(f *servertest.Fixture) {
			f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
		}, want: "no longer connected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var change []func(*config.Settings)
			if test.many {
				change = append(change, servertest.ManyStores)
			}
			f := servertest.Start(t, change...)
			f.Recharge.SetCustomers(servertest.Subscribers(10000))
			settings := f.Settings()
			settings.RechargeRate, settings.RechargeAPIToken = "2,40", test.token
			for _, edit := range change {
				edit(&settings)
			}
			cfg, err := settings.Check()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			index := func(ctx context.Context) error {
				return server.Index(ctx, cfg, "", &out, server.Options{Log: slog.New(slog.DiscardHandler)})
			}
			if test.before != nil {
				test.before(f, index)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var elsewhere sync.WaitGroup
			if read := len(pages(f)); test.meanwhile != nil { // connecting has read a page, too
				elsewhere.Go(func() {
					f.Until("the import has begun", func() bool { return len(pages(f)) > read || ctx.Err() != nil })
					test.meanwhile(f)
				})
			}
			defer elsewhere.Wait()
			if err := index(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("index = %v; want %q\n%s", err, test.want, &out)
			}
		})
	}
}

// TestIndexCommandGivesUp: with Recharge down, the import is put off, and the command ends.
func TestIndexCommandGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, err := virtual.Start(virtual.Options{OwnRedis: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := world.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
		world.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Down = true })
		for range 2 { // the first time, and after a failure
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			if err := world.Index(ctx, io.Discard); err == nil || !strings.Contains(err.Error(), "unreachable") {
				t.Errorf("index with Recharge down = %v; want it unreachable", err)
			}
			cancel()
		}
	})
}

package importer_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// prepared starts a server and has the access of every subscriber made ahead.
func prepared(t *testing.T, change ...func(*config.Settings)) (*servertest.Fixture, *importer.Importer, importer.Campaign) {
	t.Helper()
	f := servertest.StartWithImport(t, 20, change...)
	if x := f.Settings(); len(change) > 0 {
		if change[0](&x); x.ShopifyShop == "" {
			f.Connect()
		}
	}
	f.WaitForImport()
	x := f.Importer(change...)
	campaign, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{
		Name: "Spring", StartsAt: f.Clock.Now().Add(time.Minute), Audience: store.ActiveSubscribers,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Until("all are prepared", func() bool {
		all, err := x.Campaigns(t.Context(), servertest.Shop)
		return err == nil && len(all) == 1 && all[0].Pass > 0
	})
	f.Calls()
	return f, x, campaign
}

// source is where a click of Pat's found what it needed.
func source(f *servertest.Fixture) any {
	opening := landAs(f, servertest.Pat)
	if opening.ID != 0 && opening.ShopifyCustomerID != servertest.Pat {
		f.T.Errorf("pat lands in the portal of %s", opening.ShopifyCustomerID)
	}
	return f.Log.Last("click")["source"]
}

// TestPreparedIsDropped: each of these ends the use of an access that was made ahead.
func TestPreparedIsDropped(t *testing.T) {
	t.Parallel()
	pat := servertest.Customers()[1]
	for name, drop := range map[string]func(f *servertest.Fixture, x *importer.Importer, c importer.Campaign){
		"cancelled": func(f *servertest.Fixture, x *importer.Importer, c importer.Campaign) {
			if found, err := x.Cancel(f.T.Context(), servertest.Shop, c.ID); !found || err != nil {
				f.T.Fatalf("cancel = %t, %v", found, err)
			}
		},
		"over": func(f *servertest.Fixture, _ *importer.Importer, c importer.Campaign) {
			f.Clock.Add(c.EndsAt.Sub(f.Clock.Now()))
		},
		"a webhook": func(f *servertest.Fixture, _ *importer.Importer, _ importer.Campaign) {
			f.MustDeliver(f.Public, "customer/updated", pat)
		},
		"a redaction": func(f *servertest.Fixture, _ *importer.Importer, _ importer.Campaign) {
			f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, x, c := prepared(t, servertest.WithWebhooks)
			drop(f, x, c)
			if got := source(f); got == "prepared" {
				t.Errorf("a click afterwards is answered from %v", got)
			}
		})
	}
}

// TestPreparedRecordMoves: a record that changes hands between preparation and click opens for nobody whom
// it no longer names, with webhooks and without.
func TestPreparedRecordMoves(t *testing.T) {
	t.Parallel()
	for _, webhooks := range []bool{true, false} {
		f, _, _ := prepared(t, func(s *config.Settings) {
			if webhooks {
				servertest.WithWebhooks(s)
			}
		})
		moved := f.MoveRecord(servertest.Customers()[1].ID, servertest.Robin)
		if webhooks {
			f.MustDeliver(f.Public, "customer/updated", moved)
		} else {
			f.Clock.Add(2 * time.Hour) // longer than a verification counts
		}
		for _, who := range []string{servertest.Pat, servertest.Robin} {
			if opening := landAs(f, who); opening.ID != 0 && opening.ShopifyCustomerID != who {
				t.Errorf("webhooks %t: %s lands in the portal of %s", webhooks, who, opening.ShopifyCustomerID)
			}
			if location := f.Click(f.Shopper(who), "/apps/subscriptions").Location; who == servertest.Pat && strings.Contains(location, moved.Hash) {
				t.Errorf("webhooks %t: pat is sent to %s", webhooks, location)
			}
		}
	}
}

// TestPreparedUnproven: without proven webhooks, a prepared click costs one call, which verifies the record.
func TestPreparedUnproven(t *testing.T) {
	t.Parallel()
	f, _, _ := prepared(t)
	f.Clock.Add(2 * time.Hour)
	if got := source(f); got != "prepared" {
		t.Errorf("the click is answered from %v; want prepared", got)
	}
	f.WantCalls("a prepared click without webhooks", map[string]int{"customer": 1})
	if got := source(f); got != "prepared" || len(f.Calls()) != 0 {
		t.Errorf("the next one is answered from %v; want prepared, without a call", got)
	}
}

// TestPrepareOnce: with PREPARE=once each access opens one visit, also if two clicks come at once.
func TestPrepareOnce(t *testing.T) {
	t.Parallel()
	f, _, _ := prepared(t, func(s *config.Settings) { s.Prepare = "once" }, servertest.WithWebhooks)
	client := f.Shopper(servertest.Pat)
	tokens := map[string]int{}
	for range 3 {
		location := f.Click(client, "/apps/subscriptions").Location
		_, token, _ := strings.Cut(location, "token=")
		tokens[token]++
	}
	if len(tokens) != 3 {
		t.Errorf("three clicks got %d different tokens; want 3", len(tokens))
	}
	if calls := f.Calls(); calls["portal_access"] != 2 {
		t.Errorf("three clicks made calls %v; want two accesses, since one was prepared", calls)
	}
}

// TestPrepareOff: nothing can be planned, and nothing that was made before is used.
func TestPrepareOff(t *testing.T) {
	t.Parallel()
	f, _, _ := prepared(t, servertest.WithWebhooks)
	f.Restart(func() {}, servertest.WithWebhooks, func(s *config.Settings) { s.Prepare = "off" })
	if got := source(f); got == "prepared" {
		t.Error("with PREPARE=off a click uses a prepared access")
	}
}

// TestListedCustomers: an access made for a listed shopper is nobody else's, and ids that are not known
// are counted.
func TestListedCustomers(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20, servertest.WithWebhooks)
	f.WaitForImport()
	x := f.Importer(servertest.WithWebhooks)
	listed := []shopify.CustomerID{servertest.Pat, servertest.Robin, servertest.Pat, "999999"}
	campaign, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{
		Name: "List", StartsAt: f.Clock.Now(), Audience: store.ListedCustomers, Customers: listed,
	})
	if err != nil || campaign.Size != 1 || campaign.Unknown != 2 {
		t.Fatalf("planned %d shoppers, %d unknown, %v; want 1 and 2", campaign.Size, campaign.Unknown, err)
	}
	f.Until("pat is prepared", func() bool {
		all, err := x.Campaigns(t.Context(), servertest.Shop)
		return err == nil && len(all) == 1 && all[0].Pass > 0
	})
	if calls := f.Calls(); calls["portal_access"] != 1 {
		t.Errorf("a list with one subscriber made calls %v; want one access", calls)
	}
	if got := source(f); got != "prepared" {
		t.Errorf("pat's click is answered from %v; want prepared", got)
	}
	f.Until("the click is counted", func() bool {
		all, err := x.Campaigns(t.Context(), servertest.Shop)
		return err == nil && len(all) == 1 && all[0].Clicks["redirected"] == 1 && all[0].Clicks["prepared"] == 1
	})
}

// TestCancelledBesideAnother checks that a campaign that relied on the accesses of another does not claim to be
// prepared once that is cancelled, and is prepared anew.
func TestCancelledBesideAnother(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20, servertest.WithWebhooks, func(s *config.Settings) { s.RechargeRate = "200,400" })
	f.WaitForImport()
	x := f.Importer(servertest.WithWebhooks)
	plan := func(name string) string {
		planned, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{Name: name, StartsAt: f.Clock.Now().Add(time.Minute), Audience: store.ActiveSubscribers})
		if err != nil {
			t.Fatal(err)
		}
		return planned.ID
	}
	one := func(id string) importer.Campaign {
		all, err := x.Campaigns(t.Context(), servertest.Shop, id)
		if err != nil || len(all) != 1 {
			t.Fatalf("campaign %s: %v, %v", id, all, err)
		}
		return all[0]
	}
	first := plan("Spring")
	f.Until("the first is prepared", func() bool { return one(first).Made == one(first).Size && one(first).Pass > 0 })
	second := plan("Sale")
	f.Until("the second relies on it", func() bool { return one(second).Pass > 0 && one(second).Prepared() == one(second).Size })
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 429 })
	if found, err := x.Cancel(t.Context(), servertest.Shop, first); !found || err != nil {
		t.Fatal(found, err)
	}
	if got := one(second); got.Prepared() != 0 || got.Size == 0 {
		t.Errorf("%d of %d are prepared; want none, since what the first made is no longer used", got.Prepared(), got.Size)
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 0 })
	f.Until("the second is prepared", func() bool { return one(second).Pass > 0 && one(second).Made == one(second).Size })
}

// TestReadCustomers: ids are found in the files that merchants have.
func TestReadCustomers(t *testing.T) {
	t.Parallel()
	want := []shopify.CustomerID{"6100200300400", "6100200300500"}
	for name, text := range map[string]string{
		"JSON":           `["6100200300400", 6100200300500]`,
		"GIDs":           `["gid://shopify/Customer/6100200300400","gid://shopify/Customer/6100200300500"]`,
		"one a line":     "6100200300400\n6100200300500\n",
		"Shopify's":      "\ufeffCustomer ID,First Name\r\n'6100200300400,Pat\r\n'6100200300500,\"Robin, the\"\r\n",
		"another column": "Email,shopify_customer_id\npat@example.test,6100200300400\n,6100200300500\n",
	} {
		if got, err := importer.ReadCustomers(strings.NewReader(text)); err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: read %v, %v; want %v", name, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"Customer ID,Note\n6100200300400,\"two\nlines\"\n\nPat,\n": "line 5",
		"6100200300400\r\n\r\nPat\r\n":                             "line 3",
		`["6100200300400",
"Pat"]`: "entry 2",
	} {
		if _, err := importer.ReadCustomers(strings.NewReader(text)); err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "Pat") {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "only a heading": "Customer ID\n", "e-mail addresses": "pat@example.test\n", "an object": `{"a":1}`,
		"cut off": `["6100200300400"`, "two arrays": `["1"]["2"]`, "nested": `[["6100200300400"]]`,
	} {
		if got, err := importer.ReadCustomers(strings.NewReader(text)); err == nil {
			t.Errorf("%s: read %v; want an error", name, got)
		}
	}
}

// TestPreparedWhileLimited: the work stops at a 429, and goes on later.
func TestPreparedWhileLimited(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 20, servertest.WithWebhooks)
	f.WaitForImport()
	x := f.Importer(servertest.WithWebhooks)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 429 })
	f.Calls()
	if _, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{
		Name: "Spring", StartsAt: f.Clock.Now(), Audience: store.ActiveSubscribers,
	}); err != nil {
		t.Fatal(err)
	}
	f.Until("it has stopped", func() bool {
		all, err := x.Campaigns(t.Context(), servertest.Shop)
		return err == nil && len(all) == 1 && all[0].Problem != ""
	})
	time.Sleep(2 * time.Second)
	if calls := f.Calls(); calls["sessions"] > 1 || calls["portal_access"] > 0 {
		t.Errorf("after a 429 it made calls %v; want one session at most", calls)
	}
}

// TestPreparedGoesWithTheShop: an uninstall or a new token ends every campaign, and leaves nothing of it.
func TestPreparedGoesWithTheShop(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(f *servertest.Fixture){
		"an uninstall": func(f *servertest.Fixture) {
			f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
		},
		"a new token": func(f *servertest.Fixture) {
			token := rechargetest.Token{Value: "sk_test_another", Scopes: []string{"read_customers", "write_session"}}
			f.Recharge.AddToken(token)
			f.SaveElsewhere(store.Connection{
				Shop: servertest.Shop, APIToken: token.Value, StorefrontToken: servertest.StorefrontToken, SavedAt: f.Clock.Now(),
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, x, _ := prepared(t, servertest.ManyStores)
			drop(f)
			if all, err := x.Campaigns(t.Context(), servertest.Shop); err != nil || len(all) != 0 {
				t.Errorf("campaigns = %v, %v; want none", all, err)
			}
			f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
			if got := f.Log.Last("click")["source"]; got == "prepared" {
				t.Error("a click uses a prepared access")
			}
			if name == "a new token" { // whoever saved it has gone, and what is left expires
				return
			}
			f.Until("nothing is left of it", func() bool {
				for key := range f.Redis.Dump() {
					for _, kind := range []string{"}:q:", "}:p:", "}:k:"} {
						if strings.Contains(key, kind) {
							return false
						}
					}
				}
				return true
			})
		})
	}
}

// TestPreparedWebhookLost: a record moves, and its webhook is lost although others arrive. Once the cached
// customer is due to be looked up again, the access is not used, and no other one is made.
func TestPreparedWebhookLost(t *testing.T) {
	t.Parallel()
	short := func(s *config.Settings) { s.CustomerTTL = "1h" }
	f, _, _ := prepared(t, servertest.WithWebhooks, short)
	f.MustDeliver(f.Public, "customer/updated", f.Customers[3])
	f.MoveRecord(servertest.Customers()[1].ID, servertest.Robin)
	f.Clock.Add(10 * time.Hour)
	if opening := landAs(f, servertest.Pat); opening.ID != 0 {
		t.Errorf("pat lands in the portal of %s, by %v", opening.ShopifyCustomerID, f.Log.Last("click")["source"])
	}
}

// TestPrepareOnceTogether: clicks of one shopper at once do not share an access that opens one visit.
func TestPrepareOnceTogether(t *testing.T) {
	t.Parallel()
	f, _, _ := prepared(t, func(s *config.Settings) { s.Prepare = "once" })
	f.Clock.Add(2 * time.Hour) // so that each is verified first
	client := f.Shopper(servertest.Pat)
	var all sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]int{}
	for range 4 {
		all.Go(func() {
			_, token, _ := strings.Cut(f.Click(client, "/apps/subscriptions").Location, "token=")
			mu.Lock()
			defer mu.Unlock()
			tokens[token]++
		})
	}
	all.Wait()
	if len(tokens) != 4 {
		t.Errorf("four clicks at once got %d different tokens: %v", len(tokens), slices.Collect(maps.Values(tokens)))
	}
}

// TestRenewals: shoppers whom Recharge will charge are prepared, also if it says so before the campaign starts.
func TestRenewals(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 5, servertest.ManyStores)
	f.AllowOrders()
	f.Connect()
	f.WaitForImport()
	x := f.Importer(servertest.ManyStores)
	campaign, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{
		Name: "Renewals", StartsAt: f.Clock.Now().Add(48 * time.Hour), Audience: store.Renewals,
	})
	if err != nil || campaign.Over(f.Clock.Now().Add(1000*time.Hour)) {
		t.Fatalf("planned %+v, %v; want a campaign without an end", campaign, err)
	}
	if err := x.Upcoming(t.Context(), servertest.Shop, servertest.Pat); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	f.Until("the work waits for the start", func() bool {
		due := client.ZScore(t.Context(), "ms2:campaigns", servertest.Shop).Val()
		return time.UnixMicro(int64(due)).After(time.Now().Add(time.Hour))
	})
	f.Clock.Add(48 * time.Hour)
	dueNow(f) // the customers are read again, since they are no longer fresh
	f.Until("they are", func() bool { return len(f.Log.Lines("index complete")) > 1 })
	if err := x.Upcoming(t.Context(), servertest.Shop, servertest.Sam); err != nil {
		t.Fatal(err)
	}
	f.Until("both are prepared", func() bool {
		all, err := x.Campaigns(t.Context(), servertest.Shop)
		return err == nil && len(all) == 1 && all[0].Made == 2
	})
	if got := source(f); got != "prepared" {
		t.Errorf("pat's click is answered from %v; want prepared", got)
	}
}

// TestPreparedForeign: where Recharge mixes customers up, nothing counts as prepared, and the log says so.
func TestPreparedForeign(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 1, servertest.WithWebhooks)
	f.WaitForImport()
	x := f.Importer(servertest.WithWebhooks)
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.ForeignSession = true })
	if _, err := x.Plan(t.Context(), servertest.Shop, importer.Plan{
		Name: "Spring", StartsAt: f.Clock.Now().Add(time.Minute), Audience: store.ActiveSubscribers,
	}); err != nil {
		t.Fatal(err)
	}
	f.Until("it is noticed", func() bool { return f.Log.Last("access not made ahead") != nil })
	all, err := x.Campaigns(t.Context(), servertest.Shop)
	if err != nil || len(all) != 1 || all[0].Prepared() != 0 || all[0].Problem == "" {
		t.Errorf("campaigns = %+v, %v; want nobody prepared, and the problem", all, err)
	}
}

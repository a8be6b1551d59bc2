package importer_test

import (
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// fast lets the emulated Recharge hold nothing up.
func fast(s *config.Settings) { s.RechargeRate = "200,400" }

// TestCampaign: the accesses of all active subscribers are made ahead, once each, and their clicks are then
// signed in without a call. Once the campaign is cancelled, none of them is used.
func TestCampaign(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 60, fast)
	f.WaitForImport()
	x := f.Importer()
	shop := shopify.Shop(servertest.Shop)
	plan := importer.Plan{Name: "Spring", StartsAt: f.Clock.Now().Add(time.Minute), Audience: store.ActiveSubscribers}
	forecast, err := x.Forecast(t.Context(), shop, plan)
	if err != nil || forecast.Size < 60 || forecast.Ready != forecast.Size {
		t.Fatalf("forecast = %+v, %v; want at least 60 shoppers, all ready", forecast, err)
	}
	if all, err := x.Campaigns(t.Context(), shop); err != nil || len(all) != 0 {
		t.Fatalf("after a forecast, campaigns = %v, %v; want none", all, err)
	}
	campaign, err := x.Plan(t.Context(), shop, plan)
	if err != nil {
		t.Fatal(err)
	}
	f.Until("all are prepared", func() bool {
		all, err := x.Campaigns(t.Context(), shop)
		return err == nil && len(all) == 1 && all[0].Pass > 0
	})
	calls := f.Calls()
	if got := calls["portal_access"]; got != campaign.Size {
		t.Errorf("%d accesses were made for %d shoppers: %v", got, campaign.Size, calls)
	}
	for _, who := range f.Customers[:5] {
		opening := landAs(f, who.ShopifyCustomerID)
		if click := f.Log.Last("click"); opening.ShopifyCustomerID != who.ShopifyCustomerID || click["outcome"] != "redirected" || click["source"] != "prepared" {
			t.Errorf("the click of %s = %v from %v, in the portal of %q", who.ShopifyCustomerID, click["outcome"], click["source"], opening.ShopifyCustomerID)
		}
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("prepared clicks made calls %v", calls)
	}
	if found, err := x.Cancel(t.Context(), shop, campaign.ID); !found || err != nil {
		t.Fatalf("cancel = %t, %v", found, err)
	}
	landAs(f, f.Customers[7].ShopifyCustomerID)
	if source := f.Log.Last("click")["source"]; source == "prepared" {
		t.Error("after the campaign was cancelled, a click uses its access")
	}
}

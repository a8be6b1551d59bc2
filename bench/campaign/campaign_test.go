package campaign_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"manage-subscriptions/bench/campaign"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCampaign sends an e-mail to all subscribers, who make 14 clicks a second, in
// virtual time. CAMPAIGN_SHOPPERS is their number.
func TestCampaign(t *testing.T) {
	shoppers := 3000
	if text := os.Getenv("CAMPAIGN_SHOPPERS"); text != "" {
		var err error
		if shoppers, err = strconv.Atoi(text); err != nil {
			t.Fatalf("CAMPAIGN_SHOPPERS: %v", err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []bool{false, true} {
		t.Run(fmt.Sprintf("index %t", index), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				report, err := campaign.Run(t.Context(), campaign.Options{Shoppers: shoppers, Rate: 14, SigningKey: key, Index: index})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("\n%s", report)
				for _, broken := range report.Broken() {
					t.Error(broken)
				}
				if report.Outcomes["redirected"] == 0 {
					t.Error("nobody was signed in")
				}
				if index && report.Share("redirected", "redirected_by_hash") != 1 {
					t.Errorf("%.3f of the subscribers reach the portal; want all", report.Share("redirected", "redirected_by_hash"))
				}
			})
		})
	}
}

package handlers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestUninstalledAtOnce checks that the credentials are erased before the answer and before any
// slow work.
func TestUninstalledAtOnce(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	const key = "ms2:{" + servertest.Shop + "}:shop"
	if _, ok := f.Redis.Dump()[key]; !ok {
		t.Fatal("no connection is in Redis")
	}
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if _, ok := f.Redis.Dump()[key]; ok {
		t.Error("app/uninstalled is answered, and the connection is still there")
	}
	if got := f.LinkedHash(servertest.Pat); got != "not_connected" {
		t.Errorf("the next click = %q; want not_connected", got)
	}
	f.WantNothingOfShop()
}

// TestLateUninstall checks that a webhook about an earlier installation, hours late, does not erase
// what was saved since, nor does shop/redact, two days after the uninstall.
func TestLateUninstall(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	for i, topic := range []string{"app/uninstalled", "shop/redact"} {
		body := map[string]string{"app/uninstalled": servertest.UninstalledBody(), "shop/redact": servertest.ShopBody()}[topic]
		triggered := f.Clock.Now().Add(-time.Hour)
		f.WebhookAt("/webhooks/shopify", topic, body, servertest.AppSecret, triggered, string(rune('a'+i)))
		if _, page := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
			t.Errorf("after a late %s: %s; want it connected", topic, page)
		}
	}
	f.WebhookAt("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret, f.Clock.Now().Add(49*time.Hour), "c")
	if _, page := f.AppHome("/app/connection", f.SessionToken(nil), nil); !strings.Contains(page, `data-state="connected"`) {
		t.Errorf("after a shop/redact from the future: %s; want it treated as sent now", page)
	}
	f.Clock.Add(49 * time.Hour)
	f.WebhookAt("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret, f.Clock.Now(), "d")
	gone := func() bool {
		_, page := f.AppHome("/app/connection", f.SessionToken(nil), nil)
		return strings.Contains(page, `data-state="not_connected"`)
	}
	f.Until("a shop/redact of this installation erases it", gone)
	// Our clock is slightly ahead of Shopify's, so the save seems to come after the uninstall.
	f.Clock.Add(3 * time.Minute) // session tokens are accepted again
	f.Connect()
	f.WebhookAt("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret, f.Clock.Now().Add(-5*time.Second), "e")
	f.Until("an uninstall right after the save erases it", gone)
}

// TestUninstalledWhileConnecting checks that an uninstall also ends a connection attempt that began
// before it.
func TestUninstalledWhileConnecting(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 300 * time.Millisecond })
	said := make(chan string)
	token := f.SessionToken(nil)
	go func() {
		_, body := f.AppHome("/app/connect", token, servertest.ConnectForm())
		said <- body
	}()
	f.Until("it is asking Recharge", func() bool { return len(f.Recharge.Requests()) > 0 })
	f.Clock.Add(20 * time.Second)
	f.Webhook("/webhooks/shopify", "app/uninstalled", servertest.UninstalledBody(), servertest.AppSecret)
	if body := <-said; strings.Contains(body, `data-result="saved"`) {
		t.Errorf("connect: %s; want it not saved", body)
	}
	if got := f.LinkedHash(servertest.Pat); got != "not_connected" {
		t.Errorf("a click = %q; want not_connected", got)
	}
}

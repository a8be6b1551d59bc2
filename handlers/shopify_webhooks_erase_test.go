package handlers_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

// TestWebhookErasesShopper reads all of Redis. When the webhook is answered, nothing of the erased
// shopper is left, and everything of the other one is.
func TestWebhookErasesShopper(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	pats := f.ClickAll(servertest.Pat, "", "/orders")
	sams := f.ClickAll(servertest.Sam, "", "/orders")
	for who, keys := range map[string][]string{"pat": pats, "sam": sams} {
		if len(keys) != 1 || !f.Indexed(keys[0]) {
			t.Fatalf("clicks of %s wrote %q; want one value with all that is known, and an entry of the index", who, keys)
		}
	}
	response, body := f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if response.StatusCode != http.StatusOK || body != "" || f.Log.Last("webhook")["did"] != "erased_shopper" {
		t.Errorf("customers/redact = %d %q, %v; want 200 and nothing", response.StatusCode, body, f.Log.Last("webhook")["did"])
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q; want no-store", got)
	}
	if left := f.CachedShoppers(); !slices.Equal(left, sams) || f.Indexed(pats[0]) || !f.Indexed(sams[0]) {
		t.Errorf("Redis holds %q, and in the index pat: %t, sam: %t; want sam's, %q", left, f.Indexed(pats[0]), f.Indexed(sams[0]), sams)
	}
	f.Calls()
	query := f.Store.SignedQuery("", servertest.Sam, "/apps/subscriptions", servertest.AppSecret)
	f.Request("GET", f.Public, "/apps/subscriptions/orders?"+query)
	f.WantCalls("sam's next click", map[string]int{})
	// Shopify may send a webhook twice. Pat's click in between is erased, too.
	f.ClickAll(servertest.Pat, "")
	f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if left := f.CachedShoppers(); !slices.Equal(left, sams) {
		t.Errorf("after the same message again Redis holds %q; want sam's, %q", left, sams)
	}
}

// TestWebhookErasesUnderAClick erases a shopper or the shop during a click. The click must drop
// what it has read by then and start again.
func TestWebhookErasesUnderAClick(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		topic, body string
		change      func(*config.Settings)
		outcome     string
		calls       map[string]int
	}{
		// The erased shopper's own click continues with what Recharge answers afterwards.
		{"customers/redact", servertest.ShopperBody(servertest.Pat), nil, "redirected", map[string]int{"customers": 2, "sessions": 2, "portal_access": 2}},
		{"shop/redact", servertest.ShopBody(), nil, "redirected", map[string]int{"customers": 2, "sessions": 2, "portal_access": 2}},
		{"app/uninstalled", servertest.UninstalledBody(), servertest.ManyStores, "not_connected", nil},
	} {
		t.Run(test.topic, func(t *testing.T) {
			t.Parallel()
			g := &servertest.Gate{}
			changes := []func(*config.Settings){g.Before(t)}
			if test.change != nil {
				changes = append(changes, test.change)
			}
			f := servertest.Start(t, changes...)
			if test.change != nil {
				f.Connect()
			}
			f.Calls()
			h := g.Hold("portal_access") // the last of the three calls
			defer h.Release()
			rides := make(chan servertest.Visit, 1)
			go func() { rides <- f.Visit(servertest.NewClient(t), f.Public, servertest.Pat) }()
			select {
			case <-h.Reached:
			case <-time.After(10 * time.Second):
				t.Fatal("no such call is made")
			}
			if response, _ := f.Webhook("/webhooks/shopify", test.topic, test.body, servertest.AppSecret); response.StatusCode != http.StatusOK {
				t.Errorf("%s = %d; want 200", test.topic, response.StatusCode)
			}
			h.Release()
			if r := <-rides; r.Outcome != test.outcome {
				t.Errorf("the click that was under way ends in %s, at %q; want %s", r.Outcome, r.Location, test.outcome)
			}
			if test.outcome == "not_connected" {
				f.WantNothingOfShop()
				return
			}
			f.WantCalls("the click that was under way", test.calls)
		})
	}
}

// TestWebhookErasesShop checks that nothing at all is left after either topic.
func TestWebhookErasesShop(t *testing.T) {
	t.Parallel()
	for topic, body := range map[string]string{"shop/redact": servertest.ShopBody(), "app/uninstalled": servertest.UninstalledBody()} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t)
			f.ClickAll(servertest.Pat, "", "/orders")
			f.ClickAll(servertest.Sam, "", "/addresses")
			for range 2 { // Shopify may send a webhook twice
				response, _ := f.Webhook("/webhooks/shopify", topic, body, servertest.AppSecret)
				if did := f.Log.Last("webhook")["did"]; response.StatusCode != http.StatusOK || did != "erased_shop" {
					t.Errorf("%s = %d, %v; want 200, erased_shop", topic, response.StatusCode, did)
				}
				if _, there := f.Redis.Dump()["ms2:{"+servertest.Shop+"}:shop"]; there {
					t.Errorf("%s is answered, and what opens the shoppers' values is still there", topic)
				}
			}
			f.WantNothingOfShop()
			f.Calls()
			f.ClickAll(servertest.Pat, "")
			f.WantCalls("the next click", servertest.OneCallEach())
		})
	}
}

// TestWebhookErasesUnderOldKeys checks that entries from before a rotation of the encryption key
// are still used, and are erased, too.
func TestWebhookErasesUnderOldKeys(t *testing.T) {
	t.Parallel()
	const key1, key2 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := servertest.Start(t, func(s *config.Settings) { s.EncryptionKey = key1 })
	pats := f.ClickAll(servertest.Pat, "", "/orders")
	f.Restart(func() {}, func(s *config.Settings) { s.EncryptionKey = key2 + "," + key1 })
	f.Calls()
	again := f.ClickAll(servertest.Pat, "/addresses")
	f.WantCalls("a click with the new key", map[string]int{})
	sams := f.ClickAll(servertest.Sam, "")
	if len(pats) != 1 || len(again) != 0 || len(sams) != 1 {
		t.Fatalf("clicks wrote %q, then %q, and %q; want one value for each shopper", pats, again, sams)
	}
	f.Webhook("/webhooks/shopify", "customers/redact", servertest.ShopperBody(servertest.Pat), servertest.AppSecret)
	if left := f.CachedShoppers(); !slices.Equal(left, sams) || f.Indexed(pats[0]) {
		t.Errorf("Redis holds %q; want sam's, %q", left, sams)
	}
	f.Webhook("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret)
	f.Until("no shopper is remembered", func() bool { return len(f.CachedShoppers()) == 0 })
}

// TestWebhookSurvivesRestart restarts the server right after a webhook is answered. Leftovers of
// the shop must then open nothing.
func TestWebhookSurvivesRestart(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.ClickAll(servertest.Pat, "")
	f.Webhook("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret)
	f.Restart(func() {})
	f.Calls()
	f.ClickAll(servertest.Pat, "")
	f.WantCalls("the next click", servertest.OneCallEach())
	if left := f.CachedShoppers(); len(left) == 0 {
		t.Error("Redis holds nothing of the next click")
	}
}

// TestWebhookOfNobody checks that a sender who is not Shopify erases nothing and learns nothing.
func TestWebhookOfNobody(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.ClickAll(servertest.Pat, "")
	const route = "/webhooks/shopify"
	var want string
	for name, send := range map[string]func() (*http.Response, string){
		"no header at all": func() (*http.Response, string) { return f.Request("POST", f.Public, route) },
		"other secret": func() (*http.Response, string) {
			return f.Webhook(route, "shop/redact", servertest.ShopBody(), "other-secret")
		},
		"no topic": func() (*http.Response, string) {
			return f.Webhook(route, "", servertest.ShopBody(), servertest.AppSecret)
		},
	} {
		response, body := send()
		response.Header.Del("Date")
		got := fmt.Sprint(response.StatusCode, response.Header, body)
		if want == "" {
			want = got
		}
		if response.StatusCode != http.StatusUnauthorized || got != want || body != "Unauthorized\n" || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s; want 401, no-store, and the same as %s", name, got, want)
		}
	}
	if response, _ := f.Webhook(route, "shop/redact", strings.Repeat(" ", 256<<10)+servertest.ShopBody(), servertest.AppSecret); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 256 KiB = %d; want 413", response.StatusCode)
	}
	if left := f.CachedShoppers(); len(left) != 1 {
		t.Errorf("Redis holds %d entries; want pat's", len(left))
	}
	if response, _ := f.Webhook(route, "shop/redact", strings.Replace(servertest.ShopBody(), servertest.Shop, "another-shop.myshopify.com", 1), servertest.OldAppSecret); response.StatusCode != http.StatusOK {
		t.Errorf("another shop's, signed with the old secret = %d; want 200", response.StatusCode)
	}
	f.Calls()
	f.ClickAll(servertest.Pat, "/orders")
	f.WantCalls("a click after another shop's shop/redact", map[string]int{})
	if left := f.CachedShoppers(); len(left) != 1 {
		t.Errorf("after another shop's shop/redact Redis holds %d entries; want pat's", len(left))
	}
}

// TestWebhookRedisDown checks that the answer is 500, and that Shopify's retry then works.
func TestWebhookRedisDown(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.ClickAll(servertest.Pat, "")
	f.Redis.Stop()
	if response, body := f.Webhook("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret); response.StatusCode != http.StatusInternalServerError || body != "Internal Server Error\n" {
		t.Errorf("without Redis = %d %q; want 500 that says no more", response.StatusCode, body)
	}
	lines := f.Log.Lines("webhook")
	if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["cause"] == nil {
		t.Errorf("without Redis the log says %v; want one error with its cause", lines)
	}
	f.Redis.Start()
	f.Until("the webhook is answered by 200", func() bool { // go-redis reconnects once a second
		response, _ := f.Webhook("/webhooks/shopify", "shop/redact", servertest.ShopBody(), servertest.AppSecret)
		return response.StatusCode == http.StatusOK
	})
}

// TestWebhookEmbeddedRedis covers a configured store without REDIS_URL.
func TestWebhookEmbeddedRedis(t *testing.T) {
	t.Parallel()
	f := servertest.StartWith(t, nil)
	client := f.Shopper(servertest.Pat)
	for i, send := range []struct{ topic, body string }{
		{"customers/redact", servertest.ShopperBody(servertest.Pat)}, {"shop/redact", servertest.ShopBody()}, {"app/uninstalled", servertest.UninstalledBody()},
	} {
		f.Click(client, "/apps/subscriptions")
		f.Calls()
		if response, _ := f.Webhook("/webhooks/shopify", send.topic, send.body, servertest.AppSecret, fmt.Sprint("message-", i)); response.StatusCode != http.StatusOK {
			t.Errorf("%s = %d; want 200", send.topic, response.StatusCode)
		}
		f.Until("the click after "+send.topic+" is a first one", func() bool {
			f.Click(client, "/apps/subscriptions")
			calls := f.Calls()
			return calls["customers"] == 1 && calls["sessions"] == 1 && calls["portal_access"] == 1
		})
		f.Clock.Add(76 * time.Second)
	}
}

package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/config"
)

// webhook sends what Shopify would send, signed with secret.
func (f *fixture) webhook(path, topic, body, secret string, id ...string) (*http.Response, string) {
	f.t.Helper()
	return f.webhookAt(path, topic, body, secret, f.clock.now(), id...)
}

// webhookAt is one that tells of what happened then.
func (f *fixture) webhookAt(path, topic, body, secret string, triggered time.Time, id ...string) (*http.Response, string) {
	f.t.Helper()
	request, err := http.NewRequest("POST", "http://"+f.public+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": shop, "X-Shopify-Webhook-Id": append(id, topicID(topic))[0],
		"X-Shopify-Api-Version": "2026-07", "X-Shopify-Triggered-At": triggered.UTC().Format(time.RFC3339Nano), "X-Shopify-Hmac-Sha256": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response, string(text)
}

// topicID is a message's id: one for each topic, as if it were sent again.
func topicID(topic string) string {
	return "b54557e4-" + strings.NewReplacer("/", "-", "_", "-").Replace(topic)
}

// Bodies of webhooks, as Shopify documents them.
func aboutShop() string { return fmt.Sprintf(`{"shop_id":954889,"shop_domain":%q}`, shop) }

func aboutShopper(id string) string {
	return fmt.Sprintf(`{"shop_id":954889,"shop_domain":%q,"customer":{"id":%s,"email":"pat@example.test","phone":"555-0100"},"orders_to_redact":[]}`, shop, id)
}

func aboutUninstalled() string {
	return fmt.Sprintf(`{"id":954889,"name":"Fixture Shop","email":"owner@fixture.example","domain":"www.brand.example","myshopify_domain":%q}`, shop)
}

// clicked are the keys that a shopper's clicks write.
func (f *fixture) clicked(id string, paths ...string) []string {
	f.t.Helper()
	before := f.redis.Dump()
	for _, path := range paths {
		query := f.store.SignedQuery("", id, "/apps/subscriptions", appSecret)
		if response, body := f.direct("GET", f.public, "/apps/subscriptions"+path+"?"+query); response.StatusCode != http.StatusFound {
			f.t.Fatalf("click = %d %s; want 302", response.StatusCode, body)
		}
	}
	return slices.DeleteFunc(f.remembered(), func(key string) bool { _, ok := before[key]; return ok })
}

// settle lets the time pass after which an erasure is done again, and forgotten.
func (f *fixture) settle() {
	f.t.Helper()
	ordered := func() bool { _, there := f.redis.Dump()["ms1:orders"]; return there }
	f.clock.add(76 * time.Second)
	for range 4 { // erased; swept for what stands under Recharge's ids, which settles, too
		for deadline := time.Now().Add(3 * time.Second); ordered() && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		if !ordered() {
			return
		}
		f.clock.add(76 * time.Second)
	}
	f.until("no order is left", func() bool { return !ordered() })
}

// remembered are the keys of what is remembered of shoppers.
func (f *fixture) remembered() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.redis.Dump())), func(key string) bool {
		_, kind, shops := strings.Cut(key, "}")
		return !shops || !strings.Contains("cs", kind[:1])
	})
}

// ofNobody tells a key that is of no shop: a message's own id, for a day, and what
// servers there are.
func ofNobody(key string) bool {
	return strings.HasPrefix(key, "ms1:w") || slices.Contains([]string{"ms1:servers", "ms1:round", "ms1:sweeping"}, key)
}

// TestWebhookErasesShopper reads all of Redis: of the shopper who is to be
// erased nothing is left, and of the other one everything is.
func TestWebhookErasesShopper(t *testing.T) {
	f := start(t)
	pats := f.clicked(pat, "", "/orders")
	sams := f.clicked(sam, "", "/orders")
	for who, keys := range map[string][]string{"pat": pats, "sam": sams} {
		if len(keys) != 2 {
			t.Fatalf("clicks of %s wrote %q; want who they are, and session and links", who, keys)
		}
	}
	response, body := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if response.StatusCode != http.StatusOK || body != "" {
		t.Errorf("customers/redact = %d %q; want 200 and nothing", response.StatusCode, body)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q; want no-store", got)
	}
	f.until("of pat nothing is left, of sam everything", func() bool { return slices.Equal(f.remembered(), sams) })
	f.settle()
	if left := f.remembered(); !slices.Equal(left, sams) {
		t.Errorf("Redis holds %q; want sam's, %q", left, sams)
	}
	f.calls()
	query := f.store.SignedQuery("", sam, "/apps/subscriptions", appSecret)
	f.direct("GET", f.public, "/apps/subscriptions/orders?"+query)
	if calls := f.calls(); calls["customers"]+calls["sessions"] != 0 {
		t.Errorf("sam's next click makes calls %v; want none for who sam is", calls)
	}
}

// TestWebhookErasesWhatAClickWrites: a click that was under way when the shopper
// was erased writes what it has learned; that goes, too.
func TestWebhookErasesWhatAClickWrites(t *testing.T) {
	f := start(t)
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	f.until("the first pass is done", func() bool {
		// It leaves nothing that would tell: that a customer of before is gone does.
		return len(f.log.lines("webhook")) == 1
	})
	if keys := f.clicked(pat, ""); len(keys) != 2 {
		t.Fatalf("the click wrote %q; want two entries", keys)
	}
	f.settle()
	if left := f.remembered(); len(left) != 0 {
		t.Errorf("Redis holds %q; want nothing", left)
	}
}

// TestWebhookErasesShop: after either topic nothing at all is left.
func TestWebhookErasesShop(t *testing.T) {
	for topic, body := range map[string]string{"shop/redact": aboutShop(), "app/uninstalled": aboutUninstalled()} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.clicked(pat, "", "/orders")
			f.clicked(sam, "", "/addresses")
			if response, _ := f.webhook("/webhooks/shopify", topic, body, appSecret); response.StatusCode != http.StatusOK {
				t.Errorf("%s = %d; want 200", topic, response.StatusCode)
			}
			f.until("no shopper is remembered", func() bool { return len(f.remembered()) == 0 })
			// Shopify may send a message twice.
			if response, _ := f.webhook("/webhooks/shopify", topic, body, appSecret); response.StatusCode != http.StatusOK || f.log.last("webhook")["did"] != "done_before" {
				t.Errorf("%s again = %d, %v; want 200, done_before", topic, response.StatusCode, f.log.last("webhook")["did"])
			}
			f.settle()
			for key := range f.redis.Dump() {
				if !ofNobody(key) {
					t.Errorf("after %s Redis holds %q; want nothing of the shop", topic, key)
				}
			}
		})
	}
}

// TestWebhookErasesUnderOldKeys: after a rotation, what the old key has sealed
// goes, too.
func TestWebhookErasesUnderOldKeys(t *testing.T) {
	const key1, key2 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := start(t, func(s *config.Settings) { s.EncryptionKey = key1 })
	pats := f.clicked(pat, "", "/orders")
	f.stop()
	f.run(func(s *config.Settings) { s.EncryptionKey = key2 + "," + key1 })
	pats = append(pats, f.clicked(pat, "/addresses")...) // a link under the new key
	sams := f.clicked(sam, "")
	if len(pats) < 3 || len(sams) != 2 {
		t.Fatalf("clicks wrote %d and %d keys; want at least 3 and 2", len(pats), len(sams))
	}
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	f.until("of pat nothing is left, of sam everything", func() bool { return slices.Equal(f.remembered(), sams) })
	f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
	f.until("no shopper is remembered", func() bool { return len(f.remembered()) == 0 })
}

// TestWebhookSurvivesRestart: what is ordered when the server ends is done by the
// next one.
func TestWebhookSurvivesRestart(t *testing.T) {
	f := start(t)
	f.clicked(pat, "")
	f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
	f.stop()
	f.run()
	f.until("no shopper is remembered", func() bool { return len(f.remembered()) == 0 })
	f.settle()
}

// TestWebhookOfNobody: who is not Shopify erases nothing and learns nothing.
func TestWebhookOfNobody(t *testing.T) {
	f := start(t)
	f.clicked(pat, "")
	const route = "/webhooks/shopify"
	var want string
	for name, send := range map[string]func() (*http.Response, string){
		"no header at all": func() (*http.Response, string) { return f.direct("POST", f.public, route) },
		"other secret":     func() (*http.Response, string) { return f.webhook(route, "shop/redact", aboutShop(), "other-secret") },
		"no topic":         func() (*http.Response, string) { return f.webhook(route, "", aboutShop(), appSecret) },
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
	if response, _ := f.webhook(route, "shop/redact", strings.Repeat(" ", 256<<10)+aboutShop(), appSecret); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 256 KiB = %d; want 413", response.StatusCode)
	}
	if left := f.remembered(); len(left) != 2 {
		t.Errorf("Redis holds %d entries; want both", len(left))
	}
	if response, _ := f.webhook(route, "shop/redact", strings.Replace(aboutShop(), shop, "another-shop.myshopify.com", 1), oldSecret); response.StatusCode != http.StatusOK {
		t.Errorf("another shop's, signed with the old secret = %d; want 200", response.StatusCode)
	}
	f.settle()
	if left := f.remembered(); len(left) != 2 {
		t.Errorf("after another shop's shop/redact Redis holds %d entries; want both", len(left))
	}
}

// TestWebhookRedisDown: 500, so that Shopify sends it again; then it is done.
func TestWebhookRedisDown(t *testing.T) {
	f := start(t)
	f.clicked(pat, "")
	f.redis.Stop()
	if response, body := f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret); response.StatusCode != http.StatusInternalServerError || body != "Internal Server Error\n" {
		t.Errorf("without Redis = %d %q; want 500 that says no more", response.StatusCode, body)
	}
	lines := f.log.lines("webhook")
	if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["cause"] == nil {
		t.Errorf("without Redis the log says %v; want one error with its cause", lines)
	}
	f.redis.Start()
	f.until("the webhook is answered by 200", func() bool { // go-redis tries once a second
		response, _ := f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
		return response.StatusCode == http.StatusOK
	})
}

// TestWebhookEmbeddedRedis is the one store without a REDIS_URL.
func TestWebhookEmbeddedRedis(t *testing.T) {
	f := startWith(t, nil)
	client := f.shopper(pat)
	for i, send := range []struct{ topic, body string }{
		{"customers/redact", aboutShopper(pat)}, {"shop/redact", aboutShop()}, {"app/uninstalled", aboutUninstalled()},
	} {
		f.click(client, "/apps/subscriptions")
		f.calls()
		if response, _ := f.webhook("/webhooks/shopify", send.topic, send.body, appSecret, fmt.Sprint("message-", i)); response.StatusCode != http.StatusOK {
			t.Errorf("%s = %d; want 200", send.topic, response.StatusCode)
		}
		f.until("the click after "+send.topic+" is a first one", func() bool {
			f.click(client, "/apps/subscriptions")
			calls := f.calls()
			return calls["customers"] == 1 && calls["sessions"] == 1 && calls["portal_access"] == 1
		})
		f.clock.add(76 * time.Second)
	}
}

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

	"manage-subscriptions/config"
)

// webhook sends what Shopify would send, signed with secret.
func (f *fixture) webhook(path, topic, body, secret string) (*http.Response, string) {
	f.t.Helper()
	request, err := http.NewRequest("POST", "http://"+f.public+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": shop, "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
		"X-Shopify-Api-Version": "2026-07", "X-Shopify-Hmac-Sha256": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
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
	after := f.redis.Dump()
	maps.DeleteFunc(after, func(key, _ string) bool { _, ok := before[key]; return ok })
	return slices.Sorted(maps.Keys(after))
}

// TestWebhookErasesShopper reads all of Redis: of the shopper who is to be
// erased nothing is left, and the other one's customer and session are.
func TestWebhookErasesShopper(t *testing.T) {
	f := start(t)
	pats := f.clicked(pat, "", "/orders")
	sams := f.clicked(sam, "", "/orders")
	for who, keys := range map[string][]string{"pat": pats, "sam": sams} {
		if len(keys) != 4 {
			t.Fatalf("clicks of %s wrote %q; want customer, session and two links", who, keys)
		}
	}
	response, body := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if response.StatusCode != http.StatusOK || body != "" {
		t.Errorf("customers/redact = %d %q; want 200 and nothing", response.StatusCode, body)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q; want no-store", got)
	}
	left := slices.Sorted(maps.Keys(f.redis.Dump()))
	for _, key := range pats {
		if slices.Contains(left, key) {
			t.Errorf("%q, which pat's clicks wrote, is left", key)
		}
	}
	// Nobody can tell whose a link is: sam's are gone, too, with a minute to live.
	want := slices.DeleteFunc(slices.Clone(sams), func(key string) bool { return strings.Contains(key, "}l") })
	if !slices.Equal(left, want) || len(want) != 2 {
		t.Errorf("Redis holds %q; want sam's customer and session, %q", left, want)
	}
	f.calls()
	f.clicked(sam, "")
	if calls := f.calls(); len(calls) != 1 || calls["portal_access"] != 1 {
		t.Errorf("sam's next click makes calls %v; want that for the link only", calls)
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
			for range 2 { // Shopify may send a message twice
				if response, _ := f.webhook("/webhooks/shopify", topic, body, appSecret); response.StatusCode != http.StatusOK {
					t.Errorf("%s = %d; want 200", topic, response.StatusCode)
				}
				if left := f.redis.Dump(); len(left) != 0 {
					t.Errorf("after %s Redis holds %d entries; want none", topic, len(left))
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
	if len(pats) < 5 || len(sams) != 3 {
		t.Fatalf("clicks wrote %d and %d keys; want at least 5 and 3", len(pats), len(sams))
	}
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	left := slices.Sorted(maps.Keys(f.redis.Dump()))
	if len(left) != 2 || !slices.Contains(sams, left[0]) || !slices.Contains(sams, left[1]) {
		t.Errorf("Redis holds %q; want sam's customer and session of %q", left, sams)
	}
	f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
	if left := f.redis.Dump(); len(left) != 0 {
		t.Errorf("after shop/redact Redis holds %d entries; want none", len(left))
	}
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
	if response, _ := f.webhook(route, "shop/redact", strings.Repeat(" ", 1<<20)+aboutShop(), appSecret); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 1 MiB = %d; want 413", response.StatusCode)
	}
	if left := f.redis.Dump(); len(left) != 3 {
		t.Errorf("Redis holds %d entries; want all three", len(left))
	}
	if response, _ := f.webhook(route, "shop/redact", strings.Replace(aboutShop(), shop, "another-shop.myshopify.com", 1), oldSecret); response.StatusCode != http.StatusOK {
		t.Errorf("another shop's, signed with the old secret = %d; want 200", response.StatusCode)
	}
	if left := f.redis.Dump(); len(left) != 3 {
		t.Errorf("after another shop's shop/redact Redis holds %d entries; want all three", len(left))
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
	for _, send := range []struct{ topic, body string }{
		{"customers/redact", aboutShopper(pat)}, {"shop/redact", aboutShop()}, {"app/uninstalled", aboutUninstalled()},
	} {
		f.click(client, "/apps/subscriptions")
		f.calls()
		if response, _ := f.webhook("/webhooks/shopify", send.topic, send.body, appSecret); response.StatusCode != http.StatusOK {
			t.Errorf("%s = %d; want 200", send.topic, response.StatusCode)
		}
		f.click(client, "/apps/subscriptions")
		if calls := f.calls(); calls["customers"] != 1 || calls["sessions"] != 1 || calls["portal_access"] != 1 {
			t.Errorf("the click after %s makes calls %v; want those of a first one", send.topic, calls)
		}
	}
}

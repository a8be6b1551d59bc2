package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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

// remembered are the keys of what is remembered of shoppers. That one was erased, which
// an import has to know, is not among them.
func (f *fixture) remembered() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.redis.Dump())), func(key string) bool { return !strings.Contains(key, "}:c:") })
}

// indexed tells whether the index, in which a webhook finds shoppers, has one who was
// remembered under that key.
func (f *fixture) indexed(key string) bool {
	_, digits, _ := strings.Cut(key, "}:c:")
	name, err := hex.DecodeString(digits)
	if err != nil {
		f.t.Fatal(err)
	}
	for key, value := range f.redis.Dump() {
		if strings.Contains(key, "}:r:") && strings.Contains(value, string(name)) {
			return true
		}
	}
	return false
}

// mayStay tells a key that outlives the shop: which servers there are, how full the
// token's bucket is, which links were used, for two minutes the uninstall and, until its
// next import is due, the shop's name.
func mayStay(key string) bool {
	_, kind, _ := strings.Cut(key, "}:")
	return key == "ms2:instances" || key == "ms2:maintenance" || key == "ms2:shops" || kind == "b" || kind == "x:shop" || strings.HasPrefix(kind, "n:")
}

// nothingOfTheShop waits until Redis holds nothing more of the shop. That takes a
// moment: shoppers' values, which nobody can open any more, are unlinked after the
// webhook is answered.
func (f *fixture) nothingOfTheShop() {
	f.t.Helper()
	var left []string
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		left = slices.DeleteFunc(slices.Sorted(maps.Keys(f.redis.Dump())), mayStay)
		if len(left) == 0 {
			return
		}
	}
	f.t.Errorf("Redis holds %q; want nothing of the shop", left)
}

// TestWebhookErasesShopper reads all of Redis: of the shopper who is to be
// erased nothing is left when the webhook is answered, and of the other one everything
// is.
func TestWebhookErasesShopper(t *testing.T) {
	f := start(t)
	pats := f.clicked(pat, "", "/orders")
	sams := f.clicked(sam, "", "/orders")
	for who, keys := range map[string][]string{"pat": pats, "sam": sams} {
		if len(keys) != 1 || !f.indexed(keys[0]) {
			t.Fatalf("clicks of %s wrote %q; want one value with all that is known, and an entry of the index", who, keys)
		}
	}
	response, body := f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if response.StatusCode != http.StatusOK || body != "" || f.log.last("webhook")["did"] != "erased_shopper" {
		t.Errorf("customers/redact = %d %q, %v; want 200 and nothing", response.StatusCode, body, f.log.last("webhook")["did"])
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q; want no-store", got)
	}
	if left := f.remembered(); !slices.Equal(left, sams) || f.indexed(pats[0]) || !f.indexed(sams[0]) {
		t.Errorf("Redis holds %q, and in the index pat: %t, sam: %t; want sam's, %q", left, f.indexed(pats[0]), f.indexed(sams[0]), sams)
	}
	f.calls()
	query := f.store.SignedQuery("", sam, "/apps/subscriptions", appSecret)
	f.direct("GET", f.public, "/apps/subscriptions/orders?"+query)
	f.costs("sam's next click", map[string]int{})
	// Shopify may send a message twice. Pat's own click, between the two, is erased again.
	f.clicked(pat, "")
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if left := f.remembered(); !slices.Equal(left, sams) {
		t.Errorf("after the same message again Redis holds %q; want sam's, %q", left, sams)
	}
}

// TestWebhookErasesUnderAClick: a click was under way when the shopper, or the shop, was
// erased. What it had learned by then is not taken: it begins anew.
func TestWebhookErasesUnderAClick(t *testing.T) {
	for _, test := range []struct {
		topic, body string
		change      func(*config.Settings)
		outcome     string
		calls       map[string]int
	}{
		// The erased shopper's own click goes on, by what Recharge says after that.
		{"customers/redact", aboutShopper(pat), nil, "redirected", map[string]int{"customers": 2, "sessions": 2, "portal_access": 2}},
		{"shop/redact", aboutShop(), nil, "redirected", map[string]int{"customers": 2, "sessions": 2, "portal_access": 2}},
		{"app/uninstalled", aboutUninstalled(), many, "not_connected", nil},
	} {
		t.Run(test.topic, func(t *testing.T) {
			t.Parallel()
			g := &gate{}
			changes := []func(*config.Settings){g.before(t)}
			if test.change != nil {
				changes = append(changes, test.change)
			}
			f := start(t, changes...)
			if test.change != nil {
				f.connect()
			}
			f.calls()
			h := g.hold("portal_access") // of the three calls the last one
			defer h.release()
			rides := make(chan ride, 1)
			go func() { rides <- f.ride(newClicker(t), f.public, pat) }()
			select {
			case <-h.reached:
			case <-time.After(10 * time.Second):
				t.Fatal("no such call is made")
			}
			if response, _ := f.webhook("/webhooks/shopify", test.topic, test.body, appSecret); response.StatusCode != http.StatusOK {
				t.Errorf("%s = %d; want 200", test.topic, response.StatusCode)
			}
			h.release()
			if r := <-rides; r.outcome != test.outcome {
				t.Errorf("the click that was under way ends in %s, at %q; want %s", r.outcome, r.location, test.outcome)
			}
			if test.outcome == "not_connected" {
				f.nothingOfTheShop()
				return
			}
			f.costs("the click that was under way", test.calls)
		})
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
				response, _ := f.webhook("/webhooks/shopify", topic, body, appSecret)
				if did := f.log.last("webhook")["did"]; response.StatusCode != http.StatusOK || did != "erased_shop" {
					t.Errorf("%s = %d, %v; want 200, erased_shop", topic, response.StatusCode, did)
				}
				if _, there := f.redis.Dump()["ms2:{"+shop+"}:shop"]; there {
					t.Errorf("%s is answered, and what opens the shoppers' values is still there", topic)
				}
			}
			f.nothingOfTheShop()
			f.calls()
			f.clicked(pat, "")
			f.costs("the next click", oneOfEach())
		})
	}
}

// TestWebhookErasesUnderOldKeys: after a rotation of the encryption key, what was
// remembered before is still known, and goes, too.
func TestWebhookErasesUnderOldKeys(t *testing.T) {
	const key1, key2 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	f := start(t, func(s *config.Settings) { s.EncryptionKey = key1 })
	pats := f.clicked(pat, "", "/orders")
	f.restart(func() {}, func(s *config.Settings) { s.EncryptionKey = key2 + "," + key1 })
	f.calls()
	again := f.clicked(pat, "/addresses")
	f.costs("a click with the new key", map[string]int{})
	sams := f.clicked(sam, "")
	if len(pats) != 1 || len(again) != 0 || len(sams) != 1 {
		t.Fatalf("clicks wrote %q, then %q, and %q; want one value for each shopper", pats, again, sams)
	}
	f.webhook("/webhooks/shopify", "customers/redact", aboutShopper(pat), appSecret)
	if left := f.remembered(); !slices.Equal(left, sams) || f.indexed(pats[0]) {
		t.Errorf("Redis holds %q; want sam's, %q", left, sams)
	}
	f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
	f.until("no shopper is remembered", func() bool { return len(f.remembered()) == 0 })
}

// TestWebhookSurvivesRestart: the server ends as soon as a webhook is answered. Whatever
// is left of the shop then opens for nobody.
func TestWebhookSurvivesRestart(t *testing.T) {
	f := start(t)
	f.clicked(pat, "")
	f.webhook("/webhooks/shopify", "shop/redact", aboutShop(), appSecret)
	f.restart(func() {})
	f.calls()
	f.clicked(pat, "")
	f.costs("the next click", oneOfEach())
	if left := f.remembered(); len(left) == 0 {
		t.Error("Redis holds nothing of the next click")
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
	if response, _ := f.webhook(route, "shop/redact", strings.Repeat(" ", 256<<10)+aboutShop(), appSecret); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than 256 KiB = %d; want 413", response.StatusCode)
	}
	if left := f.remembered(); len(left) != 1 {
		t.Errorf("Redis holds %d entries; want pat's", len(left))
	}
	if response, _ := f.webhook(route, "shop/redact", strings.Replace(aboutShop(), shop, "another-shop.myshopify.com", 1), oldSecret); response.StatusCode != http.StatusOK {
		t.Errorf("another shop's, signed with the old secret = %d; want 200", response.StatusCode)
	}
	f.calls()
	f.clicked(pat, "/orders")
	f.costs("a click after another shop's shop/redact", map[string]int{})
	if left := f.remembered(); len(left) != 1 {
		t.Errorf("after another shop's shop/redact Redis holds %d entries; want pat's", len(left))
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

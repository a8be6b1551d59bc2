package config

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// FuzzRedisURL: an accepted URL can be dialled, and the password is never printed.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{
		"", "redis://", "redis://host", "redis://host:6379/0", "rediss://user:pass@host:1/2", "redis://:p%40ss@a:1,b:2,c", "redis://a,b?master_name=m",
		"redis://h?cluster=true", "redis://h?cluster=true&cluster=true", "redis://[::1]:6379", "redis://[::1", "redis://a:b:c", "redis://h/-1", "redis://h/99999999999999999999",
		"redis://h?master_name=m&sentinel_username=u&sentinel_password=%26", "redis://@h", "redis://a@b@c", "redis://h#f", "redis://h?%zz", "http://h", "redis://,", "redis://h:99999",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		redis, err := parseRedis(text)
		if err != nil {
			if len(text) > 12 && strings.Contains(err.Error(), text) {
				t.Errorf("parseRedis(%q) repeats it: %v", text, err)
			}
			return
		}
		if len(redis.Addrs) == 0 || redis.DB < 0 || redis.IsClusterMode && redis.MasterName != "" {
			t.Errorf("parseRedis(%q) = %+v", text, redis)
		}
		for _, addr := range redis.Addrs {
			host, port, err := net.SplitHostPort(addr)
			if _, noNumber := strconv.ParseUint(port, 10, 16); err != nil || host == "" || noNumber != nil {
				t.Errorf("parseRedis(%q) has the address %q; want host and port", text, addr)
			}
		}
	})
}

// FuzzSettings: Check reports or accepts whatever an operator writes, and what it accepts keeps the
// promises of its type. No problem repeats a value.
func FuzzSettings(f *testing.F) {
	f.Add("secret,old", "https://app.example", "a.myshopify.com", "https://p.example/x", "2,40", "24h", ":8080", "info", key1)
	f.Add(",", "http://127.0.0.1:1", "", "", "0,0", "-1s", ":0", "debug", "")
	f.Add("secret", "https://app.example", "a.myshopify.com", "https://p.example/x", "auto", "24h", ":8080", "info", key1)
	f.Add("a,b,c", "https://u:p@h?q#f", "A.myshopify.com", "http://evil.example", "NaN,1", "1h1h", "host", "", "AAAA")
	f.Add(" ", "https:///x", "a.myshopify.com.", "https://[::1]/", "1e309,9", "9999999h", "[::1]:65536", "warn", key1+","+key1)
	f.Fuzz(func(t *testing.T, secret, app, shop, portal, rate, ttl, addr, level, key string) {
		s := Settings{
			ShopifyAPIKey: "id", ShopifyAPISecret: secret, AppURL: app, ShopifyShop: shop, CustomerAccounts: "new", RechargeAPIToken: secret,
			RechargeAPIURL: "https://api.rechargeapps.com", RechargePortalURL: portal, RechargeRate: rate, PortalLink: "hash", Redirect: "page", CustomerTTL: ttl, LinkTTL: ttl,
			RechargeTimeout: "3s", ClickTimeout: "8s", Addr: addr, OpsAddr: "127.0.0.1:9090", LogLevel: level, LogFormat: "text", EncryptionKey: key,
		}
		c, err := s.Check()
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Errorf("Check = %v; want Problems", err)
			}
			if len(secret) > 20 && strings.Contains(err.Error(), secret) {
				t.Errorf("a problem repeats the secret %q: %v", secret, err)
			}
			return
		}
		for _, secret := range c.ShopifyAPISecrets {
			if secret.Empty() {
				t.Errorf("Check takes an empty secret in %q", s.ShopifyAPISecret)
			}
		}
		for _, u := range []*url.URL{c.AppURL, c.RechargePortalURL} {
			if u == nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !recharge.Loopback(u.Hostname()) {
				t.Errorf("Check takes the address %v", u)
			}
		}
		auto := c.RechargeRate == 0 && c.RechargeBurst == 0
		if !auto && (!(c.RechargeRate > 0 && c.RechargeRate <= 1000) || c.RechargeBurst < 1) || c.CustomerTTL <= 0 || c.LinkTTL < 0 || string(c.Shop) != shop {
			t.Errorf("Check = %+v", c)
		}
		for _, key := range c.EncryptionKeys {
			if len(key.Reveal()) != 32 {
				t.Errorf("Check takes a key of %d bytes", len(key.Reveal()))
			}
		}
		printed, _ := json.Marshal(c)
		if len(secret) > 20 && !strings.Contains(app+shop+portal+addr, secret) && strings.Contains(string(printed), secret) {
			t.Errorf("the secret %q is printed: %s", secret, printed)
		}
	})
}

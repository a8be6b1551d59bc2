package recharge_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// TestOneOddHeader: one answer with a strange size holds up a shop's new shoppers for long, and no call is
// made that could correct it.
func TestOneOddHeader(t *testing.T) {
	t.Parallel()
	odd := answer{status: 200, body: fixture(t, "customers_one_match_2021_11"), header: http.Header{"X-Recharge-Limit": {"1/1"}}}
	good := answer{status: 200, body: fixture(t, "customers_one_match_2021_11"), header: http.Header{"X-Recharge-Limit": {"1/40"}}}
	for _, auto := range []bool{false, true} {
		srv := newScript(t, odd, good, good, good)
		now := newClock()
		c := newClient(t, srv.URL, func(o *recharge.Options) {
			o.Now = now.Now
			o.Rate, o.Burst = 2, 40
			if auto {
				o.Rate, o.Burst = 0, 0
			}
		})
		_, err := lookUp(t.Context(), c, shopifyID)
		checkReason(t, "the first", err, "")
		held := 0
		for held < 60 {
			if _, err = lookUp(t.Context(), c, shopifyID); err == nil {
				break
			}
			now.Advance(time.Second)
			held++
		}
		if held > 2 {
			t.Errorf("auto %v: after one odd header no lookup for %d s", auto, held)
		}
	}
}

// TestWayBackStays: no text leads a page for a task to another host.
func TestWayBackStays(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	for _, to := range []string{
		"//evil.example", "///evil.example", "https:evil.example", "https:///evil.example", "https://evil.example", `\\evil.example`, `/\evil.example`,
		"https://some-shop.myshopify.com@evil.example/", "https://some-shop.myshopify.com:444/", "javascript:alert(1)", "data:text/html,x",
		"https://some-shop.myshopify.com.evil.example/", "https://evil.rechargeapps.com/", "http://some-shop.myshopify.com/", "https://%65vil.example/",
		"https://evil.example%2f@some-shop.myshopify.com/", "/%09/evil.example", "\t//evil.example", "/..//evil.example", "/.//evil.example", "/a/../..//evil.example", "?x#@evil.example",
	} {
		u, err := url.Parse(c.WayBack(to))
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Contains(u.Host, "evil") || u.User != nil || u.Port() != "" {
			t.Errorf("%q leads to %q", to, c.WayBack(to))
		}
	}
}

package handlers

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// FuzzAnswer: what another server says is taken only for the same page, and ends a
// click in an outcome that there is.
func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		"", "{}", "null", "[]", `{"Visit":{"To":"orders","Locale":""},"Outcome":"redirected","Link":{"URL":"https://fixture-shop.example/"}}`,
		`{"Visit":{"To":"orders","Locale":""},"Outcome":"not_a_subscriber"}`, `{"Visit":{"To":"orders","Locale":""},"Outcome":"evil"}`, `{"Visit":{"To":"orders","Locale":""},"Outcome":"redirected"}`,
		`{"Visit":{"To":"schedule","Locale":"fr"},"Outcome":"unavailable","Cause":"x"}`, `{"Visit":{"To":"orders","Locale":""},"Outcome":"forbidden"}`,
	} {
		f.Add([]byte(answer))
	}
	f.Add([]byte(`{"Visit":{"To":"orders","Locale":""},"Outcome":"redirected","Link":{"URL":"https://fixture-shop.myshopify.com/tools/recurring/portal/1f2e/orders"},"Hash":"1f2e"}`))
	k := &click{visit: store.Visit{To: "orders"}, client: recharge.NewClient(recharge.Options{
		Shop: "fixture-shop.myshopify.com", PortalURL: recharge.DefaultPortal("fixture-shop.myshopify.com"), Rate: 2, Burst: 40, Now: time.Now,
	})}
	f.Fuzz(func(t *testing.T, answer []byte) {
		ending, again := readAnswer(answer, k)
		if again {
			if ending != (Ending{}) {
				t.Errorf("readAnswer(%q) = %+v, again; want nothing", answer, ending)
			}
			return
		}
		leads := ending.Outcome == Redirected || ending.Outcome == RedirectedByHash
		if !leads && !slices.Contains([]Outcome{NotASubscriber, Unavailable, NotConnected}, ending.Outcome) || leads != (ending.Link.URL != "") {
			t.Errorf("readAnswer(%q) = %+v; want an outcome of a click, with a link where it leads on", answer, ending)
		}
		if link, err := url.Parse(ending.Link.URL); leads && (err != nil || link.Scheme != "https" || link.Host != "fixture-shop.myshopify.com" && !strings.HasSuffix(link.Host, ".rechargeapps.com")) {
			t.Errorf("readAnswer(%q) lets out the link %s", answer, ending.Link.URL)
		}
	})
}

var prefixShape = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,4}$`)

// FuzzReturn: whatever a visitor puts into path and query, the way back from the
// sign-in is a path of the store with nothing in it but ours.
func FuzzReturn(f *testing.F) {
	for _, seed := range []string{"", "orders", "//evil.example", "../x", "subscriptions/1/cancel", "\r\nX: 1", "fr", "pt-BR", "fr&x=1", "\xff"} {
		f.Add("/apps/subscriptions", seed, seed)
		f.Add("/fr/apps/subscriptions", "orders", seed)
	}
	f.Fuzz(func(t *testing.T, prefix, destination, locale string) {
		if !prefixShape.MatchString(prefix) {
			return // Verify takes no other
		}
		var a asked
		a.read(shopify.ProxyRequest{PathPrefix: prefix, Destination: destination, Query: url.Values{"locale": {locale}}})
		back, err := url.Parse(a.back)
		if err != nil || back.Scheme != "" || back.Host != "" || !strings.HasPrefix(back.Path, prefix) || back.Query().Get(returned) != "1" {
			t.Fatalf("the way back of %q, %q, %q is %q", prefix, destination, locale, a.back)
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(back.Path, prefix), "/")
		if rest != "" && string(recharge.ParseDestination(rest)) != rest {
			t.Errorf("the way back of %q is %q; want a destination in it", destination, a.back)
		}
		if root := localePrefix(a.path); root != "" && !strings.HasPrefix(a.path, root+"/") {
			t.Errorf("localePrefix(%q) = %q", a.path, root)
		}
	})
}

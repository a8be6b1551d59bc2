package handlers_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// TestSignedLinks checks that a signed link opens the named customer's portal, once.
func TestSignedLinks(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	for i, test := range []struct {
		name, key, customer, destination string
	}{
		{"by Shopify's id", servertest.APIKey, servertest.Pat, ""},
		{"the old key", servertest.OldAPIKey, servertest.Pat, "orders"},
		{"as the Customer Account API names customers", servertest.APIKey, "gid://shopify/Customer/" + servertest.Pat, ""},
		{"by Recharge's id", servertest.APIKey, "recharge:70100200", "payment-methods"},
	} {
		link := f.SignedLink(fmt.Sprint("n", i), test.customer)
		link.Destination = test.destination
		path := f.SignLink(test.key, link)
		got := f.FollowLink(path+"&utm_source=mail", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
		if got.Status != http.StatusFound || got.Outcome() != "redirected" || got.Line["channel"] != "go" {
			t.Errorf("%s: %d %v %s; want the portal", test.name, got.Status, got.Line, got.Body)
			continue
		}
		if opened := f.Open(f.Shopper(""), got.Location); opened.Customer.ID != servertest.PatsRecord {
			t.Errorf("%s: opened %+v; want Pat's portal", test.name, opened)
		}
		f.Calls()
		if again := f.FollowLink(path, "User-Agent", "another browser"); again.Status != http.StatusForbidden || len(f.Calls()) != 0 {
			t.Errorf("%s, again: %d %s; want it refused", test.name, again.Status, again.Body)
		}
	}
}

// TestSignedLinkLeadsBack checks that country and return_to are signed and used, and that a way back to
// another host is replaced by the store's home page, because a shopper cannot correct a signed link.
func TestSignedLinkLeadsBack(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	for i, test := range []struct{ back, want string }{
		{"", f.Store.URL + "/"},
		{"https://" + servertest.Shop + "/account", "https://" + servertest.Shop + "/account"},
		{"https://evil.example/", f.Store.URL + "/"},
		{"https://admin.rechargeapps.com/", f.Store.URL + "/"},
	} {
		link := f.SignedLink(fmt.Sprint("n", i), servertest.Pat)
		link.Destination, link.Country, link.ReturnTo = "gifts/7", "ca", test.back
		path := f.SignLink(servertest.APIKey, link)
		for from, to := range map[string]string{"country=ca": "country=fr", "&return_to=": "&return_to=https%3A%2F%2Fworse.example%2F&x="} {
			if changed := strings.Replace(path, from, to, 1); changed != path {
				if got := f.FollowLink(changed); got.Status != http.StatusForbidden {
					t.Errorf("%s: %d; want it refused, since it was changed", changed, got.Status)
				}
			}
		}
		got := f.FollowLink(path)
		to, err := url.Parse(got.Location)
		if err != nil || to.Query().Get("redirect_to") != test.want || to.Query().Get("region_country") != "CA" {
			t.Errorf("return_to %q: %d %q; want a link that leads back to %s, for Canada", test.back, got.Status, got.Location, test.want)
		}
	}
}

// TestSignedLinkEnds checks that outcomes have our own pages, in the shopper's language.
func TestSignedLinkEnds(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	for i, test := range []struct {
		name, customer, locale, accept string
		broken                         func(*rechargetest.Faults)
		outcome, want                  string
	}{
		{"never subscribed", servertest.Robin, "", "fr-CH, fr;q=0.9, en;q=0.8", nil, "not_a_subscriber", `<html lang="fr"`},
		{"two records", servertest.Kim, "ar", "fr", nil, "not_a_subscriber", `dir="rtl"`},
		{"no such record", "recharge:999", "", "xx", nil, "not_a_subscriber", `<html lang="en"`},
		{"Recharge down", servertest.Sam, "", "de", func(x *rechargetest.Faults) { x.Down = true }, "unavailable", `<html lang="de"`},
	} {
		if test.broken != nil {
			f.Recharge.SetFaults(test.broken)
		}
		link := f.SignedLink(fmt.Sprint("n", i), test.customer)
		link.Locale = test.locale
		got := f.FollowLink(f.SignLink(servertest.APIKey, link), "Accept-Language", test.accept)
		if got.Status != http.StatusOK || got.Outcome() != test.outcome || !strings.Contains(got.Body, test.want) || !strings.Contains(got.Body, `data-outcome="`+test.outcome+`"`) {
			t.Errorf("%s: %d %s %s; want %s with %s", test.name, got.Status, got.Outcome(), got.Body, test.outcome, test.want)
		}
		if policy := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy %q; want one that lets nothing in", test.name, policy)
		}
		if !strings.Contains(got.Body, fmt.Sprint(got.Line["request_id"])) || !strings.Contains(got.Body, f.Store.URL+"/") {
			t.Errorf("%s: %s; want the request's id and a way back to the store", test.name, got.Body)
		}
	}
}

// TestSignedLinkRefused checks that a link that was altered or is out of its time opens nothing and
// makes no call. The answer to a link without a right signature does not depend on anything else.
func TestSignedLinkRefused(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.FollowLink(f.SignLink(servertest.APIKey, f.SignedLink("warm", servertest.Pat))) // caches Pat, with a link
	good := f.SignedLink("good", servertest.Pat)
	text := f.SignLink(servertest.APIKey, good)
	with := func(edit func(url.Values)) string {
		query, _ := url.ParseQuery(strings.TrimPrefix(text, "/go?"))
		edit(query)
		return "/go?" + query.Encode()
	}
	f.Calls()
	over := good
	over.Expires = f.Clock.Now().Add(-time.Second)
	for name, path := range map[string]string{
		"wrong key":             f.SignLink("another-key-0123456789", good),
		"wrong key, and over":   f.SignLink("another-key-0123456789", over),
		"another customer":      with(func(q url.Values) { q.Set("customer", servertest.Sam) }),
		"Recharge's id instead": with(func(q url.Values) { q.Set("customer", "recharge:"+servertest.Pat) }),
		"another shop":          with(func(q url.Values) { q.Set("shop", otherShop) }),
		"another page":          with(func(q url.Values) { q.Set("destination", "orders") }),
		"a language":            with(func(q url.Values) { q.Set("locale", "fr") }),
		"longer":                with(func(q url.Values) { q.Set("expires", fmt.Sprint(good.Expires.Unix()+30)) }),
		"another nonce":         with(func(q url.Values) { q.Set("nonce", strings.Repeat("x", 16)) }),
		"re-split":              with(func(q url.Values) { q.Set("customer", servertest.Pat[:5]); q.Set("destination", servertest.Pat[5:]) }),
		"no signature":          with(func(q url.Values) { q.Del("signature") }),
		"two signatures":        with(func(q url.Values) { q.Add("signature", q.Get("signature")) }),
		"two customers":         with(func(q url.Values) { q.Add("customer", servertest.Sam) }),
		"no nonce":              with(func(q url.Values) { q.Del("nonce") }),
		"in capitals":           with(func(q url.Values) { q.Set("signature", strings.ToUpper(q.Get("signature"))) }),
		"a malformed pair":      text + "&%zz=1",
		"a semicolon":           text + ";a=1",
		"nothing":               "/go",
	} {
		got := f.FollowLink(path, "Accept-Language", "de")
		if got.Status != http.StatusForbidden || got.Outcome() != "forbidden" || !strings.Contains(got.Body, "nicht mehr gültig") || !strings.Contains(got.Body, "Geh zurück zum Shop") {
			t.Errorf("%s: %d %s %s; want it refused, and what to do", name, got.Status, got.Outcome(), got.Body)
		}
		if strings.Contains(got.Body, "href=\"http") || got.Line["shop"] != nil && got.Line["shop"] != "" {
			t.Errorf("%s: %v %s; want no store named, because anybody can send this", name, got.Line, got.Body)
		}
	}
	for name, headers := range map[string][]string{
		"fetched ahead":      {"Sec-Purpose", "prefetch;prerender"},
		"fetched ahead, too": {"Purpose", "prefetch"},
		"by a script":        {"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
		"in a frame":         {"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"},
	} {
		if got := f.FollowLink(text, headers...); got.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s; want it refused", name, got.Status, got.Body)
		}
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("what was refused made the calls %v; want none", calls)
	}
	if got := f.FollowLink(text); got.Status != http.StatusFound {
		t.Errorf("the link itself: %d %s; want it still unused", got.Status, got.Body)
	}
}

// TestSignedLinkTooLate checks that a link whose signature is right tells the shopper that it has
// been used or is too old, in the link's language, and leads back to the store.
func TestSignedLinkTooLate(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	signed := func(locale string, in time.Duration) string {
		link := f.SignedLink("n"+locale, servertest.Pat)
		link.Locale, link.Expires = locale, f.Clock.Now().Add(in)
		return f.SignLink(servertest.APIKey, link)
	}
	used := signed("", 4*time.Minute)
	f.FollowLink(used)
	f.Calls()
	for name, test := range map[string]struct{ path, says string }{
		"used":               {used, "Ce lien a déjà été utilisé."},
		"over":               {signed("en", -time.Second), "This link is too old."},
		"over for days":      {signed("de", -72*time.Hour), "Dieser Link ist zu alt."},
		"valid for too long": {signed("es", 5*time.Minute+2*time.Second), "Este enlace no es válido o ha caducado."},
	} {
		got := f.FollowLink(test.path, "Accept-Language", "fr", "User-Agent", "another browser")
		if got.Status != http.StatusForbidden || got.Outcome() != "forbidden" || got.Line["shop"] != servertest.Shop {
			t.Errorf("%s: %d %v; want it forbidden, and the shop in the log", name, got.Status, got.Line)
		}
		if !strings.Contains(got.Body, "<p>"+test.says+"</p>") || !strings.Contains(got.Body, `<a class="button" href="`+f.Store.URL+`/">`) {
			t.Errorf("%s: %s; want %q on it, and the way to the store", name, got.Body, test.says)
		}
		if policy := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: the policy %q; want one that lets nothing in", name, policy)
		}
	}
	f.WantCalls("links that are used or too old", map[string]int{})
}

// TestDoubleClick checks that a link opens again in the same browser for ten seconds after its first
// use, without further calls, and in no other browser.
func TestDoubleClick(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	path := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	browser := []string{"User-Agent", "Browser/1", "X-Forwarded-For", "203.0.113.7, 198.51.100.1"}
	follows := func(when string, status int, headers ...string) {
		t.Helper()
		got := f.FollowLink(path, headers...)
		if got.Status != status || status == http.StatusFound && f.Open(f.Shopper(""), got.Location).Customer.ID != servertest.PatsRecord {
			t.Errorf("%s: %d %s %s; want %d", when, got.Status, got.Location, got.Body, status)
		}
	}
	follows("first", http.StatusFound, browser...)
	f.WantCalls("the first click", servertest.OneCallEach())
	f.Clock.Add(8 * time.Second)
	follows("a double click", http.StatusFound, browser...)
	for name, other := range map[string][]string{
		"another browser":          {"User-Agent", "Browser/2", "X-Forwarded-For", browser[3]},
		"another address":          {"User-Agent", "Browser/1", "X-Forwarded-For", "203.0.113.8, 198.51.100.1"},
		"an invented address":      {"User-Agent", "Browser/1", "X-Forwarded-For", "203.0.113.7, 203.0.113.9, 198.51.100.1"},
		"no proxy":                 {"User-Agent", "Browser/1"},
		"a browser without a name": {"User-Agent", "", "X-Forwarded-For", browser[3]},
	} {
		follows(name, http.StatusForbidden, other...)
	}
	if got := f.FollowLink(path, append(browser, "Sec-Purpose", "prefetch")...); got.Status != http.StatusForbidden {
		t.Errorf("a prefetch: %d; want it refused", got.Status)
	}
	for key, value := range f.Redis.Dump() {
		for _, clear := range []string{"203.0.113.7", "127.0.0.1", "Browser/1"} {
			if strings.Contains(fmt.Sprint(key, value), clear) {
				t.Errorf("Redis holds %q in %q", clear, key)
			}
		}
	}
	f.Clock.Add(3 * time.Second)
	follows("ten seconds after the first click", http.StatusForbidden, browser...)
	f.WantCalls("a double click", map[string]int{})
}

// TestSignedLinkWithoutRedis checks that a link opens nothing if we cannot find out whether it was
// used.
func TestSignedLinkWithoutRedis(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	path := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	f.FollowLink(path) // caches Pat, also in the process
	f.Redis.Stop()
	for _, path := range []string{path, f.SignLink(servertest.APIKey, f.SignedLink("m", servertest.Pat))} {
		if got := f.FollowLink(path); got.Status != http.StatusOK || got.Outcome() != "unavailable" || got.Location != "" || !strings.Contains(got.Body, "Go back to the store") {
			t.Errorf("GET /go without Redis = %d %s %s; want unavailable, and what to do", got.Status, got.Outcome(), got.Body)
		}
	}
	if got := f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat)); got.Status != http.StatusOK {
		t.Errorf("POST without Redis = %d %s; want a link", got.Status, got.Body)
	}
}

// TestSimultaneousLinks follows one link many times at once, on two servers. Of many browsers, only
// one may get in. One browser may get in each time, but makes only the calls of one click.
func TestSimultaneousLinks(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	beside := f.Instance(server.Options{}, servertest.WithAPIKeys)
	follow := func(path string, browser func(int) string) int32 {
		var all sync.WaitGroup
		var in atomic.Int32
		for i := range 20 {
			all.Go(func() {
				public := []string{f.Public, beside.Public}[i%2]
				request, _ := http.NewRequest(http.MethodGet, "http://"+public+path, nil)
				request.Header.Set("User-Agent", browser(i))
				response, err := http.DefaultTransport.RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				if response.StatusCode == http.StatusFound {
					in.Add(1)
				}
			})
		}
		all.Wait()
		return in.Load()
	}
	same := f.SignLink(servertest.APIKey, f.SignedLink("same", servertest.Pat))
	if got := follow(same, func(int) string { return "Browser/1" }); got != 20 {
		t.Errorf("%d of one browser's 20 visits got in; want all", got)
	}
	f.WantCalls("one browser", servertest.OneCallEach())
	path := f.SignLink(servertest.APIKey, f.SignedLink("n", servertest.Pat))
	if got := follow(path, func(i int) string { return fmt.Sprint("Browser/", i) }); got != 1 {
		t.Errorf("%d of 20 browsers got in; want 1", got)
	}
}

// TestVisitorLeaves checks that a link is used up if the shopper leaves before the answer, and that
// this does not count as a failure of Redis.
func TestVisitorLeaves(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.WithAPIKeys)
	f.PostLink(servertest.APIKey, servertest.ByShopifyID(servertest.Pat))
	for i := range 50 {
		path := f.SignLink(servertest.APIKey, f.SignedLink(fmt.Sprint("n", i), servertest.Pat))
		connection, err := net.Dial("tcp", f.Public)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(connection, "GET "+path+" HTTP/1.1\r\nHost: app.example\r\n\r\n")
		_ = connection.(*net.TCPConn).CloseWrite() // to the server, the client has left
		answer, err := io.ReadAll(connection)
		connection.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 302") {
			t.Fatalf("visit %d: %.100q, %v; want the portal", i, answer, err)
		}
	}
}

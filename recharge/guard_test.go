package recharge_test

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

type linkCase struct {
	line    int
	allowed bool
	link    string
}

// linkCorpus reads testdata/links.txt.
func linkCorpus(t testing.TB) []linkCase {
	t.Helper()
	file, err := os.Open("testdata/links.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var cases []linkCase
	scanner := bufio.NewScanner(file)
	for line := 1; scanner.Scan(); line++ {
		text := scanner.Text()
		if text == "" || strings.HasPrefix(text, "# ") {
			continue
		}
		verdict, link, ok := strings.Cut(text, "\t")
		if !ok || verdict != "allowed" && verdict != "refused" {
			t.Fatalf("testdata/links.txt:%d: want allowed or refused, a tab, a link", line)
		}
		if strings.HasPrefix(link, `"`) {
			if link, err = strconv.Unquote(link); err != nil {
				t.Fatalf("testdata/links.txt:%d: %v", line, err)
			}
		}
		cases = append(cases, linkCase{line, verdict == "allowed", link})
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestGuard tries every link of the corpus on the guard itself, and as a link that Recharge sends.
func TestGuard(t *testing.T) {
	t.Parallel()
	cases := linkCorpus(t)
	if len(cases) < 60 {
		t.Fatalf("testdata/links.txt holds %d links; want 60 or more", len(cases))
	}
	for _, test := range cases {
		if got := newClient(t, "http://127.0.0.1:1").Allows(test.link, pat()); got != test.allowed {
			t.Errorf("testdata/links.txt:%d: Allows(%q) = %v; want %v", test.line, test.link, got, test.allowed)
		}
		body, err := json.Marshal(map[string]string{"customer_hash": hash, "portal_url": test.link})
		if err != nil {
			t.Fatal(err)
		}
		srv := newScript(t, says(string(body)))
		got, err := portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, visit(recharge.Subscriptions))
		want := recharge.LinkRefused
		if test.allowed {
			want = ""
		}
		checkReason(t, "testdata/links.txt:"+strconv.Itoa(test.line)+": PortalAccess", err, want)
		if err == nil && got.URL != test.link {
			t.Errorf("PortalAccess = %q; want %q, unaltered", got.URL, test.link)
		}
	}
}

// TestGuardOfSandbox: only the configured origin may be http, and config accepts that only on
// loopback.
func TestGuardOfSandbox(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1", func(o *recharge.Options) { o.PortalURL = mustURL(t, "http://127.0.0.1:8080/portal/") })
	for link, want := range map[string]bool{
		"http://127.0.0.1:8080/portal/" + hash + "/subscriptions":            true,
		"http://127.0.0.1:8081/portal/" + hash + "/subscriptions":            false,
		"http://127.0.0.1/portal/" + hash + "/subscriptions":                 false,
		"https://127.0.0.1:8080/portal/" + hash + "/subscriptions":           false,
		"http://localhost:8080/portal/" + hash + "/subscriptions":            false,
		"http://127.0.0.1:8080@evil.example/portal/" + hash:                  false,
		"http://127.0.0.1:8080.evil.example/portal/" + hash:                  false,
		"http://admin.rechargeapps.com/portal/" + hash + "/subscriptions":    false,
		"http://fixture-shop.myshopify.com/portal/" + hash:                   false,
		"https://admin.rechargeapps.com/portal/" + hash + "/subscriptions":   true,
		"http://127.0.0.1:8080/portal/aaaabbbbccccdddd/subscriptions":        false,
		"http://127.0.0.1:8080/portal/" + hash + "/../aaaabbbbccccdddd/page": false,
	} {
		if got := c.Allows(link, pat()); got != want {
			t.Errorf("Allows(%q) = %v; want %v", link, got, want)
		}
	}
}

// TestAccessPassesAnew: a cached access is checked like an answer, because the configuration may
// have changed since it was made.
func TestAccessPassesAnew(t *testing.T) {
	t.Parallel()
	branded := "https://portal.brand.example/tools/recurring/portal/"
	before := newClient(t, "http://127.0.0.1:1", func(o *recharge.Options) { o.PortalURL = mustURL(t, branded) })
	after := newClient(t, "http://127.0.0.1:1")
	access := recharge.Access{Base: branded, TempToken: portalToken, Expires: issued}
	climbing := recharge.Access{Base: "https://admin.rechargeapps.com/portal/" + hash, TempToken: portalToken}
	tests := []struct {
		name     string
		client   *recharge.Client
		access   recharge.Access
		customer recharge.Customer
		to       recharge.Destination
		want     recharge.Reason
	}{
		{"as it was", before, access, pat(), "orders", ""},
		{"with another portal configured", after, access, pat(), "orders", recharge.LinkRefused},
		{"of nobody", before, access, recharge.Customer{}, "orders", recharge.LinkRefused},
		{"of a hash that climbs", before, access, recharge.Customer{Hash: "../x"}, "orders", recharge.LinkRefused},
		{"to a destination that climbs", after, climbing, pat(), "x/../../../y", recharge.LinkRefused},
		{"without a base", before, recharge.Access{TempToken: portalToken}, pat(), "orders", recharge.Malformed},
		{"without a token", before, recharge.Access{Base: branded}, pat(), "orders", recharge.Malformed},
		{"with a base that is no URL", before, recharge.Access{Base: "https://%zz", TempToken: portalToken}, pat(), "orders", recharge.LinkRefused},
		{"zero", before, recharge.Access{}, pat(), "orders", recharge.Malformed},
		{"zero, of nobody", before, recharge.Access{}, recharge.Customer{}, "orders", recharge.Malformed},
	}
	for _, test := range tests {
		link, err := test.client.SignedInLink(test.customer, test.access, visit(test.to))
		checkReason(t, "SignedInLink of an access "+test.name, err, test.want)
		want := recharge.Link{}
		if test.want == "" {
			want = recharge.Link{URL: branded + hash + "/orders?token=" + portalToken, Expires: issued}
		}
		if link != want {
			t.Errorf("SignedInLink of an access %s = %+v; want %+v", test.name, link, want)
		}
	}
}

// TestNoWayToAnother: whatever portal Recharge names, and wherever a link leads and leads back to, the
// guard allows it for nobody but the customer, and it is on the portal's own host.
func TestNoWayToAnother(t *testing.T) {
	t.Parallel()
	const others = "aaaabbbbccccdddd"
	c := newClient(t, "http://127.0.0.1:1")
	var allowed int
	for _, base := range []string{
		portalURL, "https://fixture-shop.myshopify.com/tools/recurring/portal", "https://admin.rechargeapps.com/portal/", "https://portal.rechargeapps.com/portal/portal/",
		"https://portal.evil.example/portal/", "https://portal/", "https://portal", "https://evil.example/portal", "//evil.example/portal/", "http://admin.rechargeapps.com/portal/",
		"https://admin.rechargeapps.com/portal/../portal/", "https://admin.rechargeapps.com/%70ortal/", "https://admin.rechargeapps.com/x%2fportal/", "https://admin.rechargeapps.com//portal//",
		"https://admin.rechargeapps.com/?x=/portal/", "https://admin.rechargeapps.com/#/portal/", "https://admin.rechargeapps.com\\@evil.example/portal/", "https://a@evil.example/portal/",
		"https://admin.rechargeapps.com/account/payment-methods?hash=" + others + "&x=/portal", "https://admin.rechargeapps.com/pages/account/payment-methods?hash=" + others + "&x=/portal",
		"https://admin.rechargeapps.com/pages/account/payment-methods?hash=" + others + "#/portal", "https://admin.rechargeapps.com/myportal/", "javascript:alert(1)/portal/", "portal", "/portal", "%zz/portal/",
	} {
		for _, to := range []recharge.Destination{"", "overview", "subscriptions", "subscriptions/5", "subscriptions/5/cancel", "gifts", "gifts/7", "payment-method/update", "payment-methods"} {
			for _, back := range []string{
				"", "/apps/subscriptions", "https://fixture-shop.example/" + others, "/" + others + "/", "https://evil.example/", "//evil.example", "&hash=" + others, "/?&hash=" + others, "/#/" + others + "/",
				"/../../" + others + "/pages/account/payment-methods?hash=" + others,
			} {
				v := recharge.Visit{To: to, Return: back}
				link, err := c.SignedInLink(pat(), recharge.Access{Base: base, TempToken: "t&hash=" + others}, v)
				if err != nil {
					continue
				}
				allowed++
				if c.Allows(link.URL, recharge.Customer{ID: foreignID, Hash: others}) {
					t.Errorf("base %q, %+v: the guard allows %q for another customer", base, v, link.URL)
				}
				u := mustURL(t, link.URL)
				if from := mustURL(t, base); u.Scheme != "https" || u.Host != from.Host || strings.Contains(u.Path, others) || u.Query().Get("token") != "t&hash="+others {
					t.Errorf("base %q, %+v: the link is %q", base, v, link.URL)
				}
				if to := u.Query().Get("redirect_to"); to != "" && to != c.WayBack(to) || strings.Contains(to, "evil.example") {
					t.Errorf("base %q, %+v: the link leads back to %q", base, v, to)
				}
			}
		}
	}
	if allowed < 300 {
		t.Errorf("%d links; want the good bases' ones", allowed)
	}
}

// TestRefusalTellsTheHost: an operator whose portal has its own domain needs to see which one to
// configure.
func TestRefusalTellsTheHost(t *testing.T) {
	t.Parallel()
	for host, told := range map[string]string{
		"portal.brand.example":                "portal.brand.example",
		"evil.example\nlevel=INFO":            "",
		"[::1]":                               "(strange)",
		"portal.brand.example:8443":           "(strange)",
		"PORTAL.brand.example":                "(strange)",
		strings.Repeat("a", 100) + ".example": "(strange)",
	} {
		err := refusal(t, "https://"+host+"/portal/"+hash)
		checkReason(t, "PortalAccess", err, recharge.LinkRefused)
		if err != nil && !strings.Contains(err.Error(), told) {
			t.Errorf("PortalAccess to host %q = %q; want it to name %q", host, err, told)
		}
	}
}

// TestRefusalKeepsSecretsInTheHost: a host that contains the hash or the token is not quoted.
func TestRefusalKeepsSecretsInTheHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{hash + ".evil.example", portalToken + ".evil.example", "x" + hash + "x.evil.example"} {
		err := refusal(t, "https://"+host+"/portal/"+hash+"?token="+portalToken)
		checkReason(t, "PortalAccess", err, recharge.LinkRefused)
	}
}

func refusal(t *testing.T, portalURL string) error {
	t.Helper()
	body, err := json.Marshal(map[string]string{"customer_hash": hash, "portal_url": portalURL, "temp_token": portalToken})
	if err != nil {
		t.Fatal(err)
	}
	srv := newScript(t, says(string(body)))
	_, err = portalLink(t.Context(), newClient(t, srv.URL), pat(), recharge.Session{Token: opaqueSession}, visit(recharge.Subscriptions))
	return err
}

// FuzzGuard: every link that the guard allows keeps its promise, as read by net/url and, as far as
// we can tell without one, by a browser.
func FuzzGuard(f *testing.F) {
	for _, c := range linkCorpus(f) {
		f.Add(c.link, hash)
	}
	f.Add("http://127.0.0.1:8080/portal/a/", "a")
	portals := []*url.URL{mustURL(f, portalURL), mustURL(f, "http://127.0.0.1:8080/portal/")}
	clients := make([]*recharge.Client, len(portals))
	for i, portal := range portals {
		clients[i] = newClient(f, "http://127.0.0.1:1", func(o *recharge.Options) { o.PortalURL = portal })
	}
	f.Fuzz(func(t *testing.T, link, hash string) {
		for i, c := range clients {
			if !c.Allows(link, recharge.Customer{ID: rechargeID, Hash: hash}) {
				continue
			}
			if broken := promiseBroken(link, hash, portals[i]); broken != "" {
				t.Errorf("Allows(%q) of hash %q with portal %s = true; but %s", link, hash, portals[i], broken)
			}
		}
	})
}

// promiseBroken returns what is wrong with a link that the guard allows, or "".
func promiseBroken(link, hash string, portal *url.URL) string {
	u, err := url.Parse(link)
	if err != nil {
		return "net/url cannot read it"
	}
	configured := u.Scheme == portal.Scheme && u.Host == portal.Host
	host := u.Hostname()
	switch {
	case u.Scheme != "https" && !configured:
		return "it is not https"
	case !configured && u.Port() != "":
		return "it names a port"
	case !configured && host != shop && !strings.HasSuffix(host, ".rechargeapps.com"):
		return "its host is none of ours"
	case u.User != nil || strings.Contains(u.Host, "@"):
		return "it names a user"
	case u.Opaque != "" || u.Fragment != "":
		return "it has an opaque part or a fragment"
	case strings.HasSuffix(u.Path, "/pages/account/payment-methods"):
		if values := strings.Count("&"+u.RawQuery, "&hash="); values != 1 || hash == "" || u.Query().Get("hash") != hash || strings.Contains(u.RawQuery, ";") {
			return "the hash is not in its query, once"
		}
	case hash == "" || !slices.Contains(strings.Split(u.Path, "/"), hash):
		return "the hash is not in its path"
	case !slices.Contains(strings.Split(path.Clean(u.Path), "/"), hash):
		return "the hash is not in its cleaned path"
	}
	switch {
	case strings.Contains(u.EscapedPath(), "%"):
		return "its path is escaped"
	case strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return "it holds characters that browsers read differently"
	}
	return ""
}

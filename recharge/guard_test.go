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

	"manage-subscriptions/recharge"
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

// TestGuard tries every link of the corpus on both ways out: as one that was
// remembered, and as one that Recharge has just sent.
func TestGuard(t *testing.T) {
	t.Parallel()
	cases := linkCorpus(t)
	if len(cases) < 60 {
		t.Fatalf("testdata/links.txt holds %d links; want 60 or more", len(cases))
	}
	for _, test := range cases {
		if got := newClient(t, "http://127.0.0.1:1").Allows(recharge.Link{URL: test.link}, pat()); got != test.allowed {
			t.Errorf("testdata/links.txt:%d: Allows(%q) = %v; want %v", test.line, test.link, got, test.allowed)
		}
		body, err := json.Marshal(map[string]string{"customer_hash": hash, "portal_url": test.link})
		if err != nil {
			t.Fatal(err)
		}
		srv := newScript(t, says(string(body)))
		got, err := newClient(t, srv.URL).SignedInLink(t.Context(), pat(), recharge.Session{Token: opaqueSession}, recharge.Subscriptions, "")
		want := recharge.LinkRefused
		if test.allowed {
			want = ""
		}
		checkReason(t, "testdata/links.txt:"+strconv.Itoa(test.line)+": SignedInLink", err, want)
		if err == nil && got.URL != test.link {
			t.Errorf("SignedInLink = %q; want %q, unaltered", got.URL, test.link)
		}
	}
}

// TestGuardOfSandbox: the one origin that may be http is the configured one,
// and config takes it only on loopback.
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
		if got := c.Allows(recharge.Link{URL: link}, pat()); got != want {
			t.Errorf("Allows(%q) = %v; want %v", link, got, want)
		}
	}
}

// TestRememberedLinkPassesAnew: an entry of the cache is no better than an
// answer, and the configuration may have changed.
func TestRememberedLinkPassesAnew(t *testing.T) {
	t.Parallel()
	branded := "https://portal.brand.example/tools/recurring/portal/"
	before := newClient(t, "http://127.0.0.1:1", func(o *recharge.Options) { o.PortalURL = mustURL(t, branded) })
	link, err := before.LinkByHash(pat(), recharge.Subscriptions, "")
	checkReason(t, "LinkByHash", err, "")
	after := newClient(t, "http://127.0.0.1:1")
	tests := []struct {
		name     string
		client   *recharge.Client
		link     recharge.Link
		customer recharge.Customer
		want     bool
	}{
		{"as it was", before, link, pat(), true},
		{"with another portal configured", after, link, pat(), false},
		{"of another customer", before, link, recharge.Customer{ID: foreignID, Hash: "aaaabbbbccccdddd"}, false},
		{"of nobody", before, link, recharge.Customer{}, false},
		{"empty", before, recharge.Link{}, pat(), false},
		{"empty, of nobody", before, recharge.Link{}, recharge.Customer{}, false},
	}
	for _, test := range tests {
		if got := test.client.Allows(test.link, test.customer); got != test.want {
			t.Errorf("Allows(a link %s) = %v; want %v", test.name, got, test.want)
		}
	}
}

// TestRefusalTellsTheHost: an operator whose portal has its own domain needs to
// see which one to configure.
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
		checkReason(t, "SignedInLink", err, recharge.LinkRefused)
		if err != nil && !strings.Contains(err.Error(), told) {
			t.Errorf("SignedInLink to host %q = %q; want it to name %q", host, err, told)
		}
	}
}

// TestRefusalKeepsSecretsInTheHost: a host that holds the hash or the token is
// not repeated.
func TestRefusalKeepsSecretsInTheHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{hash + ".evil.example", portalToken + ".evil.example", "x" + hash + "x.evil.example"} {
		err := refusal(t, "https://"+host+"/portal/"+hash+"?token="+portalToken)
		checkReason(t, "SignedInLink", err, recharge.LinkRefused)
	}
}

func refusal(t *testing.T, portalURL string) error {
	t.Helper()
	body, err := json.Marshal(map[string]string{"customer_hash": hash, "portal_url": portalURL, "temp_token": portalToken})
	if err != nil {
		t.Fatal(err)
	}
	srv := newScript(t, says(string(body)))
	_, err = newClient(t, srv.URL).SignedInLink(t.Context(), pat(), recharge.Session{Token: opaqueSession}, recharge.Subscriptions, "")
	return err
}

// FuzzGuard: whatever the guard lets out is what it promises, as net/url and,
// as far as that can be told without one, a browser read it.
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
			if !c.Allows(recharge.Link{URL: link}, recharge.Customer{ID: rechargeID, Hash: hash}) {
				continue
			}
			if broken := promiseBroken(link, hash, portals[i]); broken != "" {
				t.Errorf("Allows(%q) of hash %q with portal %s = true; but %s", link, hash, portals[i], broken)
			}
		}
	})
}

// promiseBroken says what a link does that none may do.
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
	case hash == "" || !slices.Contains(strings.Split(u.Path, "/"), hash):
		return "the hash is not in its path"
	case !slices.Contains(strings.Split(path.Clean(u.Path), "/"), hash):
		return "the hash is not in its path once that is cleaned"
	case strings.Contains(u.EscapedPath(), "%"):
		return "its path is escaped"
	case strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return "it holds what browsers read otherwise"
	}
	return ""
}

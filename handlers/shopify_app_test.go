package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

// app is shopify.app.toml, as Shopify CLI 4.8 reads it.
type app struct {
	ClientID       string `toml:"client_id"`
	Name           string `toml:"name"`
	ApplicationURL string `toml:"application_url"`
	Embedded       bool   `toml:"embedded"`
	Access         struct {
		Admin struct {
			EmbeddedAppDirectAPIAccess bool   `toml:"embedded_app_direct_api_access"`
			DirectAPIMode              string `toml:"direct_api_mode"`
		} `toml:"admin"`
	} `toml:"access"`
	AccessScopes struct {
		Scopes               string `toml:"scopes"`
		UseLegacyInstallFlow bool   `toml:"use_legacy_install_flow"`
	} `toml:"access_scopes"`
	Auth struct {
		RedirectURLs []string `toml:"redirect_urls"`
	} `toml:"auth"`
	Webhooks struct {
		APIVersion    string         `toml:"api_version"`
		Subscriptions []subscription `toml:"subscriptions"`
	} `toml:"webhooks"`
	AppProxy struct {
		URL     string `toml:"url"`
		Prefix  string `toml:"prefix"`
		Subpath string `toml:"subpath"`
	} `toml:"app_proxy"`
	Build struct {
		AutomaticallyUpdateURLsOnDev bool `toml:"automatically_update_urls_on_dev"`
	} `toml:"build"`
}

type subscription struct {
	Topics           []string `toml:"topics"`
	ComplianceTopics []string `toml:"compliance_topics"`
	URI              string   `toml:"uri"`
}

func readApp(t *testing.T) app {
	t.Helper()
	file, err := os.Open("../shopify.app.toml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var a app
	if err := toml.NewDecoder(file).DisallowUnknownFields().Decode(&a); err != nil {
		t.Fatalf("read shopify.app.toml: %v", err)
	}
	return a
}

// join resolves an address that begins with a slash like the CLI.
func (a app) join(address string) string {
	if !strings.HasPrefix(address, "/") {
		return address
	}
	return strings.TrimSuffix(a.ApplicationURL, "/") + address
}

// path returns the path that this server sees when Shopify requests address.
func (a app) path(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(a.join(address))
	if err != nil {
		t.Fatal(err)
	}
	if server, err := url.Parse(a.ApplicationURL); err != nil || u.Scheme != "https" || u.Host != server.Host || u.RawQuery != "" {
		t.Fatalf("%q is not on the server at %q", address, a.ApplicationURL)
	}
	if u.Path == "" {
		return "/"
	}
	return u.Path
}

// TestAppAsks checks the permissions that the app asks for against the contract.
func TestAppAsks(t *testing.T) {
	a := readApp(t)
	if a.AccessScopes.Scopes != "write_app_proxy" || a.AccessScopes.UseLegacyInstallFlow {
		t.Errorf("access_scopes = %+v; want write_app_proxy, installed by Shopify", a.AccessScopes)
	}
	if !a.Access.Admin.EmbeddedAppDirectAPIAccess || a.Access.Admin.DirectAPIMode != "online" {
		t.Errorf("access.admin = %+v; want what the app home needs to save the path", a.Access.Admin)
	}
	if a.ClientID != "" {
		t.Errorf("client_id = %q; want none in the repository", a.ClientID)
	}
	if !a.Embedded || a.Name == "" || len(a.Name) > 30 {
		t.Errorf("embedded = %v, name = %q; want an app in the admin with a name of at most 30", a.Embedded, a.Name)
	}
	if a.Build.AutomaticallyUpdateURLsOnDev {
		t.Error("automatically_update_urls_on_dev = true; want the server that shoppers use left alone")
	}
	var topics, compliance []string
	for _, s := range a.Webhooks.Subscriptions {
		topics, compliance = append(topics, s.Topics...), append(compliance, s.ComplianceTopics...)
	}
	if diff := cmp.Diff([]string{"app/uninstalled"}, topics); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"customers/data_request", "customers/redact", "shop/redact"}, slices.Sorted(slices.Values(compliance))); diff != "" {
		t.Errorf("compliance_topics (-want +got):\n%s", diff)
	}
}

// versionEnd returns the day from which Shopify need not answer an API version as asked: a year after its release, which
// is on the first day of a quarter. https://shopify.dev/docs/api/usage/versioning
func versionEnd(version string) (time.Time, error) {
	released, err := time.Parse("2006-01", version)
	if err == nil && released.Month()%3 != 1 {
		err = fmt.Errorf("%q is no quarter", version)
	}
	return released.AddDate(1, 0, 0), err
}

func TestVersionEnd(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"2026-07": "2027-07-01", "2026-10": "2027-10-01", "2026-08": "", "unstable": "", "": ""} {
		end, err := versionEnd(version)
		if want == "" && err == nil || want != "" && (err != nil || end.Format(time.DateOnly) != want) {
			t.Errorf("versionEnd(%q) = %v, %v; want %q", version, end, err, want)
		}
	}
}

// TestAPIVersions checks that Shopify supports each API version in the app's and its extensions' configuration today.
// Two months before an end, it says so in the log.
func TestAPIVersions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../extensions/*/shopify.extension.toml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../shopify.app.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^\s*api_version\s*=\s*"(.*)"`).FindAllSubmatch(text, -1) {
			found++
			version := string(match[1])
			end, err := versionEnd(version)
			switch left := time.Until(end); {
			case err != nil:
				t.Errorf("%s: api_version = %q: %v", file, version, err)
			case left < 0:
				t.Errorf("%s: Shopify's support of the API version %s ended on %s; raise it", file, version, end.Format(time.DateOnly))
			case left < 60*24*time.Hour:
				t.Logf("%s: Shopify's support of the API version %s ends on %s", file, version, end.Format(time.DateOnly))
			}
		}
	}
	if found < 2 {
		t.Errorf("found %d API versions; want the app's and the account extension's", found)
	}
}

// TestAppReachesTheServer requests every address in the file from a running server.
func TestAppReachesTheServer(t *testing.T) {
	t.Parallel()
	a := readApp(t)
	f := servertest.Start(t)
	if a.Auth.RedirectURLs == nil || len(a.Auth.RedirectURLs) > 0 {
		t.Errorf("redirect_urls = %q; want the list, which the CLI requires, and nothing in it", a.Auth.RedirectURLs)
	}
	response, body := f.Request("GET", f.Public, a.path(t, a.ApplicationURL))
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "<h1>") {
		t.Errorf("GET %s = %d %s; want 200 and a page", a.ApplicationURL, response.StatusCode, response.Header.Get("Content-Type"))
	}

	pathPrefix := "/" + a.AppProxy.Prefix + "/" + a.AppProxy.Subpath
	proxied := a.path(t, a.AppProxy.URL)
	for _, path := range []string{proxied, proxied + "/", proxied + "/orders"} {
		response, _ := f.Request("GET", f.Public, path+"?"+f.Store.SignedQuery("", servertest.Pat, pathPrefix, servertest.AppSecret))
		if response.StatusCode != http.StatusFound || f.Log.Last("click")["outcome"] != "redirected" {
			t.Errorf("a signed click on %s = %d; want 302 to the portal", path, response.StatusCode)
		}
	}
	// The links that merchants and theme developers are told to use.
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, home := f.Request("GET", f.Public, "/?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil))
	if !strings.Contains(string(readme), "`"+pathPrefix+"`") || !strings.Contains(home, ">"+pathPrefix+"</code>") {
		t.Errorf("the README and the app's own page do not both link to %s, where the proxy is", pathPrefix)
	}

	for _, s := range a.Webhooks.Subscriptions {
		path := a.path(t, s.URI)
		for _, topic := range append(slices.Clone(s.Topics), s.ComplianceTopics...) {
			body := map[string]string{
				"customers/data_request": servertest.ShopperBody(servertest.Pat), "customers/redact": servertest.ShopperBody(servertest.Pat), "shop/redact": servertest.ShopBody(), "app/uninstalled": servertest.UninstalledBody(),
			}[topic]
			response, _ := f.Webhook(path, topic, body, servertest.AppSecret)
			if did := f.Log.Last("webhook")["did"]; response.StatusCode != http.StatusOK || did == nil || did == "ignored" {
				t.Errorf("signed %s to %s = %d, %v; want 200, and something done", topic, path, response.StatusCode, did)
			}
			if response, _ := f.Webhook(path, topic, body, "other-secret"); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s to %s, not signed by Shopify = %d; want 401", topic, path, response.StatusCode)
			}
		}
	}
}

package servertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
)

// The keys of the store's own server, in PORTAL_API_KEY.
const (
	APIKey    = "fixture-portal-key-0123456789"
	OldAPIKey = "fixture-old-portal-key-0123456789"
)

// WithAPIKeys sets the keys of the store's own server.
func WithAPIKeys(s *config.Settings) { s.PortalAPIKey = APIKey + "," + OldAPIKey }

// LinkAnswer is the answer of POST /api/portal-links.
type LinkAnswer struct {
	Status int
	Header http.Header
	Body   string

	URL       string     `json:"url"`
	ExpiresAt *time.Time `json:"expires_at"`
	SignedIn  bool       `json:"signed_in"`
	Type      string     `json:"type"`
	Detail    string     `json:"detail"`
}

// PostLink asks for a link, as the store's own server does.
func (f *Fixture) PostLink(key, body string, headers ...string) LinkAnswer {
	f.T.Helper()
	response, raw := f.CallAPI(http.MethodPost, "/api/portal-links", key, body,
		append([]string{"Content-Type", "application/json"}, headers...)...)
	a := LinkAnswer{Status: response.StatusCode, Header: response.Header, Body: raw}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal([]byte(raw), &a); err != nil {
			f.T.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

// CallAPI sends a request to a route for tools, with a key unless that is "" and headers in pairs.
func (f *Fixture) CallAPI(method, path, key, body string, headers ...string) (*http.Response, string) {
	f.T.Helper()
	request, err := http.NewRequestWithContext(f.T.Context(), method, "http://"+f.Public+path, strings.NewReader(body))
	if err != nil {
		f.T.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	return response, string(raw)
}

// ByShopifyID returns the body that asks for a customer's link by Shopify id.
func ByShopifyID(id string) string { return `{"shopify_customer_id":"` + id + `"}` }

// ByRechargeID returns the body that asks for a customer's link by Recharge id.
func ByRechargeID(id int64) string { return fmt.Sprintf(`{"recharge_customer_id":%d}`, id) }

// SignedLink returns the parts of a link that the store's own server then signs.
func (f *Fixture) SignedLink(nonce, customer string) portallink.Signed {
	return portallink.Signed{
		Link:    portallink.Link{Shop: Shop, Customer: customer},
		Expires: f.Clock.Now().Add(4 * time.Minute), Nonce: nonce + strings.Repeat("0", 16),
	}
}

// SignLink signs a link with a key and returns its path.
func (f *Fixture) SignLink(key string, link portallink.Signed) string {
	f.T.Helper()
	query, err := link.Query(portallink.SecretOf(key))
	if err != nil {
		f.T.Fatal(err)
	}
	return "/go?" + query
}

// FollowLink requests a path from the program and follows no redirect.
func (f *Fixture) FollowLink(path string, headers ...string) Answer {
	f.T.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+f.Public+path, nil)
	if err != nil {
		f.T.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		f.T.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	return Answer{
		Status: response.StatusCode, Location: response.Header.Get("Location"), Header: response.Header,
		Body: string(body), Line: f.Log.Last("click"),
	}
}

var madeKey = regexp.MustCompile(`id="new-key">([^<]+)<`)

// MakeKey creates a key in a shop's app home.
func (f *Fixture) MakeKey(shop, name string) string {
	f.T.Helper()
	response, body := f.AppHome("/app/keys", f.SessionToken(ForShop(shop)), url.Values{"name": {name}})
	key := madeKey.FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || key == nil {
		f.T.Fatalf("make a key: %d %s", response.StatusCode, body)
	}
	return key[1]
}

// RevokeKey revokes the key with this name.
func (f *Fixture) RevokeKey(shop, name string) {
	f.T.Helper()
	_, page := f.AppHome("/app/keys", f.SessionToken(ForShop(shop)), nil)
	id := regexp.MustCompile(`(?s)<span>` + name + `</span>.*?name="id" value="([^"]+)"`).FindStringSubmatch(page)
	if id == nil {
		f.T.Fatalf("the app home has no key %q: %s", name, page)
	}
	response, body := f.AppHome("/app/keys/revoke", f.SessionToken(ForShop(shop)), url.Values{"id": {id[1]}})
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "Revoked.") {
		f.T.Fatalf("revoke: %d %s", response.StatusCode, body)
	}
}

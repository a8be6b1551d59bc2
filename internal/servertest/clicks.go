package servertest

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// BreakRecharge returns a function that makes the emulated Recharge misbehave.
func BreakRecharge(set func(*rechargetest.Faults)) func(*Fixture) {
	return func(f *Fixture) { f.Recharge.SetFaults(set) }
}

// Request sends a request to one of the program's listeners, with the path unchanged.
func (f *Fixture) Request(method, address, path string) (*http.Response, string) {
	f.T.Helper()
	request, err := http.NewRequest(method, "http://"+address, nil)
	if err != nil {
		f.T.Fatal(err)
	}
	request.URL.Opaque = path
	if strings.HasPrefix(path, "//") {
		request.URL.Opaque = "http://" + address + path
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: noRedirect}
	response, err := client.Do(request)
	if err != nil {
		f.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	return response, string(body)
}

// Next returns the address to which an answer sends the browser, by Location or by a page.
func (a Answer) Next() string {
	link := regexp.MustCompile(`<a href="([^"]*)"`).FindStringSubmatch(a.Body)
	if a.Location == "" && len(link) == 2 {
		return html.UnescapeString(link[1])
	}
	return a.Location
}

// noRedirect makes a client return a redirect instead of following it.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Shopper returns a browser at the storefront, signed in as id, or signed out if it is "".
func (f *Fixture) Shopper(id string) *http.Client {
	f.T.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.T.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: noRedirect}
	if id != "" {
		form := url.Values{"customer": {id}, "return_to": {"/account"}}
		response, err := client.PostForm(f.Store.URL+"/customer_authentication/login", form)
		if err != nil {
			f.T.Fatal(err)
		}
		_ = response.Body.Close()
	}
	return client
}

// Answer is the answer to a click.
type Answer struct {
	Status   int
	Location string
	Header   http.Header // the program's own, before the storefront strips any
	Body     string
	Line     map[string]any // the click's line in the log
}

// Outcome returns the outcome in the log.
func (a Answer) Outcome() string {
	outcome, _ := a.Line["outcome"].(string)
	return outcome
}

// Click opens a path of the storefront and follows no redirect.
func (f *Fixture) Click(client *http.Client, path string) Answer {
	f.T.Helper()
	response, err := client.Get(f.Store.URL + path)
	if err != nil {
		f.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Fatal(err)
	}
	forwarded := f.Store.Forwarded()
	a := Answer{
		Status: response.StatusCode, Location: response.Header.Get("Location"), Body: string(body), Line: f.Log.Last("click"),
	}
	if len(forwarded) > 0 {
		a.Header = forwarded[len(forwarded)-1].Header
	}
	return a
}

// Land clicks, follows every redirect, and returns the portal page that opened, or the
// zero Opening if none did.
func (f *Fixture) Land(client *http.Client, path string) rechargetest.Opening {
	f.T.Helper()
	before := len(f.Recharge.Openings())
	follower := *client
	follower.CheckRedirect = nil
	// A page that forwards is followed like a redirect, up to ten times.
	at := f.Store.URL + path
	for hops := 0; at != "" && hops < 10; hops++ {
		response, err := follower.Get(at)
		if err != nil {
			f.T.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			f.T.Fatal(err)
		}
		at = ""
		if strings.Contains(string(body), `http-equiv="refresh"`) {
			at = Answer{Body: string(body)}.Next()
		}
	}
	openings := f.Recharge.Openings()
	if len(openings) == before {
		return rechargetest.Opening{}
	}
	return openings[len(openings)-1]
}

// Open follows a link and returns the portal page that opened, or the zero Opening if
// none did. No other portal may be opened at the same time.
func (f *Fixture) Open(client *http.Client, location string) rechargetest.Opening {
	f.T.Helper()
	before := len(f.Recharge.Openings())
	response, err := client.Get(location)
	if err != nil {
		f.T.Fatal(err)
	}
	_ = response.Body.Close()
	openings := f.Recharge.Openings()
	if len(openings) == before {
		return rechargetest.Opening{}
	}
	return openings[len(openings)-1]
}

// Calls counts the requests to Recharge since the last call of Calls, by endpoint.
func (f *Fixture) Calls() map[string]int {
	calls := map[string]int{}
	requests := f.Recharge.Requests()
	for _, request := range requests {
		calls[request.Endpoint]++
	}
	f.Seen = append(f.Seen, requests...)
	f.Recharge.ResetRequests()
	return calls
}

// LinkedHash clicks, and returns the hash in the link or the outcome that a page shows.
func (f *Fixture) LinkedHash(customer string) string {
	f.T.Helper()
	query := f.Store.SignedQuery("", customer, "/apps/subscriptions", AppSecret)
	response, body := f.Request("GET", f.Public, "/apps/subscriptions?"+query)
	_, rest, _ := strings.Cut(response.Header.Get("Location"), "/portal/")
	hash, _, _ := strings.Cut(rest, "/")
	if outcome := regexp.MustCompile(`data-outcome="([a-z_]+)"`).FindStringSubmatch(body); outcome != nil {
		return outcome[1]
	}
	return hash
}

// NewClient returns a client for many clicks at once. It follows no redirect.
func NewClient(t *testing.T) *http.Client {
	t.Helper()
	client := &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: noRedirect,
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// Visit is one click and how it ended.
type Visit struct {
	Outcome  string
	Location string
	Took     time.Duration
}

// outcomeOfPage matches the outcome that a page shows.
var outcomeOfPage = regexp.MustCompile(`data-outcome="([a-z_]+)"`)

// VisitAt clicks at the store or, with a signed query, directly at an instance. It may be
// called from any goroutine.
func VisitAt(client *http.Client, address, path string) (Visit, error) {
	begun := time.Now()
	response, err := client.Get("http://" + address + path)
	if err != nil {
		return Visit{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Visit{}, err
	}
	r := Visit{Location: response.Header.Get("Location"), Took: time.Since(begun)}
	switch found := outcomeOfPage.FindSubmatch(body); {
	case response.StatusCode == http.StatusFound && strings.Contains(r.Location, "token="):
		r.Outcome = "redirected"
	case response.StatusCode == http.StatusFound:
		r.Outcome = "redirected_by_hash"
	case found != nil:
		r.Outcome = string(found[1])
	default:
		r.Outcome = response.Status
	}
	return r, nil
}

// CheckOwner returns an error if a visit led to somebody else's portal.
func (r Visit) CheckOwner(person rechargetest.Customer) error {
	if r.Location != "" && !strings.Contains(r.Location, "/tools/recurring/portal/"+person.Hash+"/") {
		return fmt.Errorf("shopper %s is sent to %s", person.ShopifyCustomerID, r.Location)
	}
	return nil
}

// WantCalls checks the calls to Recharge since the last call of Calls or WantCalls.
func (f *Fixture) WantCalls(what string, want map[string]int) {
	f.T.Helper()
	if got := f.Calls(); !maps.Equal(got, want) {
		f.T.Errorf("%s made the calls %v; want %v", what, got, want)
	}
}

// OneCallEach returns the calls that all clicks of a new shopper cost together.
func OneCallEach() map[string]int {
	return map[string]int{"customers": 1, "sessions": 1, "portal_access": 1}
}

// Visit clicks at one of the servers. It may be called from any goroutine.
func (f *Fixture) Visit(client *http.Client, server, who string) Visit {
	f.T.Helper()
	query := f.Store.SignedQuery("", who, "/apps/subscriptions", AppSecret)
	r, err := VisitAt(client, server, "/apps/subscriptions?"+query)
	if err != nil {
		f.T.Errorf("a click: %v", err)
	}
	return r
}

// LeadsTo reports whether a visit leads to that record, signed in or not.
func (r Visit) LeadsTo(hash string) bool { return strings.Contains(r.Location, "/"+hash+"/") }

// LocationAt clicks at one server and returns the location. It fails the test if that is
// another shopper's portal.
func (f *Fixture) LocationAt(client *http.Client, server string, who rechargetest.Customer, page string) string {
	query := f.Store.SignedQuery("", who.ShopifyCustomerID, "/apps/subscriptions", AppSecret)
	response, err := client.Get("http://" + server + "/apps/subscriptions" + page + "?" + query)
	if err != nil {
		f.T.Errorf("a click: %v", err)
		return ""
	}
	_ = response.Body.Close()
	location := response.Header.Get("Location")
	if location != "" && !strings.Contains(location, "/"+who.Hash+"/") {
		f.T.Errorf("%s is sent to %s; want their own portal", who.ShopifyCustomerID, location)
	}
	if response.StatusCode >= 500 || location == "" && response.StatusCode != http.StatusOK {
		f.T.Errorf("a click is answered %d, to %q", response.StatusCode, location)
	}
	return location
}

// ClickAll clicks each path as a shopper, and returns the keys that this has written.
func (f *Fixture) ClickAll(id string, paths ...string) []string {
	f.T.Helper()
	before := f.Redis.Dump()
	for _, path := range paths {
		query := f.Store.SignedQuery("", id, "/apps/subscriptions", AppSecret)
		response, body := f.Request("GET", f.Public, "/apps/subscriptions"+path+"?"+query)
		if response.StatusCode != http.StatusFound {
			f.T.Fatalf("click = %d %s; want 302", response.StatusCode, body)
		}
	}
	return slices.DeleteFunc(f.CachedShoppers(), func(key string) bool { _, ok := before[key]; return ok })
}

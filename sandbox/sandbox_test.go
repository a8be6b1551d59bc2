package sandbox_test

import (
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

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

const pat, robin = "6100200300400", "6100200300500"

// person is a shopper with a simple HTTP client as the browser.
type person struct {
	t      *testing.T
	s      *sandbox.Sandbox
	client *http.Client
}

// asBrowser sends what marks a request as a browser's.
type asBrowser struct{}

func (asBrowser) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	return http.DefaultTransport.RoundTrip(r)
}

func newPerson(t *testing.T, s *sandbox.Sandbox, id string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t, s, &http.Client{Jar: jar, Transport: asBrowser{}, Timeout: 30 * time.Second}}
	p.post("/customer_authentication/login", url.Values{"customer": {id}, "return_to": {"/account"}})
	return p
}

func (p *person) post(path string, form url.Values) string {
	p.t.Helper()
	response, err := p.client.PostForm(p.s.Store.URL+path, form)
	return p.body(response, err)
}

func (p *person) get(path string) string {
	p.t.Helper()
	response, err := p.client.Get(p.s.Store.URL + path)
	return p.body(response, err)
}

func (p *person) body(response *http.Response, err error) string {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

// click makes a click, and reads from the panel how it ended.
func (p *person) click(destination string) string {
	p.t.Helper()
	p.get("/apps/subscriptions" + destination)
	outcome := regexp.MustCompile(`data-last-outcome="([a-z_]*)"`).FindStringSubmatch(p.get("/account"))
	if len(outcome) != 2 {
		p.t.Fatal("the panel shows no outcome")
	}
	return outcome[1]
}

func (p *person) press(name, on string) {
	p.t.Helper()
	p.post("/sandbox/switch", url.Values{"name": {name}, "on": {on}})
}

// TestEverySwitch presses every switch on the panel: for Pat while her access is cached, while only
// her ID is cached, and with an empty cache, and for Robin.
func TestEverySwitch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ warm, known, cold, robin string }{
		"limited":  {"redirected", "redirected_by_hash", "unavailable", "unavailable"},
		"slow":     {"redirected", "redirected_by_hash", "unavailable", "unavailable"},
		"down":     {"redirected", "redirected_by_hash", "unavailable", "unavailable"},
		"sessions": {"redirected", "redirected", "redirected_by_hash", "not_a_subscriber"}, // known: with her session
		"filter":   {"redirected", "redirected", "redirected", "unavailable"},
		"redis":    {"redirected", "redirected", "redirected", "not_a_subscriber"},
		"unity":    {"redirected", "redirected", "redirected", "not_a_subscriber"},
		"accounts": {"redirected", "redirected", "redirected", "not_a_subscriber"},
		"bots":     {"redirected", "redirected", "redirected", "not_a_subscriber"},
		"clock":    {"forbidden", "forbidden", "forbidden", "forbidden"},
		"secret":   {"forbidden", "forbidden", "forbidden", "forbidden"},
		"signin":   {"sign_in_failed", "sign_in_failed", "sign_in_failed", "sign_in_failed"},
		"shop":     {"not_connected", "not_connected", "not_connected", "not_connected"},
	}
	var names []string
	for name, want := range tests {
		names = append(names, name)
		if !suite.Runs(name, "down", "sessions", "unity", "filter", "redis", "clock", "secret", "signin", "shop") {
			continue // they take long
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &servertest.Clock{}
			s := startWith(t, sandbox.Options{Now: c.Now})
			pat, robin := newPerson(t, s, pat), newPerson(t, s, robin)
			if got := pat.click(""); got != "redirected" {
				t.Fatalf("before the switch: %s; want redirected", got)
			}
			pat.press(name, "true")
			if got := pat.click("/orders"); got != want.warm {
				t.Errorf("with an access: %s; want %s", got, want.warm)
			}
			c.Add(61 * time.Second) // LINK_TTL is over, but her customer ID is still cached
			if got := pat.click("/orders"); got != want.known {
				t.Errorf("known: %s; want %s", got, want.known)
			}
			pat.post("/sandbox/switch", url.Values{"name": {"forget"}})
			if got := pat.click(""); got != want.cold {
				t.Errorf("not known: %s; want %s", got, want.cold)
			}
			if got := robin.click(""); got != want.robin {
				t.Errorf("Robin: %s; want %s", got, want.robin)
			}
			for range 8 { // enough to open circuits
				robin.click("/orders")
			}
			pat.press("off", "")
			if got := pat.click("/schedule"); got != "redirected" {
				t.Errorf("after the switch: %s; want redirected", got)
			}
			if got := robin.click(""); got != "not_a_subscriber" {
				t.Errorf("after the switch, Robin: %s; want not_a_subscriber", got)
			}
		})
	}
	page := newPerson(t, start(t), pat).get("/account")
	var shown []string
	for _, match := range regexp.MustCompile(`data-switch="([a-z]+)"`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains([]string{"off", "forget", "run"}, match[1]) {
			shown = append(shown, match[1])
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(shown)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Errorf("switches on the panel and in this test (-panel +test):\n%s", diff)
	}
}

// TestFirstClick: the sandbox imports its customers, and yet shows the click of a shopper who is not known.
func TestFirstClick(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Index: true})
	until(t, "the customers are imported", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(s.Held())), func(key string) bool { return strings.Contains(key, "}:c:") })
	})
	pat := newPerson(t, s, pat)
	click := func() (paths []string) {
		before := len(s.Recharge.Requests())
		if got := pat.click(""); got != "redirected" {
			t.Errorf("the click = %s; want redirected", got)
		}
		for _, request := range s.Recharge.Requests()[before:] {
			paths = append(paths, request.Path)
		}
		return paths
	}
	if got := click(); slices.Contains(got, "/customers") {
		t.Errorf("an imported customer's click calls %q; want no lookup", got)
	}
	pat.post("/sandbox/switch", url.Values{"name": {"forget"}})
	if got := click(); !slices.Contains(got, "/customers") {
		t.Errorf("a forgotten shopper's click calls %q; want a lookup", got)
	}
}

// TestGalleryLeadsWhereTheServerDoes: the gallery fills in the pages itself, so its links must
// match the server's.
func TestGalleryLeadsWhereTheServerDoes(t *testing.T) {
	t.Parallel()
	for theme, classic := range themes() {
		s := startWith(t, sandbox.Options{Classic: classic})
		person := &person{t, s, &http.Client{Timeout: 30 * time.Second}}
		links := regexp.MustCompile(`class="button btn" href="([^"]*)"`)
		got := links.FindStringSubmatch(person.get("/sandbox/page?state=sign-in-failed&language=en&scheme=light"))
		want := links.FindStringSubmatch(person.get("/apps/subscriptions?ms_returned=1"))
		if len(want) != 2 {
			t.Fatalf("%s: the server's page has no first step", theme)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-server +gallery):\n%s", theme, diff)
		}
	}
}

// TestPanelTakesNoOrdersFromElsewhere: a web page that a developer has open must not be able to
// press the panel's buttons.
func TestPanelTakesNoOrdersFromElsewhere(t *testing.T) {
	t.Parallel()
	s := start(t)
	request, err := http.NewRequest("POST", s.Store.URL+"/sandbox/switch", strings.NewReader("name=down&on=true"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "https://elsewhere.example")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden || s.Recharge.Faults().Down {
		t.Errorf("a form of another site = %d, Down = %v; want 403, false", response.StatusCode, s.Recharge.Faults().Down)
	}
	if err := s.Switch("nonsense", true); err == nil {
		t.Error("Switch(nonsense) = nil; want an error")
	}
}

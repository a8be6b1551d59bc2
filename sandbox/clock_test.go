package sandbox_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// inAppHome posts a form of the app home, or reads a part of it if there is no form.
func inAppHome(t *testing.T, s *sandbox.Sandbox, path string, form url.Values) string {
	t.Helper()
	method := http.MethodPost
	if form == nil {
		method = http.MethodGet
	}
	request, err := http.NewRequest(method, s.AppURL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+s.Store.SessionToken(sandbox.ClientID))
	p := &person{t, s, http.DefaultClient}
	response, err := p.client.Do(request)
	return p.body(response, err)
}

// TestClockWaitsForTheLinks: a campaign begins once all its links are made, even if Recharge takes a second for each
// call.
func TestClockWaitsForTheLinks(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Index: true})
	inAppHome(t, s, "/app/campaigns", url.Values{
		"name": {"Spring mailing"}, "audience": {"active"}, "starts_at": {time.Now().Add(22 * time.Hour).Format(time.RFC3339)},
	})
	s.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = time.Second })
	if err := s.RunClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`data-progress="running"[\s\S]*<progress max="100" value="(\d+)"`)
	until(t, "the campaign has begun", func() bool {
		made := links.FindStringSubmatch(inAppHome(t, s, "/app/campaigns", nil))
		if made != nil && made[1] != "100" {
			t.Errorf("the campaign has begun with %s %% of the links; want all", made[1])
		}
		return made != nil
	})
}

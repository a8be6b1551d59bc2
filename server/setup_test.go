package server_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/servertest"
)

// stepsOf returns the steps of the setup guide as Home shows them: "+" for those that are done, "!" for the one
// that is open.
func stepsOf(f *servertest.Fixture) string {
	f.T.Helper()
	_, body := f.AppHome("/app/connection", f.SessionToken(nil), nil)
	var steps []string
	for _, step := range regexp.MustCompile(`data-step="(\w+)" class="(\w*)"`).FindAllStringSubmatch(body, -1) {
		steps = append(steps, step[1]+map[string]string{"done": "+", "now": "!", "": ""}[step[2]])
	}
	return strings.Join(steps, " ")
}

// TestSetup follows the setup guide from an empty store to the first click. Each step is done once the store shows
// that it is.
func TestSetup(t *testing.T) {
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores)
	wants := func(when, want string) {
		t.Helper()
		f.Until(when+": "+want, func() bool { return stepsOf(f) == want })
	}
	wants("installed", "connect! portal link try")
	f.Connect()
	wants("connected", "connect+ portal+ link! try")
	f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Robin}})
	wants("tried somebody who does not subscribe", "connect+ portal+ link! try")
	f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}})
	wants("tried", "connect+ portal+ link! try+")
	f.Click(f.Shopper(""), "/apps/subscriptions")
	wants("clicked", "connect+ portal+ link+ try+")
	f.AppHome("/app/connect", f.SessionToken(nil), servertest.ConnectForm())
	wants("connected again", "connect+ portal+ link+ try+")
	f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{})
	wants("disconnected", "connect! portal link try")
}

// TestSetupByClick: the first click that reaches the portal counts as tried.
func TestSetupByClick(t *testing.T) {
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions")
		f.Until("the link is used", func() bool { return stepsOf(f) == "connect+ portal+ link+ try!" })
		f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
		f.Until("it is tried", func() bool { return stepsOf(f) == "connect+ portal+ link+ try+" })
	})
}

// TestSetupOfAffinity: a store in which Recharge opens no portal is asked once which one it shows. That is kept when
// the detected settings are edited.
func TestSetupOfAffinity(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	f.Recharge.SetUnity(true)
	f.Connect()
	if got := stepsOf(f); got != "connect+ portal! link try" {
		t.Errorf("steps = %q; want to be asked for the portal", got)
	}
	f.AppHome("/app/portal", f.SessionToken(nil), url.Values{"portal": {"affinity"}})
	f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"accounts": {"legacy"}})
	if got := stepsOf(f); got != "connect+ portal+ link! try" {
		t.Errorf("steps = %q; want the answer kept", got)
	}
	if got := appHome(f); strings.Contains(got, "Does your store show") || !strings.Contains(got, "opens no portal at the store") {
		t.Errorf("the settings: %s; want what is wrong, and not the question again", got)
	}
}

package server_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
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
	t.Parallel()
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
	t.Parallel()
	inBothModes(t, "new", nil, func(t *testing.T, f *servertest.Fixture, _ func(*config.Settings)) {
		f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions")
		f.Until("the link is used", func() bool { return stepsOf(f) == "connect+ portal+ link+ try!" })
		f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
		f.Until("it is tried", func() bool { return stepsOf(f) == "connect+ portal+ link+ try+" })
	})
}

// TestSetupInAccount checks that a try is not shown as passed, and does not end the setup, if the portal is in the
// customer's Shopify account, also while Recharge is down. A click ends it.
func TestSetupInAccount(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores)
	f.Connect()
	f.AppHome("/app/portal", f.SessionToken(nil), url.Values{"portal": {"unity"}, "page": {f.Store.AccountPage()}})
	for _, down := range []bool{false, true} {
		f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = down })
		_, got := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}})
		if !strings.Contains(got, `<p class="note " data-result="redirected">`) || !strings.Contains(got, "The app cannot check what opens there") {
			t.Errorf("Recharge down %t: %s; want a warning", down, got)
		}
		if got := stepsOf(f); got != "connect+ portal+ link! try" {
			t.Errorf("Recharge down %t: steps = %q; want the try not done", down, got)
		}
	}
	f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
	f.Until("the click ends the setup", func() bool { return stepsOf(f) == "connect+ portal+ link+ try+" })
}

// TestSetupOfAffinity: a store in which Recharge opens no portal is asked once which one it shows. That is kept when
// the detected settings are edited.
func TestSetupOfAffinity(t *testing.T) {
	t.Parallel()
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

package handlers_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestFirstWayOn checks that a page's only button fits the likely cause, by what the server knows of the
// click: where the shopper comes from, what they have tried, what Recharge said, and where the portal is.
func TestFirstWayOn(t *testing.T) {
	t.Parallel()
	hosted := func(s *config.Settings) { s.RechargePortalURL = "https://portal.example/portal/" }
	status := func(code int) func(*servertest.Fixture) {
		return servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Status = code })
	}
	for _, tt := range []struct {
		name, shopper, query string
		set                  func(*config.Settings)
		breaks               func(*servertest.Fixture)
		outcome, want        string
	}{
		{name: "signed in before the click", shopper: servertest.Robin, outcome: "not_a_subscriber", want: "Check again"},
		{name: "just ordered", shopper: servertest.Robin, query: "?ms_ordered=1", outcome: "not_a_subscriber", want: "Check again"},
		{name: "back from the sign-in", shopper: servertest.Robin, query: "?ms_returned=1", outcome: "not_a_subscriber", want: "Sign out and sign in again"},
		{name: "just ordered, back from the sign-in", shopper: servertest.Robin, query: "?ms_ordered=1&ms_returned=1", outcome: "not_a_subscriber", want: "Check again"},
		{name: "checked again", shopper: servertest.Robin, query: "?ms_tried=1", outcome: "not_a_subscriber", want: "Find my subscriptions by e-mail"},
		{name: "checked again, no page by e-mail", shopper: servertest.Robin, query: "?ms_tried=1", set: hosted, outcome: "not_a_subscriber", want: "Sign out and sign in again"},
		{name: "Recharge down", shopper: servertest.Pat, breaks: status(503), outcome: "unavailable", want: "Try again"},
		{name: "Recharge asks to wait", shopper: servertest.Pat, breaks: servertest.BreakRecharge(func(f *rechargetest.Faults) { f.Limited = true }), outcome: "unavailable", want: "Try again"},
		{name: "Recharge down, back from the sign-in", shopper: servertest.Pat, query: "?ms_returned=1", breaks: status(503), outcome: "unavailable", want: "Try again"},
		{name: "Recharge down, tried again", shopper: servertest.Pat, query: "?ms_tried=1", breaks: status(503), outcome: "unavailable", want: "Find my subscriptions by e-mail"},
		{name: "Recharge down, tried again, no page by e-mail", shopper: servertest.Pat, query: "?ms_tried=1", set: hosted, breaks: status(503), outcome: "unavailable", want: "Try again"},
		{name: "token refused", shopper: servertest.Pat, breaks: status(401), outcome: "unavailable", want: "Find my subscriptions by e-mail"},
		{name: "token refused, no page by e-mail", shopper: servertest.Pat, set: hosted, breaks: status(401), outcome: "unavailable", want: "Try again"},
		{name: "sign-in failed, whatever the marks", query: "?ms_returned=1&ms_tried=1&ms_ordered=1", outcome: "sign_in_failed", want: "Sign in again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, func(s *config.Settings) {
				if tt.set != nil {
					tt.set(s)
				}
			})
			if tt.breaks != nil {
				tt.breaks(f)
			}
			got := f.Click(f.Shopper(tt.shopper), "/apps/subscriptions"+tt.query)
			buttons := regexp.MustCompile(`<a class="button btn"[^>]*>([^<]*)</a>`).FindAllStringSubmatch(got.Body, -1)
			if got.Outcome() != tt.outcome || len(buttons) != 1 || buttons[0][1] != tt.want {
				t.Errorf("click = %s with the buttons %q; want %s with %q", got.Outcome(), buttons, tt.outcome, tt.want)
			}
		})
	}
}

// TestMarksDoNotSpread checks that the mark of an order survives the sign-in, and that a page's own mark
// is only in its own link, not in the way back from a sign-in or after a sign-out.
func TestMarksDoNotSpread(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	const marked = "/apps/subscriptions?ms_ordered=1&ms_tried=1"
	if got, want := f.Click(f.Shopper(""), marked).Location, "return_to=%2Fapps%2Fsubscriptions%3Fms_ordered%3D1%26ms_returned%3D1"; !strings.HasSuffix(got, want) {
		t.Errorf("signed out, the click leads to %s; want it to end in %s", got, want)
	}
	page := f.Click(f.Shopper(servertest.Robin), marked).Body
	for _, want := range []string{`href="/apps/subscriptions?ms_tried=1"`, `/account/logout?return_url=%2fapps%2fsubscriptions"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s: %s", want, page)
		}
	}
	// A look into the cache makes no call, however often the shopper presses the button.
	f.Calls()
	for range 5 {
		f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions?ms_tried=1")
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("pressing Check again at once costs the calls %v; want none", calls)
	}
}

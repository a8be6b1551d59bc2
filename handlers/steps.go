package handlers

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/importer"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
)

// steps writes an answer that grows: a list of what was looked at, each entry as
// soon as it is known, and what came of it.
type steps struct {
	admin    *Admin
	response *echo.Response
	err      error // the first; what follows is not written
}

// step is an entry as the page shows it.
type step struct {
	Name  string
	State recharge.State
	Title string
	Text  string // what was found
	Do    string // what to do about it, and where
	Took  string
}

// Said is the state for who does not see the sign before it.
func (s step) Said() string {
	switch s.State {
	case recharge.Passed:
		return "fine"
	case recharge.Failed:
		return "not fine"
	case recharge.Warned:
		return "take note"
	}
	return "not checked"
}

func (s *steps) begin() error {
	// It takes longer than any click may.
	if err := http.NewResponseController(s.response).SetWriteDeadline(time.Now().Add(connectTimeout + 10*time.Second)); err != nil {
		return err
	}
	s.response.Header().Set(echo.HeaderContentType, "text/html; charset=utf-8")
	s.response.Header().Set("X-Accel-Buffering", "no") // a proxy in between shall not wait for the end
	s.write("checks-start", nil)
	return s.err
}

func (s *steps) add(step step, took time.Duration) {
	if took > 0 {
		step.Took = shortTime(int(max(took, time.Millisecond) / time.Millisecond))
	}
	s.write("step", step)
}

// end says what came of it: "saved", "not_saved", or an outcome.
func (s *steps) end(result, text string) error {
	s.write("checks-end", map[string]any{"Result": result, "Text": text, "Good": result != "not_saved" && result != string(portal.Unavailable)})
	return s.err
}

func (s *steps) write(name string, data any) {
	if s.err != nil {
		return
	}
	if s.err = s.admin.Pages.Draw(s.response, name, data); s.err == nil {
		s.response.Flush()
	}
}

// found writes one of the checks of connecting.
func (s *steps) found(f recharge.Finding) {
	step := words(f)
	step.Name, step.State = string(f.Check), f.State
	s.add(step, f.Took)
}

const apiTokens = "In Recharge: Tools & apps → API tokens → "

// words are what a merchant reads of a finding.
func words(f recharge.Finding) step {
	step := step{Title: map[recharge.Check]string{
		recharge.CheckToken: "The Admin token", recharge.CheckStore: "The store", recharge.CheckCustomers: "Customers can be read",
		recharge.CheckSessions: "A session can be made", recharge.CheckPortal: "The portal opens",
	}[f.Check]}
	switch {
	case f.State == recharge.Passed:
		step.Text = map[recharge.Check]string{
			recharge.CheckToken: "Recharge knows it.", recharge.CheckStore: "It is this store’s.", recharge.CheckCustomers: "",
			recharge.CheckSessions: "", recharge.CheckPortal: "It is at " + f.Detail + ".",
		}[f.Check]
		if f.Check == recharge.CheckPortal && f.Detail == "" {
			step.Text = ""
		}
	case f.Why.Transient():
		step.Text = "Could not be checked now: " + advice(string(f.Why))
	case len(f.Missing) > 0:
		step.Text = "A permission is missing: " + strings.Join(permissions(f.Missing), ", ") + "."
		step.Do = apiTokens + "the Admin token → Permissions → set it, save, and connect again."
	default:
		step.Text, step.Do = wrong(f)
	}
	return step
}

// wrong are the words for what has to be mended at Recharge.
func wrong(f recharge.Finding) (text, do string) {
	switch {
	case f.Check == recharge.CheckToken && f.Why == recharge.Unauthorized:
		return "Recharge does not know this token.", apiTokens + "the Admin token → copy it whole, or make a new one."
	case f.Why == recharge.WrongStore:
		return "This token belongs to another store.", "Open Recharge from this store’s admin, and copy the token there."
	case f.Check == recharge.CheckStore:
		return "Not checked: the token may not read the store’s information.", ""
	case f.Check == recharge.CheckCustomers && f.Why == recharge.Forbidden:
		return "The token may not read customers.", apiTokens + "the Admin token → Permissions → Customers: read."
	case f.Check == recharge.CheckSessions && f.Why == recharge.NoCustomer:
		return "Not checked: there is no customer in Recharge yet.", ""
	case f.Check == recharge.CheckSessions && f.Why == recharge.Unauthorized:
		return "Recharge does not take the Storefront token.", apiTokens + "Storefront tokens → copy it whole, or make one with Create customer session."
	case f.Check == recharge.CheckSessions:
		return "Recharge makes no session: shoppers go to the portal by a link that Recharge checks, and may have to sign in there.", apiTokens + "the Admin token → Permissions → Customer sessions: write; and a Storefront token with Create customer session."
	case f.Check == recharge.CheckPortal && f.State == recharge.Skipped:
		return "Not checked: it takes a session.", ""
	case f.Check == recharge.CheckPortal:
		return "Recharge gives no link to the portal: " + advice(string(f.Why)), ""
	}
	return advice(string(f.Why)), ""
}

func permissions(scopes []string) []string {
	var words []string
	for _, scope := range scopes {
		word := map[string]string{"read_customers": "Customers: read", "write_session": "Customer sessions: write", "read_store": "Store information: read"}[scope]
		if word == "" {
			word = scope
		}
		words = append(words, word)
	}
	return words
}

func (s *steps) accounts(accounts string, took time.Duration) {
	step := step{Name: "accounts", State: recharge.Passed, Title: "Where shoppers sign in", Text: "Shopify’s current customer accounts."}
	switch accounts {
	case "legacy":
		step.Text = "Legacy customer accounts."
	case "":
		step.State, step.Text = recharge.Warned, "It could not be found out."
		step.Do = "If the store still has legacy customer accounts, say so under “Change what was found out”."
	}
	s.add(step, took)
}

func (s *steps) webhooks(err error) {
	step := step{Name: "webhooks", State: recharge.Passed, Title: "Webhooks", Text: "Recharge tells the app when a customer changes."}
	switch {
	case err == errNoSecret: //nolint:errorlint // it is never wrapped
		step.State, step.Text = recharge.Skipped, "Without the webhook secret a change is noticed within a day."
	case err != nil:
		step.State, step.Text = recharge.Warned, "They could not be set up, and are tried again each hour. Until then a change is noticed within a day. "+advice(err.Error())
	}
	s.add(step, 0)
}

// advice is what a merchant reads of a cause. It looks for Recharge's reasons in
// it, which stand in the text of each error.
func advice(cause string) string {
	for _, known := range []struct {
		reason recharge.Reason
		words  string
	}{
		{recharge.FilterIgnored, "Recharge answered with other people’s customers, which were not used. Whoever runs this server should tell Recharge’s support."},
		{recharge.Foreign, "Recharge answered for another customer, and that was not used. Whoever runs this server should tell Recharge’s support."},
		{recharge.LinkRefused, "Recharge’s link leads to a host that is not known: put the portal’s address in under “Change what was found out”."},
		{recharge.Ambiguous, "The shopper has several records in Recharge, and none to prefer: merge them there."},
		{recharge.Unauthorized, "Recharge does not take the token: make a new one, and paste it under Connect."},
		{recharge.Forbidden, "The token lacks a permission, or Recharge is not installed any more."},
		{recharge.Limited, "Recharge has had too many calls. It is asked again in a moment."},
		{recharge.OverBudget, "The calls that Recharge allows are used up by shoppers. It is asked again in a moment."},
		{recharge.Tripped, "Recharge has not answered several times in a row. It is tried again in a moment."},
		{recharge.TooSlow, "Recharge took too long to answer."},
		{recharge.Unreachable, "Recharge cannot be reached."},
		{recharge.Unavailable, "Recharge is down."},
		{recharge.Malformed, "Recharge’s answer was cut short."},
		{recharge.TwoFactor, "Recharge asks for a second factor, which only the shopper can give."},
		{recharge.NotFound, "Recharge does not know this customer any more."},
		{recharge.Invalid, "Recharge did not take what it was asked."},
	} {
		if strings.Contains(cause, string(known.reason)) {
			return known.words
		}
	}
	if strings.Contains(cause, portal.ErrRedisDown.Error()) || cause == importer.NoDatabase {
		return noDatabase
	}
	return "Something went wrong on this server: its log says what."
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

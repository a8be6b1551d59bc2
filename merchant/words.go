package merchant

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Said is what a merchant reads after an action succeeded or, if Bad, failed.
type Said struct {
	Text string
	Bad  bool
}

func bad(text string) Said { return Said{text, true} }

// Sentences for the merchant.
const (
	NoDatabase = "We can’t reach our database right now."

	tryLater          = "we can’t reach our database right now. Try again in a minute."
	lastStays         = "What was saved before is still in use."
	nowSaved          = "Saved."
	nowConnected      = "Saved. Shoppers who click are taken to their portal."
	nowDisconnected   = "Disconnected. Everything saved here was erased."
	notSaved          = "Not saved: "
	fixMarked         = "Not saved. Fix the items marked below and connect again."
	passedNotSaved    = "Everything passed, but it could not be saved. " + NoDatabase + " Try again in a minute."
	notDisconnected   = "Not disconnected: " + tryLater
	notRevoked        = "Not revoked: " + tryLater
	notConnected      = "the store is not connected."
	uninstalled       = "the app was uninstalled meanwhile."
	strangeTokens     = "These tokens can’t be used. Check each for a typo."
	notMade           = "Not made: "
	connectFirst      = notMade + "connect Recharge first."
	tooManyKeys       = notMade + "there are ten keys. Revoke one first."
	notAPortal        = notSaved + "the portal’s address must be like https://www.my-store.com/tools/recurring/portal/"
	strangeCharacter  = "One of them contains a space or another strange character. Copy only the token itself."
	badKeyName        = notMade + "give the key a name of up to 50 letters, such as its server’s."
	noAdminToken      = "Paste the Admin token."
	storefrontAsAdmin = "The Admin token field has a Storefront token in it, which begins with strfnt_. Check both fields."
	adminAsStorefront = "The Storefront token field has an Admin token in it, which begins with sk_. Check both fields."

	webhooksTell = "Recharge tells the app when a customer changes."

	tellSupport = "Ask this server’s operator to tell Recharge’s support."
	apiTokens   = "In Recharge: Tools & apps → API tokens → "
	adminToken  = apiTokens + "the Admin token → "
)

// Step is a line of a check, as the page shows it.
type Step struct {
	Name  string
	State recharge.State
	Title string
	Text  string // what was found
	Do    string // what to do about it, and where
	Took  time.Duration
}

// Said returns the state for screen readers.
func (s Step) Said() string {
	words := map[recharge.State]string{
		recharge.Passed: "Passed", recharge.Failed: "Failed", recharge.Warned: "Warning",
	}
	return cmp.Or(words[s.State], "Not checked")
}

// Time returns how long the step took; "" if that was not measured.
func (s Step) Time() string {
	if s.Took <= 0 {
		return ""
	}
	return ShortTime(max(s.Took, time.Millisecond))
}

// Words explains a reason, as returned by portal.Reason, to a merchant.
func Words(reason string) string {
	words := map[recharge.Reason]string{
		recharge.FilterIgnored: "Recharge answered with other people’s customers, which were not used. " + tellSupport,
		recharge.Foreign:       "Recharge answered for another customer, which was not used. " + tellSupport,
		recharge.LinkRefused: "Recharge’s link leads to an unknown host. " +
			"Enter the portal address under “Edit detected settings”.",
		recharge.Ambiguous:    "The shopper has several records in Recharge, and none to prefer. Merge them in Recharge.",
		recharge.NoCustomer:   "Recharge has no customer with this number. Check the number.",
		recharge.Unauthorized: "Recharge does not accept the token. Make a new one and paste it under Connect.",
		recharge.Forbidden:    "The token lacks a permission, or Recharge is not installed any more.",
		recharge.Limited:      "Recharge received too many calls. We ask again in a moment.",
		recharge.OverBudget:   "Shoppers are using all the calls that Recharge allows. We ask again in a moment.",
		recharge.Tripped:      "Recharge failed to answer several times in a row. We try again in a moment.",
		recharge.TooSlow:      "Recharge took too long to answer.",
		recharge.Unreachable:  "We can’t reach Recharge.",
		recharge.Unavailable:  "Recharge is down.",
		recharge.Malformed:    "Recharge’s answer was cut short.",
		recharge.TwoFactor:    "Recharge asks for a second factor, which only the shopper can give.",
		recharge.NotFound:     "Recharge does not know this customer any more.",
		recharge.Invalid:      "Recharge rejected the request.",
		portal.NoDatabase:     NoDatabase,
		portal.RefusedBefore: "Recharge refused a session or a link for this shopper a moment ago. " +
			"We ask again in half a minute.",
	}
	return cmp.Or(words[recharge.Reason(reason)], "Something went wrong on this server. Its log has the details.")
}

// found describes a finding.
func found(f recharge.Finding) Step {
	words := map[recharge.Check][2]string{ // the title, and the text if it passed
		recharge.CheckToken:     {"The Admin token", "Recharge accepts it."},
		recharge.CheckStore:     {"The store", "It is this store’s."},
		recharge.CheckCustomers: {"Customers can be read"},
		recharge.CheckSessions:  {"A session can be made"},
		recharge.CheckPortal:    {"The portal opens", "It is at " + f.Detail + "."},
	}
	step := Step{Name: string(f.Check), State: f.State, Title: words[f.Check][0], Took: f.Took}
	switch {
	case f.State == recharge.Passed:
		step.Text = words[f.Check][1]
	case f.Why.Transient():
		step.Text = "This could not be checked now. " + Words(string(f.Why))
	case len(f.Missing) > 0:
		step.Text = "A permission is missing: " + permissions(f.Missing) + "."
		step.Do = adminToken + "Permissions → set it, save, and connect again."
	default:
		step.Text, step.Do = problem(f.Check, f.Why)
	}
	return step
}

// problem describes why a check did not pass, and what the merchant has to do about it in Recharge.
func problem(check recharge.Check, why recharge.Reason) (text, do string) {
	const otherwise recharge.Reason = "otherwise"
	type key struct {
		check recharge.Check
		why   recharge.Reason
	}
	words := map[key][2]string{
		{recharge.CheckToken, recharge.Unauthorized}: {
			"Recharge does not know this token.", adminToken + "copy all of it, or make a new one.",
		},
		{recharge.CheckStore, recharge.WrongStore}: {
			"This token belongs to another store.", "Open Recharge from this store’s admin, and copy the token there.",
		},
		{recharge.CheckStore, otherwise}: {"Not checked: the token may not read the store’s information."},
		{recharge.CheckCustomers, recharge.Forbidden}: {
			"The token may not read customers.", adminToken + "Permissions → Customers: read.",
		},
		{recharge.CheckSessions, recharge.NoCustomer}: {"Not checked: there is no customer in Recharge yet."},
		{recharge.CheckSessions, recharge.Unauthorized}: {
			"Recharge does not accept the Storefront token.",
			apiTokens + "Storefront tokens → copy all of it, or make one with Create customer session.",
		},
		{recharge.CheckSessions, otherwise}: {
			"Recharge makes no session. Shoppers get a hash link instead, and may have to sign in at the portal.",
			adminToken + "Permissions → Customer sessions: write; and a Storefront token with Create customer session.",
		},
		{recharge.CheckPortal, ""}:        {"Not checked: this needs a session."},
		{recharge.CheckPortal, otherwise}: {"Recharge gives no link to the portal. " + Words(string(why))},
	}
	for _, row := range []key{{check, why}, {check, otherwise}} {
		if said, ok := words[row]; ok {
			return said[0], said[1]
		}
	}
	return Words(string(why)), ""
}

// permissions lists scopes by their names on Recharge's page.
func permissions(scopes []string) string {
	names := map[string]string{
		"read_customers": "Customers: read",
		"write_session":  "Customer sessions: write",
		"read_store":     "Store information: read",
	}
	var all []string
	for _, scope := range scopes {
		all = append(all, cmp.Or(names[scope], scope))
	}
	return strings.Join(all, ", ")
}

// noMerchant explains why a click ends before it looks up the customer.
func noMerchant(result portal.Result) Step {
	step := Step{Name: "store", State: recharge.Failed, Title: "The store"}
	if result.Outcome == portal.NotConnected {
		step.Text, step.Do = "It has not connected Recharge.", "Connect it above."
		return step
	}
	step.Text = Words(portal.Reason(result.Cause))
	return step
}

// cachedStep describes what is cached of the customer.
func cachedStep(cached store.Cached, took time.Duration) Step {
	step := Step{Name: "cached", State: recharge.Passed, Title: "Cached customer", Took: took}
	switch {
	case cached.Known() && cached.Fresh:
		step.Text = "The customer’s record in Recharge. A click does not ask for it again."
	case cached.Known():
		step.Text = "An older record of the customer. A click asks for it again, and uses it if Recharge is down."
	case cached.NotSubscriber:
		step.Text = "Recharge did not know the customer a few minutes ago."
	default:
		step.Text = "Nothing: it would be the shopper’s first click for a while."
	}
	return step
}

func callTitle(endpoint string) string {
	return map[string]string{
		recharge.Customers: "The customer in Recharge", recharge.Sessions: "A session for the customer",
		recharge.PortalAccess: "The link to the portal",
	}[endpoint]
}

// ending describes what the shopper would see.
func ending(result portal.Result) string {
	because := ""
	if result.Cause != nil {
		because = " " + Words(portal.Reason(result.Cause))
	}
	at := ""
	if link, err := url.Parse(result.Link.URL); err == nil {
		at = " at " + link.Host
	}
	endings := map[portal.Outcome]string{
		portal.Redirected: "The shopper would be in the portal, signed in.",
		portal.RedirectedByHash: "The shopper would be sent to the portal" + at +
			", where Recharge may ask for a sign-in." + because,
		portal.NotASubscriber: "The shopper would see a page that says there is no subscription, and what to do next.",
		portal.NotConnected:   "The shopper would see a page that says subscriptions are not set up.",
	}
	return cmp.Or(endings[result.Outcome], "The shopper would be asked to try again in a moment."+because)
}

func accountsStep(accounts string, took time.Duration) Step {
	step := Step{
		Name: "accounts", State: recharge.Passed, Title: "Where shoppers sign in",
		Text: "Shopify’s current customer accounts.", Took: took,
	}
	switch accounts {
	case "legacy":
		step.Text = "Legacy customer accounts."
	case "":
		step.State, step.Text = recharge.Warned, "We could not detect this."
		step.Do = "If the store still has legacy customer accounts, choose that under “Edit detected settings”."
	}
	return step
}

func webhooksStep(err error) Step {
	step := Step{Name: "webhooks", State: recharge.Passed, Title: "Webhooks", Text: webhooksTell}
	switch {
	case err == errNoSecret: //nolint:errorlint // it is never wrapped
		step.State, step.Text = recharge.Skipped, "Without the webhook secret, changes are noticed within a day."
	case err != nil:
		step.State = recharge.Warned
		step.Text = "They could not be registered. We try again every hour; until then changes are noticed within a day. " +
			Words(portal.Reason(err))
	}
	return step
}

// WebhookWords describes how soon we notice a change in Recharge. The connection is nil for the
// configured store.
func (s *Service) WebhookWords(connection *store.Connection) string {
	switch {
	case connection == nil && s.Secret == "":
		return "noticed within a day, since this server’s operator has not set RECHARGE_CLIENT_SECRET."
	case connection == nil:
		return webhooksTell
	}
	state := connection.Webhooks
	switch {
	case connection.ClientSecret == "":
		return "noticed within a day. With the webhook secret, at once."
	case state.CheckedAt.IsZero():
		return "the webhooks at Recharge are being registered."
	case !state.OK:
		return "noticed within a day: the webhooks at Recharge could not be registered. " + Words(state.Problem)
	}
	return "noticed at once: all webhooks at Recharge were registered " + Ago(s.Now().Sub(state.CheckedAt)) + "."
}

// WebhookNews describes how many webhooks Recharge has sent, and how soon we notice a change.
// counts are those of the last day.
func (s *Service) WebhookNews(ctx context.Context, shop shopify.Shop, counts map[string]int64) string {
	news := Plural(int(counts[portal.WebhooksTaken]), "message") + " from Recharge in that time"
	connection, err := s.Connection(ctx, shop)
	if s.Merchants.Own() == "" && err == nil && connection != nil {
		news += ". A change there is " + s.WebhookWords(connection)
	}
	if lost := counts[portal.WebhooksRefused]; lost > 0 {
		news += " " + Plural(int(lost), "message") + " could not be verified. Check that the webhook secret is " +
			"the API Client Secret of this Admin token, and paste it again under Connect."
	}
	return news
}

// ImportWords describes the progress of a shop's import.
func (s *Service) ImportWords(progress store.Import) string {
	switch {
	case progress.Running && progress.Size > 0:
		return fmt.Sprintf("%s read so far, about %d %%", Plural(progress.Customers, "customer"), progress.Percent())
	case progress.Running:
		return Plural(progress.Customers, "customer") + " read so far"
	case progress.Done.IsZero():
		return "not read yet"
	}
	read := Plural(progress.Size, "customer") + ", read " + Ago(s.Now().Sub(progress.Done))
	return read + ". They are read again every night."
}

// Ago formats how long ago something was.
func Ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return Plural(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return Plural(int(d/time.Hour), "hour") + " ago"
	}
	return Plural(int(d/(24*time.Hour)), "day") + " ago"
}

// ShortTime formats a duration in milliseconds, or in seconds from one second on.
func ShortTime(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}

// Plural formats a count and its noun.
func Plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

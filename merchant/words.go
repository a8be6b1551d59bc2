package merchant

// This file makes what merchants read. The sentences themselves are in words.txt.

import (
	"cmp"
	"context"
	_ "embed" // the sentences
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// NoDatabase tells the merchant that Redis does not answer.
const NoDatabase = "We can’t reach our database right now."

//go:embed words.txt
var words string

// sentence returns the sentence at a key of words.txt, with the parts in the place of {}. It returns
// "" if there is none.
func sentence(key string, parts ...string) string {
	_, text, _ := strings.Cut(words, "\n"+key+": ")
	text, _, _ = strings.Cut(text, "\n")
	return strings.ReplaceAll(text, "{}", strings.Join(parts, " "))
}

// Said is what a merchant reads after an action succeeded or, if Bad, failed.
type Said struct {
	Text string
	Bad  bool
}

func bad(key string, parts ...string) Said { return Said{sentence(key, parts...), true} }

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
func (s Step) Said() string { return sentence("state " + string(s.State)) }

// Time returns how long the step took; "" if that was not measured.
func (s Step) Time() string {
	if s.Took <= 0 {
		return ""
	}
	return ShortTime(max(s.Took, time.Millisecond))
}

// Words explains a reason, as returned by portal.Reason, to a merchant.
func Words(reason string) string {
	if reason == portal.NoDatabase {
		return NoDatabase
	}
	return cmp.Or(sentence("why "+reason), sentence("why otherwise"))
}

// found describes a finding.
func found(f recharge.Finding) Step {
	check, why := "check "+string(f.Check), Words(string(f.Why))
	step := Step{Name: string(f.Check), State: f.State, Title: sentence(check), Took: f.Took}
	switch {
	case f.State == recharge.Passed:
		step.Text = sentence(check+" passed", f.Detail)
	case f.Why.Transient():
		step.Text = sentence("not checked now", why)
	case len(f.Missing) > 0:
		step.Text, step.Do = sentence("permission missing", permissions(f.Missing)), sentence("permission missing do")
	default:
		key := check + " " + cmp.Or(string(f.Why), "skipped")
		if sentence(key) == "" {
			key = check + " otherwise"
		}
		step.Text, step.Do = cmp.Or(sentence(key, why), why), sentence(key+" do")
	}
	return step
}

// permissions lists scopes by their names on Recharge's page.
func permissions(scopes []string) string {
	var all []string
	for _, scope := range scopes {
		all = append(all, cmp.Or(sentence("scope "+scope), scope))
	}
	return strings.Join(all, ", ")
}

// noMerchant explains why a click ends before it looks up the customer.
func noMerchant(result portal.Result) Step {
	step := Step{Name: "store", State: recharge.Failed, Title: sentence("store")}
	if result.Outcome == portal.NotConnected {
		step.Text, step.Do = sentence("store not connected"), sentence("store not connected do")
		return step
	}
	step.Text = Words(portal.Reason(result.Cause))
	return step
}

// cachedStep describes what is cached of the customer.
func cachedStep(cached store.Cached, took time.Duration) Step {
	key := "cached nothing"
	switch {
	case cached.Known() && cached.Fresh:
		key = "cached fresh"
	case cached.Known():
		key = "cached older"
	case cached.NotSubscriber:
		key = "cached not a subscriber"
	}
	return Step{Name: "cached", State: recharge.Passed, Title: sentence("cached"), Text: sentence(key), Took: took}
}

// ending describes what the shopper would see.
func ending(result portal.Result) string {
	because, at := "", ""
	if result.Cause != nil {
		because = " " + Words(portal.Reason(result.Cause))
	}
	if link, err := url.Parse(result.Link.URL); err == nil {
		at = " at " + link.Host
	}
	switch text := sentence("ending "+string(result.Outcome), at); {
	case text == "":
		return sentence("ending otherwise") + because
	case result.Outcome == portal.RedirectedByHash:
		return text + because
	default:
		return text
	}
}

func accountsStep(accounts string, err error, took time.Duration) Step {
	key, state := "accounts "+accounts, recharge.Passed
	switch {
	case err != nil:
		key, state = "accounts not seen", recharge.Warned
	case accounts == "":
		key, state = "accounts unknown", recharge.Warned
	}
	return Step{"accounts", state, sentence("accounts"), sentence(key), sentence(key + " do"), took}
}

func webhooksStep(err error) Step {
	step := Step{Name: "webhooks", State: recharge.Passed, Title: sentence("webhooks")}
	switch {
	case err == nil:
		step.Text = sentence("webhooks registered")
	case errors.Is(err, errNoSecret):
		step.State, step.Text = recharge.Skipped, sentence("webhooks no secret")
	default:
		step.State, step.Text = recharge.Warned, sentence("webhooks not registered", Words(portal.Reason(err)))
	}
	return step
}

// WebhookWords describes how soon we notice a change in Recharge.
func (s *Service) WebhookWords(connection *store.Connection) string {
	state := connection.Webhooks
	switch {
	case connection.ClientSecret == "" && s.Merchants.Own() != "":
		return sentence("changes, operator")
	case connection.ClientSecret == "":
		return sentence("changes, no secret")
	case state.CheckedAt.IsZero():
		return sentence("changes, not yet")
	case !state.OK:
		return sentence("changes, not registered", Words(state.Problem))
	}
	return sentence("changes, registered", Ago(s.Now().Sub(state.CheckedAt)))
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
		news += " " + sentence("webhooks refused", Plural(int(lost), "message"))
	}
	return news
}

// News says, the newest first, what has changed at Shopify or Recharge, and when it was noticed.
func News(connection *store.Connection) (news []string) {
	for _, change := range slices.Backward(connection.Look.Changes) {
		text := cmp.Or(sentence("news "+change.What, change.To), sentence("news "+change.What+" "+change.To))
		news = append(news, change.At.UTC().Format("2 January 2006")+": "+text)
	}
	return news
}

// Warnings says where what was set by hand is not what was detected, and what is missing. traits are
// those in use.
func Warnings(connection *store.Connection, traits store.Traits) (warnings []string) {
	chosen, seen := connection.Chosen, connection.Detected
	differs := func(chosen, seen string) bool { return chosen != "" && seen != "" && chosen != seen }
	for _, of := range []struct {
		holds   bool
		warning string
	}{
		{differs(chosen.Accounts, seen.Accounts), sentence("warning accounts " + chosen.Accounts)},
		{differs(chosen.PortalURL, seen.PortalURL), sentence("warning portal", seen.PortalURL)},
		{chosen.Link == "signed_in" && differs(chosen.Link, seen.Link), sentence("warning link")},
		{chosen.Link == "account" && seen.Link == "signed_in", sentence("warning both")},
		{chosen.AccountPage != "" && traits.Accounts == "legacy", sentence("warning no accounts")},
		{chosen.AccountPage != "" && traits.AccountPage == "" && traits.Accounts != "legacy",
			sentence("warning page", seen.AccountHost)},
		{traits.Link == "account" && chosen.AccountPage == "", sentence("suggest account")},
	} {
		if of.holds {
			warnings = append(warnings, of.warning)
		}
	}
	return warnings
}

// ImportWords describes the progress of a shop's import, and why it is stuck.
func (s *Service) ImportWords(progress store.Import) (text string) {
	switch read := Plural(progress.Customers, "customer"); {
	case progress.Running && progress.Size > 0:
		text = fmt.Sprintf("%s read so far, about %d %%", read, progress.Percent())
	case progress.Running:
		text = read + " read so far"
	case progress.Done.IsZero():
		text = "not read yet"
	default:
		text = Plural(progress.Size, "customer") + ", read " + Ago(s.Now().Sub(progress.Done)) + ", and again every night"
	}
	if progress.Problem != "" {
		text += ". " + Words(progress.Problem)
	}
	return text
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
	return thousands(n) + " " + word + "s"
}

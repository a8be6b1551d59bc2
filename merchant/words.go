package merchant

// This file chooses what merchants read. The sentences themselves are in templates/admin.

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// Text is a sentence for merchants. Templates write it in the page's language, and String in English.
type Text = templates.Text

// sentence returns the sentence at a key, with the values of its placeholders. It returns no Text if there is
// none at that key.
func sentence(key string, values ...any) Text {
	if !templates.Has(key) {
		return Text{}
	}
	return Text{Key: key, Values: values}
}

// either returns the first that is a text.
func either(texts ...Text) Text {
	for _, text := range texts {
		if text.Key != "" {
			return text
		}
	}
	return Text{}
}

// follow returns sentences that follow one another.
func follow(texts ...any) Text { return Text{Values: texts} }

// NoDatabase tells the merchant that Redis does not answer.
func NoDatabase() Text { return Words(portal.NoDatabase) }

// Said is what a merchant reads after an action succeeded or, if Bad, failed.
type Said struct {
	Text   Text
	Bad    bool
	Partly bool   // it succeeded, but something is not as it should be or was not checked
	Field  string // of the form, if it has to be changed
}

func bad(key string, values ...any) Said { return Said{Text: sentence(key, values...), Bad: true} }

// Step is a line of a check, as the page shows it.
type Step struct {
	Name  string
	State recharge.State
	Title Text
	Text  Text // what was found
	Do    Text // what to do about it, and where
	Took  time.Duration
}

// Said returns the state for screen readers.
func (s Step) Said() Text { return sentence("state " + string(s.State)) }

// Time returns how long the step took, or no Text if that was not measured.
func (s Step) Time() Text {
	if s.Took <= 0 {
		return Text{}
	}
	return ShortTime(max(s.Took, time.Millisecond))
}

// Words explains a reason, as returned by portal.Reason, to a merchant.
func Words(reason string) Text { return either(sentence("why "+reason), sentence("why otherwise")) }

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
		if !templates.Has(key) {
			key = check + " otherwise"
		}
		step.Text, step.Do = either(sentence(key, why), why), sentence(key+" do")
	}
	return step
}

// permissions lists scopes by their names on Recharge's page.
func permissions(scopes []string) Text {
	list := Text{Key: "list"}
	for _, scope := range scopes {
		if name := sentence("scope " + scope); name.Key != "" {
			list.Values = append(list.Values, name)
		} else {
			list.Values = append(list.Values, scope)
		}
	}
	return list
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
func ending(result portal.Result) Text {
	var because Text
	if result.Cause != nil {
		because = Words(portal.Reason(result.Cause))
	}
	host := ""
	if link, err := url.Parse(result.Link.URL); err == nil {
		host = link.Host
	}
	switch text := sentence("ending "+string(result.Outcome), host); {
	case text.Key == "":
		return follow(sentence("ending otherwise"), because)
	case inAccount(result):
		return sentence("ending in account", host)
	case result.Outcome == portal.RedirectedByHash:
		return follow(text, because)
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

func webhooksStep(err error, proof store.Proof) Step {
	step := Step{Name: "webhooks", State: recharge.Passed, Title: sentence("webhooks")}
	switch {
	case err == nil && proof == store.Proven:
		step.Text = sentence("message proven")
	case err == nil && proof == store.Refuted:
		step.State, step.Text, step.Do = recharge.Warned, sentence("message refused"), sentence("message refused do")
	case err == nil:
		step.State, step.Text = recharge.Skipped, sentence("message waiting")
	case errors.Is(err, errNoSecret):
		step.State, step.Text = recharge.Skipped, sentence("webhooks no secret")
	default:
		step.State, step.Text = recharge.Warned, sentence("webhooks not registered", Words(portal.Reason(err)))
	}
	return step
}

// proof returns what a shop's webhooks have shown. One that is refused says little about the configured store's secret,
// since anybody can send a message to its address.
func (s *Service) proof(record *store.Record) store.Proof {
	proof := s.Store.WebhookProof(record)
	if proof == store.Refuted && s.Merchants.Own() != "" && s.Store.WebhooksProven(record) {
		return store.Proven
	}
	return proof
}

// WebhookWords describes how soon we notice a change in Recharge.
func (s *Service) WebhookWords(connection *store.Connection, record *store.Record) Text {
	state, proof, last := connection.Webhooks, s.proof(record), time.Time{}
	if record != nil {
		last = record.WebhookVerified
	}
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
	key := "changes, " + string(proof)
	switch {
	case proof == store.Unproven && !last.IsZero():
		key = "changes, silent"
	case proof == store.Refuted && s.Merchants.Own() != "":
		key = "changes, operator refused"
	}
	return sentence(key, Ago(s.Now().Sub(last)))
}

// SecretWords says what Recharge's webhooks have shown about a saved API Client Secret.
func (s *Service) SecretWords(record *store.Record) Text {
	return sentence("secret " + string(s.Store.WebhookProof(record)))
}

// WebhookNews describes how many webhooks Recharge has sent. counts are those of the last day.
func (s *Service) WebhookNews(ctx context.Context, shop shopify.Shop, counts map[string]int64) Text {
	news := follow(sentence("webhooks taken", counts[portal.WebhooksTaken]))
	lost := counts[portal.WebhooksRefused]
	record, _ := s.Store.Record(ctx, shop)
	if lost > 0 && s.Store.WebhookProof(record) != store.Refuted { // else it is said already
		news.Values = append(news.Values, sentence("webhooks refused", lost))
	}
	return news
}

// News says, the newest first, what has changed at Shopify or Recharge, and when it was noticed.
func News(connection *store.Connection) (news []Text) {
	for _, change := range slices.Backward(connection.Look.Changes) {
		text := either(sentence("news "+change.What, change.To), sentence("news "+change.What+" "+change.To))
		news = append(news, sentence("news", "day", templates.Day(change.At), "text", text))
	}
	return news
}

// Warnings says where what was set by hand is not what was detected, and what is missing. traits are
// those in use.
func Warnings(connection *store.Connection, traits store.Traits) (warnings []Text) {
	chosen, seen := connection.Chosen, connection.Detected
	differs := func(chosen, seen string) bool { return chosen != "" && seen != "" && chosen != seen }
	for _, of := range []struct {
		holds   bool
		warning Text
	}{
		{differs(chosen.Accounts, seen.Accounts), sentence("warning accounts " + chosen.Accounts)},
		{differs(chosen.PortalURL, seen.PortalURL), sentence("warning portal", seen.PortalURL)},
		{chosen.Link == "signed_in" && differs(chosen.Link, seen.Link), sentence("warning link")},
		{chosen.Link == "account" && seen.Link == "signed_in", sentence("warning both")},
		{chosen.AccountPage != "" && traits.Accounts == "legacy", sentence("warning no accounts")},
		{chosen.AccountPage != "" && traits.AccountPage == "" && traits.Accounts != "legacy",
			sentence("warning page", seen.AccountHost)},
		{chosen.Link == "" && seen.Link == "hash", sentence("warning no session")},
		{traits.Link == "account" && chosen.AccountPage == "" && !chosen.Affinity, sentence("suggest account")},
		{traits.Link == "account" && chosen.Affinity, sentence("warning affinity")},
	} {
		if of.holds {
			warnings = append(warnings, of.warning)
		}
	}
	return warnings
}

// ImportWords describes the progress of a shop's import, and why it is stuck.
func (s *Service) ImportWords(progress store.Import) Text {
	var text, problem Text
	switch read := Plural(progress.Customers, "customer"); {
	case progress.Running && progress.Size > 0:
		text = sentence("import percent", "customers", read, "percent", progress.Percent())
	case progress.Running:
		text = sentence("import running", read)
	case progress.Done.IsZero():
		text = sentence("import never")
	default:
		ago := Ago(s.Now().Sub(progress.Done))
		text = sentence("import done", "customers", Plural(progress.Size, "customer"), "ago", ago)
	}
	if progress.Problem != "" {
		problem = Words(progress.Problem)
	}
	return follow(text, problem)
}

// Ago formats how long ago something was.
func Ago(d time.Duration) Text {
	switch {
	case d < 2*time.Minute:
		return sentence("ago now")
	case d < 2*time.Hour:
		return sentence("ago minutes", int(d/time.Minute))
	case d < 48*time.Hour:
		return sentence("ago hours", int(d/time.Hour))
	}
	return sentence("ago days", int(d/(24*time.Hour)))
}

// ShortTime formats a duration in milliseconds, or in seconds from one second on.
func ShortTime(d time.Duration) Text {
	if d < time.Second {
		return sentence("time ms", d.Milliseconds())
	}
	return sentence("time s", d.Seconds())
}

// Plural formats a count and its noun, which is one of those at "count" in the catalogues.
func Plural(n int, noun string) Text { return sentence("count "+noun, n) }

package merchant

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// troubleFrom is how many visits of a day must fail until the store is in trouble.
	troubleFrom = 3
	// importOld is how long ago a store's customers were last read if nights were missed.
	importOld = 36 * time.Hour
)

// Overview is the state of a store for the operator, as Redis holds it. Most of its texts are what the merchant reads.
type Overview struct {
	Shop     shopify.Shop `json:"shop"`
	Troubles []Trouble    `json:"troubles"` // the worst first

	ConnectedAt time.Time   `json:"connected_at,omitzero"` // zero: by this server's settings
	Portal      string      `json:"portal"`                // a store.Traits' Link; "": the store is not connected
	PortalURL   string      `json:"portal_url"`
	Accounts    string      `json:"accounts"` // "": not known
	DetectedAt  time.Time   `json:"detected_at,omitzero"`
	Webhooks    store.Proof `json:"webhooks"` // "": there is no secret to verify them
	Changes     Text        `json:"changes"`  // how soon changes in Recharge are noticed
	Warnings    []Text      `json:"warnings"` // about its settings

	ImportedAt time.Time `json:"imported_at,omitzero"`
	Import     Text      `json:"import"`

	// Today began at midnight in UTC.
	Visits       int64     `json:"visits"`
	InPortal     int64     `json:"in_portal"`
	SignedIn     int64     `json:"signed_in"`
	Outcomes     []Outcome `json:"outcomes"` // except portal.Redirected
	Calls        int64     `json:"calls"`
	CallsFailed  int64     `json:"calls_failed"`
	CallsLimited int64     `json:"calls_limited"`

	CallsLeft int        `json:"calls_left"`
	Burst     int        `json:"calls_at_once"`
	Budget    Text       `json:"budget"`
	Errors    []ErrorSum `json:"-"` // of the last day, the most recent first
	LastError Text       `json:"last_error"`
}

// Trouble is something that the operator or the merchant has to look at.
type Trouble struct {
	Name string `json:"name"`
	Text Text   `json:"text"`
	rank int    // lower is worse
}

const notConnected = "not connected"

// Rank orders stores by their worst trouble. Those without any come last.
func (o Overview) Rank() int {
	if len(o.Troubles) == 0 {
		return math.MaxInt
	}
	return o.Troubles[0].rank
}

// Left reports whether the store is not connected, and nobody clicks its link any more.
func (o Overview) Left() bool {
	return len(o.Troubles) > 0 && o.Troubles[0].Name == notConnected && o.Visits == 0
}

// Lines returns the troubles, a line each.
func (o Overview) Lines() (lines []string) {
	for _, trouble := range o.Troubles {
		lines = append(lines, trouble.Name+": "+trouble.Text.String())
	}
	return lines
}

// Outcome is how some visits of today ended.
type Outcome struct {
	Name  string `json:"outcome"`
	Count int64  `json:"count"`
	Text  Text   `json:"text"`
	Do    Text   `json:"do"`
}

// Overview reads the state of a store. A store that cannot be read is in trouble, too. It makes no call.
func (s *Service) Overview(ctx context.Context, shop shopify.Shop) Overview {
	o := Overview{Shop: shop, Troubles: []Trouble{}}
	if err := s.overview(ctx, &o); err != nil {
		o.Troubles = []Trouble{{Name: "unreadable", Text: follow(err.Error())}}
	}
	return o
}

func (s *Service) overview(ctx context.Context, o *Overview) error {
	record, err := s.Store.Record(ctx, o.Shop)
	if err != nil {
		return err
	}
	now := s.Now().UTC()
	health, err := s.Health(ctx, o.Shop, now.Add(-24*time.Hour))
	if err != nil {
		return err
	}
	o.count(Sum(Within(health.Hours, now.Truncate(24*time.Hour), now.Add(time.Hour))))
	if o.Errors = SumErrors(health.Errors); len(o.Errors) > 0 {
		o.LastError = o.Errors[0].Line()
	}
	connection := s.Merchants.Connection(o.Shop, record)
	if connection == nil {
		o.Troubles = append(o.Troubles, Trouble{notConnected, operatorDoes(portal.NotConnected), 3}) // like "clicks fail"
		return nil
	}
	progress, err := s.Store.Import(ctx, o.Shop)
	if err != nil {
		return err
	}
	merchant, err := s.Merchants.Of(o.Shop, record)
	if err != nil {
		return err
	}
	budget, err := merchant.Client.Limiter().Refresh(ctx, s.Store.Limiter(o.Shop))
	if err != nil {
		return err
	}
	traits := s.Merchants.Traits(connection)
	o.ConnectedAt, o.DetectedAt, o.Accounts = connection.SavedAt, connection.Look.At, traits.Accounts
	o.Portal, o.PortalURL = cmp.Or(traits.Link, "signed_in"), traits.PortalURL
	o.Warnings = Warnings(connection, traits)
	if merchant.InAccount {
		o.PortalURL = traits.AccountPage
	}
	if connection.ClientSecret != "" {
		o.Webhooks = s.proof(record)
	}
	o.Changes = s.WebhookWords(connection, record)
	o.ImportedAt, o.Import = progress.Done, s.ImportWords(progress)
	o.CallsLeft, o.Burst, o.Budget = budget.Left, budget.Burst, BudgetWords(budget)
	o.judge(now, connection, record, progress, health.Hours)
	return nil
}

// count fills in today's visits and calls.
func (o *Overview) count(counts map[string]int64) {
	visits := VisitsOf(counts)
	o.Visits, o.InPortal, o.SignedIn = visits.All, visits.Portal, visits.SignedIn
	for _, out := range visits.Out {
		name := string(out.Outcome)
		if out.Outcome == Unverified {
			name = string(portal.Forbidden) // as in the log
		}
		o.Outcomes = append(o.Outcomes, Outcome{name, out.Count, out.Text(), operatorDoes(out.Outcome)})
	}
	if n := visits.ByHash(); n > 0 {
		text, do := sentence("kept out by hash", n), operatorDoes(portal.RedirectedByHash)
		o.Outcomes = append(o.Outcomes, Outcome{string(portal.RedirectedByHash), n, text, do})
	}
	o.Calls, o.CallsFailed = counts[portal.CallsMade], counts[portal.CallsFailed]
	o.CallsLimited = counts[portal.CallsLimited]
}

// operatorDoes says what the operator does about an outcome. It may not be what the merchant does.
func operatorDoes(outcome portal.Outcome) Text {
	switch outcome {
	case portal.SignIn, portal.SignInFailed:
		return follow("A few change their mind. If nearly all do, run doctor with --store-url, and check CUSTOMER_ACCOUNTS.")
	case portal.NotASubscriber:
		return follow("Run preview with the id of a shopper who should get in.")
	case portal.NotConnected:
		return follow("The merchant has to connect Recharge in the app home. For a single store, set RECHARGE_API_TOKEN.")
	case Unverified:
		return follow("Strangers cause a few. If shoppers see it, run doctor: the clock or SHOPIFY_API_SECRET is wrong.")
	case portal.Forbidden:
		return follow("Nothing, if it is a few. A link works once, and in a browser.")
	case portal.RedirectedByHash:
		return follow("The errors below say why. If there are none, the store has no Storefront token.")
	default:
		return follow("The errors below say why.")
	}
}

// judge lists the troubles of a connected store, the worst first.
func (o *Overview) judge(
	now time.Time, connection *store.Connection, record *store.Record, progress store.Import, hours []store.Hour,
) {
	day, lately := Sum(hours), Sum(Within(hours, now.Truncate(time.Hour).Add(-time.Hour), now.Add(time.Hour)))
	visits, recent, state := VisitsOf(day), VisitsOf(lately), connection.Webhooks
	byHash := o.Portal == "signed_in" && recent.ByHash() >= alertFrom && 2*recent.ByHash() > recent.Portal
	read := cmp.Or(progress.Done, progress.Began, connection.SavedAt)
	// A message was asked for since the last one that was verified has lapsed.
	silent := o.Webhooks == store.Unproven && now.Sub(state.CheckedAt) > time.Hour &&
		record != nil && state.CheckedAt.Sub(record.WebhookVerified) >= week
	for i, of := range []struct {
		holds bool
		name  string
		text  Text
	}{
		{connection.Look.Refused, "token refused", sentence("connection refused")},
		{lately[portal.CallsLimited] >= alertFrom || o.limited(now) >= troubleFrom, "limited",
			follow(Words("rate limited"), o.Budget)},
		{fails(visits, recent), "clicks fail", visits.failures()},
		{byHash, "not signed in", follow(sentence("kept out by hash", recent.ByHash()), o.LastError)},
		{connection.Chosen.Link == "" && connection.Detected.Link == "hash", "no sessions", sentence("warning no session")},
		{progress.Problem != "", "import stuck", o.Import},
		{progress.Problem == "" && !read.IsZero() && now.Sub(read) > importOld, "import old", o.Import},
		{o.Webhooks != "" && state.Problem != "", "webhooks not registered", o.Changes},
		{o.Webhooks == store.Refuted, "webhooks refused", o.Changes},
		{silent && state.Problem == "", "webhooks silent", o.Changes},
	} {
		if of.holds {
			o.Troubles = append(o.Troubles, Trouble{of.name, of.text, i + 1})
		}
	}
}

// limited returns how many clicks of the last hour were kept from calling Recharge by a 429 or a spent budget. One
// 429 holds back all calls for a while, so that the number of 429s says little.
func (o *Overview) limited(now time.Time) (n int) {
	for _, e := range o.Errors {
		if (e.What == string(recharge.Limited) || e.What == string(recharge.OverBudget)) && now.Sub(e.Last) < time.Hour {
			n += e.Times
		}
	}
	return n
}

// fails reports whether most recent clicks fail, or most of the day's did and the recent ones are not all well.
func fails(day, recent Visits) bool {
	recovered := recent.All > 0 && recent.failed() == 0
	return day.wrong(troubleFrom) && !recovered || recent.wrong(alertFrom)
}

// failures says how many visits reached the portal, and what kept the others out.
func (v Visits) failures() Text {
	text := follow(v.Headline())
	for _, out := range v.Out {
		text.Values = append(text.Values, out.Text())
	}
	return text
}

package merchant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

const (
	// alertFrom is how many visits must fail in the current hour and the one before until there is an alert, and
	// alertAgain how long there is no other one.
	alertFrom  = 10
	alertAgain = 24 * time.Hour
	// summaryAt is when the summary of a week is due, after the Monday that ends it began in UTC.
	summaryAt = 8 * time.Hour
	week      = 7 * 24 * time.Hour
	// reportClaim is how long the other servers leave a store alone whose notice is being sent. If that fails, it
	// is tried again afterwards.
	reportClaim = 50 * time.Minute
)

// The kinds of notices.
const (
	Summary = "summary"
	Alert   = "alert"
)

// Notice tells a merchant or an operator how the visits of a store end.
type Notice struct {
	Kind     string
	Shop     shopify.Shop
	From, To time.Time // of the visits
	Visits   Visits
}

// Title is the notice's subject.
func (n Notice) Title() Text {
	if n.Kind == Alert {
		return sentence("notice alert", string(n.Shop))
	}
	last := n.To.Add(-time.Hour)
	return sentence("notice summary", "shop", string(n.Shop), "from", templates.Day(n.From), "to", templates.Day(last))
}

// Lines are what the notice says.
func (n Notice) Lines() []Text {
	lines := []Text{n.Visits.Headline()}
	for _, out := range n.Visits.Out {
		lines = append(lines, follow(out.Text(), out.Do()))
	}
	if n.Kind == Alert {
		lines = append(lines, sentence("notice once a day"))
	}
	return lines
}

// MailEnd says at the end of a mail why it comes, and how to end that.
func MailEnd() Text { return sentence("notice mail end") }

// Notifier sends notices. Its errors name no address.
type Notifier interface {
	// Mails reports whether merchants can get notices by e-mail, and Posts whether the operator wants them.
	Mails() bool
	Posts() bool
	// Mail sends a notice to a merchant, in a language.
	Mail(ctx context.Context, to, language string, n Notice) error
	// Post sends a notice to the operator.
	Post(ctx context.Context, n Notice) error
}

// SaveReportTo saves where a merchant wants notices by e-mail, "" for none. languages are as in Accept-Language.
func (s *Service) SaveReportTo(ctx context.Context, shop shopify.Shop, to, languages string) Said {
	if to != "" && !recharge.IsEmail(to) {
		return bad("reports invalid")
	}
	connected, err := s.Store.UpdateConnection(ctx, shop, func(c *store.Connection) bool {
		c.ReportTo, c.ReportIn, c.Reported.Failed = to, templates.Language(languages), false
		return true
	})
	switch said := saved(connected, err); {
	case said.Bad:
		return said
	case to == "":
		return Said{Text: sentence("reports ended")}
	}
	return Said{Text: sentence("reports saved", to)}
}

// Report sends the notices of all shops that are due. Of several servers, one sends each.
func (s *Service) Report(ctx context.Context) error {
	all, err := s.connections(ctx)
	for _, connection := range all {
		if ctx.Err() == nil && (s.Notifier.Posts() || connection.ReportTo != "" && s.Notifier.Mails()) {
			err = errors.Join(err, s.report(ctx, connection))
		}
	}
	return err
}

// report sends the notices of a shop that are due, if there is something to say.
func (s *Service) report(ctx context.Context, connection store.Connection) error {
	now := s.Now().UTC()
	hour := now.Truncate(time.Hour)
	monday := now.Truncate(24*time.Hour).AddDate(0, 0, -(int(now.Weekday())+6)%7)
	return errors.Join(
		s.notify(ctx, connection, Notice{Kind: Alert, From: hour.Add(-time.Hour), To: hour.Add(time.Hour)}),
		s.notify(ctx, connection, Notice{Kind: Summary, From: monday.Add(-week), To: monday}),
	)
}

// due reports whether a notice may be sent, by which were sent before.
func (n Notice) due(r store.Reported, now time.Time) bool {
	if n.Kind == Alert {
		return now.Sub(r.Alert) >= alertAgain
	}
	return r.Week.Before(n.To) && !now.Before(n.To.Add(summaryAt))
}

// notify sends a notice if it is due, and notes whether that worked. The claim keeps other servers from sending it,
// too.
func (s *Service) notify(ctx context.Context, connection store.Connection, n Notice) error {
	now := s.Now().UTC()
	if !n.due(connection.Reported, now) {
		return nil
	}
	health, err := s.Health(ctx, connection.Shop, n.From)
	if err != nil {
		return fmt.Errorf("read what to report: %w", err)
	}
	n.Shop, n.Visits = connection.Shop, VisitsOf(Sum(Within(health.Hours, n.From, n.To)))
	if n.Kind == Alert && !n.Visits.wrong(alertFrom) || n.Visits.All+n.Visits.KeptOutBy(Unverified) == 0 {
		return nil
	}
	claimed := false
	err = s.change(ctx, &connection, func(c *store.Connection) bool {
		if claimed = n.due(c.Reported, now) && now.Sub(c.Reported.ClaimedAt) >= reportClaim; claimed {
			c.Reported.ClaimedAt = now
			connection.ReportTo, connection.ReportIn = c.ReportTo, c.ReportIn
		}
		return claimed
	})
	if err != nil || !claimed {
		return err
	}
	failed := s.send(context.WithoutCancel(ctx), connection, n)
	return errors.Join(failed, s.change(ctx, &connection, func(c *store.Connection) bool {
		switch c.Reported.Failed = failed != nil; {
		case failed != nil:
			return true // and the claim stays, so that it is not tried again at once
		case n.Kind == Alert:
			c.Reported.Alert = now
		default:
			c.Reported.Week = n.To
		}
		c.Reported.ClaimedAt = time.Time{}
		return true
	}))
}

func (s *Service) send(ctx context.Context, connection store.Connection, n Notice) (err error) {
	if s.Notifier.Posts() {
		err = s.Notifier.Post(ctx, n)
	}
	if connection.ReportTo != "" && s.Notifier.Mails() {
		err = errors.Join(err, s.Notifier.Mail(ctx, connection.ReportTo, connection.ReportIn, n))
	}
	if err != nil {
		return fmt.Errorf("send %s of %s: %w", n.Kind, n.Shop, err)
	}
	s.Log.InfoContext(ctx, "notice sent", "kind", n.Kind, "shop", string(n.Shop))
	return nil
}

// wrong reports whether most visits failed in a way that shoppers cannot help, and at least so many.
// Requests that only claim to come from the shop count if none came that is verified: then Shopify's secret may be
// wrong here.
func (v Visits) wrong(least int64) bool {
	failed := v.failed()
	return failed >= least && 2*failed > v.All || v.All == 0 && v.KeptOutBy(Unverified) >= alertFrom
}

func (v Visits) failed() int64 {
	return v.KeptOutBy(portal.SignInFailed) + v.KeptOutBy(portal.Unavailable) + v.KeptOutBy(portal.NotConnected)
}

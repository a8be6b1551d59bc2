package merchant

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/mail"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

const (
	// alertFrom is how many visits must fail in the current hour and the one before until there is an alert.
	alertFrom = 10
	// summaryAt is when the summary of a week is due, after the Monday that ends it began in UTC.
	summaryAt = 8 * time.Hour
	week      = 7 * 24 * time.Hour
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
	// Mails reports whether merchants can get notices by e-mail.
	Mails() bool
	// Mail sends a notice to a merchant, in the first of the languages, as in Accept-Language, that there is.
	Mail(ctx context.Context, to, languages string, n Notice) error
	// Post sends a notice to the operator, if they want it.
	Post(ctx context.Context, n Notice) error
}

// isAddress reports whether a text is a plain e-mail address.
func isAddress(text string) bool {
	address, err := mail.ParseAddress(text)
	return err == nil && address.Address == text && len(text) <= 254
}

// SaveReportTo saves where a merchant wants notices by e-mail, and in which languages; "" for none.
func (s *Service) SaveReportTo(ctx context.Context, shop shopify.Shop, to, languages string) Said {
	if to != "" && !isAddress(to) {
		return bad("reports invalid")
	}
	connected, err := s.Store.UpdateConnection(ctx, shop, func(c *store.Connection) bool {
		c.ReportTo, c.ReportIn = to, languages
		return true
	})
	switch {
	case err != nil:
		return bad("not saved, database")
	case !connected:
		return bad("not saved, not connected")
	case to == "":
		return Said{Text: sentence("reports ended")}
	}
	return Said{Text: sentence("reports saved", to)}
}

// report sends the notices that are due. Of several servers, one sends them. A notice that could not be sent is
// not sent again, since the mail server may have taken it.
func (s *Service) report(ctx context.Context, connection store.Connection) error {
	now := s.Now().UTC()
	monday := now.Truncate(24*time.Hour).AddDate(0, 0, -(int(now.Weekday())+6)%7)
	due := Notice{Kind: Summary, Shop: connection.Shop, From: monday.Add(-week), To: monday}
	err := s.notify(ctx, connection, due, monday.Add(summaryAt), week)
	hour := now.Truncate(time.Hour)
	wrong := Notice{Kind: Alert, Shop: connection.Shop, From: hour.Add(-time.Hour), To: hour.Add(time.Hour)}
	if alert := s.notify(ctx, connection, wrong, now, 24*time.Hour); err == nil {
		err = alert
	}
	return err
}

// notify sends a notice if it is due, if there is something to say, and if none of its kind was sent for a while.
func (s *Service) notify(
	ctx context.Context, connection store.Connection, n Notice, due time.Time, once time.Duration,
) error {
	if s.Notifier == nil || s.Now().Before(due) {
		return nil
	}
	health, err := s.Store.Health(ctx, n.Shop, n.From)
	if err != nil {
		return fmt.Errorf("read what to report: %w", err)
	}
	n.Visits = VisitsOf(Sum(Within(health.Hours, n.From, n.To)))
	if n.Visits.All == 0 || n.Kind == Alert && !n.Visits.wrong() {
		return nil
	}
	mark := "notice/" + n.Kind
	if n.Kind == Summary {
		mark += n.To.Format("/20060102")
	}
	first, err := s.Store.UseNonce(ctx, n.Shop, mark, rand.Text(), s.Now().Add(once))
	if err != nil || !first {
		return err
	}
	err = s.Notifier.Post(ctx, n)
	if connection.ReportTo != "" && s.Notifier.Mails() {
		if failed := s.Notifier.Mail(ctx, connection.ReportTo, connection.ReportIn, n); err == nil {
			err = failed
		}
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", n.Kind, err)
	}
	s.Log.InfoContext(ctx, "notice sent", "kind", n.Kind, "shop", string(n.Shop))
	return nil
}

// wrong reports whether most visits failed in a way that shoppers cannot help, and so many that it is no accident.
func (v Visits) wrong() bool {
	failed := v.All - v.Portal - v.KeptOutBy(portal.NotASubscriber) - v.KeptOutBy(portal.SignIn)
	return failed >= alertFrom && 2*failed > v.All
}

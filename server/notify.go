package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// notifyTimeout is how long a mail server or NOTIFY_URL may take.
const notifyTimeout = 10 * time.Second

// notifier sends notices by e-mail and to NOTIFY_URL, whichever the operator has configured.
type notifier struct {
	smtp *config.SMTP
	url  config.Secret
	http http.RoundTripper
}

func (n *notifier) Mails() bool { return n.smtp != nil }
func (n *notifier) Posts() bool { return !n.url.Empty() }

func (n *notifier) Mail(ctx context.Context, to, language string, notice merchant.Notice) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	message := mail.NewMsg()
	if err := errors.Join(message.From(n.smtp.From), message.To(to)); err != nil {
		return errors.New("an address is malformed") // the library's error has it
	}
	message.Subject(notice.Title().In(language))
	message.SetMessageID()
	message.SetDate()
	message.SetBulk()
	lines := append(notice.Lines(), merchant.MailEnd())
	message.SetBodyString(mail.TypeTextPlain, paragraphs(lines, language))
	client, err := n.client()
	if err != nil {
		return errors.New("the mail server's settings do not work")
	}
	if err := client.DialAndSendWithContext(ctx, message); err != nil {
		if sending, ok := errors.AsType[*mail.SendError](err); ok {
			return fmt.Errorf("the mail server: %s", sending.Reason) // the rest has addresses
		}
		return errors.New("the mail server did not take it: it could not be reached, or refused the sign-in or TLS")
	}
	return nil
}

// client returns a client of the mail server. Without TLS, it talks only to this machine.
func (n *notifier) client() (*mail.Client, error) {
	port, _ := strconv.Atoi(n.smtp.Port)
	policy := mail.TLSMandatory
	if recharge.Loopback(n.smtp.Host) {
		policy = mail.TLSOpportunistic
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTLSPolicy(policy), mail.WithTimeout(notifyTimeout)}
	if n.smtp.TLS {
		options = append(options, mail.WithSSL())
	}
	if n.smtp.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover),
			mail.WithUsername(n.smtp.User), mail.WithPassword(n.smtp.Password.Reveal()))
	}
	return mail.NewClient(n.smtp.Host, options...)
}

func paragraphs(lines []merchant.Text, language string) string {
	var all []string
	for _, line := range lines {
		all = append(all, line.In(language))
	}
	return strings.Join(all, "\r\n\r\n") + "\r\n"
}

// Post sends the notice as JSON, in English. Chat programs show its text.
func (n *notifier) Post(ctx context.Context, notice merchant.Notice) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	out := map[string]int64{}
	for _, kept := range notice.Visits.Out {
		out[string(kept.Outcome)] = kept.Count
	}
	lines := append([]merchant.Text{notice.Title()}, notice.Lines()...)
	body, err := json.Marshal(map[string]any{
		"text": paragraphs(lines, ""), "kind": notice.Kind, "shop": notice.Shop,
		"from": notice.From.Format(time.RFC3339), "to": notice.To.Format(time.RFC3339),
		"visits": notice.Visits.All, "in_portal": notice.Visits.Portal, "signed_in": notice.Visits.SignedIn, "kept_out": out,
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url.Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("NOTIFY_URL is malformed")
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := n.http.RoundTrip(request) // follows no redirect
	if err != nil {
		return errors.New("NOTIFY_URL does not answer") // the error could have its secret
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("NOTIFY_URL answers %d", response.StatusCode)
	}
	return nil
}

package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// SMTP is a mail server and the address that mails come from.
type SMTP struct {
	Host, Port string
	TLS        bool // from the first byte; otherwise by STARTTLS, without which nothing is sent to another machine
	User       string
	Password   Secret
	From       string
}

const smtpHint = "smtp://user:password@host:587, or smtps:// for TLS from the start, with special characters in the " +
	"password escaped (%40 for @)"

// smtp reads the URL of a mail server and the sender's address. It returns nil if both are empty.
func (c *checker) smtp(text, from string) *SMTP {
	if text == "" {
		c.expect(from == "", "MAIL_FROM", "is set without SMTP_URL", smtpHint)
		return nil
	}
	u, err := url.Parse(text)
	ok := err == nil && slices.Contains([]string{"smtp", "smtps"}, u.Scheme) && u.Hostname() != "" &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
	sender := c.expect(recharge.IsEmail(from),
		"MAIL_FROM", "is not an e-mail address", "a plain address, such as help@agency.example")
	if !c.expect(ok, "SMTP_URL", "is not the URL of a mail server", smtpHint) || !sender {
		return nil
	}
	s := &SMTP{Host: u.Hostname(), Port: u.Port(), TLS: u.Scheme == "smtps", User: u.User.Username(), From: from}
	if password, ok := u.User.Password(); ok {
		s.Password = NewSecret(password)
	}
	switch {
	case s.Port != "":
	case s.TLS:
		s.Port = "465"
	default:
		s.Port = "587"
	}
	port, err := strconv.Atoi(s.Port)
	if !c.expect(err == nil && port > 0 && port < 65536, "SMTP_URL", "has a port that cannot be", smtpHint) {
		return nil
	}
	return s
}

// secretURL reads an https URL that may hold a secret. It accepts http only for a loopback host.
func (c *checker) secretURL(name, text string) Secret {
	u, err := url.Parse(text)
	if text == "" || c.expect(err == nil && u.Host != "" && u.User == nil && u.Fragment == "" &&
		(u.Scheme == "https" || u.Scheme == "http" && recharge.Loopback(u.Hostname())),
		name, "is not an https URL", "where notices are posted to, such as https://hooks.example.com/…") {
		return NewSecret(text)
	}
	return Secret{}
}

package config

import "github.com/manage-subscriptions/manage-subscriptions/recharge"

// Secret is a text that must not be printed: a token, a key, a client secret.
// Every way of printing it gives "[redacted]"; Reveal gives the text itself.
// The zero value is the empty secret.
type Secret struct {
	recharge.Redacted

	// A pointer, because fmt cannot call the methods of a Secret in an unexported field. It then
	// prints the address, not the text.
	text *string
}

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the text. Call it only where the text is used.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text at all.
func (s Secret) Empty() bool { return s.Reveal() == "" }

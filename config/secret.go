package config

import "fmt"

const redacted = "[redacted]"

// Secret is a text that must not be printed: a token, a key, a client secret.
// Every way of printing it gives "[redacted]"; Reveal gives the text itself.
// The zero value is the empty secret.
type Secret struct {
	// A pointer, because fmt cannot call the methods of a Secret in an unexported field. It then
	// prints the address, not the text.
	text *string
}

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text. Call it only where the text is used.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text at all.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Format covers every verb of fmt, %x and %d included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// String covers printers that do not use fmt.
func (s Secret) String() string { return redacted }

// MarshalText covers log/slog, encoding/json and every other text encoder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

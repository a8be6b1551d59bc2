package templates

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
)

var (
	//go:embed own.css
	ownStyle template.CSS
	//go:embed forward.css
	forwardStyle template.CSS
	//go:embed forward.js
	forwardScript template.JS
)

// OwnPage is what a page of our own shows, where no store draws one in its theme.
type OwnPage struct {
	RequestID string // a reference for support, which is in the log, too
	Home      string // the store's address
	Languages string // the languages that the reader wants, as in Accept-Language
}

// Own returns the HTML page called name. It has the texts of the page that a store
// would draw, without the links into the storefront.
func (p *Pages) Own(name string, page OwnPage) ([]byte, error) {
	words := choose(p.byTag, page.Languages)
	text, ok := words.texts[name+".text"]
	if !ok {
		return nil, fmt.Errorf("no page is called %q", name)
	}
	before, after, _ := strings.Cut(words.texts["reference"], "{id}")
	return p.draw("own.html", words, map[string]any{
		"Outcome": name,
		"Style":   ownStyle,
		"Title":   words.texts[name+".title"],
		"Text":    text,
		"Hint":    words.texts[name+".hint"],
		"Home":    page.Home,
		"Back":    words.texts["home"],
		"Before":  before, "ID": page.RequestID, "After": after,
	})
}

// Text returns one text of a page in a language that the reader wants, with the
// language's code.
func (p *Pages) Text(key, languages string) (text, code string) {
	words := choose(p.byTag, languages)
	return words.texts[key], words.code
}

// OwnPolicy is the Content-Security-Policy of these pages. They load nothing.
func (p *Pages) OwnPolicy() string { return policy(string(ownStyle), "") }

// Forward returns an HTML page that sends the browser to target at once. Its text is in
// the language of locale, a tag such as "fr" or "pt-BR".
func (p *Pages) Forward(target, locale string) ([]byte, error) {
	words := choose(p.byTag, locale)
	return p.draw("forward.html", words, map[string]any{
		"Target": target,
		"Style":  forwardStyle,
		"Script": forwardScript,
		"Texts":  words.texts,
	})
}

// draw returns one of the pages in html, in a language.
func (p *Pages) draw(file string, words catalogue, data map[string]any) ([]byte, error) {
	data["Language"], data["Direction"] = words.code, words.direction()
	var out bytes.Buffer
	err := p.html.ExecuteTemplate(&out, file, data)
	return out.Bytes(), err
}

// ForwardPolicy is the Content-Security-Policy of that page, which can only forward.
func (p *Pages) ForwardPolicy() string { return policy(string(forwardStyle), string(forwardScript)) }

// policy allows one style and one script element ("" for none), nothing else, and no frame.
func policy(style, script string) string {
	return "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(script) +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func hash(element string) string {
	if element == "" {
		return "'none'"
	}
	sum := sha256.Sum256([]byte(element))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

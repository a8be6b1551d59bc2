package templates

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
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

// OwnPage holds what a page of our own shows, for clicks that no store's theme can answer.
type OwnPage struct {
	RequestID  string // a reference for support, also in the log
	Home       string // the store's address; "" if not known
	Store      string // the store's name; "" is the host of its address
	Email      string // where shoppers reach the store; "" if not known
	Storefront bool   // the page is at the store's address, so it can link to the store's pages
	Reason     string // "used" or "expired", of a signed link that is forbidden; else ""
	Languages  string // the reader's languages, as in Accept-Language
}

// Own returns the HTML page called name. If there is a Liquid page of that name, it has the same
// texts, but not its links into the storefront.
func (p *Pages) Own(name string, page OwnPage) ([]byte, error) {
	words := choose(p.byTag, page.Languages)
	text, ok := words.Texts[name+"."+cmp.Or(page.Reason, "text")]
	if !ok {
		return nil, fmt.Errorf("no page is called %q", name)
	}
	store := page.Store
	if home, err := url.Parse(page.Home); err == nil { // only a verified link has one, so the store may be named
		store = cmp.Or(store, home.Host)
	}
	before, after, _ := strings.Cut(words.Texts["reference"], "{id}")
	return p.draw("own.html", words, map[string]any{
		"Outcome": name,
		"Style":   ownStyle,
		"Title":   words.Texts[name+".title"],
		"Text":    text,
		"Hints":   hints(words.Texts, name, page),
		"Store":   store,
		"Page":    page,
		"Contact": strings.ReplaceAll(words.Texts["contact"], "{shop}", store),
		"Texts":   words.Texts,
		"Before":  before, "After": after,
	})
}

// hints returns what the shopper can do, besides following a link. Only a new signed link can work, since
// this one has been used.
func hints(texts map[string]string, name string, page OwnPage) (found []string) {
	if page.Storefront {
		return nil
	}
	for _, key := range map[string][]string{
		"forbidden":        {"forbidden.hint"},
		"unavailable":      {"unavailable.hint", "forbidden.hint"},
		"not_a_subscriber": {"not_a_subscriber.hint", "not_a_subscriber.other_hint"},
	}[name] {
		found = append(found, texts[key])
	}
	return found
}

// OwnPolicy returns the Content-Security-Policy of our own pages, which load nothing.
func (p *Pages) OwnPolicy() string { return policy(string(ownStyle), "") }

// Forward returns an HTML page that sends the browser to target at once. Its text is in
// the language of locale, a tag such as "fr" or "pt-BR".
func (p *Pages) Forward(target, locale string) ([]byte, error) {
	words := choose(p.byTag, locale)
	return p.draw("forward.html", words, map[string]any{
		"Target": target,
		"Style":  forwardStyle,
		"Script": forwardScript,
		"Texts":  words.Texts,
	})
}

// draw renders one of the templates in p.html, in one language.
func (p *Pages) draw(file string, words catalogue, data map[string]any) ([]byte, error) {
	data["Language"], data["Direction"] = words.Code, words.Direction()
	var out bytes.Buffer
	err := p.html.ExecuteTemplate(&out, file, data)
	return out.Bytes(), err
}

// ForwardPolicy returns the Content-Security-Policy of the page that Forward returns.
func (p *Pages) ForwardPolicy() string { return policy(string(forwardStyle), string(forwardScript)) }

// policy allows one style and one script element ("" for none), the empty icon, nothing else, and no framing.
func policy(style, script string) string {
	return "default-src 'none'; img-src data:; style-src " + hash(style) + "; script-src " + hash(script) +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func hash(element string) string {
	if element == "" {
		return "'none'"
	}
	sum := sha256.Sum256([]byte(element))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

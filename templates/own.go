package templates

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"

	"golang.org/x/text/language"
)

// OwnPage is what a page of our own shows, where no store is there to draw one in
// its theme.
type OwnPage struct {
	RequestID string // for support: the log has it too
	Home      string // the store's address
	Languages string // that the reader wants, as in Accept-Language
}

// Own returns the HTML page called name. Of a page that a store draws it has the
// texts; only those of a storefront's own links are left out.
func (p *Pages) Own(name string, page OwnPage) ([]byte, error) {
	words := p.speaks(page.Languages)
	text, ok := words.texts[name+".text"]
	if !ok {
		return nil, fmt.Errorf("no page is called %q", name)
	}
	var out bytes.Buffer
	err := p.own.Execute(&out, map[string]any{
		"Language":  words.code,
		"Direction": words.direction(),
		"Outcome":   name,
		"Style":     p.ownStyle,
		"Title":     words.texts[name+".title"],
		"Text":      text,
		"Hint":      words.texts[name+".hint"],
		"Home":      page.Home,
		"Back":      words.texts["home"],
		"Reference": reference(words, page.RequestID),
	})
	return out.Bytes(), err
}

// reference keeps the id apart from a text that is written the other way round.
func reference(words catalogue, id string) template.HTML {
	text := template.HTMLEscapeString(words.texts["reference"])
	return template.HTML(strings.ReplaceAll(text, "{id}", "<bdi>"+template.HTMLEscapeString(id)+"</bdi>")) //nolint:gosec // escaped above
}

// Text returns one text of a page in a language that the reader wants, with the
// language's code.
func (p *Pages) Text(key, languages string) (text, code string) {
	words := p.speaks(languages)
	return words.texts[key], words.code
}

// OwnPolicy is the Content-Security-Policy of those pages: they load nothing.
func (p *Pages) OwnPolicy() string { return Policy(string(p.ownStyle), "") }

// mostLanguages is how many of those that a reader wants are looked at.
const mostLanguages = 10

// speaks is the catalogue in the first language that the reader wants and there is
// one for.
func (p *Pages) speaks(languages string) catalogue {
	tags, _, err := language.ParseAcceptLanguage(languages)
	if err == nil {
		for _, tag := range tags[:min(len(tags), mostLanguages)] {
			code := tag.String()
			if spoken, _, _ := strings.Cut(code, "-"); spoken == english {
				break
			}
			if c := choose(p.codes, code); c.code != english {
				return c
			}
		}
	}
	return p.codes[english]
}

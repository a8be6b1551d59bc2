package templates

import (
	"embed"
	"encoding/json"
	"errors"
	"html"
	"io/fs"
	"path"
	"strings"
	"text/template"

	"golang.org/x/text/language"
)

//go:embed locales/*.json
var locales embed.FS

const (
	english       = "en" // for readers whose language has no catalogue
	mostLanguages = 10   // how many of an Accept-Language are tried
)

// A catalogue holds all texts in one language: locales/<code>.json or, of the app home, admin/locales/<code>.json.
type catalogue struct {
	Code  string // as Shopify writes it: "fr", "pt-BR"
	Texts map[string]string
}

// Direction returns the value of HTML's dir attribute.
func (c catalogue) Direction() string {
	if c.Code == "ar" || c.Code == "he" {
		return "rtl"
	}
	return "ltr"
}

// Tags returns the language tags that use this catalogue, in lower case.
func (c catalogue) Tags() []string {
	also := map[string][]string{
		"nb": {"nn", "no"}, "pt-PT": {"pt"}, "he": {"iw"},
		"zh-CN": {"zh"}, "zh-TW": {"zh-hant", "zh-hk", "zh-mo"},
	}
	return append(also[c.Code], strings.ToLower(c.Code))
}

// loadCatalogues returns all catalogues of a folder in the order of their codes, and a map of them by tag.
func loadCatalogues(from embed.FS, folder string) (all []catalogue, byTag map[string]catalogue) {
	byTag = map[string]catalogue{}
	files, _ := fs.Glob(from, folder+"/*.json") // cannot fail, since the pattern is valid
	for _, file := range files {
		raw, err := from.ReadFile(file)
		c := catalogue{Code: strings.TrimSuffix(path.Base(file), ".json")}
		if err = errors.Join(err, json.Unmarshal(raw, &c.Texts)); err != nil {
			panic(err) // cannot happen in a tested binary, as the files are part of it
		}
		all = append(all, c)
		for _, tag := range c.Tags() {
			byTag[tag] = c
		}
	}
	return all, byTag
}

// choose returns the catalogue for a language tag or an Accept-Language. It takes the first
// language that has a catalogue, with or without its region, or else English.
func choose(byTag map[string]catalogue, languages string) catalogue {
	tags, _, _ := language.ParseAcceptLanguage(languages) // none if it is malformed
	for _, tag := range tags[:min(len(tags), mostLanguages)] {
		full := strings.ToLower(tag.String())
		spoken, _, _ := strings.Cut(full, "-")
		for _, code := range []string{full, spoken} {
			if c, ok := byTag[code]; ok {
				return c
			}
		}
	}
	return byTag[english]
}

// choice returns Liquid that makes the same choice for a page, from choice.liquid.
func choice(all []catalogue, page string) string {
	parsed := template.Must(template.New("choice.liquid").Delims("[[", "]]").ParseFS(files, "choice.liquid"))
	var out strings.Builder
	if err := parsed.Execute(&out, map[string]any{"Catalogues": all, "Page": page}); err != nil {
		panic(err) // cannot happen in a tested binary, either
	}
	return out.String()
}

// Variables returns the texts of a page in Liquid, by the names of their variables.
func (c catalogue) Variables(page string) map[string]string {
	all := map[string]string{}
	for key, text := range c.Texts {
		if of, _, owned := strings.Cut(key, "."); !owned || of == page {
			all[variable(key)] = inLiquid(text)
		}
	}
	return all
}

// variable returns the name of a text's Liquid variable.
func variable(key string) string {
	if _, name, owned := strings.Cut(key, "."); owned {
		key = name
	}
	return "ms_" + key
}

// inLiquid returns a text as HTML in Liquid. <bdi> isolates an inserted value, which may be written
// in the other direction.
func inLiquid(text string) string {
	return strings.NewReplacer(
		"{shop}", "<bdi>{{ shop.name | escape }}</bdi>",
		"{id}", "<bdi>{{ ms_id }}</bdi>",
		"{", "", "}", "",
	).Replace(html.EscapeString(text))
}

package templates

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

//go:embed locales/*.json
var locales embed.FS

const (
	english       = "en" // for readers whose language has no catalogue
	mostLanguages = 10   // how many of an Accept-Language are tried
)

// A catalogue holds all texts in one language: locales/<code>.json.
type catalogue struct {
	code  string // as Shopify writes it: "fr", "pt-BR"
	texts map[string]string
}

// direction returns the value of HTML's dir attribute.
func (c catalogue) direction() string {
	if c.code == "ar" || c.code == "he" {
		return "rtl"
	}
	return "ltr"
}

// tags returns the language tags that use this catalogue, in lower case.
func (c catalogue) tags() []string {
	also := map[string][]string{
		"nb": {"nn", "no"}, "pt-PT": {"pt"}, "he": {"iw"},
		"zh-CN": {"zh"}, "zh-TW": {"zh-hant", "zh-hk", "zh-mo"},
	}
	return append(also[c.code], strings.ToLower(c.code))
}

// loadCatalogues returns all catalogues in the order of their codes, and a map of them by tag.
func loadCatalogues() (all []catalogue, byTag map[string]catalogue) {
	byTag = map[string]catalogue{}
	files, _ := fs.Glob(locales, "locales/*.json") // cannot fail, since the pattern is valid
	for _, file := range files {
		raw, err := locales.ReadFile(file)
		c := catalogue{code: strings.TrimSuffix(path.Base(file), ".json")}
		if err = errors.Join(err, json.Unmarshal(raw, &c.texts)); err != nil {
			panic(err) // cannot happen in a tested binary, as the files are part of it
		}
		all = append(all, c)
		for _, tag := range c.tags() {
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

// choice returns Liquid that makes the same choice when Shopify renders a page, by the storefront's
// language. It sets ms_language, ms_direction and a variable for each text of the page, such as
// ms_title for "unavailable.title" and ms_home for "home".
func choice(all []catalogue, page string) string {
	var out strings.Builder
	out.WriteString(`{%- assign ms_asked = request.locale.iso_code | append: '' | downcase -%}
{%- assign ms_spoken = ms_asked | split: '-' | first -%}
{%- assign ms_language = '` + english + `' -%}
`)
	for _, name := range []string{"ms_spoken", "ms_asked"} { // the closer match comes last and wins
		fmt.Fprintf(&out, "{%%- case %s -%%}\n", name)
		for _, c := range all {
			tags := strings.Join(c.tags(), "', '")
			fmt.Fprintf(&out, "{%%- when '%s' -%%}{%%- assign ms_language = '%s' -%%}\n", tags, c.code)
		}
		out.WriteString("{%- endcase -%}\n")
	}
	out.WriteString("{%- case ms_language -%}\n")
	for _, c := range all {
		fmt.Fprintf(&out, "{%%- when '%s' -%%}\n{%%- assign ms_direction = '%s' -%%}\n", c.code, c.direction())
		for _, key := range slices.Sorted(maps.Keys(c.texts)) {
			if of, _, owned := strings.Cut(key, "."); !owned || of == page {
				fmt.Fprintf(&out, "{%%- capture %s -%%}%s{%%- endcapture -%%}\n", variable(key), inLiquid(c.texts[key]))
			}
		}
	}
	out.WriteString("{%- endcase -%}\n")
	return out.String()
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

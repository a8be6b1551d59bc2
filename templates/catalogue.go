package templates

import (
	"embed"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed locales/*.json
var locales embed.FS

// english is the language of those that have no catalogue.
const english = "en"

// A catalogue is all texts in one language: locales/<code>.json.
type catalogue struct {
	code  string // as Shopify writes it: "fr", "pt-BR"
	texts map[string]string
}

// also are codes of languages that a catalogue of another name speaks for.
func also() map[string]string {
	return map[string]string{
		"no": "nb", "nn": "nb",
		"pt": "pt-PT",
		"zh": "zh-CN", "zh-hk": "zh-TW", "zh-mo": "zh-TW", "zh-hant": "zh-TW",
		"iw": "he",
	}
}

// direction is the way the language is written.
func (c catalogue) direction() string {
	if c.code == "ar" || c.code == "he" {
		return "rtl"
	}
	return "ltr"
}

// speaks are the codes that this catalogue answers to, in small letters.
func (c catalogue) speaks() []string {
	codes := []string{strings.ToLower(c.code)}
	for code, of := range also() {
		if of == c.code {
			codes = append(codes, code)
		}
	}
	slices.Sort(codes)
	return codes
}

func loadCatalogues() ([]catalogue, error) {
	names, err := fs.Glob(locales, "locales/*.json")
	if err != nil {
		return nil, err
	}
	var all []catalogue
	for _, name := range names {
		raw, err := locales.ReadFile(name)
		if err != nil {
			return nil, err
		}
		c := catalogue{code: strings.TrimSuffix(path.Base(name), ".json")}
		if err := json.Unmarshal(raw, &c.texts); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// byCode are the catalogues by all codes that they answer to.
func byCode(all []catalogue) map[string]catalogue {
	codes := map[string]catalogue{}
	for _, c := range all {
		for _, code := range c.speaks() {
			codes[code] = c
		}
	}
	return codes
}

// choose is the catalogue for a language tag: of the language with its region,
// else of the language, else English.
func choose(codes map[string]catalogue, tag string) catalogue {
	tag = strings.ToLower(tag)
	language, _, _ := strings.Cut(tag, "-")
	for _, code := range []string{tag, language} {
		if c, ok := codes[code]; ok {
			return c
		}
	}
	return codes[english]
}

// choice is Liquid that makes the same choice where the page is drawn, by the
// language that the store shows there. It leaves ms_language, ms_direction, and
// each text of the page in a variable: ms_title for "unavailable.title", ms_home
// for "home".
func choice(all []catalogue, page string) string {
	var out strings.Builder
	out.WriteString("{%- assign ms_asked = request.locale.iso_code | append: '' | downcase -%}\n")
	out.WriteString("{%- assign ms_spoken = ms_asked | split: '-' | first -%}\n")
	fmt.Fprintf(&out, "{%%- assign ms_language = '%s' -%%}\n", english)
	for _, name := range []string{"ms_spoken", "ms_asked"} { // the closer match is the last word
		fmt.Fprintf(&out, "{%%- case %s -%%}\n", name)
		for _, c := range all {
			fmt.Fprintf(&out, "{%%- when '%s' -%%}{%%- assign ms_language = '%s' -%%}\n", strings.Join(c.speaks(), "', '"), c.code)
		}
		out.WriteString("{%- endcase -%}\n")
	}
	out.WriteString("{%- case ms_language -%}\n")
	for _, c := range all {
		fmt.Fprintf(&out, "{%%- when '%s' -%%}\n{%%- assign ms_direction = '%s' -%%}\n", c.code, c.direction())
		for _, key := range c.keys(page) {
			fmt.Fprintf(&out, "{%%- capture %s -%%}%s{%%- endcapture -%%}\n", variable(key), inLiquid(c.texts[key]))
		}
	}
	out.WriteString("{%- endcase -%}\n")
	return out.String()
}

// keys are those that a page may use: its own, and those of all pages.
func (c catalogue) keys(page string) []string {
	var keys []string
	for key := range c.texts {
		of, _, owned := strings.Cut(key, ".")
		if !owned || of == page {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func variable(key string) string {
	if _, name, owned := strings.Cut(key, "."); owned {
		key = name
	}
	return "ms_" + key
}

// inLiquid is a text of a catalogue as HTML in Liquid. What fills its gaps may be
// written the other way round than the text, so each stands apart from it.
func inLiquid(text string) string {
	text = html.EscapeString(text)
	return strings.NewReplacer(
		"{shop}", "<bdi>{{ shop.name | escape }}</bdi>",
		"{id}", "<bdi>{{ ms_id }}</bdi>",
		"{", "", "}", "",
	).Replace(text)
}

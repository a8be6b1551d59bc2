package templates

// This file writes the texts of the app home. Their catalogues are in admin/locales, one a language.

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Text is a text of the app home: its key in the catalogues, and the values of its placeholders. One value
// takes the place of {}. More are pairs of a name and the value that takes the place of {name}. A value is a
// string, a number, a time, a Day, another Text or a text as HTML. If the first is a number for which the
// language has a singular, the text at the key with " one" is used. Without a key, the values are texts that
// follow one another; at the key "list", they are listed. The zero Text is no text.
//
// A key that begins with "why" ends in a reason, as portal.Reason returns it. One that begins with "check" ends in a
// check of recharge.Inspect and how it went: passed, skipped, a reason or otherwise. The text at the same key with
// " do" says how to fix it in Recharge. The texts of home.js begin with "script".
type Text struct {
	Key    string
	Values []any
}

// Day is a time of which only the date is shown.
type Day time.Time

// Has reports whether there is a text at a key.
func Has(key string) bool { return adminCatalogues()[english].Texts[key] != "" }

// String returns the text in English, without markup, for the API, commands and logs.
func (t Text) String() string { return t.In(english) }

// In returns the text without markup, in the first of languages that there is. These are as in Accept-Language.
func (t Text) In(languages string) string {
	text := choose(adminCatalogues(), languages).write(t)
	return html.UnescapeString(regexp.MustCompile("<[^>]*>").ReplaceAllString(text, ""))
}

// MarshalText implements encoding.TextMarshaler, for JSON.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// write returns a text as HTML.
func (c catalogue) write(t Text) string {
	switch t.Key {
	case "", "list":
		var all []string
		for _, value := range t.Values {
			if text := c.value(value); text != "" {
				all = append(all, text)
			}
		}
		return strings.Join(all, cmp.Or(c.Texts[t.Key], " "))
	}
	text := c.Texts[t.Key]
	if len(t.Values) > 0 && c.singular(t.Values[0]) {
		text = cmp.Or(c.Texts[t.Key+" one"], text)
	}
	text = withMarkup(text)
	if len(t.Values) == 1 {
		return strings.ReplaceAll(text, "{}", c.value(t.Values[0]))
	}
	var pairs []string
	for i := 1; i < len(t.Values); i += 2 {
		pairs = append(pairs, fmt.Sprintf("{%v}", t.Values[i-1]), c.value(t.Values[i]))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// withMarkup returns a text of a catalogue as HTML. It escapes everything but the few elements that texts may
// have.
func withMarkup(text string) string {
	var pairs []string
	for _, tag := range []string{"b", "i", "code"} {
		pairs = append(pairs, "&lt;"+tag+"&gt;", "<"+tag+">", "&lt;/"+tag+"&gt;", "</"+tag+">")
	}
	return strings.NewReplacer(pairs...).Replace(html.EscapeString(text))
}

// value returns the value of a placeholder as HTML. home.js writes times anew, in the reader's time zone.
func (c catalogue) value(value any) string {
	switch v := value.(type) {
	case Text:
		return c.write(v)
	case template.HTML: // written already
		return string(v)
	case int:
		return c.number(float64(v))
	case int64:
		return c.number(float64(v))
	case float64:
		return c.number(v)
	case time.Time:
		return `<time datetime="` + v.UTC().Format(time.RFC3339) + `" data-moment>` + c.moment(v) + "</time>"
	case Day:
		at := time.Time(v).UTC()
		return `<time datetime="` + at.Format(time.RFC3339) + `" data-day>` + at.Format(c.Texts["day"]) + "</time>"
	}
	return html.EscapeString(fmt.Sprint(value))
}

func (c catalogue) moment(at time.Time) string { return at.UTC().Format(c.Texts["moment"]) }

// number formats a number with the language's separators, and at most one decimal.
func (c catalogue) number(n float64) string {
	whole, decimals, _ := strings.Cut(strconv.FormatFloat(n, 'f', 1, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + c.Texts["thousands"] + whole[i:]
	}
	if decimals == "0" {
		return whole
	}
	return whole + c.Texts["decimal"] + decimals
}

// singular reports whether the language uses the singular for a count.
func (c catalogue) singular(count any) bool {
	n, err := strconv.Atoi(fmt.Sprint(count))
	switch {
	case err != nil || c.Code == "ja":
		return false
	case c.Code == "fr" || c.Code == "pt-BR":
		return n == 0 || n == 1
	}
	return n == 1
}

// Language returns the code of the first of languages that there is. These are as in Accept-Language.
func Language(languages string) string { return choose(adminCatalogues(), languages).Code }

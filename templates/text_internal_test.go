package templates

import (
	"strings"
	"testing"
	"time"
)

// TestText checks how texts are written: markup only from the catalogue, numbers, times and plurals as the language
// has them.
func TestText(t *testing.T) {
	at := time.Date(2026, 11, 28, 9, 5, 0, 0, time.UTC)
	german := catalogue{"de", map[string]string{
		"bold": "<b>Fett</b> & <em>{}</em>", "pair": "{b} vor {a}", "days": "{} Tage", "days one": "{} Tag", "list": ", ",
		"thousands": ".", "decimal": ",", "moment": "2006-01-02 15:04 UTC", "day": "2006-01-02", "{}": "leer",
	}}
	for want, text := range map[string]Text{
		"": {},
		"<b>Fett</b> &amp; &lt;em&gt;&lt;b&gt;&lt;/em&gt;": {"bold", []any{"<b>"}},
		"1 vor {a}":      {"pair", []any{"a", "{a}", "b", 1}}, // a value is never a placeholder
		"1 Tag":          {"days", []any{1}},
		"0 Tage":         {"days", []any{0}},
		"1.234.567 Tage": {"days", []any{int64(1234567)}},
		"1,5 Tage":       {"days", []any{1.5}},
		"1 Tag, 2 Tage":  {"list", []any{Text{"days", []any{1}}, Text{}, Text{"days", []any{2}}}},
		"1 Tag (so)":     {"", []any{Text{"days", []any{1}}, "(so)"}},
		`<time datetime="2026-11-28T09:05:00Z" data-moment>2026-11-28 09:05 UTC</time> Tage`: {"days", []any{at}},
		`<time datetime="2026-11-28T09:05:00Z" data-day>2026-11-28</time> Tage`:              {"days", []any{Day(at)}},
	} {
		if got := german.write(text); got != want {
			t.Errorf("%+v = %q; want %q", text, got, want)
		}
	}
	for code, want := range map[string]string{"de": "other one other", "fr": "one one other", "ja": "other other other"} {
		c := catalogue{code, map[string]string{"n": "other", "n one": "one"}}
		var got []string
		for n := range 3 {
			got = append(got, c.write(Text{"n", []any{n}}))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: 0, 1 and 2 are %s; want %s", code, got, want)
		}
	}
}

// TestTextInEnglish checks what commands and the API show: no markup, and nothing escaped.
func TestTextInEnglish(t *testing.T) {
	at := time.Date(2026, 11, 28, 9, 5, 0, 0, time.UTC)
	text := Text{"campaign planned", []any{"starts", at, "", ""}}
	if got := text.String(); !strings.HasPrefix(got, "Planned: it starts at 09:05 UTC on 28 November.") {
		t.Errorf("a moment: %q", got)
	}
	text = Text{"not saved", []any{"<b>A & B’s</b>"}}
	if got := text.String(); got != "Not saved: <b>A & B’s</b>" {
		t.Errorf("a value with markup: %q", got)
	}
}

package extensions_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// Shopify's languages for themes. Shoppers have two more, which Shopify's admin does not have.
var (
	adminLanguages = []string{
		"cs", "da", "de", "es", "fi", "fr", "it", "ja", "ko", "nb", "nl", "pl",
		"pt-BR", "pt-PT", "sv", "th", "tr", "vi", "zh-CN", "zh-TW",
	}
	shopperLanguages = append([]string{"ar", "he"}, adminLanguages...)
)

var (
	schemaTag    = regexp.MustCompile(`(?s)\{% schema %\}(.*)\{% endschema %\}`)
	translated   = regexp.MustCompile(`'([^']+)' \| t\b`)
	translatedAs = regexp.MustCompile(`"t:([^"]+)"`)
	settingRead  = regexp.MustCompile(`block\.settings\.(\w+)`)
)

type block struct {
	Name       string
	Target     string
	Stylesheet string
	Javascript string
	Settings   []setting
}

type setting struct {
	Type    string
	ID      string
	Default any
	Options []struct{ Value string }
}

func (b block) setting(id string) setting {
	i := slices.IndexFunc(b.Settings, func(s setting) bool { return s.ID == id })
	if i < 0 {
		return setting{}
	}
	return b.Settings[i]
}

func (s setting) values() []string {
	var values []string
	for _, option := range s.Options {
		values = append(values, option.Value)
	}
	return values
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		target    string
		audiences []string
		audience  string
	}{
		"blocks/manage-subscriptions.liquid": {"section", []string{"everyone", "signed_in", "subscribers"}, "everyone"},
		"blocks/account-link.liquid":         {"head", []string{"signed_in", "subscribers"}, "signed_in"},
	} {
		source := read(t, name)
		b := parse(t, source)
		if b.Target != want.target {
			t.Errorf("%s: target = %q; want %q", name, b.Target, want.target)
		}
		for _, asset := range []string{b.Stylesheet, b.Javascript} {
			if read(t, "assets/"+asset) == "" {
				t.Errorf("%s: asset %q is empty", name, asset)
			}
		}
		checkOptions(t, name, b.setting("audience"), want.audience, want.audiences)
		checkOptions(t, name, b.setting("destination"), string(recharge.Subscriptions), []string{
			"addresses", "orders", "overview", "payment-method/update", "payment-methods", "schedule", "subscriptions",
		})

		var offered []string
		for _, s := range b.Settings {
			if s.ID != "" {
				offered = append(offered, s.ID)
			}
		}
		if diff := cmp.Diff(sorted(offered), matches(settingRead, source)); diff != "" {
			t.Errorf("%s: settings that it offers (-) and reads (+):\n%s", name, diff)
		}
	}
}

// TestDestinations: every page that a merchant can choose exists in the portal.
func TestDestinations(t *testing.T) {
	t.Parallel()
	for _, name := range glob(t, "blocks/*.liquid") {
		values := parse(t, read(t, name)).setting("destination").values()
		if len(values) == 0 {
			t.Errorf("%s: no destinations", name)
		}
		for _, value := range values {
			if got := recharge.ParseDestination(value); got != recharge.Destination(value) {
				t.Errorf("%s: ParseDestination(%q) = %q; want the same", name, value, got)
			}
		}
	}
}

// TestLocales: every language has every text, and no others.
func TestLocales(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		suffix    string
		languages []string
		used      *regexp.Regexp
	}{
		{".json", shopperLanguages, translated},
		{".schema.json", adminLanguages, translatedAs},
	} {
		var used []string
		for _, pattern := range []string{"blocks/*.liquid", "snippets/*.liquid"} {
			for _, name := range glob(t, pattern) {
				used = append(used, matches(kind.used, read(t, name))...)
			}
		}
		used = sorted(used)
		if len(used) == 0 {
			t.Errorf("no key of locales/*%s is used", kind.suffix)
		}

		for _, language := range append([]string{"en.default"}, kind.languages...) {
			name := "locales/" + language + kind.suffix
			texts := flat(t, name)
			if diff := cmp.Diff(used, slices.Sorted(maps.Keys(texts))); diff != "" {
				t.Errorf("%s: keys that the blocks use (-) and that it has (+):\n%s", name, diff)
			}
			for key, text := range texts {
				if text == "" || text != strings.TrimSpace(text) || strings.ContainsAny(text, "<>{}") {
					t.Errorf("%s: %s = %q; want plain text", name, key, text)
				}
			}
		}
	}

	want := 2 + len(shopperLanguages) + len(adminLanguages)
	if got := len(glob(t, "locales/*")); got != want {
		t.Errorf("files in locales = %d; want %d", got, want)
	}
}

// TestBlockNames: Shopify refuses a name of more than 25 characters.
func TestBlockNames(t *testing.T) {
	t.Parallel()
	const most = 25
	for _, name := range glob(t, "blocks/*.liquid") {
		key, ok := strings.CutPrefix(parse(t, read(t, name)).Name, "t:")
		if !ok {
			t.Errorf("%s: its name is not translated", name)
		}
		for _, locale := range glob(t, "locales/*.schema.json") {
			text := flat(t, locale)[key]
			if n := utf8.RuneCountInString(text); n == 0 || n > most {
				t.Errorf("%s: %s = %q, %d characters; want 1 to %d", locale, key, text, n, most)
			}
		}
	}
}

func TestScriptSize(t *testing.T) {
	t.Parallel()
	const limit = 10_000 // Shopify's, for the script of an app block
	for _, name := range glob(t, "assets/*.js") {
		if size := len(read(t, name)); size == 0 || size >= limit {
			t.Errorf("%s has %d bytes; want fewer than %d", name, size, limit)
		}
	}
}

func checkOptions(t *testing.T, name string, s setting, def string, want []string) {
	t.Helper()
	if s.Type != "select" || s.Default != def {
		t.Errorf("%s: setting %q is a %q of default %q; want a select of default %q", name, s.ID, s.Type, s.Default, def)
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(s.values()))); diff != "" {
		t.Errorf("%s: options of %q (-want +got):\n%s", name, s.ID, diff)
	}
}

func parse(t *testing.T, source string) block {
	t.Helper()
	found := schemaTag.FindStringSubmatch(source)
	if found == nil {
		t.Fatal("a block without schema")
	}
	var b block
	if err := json.Unmarshal([]byte(found[1]), &b); err != nil {
		t.Fatalf("parse schema: %v", err)
	}
	return b
}

// matches returns the first groups of all matches, sorted and without duplicates.
func matches(pattern *regexp.Regexp, source string) []string {
	var found []string
	for _, match := range pattern.FindAllStringSubmatch(source, -1) {
		found = append(found, match[1])
	}
	return sorted(found)
}

func sorted(values []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

// flat reads a locale file as "a.b.c" -> text.
func flat(t *testing.T, name string) map[string]string {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal([]byte(read(t, name)), &tree); err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	texts := map[string]string{}
	var walk func(prefix string, tree map[string]any)
	walk = func(prefix string, tree map[string]any) {
		for key, value := range tree {
			switch value := value.(type) {
			case string:
				texts[prefix+key] = value
			case map[string]any:
				walk(prefix+key+".", value)
			default:
				t.Fatalf("%s: %s%s is a %T; want a text", name, prefix, key, value)
			}
		}
	}
	walk("", tree)
	return texts
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := fs.Glob(extensions.Theme(), pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("Glob(%q) = %q, %v; want files", pattern, names, err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := fs.ReadFile(extensions.Theme(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package templates

import (
	"cmp"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNoProseInPages checks that the templates of the app home take all that people read from the catalogues.
func TestNoProseInPages(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	read := regexp.MustCompile(`(?:aria-label|aria-description|alt|label|title|placeholder|data-busy)="([^"]*)"`)
	address := regexp.MustCompile(`^(https://\S*|my-store\.myshopify\.com)$`)
	markup := regexp.MustCompile(`(?s)<code[^>]*>.*?</code>|<[^>]*>`)
	names := strings.NewReplacer("Manage Subscriptions", "", "Recharge", "")
	letters := regexp.MustCompile(`\p{L}{2,}`)

	pages, err := fs.Glob(adminFiles, "admin/*.html")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	for _, page := range pages {
		raw, err := adminFiles.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := action.ReplaceAllString(string(raw), "")
		for _, attribute := range read.FindAllStringSubmatch(text, -1) {
			if letters.MatchString(attribute[1]) && !address.MatchString(attribute[1]) {
				t.Errorf("%s: %q is not from the catalogue", page, attribute[0])
			}
		}
		for line := range strings.Lines(names.Replace(markup.ReplaceAllString(text, ""))) {
			if letters.MatchString(line) {
				t.Errorf("%s: %q is not from the catalogue", page, strings.TrimSpace(line))
			}
		}
	}
}

// TestLanguagesOfTheAppHome checks that each language has the texts of en.json, with the same placeholders and markup.
// Pages fall back to English, so this is the one test that fails while a translation is missing.
func TestLanguagesOfTheAppHome(t *testing.T) {
	all, byTag := loadCatalogues(adminFiles, "admin/locales")
	inEnglish := byTag[english].Texts
	word := regexp.MustCompile(`(^| )\p{L}+`)
	for _, c := range all {
		if c.Code == english {
			continue
		}
		for key := range inEnglish {
			// A language without a singular needs no text for a count of one.
			if c.Texts[key] == "" && (c.singular(1) || !strings.HasSuffix(key, " one")) {
				t.Errorf("%s.json has no text at %q, which is in English %q", c.Code, key, inEnglish[key])
			}
		}
		for key, text := range c.Texts {
			// A language may have a singular where English needs none.
			original := cmp.Or(inEnglish[key], inEnglish[strings.TrimSuffix(key, " one")])
			switch {
			case original == "" || !c.singular(1) && strings.HasSuffix(key, " one"):
				t.Errorf("%s.json has a text at %q, which nothing asks for", c.Code, key)
			case text == original && len(word.FindAllString(text, 4)) > 2 && !strings.HasPrefix(key, "scope ") && key != "connect secret":
				t.Errorf("%s.json has the English text at %q", c.Code, key)
			case !slices.Equal(fixed(text), fixed(original)):
				t.Errorf("%s.json at %q has %q; want %q", c.Code, key, fixed(text), fixed(original))
			case strings.TrimSpace(text) != text && key != "list" && key != "thousands":
				t.Errorf("%s.json at %q has space around it", c.Code, key)
			}
		}
	}
}

// fixed returns what a text has in common with its translations, sorted: placeholders, markup and code.
func fixed(text string) []string {
	found := regexp.MustCompile(`\{[^}]*\}|<code>[^<]*</code>|</?[a-z]+>|https://[\w./]*\w`).FindAllString(text, -1)
	slices.Sort(found)
	return found
}

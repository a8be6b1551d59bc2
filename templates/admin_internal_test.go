package templates

import (
	"io/fs"
	"regexp"
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

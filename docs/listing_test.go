package docs

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestListingFits checks that the texts for the App Store are within Shopify's limits, and
// that the app has the same name in its configuration.
func TestListingFits(t *testing.T) {
	const doc = "docs/listing/README.md"
	rows := match(t, doc, `(?m)^\| ([A-Z][A-Za-z ]+[0-9]?) \| ([0-9]+) \| (.+) \|$`)
	if len(rows) != 9 {
		t.Errorf("%s has %d texts with a limit; want nine", doc, len(rows))
	}
	claim := regexp.MustCompile(`(?i)\b(best|first|only app|leading|guarantee|https?)\b|%`)
	for _, row := range rows {
		field, text := row[1], row[3]
		limit, err := strconv.Atoi(row[2])
		if err != nil {
			t.Fatal(err)
		}
		if n := utf8.RuneCountInString(text); n > limit {
			t.Errorf("%s has %d characters; Shopify takes %d", field, n, limit)
		}
		if bad := claim.FindString(text); bad != "" {
			t.Errorf("%s says %q, which Shopify refuses in a listing", field, bad)
		}
		if field == "App name" && !strings.Contains(read(t, "shopify.app.toml"), `name = "`+text+`"`) {
			t.Errorf("shopify.app.toml does not have the name %q", text)
		}
	}
}

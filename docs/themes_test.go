package docs

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// TestThemesDocSaysWhatIs compares docs/themes.md with the styles, destinations, pages and
// pictures that it describes.
func TestThemesDocSaysWhatIs(t *testing.T) {
	const doc = "docs/themes.md"
	t.Run("variables", func(t *testing.T) {
		want := map[string]map[string]bool{}
		for _, source := range []string{"templates/pages/frame.liquid", "extensions/manage-subscriptions-theme/assets/manage-subscriptions.css"} {
			for _, use := range match(t, source, `var\((--manage-subscriptions-[a-z-]+), ((?:[^()]|\([^()]*\))+)\)`) {
				if want[use[1]] == nil {
					want[use[1]] = map[string]bool{}
				}
				want[use[1]][use[2]] = true
			}
		}
		got := map[string]map[string]bool{}
		for _, row := range match(t, doc, "(?m)^\\| `(--manage-subscriptions-[a-z-]+)` \\|.*\\| (.+) \\|$") {
			got[row[1]] = map[string]bool{}
			for _, value := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
				got[row[1]][value[1]] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("variables (-styles +docs):\n%s", diff)
		}
	})
	t.Run("destinations", func(t *testing.T) {
		rows := match(t, doc, "(?m)^\\| (?:nothing, or )?`/([^`]+)` \\|")
		for _, row := range rows {
			to := strings.ReplaceAll(row[1], "<id>", "1")
			if got := recharge.ParseDestination(to); string(got) != to {
				t.Errorf("ParseDestination(%q) = %q; want what the doc promises", to, got)
			}
		}
		if len(rows) != 11 {
			t.Errorf("the doc has %d destinations; want all 11", len(rows))
		}
	})
	t.Run("pages", func(t *testing.T) {
		var want, got []string
		for _, page := range match(t, doc, "(?m)^\\| `([a-z_]+)` \\| .* \\| .* \\|$") {
			got = append(got, "templates/pages/"+page[1]+".liquid")
		}
		files, err := filepath.Glob("templates/pages/*.liquid")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if file != "templates/pages/frame.liquid" {
				want = append(want, file)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the doc has the pages %v; want %v", got, want)
		}
	})
	t.Run("pictures", func(t *testing.T) {
		shown := map[string]bool{}
		for _, file := range documents(t) {
			for _, picture := range match(t, file, `\]\(([a-z/-]+\.(?:png|svg))\)`) {
				shown[filepath.Join(filepath.Dir(file), picture[1])] = true
			}
		}
		there := map[string]bool{}
		for _, pattern := range []string{"docs/*.png", "docs/*/*.png", "docs/*/*.svg"} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				there[file] = true
			}
		}
		if diff := cmp.Diff(there, shown); diff != "" {
			t.Errorf("pictures (-there +shown):\n%s", diff)
		}
	})
}

package docs

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// TestDocsSayWhatIsRead compares .env.example and the table in docs/settings.md with the settings.
// With -update, it writes the table.
func TestDocsSayWhatIsRead(t *testing.T) {
	parser, err := kong.New(&config.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	required := missing(t)
	want := map[string]string{}
	table := "| name | meaning | default |\n|---|---|---|\n"
	for _, flag := range parser.Model.Flags {
		if flag.Group == nil {
			continue
		}
		name := config.EnvName(flag.Name)
		want[name] = flag.Default
		standard := "empty"
		switch {
		case flag.HasDefault:
			standard = "`" + flag.Default + "`"
		case required[name]:
			standard = "required"
		}
		table += fmt.Sprintf("| `%s` | %s | %s |\n", name, regexp.MustCompile(`'([^' ]+)'`).ReplaceAllString(config.Meaning(flag.Name), "`$1`"), standard)
	}
	page := read(t, "docs/settings.md")
	before, rest, found := strings.Cut(page, "<!-- settings -->\n")
	shown, after, closed := strings.Cut(rest, "<!-- /settings -->\n")
	switch {
	case !found || !closed:
		t.Error("docs/settings.md has no place for the table of settings")
	case shown != table && flag.Lookup("update").Value.String() == "true":
		if err := os.WriteFile("docs/settings.md", []byte(before+"<!-- settings -->\n"+table+"<!-- /settings -->\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case shown != table:
		t.Errorf("the table in docs/settings.md differs from the settings; go test ./docs -run %s -update writes it (-page +config):\n%s", t.Name(), cmp.Diff(shown, table))
	}
	example := map[string]string{}
	for _, row := range match(t, ".env.example", "(?m)^([A-Z_]+)=(.*)$") {
		example[row[1]] = row[2]
	}
	if diff := cmp.Diff(want, example); diff != "" {
		t.Errorf("settings in .env.example (-read +example):\n%s", diff)
	}
}

// missing returns the names of the settings that a server for one store requires.
func missing(t *testing.T) map[string]bool {
	t.Helper()
	var settings config.Settings
	parser, err := kong.New(&settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--shopify-shop=x.myshopify.com"}); err != nil {
		t.Fatal(err)
	}
	var problems config.Problems
	if _, err := settings.Check(); !errors.As(err, &problems) {
		t.Fatalf("%v; want a list of what is missing", err)
	}
	names := map[string]bool{}
	for _, problem := range problems {
		names[problem.Name] = true
	}
	return names
}

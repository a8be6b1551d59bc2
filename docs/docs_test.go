// Package docs checks that the commands, settings, variables and files that the documents
// name exist.
package docs

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/house"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the README's table of settings")
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(docs, "README.md", "SECURITY.md", "CONTRIBUTING.md")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func match(t *testing.T, file, pattern string) [][]string {
	t.Helper()
	return regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1)
}

// TestOperateDocSaysWhatIs checks that the documents list every outcome and every source
// of a click.
func TestOperateDocSaysWhatIs(t *testing.T) {
	var rows []string
	for _, row := range match(t, "docs/operate.md", "(?m)^\\| `([a-z_]+)` \\|") {
		rows = append(rows, row[1])
	}
	for _, outcome := range portal.Outcomes() {
		if !slices.Contains(rows, string(outcome)) {
			t.Errorf("docs/operate.md does not say what to do about %s", outcome)
		}
	}
	metrics := read(t, "docs/metrics.md")
	for _, source := range portal.Sources() {
		if !strings.Contains(metrics, "`"+string(source)+"`") {
			t.Errorf("docs/metrics.md does not say what the source %s is", source)
		}
	}
}

// TestArchitectureDocDrawsTheImports checks that the chart has an arrow for each import
// between its packages, and no others.
func TestArchitectureDocDrawsTheImports(t *testing.T) {
	drawn, rooms := map[string]bool{}, map[string]bool{}
	for _, line := range match(t, "docs/architecture.md", `(?m)^  (\S+) --> (\S+(?: & \S+)*)$`) {
		for to := range strings.SplitSeq(line[2], " & ") {
			drawn[line[1]+" --> "+to] = true
			rooms[line[1]], rooms[to] = true, true
		}
	}
	all, err := house.Imports(".")
	if err != nil {
		t.Fatal(err)
	}
	real := map[string]bool{}
	for from, imports := range all {
		for _, to := range imports {
			if _, ours := all[to]; ours && rooms[from] {
				real[from+" --> "+to] = true
			}
		}
	}
	if diff := cmp.Diff(real, drawn); diff != "" {
		t.Errorf("docs/architecture.md (-imports +drawn):\n%s", diff)
	}
}

// TestDocsNameWhatIsThere checks that each file and folder that the map names exists, and
// each file that a document links to.
func TestDocsNameWhatIsThere(t *testing.T) {
	for _, doc := range []string{"docs/architecture.md", "README.md", "CONTRIBUTING.md"} {
		for _, named := range match(t, doc, "`([a-z][a-z0-9_./-]*(?:/|\\.go|\\.md))`") {
			if _, err := os.Stat(named[1]); err != nil {
				t.Errorf("%s names %s: %v", doc, named[1], err)
			}
		}
	}
	for _, doc := range append(documents(t), "CHANGELOG.md", "examples/README.md") {
		for _, link := range match(t, doc, `\]\(([a-zA-Z0-9_./-]+)(?:#[a-z0-9-]+)?\)`) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), link[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, link[1], err)
			}
		}
	}
}

// Package docs checks that the commands, settings, variables and files that the documents
// name exist.
package docs

import (
	"flag"
	"io/fs"
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
	flag.Bool("update", false, "write the table of settings and the version badge")
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fenced matches a block of code: its language and its lines.
const fenced = "(?ms)^ *```([a-z]*)\n(.*?)^ *```$"

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []string { return files(t, ".md") }

// files returns every file of the repository whose name ends so.
func files(t *testing.T, extension string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", ".vitepress"}, entry.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) == extension:
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
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

// TestOperateDocSaysWhatACauseMeans checks that the runbook has every reason why a call to Recharge fails.
func TestOperateDocSaysWhatACauseMeans(t *testing.T) {
	text := read(t, "docs/operate.md")
	_, causes, _ := strings.Cut(text, "| cause | what to do |")
	for _, reason := range match(t, "recharge/errors.go", `Reason = "([^"]+)"`) {
		if !strings.Contains(causes, "`"+reason[1]+"`") {
			t.Errorf("docs/operate.md does not say what the cause %q means", reason[1])
		}
	}
}

// TestOperateDocNamesTheServer checks the names in the commands of docs/operate.md that need Docker or Kubernetes.
func TestOperateDocNamesTheServer(t *testing.T) {
	for file, names := range map[string]string{
		"docker-compose.yml":                  `(?m)^  server:$`,
		"deploy/manage-subscriptions.service": `(?m)^ExecStart=/usr/local/bin/manage-subscriptions serve\nEnvironmentFile=/etc/manage-subscriptions.env$`,
		"Dockerfile":                          `ENTRYPOINT \["/manage-subscriptions"\]`,
		"deploy/helm/testdata/one-store.rendered.yaml": `kind: Deployment\nmetadata:\n  name: manage-subscriptions\n` +
			`  namespace: subscriptions\n  labels:\n    app.kubernetes.io/name: manage-subscriptions\n`,
	} {
		if len(match(t, file, names)) == 0 {
			t.Errorf("%s has no %s; docs/operate.md names it", file, names)
		}
	}
}

// TestAlertsLeadToTheRunbook checks that each alert says what is wrong, and links to its part of docs/operate.md.
func TestAlertsLeadToTheRunbook(t *testing.T) {
	const runbook = "https://github.com/manage-subscriptions/manage-subscriptions/blob/main/docs/operate.md#"
	known, text := anchors(t, "docs/operate.md"), read(t, "docs/operate.md")
	alerts := match(t, "deploy/prometheus/alerts.yml", `(?m)^      - alert: ManageSubscriptions(\w+)(?: #.*)?\n((?:        .*\n)+)`)
	if len(alerts) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, alert := range alerts {
		for _, part := range []string{`severity: (page|ticket)\}`, `summary: \S.*`, `description: \S.*`} {
			if !regexp.MustCompile(part).MatchString(alert[2]) {
				t.Errorf("%s has no %s", alert[1], part)
			}
		}
		_, url, _ := strings.Cut(alert[2], "runbook_url: ")
		if anchor, ok := strings.CutPrefix(strings.TrimSpace(url), runbook); !ok || !slices.Contains(known, anchor) {
			t.Errorf("%s has the runbook_url %q; want a heading of docs/operate.md", alert[1], url)
		}
		if !regexp.MustCompile(`\b` + alert[1] + `\b`).MatchString(text) {
			t.Errorf("docs/operate.md does not name the alert %s", alert[1])
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
// each name of a function or a type.
func TestDocsNameWhatIsThere(t *testing.T) {
	var code strings.Builder
	for _, file := range files(t, ".go") {
		code.WriteString(read(t, file))
	}
	for _, doc := range []string{"docs/architecture.md", "README.md", "CONTRIBUTING.md"} {
		for _, named := range match(t, doc, "`([a-z][a-z0-9_./-]*(?:/|\\.go|\\.md))`") {
			if _, err := os.Stat(named[1]); err != nil {
				t.Errorf("%s names %s: %v", doc, named[1], err)
			}
		}
		for _, named := range match(t, doc, "`(?:[A-Za-z]+\\.)*([A-Za-z]*[a-z][A-Z][A-Za-z]*)`") {
			if !strings.Contains(code.String(), named[1]) {
				t.Errorf("%s names %s, which no Go file has", doc, named[1])
			}
		}
	}
}

// TestPagesSayForWhom checks that each page of docs/ begins with its reader.
func TestPagesSayForWhom(t *testing.T) {
	begins := regexp.MustCompile("^# .+\n\n(?:This page is f|F)or ")
	for _, doc := range documents(t) {
		if strings.HasPrefix(doc, "docs/") && doc != "docs/index.md" && !begins.MatchString(read(t, doc)) {
			t.Errorf("%s does not begin with a title and \"For …\", which says who reads it", doc)
		}
	}
}

// TestDocsLinksResolve checks that each link of a document to a file leads to a file, and
// that the file has the heading if the link names one.
func TestDocsLinksResolve(t *testing.T) {
	for _, doc := range documents(t) {
		prose := regexp.MustCompile(fenced).ReplaceAllString(read(t, doc), "")
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose, -1) {
			if strings.Contains(link[1], "://") || strings.HasPrefix(link[1], "mailto:") {
				continue
			}
			file, anchor, named := strings.Cut(link[1], "#")
			target := filepath.Join(filepath.Dir(doc), file)
			if file == "" {
				target = doc
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", doc, link[1], err)
			} else if named && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", doc, link[1])
			}
		}
	}
}

// anchors returns the names under which GitHub and the site show a document's headings.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllStringSubmatch(regexp.MustCompile(fenced).ReplaceAllString(read(t, file), ""), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

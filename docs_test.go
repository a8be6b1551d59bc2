package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"manage-subscriptions/handlers"
)

// TestDocsNameCommands: every command of this program that a document tells one to
// type is taken by its command line, and every command is told of somewhere.
func TestDocsNameCommands(t *testing.T) {
	told := map[string]bool{}
	for _, doc := range documents(t) {
		for _, line := range match(t, doc, "(?m)(?:^|`)(?:go run \\.|manage-subscriptions) ([a-z-][^`#\n]*)") {
			args := strings.Fields(line[1])
			told[args[0]] = true
			if args[0] == "--version" {
				continue
			}
			var commands commands
			parser, err := kong.New(&commands, kong.Vars{"version": ""}, kong.Exit(func(int) {}), kong.Writers(io.Discard, io.Discard))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args); err != nil && !strings.Contains(err.Error(), "missing flags") && !strings.Contains(err.Error(), "--help") {
				t.Errorf("%s: %q: %v", doc, line[1], err)
			}
		}
	}
	for _, name := range names() {
		if !told[name] {
			t.Errorf("no document tells of the command %s", name)
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(docs, "README.md", "SECURITY.md", "CONTRIBUTING.md")
}

// names are those of all commands.
func names() []string {
	var all []string
	for field := range reflect.TypeFor[commands]().Fields() {
		if _, command := field.Tag.Lookup("cmd"); command {
			all = append(all, strings.ToLower(field.Name))
		}
	}
	return all
}

// TestOperateDocSaysWhatIs: the table of outcomes is whole, and a log line has the
// fields that are shown.
func TestOperateDocSaysWhatIs(t *testing.T) {
	var rows []string
	for _, row := range match(t, "docs/operate.md", "(?m)^\\| `([a-z_]+)` \\|") {
		rows = append(rows, row[1])
	}
	for _, outcome := range handlers.Outcomes() {
		if !slices.Contains(rows, string(outcome)) {
			t.Errorf("docs/operate.md does not say what to do about %s", outcome)
		}
	}
	metrics := read(t, "docs/metrics.md")
	for _, source := range handlers.Sources() {
		if !strings.Contains(metrics, "`"+string(source)+"`") {
			t.Errorf("docs/metrics.md does not say what the source %s is", source)
		}
	}
}

// TestArchitectureDocDrawsTheImports: an arrow for each import between the packages
// that are drawn, and none besides; and none that serves shoppers is left out.
func TestArchitectureDocDrawsTheImports(t *testing.T) {
	drawn, rooms := map[string]bool{}, map[string]bool{"main": true}
	for _, arrow := range match(t, "docs/architecture.md", `(?m)^  (\S+) --> (\S+)$`) {
		drawn[arrow[1]+" --> "+arrow[2]] = true
		rooms[arrow[2]] = true
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	room := func(path string) string {
		if path == "manage-subscriptions" {
			return "main"
		}
		return strings.TrimPrefix(path, "manage-subscriptions/")
	}
	real := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		imports := strings.Fields(line)
		from := room(imports[0])
		for _, path := range imports[1:] {
			to := room(path)
			if strings.HasPrefix(path, "manage-subscriptions/") && rooms[from] && from != "server/sandbox" {
				real[from+" --> "+to] = true
			}
		}
	}
	if diff := cmp.Diff(real, drawn); diff != "" {
		t.Errorf("docs/architecture.md (-imports +drawn):\n%s", diff)
	}
}

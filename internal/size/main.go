// Command size counts the production code and fails if it exceeds a limit:
//
//	go run ./internal/size
//
// Production code is all Go outside of tests. Lines are counted as wc counts them.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxFile     = 400 // lines
	maxFunction = 60  // lines
	maxLine     = 120 // characters; a tab counts as one
)

// budget limits the lines of some packages and files together, without emulators. A change
// may not exceed limit, which is lowered step by step to the goal.
type budget struct {
	name        string
	goal, limit int
	parts       []string
	without     []string
}

func budgets() []budget {
	return []budget{
		// A click's request arrives in server/http.go. No click runs the code in the excluded files.
		{
			"what a click can touch", 8000, 8531,
			[]string{
				"portal", "handlers", "shopify", "recharge", "store", "templates", "portallink",
				"server/http.go", "server/log.go", "server/traces.go", "server/metrics",
			},
			[]string{
				"handlers/admin.go", "handlers/campaigns.go", "handlers/connection.go", "handlers/home_campaigns.go",
				"handlers/home_health.go", "handlers/keys.go", "handlers/webhooks.go", "handlers/recharge_webhooks.go",
				"handlers/shopify_webhooks.go",
				"handlers/status.go", "portal/status.go", "portal/prepare.go", "store/campaign.go",
				"shopify/accounts.go", "shopify/session.go", "shopify/webhook.go",
				"recharge/check.go", "recharge/page.go", "recharge/webhooks.go",
				"store/connect.go", "store/embedded.go", "store/erase.go", "templates/admin.go", "templates/text.go",
			},
		},
		{
			"production path", 14000, 20105,
			[]string{
				"main.go", "config", "server", "handlers", "portal", "merchant", "importer", "shopify", "recharge", "store",
				"templates", "doctor", "portallink",
			},
			[]string{"server/bare"}, // no server runs it
		},
	}
}

// lines adds up the lines of the files to which the budget applies. unknown are its parts that have
// no file, so that a renamed file cannot drop out unnoticed.
func (b budget) lines(files map[string]int) (sum int, unknown []string) {
	named := map[string]bool{}
	for path, n := range files {
		part := func(p string) bool {
			is := path == p || strings.HasPrefix(path, p+"/")
			named[p] = named[p] || is
			return is
		}
		counts, left := slices.ContainsFunc(b.parts, part), slices.ContainsFunc(b.without, part)
		if counts && !left && !emulator(path) {
			sum += n
		}
	}
	for _, p := range slices.Concat(b.parts, b.without) {
		if !named[p] {
			unknown = append(unknown, p)
		}
	}
	return sum, unknown
}

func main() {
	files, offenders, err := count(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rooms := map[string]int{}
	for path, lines := range files {
		rooms[room(path)] += lines
	}
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		fmt.Printf("%6d  %s\n", rooms[room], room)
	}
	for _, b := range budgets() {
		reached := "reached"
		sum, unknown := b.lines(files)
		for _, p := range unknown {
			offenders = append(offenders, fmt.Sprintf("%s: %s has no Go files; correct budgets()", b.name, p))
		}
		if sum > b.goal {
			reached = "not reached"
		}
		fmt.Printf("%6d  %s; the limit is %d; the goal of %d is %s\n", sum, b.name, b.limit, b.goal, reached)
		if sum > b.limit {
			offenders = append(offenders, fmt.Sprintf("%s: %d lines; the limit is %d", b.name, sum, b.limit))
		}
	}
	fmt.Printf("at most %d lines in a file, %d in a function, %d columns in a line\n", maxFile, maxFunction, maxLine)
	for _, offender := range offenders {
		fmt.Println(offender)
	}
	if len(offenders) > 0 {
		os.Exit(1)
	}
}

// count returns the number of lines of each file below root, and lists what is too long.
func count(root string) (lines map[string]int, offenders []string, err error) {
	lines = map[string]int{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines[path] = strings.Count(string(text), "\n")
		offenders = append(offenders, tooLong(path, string(text))...)
		return nil
	})
	return lines, offenders, err
}

// room returns a file's top-level folder or, for an emulator, the emulator's folder.
func room(path string) string {
	if emulator(path) {
		return filepath.Dir(path)
	}
	first, _, _ := strings.Cut(path, "/")
	return first
}

func emulator(path string) bool {
	return strings.HasPrefix(path, "shopify/shopifytest/") || strings.HasPrefix(path, "recharge/rechargetest/")
}

// tooLong lists what is too long in a file: the file itself, lines and functions.
func tooLong(path, text string) (found []string) {
	if n := strings.Count(text, "\n"); n > maxFile {
		found = append(found, fmt.Sprintf("%s: %d lines; the limit is %d", path, n, maxFile))
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > maxLine {
			found = append(found, fmt.Sprintf("%s:%d: %d characters; the limit is %d", path, number, n, maxLine))
		}
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, text, parser.SkipObjectResolution)
	if err != nil {
		return append(found, err.Error())
	}
	for _, declaration := range parsed.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := files.Position(function.Pos()), files.Position(function.End())
		if n := last.Line - first.Line + 1; n > maxFunction {
			found = append(found, fmt.Sprintf("%s: %s has %d lines; the limit is %d", first, function.Name.Name, n, maxFunction))
		}
	}
	return found
}

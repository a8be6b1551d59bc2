package doctor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRemedies checks that the code and remedies.txt agree on what can be found, and that nothing is
// found wrong without a remedy.
func TestRemedies(t *testing.T) {
	found := literals(t, "*.go")
	reasons := literals(t, "../recharge/errors.go")
	for line := range strings.Lines(remedies) {
		key, remedy, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		reason, call := strings.CutPrefix(key, "call: ")
		switch {
		case line == "\n" || strings.HasPrefix(line, "#"):
		case !ok || remedy == "" || remedyFor(key) != remedy:
			t.Errorf("remedies.txt has no remedy, or two, for %q", key)
		case !call && !slices.Contains(found, key) || call && !slices.Contains(reasons, reason):
			t.Errorf("nothing finds %q", key)
		}
	}
}

// literals returns all texts in some Go files, constant sums of them included. It checks that each
// warn and fail has a remedy.
func literals(t *testing.T, pattern string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		fixed := map[ast.Expr]bool{} // calls that are followed by .fix
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				fixed[n.X] = fixed[n.X] || n.Sel.Name == "fix"
			case *ast.CallExpr:
				name, ok := n.Fun.(*ast.Ident)
				if ok && (name.Name == "warn" || name.Name == "fail") && !fixed[n] && remedyFor(constant(n.Args[0])) == "" {
					t.Errorf("%s: no remedy for %q", file, constant(n.Args[0]))
				}
			case ast.Expr:
				all = append(all, constant(n))
			}
			return true
		})
	}
	return all
}

// constant returns the text of a literal, or of a sum of literals; "" for anything else.
func constant(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return constant(e.X) + constant(e.Y)
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	}
	return ""
}

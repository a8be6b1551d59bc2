package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms are the production packages, each with the packages that it may import. A chart in
// docs/architecture.md shows them.
func rooms() map[string][]string {
	return map[string][]string{
		"main":           {"server", "config", "doctor", "sandbox"},
		"server":         {"*"},
		"server/metrics": {"portal", "recharge", "shopify", "store"},
		"sandbox":        {"*"},
		"doctor":         {"config", "portal", "recharge", "shopify", "store"},
		"handlers":       {"portal", "merchant", "importer", "shopify", "recharge", "store", "templates", "portallink"},
		"merchant":       {"portal", "portallink", "importer", "recharge", "shopify", "store", "templates"},
		"importer":       {"portal", "recharge", "shopify", "store"},
		"portal":         {"recharge", "shopify", "store"},
		"store":          {"recharge", "shopify"},
		"config":         {"recharge", "shopify"},
		"templates":      {},
		"portallink":     {},
		"recharge":       {},
		"shopify":        {},
		"extensions":     {},
	}
}

func TestImports(t *testing.T) {
	all, err := Imports("../..")
	if err != nil {
		t.Fatal(err)
	}
	for from, imports := range all {
		folder, _, _ := strings.Cut(from, "/")
		may, production := rooms()[from]
		for _, to := range imports {
			_, ours := all[to]
			arrow := from + " -> " + to
			switch {
			case strings.Contains(to, "/labstack/") && folder != "server" && folder != "handlers":
				t.Errorf("%s imports Echo; only server and handlers do", from)
			case !production || !ours:
			case emulator(to) && from != "sandbox":
				t.Errorf("%s: emulators are for tests and the sandbox", arrow)
			case !slices.Contains(may, to) && !slices.Contains(may, "*"):
				t.Errorf("%s: it may import %v", arrow, may)
			}
		}
	}
}

func emulator(room string) bool {
	return strings.HasSuffix(room, "shopifytest") || strings.HasSuffix(room, "rechargetest") || strings.HasPrefix(room, "internal/")
}

// allowed lists the fields that may hold a function, each with the reason.
func allowed() map[string]string {
	return map[string]string{
		"doctor.step.do":         "a row of doctor's own table of checks",
		"recharge.inspection.do": "a row of Inspect's own table of checks",
		"shopify.hidden.at":      "a row of ambiguous's own table of parameters",
		"server.Network.Listen":  "stands for net.Listen where time and network are simulated",
		"server.Network.Dial":    "stands for net.Dial in the same place",
	}
}

// TestFunctionFields checks that no struct field holds a function, with which a package
// could call the package that set it. Clocks, func() time.Time, are allowed.
func TestFunctionFields(t *testing.T) {
	unused := allowed()
	for name := range rooms() {
		if name == "main" || name == "sandbox" {
			continue
		}
		files, err := filepath.Glob(filepath.Join("../..", name, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no files; correct rooms()", name)
		}
		for _, field := range functionFields(t, files) {
			field = name + "." + field
			if _, ok := unused[field]; ok {
				delete(unused, field)
			} else {
				t.Errorf("%s is a function; return what it reports instead", field)
			}
		}
	}
	for field := range unused {
		t.Errorf("allowed has %s, which is gone", field)
	}
}

// functionFields lists, as Type.Field, the struct fields that hold a function or a named
// function type of the same package.
func functionFields(t *testing.T, files []string) (found []string) {
	t.Helper()
	var specs []*ast.TypeSpec
	functions := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				specs = append(specs, spec)
				if _, ok := spec.Type.(*ast.FuncType); ok {
					functions[spec.Name.Name] = true
				}
			}
			return true
		})
	}
	for _, spec := range specs {
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, field := range structure.Fields.List {
			if !callable(field.Type, functions) {
				continue
			}
			for _, name := range field.Names {
				found = append(found, spec.Name.Name+"."+name.Name)
			}
		}
	}
	return found
}

// callable reports whether a value of the type holds a function that is not a clock.
func callable(expression ast.Expr, functions map[string]bool) (found bool) {
	ast.Inspect(expression, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncType:
			found = found || !clock(n)
			return false
		case *ast.Ident:
			found = found || functions[n.Name]
		}
		return true
	})
	return found
}

func clock(f *ast.FuncType) bool {
	if f.Params.NumFields() > 0 || f.Results.NumFields() != 1 {
		return false
	}
	result, ok := f.Results.List[0].Type.(*ast.SelectorExpr)
	return ok && result.Sel.Name == "Time"
}

package docs

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSecurityDocNamesRealTests checks that every test that docs/security.md and docs/privacy.md name exists, and
// that each of the seven promises names one.
func TestSecurityDocNamesRealTests(t *testing.T) {
	const doc = "docs/security.md"
	there := testsInTree(t)
	for _, page := range []string{doc, "docs/privacy.md"} {
		for _, name := range match(t, page, "`((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)`") {
			if !there[name[1]] {
				t.Errorf("%s names %s, which does not exist", page, name[1])
			}
		}
	}
	// Each of the seven promises has a table, and each of its rows one to three tests.
	promises := match(t, doc, `(?s)### ([0-9])\. [^\n]+\n\n\| protection \| test \|\n\|---\|---\|\n(.*?)\n\n`)
	if len(promises) != 7 {
		t.Errorf("%s has %d promises with tests; want seven", doc, len(promises))
	}
	row := regexp.MustCompile("^\\| [^|]+ \\|( `(Test|Fuzz)[A-Za-z0-9]+`){1,3} \\|$")
	for _, promise := range promises {
		for line := range strings.SplitSeq(promise[2], "\n") {
			if !row.MatchString(line) {
				t.Errorf("%s, promise %s: %q; want one protection and one to three tests", doc, promise[1], line)
			}
		}
	}
}

func testsInTree(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for _, file := range files(t, ".go") {
		for _, found := range match(t, file, `(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)\(`) {
			there[found[1]] = strings.HasSuffix(file, "_test.go")
		}
	}
	return there
}

// TestDependenciesDoc checks that each requirement has a row with its reason, and that no
// other row exists.
func TestDependenciesDoc(t *testing.T) {
	const doc = "docs/dependencies.md"
	rows := map[string]bool{}
	for _, row := range match(t, doc, "(?m)^\\| `([^`]+)` \\| .*[a-z].* \\|$") {
		rows[row[1]] = true
	}
	want := slices.Concat(goRequirements(t), goTools(t), modfile(t, "deploy/helm/go.mod").direct(), npmPackages(t))
	slices.Sort(want)
	want = slices.Compact(want)
	var missing []string
	for _, name := range want {
		if !rows[name] {
			missing = append(missing, name)
		}
		delete(rows, name)
	}
	if len(missing) > 0 {
		t.Errorf("%s needs a row for each of these, which says where it is used and why:\n\t%s", doc, strings.Join(missing, "\n\t"))
	}
	for name := range rows {
		t.Errorf("%s has a row for %s, which is not required directly", doc, name)
	}
}

// goRequirements returns the modules that go.mod requires directly.
func goRequirements(t *testing.T) []string { return modfile(t, "go.mod").direct() }

func goTools(t *testing.T) []string {
	var paths []string
	for _, tool := range modfile(t, "tools/go.mod").Tool {
		paths = append(paths, tool.Path)
	}
	return paths
}

// module is a go.mod as 'go mod edit -json' prints it.
type module struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

func (m module) direct() []string {
	var paths []string
	for _, required := range m.Require {
		if !required.Indirect {
			paths = append(paths, required.Path)
		}
	}
	return paths
}

func modfile(t *testing.T, file string) module {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var m module
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func npmPackages(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range []string{"package.json", "bench/node/package.json", "extensions/manage-subscriptions-account/package.json"} {
		var manifest struct{ Dependencies, DevDependencies map[string]string }
		if err := json.Unmarshal([]byte(read(t, file)), &manifest); err != nil {
			t.Fatal(err)
		}
		for name := range manifest.Dependencies {
			names = append(names, name)
		}
		for name := range manifest.DevDependencies {
			names = append(names, name)
		}
	}
	return names
}

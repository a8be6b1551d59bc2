package docs

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// TestPrivacyDocSaysHowLong compares each time in the table of docs/privacy.md with the constant or the setting that
// the row names, and checks that every kind of key in Redis has a row.
func TestPrivacyDocSaysHowLong(t *testing.T) {
	const doc = "docs/privacy.md"
	_, table, _ := strings.Cut(read(t, doc), "| what | key in Redis | kept | code |\n|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	row := regexp.MustCompile("^\\| .+ \\| (`[^|]+`|–) \\| (?:(?:at most )?([0-9]+)(½?) (second|minute|hour|day)s?\\b)?[^|]* \\| (?:`([^|`]+)`|–) \\|$")
	var keys []string
	for line := range strings.SplitSeq(table, "\n") {
		is := row.FindStringSubmatch(line)
		if is == nil {
			t.Errorf("%q is no row of the table in %s", line, doc)
			continue
		}
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(is[1], -1) {
			keys = append(keys, key[1])
		}
		if said, want := spoken(t, is[2], is[3], is[4]), lifetime(t, is[5]); said != want {
			t.Errorf("%q says %v; %q is %v", line, said, is[5], want)
		}
	}
	const policy = "docs/listing/privacy-policy.md"
	if want := fmt.Sprintf("at most %v minutes", lifetime(t, "merchant.SupportLife + store.nonceSlack").Minutes()); !strings.Contains(read(t, policy), want) {
		t.Errorf("%s does not say that a digest of the browser is kept for %s", policy, want)
	}
	for _, kind := range match(t, "store/keys.go", `(?m)^//\t([a-z]\S*)  `) {
		if !slices.Contains(keys, kind[1]) {
			t.Errorf("%s does not say how long Redis holds %s", doc, kind[1])
		}
	}
	for _, key := range keys {
		if key = strings.TrimPrefix(key, "ms2:"); !strings.Contains(read(t, "store/keys.go"), key) {
			t.Errorf("%s names the key %s, which store/keys.go does not have", doc, key)
		}
	}
}

// spoken returns a time such as 23½ hours, or zero if the table has none.
func spoken(t *testing.T, number, half, unit string) time.Duration {
	t.Helper()
	if number == "" {
		return 0
	}
	n, err := time.ParseDuration(number + "h")
	if err != nil {
		t.Fatal(err)
	}
	if half != "" {
		n += 30 * time.Minute
	}
	return n / 3600 * map[string]time.Duration{"second": 1, "minute": 60, "hour": 3600, "day": 24 * 3600}[unit]
}

// lifetime returns what a sum of constants and defaults of settings comes to, such as "portallink.Longest +
// store.nonceSlack" or "LINK_TTL".
func lifetime(t *testing.T, sum string) (total time.Duration) {
	t.Helper()
	if sum == "" {
		return 0
	}
	for name := range strings.SplitSeq(sum, " + ") {
		if folder, constant, ok := strings.Cut(name, "."); ok {
			total += durationOf(t, folder, constant)
			continue
		}
		n, err := time.ParseDuration(defaultOf(name))
		if err != nil {
			t.Errorf("%q is neither a constant nor a setting with a time: %v", name, err)
		}
		total += n
	}
	return total
}

func defaultOf(setting string) string {
	for field := range reflect.TypeFor[config.Settings]().Fields() {
		if config.EnvName(field.Tag.Get("name")) == setting {
			return field.Tag.Get("default")
		}
	}
	return ""
}

// durationOf returns the value of a package's constant, as the compiler computes it.
func durationOf(t *testing.T, folder, name string) time.Duration {
	t.Helper()
	sources, err := filepath.Glob(folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	check := types.Config{Importer: onlyTime{importer.Default()}, IgnoreFuncBodies: true, Error: func(error) {}}
	pkg, _ := check.Check(folder, set, parsed, nil) // other imports are missing, and no lifetime needs them
	found, ok := pkg.Scope().Lookup(name).(*types.Const)
	if !ok {
		t.Errorf("there is no constant %s.%s", folder, name)
		return 0
	}
	value, exact := constant.Int64Val(constant.ToInt(found.Val()))
	if !exact {
		t.Errorf("%s.%s is no time", folder, name)
	}
	return time.Duration(value)
}

// onlyTime imports the package time, and no other.
type onlyTime struct{ types.Importer }

func (i onlyTime) Import(path string) (*types.Package, error) {
	if path != "time" {
		return nil, errors.New("not needed")
	}
	return i.Importer.Import(path)
}

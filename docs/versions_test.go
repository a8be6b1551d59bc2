package docs

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVersions compares the versions that docs/upgrade.md supports with the code, and the
// version of Go that any document names.
func TestVersions(t *testing.T) {
	for row, source := range map[string][2]string{
		"Go, to build it":      {"go.mod", `(?m)^go ([0-9]+\.[0-9]+)`},
		"Redis":                {"doctor/redis.go", `use Redis ([0-9.]+) or newer`},
		"Recharge's Admin API": {"recharge/client.go", `apiVersion += "([0-9-]+)"`},
		"Shopify's API, for webhooks and extensions": {"shopify.app.toml", `api_version = "([0-9-]+)"`},
	} {
		code := match(t, source[0], source[1])
		doc := match(t, "docs/upgrade.md", `(?m)^\| `+regexp.QuoteMeta(row)+` \| ([0-9.-]+)`)
		if len(code) != 1 || len(doc) != 1 {
			t.Errorf("%s: %s has %d versions, docs/upgrade.md %d; want one each", row, source[0], len(code), len(doc))
		} else if code[0][1] != strings.TrimSuffix(doc[0][1], ".") {
			t.Errorf("docs/upgrade.md says %s %s; %s says %s", row, doc[0][1], source[0], code[0][1])
		}
	}
	want := match(t, "go.mod", `(?m)^go ([0-9]+\.[0-9]+)`)[0][1]
	for _, doc := range documents(t) {
		for _, named := range match(t, doc, `\bGo ([0-9]\.[0-9]+)`) {
			if named[1] != want {
				t.Errorf("%s names Go %s; go.mod requires %s", doc, named[1], want)
			}
		}
	}
}

// TestBadges checks that README's badges name the newest release of the CHANGELOG and the
// licence. With -update, it writes the version.
func TestBadges(t *testing.T) {
	version := "not released yet"
	if releases := match(t, "CHANGELOG.md", `(?m)^## \[?(v?[0-9]+\.[0-9]+\.[0-9]+[^\s\]]*)`); len(releases) > 0 {
		version = releases[0][1]
	}
	const badge = "docs/pictures/version.svg"
	shown := match(t, badge, `<title>version: ([^<]+)<`)
	if len(shown) != 1 {
		t.Fatalf("%s names %d versions; want one", badge, len(shown))
	}
	if flag.Lookup("update").Value.String() == "true" {
		for _, file := range []string{badge, "README.md"} {
			text := strings.NewReplacer(": "+shown[0][1], ": "+version, ">"+shown[0][1]+"<", ">"+version+"<").Replace(read(t, file))
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file, want := range map[string]string{
		badge:                       ">" + version + "</text>",
		"README.md":                 "![Version: " + version + "]",
		"docs/pictures/licence.svg": ">MIT</text>",
		"LICENSE":                   "MIT License",
	} {
		if !strings.Contains(read(t, file), want) {
			t.Errorf("%s lacks %q; go test ./docs -run %s -update writes the version", file, want, t.Name())
		}
	}
}

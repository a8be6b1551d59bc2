package docs

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// TestDocsRepeatTheCode compares versions and times that documents for merchants and
// operators name with the code. Each pattern has one group.
func TestDocsRepeatTheCode(t *testing.T) {
	const upgrade, policy, merchants = "docs/upgrade.md", "docs/listing/privacy-policy.md", "docs/merchants.md"
	for _, same := range [][4]string{
		{upgrade, `(?m)^\| Go, to build it \| ([0-9.]+)`, "go.mod", `(?m)^go ([0-9]+\.[0-9]+)`},
		{upgrade, `(?m)^\| Redis \| ([0-9.]+) or newer`, "doctor/redis.go", `use Redis ([0-9.]+) or newer`},
		{upgrade, `(?m)^\| Recharge's Admin API \| ([0-9-]+)`, "recharge/client.go", `apiVersion += "([0-9-]+)"`},
		{upgrade, `(?m)^\| Shopify's API, .* \| ([0-9-]+) \|`, "shopify.app.toml", `api_version = "([0-9-]+)"`},
		{policy, `encrypted, at most ([0-9]+) days after`, "store/cached.go", `longestLife += ([0-9]+) \* 24 \* time.Hour`},
		{policy, `counters without any customer for ([0-9]+) days`, "store/counters.go", `countsFor += ([0-9]+) \* 24 \* time.Hour`},
		{policy, `The link is used for \[([0-9]+) minutes\]`, "config/settings.go", `name:"link-ttl".* default:"([0-9]+)m"`},
		{"docs/privacy.md", `used for ([0-9]+) minutes`, "extensions/manage-subscriptions-theme/assets/manage-subscriptions.js", `MEMORY = ([0-9]+) \* 60 \* 1000`},
		{policy, `deleted after ([0-9]+) days without such a customer`, "store/cached.go", `redactedFor = ([0-9]+) \* 24 \* time.Hour`},
		{policy, `browser for ([0-9]+) minutes`, "extensions/manage-subscriptions-theme/assets/manage-subscriptions.js", `MEMORY = ([0-9]+) \* 60 \* 1000`},
		{merchants, `at the latest within ([0-9]+) days`, "store/cached.go", `longestLife += ([0-9]+) \* 24 \* time.Hour`},
		{merchants, `The link opens once, within ([0-9]+) minutes`, "merchant/support.go", `SupportLife = ([0-9]+) \* time.Minute`},
	} {
		repeats(t, same[0], same[1], same[2], same[3])
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

// repeats compares what a document says with its source. Each pattern has one group. A comma in a number does not count.
func repeats(t *testing.T, doc, said, source, is string) {
	t.Helper()
	repeated, original := match(t, doc, said), match(t, source, is)
	if len(repeated) != 1 || len(original) != 1 {
		t.Errorf("%s matches %s %d times, and %s matches %s %d times; want once each", doc, said, len(repeated), source, is, len(original))
	} else if strings.ReplaceAll(repeated[0][1], ",", "") != original[0][1] {
		t.Errorf("%s says %q; %s has %q", doc, repeated[0][0], source, original[0][0])
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

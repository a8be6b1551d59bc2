package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

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

// rule is a pattern that a file must or must not match, and the reason.
type rule struct{ pattern, why string }

func check(t *testing.T, file, text string, must, mustNot []rule) {
	t.Helper()
	for _, r := range must {
		if !regexp.MustCompile("(?m)" + r.pattern).MatchString(text) {
			t.Errorf("%s has no %s: %s", file, r.pattern, r.why)
		}
	}
	for _, r := range mustNot {
		if found := regexp.MustCompile("(?m)" + r.pattern).FindString(text); found != "" {
			t.Errorf("%s has %q: %s", file, strings.TrimSpace(found), r.why)
		}
	}
}

// settings returns the names that the program reads. TestDocsSayWhatIsRead keeps .env.example
// complete.
func settings(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, row := range match(t, ".env.example", `(?m)^([A-Z_]+)=(.*)$`) {
		all[row[1]] = row[2]
	}
	return all
}

// slowestEnd returns how long the server may take to shut down: the notice to load balancers, the
// longest click, and the time to write its answer.
func slowestEnd(t *testing.T) time.Duration {
	t.Helper()
	notice := match(t, "main.go", `noticePeriod = (\d+) \* time\.Second`)
	click, err := time.ParseDuration(settings(t)["CLICK_TIMEOUT"])
	var drain [][]string
	files, _ := filepath.Glob("server/*.go")
	for _, file := range files {
		drain = append(drain, match(t, file, `(?:Background\(\)|WithoutCancel\(ctx\)), \S*ClickTimeout ?\+ ?(\d+) ?\* ?time\.Second`)...)
	}
	if err != nil || len(notice) != 1 || len(drain) == 0 {
		t.Fatalf("CLICK_TIMEOUT %v, notice %v, drain %v: something has moved", err, notice, drain)
	}
	return click + seconds(notice[0][1]) + seconds(drain[0][1])
}

func seconds(text string) time.Duration {
	n, _ := strconv.Atoi(text)
	return time.Duration(n) * time.Second
}

// longEnough checks how long a file lets the server run before it is killed.
func longEnough(t *testing.T, file, pattern string) {
	t.Helper()
	found := match(t, file, pattern)
	if len(found) != 1 || seconds(found[0][1]) < slowestEnd(t) {
		t.Errorf("%s kills the server after %v s; want at least %s", file, found, slowestEnd(t))
	}
}

// TestWorkflows: nothing in a workflow can change unnoticed, and each job has only the permissions
// that it needs.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("workflows %v (%v); want ci and release", files, err)
	}
	pinned := regexp.MustCompile(`^(\./\S+|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$`)
	for _, file := range files {
		text := read(t, file)
		for _, use := range match(t, file, `(?m)^\s*(?:- )?uses:\s*(.*)$`) {
			if !pinned.MatchString(use[1]) {
				t.Errorf("%s: %q is not an action by full commit hash with its version as a comment", file, use[1])
			}
		}
		for _, tool := range match(t, file, `\bgo (?:run|install) \S+@(\S+)`) {
			if !regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(tool[1]) {
				t.Errorf("%s: %q is not a version", file, tool[0])
			}
		}
		check(t, file, text, []rule{{`^permissions: \{\}$`, "a workflow has no permissions, each job its own"}}, []rule{
			{`-latest\b|@latest\b`, "it can change"},
			{`\$\{\{ *github\.(event\.|head_ref)`, "strangers can choose its value"},
			{`write-all`, "a job lists what it needs"},
		})
		_, jobs, _ := strings.Cut(text, "\njobs:\n")
		for _, job := range regexp.MustCompile(`(?m)^  \w+:\n(?:(?:    .*)?\n)+`).FindAllString(jobs, -1) {
			name, _, _ := strings.Cut(strings.TrimSpace(job), ":")
			where := file + ", job " + name + ","
			check(t, where, job, []rule{{`^    permissions:\n      \w`, "a job lists its permissions"}}, nil)
			if !strings.Contains(job, "\n    uses: ./") {
				check(t, where, job, []rule{{`^    timeout-minutes: \d+$`, "it must end"}}, nil)
			}
			if strings.Count(job, "actions/checkout@") != strings.Count(job, "persist-credentials: false") {
				t.Errorf("%s leaves its token in the checkout", where)
			}
		}
	}
}

// TestReleaseIsGuarded: nothing unchecked is published, and only the job that publishes has
// permission to.
func TestReleaseIsGuarded(t *testing.T) {
	text := read(t, ".github/workflows/release.yml")
	for _, want := range []string{
		"uses: ./.github/workflows/ci.yml", "needs: ci\n", "needs: [ci, binaries]", "needs: [binaries, images, chart]", "sh .ci/build", "cmp ", "SHA256SUMS", "cyclonedx",
		"linux/amd64,linux/arm64", "provenance: mode=max", "sbom: true", "fetch-depth: 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("release.yml has no %q", want)
		}
	}
	if n := strings.Count(text, "contents: write"); n != 1 {
		t.Errorf("%d jobs may write the repository; want only the one that publishes", n)
	}
}

// TestOneOfEach: all files name one commit of an action and one version of Go, so that a release
// has the bytes that were tested, and the image has the release's binary.
func TestOneOfEach(t *testing.T) {
	byAction := map[string]string{}
	var versions []string
	for _, file := range []string{".github/workflows/ci.yml", ".github/workflows/release.yml", "Dockerfile"} {
		for _, pin := range match(t, file, `([\w.-]+/[\w./-]+)@([0-9a-f]{40} # \S+)`) {
			if other, ok := byAction[pin[1]]; ok && other != pin[2] {
				t.Errorf("%s has %s; another file has %s", file, pin[0], other)
			}
			byAction[pin[1]] = pin[2]
		}
		named := match(t, file, `(?:go-version: |golang:)([\d.]+)`)
		if len(named) == 0 {
			t.Errorf("%s names no version of Go", file)
		}
		for _, version := range named {
			versions = append(versions, version[1])
		}
	}
	slices.Sort(versions)
	if versions = slices.Compact(versions); len(versions) != 1 {
		t.Errorf("Go versions %v; want one", versions)
	}
}

// TestDockerfile: readImage checks the form of the last stage.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	check(t, "Dockerfile", text, []rule{
		{`^FROM .*golang:\d+\.\d+\.\d+-\w+@sha256:[0-9a-f]{64} AS build$`, "a base image is pinned to a version, and to its bytes"},
		{`sh \.ci/build `, "the image has the binary of a release"},
		{`^USER [1-9]\d*:[1-9]\d*$`, "runAsNonRoot needs to see that it is not root"},
		{`^HEALTHCHECK .*CMD \["/manage-subscriptions", "healthcheck"\]$`, "the image has nothing but the binary"},
	}, []rule{
		{`^ADD `, "copy what is in the repository, and nothing from elsewhere"},
		{`sudo |\| (ba)?sh|chmod 777`, "a build needs none of it"},
		{`(?i)^(ENV|ARG)\b.*(secret|token|password|_key\b)`, "it would stay in the image's history"},
	})
	_, last, _ := strings.Cut(text, "\nFROM scratch\n")
	check(t, "Dockerfile's last stage", last, nil, []rule{{`^COPY [^-]`, "only built files belong in the image"}})
}

// pinned matches an image with its version for people, and its digest for the engine.
func pinned(image string) string {
	return `^    image: ` + image + `:\d+\.\d+\.\d+\S*@sha256:[0-9a-f]{64}$`
}

func TestCompose(t *testing.T) {
	const file = "docker-compose.yml"
	text := read(t, file)
	_, server, _ := strings.Cut(text, "\n  server:\n")
	server, redis, _ := strings.Cut(server, "\n  redis:\n")
	redis, caddy, _ := strings.Cut(redis, "\n  caddy:\n")
	check(t, file+", server,", server, []rule{
		{`^    env_file: \.env$`, "it gets its settings"},
		{`^    read_only: true$`, "it writes nothing"},
		{`^    cap_drop: \[ALL\]$`, "it needs no capability"},
		{`^    security_opt: \["no-new-privileges:true"\]$`, "it needs no privilege"},
		{`^    ports:\n      - "127\.0\.0\.1:8080:8080"\n    \w`, "only clicks come in, and only from the proxy with TLS"},
		{`^      test: \["CMD", "/manage-subscriptions", "healthcheck"\]$`, "the image has nothing but the binary"},
	}, nil)
	check(t, file+", redis,", redis, []rule{
		{pinned("redis"), "it is pinned to its bytes"},
		{`^      test: \["CMD", "redis-cli", "ping"\]$`, "the server waits until it is healthy"},
	}, []rule{{`^    ports:`, "Redis must not be public"}})
	check(t, file+", caddy,", caddy, []rule{
		{pinned("caddy"), "it is pinned to its bytes"},
		{`^    profiles: \[tls\]$`, "a machine may have another proxy on these ports"},
		{`\./deploy/Caddyfile:`, "TestCaddy tries it"},
		{`- caddy:/data`, "a certificate must outlive the container"},
	}, nil)
	longEnough(t, file, `(?m)^    stop_grace_period: (\d+)s$`)
}

// TestChartKnowsSettings compares the names in the chart's schema with the settings: what is secret
// goes into a Secret, everything else into a ConfigMap, and the chart sets the ports itself.
func TestChartKnowsSettings(t *testing.T) {
	var schema struct {
		Properties struct {
			Settings, Secrets struct {
				Properties map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/helm/manage-subscriptions/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	knows := map[string][]string{"settings": {"ADDR", "OPS_ADDR"}}
	knows["settings"] = slices.AppendSeq(knows["settings"], maps.Keys(schema.Properties.Settings.Properties))
	knows["secrets"] = slices.Collect(maps.Keys(schema.Properties.Secrets.Properties))
	reads := map[string][]string{}
	for field := range reflect.TypeFor[config.Settings]().Fields() {
		kind := "settings"
		if _, hidden := field.Tag.Lookup("hidden"); hidden {
			kind = "secrets"
		}
		reads[kind] = append(reads[kind], config.EnvName(field.Tag.Get("name")))
	}
	for kind, names := range knows {
		slices.Sort(names)
		slices.Sort(reads[kind])
		if !slices.Equal(names, reads[kind]) {
			t.Errorf("the chart's %s are\n%v; the program reads\n%v", kind, names, reads[kind])
		}
	}
}

func TestChartWaitsForTheEnd(t *testing.T) {
	longEnough(t, "deploy/helm/testdata/one-store.rendered.yaml", `(?m)terminationGracePeriodSeconds: (\d+)$`)
}

// Each file as it is has no problem; each mistake that a rule is for is found.

package shipping

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const root = "../.."

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mistake is an edit of a file that is good, and a part of what is then said.
type mistake struct{ name, old, new, want string }

func try(t *testing.T, text string, check func(text string) Problems, mistakes []mistake) {
	t.Helper()
	for _, problem := range check(text) {
		t.Error(problem)
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			if !strings.Contains(text, m.old) {
				t.Fatalf("the file has no %q to make a mistake of", m.old)
			}
			found := strings.Join(check(strings.Replace(text, m.old, m.new, 1)), "\n")
			if !strings.Contains(found, m.want) {
				t.Errorf("found %q; want %q", found, m.want)
			}
		})
	}
}

// program is what the program's own files say of it. A test of the main module
// holds .env.example together with the settings.
func program(t *testing.T) Program {
	t.Helper()
	var p Program
	var click time.Duration
	for _, row := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(read(t, ".env.example"), -1) {
		p.Settings = append(p.Settings, row[1])
		if row[1] == "CLICK_TIMEOUT" {
			var err error
			if click, err = time.ParseDuration(row[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, route := range regexp.MustCompile(`e\.GET\("([^"]+)"`).FindAllStringSubmatch(read(t, "handlers/health.go"), -1) {
		p.Routes = append(p.Routes, route[1])
	}
	notice := regexp.MustCompile(`notice = (\d+) \* time\.Second`).FindStringSubmatch(read(t, "main.go"))
	drain := regexp.MustCompile(`ClickTimeout\+(\d+)\*time\.Second`).FindStringSubmatch(read(t, "server/server.go"))
	if click == 0 || notice == nil || drain == nil || len(p.Routes) < 2 {
		t.Fatalf("CLICK_TIMEOUT %s, notice %v, drain %v, routes %v: something has moved", click, notice, drain, p.Routes)
	}
	for _, seconds := range []string{notice[1], drain[1]} {
		n, _ := strconv.Atoi(seconds)
		p.Grace += time.Duration(n) * time.Second
	}
	p.Grace += click
	return p
}

func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("workflows %v (%v); want ci and release", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		for _, problem := range Workflow(name, read(t, ".github/workflows/"+name)) {
			t.Error(problem)
		}
	}
	check := func(text string) Problems { return Workflow("ci.yml", text) }
	try(t, read(t, ".github/workflows/ci.yml"), check, []mistake{
		{"by tag", "@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "@v4", "full commit hash"},
		{"without version", " # v4.2.2", "", "full commit hash"},
		{"by short hash", "@11bd71901bbe5b1630ceea73d27597364c9af683", "@11bd719", "full commit hash"},
		{"tool that changes", "govulncheck@v1.8.0", "govulncheck@latest", "not a version"},
		{"all permissions", "permissions: {}", "permissions: write-all", "workflow has permissions"},
		{"no permissions", "    permissions:\n      contents: read\n    container", "    container", "does not list its permissions"},
		{"no end", "    timeout-minutes: 60\n", "", "no time limit"},
		{"changing runner", "ubuntu-24.04", "ubuntu-latest", "which changes"},
		{"token stays", "persist-credentials: false", "persist-credentials: true", "leaves its token"},
		{"unknown key", "timeout-minutes", "timeout-minuets", "unexpected key"},
		{"unknown event", "pull_request:", "pull_requests:", "unknown Webhook event"},
		{"injection", "run: bash .ci/run", "run: echo ${{ github.head_ref }}", "untrusted"},
		{"wrong schedule", "17 4 * * 1", "17 25 * * 1", "CRON"},
	})
}

// TestReleaseIsGuarded: nothing is published that has not been checked, and only the
// job that publishes may.
func TestReleaseIsGuarded(t *testing.T) {
	text := read(t, ".github/workflows/release.yml")
	for _, want := range []string{
		"uses: ./.github/workflows/ci.yml", "needs: [binaries, images]", "sh .ci/build", "cmp ", "SHA256SUMS", "cyclonedx",
		"linux/amd64,linux/arm64", "provenance: mode=max", "sbom: true", "fetch-depth: 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("release.yml has no %q", want)
		}
	}
	if n := strings.Count(text, "contents: write"); n != 1 {
		t.Errorf("%d jobs may write the repository; want only the one that publishes", n)
	}
	if n := strings.Count(text, "needs: ci\n"); n != 2 {
		t.Errorf("%d jobs wait for the checks; want both that build", n)
	}
}

// TestOneOfEach: one commit of an action and one Go in all files, so that a release
// has the bytes that were tested, and the image the binary of the release.
func TestOneOfEach(t *testing.T) {
	byAction := map[string]string{}
	var versions []string
	for _, file := range []string{".github/workflows/ci.yml", ".github/workflows/release.yml", "Dockerfile"} {
		text := read(t, file)
		for _, pin := range Pins(text) {
			action, _, _ := strings.Cut(pin, "@")
			if other, ok := byAction[action]; ok && other != pin {
				t.Errorf("%s has %s; another file has %s", file, pin, other)
			}
			byAction[action] = pin
		}
		in := GoVersions(text)
		if len(in) != 1 {
			t.Errorf("%s has the Go versions %v; want one", file, in)
		}
		versions = append(versions, in...)
	}
	slices.Sort(versions)
	if versions = slices.Compact(versions); len(versions) != 1 {
		t.Errorf("Go versions %v; want one", versions)
	}
	if !strings.Contains(read(t, "Dockerfile"), "sh .ci/build ") {
		t.Error("the image is not built as a release is, with .ci/build")
	}
}

func TestDockerfile(t *testing.T) {
	try(t, read(t, "Dockerfile"), Dockerfile, []mistake{
		{"latest", "golang:1.26.8-trixie", "golang:latest", "not pinned"},
		{"no tag", "golang:1.26.8-trixie", "golang", "not pinned"},
		{"minor only", "golang:1.26.8-trixie", "golang:1.26", "not pinned"},
		{"root", "USER 65532:65532", "USER 0:0", "USER"},
		{"by name", "USER 65532:65532", "USER nonroot", "USER"},
		{"no user", "USER 65532:65532\n", "", "USER"},
		{"from elsewhere", "COPY . .", "ADD https://files.example/x.tar /src", "ADD"},
		{"shell entrypoint", `ENTRYPOINT ["/manage-subscriptions"]`, "ENTRYPOINT /manage-subscriptions", "ENTRYPOINT"},
		{"shell command", `CMD ["serve"]`, "CMD serve", "CMD"},
		{"shell probe", `CMD ["/manage-subscriptions", "healthcheck"]`, "CMD /manage-subscriptions healthcheck", "HEALTHCHECK"},
		{"curl", `CMD ["/manage-subscriptions", "healthcheck"]`, `CMD ["curl", "http://127.0.0.1:9090/readyz"]`, "by the binary itself"},
		{"no probe", "HEALTHCHECK ", "# ", "no HEALTHCHECK"},
		{"secret", "ARG TARGETOS", "ARG GITHUB_TOKEN TARGETOS", "history"},
		{"source in the image", "USER 65532", "COPY . /src\nUSER 65532", "not built"},
		{"unknown", "EXPOSE", "EXPOSED", "unknown instruction"},
		{"mixed case", " AS build", " as build", "FromAsCasing"},
	})
}

func TestCompose(t *testing.T) {
	p := program(t)
	env := strings.Replace(read(t, ".env.example"), "SHOPIFY_SHOP=", "SHOPIFY_SHOP=my-store.myshopify.com", 1)
	check := func(text string) Problems { return Compose(text, env, p.Grace) }
	try(t, read(t, "docker-compose.yml"), check, []mistake{
		{"misspelt", "read_only", "readonly", "additional properties"},
		{"may write", "read_only: true", "read_only: false", "may write"},
		{"capabilities", "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "capabilities"},
		{"privileges", `["no-new-privileges:true"]`, "[]", "privileges"},
		{"killed early", "stop_grace_period: 20s", "stop_grace_period: 10s", "killed before"},
		{"to the world", `"127.0.0.1:8080:8080"`, `"8080:8080"`, "to the world"},
		{"operator's port", `"127.0.0.1:8080:8080"`, `"127.0.0.1:9090:9090"`, "operator's port"},
		{"other probe", `["CMD", "/manage-subscriptions", "healthcheck"]`, `["CMD", "curl", "http://127.0.0.1:9090/readyz"]`, "only the binary"},
		{"shell probe", `["CMD", "/manage-subscriptions", "healthcheck"]`, "/manage-subscriptions healthcheck", "exec form"},
		{"latest Redis", "redis:8-alpine", "redis:latest", "not pinned"},
		{"nobody to wait for", "      redis:\n        condition", "      cache:\n        condition", "undefined service"},
		{"no settings", "    env_file: .env\n", "", "what .env says"},
	})
}

func TestKubernetes(t *testing.T) {
	p := program(t)
	secret := read(t, "deploy/kubernetes/secret.example.yaml")
	check := func(text string) Problems { return Kubernetes(p, text, secret) }
	manifests := read(t, "deploy/kubernetes/manage-subscriptions.yaml")
	try(t, manifests, check, []mistake{
		{"one replica", "replicas: 2", "replicas: 1", "two replicas"},
		{"misspelt", "readOnlyRootFilesystem", "readOnlyRootFileSystem", "unknown field"},
		{"wrong type", "replicas: 2", "replicas: two", "cannot unmarshal"},
		{"killed early", "terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 14", "killed before"},
		{"root", "runAsNonRoot: true", "runAsNonRoot: false", "run as root"},
		{"may write", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write"},
		{"capabilities", "drop: [ALL]", "drop: [NET_RAW]", "keeps capabilities"},
		{"no seccomp", "seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", "seccomp"},
		{"token", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token for the cluster"},
		{"no such route", "path: /readyz", "path: /healthz", "readinessProbe asks /healthz"},
		{"kills who drains", "livenessProbe:\n            httpGet: {path: /livez", "livenessProbe:\n            httpGet: {path: /readyz", "livenessProbe asks /readyz"},
		{"public port", "httpGet: {path: /readyz, port: ops}", "httpGet: {path: /readyz, port: http}", "not the operator's"},
		{"latest", "manage-subscriptions:v1.0.0", "manage-subscriptions:latest", "not pinned"},
		{"budget of others", "  maxUnavailable: 1\n  selector:\n    matchLabels: {app.kubernetes.io/name: manage-subscriptions}", "  maxUnavailable: 1\n  selector:\n    matchLabels: {app.kubernetes.io/name: other}", "PodDisruptionBudget does not select"},
		{"no drain", "  maxUnavailable: 1\n  selector", "  minAvailable: 2\n  selector", "no node be drained"},
		{"service of others", "selector: {app.kubernetes.io/name: manage-subscriptions}", "selector: {app.kubernetes.io/name: other}", "Service does not select"},
		{"operator's service", "targetPort: http", "targetPort: ops", "only clicks"},
		{"unknown setting", "APP_URL:", "APP_URI:", "APP_URI, which the program does not read"},
		{"secret in the open", "  SHOPIFY_SHOP:", "  RECHARGE_API_TOKEN: x\n  SHOPIFY_SHOP:", "is a secret"},
		{"no such secret", "secretRef: {name: manage-subscriptions}", "secretRef: {name: other}", "Secret other, which is not there"},
		{"loopback", "OPS_ADDR: 0.0.0.0:9090", "OPS_ADDR: 127.0.0.1:9090", "cannot be asked"},
		{"no resources", "limits: {memory: 256Mi}", "limits: {}", "what it needs"},
		{"unknown kind", "kind: Service\n", "kind: Servce\n", "nothing that is known"},
	})
	if found := strings.Join(Kubernetes(p, manifests, strings.Replace(secret, "replace-me", "shpss_0123", 1)), "\n"); !strings.Contains(found, "does not look like an example") {
		t.Errorf("a value in the example: found %q", found)
	}
}

package docs

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// TestDocsCommands runs each command that a document names, and checks that a document
// names every command of the program. Commands that cannot run here are listed with the
// reason.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	d := newTestbed(t)
	elsewhere := map[string]string{
		"go test ./...": "this test is a part of it",
		"bash .ci/run":  "it runs this test",
		"git clone https://github.com/manage-subscriptions/manage-subscriptions": "the repository is not published yet",
		"cd manage-subscriptions":       "it enters that folder",
		"npm ci":                        ".ci/run runs it",
		"npx @shopify/cli app deploy":   "needs an account; TestAppReachesTheServer compares shopify.app.toml with the server",
		"cp .env.example .env":          "newTestbed has run it",
		"openssl rand -base64 32":       "newTestbed has run it",
		"openssl rand -hex 32":          "newTestbed has run it",
		"go mod tidy":                   "the go mod edit before it is tried with it",
		"manage-subscriptions serve":    "newTestbed has run it",
		"manage-subscriptions sandbox":  "TestTerminated runs it",
		"manage-subscriptions campaign": "names the command; it needs arguments, as in docs/commands.md",
		"go run ./bench":                "names the program; make bench runs it",

		"sh .ci/build manage-subscriptions": "TestBuildIsReproducible builds with it",
		"curl -fLO https://github.com/manage-subscriptions/manage-subscriptions/releases/latest/download/manage-subscriptions-linux-amd64": "there is no release yet",
		"curl -fLO https://github.com/manage-subscriptions/manage-subscriptions/releases/latest/download/SHA256SUMS":                       "the same",
		"sha256sum --check --ignore-missing SHA256SUMS":                                                                                             "the same",
		"gh attestation verify manage-subscriptions-linux-amd64 --repo manage-subscriptions/manage-subscriptions":                                   "the same",
		"sudo install -m 755 manage-subscriptions /usr/local/bin/manage-subscriptions":                                                              "it would change this machine; TestPlatforms checks the unit's paths",
		"sudo install -m 600 .env /etc/manage-subscriptions.env":                                                                                    "the same",
		"sudo install -m 644 deploy/manage-subscriptions.service /etc/systemd/system/":                                                              "the same",
		"sudo systemctl enable --now manage-subscriptions":                                                                                          "needs systemd",
		"docker build --tag manage-subscriptions .":                                                                                                 "needs a container engine; TestImageServesClick runs what it builds",
		"docker run --rm --read-only --cap-drop ALL --env-file .env --env OPS_ADDR=0.0.0.0:9090 --publish 127.0.0.1:8080:8080 manage-subscriptions": "the same",
		"docker compose --profile tls up --build --detach --wait":                                                                                   "needs a container engine; TestCaddy clicks through Caddy",
		"docker compose exec server /manage-subscriptions doctor":                                                                                   "the same",
		"docker build --tag registry.example.com/manage-subscriptions:main .":                                                                       "needs a container engine; TestImageServesClick runs what it builds",
		"docker push registry.example.com/manage-subscriptions:main":                                                                                "needs a registry",
		"docker compose up --build --detach":                                                                                                        "the same",
		"cp deploy/fly.toml fly.toml":                                                                                                               "it is for fly launch",
		"fly launch --copy-config --no-deploy":                                                                                                      "needs an account; TestPlatforms checks the file",
		"grep -E '^[A-Z_]+=.' .env | fly secrets import":                                                                                            "the same",
		"fly deploy": "the same",

		"kubectl create namespace subscriptions":                                                                                             "needs a cluster; TestInstallDoc of deploy/helm renders these values, and compares the names",
		"kubectl label namespace subscriptions pod-security.kubernetes.io/enforce=restricted":                                                "needs a cluster; TestPods of deploy/helm checks the level",
		"kubectl --namespace subscriptions create secret generic manage-subscriptions-secrets --from-env-file secrets.env":                   "needs a cluster; TestInstallDoc",
		"helm upgrade --install manage-subscriptions deploy/helm/manage-subscriptions --namespace subscriptions --values values.yaml --wait": "the same",
		"kubectl --namespace subscriptions get deployments":                                                                                  "needs a cluster",
		"sudo cp /usr/local/bin/manage-subscriptions /usr/local/bin/manage-subscriptions.old":                                                "it would change this machine",
		"sudo install -m 755 /usr/local/bin/manage-subscriptions.old /usr/local/bin/manage-subscriptions":                                    "the same",
		"sudo systemctl restart manage-subscriptions":                                                                                        "needs systemd",
		"docker compose up --build --detach --wait":                                                                                          "needs a container engine",
		"helm rollback manage-subscriptions --namespace subscriptions --wait":                                                                "needs a cluster",
		"docker compose exec redis redis-cli SAVE":                                                                                           "needs a container engine",
		"docker compose cp redis:/data/dump.rdb dump.rdb":                                                                                    "the same",
		"kubectl --namespace subscriptions exec deploy/manage-subscriptions -- /manage-subscriptions doctor":                                 "the same",
		"kubectl --namespace subscriptions rollout restart deploy/manage-subscriptions":                                                      "the same",

		"docker compose exec server /manage-subscriptions stores":                                                                                    "needs a container engine; TestOperateDocNamesTheServer checks the names",
		"kubectl --namespace subscriptions exec deploy/manage-subscriptions -- /manage-subscriptions stores":                                         "needs a cluster; the same",
		"sudo systemd-run --quiet --pipe --wait --property EnvironmentFile=/etc/manage-subscriptions.env /usr/local/bin/manage-subscriptions stores": "needs systemd; the same",
		"docker compose logs --no-log-prefix server | grep k3v9x2m7qa":                                                                               "needs a container engine; the same",
		"kubectl --namespace subscriptions logs --selector app.kubernetes.io/name=manage-subscriptions --tail=-1 | grep k3v9x2m7qa":                  "needs a cluster; the same",
		"journalctl --unit manage-subscriptions --output cat | grep k3v9x2m7qa":                                                                      "needs systemd",

		"go get github.com/manage-subscriptions/manage-subscriptions@latest":                                                             "the module is not published yet",
		"env PORTAL_URL=https://subscriptions.example.com PORTAL_API_KEY=example SHOP=my-store.myshopify.com python3 examples/portal.py": "TestLinesWork in sandbox/ runs the line that the sandbox prints",
		"node examples/express.mjs":                 "TestExamples in examples/ runs it",
		"node examples/testdata/serve.mjs hydrogen": "TestExamples in examples/ runs it",
		"node examples/testdata/serve.mjs nextjs":   "TestExamples in examples/ runs it",
		"python3 examples/portal.py":                "TestExamples in examples/ runs it",
		"ruby examples/portal.rb":                   "TestExamples in examples/ runs it",
		"node examples/mobile.mjs":                  "TestMobile in examples/ runs it",
		"curl -X POST http://127.0.0.1:3000/manage-subscriptions -H 'Authorization: Bearer token-of-pat'": "TestMobile in examples/ sends this request",
	}
	named := map[string]bool{}
	commands := typedCommands(t)
	for _, typed := range slices.Sorted(maps.Keys(commands)) {
		if name, rest, program := strings.Cut(typed, " "); program && name == "manage-subscriptions" {
			named[strings.Fields(rest)[0]] = true
		}
		if elsewhere[typed] != "" {
			delete(elsewhere, typed)
			continue
		}
		t.Run(typed, func(t *testing.T) {
			if err := d.try(t, typed); err != nil {
				t.Errorf("%s: %v", commands[typed], err)
			}
		})
	}
	for typed := range elsewhere {
		t.Errorf("%q is listed as an exception, but no document names it", typed)
	}
	help := suite.Command(t, d.folder, d.program, "--help")
	for _, name := range regexp.MustCompile(`(?m)^  ([a-z]+) .*\[flags\]$`).FindAllStringSubmatch(help, -1) {
		if !named[name[1]] {
			t.Errorf("no document names the command %s", name[1])
		}
	}
}

// typedCommands returns the commands in the documents, each with its file: every line of
// an sh block, and whatever begins with a program's name in other code. "go run ." counts
// as this program.
func typedCommands(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	const programs = `(?:manage-subscriptions|go (?:run|test|build|install|mod|get|vet|tool)|npm|npx|node|make|docker|bash|sh|cp|journalctl|` +
		`openssl|curl|redis-cli|promtool|kubectl|helm|python3|ruby|tar|git) `
	inline := regexp.MustCompile("`(" + programs + "[^`]+)`")
	begins := regexp.MustCompile("^" + programs)
	examples, err := filepath.Glob("examples/*.*[bsy]") // .rb, .mjs and .py
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(documents(t), append(examples, ".env.example", "shopify.app.toml")...) {
		text := strings.ReplaceAll(read(t, file), "\\\n", " ")
		var lines []string
		for _, block := range regexp.MustCompile(fenced).FindAllStringSubmatch(text, -1) {
			for line := range strings.SplitSeq(strings.TrimSpace(block[2]), "\n") {
				if line = strings.TrimSpace(line); block[1] == "sh" && line != "" && line[0] != '#' || begins.MatchString(line) {
					lines = append(lines, line)
				}
			}
		}
		text = regexp.MustCompile(fenced).ReplaceAllString(text, "")
		for _, code := range inline.FindAllStringSubmatch(text, -1) {
			lines = append(lines, code[1])
		}
		for _, code := range regexp.MustCompile(`(?m)^(?:    |\t)(\S.*)$`).FindAllStringSubmatch(text, -1) {
			if filepath.Ext(file) == ".md" && begins.MatchString(code[1]) {
				lines = append(lines, code[1])
			}
		}
		for _, line := range lines {
			line, _, _ = strings.Cut(line, " # ")
			for command := range strings.SplitSeq(line, " && ") {
				command = strings.Join(strings.Fields(command), " ")
				if rest, program := strings.CutPrefix(command, "go run . "); program {
					command = "manage-subscriptions " + rest
				}
				found[command] = file
			}
		}
	}
	return found
}

// testbed is a server set up as the README says, with .env filled in, a Redis, and an
// emulated Recharge and Shopify.
type testbed struct {
	program           string // the binary
	folder, key       string
	environ           []string
	storeURL          string
	appURL, portalKey string
	redisURL          string // with the user that docs/redis.md describes
	adminURL          string // with a user who may do anything
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		suite.Missing(t, "no openssl on the PATH")
	}
	rights := match(t, "docs/redis.md", "`(~ms2:.*)`")
	if len(rights) != 1 {
		t.Fatal("docs/redis.md does not have one ACL rule")
	}
	kept := storetest.Redis(t, append([]string{"--user", "app", "on", ">p/w"}, strings.Fields(rights[0][1])...)...)
	const shop, customer, secret = "my-store.myshopify.com", "6100200300400", "fixture-secret"
	person := rechargetest.Customer{
		ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: customer, Email: "pat@example.test",
		Subscriptions: []rechargetest.Subscription{{ID: 50500600, Product: "Coffee"}},
	}
	api := rechargetest.NewServer(rechargetest.Options{
		Shop: shop, StorefrontToken: "storefront_fixture", Customers: []rechargetest.Customer{person},
		Tokens: []rechargetest.Token{{Value: "sk_test_fixture", Scopes: []string{"read_customers", "write_session", "read_store"}, Burst: 40}},
	})
	t.Cleanup(api.Close)
	store := shopifytest.NewServer(shopifytest.Options{Shop: shop, Shoppers: []shopifytest.Shopper{{ID: customer, FirstName: "Pat"}}})
	t.Cleanup(store.Close)
	addr, ops := suite.FreeAddress(t), suite.FreeAddress(t)
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}))
	t.Cleanup(front.Close)
	store.AddApp(shopifytest.App{PathPrefix: "/apps/subscriptions", ProxyURL: "http://" + addr + "/apps/subscriptions", Secret: secret})

	d := &testbed{folder: t.TempDir(), storeURL: store.URL}
	d.program = filepath.Join(d.folder, "manage-subscriptions")
	suite.Command(t, "", "go", "build", "-o", d.program, ".")
	trusted := filepath.Join(d.folder, "front.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(trusted, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	d.environ = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.folder, "SSL_CERT_FILE=" + trusted}
	d.portalKey = strings.TrimSpace(suite.Command(t, "", "openssl", "rand", "-hex", "32"))
	d.appURL, d.redisURL, d.adminURL = front.URL, "redis://app:p%2Fw@"+kept.Addr, "redis://"+kept.Addr
	d.key = strings.TrimSpace(suite.Command(t, "", "openssl", "rand", "-base64", "32"))
	suite.Command(t, "", "cp", ".env.example", filepath.Join(d.folder, ".env"))
	d.fillIn(t, map[string]string{
		"SHOPIFY_API_KEY": "fixture-client-id", "SHOPIFY_API_SECRET": secret, "APP_URL": front.URL, "SHOPIFY_SHOP": shop,
		"RECHARGE_API_TOKEN": "sk_test_fixture", "RECHARGE_STOREFRONT_TOKEN": "storefront_fixture", "RECHARGE_API_URL": api.URL,
		"RECHARGE_PORTAL_URL": api.URL + "/portal/", "ADDR": addr, "OPS_ADDR": ops,
		"REDIS_URL": d.redisURL, "ENCRYPTION_KEY": d.key, "PORTAL_API_KEY": d.portalKey,
	})
	d.serve(t)

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get("http://" + addr + "/apps/subscriptions?" + store.SignedQuery("", customer, "/apps/subscriptions", secret))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if to := response.Header.Get("Location"); !strings.Contains(to, "/"+person.Hash+"/") {
		t.Fatalf("a click = %d %q; want the shopper's own portal", response.StatusCode, to)
	}
	return d
}

// fillIn writes values into .env, where .env.example must have a line for each.
func (d *testbed) fillIn(t *testing.T, values map[string]string) {
	t.Helper()
	file := filepath.Join(d.folder, ".env")
	text := read(t, file)
	for name, value := range values {
		place := regexp.MustCompile("(?m)^" + name + "=.*$")
		if !place.MatchString(text) {
			t.Fatalf(".env.example has no place for %s", name)
		}
		text = place.ReplaceAllLiteralString(text, name+"="+value)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// try runs one command.
func (d *testbed) try(t *testing.T, typed string) error {
	t.Helper()
	soon := time.Now().Add(time.Minute).UTC().Format(time.RFC3339) // when a campaign starts
	typed = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:00:00Z`).ReplaceAllString(typed, soon)
	words := strings.Fields(strings.ReplaceAll(typed, "https://www.brand.example", d.storeURL))
	switch {
	case words[0] == "manage-subscriptions":
		return d.run(t, words[1:])
	case typed == "make help", strings.HasPrefix(typed, "go run ./"):
		suite.Command(t, "", words[0], words[1:]...)
		return nil
	case words[0] == "make": // takes minutes, so only check that the target exists
		suite.Command(t, "", "make", append([]string{"--dry-run"}, words[1:]...)...)
		return nil
	case words[0] == "curl":
		return d.curl(t, typed)
	case words[0] == "redis-cli":
		return d.redis(t, typed)
	case strings.HasPrefix(typed, "go mod edit "):
		return imported(t, typed)
	case strings.HasPrefix(typed, "go test "):
		return goodTest(t, typed)
	}
	return errors.New("this test does not know how to run it")
}

// redis runs redis-cli, which exits with 0 even if Redis refuses a command.
func (d *testbed) redis(t *testing.T, typed string) error {
	t.Helper()
	if _, err := exec.LookPath("redis-cli"); err != nil {
		suite.Missing(t, "no redis-cli on the PATH")
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", typed)
	shell.Env = append(d.environ, "REDIS_URL="+d.redisURL, "REDIS_ADMIN_URL="+d.adminURL)
	said, err := shell.CombinedOutput()
	if lines := strings.TrimSpace(string(said)); err == nil && !regexp.MustCompile(`^(OK|[0-9\n]*|Background append only file rewriting (?:started|scheduled))$`).MatchString(lines) {
		err = errors.New("it prints " + lines)
	}
	return err
}

// curl asks for a link or a forecast, as a store's own server does, and checks the answer.
func (d *testbed) curl(t *testing.T, typed string) error {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		suite.Missing(t, "no curl on the PATH")
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", typed)
	shell.Env = append(d.environ, "PORTAL_URL="+d.appURL, "PORTAL_API_KEY="+d.portalKey)
	said, err := shell.Output()
	wants := []string{`/1f2e3d4c5b6a7988/`, `"signed_in":true`}
	if strings.Contains(typed, "/api/campaigns") {
		wants = []string{`"size":1,`, `"share":1,`}
	}
	missing := func(want string) bool { return !strings.Contains(string(said), want) }
	if err == nil && slices.ContainsFunc(wants, missing) {
		err = errors.New("it prints " + string(said))
	}
	return err
}

// imported checks that another module can import portallink, as the documents say.
func imported(t *testing.T, typed string) error {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	folder := t.TempDir()
	program := "package main\n\nimport \"github.com/manage-subscriptions/manage-subscriptions/portallink\"\n\nfunc main() { println(portallink.Longest.String()) }\n"
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o600); err != nil {
		return err
	}
	typed = strings.ReplaceAll(typed, "=../manage-subscriptions", "="+here)
	for _, step := range []string{"go mod init my-store.example/server", typed, "go mod tidy", "go run ."} {
		words := strings.Fields(step)
		run := exec.CommandContext(t.Context(), words[0], words[1:]...)
		run.Dir = folder
		if said, err := run.CombinedOutput(); err != nil {
			return errors.New(step + ": " + string(said))
		} else if step == "go run ." && !strings.Contains(string(said), "5m0s") {
			return errors.New("it prints " + string(said))
		}
	}
	return nil
}

// run runs this program and checks that it exits with 0 and prints something.
func (d *testbed) run(t *testing.T, args []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, d.program, args...)
	program.Dir, program.Env = d.folder, d.environ
	if args[0] == "rekey" { // otherwise there is nothing to re-encrypt
		program.Env = append(program.Env, "ENCRYPTION_KEY="+d.key+",Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=")
	}
	said, err := program.CombinedOutput()
	if err == nil && len(said) == 0 {
		err = errors.New("it prints nothing")
	}
	if err != nil {
		t.Logf("%s", said)
	}
	return err
}

// serve starts the server and returns when it is ready to serve.
func (d *testbed) serve(t *testing.T) {
	t.Helper()
	server := exec.CommandContext(t.Context(), d.program, "serve")
	server.Dir, server.Env = d.folder, d.environ
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			go func() {
				_, _ = io.Copy(io.Discard, log) // otherwise the pipe fills up and the server blocks
				_ = server.Wait()
			}()
			return
		}
	}
	t.Fatalf("the server ended before it served: %v", server.Wait())
}

// goodTest checks that the tests or benchmarks that a go test command names exist, and the
// flag -update if it is used. It does not run them.
func goodTest(t *testing.T, typed string) error {
	t.Helper()
	words := strings.Fields(strings.ReplaceAll(typed, "'", ""))
	files, err := filepath.Glob(filepath.Join(words[2], "*_test.go"))
	if err != nil || len(files) == 0 {
		return errors.New("no tests there")
	}
	var text strings.Builder
	for _, file := range files {
		text.WriteString(read(t, file))
	}
	for i, word := range words[3:] {
		want := ""
		switch word {
		case "-update":
			want = `flag.Bool("update"`
		case "-run", "-bench":
			if name := strings.TrimSuffix(words[3+i+1], "$"); name != "^" {
				want = "\nfunc " + map[string]string{"-run": "", "-bench": "Benchmark"}[word] + name + "("
			}
		}
		if !strings.Contains(text.String(), want) {
			return errors.New("there is no " + strings.TrimSpace(want))
		}
	}
	return nil
}

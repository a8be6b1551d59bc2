// Package deploy tests what is shipped: the same commit gives the same bytes, the image works with
// only what the Dockerfile puts in it, and the example files fit the program.
package deploy

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	_ "github.com/manage-subscriptions/manage-subscriptions/sandbox" // with its imports, so that a cached result is of the current binary
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestBuildIsReproducible: two clones of the commit in two folders give the same bytes, which do
// not contain the builder's folder.
func TestBuildIsReproducible(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").CombinedOutput(); err != nil {
		suite.Missing(t, "no git repository here: "+string(out))
	}
	var first []byte
	var at string
	for _, name := range []string{"one", "two/deeper"} {
		folder := filepath.Join(t.TempDir(), name)
		suite.Command(t, "", "git", "clone", "--quiet", "--no-hardlinks", ".", folder)
		binary := build(t, folder)
		bytesOf, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first, at = bytesOf, folder
			continue
		}
		if !bytes.Equal(first, bytesOf) {
			t.Errorf("builds in %s and %s differ", at, folder)
		}
		for _, place := range []string{at, folder, strings.TrimSpace(suite.Command(t, "", "go", "env", "GOMODCACHE"))} {
			if bytes.Contains(bytesOf, []byte(place)) {
				t.Errorf("the binary names %s", place)
			}
		}
		said := strings.TrimSpace(suite.Command(t, "", binary, "--version"))
		commit := strings.TrimSpace(suite.Command(t, folder, "git", "rev-parse", "--short=12", "HEAD"))
		tag, _ := exec.CommandContext(t.Context(), "git", "-C", folder, "describe", "--tags", "--exact-match").Output()
		if !strings.Contains(said, commit) && said != strings.TrimSpace(string(tag)) || strings.Contains(said, "dirty") {
			t.Errorf("--version = %q; want the commit %s, or its tag", said, commit)
		}
	}
}

const shopName = "fixture-shop.myshopify.com"

// TestImageServesClick starts what the image starts, without an engine: the binary, in a root that
// holds only what the Dockerfile copies, as the user that it names, who cannot write anywhere. It
// also uses the Dockerfile's health check. In Kubernetes, the server has the environment that the
// Helm chart makes.
func TestImageServesClick(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		suite.Missing(t, "a change of root needs Linux and root")
	}
	image := readImage(t)
	root := t.TempDir()
	fill(t, root, image)
	alone := map[string]string{
		"SHOPIFY_API_KEY": "fixture", "SHOPIFY_API_SECRET": "fixture-secret", "SHOPIFY_SHOP": shopName,
		"APP_URL": "https://app.example", "RECHARGE_API_TOKEN": "sk_test_fixture",
	}
	for name, environment := range map[string]map[string]string{
		"alone": alone, "one store in Kubernetes": charted(t, "one-store", image), "many stores in Kubernetes": charted(t, "many-stores", image),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servesClick(t, root, image, environment)
		})
	}
}

// servesClick starts the image's server, clicks and ends it. Of the environment, it replaces only
// addresses: those of the emulated Recharge, of Redis and of the listeners.
func servesClick(t *testing.T, root string, image image, environment map[string]string) {
	person := rechargetest.Customer{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400"}
	api := rechargetest.NewServer(rechargetest.Options{
		Shop: shopName, Customers: []rechargetest.Customer{person}, StorefrontToken: "storefront_fixture",
		Tokens: []rechargetest.Token{{
			Value: "sk_test_fixture", Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000, ClientSecret: "fixture-client-secret",
		}},
	})
	defer api.Close()
	shop := shopifytest.NewServer(shopifytest.Options{Shop: shopName})
	defer shop.Close()
	environment["RECHARGE_API_URL"], environment["ADDR"], environment["OPS_ADDR"] = api.URL, "127.0.0.1:0", suite.FreeAddress(t)
	if environment["REDIS_URL"] != "" {
		environment["REDIS_URL"] = "redis://" + storetest.Redis(t).Addr
	}
	inside := func(argv []string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		c.Dir, c.Env = "/", []string{}
		for name, value := range environment {
			c.Env = append(c.Env, name+"="+value)
		}
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: image.uid, Gid: image.gid}}
		return c
	}
	healthy := func() (string, error) {
		said, err := inside(image.healthcheck).CombinedOutput()
		return string(said), err
	}
	if said, err := healthy(); err == nil {
		t.Errorf("health check before the start: %q; want a failure", said)
	}

	server := inside(append(image.entrypoint, image.cmd...))
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	var log strings.Builder
	lines := bufio.NewScanner(io.TeeReader(stderr, &log))
	for addr == "" && lines.Scan() {
		var line struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			addr = line.Addr
		}
	}
	ended := make(chan error, 1)
	go func() {
		for lines.Scan() { // otherwise the pipe fills up and the server blocks
		}
		ended <- server.Wait()
	}()
	if addr == "" {
		t.Fatalf("it does not serve: %v\n%s", <-ended, log.String())
	}

	if said, err := healthy(); err != nil {
		t.Errorf("health check: %v %s; want exit code 0", err, said)
	}
	if status, err := os.ReadFile("/proc/" + strconv.Itoa(server.Process.Pid) + "/status"); err != nil || !strings.Contains(string(status), "\nUid:\t65532\t65532\t65532\t65532") {
		t.Errorf("the process' user is not 65532 alone (%v):\n%s", err, status)
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if environment["SHOPIFY_SHOP"] == "" {
		connect(t, client, addr, shop, environment)
	}
	response, err := client.Get("http://" + addr + "/apps/subscriptions?" + shop.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", "fixture-secret"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if at := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.Contains(at, "/"+person.Hash+"/") {
		t.Errorf("a click = %d %q; want 302 to the shopper's own portal", response.StatusCode, at)
	}

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM: %v; want exit code 0\n%s", err, log.String())
	}
	if said, err := healthy(); err == nil {
		t.Errorf("health check after the end: %q; want a failure", said)
	}
}

// charted returns the environment that the Helm chart gives to the server for the values in
// deploy/helm/testdata. The chart's own test compares the file with what the chart makes.
func charted(t *testing.T, name string, image image) map[string]string {
	t.Helper()
	file := "deploy/helm/testdata/" + name + ".rendered.yaml"
	environment := map[string]string{}
	for _, row := range match(t, file, `(?m)^  ([A-Z_]+): (".*")$`) {
		value, err := strconv.Unquote(row[2])
		if err != nil {
			t.Fatalf("%s: %s: %v", file, row[0], err)
		}
		environment[row[1]] = value
	}
	for _, row := range match(t, file, `(?m)^            - \{name: ([A-Z_]+), value: (\S+)\}$`) {
		environment[row[1]] = row[2]
	}
	check(t, file, read(t, file), []rule{
		{`^          args: \[` + strings.Join(image.cmd, ", ") + `\]$`, "it starts what the image starts"},
		{fmt.Sprintf(`^        runAsUser: %d\n        runAsGroup: %d$`, image.uid, image.gid), "it is the image's user"},
		{`^            - configMapRef: \{name: manage-subscriptions\}\n            - secretRef: \{name: manage-subscriptions\}$`, "both are there"},
	}, nil)
	if environment["GOMEMLIMIT"] == "" || environment["REDIS_URL"] == "" || environment["APP_URL"] == "" {
		t.Fatalf("%s has the environment %v; this test cannot read the file", file, environment)
	}
	return environment
}

// connect saves the store's Recharge tokens in the app home, as its merchant does.
func connect(t *testing.T, client *http.Client, addr string, shop *shopifytest.Server, environment map[string]string) {
	t.Helper()
	key := environment["SHOPIFY_API_KEY"]
	shop.Register(shopifytest.PartnerApp{ClientID: key, Secret: environment["SHOPIFY_API_SECRET"], PathPrefix: "/apps/subscriptions"})
	form := url.Values{"token": {"sk_test_fixture"}, "storefront": {"storefront_fixture"}, "secret": {"fixture-client-secret"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/app/connect", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+shop.SessionToken(key))
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), `data-result="saved"`) {
		t.Fatalf("connecting the store: %d %v\n%s", response.StatusCode, err, body)
	}
}

// TestDockerignore: if the build does not get a tracked file, the version of every image ends in
// "+dirty".
func TestDockerignore(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").CombinedOutput(); err != nil {
		suite.Missing(t, "no git repository here: "+string(out))
	}
	if tracked := suite.Command(t, "", "git", "ls-files", "--cached", "--ignored", "--exclude-from=.dockerignore"); tracked != "" {
		t.Errorf(".dockerignore keeps tracked files from the build:\n%s", tracked)
	}
}

// image is the content of the Dockerfile's last stage.
type image struct {
	copies                       map[string]string // from the build's file system to the image's
	uid, gid                     uint32
	entrypoint, cmd, healthcheck []string
}

func readImage(t *testing.T) image {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, stage, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		t.Fatal("the Dockerfile's last stage is not FROM scratch: this test knows no other files of it")
	}
	i := image{copies: map[string]string{}}
	for _, c := range regexp.MustCompile(`(?m)^COPY --from=build (\S+) (\S+)$`).FindAllStringSubmatch(stage, -1) {
		i.copies[c[1]] = c[2]
	}
	if n := strings.Count(stage, "\nCOPY ") + strings.Count(stage, "\nADD "); strings.HasPrefix(stage, "COPY ") && n+1 != len(i.copies) {
		t.Fatalf("the last stage copies %d times; this test understands %d", n+1, len(i.copies))
	}
	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(stage)
	if user == nil {
		t.Fatal("no USER with two numbers")
	}
	uid, _ := strconv.ParseUint(user[1], 10, 32)
	gid, _ := strconv.ParseUint(user[2], 10, 32)
	i.uid, i.gid = uint32(uid), uint32(gid)
	for pattern, into := range map[string]*[]string{
		`(?m)^ENTRYPOINT (\[.*\])$`: &i.entrypoint, `(?m)^CMD (\[.*\])$`: &i.cmd, `(?m)^HEALTHCHECK .*CMD (\[.*\])$`: &i.healthcheck,
	} {
		form := regexp.MustCompile(pattern).FindStringSubmatch(stage)
		if form == nil || json.Unmarshal([]byte(form[1]), into) != nil {
			t.Fatalf("no %s in the last stage", pattern)
		}
	}
	return i
}

// fill puts the image's files into root: the binary as built for a release, and this machine's copy
// of every other file.
func fill(t *testing.T, root string, i image) {
	t.Helper()
	if err := os.Chmod(root, 0o755); err != nil { // the image's user must be able to enter
		t.Fatal(err)
	}
	for from, to := range i.copies {
		if from == i.entrypoint[0] {
			from = build(t, ".")
			statically(t, from)
		}
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// statically checks that a binary needs no loader and no shared library.
func statically(t *testing.T, binary string) {
	t.Helper()
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has %v", part.Type)
		}
	}
}

// build builds the program in folder as for a release.
func build(t *testing.T, folder string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "manage-subscriptions")
	suite.Command(t, "", "sh", filepath.Join(folder, ".ci/build"), binary)
	return binary
}

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/shopify/shopifytest"
	"manage-subscriptions/templates"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the README's table of settings")
	testscript.Main(m, map[string]func(){
		"manage-subscriptions": main,
	})
}

// TestCommands runs the program as a person does; testdata/script reads as its
// manual.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestTerminated: a supervisor's SIGTERM is an orderly end.
func TestTerminated(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"sandbox", "--port=0"}, nil, in, t.Output())
		_ = in.Close()
	}()
	said := make([]byte, 1)
	if _, err := out.Read(said); err != nil { // the welcome: it is up
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-exit; got != 0 {
		t.Errorf("exit code after SIGTERM = %d; want 0", got)
	}
}

// TestTerminatedUnderLoad: a real process under steady load gets a real SIGTERM.
// Whoever looks at /readyz before each click gets an answer to each, and the exit
// code is 0.
func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	people := []rechargetest.Customer{
		{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400"},
		{ID: 70100300, Hash: "2e3d4c5b6a798811", ShopifyCustomerID: "6100200300500"},
	}
	api := rechargetest.NewServer(rechargetest.Options{
		Shop: "fixture-shop.myshopify.com", Customers: people,
		Tokens: []rechargetest.Token{{Value: "sk_test_fixture", Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000}},
	})
	defer api.Close()
	api.SetFaults(func(f *rechargetest.Faults) { f.Latency = 30 * time.Millisecond })
	shop := shopifytest.NewServer(shopifytest.Options{Shop: "fixture-shop.myshopify.com"})
	defer shop.Close()
	addr, ops, ended, process := serveProcess(t, map[string]string{
		"SHOPIFY_API_KEY": "fixture", "SHOPIFY_API_SECRET": "fixture-secret", "SHOPIFY_SHOP": "fixture-shop.myshopify.com", "APP_URL": "https://app.example",
		"RECHARGE_API_TOKEN": "sk_test_fixture", "RECHARGE_API_URL": api.URL, "LINK_TTL": "0s", "RECHARGE_RATE": "1000,10000",
	})
	get := func(address string) (*http.Response, error) {
		client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := client.Get("http://" + address)
		if err == nil {
			_ = response.Body.Close()
		}
		return response, err
	}
	ready := func() bool {
		response, err := get(ops + "/readyz")
		return err == nil && response.StatusCode == http.StatusOK
	}
	var clicks atomic.Int64
	var load sync.WaitGroup
	for _, person := range people {
		for range 3 {
			load.Go(func() {
				for ready() {
					response, err := get(addr + "/apps/subscriptions?" + shop.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", "fixture-secret"))
					switch {
					case err != nil:
						t.Errorf("a click gets no answer: %v", err)
					case !strings.Contains(response.Header.Get("Location"), "/"+person.Hash+"/"):
						t.Errorf("a click of %s = %d %q; want the shopper's own portal", person.Hash, response.StatusCode, response.Header.Get("Location"))
					}
					if clicks.Add(1) == 50 {
						_ = process.Signal(syscall.SIGTERM)
					}
				}
			})
		}
	}
	load.Wait()
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM: %v; want exit code 0", err)
	}
	if n := clicks.Load(); n < 50 {
		t.Errorf("%d clicks; want 50 before the signal", n)
	}
}

// TestTerminatedTwice: who cannot wait signals again, and it is over at once.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	_, _, ended, process := serveProcess(t, map[string]string{
		"SHOPIFY_API_KEY": "fixture", "SHOPIFY_API_SECRET": "fixture-secret", "SHOPIFY_SHOP": "fixture-shop.myshopify.com", "APP_URL": "https://app.example",
	})
	// The first is taken in; from some moment on, the next is not.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		_ = process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it ended in order; want the second signal to end it at once")
			}
			return
		case <-again.C:
		}
	}
}

// serveProcess runs this binary as 'manage-subscriptions serve', and returns when
// it serves.
func serveProcess(t *testing.T, environ map[string]string) (addr, ops string, ended <-chan error, process *os.Process) {
	t.Helper()
	var env []string
	for name, value := range environ {
		env = append(env, name+"="+value)
	}
	return serveIn(t, t.TempDir(), env, "serve", "--addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0") // there is no .env
}

func serveIn(t *testing.T, folder string, environ []string, args ...string) (addr, ops string, ended <-chan error, process *os.Process) {
	t.Helper()
	command := thisProgram(t.Context(), t, args...)
	command.Dir, command.Env = folder, environ
	said, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for addr == "" && lines.Scan() {
		var line struct {
			Msg, Addr string
			OpsAddr   string `json:"ops_addr"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			addr, ops = line.Addr, line.OpsAddr
		}
	}
	end := make(chan error, 1)
	go func() {
		for lines.Scan() { // or the pipe fills up and it stands still
		}
		end <- command.Wait()
	}()
	if addr == "" {
		t.Fatalf("it does not serve: %v", <-end)
	}
	return addr, ops, end, command.Process
}

// TestDocsSayWhatIsRead holds .env.example together with the settings, and the
// README's table, which it writes with -update.
func TestDocsSayWhatIsRead(t *testing.T) {
	parser, err := kong.New(&config.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	required := missing(t)
	want := map[string]string{}
	table := "| name | meaning | default |\n|---|---|---|\n"
	for _, flag := range parser.Model.Flags {
		if flag.Group == nil {
			continue
		}
		name := config.EnvName(flag.Name)
		want[name] = flag.Default
		standard := "empty"
		switch {
		case flag.HasDefault:
			standard = "`" + flag.Default + "`"
		case required[name]:
			standard = "required"
		}
		table += fmt.Sprintf("| `%s` | %s | %s |\n", name, regexp.MustCompile(`'([^' ]+)'`).ReplaceAllString(config.Meaning(flag.Name), "`$1`"), standard)
	}
	readme := read(t, "README.md")
	before, rest, found := strings.Cut(readme, "<!-- settings -->\n")
	shown, after, closed := strings.Cut(rest, "<!-- /settings -->\n")
	switch {
	case !found || !closed:
		t.Error("the README has no place for the table of settings")
	case shown != table && flag.Lookup("update").Value.String() == "true":
		if err := os.WriteFile("README.md", []byte(before+"<!-- settings -->\n"+table+"<!-- /settings -->\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case shown != table:
		t.Errorf("the README's settings are not those of config; go test . -run %s -update writes them (-README +config):\n%s", t.Name(), cmp.Diff(shown, table))
	}
	example := map[string]string{}
	for _, row := range match(t, ".env.example", "(?m)^([A-Z_]+)=(.*)$") {
		example[row[1]] = row[2]
	}
	if diff := cmp.Diff(want, example); diff != "" {
		t.Errorf("settings in .env.example (-read +example):\n%s", diff)
	}
}

// missing are the names of settings without which one store cannot be served.
func missing(t *testing.T) map[string]bool {
	t.Helper()
	var settings config.Settings
	parser, err := kong.New(&settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"--shopify-shop=x.myshopify.com"}); err != nil {
		t.Fatal(err)
	}
	var problems config.Problems
	if _, err := settings.Check(); !errors.As(err, &problems) {
		t.Fatalf("%v; want a list of what is missing", err)
	}
	names := map[string]bool{}
	for _, problem := range problems {
		names[problem.Name] = true
	}
	return names
}

// TestThemesDocSaysWhatIs holds docs/themes.md together with what it describes.
func TestThemesDocSaysWhatIs(t *testing.T) {
	const doc = "docs/themes.md"
	t.Run("variables", func(t *testing.T) {
		want := map[string]map[string]bool{}
		for _, source := range []string{"templates/pages/frame.liquid", "extensions/manage-subscriptions-theme/assets/manage-subscriptions.css"} {
			for _, use := range match(t, source, `var\((--manage-subscriptions-[a-z-]+), ((?:[^()]|\([^()]*\))+)\)`) {
				if want[use[1]] == nil {
					want[use[1]] = map[string]bool{}
				}
				want[use[1]][use[2]] = true
			}
		}
		got := map[string]map[string]bool{}
		for _, row := range match(t, doc, "(?m)^\\| `(--manage-subscriptions-[a-z-]+)` \\|.*\\| (.+) \\|$") {
			got[row[1]] = map[string]bool{}
			for _, value := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
				got[row[1]][value[1]] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("variables (-styles +docs):\n%s", diff)
		}
	})
	t.Run("destinations", func(t *testing.T) {
		rows := match(t, doc, "(?m)^\\| (?:nothing, or )?`/([^`]+)` \\|")
		for _, row := range rows {
			to := strings.ReplaceAll(row[1], "<id>", "1")
			if got := recharge.ParseDestination(to); string(got) != to {
				t.Errorf("ParseDestination(%q) = %q; want what the doc promises", to, got)
			}
		}
		if len(rows) != 8 {
			t.Errorf("the doc has %d destinations; want all 8", len(rows))
		}
	})
	t.Run("languages", func(t *testing.T) {
		pages, err := templates.Load()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range pages.Languages() {
			tag, err := language.Parse(code)
			if err != nil {
				t.Fatal(err)
			}
			base, _ := tag.Base()
			name, _, _ := strings.Cut(display.English.Languages().Name(base), " ") // "Norwegian Bokmål"
			if !strings.Contains(string(text), name) {
				t.Errorf("the doc does not name %s (%s)", name, code)
			}
		}
		if readme := match(t, "README.md", `in (\d+) languages`); len(readme) != 1 || readme[0][1] != strconv.Itoa(len(pages.Languages())) {
			t.Errorf("the README says %v; there are %d languages", readme, len(pages.Languages()))
		}
	})
	t.Run("pages", func(t *testing.T) {
		var want, got []string
		for _, page := range match(t, doc, "(?m)^\\| `([a-z_]+)` \\| .* \\| .* \\|$") {
			got = append(got, "templates/pages/"+page[1]+".liquid")
		}
		files, err := filepath.Glob("templates/pages/*.liquid")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if file != "templates/pages/frame.liquid" {
				want = append(want, file)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the doc has the pages %v; want %v", got, want)
		}
	})
	t.Run("pictures", func(t *testing.T) {
		shown := map[string]bool{}
		for _, file := range []string{"README.md", doc, "docs/install.md"} {
			for _, picture := range match(t, file, `\]\(([a-z/-]+\.png)\)`) {
				shown[filepath.Join(filepath.Dir(file), picture[1])] = true
			}
		}
		there := map[string]bool{}
		for _, pattern := range []string{"docs/*.png", "docs/*/*.png"} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				there[file] = true
			}
		}
		if diff := cmp.Diff(there, shown); diff != "" {
			t.Errorf("pictures (-there +shown):\n%s", diff)
		}
	})
}

// TestInstallDocSaysWhatIs: what a merchant is told to look for in the app home is
// called that there, and each setting that it names is one.
func TestInstallDocSaysWhatIs(t *testing.T) {
	const doc = "docs/install.md"
	var home strings.Builder
	files, err := filepath.Glob("templates/admin/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		home.WriteString(strings.ReplaceAll(string(text), "&amp;", "&"))
	}
	_, merchants, ok := strings.Cut(read(t, doc), "## In each store")
	if !ok {
		t.Fatal("the doc has no part for merchants")
	}
	named := regexp.MustCompile(`\*\*([A-Z][A-Za-z &→-]+)\*\*`).FindAllStringSubmatch(merchants, -1)
	if len(named) < 10 {
		t.Errorf("the doc names %d things of the app home and of Recharge; want all that are to be clicked", len(named))
	}
	steps := map[string]bool{"Install": true, "Make the tokens in Recharge": true, "Paste them": true, "Click it": true, "Connect → Disconnect": true}
	for _, name := range named {
		if !strings.Contains(home.String(), name[1]) && !steps[name[1]] {
			t.Errorf("the doc names %q, which is nowhere in the app home", name[1])
		}
	}
	settings := map[string]bool{}
	for _, row := range match(t, "README.md", "(?m)^\\| `([A-Z_]+)` \\|") {
		settings[row[1]] = true
	}
	for _, name := range match(t, doc, "`([A-Z]+_[A-Z_]+)[=`]") {
		if !settings[name[1]] {
			t.Errorf("the doc names the setting %s, which there is not", name[1])
		}
	}
}

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

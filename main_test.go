package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"manage-subscriptions": main,
	})
}

// TestCommands runs the program as a person does. testdata/script reads as its manual.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestTerminated: a supervisor's SIGTERM ends the program in order.
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
	said := bufio.NewScanner(out)
	for range 2 { // the line that it is starting, and the welcome
		if !said.Scan() {
			t.Fatal(said.Err())
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-exit; got != 0 {
		t.Errorf("exit code after SIGTERM = %d; want 0", got)
	}
}

// TestSandboxTakesItsPort: the sandbox says that its usual port is taken, and opens at another. A port that was asked
// for must be free.
func TestSandboxTakesItsPort(t *testing.T) {
	t.Parallel()
	usual, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", sandboxPort))
	if err == nil { // otherwise, somebody else has it
		defer func() { _ = usual.Close() }()
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"sandbox"}, nil, in, io.Discard)
		_ = in.Close()
	}()
	var said string
	for lines := bufio.NewScanner(out); !strings.Contains(said, "Ctrl-C") && lines.Scan(); {
		said += lines.Text() + "\n"
	}
	at := regexp.MustCompile(`\nPort 8088 is taken, so Sandbox Coffee is at (http://127\.0\.0\.1:\d+/)\n`).FindStringSubmatch(said)
	if at == nil {
		t.Fatalf("it says %q; want where it is", said)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	response, err := http.Get(at[1])
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("GET %s = %v, %v; want 200", at[1], response, err)
	}
	stop()
	if got := <-exit; got != 0 {
		t.Errorf("exit code = %d; want 0", got)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	var failed strings.Builder
	code := run(t.Context(), []string{"sandbox", "--port=" + port}, nil, io.Discard, &failed)
	if want := "open Sandbox Coffee at port " + port; code != exitFailed || !strings.Contains(failed.String(), want) {
		t.Errorf("with a taken port: exit code %d, %q; want %d, %q", code, failed.String(), exitFailed, want)
	}
}

// TestTerminatedUnderLoad: a real process under steady load gets a real SIGTERM. A client that checks
// /readyz before each click gets an answer to each, and the exit code is 0.
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

// TestTerminatedTwice: a second signal ends the program at once.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	_, _, ended, process := serveProcess(t, map[string]string{
		"SHOPIFY_API_KEY": "fixture", "SHOPIFY_API_SECRET": "fixture-secret", "SHOPIFY_SHOP": "fixture-shop.myshopify.com", "APP_URL": "https://app.example",
	})
	// The program handles the first signal, and soon after that no other.
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

// serveProcess runs this binary as 'manage-subscriptions serve' and returns once it serves.
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
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary)
	command.Args = append([]string{"manage-subscriptions"}, args...)
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
		for lines.Scan() { // or the pipe fills up and the process hangs
		}
		end <- command.Wait()
	}()
	if addr == "" {
		t.Fatalf("it does not serve: %v", <-end)
	}
	return addr, ops, end, command.Process
}

// TestHealthcheck: only a 200 from /readyz itself means healthy. The command needs no secret.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	var asked string
	answer := http.StatusOK
	ops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answer)
	}))
	defer ops.Close()
	_, port, _ := net.SplitHostPort(ops.Listener.Addr().String())
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for _, test := range []struct {
		name, opsAddr string
		answer, want  int
		says          string
	}{
		{"ready", "0.0.0.0:" + port, 200, 0, "ready"},
		{"draining", "127.0.0.1:" + port, 503, 1, "503"},
		{"redirected", "127.0.0.1:" + port, 302, 1, "302"},
		{"nobody there", "127.0.0.1:1", 0, 1, "refused"},
		{"silent", silent.Addr().String(), 0, 1, "deadline"},
		{"no address", "nonsense", 0, 1, "OPS_ADDR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, asked = test.answer, ""
			var out, errs strings.Builder
			got := run(t.Context(), []string{"healthcheck"}, []string{"OPS_ADDR=" + test.opsAddr, "HTTP_PROXY=http://127.0.0.1:1"}, &out, &errs)
			if got != test.want || !strings.Contains(out.String()+errs.String(), test.says) {
				t.Errorf("exit code %d, %q %q; want %d with %q", got, out.String(), errs.String(), test.want, test.says)
			}
			if test.answer != 0 && asked != "/readyz" {
				t.Errorf("it asked %q; want /readyz and nothing after it", asked)
			}
		})
	}
}

// TestHealthcheckHasServesDefault: without OPS_ADDR, healthcheck and serve use the same address.
func TestHealthcheckHasServesDefault(t *testing.T) {
	defaults := map[string]string{}
	for name, settings := range map[string]any{"serve": &config.Settings{}, "healthcheck": &healthcheckCommand{}} {
		parser, err := kong.New(settings)
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range parser.Model.Flags {
			if flag.Name == "ops-addr" {
				defaults[name] = flag.Default
			}
		}
	}
	if defaults["serve"] == "" || defaults["serve"] != defaults["healthcheck"] {
		t.Errorf("defaults of OPS_ADDR: %v; want one", defaults)
	}
}

// TestSilentConnectionsCostLittle: of 6,000 connections that send a part of a request, a real process with
// a real Redis and one processor keeps 512, which cost about 15 MiB. Without a limit they cost 90. Requests
// among them are answered.
func TestSilentConnectionsCostLittle(t *testing.T) {
	addr, _, _, process := serveProcess(t, map[string]string{
		"SHOPIFY_API_KEY": "fixture", "SHOPIFY_API_SECRET": "fixture-secret", "SHOPIFY_SHOP": "fixture-shop.myshopify.com", "APP_URL": "https://app.example",
		"REDIS_URL": "redis://" + storetest.Redis(t).Addr, "GOMAXPROCS": "1",
	})
	uses := func() (mib, files int) {
		proc := "/proc/" + strconv.Itoa(process.Pid)
		status, err := os.ReadFile(proc + "/status")
		open, _ := os.ReadDir(proc + "/fd")
		if err != nil {
			suite.Missing(t, "only Linux says here what a process uses")
		}
		_, resident, _ := strings.Cut(string(status), "VmRSS:")
		if _, err := fmt.Sscan(resident, &mib); err != nil {
			t.Fatal(err)
		}
		return mib / 1024, len(open)
	}
	before, _ := uses()
	var honest []net.Conn
	for i := range 6000 {
		connection, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = connection.Close() }()
		request := "GET /app/home.css HTTP/1.1\r\nHost: a\r\n"
		if i%100 == 50 {
			request += "\r\n"
			honest = append(honest, connection)
		}
		_, _ = io.WriteString(connection, request) // it may be closed already
	}
	for i, connection := range honest {
		_ = connection.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := http.ReadResponse(bufio.NewReader(connection), nil); err != nil {
			t.Errorf("request %d of %d gets no answer: %v", i, len(honest), err)
		}
	}
	after, files := uses()
	build, _ := debug.ReadBuildInfo() // the race detector needs more memory than the connections
	race := slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
	if cost := after - before; files > 700 || cost > 60 && !race {
		t.Errorf("6,000 silent connections cost %d MiB and %d files; want at most 60 and 700", cost, files)
	}
}

package deploy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
)

// TestCaddy clicks through a real Caddy with the Caddyfile of docker-compose.yml, and with its two changes for a machine
// without compose, as in docs/install.md. Shopify's signature is over the query, so that must arrive as it was sent, and
// a click during a restart waits for the server.
func TestCaddy(t *testing.T) {
	t.Parallel()
	for name, written := range map[string]bool{"compose": false, "the host written in": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clickThroughCaddy(t, written)
		})
	}
}

func clickThroughCaddy(t *testing.T, hostWritten bool) {
	t.Helper()
	if _, err := exec.LookPath("caddy"); err != nil {
		suite.Missing(t, "no caddy here")
	}
	backend, front := suite.FreeAddress(t), suite.FreeAddress(t)
	_, port, _ := net.SplitHostPort(front)
	folder := t.TempDir()
	file := filepath.Join(folder, "Caddyfile")
	text := strings.ReplaceAll(read(t, "deploy/Caddyfile"), "server:8080", backend)
	if !strings.Contains(text, backend) {
		t.Fatal("the Caddyfile does not name server:8080, as docker-compose.yml does")
	}
	if hostWritten {
		text = strings.Replace(text, "{$APP_URL} {", "localhost:"+port+" {", 1)
	}
	_, free, _ := net.SplitHostPort(suite.FreeAddress(t))
	quiet := fmt.Sprintf("{\n\tadmin off\n\tskip_install_trust\n\thttp_port %s\n", free)
	text = strings.Replace(text, "\n{\n", "\n"+quiet, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	caddy := exec.CommandContext(t.Context(), "caddy", "run", "--config", file, "--adapter", "caddyfile")
	caddy.Env = []string{"HOME=" + folder, "XDG_DATA_HOME=" + folder, "XDG_CONFIG_HOME=" + folder}
	if !hostWritten {
		caddy.Env = append(caddy.Env, "APP_URL=https://localhost:"+port)
	}
	var said strings.Builder
	caddy.Stderr = &said
	if err := caddy.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = caddy.Process.Signal(syscall.SIGTERM)
		_ = caddy.Wait() // it has written its log
	})
	t.Cleanup(func() {
		if stop(); t.Failed() {
			t.Log(said.String())
		}
	})
	insecure := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"} // its own authority has signed the certificate
	dialer := &tls.Dialer{Config: insecure}
	for end := time.Now().Add(time.Minute); ; { // until it has a certificate
		conn, err := dialer.DialContext(t.Context(), "tcp", front)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("caddy does not listen: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}

	const asked = "/apps/subscriptions/orders?b=%2F%20+&shop=x.myshopify.com&ids%5B%5D=1&ids%5B%5D=2&signature=ab"
	got := make(chan string, 1)
	var server atomic.Pointer[http.Server]
	go func() { // Caddy already waits for the server when this begins
		time.Sleep(500 * time.Millisecond)
		var config net.ListenConfig
		listener, err := config.Listen(context.Background(), "tcp", backend)
		if err != nil {
			got <- err.Error()
			return
		}
		server.Store(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got <- r.RequestURI
			http.Redirect(w, r, "https://portal.example/", http.StatusFound)
		})})
		_ = server.Load().Serve(listener)
	}()
	client := &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{TLSClientConfig: insecure},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Get("https://localhost:" + port + asked)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusFound {
		t.Errorf("through Caddy, while the server starts: %d; want 302", response.StatusCode)
	}
	if uri := <-got; uri != asked {
		t.Errorf("the server was asked for %q; want %q", uri, asked)
	}

	_ = server.Load().Close()
	response, err = client.Get("https://localhost:" + port + asked)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	stop()
	if log := said.String(); response.StatusCode != http.StatusBadGateway || !strings.Contains(log, "/apps/subscriptions/orders?...") ||
		strings.Contains(log, "signature") {
		t.Errorf("without a server: %d; want 502, and a line in the log without the query", response.StatusCode)
	}
}

// TestPlatforms: the examples for Fly.io, Render and systemd set only what the program reads, no secret, and give it
// time to end.
func TestPlatforms(t *testing.T) {
	const fly, render, unit = "deploy/fly.toml", "deploy/render.yaml", "deploy/manage-subscriptions.service"
	check(t, fly, read(t, fly), []rule{
		{`^internal_port = 8080$`, "ADDR's default"},
		{`^force_https = true$`, "Shopify wants TLS"},
		{`^auto_stop_machines = "off"$`, "a shopper must not wait for a machine to start"},
		{`^kill_signal = "SIGTERM"$`, "the server ends in order"},
		{`^dockerfile = "Dockerfile"$`, "it is built as everywhere"},
		{`^\[checks\.ready\]\ntype = "http"\nport = 9090\npath = "/readyz"$`, "the proxy must know"},
		{`^OPS_ADDR = ":9090"$`, "checks and metrics come from outside the machine"},
	}, nil)
	longEnough(t, fly, `(?m)^kill_timeout = (\d+)$`)
	check(t, render, read(t, render), []rule{
		{`runtime: docker\n +dockerfilePath: \./Dockerfile$`, "it is built as everywhere"},
		{`key: PORT[^\n]*\n +value: "8080"\n +- key: ADDR\n +value: ":8080"$`, "both name one port"},
		{`maxmemoryPolicy: noeviction$`, "Redis must not evict a connection"},
		{`ipAllowList: \[\]`, "Redis must not be public"},
	}, []rule{{`^ *healthCheckPath:`, "the public port has no probes"}})
	longEnough(t, render, `(?m)^    maxShutdownDelaySeconds: (\d+)$`)
	check(t, unit, read(t, unit), []rule{
		{`^ExecStart=/usr/local/bin/manage-subscriptions serve$`, "docs/install.md puts the binary there"},
		{`^EnvironmentFile=/etc/manage-subscriptions\.env$`, "docs/install.md puts the settings there"},
		{`^RestartPreventExitStatus=2$`, "wrong settings stay wrong"},
		{`^DynamicUser=yes$`, "it is not root"},
		{`^ProtectSystem=strict$`, "it writes nothing"},
	}, nil)
	longEnough(t, unit, `(?m)^TimeoutStopSec=(\d+)s$`)
	known := settings(t)
	for file, pattern := range map[string]string{fly: `(?m)^([A-Z_]+) = `, render: `(?m)^      - key: ([A-Z_]+)`} {
		for _, name := range match(t, file, pattern) {
			if _, ok := known[name[1]]; !ok && name[1] != "PORT" { // PORT is Render's own
				t.Errorf("%s sets %s, which the program does not read", file, name[1])
			}
			if file == fly && regexp.MustCompile(`TOKEN|SECRET|KEY|REDIS_URL`).MatchString(name[1]) {
				t.Errorf("%s sets %s, which belongs into a secret", file, name[1])
			}
		}
	}
}

// TestRelease: a release's notes are its section of CHANGELOG.md, and its image has the tags that people may follow.
func TestRelease(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, ".ci"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".ci/release":  read(t, ".ci/release"),
		"CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n- new\n\n## 1.2.0 (2026-12-01)\n\n- **one**\n\n### Two\n\n- three\n\n## v0.9.0\n\n- old\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	suite.Command(t, folder, "git", "init", "--quiet")
	suite.Command(t, folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--allow-empty", "--message", "a")
	for _, c := range []struct{ what, version, want string }{
		{"tags", "v0.3.1", "v0.3.1 v0.3 latest"},
		{"tags", "v1.2.0", "v1.2.0 v1.2 v1 latest"},
		{"tags", "v1.2.0-rc.1", "v1.2.0-rc.1"},
		{"tags", "v1.1.9", "v1.1.9 v1.1"}, // older than v1.2.0
		{"notes", "v1.2.0", "- **one** ### Two - three"},
		{"notes", "v0.9.0", "- old"},
	} {
		if c.what == "tags" {
			suite.Command(t, folder, "git", "tag", c.version)
		}
		if got := strings.Join(strings.Fields(suite.Command(t, folder, "sh", ".ci/release", c.what, c.version)), " "); got != c.want {
			t.Errorf("release %s %s = %q; want %q", c.what, c.version, got, c.want)
		}
	}
	for _, args := range [][]string{{"tags", "v1.2.3foo"}, {"tags", "v1.2"}, {"tags", "latest"}, {"notes", "v1.2.1"}, {"notes", "v1.2"}, {"other", "v1.2.0"}} {
		command := exec.CommandContext(t.Context(), "sh", append([]string{".ci/release"}, args...)...)
		command.Dir = folder
		if out, err := command.CombinedOutput(); err == nil {
			t.Errorf("release %v = %q; want a failure", args, out)
		}
	}
}

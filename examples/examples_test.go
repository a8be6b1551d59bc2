// Package examples_test runs each example against the sandbox as a reader would, with the command in it and
// with a shopper's browser.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// missing is what a script prints if what an example needs is not installed here.
var missing = regexp.MustCompile(`Cannot find package '[a-z-]+'|cannot load such file -- webrick`)

// headlessStore starts the sandbox's headless store, until the test ends.
func headlessStore(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.Start(t.Context(), sandbox.Options{Headless: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestExamples starts each example with the command in it. Each shopper who signs in to it reaches their own portal,
// and nobody else reaches any.
func TestExamples(t *testing.T) {
	s := headlessStore(t)
	browser := chromium(t)
	for _, file := range []string{"express.mjs", "hydrogen.mjs", "nextjs.mjs", "portal.py", "portal.rb"} {
		t.Run(file, func(t *testing.T) {
			at := start(t, file, settings(s))
			for session, name := range map[string]string{"Pat": "Pat Doe", "Kim": "Kim Lee"} { // Kim is known by Recharge's id
				ctx := window(t, browser)
				do(t, ctx, chromedp.Navigate(at), chromedp.Click(chromedp.CSS(`button[value="`+session+`"]`)))
				if strings.HasSuffix(at, "/account") {
					do(t, ctx, chromedp.Click(chromedp.CSS("#manage")))
				}
				do(t, ctx, chromedp.WaitVisible(chromedp.CSS(`main[data-portal="open"]`)))
				got, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
				if err != nil || !strings.Contains(got, name) {
					t.Errorf("%s of %s shows %q, %v; want their own portal", at, name, got, err)
				}
			}
			for _, forged := range []string{"", "session=6100200300400", "session=Pat", "customer=6100200300400"} {
				if where := visit(t, at+"?"+forged, forged); !strings.HasSuffix(where, "/login") {
					t.Errorf("a visitor with the cookie %q is sent to %s; want the sign-in", forged, where)
				}
			}
		})
	}
}

// visit returns where a visitor with a cookie is redirected.
func visit(t *testing.T, url, cookie string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Cookie", cookie)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.Header.Get("Location")
}

// TestExamplesNameMissingSettings: without one of its settings, an example ends, and names the setting.
func TestExamplesNameMissingSettings(t *testing.T) {
	for file, names := range map[string][]string{
		"express.mjs": {"PORTAL_URL", "PORTAL_API_KEY", "SHOP"}, "hydrogen.mjs": {"PORTAL_URL", "PORTAL_API_KEY", "SHOP"},
		"nextjs.mjs": {"PORTAL_URL", "PORTAL_API_KEY"}, "mobile.mjs": {"PORTAL_URL", "PORTAL_API_KEY", "STORE_URL"},
		"portal.py": {"PORTAL_URL", "PORTAL_API_KEY"}, "portal.rb": {"PORTAL_URL", "PORTAL_API_KEY", "SHOP"},
	} {
		for _, name := range names {
			var given []string
			for _, other := range names {
				if other != name {
					given = append(given, other+"=http://127.0.0.1:1")
				}
			}
			said, err := command(t, file, given).CombinedOutput()
			if missing.Match(said) {
				suite.Missing(t, string(said))
			}
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.HasPrefix(string(said), "Set "+name+" in") {
				t.Errorf("%s without %s prints %q, and ends with %v; want a message that names it, and an error", file, name, said, err)
			}
		}
	}
}

// TestExamplesFitInAPage: each example has fewer than 40 lines, without the demo sign-in.
func TestExamplesFitInAPage(t *testing.T) {
	files, err := filepath.Glob("*.[mpr]*")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, file := range files {
		if strings.HasPrefix(file, "demo.") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines >= 40 {
			t.Errorf("%s has %d lines; want fewer than 40", file, lines)
		}
	}
}

// settings are an example's environment for the sandbox's store.
func settings(s *sandbox.Sandbox, more ...string) []string {
	_, key := s.Headless()
	return append(more, "PORTAL_URL="+s.AppURL(), "PORTAL_API_KEY="+key, "SHOP="+s.Shop())
}

var startCommand = regexp.MustCompile("`((?:node|python3|ruby) examples/[^`]+)`")

// command returns the command that starts an example, as the example's own text says, with nothing else in the
// environment.
func command(t *testing.T, file string, environ []string) *exec.Cmd {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	typed := startCommand.FindSubmatch(text)
	if typed == nil {
		t.Fatalf("%s does not say how to start it", file)
	}
	words := strings.Fields(string(typed[1]))
	need(t, words[0])
	command := exec.CommandContext(t.Context(), words[0], words[1:]...)
	command.Dir = ".."
	command.Env = append(environ, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "PORT=0", "PYTHONDONTWRITEBYTECODE=1")
	command.WaitDelay = 5 * time.Second
	return command
}

// start starts an example, and returns the address that it prints.
func start(t *testing.T, file string, environ []string) string {
	t.Helper()
	command := command(t, file, environ)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		t.Logf("%s", said.String())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = command.Wait()
		if missing.Match(said.Bytes()) {
			suite.Missing(t, said.String())
		}
		t.Fatalf("%s ends: %s", file, said.String())
	}
	at, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening on ")
	if !ok {
		t.Fatalf("%s prints %q; want its address", file, line)
	}
	return at
}

// need returns a program's path. If it is not installed, the test is skipped, or fails with CI=true.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	suite.Missing(t, program+" is not on the PATH")
	return ""
}

func chromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(need(t, "chromium")), chromedp.NoSandbox, // CI runs as root
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "chromium")))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	do(t, ctx)
	return ctx
}

// window opens a window for another shopper. It shares nothing with the others.
func window(t *testing.T, browser context.Context) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	do(t, ctx)
	return ctx
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

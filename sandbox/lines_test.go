package sandbox_test

import (
	"bufio"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
)

// TestLinesWork pastes the lines that the panels show into a shell.
func TestLinesWork(t *testing.T) {
	t.Parallel()
	coffee, _, tea := three(t)
	headless, _ := tea.Headless()
	if err := coffee.Switch("down", true); err != nil {
		t.Fatal(err)
	}
	if err := coffee.AllOff(); err != nil { // which leaves the clock right
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`<code data-line>([^<]+)</code>`)
	lines := shown.FindAllStringSubmatch(page(t, coffee.Store.URL+"/")+page(t, headless+"/"), -1)
	if len(lines) != 16 {
		t.Fatalf("the panels show %d lines; want 16", len(lines))
	}
	another := strings.Replace(coffee.Store.URL, "127.0.0.1", "localhost", 1)
	for i, wants := range [][]string{
		{"302 to the portal", "ok       proxy.redirect: GET " + another + "/apps/subscriptions", " 0 failed"},
		{"302 to the portal"}, {"0 of 3 stores in trouble"}, {"visits today"}, {" 0 failed"}, {"There are no campaigns."}, {"ready"},
		{"302 to the portal", " 0 failed"}, {"302 to the portal"}, {"0 of 3 stores in trouble"}, {"visits today"}, {" 0 failed"},
		{"There are no campaigns."}, {"ready"}, {`"signed_in":true`}, {"Pat Doe"},
	} {
		line := html.UnescapeString(lines[i][1])
		if i == 0 {
			line += " --store-url=" + another
		}
		command := exec.Command("sh", "-c", line)
		command.Dir = ".."
		if strings.Contains(lines[i][1], "examples/") {
			if got := throughExample(t, command); !strings.Contains(got, wants[0]) {
				t.Errorf("%s: its portal is %s; want that of %s", line, got, wants[0])
			}
			continue
		}
		out, err := command.CombinedOutput()
		// On a busy machine its Redis may be slow, as any would be.
		if regexp.MustCompile(`(?m)^warn +redis\.(?:[^l]|l[^a])`).Match(out) {
			t.Errorf("%s: %s; want no complaint about the sandbox's Redis", line, out)
		}
		for _, want := range wants {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, %s; want %s", line, err, out, want)
			}
		}
	}
}

// throughExample starts an example, signs Pat in to it, and returns the page where it leads.
func throughExample(t *testing.T, command *exec.Cmd) string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		suite.Missing(t, "no python3 on the PATH")
	}
	command.Args[2] = "exec " + command.Args[2] // so that Kill ends the example and not the shell around it
	command.Env = append(os.Environ(), "PORT=0", "PYTHONDONTWRITEBYTECODE=1")
	command.Stderr = t.Output()
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	said, err := bufio.NewReader(out).ReadString('\n')
	address, err2 := url.Parse(strings.TrimSpace(strings.TrimPrefix(said, "Listening on ")))
	jar, err3 := cookiejar.New(nil)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(said, err)
	}
	client := &http.Client{Jar: jar}
	defer client.CloseIdleConnections()
	response, err := client.PostForm(address.JoinPath("..", "login").String(), url.Values{"as": {"Pat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

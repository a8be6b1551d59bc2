package sandbox_test

import (
	"html"
	"os/exec"
	"regexp"
	"strings"
	"testing"
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
	if len(lines) != 5 {
		t.Fatalf("the panels show %d lines; want 5", len(lines))
	}
	another := strings.Replace(coffee.Store.URL, "127.0.0.1", "localhost", 1)
	for i, wants := range [][]string{
		{"302 to the portal", "ok       proxy.redirect: GET " + another + "/apps/subscriptions", " 0 failed"},
		{"302 to the portal"}, {"302 to the portal", " 0 failed"}, {"302 to the portal"}, {`"signed_in":true`},
	} {
		line := html.UnescapeString(lines[i][1])
		if i == 0 {
			line += " --store-url=" + another
		}
		command := exec.Command("sh", "-c", line)
		command.Dir = ".."
		out, err := command.CombinedOutput()
		for _, want := range wants {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, %s; want %s", line, err, out, want)
			}
		}
	}
}

package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
)

// TestParts runs the quick parts of the benchmark, so that they keep working.
func TestParts(t *testing.T) {
	storetest.Redis(t) // without redis-server, this skips the test, or fails it with CI=true
	binary := t.TempDir() + "/bench"
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v %s", err, out)
	}
	for _, test := range []struct{ command, want string }{
		{"trips", "| first ever | 3 | ≤ 3 | 3 | ≤ 3 | 3 |"},
		{"together --clicks 200", "| 200 | map[customers:1 portal_access:1 sessions:1] |"},
		{"campaign --shoppers 100 --cells 100/5m/1", "| 100 | 5 min | 1× | 100.0 % | 100.0 % | 100.0 % | "},
		{"import --customers 600", "| 3 | "},
		{"size --starts 0 --customers 2000", "| 2000, imported | "},
		{"warm --rounds 1 --turn 200ms --shoppers 50 --only ours,bare,post", "this program to the bare handler"},
	} {
		out, err := exec.Command(binary, strings.Fields(test.command)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), test.want) {
			t.Errorf("bench %s: %v, and prints\n%s\nwant %q in it", test.command, err, out, test.want)
		}
	}
}

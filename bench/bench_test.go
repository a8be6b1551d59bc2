package main

import (
	"os/exec"
	"strings"
	"testing"

	"manage-subscriptions/store/storetest"
)

// TestParts runs what is quick to run, so that it does not rot.
func TestParts(t *testing.T) {
	storetest.Redis(t) // skips, or with CI=true fails, where none can be had
	binary := t.TempDir() + "/bench"
	if said, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v %s", err, said)
	}
	for _, test := range []struct{ command, want string }{
		{"trips", "| first ever | 3 | at most 3 | 3 | at most 3 |"},
		{"together --clicks 200", "| map[signed in:200] | map[customers:1 portal_access:1 sessions:1] |"},
		{"sweep --customers 600", "| 3 | "},
		{"simulate --shops 500", "| ordinary | "},
		{"warm --rounds 1 --turn 200ms --shoppers 50 --only ours,bare", "this program to the bare handler"},
	} {
		out, err := exec.Command(binary, strings.Fields(test.command)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), test.want) || strings.Contains(string(out), "too much") {
			t.Errorf("bench %s: %v, and says\n%s\nwant %q in it, and nothing that is too much", test.command, err, out, test.want)
		}
	}
}

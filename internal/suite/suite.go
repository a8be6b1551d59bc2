// Package suite says how much of a slow table of tests runs. With CI=true, as in
// "make race" and .ci/run, all of it does; otherwise a sample, so that "go test ./..."
// stays quick. Each test runs, with fewer cases. It also holds what tests of the whole
// program share: they run commands, and are skipped where a program is not installed.
package suite

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Whole reports whether whole tables run.
func Whole() bool { return os.Getenv("CI") == "true" }

// Runs reports whether a case runs: every one with CI=true, otherwise those whose names
// are in the sample.
func Runs(name string, sample ...string) bool { return Whole() || slices.Contains(sample, name) }

// Pick returns whole with CI=true, otherwise sample.
func Pick[T any](whole, sample T) T {
	if Whole() {
		return whole
	}
	return sample
}

// Missing skips a test because something is not installed. With CI=true the test fails.
func Missing(t testing.TB, why string) {
	t.Helper()
	if Whole() {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Command runs a command in a folder, "" being the current one, and returns what it prints.
func Command(t testing.TB, folder, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = folder
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return string(out)
}

// FreeAddress returns a loopback address with a port that was free a moment ago.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

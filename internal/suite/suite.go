// Package suite decides how many cases of a slow table test run. With CI=true, as in
// "make race" and .ci/run, all cases run; otherwise a sample, so that "go test ./..." stays
// quick. Every test runs, with fewer cases. The package also has helpers for tests of the
// whole program that run commands, or are skipped if a program is not installed.
package suite

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Whole reports whether all cases run.
func Whole() bool { return os.Getenv("CI") == "true" }

// Runs reports whether a case runs. With CI=true every case does, otherwise those whose
// names are in the sample.
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

// Command runs a command in a folder, "" for the current one, and returns its output.
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

// FreeAddress returns a loopback address with a free port, which another process may take.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

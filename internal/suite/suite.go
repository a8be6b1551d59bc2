// Package suite says how much of a slow table of tests runs. With CI=true, as in
// "make race" and .ci/run, all of it does; otherwise a sample, so that "go test ./..."
// stays quick. Nothing is skipped: each test runs, with fewer cases.
package suite

import (
	"os"
	"slices"
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

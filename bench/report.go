package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// errMissed means that a limit that does not depend on the machine was missed.
var errMissed = errors.New("a limit was missed")

// report collects the text of RESULTS.md.
type report struct{ bytes.Buffer }

func (r *report) write(path string) error {
	return os.WriteFile(path, r.Bytes(), 0o644) //nolint:gosec // everybody may read it
}

// machine describes the machine and the versions that were used.
func machine() string {
	first := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output() //nolint:noctx // a fixed command
		if err != nil {
			return name + " is missing"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, Node %s, %s. The servers, Redis and the load generator share the cores.",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		first("node", "--version"), first("redis-server", "--version"))
}

// table writes rows as Markdown; the first is the heading.
func table(rows ...[]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
		}
	}
	return b.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

// spread has one value per round. It prints as the median, the minimum and the maximum.
type spread []float64

func (s spread) median() float64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(s))[len(s)/2]
}

func (s spread) with(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.median(), slices.Min(s), slices.Max(s))
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

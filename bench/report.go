package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what goes into RESULTS.md.
type report struct{ bytes.Buffer }

func (r *report) write(path string) error { return os.WriteFile(path, r.Bytes(), 0o644) } //nolint:gosec // to be read by everybody

// machine says what it was measured with.
func machine() string {
	first := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output() //nolint:noctx // a fixed command
		if err != nil {
			return name + " is not there"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, Node %s, %s. Servers, Redis and load share the cores.",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), first("node", "--version"), first("redis-server", "--version"))
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

// spread is the median of what each round gave, between the least and the most.
type spread []float64

func (s spread) sorted() spread { return slices.Sorted(slices.Values(s)) }

func (s spread) median() float64 {
	if len(s) == 0 {
		return 0
	}
	return s.sorted()[len(s)/2]
}

func (s spread) String() string {
	if len(s) == 0 {
		return "–"
	}
	sorted := s.sorted()
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median(), sorted[0], sorted[len(sorted)-1])
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

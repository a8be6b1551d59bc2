package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Print writes a check as an operator reads it: the mark and what was asked, what
// came, and what to do.
func Print(out io.Writer, check Check) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s  %s: %s\n", check.Status, check.Name, check.Asked)
	fmt.Fprintf(&b, "         %s\n", check.Found)
	if check.Remedy != "" {
		fmt.Fprintf(&b, "         -> %s\n", check.Remedy)
	}
	_, _ = io.WriteString(out, b.String())
}

// Package shipping reads the files that ship the program, as their own programs
// would, and says what is wrong with them: for machines without Docker, Kubernetes
// or GitHub. A module of its own, since those programs are large.
package shipping

import "fmt"

// Problems are what a person has to mend; none is good.
type Problems []string

func (p *Problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

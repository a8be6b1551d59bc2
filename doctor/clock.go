package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// clockWarns is how far a clock may be from another's before it is told,
	clockWarns = 30 * time.Second
	// clockFails how far before clicks are about to be refused: Shopify's are good
	// for 90 s.
	clockFails = 80 * time.Second
)

// clock compares ours with those of the answers that were met.
func (d *doctor) clock(context.Context) result {
	d.dates.mu.Lock()
	defer d.dates.mu.Unlock()
	if len(d.dates.off) == 0 {
		return skipped("no answer had a date", "mend what is marked above, then ask again")
	}
	var said []string
	var worst time.Duration
	for whose, off := range d.dates.off {
		said = append(said, fmt.Sprintf("%s: %+d s", whose, int(off.Seconds())))
		worst = max(worst, off.Abs())
	}
	slices.Sort(said)
	found := strings.Join(said, ", ")
	const remedy = "set the clocks of this machine and of the server by NTP: Shopify's requests are good for 90 s"
	switch {
	case worst > clockFails:
		return fail(found, remedy)
	case worst > clockWarns:
		return warn(found, remedy)
	}
	return ok(found)
}

package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	clockWarns = 30 * time.Second
	// clockFails is how far clocks may differ before clicks are refused: Shopify's
	// requests are good for 90 s.
	clockFails = 80 * time.Second
)

// clocks are how far other clocks are ahead of ours, by the Date headers of answers.
type clocks struct {
	now   func() time.Time
	mu    sync.Mutex
	ahead map[string]time.Duration // by name
}

func (c *clocks) read(name string, header http.Header) {
	date, err := http.ParseTime(header.Get("Date"))
	if err == nil && header.Get("Age") == "" { // else it is a cache's, of some time ago
		c.add(name, date.Sub(c.now()))
	}
}

func (c *clocks) add(name string, ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead == nil {
		c.ahead = map[string]time.Duration{}
	}
	c.ahead[name] = ahead.Round(time.Second)
}

func (c *clocks) check(context.Context) result {
	var all []string
	var worst time.Duration
	for _, name := range slices.Sorted(maps.Keys(c.ahead)) {
		all = append(all, fmt.Sprintf("%s: %+d s", name, int(c.ahead[name].Seconds())))
		worst = max(worst, c.ahead[name].Abs())
	}
	found := strings.Join(all, ", ")
	const remedy = "set the clocks of this machine and of the server by NTP: Shopify's requests are good for 90 s"
	switch {
	case len(all) == 0:
		return skipped("no answer had a date", "fix what failed above, then run doctor again")
	case worst > clockFails:
		return fail(found, remedy)
	case worst > clockWarns:
		return warn(found, remedy)
	}
	return ok(found)
}

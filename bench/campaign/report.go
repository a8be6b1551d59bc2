package campaign

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Clicks are how the clicks of a group of shoppers ended.
type Clicks struct {
	Outcomes map[string]int
	Lost     int           // clicks without an answer
	Failed   int           // answered by a 5xx, or by something unknown
	Late     int           // answered after CLICK_TIMEOUT
	Astray   []string      // clicks that led to somebody else's portal, or to one that does not open
	P50      time.Duration // of the waiting times
	P99      time.Duration
	Max      time.Duration

	wanted int
	waited []time.Duration
}

// Report is the result of a campaign.
type Report struct {
	Options   Options
	Prepared  time.Duration // until the first click
	Took      time.Duration // from the first click to the last answer
	Clicks                  // of the store's subscribers
	Strangers Clicks
	Before    map[string]int // calls to Recharge before the first click, by endpoint
	Calls     map[string]int // the calls after that
	Limited   int            // how many of all these calls were answered 429
	Bytes     int            // lengths of all keys and values in Redis at the first click, a subscriber
	Forecast  float64        // the share that the campaign's forecast, at its planning, said would be ready
	Ready     float64        // the share that was ready at the first click
}

// sum works out the quantiles.
func (c *Clicks) sum() {
	slices.Sort(c.waited)
	c.P50, c.P99, c.Max = c.Quantile(0.5), c.Quantile(0.99), c.Quantile(1)
}

// Quantile returns a quantile of the waiting times.
func (c *Clicks) Quantile(q float64) time.Duration {
	if len(c.waited) == 0 {
		return 0
	}
	return c.waited[min(len(c.waited)-1, int(q*float64(len(c.waited))))]
}

// Share returns the fraction of clicks that ended in one of the outcomes.
func (c *Clicks) Share(outcomes ...string) float64 {
	n := 0
	for _, outcome := range outcomes {
		n += c.Outcomes[outcome]
	}
	return float64(n) / float64(max(c.wanted, 1))
}

func (c *Clicks) broken() []string {
	var broken []string
	for what, n := range map[string]int{
		"clicks without an answer": c.Lost, "answers that are a 5xx, or unknown": c.Failed, "answers too late": c.Late,
		"clicks that led astray": len(c.Astray),
	} {
		if n > 0 {
			broken = append(broken, fmt.Sprintf("%d %s", n, what))
		}
	}
	answered := 0
	for _, n := range c.Outcomes {
		answered += n
	}
	if answered != c.wanted {
		broken = append(broken, fmt.Sprintf("%d of %d clicks were answered", answered, c.wanted))
	}
	slices.Sort(broken)
	return append(broken, c.Astray[:min(len(c.Astray), 5)]...)
}

// AllCalls counts the calls before and after the first click.
func (r *Report) AllCalls() int {
	all := 0
	for _, calls := range []map[string]int{r.Before, r.Calls} {
		for _, n := range calls {
			all += n
		}
	}
	return all
}

// Broken lists the broken promises, which hold with and without an import or a campaign.
func (r *Report) Broken() []string {
	broken := append(r.broken(), r.Strangers.broken()...)
	if r.Limited > 0 {
		broken = append(broken, fmt.Sprintf("%d of %d calls were answered 429; want none", r.Limited, r.AllCalls()))
	}
	return broken
}

// String returns the report as a Markdown table.
func (r *Report) String() string {
	var b strings.Builder
	line := func(what, format string, values ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", what, fmt.Sprintf(format, values...))
	}
	line("what", "how many")
	line("---", "---")
	line("shoppers, one click each", "%d at %g a second, customers imported: %t",
		r.Options.Clicks, r.Options.Rate, r.Options.Index)
	line("prepared in, took", "%s, %s", r.Prepared.Round(time.Second), r.Took.Round(time.Second))
	for _, outcome := range []string{"redirected", "redirected_by_hash", "unavailable", "not_a_subscriber", "sign_in"} {
		line(outcome, "%d (%.1f %%)", r.Outcomes[outcome], 100*r.Share(outcome))
	}
	line("lost, failed, late, astray", "%d, %d, %d, %d", r.Lost, r.Failed, r.Late, len(r.Astray))
	line("waited: p50, p99, longest", "%s", r.Waits())
	line("calls before the first click", "%v", r.Before)
	line("calls from then on", "%v", r.Calls)
	line("of all calls answered 429", "%d of %d", r.Limited, r.AllCalls())
	return b.String()
}

// Waits returns the median, the 99th percentile and the longest of the waiting times.
func (c *Clicks) Waits() string {
	round := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	return round(c.P50) + ", " + round(c.P99) + ", " + round(c.Max)
}

// Head is the heading of a table of reports, and Row a report's row in it.
func Head() string {
	columns := []string{
		"customers", "notice", "token", "forecast", "ready", "signed in", "by hash", "neither", "calls before", "calls then",
		"429", "waited: p50, p99, longest", "bytes a customer",
	}
	return "| " + strings.Join(columns, " | ") + " |\n|" + strings.Repeat(" --- |", len(columns)) + "\n"
}

// Row returns the report as a row of a Markdown table.
func (r *Report) Row() string {
	o := r.Options
	notice, forecast, ready := "none", "", ""
	percent := func(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
	if o.Plan {
		notice = strings.NewReplacer("h0m0s", " h", "m0s", " min").Replace(o.Notice.String())
		forecast, ready = percent(r.Forecast), percent(r.Ready)
	}
	sum := func(calls map[string]int) (n int) {
		for _, more := range calls {
			n += more
		}
		return n
	}
	signed, hashed := r.Share("redirected"), r.Share("redirected_by_hash")
	return fmt.Sprintf("| %d | %s | %d× | %s | %s | %s | %s | %s | %d | %d | %d | %s | %d |\n",
		o.Shoppers, notice, o.Token, forecast, ready, percent(signed), percent(hashed), percent(max(0, 1-signed-hashed)),
		sum(r.Before), sum(r.Calls), r.Limited, r.Waits(), r.Bytes)
}

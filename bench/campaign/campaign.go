// Package campaign has all subscribers of a store click within a short time, as they do
// after an e-mail, and reports how their clicks ended.
package campaign

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/internal/virtual"
	"manage-subscriptions/recharge/rechargetest"
)

// Options set how many shoppers click, and how fast.
type Options struct {
	Shoppers   int             // each clicks once
	Rate       float64         // clicks a second, at random moments
	Index      bool            // all customers are imported before the first click
	SigningKey *rsa.PrivateKey // Recharge's; nil for a new one
}

// Report is the result of a campaign.
type Report struct {
	Options  Options
	Prepared time.Duration  // until the first click
	Took     time.Duration  // from the first click to the last answer
	Outcomes map[string]int // of clicks
	Lost     int            // clicks without an answer
	Failed   int            // answered by a 5xx, or by something unknown
	Late     int            // answered after CLICK_TIMEOUT
	Astray   []string       // clicks that led to somebody else's portal, or to one that does not open
	P50      time.Duration  // of the waiting times
	P99      time.Duration
	Max      time.Duration
	Before   map[string]int // calls to Recharge before the first click, by endpoint
	Calls    map[string]int // the calls after that
	Limited  int            // how many of all these calls were answered 429
}

const (
	firstShopper = 6100200300000
	firstRecord  = 70100000
)

func hash(i int) string { return fmt.Sprintf("%016x", uint64(0x1f2e3d4c00000000)+uint64(i)) }

func customers(n int) []rechargetest.Customer {
	list := make([]rechargetest.Customer, n)
	for i := range list {
		list[i] = rechargetest.Customer{
			ID: int64(firstRecord + i), Hash: hash(i), ShopifyCustomerID: fmt.Sprint(firstShopper + i),
			Email: fmt.Sprintf("shopper-%d@example.test", i), FirstName: fmt.Sprint("Shopper ", i),
			Subscriptions: []rechargetest.Subscription{{ID: int64(50500000 + i), Product: "Morning House"}},
		}
	}
	return list
}

// runner runs a campaign.
type runner struct {
	world *virtual.World

	mu     sync.Mutex
	report Report
	waited []time.Duration
}

// Run runs a campaign, in virtual time if it is called in a bubble of testing/synctest.
// It returns an error if the server fails; wrong answers are in the report.
func Run(ctx context.Context, o Options) (report Report, err error) {
	w, err := virtual.Start(virtual.Options{Customers: customers(o.Shoppers), SigningKey: o.SigningKey, Index: o.Index})
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	r := &runner{world: w, report: Report{
		Options: o, Outcomes: map[string]int{}, Before: map[string]int{}, Calls: map[string]int{},
	}}
	start := time.Now()
	if err := r.prepare(ctx); err != nil {
		return Report{}, err
	}
	if err := r.count(r.report.Before); err != nil {
		return Report{}, err
	}
	first := time.Now()
	r.report.Prepared = first.Sub(start)
	if err := r.clicks(ctx); err != nil {
		return Report{}, err
	}
	r.report.Took = time.Since(first)
	if err := r.count(r.report.Calls); err != nil {
		return Report{}, err
	}
	slices.Sort(r.waited)
	r.report.P50, r.report.P99, r.report.Max = r.quantile(0.5), r.quantile(0.99), r.quantile(1)
	return r.report, nil
}

// prepare waits until all customers are imported and the budget is full again.
func (r *runner) prepare(ctx context.Context) error {
	if !r.report.Options.Index {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.world.Indexed:
		return pause(ctx, time.Minute)
	}
}

// clicks sends the clicks at random moments, which are the same in each run. As with
// independent people, there are pauses, and moments with several clicks at once.
func (r *runner) clicks(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(14, 20000)) //nolint:gosec // no secret
	var under sync.WaitGroup
	defer under.Wait()
	next := time.Now()
	for _, i := range chance.Perm(r.report.Options.Shoppers) {
		next = next.Add(time.Duration(chance.ExpFloat64() / r.report.Options.Rate * float64(time.Second)))
		if pause(ctx, time.Until(next)) != nil {
			return ctx.Err()
		}
		under.Go(func() { r.click(ctx, i) })
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (r *runner) click(ctx context.Context, i int) {
	answer, err := r.world.Click(ctx, fmt.Sprint(firstShopper+i), "")
	outcome := answer.Outcome()
	opens := true
	if err == nil && outcome == "redirected" {
		opens, err = r.world.Open(ctx, answer)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waited = append(r.waited, answer.Took)
	switch {
	case err != nil:
		r.report.Lost++
		return
	case outcome == "" || answer.Status >= http.StatusInternalServerError:
		r.report.Failed++
		return
	}
	r.report.Outcomes[outcome]++
	if answer.Took > r.world.Config.ClickTimeout {
		r.report.Late++
	}
	if strings.HasPrefix(outcome, "redirected") && (answer.Hash() != hash(i) || !opens) {
		r.report.Astray = append(r.report.Astray, fmt.Sprintf("shopper %d to %q, which opens: %t", i, answer.Hash(), opens))
	}
}

func (r *runner) count(calls map[string]int) error {
	requests := r.world.Recharge.Requests()
	if len(requests) == rechargetest.Remembered {
		return fmt.Errorf("campaign: more than %d calls: not all of them are counted", len(requests))
	}
	r.world.Recharge.ResetRequests()
	for _, request := range requests {
		calls[request.Endpoint]++
		if request.Status == http.StatusTooManyRequests {
			r.report.Limited++
		}
	}
	return nil
}

func (r *runner) quantile(q float64) time.Duration {
	if len(r.waited) == 0 {
		return 0
	}
	return r.waited[min(len(r.waited)-1, int(q*float64(len(r.waited))))]
}

// AllCalls counts the calls before and after the first click.
func (r Report) AllCalls() int {
	all := 0
	for _, calls := range []map[string]int{r.Before, r.Calls} {
		for _, n := range calls {
			all += n
		}
	}
	return all
}

// Broken lists the broken promises, which hold with and without an import.
func (r Report) Broken() []string {
	var broken []string
	for what, n := range map[string]int{
		"clicks without an answer": r.Lost, "answers that are a 5xx, or unknown": r.Failed, "answers too late": r.Late,
		"clicks that led astray": len(r.Astray),
	} {
		if n > 0 {
			broken = append(broken, fmt.Sprintf("%d %s", n, what))
		}
	}
	if answered := r.answered(); answered != r.Options.Shoppers {
		broken = append(broken, fmt.Sprintf("%d of %d clicks were answered", answered, r.Options.Shoppers))
	}
	if all := r.AllCalls(); r.Limited*200 >= max(all, 1) {
		broken = append(broken, fmt.Sprintf("%d of %d calls were answered 429; want under 0.5 %%", r.Limited, all))
	}
	slices.Sort(broken)
	return append(broken, r.Astray[:min(len(r.Astray), 5)]...)
}

func (r Report) answered() int {
	n := 0
	for _, count := range r.Outcomes {
		n += count
	}
	return n
}

// Share returns the fraction of clicks that ended in one of the outcomes.
func (r Report) Share(outcomes ...string) float64 {
	n := 0
	for _, outcome := range outcomes {
		n += r.Outcomes[outcome]
	}
	return float64(n) / float64(max(r.Options.Shoppers, 1))
}

// String returns the report as a Markdown table.
func (r Report) String() string {
	var b strings.Builder
	line := func(what, format string, values ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", what, fmt.Sprintf(format, values...))
	}
	line("what", "how many")
	line("---", "---")
	line("shoppers, one click each", "%d at %g a second, customers imported: %t",
		r.Options.Shoppers, r.Options.Rate, r.Options.Index)
	line("prepared in, took", "%s, %s", r.Prepared.Round(time.Second), r.Took.Round(time.Second))
	for _, outcome := range []string{"redirected", "redirected_by_hash", "unavailable", "not_a_subscriber", "sign_in"} {
		line(outcome, "%d (%.1f %%)", r.Outcomes[outcome], 100*r.Share(outcome))
	}
	line("lost, failed, late, astray", "%d, %d, %d, %d", r.Lost, r.Failed, r.Late, len(r.Astray))
	line("waited: p50, p99, longest", "%s, %s, %s",
		r.P50.Round(time.Millisecond), r.P99.Round(time.Millisecond), r.Max.Round(time.Millisecond))
	line("calls before the first click", "%v", r.Before)
	line("calls from then on", "%v", r.Calls)
	line("of all calls answered 429", "%d of %d", r.Limited, r.AllCalls())
	return b.String()
}

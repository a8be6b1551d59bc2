// Package campaign has the subscribers of a store click within a short time, as they do after an
// e-mail, and reports how their clicks ended.
package campaign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/virtual"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// Options set how many shoppers click, how fast, and what was done before.
type Options struct {
	Shoppers  int           // subscribers of the store
	Clicks    int           // how many of them click, once each; 0 for all
	Rate      float64       // clicks a second, at random moments
	Index     bool          // all customers are imported before the first click
	Notice    time.Duration // between the import and the first click
	Plan      bool          // a campaign is planned at the beginning of the notice
	Token     int           // Recharge allows the token so many times the usual rate; 0 for once
	Strangers int           // new customers, whom no import has seen and who click during the notice
	Latency   time.Duration // of each of Recharge's answers
}

const (
	firstShopper = 6100200300000
	firstRecord  = 70100000
	// rush is how soon after the import or the end of the notice the clicks begin, so that the budget is
	// full again.
	rush = time.Minute
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
	o     Options
	all   []rechargetest.Customer // the strangers last

	mu     sync.Mutex
	report Report
}

// Run runs a campaign, in virtual time if it is called in a bubble of testing/synctest.
// It returns an error if the server fails; wrong answers are in the report.
func Run(ctx context.Context, o Options) (report Report, err error) {
	o.Clicks, o.Token = cmp.Or(o.Clicks, o.Shoppers), cmp.Or(o.Token, 1)
	r := &runner{o: o, all: customers(o.Shoppers + o.Strangers), report: Report{Options: o}}
	// Recharge's names for its larger tokens are sk_2x… and sk_5x2…: the larger one has a larger burst, too.
	rate, burst := 2*float64(o.Token), 40
	if o.Token == 5 {
		burst = 80
	}
	r.world, err = virtual.Start(virtual.Options{
		Customers: r.all[:o.Shoppers], Rate: rate, Burst: burst, Unsigned: true, Index: o.Index,
		OwnRedis: true, Tick: 5 * time.Minute,
	})
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, r.world.Close()) }()
	r.world.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = o.Latency })
	start := time.Now()
	if err := r.prepare(ctx); err != nil {
		return Report{}, err
	}
	before := r.world.Recharge.Answered()
	first := time.Now()
	r.report.Prepared, r.report.Bytes = first.Sub(start), r.bytes()/o.Shoppers
	chance := rand.New(rand.NewPCG(14, 20000)) //nolint:gosec // no secret
	if err := r.clicks(ctx, &r.report.Clicks, chance.Perm(o.Shoppers)[:o.Clicks], o.Rate); err != nil {
		return Report{}, err
	}
	r.report.Took = time.Since(first)
	r.count(before)
	r.report.sum()
	r.report.Strangers.sum()
	return r.report, nil
}

// prepare waits until all customers are imported, and for the notice. A campaign is planned for its end.
func (r *runner) prepare(ctx context.Context) error {
	if !r.o.Index {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.world.Indexed:
	}
	// As in any large store, a customer changes soon, so that webhooks are known to arrive.
	r.world.Recharge.ChangeCustomer(r.all[0])
	if err := pause(ctx, rush); err != nil || r.o.Notice == 0 && !r.o.Plan {
		return err
	}
	r.world.Recharge.SetCustomers(r.all)
	mail := time.Now().Add(r.o.Notice)
	id := ""
	if r.o.Plan {
		var err error
		if id, err = r.plan(ctx, mail); err != nil {
			return err
		}
	}
	if n := r.o.Strangers; n > 0 {
		strangers := make([]int, n)
		for i := range strangers {
			strangers[i] = r.o.Shoppers + i
		}
		rate := float64(n) / (r.o.Notice - rush).Seconds()
		if err := r.clicks(ctx, &r.report.Strangers, strangers, rate); err != nil {
			return err
		}
	}
	if err := pause(ctx, time.Until(mail)); err != nil || id == "" {
		return err
	}
	return r.look(ctx, id)
}

// clicks sends the clicks of some shoppers at random moments, which are the same in each run. As with
// independent people, there are pauses, and moments with several clicks at once.
func (r *runner) clicks(ctx context.Context, to *Clicks, shoppers []int, rate float64) error {
	chance := rand.New(rand.NewPCG(14, uint64(len(shoppers)))) //nolint:gosec // no secret
	to.Outcomes, to.wanted = map[string]int{}, len(shoppers)
	var under sync.WaitGroup
	defer under.Wait()
	next := time.Now()
	for _, i := range shoppers {
		next = next.Add(time.Duration(chance.ExpFloat64() / rate * float64(time.Second)))
		if pause(ctx, time.Until(next)) != nil {
			return ctx.Err()
		}
		under.Go(func() { r.click(ctx, to, i) })
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

func (r *runner) click(ctx context.Context, to *Clicks, i int) {
	answer, err := r.world.Click(ctx, r.all[i].ShopifyCustomerID, "")
	outcome := answer.Outcome()
	opens := true
	if err == nil && outcome == "redirected" {
		opens, err = r.world.Open(ctx, answer)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	to.waited = append(to.waited, answer.Took)
	switch {
	case err != nil:
		to.Lost++
		return
	case outcome == "" || answer.Status >= http.StatusInternalServerError:
		to.Failed++
		return
	}
	to.Outcomes[outcome]++
	if answer.Took > r.world.Config.ClickTimeout {
		to.Late++
	}
	if strings.HasPrefix(outcome, "redirected") && (answer.Hash() != r.all[i].Hash || !opens) {
		to.Astray = append(to.Astray, fmt.Sprintf("shopper %d to %q, which opens: %t", i, answer.Hash(), opens))
	}
}

// count counts the calls to Recharge. before has those before the first click.
func (r *runner) count(before map[rechargetest.Answered]int) {
	r.report.Before, r.report.Calls = map[string]int{}, map[string]int{}
	for of, n := range r.world.Recharge.Answered() {
		if of.Status == http.StatusTooManyRequests {
			r.report.Limited += n
		}
		if before[of] > 0 {
			r.report.Before[of.Endpoint] += before[of]
		}
		if n > before[of] {
			r.report.Calls[of.Endpoint] += n - before[of]
		}
	}
}

// bytes adds up the lengths of all keys and values in Redis, without what Redis itself needs for each.
func (r *runner) bytes() int {
	redis, sum := r.world.Redis, 0
	for _, key := range redis.Keys() {
		values := []string{}
		switch redis.Type(key) {
		case "string":
			value, _ := redis.Get(key)
			values = append(values, value)
		case "list":
			values, _ = redis.List(key)
		case "zset":
			values, _ = redis.ZMembers(key)
		case "hash":
			fields, _ := redis.HKeys(key)
			for _, field := range fields {
				values = append(values, field, redis.HGet(key, field))
			}
		}
		sum += len(key)
		for _, value := range values {
			sum += len(value)
		}
	}
	return sum
}

package merchant

import (
	"context"
	"slices"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Visits sums up how shoppers' visits ended.
type Visits struct {
	All      int64 // without those at Unverified, which anybody can make
	Portal   int64 // reached the portal
	SignedIn int64 // of those, signed in for certain
	Out      []KeptOut
}

// KeptOut is why some visits did not reach the portal.
type KeptOut struct {
	Outcome portal.Outcome // portal.SignIn: did not come back from the sign-in
	Count   int64
}

// Text says how many visits were kept out.
func (k KeptOut) Text() Text { return sentence("kept out "+string(k.Outcome), k.Count) }

// Do says what the merchant can do about it.
func (k KeptOut) Do() Text { return sentence("kept out " + string(k.Outcome) + " do") }

// ByHash returns how many visits reached the portal by a link, where Recharge may ask for a sign-in.
func (v Visits) ByHash() int64 { return v.Portal - v.SignedIn }

// Unverified is the reason of requests that were refused and only claim to come from the shop.
const Unverified portal.Outcome = portal.Unverified

// Reasons returns all that can keep a visit out.
func Reasons() []portal.Outcome {
	return append(slices.DeleteFunc(portal.Outcomes(), portal.Outcome.InPortal), Unverified)
}

// VisitsOf sums up a shop's counters, settled.
func VisitsOf(counts map[string]int64) Visits {
	of := func(outcome portal.Outcome) int64 { return counts[string(outcome)] }
	v := Visits{Portal: of(portal.Redirected) + of(portal.RedirectedByHash), SignedIn: of(portal.Redirected)}
	v.All = v.Portal
	for _, reason := range Reasons() {
		if n := of(reason); n > 0 {
			v.Out = append(v.Out, KeptOut{reason, n})
			if reason != Unverified {
				v.All += n
			}
		}
	}
	return v
}

// Health returns a shop's counts since a time, settled, and its recent errors.
func (s *Service) Health(ctx context.Context, shop shopify.Shop, since time.Time) (store.Health, error) {
	health, err := s.Store.Health(ctx, shop, since)
	settle(health.Hours)
	return health, err
}

// settle takes each click that came back from the sign-in off the clicks that were sent there, in the same hour or
// an earlier one. So the parts of a time add up to the whole.
func settle(hours []store.Hour) {
	var back int64
	for _, hour := range slices.Backward(hours) {
		back += hour.Counts[portal.Returned]
		came := min(back, hour.Counts[string(portal.SignIn)])
		hour.Counts[string(portal.SignIn)] -= came
		back -= came
	}
}

// Sum adds up the counters of some hours.
func Sum(hours []store.Hour) map[string]int64 {
	sum := map[string]int64{}
	for _, hour := range hours {
		for name, n := range hour.Counts {
			sum[name] += n
		}
	}
	return sum
}

// Within returns those hours that begin between two times.
func Within(hours []store.Hour, from, to time.Time) (within []store.Hour) {
	for _, hour := range hours {
		if !hour.Start.Before(from) && hour.Start.Before(to) {
			within = append(within, hour)
		}
	}
	return within
}

// Headline says how many of some visits reached the portal, and how many of those signed in.
func (v Visits) Headline() Text {
	if v.All == 0 {
		return sentence("visits none")
	}
	return sentence("visits", "visits", Plural(int(v.All), "visit"), "portal", v.Portal, "signed in", v.SignedIn)
}

// KeptOutBy returns how many visits one outcome kept out of the portal.
func (v Visits) KeptOutBy(outcome portal.Outcome) int64 {
	for _, out := range v.Out {
		if out.Outcome == outcome {
			return out.Count
		}
	}
	return 0
}

// ErrorSum is an error of the last day, with all times that it occurred.
type ErrorSum struct {
	store.RecentError
	Text Text
}

// SumErrors adds up errors of one kind, the most recent kind first.
func SumErrors(errs []store.RecentError) (all []ErrorSum) {
	for _, e := range errs {
		same := slices.IndexFunc(all, func(sum ErrorSum) bool { return sum.What == e.What })
		if same < 0 {
			all = append(all, ErrorSum{e, Words(e.What)})
			continue
		}
		all[same].First = e.First // they are the newest first
		all[same].Times += e.Times
	}
	return all
}

// Line returns the error with its times.
func (e ErrorSum) Line() Text {
	key := "error times"
	if e.Times == 1 {
		key = "error once"
	}
	return sentence(key, "times", e.Times, "at", e.Last, "text", e.Text)
}

// BudgetWords describes the calls that Recharge allows now.
func BudgetWords(b recharge.Budget) Text {
	left := sentence("budget left", "left", b.Left, "burst", b.Burst, "rate", b.Rate)
	if b.Paused == 0 {
		return left
	}
	return sentence("budget paused", "budget", left, "paused", ShortTime(b.Paused.Truncate(time.Second)+time.Second))
}

package merchant

import (
	"slices"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/store"
)

// Visits sums up how shoppers' visits ended.
type Visits struct {
	All      int64
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

// VisitsOf sums up a shop's counters. A shopper who comes back from the sign-in clicks twice in one visit.
func VisitsOf(counts map[string]int64) Visits {
	of := func(outcome portal.Outcome) int64 { return counts[string(outcome)] }
	v := Visits{Portal: of(portal.Redirected) + of(portal.RedirectedByHash), SignedIn: of(portal.Redirected)}
	v.All = v.Portal
	for _, outcome := range portal.Outcomes() {
		n := of(outcome)
		switch outcome {
		case portal.Redirected, portal.RedirectedByHash:
			continue
		case portal.SignIn: // one who comes back in the next hour has not left
			n = max(0, n-counts[portal.Returned])
		}
		if v.All += n; n > 0 {
			v.Out = append(v.Out, KeptOut{outcome, n})
		}
	}
	return v
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
func Within(hours []store.Hour, from, to time.Time) []store.Hour {
	first := slices.IndexFunc(hours, func(h store.Hour) bool { return !h.Start.Before(from) })
	if first < 0 {
		return nil
	}
	end := slices.IndexFunc(hours[first:], func(h store.Hour) bool { return !h.Start.Before(to) })
	if end < 0 {
		return hours[first:]
	}
	return hours[first : first+end]
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

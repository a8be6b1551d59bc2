package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Shops are the shops that have metrics of their own: those that are named, or the Top with the most clicks.
type Shops struct {
	Named []shopify.Shop
	Top   int
}

// shopClicks counts the clicks of shops since the start.
type shopClicks struct {
	Shops

	mu     sync.Mutex
	counts map[shopify.Shop]map[portal.Outcome]int
}

func newShopClicks(shops Shops) *shopClicks {
	s := &shopClicks{Shops: shops, counts: map[shopify.Shop]map[portal.Outcome]int{}}
	for _, shop := range shops.Named {
		s.add(shop)
	}
	return s
}

func (s *shopClicks) add(shop shopify.Shop) {
	if s.counts[shop] == nil {
		s.counts[shop] = map[portal.Outcome]int{}
	}
}

// count counts a click. A shop that is not named must be connected first, since any store that installs the app sends
// signed clicks.
func (s *shopClicks) count(click portal.Click, source Source) {
	if len(s.Named) == 0 && s.Top == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Top > 0 && s.counts[click.Shop] == nil && source.Connected(click.Shop) {
		s.add(click.Shop)
	}
	if counts := s.counts[click.Shop]; counts != nil {
		counts[click.Outcome]++
	}
}

// send sends the metrics of the shops.
func (s *shopClicks) send(out scrape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Top > 0 {
		for shop := range out.Budgets { // so that its counters begin at 0
			s.add(shop)
		}
	}
	shops := slices.Sorted(maps.Keys(s.counts))
	if s.Top > 0 {
		clicks := map[shopify.Shop]int{}
		for shop, counts := range s.counts {
			for _, n := range counts {
				clicks[shop] += n
			}
		}
		slices.SortStableFunc(shops, func(a, b shopify.Shop) int { return cmp.Compare(clicks[b], clicks[a]) })
		shops = shops[:min(s.Top, len(shops))]
	}
	for _, shop := range shops {
		name := string(shop)
		for _, outcome := range portal.Outcomes() {
			out.send("shop_clicks_total", "Clicks of the shops in METRICS_SHOPS, by outcome.",
				float64(s.counts[shop][outcome]), "shop", name, "outcome", string(outcome))
		}
		if budget, ok := out.Budgets[shop]; ok {
			out.send("shop_budget_left", "Calls left to make at once with the shop's token.", float64(budget.Left), "shop", name)
		}
		if done := out.Imports[shop].Done; !done.IsZero() {
			out.send("shop_index_age_seconds", "Age of the shop's last import.", out.Now.Sub(done).Seconds(), "shop", name)
		}
	}
}

package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// storesAtOnce is how many stores are checked at the same time.
const storesAtOnce = 16

// Store is a connected store to check.
type Store struct {
	Shop     shopify.Shop
	Troubles []string // what Redis shows to be wrong, such as its webhooks or its import
}

// all reports whether each connected store is checked. The one store of a server is checked anyway.
func (d *doctor) all() bool { return d.All && !d.oneStore() }

// stores checks each store, within the limit that its servers share, and returns a check for each.
func (d *doctor) stores(ctx context.Context) []Check {
	if len(d.Stores) == 0 {
		check := warn("Redis lists no connected store")
		if d.Unlisted {
			check = fail("Redis did not list the stores")
		}
		check.Name, check.Asked = "stores", "each connected store"
		return []Check{check}
	}
	checks := make([]Check, len(d.Stores))
	var running errgroup.Group
	running.SetLimit(storesAtOnce)
	for i, store := range d.Stores {
		running.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			one := &doctor{Resolver: d.Resolver, config: d.config, shop: store.Shop, client: d.client}
			checks[i] = store.sum(slices.Concat(one.recharge(ctx), one.accounts(ctx)))
			one.clocks.Range(func(name, ahead any) bool {
				d.clocks.Store(name, ahead)
				return true
			})
			return nil
		})
	}
	_ = running.Wait()
	return checks
}

// sum returns one check for a store. It is the worst of checks, and has the findings of all that are not OK.
func (s Store) sum(checks []Check) Check {
	sum := Check{Name: string(s.Shop), Asked: "its token, portal, webhooks, import and clicks", Status: OK}
	var found, remedies []string
	passed := 0
	for _, trouble := range s.Troubles {
		sum.Status, found = Fail, append(found, trouble)
	}
	for _, check := range checks {
		sum.Ms += check.Ms
		switch check.Status {
		case OK:
			passed++
			continue
		case Skipped:
			continue
		case Fail:
			sum.Status = Fail
		case Warn:
			if sum.Status == OK {
				sum.Status = Warn
			}
		}
		found = append(found, check.Name+": "+check.Found)
		if check.Remedy != "" && !slices.Contains(remedies, check.Remedy) {
			remedies = append(remedies, check.Remedy)
		}
	}
	if len(s.Troubles) > 0 {
		remedies = append(remedies, "see manage-subscriptions stores --shop "+string(s.Shop))
	}
	if sum.Found = strings.Join(found, "; "); sum.Status == OK {
		sum.Found = fmt.Sprintf("%d checks passed", passed)
	}
	sum.Remedy = strings.Join(remedies, "; ")
	return sum
}

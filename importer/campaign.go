package importer

import (
	"context"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/store"
)

// cover is how long after a campaign's start an access that was made before should still open, at least.
const cover = 6 * time.Hour

// earliest returns when the work on a campaign can begin. An access that is made sooner would end too soon.
func earliest(c store.Campaign) time.Time {
	ends := c.StartsAt.Add(cover)
	if !c.EndsAt.IsZero() && c.EndsAt.Before(ends) {
		ends = c.EndsAt
	}
	return ends.Add(-portal.PreparedFor)
}

// members returns the pseudonyms of a campaign's audience, the most likely to click first.
func (x *Importer) members(
	ctx context.Context, r *store.Record, c store.Campaign, listed []string,
) ([]string, error) {
	names := listed
	if c.Audience == store.ActiveSubscribers {
		var err error
		if names, err = x.recorder.Store.AllNames(ctx, r); err != nil {
			return nil, err
		}
	}
	return names, nil
}

package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// This file keeps campaigns. A campaign's definition is part of the shop's record. Its audience is a list
// of pseudonyms, its progress a sealed value, and its clicks are counters.

// The audiences.
const (
	ActiveSubscribers = "active"   // everyone with an active subscription when the work begins
	ListedCustomers   = "list"     // those whom the merchant has listed
	Renewals          = "renewals" // those whom Recharge tells about an upcoming charge
)

const (
	// campaignKept is how long a campaign's results are kept after its end.
	campaignKept = 30 * 24 * time.Hour
	// MaxCampaigns is how many campaigns a shop can have, with those that have ended.
	MaxCampaigns = 20
	// nameChunk is how many pseudonyms are written or read at once.
	nameChunk = 1000
)

// Campaign is a time in which a shop's shoppers are likely to click, such as after an e-mail. Their portal
// accesses are made ahead.
type Campaign struct {
	ID       string
	Name     string
	StartsAt time.Time
	EndsAt   time.Time // zero: it goes on until it is cancelled
	Audience string    // ActiveSubscribers, ListedCustomers or Renewals
	MadeAt   time.Time
	Restarts int // how often another was cancelled, whose accesses this one may have counted as prepared
}

// Over reports whether a campaign has ended.
func (c Campaign) Over(now time.Time) bool { return !c.EndsAt.IsZero() && !now.Before(c.EndsAt) }

// ReadsCharges reports whether a shop's token may read charges. Recharge's texts name two scopes for that.
func (c *Connection) ReadsCharges() bool {
	scopes := strings.Fields(c.Detected.Scopes)
	return slices.Contains(scopes, "read_orders") || slices.Contains(scopes, "read_charges")
}

// HasRenewals reports whether a shop has a campaign for renewals, and Recharge would tell it about charges.
func (c *Connection) HasRenewals(now time.Time) bool {
	return c.ReadsCharges() &&
		slices.ContainsFunc(c.Campaigns, func(c Campaign) bool { return c.Audience == Renewals && !c.Over(now) })
}

// life returns how long the campaign's own keys live. Each write begins it anew.
func (c Campaign) life(now time.Time) time.Duration {
	if c.EndsAt.IsZero() {
		return campaignKept
	}
	return c.EndsAt.Add(campaignKept).Sub(now)
}

// Progress is how far the work on a campaign is.
type Progress struct {
	Size     int  // shoppers in the audience
	Unknown  int  // listed ones without an active subscription, as far as the import knows
	Planned  bool // the list is complete and in order
	Pass     int  // how often the whole list was gone through
	Position int  // in this pass
	Made     int  // accesses
	Failures int  // in a row
	// Without is how many of those who were gone through have no access, and StillWithout the same in a
	// pass after the first.
	Without, StillWithout int
	Began                 time.Time
	NextPass              time.Time // not before
	Problem               string    // why the work waits, as a fixed key; "": it does not
	Restarts              int       // as the campaign's; otherwise the list is to be gone through anew
}

// Prepared is how many shoppers have got an access. It does not shrink.
func (p Progress) Prepared() int {
	if p.Pass > 0 {
		return p.Size - p.Without
	}
	return p.Position - p.Without
}

// Next goes on to the next shopper. has reports whether this one has an access.
func (p *Progress) Next(has bool) {
	p.Position++
	switch {
	case has:
	case p.Pass == 0:
		p.Without++
	default:
		p.StillWithout++
	}
}

// EndPass begins another pass.
func (p *Progress) EndPass() {
	if p.Pass > 0 {
		p.Without = min(p.Without, p.StillWithout)
	}
	p.Pass, p.Position, p.StillWithout = p.Pass+1, 0, 0
}

func listKey(shop shopify.Shop, id string) string     { return shopPrefix(shop) + "q:" + id }
func progressKey(shop shopify.Shop, id string) string { return shopPrefix(shop) + "p:" + id }
func nextListKey(shop shopify.Shop, id string) string { return listKey(shop, id) + ":next" }
func clicksKey(shop shopify.Shop, id string) string   { return shopPrefix(shop) + "k:" + id }

func campaignKeys(shop shopify.Shop, id string) []string {
	return []string{listKey(shop, id), nextListKey(shop, id), progressKey(shop, id), clicksKey(shop, id)}
}

// SaveCampaign saves a campaign, with the pseudonyms of its audience if they are known already. Once it
// returns nil, Redis has the campaign on disk. It reports whether there was room for one more, and the id of
// one with the same name and audience that starts then or has no end, which is not saved twice.
func (s *Store) SaveCampaign(
	ctx context.Context, r *Record, c Campaign, names []string, progress Progress,
) (room bool, twin string, err error) {
	if err := s.writeNames(ctx, r, c, listKey(r.Shop, c.ID), names); err != nil {
		return false, "", err
	}
	if _, err := s.SaveProgress(ctx, r, c, progress); err != nil {
		return false, "", err
	}
	_, err = s.UpdateConnection(ctx, r.Shop, func(connection *Connection) bool {
		// It may be there already, from an earlier attempt whose answer was lost.
		old := func(other Campaign) bool { return other.ID == c.ID || other.life(s.options.Now()) <= 0 }
		kept := slices.DeleteFunc(slices.Clone(connection.Campaigns), old)
		room, twin = len(kept) < MaxCampaigns, ""
		for _, other := range kept {
			same := other.Name == c.Name && other.Audience == c.Audience
			if same && (other.StartsAt.Equal(c.StartsAt) || other.EndsAt.IsZero()) {
				room, twin = false, other.ID
			}
		}
		connection.Campaigns = slices.Concat(kept, []Campaign{c})
		if c.Audience == Renewals {
			connection.Webhooks.CheckedAt = time.Time{} // one more topic is to be registered
		}
		return room
	})
	if err != nil || !room {
		return room, twin, err
	}
	return room, "", s.WakeCampaigns(ctx, r.Shop)
}

// CancelCampaign removes a campaign, and reports whether there was one. From then on no access that was
// made for it is used.
func (s *Store) CancelCampaign(ctx context.Context, shop shopify.Shop, id string) (found bool, err error) {
	_, err = s.UpdateConnection(ctx, shop, func(connection *Connection) bool {
		kept := slices.DeleteFunc(slices.Clone(connection.Campaigns), func(c Campaign) bool { return c.ID == id })
		if len(kept) == len(connection.Campaigns) {
			return false
		}
		for i := range kept {
			kept[i].Restarts++
		}
		found, connection.Campaigns = true, kept
		return true
	})
	if err != nil || !found {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	_ = s.redis.Unlink(ctx, campaignKeys(shop, id)...).Err() // nothing depends on it: they expire
	_ = s.WakeCampaigns(ctx, shop)                           // or the others go on with their next pass
	return true, nil
}

// WakeCampaigns makes a shop's campaigns due at once.
func (s *Store) WakeCampaigns(ctx context.Context, shop shopify.Shop) error {
	return s.makeDue(ctx, campaignsKey, shop, redis.ZAddArgs{LT: true})
}

// ScheduleCampaigns makes a shop's campaigns due if nobody knows of them.
func (s *Store) ScheduleCampaigns(ctx context.Context, shop shopify.Shop) error {
	return s.makeDue(ctx, campaignsKey, shop, redis.ZAddArgs{NX: true})
}

// TakeCampaigns leases a shop's campaigns, if any shop's are due; else it returns nil.
func (s *Store) TakeCampaigns(ctx context.Context) (*Lease, error) {
	lease := &Lease{set: campaignsKey}
	if had, err := s.renew(ctx, lease, ImportLease); err != nil || !had {
		return nil, err
	}
	return lease, nil
}

// KeepCampaigns makes a shop's campaigns due again after next. ImportLease renews the lease; any other time
// ends it, and a negative one forgets the shop. It reports whether the lease still held.
func (s *Store) KeepCampaigns(ctx context.Context, lease *Lease, next time.Duration) (bool, error) {
	return s.renew(ctx, lease, next)
}

// Names returns the pseudonyms of listed customers.
func (r *Record) Names(customers []shopify.CustomerID) []string {
	names := make([]string, len(customers))
	for i, customer := range customers {
		names[i] = r.name(string(customer))
	}
	slices.Sort(names) // the order of a list may say something about the shoppers
	return slices.Compact(names)
}

// AllNames returns the pseudonyms of everyone who is cached. It walks the shop's index.
func (s *Store) AllNames(ctx context.Context, r *Record) ([]string, error) {
	var all []string
	for bucket := range indexBuckets {
		names, err := s.namesIn(ctx, r.indexPrefix()+fmt.Sprintf("%02x", bucket))
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func (s *Store) namesIn(ctx context.Context, bucket string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	names, err := s.redis.HVals(ctx, bucket).Result()
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return names, nil
}

// AddName adds a shopper to a campaign's audience.
func (s *Store) AddName(ctx context.Context, r *Record, c Campaign, customer shopify.CustomerID) error {
	return s.writeNames(ctx, r, c, listKey(r.Shop, c.ID), r.Names([]shopify.CustomerID{customer}))
}

// writeNames appends pseudonyms to a list of a campaign's.
func (s *Store) writeNames(ctx context.Context, r *Record, c Campaign, key string, names []string) error {
	life := c.life(s.options.Now()).Milliseconds()
	for chunk := range slices.Chunk(names, nameChunk) {
		command := []any{"RPUSH", len(chunk) + 1, key}
		for _, name := range chunk {
			command = append(command, name)
		}
		command = append(command, "PEXPIRE", 2, key, life)
		switch same, err := s.ifSame(ctx, r, []string{key}, command...); {
		case err != nil:
			return err
		case !same:
			return ErrOutdated
		}
	}
	return nil
}

// ReplaceNames replaces a campaign's list, and saves the progress with it, in one step.
func (s *Store) ReplaceNames(ctx context.Context, r *Record, c Campaign, names []string, p Progress) error {
	list, next, key := listKey(r.Shop, c.ID), nextListKey(r.Shop, c.ID), progressKey(r.Shop, c.ID)
	if _, err := s.ifSame(ctx, r, []string{next}, "UNLINK", 1, next); err != nil {
		return err
	}
	if err := s.writeNames(ctx, r, c, next, names); err != nil {
		return err
	}
	replace := []any{"RENAME", 2, next, list}
	if len(names) == 0 {
		replace = []any{"UNLINK", 1, list}
	}
	_, err := s.ifSame(ctx, r, []string{next, list, key}, append(replace, s.setProgress(r, c, p)...)...)
	return err
}

// ReadNames returns up to n pseudonyms of a campaign's list.
func (s *Store) ReadNames(ctx context.Context, r *Record, c Campaign, from, n int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	names, err := s.redis.LRange(ctx, listKey(r.Shop, c.ID), int64(from), int64(from+n-1)).Result()
	if err != nil {
		return nil, fmt.Errorf("read a campaign's list: %w", err)
	}
	return names, nil
}

// TrimNames removes the first n pseudonyms of a campaign's list, and saves the progress with it.
func (s *Store) TrimNames(ctx context.Context, r *Record, c Campaign, n int, progress Progress) error {
	list, key := listKey(r.Shop, c.ID), progressKey(r.Shop, c.ID)
	trim := []any{"LTRIM", 3, list, n, -1}
	_, err := s.ifSame(ctx, r, []string{list, key}, append(trim, s.setProgress(r, c, progress)...)...)
	return err
}

// Named is a shopper who is cached under a pseudonym.
type Named struct {
	Shopper
	Loaded
}

// LoadNamed reads the cached values of shoppers by their pseudonyms. Those who are not cached by their
// Shopify id are left empty.
func (s *Store) LoadNamed(ctx context.Context, r *Record, names []string) ([]Named, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = r.key("c", name)
	}
	at := time.Now()
	values, err := s.readNow(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("read shoppers: %w", err)
	}
	all := make([]Named, len(names))
	for i, value := range values {
		sealed, _ := value.(string)
		c, err := r.openCached(keys[i], sealed)
		who := Shopper{Shop: r.Shop, Customer: c.ShopifyID}
		if err != nil || c.ShopifyID == "" || r.name(canonical(who)) != names[i] {
			continue
		}
		all[i] = Named{who, Loaded{Record: r, Cached: s.usable(c, who, names[i]), At: at, version: versionOf(sealed)}}
	}
	return all, nil
}

// Progress returns how far the work on a campaign is. A progress that an earlier epoch has sealed counts
// as none. One from before a restart keeps only what is true of the audience.
func (s *Store) Progress(ctx context.Context, shop shopify.Shop, c Campaign) (p Progress, err error) {
	_, err = s.readSealed(ctx, shop, progressKey(shop, c.ID), &p)
	if p.Restarts != c.Restarts {
		p = Progress{Size: p.Size, Unknown: p.Unknown, Planned: p.Planned, Made: p.Made, Began: p.Began, Restarts: c.Restarts}
	}
	return p, err
}

// SaveProgress saves how far the work on a campaign is. It reports whether the record is still the same.
func (s *Store) SaveProgress(ctx context.Context, r *Record, c Campaign, p Progress) (bool, error) {
	return s.ifSame(ctx, r, []string{progressKey(r.Shop, c.ID)}, s.setProgress(r, c, p)...)
}

// setProgress is a command for ifSame.
func (s *Store) setProgress(r *Record, c Campaign, p Progress) []any {
	key := progressKey(r.Shop, c.ID)
	return []any{"SET", 4, key, r.sealJSON(key, p), "PX", c.life(s.options.Now()).Milliseconds()}
}

// CampaignClicks returns a campaign's counters, named as those of an hour.
func (s *Store) CampaignClicks(ctx context.Context, shop shopify.Shop, id string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	texts, err := s.redis.HGetAll(ctx, clicksKey(shop, id)).Result()
	if err != nil {
		return nil, fmt.Errorf("read a campaign's clicks: %w", err)
	}
	counts := map[string]int64{}
	for name, text := range texts {
		counts[name], _ = strconv.ParseInt(text, 10, 64) // only HINCRBY writes there
	}
	return counts, nil
}

// prepares reports whether the shop still has a campaign.
func (r *Record) prepares(campaign string) bool {
	return r.Connection != nil &&
		slices.ContainsFunc(r.Connection.Campaigns, func(c Campaign) bool { return c.ID == campaign })
}

// campaignCounters returns the keys of the counters of the campaigns that are running, and how long they
// live on.
func campaignCounters(r *Record, now time.Time) map[string]time.Duration {
	keys := map[string]time.Duration{}
	if r.Connection == nil {
		return keys
	}
	for _, c := range r.Connection.Campaigns {
		if !now.Before(c.StartsAt) && !c.Over(now) {
			keys[clicksKey(r.Shop, c.ID)] = c.life(now)
		}
	}
	return keys
}

package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const (
	// ImportLease is how long an import may go without an update before another instance continues it.
	ImportLease = 30 * time.Second
	// importFor is how long a complete import counts as the full list of a shop's customers.
	importFor = 48 * time.Hour
	// importChunk is how many shoppers one run of the script saves, few enough that no click has to
	// wait for it.
	importChunk = 50
)

//go:embed due.lua
var dueScript string

// Import is the progress of the import of a shop's customers.
type Import struct {
	Number uint64 // 0: none has begun

	// The import that is running, or ran last:
	Running   bool
	Began     time.Time
	Cursor    string // of the next page
	Pages     int
	Customers int // read

	// The last one that was completed:
	Done time.Time // zero: none
	Size int       // customers that it read

	Problem string // why it is stuck, in plain words; "": it is not
}

// Percent compares what an import has read with the size of the last one, since Recharge does not
// report the number of customers. It is 0 for the first import.
func (i Import) Percent() int {
	if !i.Running || i.Size == 0 {
		return 0
	}
	return min(99, 100*i.Customers/i.Size)
}

// ImportTask is a lease on the import of a shop's customers.
type ImportTask struct {
	Import
	Shop   shopify.Shop
	record *Record
	lease  Lease
}

// Lease is the right to work on something of a shop's, until it is renewed.
type Lease struct {
	Shop  shopify.Shop
	set   string // due.lua's
	score string // in the set, which identifies the lease
}

// ScheduleImport makes a shop's import due if the shop was never imported.
func (s *Store) ScheduleImport(ctx context.Context, shop shopify.Shop) error {
	return s.makeDue(ctx, shopsKey, shop, redis.ZAddArgs{NX: true})
}

// RequestImport makes a shop's import due at once. An import that is running continues.
func (s *Store) RequestImport(ctx context.Context, shop shopify.Shop) error {
	return s.makeDue(ctx, shopsKey, shop, redis.ZAddArgs{LT: true})
}

func (s *Store) makeDue(ctx context.Context, set string, shop shopify.Shop, args redis.ZAddArgs) error {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	args.Members = []redis.Z{{Member: string(shop)}}
	if err := s.redis.ZAddArgs(ctx, set, args).Err(); err != nil {
		return fmt.Errorf("schedule work on a shop: %w", err)
	}
	return nil
}

// Import returns the progress of a shop's import. The zero Import means that there was none.
func (s *Store) Import(ctx context.Context, shop shopify.Shop) (Import, error) {
	_, progress, err := s.readImport(ctx, shop)
	return progress, err
}

// Imported reports whether all customers of a shop are cached, so that a shopper who is not cached
// is no customer.
func (s *Store) Imported(ctx context.Context, shop shopify.Shop) bool {
	progress, err := s.Import(ctx, shop)
	return err == nil && !progress.Done.IsZero() && s.options.Now().Sub(progress.Done) < importFor
}

func (s *Store) readImport(ctx context.Context, shop shopify.Shop) (*Record, Import, error) {
	var progress Import
	record, err := s.readSealed(ctx, shop, importKey(shop), &progress)
	if s.otherAccount(record) {
		progress = Import{}
	}
	return record, progress, err
}

// TakeImport leases an import that is due, or returns nil if none is.
func (s *Store) TakeImport(ctx context.Context) (*ImportTask, error) {
	for {
		lease := Lease{set: shopsKey}
		if had, err := s.renew(ctx, &lease, ImportLease); err != nil || !had {
			return nil, err
		}
		shop := lease.Shop
		record, progress, err := s.readImport(ctx, shop)
		if err == nil && record == nil {
			record, err = s.createdNow(ctx, shop)
		}
		after := -time.Millisecond // the record is gone, and so is the import unless it was requested again
		switch {
		case errors.Is(err, ErrUnreadable):
			after = time.Hour // another instance may have the key
		case err != nil:
			return nil, fmt.Errorf("take import: %w", err)
		case s.otherAccount(record): // an instance with that account imports it
			_, err = s.renew(ctx, &lease, time.Second)
			return nil, err
		case record != nil:
			return &ImportTask{Import: progress, Shop: shop, record: record, lease: lease}, nil
		}
		if _, err := s.renew(ctx, &lease, after); err != nil {
			return nil, err
		}
	}
}

// renew leases what is due in the lease's set or, if the lease names a shop, changes that lease. It reports
// whether anything was due, or whether the lease still held. A negative life removes the shop.
func (s *Store) renew(ctx context.Context, lease *Lease, life time.Duration) (bool, error) {
	args := []any{life.Milliseconds()}
	if lease.Shop != "" {
		args = append(args, string(lease.Shop), lease.score)
	}
	answer, err := s.evalNow(ctx, dueScript, []string{lease.set}, args...).StringSlice()
	switch {
	case err != nil:
		return false, fmt.Errorf("lease work on a shop: %w", err)
	case len(answer) != 2:
		return false, nil
	}
	lease.Shop, lease.score = shopify.Shop(answer[0]), answer[1]
	return true, nil
}

// KeepImport saves the progress, and makes the import due again after next. ImportLease renews the
// lease; any other time ends it. It reports whether the lease still held, since another instance may
// have taken over or the shop may have been erased.
func (s *Store) KeepImport(ctx context.Context, task *ImportTask, next time.Duration) (bool, error) {
	if had, err := s.renew(ctx, &task.lease, next); err != nil || !had {
		return false, err
	}
	key := importKey(task.Shop)
	same, err := s.ifSame(ctx, task.record, []string{key}, "SET", 2, key, task.record.sealJSON(key, task.Import))
	if err != nil {
		return false, fmt.Errorf("save import: %w", err)
	}
	return same, nil
}

// with adds another customer record that an import has read for the same shopper. Like a lookup, it
// prefers the record with active subscriptions if exactly one has any.
func (c Cached) with(other Cached) Cached {
	mine, theirs := c.Customer, other.Customer
	switch {
	case c.Several && mine.Active == 0 && theirs.Active > 0, // none of the earlier ones is active
		!c.Several && mine.ID == theirs.ID: // the same page again
		return other
	case c.Several, mine.Active > 0 && theirs.Active == 0:
		return c
	case mine.Active == 0 && theirs.Active > 0:
		return other
	}
	c.Several = true
	return c
}

// SaveImported caches a page of an import. at is when the page was requested, by the shared
// limiter's clock. Records that the same import has cached for a shopper are taken into account. A
// fresh lookup is kept, since it has seen all of a shopper's records; so is a redaction.
func (s *Store) SaveImported(ctx context.Context, task *ImportTask, records []recharge.Record, at int64) error {
	if len(records) == 0 {
		return nil
	}
	page := map[shopify.CustomerID]Cached{}
	now := s.options.Now()
	for _, record := range records {
		id := shopify.CustomerID(record.ShopifyID)
		c := Cached{Customer: record.Customer, ShopifyID: id, LookedUp: now, Verified: now, Import: task.Number}
		if before, ok := page[id]; ok {
			c = before.with(c)
		}
		page[id] = c
	}
	r := task.record
	ids := slices.Sorted(maps.Keys(page))
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = r.key("c", r.name(string(id)))
	}
	values, err := s.readNow(ctx, keys...)
	if err != nil {
		return fmt.Errorf("save imported: %w", err)
	}
	var entries []entry
	for i, id := range ids {
		who := Shopper{Shop: task.Shop, Customer: id}
		sealed, _ := values[i].(string)
		if merged, ok := s.merge(r, who, keys[i], sealed, page[id]); ok {
			entries = append(entries, s.entryOf(r, who, merged, at, versionOf(sealed)))
		}
	}
	for chunk := range slices.Chunk(entries, importChunk) {
		switch saved, err := s.save(ctx, r, nil, chunk); {
		case err != nil:
			return fmt.Errorf("save imported: %w", err)
		case saved == tooOld:
			return ErrOutdated // read the page again
		}
	}
	return nil
}

// merge merges an imported value into what is cached already. It reports whether to save the
// result.
func (s *Store) merge(r *Record, who Shopper, key, sealed string, c Cached) (Cached, bool) {
	before, err := r.openCached(key, sealed)
	if sealed == "" || err != nil {
		return c, true
	}
	usable := s.usable(before, who, r.name(canonical(who)))
	c.Seen = usable.Seen
	if usable.For != "" && !r.prepares(usable.For) {
		usable.DropAccess()
	}
	switch {
	case before.Import != 0 && before.Import == c.Import:
		return before.with(c), true
	case before.Import == 0 && usable.Fresh && before.Customer.ID != c.Customer.ID && before.Customer.ID != 0:
		return c, false
	case before.Customer.ID == c.Customer.ID && before.Customer.Hash == c.Customer.Hash:
		// The same customer keeps the session and the access.
		c.Session, c.Access, c.AccessUntil = usable.Session, usable.Access, usable.AccessUntil
		c.For, c.MadeAt = usable.For, usable.MadeAt
	}
	return c, true
}

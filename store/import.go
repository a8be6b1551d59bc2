package store

import (
	"context"
	_ "embed" // a script
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

const (
	// importLease is how long an import may say nothing before another instance goes on with it.
	importLease = 30 * time.Second
	// importFor is how long an import is taken for all customers that there are.
	importFor = 48 * time.Hour
	// importChunk is how many shoppers one run of the script saves: so few that no click
	// waits for it.
	importChunk = 50
)

//go:embed due.lua
var dueScript string

// Import is how far the import of a shop's customers is.
type Import struct {
	Number uint64 // 0: none has begun

	// Of the one that is under way, or was the last:
	Running   bool
	Began     time.Time
	Cursor    string // of the next page
	Pages     int
	Customers int // read

	// Of the last one that came to its end:
	Done time.Time // zero: none
	Size int       // customers that it read

	Problem string // why it does not go on, in plain words; "" it does
}

// Percent is how much an import has read of what the last one did. Recharge does not
// say how much there is: at first it is 0.
func (i Import) Percent() int {
	if !i.Running || i.Size == 0 {
		return 0
	}
	return min(99, 100*i.Customers/i.Size)
}

// ImportTask is the right to import a shop's customers.
type ImportTask struct {
	Import
	Shop   shopify.Shop
	record *Record
	score  string
}

// ScheduleImport has a shop imported, if it never was. Otherwise it is when it is due.
func (s *Store) ScheduleImport(ctx context.Context, shop shopify.Shop) error {
	return s.scheduleImport(ctx, shop, redis.ZAddArgs{NX: true})
}

// RequestImport has a shop imported at once. An import that is under way goes on.
func (s *Store) RequestImport(ctx context.Context, shop shopify.Shop) error {
	return s.scheduleImport(ctx, shop, redis.ZAddArgs{LT: true})
}

func (s *Store) scheduleImport(ctx context.Context, shop shopify.Shop, how redis.ZAddArgs) error {
	how.Members = []redis.Z{{Member: string(shop)}}
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) { pipe.ZAddArgs(ctx, shopsKey, how) })
	if err != nil {
		return fmt.Errorf("order import: %w", err)
	}
	return nil
}

// Import returns how far the import of a shop is. The zero Import is none.
func (s *Store) Import(ctx context.Context, shop shopify.Shop) (Import, error) {
	_, progress, err := s.readImport(ctx, shop)
	if err != nil {
		return Import{}, fmt.Errorf("read import: %w", err)
	}
	return progress, nil
}

// Imported reports whether all customers of a shop are cached: a shopper who is not is
// nobody's customer.
func (s *Store) Imported(ctx context.Context, shop shopify.Shop) bool {
	progress, err := s.Import(ctx, shop)
	return err == nil && !progress.Done.IsZero() && s.options.Now().Sub(progress.Done) < importFor
}

// readImport reads the record and how far the import is.
func (s *Store) readImport(ctx context.Context, shop shopify.Shop) (*Record, Import, error) {
	var progress Import
	record, err := s.readSealed(ctx, shop, importKey(shop), &progress)
	if s.foreign(record) {
		progress = Import{}
	}
	return record, progress, err
}

// LockMaintenance reports whether no other instance has gone through all shops in that time.
func (s *Store) LockMaintenance(ctx context.Context, every time.Duration) (bool, error) {
	mine, err := s.redis.SetNX(ctx, maintenanceKey, "", every).Result()
	if err != nil {
		return false, fmt.Errorf("lock maintenance: %w", err)
	}
	return mine, nil
}

// TakeImport takes an import that is due, so that nobody else does; nil: none is.
func (s *Store) TakeImport(ctx context.Context) (*ImportTask, error) {
	for {
		task, err := s.due(ctx, importLease)
		if err != nil || task == nil {
			return nil, err
		}
		task.record, task.Import, err = s.readImport(ctx, task.Shop)
		if err != nil && !errors.Is(err, errRecord) {
			return nil, fmt.Errorf("take import: %w", err)
		}
		if task.record == nil && err == nil && task.Shop == s.options.Single {
			loaded := s.Load(ctx, Shopper{Shop: task.Shop}) // makes it
			task.record, err = loaded.Record, loaded.Err
		}
		if s.foreign(task.record) { // an instance of that account imports it
			_, err := s.due(ctx, time.Second, string(task.Shop), task.score)
			return nil, err
		}
		if task.record != nil && err == nil {
			return task, nil
		}
		// Nothing is kept of the shop any more. One that is just connecting has another
		// score by now, and stays.
		gone := -time.Millisecond
		if err != nil {
			gone = time.Hour // not ours to judge
		}
		if _, err := s.due(ctx, gone, string(task.Shop), task.score); err != nil {
			return nil, err
		}
	}
}

// due asks the script: which is due or, of one that is had, for how long.
func (s *Store) due(ctx context.Context, life time.Duration, of ...any) (*ImportTask, error) {
	var result *redis.Cmd
	err := s.ask(ctx, func(ctx context.Context, pipe redis.Pipeliner) {
		result = pipe.Eval(ctx, dueScript, []string{shopsKey}, append([]any{life.Milliseconds()}, of...)...)
	})
	if err != nil {
		return nil, fmt.Errorf("take import: %w", err)
	}
	answer, err := result.StringSlice()
	if err != nil || len(answer) != 2 {
		return nil, nil //nolint:nilerr // an empty list is none
	}
	return &ImportTask{Shop: shopify.Shop(answer[0]), score: answer[1]}, nil
}

// KeepImport has an import for longer, and keeps how far it is. It reports whether it is
// still had: another instance may have gone on with it, or the shop be erased.
func (s *Store) KeepImport(ctx context.Context, task *ImportTask) (bool, error) {
	return s.keepUntil(ctx, task, importLease)
}

// EndImport has an import begin anew, or go on, after a time.
func (s *Store) EndImport(ctx context.Context, task *ImportTask, next time.Duration) error {
	_, err := s.keepUntil(ctx, task, next)
	return err
}

func (s *Store) keepUntil(ctx context.Context, task *ImportTask, next time.Duration) (bool, error) {
	had, err := s.due(ctx, next, string(task.Shop), task.score)
	if err != nil || had == nil {
		return false, err
	}
	task.score = had.score
	key := importKey(task.Shop)
	same, err := s.onlyIfSame(ctx, task.record, []string{key}, "SET", 2, key, task.record.sealJSON(key, task.Import))
	if err != nil {
		return false, fmt.Errorf("keep import: %w", err)
	}
	return same, nil
}

// with adds another record that an import has met of a shopper: of several it takes the
// one with active subscriptions if exactly one has any, as a lookup does.
func (c Cached) with(other Cached) Cached {
	mine, theirs := c.Customer, other.Customer
	switch {
	case c.Several && mine.Active == 0 && theirs.Active > 0, // none of the others is active
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

// SaveImported caches a page of an import, which was asked for at a time of the shared limiter's
// clock. What is cached of a shopper by the same import is taken into account. A lookup that still
// holds has seen all of a shopper's records, and stays; and so does a redaction.
func (s *Store) SaveImported(ctx context.Context, task *ImportTask, records []recharge.Record, at int64) error {
	if len(records) == 0 {
		return nil
	}
	found := map[shopify.CustomerID]Cached{}
	var order []shopify.CustomerID
	now := s.options.Now()
	for _, record := range records {
		id := shopify.CustomerID(record.ShopifyID)
		c := Cached{Customer: record.Customer, ShopifyID: id, LookedUp: now, Verified: now, Import: task.Number}
		if before, ok := found[id]; ok {
			c = before.with(c)
		} else {
			order = append(order, id)
		}
		found[id] = c
	}
	r := task.record
	keys := make([]string, len(order))
	for i, id := range order {
		keys[i] = r.key("c", r.name(string(id)))
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	values, err := s.redis.MGet(asking, keys...).Result()
	if err != nil {
		return fmt.Errorf("save imported: %w", err)
	}
	var entries []entry
	for i, id := range order {
		who := Shopper{Shop: task.Shop, Customer: id}
		sealed, _ := values[i].(string)
		if merged, ok := s.merge(r, who, keys[i], sealed, found[id]); ok {
			entries = append(entries, s.entryOf(r, who, merged, at, versionOf(sealed)))
		}
	}
	for some := range slices.Chunk(entries, importChunk) {
		switch saved, err := s.save(ctx, r, nil, some); {
		case err != nil:
			return fmt.Errorf("save imported: %w", err)
		case saved == tooOld:
			return ErrOutdated // read the page again
		}
	}
	return nil
}

// merge is what an import makes of what is cached already. It reports whether that is to be saved.
func (s *Store) merge(r *Record, who Shopper, key, sealed string, c Cached) (Cached, bool) {
	before, err := r.openCached(key, sealed)
	if sealed == "" || err != nil {
		return c, true
	}
	usable := s.usable(before, who, r.name(canonical(who)))
	switch {
	case before.Import != 0 && before.Import == c.Import:
		return before.with(c), true
	case before.Import == 0 && usable.Fresh && before.Customer.ID != c.Customer.ID && before.Customer.ID != 0:
		return c, false
	case before.Customer.ID == c.Customer.ID && before.Customer.Hash == c.Customer.Hash:
		// The right to act as this customer holds on.
		c.Session, c.Access, c.AccessUntil = usable.Session, usable.Access, usable.AccessUntil
	}
	return c, true
}

// SaveIfUnchanged caches what was looked up in the background, unless somebody has cached
// something else since it was loaded, or the shopper was redacted.
func (s *Store) SaveIfUnchanged(ctx context.Context, loaded Loaded, who Shopper, c Cached, at int64) error {
	if loaded.Record == nil {
		return nil
	}
	_, err := s.save(ctx, loaded.Record, nil, []entry{s.entryOf(loaded.Record, who, c, at, loaded.version)})
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

package handlers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// importsAtOnce is how many shops one instance imports at the same time. Each waits
	// for its token's limit nearly all of the time.
	importsAtOnce = 16
	// importBeat is how often it is asked whether a shop is due.
	importBeat = 5 * time.Second
	// importAgain is when a page is asked for again that clicks, or a fault, had no room
	// for. It is shorter than an import's lease.
	importAgain = 2 * time.Second
	// importStumbles is how often in a row a page may fail before the import is left for
	// later.
	importStumbles = 30
	// importAnew is when an import begins again that has lost its place.
	importAnew = time.Minute
	// importLater is when an import begins again that Recharge has refused.
	importLater = time.Hour
	// learnAtMost is how many changed customers of a shop wait to be looked up. To import
	// all of them 250 at a time costs fewer calls then.
	learnAtMost = 250
)

// The night, in hours of UTC: it is night then where most of Recharge's stores are.
const nightBegins, nightHours = 6, 4

// Importer caches all customers of every shop, so that a first click need not ask who
// somebody is. It is safe for concurrent use.
type Importer struct {
	Store     *store.Store
	Merchants *portal.Merchants
	Recorder  *portal.Recorder
	Log       *slog.Logger
	Now       func() time.Time
	Due       chan struct{} // one that holds one: an import was ordered

	mu       sync.Mutex
	learning map[shopify.Shop][]store.Change // customers who are about to be looked up
	learners sync.WaitGroup
	ctx      context.Context // of the learners; nil: Run has not begun, or has ended
}

// Run imports the shops that are due, until ctx ends, and returns when nothing is looked
// up any more.
func (x *Importer) Run(ctx context.Context) {
	var imports sync.WaitGroup
	defer x.learners.Wait()
	defer imports.Wait()
	x.mu.Lock()
	x.ctx = ctx
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.ctx = nil
	}()
	room := make(chan struct{}, importsAtOnce)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		task, err := x.Store.TakeImport(ctx)
		if err == nil && task != nil {
			imports.Go(func() { x.importAll(ctx, task); <-room })
			continue
		}
		<-room
		select {
		case <-ctx.Done():
			return
		case <-x.Due:
		case <-time.After(importBeat):
		}
	}
}

// Order has a shop imported at once. If that cannot be ordered, it is so within the hour.
func (x *Importer) Order(ctx context.Context, shop shopify.Shop) {
	if err := x.Store.RequestImport(ctx, shop); err != nil {
		x.Log.WarnContext(ctx, "import not ordered", "shop", string(shop), "cause", err)
		return
	}
	x.wake()
}

// Watch has a shop imported that never was.
func (x *Importer) Watch(ctx context.Context, shop shopify.Shop) error {
	defer x.wake()
	return x.Store.ScheduleImport(ctx, shop)
}

func (x *Importer) wake() {
	select {
	case x.Due <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// importAll goes on where the import was left. If ctx ends it is left there, and another
// instance may go on at once; if Redis is gone, when the lease is over.
func (x *Importer) importAll(ctx context.Context, task *store.ImportTask) {
	merchant, err := x.Merchants.Find(ctx, task.Shop)
	if err != nil || merchant == nil {
		x.end(ctx, task, importLater)
		return
	}
	stumbles := 0
	if !task.Running {
		task.Import = store.Import{Number: task.Number + 1, Running: true, Began: x.Now(), Done: task.Done, Size: task.Size}
	}
	for x.page(ctx, task, merchant) {
		if stumbles++; task.Problem == "" {
			stumbles = 0
		}
		if stumbles >= importStumbles {
			x.end(ctx, task, importLater)
			return
		}
		if !task.Running {
			// What was read is kept, even if the server ends just now.
			x.end(context.WithoutCancel(ctx), task, untilNight(x.Now(), task.Shop))
			x.Log.InfoContext(ctx, "index complete", "shop", string(task.Shop), "customers", task.Size, "calls", task.Pages)
			return
		}
		if had, err := x.Store.KeepImport(ctx, task); ctx.Err() == nil && (err != nil || !had) {
			return
		}
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), importAgain)
		defer cancel()
		x.end(last, task, 0)
	}
}

func (x *Importer) end(ctx context.Context, task *store.ImportTask, next time.Duration) {
	if err := x.Store.EndImport(ctx, task, next); err != nil && ctx.Err() == nil {
		x.Log.WarnContext(ctx, "import not ended; it is taken up again", "shop", string(task.Shop), "cause", err)
	}
}

// page reads a page and caches it. It reports whether the import is to go on.
func (x *Importer) page(ctx context.Context, task *store.ImportTask, merchant *portal.Merchant) bool {
	if !merchant.Client.Limiter().WaitBackground(ctx) {
		return false
	}
	page, at, err := x.read(ctx, task, merchant.Client)
	if err == nil && page.Next != "" && page.Next == task.Cursor {
		err = &recharge.Error{
			Endpoint: recharge.Customers, Reason: recharge.Unexpected, Detail: "the page after a page is the same", // and would be for ever
		}
	}
	if err == nil {
		err = x.Store.SaveImported(ctx, task, page.Records, at)
	}
	if err != nil {
		return x.stumble(ctx, task, err)
	}
	task.Problem, task.Cursor = "", page.Next
	task.Pages++
	task.Customers += page.Read
	if page.Next == "" {
		task.Running, task.Done, task.Size = false, x.Now(), task.Customers
	}
	return true
}

// read reads a page, and returns when it was asked for.
func (x *Importer) read(ctx context.Context, task *store.ImportTask, client *recharge.Client) (recharge.Page, int64, error) {
	grant, err := client.Limiter().Reserve(ctx, x.Store.Limiter(task.Shop), recharge.Ask{Background: 1})
	if err != nil {
		return recharge.Page{}, 0, err
	}
	page, err := client.CustomerPage(ctx, grant, task.Cursor)
	grant.Release(ctx)
	x.Recorder.Calls(task.Shop, grant.Calls())
	return page, grant.At(), err
}

// stumble reports whether an import goes on that could not read a page.
func (x *Importer) stumble(ctx context.Context, task *store.ImportTask, err error) bool {
	lostPlace := task.Cursor != "" && (recharge.Is(err, recharge.Invalid) || recharge.Is(err, recharge.BadRequest))
	switch {
	case ctx.Err() != nil:
		return false
	case recharge.Is(err, recharge.OverBudget):
		task.Problem = "" // shoppers go first
	case lostPlace:
		task.Import = store.Import{Number: task.Number, Done: task.Done, Size: task.Size, Problem: advice(err.Error())}
		x.end(ctx, task, importAnew)
		return false
	case refuses(err):
		x.Log.WarnContext(ctx, "index not made", "shop", string(task.Shop), "cause", err)
		task.Running, task.Problem = false, advice(err.Error())
		x.end(ctx, task, importLater)
		return false
	case recharge.ReasonOf(err) == "":
		task.Problem = noDatabase
	default:
		task.Problem = advice(err.Error())
	}
	return pause(ctx, importAgain)
}

// refuses reports that another try would not help.
func refuses(err error) bool {
	reason := recharge.ReasonOf(err)
	return reason != "" && !reason.Transient()
}

// untilNight is when a shop is swept again. Not all are at once.
func untilNight(now time.Time, shop shopify.Shop) time.Duration {
	now = now.UTC()
	spread := time.Duration(spreadOf(shop)%(nightHours*3600)) * time.Second
	next := time.Date(now.Year(), now.Month(), now.Day(), nightBegins, 0, 0, 0, time.UTC).Add(spread)
	if !next.After(now) {
		next = next.AddDate(0, 0, 1)
	}
	return next.Sub(now)
}

func spreadOf(shop shopify.Shop) (n uint32) {
	for _, b := range []byte(shop) {
		n = n*31 + uint32(b)
	}
	return n
}

// Learn looks up a customer of whom Recharge has said that something changed, in the
// background, so that the next click need not. Clicks go first, and what is too much is
// left to an import.
func (x *Importer) Learn(shop shopify.Shop, change store.Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	waiting, busy := x.learning[shop]
	ctx := x.ctx
	switch {
	case ctx == nil:
		return
	case len(waiting) >= learnAtMost:
		x.learning[shop] = nil
		x.learners.Go(func() { x.Order(ctx, shop) })
		return
	}
	if x.learning == nil {
		x.learning = map[shopify.Shop][]store.Change{}
	}
	x.learning[shop] = append(waiting, change)
	if !busy {
		x.learners.Go(func() { x.learn(ctx, shop) })
	}
}

func (x *Importer) learn(ctx context.Context, shop shopify.Shop) {
	for {
		change, ok := x.next(shop)
		if !ok {
			return
		}
		merchant, err := x.Merchants.Find(ctx, shop)
		for err == nil && merchant != nil && merchant.Client.Limiter().WaitBackground(ctx) {
			err = x.learnOne(ctx, merchant.Client, shop, change)
			if !recharge.Is(err, recharge.OverBudget) || !pause(ctx, importAgain) {
				break
			}
			err = nil
		}
		if ctx.Err() != nil {
			return // what is not learned, a click asks for
		}
	}
}

func (x *Importer) next(shop shopify.Shop) (store.Change, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	waiting := x.learning[shop]
	if len(waiting) == 0 {
		delete(x.learning, shop)
		return store.Change{}, false
	}
	x.learning[shop] = waiting[1:]
	return waiting[0], true
}

// learnOne asks for all records of the shopper, unless a click has. Where the filter does
// not work, it asks for the one that has changed: that will do if it is active.
func (x *Importer) learnOne(ctx context.Context, client *recharge.Client, shop shopify.Shop, change store.Change) error {
	who := store.Shopper{Shop: shop, Customer: change.Customer}
	loaded := x.Store.Load(ctx, who)
	if loaded.Err != nil || loaded.Record == nil || loaded.Cached.Fresh && !loaded.Cached.NotSubscriber {
		return loaded.Err
	}
	grant, err := client.Limiter().Reserve(ctx, x.Store.Limiter(shop), recharge.Ask{Background: 1})
	if err != nil {
		return err
	}
	defer func() {
		grant.Release(ctx)
		x.Recorder.Calls(shop, grant.Calls())
	}()
	found, err := client.FindCustomer(ctx, grant, string(change.Customer), recharge.Background)
	customer := found.Customer
	if recharge.Is(err, recharge.FilterIgnored) || found.Alert != nil {
		customer, err = client.CustomerByID(ctx, grant, change.ID, string(change.Customer))
		if customer.Active == 0 {
			return err
		}
	}
	if err != nil {
		return err
	}
	now := x.Now()
	return x.Store.SaveIfUnchanged(ctx, loaded, who, store.Cached{
		Customer: customer, ShopifyID: change.Customer, LookedUp: now, Verified: now,
	}, grant.At())
}

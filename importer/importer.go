// Package importer caches the customers of every connected shop before their first click.
package importer

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// importsAtOnce is how many shops one instance imports at the same time. Each import spends
	// nearly all of its time waiting for its token's rate limit.
	importsAtOnce = 16
	// pollEvery is how often Run looks for a shop that is due, also because another instance has stopped.
	pollEvery = 5 * time.Second
	// retryAfter is the wait before retrying a page that failed, or for which clicks left no calls.
	// It is shorter than an import's lease.
	retryAfter = 2 * time.Second
	// failuresAtMost is how many times in a row a page may fail before the import is put off.
	failuresAtMost = 30
	// restartAfter is the wait before restarting an import whose cursor has expired.
	restartAfter = time.Minute
	// refusedAfter is the wait before restarting an import that Recharge has refused.
	refusedAfter = time.Hour
	// updatesAtMost is how many changed customers of a shop may wait for a lookup. Beyond that, it
	// takes fewer calls to import all customers, 250 per call.
	updatesAtMost = 250
)

// The night, in UTC hours, in the region where most of Recharge's stores are.
const nightBegins, nightHours = 6, 4

// Importer caches all customers of every shop, so that most first clicks need no lookup.
// It is safe for concurrent use.
type Importer struct {
	resolver  *portal.Resolver
	merchants *portal.Merchants
	recorder  *portal.Recorder
	now       func() time.Time
	requested chan struct{} // holds one entry if an import was requested here
	planned   chan struct{} // the same for campaigns

	work    sync.WaitGroup // imports and updates
	mu      sync.Mutex
	updates map[shopify.Shop][]store.Change // customers waiting to be looked up
	ctx     context.Context                 // of the updates; nil unless Run is running
}

// New returns an importer, which does nothing until Run is called.
func New(resolver *portal.Resolver, recorder *portal.Recorder) *Importer {
	return &Importer{
		resolver: resolver, merchants: resolver.Merchants, recorder: recorder, now: resolver.Now,
		requested: make(chan struct{}, 1), planned: make(chan struct{}, 1), updates: map[shopify.Shop][]store.Change{},
	}
}

// Run imports the shops that are due until ctx ends. It returns when all work has stopped.
func (x *Importer) Run(ctx context.Context) {
	defer x.work.Wait()
	x.mu.Lock()
	x.ctx = ctx
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.ctx = nil
	}()
	if !x.resolver.NoPrepare {
		x.work.Go(func() {
			x.takeJobs(ctx, campaignsAtOnce, x.planned, func() (func(), error) {
				lease, err := x.recorder.Store.TakeCampaigns(ctx)
				return func() { x.campaigns(ctx, lease) }, or(err, lease == nil)
			})
		})
	}
	x.takeJobs(ctx, importsAtOnce, x.requested, func() (func(), error) {
		task, err := x.recorder.Store.TakeImport(ctx)
		return func() { x.importShop(ctx, task) }, or(err, task == nil)
	})
}

var errNothingDue = errors.New("no shop is due")

func or(err error, nothing bool) error {
	if err == nil && nothing {
		return errNothingDue
	}
	return err
}

// takeJobs runs the jobs that are due, some at once, until ctx ends. It looks at once if woken.
func (x *Importer) takeJobs(ctx context.Context, atOnce int, woken <-chan struct{}, take func() (func(), error)) {
	room := make(chan struct{}, atOnce)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		job, err := take()
		if err == nil {
			x.work.Go(func() {
				job()
				<-room
			})
			continue
		}
		<-room
		select {
		case <-ctx.Done():
			return
		case <-woken:
		case <-time.After(pollEvery):
		}
	}
}

// Request queues an immediate import of a shop. If Redis does not take the request, the hourly
// schedule imports the shop.
func (x *Importer) Request(ctx context.Context, shop shopify.Shop) {
	if err := x.recorder.Store.RequestImport(ctx, shop); err != nil {
		x.recorder.Log.WarnContext(ctx, "import not ordered", "shop", string(shop), "cause", err)
		return
	}
	wake(x.requested)
}

// Schedule queues an import of a shop that was never imported before, and the work on its campaigns.
func (x *Importer) Schedule(ctx context.Context, shop shopify.Shop) error {
	defer wake(x.requested)
	return errors.Join(x.recorder.Store.ScheduleImport(ctx, shop), x.recorder.Store.ScheduleCampaigns(ctx, shop))
}

func wake(waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default:
	}
}

// importShop continues a shop's import where it stopped. If ctx ends, another instance may continue
// at once; if Redis is gone, it has to wait until the lease has expired.
func (x *Importer) importShop(ctx context.Context, task *store.ImportTask) {
	merchant, err := x.merchants.Find(ctx, task.Shop)
	if err != nil || merchant == nil {
		x.end(ctx, task, refusedAfter)
		return
	}
	if !task.Running {
		task.Import = store.Import{
			Number: task.Number + 1, Running: true, Began: x.now(), Done: task.Done, Size: task.Size,
		}
	}
	failures := 0
	for x.importPage(ctx, task, merchant.Client) {
		if failures++; task.Problem == "" {
			failures = 0
		}
		if failures >= failuresAtMost {
			task.Running = false
			x.end(ctx, task, refusedAfter)
			return
		}
		if !task.Running {
			// Save the result even if the server is just stopping.
			x.end(context.WithoutCancel(ctx), task, untilNight(x.now(), task.Shop))
			x.recorder.Log.InfoContext(ctx, "index complete",
				"shop", string(task.Shop), "customers", task.Size, "calls", task.Pages)
			return
		}
		if had, err := x.recorder.Store.KeepImport(ctx, task, store.ImportLease); ctx.Err() == nil && (err != nil || !had) {
			return
		}
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
		defer cancel()
		x.end(last, task, 0)
	}
}

func (x *Importer) end(ctx context.Context, task *store.ImportTask, next time.Duration) {
	if _, err := x.recorder.Store.KeepImport(ctx, task, next); err != nil && ctx.Err() == nil {
		x.recorder.Log.WarnContext(ctx, "import not ended; it is taken up again", "shop", string(task.Shop), "cause", err)
	}
}

// importPage reads a page and caches it. It reports whether the import continues.
func (x *Importer) importPage(ctx context.Context, task *store.ImportTask, client *recharge.Client) bool {
	if !client.Limiter().WaitBackground(ctx, 1) {
		return false
	}
	var page recharge.Page
	err := x.recorder.Call(ctx, task.Shop, client, recharge.Background, func(grant *recharge.Grant) (err error) {
		if page, err = client.CustomerPage(ctx, grant, task.Cursor); err != nil {
			return err
		}
		if page.Next != "" && page.Next == task.Cursor { // it would never end
			return &recharge.Error{
				Endpoint: recharge.Customers, Reason: recharge.Unexpected, Detail: "the page after a page is the same",
			}
		}
		return x.recorder.Store.SaveImported(ctx, task, page.Records, grant.At())
	})
	if err != nil {
		return x.failed(ctx, task, err)
	}
	task.Problem, task.Cursor = "", page.Next
	task.Pages++
	task.Customers += page.Read
	if page.Next == "" {
		task.Running, task.Done, task.Size = false, x.now(), task.Customers
	}
	return true
}

// failed handles a page that could not be read or saved. It reports whether the import
// continues.
func (x *Importer) failed(ctx context.Context, task *store.ImportTask, err error) bool {
	reason := recharge.ReasonOf(err)
	task.Problem = string(reason)
	switch {
	case ctx.Err() != nil:
		return false
	case reason == recharge.OverBudget:
		task.Problem = "" // shoppers go first
	case task.Cursor != "" && (reason == recharge.Invalid || reason == recharge.BadRequest): // the cursor has expired
		task.Import = store.Import{Number: task.Number, Done: task.Done, Size: task.Size, Problem: task.Problem}
		x.end(ctx, task, restartAfter)
		return false
	case reason == "":
		task.Problem = portal.NoDatabase
	case !reason.Transient():
		x.recorder.Log.WarnContext(ctx, "index not made", "shop", string(task.Shop), "cause", err)
		task.Running = false
		x.end(ctx, task, refusedAfter)
		return false
	}
	return recharge.Wait(ctx, retryAfter)
}

// untilNight returns how long it is until a shop's next nightly import. The shops are
// spread over the night by their names.
func untilNight(now time.Time, shop shopify.Shop) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(shop))
	spread := time.Duration(hash.Sum32()%(nightHours*3600)) * time.Second
	next := now.Truncate(24 * time.Hour).Add(nightBegins*time.Hour + spread)
	if !next.After(now) {
		next = next.Add(24 * time.Hour)
	}
	return next.Sub(now)
}

// Update looks up a changed customer in the background, so that the next click does not have to.
// Clicks go first. If too many changes come at once, it requests an import instead.
func (x *Importer) Update(shop shopify.Shop, change store.Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ctx := x.ctx
	if ctx == nil {
		return
	}
	waiting, busy := x.updates[shop]
	if len(waiting) >= updatesAtMost {
		x.updates[shop] = nil
		x.work.Go(func() { x.Request(ctx, shop) })
		return
	}
	x.updates[shop] = append(waiting, change)
	if !busy {
		x.work.Go(func() { x.update(ctx, shop) })
	}
}

// update looks up all waiting customers of a shop. When ctx ends, it leaves the rest to clicks.
func (x *Importer) update(ctx context.Context, shop shopify.Shop) {
	for ctx.Err() == nil {
		change, ok := x.next(shop)
		if !ok {
			return
		}
		merchant, err := x.merchants.Find(ctx, shop)
		for err == nil && merchant != nil && merchant.Client.Limiter().WaitBackground(ctx, 1) {
			err = x.updateOne(ctx, merchant.Client, shop, change)
			if !recharge.Is(err, recharge.OverBudget) || !recharge.Wait(ctx, retryAfter) {
				break
			}
			err = nil
		}
	}
}

func (x *Importer) next(shop shopify.Shop) (store.Change, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	waiting := x.updates[shop]
	if len(waiting) == 0 {
		delete(x.updates, shop)
		return store.Change{}, false
	}
	x.updates[shop] = waiting[1:]
	return waiting[0], true
}

// updateOne looks up all records of the shopper, unless a click has done so. If the filter
// does not work, it gets the changed record, and uses it if it is active.
func (x *Importer) updateOne(
	ctx context.Context, client *recharge.Client, shop shopify.Shop, change store.Change,
) error {
	who := store.Shopper{Shop: shop, Customer: change.Customer}
	loaded := x.recorder.Store.Load(ctx, who)
	if loaded.Err != nil || loaded.Record == nil || loaded.Cached.Fresh && !loaded.Cached.NotSubscriber {
		return loaded.Err
	}
	return x.recorder.Call(ctx, shop, client, recharge.Background, func(grant *recharge.Grant) error {
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
		now := x.now()
		_, err = x.recorder.Store.SaveIfUnchanged(ctx, loaded, who, store.Cached{
			Customer: customer, ShopifyID: change.Customer, LookedUp: now, Verified: now, Seen: loaded.Cached.Seen,
		}, grant.At(), nil)
		return err
	})
}

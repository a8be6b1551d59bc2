package handlers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// sweepsAtOnce is how many shops one server sweeps at the same time. Each waits
	// for its budget nearly all of the time.
	sweepsAtOnce = 16
	// sweepBeat is how often it is asked whether a shop is due.
	sweepBeat = 5 * time.Second
	// sweepAgain is when a page is asked for again that clicks, or a fault, had no
	// room for. It is shorter than a sweep's lease.
	sweepAgain = 2 * time.Second
	// sweepStumbles is how often in a row a page may fail before the sweep is left for
	// later.
	sweepStumbles = 30
	// sweepAnew is when a sweep begins again that has lost its place.
	sweepAnew = time.Minute
	// sweepLater is when a sweep begins again that Recharge has refused.
	sweepLater = time.Hour
	// sweepWait is when it is looked again whether a shop is erased by now.
	sweepWait = 15 * time.Second
	// learnAtMost is how many changed customers of a shop wait to be asked for. To
	// read all of them 250 at a time costs fewer calls then.
	learnAtMost = 250
)

// The night, in hours of UTC: it is night then where most of Recharge's stores are.
const nightBegins, nightHours = 6, 4

// Indexer remembers all customers of every shop, so that a first click need not ask
// who somebody is. It is safe for concurrent use.
type Indexer struct {
	Store *store.Store
	Shops *Shops
	Log   *slog.Logger
	Now   func() time.Time
	Due   chan struct{} // one that holds one: somebody has ordered a sweep

	mu       sync.Mutex
	learning map[shopify.Shop][]store.Change // whom somebody is about to ask for
	learners sync.WaitGroup
	ended    bool
}

// Run sweeps the shops that are due, until ctx ends.
func (x *Indexer) Run(ctx context.Context) {
	var sweeps sync.WaitGroup
	defer sweeps.Wait()
	room := make(chan struct{}, sweepsAtOnce)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		sweep, err := x.Store.TakeSweep(ctx)
		if err == nil && sweep != nil {
			sweeps.Go(func() { x.sweep(ctx, sweep); <-room })
			continue
		}
		<-room
		select {
		case <-ctx.Done():
			return
		case <-x.Due:
		case <-time.After(sweepBeat):
		}
	}
}

// Order has a shop swept at once. If that cannot be ordered, it is so within the
// hour.
func (x *Indexer) Order(ctx context.Context, shop shopify.Shop) {
	if err := x.Store.OrderIndex(ctx, shop); err != nil {
		x.Log.WarnContext(ctx, "sweep not ordered", "shop", string(shop), "cause", err)
		return
	}
	x.wake()
}

func (x *Indexer) wake() {
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

// sweep goes on where the sweep was left. If ctx ends it is left there, and
// somebody else may go on at once; if Redis is gone, when the lease is over.
func (x *Indexer) sweep(ctx context.Context, sweep *store.Sweep) {
	way, wait := x.ready(ctx, sweep.Shop)
	if way == nil {
		x.end(ctx, sweep, wait)
		return
	}
	stumbles := 0
	if !sweep.Running {
		sweep.Index = store.Index{Shop: sweep.Shop, Number: sweep.Number + 1, Running: true, Began: x.Now(), Done: sweep.Done, Size: sweep.Size}
	}
	for x.page(ctx, sweep, way) {
		if stumbles++; sweep.Problem == "" {
			stumbles = 0
		}
		if stumbles >= sweepStumbles {
			x.end(ctx, sweep, sweepLater)
			return
		}
		if !sweep.Running {
			x.Log.InfoContext(ctx, "index complete", "shop", string(sweep.Shop), "customers", sweep.Size, "calls", sweep.Pages)
			x.end(ctx, sweep, untilNight(x.Now(), sweep.Shop))
			return
		}
		if had, err := x.Store.Keep(ctx, sweep); ctx.Err() == nil && (err != nil || !had) {
			return
		}
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepAgain)
		defer cancel()
		x.end(last, sweep, 0)
	}
}

// ready is the way of a shop that can be swept; nil with how long to wait.
func (x *Indexer) ready(ctx context.Context, shop shopify.Shop) (*Way, time.Duration) {
	if erasing, err := x.Store.Erasing(ctx, shop); err != nil || erasing {
		return nil, sweepWait
	}
	way, err := x.Shops.Find(ctx, shop)
	if err != nil {
		return nil, sweepWait
	}
	return way, 24 * time.Hour // one that has left is dropped with its erasure
}

func (x *Indexer) end(ctx context.Context, sweep *store.Sweep, next time.Duration) {
	if err := x.Store.End(ctx, sweep, next); err != nil && ctx.Err() == nil {
		x.Log.WarnContext(ctx, "sweep not ended; it is taken up again", "shop", string(sweep.Shop), "cause", err)
	}
}

// page reads a page and remembers it. It tells whether the sweep is to go on.
func (x *Indexer) page(ctx context.Context, sweep *store.Sweep, way *Way) bool {
	if !way.Client.Pace(ctx) {
		return false
	}
	page, err := way.Client.CustomerPage(ctx, sweep.Cursor)
	if err == nil && page.Next != "" && page.Next == sweep.Cursor {
		err = errSamePage
	}
	if err == nil {
		err = x.Store.Fill(ctx, sweep, page.Records)
	}
	if err != nil {
		return x.stumble(ctx, sweep, err)
	}
	sweep.Problem, sweep.Cursor = "", page.Next
	sweep.Pages++
	sweep.Customers += page.Read
	if page.Next == "" {
		sweep.Running, sweep.Done, sweep.Size = false, x.Now(), sweep.Customers
	}
	return true
}

// errSamePage would have no end.
var errSamePage = &recharge.Error{Endpoint: recharge.Customers, Reason: recharge.Unexpected, Detail: "the page after a page is the same"}

// stumble tells whether a sweep goes on that could not read a page.
func (x *Indexer) stumble(ctx context.Context, sweep *store.Sweep, err error) bool {
	lostPlace := sweep.Cursor != "" && (recharge.Is(err, recharge.Invalid) || recharge.Is(err, recharge.BadRequest))
	switch {
	case ctx.Err() != nil:
		return false
	case recharge.Is(err, recharge.OverBudget):
		sweep.Problem = "" // shoppers go first
	case lostPlace:
		sweep.Index = store.Index{Shop: sweep.Shop, Number: sweep.Number, Done: sweep.Done, Size: sweep.Size, Problem: advice(err.Error())}
		x.end(ctx, sweep, sweepAnew)
		return false
	case refuses(err):
		x.Log.WarnContext(ctx, "index not made", "shop", string(sweep.Shop), "cause", err)
		sweep.Running, sweep.Problem = false, advice(err.Error())
		x.end(ctx, sweep, sweepLater)
		return false
	case recharge.ReasonOf(err) == "":
		sweep.Problem = "The app cannot reach its memory right now."
	default:
		sweep.Problem = advice(err.Error())
	}
	return pause(ctx, sweepAgain)
}

// refuses tells that another try would not help.
func refuses(err error) bool {
	reason := recharge.ReasonOf(err)
	return reason != "" && !reason.Passing()
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

// Learn asks who a shopper is of whom Recharge has said that something changed, so
// that the next click need not. Clicks go first, and what is too much is left to a
// sweep.
func (x *Indexer) Learn(ctx context.Context, shop shopify.Shop, change store.Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	waiting, busy := x.learning[shop]
	switch {
	case x.ended:
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

// Wait returns when nobody learns any more. Afterwards nobody does.
func (x *Indexer) Wait() {
	x.mu.Lock()
	x.ended = true
	x.mu.Unlock()
	x.learners.Wait()
}

func (x *Indexer) learn(ctx context.Context, shop shopify.Shop) {
	for {
		change, ok := x.next(shop)
		if !ok {
			return
		}
		way, err := x.Shops.Find(ctx, shop)
		for err == nil && way != nil && way.Client.Pace(ctx) {
			err = x.learnOne(ctx, way.Client, shop, change)
			if !recharge.Is(err, recharge.OverBudget) || !pause(ctx, sweepAgain) {
				break
			}
			err = nil
		}
		if ctx.Err() != nil {
			return // what is not learned, a click asks for
		}
	}
}

func (x *Indexer) next(shop shopify.Shop) (store.Change, bool) {
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

// learnOne asks for all records of the shopper. Where the filter does not work, it
// asks for the one that has changed: that will do if it is active.
func (x *Indexer) learnOne(ctx context.Context, client *recharge.Client, shop shopify.Shop, change store.Change) error {
	who := store.Shopper{Shop: shop, Customer: change.Customer}
	found, err := client.PeekCustomer(ctx, string(change.Customer))
	customer := found.Customer
	if recharge.Is(err, recharge.FilterIgnored) || found.Alert != nil {
		customer, err = client.CustomerByID(ctx, change.ID, string(change.Customer))
		if customer.Active == 0 {
			return err
		}
	}
	if err == nil {
		x.Store.Learn(ctx, who, store.Learned{Customer: customer})
	}
	return err
}

// Watch has a shop swept that never was.
func (x *Indexer) Watch(ctx context.Context, shop shopify.Shop) error {
	defer x.wake()
	return x.Store.WatchIndex(ctx, shop)
}

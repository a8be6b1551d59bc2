package portal

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// AnswerWithin is the longest time between confirming a record (loading, looking up or saving it)
	// and an answer that leads to it. A slower click reads Redis again. A webhook about a record is
	// answered this long after Redis has stored it, and so after every click that could not have
	// seen it. Reads and most clicks are faster.
	AnswerWithin = time.Second
	// decideWithin leaves the rest of that time for sending the answer.
	decideWithin = AnswerWithin - 100*time.Millisecond
	// trustFor is how long a verified customer gets signed-in links without being verified again,
	// if Recharge's webhooks are not proven to arrive.
	trustFor = time.Hour
	// noAccessFor is the longest time for which a click does not ask Recharge again after a
	// refusal, so that repeated clicks do not use up the store's budget of calls.
	noAccessFor = 30 * time.Second
	// mostCalls is the number of calls after which a click does not load again.
	mostCalls = 9
	// grace is how much longer a click waits after its time is up, in case its calls are just returning.
	grace = 250 * time.Millisecond
)

// Resolver decides clicks. It is safe for concurrent use.
type Resolver struct {
	Store     *store.Store
	Merchants *Merchants
	Timeout   time.Duration // of one click
	LinkTTL   time.Duration // how long a portal access is reused
	NoPrepare bool          // use no access that was made ahead
	Once      bool          // each of those opens one visit
	Now       func() time.Time

	lookups, checks singleflight.Group // simultaneous clicks of one shopper share these calls
}

// Request is a click that was found to be genuine.
type Request struct {
	Shopper store.Shopper
	Visit   recharge.Visit
	// Loaded is Load's result for the shopper, if there is one already. If nil, Resolve loads.
	Loaded *store.Loaded
	// CacheOnly makes no call, for requests that nobody waits for, such as HEAD.
	CacheOnly bool
	// Dry saves nothing and takes no lock, to see how a click would end.
	Dry bool
}

// Result is how a click ended, and why.
type Result struct {
	Outcome  Outcome
	Link     recharge.Link // set with Redirected and RedirectedByHash
	Cause    error         // why the outcome is not better; safe to log
	Source   Source
	Steps    []Step
	Calls    []recharge.Call // made for this click
	Merchant *Merchant       // nil: not connected, or not known
}

// Resolve decides a click. It reads the cache, asks Recharge for what is missing, and makes the
// link. It continues if the shopper leaves, since the next click can use what this one learns.
// fetch is in flight.go, and its calls in fetch.go. recharge/customer.go checks that a record is the
// shopper's; inTime repeats that only for a late answer.
func (r *Resolver) Resolve(ctx context.Context, request Request, trace *Trace) (result Result) {
	ctx = context.WithoutCancel(ctx)
	defer func() { result.Steps = trace.Steps() }()
	defer Recover(&result)
	c := &click{Resolver: r, Request: request, trace: trace, deadline: time.Now().Add(r.Timeout)}
	for {
		f, decided := c.look(ctx) // most clicks end here
		if decided && c.Once && f.source == FromPrepared && !c.take(ctx) {
			f = found{again: true}
		}
		if !decided {
			f = c.fetch(ctx, &result)
		}
		if c.conclude(ctx, &result, f) {
			return result
		}
	}
}

// click is a click in progress.
type click struct {
	*Resolver
	Request
	trace      *Trace
	deadline   time.Time // for its calls to Recharge
	statusOnly bool      // it is Status's: it identifies the shopper and asks for no link
	merchant   *Merchant
	loaded     store.Loaded
	refuted    int64 // a record that Recharge says is not the shopper's; 0: none
	unprepared bool  // it uses no access that was made ahead
}

func (c *click) late() bool { return !time.Now().Before(c.deadline) }

// mayGoOn reports whether the click may load again, and make further calls.
func (c *click) mayGoOn(result *Result) bool { return !c.late() && len(result.Calls) < mostCalls }

// found is what the cache or Recharge knows about a shopper. The answer is made from it.
type found struct {
	outcome  Outcome           // "": the other fields decide
	customer recharge.Customer // zero ID: none
	nobody   bool              // Recharge has no customer whose portal could be opened
	access   recharge.Access   // zero: none
	link     recharge.Link     // Recharge's own, for visit; "" none
	visit    recharge.Visit
	cause    error // why something is missing, or an alert
	source   Source
	at       time.Time // when Redis or Recharge last confirmed the record
	unsaved  bool      // Redis did not save it, or had to forget it, and so cannot confirm it later
	again    bool      // use none of this, and load again
	refuted  int64     // a record that is no longer the shopper's; 0: none
}

var (
	errUnsettled = errors.New("what Recharge says of the shopper changes all the time")
	errCacheOnly = errors.New("nothing is cached, and this request makes no call")
	errNoAccess  = errors.New("a session or portal access was refused to this shopper a moment ago")
)

// look reads the cache. It reports whether that decides the click, without a call.
func (c *click) look(ctx context.Context) (found, bool) {
	err := c.load(ctx)
	switch {
	case err != nil:
		return found{outcome: Unavailable, cause: err}, true
	case c.merchant == nil:
		return found{outcome: NotConnected}, true
	case c.Shopper.Anonymous():
		return found{outcome: SignIn}, true
	}
	return c.fromCache()
}

// load finds the merchant and reads the cache. In one-store mode, a visitor who is not signed in
// needs nothing from Redis.
func (c *click) load(ctx context.Context) error {
	switch {
	case c.Shopper.Anonymous() && c.Merchants.Own() != "":
		c.loaded = store.Loaded{At: time.Now()}
	case c.Loaded != nil:
		c.loaded, c.Loaded = *c.Loaded, nil // a second look must read Redis
	default:
		c.loaded = c.Load(ctx, c.Shopper, c.trace)
	}
	if c.refuted != 0 && c.loaded.Cached.Customer.ID == c.refuted {
		c.loaded.Cached = store.Cached{} // Recharge has refuted it, but it is still in Redis
	}
	if c.Merchants.Own() == "" && c.loaded.Record == nil && c.loaded.Err != nil {
		return errors.Join(ErrRedisDown, onlyUnreadable(c.loaded.Err))
	}
	var err error
	c.merchant, err = c.Merchants.Of(c.Shopper.Shop, c.loaded.Record)
	return err
}

func onlyUnreadable(err error) error {
	if errors.Is(err, store.ErrUnreadable) {
		return err
	}
	return nil
}

// fromCache returns what the cache knows. It reports whether that is enough, without a call.
func (c *click) fromCache() (found, bool) {
	if !c.holdsAccess(c.loaded.Cached) {
		c.loaded.Cached.DropAccess()
	}
	cached := c.loaded.Cached
	if cached.NoAccessUntil.Add(-noAccessFor).Before(c.merchant.movedAt) {
		cached.NoAccessUntil = time.Time{}
	}
	if c.merchant.NoAccess {
		cached.Session = recharge.Session{}
	}
	f := found{customer: cached.Customer, access: cached.Access, source: sourceOf(cached), at: c.loaded.At}
	if !cached.Known() {
		f.customer, f.access = recharge.Customer{}, recharge.Access{}
	}
	if f.access != (recharge.Access{}) && c.ready(cached) {
		link, err := c.merchant.Client.SignedInLink(f.customer, f.access, c.Visit)
		if err == nil {
			f.link, f.visit = link, c.Visit
			return f, true
		}
		c.loaded.Cached.DropAccess() // the settings have changed since
	}
	f.access = recharge.Access{}
	switch {
	case cached.NotSubscriber && cached.Fresh:
		f.nobody = true
	case c.merchant.NoAccess && cached.Fresh: // the customer is enough
	case cached.Fresh && !cached.NoAccessUntil.IsZero():
		f.cause = errNoAccess
	case c.CacheOnly:
		f.cause = errCacheOnly
	default:
		return found{}, false
	}
	return f, true
}

// sourceOf returns the source of an answer that a cached value gives.
func sourceOf(cached store.Cached) Source {
	switch {
	case cached.For != "":
		return FromPrepared
	case cached.Access.TempToken != "":
		return FromLink
	case cached.NotSubscriber:
		return FromNobody
	case cached.Session.Token != "":
		return FromSession
	case cached.Import != 0:
		return FromIndex
	case cached.Customer.ID != 0:
		return FromCustomer
	}
	return FromNothingLeft
}

// conclude makes the result from what was found. It reports whether that ends the click. If not,
// the cache has changed meanwhile, and the click looks again.
func (c *click) conclude(ctx context.Context, result *Result, f found) bool {
	if f.again {
		if c.mayGoOn(result) {
			return false
		}
		f = c.orByHash(c.loaded.Cached, errUnsettled)
	}
	c.answer(result, f)
	return c.inTime(ctx, result, f)
}

// answer makes the result, with the link if there is one.
func (c *click) answer(result *Result, f found) {
	*result = Result{Outcome: f.outcome, Source: f.source, Cause: f.cause, Calls: result.Calls, Merchant: c.merchant}
	switch {
	case f.outcome != "":
		return
	case f.nobody:
		result.Outcome = NotASubscriber
		return
	case c.merchant.InAccount: // also if Recharge could not say who the shopper is, since Shopify can
		result.Outcome, result.Link = Redirected, c.merchant.Client.AccountLink(c.Visit)
		return
	case f.customer.ID == 0:
		result.Outcome, result.Source = Unavailable, FromNothingLeft
		return
	case f.link.URL != "" && f.visit == c.Visit:
		result.Outcome, result.Link = Redirected, f.link
		return
	case f.access != (recharge.Access{}):
		link, err := c.merchant.Client.SignedInLink(f.customer, f.access, c.Visit)
		if err == nil {
			result.Outcome, result.Link = Redirected, link
			return
		}
		result.Cause = errors.Join(f.cause, err)
	}
	link, err := c.merchant.Client.LinkByHash(f.customer, c.Visit)
	if err != nil {
		result.Outcome, result.Cause = Unavailable, err
		return
	}
	result.Outcome, result.Link = RedirectedByHash, link
}

var (
	// errUnsure is the cause if a click found a customer but could not confirm the record.
	errUnsure = errors.New("nobody could say whether the record is still the shopper's")
	errOther  = errors.New("it has changed meanwhile")
	errLate   = errors.New("the answer took too long")
)

// inTime reports whether the answer may be sent. An answer that leads to a record and is older than
// decideWithin has the record checked once more, except in a dry click, which leads nobody there.
func (c *click) inTime(ctx context.Context, result *Result, f found) bool {
	leads := result.Outcome.InPortal() && !result.Merchant.InAccount
	if !leads || c.Dry || time.Since(f.at) < decideWithin {
		return true
	}
	anew := c.mayGoOn(result)
	err := c.holds(ctx, result, f)
	switch {
	case err == nil:
		return true
	case anew && (NotACustomer(err) || errors.Is(err, errOther)):
		return false
	}
	*result = Result{
		Outcome: Unavailable, Cause: errors.Join(f.cause, err, errUnsure), Source: FromNothingLeft,
		Calls: result.Calls, Merchant: result.Merchant,
	}
	return true
}

// holds checks that a record is unchanged and still the shopper's. It asks Redis or, if Redis does
// not know, Recharge.
func (c *click) holds(ctx context.Context, result *Result, f found) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*AnswerWithin)
	defer cancel()
	loaded := c.Load(ctx, c.Shopper, c.trace)
	cached := loaded.Cached.Customer
	switch {
	case loaded.Err == nil && cached.ID == f.customer.ID && cached.Hash == f.customer.Hash:
		return nil
	case loaded.Err == nil && !f.unsaved:
		return errOther
	case loaded.Err != nil && c.CacheOnly:
		return loaded.Err
	}
	return c.stillNames(ctx, result, f.customer)
}

// check is Recharge's answer about a record.
type check struct {
	customer recharge.Customer
	at       time.Time // when it was asked
	calls    []recharge.Call
	err      error
}

// stillNames checks with Recharge that a record is unchanged and still the shopper's. Simultaneous
// clicks of one shopper in this process share one check.
func (c *click) stillNames(ctx context.Context, result *Result, customer recharge.Customer) error {
	key := c.key() + " " + strconv.FormatInt(customer.ID, 10)
	now, led, err := share(ctx, &c.checks, key, func() check { return c.check(ctx, customer.ID) })
	if led {
		c.trace.addCalls(now.calls)
		result.Calls = append(result.Calls, now.calls...)
	}
	switch err = errors.Join(err, now.err); {
	case err != nil:
		return err
	case now.customer.ID != customer.ID || now.customer.Hash != customer.Hash:
		return errOther
	case time.Since(now.at) >= decideWithin:
		return errLate
	}
	return nil
}

func (c *click) check(ctx context.Context, id int64) (now check) {
	grant, err := c.merchant.Client.Limiter().Reserve(ctx, c.Store.Limiter(c.Shopper.Shop), recharge.Ask{recharge.High: 1})
	if err != nil {
		return check{err: err}
	}
	now.at = time.Now()
	now.customer, now.err = c.verified(ctx, grant, id)
	grant.Release(ctx)
	now.calls = grant.Calls()
	return now
}

// Load reads everything that a click needs from Redis.
func (r *Resolver) Load(ctx context.Context, who store.Shopper, trace *Trace) store.Loaded {
	start := trace.Now()
	loaded := r.Store.Load(ctx, who)
	trace.End(stepLoad, start, loaded.Err)
	return loaded
}

// Recover must be deferred. It turns a panic into the outcome Unavailable, which has a helpful page.
// Shopify would replace a 5xx with a page that explains nothing.
func Recover(result *Result) {
	if value := recover(); value != nil {
		*result = Result{Outcome: Unavailable, Cause: &Fault{value, debug.Stack()}}
	}
}

// ApplyCustomerChange forgets the shopper whom a Recharge webhook names. It returns once every
// click that read Redis earlier has been answered.
func (r *Resolver) ApplyCustomerChange(ctx context.Context, shop shopify.Shop, change store.Change) error {
	if err := r.Store.ApplyCustomerChange(ctx, shop, change); err != nil {
		return err
	}
	if !recharge.Wait(ctx, AnswerWithin) {
		return ctx.Err()
	}
	return nil
}

package portal

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// AnswerWithin is the longest time between reading Redis and an answer that leads to a
	// record. A click that takes longer reads Redis again. A webhook about a record is
	// answered that long after Redis has taken it, and so after every click that could not
	// know of it. It is longer than a read takes, and than most clicks.
	AnswerWithin = time.Second
	// decideWithin leaves the rest of it to sending the answer.
	decideWithin = AnswerWithin - 100*time.Millisecond
	// trustFor is how long a customer who was verified is not verified again before a
	// signed-in link is made, where Recharge's webhooks are not proven to arrive.
	trustFor = time.Hour
	// noAccessFor is how long, at most, Recharge is not asked again for what it has refused
	// to a shopper. So clicking again and again does not cost the store's budget.
	noAccessFor = 30 * time.Second
	// mostCalls is how many calls a click may have made and still load again.
	mostCalls = 9
	// grace lets a click that has run out of time take what its calls have just brought.
	grace = 250 * time.Millisecond
)

// Resolver decides clicks. It is safe for concurrent use.
type Resolver struct {
	Store     *store.Store
	Merchants *Merchants
	Timeout   time.Duration // of one click
	LinkTTL   time.Duration // how long a portal access is reused
	Now       func() time.Time

	lookups, checks singleflight.Group // simultaneous clicks of one shopper share these calls
}

// Request is a click that was found to be genuine.
type Request struct {
	Shopper store.Shopper
	Visit   recharge.Visit
	// Loaded is what Load has just returned for the shopper; nil: Resolve loads.
	Loaded *store.Loaded
	// CacheOnly makes no call, for requests that nobody waits for, such as HEAD.
	CacheOnly bool
	// Dry saves nothing and takes no lock, to see how a click would end.
	Dry bool
}

// Result is how a click ended, and how it came to that.
type Result struct {
	Outcome  Outcome
	Link     recharge.Link // where to, with Redirected and RedirectedByHash
	Cause    error         // why it is not a better outcome; safe to log
	Source   Source
	Steps    []Step
	Calls    []recharge.Call // made for this click
	Merchant *Merchant       // nil: not connected, or not known
}

// Resolve decides a click. It looks at what is cached, asks Recharge for what is missing, and
// concludes with a link. It goes on when the shopper leaves, since the next click would have
// to ask again for what it learns.
func (r *Resolver) Resolve(ctx context.Context, request Request, trace *Trace) (result Result) {
	ctx = context.WithoutCancel(ctx)
	defer func() { result.Steps = trace.Steps() }()
	defer Recover(&result)
	c := &click{Resolver: r, Request: request, trace: trace, deadline: time.Now().Add(r.Timeout)}
	for {
		f, decided := c.look(ctx) // most clicks end with that
		if !decided {
			f = c.fetch(ctx, &result)
		}
		if c.conclude(ctx, &result, f) {
			return result
		}
	}
}

// click is one click under way.
type click struct {
	*Resolver
	Request
	trace      *Trace
	deadline   time.Time // for what it asks of Recharge
	statusOnly bool      // it asks who the shopper is, and for no link
	merchant   *Merchant
	loaded     store.Loaded
	refuted    int64 // the record that Recharge has just said is not the shopper's; 0 none
}

func (c *click) late() bool { return !time.Now().Before(c.deadline) }

// mayGoOn reports whether the click may load again, and make further calls.
func (c *click) mayGoOn(result *Result) bool { return !c.late() && len(result.Calls) < mostCalls }

// found is what the cache or Recharge knows of a shopper. An answer is made from it.
type found struct {
	outcome  Outcome           // "": it depends on what follows
	customer recharge.Customer // zero ID: none
	nobody   bool              // Recharge knows no customer to open the portal for
	access   recharge.Access   // zero: none
	link     recharge.Link     // Recharge's own, for visit; "" none
	visit    recharge.Visit
	cause    error // why there is not more, or an alert
	source   Source
	at       time.Time // when Redis or Recharge was last asked for that
	unsaved  bool      // Redis did not take it, and so cannot say later whether it holds
	again    bool      // nothing of this: load again
	refuted  int64     // the record that is not the shopper's any more; 0 none
}

var (
	errUnsettled = errors.New("what Recharge says of the shopper changes all the time")
	errCacheOnly = errors.New("nothing is cached, and this request makes no call")
	errNoAccess  = errors.New("a session or portal access was refused to this shopper a moment ago")
)

// look loads what is cached. It reports whether that decides the click, without a call.
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

// load finds the merchant and what is cached. A visitor of the one store who is not
// signed in needs neither.
func (c *click) load(ctx context.Context) error {
	switch {
	case c.Shopper.Anonymous() && c.Merchants.Own() != "":
		c.loaded = store.Loaded{At: time.Now()}
	case c.Loaded != nil:
		c.loaded, c.Loaded = *c.Loaded, nil // a second look has to be a new one
	default:
		c.loaded = c.Load(ctx, c.Shopper, c.trace)
	}
	if c.refuted != 0 && c.loaded.Cached.Customer.ID == c.refuted {
		c.loaded.Cached = store.Cached{} // it could not be forgotten
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

// fromCache is what is known without any call. It reports whether that will do.
func (c *click) fromCache() (found, bool) {
	cached := c.loaded.Cached
	if c.merchant.ByHash { // neither is used
		cached.Session, cached.Access = recharge.Session{}, recharge.Access{}
	}
	f := found{customer: cached.Customer, access: cached.Access, source: sourceOf(cached), at: c.loaded.At}
	if !cached.Known() {
		f.customer, f.access = recharge.Customer{}, recharge.Access{}
	}
	if f.access != (recharge.Access{}) {
		link, err := c.merchant.Client.SignedInLink(f.customer, f.access, c.Visit)
		if err == nil {
			f.link, f.visit = link, c.Visit
			return f, true
		}
		f.access = recharge.Access{} // the settings have changed since
	}
	switch {
	case cached.NotSubscriber && cached.Fresh:
		f.nobody = true
	case c.merchant.ByHash && cached.Fresh:
	case cached.Fresh && !cached.NoAccessUntil.IsZero():
		f.cause = errNoAccess
	case c.CacheOnly:
		f.cause = errCacheOnly
	default:
		return found{}, false
	}
	return f, true
}

// sourceOf is where what is cached comes from, if that will do.
func sourceOf(cached store.Cached) Source {
	switch {
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

// conclude makes the result from what was found. It reports whether the click ends with that.
// If not, the cache has changed meanwhile and the click looks again.
func (c *click) conclude(ctx context.Context, result *Result, f found) bool {
	if f.again {
		if c.mayGoOn(result) {
			return false
		}
		f = c.orByHash(errUnsettled)
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
	// errUnsure is why a click that knew a customer ends without.
	errUnsure = errors.New("nobody could say whether the record is still the shopper's")
	errOther  = errors.New("it has changed meanwhile")
	errLate   = errors.New("the answer took too long")
)

// inTime reports whether the answer may be given. If it leads to a record and is older than
// decideWithin, the record has to be checked once more. A dry click leads nobody.
func (c *click) inTime(ctx context.Context, result *Result, f found) bool {
	leads := result.Outcome == Redirected || result.Outcome == RedirectedByHash
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

// holds checks that a record is still the shopper's, as it was found. It asks Redis, or
// Recharge if Redis does not know.
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

// check is what Recharge says of a record.
type check struct {
	customer recharge.Customer
	at       time.Time // when it was asked
	calls    []recharge.Call
	err      error
}

// stillNames checks with Recharge that a record is still the shopper's, as it was found. Clicks
// of the same shopper in this process do so once.
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

// Load reads what a click needs to know from Redis.
func (r *Resolver) Load(ctx context.Context, who store.Shopper, trace *Trace) store.Loaded {
	start := trace.Now()
	loaded := r.Store.Load(ctx, who)
	trace.End(stepLoad, start, loaded.Err)
	return loaded
}

// Recover is to be deferred. It turns a panic into the outcome Unavailable, which has a page
// that helps. Shopify would replace a 5xx by a page that says nothing.
func Recover(result *Result) {
	if value := recover(); value != nil {
		*result = Result{Outcome: Unavailable, Cause: &Fault{value, debug.Stack()}}
	}
}

// ApplyCustomerChange forgets the shopper of a webhook of Recharge's. It returns when every
// click that had read Redis before is answered.
func (r *Resolver) ApplyCustomerChange(ctx context.Context, shop shopify.Shop, change store.Change) error {
	if err := r.Store.ApplyCustomerChange(ctx, shop, change); err != nil {
		return err
	}
	timer := time.NewTimer(AnswerWithin)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

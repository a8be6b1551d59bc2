// Package portal decides how a click ends. It finds out who the shopper is at Recharge, and which
// link opens their portal. It knows nothing about HTTP, and returns everything that it learns.
package portal

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Outcome is how a click ended. Its text appears in the log and the metrics.
type Outcome string

// The outcomes.
const (
	Redirected       Outcome = "redirected"         // to the portal, signed in
	RedirectedByHash Outcome = "redirected_by_hash" // to the portal by hash
	SignIn           Outcome = "sign_in"            // to the store's sign-in, and back here
	SignInFailed     Outcome = "sign_in_failed"     // back, and still nobody is signed in
	NotASubscriber   Outcome = "not_a_subscriber"   // Recharge does not know the customer
	Unavailable      Outcome = "unavailable"        // Recharge could not say, and nothing is cached
	NotConnected     Outcome = store.Unconnected    // "not_connected": the store has no Recharge credentials
	Forbidden        Outcome = "forbidden"          // the request does not come from Shopify
)

// Outcomes returns all of them.
func Outcomes() []Outcome {
	return []Outcome{
		Redirected, RedirectedByHash, SignIn, SignInFailed, NotASubscriber, Unavailable, NotConnected, Forbidden,
	}
}

// InPortal reports whether the shopper was sent to the portal.
func (o Outcome) InPortal() bool { return o == Redirected || o == RedirectedByHash }

// Channel is how a click reaches us.
type Channel string

// The channels.
const (
	FromStorefront Channel = ""        // Shopify's app proxy
	FromAPI        Channel = "api"     // POST /api/portal-links: a middleware requests the link
	FromSignedLink Channel = "go"      // GET /go: a link signed by a middleware
	FromSupport    Channel = "support" // GET /go/support: a link that the merchant's staff made
)

// Source is the nearest place where a click found what it needed.
type Source string

// The sources, nearest first.
const (
	FromJoined      Source = "joined"      // another click of the same shopper, in this process at the same time
	FromLink        Source = "link"        // a portal access in Redis
	FromPrepared    Source = "prepared"    // the same, made ahead for a campaign
	FromNobody      Source = "nobody"      // in Redis: Recharge does not know the shopper
	FromSession     Source = "session"     // a session in Redis; portal access is requested
	FromCustomer    Source = "customer"    // who the shopper is, in Redis, by an earlier click
	FromIndex       Source = "index"       // who the shopper is, in Redis, by an import
	FromOutOfDate   Source = "out_of_date" // who the shopper was, in Redis; Recharge could not be asked
	FromRecharge    Source = "recharge"    // nothing was cached
	FromNothingLeft Source = "none"        // nothing was cached, and Recharge could not be asked
)

// Sources returns all of them.
func Sources() []Source {
	return []Source{
		FromJoined, FromLink, FromPrepared, FromNobody, FromSession, FromCustomer, FromIndex, FromOutOfDate, FromRecharge,
		FromNothingLeft,
	}
}

// Step is one thing that a click waited for.
type Step struct {
	Name  string // one of StepNames
	Start time.Time
	Took  time.Duration
	Error string // why it failed, if known; of a call, a recharge.Reason
}

// The steps other than calls to Recharge, which are named after their endpoint.
const (
	StepVerify = "verify"      // Shopify's signature
	StepNonce  = "redis_nonce" // whether a one-time link was used
	stepJoin   = "join"        // another click of the same shopper
	stepLoad   = "redis_read"  // what is cached
	stepBudget = "budget"      // the right to call Recharge
	stepWait   = "wait"        // another instance that asks Recharge for the same shopper
	stepSave   = "redis_write" // what was learned
)

// StepNames returns all names that a step can have.
func StepNames() []string {
	return []string{
		StepVerify, StepNonce, stepJoin, stepLoad, stepBudget, stepWait,
		recharge.Customers, recharge.Sessions, recharge.PortalAccess, stepSave,
	}
}

// Trace is the list of steps of one click. Only the click's own goroutine writes it.
type Trace struct {
	now   func() time.Time
	steps []Step
}

// NewTrace returns an empty trace that reads the time from now.
func NewTrace(now func() time.Time) *Trace {
	return &Trace{now: now, steps: make([]Step, 0, 3)} // most clicks have three
}

// Now returns the time by the trace's clock.
func (t *Trace) Now() time.Time { return t.now() }

// End records the end of a step that began at start.
func (t *Trace) End(name string, start time.Time, err error) {
	step := Step{Name: name, Start: start, Took: t.now().Sub(start)}
	if err != nil {
		step.Error = err.Error()
	}
	t.steps = append(t.steps, step)
}

// Steps returns the steps that have ended.
func (t *Trace) Steps() []Step { return t.steps }

// addCalls adds calls to Recharge as steps.
func (t *Trace) addCalls(calls []recharge.Call) {
	for _, call := range calls {
		step := Step{Name: call.Endpoint, Start: call.Start, Took: call.Took}
		if call.Failed != nil {
			step.Error = string(call.Failed.Reason)
		}
		t.steps = append(t.steps, step)
	}
}

// Click describes an answered click for the log, the metrics and the traces. It holds no secret,
// and nothing that names the shopper.
type Click struct {
	RequestID string
	Shop      shopify.Shop // "": not known, or not to be trusted
	Channel   Channel
	Outcome   Outcome
	Source    Source // "": nothing was asked for
	Start     time.Time
	Took      time.Duration
	Steps     []Step
	Calls     []recharge.Call // that this click made
	Cause     error           // why the outcome is not better
	Level     slog.Level
	Returned  bool // came back from the sign-in
	// CountedFor is the shop in whose numbers the click counts; "": in nobody's. Nothing else may depend on it,
	// since a refused request may only claim to come from there.
	CountedFor shopify.Shop
}

// Line returns the steps as the log shows them, each with its milliseconds, as in
// "verify=0.02 redis_read=0.31 customers=180.12".
func (c Click) Line() string {
	text := make([]byte, 0, 24*len(c.Steps))
	for i, step := range c.Steps {
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(append(text, step.Name...), '=')
		text = strconv.AppendFloat(text, Milliseconds(step.Took), 'f', -1, 64)
	}
	return string(text)
}

// Milliseconds returns milliseconds with two places. Anything finer does not matter.
func Milliseconds(d time.Duration) float64 { return float64(d/(10*time.Microsecond)) / 100 }

// Fault is a panic in our own code that ended a click.
type Fault struct {
	Value any
	Stack []byte
}

func (f *Fault) Error() string { return fmt.Sprintf("panic: %v", f.Value) }

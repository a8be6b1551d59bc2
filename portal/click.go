// Package portal decides how a click ends: who the shopper is at Recharge, and which
// link opens their portal. It knows nothing of HTTP. What it finds out on the way is in
// what it returns.
package portal

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// Outcome is how a click ended. Its text is what the log and the metrics say.
type Outcome string

// The outcomes.
const (
	Redirected       Outcome = "redirected"         // to the portal, signed in
	RedirectedByHash Outcome = "redirected_by_hash" // to the portal by hash
	SignIn           Outcome = "sign_in"            // to the store's sign-in, and back here
	SignInFailed     Outcome = "sign_in_failed"     // back, and still nobody is signed in
	NotASubscriber   Outcome = "not_a_subscriber"   // Recharge does not know the customer
	Unavailable      Outcome = "unavailable"        // Recharge could not tell, and nothing is cached
	NotConnected     Outcome = "not_connected"      // the store has no Recharge credentials
	Forbidden        Outcome = "forbidden"          // not Shopify's request
)

// Outcomes are all that there are.
func Outcomes() []Outcome {
	return []Outcome{
		Redirected, RedirectedByHash, SignIn, SignInFailed, NotASubscriber, Unavailable, NotConnected, Forbidden,
	}
}

// Channel is the way by which a click comes in.
type Channel string

// The channels.
const (
	FromStorefront Channel = ""    // Shopify's app proxy
	FromAPI        Channel = "api" // POST /api/portal-links: a middleware asks for the link
	FromSignedLink Channel = "go"  // GET /go: a link that a middleware has signed
)

// Source is the nearest place where a click found what it needed.
type Source string

// The sources, from the nearest on.
const (
	FromJoined      Source = "joined"      // what another click of the same shopper got in this process at the same time
	FromLink        Source = "link"        // a portal access in Redis
	FromNobody      Source = "nobody"      // in Redis: Recharge does not know the shopper
	FromSession     Source = "session"     // a session in Redis; the portal access is asked for
	FromCustomer    Source = "customer"    // who the shopper is, in Redis, by an earlier click
	FromIndex       Source = "index"       // who the shopper is, in Redis, by an import
	FromOutOfDate   Source = "out_of_date" // who the shopper was, in Redis; Recharge could not be asked
	FromRecharge    Source = "recharge"    // nothing was cached
	FromNothingLeft Source = "none"        // nothing was cached, and Recharge could not be asked
)

// Sources are all that there are.
func Sources() []Source {
	return []Source{
		FromJoined, FromLink, FromNobody, FromSession, FromCustomer, FromIndex, FromOutOfDate, FromRecharge, FromNothingLeft,
	}
}

// Step is one thing that a click waited for.
type Step struct {
	Name  string // one of StepNames
	Start time.Time
	Took  time.Duration
	Error string // why it gave nothing, as far as that is known; of a call, a recharge.Reason
}

// The steps that are not a call to Recharge. Those are named by their endpoint.
const (
	StepVerify = "verify"      // Shopify's signature
	StepNonce  = "redis_nonce" // whether a one-time link was used
	stepJoin   = "join"        // another click of the same shopper
	stepLoad   = "redis_read"  // what is cached
	stepBudget = "budget"      // the right to call Recharge
	stepWait   = "wait"        // another instance that asks Recharge for the same shopper
	stepSave   = "redis_write" // what was learned
)

// StepNames are all names that a step of a click can have.
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

// NewTrace returns a trace by a clock.
func NewTrace(now func() time.Time) *Trace {
	return &Trace{now: now, steps: make([]Step, 0, stepsExpected)}
}

// stepsExpected are those of most clicks.
const stepsExpected = 3

// Now is the time, by the trace's clock.
func (t *Trace) Now() time.Time { return t.now() }

// End ends a step that has begun at start.
func (t *Trace) End(name string, start time.Time, err error) {
	step := Step{Name: name, Start: start, Took: t.now().Sub(start)}
	if err != nil {
		step.Error = err.Error()
	}
	t.steps = append(t.steps, step)
}

// Steps are those that have ended.
func (t *Trace) Steps() []Step { return t.steps }

// addCalls adds the calls to Recharge.
func (t *Trace) addCalls(calls []recharge.Call) {
	for _, call := range calls {
		step := Step{Name: call.Endpoint, Start: call.Start, Took: call.Took}
		if call.Failed != nil {
			step.Error = string(call.Failed.Reason)
		}
		t.steps = append(t.steps, step)
	}
}

// Click is what is known of a click that has been answered: for the log, the numbers
// and the traces. It holds nothing that is secret or names the shopper.
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
	Cause     error           // why it is not a better outcome
	Level     slog.Level
	Counted   bool // the shop is connected: it belongs into its numbers
}

// Line is how the log has the steps: each with its milliseconds, as in
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

// Milliseconds has two places: what is less does not matter.
func Milliseconds(d time.Duration) float64 { return float64(d/(10*time.Microsecond)) / 100 }

// Fault is a fault of ours that ended a click.
type Fault struct {
	Value any
	Stack []byte
}

func (f *Fault) Error() string { return fmt.Sprintf("panic: %v", f.Value) }

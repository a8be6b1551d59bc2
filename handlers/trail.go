package handlers

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Click is what is known of a click that has been answered: for the log, the
// numbers and the traces. It holds nothing that is secret or names the shopper.
type Click struct {
	RequestID string
	Shop      shopify.Shop // "": not known, or not to be trusted
	Door      Door
	Outcome   Outcome
	Source    Source // "": nothing was asked for
	Start     time.Time
	Took      time.Duration
	Steps     []Step
	Cause     error // why it is not a better outcome
	Level     slog.Level
}

// Door is by which way a click comes in.
type Door string

// The doors.
const (
	FromStorefront Door = ""    // Shopify's app proxy
	FromAPI        Door = "api" // POST /api/portal-links: a middleware asks for the link
	FromSignedLink Door = "go"  // GET /go: a link that a middleware has signed
)

// Step is one thing that a click waited for.
type Step struct {
	Name  string // one of StepNames
	Start time.Time
	Took  time.Duration
	Error string // why it gave nothing, as far as that is known; of a call, a recharge.Reason
}

// The steps that are not a call to Recharge. Those are named by their endpoint.
const (
	stepVerify    = "verify"      // Shopify's signature
	stepTurn      = "turn"        // the same shopper's click before this one
	stepRecall    = "redis_read"  // what is remembered
	stepBudget    = "budget"      // the right to call Recharge
	stepOverhear  = "overhear"    // what another server finds out for the same shopper
	stepRemember  = "redis_write" // what was learned
	stepSpend     = "redis_spend" // whether a signed link has been used
	stepsExpected = 8
)

// StepNames are all names that a step of a click can have.
func StepNames() []string {
	return []string{stepVerify, stepTurn, stepRecall, stepSpend, stepBudget, stepOverhear, recharge.Customers, recharge.Sessions, recharge.PortalAccess, stepRemember}
}

// Source is the nearest place where a click found what it needed: the cache's
// layer, so to speak.
type Source string

// The sources, from the nearest on.
const (
	FromProcess     Source = "process"     // a link, remembered by this process for a moment
	FromTurn        Source = "turn"        // what the same shopper's click just before has got
	FromOther       Source = "other"       // what another server has got for the same shopper
	FromLink        Source = "link"        // a link in Redis
	FromNobody      Source = "nobody"      // in Redis: Recharge does not know the shopper
	FromSession     Source = "session"     // a session in Redis; the link is asked for
	FromCustomer    Source = "customer"    // who the shopper is, in Redis, by an earlier click
	FromIndex       Source = "index"       // who the shopper is, in Redis, by a sweep
	FromOutOfDate   Source = "out_of_date" // who the shopper was, in Redis; Recharge could not be asked
	FromRecharge    Source = "recharge"    // nothing was remembered
	FromNothingLeft Source = "none"        // nothing was remembered, and Recharge could not be asked
)

// Sources are all that there are.
func Sources() []Source {
	return []Source{FromProcess, FromTurn, FromOther, FromLink, FromNobody, FromSession, FromCustomer, FromIndex, FromOutOfDate, FromRecharge, FromNothingLeft}
}

// line is how the log has the steps: each with its milliseconds, as in
// "verify=0.02 redis_read=0.31 customers=180.12".
func line(all []Step) string {
	text := make([]byte, 0, 24*len(all))
	for i, step := range all {
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(append(text, step.Name...), '=')
		text = strconv.AppendFloat(text, milliseconds(step.Took), 'f', -1, 64)
	}
	return string(text)
}

// milliseconds has two places: what is less does not matter.
func milliseconds(d time.Duration) float64 { return float64(d/(10*time.Microsecond)) / 100 }

// trail is what a click leaves behind on its way. Only the click's own goroutine
// writes it. That of nil keeps nothing.
type trail struct {
	now    func() time.Time
	steps  []Step
	source Source
	room   [stepsExpected]Step
}

type trailKey struct{}

func newTrail(ctx context.Context, now func() time.Time) (*trail, context.Context) {
	t := &trail{now: now}
	t.steps = t.room[:0]
	return t, context.WithValue(ctx, trailKey{}, t)
}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

// begin begins a step. What it returns ends it.
func (t *trail) begin(name string) func(error) {
	if t == nil {
		return func(error) {}
	}
	start := t.now()
	return func(err error) {
		step := Step{Name: name, Start: start, Took: t.now().Sub(start)}
		if err != nil {
			step.Error = err.Error()
		}
		t.steps = append(t.steps, step)
	}
}

func (t *trail) from(source Source) {
	if t != nil {
		t.source = source
	}
}

// Called notes a call that was made for a click, if it was for one.
func Called(ctx context.Context, call recharge.Call) {
	t := trailOf(ctx)
	if t == nil || !slices.Contains(StepNames(), call.Endpoint) {
		return
	}
	step := Step{Name: call.Endpoint, Start: call.Start, Took: call.Took}
	if call.Failed != nil {
		step.Error = string(call.Failed.Reason)
	}
	t.steps = append(t.steps, step)
}

// sourceOf is where what is known of a shopper comes from, if that will do.
func sourceOf(known store.Memory) Source {
	switch {
	case known.Recent:
		return FromProcess
	case known.Link.URL != "":
		return FromLink
	case known.NotSubscriber:
		return FromNobody
	case known.Session.Token != "":
		return FromSession
	case known.Indexed:
		return FromIndex
	}
	return FromCustomer
}

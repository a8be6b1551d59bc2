package portal

import (
	"context"
	"errors"
	"log/slog"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Meter keeps the operator's metrics. It must not block.
type Meter interface {
	Click(Click)
	Call(recharge.Call)
	Status(StatusAnswer)
	Webhook(from Sender, status int) // status is that of our answer
}

// Tracer exports the spans of a click. It must not block.
type Tracer interface{ Click(Click) }

// Recorder records clicks and calls in the log, in the operator's metrics and traces, and in the
// merchant's counters. It is safe for concurrent use.
//
// The merchant's counters are named as in Redis: an outcome, or one of the constants below.
type Recorder struct {
	Store  *store.Store
	Log    *slog.Logger
	Meter  Meter
	Tracer Tracer // nil: no tracing
}

// The merchant's counters besides outcomes.
const (
	Unverified      = "unverified" // refused clicks that only claim to come from the shop
	Returned        = "returned"   // clicks that came back from the sign-in, and so were counted as SignIn before
	CallsMade       = "calls"
	CallsFailed     = "calls_failed"
	CallsLimited    = "calls_limited"
	WebhooksTaken   = "webhooks"
	WebhooksRefused = "webhooks_refused"
	ByPrepared      = "prepared" // clicks with a portal access that was made ahead
)

// Record records a click that has been answered.
func (r *Recorder) Record(ctx context.Context, click Click) {
	r.log(ctx, click)
	r.Calls(click.Shop, click.Calls)
	r.Meter.Click(click)
	if r.Tracer != nil {
		r.Tracer.Click(click)
	}
	if click.CountedFor == "" {
		return
	}
	if click.Shop == "" {
		r.Store.Count(click.CountedFor, Unverified, 1)
		return
	}
	r.Store.Count(click.CountedFor, string(click.Outcome), 1)
	if click.Returned {
		r.Store.Count(click.CountedFor, Returned, 1)
	}
	if click.Source == FromPrepared {
		r.Store.Count(click.CountedFor, ByPrepared, 1)
	}
	if click.Level >= slog.LevelWarn && click.Cause != nil {
		r.Store.NoteError(click.CountedFor, Reason(click.Cause))
	}
}

// Call reserves a call to Recharge for a shop and passes it to do. It records all calls that do has made.
// They share a rate limit with the shop's clicks, so a 429 pauses both.
func (r *Recorder) Call(
	ctx context.Context, shop shopify.Shop, client *recharge.Client, p recharge.Priority, do func(*recharge.Grant) error,
) error {
	var ask recharge.Ask
	ask[p] = 1
	grant, err := client.Limiter().Reserve(ctx, r.Store.Limiter(shop), ask)
	if err != nil {
		return err
	}
	defer func() {
		grant.Release(ctx)
		r.Calls(shop, grant.Calls())
	}()
	return do(grant)
}

// Calls records calls to Recharge that were made for a shop, by a click or anything else.
func (r *Recorder) Calls(shop shopify.Shop, calls []recharge.Call) {
	for _, call := range calls {
		r.Meter.Call(call)
		r.Store.Count(shop, CallsMade, 1)
		switch {
		case call.Failed == nil:
		case call.Failed.Reason == recharge.Limited:
			r.Store.Count(shop, CallsLimited, 1)
		case call.Failed.Reason != recharge.NotFound:
			r.Store.Count(shop, CallsFailed, 1)
		}
	}
}

// log writes a click's log line.
func (r *Recorder) log(ctx context.Context, click Click) {
	if !r.Log.Enabled(ctx, click.Level) {
		return
	}
	attributes := make([]slog.Attr, 0, 9)
	attributes = append(attributes,
		slog.String("request_id", click.RequestID),
		slog.String("outcome", string(click.Outcome)),
		slog.Float64("ms", Milliseconds(click.Took)),
	)
	for _, of := range [...]struct{ key, value string }{
		{"channel", string(click.Channel)}, {"shop", string(click.Shop)}, {"source", string(click.Source)},
	} {
		if of.value != "" {
			attributes = append(attributes, slog.String(of.key, of.value))
		}
	}
	attributes = append(attributes, slog.String("steps", click.Line()))
	r.Log.LogAttrs(ctx, click.Level, "click", append(attributes, Causes(click.Cause)...)...)
}

// Causes returns the log attributes of a cause, with the stack if it is a Fault.
func Causes(cause error) []slog.Attr {
	if cause == nil {
		return nil
	}
	attributes := []slog.Attr{slog.String("cause", cause.Error())}
	if fault, ok := errors.AsType[*Fault](cause); ok {
		attributes = append(attributes, slog.String("stack", string(fault.Stack)))
	}
	return attributes
}

// The reasons besides Recharge's own.
const (
	NoDatabase    = "no database"          // Redis does not answer
	RefusedBefore = "refused a moment ago" // Recharge refused recently, and is not asked again yet
)

// Reason returns why something failed, as a fixed key: a recharge.Reason, NoDatabase,
// RefusedBefore, or "other" for anything else, such as a Fault.
func Reason(cause error) string {
	switch reason := recharge.ReasonOf(cause); {
	case reason != "":
		return string(reason)
	case errors.Is(cause, ErrRedisDown):
		return NoDatabase
	case errors.Is(cause, errNoAccess):
		return RefusedBefore
	}
	return "other"
}

// Level returns the log level of a click. An error needs investigating. It means that Recharge
// sends other people's records or links that we refuse, or that our own code panicked.
func Level(outcome Outcome, cause error) slog.Level {
	var fault *Fault
	level := slog.LevelInfo
	switch {
	case errors.As(cause, &fault), recharge.Is(cause, recharge.FilterIgnored), recharge.Is(cause, recharge.Foreign),
		recharge.Is(cause, recharge.LinkRefused):
		level = slog.LevelError
	case recharge.Is(cause, recharge.Ambiguous):
		level = slog.LevelWarn
	}
	// The shopper did not get to the portal signed in.
	if outcome == Unavailable || outcome == RedirectedByHash && cause != nil {
		return max(slog.LevelWarn, level)
	}
	return level
}

// StatusAnswer is our answer to a theme that asked whether to show the link.
type StatusAnswer string

// The answers.
const (
	StatusSubscriber    StatusAnswer = "subscriber"
	StatusNotSubscriber StatusAnswer = "not_a_subscriber"
	StatusNotKnown      StatusAnswer = "not_known"
	StatusSignedOut     StatusAnswer = "signed_out"
	StatusForbidden     StatusAnswer = "forbidden"
)

// StatusAnswers returns all of them.
func StatusAnswers() []StatusAnswer {
	return []StatusAnswer{StatusSubscriber, StatusNotSubscriber, StatusNotKnown, StatusSignedOut, StatusForbidden}
}

// Sender is the sender of a webhook.
type Sender string

// The senders.
const (
	SentByShopify  Sender = "shopify"
	SentByRecharge Sender = "recharge"
)

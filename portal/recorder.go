package portal

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Tracer passes on the spans of a click. It must not wait for anything.
type Tracer interface{ Click(Click) }

// Recorder writes down what has happened: for the log, for the operator's metrics and
// traces, and for the merchant's last day. It is safe for concurrent use.
//
// The names under which it counts for the merchant are those of Redis' hashes: an
// outcome, "t" and the longest time in ms of its class, or one of the constants.
type Recorder struct {
	Store  *store.Store
	Log    *slog.Logger
	Meter  Meter
	Tracer Tracer // nil: there is none
}

// What is counted for the merchant beside outcomes and times.
const (
	CallsMade       = "calls"
	CallsFailed     = "calls_failed"
	CallsLimited    = "calls_limited"
	WebhooksTaken   = "webhooks"
	WebhooksRefused = "webhooks_refused"
)

// Record records a click that has been answered.
func (r *Recorder) Record(ctx context.Context, click Click) {
	r.log(ctx, click)
	r.Calls(click.Shop, click.Calls)
	r.Meter.Click(click)
	if r.Tracer != nil {
		r.Tracer.Click(click)
	}
	if !click.Counted { // of a shop that is not connected nothing is kept
		return
	}
	r.Store.Count(click.Shop, string(click.Outcome), 1)
	r.Store.Count(click.Shop, class(click.Took), 1)
	if click.Level >= slog.LevelWarn && click.Cause != nil {
		r.Store.NoteError(click.Shop, store.RecentError{What: Reason(click.Cause), RequestID: click.RequestID})
	}
}

// Calls records calls to Recharge that were made for a shop, by whatever made them.
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

// log writes a click's one line in the log.
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
	if click.Channel != FromStorefront {
		attributes = append(attributes, slog.String("channel", string(click.Channel)))
	}
	if click.Shop != "" {
		attributes = append(attributes, slog.String("shop", string(click.Shop)))
	}
	if click.Source != "" {
		attributes = append(attributes, slog.String("source", string(click.Source)))
	}
	attributes = append(attributes, slog.String("steps", click.Line()))
	r.Log.LogAttrs(ctx, click.Level, "click", append(attributes, Causes(click.Cause)...)...)
}

// Causes are the log's attributes of a cause, with the stack if it is a fault of ours.
func Causes(cause error) []slog.Attr {
	if cause == nil {
		return nil
	}
	attributes := []slog.Attr{slog.String("cause", cause.Error())}
	var fault *Fault
	if errors.As(cause, &fault) {
		attributes = append(attributes, slog.String("stack", string(fault.Stack)))
	}
	return attributes
}

// The reasons that are not Recharge's.
const (
	NoDatabase    = "no database"          // Redis does not answer
	RefusedBefore = "refused a moment ago" // Recharge is not asked again yet
)

// Reason returns why something failed, in words that are a key: a recharge.Reason,
// NoDatabase, RefusedBefore, or "other" for a fault of ours.
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

// Level is how much a click matters to whoever reads the log. An error needs somebody to look
// at it: Recharge answers with other people's records, or a fault of ours.
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
	// The shopper got less than the portal, signed in.
	if outcome == Unavailable || outcome == RedirectedByHash && cause != nil {
		return max(slog.LevelWarn, level)
	}
	return level
}

// slowest is the class of what takes longer than any other class.
const slowest = "t+"

// timeClasses are the others, by the longest time of each in milliseconds.
func timeClasses() [20]int {
	return [...]int{
		5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 8000, 15000, 25000,
	}
}

// class is the class of how long a click took.
func class(took time.Duration) string {
	for _, longest := range timeClasses() {
		if took <= time.Duration(longest)*time.Millisecond {
			return className(longest)
		}
	}
	return slowest
}

func className(longest int) string { return "t" + strconv.Itoa(longest) }

// Percentile is how long at most that part of the clicks took, by their classes; 0: longer
// than the longest class.
func Percentile(counts map[string]int64, part float64) time.Duration {
	all := counts[slowest]
	for _, longest := range timeClasses() {
		all += counts[className(longest)]
	}
	var sum int64
	for _, longest := range timeClasses() {
		sum += counts[className(longest)]
		if float64(sum) >= part*float64(all) {
			return time.Duration(longest) * time.Millisecond
		}
	}
	return 0
}

package portal

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
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

// Causes are what the log says of why something is not as it should be.
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

// NoDatabase is the Reason where Redis does not answer.
const NoDatabase = "no database"

// Reason returns why something failed, in a word that is explained to merchants: a
// recharge.Reason, NoDatabase, or "other" for a fault of ours.
func Reason(cause error) string {
	switch reason := recharge.ReasonOf(cause); {
	case reason != "":
		return string(reason)
	case errors.Is(cause, ErrRedisDown):
		return NoDatabase
	}
	return "other"
}

// timeClass is of how long a click took, by its longest.
type timeClass struct {
	longest time.Duration
	name    string
}

// slowest is the class of what takes longer than any.
const slowest = "t+"

// timeClasses are all but that one.
func timeClasses() [20]timeClass {
	return [...]timeClass{
		{5 * time.Millisecond, "t5"}, {10 * time.Millisecond, "t10"}, {20 * time.Millisecond, "t20"}, {30 * time.Millisecond, "t30"},
		{50 * time.Millisecond, "t50"}, {75 * time.Millisecond, "t75"}, {100 * time.Millisecond, "t100"}, {150 * time.Millisecond, "t150"},
		{200 * time.Millisecond, "t200"}, {300 * time.Millisecond, "t300"}, {500 * time.Millisecond, "t500"},
		{750 * time.Millisecond, "t750"}, {time.Second, "t1000"}, {1500 * time.Millisecond, "t1500"}, {2 * time.Second, "t2000"},
		{3 * time.Second, "t3000"}, {5 * time.Second, "t5000"}, {8 * time.Second, "t8000"}, {15 * time.Second, "t15000"},
		{25 * time.Second, "t25000"},
	}
}

func class(took time.Duration) string {
	if took <= 5*time.Millisecond { // nearly all
		return "t5"
	}
	for _, class := range timeClasses() {
		if took <= class.longest {
			return class.name
		}
	}
	return slowest
}

// Percentile is how long at most that part of the clicks took, by their classes; 0: longer
// than the longest class.
func Percentile(counts map[string]int64, part float64) time.Duration {
	var all, sum int64
	for name, count := range counts {
		if rest, ok := strings.CutPrefix(name, "t"); ok && (rest == "+" || isNumber(rest)) {
			all += count
		}
	}
	for _, class := range timeClasses() {
		sum += counts[class.name]
		if float64(sum) >= part*float64(all) {
			return class.longest
		}
	}
	return 0
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

package handlers

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Numbers keeps what the app home shows of a shop's last day. The names under
// which it counts are those of Redis' hashes: an outcome, "t" and the longest
// time in ms of its class, or one of these.
type Numbers struct{ Store *store.Store }

const (
	callsMade    = "calls"
	callsFailed  = "calls_failed"
	callsLimited = "calls_limited"
	webhooksTold = "webhooks"
	webhooksLost = "webhooks_refused"
)

// classes are of how long a click took, each by its longest in ms; what takes
// longer is in a class of its own.
func classes() []int {
	return []int{5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 8000, 15000, 25000}
}

const slowest = "t+"

func class(took time.Duration) string {
	for _, longest := range classes() {
		if took <= time.Duration(longest)*time.Millisecond {
			return "t" + strconv.Itoa(longest)
		}
	}
	return slowest
}

func (n Numbers) click(click Click) {
	n.Store.Count(click.Shop, string(click.Outcome), 1)
	n.Store.Count(click.Shop, class(click.Took), 1)
	if click.Level >= slog.LevelWarn {
		n.Store.Trouble(click.Shop, store.Trouble{What: click.Cause.Error(), RequestID: click.RequestID})
	}
}

// Call counts a call to Recharge.
func (n Numbers) Call(shop shopify.Shop, err *recharge.Error) {
	n.Store.Count(shop, callsMade, 1)
	switch {
	case err == nil:
	case err.Reason == recharge.Limited:
		n.Store.Count(shop, callsLimited, 1)
	case err.Reason != recharge.NotFound:
		n.Store.Count(shop, callsFailed, 1)
	}
}

// percentile is how long at most that part of the clicks took, by their classes.
func percentile(numbers map[string]int64, part float64) string {
	var all, sum int64
	for name, count := range numbers {
		if strings.HasPrefix(name, "t") && (name == slowest || isNumber(name[1:])) {
			all += count
		}
	}
	for _, longest := range classes() {
		sum += numbers["t"+strconv.Itoa(longest)]
		if float64(sum) >= part*float64(all) {
			return "≤ " + shortTime(longest)
		}
	}
	return "over 25 s"
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func shortTime(ms int) string {
	if ms < 1000 {
		return strconv.Itoa(ms) + " ms"
	}
	return strings.TrimSuffix(strconv.FormatFloat(float64(ms)/1000, 'f', 1, 64), ".0") + " s"
}

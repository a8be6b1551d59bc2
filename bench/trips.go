package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// groupSize is how many shoppers make each kind of click. A background job may use Redis
// during one of the clicks and be counted with it, so the figures for Redis are medians.
// No background job calls Recharge for a shopper, so the figure for calls is the maximum.
const groupSize = 5

// The groups of shoppers, by their first clicks. The click of lastOne opens connections.
const (
	clickers = iota * groupSize
	posters
	callers // by HEAD
	imported
	spenders
	hashed
	lastOne
)

// tripsCommand counts the calls, round trips and commands of each kind of click.
type tripsCommand struct{}

// kind is a kind of click.
type kind struct {
	name       string
	request    func(i int, at time.Time) []byte
	first      int // the group's first shopper
	lands      string
	calls      int // the limits
	trips      int
	beforehand func(*counter) error
}

const (
	landsSignedIn = "signed in"
	landsByHash   = "by hash"
	landsNowhere  = "a page"
)

func get(i int, at time.Time) []byte  { return click("GET", shopperID(i), "", at, nil) }
func head(i int, at time.Time) []byte { return click("HEAD", shopperID(i), "", at, nil) }
func api(i int, _ time.Time) []byte   { return post(shopperID(i)) }
func elsewhere(i int, at time.Time) []byte {
	return click("GET", shopperID(i), "/orders", at, url.Values{"locale": {"fr"}})
}

// kinds run one after another. To let cached values expire, a new server starts whose
// clock is ahead.
func kinds() []kind {
	const linkOver, sessionOver, muchLater = 11 * time.Minute, 2 * time.Hour, 4 * time.Hour
	return []kind{
		{"first ever", get, clickers, landsSignedIn, 3, 3, nil},
		{"access cached, same destination", get, clickers, landsSignedIn, 0, 1, nil},
		{"access cached, another destination and locale", elsewhere, clickers, landsSignedIn, 0, 1, nil},
		{"HEAD, access cached", head, clickers, landsSignedIn, 0, 1, nil},
		{"HEAD, first ever", head, callers, landsNowhere, 0, 1, nil},
		{"POST /api/portal-links, first ever", api, posters, landsSignedIn, 3, 3, nil},
		{"POST /api/portal-links, access cached", api, posters, landsSignedIn, 0, 1, nil},
		{"access cached, the server has just started", get, clickers, landsSignedIn, 0, 1, restart(0)},
		{"POST /api/portal-links, the same", api, posters, landsSignedIn, 0, 1, nil},
		{"session cached, LINK_TTL over", get, clickers, landsSignedIn, 1, 3, restart(linkOver)},
		{"customer cached (session over), verified over an hour ago, webhooks not proven",
			get, clickers, landsSignedIn, 3, 3, restart(sessionOver)},
		{"customer cached (session over), webhooks proven", api, posters, landsSignedIn, 2, 3, (*counter).proveWebhooks},
		{"customer imported, webhooks proven", get, imported, landsSignedIn, 2, 3,
			then(restart(sessionOver, "--import"), restart(muchLater))},
		{"customer known, budget spent", get, hashed, landsByHash, 0, 2,
			then(restart(muchLater, "--rate=2,8"), (*counter).spendBudget)},
		{"customer known, Recharge down", get, hashed, landsByHash, 0, 2, then(restart(muchLater), (*counter).kill)},
	}
}

func (*tripsCommand) Run(ctx context.Context, out io.Writer) error {
	w, err := newCounter(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	fmt.Fprintf(out, "\n## What a click costs\n\nRecharge counts the calls; a proxy in front of Redis counts the "+
		"round trips and the commands. Of %d shoppers each, the table has the most calls and the median of the others.\n\n",
		groupSize)
	rows := [][]string{{"click", "calls to Recharge", "goal", "round trips to Redis", "goal", "commands"}}
	missed := 0
	for _, k := range kinds() {
		if k.beforehand != nil {
			if err := k.beforehand(w); err != nil {
				return fmt.Errorf("before %s: %w", k.name, err)
			}
		}
		calls, trips, commands, err := w.count(k)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if calls > k.calls || trips > k.trips {
			k.name += " (**too much**)"
			missed++
		}
		rows = append(rows, []string{
			k.name, fmt.Sprint(calls), fmt.Sprint("≤ ", k.calls),
			fmt.Sprint(trips), fmt.Sprint("≤ ", k.trips), fmt.Sprint(commands),
		})
	}
	fmt.Fprint(out, table(rows...))
	if missed > 0 {
		return fmt.Errorf("%d kinds of click cost too much: %w", missed, errMissed)
	}
	return nil
}

// counter is one of this program's servers, with a Recharge and a proxy that count.
type counter struct {
	*testbed
	proxy *proxy
	ours  *process
	ahead time.Duration // how far the clock of ours is ahead
}

func newCounter(ctx context.Context) (*counter, error) {
	bed, err := newTestbed(ctx, lastOne+1)
	if err != nil {
		return nil, err
	}
	w := &counter{testbed: bed}
	if w.proxy, err = newProxy(bed.redis.at[0]); err == nil {
		bed.through = w.proxy.listener.Addr().String()
		err = w.restart(0)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *counter) close() {
	w.stopServers()
	if w.proxy != nil {
		w.proxy.close()
	}
	w.testbed.close()
}

// count has a group of shoppers click and returns the cost of one click.
func (w *counter) count(k kind) (calls, trips, commands int, err error) {
	var allCalls, allTrips, allCommands []int
	for i := k.first; i < k.first+groupSize; i++ {
		w.recharge.ResetRequests()
		tripsBefore, commandsBefore := w.proxy.trips.Load(), w.proxy.commands.Load()
		a, err := askOnce(w.ours.at[0], k.request(i, w.now()))
		if err != nil || w.lands(i, a) != k.lands {
			return 0, 0, 0, unexpected(i, a, err)
		}
		called, _ := w.calls()
		allCalls = append(allCalls, called)
		allTrips = append(allTrips, int(w.proxy.trips.Load()-tripsBefore))
		allCommands = append(allCommands, int(w.proxy.commands.Load()-commandsBefore))
	}
	slices.Sort(allTrips)
	slices.Sort(allCommands)
	return slices.Max(allCalls), allTrips[groupSize/2], allCommands[groupSize/2], nil
}

func (w *counter) lands(i int, a answered) string {
	switch {
	case !theirs(i, a.location):
		return landsNowhere
	case signedIn(a.location):
		return landsSignedIn
	}
	return landsByHash
}

func (w *counter) now() time.Time { return time.Now().Add(w.ahead) }

func restart(ahead time.Duration, flags ...string) func(*counter) error {
	return func(w *counter) error { return w.restart(ahead, flags...) }
}

func then(first, second func(*counter) error) func(*counter) error {
	return func(w *counter) error {
		if err := first(w); err != nil {
			return err
		}
		return second(w)
	}
}

// restart replaces the server by one whose clock is ahead, and waits until its start-up
// jobs are done.
func (w *counter) restart(ahead time.Duration, flags ...string) (err error) {
	w.stopServers()
	w.ahead = ahead
	flags = append(flags, "--link-ttl=10m", "--webhooks", "--ahead="+ahead.String())
	if w.ours, err = w.serve(flags...); err != nil {
		return err
	}
	if a, err := askOnce(w.ours.at[0], get(lastOne, w.now())); err != nil || !theirs(lastOne, a.location) {
		return unexpected(lastOne, a, err)
	}
	w.proxy.quiet(50 * time.Millisecond)
	return nil
}

// proveWebhooks delivers a Recharge webhook about a customer who is no shopper.
func (w *counter) proveWebhooks() error {
	const body = `{"customer":{"id":1}}`
	digest := sha256.Sum256([]byte(clientSecret + body))
	header := "X-Recharge-Topic: customer/deleted\r\nX-Recharge-Hmac-Sha256: " + hex.EncodeToString(digest[:])
	a, err := askOnce(w.ours.at[0], postJSON("/webhooks/recharge", header, body))
	if err == nil && a.status != "200" {
		err = errors.New("a webhook was answered " + a.status)
	}
	return err
}

// spendBudget has known shoppers click until the server stops calling Recharge for them.
func (w *counter) spendBudget() error {
	for i := spenders; i < spenders+groupSize; i++ {
		a, err := askOnce(w.ours.at[0], get(i, w.now()))
		if err == nil && w.lands(i, a) == landsByHash {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("the budget is not spent")
}

// kill makes Recharge fail until the server stops calling it.
func (w *counter) kill() error {
	w.recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	for range 6 {
		if _, err := askOnce(w.ours.at[0], get(hashed, w.now())); err != nil {
			return err
		}
	}
	return nil
}

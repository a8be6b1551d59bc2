package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// togetherCommand sends many simultaneous clicks of one shopper to two servers.
type togetherCommand struct {
	Clicks int `default:"1000"`
}

func (t *togetherCommand) Run(ctx context.Context, out io.Writer) error {
	bed, err := newTestbed(ctx, 1)
	if err != nil {
		return err
	}
	defer bed.close()
	bed.recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 100 * time.Millisecond })
	for range 2 {
		if _, err := bed.serve(); err != nil {
			return err
		}
	}
	conns := make([]*connection, t.Clicks)
	for i := range conns {
		if conns[i], err = dial(bed.servers[i%2].at[0]); err != nil {
			return err
		}
		defer func() { _ = conns[i].Close() }()
	}
	request := clickNow(0)
	times, err := together(t.Clicks, func(i int) ([]time.Duration, error) {
		a, err := conns[i].ask(request)
		if err != nil || !theirs(0, a.location) || !signedIn(a.location) {
			return nil, unexpected(0, a, err)
		}
		return []time.Duration{a.took}, nil
	})
	if err != nil {
		return err
	}
	slices.Sort(times)
	_, calls := bed.calls()
	fmt.Fprintf(out, "\n## One shopper, everywhere at once\n\n%d simultaneous first clicks on two servers, "+
		"while Recharge takes 100 ms a call.\n\n", t.Clicks)
	fmt.Fprint(out, table(
		[]string{"signed in", "calls to Recharge", "p50", "p99"},
		[]string{fmt.Sprint(len(times)), fmt.Sprint(calls), ms(quantile(times, 0.5)), ms(quantile(times, 0.99))},
	))
	return nil
}

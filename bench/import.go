package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// importCommand imports the customers of a large store.
type importCommand struct {
	Customers int `default:"100000"`
}

func (c *importCommand) Run(ctx context.Context, out io.Writer) error {
	bed, err := newTestbed(ctx, c.Customers)
	if err != nil {
		return err
	}
	defer bed.close()
	begun := time.Now()
	ours, err := bed.serve("--import")
	if err != nil {
		return err
	}
	took, cpu := time.Since(begun), ours.cpu()
	_, calls := bed.calls()
	pages := calls[rechargetest.EndpointCustomers]

	bed.recharge.ResetRequests()
	if a, err := askOnce(ours.at[0], clickNow(c.Customers-1)); err != nil || !signedIn(a.location) {
		return unexpected(c.Customers-1, a, err)
	}
	first, _ := bed.calls()
	clicks, before := min(3000, c.Customers-1), ours.cpu()
	if err := firstClicks(ours, clicks); err != nil {
		return err
	}
	click := (ours.cpu() - before) / time.Duration(clicks)
	fmt.Fprintf(out, "\n## The import\n\n%d customers, with a call budget too large to limit anything. "+
		"With Recharge's two calls a second, an import makes one call a second.\n\n", c.Customers)
	fmt.Fprint(out, table(
		[]string{
			"calls", "took", "at one call a second", "processor time", "the process then holds",
			"calls of a first click", "its processor time",
		},
		[]string{
			fmt.Sprint(pages), took.Round(10 * time.Millisecond).String(),
			(time.Duration(pages) * time.Second).String(), cpu.String(),
			fmt.Sprintf("%d MiB", ours.resident()>>10), fmt.Sprint(first), fmt.Sprintf("%d µs", click.Microseconds()),
		},
	))
	return nil
}

// Command bench measures this program beside others, in one run. Machines differ, and
// one machine differs from minute to minute, so only results of the same run can be
// compared.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"
)

type commands struct {
	All       allCommand       `cmd:"" help:"Everything, and write RESULTS.md."`
	Warm      warmCommand      `cmd:"" help:"Warm clicks: this program, a bare Echo handler, a Node app."`
	Trips     tripsCommand     `cmd:"" help:"What each click costs: calls to Recharge, round trips to Redis, commands."`
	Together  togetherCommand  `cmd:"" help:"A thousand simultaneous first clicks of one shopper, on two servers."`
	Campaign  campaignCommand  `cmd:"" help:"E-mails to all subscribers of a store, in virtual time."`
	Import    importCommand    `cmd:"" help:"The import of a large store: calls, time, memory."`
	Size      sizeCommand      `cmd:"" help:"Redis memory a customer, start-up, idle memory, size of the binary."`
	ServeBare serveBareCommand `cmd:"" hidden:""`
	ServeOurs serveOursCommand `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	command := kong.Parse(new(commands), kong.Name("bench"),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)),
		kong.Vars{"cells": campaignCells})
	command.FatalIfErrorf(command.Run())
}

type allCommand struct {
	warmCommand
	Write string `help:"Where to." default:"bench/RESULTS.md"`
}

// Run measures everything and writes the results, even if they miss a limit.
func (a *allCommand) Run(ctx context.Context, out io.Writer) error {
	report := &report{}
	both := io.MultiWriter(out, report)
	today := time.Now().UTC().Format(time.DateOnly)
	fmt.Fprintf(both, "# Benchmark results\n\nMeasured by `make bench` on %s.\n%s\n", today, machine())
	var errs []error
	for _, part := range []interface {
		Run(context.Context, io.Writer) error
	}{
		&a.warmCommand, &tripsCommand{}, &togetherCommand{Clicks: 1000},
		&campaignCommand{Shoppers: 20000, Cells: campaignCells}, &importCommand{Customers: 100000},
		&sizeCommand{Starts: 10, Idle: 5 * time.Second, Customers: []int{1000, 20000, 100000}},
	} {
		if err := part.Run(ctx, both); err != nil && !errors.Is(err, errMissed) {
			return err
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, report.write(a.Write))...)
}

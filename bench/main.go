// Command bench measures this program beside others, in one run: machines differ,
// and one machine differs from minute to minute, but what is done side by side can
// be compared.
package main

import (
	"context"
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
	Trips     tripsCommand     `cmd:"" help:"What each kind of click costs in calls and round trips."`
	Together  togetherCommand  `cmd:"" help:"A thousand simultaneous first clicks of one shopper, on two servers."`
	Campaign  campaignPart     `cmd:"" help:"A mail to 20,000 subscribers, in virtual time."`
	Sweep     sweepCommand     `cmd:"" help:"The sweep of a large store: calls, bytes, memory."`
	Size      sizeCommand      `cmd:"" help:"Start-up, idle memory, size of the binary."`
	Simulate  simulateCommand  `cmd:"" help:"What 100,000 shops need, reckoned from what was measured."`
	ServeBare serveBareCommand `cmd:"" hidden:""`
	ServeOurs serveOursCommand `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	command := kong.Parse(new(commands), kong.Name("bench"), kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	command.FatalIfErrorf(command.Run())
}

// fromRedis is as many shoppers as none comes back within the moment that the
// process' memory holds.
func (a *allCommand) fromRedis() *warmCommand {
	return &warmCommand{Rounds: 5, Turn: 2 * time.Second, Connections: a.Connections, Shoppers: 30000, Only: "ours,bare"}
}

// mustParse gives a command its defaults.
func mustParse(command any) *kong.Kong { return kong.Must(command) }

type allCommand struct {
	warmCommand
	Write string `help:"Where to." default:"bench/RESULTS.md"`
}

// Run measures everything and writes the results.
func (a *allCommand) Run(ctx context.Context, out io.Writer) error {
	simulate := &simulateCommand{}
	if _, err := mustParse(simulate).Parse(nil); err != nil {
		return err
	}
	report := &report{}
	both := io.MultiWriter(out, report)
	fmt.Fprintf(both, "# What was measured\n\nBy `make bench`, on %s.\n%s\n", time.Now().UTC().Format("2006-01-02"), machine())
	for _, part := range []interface {
		Run(context.Context, io.Writer) error
	}{
		&a.warmCommand, a.fromRedis(), &tripsCommand{}, &togetherCommand{Clicks: 1000}, &campaignPart{Shoppers: 20000},
		&sweepCommand{Customers: 100000}, &sizeCommand{Starts: 10, Idle: 5 * time.Second}, simulate,
	} {
		if err := part.Run(ctx, both); err != nil {
			return err
		}
	}
	return report.write(a.Write)
}

// Command manage-subscriptions sends the signed-in shoppers of a Shopify store to
// their Recharge customer portal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"manage-subscriptions/config"
	"manage-subscriptions/sandbox"
	"manage-subscriptions/server"
)

// Exit codes. A wrong configuration or command line is told from a failure, so
// that a supervisor need not start it again.
const (
	exitFailed = 1
	exitUsage  = 2
)

type commands struct {
	Serve       serveCommand       `cmd:"" help:"Run the server, configured by environment, .env and flags."`
	Rekey       rekeyCommand       `cmd:"" help:"Re-encrypt every store's record in Redis with the first key in ENCRYPTION_KEY; you can then remove the second."`
	Index       indexCommand       `cmd:"" help:"Read all customers of a store from Recharge into Redis now, and show how far it is; serve does so each night."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask the server beside this command, on OPS_ADDR, whether it is ready; exit 0 only then. For the image's HEALTHCHECK."`
	Doctor      doctorCommand      `cmd:"" help:"Look at settings, clock, Redis, Recharge, the server and the store's proxy; say of each what to do. Changes nothing, but --customer makes sessions."`
	Preview     previewCommand     `cmd:"" help:"Say where a shopper's click would lead, step by step; opens nothing and saves nothing."`
	Sandbox     sandboxCommand     `cmd:"" name:"sandbox" help:"Run three stores, their admin, their Recharge and this server on loopback: no account, no configuration."`

	Version kong.VersionFlag `help:"Print what this binary was built from."`
}

func main() {
	server.MuteLibraries()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the first
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var commands commands
	exit := -1
	parser, err := kong.New(&commands,
		kong.Name("manage-subscriptions"),
		kong.Description("Sends the signed-in shoppers of a Shopify store to their Recharge customer portal."),
		kong.Vars{"version": server.Version()},
		kong.Resolvers(config.Resolver(environ, ".env")),
		kong.ValueFormatter(config.Help),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{stdout, stderr}),
	)
	if err != nil {
		return complain(stderr, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help, --version
		return exit
	}
	var problems config.Problems
	if errors.As(err, &problems) { // .env cannot be read
		if len(args) > 0 && args[0] == "doctor" {
			asked := doctorCommand{JSON: slices.Contains(args, "--json")}
			return complain(stderr, asked.refuse(streams{stdout, stderr}, problems))
		}
		return complain(stderr, problems)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s\n'manage-subscriptions --help' lists what there is.\n", conceal(err.Error(), args))
		return exitUsage
	}
	return complain(stderr, command.Run())
}

// conceal takes the values of a command line out of a message about it: one of
// them may be a secret in the wrong place.
func conceal(message string, args []string) string {
	for i, arg := range args {
		name, value, flag := strings.Cut(arg, "=")
		switch {
		case flag && value != "" && strings.HasPrefix(name, "-"):
			message = strings.ReplaceAll(message, value, "...")
		case i > 0 && arg != "" && !strings.HasPrefix(arg, "--"):
			message = strings.ReplaceAll(message, arg, "...")
		}
	}
	return message
}

func complain(stderr io.Writer, err error) int {
	var problems config.Problems
	var reported reported
	switch {
	case err == nil:
		return 0
	case errors.As(err, &problems):
		fmt.Fprint(stderr, problems.Error())
		return exitUsage
	case errors.As(err, &reported):
		return int(reported)
	}
	fmt.Fprintln(stderr, err)
	return exitFailed
}

type serveCommand struct {
	config.Settings
}

func (s *serveCommand) Run(ctx context.Context) error {
	cfg, err := s.Check()
	if err != nil {
		return err
	}
	server.CollectLess()
	return server.Run(ctx, cfg, server.WithNotice(notice))
}

// notice is longer than a balancer that asks /readyz every second or two takes
// to send clicks elsewhere, and leaves the longest of them time to end within the
// 30 s that supervisors give.
const notice = 5 * time.Second

type rekeyCommand struct {
	config.Settings
}

func (r *rekeyCommand) Run(ctx context.Context, std streams) error {
	cfg, err := r.Check()
	if err != nil {
		return err
	}
	return server.Rekey(ctx, cfg, std.out)
}

type indexCommand struct {
	config.Settings
	Shop string `help:"One store, such as my-store.myshopify.com; without it, all that have connected Recharge."`
}

func (i *indexCommand) Run(ctx context.Context, std streams) error {
	cfg, err := i.Check()
	if err != nil {
		return err
	}
	return server.Index(ctx, cfg, i.Shop, std.out)
}

type previewCommand struct {
	config.Settings
	Customer    string `required:"" help:"The shopper's id in Shopify: the digits at the end of their address in the admin."`
	Shop        string `help:"The store, such as my-store.myshopify.com; without it, SHOPIFY_SHOP."`
	Destination string `help:"The page of the portal." default:"subscriptions"`
}

func (p *previewCommand) Run(ctx context.Context, std streams) error {
	cfg, err := p.Check()
	if err != nil {
		return err
	}
	return server.Preview(ctx, cfg, server.Question{Customer: p.Customer, Shop: p.Shop, Destination: p.Destination}, std.out)
}

type sandboxCommand struct {
	Once        bool   `help:"Make one click without a browser, print every hop; exit 0 only in the portal."`
	Destination string `help:"The page of the portal that --once asks for." default:"subscriptions"`
	Index       bool   `help:"Remember all customers beforehand, as serve does: nobody is new then."`
	Port        int    `help:"The storefront's port; 0 takes a free one." default:"8088"`
}

func (s *sandboxCommand) Run(ctx context.Context, std streams) error {
	o := sandbox.Options{Once: s.Once, Destination: s.Destination, Port: s.Port, Index: s.Index, Out: std.out}
	if !s.Once { // its hops are not to be mixed with log lines
		o.Log = std.err
	}
	return sandbox.Run(ctx, o)
}

type streams struct{ out, err io.Writer }

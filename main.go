// Command manage-subscriptions sends the signed-in shoppers of a Shopify store to
// their Recharge customer portal.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// Exit codes. A supervisor need not restart after exitUsage.
const (
	exitFailed = 1
	exitUsage  = 2 // the configuration or the command line is wrong
)

// sandboxPort is where the sandbox's first store is, unless it is taken.
const sandboxPort = 8088

// noticePeriod gives a load balancer that polls /readyz every second or two time to notice. It
// leaves enough of the 30 s that supervisors allow for the longest click.
const noticePeriod = 5 * time.Second

type commands struct {
	Serve       serveCommand       `cmd:"" help:"Run the server, configured by environment, .env and flags."`
	Sandbox     sandboxCommand     `cmd:"" help:"Run three stores, an emulated Recharge and this server on this machine."`
	Doctor      doctorCommand      `cmd:"" help:"Check your setup and tell you how to fix what is wrong."`
	Preview     previewCommand     `cmd:"" help:"Show where a shopper's click would lead, step by step. It saves nothing."`
	Index       indexCommand       `cmd:"" help:"Import all customers from Recharge now, as serve does every night."`
	Campaign    campaignCommand    `cmd:"" help:"Make shoppers' links ahead of an e-mail, so that they arrive signed in."`
	Stores      storesCommand      `cmd:"" help:"Show every connected store, those in trouble first, or one in detail."`
	Rekey       rekeyCommand       `cmd:"" help:"Re-encrypt everything in Redis with the first key in ENCRYPTION_KEY."`
	Healthcheck healthcheckCommand `cmd:"" help:"Exit 0 if the server on this machine is ready."`
	Version     versionCommand     `cmd:"" help:"Print what this binary was built from."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print what this binary was built from."`
}

func main() {
	server.MuteLibraries()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var commands commands
	exit := -1
	parser, err := kong.New(&commands,
		kong.Name("manage-subscriptions"),
		kong.Description("Sends the signed-in shoppers of a Shopify store to their Recharge customer portal."),
		kong.Vars{"version": server.Version()},
		kong.Resolvers(config.Resolver(environ, ".env")),
		kong.ValueFormatter(config.Help),
		kong.Help(printHelp),
		kong.ExplicitGroups(config.Groups()),
		kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(parseTime)),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{stdout, stderr}),
		kong.BindToProvider(func() (config.Problems, error) { return config.Unknown(environ, ".env"), nil }),
	)
	if err != nil {
		return exitCode(stderr, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var command *kong.Context
	if err = config.CheckArgs(args); err == nil {
		command, err = parser.Parse(args)
	}
	if exit >= 0 { // --help, --version
		return exit
	}
	var problems config.Problems
	switch {
	case err == nil:
		err = command.Run()
	case errors.As(err, &problems) && args[0] == "doctor": // a secret as a flag, or .env cannot be read
		d := doctorCommand{JSON: slices.Contains(args, "--json")}
		err = d.print(stdout, doctor.Report{}, problems)
	case !errors.As(err, &problems):
		help := "--help' lists the commands"
		if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context.Selected() != nil {
			help = wrong.Context.Selected().Name + " --help' lists its flags"
		}
		fmt.Fprintf(stderr, "%s\n'manage-subscriptions %s.\n", redact(err.Error(), args), help)
		return exitUsage
	}
	return exitCode(stderr, err)
}

// printHelp lists the settings for serve only, since they would bury another command's own flags.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	hidden := false
	if command := ctx.Selected(); command != nil && command.Name != "serve" {
		for _, flag := range command.Flags {
			if flag.Group != nil && flag.Group.Key != "Settings" { // healthcheck's own
				flag.Hidden, hidden = true, true
			}
		}
	}
	err := kong.DefaultHelpPrinter(options, ctx)
	if hidden {
		fmt.Fprintln(ctx.Stdout, "\nSettings: as 'manage-subscriptions serve --help' lists them.")
	}
	return err
}

// redact removes the values of a command line from a message about it, since one of
// them may be a secret in the wrong place. A message that begins with a flag is about one of ours, and none
// takes a secret.
func redact(message string, args []string) string {
	if strings.HasPrefix(message, "--") {
		return message
	}
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

// parseTime reads a flag's time. Kong's own error shows Go's layout of one.
func parseTime(kongContext *kong.DecodeContext, target reflect.Value) error {
	text := kongContext.Scan.Pop().String()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is not a time with its zone, such as 2026-11-28T10:00:00Z or 2026-11-28T11:00:00+01:00", text)
	}
	target.Set(reflect.ValueOf(at))
	return nil
}

// exitCode prints err, unless it has been printed, and returns the exit code for it.
func exitCode(stderr io.Writer, err error) int {
	var problems config.Problems
	var printed printedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &problems):
		fmt.Fprint(stderr, problems.Error())
		return exitUsage
	case errors.As(err, &printed):
		return int(printed)
	}
	fmt.Fprintln(stderr, err)
	return exitFailed
}

// printedError is the exit code for an error that the command has printed.
type printedError int

func (p printedError) Error() string { return fmt.Sprintf("exit code %d", int(p)) }

type streams struct{ out, err io.Writer }

// settings are those of serve, which other commands take, too. Kong calls ProvideConfig for a Run
// method that takes a Config.
type settings struct{ config.Settings }

// ProvideConfig adds unknown names to other problems, since a setting may be missing for its misspelled name.
func (s *settings) ProvideConfig(unknown config.Problems) (config.Config, error) {
	cfg, err := s.Check()
	if problems, ok := errors.AsType[config.Problems](err); ok {
		return cfg, append(problems, unknown...)
	}
	cfg.Unknown = unknown
	return cfg, err
}

type serveCommand struct{ settings }

func (*serveCommand) Run(ctx context.Context, cfg config.Config) error {
	server.CollectLess()
	return server.Run(ctx, cfg, server.Options{Notice: noticePeriod})
}

type sandboxCommand struct {
	sandbox.Options
	Port *int `placeholder:"8088" help:"The storefront's port; 0 takes a free one. Without it, 8088 if that is free."`
}

func (*sandboxCommand) Help() string {
	return "Everything listens on loopback. It needs no account and no configuration."
}

func (s *sandboxCommand) Run(ctx context.Context, std streams) error {
	fmt.Fprintln(std.out, "Starting the sandbox ...")
	s.Out, s.Elsewhere = std.out, s.Port == nil
	switch {
	case s.Port != nil:
		s.Options.Port = *s.Port
	case !s.Once: // one click needs no address that is easy to remember
		s.Options.Port = sandboxPort
	}
	if !s.Once { // log lines would get between the hops
		s.Log = std.err
	}
	return sandbox.Run(ctx, s.Options)
}

type doctorCommand struct {
	settings
	doctor.Options
	JSON    bool `name:"json" xor:"output" help:"Print one JSON object, for monitoring."`
	Verbose bool `help:"List the checks that were skipped, too."`
}

func (*doctorCommand) Help() string {
	return "It checks settings, clock, Redis, Recharge, the server, the store's proxy and sign-in, and changes nothing. " +
		"With --customer, up to three sessions are made for that customer, and thrown away.\n\n" +
		"Exit codes: 0 if nothing failed, 1 if something failed, 2 if the settings or the flags are wrong."
}

func (d *doctorCommand) Run(ctx context.Context, std streams, unknown config.Problems) error {
	cfg, err := d.ProvideConfig(unknown)
	var report doctor.Report
	if err == nil {
		report, err = server.Doctor(ctx, cfg, d.Options, server.Options{})
	}
	return d.print(std.out, report, err)
}

// print prints a report. Wrong settings are failed checks in it.
func (d *doctorCommand) print(out io.Writer, report doctor.Report, err error) error {
	code := printedError(exitFailed)
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		report, code = doctor.Unconfigured(problems), exitUsage
	case err != nil:
		return err
	}
	if !d.JSON {
		report.Print(out, d.Verbose)
	} else if err := json.NewEncoder(out).Encode(report); err != nil {
		return err
	}
	if report.OK {
		return nil
	}
	return code
}

type previewCommand struct {
	settings
	server.Question
}

func (p *previewCommand) Run(ctx context.Context, cfg config.Config, std streams) error {
	return server.Preview(ctx, cfg, p.Question, std.out, server.Options{})
}

type indexCommand struct {
	settings
	Shop string `help:"One store, such as my-store.myshopify.com; all connected stores if not given."`
}

func (i *indexCommand) Run(ctx context.Context, cfg config.Config, std streams) error {
	return server.Index(ctx, cfg, i.Shop, std.out, server.Options{})
}

type campaignCommand struct {
	settings
	server.CampaignOptions
}

func (*campaignCommand) Help() string { return "Ctrl-C leaves the work to the servers." }

func (c *campaignCommand) Run(ctx context.Context, cfg config.Config, std streams) error {
	return server.Campaign(ctx, cfg, c.CampaignOptions, std.out, server.Options{})
}

type storesCommand struct {
	settings
	server.StoresOptions
}

func (*storesCommand) Help() string {
	return "It reads Redis, changes nothing and makes no call. It exits with 1 if a store is in trouble or none is there."
}

func (s *storesCommand) Run(ctx context.Context, cfg config.Config, std streams) error {
	ok, err := server.Stores(ctx, cfg, s.StoresOptions, std.out, server.Options{})
	if err == nil && !ok {
		return printedError(exitFailed)
	}
	return err
}

type rekeyCommand struct{ settings }

func (*rekeyCommand) Help() string { return "You can then remove the second key." }

func (*rekeyCommand) Run(ctx context.Context, cfg config.Config, std streams) error {
	return server.Rekey(ctx, cfg, std.out)
}

// healthcheckCommand takes one of serve's settings, so that it needs none of its secrets.
type healthcheckCommand struct {
	OpsAddr string `group:"Settings" default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Where serve answers /readyz."`
}

func (h *healthcheckCommand) Run(ctx context.Context, std streams) error {
	err := server.Healthcheck(ctx, h.OpsAddr)
	if err == nil {
		fmt.Fprintln(std.out, "ready")
	}
	return err
}

type versionCommand struct{}

func (versionCommand) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, server.Version())
	return err
}

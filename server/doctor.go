package server

// This file has the commands that look at a setup and change nothing.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Doctor checks everything that a server with these settings depends on. It serves nothing and
// changes nothing.
// Errors: config.Problems if the options are wrong.
func Doctor(ctx context.Context, cfg config.Config, ask doctor.Options, o Options) (doctor.Report, error) {
	o.Log = slog.New(slog.DiscardHandler) // the report has the errors
	s, err := open(cfg, o, "")
	if err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	defer s.close()
	return doctor.Run(ctx, s.target(), ask)
}

// Question describes the click to preview, as flags of the command.
type Question struct {
	Customer    string `required:"" help:"The shopper's id in Shopify: the digits at the end of their admin URL."`
	Shop        string `help:"The store, such as my-store.myshopify.com; SHOPIFY_SHOP if not given."`
	Destination string `help:"The page of the portal." default:"subscriptions"`
}

// ErrTurnedAway means that a previewed click does not end in the portal, although the shopper may
// well be a subscriber.
var ErrTurnedAway = errors.New("preview: the shopper would not get to the portal")

// Preview resolves a click and prints where it would end, how long each step took and where the
// answer came from. It asks Recharge what a click would ask. It opens nothing, saves nothing, and
// prints neither hash nor token.
// Errors: config.Problems if the question is wrong, ErrTurnedAway.
func Preview(ctx context.Context, cfg config.Config, q Question, out io.Writer, o Options) error {
	who, err := q.who(cfg)
	if err != nil {
		return err
	}
	s, err := open(cfg, o, "")
	if err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	defer s.close()
	visit := recharge.Visit{To: recharge.ParseDestination(q.Destination)}
	result := doctor.DryClick(ctx, s.target(), who, visit)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "shop\t%s\n", who.Shop)
	fmt.Fprintf(table, "destination\t%s\n", visit.To)
	for _, step := range result.Steps {
		fmt.Fprintf(table, "  %s\t%8.2f ms\t%s\n", step.Name, float64(step.Took.Microseconds())/1000, step.Error)
	}
	fmt.Fprintf(table, "answer from\t%s\n", sourceText(result.Source))
	fmt.Fprintf(table, "outcome\t%s\n", doctor.Outcome(result, cfg.RedirectByPage))
	if result.Cause != nil {
		fmt.Fprintf(table, "because\t%s\n", result.Cause)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if result.Outcome == portal.Unavailable || result.Outcome == portal.NotConnected {
		return ErrTurnedAway
	}
	return nil
}

// who returns the shopper. Its error lists everything that is wrong with the question.
func (q Question) who(cfg config.Config) (store.Shopper, error) {
	var problems config.Problems
	customer, err := shopify.ParseCustomerID(q.Customer)
	if err != nil {
		problems.Add("--customer", "is not the id of a Shopify customer",
			"the digits at the end of the customer's address in Shopify's admin")
	}
	shop, err := shopify.ParseShop(cmp.Or(q.Shop, string(cfg.Shop)))
	if err != nil {
		problems.Add("--shop", "is missing, or is not a myshopify.com name",
			"my-store.myshopify.com: without SHOPIFY_SHOP there are many")
	}
	if len(problems) > 0 {
		return store.Shopper{}, problems
	}
	return store.Shopper{Shop: shop, Customer: customer}, nil
}

func sourceText(source portal.Source) string {
	texts := map[portal.Source]string{
		portal.FromLink:      "cache: a portal access that was made less than LINK_TTL ago",
		portal.FromNobody:    "cache: Recharge did not know the shopper a moment ago",
		portal.FromSession:   "cache: who the shopper is and a session",
		portal.FromCustomer:  "cache: who the shopper is, by an earlier click",
		portal.FromIndex:     "index: who the shopper is, by an import",
		portal.FromOutOfDate: "cache: who the shopper was; Recharge could not be asked",
		portal.FromRecharge:  "Recharge: nothing was cached",
	}
	return cmp.Or(texts[source], "nowhere")
}

// target returns the setup that doctor and preview look at. They change nothing.
func (s *server) target() doctor.Target {
	return doctor.Target{Config: s.cfg, Store: s.store, Merchants: s.merchants, Now: s.Now}
}

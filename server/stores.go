package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// readAtOnce is how many stores a command reads at the same time.
const readAtOnce = 16

// StoresOptions are the flags of the stores command.
type StoresOptions struct {
	Shop string `help:"One store, in detail, such as my-store.myshopify.com; all connected stores if not given."`
	JSON bool   `name:"json" help:"Print one JSON object, for monitoring."`
}

// Stores prints the state of the connected stores, as Redis holds it, and reports whether none of them is in
// trouble. It changes nothing, and calls nobody.
// Errors: config.Problems if the options are wrong.
func Stores(ctx context.Context, cfg config.Config, ask StoresOptions, out io.Writer, o Options) (bool, error) {
	if cfg.RedisURL.Empty() {
		return false, errors.New("stores: REDIS_URL is empty, and only its process can read the embedded Redis")
	}
	o.Log = slog.New(slog.DiscardHandler) // each store's line has its error
	s, err := open(cfg, o, "")
	if err != nil {
		return false, fmt.Errorf("stores: %w", err)
	}
	defer s.close()
	shops, err := s.shopsNamed(ctx, ask.Shop)
	if err != nil {
		return false, err
	}
	report := s.overviews(ctx, shops)
	switch {
	case ask.JSON:
		return report.OK, json.NewEncoder(out).Encode(report)
	case ask.Shop != "":
		return report.OK, printStore(out, report.Stores[0], s.Now())
	}
	return report.OK, report.print(out, s.Now())
}

// shopsNamed returns the shop called name, or all that may be connected if it is empty.
func (s *server) shopsNamed(ctx context.Context, name string) ([]shopify.Shop, error) {
	own := s.merchants.Own()
	shop, err := shopify.ParseShop(cmp.Or(name, string(own)))
	switch {
	case name != "" && err != nil:
		return nil, config.Problems{{Name: "--shop", What: "is not a myshopify.com name",
			Hint: "my-store.myshopify.com, not the store's own domain"}}
	case own != "" && shop != own:
		return nil, config.Problems{{Name: "--shop", What: "is another store than SHOPIFY_SHOP's",
			Hint: "leave it out: this server is for one store"}}
	case shop != "":
		return []shopify.Shop{shop}, nil
	}
	shops, err := s.store.Shops(ctx)
	if err != nil {
		return nil, fmt.Errorf("stores: %w", err)
	}
	return shops, nil
}

// overviews reads the state of stores. If there are several, it leaves out those that are no longer connected.
func (s *server) overviews(ctx context.Context, shops []shopify.Shop) storesReport {
	service := &merchant.Service{Resolver: s.resolver, AppURL: s.cfg.AppURL, Log: s.Log}
	report := storesReport{Stores: make([]merchant.Overview, len(shops))}
	var reading errgroup.Group
	reading.SetLimit(readAtOnce)
	for i, shop := range shops {
		reading.Go(func() error {
			report.Stores[i] = service.Overview(ctx, shop)
			return nil
		})
	}
	_ = reading.Wait()
	if len(shops) > 1 {
		report.Stores = slices.DeleteFunc(report.Stores, func(o merchant.Overview) bool { return o.Left() })
	}
	slices.SortFunc(report.Stores, func(a, b merchant.Overview) int {
		return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.Shop, b.Shop))
	})
	report.OK = len(report.Stores) > 0 && report.inTrouble() == 0 // of no store, nothing is known
	return report
}

// storesReport is what the stores command prints, with the stores in trouble first.
type storesReport struct {
	OK     bool                `json:"ok"`
	Stores []merchant.Overview `json:"stores"`
}

// inTrouble returns how many stores are in trouble.
func (r storesReport) inTrouble() (n int) {
	for _, o := range r.Stores {
		n += min(1, len(o.Troubles))
	}
	return n
}

// print prints how many stores are in trouble, and a line for each store.
func (r storesReport) print(out io.Writer, now time.Time) error {
	if _, err := fmt.Fprintf(out, "%d of %d stores in trouble\n", r.inTrouble(), len(r.Stores)); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "store\ttrouble\tconnected\tportal\taccounts\tdetected\twebhooks\timported\tvisits\tsigned in\t"+
		"calls left\t429 today\tlast error")
	for _, o := range r.Stores {
		name, lastError := "-", cmp.Or(o.LastError.String(), "-")
		if len(o.Troubles) > 0 {
			name = o.Troubles[0].Name
		}
		if o.Portal == "" {
			fmt.Fprintf(table, "%s\t%s\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t%s\n", o.Shop, name, o.Troubles[0].Text)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d of %d\t%d\t%s\n", o.Shop, name,
			since(now, o.ConnectedAt), o.Portal, cmp.Or(o.Accounts, "-"), since(now, o.DetectedAt),
			cmp.Or(string(o.Webhooks), "no secret"), since(now, o.ImportedAt), o.Visits, share(o.SignedIn, o.Visits),
			o.CallsLeft, o.Burst, o.CallsLimited, lastError)
	}
	return table.Flush()
}

// since returns how long ago something was, such as "5h"; "-" if it never was.
func since(now, at time.Time) string {
	switch age := now.Sub(at); {
	case at.IsZero():
		return "-"
	case age < time.Hour:
		return fmt.Sprintf("%dm", max(0, int(age.Minutes())))
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh", int(age.Hours()))
	default:
		return fmt.Sprintf("%dd", int(age.Hours()/24))
	}
}

func share(part, all int64) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", 100*part/all)
}

// printStore prints all that is known of a store.
func printStore(out io.Writer, o merchant.Overview, now time.Time) error {
	var text strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&text, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("store", "%s", o.Shop)
	for _, trouble := range o.Lines() {
		line("trouble", "%s", trouble)
	}
	if o.Portal != "" {
		if !o.ConnectedAt.IsZero() {
			line("connected", "%s, %s ago", o.ConnectedAt.UTC().Format(time.RFC3339), since(now, o.ConnectedAt))
		}
		detected := "not detected yet"
		if !o.DetectedAt.IsZero() {
			detected = "detected " + since(now, o.DetectedAt) + " ago"
		}
		line("portal", "%s, %s; customer accounts: %s; %s", o.Portal, o.PortalURL, cmp.Or(o.Accounts, "not known"), detected)
		for _, warning := range o.Warnings {
			line("warning", "%s", warning)
		}
		line("changes", "%s", o.Changes)
		line("import", "%s", o.Import)
		line("budget", "%s", o.Budget)
		line("calls today", "%d; %d failed; %d answered 429", o.Calls, o.CallsFailed, o.CallsLimited)
	}
	line("visits today", "%d; %d reached the portal, %d signed in", o.Visits, o.InPortal, o.SignedIn)
	for _, outcome := range o.Outcomes {
		line("  page", "%s: %s\n%14s-> %s", outcome.Name, outcome.Text, "", outcome.Do)
	}
	for _, err := range o.Errors {
		line("error", "%s", err.Line())
	}
	_, err := io.WriteString(out, text.String())
	return err
}

package server

// This file has the commands beside serve.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9/logging"
	"go.opentelemetry.io/otel"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Version returns what this binary was built from, as stamped by the Go command: the tag
// of a release ("v1.2.0"), or a version with the commit
// ("v0.0.0-20260102030405-abcdefabcdef"). "+dirty" means that files had changed since,
// "devel" that it was built without its repository.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// CollectLess makes the garbage collector run less often, unless GOGC is set. The live heap is small,
// about ten MiB, and marking it is what a collection costs. It changes the whole process, so only the
// serve command calls it.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// MuteLibraries keeps libraries from writing to standard error. go-redis would repeat that Redis is
// down, which our log says once. OpenTelemetry would print settings that it cannot read, with their
// secrets. It changes the whole process, so only main calls it.
func MuteLibraries() {
	logging.Disable()
	otel.SetLogger(logr.Discard())
}

// Healthcheck requests /readyz from the server on this machine whose OPS_ADDR is opsAddr. It returns
// nil if the server is ready. It exists because the image has neither a shell nor curl. If the
// server listens on all addresses, net.Dial reaches it on loopback.
func Healthcheck(ctx context.Context, opsAddr string) error {
	if _, port, err := net.SplitHostPort(opsAddr); err != nil || port == "" || port == "0" {
		return errors.New("healthcheck: OPS_ADDR is not host:port or :port, such as 127.0.0.1:9090")
	}
	// Docker kills the command after 3 s without saying why.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+opsAddr+"/readyz", http.NoBody)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	// Only the server's own answer counts, so this uses no proxy and follows no redirect.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: /readyz answers %d", response.StatusCode)
	}
	return nil
}

// Rekey re-encrypts every store's record with the first encryption key and prints how many. Servers
// that have both keys may keep running.
func Rekey(ctx context.Context, cfg config.Config, out io.Writer) error {
	if cfg.RedisURL.Empty() {
		return errors.New("rekey: REDIS_URL is empty, and the embedded Redis ends with its process")
	}
	if len(encryptionKeys(cfg)) < 2 {
		return errors.New("rekey: there is one key; set ENCRYPTION_KEY (without it, SHOPIFY_API_SECRET) to new,old")
	}
	s, err := open(cfg, Options{}, cfg.Shop)
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	defer s.close()
	resealed, err := s.store.Rekey(ctx)
	if err != nil {
		return fmt.Errorf("rekey: %w; run it again for the stores that are left", err)
	}
	_, err = fmt.Fprintf(out, "Re-encrypted the records of %d stores with the first key in ENCRYPTION_KEY. "+
		"You can now remove the second key.\n", resealed)
	return err
}

// Index imports all customers of the store called name, or of all stores if name is empty, and
// prints the progress. Running servers take part.
func Index(ctx context.Context, cfg config.Config, name string, out io.Writer, o Options) error {
	if cfg.RedisURL.Empty() {
		return errors.New("index: REDIS_URL is empty; a server with an embedded Redis imports when it starts")
	}
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	shops, err := s.connectedShops(ctx, name)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	before := make([]store.Import, len(shops))
	for i, shop := range shops {
		if before[i], err = s.store.Import(ctx, shop); err == nil {
			err = s.store.RequestImport(ctx, shop)
		}
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var importing sync.WaitGroup
	importing.Go(func() { s.importer.Run(ctx) })
	defer importing.Wait()
	defer stop()
	for i, shop := range shops {
		if err := s.drawProgress(ctx, shop, before[i], out); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// connectedShops returns the connected shop called name, or all connected shops if it is empty.
func (s *server) connectedShops(ctx context.Context, name string) ([]shopify.Shop, error) {
	var shops []shopify.Shop
	var err error
	if s.merchants.Single() != nil {
		shops = append(shops, s.merchants.Own())
		err = s.store.Load(ctx, store.Shopper{Shop: s.merchants.Own()}).Err // as of another Recharge account
	} else if s.merchants.Own() == "" {
		err = s.store.EachConnection(ctx, func(c store.Connection) error {
			shops = append(shops, c.Shop)
			return nil
		})
	}
	shops = slices.DeleteFunc(shops, func(shop shopify.Shop) bool { return name != "" && name != string(shop) })
	if err == nil && len(shops) == 0 {
		err = errors.New("found no store that has connected Recharge")
	}
	return shops, err
}

// drawProgress prints a shop's progress until an import has ended that began after before, or was running
// then. It compares numbers, because an instance with a slow clock may import the shop.
func (s *server) drawProgress(ctx context.Context, shop shopify.Shop, before store.Import, out io.Writer) error {
	last := ""
	for {
		merchant, err := s.merchants.Find(ctx, shop)
		if err == nil && merchant == nil {
			err = errors.New("the store is no longer connected")
		}
		if err != nil {
			return err
		}
		state, err := s.store.Import(ctx, shop)
		if err != nil {
			return err
		}
		if line := s.merchant.ImportWords(state).String(); line != last {
			fmt.Fprintf(out, "%s  %s\n", shop, line)
			last = line
		}
		switch ended := !state.Running && !state.Began.IsZero() && (before.Running || state.Number != before.Number); {
		case ended && state.Problem != "":
			return errors.New(state.Problem)
		case ended:
			return nil
		}
		if !recharge.Wait(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

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
	if ask.All {
		shops, err := s.shopsNamed(ctx, "")
		ask.Unlisted = err != nil
		for _, one := range s.overviews(ctx, shops).Stores {
			ask.Stores = append(ask.Stores, doctor.Store{Shop: one.Shop, Troubles: one.Lines()})
		}
	}
	return doctor.Run(ctx, cfg, s.resolver, ask)
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
	result := s.resolver.Resolve(ctx, portal.Request{Shopper: who, Visit: visit, Dry: true}, portal.NewTrace(s.Now))
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
		portal.FromPrepared:  "cache: a portal access that was made ahead for a campaign",
		portal.FromNobody:    "cache: Recharge did not know the shopper a moment ago",
		portal.FromSession:   "cache: who the shopper is and a session",
		portal.FromCustomer:  "cache: who the shopper is, by an earlier click",
		portal.FromIndex:     "index: who the shopper is, by an import",
		portal.FromOutOfDate: "cache: who the shopper was; Recharge could not be asked",
		portal.FromRecharge:  "Recharge: nothing was cached",
	}
	return cmp.Or(texts[source], "nowhere")
}

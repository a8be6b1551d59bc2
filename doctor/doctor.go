// Package doctor checks everything that this program depends on and explains how to fix problems.
// It changes nothing. Its report contains no secret, hash, token, customer or e-mail address, except
// for the link that VisitTwice asks for.
package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	_ "embed" // the remedies
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const (
	// checkTimeout limits one check.
	checkTimeout = 5 * time.Second
	// timeout limits all checks together, since monitoring waits 20 s.
	timeout = 18 * time.Second
)

// Status is the result of a check.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warn    Status = "warn"    // works, but could be better
	Fail    Status = "fail"    // must be fixed
	Skipped Status = "skipped" // was not checked
)

// Check is one line of a report.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Asked  string `json:"asked"`
	Found  string `json:"found"`
	Remedy string `json:"remedy"` // how to fix it; "" if nothing is wrong
	Ms     int64  `json:"ms"`

	setting string // that it is about; "": none
	goesOn  bool   // checks that need this one run even if it is not OK
}

//go:embed remedies.txt
var remedies string

func ok(found string) Check                   { return Check{Status: OK, Found: found} }
func warn(found string, args ...any) Check    { return result(Warn, found, args...) }
func fail(found string, args ...any) Check    { return result(Fail, found, args...) }
func skipped(found string, args ...any) Check { return result(Skipped, found, args...) }

// result returns a check with the remedy for what was found. Sprintf puts args into found.
func result(status Status, found string, args ...any) Check {
	return Check{Status: status, Found: fmt.Sprintf(found, args...), Remedy: remedyFor(found)}
}

// remedyFor returns the remedy that remedies.txt has for what was found; "" if it has none.
func remedyFor(found string) string {
	_, remedy, _ := strings.Cut(remedies, "\n"+found+" -> ")
	remedy, _, _ = strings.Cut(remedy, "\n")
	return remedy
}

// fix returns the check with a remedy that depends on the setup.
func (c Check) fix(remedy string) Check {
	c.Remedy = remedy
	return c
}

// verdict is the result of a check if its condition holds.
type verdict struct {
	holds bool
	check Check
}

// first returns the first verdict that holds, or otherwise.
func first(verdicts []verdict, otherwise Check) Check {
	for _, v := range verdicts {
		if v.holds {
			return v.check
		}
	}
	return otherwise
}

// Report holds all checks. It is OK if none of them failed.
type Report struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
	Link   string  `json:"-"` // signs in as the customer: for Print only; "" without VisitTwice
}

// Print writes the report for an operator, with the status of each check, what was asked, what was
// found, and how to fix it. Unless verbose, it folds the checks that were skipped into one. The last
// line is a summary, and what to do first.
func (r Report) Print(out io.Writer, verbose bool) {
	var folded []string // the remedies of the checks that are folded
	counts, earliest := map[Status]int{}, map[Status]Check{}
	for _, c := range r.Checks {
		if counts[c.Status]++; counts[c.Status] == 1 {
			earliest[c.Status] = c
		}
		if c.Status == Skipped && !verbose {
			folded = append(folded, c.Remedy)
			continue
		}
		fmt.Fprintf(out, "%-7s  %s: %s\n         %s\n", c.Status, c.Name, c.Asked, c.Found)
		printRemedies(out, c.Remedy)
	}
	if len(folded) > 0 {
		fmt.Fprintf(out, "%-7s  %d checks; --verbose lists them\n", Skipped, len(folded))
		printRemedies(out, slices.Compact(slices.Sorted(slices.Values(folded)))...)
	}
	if r.Link != "" {
		const found = "open this link, which signs in as the customer, in two private windows, and show it to nobody"
		fmt.Fprintf(out, "\n%s\n%s\n", found, r.Link)
		printRemedies(out, remedyFor(found))
	}
	warnings := " warnings"
	if counts[Warn] == 1 {
		warnings = " warning"
	}
	fmt.Fprintf(out, "\n%d passed, %d%s, %d failed, %d skipped.",
		counts[OK], counts[Warn], warnings, counts[Fail], counts[Skipped])
	if worst := cmp.Or(earliest[Fail], earliest[Warn]); worst.Remedy != "" {
		fmt.Fprintf(out, " First, fix %s: %s.", cmp.Or(worst.setting, worst.Name), worst.Remedy)
	}
	fmt.Fprintln(out)
}

func printRemedies(out io.Writer, remedies ...string) {
	for _, remedy := range remedies {
		if remedy != "" {
			fmt.Fprintf(out, "         -> %s\n", remedy)
		}
	}
}

// Options are what an operator passes in addition to the settings, as flags of the command.
type Options struct {
	// Shop is the store whose Recharge is checked. If there are many stores, "" checks none.
	Shop      string   `xor:"shop" help:"If you serve many stores, the one to check, such as my-store.myshopify.com."`
	All       bool     `xor:"shop,url,id" help:"If you serve many stores, check each connected one."`
	StoreURLs []string `name:"store-url" xor:"url" placeholder:"URL" sep:"none" help:"A storefront to check; repeatable."`
	Path      string   `default:"/apps/subscriptions" help:"The app's path there, if a merchant has changed it."`
	Customer  string   `xor:"id" placeholder:"ID" help:"A subscriber's id in Shopify, for whom sessions are made."`
	// Only a person can see whether a link opens the portal twice.
	VisitTwice bool `xor:"output" help:"With --customer, print a link that signs in as them, for you to open twice."`
	// They are in a file, since anybody who reads them can use the signature for three months.
	CrawlerHeaders []byte `type:"filecontent" placeholder:"FILE" help:"A crawler's signature for the storefront."`

	Stores   []Store        `kong:"-"` // the connected ones, for All
	Unlisted bool           `kong:"-"` // they could not be read
	Roots    *x509.CertPool `kong:"-"` // nil: this machine's
}

// check checks the options and returns the shop whose Recharge is checked; "" if none is named.
// Errors: config.Problems.
func (o Options) check(cfg config.Config) (shopify.Shop, error) {
	var problems config.Problems
	for _, text := range o.StoreURLs {
		if _, err := parseStoreURL(text); err != nil {
			problems.Add("--store-url", "is not the address of a storefront", "such as https://www.brand.example")
		}
	}
	if _, err := shopify.ParseCustomerID(o.Customer); o.Customer != "" && err != nil {
		problems.Add("--customer", "is not the id of a Shopify customer",
			"the digits at the end of the customer's address in Shopify's admin")
	}
	if o.CrawlerHeaders != nil && (len(o.StoreURLs) != 1 || o.crawlerSignature() == nil) {
		problems.Add("--crawler-headers",
			"needs one --store-url, and only Signature, Signature-Input and Signature-Agent in the file",
			"one 'Name: value' a line, from Online Store, Preferences, Crawler access in the store's admin")
	}
	shop, err := shopify.ParseShop(cmp.Or(o.Shop, string(cfg.Shop)))
	switch {
	case o.Shop != "" && err != nil:
		problems.Add("--shop", "is not a myshopify.com name", "my-store.myshopify.com, not the store's own domain")
	case cfg.Shop != "" && shop != cfg.Shop:
		problems.Add("--shop", "is another store than SHOPIFY_SHOP's", "leave it out: this server is for one store")
	}
	if len(problems) > 0 {
		return "", problems
	}
	return shop, nil
}

// crawlerSignature returns the headers of a Web Bot Auth signature, which are for the storefront only. It
// returns nil if there is anything else.
// https://shopify.dev/changelog/bots-and-agents-should-identify-themselves-via-web-bot-auth
func (o Options) crawlerSignature() http.Header {
	headers := http.Header{}
	for line := range strings.Lines(strings.TrimSpace(string(o.CrawlerHeaders))) {
		name, value, _ := strings.Cut(line, ":")
		headers.Add(name, strings.TrimSpace(value))
	}
	for _, name := range []string{"Signature", "Signature-Input", "Signature-Agent"} {
		if len(headers) != 3 || len(headers[name]) != 1 || !headerValue.MatchString(headers[name][0]) {
			return nil
		}
	}
	return headers
}

// step is one check to run.
type step struct {
	name, asked string
	needs       string // the check without which this one means nothing; "": none
	do          func(context.Context) Check
}

// doctor is one run.
type doctor struct {
	*portal.Resolver // as the server's; nothing is saved with it
	Options
	config config.Config
	shop   shopify.Shop
	link   string   // to open twice
	clocks sync.Map // how far others' are ahead of ours by the Date headers of answers, by name
	client *http.Client
}

// Run checks the setup of a server with these settings, which resolves clicks with resolver. It takes
// at most 18 s, and with All at most that for every 16 stores.
// Errors: config.Problems if the options are wrong.
func Run(ctx context.Context, cfg config.Config, resolver *portal.Resolver, options Options) (Report, error) {
	shop, err := options.check(cfg)
	if err != nil {
		return Report{}, err
	}
	options.Path = "/" + strings.Trim(cmp.Or(options.Path, proxyPath), "/")
	d := &doctor{Resolver: resolver, Options: options, config: cfg, shop: shop, client: newClient(options.Roots)}
	defer d.client.CloseIdleConnections()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	groups := []func(context.Context) []Check{d.redis, d.recharge, d.app}
	for _, at := range d.storefronts() {
		groups = append(groups, func(ctx context.Context) []Check { return d.proxy(ctx, at) })
	}
	groups = append(groups, d.accounts)
	if d.all() { // each store has its own limit of time
		groups = []func(context.Context) []Check{d.redis, d.app, d.stores}
	}
	found := make([][]Check, len(groups))
	var running sync.WaitGroup
	for i, group := range groups { // concurrently, so that one that hangs takes no time from the others
		running.Go(func() { found[i] = group(limited) })
	}
	running.Wait()
	return d.report(slices.Concat(
		each(ctx, []step{{"configuration", "flags, environment and .env", "", d.configuration}}),
		mistakes(Warn, cfg.Unknown),
		slices.Concat(found...),
		each(ctx, []step{{"clock", "the Date header of each answer against this clock", "", d.clock}}),
	)), nil
}

// each runs checks one after the other and skips those whose need is not met.
func each(ctx context.Context, steps []step) []Check {
	checks := make([]Check, len(steps))
	unmet := map[string]Check{} // by a check's name: the result of checks that need it
	for i, s := range steps {
		start := time.Now()
		check, skip := unmet[s.needs]
		if !skip {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			check = s.do(ctx)
			cancel()
		}
		switch {
		case check.Status == Skipped:
			unmet[s.name] = check
		case check.Status != OK && !check.goesOn:
			unmet[s.name] = skipped("not asked: %s", check.Found).fix("fix " + s.name)
		}
		check.Name, check.Asked = s.name, s.asked
		check.Ms = max(check.Ms, time.Since(start).Milliseconds())
		checks[i] = check
	}
	return checks
}

func (d *doctor) configuration(context.Context) Check {
	return first([]verdict{
		{len(d.config.ShopifyAPISecrets) > 1, warn("every setting is valid; there are two app secrets")},
		{len(d.config.EncryptionKeys) > 1, warn("every setting is valid; there are two encryption keys")},
	}, ok("every setting is valid"))
}

func (d *doctor) clock(context.Context) Check {
	var all []string
	var worst time.Duration
	d.clocks.Range(func(name, ahead any) bool {
		all = append(all, fmt.Sprintf("%s: %+d s", name, int(ahead.(time.Duration).Seconds())))
		worst = max(worst, ahead.(time.Duration).Abs())
		return true
	})
	slices.Sort(all)
	found := strings.Join(all, ", ")
	const remedy = "set the clocks of this machine and of the server by NTP: Shopify's requests are good for 90 s"
	return first([]verdict{
		{len(all) == 0, skipped("no answer had a date")},
		{worst > 80*time.Second, fail("%s", found).fix(remedy)}, // clicks are about to be refused
		{worst > 30*time.Second, warn("%s", found).fix(remedy)},
	}, ok(found))
}

// oneStore reports whether one store is configured. Merchants then save nothing here, and anything
// that Redis loses is looked up again.
func (d *doctor) oneStore() bool { return d.config.Shop != "" }

// Unconfigured returns the report on invalid settings.
func Unconfigured(problems config.Problems) Report { return Report{Checks: mistakes(Fail, problems)} }

// mistakes returns a check for each problem with the settings.
func mistakes(status Status, problems config.Problems) (checks []Check) {
	for _, p := range problems {
		check := Check{Name: "configuration", Status: status, Asked: p.Name, Found: p.What, Remedy: p.Hint, setting: p.Name}
		checks = append(checks, check)
	}
	return checks
}

// report removes secrets from all texts of checks, since an error from a library may repeat
// anything.
func (d *doctor) report(checks []Check) Report {
	secrets := append([]config.Secret{
		config.NewSecret(d.Customer), config.NewSecret(d.crawlerSignature().Get("Signature")), d.config.RechargeAPIToken,
		d.config.RechargeStorefrontToken, d.config.RechargeClientSecret,
	}, d.config.ShopifyAPISecrets...)
	if redis := d.config.Redis(); redis != nil {
		secrets = append(secrets, config.NewSecret(redis.Password), config.NewSecret(redis.SentinelPassword))
	}
	var pairs []string
	for _, secret := range secrets {
		if text := secret.Reveal(); len(text) > 3 {
			pairs = append(pairs, text, "...")
		}
	}
	hide := strings.NewReplacer(pairs...).Replace
	report := Report{true, checks, d.link}
	for i, c := range checks {
		checks[i].Found, checks[i].Remedy, checks[i].Asked = hide(c.Found), hide(c.Remedy), hide(c.Asked)
		report.OK = report.OK && c.Status != Fail
	}
	return report
}

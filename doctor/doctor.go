// Package doctor checks what this program needs, and says how to fix what is wrong. It
// changes nothing. Its report holds no secret, hash, token, customer or e-mail address.
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// checkTimeout is how long one check may take.
	checkTimeout = 5 * time.Second
	// timeout is how long all of them may take: monitoring waits 20 s.
	timeout = 18 * time.Second
	// mostChecks is more than any group has.
	mostChecks = 32
)

// Status is the result of a check.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warn    Status = "warn"    // works, and could be better
	Fail    Status = "fail"    // must be fixed
	Skipped Status = "skipped" // was not checked
)

// Check is one line of a report.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Asked  string `json:"asked"`
	Found  string `json:"found"`
	Remedy string `json:"remedy"` // how to fix it; "" where all is well
	Ms     int64  `json:"ms"`
}

// Print writes a check for an operator: its status, what was asked, what was found, and
// how to fix it.
func (c Check) Print(out io.Writer) {
	text := fmt.Sprintf("%-7s  %s: %s\n         %s\n", c.Status, c.Name, c.Asked, c.Found)
	if c.Remedy != "" {
		text += "         -> " + c.Remedy + "\n"
	}
	_, _ = io.WriteString(out, text)
}

// Report is all checks. It is OK if none failed.
type Report struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Target is what is checked.
type Target struct {
	Config    config.Config
	Store     *store.Store // read-only
	Merchants *portal.Merchants
	Now       func() time.Time
}

// Options are what an operator asks for beside the settings.
type Options struct {
	Shop     string // whose Recharge, where many stores are served; "": none is checked
	StoreURL string // the storefront; "": the way through Shopify is not checked
	Path     string // the app's path on it
	Customer string // Shopify's id of a customer to make a session for; "": none is made
	Roots    *x509.CertPool
}

// Check returns the shop whose Recharge is checked; "" if none is named.
// Errors: config.Problems.
func (o Options) Check(cfg config.Config) (shopify.Shop, error) {
	var problems config.Problems
	add := func(name, what, hint string) {
		problems = append(problems, config.Problem{Name: name, What: what, Hint: hint})
	}
	if o.StoreURL != "" && !goodStoreURL(o.StoreURL) {
		add("--store-url", "is not the address of a storefront", "such as https://www.brand.example")
	}
	if _, err := shopify.ParseCustomerID(o.Customer); o.Customer != "" && err != nil {
		add("--customer", "is not the id of a Shopify customer",
			"the digits at the end of the customer's address in Shopify's admin")
	}
	shop, err := cfg.Shop, error(nil)
	if o.Shop != "" {
		shop, err = shopify.ParseShop(o.Shop)
	}
	switch {
	case err != nil:
		add("--shop", "is not a myshopify.com name", "my-store.myshopify.com, not the store's own domain")
	case cfg.Shop != "" && shop != cfg.Shop:
		add("--shop", "is another store than SHOPIFY_SHOP's", "leave it out: this server is for one store")
	}
	if len(problems) > 0 {
		return "", problems
	}
	return shop, nil
}

// result is what a check found, before it is named and timed.
type result struct {
	status        Status
	found, remedy string
}

func ok(found string) result              { return result{OK, found, ""} }
func warn(found, remedy string) result    { return result{Warn, found, remedy} }
func fail(found, remedy string) result    { return result{Fail, found, remedy} }
func skipped(found, remedy string) result { return result{Skipped, found, remedy} }

// named makes a check of a result.
func (r result) named(name, asked string, took time.Duration) Check {
	return Check{name, r.status, asked, r.found, r.remedy, took.Milliseconds()}
}

// step is one check to be made.
type step struct {
	name, asked string
	do          func(context.Context) result
}

// doctor is one run.
type doctor struct {
	Target
	Options
	shop   shopify.Shop
	clocks clocks
	client *http.Client
}

// Run makes all checks, and passes each to tell when those before it have been. It takes
// 18 s at most.
// Errors: config.Problems where the options are wrong.
func Run(ctx context.Context, target Target, options Options, tell func(Check)) (Report, error) {
	shop, err := options.Check(target.Config)
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := &doctor{Target: target, Options: options, shop: shop, clocks: clocks{now: target.Now}}
	d.client = newClient(options.Roots)
	defer d.client.CloseIdleConnections()
	report := Report{OK: true}
	add := func(check Check) {
		check = d.concealed(check)
		report.Checks = append(report.Checks, check)
		report.OK = report.OK && check.Status != Fail
		tell(check)
	}
	add(d.configuration().named("configuration", "flags, environment and .env", 0))
	groups := []func(context.Context, func(Check)){d.redis, d.recharge, d.app, d.proxy}
	done := make([]chan Check, len(groups))
	for i, group := range groups { // at the same time: one that hangs takes no time from another
		done[i] = make(chan Check, mostChecks)
		go func() {
			defer close(done[i])
			group(ctx, func(check Check) { done[i] <- check })
		}()
	}
	for _, checks := range done {
		for check := range checks {
			add(check)
		}
	}
	add(d.clocks.check().named("clock", "the Date header of each answer against this clock", 0))
	return report, nil
}

// each makes checks one after the other. A check that was given up may still be under
// way: those after it are skipped then.
func each(ctx context.Context, steps []step, tell func(Check)) {
	for i, s := range steps {
		check, done := timed(ctx, s)
		tell(check)
		if done {
			continue
		}
		for _, s := range steps[i+1:] {
			tell(skipped("was not asked", "fix "+check.Name).named(s.name, s.asked, 0))
		}
		return
	}
}

// timed makes a check, and gives it up when its time is over. It reports whether the check
// has ended.
func timed(ctx context.Context, s step) (Check, bool) {
	start := time.Now()
	if ctx.Err() != nil {
		late := fail("no time was left", "fix what failed or was slow above, then run doctor again")
		return late.named(s.name, s.asked, 0), false
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answer := make(chan result, 1)
	go func() { answer <- s.do(ctx) }()
	var r result
	done := true
	select {
	case r = <-answer:
	case <-ctx.Done():
		select {
		case r = <-answer: // it has noticed by itself, and knows more
		case <-time.After(100 * time.Millisecond):
			r, done = fail("no answer in time", "fix what failed above, then run doctor again"), false
		}
	}
	return r.named(s.name, s.asked, time.Since(start)), done
}

func (d *doctor) configuration() result {
	switch {
	case len(d.Config.ShopifyAPISecrets) > 1:
		return warn("every setting is valid; there are two app secrets",
			"remove the old one from SHOPIFY_API_SECRET an hour after Shopify has the new one")
	case len(d.Config.EncryptionKeys) > 1:
		return warn("every setting is valid; there are two encryption keys",
			"run 'manage-subscriptions rekey', then remove the old one from ENCRYPTION_KEY")
	}
	return ok("every setting is valid")
}

// Unconfigured is the report on settings that are not valid.
func Unconfigured(problems config.Problems) Report {
	var report Report
	for _, p := range problems {
		report.Checks = append(report.Checks, fail(p.What, p.Hint).named("configuration", p.Name, 0))
	}
	return report
}

// concealed removes secrets, wherever they came from: an error of a library's may repeat
// anything.
func (d *doctor) concealed(check Check) Check {
	secrets := []string{
		d.Customer, d.Config.RechargeAPIToken.Reveal(),
		d.Config.RechargeStorefrontToken.Reveal(), d.Config.RechargeClientSecret.Reveal(),
	}
	for _, secret := range d.Config.ShopifyAPISecrets {
		secrets = append(secrets, secret.Reveal())
	}
	if d.Config.Redis != nil {
		secrets = append(secrets, d.Config.Redis.Password.Reveal(), d.Config.Redis.SentinelPassword.Reveal())
	}
	for _, secret := range secrets {
		if len(secret) > 3 {
			check.Found = strings.ReplaceAll(check.Found, secret, "...")
			check.Remedy = strings.ReplaceAll(check.Remedy, secret, "...")
			check.Asked = strings.ReplaceAll(check.Asked, secret, "...")
		}
	}
	return check
}

func goodStoreURL(text string) bool {
	u, err := parseURL(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http" && recharge.Loopback(strings.ToLower(u.Hostname())))
}

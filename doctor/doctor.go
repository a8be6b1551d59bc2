// Package doctor looks at all that this program needs, and says of each what was
// asked, what came, and the one thing to do. It changes nothing. What it says holds
// no secret, hash, token, customer or e-mail address.
package doctor

import (
	"context"
	"crypto/x509"
	"net/http"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// checkPatience is how long one check may take,
	checkPatience = 5 * time.Second
	// patience how long all of them: whoever watches with it waits 20 s.
	patience = 18 * time.Second
)

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warn    Status = "warn"    // works, and could be better
	Fail    Status = "fail"    // has to be mended
	Skipped Status = "skipped" // was not looked at
)

// Check is one line of a report.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Asked  string `json:"asked"`
	Found  string `json:"found"`
	Remedy string `json:"remedy"` // the one thing to do; "" where all is well
	Ms     int64  `json:"ms"`
}

// Report is all of them. It is OK if none failed.
type Report struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Patient is what is looked at.
type Patient struct {
	Config config.Config
	Store  *store.Store
	// Shop is whose Recharge is looked at; "" if none was named.
	Shop shopify.Shop
	// Recharge finds the shop's client; nil: it has not
	// connected Recharge; and whether its links are by hash. It may ask Redis.
	Recharge func(context.Context) (client *recharge.Client, byHash bool, err error)
	Now      func() time.Time

	StoreURL string // the storefront; "" leaves the live proxy alone
	Path     string // the app's path on it
	Customer string // whose Shopify customer id; "" makes no session

	HTTP *http.Transport // asks the app and the storefront; nil: one of its own
	TLS  *x509.CertPool  // who vouches for certificates; nil: whom the system trusts
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

// step is one check to be made.
type step struct {
	name, asked string
	do          func(context.Context) result
}

// doctor is one examination.
type doctor struct {
	Patient
	dates   dates
	probes  *shopify.Probes
	signing string // the app's secret that signs
	client  *http.Client
}

// Run makes all checks and tells each when those before it are told. It ends
// within 18 s whatever hangs.
func Run(ctx context.Context, p Patient, tell func(Check)) Report {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := &doctor{Patient: p, dates: dates{now: p.Now}, signing: p.Config.ShopifyAPISecrets[0].Reveal()}
	d.client = d.newClient()
	defer d.client.CloseIdleConnections()
	probes, err := shopify.NewProbes(d.secrets(), p.Now)
	if err != nil { // only of a key that cannot be derived, which there is not
		probes = &shopify.Probes{}
	}
	d.probes = probes
	report := Report{OK: true}
	add := func(check Check) {
		check = d.concealed(check)
		report.Checks = append(report.Checks, check)
		report.OK = report.OK && check.Status != Fail
		tell(check)
	}
	add(d.configuration())
	// What hangs in one must not take its time from another.
	groups := [][]step{d.redis(), d.recharge(), d.app(), d.proxy()}
	done := make([]chan Check, len(groups))
	for i, steps := range groups {
		done[i] = make(chan Check, len(steps))
		go examine(ctx, steps, done[i])
	}
	for _, checks := range done {
		for check := range checks {
			add(check)
		}
	}
	clock, _ := timed(context.WithoutCancel(ctx), step{"clock", "the Date header of each answer against this clock", d.clock})
	add(clock)
	return report
}

// examine makes the checks of a group one after the other, each as it needs those
// before it. A check that had to be given up may still be under way: nothing that
// builds on it is asked then.
func examine(ctx context.Context, steps []step, done chan<- Check) {
	defer close(done)
	for i, s := range steps {
		check, given := timed(ctx, s)
		done <- check
		if !given {
			for _, s := range steps[i+1:] {
				done <- Check{s.name, Skipped, s.asked, "was not asked", "mend " + check.Name, 0}
			}
			return
		}
	}
}

// timed makes a check and does not wait for longer than it may take, whatever that
// is; false if it has given the check up.
func timed(ctx context.Context, s step) (Check, bool) {
	start := time.Now()
	ended := func(r result) Check {
		if r.status == "" { // nothing is not good
			r = fail("the check came to nothing", "report this: it is a fault of doctor's")
		}
		return Check{s.name, r.status, s.asked, r.found, r.remedy, time.Since(start).Milliseconds()}
	}
	if ctx.Err() != nil {
		return ended(fail("no time was left", "mend what is marked above, or took long, then ask again")), false
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	answer := make(chan result, 1)
	go func() { answer <- s.do(ctx) }()
	select {
	case r := <-answer:
		return ended(r), true
	case <-ctx.Done():
	}
	select { // it may just have noticed itself, and knows more
	case r := <-answer:
		return ended(r), true
	case <-time.After(100 * time.Millisecond):
		return ended(fail("no answer in time", "mend what is marked above, then ask again")), false
	}
}

func (d *doctor) configuration() Check {
	r := ok("every setting can be used")
	switch {
	case len(d.Config.ShopifyAPISecrets) > 1:
		r = warn("every setting can be used; two app secrets, as while rotating", "take the old one out of SHOPIFY_API_SECRET an hour after Shopify has the new one")
	case len(d.Config.EncryptionKeys) > 1:
		r = warn("every setting can be used; two encryption keys", "run 'manage-subscriptions rekey', then take the old one out of ENCRYPTION_KEY")
	}
	return Check{Name: "configuration", Status: r.status, Asked: "flags, environment and .env", Found: r.found, Remedy: r.remedy}
}

// Unconfigured is the report on settings that cannot be used.
func Unconfigured(problems config.Problems) Report {
	var report Report
	for _, problem := range problems {
		report.Checks = append(report.Checks, Check{
			Name: "configuration", Status: Fail, Asked: problem.Name, Found: problem.What, Remedy: problem.Hint,
		})
	}
	return report
}

func (d *doctor) secrets() []string {
	var all []string
	for _, secret := range d.Config.ShopifyAPISecrets {
		all = append(all, secret.Reveal())
	}
	return all
}

// concealed takes out what must not be there, wherever it came from: somebody
// else's error may repeat anything.
func (d *doctor) concealed(check Check) Check {
	secrets := append(d.secrets(), d.Customer, d.Config.RechargeAPIToken.Reveal(), d.Config.RechargeStorefrontToken.Reveal(), d.Config.RechargeClientSecret.Reveal())
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

// dates are the Date headers that were met.
type dates struct {
	now func() time.Time
	mu  sync.Mutex
	off map[string]time.Duration // by whose clock it is; how far it is ahead
}

// heard keeps how far another's clock is from ours.
func (d *dates) heard(whose string, header http.Header) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" {
		return // what a cache had, and of when, says nothing of a clock
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off == nil {
		d.off = map[string]time.Duration{}
	}
	d.off[whose] = date.Sub(d.now()).Round(time.Second)
}

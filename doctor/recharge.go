package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const pasteIt = "paste it in the app, under Settings, Paste new tokens"

// plainWords matches the only texts from another program that a report may repeat.
var plainWords = regexp.MustCompile(`^[a-z_, -]{1,200}$`)

// rechargeReport holds what recharge.Inspect found and how the shop is configured.
type rechargeReport struct {
	*doctor
	recharge.Findings
	merchant *portal.Merchant
}

// recharge checks Recharge in at most ten calls, seven by recharge.Inspect and three by a click. All
// count towards the limit that the servers share, so a 429 holds these calls back, too.
func (d *doctor) recharge(ctx context.Context) []Check {
	r := &rechargeReport{doctor: d}
	merchant, blind := d.merchant(ctx)
	if merchant == nil {
		steps := r.steps()
		steps[0].do = func(context.Context) Check { return blind }
		return each(ctx, steps)
	}
	r.merchant = merchant
	noSession := merchant.NoAccess || d.Customer == ""
	options := recharge.InspectOptions{Customer: d.Customer, NoSession: noSession, Extras: true, Link: d.VisitTwice}
	grant, _ := merchant.Client.Limiter().Reserve(ctx, d.Store.Limiter(d.shop), recharge.Ask{}) // asks no limiter yet
	defer grant.Release(ctx)
	r.Findings = recharge.Inspect(ctx, merchant.Client, grant, options, func(recharge.Finding) {})
	if r.Headers.Dated {
		d.clocks.Store("Recharge", r.Headers.Ahead.Round(time.Second))
	}
	d.link = r.Link
	return each(ctx, r.steps())
}

// merchant returns the shop's merchant, or a result that explains why there is none.
func (d *doctor) merchant(ctx context.Context) (*portal.Merchant, Check) {
	if d.shop == "" {
		return nil, skipped("the store is not known")
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, _ = d.Store.Record(ctx, d.shop) // has what was detected, for one store, too
	merchant, err := d.Merchants.Find(ctx, d.shop)
	return merchant, first([]verdict{
		{errors.Is(err, portal.ErrRedisDown) && !errors.Is(err, store.ErrUnreadable),
			skipped("the store's connection could not be read")},
		{err != nil, fail("the store's connection cannot be read")},
		{d.oneStore(), fail("there is no token: every click ends in not_connected")},
	}, fail("the store has not connected Recharge"))
}

func (r *rechargeReport) steps() []step {
	const token, customer = "recharge.token", "recharge.customer"
	const session, access = "recharge.session", "recharge.portal_access"
	return []step{
		r.step(token, "GET /token_information", "", recharge.CheckToken, r.token),
		r.step("recharge.scopes", "the scopes of the token", token, recharge.CheckToken, r.scopes),
		r.step("recharge.store", "GET /store: whose token it is", token, recharge.CheckStore, r.store),
		r.step("recharge.filter", "GET /customers?external_customer_id= of nobody", token, recharge.CheckFilter, r.filter),
		r.step(customer, "GET /customers?external_customer_id= of --customer", token, recharge.CheckCustomers, r.customer),
		r.step(session, "POST /customers/{id}/sessions as the server does", customer, recharge.CheckSessions, r.session),
		r.step("recharge.session_bare", "the same without the Storefront token", customer, recharge.CheckBare, r.sessionBare),
		r.step("recharge.session_key", "the name of the session's token", session, recharge.CheckSessions, r.sessionKey),
		r.step(access, "GET /portal_access with that session", session, recharge.CheckPortal, r.access),
		r.step("recharge.base_url", "the base_url of the portal", access, recharge.CheckPortal, r.baseURL),
		r.step("recharge.expires_at", "the format of expires_at, and how far it is", access, recharge.CheckPortal, r.expiry),
		r.step("recharge.limits", "X-Recharge-Limit and Retry-After of the answers", token, recharge.CheckToken, r.limits),
		r.step("recharge.latency", "how long the slowest call took", token, recharge.CheckToken, r.latency),
		{"recharge.click", "where a click of --customer would end", token, r.click},
	}
}

// step returns a check that reads a finding. Inspect stops if the token may not read customers or
// belongs to another store.
func (r *rechargeReport) step(
	name, asked, needs string, of recharge.Check, read func(recharge.Finding) Check,
) step {
	finding := r.Of(of)
	return step{name, asked, needs, func(context.Context) Check {
		switch {
		case finding.Check == "" && r.Of(recharge.CheckStore).Why == recharge.WrongStore:
			return skipped("was not asked").fix("fix recharge.store")
		case finding.Check == "" && of != recharge.CheckToken:
			return skipped("was not asked").fix("fix recharge.scopes")
		}
		check := read(finding)
		check.Ms = finding.Took.Milliseconds()
		return check
	}}
}

func (r *rechargeReport) token(f recharge.Finding) Check {
	if f.State == recharge.Passed || f.Missing != nil {
		return ok("the token is accepted")
	}
	return refused(f, "make a new Admin token at Recharge and "+r.set("set it as RECHARGE_API_TOKEN", pasteIt), nil)
}

// set returns setting, the remedy for one store, or inApp, the remedy for a merchant of many.
func (d *doctor) set(setting, inApp string) string {
	if d.oneStore() {
		return setting
	}
	return inApp
}

// portalAt returns the remedy for a portal that links may not lead to.
func (d *doctor) portalAt(address string) string {
	return d.set("set RECHARGE_PORTAL_URL to "+address,
		"set the portal to "+address+" in the app, under Edit detected settings")
}

// refused returns the result in known for a finding's reason, or otherwise one for a failed call.
// remedy applies if Recharge refused the call.
func refused(f recharge.Finding, remedy string, known map[recharge.Reason]Check) Check {
	if r, ok := known[f.Why]; ok {
		return r
	}
	check := fail("%s", f.Why).fix(cmp.Or(remedyFor("call: "+string(f.Why)), remedy))
	switch f.Why {
	case "":
		return fail("no answer")
	case recharge.Limited, recharge.OverBudget, recharge.Locked:
		check.Status = Warn
	case recharge.BadVersion, recharge.NotFound, recharge.Unexpected:
		if f.Check == recharge.CheckToken {
			check.Remedy = "check that RECHARGE_API_URL is Recharge's API"
		}
	}
	if f.Status != 0 {
		check.Found += fmt.Sprintf(" (%d)", f.Status)
	}
	return check
}

func (r *rechargeReport) scopes(f recharge.Finding) Check {
	found := strings.Join(r.Scopes, ", ")
	if !plainWords.MatchString(found) {
		found = fmt.Sprintf("%d scopes", len(r.Scopes))
	}
	session := slices.Contains(r.Scopes, "write_session") || slices.Contains(r.Scopes, "write_sessions")
	return first([]verdict{
		{f.Missing != nil, fail("%s", found).
			fix("give the token the scope " + strings.Join(f.Missing, ", ") + " at Recharge")},
		{!session && !r.merchant.NoAccess, warn("%s; none for sessions", found)},
	}, ok(found))
}

func (r *rechargeReport) store(f recharge.Finding) Check {
	base := "this store's; its portal is at " + r.Store.Base
	return first([]verdict{
		{f.Missing != nil, skipped("the token may not ask")},
		{f.State == recharge.Skipped, warn("Recharge does not say whose it is")},
		{f.Why == recharge.WrongStore, fail("the token is another store's").
			fix("create one in this store's Recharge and " +
				r.set("set it as RECHARGE_API_TOKEN, or correct SHOPIFY_SHOP", pasteIt))},
		{f.State != recharge.Passed, refused(f, "give the token the scope read_store at Recharge", nil)},
		{r.Store.Base == "", ok("this store's; no customer_portal_base_url")},
		{!r.Store.Trusted, warn("%s, where no link may lead", base).fix(r.portalAt("that address"))},
	}, ok(base))
}

func (r *rechargeReport) filter(f recharge.Finding) Check {
	return refused(f, "give the token the scope read_customers at Recharge", map[recharge.Reason]Check{
		"":                     ok("an empty page: it filters"),
		recharge.FilterIgnored: fail("the filter is ignored: other people's records came"),
		recharge.NoCustomer:    warn("not known: the store has no customers at Recharge"),
	})
}

func (r *rechargeReport) customer(f recharge.Finding) Check {
	switch {
	case r.merchant.InAccount:
		return skipped("the portal is in the Shopify account: no session is made")
	case r.merchant.NoAccess:
		return skipped("links are by hash: no session is made")
	case r.Customer == "":
		return skipped("no customer was named")
	}
	return refused(f, "fix recharge.filter", map[recharge.Reason]Check{
		"":                  ok("found"),
		recharge.NoCustomer: warn("Recharge does not know this customer"),
		recharge.Ambiguous:  warn("this customer has several records, and none to prefer"),
	})
}

func (r *rechargeReport) session(f recharge.Finding) Check {
	with := "with the Storefront token"
	if !r.Storefront {
		with = "without a Storefront token"
	}
	made := "made, " + with
	if lives := r.Session.Lives; lives != 0 {
		made += fmt.Sprintf("; it lives for %v", lives.Round(time.Minute))
	}
	remedy := "give the Admin token the scope write_session at Recharge, and the Storefront token the scope for sessions"
	return refused(f, remedy, map[recharge.Reason]Check{
		"":               ok(made),
		recharge.Foreign: fail("another customer's session"),
		recharge.Unauthorized: fail("refused %s; until then clicks go on by hash", with).
			fix("make a Storefront token in this store's Recharge, with the scope for sessions, and " +
				r.set("set it as RECHARGE_STOREFRONT_TOKEN", pasteIt)),
	})
}

// sessionBare reports whether the store needs a Storefront token at all. Neither answer is a fault.
func (r *rechargeReport) sessionBare(f recharge.Finding) Check {
	if !r.Storefront {
		return skipped("there is no Storefront token: see recharge.session")
	}
	needed := ok("refused: this store needs the Storefront token")
	return refused(f, "fix recharge.session", map[recharge.Reason]Check{
		"":                    ok("made: this store needs no Storefront token"),
		recharge.Unauthorized: needed,
		recharge.Forbidden:    needed,
	})
}

func (r *rechargeReport) sessionKey(recharge.Finding) Check { return ok(r.Session.Key) }

func (r *rechargeReport) access(f recharge.Finding) Check {
	if r.Portal.LinkHost != "" {
		return ok("a link came; it was thrown away")
	}
	check := refused(f, "", map[recharge.Reason]Check{recharge.Foreign: fail("another customer's link")})
	if f.Status != 0 && !f.Why.Transient() {
		check.Remedy = remedyFor("portal access refused")
	}
	return check
}

func (r *rechargeReport) baseURL(recharge.Finding) Check {
	p := r.Portal
	return first([]verdict{
		{!p.Opens && p.Trusted, fail("the customer's hash is not where it should be in the link")},
		{!p.Opens && strings.HasPrefix(p.Base, p.LinkHost+"/"), fail("%s, where no link may lead", p.Base).
			fix(r.portalAt("https://" + p.Base))},
		{!p.Opens, fail("the link leads to %s, where no link may lead", p.LinkHost).
			fix(r.portalAt("the portal's address on " + p.LinkHost))},
		{p.Base == "", warn("no usable one; the link itself is good")},
	}, ok(p.Base))
}

func (r *rechargeReport) expiry(recharge.Finding) Check {
	zone := "without a zone, taken as UTC"
	if r.Portal.Zone {
		zone = "with a zone"
	}
	expires := r.Portal.Expires
	return first([]verdict{
		{expires == 0, warn("it cannot be read")},
		{expires < time.Minute, warn("%s; it is less than a minute away", zone)},
	}, ok(fmt.Sprintf("%s; in %.0f h", zone, expires.Hours())))
}

func (r *rechargeReport) limits(recharge.Finding) Check {
	retry := "; Retry-After was not seen"
	if r.Headers.RetryAfter {
		retry = "; Retry-After was seen"
	}
	used, size := r.Headers.Used, r.Headers.Size
	found := fmt.Sprintf("X-Recharge-Limit %d/%d%s", used, size, retry)
	return first([]verdict{
		{size == 0, warn("no X-Recharge-Limit%s", retry)},
		{size < r.config.RechargeBurst, warn("%s", found).fix(fmt.Sprintf("set the burst of RECHARGE_RATE to %d", size))},
		{used*10 > size*8, warn("%s", found).fix("check what else uses the token: little is left for clicks")},
	}, ok(found))
}

func (r *rechargeReport) latency(recharge.Finding) Check {
	found := fmt.Sprintf("%.2f s; a call may take %v", r.Slowest.Seconds(), r.config.RechargeTimeout)
	return first([]verdict{
		{r.Slowest > r.config.RechargeTimeout/2, warn("%s", found).
			fix("run doctor again later; if it stays, raise RECHARGE_TIMEOUT")},
	}, ok(found))
}

// Outcome describes how a click ends, but nothing that would open a portal. byPage: REDIRECT=page.
func Outcome(result portal.Result, byPage bool) string {
	way := ": 302 to the portal at "
	if byPage {
		way = ": a page that forwards to the portal at "
	}
	if link, err := url.Parse(result.Link.URL); err == nil && link.Host != "" {
		return string(result.Outcome) + way + link.Host
	}
	return string(result.Outcome) + map[portal.Outcome]string{
		portal.NotASubscriber: ": a page that says what to do next",
		portal.Unavailable:    ": a page that asks to try again",
		portal.NotConnected:   ": a page; the store has not connected Recharge",
	}[result.Outcome]
}

// click resolves a click of the customer. It runs all the code of a real click, so that it cannot
// disagree with one.
func (r *rechargeReport) click(ctx context.Context) Check {
	if r.Customer == "" {
		return skipped("no customer was named")
	}
	end := r.Resolve(ctx, portal.Request{
		Shopper: store.Shopper{Shop: r.shop, Customer: shopify.CustomerID(r.Customer)},
		Visit:   recharge.Visit{To: recharge.Subscriptions}, Dry: true,
	}, portal.NewTrace(r.Now))
	found := Outcome(end, r.config.RedirectByPage)
	if end.Cause != nil {
		found += "; " + end.Cause.Error()
	}
	return first([]verdict{
		{end.Outcome == portal.Unavailable || end.Outcome == portal.NotConnected,
			fail("%s", found).fix("fix what failed above")},
		{end.Outcome == portal.NotASubscriber, warn("%s", found).fix("pass the Shopify id of a customer who subscribes")},
		{end.Cause != nil, warn("%s", found).fix("fix what is marked above")},
	}, ok(found))
}

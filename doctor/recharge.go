package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

const (
	passCustomer = "pass --customer with the Shopify id of a customer who subscribes: a session is made for them"
	// sameKey is for what was sealed with a key that this program does not have.
	sameKey     = "check that this program has the ENCRYPTION_KEY that the servers have"
	linksByHash = "links are by hash: no session is made"
	support     = "tell Recharge's support; set PORTAL_LINK=hash meanwhile"
)

// plainWord is all that is repeated of what another program says.
var plainWord = regexp.MustCompile(`^[a-z_-]{1,40}$`)

// rechargeCheck is a check that reads what recharge.Inspect has found.
type rechargeCheck struct {
	name, asked string
	of          recharge.Check // the finding that it reads
	read        func(recharge.Finding) result
}

// rechargeReport is what recharge.Inspect has found, and how the shop is configured.
type rechargeReport struct {
	*doctor
	recharge.Findings
	byHash bool   // links are
	blind  result // why Recharge was not asked; the zero value: it was
}

// recharge checks Recharge, in at most ten calls: seven are recharge.Inspect's, three
// those of a click. All are within the limit that the servers share: a 429 holds back
// these, too.
func (d *doctor) recharge(ctx context.Context, tell func(Check)) {
	merchant, token := d.merchant(ctx)
	r := &rechargeReport{doctor: d, byHash: merchant != nil && merchant.ByHash}
	if merchant == nil {
		r.blind = skipped("Recharge was not asked", "fix recharge.token")
		if token.status == Skipped {
			r.blind = token
		}
	} else {
		grant, err := merchant.Client.Limiter().Reserve(ctx, d.Store.Limiter(d.shop), recharge.Ask{})
		if err == nil {
			defer grant.Release(ctx)
			options := recharge.InspectOptions{
				Customer: d.Customer, NoSession: r.byHash || d.Customer == "", Extras: true,
			}
			r.Findings = recharge.Inspect(ctx, merchant.Client, grant, options, func(recharge.Finding) {})
		}
		if r.Headers.Dated {
			d.clocks.add("Recharge", r.Headers.Ahead)
		}
		if token = r.token(); token.status != OK {
			r.blind = skipped("Recharge was not asked", "fix recharge.token")
		}
	}
	tell(token.named("recharge.token", "GET /token_information", r.Of(recharge.CheckToken).Took))
	for _, check := range r.checks() {
		finding := r.Of(check.of)
		tell(r.result(check, finding).named(check.name, check.asked, finding.Took))
	}
	each(ctx, []step{{"recharge.click", "where a click of --customer would end", r.click}}, tell)
}

// merchant returns the shop's merchant, or why there is none.
func (d *doctor) merchant(ctx context.Context) (*portal.Merchant, result) {
	if d.shop == "" {
		return nil, skipped("the store is not known", "pass --shop")
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var record *store.Record
	var err error
	if d.Merchants.Own() == "" {
		record, err = d.Store.Record(ctx, d.shop)
	}
	if err != nil && !errors.Is(err, store.ErrUnreadable) {
		return nil, skipped("the store's connection could not be read", "fix redis.reach")
	}
	var merchant *portal.Merchant
	if err == nil {
		merchant, err = d.Merchants.Of(d.shop, record)
	}
	switch {
	case err != nil:
		return nil, fail("the store's connection cannot be read", sameKey+"; if it has, connect the store again in the app")
	case merchant == nil && d.oneStore():
		return nil, fail("there is no token: every click ends in not_connected", "set RECHARGE_API_TOKEN")
	case merchant == nil:
		return nil, fail("the store has not connected Recharge",
			"connect it in the app, in the store's admin; if it is connected there, "+sameKey)
	}
	return merchant, result{}
}

func (r *rechargeReport) checks() []rechargeCheck {
	checks := []rechargeCheck{
		{"recharge.scopes", "the scopes of the token", recharge.CheckToken, r.scopes},
		{"recharge.store", "GET /store: whose token it is", recharge.CheckStore, r.store},
		{"recharge.filter", "GET /customers?external_customer_id= for an unknown customer", recharge.CheckFilter, r.filter},
	}
	if !r.Config.LinkByHash {
		checks = append(checks, []rechargeCheck{
			{"recharge.customer", "GET /customers?external_customer_id= for --customer", recharge.CheckCustomers, r.customer},
			{"recharge.session", "POST /customers/{id}/sessions as the server does", recharge.CheckSessions, r.session},
			{"recharge.session_bare", "the same without the storefront token", recharge.CheckBare, r.sessionBare},
			{"recharge.session_key", "the name of the session's token", recharge.CheckSessions, r.sessionKey},
			{"recharge.portal_access", "GET /portal_access with that session", recharge.CheckPortal, r.access},
			{"recharge.base_url", "the base_url of the portal", recharge.CheckPortal, r.baseURL},
			{"recharge.expires_at", "the format of expires_at, and how far it is", recharge.CheckPortal, r.expiry},
		}...)
	}
	return append(checks,
		rechargeCheck{"recharge.limits", "X-Recharge-Limit and Retry-After of the answers", recharge.CheckToken, r.limits},
		rechargeCheck{"recharge.latency", "how long the slowest call took", recharge.CheckToken, r.latency},
	)
}

// result reads a finding, or says why there is none.
func (r *rechargeReport) result(check rechargeCheck, finding recharge.Finding) result {
	sessions := []recharge.Check{recharge.CheckSessions, recharge.CheckBare, recharge.CheckPortal}
	session := slices.Contains(sessions, check.of)
	customer := r.Of(recharge.CheckCustomers)
	if r.blind.status != "" {
		return r.blind
	}
	if session || check.of == recharge.CheckCustomers {
		if r.byHash {
			return skipped(linksByHash, "")
		}
		if r.Customer == "" {
			return skipped("no customer was named", passCustomer)
		}
	}
	switch {
	case customer.Check == "" && finding.Check == "": // Inspect has stopped
		if r.Of(recharge.CheckStore).Why == recharge.WrongStore {
			return skipped("was not asked", "fix recharge.store")
		}
		return skipped("was not asked", "fix recharge.scopes")
	case session && customer.State != recharge.Passed:
		return skipped("the customer was not found", "fix recharge.customer")
	case check.of == recharge.CheckPortal && r.Session.Key == "":
		return skipped("there is no session", "fix recharge.session")
	}
	return check.read(finding)
}

func (r *rechargeReport) token() result {
	finding := r.Of(recharge.CheckToken)
	if finding.State == recharge.Passed || finding.Missing != nil {
		return ok("the token is accepted")
	}
	return refused(finding, "make a new Admin token at Recharge and "+r.set("set it as RECHARGE_API_TOKEN"))
}

// set is how a setting of one store's is changed, or what a merchant of many does.
func (d *doctor) set(setting string) string {
	if d.oneStore() {
		return setting
	}
	return "paste it in the app, under Connect"
}

// portalAt is the remedy for a portal that links may not lead to.
func (d *doctor) portalAt(address string) string {
	if d.oneStore() {
		return "set RECHARGE_PORTAL_URL to " + address
	}
	return "set the portal to " + address + " in the app, under Edit detected settings"
}

// refused is a call that failed. remedy is for where Recharge says no.
func refused(f recharge.Finding, remedy string) result {
	found := string(f.Why)
	if f.Status != 0 {
		found = fmt.Sprintf("%s (%d)", f.Why, f.Status)
	}
	const later = "run doctor again later"
	switch f.Why {
	case "":
		return fail("no answer", later)
	case recharge.Limited, recharge.OverBudget, recharge.Locked:
		return warn(found, "run doctor again in a minute, and check that nothing else uses the token")
	case recharge.Unreachable:
		return fail(found, "check RECHARGE_API_URL, and that this machine reaches it")
	case recharge.TooSlow:
		return fail(found, "raise RECHARGE_TIMEOUT, or wait for Recharge: see status.rechargepayments.com")
	case recharge.Unavailable, recharge.Malformed, recharge.Tripped:
		return fail(found, "wait for Recharge: "+later)
	case recharge.BadVersion, recharge.NotFound, recharge.Unexpected:
		if f.Check == recharge.CheckToken {
			return fail(found, "check that RECHARGE_API_URL is Recharge's API")
		}
		return fail(found, later+"; if it stays, ask Recharge's support")
	}
	return fail(found, remedy)
}

func (r *rechargeReport) scopes(f recharge.Finding) result {
	var named []string
	session := false
	for _, scope := range r.Scopes {
		session = session || scope == "write_session" || scope == "write_sessions"
		if plainWord.MatchString(scope) {
			named = append(named, scope)
		}
	}
	found := strings.Join(named, ", ")
	if len(found) > 200 {
		found = fmt.Sprintf("%d scopes", len(r.Scopes))
	}
	switch {
	case f.Missing != nil:
		return fail(found, "give the token the scope "+f.Missing[0]+" at Recharge")
	case !session && !r.byHash:
		return warn(found+"; none for sessions",
			"give the token the scope write_session (or write_sessions) at Recharge, or set PORTAL_LINK=hash")
	}
	return ok(found)
}

func (r *rechargeReport) store(f recharge.Finding) result {
	switch {
	case f.Missing != nil:
		return skipped("the token may not ask", "give it the scope read_store to have this checked")
	case f.State == recharge.Skipped:
		return warn("Recharge does not say whose it is", "check at Recharge that the token is this store's")
	case f.Why == recharge.WrongStore:
		return fail("the token is another store's",
			"make an Admin token in this store's Recharge and "+r.set("set it as RECHARGE_API_TOKEN, or correct SHOPIFY_SHOP"))
	case f.State != recharge.Passed:
		return refused(f, "give the token the scope read_store at Recharge")
	case r.Store.Base == "":
		return ok("this store's; no customer_portal_base_url")
	case !r.Store.Trusted:
		return warn("this store's; its portal is at "+r.Store.Base+", where no link may lead", r.portalAt("that address"))
	}
	return ok("this store's; its portal is at " + r.Store.Base)
}

func (r *rechargeReport) filter(f recharge.Finding) result {
	switch f.Why {
	case "":
		return ok("an empty page: it filters")
	case recharge.FilterIgnored:
		return fail("the filter is ignored: other people's records came",
			"run 'manage-subscriptions index', which needs no filter, "+
				"and ask Recharge's support why external_customer_id is ignored")
	case recharge.NoCustomer:
		return warn("not known: the store has no customers at Recharge", "run doctor again when there is one")
	}
	return refused(f, "give the token the scope read_customers at Recharge")
}

func (r *rechargeReport) customer(f recharge.Finding) result {
	switch f.Why {
	case "":
		return ok("found")
	case recharge.NoCustomer:
		return warn("Recharge does not know this customer", "pass the Shopify id of a customer who subscribes")
	case recharge.Ambiguous:
		return warn("several records are this customer's, none to prefer",
			"pass another customer; at Recharge, merge this one's records")
	}
	return refused(f, "fix recharge.filter")
}

func (r *rechargeReport) session(f recharge.Finding) result {
	const meanwhile = "; until then clicks go on by hash"
	unauthorized := f.Why == recharge.Unauthorized
	switch {
	case f.State == recharge.Passed:
		found := "made, without a storefront token"
		if r.Storefront {
			found = "made, with the storefront token"
		}
		if lives := r.Session.Lives; lives != 0 {
			found += fmt.Sprintf("; it lives for %v", lives.Round(time.Minute))
		}
		return ok(found)
	case f.Why == recharge.Foreign:
		return fail("another customer's session", support)
	case unauthorized && !r.Storefront:
		return fail("refused without a storefront token"+meanwhile,
			"make a storefront token at Recharge and "+r.set("set it as RECHARGE_STOREFRONT_TOKEN"))
	case unauthorized:
		return fail("refused"+meanwhile,
			"make a storefront token in this store's Recharge, with the scope for sessions, and "+
				r.set("set it as RECHARGE_STOREFRONT_TOKEN"))
	}
	return refused(f,
		"give the Admin token the scope write_session at Recharge, and the storefront token that for sessions")
}

// sessionBare reports what is not known of Recharge. Neither answer is a fault.
func (r *rechargeReport) sessionBare(f recharge.Finding) result {
	switch {
	case f.State == recharge.Skipped:
		return skipped("there is no storefront token: see recharge.session", "")
	case f.State == recharge.Passed:
		return ok("made: this store needs no storefront token")
	case f.Why == recharge.Unauthorized || f.Why == recharge.Forbidden:
		return ok("refused: this store needs the storefront token")
	}
	return refused(f, "fix recharge.session")
}

func (r *rechargeReport) sessionKey(recharge.Finding) result {
	if r.Session.Key == "" {
		return skipped("there is no session", "fix recharge.session")
	}
	return ok(r.Session.Key)
}

func (r *rechargeReport) access(f recharge.Finding) result {
	switch {
	case r.Portal.LinkHost != "":
		return ok("a link came; it was thrown away")
	case f.Why == recharge.Foreign:
		return fail("another customer's link", support)
	}
	return refused(f, "give the storefront token customer portal access at Recharge, or set PORTAL_LINK=hash")
}

func (r *rechargeReport) baseURL(recharge.Finding) result {
	switch p := r.Portal; {
	case p.LinkHost == "":
		return skipped("no link came", "fix recharge.portal_access")
	case !p.Opens && p.Trusted:
		return fail("the customer's hash is not where it should be in the link", support)
	case !p.Opens && strings.HasPrefix(p.Base, p.LinkHost+"/"):
		return fail(p.Base+", where no link may lead", r.portalAt("https://"+p.Base))
	case !p.Opens:
		return fail("the link leads to "+p.LinkHost+", where no link may lead",
			r.portalAt("the portal's address on "+p.LinkHost))
	case p.Base == "":
		return warn("none that can be used; the link itself is good",
			"tell Recharge's support: links to a single subscription are made with it")
	default:
		return ok(p.Base)
	}
}

func (r *rechargeReport) expiry(recharge.Finding) result {
	zone := "without a zone, taken as UTC"
	if r.Portal.Zone {
		zone = "with a zone"
	}
	switch p := r.Portal; {
	case p.LinkHost == "":
		return skipped("no link came", "fix recharge.portal_access")
	case p.Expires == 0:
		return warn("it cannot be read", "set LINK_TTL=0: links are then not reused")
	case p.Expires < time.Minute:
		return warn(zone+"; it is over in less than a minute", "set LINK_TTL=0, and see the line clock")
	default:
		return ok(fmt.Sprintf("%s; in %.0f h", zone, p.Expires.Hours()))
	}
}

func (r *rechargeReport) limits(recharge.Finding) result {
	retry := "Retry-After was not seen"
	if r.Headers.RetryAfter {
		retry = "Retry-After was seen"
	}
	used, size := r.Headers.Used, r.Headers.Size
	if size == 0 {
		return warn("no X-Recharge-Limit; "+retry, "check that RECHARGE_RATE is what Recharge allows the token")
	}
	found := fmt.Sprintf("X-Recharge-Limit %d/%d; %s", used, size, retry)
	switch {
	case size < r.Config.RechargeBurst:
		return warn(found, fmt.Sprintf("set the burst of RECHARGE_RATE to %d", size))
	case used*10 > size*8:
		return warn(found, "check what else uses the token: little is left for clicks")
	}
	return ok(found)
}

func (r *rechargeReport) latency(recharge.Finding) result {
	found := fmt.Sprintf("%.2f s; a call may take %v", r.Slowest.Seconds(), r.Config.RechargeTimeout)
	if r.Slowest > r.Config.RechargeTimeout/2 {
		return warn(found, "run doctor again later; if it stays, raise RECHARGE_TIMEOUT")
	}
	return ok(found)
}

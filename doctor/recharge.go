package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/recharge"
	"manage-subscriptions/store"
)

// atRecharge is what the checks of Recharge learn one after the other.
type atRecharge struct {
	*doctor
	prober *recharge.Prober
	blind  result // why nothing more can be asked; the zero value: it can

	mu         sync.Mutex
	limit      string // X-Recharge-Limit
	retryAfter bool
	slowest    time.Duration

	byHash    bool // links are: no session is made
	scopes    recharge.Scopes
	customer  bool // somebody is there to try with
	session   recharge.SessionSeen
	made      bool // a session, as the server makes one
	portal    recharge.PortalSeen
	portalErr error
	asked     bool // for the portal
}

const passCustomer = "pass --customer with the Shopify id of a customer who subscribes: a session is made for them"

// sameKey is for what was sealed with a key that this program has not been given.
const sameKey = "see that this program has the ENCRYPTION_KEY that the servers have"

// recharge are the checks of Recharge. All in all they make eight calls.
func (d *doctor) recharge() []step {
	r := &atRecharge{doctor: d}
	steps := []step{
		{"recharge.token", "GET /token_information", r.token},
		{"recharge.scopes", "the scopes of the token", r.needs(r.scoped)},
		{"recharge.store", "GET /store: whose token it is", r.needs(r.store)},
		{"recharge.filter", "GET /customers?external_customer_id= for somebody whom there cannot be", r.needs(r.filter)},
	}
	if !d.Config.LinkByHash {
		steps = append(steps,
			step{"recharge.customer", "GET /customers?external_customer_id= for --customer", r.needs(r.find)},
			step{"recharge.session", "POST /customers/{id}/sessions as the server does", r.needs(r.sessionAsServed)},
			step{"recharge.session_bare", "POST /customers/{id}/sessions without the storefront token", r.needs(r.sessionBare)},
			step{"recharge.session_key", "how the session's token is called", r.needs(r.sessionKey)},
			step{"recharge.portal_access", "GET /portal_access with that session", r.needs(r.access)},
			step{"recharge.base_url", "the base_url of the portal", r.needs(r.baseURL)},
			step{"recharge.expires_at", "how expires_at is written, and how far it is", r.needs(r.expiry)},
		)
	}
	return append(steps,
		step{"recharge.limits", "X-Recharge-Limit and Retry-After of the answers", r.needs(r.limits)},
		step{"recharge.latency", "how long the slowest answer took", r.needs(r.latency)},
	)
}

// needs skips a check where Recharge cannot be asked at all.
func (r *atRecharge) needs(check func(context.Context) result) func(context.Context) result {
	return func(ctx context.Context) result {
		if r.blind.status != "" {
			return r.blind
		}
		if r.prober == nil {
			return skipped("Recharge was not asked", "mend recharge.token")
		}
		return check(ctx)
	}
}

func (r *atRecharge) heard(header http.Header, took time.Duration) {
	r.dates.heard("Recharge", header)
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit := header.Get("X-Recharge-Limit"); limit != "" && len(limit) < 20 {
		r.limit = limit
	}
	r.slowest = max(r.slowest, took)
	r.retryAfter = r.retryAfter || header.Get("Retry-After") != ""
}

func (r *atRecharge) token(ctx context.Context) result {
	client, byHash, err := r.Recharge(ctx)
	r.byHash = byHash
	switch {
	case r.Shop == "":
		r.blind = skipped("which store is not known", "pass --shop")
		return r.blind
	case errors.Is(err, store.ErrUnreadable):
		r.blind = skipped("how the store is connected could not be read", "mend recharge.token")
		return fail("what the merchant has saved cannot be read", sameKey+"; if they do, connect the store again in the app")
	case err != nil:
		r.blind = skipped("how the store is connected could not be read", "mend redis.reach")
		return r.blind
	case client == nil && r.Config.Shop != "":
		r.blind = skipped("there is no token", "mend recharge.token")
		return fail("there is no token: every click ends in not_connected", "set RECHARGE_API_TOKEN")
	case client == nil:
		r.blind = skipped("there is no token", "mend recharge.token")
		return fail("the store has not connected Recharge", "connect it in the app, in the store's admin; if it is connected there, "+sameKey)
	}
	// Each call is taken from the limit that the servers share: a 429 holds back this, too.
	grant, err := client.Limiter().Reserve(ctx, r.Store.Limiter(r.Shop), recharge.Ask{})
	if err != nil {
		return r.refused(err, "")
	}
	prober := recharge.NewProber(client, grant, r.heard)
	r.scopes, err = prober.Token(ctx)
	if err == nil {
		r.prober = prober
		return ok("the token is accepted")
	}
	return r.refused(err, "make a new Admin token at Recharge and "+r.put("set it as RECHARGE_API_TOKEN"))
}

// put is how a setting of one store's is changed, or what a merchant of many does.
func (r *atRecharge) put(setting string) string {
	if r.oneStore() {
		return setting
	}
	return "paste it in the app, under Connect"
}

// portalAt is the remedy for a portal that links may not lead to.
func (r *atRecharge) portalAt(address string) string {
	if r.oneStore() {
		return "set RECHARGE_PORTAL_URL to " + address
	}
	return "set the portal to " + address + " in the app, under Change what was found out"
}

// refused is a call that gave nothing, with what to do where Recharge says no.
func (r *atRecharge) refused(err error, remedy string) result {
	var failed *recharge.Error
	if !errors.As(err, &failed) {
		return fail("no answer", "ask again in a minute")
	}
	found := string(failed.Reason)
	if failed.Status != 0 {
		found = fmt.Sprintf("%s (%d)", failed.Reason, failed.Status)
	}
	switch failed.Reason {
	case recharge.Limited, recharge.OverBudget, recharge.Locked:
		return warn(found, "ask again in a minute, and see that nothing else uses the token")
	case recharge.Unreachable:
		return fail(found, "see that RECHARGE_API_URL is right and that this machine reaches it")
	case recharge.TooSlow:
		return fail(found, "raise RECHARGE_TIMEOUT, or wait for Recharge: status.rechargepayments.com tells")
	case recharge.Unavailable, recharge.Malformed, recharge.Tripped:
		return fail(found, "wait for Recharge, and ask again")
	case recharge.BadVersion, recharge.NotFound, recharge.Unexpected:
		if r.prober != nil { // it has answered as Recharge does
			return fail(found, "ask again later; if it stays, ask Recharge's support")
		}
		return fail(found, "see that RECHARGE_API_URL is Recharge's API")
	}
	return fail(found, remedy)
}

func (r *atRecharge) scoped(context.Context) result {
	var named []string
	for _, scope := range r.scopes.All {
		if plainWord.MatchString(scope) {
			named = append(named, scope)
		}
	}
	found := strings.Join(named, ", ")
	if len(found) > 200 {
		found = fmt.Sprintf("%d scopes", len(r.scopes.All))
	}
	switch {
	case !r.scopes.Read:
		return fail(found, "give the token the scope "+r.scopes.WantRead+" at Recharge")
	case r.scopes.Session == "" && !r.byHash:
		return warn(found+"; none for sessions by name", "give the token the scope "+r.scopes.WantSession+" (or write_sessions) at Recharge, or set PORTAL_LINK=hash")
	}
	return ok(found)
}

func (r *atRecharge) store(ctx context.Context) result {
	if !r.scopes.Store {
		return skipped("the token may not ask", "give it the scope read_store to have this checked")
	}
	seen, err := r.prober.Store(ctx)
	switch {
	case err != nil:
		return r.refused(err, "give the token the scope read_store at Recharge")
	case !seen.Told:
		return warn("Recharge does not say whose it is", "see at Recharge that the token is this store's")
	case !seen.Ours:
		return fail("the token is another store's", "make an Admin token in this store's Recharge and "+r.put("set it as RECHARGE_API_TOKEN, or correct SHOPIFY_SHOP"))
	case seen.Portal == "":
		return ok("this store's; no customer_portal_base_url")
	case !seen.Usable:
		return warn("this store's; its portal is at "+seen.Portal+", where no link may lead", r.portalAt("that address"))
	}
	return ok("this store's; its portal is at " + seen.Portal)
}

func (r *atRecharge) filter(ctx context.Context) result {
	filter, err := r.prober.Filter(ctx)
	switch {
	case err != nil:
		return r.refused(err, "give the token the scope "+r.scopes.WantRead+" at Recharge")
	case filter == recharge.FilterNot:
		return fail("the filter is ignored: other people's records came", "run 'manage-subscriptions index', which does without the filter, and ask Recharge's support why external_customer_id is ignored")
	case filter == recharge.FilterEmpty:
		return warn("the store has no customers at Recharge: it cannot be told", "ask again when there is one")
	}
	return ok("an empty page: it filters")
}

func (r *atRecharge) find(ctx context.Context) result {
	if r.byHash {
		return skipped("links are by hash: no session is made", "")
	}
	if r.Customer == "" {
		return skipped("no customer was named", passCustomer)
	}
	err := r.prober.Customer(ctx, r.Customer)
	if recharge.Is(err, recharge.NoCustomer) {
		return warn("Recharge does not know this customer", "pass the Shopify id of a customer who subscribes")
	}
	if recharge.Is(err, recharge.Ambiguous) {
		return warn("several records are this customer's, none to prefer", "pass another customer; at Recharge, merge this one's records")
	}
	if err != nil {
		return r.refused(err, "mend recharge.filter")
	}
	r.customer = true
	return ok("found")
}

// withSession skips a check for which there is nobody, or no session.
func (r *atRecharge) withSession(made bool, check func() result) result {
	switch {
	case r.byHash:
		return skipped("links are by hash: no session is made", "")
	case r.Customer == "":
		return skipped("no customer was named", passCustomer)
	case !r.customer:
		return skipped("the customer was not found", "mend recharge.customer")
	case made && !r.made:
		return skipped("there is no session", "mend recharge.session")
	}
	return check()
}

func (r *atRecharge) sessionAsServed(ctx context.Context) result {
	return r.withSession(false, func() result {
		var err error
		r.session, err = r.prober.Session(ctx)
		if err == nil {
			r.made = true
			if r.prober.Storefront() {
				return ok("made, with the storefront token" + r.lives())
			}
			return ok("made, without a storefront token" + r.lives())
		}
		return r.noSession(err)
	})
}

func (r *atRecharge) lives() string {
	if r.session.Expires == 0 {
		return ""
	}
	return fmt.Sprintf("; it lives for %v", r.session.Expires.Round(time.Minute))
}

func (r *atRecharge) noSession(err error) result {
	const byHash = "; until then clicks go on by hash"
	switch {
	case recharge.Is(err, recharge.Foreign):
		return fail("somebody else's session", "tell Recharge's support; set PORTAL_LINK=hash meanwhile")
	case recharge.Is(err, recharge.Unauthorized) && !r.prober.Storefront():
		return fail("refused without a storefront token"+byHash, "make a storefront token at Recharge and "+r.put("set it as RECHARGE_STOREFRONT_TOKEN"))
	case recharge.Is(err, recharge.Unauthorized):
		return fail("refused"+byHash, "make a storefront token in this store's Recharge, with the scope for sessions, and "+r.put("set it as RECHARGE_STOREFRONT_TOKEN"))
	}
	return r.refused(err, "give the Admin token the scope write_session at Recharge, and the storefront token that for sessions")
}

// sessionBare tells what is not known of Recharge; it is no fault either way.
func (r *atRecharge) sessionBare(ctx context.Context) result {
	return r.withSession(false, func() result {
		if !r.prober.Storefront() {
			return skipped("there is no storefront token: see recharge.session", "")
		}
		// The session of before is used on.
		switch _, err := r.prober.SessionBare(ctx); {
		case err == nil:
			return ok("made: this store needs no storefront token")
		case recharge.Is(err, recharge.Unauthorized), recharge.Is(err, recharge.Forbidden):
			return ok("refused: this store needs the storefront token")
		default:
			return r.refused(err, "mend recharge.session")
		}
	})
}

func (r *atRecharge) sessionKey(context.Context) result {
	return r.withSession(true, func() result { return ok(r.session.Key) })
}

func (r *atRecharge) access(ctx context.Context) result {
	return r.withSession(true, func() result {
		r.portal, r.portalErr = r.prober.Portal(ctx)
		r.asked = r.portal.LinkHost != ""
		switch err := r.portalErr; {
		case err == nil || recharge.Is(err, recharge.LinkRefused):
			return ok("a link came; it was thrown away")
		case recharge.Is(err, recharge.Foreign):
			return fail("somebody else's link", "tell Recharge's support; set PORTAL_LINK=hash meanwhile")
		default:
			return r.refused(err, "give the storefront token customer portal access at Recharge, or set PORTAL_LINK=hash")
		}
	})
}

func (r *atRecharge) baseURL(context.Context) result {
	return r.withSession(true, func() result {
		switch {
		case !r.asked:
			return skipped("no link came", "mend recharge.portal_access")
		case r.portalErr != nil && r.portal.Trusted:
			return fail("the link has not the customer's hash where it should", "tell Recharge's support; set PORTAL_LINK=hash meanwhile")
		case r.portalErr != nil && strings.HasPrefix(r.portal.Base, r.portal.LinkHost+"/"):
			return fail(r.portal.Base+", where no link may lead", r.portalAt("https://"+r.portal.Base))
		case r.portalErr != nil:
			return fail("the link leads to "+r.portal.LinkHost+", where no link may lead", r.portalAt("the portal's address on "+r.portal.LinkHost))
		case r.portal.Base == "":
			return warn("none that can be used; the link itself is good", "tell Recharge's support: links to a single subscription are made with it")
		}
		return ok(r.portal.Base)
	})
}

func (r *atRecharge) expiry(context.Context) result {
	return r.withSession(true, func() result {
		zone := "without a zone, taken as UTC"
		if r.portal.Zone {
			zone = "with a zone"
		}
		switch {
		case !r.asked:
			return skipped("no link came", "mend recharge.portal_access")
		case r.portal.Expires == 0:
			return warn("it cannot be read", "set LINK_TTL=0: links are then not reused")
		case r.portal.Expires < time.Minute:
			return warn(zone+"; it is over in less than a minute", "set LINK_TTL=0, and see the line clock")
		}
		return ok(fmt.Sprintf("%s; in %.0f h", zone, r.portal.Expires.Hours()))
	})
}

func (r *atRecharge) limits(context.Context) result {
	r.mu.Lock()
	defer r.mu.Unlock()
	retry := "Retry-After was not seen"
	if r.retryAfter {
		retry = "Retry-After was seen"
	}
	var used, size int
	if n, _ := fmt.Sscanf(r.limit, "%d/%d", &used, &size); n < 2 {
		return warn("no X-Recharge-Limit; "+retry, "see that RECHARGE_RATE is what Recharge allows the token")
	}
	found := fmt.Sprintf("X-Recharge-Limit %d/%d; %s", used, size, retry)
	switch {
	case size < r.Config.RechargeBurst:
		return warn(found, fmt.Sprintf("set the burst of RECHARGE_RATE to %d", size))
	case used*10 > size*8:
		return warn(found, "see what else uses the token: little is left for clicks")
	}
	return ok(found)
}

func (r *atRecharge) latency(context.Context) result {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := fmt.Sprintf("%.2f s; a call may take %v", r.slowest.Seconds(), r.Config.RechargeTimeout)
	if r.slowest > r.Config.RechargeTimeout/2 {
		return warn(found, "ask again later; if it stays, raise RECHARGE_TIMEOUT")
	}
	return ok(found)
}

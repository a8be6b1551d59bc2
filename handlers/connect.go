package handlers

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// connectTimeout is for all that connecting asks: five calls to Recharge, the
// store's sign-in, and then the webhooks.
const connectTimeout = time.Minute

// busy lets each shop do one thing at a time that costs calls.
type busy struct {
	mu    sync.Mutex
	shops map[shopify.Shop]bool
}

// take returns what ends it, nil if another is under way.
func (b *busy) take(shop shopify.Shop) (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shops[shop] {
		return nil
	}
	if b.shops == nil {
		b.shops = map[shopify.Shop]bool{}
	}
	b.shops[shop] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.shops, shop)
	}
}

// connectionView is what the page says of how a shop is connected.
type connectionView struct {
	Fixed     bool // configured on this server, not here
	Mine      bool // Fixed, and for this shop
	Connected bool

	store.Traits                              // as they are used
	PortalFrom, AccountsFrom, LinkFrom string // where they come from
	Detected, Chosen                   store.Traits
	HasStorefront, HasSecret           bool
	Webhooks                           string
	AccountsChoice, LinkChoice         []option

	Said    string // what has just been done
	SaidBad bool
}

type option struct {
	Value, Label string
	Chosen       bool
}

func (a *Admin) connectionView(ctx context.Context, shop shopify.Shop) (connectionView, error) {
	if own := a.Merchants.Own(); own != "" {
		v := connectionView{Fixed: true, Mine: shop == own, Connected: shop == own && a.Merchants.Single() != nil, Traits: a.Defaults}
		v.Webhooks = "Recharge tells the app when a customer changes."
		if a.Webhooks.Secret == "" {
			v.Webhooks = "noticed within a day: whoever runs this server has not set RECHARGE_CLIENT_SECRET."
		}
		return v, nil
	}
	record, err := a.Store.Record(ctx, shop)
	if err != nil || record == nil || record.Connection == nil {
		return connectionView{}, err
	}
	connection := record.Connection
	used := a.traits(connection)
	return connectionView{
		Connected: true, Traits: used, Detected: connection.Detected, Chosen: connection.Chosen,
		PortalFrom:    from(connection.Chosen.PortalURL, connection.Detected.PortalURL),
		AccountsFrom:  from(connection.Chosen.Accounts, connection.Detected.Accounts),
		LinkFrom:      from(connection.Chosen.Link, connection.Detected.Link),
		HasStorefront: connection.StorefrontToken != "", HasSecret: connection.ClientSecret != "",
		Webhooks: a.webhookWords(connection),
		AccountsChoice: choices(connection.Chosen.Accounts, foundOut(connection.Detected.Accounts),
			option{Value: "new", Label: "Shopify’s current customer accounts"}, option{Value: "legacy", Label: "Legacy customer accounts"}),
		LinkChoice: choices(connection.Chosen.Link, foundOut(connection.Detected.Link),
			option{Value: "signed_in", Label: "Signed in"}, option{Value: "hash", Label: "By a link that Recharge checks"}),
	}, nil
}

func from(chosen, detected string) string {
	switch {
	case chosen != "":
		return " (you chose this)"
	case detected != "":
		return " (found out)"
	}
	return " (not found out: this is the usual)"
}

func foundOut(detected string) string {
	if detected == "" {
		return "As in most stores (it could not be found out)"
	}
	return "As found out"
}

func choices(chosen, empty string, all ...option) []option {
	all = append([]option{{Label: empty}}, all...)
	for i := range all {
		all[i].Chosen = all[i].Value == chosen
	}
	return all
}

// traits are those of a connection, with what holds where nothing is known.
func (a *Admin) traits(connection *store.Connection) store.Traits {
	traits := connection.Traits()
	return store.Traits{
		PortalURL: cmp.Or(traits.PortalURL, recharge.DefaultPortal(string(connection.Shop)).String()),
		Accounts:  cmp.Or(traits.Accounts, a.Defaults.Accounts),
		Link:      cmp.Or(traits.Link, a.Defaults.Link),
	}
}

func (a *Admin) webhookWords(connection *store.Connection) string {
	state := connection.Webhooks
	switch {
	case connection.ClientSecret == "":
		return "noticed within a day. With the webhook secret, at once."
	case state.CheckedAt.IsZero():
		return "the webhooks at Recharge are being set up."
	case !state.OK:
		return "noticed within a day: the webhooks at Recharge could not be set up. " + state.Problem
	}
	return "noticed at once: the webhooks at Recharge were all there " + ago(a.Now().Sub(state.CheckedAt)) + "."
}

func ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return plural(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour") + " ago"
	}
	return plural(int(d/(24*time.Hour)), "day") + " ago"
}

// connection answers with the part of the page that says how the shop is
// connected.
func (a *Admin) connection(c echo.Context, shop shopify.Shop) error {
	return a.say(c, shop, "", false)
}

func (a *Admin) say(c echo.Context, shop shopify.Shop, said string, bad bool) error {
	view, err := a.connectionView(c.Request().Context(), shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view.Said, view.SaidBad = said, bad
	return a.part(c, "connection", view)
}

// alone lets a shop do one thing at a time that costs calls, or waits for the disk.
func (a *Admin) alone(next func(echo.Context, shopify.Shop) error) func(echo.Context, shopify.Shop) error {
	return func(c echo.Context, shop shopify.Shop) error {
		end := a.busy.take(shop)
		if end == nil {
			return echo.NewHTTPError(http.StatusTooManyRequests)
		}
		defer end()
		return next(c, shop)
	}
}

// setting is alone for what changes how a shop is connected. Where the server is
// configured for one store, there is nothing to be set.
func (a *Admin) setting(next func(echo.Context, shopify.Shop) error) func(echo.Context, shopify.Shop) error {
	return a.alone(func(c echo.Context, shop shopify.Shop) error {
		if a.Merchants.Own() != "" {
			return echo.NewHTTPError(http.StatusForbidden)
		}
		return next(c, shop)
	})
}

// connect checks what the merchant has pasted and, if it will do, saves it. The
// answer is written as each check is done. Nothing is saved that will not do, and
// what was saved before then stays.
func (a *Admin) connect(c echo.Context, shop shopify.Shop) error {
	// A merchant who leaves in between has still connected.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), connectTimeout)
	defer cancel()
	begun := a.Now()
	record, err := a.Store.Record(ctx, shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	var last *store.Connection
	if record != nil {
		last = record.Connection
	}
	next, problem := a.pasted(c, shop, last)
	// Not when the checks are done: an uninstall meanwhile ends this, too.
	next.SavedAt = begun
	steps := &steps{admin: a, response: c.Response()}
	if err := steps.begin(); err != nil {
		return err
	}
	if problem != "" {
		return steps.end("not_saved", problem)
	}
	return a.check(ctx, steps, last, next)
}

// pasted is the connection that the merchant asks for: what is left empty stays,
// but for the secret of another Admin token.
func (a *Admin) pasted(c echo.Context, shop shopify.Shop, last *store.Connection) (next store.Connection, problem string) {
	if last != nil {
		next = *last
	}
	next.Shop = shop
	for _, field := range []struct {
		name  string
		value *string
	}{{"token", &next.APIToken}, {"storefront", &next.StorefrontToken}, {"secret", &next.ClientSecret}} {
		pasted := strings.TrimSpace(c.FormValue(field.name))
		if strings.ContainsFunc(pasted, func(r rune) bool { return r <= ' ' || r > '~' }) || len(pasted) > 300 {
			return next, "One of them has a space or another strange character in it. Copy it again, without what stands around it."
		}
		if pasted != "" {
			*field.value = pasted
		}
	}
	if last != nil && next.APIToken != last.APIToken && c.FormValue("secret") == "" {
		next.ClientSecret = ""
	}
	switch {
	case next.APIToken == "":
		return next, "Paste the Admin token."
	case strings.HasPrefix(next.APIToken, "strfnt_"):
		return next, "What stands in Admin token is a Storefront token: it begins with strfnt_. Paste each into its own field."
	case strings.HasPrefix(next.StorefrontToken, "sk_"):
		return next, "What stands in Storefront token is an Admin token: it begins with sk_. Paste each into its own field."
	}
	return next, ""
}

// calls lets do make calls with a client for a connection, saved or not, within the
// limit that it shares with the shop's clicks: a 429 holds back both.
func (a *Admin) calls(ctx context.Context, connection *store.Connection, do func(*recharge.Client, *recharge.Grant) error) error {
	client, err := a.Merchants.Client(connection)
	if err != nil {
		return err
	}
	grant, err := client.Limiter().Reserve(ctx, a.Store.Limiter(connection.Shop), recharge.Ask{Normal: 1})
	if err != nil {
		return err
	}
	defer func() {
		grant.Release(ctx)
		a.Recorder.Calls(connection.Shop, grant.Calls())
	}()
	return do(client, grant)
}

// check asks Recharge and the store, and saves what will do.
func (a *Admin) check(ctx context.Context, steps *steps, last *store.Connection, next store.Connection) error {
	var findings recharge.Findings
	err := a.calls(ctx, &next, func(client *recharge.Client, grant *recharge.Grant) error {
		findings = recharge.Inspect(ctx, client, grant, recharge.InspectOptions{}, steps.found)
		return nil
	})
	switch {
	case recharge.ReasonOf(err) != "":
		return steps.end("not_saved", "Not saved: "+advice(err.Error())+stays(last))
	case err != nil:
		return steps.end("not_saved", "The app cannot use these. Check each for a slip.")
	case !findings.Usable():
		return steps.end("not_saved", "Not saved. Fix the items marked below and connect again."+stays(last))
	}
	next.Detected = store.Traits{PortalURL: findings.PortalURL, Link: linkOf(findings), Accounts: a.accounts(ctx, steps, next.Shop)}
	next.Webhooks = store.WebhookState{}
	if next.ClientSecret != "" && next.WebhookKey == "" {
		next.WebhookKey = rand.Text()
	}
	switch err := a.Store.SaveConnection(ctx, next); {
	case errors.Is(err, store.ErrUninstalled):
		return steps.end("not_saved", "Not saved: the app was uninstalled meanwhile.")
	case err != nil:
		a.Log.ErrorContext(ctx, "connection not saved", "shop", string(next.Shop), "cause", err)
		return steps.end("not_saved", "All is well, but it could not be saved. "+noDatabase+" Try again in a minute."+stays(last))
	}
	a.Log.InfoContext(ctx, "connected", "shop", string(next.Shop))
	if last != nil && last.APIToken != next.APIToken {
		a.Leave(ctx, last) // the old token's webhooks have the old secret
	}
	if a.Importer != nil {
		a.Importer.Request(ctx, next.Shop)
	}
	steps.webhooks(a.keepWebhooks(ctx, &next))
	return steps.end("saved", "Saved. Shoppers who click are taken to their portal.")
}

func stays(last *store.Connection) string {
	if last == nil {
		return ""
	}
	return " What was saved before is still in use."
}

// linkOf is hash only where Recharge has refused sessions: that nobody was there
// to try with says nothing.
func linkOf(findings recharge.Findings) string {
	for _, f := range findings.List {
		of := f.Check == recharge.CheckSessions || f.Check == recharge.CheckPortal
		if of && f.State == recharge.Warned && f.Why != recharge.NoCustomer && !f.Why.Transient() {
			return "hash"
		}
	}
	if findings.Sessions {
		return "signed_in"
	}
	return ""
}

func (a *Admin) accounts(ctx context.Context, steps *steps, shop shopify.Shop) string {
	start := a.Now()
	accounts, err := shopify.DetectAccounts(ctx, a.Platform, shop)
	if err != nil {
		a.Log.InfoContext(ctx, "customer accounts not found out", "shop", string(shop), "cause", err)
	}
	steps.accounts(accounts, a.Now().Sub(start))
	return accounts
}

// errNoSecret: without it nobody could tell that a webhook is Recharge's.
var errNoSecret = errors.New("no webhook secret")

// keepWebhooks makes sure that Recharge tells the app what changes, and remembers
// whether it does.
func (a *Admin) keepWebhooks(ctx context.Context, connection *store.Connection) error {
	if connection.ClientSecret == "" {
		return errNoSecret
	}
	err := a.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		address := a.Webhooks.Address(connection.Shop, connection.WebhookKey)
		return client.KeepWebhooks(ctx, grant, address, a.Webhooks.Ours(connection.Shop))
	})
	state := store.WebhookState{CheckedAt: a.Now(), OK: err == nil}
	if err != nil {
		state.Problem = advice(err.Error())
	}
	return errors.Join(err, a.updateConnection(ctx, connection.Shop, func(c *store.Connection) bool {
		if c.WebhookKey != connection.WebhookKey {
			return false // connected anew meanwhile
		}
		c.Webhooks = state
		return true
	}))
}

const (
	// webhooksDaily is how often the webhooks at Recharge are looked at: it deletes
	// those that nobody has answered for two days.
	webhooksDaily = 24 * time.Hour
	// webhooksAgain is when that is tried again if it could not be done.
	webhooksAgain = time.Hour - time.Minute
	// webhooksClaim is how long one server may take to look: another may have ended
	// in the middle of it.
	webhooksClaim = 5 * time.Minute
)

// webhooksDue tells whether a shop's webhooks are to be looked at.
func (a *Admin) webhooksDue(c *store.Connection) bool {
	after := webhooksDaily
	if !c.Webhooks.OK {
		after = webhooksAgain
	}
	now := a.Now()
	return c.ClientSecret != "" && c.WebhookKey != "" && now.Sub(c.Webhooks.CheckedAt) >= after && now.Sub(c.Webhooks.ClaimedAt) >= webhooksClaim
}

// updateConnection changes the connection of a shop that has one.
func (a *Admin) updateConnection(ctx context.Context, shop shopify.Shop, change func(*store.Connection) bool) error {
	return a.Store.Update(ctx, shop, func(r *store.Record) bool { return r.Connection != nil && change(r.Connection) })
}

// Maintain has every shop imported that never was, and looks at the webhooks at Recharge
// that are due; or of the one shop that is configured here.
func (a *Admin) Maintain(ctx context.Context) error {
	if own := a.Merchants.Own(); own != "" {
		if a.Importer != nil && a.Merchants.Single() != nil {
			if err := a.Importer.Schedule(ctx, own); err != nil {
				return err
			}
		}
		return a.keepOwnWebhooks(ctx)
	}
	var due []store.Connection
	err := a.Store.EachConnection(ctx, func(connection store.Connection) error {
		if a.webhooksDue(&connection) {
			due = append(due, connection)
		}
		if a.Importer == nil {
			return nil
		}
		return a.Importer.Schedule(ctx, connection.Shop)
	})
	for _, connection := range due {
		err = errors.Join(err, a.keepWebhooksOnce(ctx, connection))
	}
	return err
}

// keepWebhooksOnce looks at a shop's webhooks, if no other server does.
func (a *Admin) keepWebhooksOnce(ctx context.Context, connection store.Connection) error {
	mine := false
	err := a.updateConnection(ctx, connection.Shop, func(c *store.Connection) bool {
		if mine = a.webhooksDue(c); mine {
			c.Webhooks.ClaimedAt = a.Now()
		}
		return mine
	})
	if err != nil || !mine {
		return err
	}
	if err := a.keepWebhooks(ctx, &connection); err != nil {
		a.Log.WarnContext(ctx, "webhooks at Recharge not kept", "shop", string(connection.Shop), "cause", err)
	}
	return nil
}

func (a *Admin) keepOwnWebhooks(ctx context.Context) error {
	single, own := a.Merchants.Single(), a.Merchants.Own()
	if single == nil || a.Webhooks.Secret == "" || a.Now().Sub(a.ownKept) < webhooksDaily {
		return nil
	}
	grant, err := single.Client.Limiter().Reserve(ctx, a.Store.Limiter(own), recharge.Ask{Normal: 1})
	if err != nil {
		return err
	}
	err = single.Client.KeepWebhooks(ctx, grant, a.Webhooks.Address(own, ""), a.Webhooks.Ours(own))
	grant.Release(ctx)
	a.Recorder.Calls(own, grant.Calls())
	if err == nil {
		a.ownKept = a.Now()
	}
	return err
}

// settings saves what the merchant chooses instead of what was found out.
func (a *Admin) settings(c echo.Context, shop shopify.Shop) error {
	chosen := store.Traits{PortalURL: strings.TrimSpace(c.FormValue("portal")), Accounts: c.FormValue("accounts"), Link: c.FormValue("link")}
	if chosen.PortalURL != "" {
		portal, err := recharge.ParsePortalURL(chosen.PortalURL)
		if err != nil || portal.Scheme != a.AppURL.Scheme { // http is for a server on loopback, which is a test
			return a.say(c, shop, "Not saved: the portal’s address must be like https://www.my-store.com/tools/recurring/portal/", true)
		}
		chosen.PortalURL = portal.String()
	}
	if !slices.Contains([]string{"", "new", "legacy"}, chosen.Accounts) || !slices.Contains([]string{"", "signed_in", "hash"}, chosen.Link) {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	connected := false
	err := a.updateConnection(c.Request().Context(), shop, func(connection *store.Connection) bool {
		connected = true
		connection.Chosen = chosen // SavedAt stays: it says which installation this is of
		return true
	})
	switch {
	case err != nil:
		return a.say(c, shop, "Not saved: we can’t reach our database right now. Try again in a minute.", true)
	case !connected:
		return a.say(c, shop, "Not saved: the store is not connected.", true)
	}
	return a.say(c, shop, "Saved.", false)
}

// disconnect erases what the merchant gave and what is remembered of the shop's
// shoppers. Recharge is told first, while there is a token to tell it with.
func (a *Admin) disconnect(c echo.Context, shop shopify.Shop) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), connectTimeout)
	defer cancel()
	record, err := a.Store.Record(ctx, shop)
	if err == nil && record != nil && record.Connection != nil {
		a.Leave(ctx, record.Connection)
	}
	if err == nil {
		_, err = a.Store.EraseShop(ctx, store.Erasure{Shop: shop})
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "not disconnected", "shop", string(shop), "cause", err)
		return a.say(c, shop, "Not disconnected: we can’t reach our database right now. Try again in a minute.", true)
	}
	a.Log.InfoContext(ctx, "disconnected", "shop", string(shop))
	return a.say(c, shop, "Disconnected. What was saved here is erased.", false)
}

// Leave removes the app's webhooks at Recharge, as far as that is to be had in a
// few seconds: Recharge itself drops those that nobody answers.
func (a *Admin) Leave(ctx context.Context, connection *store.Connection) {
	if connection.WebhookKey == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		return client.RemoveWebhooks(ctx, grant, a.Webhooks.Ours(connection.Shop))
	})
	if err != nil {
		a.Log.InfoContext(ctx, "webhooks not removed", "shop", string(connection.Shop), "cause", err)
	}
}

// Left tidies up at Recharge for a shop that has uninstalled the app, beside the answer to
// Shopify: it would not wait for Recharge's. Wait waits for that.
func (a *Admin) Left(connection *store.Connection) {
	a.Merchants.Forget(connection.Shop)
	a.leaving.Go(func() { a.Leave(context.Background(), connection) })
}

// Wait returns when nothing is tidied up any more.
func (a *Admin) Wait() { a.leaving.Wait() }

package merchant

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// ConnectTimeout bounds a whole attempt to connect, which makes up to eight calls to Recharge,
// detects the store's sign-in and registers the webhooks.
const ConnectTimeout = time.Minute

// Tokens are what a merchant pastes. Empty fields stay as they were.
type Tokens struct {
	Admin, Storefront, Secret string
	NoStorefront              bool // save none, whatever is pasted or was saved
}

// Connect checks the pasted tokens, and saves them if they can send shoppers to the portal. It passes
// each check to tell as soon as it is done. If it saves nothing, the previous connection stays. It returns
// only errors of the store.
func (s *Service) Connect(
	ctx context.Context, shop shopify.Shop, pasted Tokens, tell func(Step),
) (said Said, err error) {
	// Read before the checks, so that an uninstall during them also ends this connection.
	begun := s.Now()
	last, err := s.Connection(ctx, shop)
	if err != nil {
		return Said{}, err
	}
	next, problem, field := pasted.over(last)
	if problem != "" {
		return Said{Text: sentence(problem), Bad: true, Field: field}, nil
	}
	next.Shop, next.SavedAt = shop, begun
	fresh := next.StorefrontToken != "" && (last == nil || last.StorefrontToken != next.StorefrontToken)
	return s.checkAndSave(ctx, last, next, fresh, tell), nil
}

// over returns last with the pasted tokens applied. A new Admin token has a new API Client Secret, so
// the old secret is dropped, and so is the address that webhooks signed with it still come to.
func (t Tokens) over(last *store.Connection) (next store.Connection, problem, field string) {
	if last != nil {
		next = *last
	}
	for _, text := range []*string{&t.Admin, &t.Storefront, &t.Secret} {
		*text = strings.TrimSpace(*text)
	}
	if t.NoStorefront {
		t.Storefront, next.StorefrontToken = "", ""
	}
	if t.Admin != "" && t.Admin != next.APIToken {
		next.APIToken, next.ClientSecret, next.WebhookKey = t.Admin, "", ""
		next.Detected.Reached = false // it may lead to other customers
	}
	if t.Storefront != "" {
		next.StorefrontToken = t.Storefront
	}
	if t.Secret != "" {
		next.ClientSecret = t.Secret
	}
	problem, field = wrongTokens(t, next)
	return next, problem, field
}

// wrongTokens returns the key of the sentence that says what is wrong, and the field; "" if nothing is.
func wrongTokens(pasted Tokens, next store.Connection) (problem, field string) {
	for _, of := range []struct{ field, text string }{
		{"token", pasted.Admin}, {"storefront", pasted.Storefront}, {"secret", pasted.Secret},
	} {
		if strings.ContainsFunc(of.text, func(r rune) bool { return r <= ' ' || r > '~' }) || len(of.text) > 300 {
			return "tokens, strange", of.field
		}
	}
	switch {
	case next.APIToken == "":
		return "tokens, no admin", "token"
	case strings.HasPrefix(next.APIToken, "strfnt_"):
		return "tokens, storefront as admin", "token"
	case strings.HasPrefix(next.StorefrontToken, "sk_"):
		return "tokens, admin as storefront", "storefront"
	}
	return "", ""
}

// checkAndSave tests next against Recharge and the store, and saves it if it works. fresh means that its
// Storefront token is not the one in use.
func (s *Service) checkAndSave(
	ctx context.Context, last *store.Connection, next store.Connection, fresh bool, tell func(Step),
) Said {
	var stays Text
	if last != nil {
		stays = sentence("last stays")
	}
	findings, err := s.inspect(ctx, &next, tell)
	switch {
	case recharge.ReasonOf(err) != "":
		return bad("not saved", follow(Words(portal.Reason(err)), stays))
	case err != nil:
		return bad("tokens, unusable")
	}
	if problem, field := unsavable(next, findings, fresh); problem != "" {
		return Said{Text: follow(sentence(problem), stays), Bad: true, Field: field}
	}
	seen, notSeen := s.detect(ctx, next.Shop, findings, tell)
	next.Detected = seen.Or(store.Traits{Path: next.Detected.Path, Reached: next.Detected.Reached})
	next.Look = store.Look{Changes: next.Look.Changes}
	if notSeen == nil {
		next.Look.At = s.Now()
	}
	next.Webhooks = store.WebhookState{}
	if next.ClientSecret != "" && next.WebhookKey == "" {
		next.WebhookKey = rand.Text()
	}
	switch err := s.Store.SaveConnection(ctx, next); {
	case errors.Is(err, store.ErrUninstalled):
		return bad("not saved, uninstalled")
	case err != nil:
		s.Log.ErrorContext(ctx, "connection not saved", "shop", string(next.Shop), "cause", err)
		return Said{Text: follow(sentence("not saved, passed"), stays), Bad: true}
	}
	s.Log.InfoContext(ctx, "connected", "shop", string(next.Shop))
	if last != nil && last.APIToken != next.APIToken {
		s.removeWebhooks(ctx, last) // they have the old token's secret
	}
	if s.Importer != nil {
		s.Importer.Request(ctx, next.Shop)
	}
	said, proof, asked := connected(next, findings), store.Unproven, s.Now()
	err = s.keepWebhooks(ctx, &next)
	if err == nil {
		proof = s.proofOf(ctx, next.Shop, asked)
	}
	tell(webhooksStep(err, proof))
	said.Partly = said.Partly || proof == store.Refuted
	return said
}

// unsavable returns the key of the sentence that says why nothing is saved, and the field to change; "" if
// nothing keeps it from being saved. fresh means that the Storefront token has not been in use before.
func unsavable(c store.Connection, findings recharge.Findings, fresh bool) (problem, field string) {
	failed := func(f recharge.Finding) bool { return f.State == recharge.Failed }
	switch sessions := findings.Of(recharge.CheckSessions); {
	case findings.Of(recharge.CheckToken).Why == recharge.Unauthorized:
		return "not saved, fix", "token"
	case slices.ContainsFunc(findings.List, failed):
		return "not saved, fix", ""
	case !findings.Usable():
		return "not saved, not checked", ""
	case refusesStorefront(c.StorefrontToken, sessions):
		return "not saved, storefront", "storefront"
	case fresh && sessions.Why.Transient():
		return "not saved, storefront not checked", "storefront"
	}
	return "", ""
}

// refusesStorefront reports whether a finding is that Recharge refuses the Storefront token. A missing scope
// gets another status, and by then Recharge has accepted the Admin token.
func refusesStorefront(token string, f recharge.Finding) bool {
	return f.Check == recharge.CheckSessions && token != "" &&
		(f.Why == recharge.Unauthorized || f.Why == recharge.Invalid)
}

// connected says what was saved, and promises no more than was checked.
func connected(c store.Connection, findings recharge.Findings) Said {
	switch link := cmp.Or(strings.TrimPrefix(c.Chosen.Link, "signed_in"), linkOf(findings)); {
	case link == "signed_in", link == "account" && c.Chosen.AccountPage != "":
		return Said{Text: sentence("connected")}
	case link != "":
		return Said{Text: sentence("connected, by hash"), Partly: true}
	case findings.Of(recharge.CheckSessions).Why == recharge.NoCustomer:
		return Said{Text: sentence("connected, no customer"), Partly: true}
	}
	return Said{Text: sentence("connected, not all checked"), Partly: true}
}

// inspect checks a connection at Recharge. It fails if it could not call Recharge.
func (s *Service) inspect(
	ctx context.Context, connection *store.Connection, tell func(Step),
) (findings recharge.Findings, err error) {
	err = s.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		each := func(f recharge.Finding) {
			step := found(f)
			if refusesStorefront(connection.StorefrontToken, f) {
				step.State, step.Text, step.Do = recharge.Failed, sentence("storefront refused"), sentence("storefront refused do")
			}
			tell(step)
		}
		findings = recharge.Inspect(ctx, client, grant, recharge.InspectOptions{}, each)
		return nil
	})
	return findings, err
}

// errNotInspected means that Recharge's answers do not show what the store is like now.
var errNotInspected = errors.New("could not ask Recharge about everything")

// detect returns the traits that Recharge's answers and the store's sign-in show. Its error says why
// these are not all.
func (s *Service) detect(
	ctx context.Context, shop shopify.Shop, findings recharge.Findings, tell func(Step),
) (store.Traits, error) {
	slices.Sort(findings.Scopes)
	seen, err := s.detectAccounts(ctx, shop, tell)
	passing := func(f recharge.Finding) bool { return f.Why.Transient() }
	if !findings.Usable() || slices.ContainsFunc(findings.List, passing) {
		err = errors.Join(err, errNotInspected)
	}
	return seen.Or(store.Traits{
		PortalURL: findings.PortalURL, Link: linkOf(findings),
		Scopes: strings.Join(findings.Scopes, " "), Burst: findings.Headers.Size,
	}), err
}

// linkOf returns "signed_in" if the portal opened, "account" if Recharge made a session but opened no
// portal with it, as for a store whose portal is in the Shopify account, "hash" if it refused a session
// or its link cannot be used, and "" if that is unknown, for example because the store has no customer
// to try with.
func linkOf(findings recharge.Findings) string {
	refused := func(check recharge.Check) bool {
		f := findings.Of(check)
		return f.State == recharge.Warned && f.Why != recharge.NoCustomer && !f.Why.Transient()
	}
	portal := findings.Of(recharge.CheckPortal)
	switch {
	case portal.State == recharge.Passed:
		return "signed_in"
	case refused(recharge.CheckPortal) && portal.Status != 0:
		return "account"
	case refused(recharge.CheckSessions) || refused(recharge.CheckPortal):
		return "hash"
	}
	return ""
}

// detectAccounts looks at the store's sign-in. What it does not show is "" in the result.
func (s *Service) detectAccounts(ctx context.Context, shop shopify.Shop, tell func(Step)) (store.Traits, error) {
	start := s.Now()
	accounts, err := shopify.DetectAccounts(ctx, s.Platform, shop, nil)
	if err != nil {
		s.Log.InfoContext(ctx, "customer accounts not detected", "shop", string(shop), "cause", err)
	}
	tell(accountsStep(accounts.Kind, err, s.Now().Sub(start)))
	return store.Traits{Accounts: accounts.Kind, AccountHost: accounts.Host}, err
}

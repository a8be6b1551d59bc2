package merchant

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// ConnectTimeout bounds a whole attempt to connect, which makes up to eight calls to Recharge,
// detects the store's sign-in and registers the webhooks.
const ConnectTimeout = time.Minute

// Tokens are what a merchant pastes. Empty fields stay as they were.
type Tokens struct{ Admin, Storefront, Secret string }

// Connect checks the pasted tokens, and saves them if they can send shoppers to the portal. It
// passes each check to tell as soon as it is done. If it saves nothing, the previous connection
// stays. It returns only errors of the store.
func (s *Service) Connect(
	ctx context.Context, shop shopify.Shop, pasted Tokens, tell func(Step),
) (said Said, err error) {
	// Read before the checks, so that an uninstall during them also ends this connection.
	begun := s.Now()
	last, err := s.Connection(ctx, shop)
	if err != nil {
		return Said{}, err
	}
	next, problem := pasted.over(last)
	if problem != "" {
		return bad(problem), nil
	}
	next.Shop, next.SavedAt = shop, begun
	return s.checkAndSave(ctx, last, next, tell), nil
}

// over returns last with the pasted tokens applied. A new Admin token has a new webhook secret, so
// the old secret is dropped.
func (t Tokens) over(last *store.Connection) (next store.Connection, problem string) {
	if last != nil {
		next = *last
	}
	t = Tokens{strings.TrimSpace(t.Admin), strings.TrimSpace(t.Storefront), strings.TrimSpace(t.Secret)}
	if t.Admin != "" && t.Admin != next.APIToken {
		next.APIToken, next.ClientSecret = t.Admin, ""
	}
	if t.Storefront != "" {
		next.StorefrontToken = t.Storefront
	}
	if t.Secret != "" {
		next.ClientSecret = t.Secret
	}
	return next, wrongTokens(t, next)
}

// wrongTokens returns the key of the sentence that says what is wrong; "" if nothing is.
func wrongTokens(pasted Tokens, next store.Connection) string {
	for _, text := range []string{pasted.Admin, pasted.Storefront, pasted.Secret} {
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) || len(text) > 300 {
			return "tokens, strange"
		}
	}
	switch {
	case next.APIToken == "":
		return "tokens, no admin"
	case strings.HasPrefix(next.APIToken, "strfnt_"):
		return "tokens, storefront as admin"
	case strings.HasPrefix(next.StorefrontToken, "sk_"):
		return "tokens, admin as storefront"
	}
	return ""
}

// checkAndSave tests next against Recharge and the store, and saves it if it works.
func (s *Service) checkAndSave(
	ctx context.Context, last *store.Connection, next store.Connection, tell func(Step),
) Said {
	stays := ""
	if last != nil {
		stays = " " + sentence("last stays")
	}
	var findings recharge.Findings
	err := s.calls(ctx, &next, func(client *recharge.Client, grant *recharge.Grant) error {
		each := func(f recharge.Finding) { tell(found(f)) }
		findings = recharge.Inspect(ctx, client, grant, recharge.InspectOptions{}, each)
		return nil
	})
	switch {
	case recharge.ReasonOf(err) != "":
		return bad("not saved", Words(portal.Reason(err))+stays)
	case err != nil:
		return bad("tokens, unusable")
	case !findings.Usable():
		return bad("not saved, fix", stays)
	}
	next.Detected = store.Traits{
		PortalURL: findings.PortalURL, Link: linkOf(findings), Accounts: s.detectAccounts(ctx, next.Shop, tell),
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
		return bad("not saved, passed", stays)
	}
	s.Log.InfoContext(ctx, "connected", "shop", string(next.Shop))
	if last != nil && last.APIToken != next.APIToken {
		s.removeWebhooks(ctx, last) // they have the old token's secret
	}
	if s.Importer != nil {
		s.Importer.Request(ctx, next.Shop)
	}
	tell(webhooksStep(s.keepWebhooks(ctx, &next)))
	return Said{Text: sentence("connected")}
}

// linkOf returns "signed_in" if the portal opened, "hash" if Recharge refused a session, and "" if
// that is unknown, for example because the store has no customer to try with.
func linkOf(findings recharge.Findings) string {
	for _, check := range []recharge.Check{recharge.CheckSessions, recharge.CheckPortal} {
		f := findings.Of(check)
		if f.State == recharge.Warned && f.Why != recharge.NoCustomer && !f.Why.Transient() {
			return "hash"
		}
	}
	if findings.Of(recharge.CheckPortal).State == recharge.Passed {
		return "signed_in"
	}
	return ""
}

func (s *Service) detectAccounts(ctx context.Context, shop shopify.Shop, tell func(Step)) string {
	start := s.Now()
	accounts, err := shopify.DetectAccounts(ctx, s.Platform, shop)
	if err != nil {
		s.Log.InfoContext(ctx, "customer accounts not detected", "shop", string(shop), "cause", err)
	}
	tell(accountsStep(accounts, s.Now().Sub(start)))
	return accounts
}

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

// ConnectTimeout bounds all that connecting does: up to eight calls to Recharge, a look at
// the store's sign-in, and the webhooks.
const ConnectTimeout = time.Minute

// Tokens are what a merchant pastes. What is left empty stays as it was.
type Tokens struct{ Admin, Storefront, Secret string }

// Connect checks what the merchant has pasted and saves it if shoppers can be sent to the
// portal with it. It passes each check to tell as soon as it is made. If it saves nothing,
// what was saved before stays. Errors: those of the store.
func (s *Service) Connect(
	ctx context.Context, shop shopify.Shop, pasted Tokens, tell func(Step),
) (said Said, err error) {
	// Taken now, so that an uninstall during the checks ends this connection, too.
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

// over returns the connection that the merchant asks for. Another Admin token has another
// webhook secret, so the old one does not stay.
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

func wrongTokens(pasted Tokens, next store.Connection) string {
	for _, text := range []string{pasted.Admin, pasted.Storefront, pasted.Secret} {
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) || len(text) > 300 {
			return strangeCharacter
		}
	}
	switch {
	case next.APIToken == "":
		return noAdminToken
	case strings.HasPrefix(next.APIToken, "strfnt_"):
		return storefrontAsAdmin
	case strings.HasPrefix(next.StorefrontToken, "sk_"):
		return adminAsStorefront
	}
	return ""
}

// checkAndSave asks Recharge and the store, and saves what works.
func (s *Service) checkAndSave(
	ctx context.Context, last *store.Connection, next store.Connection, tell func(Step),
) Said {
	stays := ""
	if last != nil {
		stays = " " + lastStays
	}
	var findings recharge.Findings
	err := s.calls(ctx, &next, func(client *recharge.Client, grant *recharge.Grant) error {
		each := func(f recharge.Finding) { tell(found(f)) }
		findings = recharge.Inspect(ctx, client, grant, recharge.InspectOptions{}, each)
		return nil
	})
	switch {
	case recharge.ReasonOf(err) != "":
		return bad("Not saved: " + Words(portal.Reason(err)) + stays)
	case err != nil:
		return bad("These tokens can’t be used. Check each for a typo.")
	case !findings.Usable():
		return bad("Not saved. Fix the items marked below and connect again." + stays)
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
		return bad("Not saved: the app was uninstalled meanwhile.")
	case err != nil:
		s.Log.ErrorContext(ctx, "connection not saved", "shop", string(next.Shop), "cause", err)
		return bad("Everything passed, but it could not be saved. " + NoDatabase + " Try again in a minute." + stays)
	}
	s.Log.InfoContext(ctx, "connected", "shop", string(next.Shop))
	if last != nil && last.APIToken != next.APIToken {
		s.removeWebhooks(ctx, last) // the old token's webhooks have the old secret
	}
	if s.Importer != nil {
		s.Importer.Request(ctx, next.Shop)
	}
	tell(webhooksStep(s.keepWebhooks(ctx, &next)))
	return Said{Text: "Saved. Shoppers who click are taken to their portal."}
}

// linkOf returns "hash" only where Recharge has refused sessions. A store without customers
// to try with says nothing about that.
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
		s.Log.InfoContext(ctx, "customer accounts not found out", "shop", string(shop), "cause", err)
	}
	tell(accountsStep(accounts, s.Now().Sub(start)))
	return accounts
}

package merchant

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// WebhookPath is where Recharge sends the configured store's webhooks. Each connected store has an
// address of its own below it.
const WebhookPath = "/webhooks/recharge"

const (
	// checkWebhooks is how often we check the webhooks at Recharge. Recharge deletes webhooks that
	// were not answered for two days.
	checkWebhooks = 24 * time.Hour
	// recheckWebhooks is how long we wait after a check that failed.
	recheckWebhooks = time.Hour - time.Minute
	// webhooksClaim is how long one server has for a check. Another server then takes over, because
	// the first one may have died.
	webhooksClaim = 5 * time.Minute
	// messageWait is how long a merchant who connects waits for the message that Recharge was asked to send.
	messageWait, messagePoll = 3 * time.Second, 100 * time.Millisecond
)

// webhookAddress returns the URL that Recharge sends a shop's webhooks to.
func (s *Service) webhookAddress(shop shopify.Shop, key string) string {
	if shop == s.Merchants.Own() {
		return s.AppURL.JoinPath(WebhookPath).String()
	}
	return s.AppURL.JoinPath(WebhookPath, shop.Handle(), key).String()
}

// ourWebhooks returns a function that reports whether an address is this server's for a shop. It
// accepts any key, because the keys of earlier connections are unknown.
func (s *Service) ourWebhooks(shop shopify.Shop) func(address string) bool {
	base := strings.TrimSuffix(s.webhookAddress(shop, ""), "/")
	return func(address string) bool { return address == base || strings.HasPrefix(address, base+"/") }
}

// errNoSecret means that no webhook is registered, because we could not verify it.
var errNoSecret = errors.New("no API Client Secret")

// keepWebhooks registers a shop's webhooks at Recharge, and saves whether that succeeded.
func (s *Service) keepWebhooks(ctx context.Context, connection *store.Connection) error {
	if connection.ClientSecret == "" {
		return errNoSecret
	}
	address := s.webhookAddress(connection.Shop, connection.WebhookKey)
	err := s.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		return client.KeepWebhooks(ctx, grant, address, connection.HasRenewals(s.Now()), s.ourWebhooks(connection.Shop))
	})
	state := store.WebhookState{CheckedAt: s.Now(), OK: err == nil, Address: address}
	if err != nil {
		state.Problem = portal.Reason(err)
	} else {
		s.testWebhooks(ctx, connection, address)
	}
	return errors.Join(err, s.change(ctx, connection, func(c *store.Connection) bool {
		c.Webhooks = state
		return true
	}))
}

// testWebhooks asks Recharge to send a message if no webhook is proven, so that nobody has to wait for a customer
// to change. Webhooks work without it, so a failure is only logged.
func (s *Service) testWebhooks(ctx context.Context, connection *store.Connection, address string) {
	record, err := s.Store.Record(ctx, connection.Shop)
	if err != nil || s.Store.WebhookProof(record) == store.Proven {
		return
	}
	err = s.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		return client.TestWebhook(ctx, grant, address)
	})
	if err != nil {
		s.Log.InfoContext(ctx, "webhooks not tested", "shop", string(connection.Shop), "cause", err)
	}
}

// proofOf waits for a few seconds for the message that Recharge was asked to send at a time, and returns what it has
// shown. One that was refused before is no answer yet.
func (s *Service) proofOf(ctx context.Context, shop shopify.Shop, asked time.Time) store.Proof {
	for tries := messageWait / messagePoll; ; tries-- {
		record, err := s.Store.Record(ctx, shop)
		proof := s.Store.WebhookProof(record)
		answered := proof == store.Proven || proof == store.Refuted && !record.WebhookRefused.Before(asked)
		if err != nil || answered || tries == 0 || !recharge.Wait(ctx, messagePoll) {
			return proof
		}
	}
}

// removeWebhooks tries for 10 seconds to remove the app's webhooks at Recharge. If that fails,
// Recharge deletes them later, since nobody answers them.
func (s *Service) removeWebhooks(ctx context.Context, connection *store.Connection) {
	if connection.WebhookKey == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.calls(ctx, connection, func(client *recharge.Client, grant *recharge.Grant) error {
		return client.KeepWebhooks(ctx, grant, "", false, s.ourWebhooks(connection.Shop))
	})
	if err != nil {
		s.Log.InfoContext(ctx, "webhooks not removed", "shop", string(connection.Shop), "cause", err)
	}
}

// webhooksDue reports whether a shop's webhooks are due for a check, also because the server has another
// address now.
func (s *Service) webhooksDue(state store.WebhookState, address string) bool {
	after := checkWebhooks
	if !state.OK {
		after = recheckWebhooks
	}
	return (s.passed(state.CheckedAt, after) || state.Address != address) && s.passed(state.ClaimedAt, webhooksClaim)
}

// Maintain schedules an import for every shop that never had one, keeps all webhooks at Recharge
// registered, and detects all shops' traits again.
func (s *Service) Maintain(ctx context.Context) error {
	all, err := s.connections(ctx)
	for _, connection := range all {
		if s.Importer != nil {
			err = errors.Join(err, s.Importer.Schedule(ctx, connection.Shop))
		}
	}
	own := s.Merchants.Own()
	for _, connection := range all {
		if connection.ClientSecret != "" && (connection.WebhookKey != "" || own != "") {
			err = errors.Join(err, s.keepWebhooksOnce(ctx, connection))
		}
	}
	for _, connection := range all {
		s.lookIfDue(ctx, connection)
	}
	return err
}

// connections returns those of all shops that are connected. It also reads the record of each.
func (s *Service) connections(ctx context.Context) (all []store.Connection, err error) {
	own := s.Merchants.Own()
	if own == "" {
		err = s.Store.EachConnection(ctx, func(connection store.Connection) error {
			all = append(all, connection)
			return nil
		})
		return all, err
	}
	connection, err := s.current(ctx, own)
	if connection != nil {
		all = append(all, *connection)
	}
	return all, err
}

// keepWebhooksOnce registers a shop's webhooks if that is due, unless another server is doing so.
func (s *Service) keepWebhooksOnce(ctx context.Context, connection store.Connection) error {
	address := s.webhookAddress(connection.Shop, connection.WebhookKey)
	if !s.webhooksDue(connection.Webhooks, address) {
		return nil
	}
	claimed := false
	err := s.change(ctx, &connection, func(c *store.Connection) bool {
		if claimed = s.webhooksDue(c.Webhooks, address); claimed {
			c.Webhooks.ClaimedAt = s.Now()
		}
		return claimed
	})
	if err != nil || !claimed {
		return err
	}
	if err := s.keepWebhooks(ctx, &connection); err != nil {
		s.Log.WarnContext(ctx, "webhooks at Recharge not kept", "shop", string(connection.Shop), "cause", err)
	}
	return nil
}

// errNotConfirmed makes Recharge send its webhook again later.
var errNotConfirmed = errors.New("not confirmed: the token still works, or was checked less than a minute ago")

// RechargeUninstalled disconnects a store that has uninstalled Recharge, because its tokens and its
// shoppers' portals have stopped working. The topic of such a webhook is not signed, so it first
// calls Recharge, at most once a minute, and does nothing if the token still works. record is the one
// that the webhook was verified with, or nil for the configured store.
func (s *Service) RechargeUninstalled(ctx context.Context, shop shopify.Shop, record *store.Record) error {
	merchant, err := s.Merchants.Of(shop, record)
	if merchant == nil || err != nil {
		return err
	}
	// No link has such a nonce, and no two of these come from one browser. The mark lasts a minute.
	first, err := s.Store.UseNonce(ctx, shop, "recharge/uninstalled", rand.Text(), s.Now())
	if err != nil || !first {
		return cmp.Or(err, errNotConfirmed)
	}
	err = s.Recorder.Call(ctx, shop, merchant.Client, recharge.Normal, func(grant *recharge.Grant) error {
		_, err := merchant.Client.Scopes(ctx, grant)
		return err
	})
	switch {
	case err == nil:
		return errNotConfirmed
	case !recharge.Is(err, recharge.Unauthorized) && !recharge.Is(err, recharge.Forbidden):
		return err
	}
	erasure := store.Erasure{Shop: shop}
	if record != nil {
		erasure.SavedUntil = record.Connection.SavedAt // a connection saved meanwhile stays
	}
	_, err = s.Store.EraseShop(ctx, erasure)
	return err
}

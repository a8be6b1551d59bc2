package store

import (
	"context"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Proof is what Recharge's webhooks have shown about the secret that verifies them.
type Proof string

// The proofs.
const (
	Unproven Proof = "waiting" // no webhook was verified in the last week
	Proven   Proof = "proven"  // one was
	Refuted  Proof = "refused" // the last one could not be verified
)

// provenFor is how long a verified webhook counts, and proofEvery how often one is recorded.
const provenFor, proofEvery = 7 * 24 * time.Hour, 24 * time.Hour

// WebhookProof returns what a shop's webhooks have shown.
func (s *Store) WebhookProof(r *Record) Proof {
	switch {
	case r == nil:
		return Unproven
	case r.WebhookRefused.After(r.WebhookVerified):
		return Refuted
	case s.WebhooksProven(r):
		return Proven
	}
	return Unproven
}

// WebhooksProven reports whether a webhook from Recharge was verified in the last week. One that was refused since
// does not count, because others may know the address, too.
func (s *Store) WebhooksProven(r *Record) bool {
	return r != nil && s.options.Now().Sub(r.WebhookVerified) < provenFor
}

// WebhookVerified records that a webhook from Recharge was verified with a secret. It writes at most once a day, and
// if the last one was refused.
func (s *Store) WebhookVerified(ctx context.Context, shop shopify.Shop, secret string) error {
	return s.recordWebhook(ctx, shop, secret, func(r *Record, now time.Time) bool {
		return now.Sub(r.WebhookVerified) >= proofEvery || r.WebhookRefused.After(r.WebhookVerified)
	}, func(r *Record, now time.Time) { r.WebhookVerified, r.WebhookRefused = now, time.Time{} })
}

// WebhookRefused records that a webhook could not be verified with a secret. It writes at most once a day, and not on
// a day on which one was verified, since the address of the configured store is no secret.
func (s *Store) WebhookRefused(ctx context.Context, shop shopify.Shop, secret string) error {
	return s.recordWebhook(ctx, shop, secret, func(r *Record, now time.Time) bool {
		return now.Sub(r.WebhookVerified) >= proofEvery && now.Sub(r.WebhookRefused) >= proofEvery
	}, func(r *Record, now time.Time) { r.WebhookRefused = now })
}

// recordWebhook changes the record if that is due. It changes nothing if the merchant has saved another secret since,
// about which this webhook shows nothing. The single store's secret is in the configuration.
func (s *Store) recordWebhook(
	ctx context.Context, shop shopify.Shop, secret string,
	due func(*Record, time.Time) bool, change func(*Record, time.Time),
) error {
	now := s.options.Now()
	isDue := func(r *Record) bool {
		same := shop == s.options.Single || r.Connected() && r.Connection.ClientSecret == secret
		return same && due(r, now)
	}
	record, err := s.Record(ctx, shop)
	if err != nil || record == nil || !isDue(record) {
		return err
	}
	return s.Update(ctx, shop, func(r *Record) bool {
		if !isDue(r) { // another webhook was faster
			return false
		}
		change(r, now)
		return true
	})
}

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Connection is a shop's connection to Recharge: what its merchant entered, and what was detected.
// It prints and encodes as "[redacted]"; only the store writes its tokens, sealed.
type Connection struct {
	Shop            shopify.Shop
	APIToken        string
	StorefrontToken string
	ClientSecret    string
	Detected        Traits
	Chosen          Traits // overrides Detected where not empty
	WebhookKey      string // unguessable part of the address that Recharge calls; "": none
	Webhooks        WebhookState
	SavedAt         time.Time // when the merchant last saved it
	// PortalKeys belong to the shop's own middleware. SaveConnection leaves them and Chosen as they
	// are in Redis; only Update changes them.
	PortalKeys []PortalKey `json:",omitempty"`
}

// PortalKey describes a key of a shop's own middleware. The key itself is not stored.
type PortalKey struct {
	ID     string
	Name   string
	Hash   []byte // SHA-256 of the key; confidential, since it signs
	MadeAt time.Time
}

// Traits are the settings in which shops differ. "" means not known.
type Traits struct {
	PortalURL string // base of links by hash; ends in a slash
	Accounts  string // "new" or "legacy"
	Link      string // "signed_in" or "hash"
}

// WebhookState is the state of the webhooks' registration at Recharge.
type WebhookState struct {
	CheckedAt time.Time // zero: never
	OK        bool
	Problem   string    // in plain words
	ClaimedAt time.Time // when an instance began to check
}

// Or returns the traits, and others where they are not known.
func (t Traits) Or(others Traits) Traits {
	return Traits{
		cmp.Or(t.PortalURL, others.PortalURL), cmp.Or(t.Accounts, others.Accounts), cmp.Or(t.Link, others.Link),
	}
}

const redacted = "[redacted]"

// Format prints "[redacted]" for every verb.
func (c Connection) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// String returns "[redacted]".
func (c Connection) String() string { return redacted }

// MarshalText returns "[redacted]", for encoding/json and log/slog, too.
func (c Connection) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// sealedConnection is a connection without the methods that hide it.
type sealedConnection Connection

// ErrUninstalled is SaveConnection's error if the app was uninstalled after the merchant began to
// save.
var ErrUninstalled = errors.New("the app was uninstalled meanwhile")

// ClockSkew is how far our clock may be ahead of Shopify's. A connection saved within that time
// after an uninstall counts as saved before it.
const ClockSkew = 10 * time.Second

// SaveConnection saves what the merchant entered. Once it returns nil, Redis has it on disk. A new
// token may belong to another Recharge account with other customers, so it erases everything that
// was cached, except redactions.
func (s *Store) SaveConnection(ctx context.Context, c Connection) error {
	// The list of shops must be complete. If the save fails, the import removes the shop again.
	if err := s.RequestImport(ctx, c.Shop); err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	var erased *Record
	err := s.rewrite(ctx, c.Shop, nil, func(ctx context.Context, tx *redis.Tx, record *Record) (*Record, error) {
		uninstalled, err := parseUninstalled(tx.Get(ctx, uninstalledKey(c.Shop)))
		if err != nil {
			return nil, err
		}
		if !uninstalled.IsZero() && !c.SavedAt.After(uninstalled.Add(ClockSkew)) {
			return nil, ErrUninstalled
		}
		if record == nil {
			record = newRecord(c.Shop)
		}
		before := *record
		erased = nil
		last := Connection{Chosen: c.Chosen}
		if record.Connection != nil {
			last = *record.Connection
		}
		if last.APIToken != "" && last.APIToken != c.APIToken {
			erased = &before
			record.startEpoch()
		}
		if last.ClientSecret != c.ClientSecret {
			record.WebhookVerified = time.Time{}
		}
		saved := c
		saved.PortalKeys, saved.Chosen = last.PortalKeys, last.Chosen
		record.Connection = &saved
		return record, nil
	})
	if err == nil && erased != nil {
		s.tidy(erased)
	}
	return err
}

// Shops returns all shops that may have a record.
func (s *Store) Shops(ctx context.Context) ([]shopify.Shop, error) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	names, err := s.redis.ZRange(ctx, shopsKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list shops: %w", err)
	}
	shops := make([]shopify.Shop, len(names))
	for i, name := range names {
		shops[i] = shopify.Shop(name)
	}
	return shops, nil
}

// EachConnection calls do with every connection, until do returns an error. Records that do not
// open are skipped, and reported at the end.
func (s *Store) EachConnection(ctx context.Context, do func(Connection) error) error {
	shops, err := s.Shops(ctx)
	if err != nil {
		return err
	}
	var unreadable []error
	for _, shop := range shops {
		record, err := s.recordNow(ctx, shop)
		switch {
		case errors.Is(err, ErrUnreadable):
			unreadable = append(unreadable, fmt.Errorf("%s: %w", shop, err))
		case err != nil:
			return fmt.Errorf("go through connections: %w", err)
		case record != nil && record.Connection != nil:
			if err := do(*record.Connection); err != nil {
				return err
			}
		}
	}
	return errors.Join(unreadable...)
}

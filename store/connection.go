package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
)

// Connection is how a shop has connected Recharge: what its merchant gave, and what was detected.
// However it is printed, its tokens are not: only the store writes it out, sealed.
type Connection struct {
	Shop            shopify.Shop
	APIToken        string
	StorefrontToken string
	ClientSecret    string
	Detected        Traits
	Chosen          Traits // where not empty, goes before Detected
	WebhookKey      string // unguessable part of the address that Recharge calls; "" none
	Webhooks        WebhookState
	SavedAt         time.Time // when the merchant last saved it
	// PortalKeys are those of the shop's own middleware. SaveConnection leaves them, and what
	// is chosen, as they are in Redis; only Update changes them.
	PortalKeys []PortalKey `json:",omitempty"`
}

// PortalKey is a key of a shop's own middleware, without the key.
type PortalKey struct {
	ID     string
	Name   string
	Hash   []byte // SHA-256 of the key; confidential, since it signs
	MadeAt time.Time
}

// Traits are what makes shops differ. "" is not known.
type Traits struct {
	PortalURL string // base of links by hash; ends in a slash
	Accounts  string // "new" or "legacy"
	Link      string // "signed_in" or "hash"
}

// WebhookState is how the registration of webhooks at Recharge stands.
type WebhookState struct {
	CheckedAt time.Time // zero: not yet
	OK        bool
	Problem   string    // in plain words
	ClaimedAt time.Time // when an instance went to look
}

// Traits are the chosen ones, and the detected where none is chosen.
func (c Connection) Traits() Traits {
	return Traits{
		PortalURL: cmp.Or(c.Chosen.PortalURL, c.Detected.PortalURL),
		Accounts:  cmp.Or(c.Chosen.Accounts, c.Detected.Accounts),
		Link:      cmp.Or(c.Chosen.Link, c.Detected.Link),
	}
}

const redacted = "[redacted]"

// Format prints "[redacted]", whatever the verb.
func (c Connection) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// String returns "[redacted]".
func (c Connection) String() string { return redacted }

// LogValue is "[redacted]".
func (c Connection) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]", which is what encoding/json writes, too.
func (c Connection) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format prints "[redacted]": a record holds keys.
func (r Record) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, redacted) }

// ErrUninstalled is SaveConnection's where the app was uninstalled after the merchant
// began to save.
var ErrUninstalled = errors.New("the app was uninstalled meanwhile")

// ClockSkew is how far our clock may be before Shopify's: what was saved so little
// after an uninstall was saved before it.
const ClockSkew = 10 * time.Second

// SaveConnection saves what the merchant gave. Once it returns nil, Redis has it on
// disk. With another token, which may be that of another account at Recharge with
// other customers, all that was cached is erased; redactions stay.
func (s *Store) SaveConnection(ctx context.Context, c Connection) error {
	// The list of shops is never short of one; one too many is dropped by the import.
	if err := s.RequestImport(ctx, c.Shop); err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	var erased *Record
	err := s.rewrite(ctx, c.Shop, func(ctx context.Context, tx *redis.Tx, held *Record) (*Record, error) {
		uninstalled, err := readUninstalled(tx.Get(ctx, uninstalledKey(c.Shop)))
		if err != nil {
			return nil, err
		}
		if !uninstalled.IsZero() && !c.SavedAt.After(uninstalled.Add(ClockSkew)) {
			return nil, ErrUninstalled
		}
		erased = nil
		last := &Connection{Chosen: c.Chosen}
		if held == nil {
			held = newRecord(c.Shop)
		} else if held.Connection != nil {
			last = held.Connection
		}
		if last.APIToken != "" && last.APIToken != c.APIToken {
			before := *held
			erased = &before
			held.begin()
		}
		if last.ClientSecret != c.ClientSecret {
			held.WebhookVerified = time.Time{}
		}
		saved := c
		saved.PortalKeys, saved.Chosen, held.Connection = last.PortalKeys, last.Chosen, &saved
		return held, nil
	})
	if err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	if erased != nil {
		s.tidy(erased)
	}
	return nil
}

// Shops are all shops that there may be a record of.
func (s *Store) Shops(ctx context.Context) (shops []shopify.Shop, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	names, err := s.redis.ZRange(ctx, shopsKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list shops: %w", err)
	}
	for _, name := range names {
		shops = append(shops, shopify.Shop(name))
	}
	return shops, nil
}

// EachConnection calls do with every connection. What do returns ends it; what cannot
// be read does not, but is reported in the end.
func (s *Store) EachConnection(ctx context.Context, do func(Connection) error) error {
	shops, err := s.Shops(ctx)
	if err != nil {
		return err
	}
	var unread []error
	for _, shop := range shops {
		record, err := s.recordNow(ctx, shop)
		switch {
		case errors.Is(err, ErrUnreadable):
			unread = append(unread, fmt.Errorf("%s: %w", shop, err))
		case err != nil:
			return fmt.Errorf("go through connections: %w", err)
		case record != nil && record.Connection != nil:
			if err := do(*record.Connection); err != nil {
				return err
			}
		}
	}
	return errors.Join(unread...)
}

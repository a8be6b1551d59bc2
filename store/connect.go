package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

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
	_, err := s.rewrite(ctx, c.Shop, nil, func(ctx context.Context, tx *redis.Tx, record *Record) (*Record, error) {
		uninstalled, err := parseUninstalled(tx.Get(ctx, uninstalledKey(c.Shop)))
		if err != nil {
			return nil, err
		}
		if !uninstalled.IsZero() && !c.SavedAt.After(uninstalled.Add(ClockSkew)) {
			return nil, ErrUninstalled
		}
		last := Connection{Chosen: c.Chosen}
		if record.Connected() {
			last = *record.Connection
		}
		switch {
		case record == nil:
			record = newRecord(c.Shop)
		case last.APIToken != c.APIToken:
			record.startEpoch()
		}
		if last.ClientSecret != c.ClientSecret {
			record.WebhookVerified, record.WebhookRefused = time.Time{}, time.Time{}
		}
		saved := c
		saved.PortalKeys, saved.Chosen, saved.Contact = last.PortalKeys, last.Chosen, last.Contact
		saved.ReportTo, saved.ReportIn, saved.Reported = last.ReportTo, last.ReportIn, last.Reported
		if last.APIToken == c.APIToken {
			saved.Campaigns = last.Campaigns // a new token may mean other customers
		}
		record.Connection = &saved
		return record, nil
	})
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
		case record.Connected():
			if err := do(*record.Connection); err != nil {
				return err
			}
		}
	}
	return errors.Join(unreadable...)
}

// Look says when a store's traits were last detected, and what has changed since they were known.
type Look struct {
	At        time.Time // of the last look that ended; zero: never
	ClaimedAt time.Time // when an instance began the last look
	Vain      bool      // a refused link caused the last look, and it found nothing new
	Changes   []Moved   // the newest last
	Refused   bool      `json:",omitempty"` // Recharge refused the Admin token, or what it must read, in the last look
}

// Next returns when a refused link may cause the next look.
func (l Look) Next() time.Time {
	last, wait := l.At, 10*time.Minute
	if l.ClaimedAt.After(last) {
		last = l.ClaimedAt
	}
	if l.Vain {
		wait = time.Hour
	}
	return last.Add(wait)
}

// Moved is one change of a detected trait.
type Moved struct {
	At   time.Time
	What string // PortalMoved, or another word of Learn's
	To   string // the new value
}

// PortalMoved is what has moved when links by hash lead to another address.
const PortalMoved = "portal"

// keptChanges is how many changes are kept.
const keptChanges = 5

// Learn takes over what was detected at a time, and reports whether anything has changed. What was not
// detected stays as it was.
func (c *Connection) Learn(seen Traits, at time.Time) bool {
	last := c.Detected
	c.Detected = seen.Or(last)
	for _, of := range []struct{ what, from, to string }{
		{PortalMoved, last.PortalURL, c.Detected.PortalURL},
		{"accounts", last.Accounts, c.Detected.Accounts},
		{"link", last.Link, c.Detected.Link},
		{"account host", last.AccountHost, c.Detected.AccountHost},
		{"scopes", last.Scopes, c.Detected.Scopes},
		{"burst", strconv.Itoa(last.Burst), strconv.Itoa(c.Detected.Burst)},
	} {
		if of.from != of.to && of.from != "" && of.from != "0" {
			changes := append(slices.Clone(c.Look.Changes), Moved{at, of.what, of.to})
			c.Look.Changes = changes[max(0, len(changes)-keptChanges):]
		}
	}
	return c.Detected != last
}

// UpdateConnection changes a shop's connection, if it has one, and reports whether it has. In one-store
// mode it creates the connection that holds what is not configured.
func (s *Store) UpdateConnection(
	ctx context.Context, shop shopify.Shop, change func(*Connection) bool,
) (connected bool, err error) {
	err = s.Update(ctx, shop, func(r *Record) bool {
		own := shop == s.options.Single
		if r.Connection == nil && own {
			r.Connection = &Connection{Shop: shop}
		}
		connected = own || r.Connected()
		return connected && change(r.Connection)
	})
	return connected, err
}

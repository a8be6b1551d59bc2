package store

import (
	"cmp"
	"fmt"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
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
	Look            Look      `json:",omitzero"`
	Contact         Contact   `json:",omitzero"` // SaveConnection leaves it, too
	SavedAt         time.Time // when the merchant last saved it
	// SaveConnection leaves the rest and Chosen as they are in Redis; only Update changes them.
	ReportTo   string      `json:",omitempty"` // where the merchant wants notices by e-mail; "": nowhere
	ReportIn   string      `json:",omitempty"` // the code of the merchant's language
	Reported   Reported    `json:",omitzero"`
	PortalKeys []PortalKey `json:",omitempty"` // of the shop's own middleware
	Campaigns  []Campaign  `json:",omitempty"` // the newest last
}

// Contact is what a store tells its shoppers about itself. "" means not known.
type Contact struct {
	Name  string
	Email string // the address that Shopify shows to customers
}

// Reported is which notices about a shop were sent.
type Reported struct {
	Week      time.Time // the end of the last week that was summed up
	Alert     time.Time // when there last was an alert
	ClaimedAt time.Time // when an instance last began to send one
	Failed    bool      // it could not be sent
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
	PortalURL   string // base of links by hash; ends in a slash
	Accounts    string // "new" or "legacy"
	Link        string // "signed_in", "hash", or "account": in the Shopify account (Recharge Unity)
	AccountPage string `json:",omitempty"` // address of Recharge's page there
	Affinity    bool   `json:",omitempty"` // only chosen: the merchant says that the portal is not in the account
	// The rest is only detected.
	AccountHost string `json:",omitempty"` // where the store's current customer accounts are
	Path        string `json:",omitempty"` // the app's path on the storefront, such as "/apps/subscriptions"
	Scopes      string `json:",omitempty"` // of the Admin token, separated by spaces
	Burst       int    `json:",omitempty"` // calls that Recharge allows at once
	Reached     bool   `json:",omitempty"` // a click or a try has ended in the portal
}

// WebhookState is the state of the webhooks' registration at Recharge.
type WebhookState struct {
	CheckedAt time.Time // zero: never
	OK        bool
	Problem   string    // in plain words
	ClaimedAt time.Time // when an instance began to check
	Address   string    `json:",omitempty"` // where Recharge was told to send them
}

// Or returns the traits, and others where they are not known.
func (t Traits) Or(others Traits) Traits {
	return Traits{
		cmp.Or(t.PortalURL, others.PortalURL), cmp.Or(t.Accounts, others.Accounts), cmp.Or(t.Link, others.Link),
		cmp.Or(t.AccountPage, others.AccountPage), t.Affinity || others.Affinity,
		cmp.Or(t.AccountHost, others.AccountHost), cmp.Or(t.Path, others.Path), cmp.Or(t.Scopes, others.Scopes),
		cmp.Or(t.Burst, others.Burst), t.Reached || others.Reached,
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

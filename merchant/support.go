package merchant

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// SupportLife is how long a link for support is valid.
	SupportLife = 10 * time.Minute
	// SupportPath is where a link for support leads, below APP_URL.
	SupportPath = "/go/support"
	// supportID is how many characters of its nonce name a link in the log.
	supportID = 10
)

// SupportID names a link for support in the log, where it was made and where it is opened.
func SupportID(signed portallink.Signed) string { return signed.Nonce[:supportID] }

// SupportLink makes a one-time link to the portal of a customer whose click a merchant's staff has just
// tried. It is saved nowhere. by is Shopify's id of the staff member.
func (s *Service) SupportLink(ctx context.Context, shop shopify.Shop, tried Tried, by string) Tried {
	if !tried.leads() {
		return tried
	}
	record, err := s.Store.Record(ctx, shop)
	secret, erased := record.SupportSecret(), false
	if secret != nil {
		erased, err = s.Store.IsRedacted(ctx, record, store.Shopper{Shop: shop, Customer: tried.Customer})
	}
	if err != nil || !tried.Support || secret == nil || by == "" || erased {
		key := "no support link"
		if erased {
			key = "no support link, erased"
		}
		tried.State, tried.Text = recharge.Failed, sentence(key)
		return tried
	}
	signed := portallink.Signed{
		Link:    portallink.Link{Shop: string(shop), Customer: string(tried.Customer)},
		Expires: s.Now().Add(SupportLife), Nonce: strings.ToLower(rand.Text()),
	}
	query, _ := signed.Query(portallink.Secret(secret)) // cannot fail: the values have been parsed
	link := s.AppURL.JoinPath(SupportPath)
	link.RawQuery = query
	tried.Link = link.String()
	s.Log.InfoContext(ctx, "support link made", "request_id", SupportID(signed), "shop", string(shop), "by", by)
	return tried
}

// SaveContact saves a store's name and the e-mail address that Shopify shows to its customers. Both appear on our
// own pages, which have no theme around them. A value that is too long or not an e-mail address is left out.
func (s *Service) SaveContact(ctx context.Context, shop shopify.Shop, told store.Contact) error {
	if len(told.Name) > 200 {
		told.Name = ""
	}
	if !recharge.IsEmail(told.Email) {
		told.Email = ""
	}
	_, err := s.Store.UpdateConnection(ctx, shop, func(c *store.Connection) bool {
		changed := c.Contact != told
		c.Contact = told
		return changed
	})
	return err
}

// SwitchSupport turns a shop's links for support on or off. by is Shopify's id of the staff member.
func (s *Service) SwitchSupport(ctx context.Context, shop shopify.Shop, on bool, by string) Said {
	connected, err := s.Store.SwitchSupport(ctx, shop, on)
	said := saved(connected, err)
	if said.Bad {
		return said
	}
	s.Log.InfoContext(ctx, "support links switched", "shop", string(shop), "on", on, "by", by)
	return said
}

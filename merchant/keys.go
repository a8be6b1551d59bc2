package merchant

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"unicode"

	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// MaxKeys is how many keys a shop can have. Every request is compared with all of them.
	MaxKeys = 10
	// maxKeyName is the longest name of a key, in characters.
	maxKeyName = 50
)

// NewKey returns a key that contains the shop's handle, so that a request need not name the shop.
func NewKey(shop shopify.Shop, random string) string { return "mspk_" + shop.Handle() + "_" + random }

// MakeKey makes a key for the shop's own middleware. Only its hash is saved, so this is the only
// time it can be shown. The key is "" if none was made, and said explains why.
func (s *Service) MakeKey(ctx context.Context, shop shopify.Shop, name string) (key string, said Said) {
	name = strings.TrimSpace(name)
	if name == "" || len([]rune(name)) > maxKeyName || strings.ContainsFunc(name, unicode.IsControl) {
		said = bad("not made, name")
		said.Field = "name"
		return "", said
	}
	key = NewKey(shop, rand.Text())
	secret := portallink.SecretOf(key)
	made := store.PortalKey{ID: rand.Text(), Name: name, Hash: secret[:], MadeAt: s.Now()}
	full := false
	connected, err := s.Store.UpdateConnection(ctx, shop, func(connection *store.Connection) bool {
		// An earlier attempt whose answer was lost may have saved it already.
		keys := without(connection.PortalKeys, made.ID)
		if full = len(keys) >= MaxKeys; full {
			return false
		}
		keys = append(keys, made)
		connection.PortalKeys = keys
		return true
	})
	switch {
	case err != nil:
		return "", bad("not made")
	case !connected:
		return "", bad("not made, not connected")
	case full:
		return "", bad("not made, full")
	}
	s.Log.InfoContext(ctx, "portal key made", "shop", string(shop))
	return key, Said{}
}

// RevokeKey deletes a key. Every server then refuses requests and signed links made with it.
func (s *Service) RevokeKey(ctx context.Context, shop shopify.Shop, id string) Said {
	_, err := s.Store.UpdateConnection(ctx, shop, func(connection *store.Connection) bool {
		before := len(connection.PortalKeys)
		connection.PortalKeys = without(connection.PortalKeys, id)
		return len(connection.PortalKeys) < before
	})
	if err != nil {
		return bad("not revoked")
	}
	s.Log.InfoContext(ctx, "portal key revoked", "shop", string(shop))
	return Said{Text: sentence("revoked")}
}

func without(keys []store.PortalKey, id string) []store.PortalKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key store.PortalKey) bool { return key.ID == id })
}

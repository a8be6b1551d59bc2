package handlers

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portallink"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

const (
	// keysAtMost is how many keys a shop can have. Each is tried at every call.
	keysAtMost = 10
	// keyNameAtMost is how long a key's name is, in letters.
	keyNameAtMost = 50
)

// keysView is what the app home shows of a shop's keys.
type keysView struct {
	Fixed     bool // configured on this server
	Set       bool // Fixed, and there is one
	Connected bool
	Keys      []keyView
	Full      bool
	Address   string // of the server
	New       string // a key that was made just now: it is never shown again
	Said      string
	SaidBad   bool
}

type keyView struct{ ID, Name, Made string }

func (a *Admin) keysView(ctx context.Context, shop shopify.Shop) (keysView, error) {
	view := keysView{Address: strings.TrimRight(a.AppURL.String(), "/")}
	if own := a.Merchant.Merchants.Own(); own != "" {
		view.Fixed, view.Set = true, shop == own && a.HasKeys
		return view, nil
	}
	connection, err := a.Merchant.Connection(ctx, shop)
	if err != nil || connection == nil {
		return view, err
	}
	view.Connected, view.Full = true, len(connection.PortalKeys) >= keysAtMost
	for _, key := range connection.PortalKeys {
		view.Keys = append(view.Keys, keyView{key.ID, key.Name, key.MadeAt.UTC().Format(time.DateOnly)})
	}
	return view, nil
}

// keys answers with the part of the page.
func (a *Admin) keys(c echo.Context, shop shopify.Shop) error {
	return a.showKeys(c, shop, "", "", false)
}

func (a *Admin) showKeys(c echo.Context, shop shopify.Shop, key, said string, bad bool) error {
	view, err := a.keysView(c.Request().Context(), shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view.New, view.Said, view.SaidBad = key, said, bad
	return a.part(c, "keys", view)
}

// makeKey makes a key for the shop's own middleware. Only its hash is kept, so that this is
// the only time it is shown.
func (a *Admin) makeKey(c echo.Context, shop shopify.Shop) error {
	name := strings.TrimSpace(c.FormValue("name"))
	if name == "" || len([]rune(name)) > keyNameAtMost || strings.ContainsFunc(name, unicode.IsControl) {
		return a.showKeys(c, shop, "", "Not made: give the key a name of up to 50 letters, such as its server’s.", true)
	}
	key := newKey(shop, rand.Text())
	secret := portallink.SecretOf(key)
	made := store.PortalKey{ID: rand.Text(), Name: name, Hash: secret[:], MadeAt: a.Merchant.Now()}
	full := false
	connected, err := a.Merchant.Update(c.Request().Context(), shop, func(connection *store.Connection) bool {
		// A try whose answer was lost may have made it already.
		keys := without(connection.PortalKeys, made.ID)
		full = len(keys) >= keysAtMost
		if full {
			return false
		}
		keys = append(keys, made)
		connection.PortalKeys = keys
		return true
	})
	switch {
	case err != nil:
		return a.showKeys(c, shop, "", "Not made: we can’t reach our database right now. Try again in a minute.", true)
	case !connected:
		return a.showKeys(c, shop, "", "Not made: connect Recharge first.", true)
	case full:
		return a.showKeys(c, shop, "", "Not made: there are ten keys. Revoke one first.", true)
	}
	a.Merchant.Log.InfoContext(c.Request().Context(), "portal key made", "shop", string(shop))
	return a.showKeys(c, shop, key, "", false)
}

// revokeKey deletes a key. From then on every server refuses its requests and signed links.
func (a *Admin) revokeKey(c echo.Context, shop shopify.Shop) error {
	id := c.FormValue("id")
	_, err := a.Merchant.Update(c.Request().Context(), shop, func(connection *store.Connection) bool {
		before := len(connection.PortalKeys)
		connection.PortalKeys = without(connection.PortalKeys, id)
		return len(connection.PortalKeys) < before
	})
	if err != nil {
		return a.showKeys(c, shop, "", "Not revoked: we can’t reach our database right now. Try again in a minute.", true)
	}
	a.Merchant.Log.InfoContext(c.Request().Context(), "portal key revoked", "shop", string(shop))
	return a.showKeys(c, shop, "", "Revoked.", false)
}

func without(keys []store.PortalKey, id string) []store.PortalKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key store.PortalKey) bool { return key.ID == id })
}

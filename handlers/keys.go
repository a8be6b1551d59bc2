package handlers

import (
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// keysView holds what the app home shows about a shop's keys.
type keysView struct {
	Fixed     bool // configured on this server
	Set       bool // Fixed, and this shop has a key
	Connected bool
	Keys      []store.PortalKey
	Full      bool
	Address   string // of this server
	New       string // the key just made, which is shown only once
	Said      merchant.Said
}

func (a *Admin) keysView(ctx context.Context, shop shopify.Shop) (keysView, error) {
	view := keysView{Address: strings.TrimRight(a.Merchant.AppURL.String(), "/")}
	if own := a.Merchant.Merchants.Own(); own != "" {
		view.Fixed, view.Set = true, shop == own && a.HasKeys
		return view, nil
	}
	connection, err := a.Merchant.Connection(ctx, shop)
	if err != nil || connection == nil {
		return view, err
	}
	view.Connected, view.Keys = true, connection.PortalKeys
	view.Full = len(view.Keys) >= merchant.MaxKeys
	return view, nil
}

// keys answers with the part of the page that shows the keys.
func (a *Admin) keys(c echo.Context, shop shopify.Shop) error {
	return a.showKeys(c, shop, "", merchant.Said{})
}

func (a *Admin) showKeys(c echo.Context, shop shopify.Shop, key string, said merchant.Said) error {
	view, err := a.keysView(c.Request().Context(), shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view.New, view.Said = key, said
	return a.part(c, http.StatusOK, "keys", view)
}

// makeKey makes a key for the shop's own middleware, and shows it once.
func (a *Admin) makeKey(c echo.Context, shop shopify.Shop) error {
	key, said := a.Merchant.MakeKey(c.Request().Context(), shop, c.FormValue("name"))
	return a.showKeys(c, shop, key, said)
}

// revokeKey deletes a key. Every server then refuses requests and signed links made with it.
func (a *Admin) revokeKey(c echo.Context, shop shopify.Shop) error {
	return a.showKeys(c, shop, "", a.Merchant.RevokeKey(c.Request().Context(), shop, c.FormValue("id")))
}

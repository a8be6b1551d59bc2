package shopify

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Platform has Shopify's addresses. The zero value is Shopify itself. Tests and the sandbox use an
// emulator.
type Platform struct {
	// Admins and Shops are the origins of a shop's emulated admin and storefront. The key "" is for
	// every other shop.
	Admins, Shops map[Shop]string
	CDN           string // origin of Shopify's scripts
}

// Handle returns the shop's name without ".myshopify.com", as used in the admin's addresses.
func (s Shop) Handle() string { return strings.TrimSuffix(string(s), shopSuffix) }

// AdminURL returns the origin of the admin, "https://admin.shopify.com".
func (p Platform) AdminURL(shop Shop) string {
	return cmp.Or(p.Admins[shop], p.Admins[""], "https://admin.shopify.com")
}

// ShopURL returns the origin of the shop, "https://<shop>".
func (p Platform) ShopURL(shop Shop) string {
	return cmp.Or(p.Shops[shop], p.Shops[""], "https://"+string(shop))
}

// Scripts returns the folder of Shopify's own scripts, "https://cdn.shopify.com/shopifycloud/".
func (p Platform) Scripts() string {
	return cmp.Or(p.CDN, "https://cdn.shopify.com") + "/shopifycloud/"
}

// AppBridge returns the address of the script that every page in the admin's frame loads first.
// https://shopify.dev/docs/api/app-home
func (p Platform) AppBridge() string { return p.Scripts() + "app-bridge.js" }

// Polaris returns the address of the script with a version ("2") of Shopify's web components.
// https://shopify.dev/docs/api/app-home/latest/web-components/versioning
func (p Platform) Polaris(version string) string { return p.Scripts() + "polaris-" + version + ".js" }

// InstallLink returns the address in the admin that asks the merchant to install the app, or opens
// the app if it is installed.
// https://shopify.dev/docs/apps/build/authentication-authorization/app-installation
func (p Platform) InstallLink(shop Shop, clientID string) string {
	return p.AdminURL(shop) + "/store/" + shop.Handle() + "/oauth/install?" + url.Values{"client_id": {clientID}}.Encode()
}

// FrameAncestors returns the origins that may frame a page of the app, as the value of the
// frame-ancestors directive in a Content-Security-Policy. If the shop is "", they are those of every
// admin, for a page that shows nothing.
// https://shopify.dev/docs/apps/build/security/set-up-iframe-protection
func (p Platform) FrameAncestors(shop Shop) string {
	if shop == "" {
		admins := append(slices.Collect(maps.Values(p.Admins)), p.AdminURL(""))
		return strings.Join(admins, " ")
	}
	return p.ShopURL(shop) + " " + p.AdminURL(shop)
}

// AddBlock returns a link to the theme editor that adds one of the app's blocks to the
// home page. The merchant only has to save.
// https://shopify.dev/docs/apps/build/online-store/theme-app-extensions/configuration
func (p Platform) AddBlock(shop Shop, clientID, block string) string {
	return p.editor(shop, url.Values{
		"template": {"index"}, "addAppBlockId": {clientID + "/" + block}, "target": {"newAppsSection"},
	})
}

// TurnOnEmbed returns a link to the theme editor that turns on one of the app's embeds.
// The merchant only has to save.
func (p Platform) TurnOnEmbed(shop Shop, clientID, embed string) string {
	return p.editor(shop, url.Values{"context": {"apps"}, "activateAppId": {clientID + "/" + embed}})
}

func (p Platform) editor(shop Shop, query url.Values) string {
	return p.ShopURL(shop) + "/admin/themes/current/editor?" + query.Encode()
}

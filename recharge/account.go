package recharge

// This file makes links to Recharge's Unity portal, which is a page in the shopper's Shopify account.

import (
	"net/url"
	"slices"
	"strings"
)

// ParseAccountPage parses the address of Recharge's page in a store's customer accounts, as a merchant
// copies it from the editor or the browser, with or without a query. Its host must be Shopify's, the
// shop's, or accountHost, where the store's customers have their accounts. "" for accountHost means
// that it is not known, and allows any public host. The result does not end in a slash.
func ParseAccountPage(text, shop, accountHost string, app *url.URL) (*url.URL, error) {
	text, _, _ = strings.Cut(text, "#")
	text, _, _ = strings.Cut(text, "?")
	page, err := ParsePortalURL(text, app)
	if err != nil {
		return nil, errPortalURL
	}
	if hosts := []string{"shopify.com", shop, accountHost}; accountHost != "" && !slices.Contains(hosts, page.Host) {
		return nil, errPortalURL
	}
	page.Path = strings.TrimSuffix(page.Path, "/")
	return page, nil
}

// HasAccountPage reports whether the portal is in the Shopify account, so that AccountLink makes links.
func (c *Client) HasAccountPage() bool { return c.options.AccountPage != nil }

// AccountLink returns a link to Recharge's page in the shopper's own Shopify account, or to the page of
// Shopify's that Recharge shows the same on. It names no customer, and Shopify itself asks for a
// sign-in, so it is no secret and opens nobody else's portal.
func (c *Client) AccountLink(visit Visit) Link {
	target := *c.options.AccountPage
	pages := strings.LastIndex(target.Path, "/pages/")
	section := map[Destination]string{
		"schedule": "/orders", "orders": "/orders", "addresses": "/profile", "payment-methods": "/profile",
		"payment-method/update": "/profile",
	}[visit.To]
	if section != "" && pages >= 0 {
		target.Path = target.Path[:pages] + section
	}
	target.RawQuery = visit.query().Encode()
	return Link{URL: target.String()}
}

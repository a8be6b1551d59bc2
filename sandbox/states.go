package sandbox

import (
	"slices"

	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// state is a page that a click can end on, or one that shows an extension.
type state struct {
	Name    string // in addresses
	Label   string
	When    string
	outcome string // "" for another kind of page
	byEmail bool   // the portal is on the store's own host
	first   string // the way on that is a button; "" is to try again
	shopper string // ID of the signed-in shopper; "" for nobody
	path    string // of the store's own page
	own     *templates.OwnPage
	account *accountPage
	appHome string // path of a page of the app home
	admin   string // name of another page that merchants see
}

// isAdmin reports whether merchants see the page.
func (s state) isAdmin() bool { return s.appHome != "" || s.admin != "" }

func states() []state {
	return slices.Concat(storefrontStates(), linkStates(), otherStates(), accountStates(), adminStates())
}

// storefrontStates are the pages that a click in a store can end on.
func storefrontStates() []state {
	const pat, robin = "6100200300400", "6100200300500"
	return []state{
		{
			Name: "sign-in-failed", Label: "Sign-in failed", outcome: "sign_in_failed", byEmail: true,
			When: "The shopper comes back from the sign-in, and Shopify still does not say who it is.",
		}, {
			Name: "sign-in-failed-hosted", Label: "Sign-in failed, portal at Recharge", outcome: "sign_in_failed",
			When: "The same if Recharge hosts the portal: there is no way in by e-mail on the store.",
		}, {
			Name: "not-a-subscriber", Label: "Not a subscriber", outcome: "not_a_subscriber", shopper: robin, byEmail: true,
			When: "Recharge has no customer with this id. The shopper was signed in, or has just ordered.",
		}, {
			Name: "not-a-subscriber-signed-in", Label: "Not a subscriber, just signed in", outcome: "not_a_subscriber",
			When: "The same after the sign-in. It may have been the wrong account.", shopper: robin, byEmail: true,
			first: templates.WayOtherAccount,
		}, {
			Name: "not-a-subscriber-again", Label: "Not a subscriber, checked again", outcome: "not_a_subscriber",
			When: "The same after a click on “Check again”.", shopper: robin, byEmail: true, first: templates.WayByEmail,
		}, {
			Name: "not-a-subscriber-hosted", Label: "Not a subscriber, portal at Recharge", outcome: "not_a_subscriber",
			When: "The same if Recharge hosts the portal.", shopper: robin,
		}, {
			Name: "unavailable", Label: "Unavailable", outcome: "unavailable", shopper: pat, byEmail: true,
			When: "Recharge is down, and the shopper is not cached.",
		}, {
			Name: "unavailable-again", Label: "Unavailable, tried again", outcome: "unavailable", shopper: pat, byEmail: true,
			When:  "The same after a click on “Try again”, or if Recharge does not accept the store’s token.",
			first: templates.WayByEmail,
		}, {
			Name: "unavailable-hosted", Label: "Unavailable, portal at Recharge", outcome: "unavailable", shopper: pat,
			When: "The same if Recharge hosts the portal: there is no way in by e-mail on the store.",
		}, {
			Name: "not-connected", Label: "Not connected", outcome: "not_connected", shopper: pat,
			When: "The store has no Recharge credentials yet.",
		}, {
			Name: "forbidden", Label: "Forbidden", outcome: "forbidden", own: &templates.OwnPage{Storefront: true},
			When: "Shopify’s signature is missing, wrong or too old. This page is not in the theme.",
		},
	}
}

// linkStates are the pages behind the links of a headless storefront.
func linkStates() []state {
	return []state{
		{
			Name: "link-forbidden", Label: "Signed link, forbidden", outcome: "forbidden", own: &templates.OwnPage{},
			When: "A headless storefront’s link has no right signature, so the page cannot name the store.",
		}, {
			Name: "link-used", Label: "Signed link, used", outcome: "forbidden",
			When: "A headless storefront’s link was used before.", own: &templates.OwnPage{Reason: "used", Home: "/"},
		}, {
			Name: "link-expired", Label: "Signed link, expired", outcome: "forbidden",
			When: "A headless storefront’s link is too old.", own: &templates.OwnPage{Reason: "expired", Home: "/"},
		}, {
			Name: "link-not-a-subscriber", Label: "Signed link, not a subscriber", outcome: "not_a_subscriber",
			When: "A headless storefront’s customer has no subscription.", own: &templates.OwnPage{Home: "/"},
		}, {
			Name: "link-unavailable", Label: "Signed link, unavailable", outcome: "unavailable",
			When: "A headless storefront’s link cannot open: Recharge or Redis is down.", own: &templates.OwnPage{Home: "/"},
		}, {
			Name: "link-not-connected", Label: "Signed link, not connected", outcome: "not_connected",
			When: "A headless storefront has no Recharge credentials yet.", own: &templates.OwnPage{Home: "/"},
		},
	}
}

func otherStates() []state {
	return []state{
		{
			Name: "forward", Label: "Forwarding",
			When: "REDIRECT=page: seen for a moment, on the way to the portal. Here it stays.",
		}, {
			Name: "home", Label: "Home page", path: "/",
			When: "With the app block, if the theme has room for it, as you are signed in now.",
		}, {
			Name: "account", Label: "Account page", path: "/account",
			When: "With the link to the portal, as you are signed in now.",
		},
	}
}

// adminStates are the pages that a merchant can see.
func adminStates() []state {
	return []state{
		{
			Name: "app-home", Label: "App home", appHome: "/",
			When: "In the Shopify admin, as this store’s merchant sees it now.",
		}, {
			Name: "app-campaigns", Label: "App home, Campaigns", appHome: "/campaigns",
			When: "Links are made ahead of an e-mail.",
		}, {
			Name: "app-try", Label: "App home, Try it", appHome: "/try",
			When: "Shows where a customer’s click would lead.",
		}, {
			Name: "app-keys", Label: "App home, Keys", appHome: "/keys",
			When: "For the server of a headless storefront.",
		}, {
			Name: "app-settings", Label: "App home, Settings", appHome: "/settings",
			When: "What was detected, and can be changed.",
		}, {
			Name: "app-outage", Label: "App home, outage", admin: "outage",
			When: "Redis is down. The app home opens by itself once it is up again.",
		}, {
			Name: "app-token-refused", Label: "App home, not opened", admin: "token refused",
			When: "Shopify’s session token is not accepted, for example because the server’s clock is wrong.",
		}, {
			Name: "app-outside", Label: "Outside of the admin", admin: "outside",
			When: "Somebody opens the app’s own address in a browser.",
		},
	}
}

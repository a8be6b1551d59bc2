// Package shopifytest is a Shopify store to test an app against, in the manner of net/http/httptest. It has a
// home page, a sign-in page, an account page, and a proxy that forwards /apps/… to the app and signs requests
// as Shopify does. Two themes draw its pages, including what an app adds to a theme: Liquid pages, app blocks
// and app embeds. In its admin, apps are installed and opened.
//
//	shop := shopifytest.NewServer(shopifytest.Options{
//		Shop:     "sandbox-store.myshopify.com",
//		Shoppers: []shopifytest.Shopper{{ID: "1", Email: "ada@example.com", FirstName: "Ada"}},
//	})
//	defer shop.Close()
//	shop.AddApp(shopifytest.App{PathPrefix: "/apps/subscriptions", ProxyURL: appURL, Secret: "hush"})
//	// Get shop.URL + "/apps/subscriptions" and see what the app answers.
//
// It must never stand in for a real shop in production. There are no passwords, so anyone who can reach it can sign
// in as any shopper, and it signs any request with the app's own secret. Give it secrets made for the test, and
// listen on loopback. Each page says that the store is emulated, and every response carries "Server: shopifytest".
//
// # Routes
//
//	/                                     home page; its menu links to the first app without NoLink
//	/collections/all                      placeholder products
//	/account                              needs sign-in; a#manage-subscriptions links to that app (but see Themes)
//	/account/addresses                    needs sign-in
//	/account/logout                       signs out and redirects to the home page, with Accounts "legacy"
//	                                      to ?return_url=<relative>
//	/customer_authentication/login        Accounts "new": signs in on the account host and redirects to
//	                                      ?return_to=<relative>
//	/customer_authentication/callback     where the account host sends the shopper back, with a code that works once
//	/account/login                        Accounts "new": signs in and redirects to /account, whatever the query
//	                                      Accounts "legacy": signs in and redirects to ?return_url=<relative>
//	/cdn/extensions/assets/<file>         an asset of the theme app extension
//	<PathPrefix>, <PathPrefix>/…          the app
//	/admin                                the admin (see below), which needs no sign-in
//	/cdn/shopifycloud/<file>              an emulated app-bridge.js, polaris-1.js and polaris-2.js
//
// All but /customer_authentication/login, /admin and App Bridge are also served under a locale
// prefix such as /fr or /pt-br. A return path that is not relative is ignored, and the shopper ends
// up on /account. To sign in, a browser or a program posts a form to the sign-in page's own address
// with the fields customer (Shopper.ID) and return_to. Each button has data-shopper="<Shopper.ID>".
// A shopper who is already signed in is redirected at once. As a short cut for programs,
// /customer_authentication/login takes the form as well, and signs in to the storefront and to the account.
//
// # Customer accounts
//
// A store with Accounts "new" has an account host of its own, Server.AccountURL:
//
//	/authentication/oauth/authorize   the sign-in; redirects to ?redirect_uri=, which must be the storefront's callback,
//	                                  or to ?return_to=<relative> on the account host
//	/ /orders /profile                the account; a#menu-subscriptions is the app's link in the account's menu. The last
//	                                  two may have a block of another app, drawn by Options.AccountPage
//	/pages/<uuid>                     that app's full-page extension, drawn by Options.AccountPage; see
//	                                  Server.AccountPage (its address) and AccountOpenings. A path after it is handed on.
//	                                  locale and region_country are shown as main[data-locale] and main[data-country].
//	/logout                           signs out, on the storefront, too
//
// It has a session of its own. A shopper who signs in on the storefront has both sessions. One who signs in on the
// account host has a storefront session only after passing through /customer_authentication/login, which then asks
// nothing. Server.SetAccounts turns legacy accounts into current ones and back; shoppers keep their sessions.
//
// Faults.Bots refuses requests for pages of the store that come neither from a browser nor with the three headers
// of Web Bot Auth.
//
// # Themes
//
// "modern" is in the style of Online Store 2.0. It has sections, two of which take app blocks (under the hero
// of the home page, below the first card of the account page). Its buttons have the classes button and
// button--secondary. "classic" is in the style of older themes. It has an account menu in the header
// (details#account-menu), buttons with the classes btn and btn--secondary, and no place for app blocks. With legacy
// accounts its account page is a customers/account template, with a nav.account-nav that links to no app. An app
// embed may add to both menus. Otherwise /account stands in for Shopify's own account pages, and has
// a#manage-subscriptions. In both themes a#menu-subscriptions is the menu link that a merchant would set up,
// and a#account, a#sign-in and a#sign-out are the account links.
//
// The themes are responsive, follow the browser's preference for light or dark
// (?preview_scheme=light or dark overrides it, and sets data-scheme on <html>), and mirror for ar,
// fa, he and ur. Their own words stay English in every language and are marked with lang="en".
//
// # Theme app extensions
//
// Options.Extension is drawn for the blocks in Options.Blocks and Options.Embeds. The drawing supports block.id,
// block.settings (the merchant's values over the schema's defaults), block.shopify_attributes, app.metafields (not in
// snippets, because Shopify does not say whether they have it), the schema's stylesheet and javascript (once a page),
// and the targets section, body and head (head without a wrapper). Unlike apps' pages, extensions also have the tag
// render, which gives a snippet its arguments and the store's objects, and the filters t, asset_url, stylesheet_tag
// and script_tag. For each text, t looks into locales/<iso code>.json, then the language without region, then
// en.default.json. It escapes values put into a text unless the key ends in _html. A Liquid error replaces its block
// and is listed in Server.LiquidErrors. NewServer panics on a block that has no file or schema, the wrong target, or
// a setting that its schema lacks.
//
// Server.Draw draws an app's Liquid page without a request, for a gallery of states.
//
// # Admin
//
// Server.Register makes an app known as its developer configured it (PartnerApp), and the merchant
// may install it:
//
//	/admin                                    the apps: a[data-install], button[data-uninstall]
//	/admin/oauth/install?client_id=…          asks whether to install: button#install, then opens the app
//	/store/<handle>/oauth/install?client_id=… the same for links from outside; opens an installed app
//	/admin/apps/<client id>                   the app in a frame, iframe#app, loaded with embedded, shop, host, hmac,
//	                                          timestamp, session, locale (?locale=, or else en) and
//	                                          id_token (left out with ?first=bare or Faults.NoIDToken)
//	/admin/apps/<client id>/session-token     POST: a new session token for the page around the frame
//	/admin/apps/<client id>/graphql           POST: the same for the Admin API, see metafields.go
//	/admin/customers, /admin/webhooks         the shoppers, with privacy requests for each; deliveries
//	/admin/themes/current/editor              shows which block or embed a deep link asked for
//
// Server.SessionToken makes the tokens that App Bridge would get. The emulated App Bridge has idToken, a fetch that
// adds a token on the page's own origin and retries once after a 401 with X-Shopify-Retry-Invalid-Session-Request, and
// the bounce page's shopify-reload. A fetch of shopify:admin/api/graphql.json reads and writes the installation's
// metafields and reads the store's name, e-mail address, domain and time zone, which is Tokyo's, and nothing else. With
// Faults.NoDirectAPI it is answered 403, which is a guess. Its toast.show writes to the console.
// A form with data-save-bar has the admin's save bar while its fields are not as they were drawn. The links of
// s-app-nav are in nav#app-nav above the frame. A click on one dispatches shopify:navigate on the s-link, and
// loads the link in the frame unless the app prevents it. Both versions of the emulated Polaris draw s-page and
// s-section in one plain look.
//
// Installing an app makes its proxy path live. Uninstalling it removes the path and sends app/uninstalled.
// Redact, RequestData and RedactShop send the compliance topics. The app has 5 seconds to answer a webhook
// with a 2xx. Otherwise it is sent again up to 8 times in 4 hours with the same ID, see Options.WebhookRetry.
//
// # What the proxy does
//
// It forwards method, body and the browser's query, and appends shop, logged_in_customer_id, path_prefix, timestamp
// and signature. It adds X-Forwarded-Host and X-Forwarded-For and strips Cookie and Authorization from the request
// (Shopify documents the first; the second reportedly does not arrive reliably). It strips the documented disallowed
// headers from the response. A 3xx goes to the browser, unfollowed, with Location unchanged. "application/liquid" is
// rendered inside the theme, unless it says {% layout none %}. Other types are returned unchanged. A 5xx is replaced
// by the themed "There was an error in the third-party application" page with the same status. So is the answer of an
// app that cannot be reached (502) or is slower than Options.Timeout (504).
//
// # What it does not emulate
//
// Shopify does not document some of its proxy's behaviour. The emulator picks one way; a real store may differ:
//
//   - Reserved names (shop=, signature=, …) that the browser sends are passed on and Shopify's own are appended.
//     Shopify may drop or overwrite them.
//   - A 3xx is passed on. Shopify's text can also be read as "followed by Shopify".
//   - path_prefix never includes the locale prefix.
//   - A HEAD is forwarded as a HEAD. Nothing is retried or cached. An answer is limited to 16 MiB and
//     read whole, never streamed.
//   - Sign-in ignores a bad return path; a real shop may show an error.
//   - The pauses between a webhook's retries get longer; only the number of retries and the four hours are documented.
//     Uninstalling the app does not end them. Redact, RequestData and RedactShop send at once, also to apps that are
//     not installed.
//   - The admin is on the store's own host, below /admin, and host is its address and "/admin" in base64.
//   - The account host is another port of the storefront's host, over http, so browsers send it the
//     storefront's cookies, too. Its pages are at its root, as on https://account.brand.example. At
//     https://shopify.com/<shop id> they are below /account.
//   - /account of a store with current accounts stays on the storefront, where it stands in for the account's home.
//     Shopify redirects it to the account host.
//   - state of /authentication/oauth/authorize is the way back in the clear. There is no PKCE, no nonce, no token, and
//     a code does not expire. What Shopify does with sessions when a store's accounts change is not known.
//   - Faults.Bots refuses every unsigned bot at once, never the proxy. Shopify limits rates, counts what it does not
//     tell, checks signatures, and says nothing about proxied paths.
//
// It also leaves out, among other things: TLS; the password page; rate limits; checkout, cart, products and
// search; the rest of the Admin API and the authorization code grant, staff and their permissions, billing, the
// rest of Polaris and App Bridge; webhooks of other topics; token exchange; the Customer Account API and
// extensions of the app's own in the account, routes.account_url as /customer_authentication/redirect, one-time
// codes, multipass and sign-in with Shop; markets and currencies; Shopify's own security headers.
//
// Liquid is github.com/osteele/liquid with the objects shop, customer, request, routes and localization (country and
// language only). Added are md5, sha256, comparison with blank, inline comments, doc, outputs of several lines, named
// arguments of filters, and an error for {{ or {% that is never closed. Missing are most of Shopify's filters (money,
// image_url, …), the tags liquid, echo, form, section and include, render with "with" or "for", "or" in when,
// allow_false of default, and theme settings. An app's page has no t, asset_url or render, since they would be the
// theme's. There request.page_type is nil, because Shopify does not document it. A Liquid error in an app's page is
// answered with a 500 page that shows its text, so that a test sees it. A real store may print it in the page.
//
// Of theme app extensions it leaves out: enabled_on, disabled_on and available_if; the schema's class and
// tag; the target compliance_head; plural forms and dates in t; "t:" in a setting's default; resource
// settings such as product, which keep the value from Options; Shopify's limits; the theme editor
// (request.design_mode is false). An error replaces the whole block, while Shopify carries on after it. A
// snippet cannot see block, which it may at Shopify. Extensions are also drawn on /account where it stands in
// for Shopify's own account pages, which no theme app extension reaches. Assets are on the store's own host.
package shopifytest

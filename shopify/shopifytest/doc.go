// Package shopifytest is a Shopify store to test an app against, in the manner of net/http/httptest: a home page, a
// sign-in page, an account page, and a proxy that forwards /apps/… to the app, signed as Shopify signs. Two themes
// draw its pages, and in them what an app adds to a theme: Liquid pages, app blocks and app embeds. It has an
// admin, where apps are installed and opened.
//
//	shop := shopifytest.NewServer(shopifytest.Options{
//		Shop:     "sandbox-store.myshopify.com",
//		Shoppers: []shopifytest.Shopper{{ID: "1", Email: "ada@example.com", FirstName: "Ada"}},
//	})
//	defer shop.Close()
//	shop.AddApp(shopifytest.App{PathPrefix: "/apps/subscriptions", ProxyURL: appURL, Secret: "hush"})
//	// Get shop.URL + "/apps/subscriptions" and see what the app answers.
//
// It must never stand in for a real shop in production. There are no passwords: whoever reaches it signs in as any
// shopper, and it signs whatever it is asked for with the app's own secret. Give it secrets made for the test, and
// listen on loopback. Each page says that the store is emulated and every answer carries "Server: shopifytest".
//
// # Routes
//
//	/                                     home page, its menu links to the first app without NoLink
//	/collections/all                      placeholder products
//	/account                              needs sign-in; a#manage-subscriptions links to that app, but see Themes
//	/account/addresses                    needs sign-in
//	/account/logout                       signs out, then the home page
//	/customer_authentication/login        Accounts "new": signs in, then ?return_to=<relative>
//	/account/login                        Accounts "new": signs in, then /account, whatever the query asks for
//	                                      Accounts "legacy": signs in, then ?return_url=<relative>
//	/cdn/extensions/assets/<file>         an asset of the theme app extension
//	<PathPrefix>, <PathPrefix>/…          the app
//	/admin                                the admin, see below; it needs no sign-in
//	/cdn/shopifycloud/app-bridge.js       an emulated App Bridge
//
// All but /customer_authentication/login, /admin and App Bridge are also served under a locale prefix such as /fr
// or /pt-br. A return path that is not relative is ignored: the shopper ends on /account. Signing in is a form POST
// to the sign-in page's own address with the fields customer (Shopper.ID) and return_to, which a program can send
// as well as a browser; each button has data-shopper="<Shopper.ID>". A shopper who is already signed in is sent
// straight on.
//
// # Themes
//
// "modern" is in the style of Online Store 2.0: sections, two of which take app blocks (under the hero of the home
// page, below the first card of the account page). Its buttons have the classes button and button--secondary.
// "classic" is in the style of the themes before: no place for app blocks, an account menu in the header
// (details#account-menu), and buttons with the classes btn and btn--secondary. With legacy accounts its account
// page is a customers/account template, with a nav.account-nav that knows no app; an app embed may add to both
// menus. Otherwise /account stands for Shopify's own account pages, and has a#manage-subscriptions. In both themes
// a#menu-subscriptions is the menu link that a merchant would set up, and a#account, a#sign-in and a#sign-out are
// the account links.
//
// The themes are responsive, follow the browser's preference for light or dark (?preview_scheme=light or dark forces
// one, and data-scheme on <html> says so), and mirror for ar, fa, he and ur. Their own words stay English in every
// language, marked with lang="en".
//
// # Theme app extensions
//
// Options.Extension is drawn for the blocks in Options.Blocks and Options.Embeds, with block.id, block.settings (the
// merchant's values over the schema's defaults) and block.shopify_attributes; the schema's stylesheet and javascript,
// once a page; the targets section, body and head (the last without a wrapper). Beyond what apps' pages have,
// extensions have the tag render, which gives a snippet its arguments and the store's objects, and the filters t,
// asset_url, stylesheet_tag and script_tag. t looks into locales/<iso code>.json, then that of the language without
// region, then en.default.json, text by text; values put into a text are escaped unless the key ends in _html. A
// Liquid error stands in place of its block, and in Server.LiquidErrors. NewServer panics at what is bound to fail:
// a block without file or schema, with the wrong target, or with a setting that its schema does not have.
//
// Server.Draw draws an app's Liquid page without any request, for a gallery of states.
//
// # Admin
//
// Server.Register makes an app known as its developer has configured it (PartnerApp), and the merchant may install
// it:
//
//	/admin                                    the apps: a[data-install], button[data-uninstall]
//	/admin/oauth/install?client_id=…          asks whether to install: button#install. Then the app opens
//	/store/<handle>/oauth/install?client_id=… the same, for links from outside: an app that is installed is opened
//	/admin/apps/<client id>                   the app in a frame, iframe#app, loaded with embedded, shop, host, hmac,
//	                                          timestamp, locale, session and id_token; without id_token by
//	                                          ?first=bare or Faults.NoIDToken
//	/admin/apps/<client id>/session-token     POST: a fresh session token, for the page around the frame
//	/admin/customers, /admin/webhooks         the shoppers, whose data can be asked for or erased; deliveries
//	/admin/themes/current/editor              says which block or embed a deep link has asked for
//
// Server.SessionToken makes the tokens that App Bridge would get. The emulated App Bridge has idToken, a fetch that
// sends a token to the page's own origin and asks once more after a 401 with
// X-Shopify-Retry-Invalid-Session-Request, and the bounce page's shopify-reload; toast.show writes to the console.
//
// Installing makes the app's proxy path live, uninstalling removes it and sends app/uninstalled. Redact,
// RequestData and RedactShop send the compliance topics. A webhook has 5 seconds to be answered by 2xx, and is sent
// again 8 times in 4 hours with the same id, see Options.WebhookRetry.
//
// # What the proxy does
//
// It forwards method, body and the browser's query, and appends shop, logged_in_customer_id, path_prefix, timestamp
// and signature. It adds X-Forwarded-Host and X-Forwarded-For and strips Cookie and Authorization from the request
// (Shopify documents the first; the second is reported not to arrive reliably). It strips the documented disallowed
// headers from the response. A 3xx goes to the browser, unfollowed, with Location unchanged. "application/liquid"
// is rendered inside the theme, unless it says {% layout none %}; anything else is returned as it is. A 5xx is
// replaced by the themed "There was an error in the third-party application" page with the same status; so are an
// app that cannot be reached (502) and one slower than Options.Timeout (504).
//
// # What it does not emulate
//
// Shopify does not document some of its proxy's behaviour. One answer was chosen here; a real store may give another:
//
//   - Reserved names (shop=, signature=, …) that the browser sends are passed on and Shopify's own are appended.
//     Shopify may drop or overwrite them.
//   - A 3xx is handed on. Shopify's text can also be read as "followed by Shopify".
//   - path_prefix never holds the locale prefix.
//   - A HEAD is forwarded as a HEAD. Nothing is retried or cached; an answer is limited to 16 MiB, read
//     whole, never streamed.
//   - Sign-in ignores a bad return path; a real shop may show an error.
//   - The retries of a webhook come ever less often; only their number and the four hours are documented. None is
//     given up when the app is uninstalled, and Redact, RequestData and RedactShop reach apps that are not
//     installed, at once.
//   - The admin is on the store's own host, below /admin, and host is its address and "/admin" in base64.
//
// And it leaves out, among others: TLS; the password page; bot protection and rate limits; checkout, cart, products
// and search; the Admin API and the authorization code grant, staff and their permissions, billing, Polaris and all
// else of App Bridge; webhooks of other topics; token exchange; the separate account domain of current customer
// accounts and its session (here sign-in is one page and one cookie, though Faults.ForgetShopper shows the best-known
// effect), routes.account_url as /customer_authentication/redirect, one-time codes and multipass; markets and
// currencies; Shopify's own security headers.
//
// Liquid is github.com/osteele/liquid with the objects shop, customer, request and routes. Added are md5, sha256,
// comparison with blank, inline comments, doc, outputs of several lines, named arguments of filters, and an error
// for {{ or {% that is never closed. Missing are most of Shopify's filters (money, image_url, …), the tags liquid,
// echo, form, section and include, render with "with" or "for", "or" in when, allow_false of default, and theme
// settings. An app's page has no t, asset_url and render: they would be the theme's. request.page_type is nil
// there, for lack of documentation. A Liquid error in an app's page is answered by a 500 page with its text, so
// that a test sees it; a real store may print it in the page.
//
// Of theme app extensions it leaves out: enabled_on, disabled_on and available_if; the schema's class and tag; the
// target compliance_head; plural forms and dates in t; "t:" in a setting's default; resource settings such as
// product, which stay what Options gives; Shopify's limits; the theme editor (request.design_mode is false). An
// error costs the whole block, where Shopify goes on after it. A snippet does not see block, which it may at
// Shopify. Extensions are drawn on /account also where it stands for Shopify's own account pages, which no theme
// app extension reaches. Assets are on the store's own host.
package shopifytest

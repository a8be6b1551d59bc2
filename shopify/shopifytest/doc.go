// Package shopifytest is a Shopify storefront to test an app proxy against, in the manner of net/http/httptest: a home
// page, a sign-in page, an account page, and a proxy that forwards /apps/… to the app, signed as Shopify signs.
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
//	/                                     home page, its menu links to the first app
//	/collections/all                      placeholder products
//	/account                              needs sign-in; a#manage-subscriptions links to the first app
//	/account/logout                       signs out, then the home page
//	/customer_authentication/login        Accounts "new": signs in, then ?return_to=<relative>
//	/account/login                        Accounts "new": signs in, then /account, whatever the query asks for
//	                                      Accounts "legacy": signs in, then ?return_url=<relative>
//	<PathPrefix>, <PathPrefix>/…          the app
//
// All but /customer_authentication/login are also served under a locale prefix such as /fr or /pt-br. A return path that
// is not relative is ignored: the shopper ends on /account. Signing in is a form POST to the sign-in page's own address
// with the fields customer (Shopper.ID) and return_to, which a program can send as well as a browser; each button has
// data-shopper="<Shopper.ID>". A shopper who is already signed in is sent straight on.
//
// # What the proxy does
//
// It forwards method, body and the browser's query, and appends shop, logged_in_customer_id, path_prefix, timestamp and
// signature. It adds X-Forwarded-Host and X-Forwarded-For and strips Cookie and Authorization from the request (Shopify
// documents the first; the second is reported not to arrive reliably). It strips the documented disallowed headers from
// the response. A 3xx goes to the browser, unfollowed, with Location unchanged. "application/liquid" is rendered inside
// the theme, unless it says {% layout none %}; anything else is returned as it is. A 5xx is replaced by the themed
// "There was an error in the third-party application" page with the same status; so are an app that cannot be reached
// (502) and one slower than Options.Timeout (504).
//
// # What it does not emulate
//
// Shopify does not document some of its proxy's behaviour. One answer was chosen here; a real store may give another:
//
//   - Reserved names (shop=, signature=, …) that the browser sends are passed on and Shopify's own are appended. Shopify
//     may drop or overwrite them.
//   - A 3xx is handed on. Shopify's text can also be read as "followed by Shopify".
//   - path_prefix never holds the locale prefix.
//   - A HEAD is forwarded as a HEAD. Nothing is retried or cached; an answer is limited to 16 MiB, read
//     whole, never streamed.
//   - Sign-in ignores a bad return path; a real shop may show an error.
//
// And it leaves out, among others: TLS; the password page; bot protection and rate limits; checkout, cart, products and
// search; the Admin API, the admin, OAuth, session tokens and webhooks; the separate account domain of current customer
// accounts and its session (here sign-in is one page and one cookie, though Faults.ForgetShopper shows the best-known
// effect), routes.account_url as /customer_authentication/redirect, one-time codes and multipass; markets and
// currencies; Shopify's own security headers. Liquid is github.com/osteele/liquid with the objects shop, customer,
// request and routes only: no Shopify filters (t, money, asset_url, …), no tags form, render, section, include, liquid
// or echo, no inline comments, no theme settings, and blank is just nil, not "". A Liquid error is answered by a 500
// page with its text, so that a test sees it; a real store may print it in the page.
package shopifytest

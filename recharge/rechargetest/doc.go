// Package rechargetest is a Recharge to test against: an HTTP server on loopback, in the manner
// of net/http/httptest, that answers the few calls of Recharge's API that lead a shopper into the
// customer portal, and a portal that opens only for whom it should. Unit tests, end-to-end tests,
// browser tests and the sandbox use it.
//
//	srv := rechargetest.NewServer(rechargetest.Options{
//		Shop:      "example.myshopify.com",
//		Tokens:    []rechargetest.Token{{Value: "admin", Scopes: []string{"read_customers", "write_session"}}},
//		Customers: []rechargetest.Customer{{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400"}},
//	})
//	defer srv.Close()
//	// Call srv.URL as if it were https://api.rechargeapps.com, then look at srv.Requests() and srv.Openings().
//
// It must never stand in for Recharge in production: it keeps everything in memory, speaks plain
// HTTP, hands whatever it was told to whoever holds a token, remembers credentials in its
// histories, and misbehaves on demand ([Faults]).
//
// # What it emulates
//
// Version 2021-11 of:
//
//	GET  /customers                 filters external_customer_id, email, hash, ids; limit and cursor
//	GET  /customers/{id}
//	POST /customers/{id}/sessions   a session token: an RS256 JWT that lives for [SessionLife]
//	GET  /portal_access             by session token: a portal link that lives for [LinkLife]
//	GET  /token_information
//	GET  /store
//	     /webhooks                  GET and POST /webhooks, GET, PUT and DELETE /webhooks/{id}, POST /webhooks/{id}/test
//
// deliveries of webhooks ([Server.ChangeCustomer], [Server.DeleteCustomer],
// [Server.UninstallApp], [Server.Send]) with both signatures, 5 seconds to answer, 20 tries in 48
// hours, and then the webhook deleted; one address for several stores, where the token tells
// which ([Together]); the leaky bucket of each Admin API token with its X-Recharge-Limit header,
// and two portals: one hosted by Recharge, under /portal/, and the one that a Shopify store
// proxies for its path /tools/recurring, under /proxy/.
//
// # What it does not emulate
//
//   - Any other endpoint, and version 2021-01: the first is 404, the second 426.
//   - Writes to customers, subscriptions, orders by the API. Webhooks of other topics than a
//     customer's and Recharge's own are sent only by [Server.Send]; included_objects is remembered
//     and not looked at. Nobody is mailed when a webhook is deleted.
//   - The query parameters include, sort_by, page and the date filters: they are ignored, as Recharge
//     ignores unknown ones.
//   - A customer's order by any key: customers come as they were given. A cursor is a position in that list.
//   - TLS, CORS, compression, request ids, and the headers that Recharge's gateway adds.
//   - Recharge's own sign-in: the closed portal page shows a form for an e-mail address that does nothing.
//   - Recharge's pages, names and looks: the portal is plainly another site, and no page of it changes anything.
//   - The rate limit of the portal, of sign-ins and of whole stores. Two-factor challenges (423) come
//     only by [Faults].Status.
//
// # What is guessed
//
// No shape here was compared with a live store. Known from Recharge's documents, its own code or
// recorded answers: paths, headers, field names, statuses, the bodies for 401, 404, 409, 422 and
// 429, the bucket of 40 leaking 2 a second, the lifetimes, and that a hash alone no longer opens
// the portal. Guessed, so that a client should not lean on them:
//
//   - that external_customer_id filters at all ([Faults].IgnoreFilter is the other report); that an
//     empty filter is none;
//   - apiToken (or api_token: [Faults].SnakeCaseSession); the zone of expires_at ([Faults].ZonedExpiry);
//   - that sessions work without a storefront token when [Options].StorefrontToken is empty, and 401
//     if it is set but not sent;
//   - that portal_access refuses an Admin API token, answers 422 for another shop, needs no
//     X-Recharge-App header, and shows its locale in the portal link;
//   - the order of the checks (token, path, method, scope, version, content type) and the bodies of
//     400, 402, 403, 405, 415, 423, 426, 500, 501 and 503;
//   - that a limit above 250, or a parameter beside cursor and limit, is 422;
//   - that calls by session token count against the bucket of the Admin API token which made the
//     session, that refused calls fill no bucket, and that a call without a known token gets no
//     X-Recharge-Limit;
//   - that the access link asks for an e-mail address when the store, after signing in, still names nobody;
//   - how the 20 tries spread over 48 hours; that a 4xx other than 408 and 429 is taken for an
//     answer; that X-Recharge-Topic is sent ([Faults].NoTopicHeader); the body of
//     recharge/uninstalled; that registering needs read_customers, whatever the topic;
//   - that a token which is revoked, or whose store has uninstalled Recharge, gets 401;
//   - the answer of the closed portal (200), of the proxied portal to somebody else's login (closed), and the values of
//     customer_portal_base_url and merchant_portal_base_url in /store.
package rechargetest

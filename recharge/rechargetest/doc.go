// Package rechargetest emulates Recharge for tests: an HTTP server on loopback, in the manner of net/http/httptest,
// that answers the few API calls that lead a shopper into the customer portal, and a portal that opens only for the
// right customer. Unit tests, end-to-end tests, browser tests and the sandbox use it.
//
//	srv := rechargetest.NewServer(rechargetest.Options{
//		Shop:      "example.myshopify.com",
//		Tokens:    []rechargetest.Token{{Value: "admin", Scopes: []string{"read_customers", "write_session"}}},
//		Customers: []rechargetest.Customer{{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400"}},
//	})
//	defer srv.Close()
//	// Call srv.URL as if it were https://api.rechargeapps.com, then look at srv.Requests() and srv.Openings().
//
// Never use it in place of Recharge in production. It keeps everything in memory, speaks plain HTTP, gives all it has
// to anyone with a token, keeps credentials in its histories, and misbehaves on demand ([Faults]).
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
//	GET  /charges                   the queued ones ([Customer].NextCharge); status, sort_by, limit and cursor
//	     /webhooks                  GET and POST /webhooks, GET, PUT and DELETE /webhooks/{id}, POST /webhooks/{id}/test
//
// It also emulates:
//
//   - deliveries of webhooks ([Server.ChangeCustomer], [Server.DeleteCustomer], [Server.UpcomingCharge],
//     [Server.UninstallApp], [Server.Send]) with both signatures, 5 seconds to answer and 20 tries in 48 hours, after
//     which the webhook is deleted;
//   - one address for several stores, told apart by the token ([Together]);
//   - the leaky bucket of each Admin API token with its X-Recharge-Limit header;
//   - two portals: the one that Recharge hosts, under /portal/, and the one that a Shopify store proxies for its path
//     /tools/recurring, under /proxy/; a merchant may move between them ([Server.MovePortal]);
//   - Unity ([Server.SetUnity]), the portal inside the Shopify account: [Server.AccountPage] is what Recharge's full
//     page and its blocks show there, portal access is refused, and the two portals only say where the new one is.
//
// It counts the visits that each portal token opens ([Server.TokenUses]). A visit begins with the first page that a
// browser opens by the token. A cookie then marks that browser, so following the portal's links, which all carry the
// token, or opening it again there is the same visit. An HTTP client without cookies begins a visit with each page. So
// does a browser in the portal on a storefront, since Shopify lets no cookie through: with [Faults].OneVisit, the
// next page of a visit there opens because the shopper is signed in to the store.
//
// # What it does not emulate
//
//   - Other endpoints and version 2021-01, which get 404 and 426.
//   - Writes to customers, subscriptions and orders through the API. Webhooks on topics other than customers,
//     upcoming charges and Recharge itself are sent only by [Server.Send]; included_objects is stored but ignored.
//     Nobody is mailed when a webhook is deleted.
//   - The query parameters include, page, the date filters, and sort_by beside scheduled_at-asc. They are ignored, as
//     Recharge ignores unknown ones.
//   - Sorting. Customers are listed in the order given. A cursor is a position in that list.
//   - TLS, CORS, compression, request ids, and the headers that Recharge's gateway adds.
//   - What Unity shows in each of its places in the account: each lists the subscriptions. A path after the address of
//     its page is recorded and shown, and changes nothing. Credits are missing.
//   - Recharge's own sign-in. The closed portal page shows a form for an e-mail address that does nothing.
//   - Recharge's pages, names and looks. The portal is clearly another site, and none of its pages changes anything.
//   - The rate limits of the portal, of sign-ins and of whole stores. Two-factor challenges (423) come only from
//     [Faults].Status.
//
// # What is guessed
//
// No shape here was compared with a live store. Known from Recharge's documents, its own code or recorded answers:
// paths, headers, field names, statuses, the bodies for 401, 404, 409, 422 and 429, the bucket of 40 leaking 2 a
// second, the lifetimes, and that a hash alone does not open the portal. Clients should not rely on the following
// guesses:
//
//   - external_customer_id filters at all (other reports say that it does not: [Faults].IgnoreFilter), and an empty
//     filter is ignored;
//   - apiToken (or api_token: [Faults].SnakeCaseSession); the zone of expires_at ([Faults].ZonedExpiry);
//   - sessions work without a storefront token if [Options].StorefrontToken is empty, and get 401 if it is set but not
//     sent;
//   - portal_access refuses an Admin API token, answers 422 for another shop, needs no X-Recharge-App header, and
//     shows its locale in the portal link;
//   - portal_access gets 404 on a store with Unity ([Faults].UnityAccess: 403, 422, or a link that opens nothing),
//     sessions work as before, hosted and proxied pages say that the portal is in the account, and a store that leaves
//     Unity has no page in the account; where a portal has moved from, every address gets 404;
//   - the order of the checks (token, path, method, scope, version, content type) and the bodies of 400, 402, 403,
//     405, 415, 423, 426, 500, 501 and 503;
//   - a limit above 250, or a parameter beside cursor and limit, gets 422;
//   - calls by session token count against the bucket of the Admin API token that made the session, refused calls fill
//     no bucket, and a call without a known token gets no X-Recharge-Limit;
//   - the access link asks for an e-mail address if the store still names nobody after the sign-in;
//   - how the 20 tries spread over 48 hours; that a 4xx other than 408 and 429 counts as an answer; that
//     X-Recharge-Topic is sent ([Faults].NoTopicHeader); the body of a test delivery, that it comes at once and is
//     signed like any other ([Faults].NoTests: none can be had); the body of recharge/uninstalled; that registering
//     needs read_customers, whatever the topic, and read_orders for charge/upcoming as well;
//   - charges need read_orders or read_charges (each is in somebody's documents), scheduled_at is a day without a
//     time, and a customer has at most one queued charge;
//   - a token that was revoked, or whose store has uninstalled Recharge, gets 401;
//   - the answer of the closed portal (200), of the proxied portal to another customer (closed), and the values of
//     customer_portal_base_url and merchant_portal_base_url in /store.
package rechargetest

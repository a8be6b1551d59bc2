// Package handlers answers requests, one file a route. A handler reads the
// request, asks, and answers; what went wrong becomes an answer in one place.
package handlers

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// returned marks a click that comes back from the sign-in, so that it is sent
// there once and not for ever.
const returned = "ms_returned"

// Portal answers the app proxy's route: a click on Manage Subscriptions.
type Portal struct {
	Verifier       *shopify.Verifier
	Resolver       *portal.Resolver
	Recorder       *portal.Recorder
	Pages          *templates.Pages
	LegacyAccounts bool // of a shop of which it is not known: sign in at /account/login
	ByPage         bool // forward by a page instead of a 302
	Now            func() time.Time
}

// Register adds the route. Both forms of the path are there, because a redirect
// from one to the other would put Shopify's signature into the address bar.
func (p *Portal) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/", "/apps/subscriptions/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

// handle decides a click, answers it and records it. HEAD is no click: nobody waits for
// the portal. It is answered by what is cached.
func (p *Portal) handle(c echo.Context) error {
	click := clickRequest{id: requestID(), head: c.Request().Method == http.MethodHead}
	trace := portal.NewTrace(p.Now)
	start := trace.Now()
	result := p.resolve(c, &click, trace)
	err := p.answer(c, click, result)
	if !click.head {
		p.Recorder.Record(c.Request().Context(), clicked(click.id, click.who.Shop, portal.FromStorefront, start, trace, result))
	}
	return err
}

// clicked is what there is to record of a click.
func clicked(id string, shop shopify.Shop, channel portal.Channel, start time.Time, trace *portal.Trace, result portal.Result) portal.Click {
	return portal.Click{
		RequestID: id, Shop: shop, Channel: channel, Outcome: result.Outcome, Source: result.Source,
		Start: start, Took: trace.Now().Sub(start), Steps: trace.Steps(), Calls: result.Calls, Cause: result.Cause,
		Level: portal.Level(result.Outcome, result.Cause), Counted: result.Merchant != nil,
	}
}

// resolve reads what is asked and decides it.
func (p *Portal) resolve(c echo.Context, click *clickRequest, trace *portal.Trace) (result portal.Result) {
	defer portal.Recover(&result)
	start := trace.Now()
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, c.Param("*"))
	trace.End(portal.StepVerify, start, err)
	if err == nil && p.ByPage && !navigates(c.Request().Header) {
		err = errNoNavigation
	}
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}
	}
	click.read(request)
	result = p.Resolver.Resolve(c.Request().Context(), portal.Request{Shopper: click.who, Visit: click.visit, CacheOnly: click.head}, trace)
	if result.Outcome == portal.SignIn && click.returned {
		result.Outcome = portal.SignInFailed
	}
	return result
}

var errNoNavigation = errors.New("a script or a frame asks, not the shopper")

// navigates tells that the browser is on its way to another page, as far as it
// says. A page that forwards is the store's own, so that any of the store's
// scripts could read the portal's address in it. A visit that the store's
// service worker passes on has no destination any more. No script of a page can
// ask in that mode; the worker itself could read the answer, and to refuse it
// would be a dead end for every shopper of that store.
func navigates(header http.Header) bool {
	mode, destination := header.Get("Sec-Fetch-Mode"), header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (destination == "" || destination == "document" || mode == "navigate" && destination == "empty")
}

// clickRequest is what a verified request asks for.
type clickRequest struct {
	id       string // the request's
	head     bool
	who      store.Shopper
	visit    recharge.Visit
	prefix   string // of the app on the storefront
	deeper   bool   // a destination stands behind it
	returned bool   // from the sign-in
}

func (r *clickRequest) read(request shopify.ProxyRequest) {
	r.who = store.Shopper{Shop: request.Shop, Customer: request.Customer}
	r.visit = recharge.Visit{
		To:      recharge.ParseDestination(request.Destination),
		Locale:  recharge.ParseLocale(request.Query.Get("locale")),
		Country: recharge.ParseCountry(request.Query.Get("country")),
	}
	r.returned = request.Query.Has(returned)
	r.prefix, r.deeper = request.PathPrefix, request.Destination != ""
}

// path is this page on the storefront, and back the same, marked as returned from the
// sign-in.
func (r *clickRequest) path() string { return r.pathWith(url.Values{}) }
func (r *clickRequest) back() string { return r.pathWith(url.Values{returned: {"1"}}) }

func (r *clickRequest) pathWith(query url.Values) string {
	path := r.prefix
	if r.deeper {
		path += "/" + string(r.visit.To)
	}
	if r.visit.Locale != "" {
		query.Set("locale", string(r.visit.Locale))
	}
	if r.visit.Country != "" {
		query.Set("country", string(r.visit.Country))
	}
	return withQuery(path, query)
}

func withQuery(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// signIn is the storefront's sign-in page, on its own host, up to the path that
// it returns to. Shopify takes only relative ones.
// https://shopify.dev/docs/storefronts/themes/login
func (p *Portal) signIn(merchant *portal.Merchant) string {
	if merchant == nil && p.LegacyAccounts || merchant != nil && merchant.LegacyAccounts {
		return "/account/login?return_url="
	}
	return "/customer_authentication/login?return_to="
}

// requestID is short enough to be read out on the telephone. It is never taken
// from the request, which could write into the log with it.
func requestID() string { return strings.ToLower(rand.Text()[:10]) }

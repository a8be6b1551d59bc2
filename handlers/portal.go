// Package handlers answers HTTP requests, one file for each route. A handler reads a request, lets
// another package decide, and answers. answer.go turns the results of clicks into answers.
package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// returned marks a click that comes back from the sign-in page, so that it is not sent there in a
// loop.
const returned = "ms_returned"

// Portal answers a click on Manage Subscriptions, which Shopify's app proxy passes on.
type Portal struct {
	Verifier       *shopify.Verifier
	Resolver       *portal.Resolver
	Recorder       *portal.Recorder
	Pages          *templates.Pages
	LegacyAccounts bool // sign in at /account/login if the shop's setting is unknown
	ByPage         bool // forward with a page instead of a 302
	Now            func() time.Time
}

// Register adds the route with and without a trailing slash, because a redirect from one to the
// other would put Shopify's signature into the address bar.
func (p *Portal) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/", "/apps/subscriptions/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

// handle resolves a click, answers it and records it. A HEAD request opens no portal, so only the
// cache answers it.
func (p *Portal) handle(c echo.Context) error {
	click := begin(portal.FromStorefront, p.Now, p.Pages)
	click.head, click.legacy, click.byPage = c.Request().Method == http.MethodHead, p.LegacyAccounts, p.ByPage
	return click.finish(c, p.Recorder, p.resolve(c, click))
}

// resolve reads the request and resolves it.
func (p *Portal) resolve(c echo.Context, click *clickRequest) (result portal.Result) {
	defer portal.Recover(&result)
	start := click.trace.Now()
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, c.Param("*"))
	click.trace.End(portal.StepVerify, start, err)
	if err == nil && p.ByPage && !navigates(c.Request().Header) {
		err = errNoNavigation
	}
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}
	}
	click.read(request)
	asked := portal.Request{Shopper: click.who, Visit: click.visit, CacheOnly: click.head}
	result = p.Resolver.Resolve(c.Request().Context(), asked, click.trace)
	if result.Outcome == portal.SignIn && click.returned {
		result.Outcome = portal.SignInFailed
	}
	return result
}

var errNoNavigation = errors.New("a script or a frame asks, not the shopper")

// navigates reports whether the browser says that it is opening a page. The page that forwards has
// the store's origin, so any of the store's scripts could otherwise read the portal's address in
// it. A navigation through the store's service worker has no destination, but page scripts cannot
// send its mode. The worker could read the answer, but refusing it would lock out all shoppers of
// that store.
func navigates(header http.Header) bool {
	mode, destination := header.Get("Sec-Fetch-Mode"), header.Get("Sec-Fetch-Dest")
	switch destination {
	case "", "document":
		return mode == "" || mode == "navigate"
	case "empty":
		return mode == "navigate"
	}
	return false
}

func (r *clickRequest) read(request shopify.ProxyRequest) {
	r.shop = request.Shop
	r.who = store.Shopper{Shop: request.Shop, Customer: request.Customer}
	r.visit = recharge.Visit{
		To:      recharge.ParseDestination(request.Destination),
		Locale:  recharge.ParseLocale(request.Query.Get("locale")),
		Country: recharge.ParseCountry(request.Query.Get("country")),
	}
	r.returned = request.Query.Has(returned)
	r.prefix, r.deeper = request.PathPrefix, request.Destination != ""
}

// path returns this page's path on the storefront. back returns it marked as coming back from the
// sign-in page.
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
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// signIn returns the path of the storefront's sign-in page, up to the value of its return
// parameter. Shopify accepts only relative paths there.
// https://shopify.dev/docs/storefronts/themes/login
func (r *clickRequest) signIn(merchant *portal.Merchant) string {
	if merchant == nil && r.legacy || merchant != nil && merchant.LegacyAccounts {
		return "/account/login?return_url="
	}
	return "/customer_authentication/login?return_to="
}

// Package handlers answers HTTP requests, one file for each route. A handler reads a request, lets
// another package decide, and answers. answer.go turns the results of clicks into answers.
package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// returned marks a click that comes back from the sign-in page, so that it is not sent there in a
// loop.
const returned = "ms_returned"

// repeated marks a click that is asked again because one of Shopify's parameters came twice.
const repeated = "ms_repeated"

// ordered marks a link on the page that thanks a shopper for an order with a subscription. tried marks
// the link by which a page asks once more. Anybody can add them: they decide only which way on a page
// offers first.
const ordered, tried = "ms_ordered", "ms_tried"

// Portal answers a click on Manage Subscriptions, which Shopify's app proxy passes on.
type Portal struct {
	Verifier       *shopify.Verifier
	Merchant       *merchant.Service
	Pages          *templates.Pages
	LegacyAccounts bool // sign in at /account/login if the shop's setting is unknown
	ByPage         bool // forward with a page instead of a 302
}

// route is the path of the app's proxy URL.
const route = "/apps/subscriptions"

// Register adds the route with and without a trailing slash, because a redirect from one to the
// other would put Shopify's signature into the address bar.
func (p *Portal) Register(e *echo.Echo) {
	e.Pre(findRoute)
	for _, path := range []string{route, route + "/", route + "/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

// lacksRoute marks a click whose proxy URL lacks route, in its context.
const lacksRoute = "lacks route"

// Compiled once and never changed.
var slashes = regexp.MustCompile(`//+`)

// findRoute takes a click to its route if the proxy URL was entered with a slash too many, or without
// its path. Only Shopify's proxy adds path_prefix and signature to a GET.
func findRoute(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		path := slashes.ReplaceAllString(r.URL.Path, "/")
		ours := path == route || strings.HasPrefix(path, route+"/")
		at := strings.Trim(path, "/")
		if at == "status" || at == string(recharge.ParseDestination(at)) || slices.Contains(pages(), at) {
			ours = strings.Contains(r.URL.RawQuery, "path_prefix=") && strings.Contains(r.URL.RawQuery, "signature=")
			path = route + path
			c.Set(lacksRoute, true)
		}
		if ours && path != r.URL.Path {
			r.URL.Path, r.URL.RawPath = path, ""
		}
		return next(c)
	}
}

// handle resolves a click, answers it and records it. A HEAD request opens no portal, so only the
// cache answers it.
func (p *Portal) handle(c echo.Context) error {
	click := begin(portal.FromStorefront, p.Merchant.Now, p.Pages)
	click.head, click.legacy, click.byPage = c.Request().Method == http.MethodHead, p.LegacyAccounts, p.ByPage
	result := p.resolve(c, click)
	if target := click.again(result.Cause); target != "" {
		p.Merchant.Log.InfoContext(c.Request().Context(), "asked again without the visitor's parameters",
			"request_id", click.id, "cause", result.Cause)
		return click.forward(c, target)
	}
	return click.finish(c, p.Merchant, result)
}

// resolve reads the request and resolves it.
func (p *Portal) resolve(c echo.Context, click *clickRequest) (result portal.Result) {
	defer portal.Recover(&result)
	start := click.trace.Now()
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, c.Param("*"))
	click.trace.End(portal.StepVerify, start, err)
	click.read(request)
	if err == nil && c.Get(lacksRoute) != nil {
		p.Merchant.Log.WarnContext(c.Request().Context(), "the app's proxy URL lacks "+route,
			"request_id", click.id, "shop", request.Shop)
	}
	if err == nil && p.ByPage && !navigates(c.Request().Header) {
		err = errNoNavigation
	}
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}
	}
	asked := portal.Request{Shopper: click.who, Visit: click.visit, CacheOnly: click.head}
	result = p.Merchant.Resolve(c.Request().Context(), asked, click.trace)
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
	r.returned, r.repeated = request.Query.Has(returned), request.Query.Has(repeated)
	r.ordered, r.tried = request.Query.Has(ordered), request.Query.Has(tried)
	r.prefix = request.PathPrefix
	if request.Destination != "" {
		r.visit.Return, r.deeper = r.path(), true
	}
}

// path returns this page's path on the storefront. back returns it marked as coming back from the
// sign-in page.
func (r *clickRequest) path() string { return r.pathWith(url.Values{}) }
func (r *clickRequest) back() string {
	query := url.Values{returned: {"1"}}
	if r.ordered {
		query.Set(ordered, "1")
	}
	return r.pathWith(query)
}

// again returns this page's path if the visitor's own parameters are all that is wrong with a click of
// Shopify's, or "". Without them its text has one reading. But if a parameter of Shopify's is repeated,
// Shopify itself might do that, so the path is marked and used once.
func (r *clickRequest) again(cause error) string {
	refused, ok := errors.AsType[*shopify.Refused](cause)
	query := url.Values{}
	if r.returned {
		query.Set(returned, "1")
	}
	switch {
	case ok && refused.Check == shopify.CheckRepeated && !r.repeated:
		query.Set(repeated, "1")
		return r.pathWith(query)
	case ok && refused.Check == shopify.CheckAmbiguous:
		return r.pathWith(query)
	}
	return ""
}

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

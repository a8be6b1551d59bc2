// Package handlers answers requests, one file a route. A handler reads the request, has it
// decided and answers. Results of clicks become answers in answer.go.
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

// returned marks a click that comes back from the sign-in, so that it is not sent there
// again and again.
const returned = "ms_returned"

// Portal answers the app proxy's route: a click on Manage Subscriptions.
type Portal struct {
	Verifier       *shopify.Verifier
	Resolver       *portal.Resolver
	Recorder       *portal.Recorder
	Pages          *templates.Pages
	LegacyAccounts bool // sign in at /account/login if the shop's setting is not known
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

// handle decides a click, answers it and records it. Nobody waits for the portal after a
// HEAD, so it is answered by what is cached.
func (p *Portal) handle(c echo.Context) error {
	click := begin(portal.FromStorefront, p.Now, p.Pages)
	click.head, click.legacy, click.byPage = c.Request().Method == http.MethodHead, p.LegacyAccounts, p.ByPage
	return click.finish(c, p.Recorder, p.resolve(c, click))
}

// resolve reads what is asked and decides it.
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

// navigates reports whether the browser is on its way to another page, as far as it says.
// A page that forwards is the store's own, so any of the store's scripts could read the
// portal's address in it. A visit that the store's service worker passes on has no
// destination any more. Scripts of a page cannot ask in that mode. The worker could read
// the answer, but refusing it would be a dead end for every shopper of that store.
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

// path is this page on the storefront. back is the same, marked as returned from the
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
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// signIn is the storefront's sign-in page, on its own host, up to the path that it returns
// to. Shopify takes only relative ones.
// https://shopify.dev/docs/storefronts/themes/login
func (r *clickRequest) signIn(merchant *portal.Merchant) string {
	if merchant == nil && r.legacy || merchant != nil && merchant.LegacyAccounts {
		return "/account/login?return_url="
	}
	return "/customer_authentication/login?return_to="
}

// Package handlers answers requests, one file a route. A handler reads the
// request, asks, and answers; what went wrong becomes an answer in one place.
package handlers

import (
	"crypto/rand"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

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
	Clicks         *Clicks
	Pages          *templates.Pages
	LegacyAccounts bool // sign in at /account/login
	ByPage         bool // forward by a page instead of a 302
	Log            *slog.Logger
	Now            func() time.Time
}

// Register adds the route. Both forms of the path are there, because a redirect
// from one to the other would put Shopify's signature into the address bar.
func (p *Portal) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/", "/apps/subscriptions/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

// handle ends a click, answers it and writes its one line in the log.
func (p *Portal) handle(c echo.Context) error {
	start := p.Now()
	visit := visit{id: requestID()}
	var ending Ending
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, c.Param("*"))
	if err != nil {
		ending = Ending{Outcome: Forbidden, Cause: err}
	} else {
		visit.read(request, p.LegacyAccounts)
		ending = p.end(c, request, visit)
	}
	err = p.answer(c, visit, ending)
	p.log(c, visit, ending, p.Now().Sub(start))
	return err
}

func (p *Portal) end(c echo.Context, request shopify.ProxyRequest, v visit) Ending {
	switch {
	case !p.Clicks.Connected(request.Shop):
		return Ending{Outcome: NotConnected}
	case request.Customer == "" && v.returned:
		return Ending{Outcome: SignInFailed}
	case request.Customer == "":
		return Ending{Outcome: SignIn}
	}
	who := store.Shopper{Shop: request.Shop, Customer: request.Customer}
	return p.Clicks.Open(c.Request().Context(), who, v.to)
}

// visit is what a verified request asks for.
type visit struct {
	id       string
	shop     shopify.Shop
	to       store.Visit
	path     string // this page on the storefront
	signIn   string // the storefront's sign-in, returning here
	returned bool
}

func (v *visit) read(request shopify.ProxyRequest, legacyAccounts bool) {
	v.shop = request.Shop
	v.to = store.Visit{
		To:     recharge.ParseDestination(request.Destination),
		Locale: recharge.ParseLocale(request.Query.Get("locale")),
	}
	v.returned = request.Query.Has(returned)
	v.path = request.PathPrefix
	if request.Destination != "" {
		v.path += "/" + string(v.to.To)
	}
	query := url.Values{}
	if v.to.Locale != "" {
		query.Set("locale", string(v.to.Locale))
	}
	v.signIn = signIn(legacyAccounts, withQuery(v.path, query, returned))
	v.path = withQuery(v.path, query, "")
}

func withQuery(path string, query url.Values, mark string) string {
	marked := url.Values{}
	for name := range query {
		marked.Set(name, query.Get(name))
	}
	if mark != "" {
		marked.Set(mark, "1")
	}
	if len(marked) == 0 {
		return path
	}
	return path + "?" + marked.Encode()
}

// signIn is the storefront's sign-in page, on its own host. Shopify takes only
// relative paths to return to.
// https://shopify.dev/docs/storefronts/themes/login
func signIn(legacyAccounts bool, back string) string {
	if legacyAccounts {
		return "/account/login?return_url=" + url.QueryEscape(back)
	}
	return "/customer_authentication/login?return_to=" + url.QueryEscape(back)
}

// requestID is short enough to be read out on the telephone. It is never taken
// from the request, which could write into the log with it.
func requestID() string { return strings.ToLower(rand.Text()[:10]) }

func (p *Portal) log(c echo.Context, v visit, ending Ending, took time.Duration) {
	attributes := []slog.Attr{
		slog.String("request_id", v.id),
		slog.String("outcome", string(ending.Outcome)),
		slog.Int64("ms", took.Milliseconds()),
	}
	if v.shop != "" {
		attributes = append(attributes, slog.String("shop", string(v.shop)))
	}
	if ending.Cause != nil {
		attributes = append(attributes, slog.String("cause", ending.Cause.Error()))
	}
	p.Log.LogAttrs(c.Request().Context(), level(ending), "click", attributes...)
}

// level makes an error of what somebody must look at: Recharge answered with
// other people's records, or there is no answer for the shopper.
func level(ending Ending) slog.Level {
	switch {
	case recharge.Is(ending.Cause, recharge.FilterIgnored), recharge.Is(ending.Cause, recharge.Foreign), recharge.Is(ending.Cause, recharge.LinkRefused):
		return slog.LevelError
	case ending.Outcome == Unavailable, ending.Cause != nil && ending.Outcome == RedirectedByHash, recharge.Is(ending.Cause, recharge.Ambiguous):
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

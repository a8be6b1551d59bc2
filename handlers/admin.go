package handlers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// Admin serves the app home, which merchants use in Shopify's admin. The shop always comes from the
// session token, never from a parameter, header or form field.
type Admin struct {
	ClientID string
	Sessions *shopify.SessionTokens
	Merchant *merchant.Service
	Pages    *templates.Admin
	HasKeys  bool     // the configured store has API keys
	Version  string   // of this program
	Contact  *url.URL // of this server's operator, https or mailto; nil if it is not known

	crossOrigin *http.CrossOriginProtection
}

// Register adds the routes.
func (a *Admin) Register(e *echo.Echo) {
	a.crossOrigin = http.NewCrossOriginProtection()
	app := a.Merchant.AppURL
	_ = a.crossOrigin.AddTrustedOrigin(app.Scheme + "://" + app.Host) // cannot fail with an http or https URL
	for _, page := range pages() {
		e.Match([]string{echo.GET, echo.HEAD}, "/"+page, a.bridged(a.page))
	}
	e.GET("/app/bounce", a.bridged(a.bounce))
	e.GET("/app/install", a.install)
	e.FileFS("/app/home.css", "admin/home.css", a.Pages.Files)
	e.FileFS("/app/home.js", "admin/home.js", a.Pages.Files)
	e.FileFS("/app/outage.js", "admin/outage.js", a.Pages.Files)
	e.GET("/app/connection", a.signed(a.connection))
	e.GET("/app/health", a.signed(a.health))
	e.GET("/app/health.csv", a.signed(a.healthFile))
	e.POST("/app/connect", a.signed(a.setting(a.connect)))
	e.POST("/app/portal", a.signed(a.setting(a.choosePortal)))
	e.GET("/app/settings", a.signed(a.settingsPart))
	e.POST("/app/settings", a.signed(a.setting(a.settings)))
	e.POST("/app/look", a.signed(a.alone(a.look)))
	e.POST("/app/disconnect", a.signed(a.setting(a.disconnect)))
	e.GET("/app/keys", a.signed(a.keys))
	e.POST("/app/keys", a.signed(a.setting(a.makeKey)))
	e.POST("/app/keys/revoke", a.signed(a.setting(a.revokeKey)))
	e.POST("/app/try", a.signed(a.alone(a.try)))
	e.POST("/app/support", a.signed(a.alone(a.support)))
	e.POST("/app/contact", a.signed(a.contact))
	e.POST("/app/reports", a.signed(a.alone(a.reports)))
	if a.Merchant.Importer == nil {
		return
	}
	e.GET("/app/campaigns", a.signed(a.campaigns))
	e.POST("/app/campaigns", a.verified(a.alone(a.planCampaign))) // one at a time, because a list is large
	e.POST("/app/campaigns/cancel", a.signed(a.alone(a.cancelCampaign)))
}

// session verifies a session token. It refuses tokens issued before the shop's last uninstall. Its
// error is shopify.ErrNoSession if the token is bad. Any other means that Shopify signed the token for
// the shop that is returned, but that Redis does not tell whether the shop has uninstalled the app since.
func (a *Admin) session(ctx context.Context, token string) (shopify.Session, error) {
	session, err := a.Sessions.Verify(token)
	if err != nil {
		return shopify.Session{}, err
	}
	uninstalled, err := a.Merchant.Store.UninstalledAt(ctx, session.Shop)
	if err != nil {
		return session, err
	}
	if !uninstalled.IsZero() && !session.Issued.After(uninstalled) {
		return shopify.Session{}, fmt.Errorf("%w: issued before the app was uninstalled", shopify.ErrNoSession)
	}
	return session, nil
}

// signed wraps a handler that needs a valid session token and perhaps a form.
func (a *Admin) signed(next func(echo.Context, shopify.Shop) error) echo.HandlerFunc {
	return a.verified(func(c echo.Context, shop shopify.Shop) error {
		if err := readForm(c, formSize); err != nil {
			return err
		}
		return next(c, shop)
	})
}

// verified wraps a handler that needs a valid session token, and refuses requests from other sites.
// On a 401 with the header set below, App Bridge gets a new token and retries.
// https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens
func (a *Admin) verified(next func(echo.Context, shopify.Shop) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := a.crossOrigin.Check(c.Request()); err != nil {
			a.refused(c, "another site asks")
			return echo.NewHTTPError(http.StatusForbidden)
		}
		session, err := a.session(c.Request().Context(), bearer(c.Request().Header))
		if err != nil {
			a.refused(c, err.Error())
			if !errors.Is(err, shopify.ErrNoSession) {
				return echo.NewHTTPError(http.StatusServiceUnavailable)
			}
			c.Response().Header().Set("X-Shopify-Retry-Invalid-Session-Request", "1")
			return echo.NewHTTPError(http.StatusUnauthorized)
		}
		c.Set(staffID, session.User)
		return next(c, session.Shop)
	}
}

// staffID is where verified leaves Shopify's id of the staff member who asks, for the log.
const staffID = "staff"

func staff(c echo.Context) string {
	id, _ := c.Get(staffID).(string)
	return id
}

// formSize is in bytes, well above the largest form of the app home without a list, which has three tokens
// of at most 300 characters each.
const formSize = 64 << 10

// readForm parses the form, if there is one. It runs before the handler because every field of an
// oversized form would read as empty.
func readForm(c echo.Context, size int64) error {
	r := c.Request()
	r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, size)
	_, err := c.FormParams()
	if err == nil {
		return nil
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return echo.NewHTTPError(http.StatusRequestEntityTooLarge)
	}
	return echo.NewHTTPError(http.StatusBadRequest)
}

func (a *Admin) refused(c echo.Context, cause string) {
	a.Merchant.Log.InfoContext(c.Request().Context(), "admin refused", "path", c.Path(), "cause", cause)
}

// pages returns the paths of the pages of the app home, without their slash. Shopify's admin opens each
// of them in its frame.
func pages() []string { return []string{"", "campaigns", "try", "keys", "settings"} }

// reloadTo has the address to which App Bridge goes with a session token.
const reloadTo = "shopify-reload"

// bridged wraps a page that loads App Bridge. App Bridge reads the query like a browser, and Go's
// lenient parser drops pairs that a browser keeps. So the query must be well-formed, with each name
// once and no address but that of a page of our own.
func (a *Admin) bridged(next func(echo.Context, url.Values) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		query, err := url.ParseQuery(c.Request().URL.RawQuery)
		reload, _, _ := strings.Cut(query.Get(reloadTo), "?")
		own := slices.ContainsFunc(pages(), func(page string) bool { return reload == a.address("/"+page) })
		bad := err != nil || query.Has(reloadTo) && !own
		for _, values := range query {
			bad = bad || len(values) > 1
		}
		if bad {
			return echo.NewHTTPError(http.StatusBadRequest)
		}
		return next(c, query)
	}
}

// page serves a page that Shopify loads in the admin's frame. Without a valid session token it
// sends the frame to App Bridge to get one. Outside the admin it redirects to Shopify's install
// link.
func (a *Admin) page(c echo.Context, query url.Values) error {
	if token := query.Get("id_token"); token != "" {
		session, err := a.session(c.Request().Context(), token)
		if err == nil {
			return a.drawPage(c, session.Shop, query)
		}
		a.refused(c, err.Error())
		if !errors.Is(err, shopify.ErrNoSession) {
			return a.outage(c, session.Shop, query)
		}
	}
	shop, err := shopify.ParseShop(query.Get("shop"))
	// App Bridge can load a page without any parameters when the merchant follows a link to it.
	// https://github.com/Shopify/shopify-app-js/issues/2417
	framed := c.Request().Header.Get("Sec-Fetch-Dest") == "iframe" && !query.Has("shop")
	switch {
	case query.Has("id_token") && query.Has(bounced): // a page that is the same for everybody
		return a.draw(c, http.StatusUnauthorized, "token refused", map[string]any{"Base": a.base()},
			a.Merchant.Platform.FrameAncestors(shop))
	case err != nil && !framed:
		return a.outside(c, http.StatusOK, "")
	case framed || query.Has("embedded") || query.Has("id_token"):
		return a.toBounce(c, shop, query)
	}
	return a.toInstall(c, shop)
}

// install sends the browser to Shopify, which installs the app, or opens it if it is installed.
func (a *Admin) install(c echo.Context) error {
	shop, err := shopify.ParseShop(strings.ToLower(strings.TrimSpace(c.QueryParam("shop"))))
	if err != nil {
		return a.outside(c, http.StatusBadRequest, "outside no shop")
	}
	return a.toInstall(c, shop)
}

func (a *Admin) toInstall(c echo.Context, shop shopify.Shop) error {
	return c.Redirect(http.StatusFound, a.Merchant.Platform.InstallLink(shop, a.ClientID))
}

// bounced marks a load that comes from the bounce page, so that a token that is never accepted does
// not cause a redirect loop.
const bounced = "ms_bounced"

// toBounce redirects the frame to the bounce page, where App Bridge gets a session token and
// returns with it.
// https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens/set-up-session-tokens
func (a *Admin) toBounce(c echo.Context, shop shopify.Shop, query url.Values) error {
	back := again(shop, query)
	back.Set(bounced, "1")
	reload := a.address(c.Path()) + "?" + back.Encode()
	on := url.Values{"shop": back["shop"], "host": back["host"], reloadTo: {reload}}
	return c.Redirect(http.StatusFound, a.base()+"/app/bounce?"+on.Encode())
}

// again returns the query that loads a page as it was loaded, but for the session token.
func again(shop shopify.Shop, query url.Values) url.Values {
	back := url.Values{"embedded": {"1"}}
	for name, value := range map[string]string{
		"shop": string(shop), "host": query.Get("host"), "locale": query.Get("locale"),
	} {
		if value != "" {
			back.Set(name, value)
		}
	}
	return back
}

// outage tells a merchant what works while Redis does not answer. The page shows nothing of the shop but
// what a click of anybody's would show, and loads what was asked for once Redis answers again.
func (a *Admin) outage(c echo.Context, shop shopify.Shop, query url.Values) error {
	connected, err := a.Merchant.Merchants.Find(c.Request().Context(), shop)
	return a.draw(c, http.StatusServiceUnavailable, "outage", map[string]any{
		"Base": a.base(), "ClientID": a.ClientID, "AppBridge": a.Merchant.Platform.AppBridge(),
		"Home": a.base() + c.Path() + "?" + again(shop, query).Encode(), "Unread": err != nil, "Connected": connected != nil,
		"Contact": a.Contact,
	}, a.Merchant.Platform.FrameAncestors(shop))
}

// bounce serves an empty page with App Bridge, which reads shopify-reload itself.
func (a *Admin) bounce(c echo.Context, query url.Values) error {
	shop, err := shopify.ParseShop(query.Get("shop"))
	if err != nil && query.Has("shop") || !query.Has(reloadTo) {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	data := map[string]any{"ClientID": a.ClientID, "AppBridge": a.Merchant.Platform.AppBridge()}
	return a.draw(c, http.StatusOK, "bounce", data, a.Merchant.Platform.FrameAncestors(shop))
}

// outside answers people who open the app's address outside the admin. problem is the key of a text, or "".
func (a *Admin) outside(c echo.Context, status int, problem string) error {
	return a.draw(c, status, "outside", map[string]any{"Base": a.base(), "Problem": problem}, "'none'")
}

// base returns the path of APP_URL, without a trailing slash.
func (a *Admin) base() string { return strings.TrimRight(a.Merchant.AppURL.Path, "/") }

// address returns the absolute address of a path on this server.
func (a *Admin) address(path string) string {
	return a.Merchant.AppURL.Scheme + "://" + a.Merchant.AppURL.Host + a.base() + path
}

// draw answers with a page that only ancestors may frame.
func (a *Admin) draw(c echo.Context, status int, name string, data any, ancestors string) error {
	c.Response().Header().Set("Content-Security-Policy", a.policy(ancestors))
	return a.part(c, status, name, data)
}

// policy allows scripts from this server and from the folder of Shopify's CDN that has its own, since
// the same host serves what merchants and other apps upload. Shopify does not document what else App
// Bridge and Polaris load, send and style, so the other directives are wide.
// https://shopify.dev/docs/apps/build/security/set-up-iframe-protection
func (a *Admin) policy(ancestors string) string {
	// Browsers check form-action at each redirect. The install form, which nobody frames, redirects to
	// the admin, and from there to wherever merchants sign in to Shopify.
	forms := "'self'"
	if ancestors == "'none'" {
		forms = "*"
	}
	cdn := a.Merchant.Platform.Scripts()
	return "default-src 'none'; script-src 'self' " + cdn + "; style-src 'self' 'unsafe-inline' " + cdn +
		"; connect-src 'self' https:; img-src 'self' data: https:; font-src data: https:" +
		"; base-uri 'none'; form-action " + forms + "; frame-ancestors " + ancestors
}

// languages returns the merchant's, as in Accept-Language. Shopify loads the page with the admin's, and the
// page sends its own with each request.
func languages(c echo.Context) string {
	return cmp.Or(c.QueryParam("locale"), c.Request().Header.Get("Accept-Language"))
}

// part renders a template and answers with it.
func (a *Admin) part(c echo.Context, status int, name string, data any) error {
	var part bytes.Buffer
	if err := a.Pages.Draw(&part, languages(c), name, data); err != nil {
		return err
	}
	return c.HTMLBlob(status, part.Bytes())
}

// pageView holds what a page of the app home shows.
type pageView struct {
	connectionView
	shopify.Platform
	Page, ClientID string
	Contact        *url.URL
	Offered        bool // campaigns, on this server
	Health         healthView
	Middleware     keysView
	Campaigns      campaignsView
}

// drawPage answers with the page that was asked for. It reads only what that page shows.
func (a *Admin) drawPage(c echo.Context, shop shopify.Shop, query url.Values) error {
	ctx := c.Request().Context()
	view := pageView{
		Platform: a.Merchant.Platform, Page: strings.Trim(c.Path(), "/"), ClientID: a.ClientID,
		Contact: a.Contact, Offered: a.Merchant.Importer != nil,
	}
	var err, keysErr error
	view.connectionView, err = a.connectionView(ctx, shop)
	switch view.Page {
	case "":
		view.Health = a.healthView(ctx, shop, a.spanOf(c))
	case "keys":
		view.Middleware, keysErr = a.keysView(ctx, shop)
	case "campaigns":
		view.Campaigns = a.campaignsView(ctx, shop)
	}
	if err != nil || keysErr != nil {
		return a.outage(c, shop, query)
	}
	return a.draw(c, http.StatusOK, "app", view, a.Merchant.Platform.FrameAncestors(shop))
}

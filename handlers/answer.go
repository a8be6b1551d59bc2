package handlers

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

const plainText = "text/plain; charset=utf-8"

// Headers sets headers on every answer of the public listener. Portal links must not be cached or
// passed on as a referrer, and browsers must not guess another media type. If APP_URL is https,
// browsers use only https, except for answers through the app proxy. They get those from the store's
// host, where this is the store's decision.
func Headers(appURL *url.URL) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			header := c.Response().Header()
			header.Set("Cache-Control", "no-store")
			header.Set("Referrer-Policy", "no-referrer")
			header.Set("X-Content-Type-Options", "nosniff")
			if appURL.Scheme == "https" && !strings.HasPrefix(c.Request().URL.Path, route) {
				header.Set("Strict-Transport-Security", "max-age=31536000")
			}
			return next(c)
		}
	}
}

// clickRequest is a click through one of the channels: the storefront, POST /api/portal-links, GET /go
// or GET /go/support. It holds everything but the result that the answer and the record need.
type clickRequest struct {
	id      string // request id
	channel portal.Channel
	shop    shopify.Shop // "" until verified; not even the log may have an unverified one
	start   time.Time
	trace   *portal.Trace
	pages   *templates.Pages // nil for the API

	// Read from a storefront request.
	head     bool
	who      store.Shopper
	visit    recharge.Visit
	prefix   string // the app's path on the storefront
	deeper   bool   // a destination follows the prefix
	returned bool   // came back from the sign-in page
	repeated bool   // has been asked again already
	ordered  bool   // comes from the page that thanks for an order
	tried    bool   // a page has asked once more
	legacy   bool   // sign in at /account/login if the shop's setting is unknown
	byPage   bool   // forward with a page instead of a 302

	// Read from a signed link. "" until verified.
	locale string
	home   string // the store's address
	store  store.Contact
}

func begin(channel portal.Channel, now func() time.Time, pages *templates.Pages) *clickRequest {
	trace := portal.NewTrace(now)
	return &clickRequest{id: requestID(), channel: channel, start: trace.Now(), trace: trace, pages: pages}
}

// requestID returns an id that is short enough to read out on the phone. It never comes from the
// request, where a client could use it to write into the log.
func requestID() string { return strings.ToLower(rand.Text()[:10]) }

// finish answers a click and records it. A HEAD request is not a click, so it is not recorded.
func (r *clickRequest) finish(c echo.Context, m *merchant.Service, result portal.Result) error {
	err := r.answer(c, result)
	if !r.head {
		m.Noticed(r.shop, strings.TrimPrefix(r.prefix, localePrefix(r.prefix)), r.returned, result)
		m.Recorder.Record(c.Request().Context(), portal.Click{
			RequestID: r.id, Shop: r.shop, Channel: r.channel, Outcome: result.Outcome, Source: result.Source,
			Start: r.start, Took: r.trace.Now().Sub(r.start), Steps: r.trace.Steps(), Calls: result.Calls,
			Cause: result.Cause, Level: portal.Level(result.Outcome, result.Cause), Returned: r.returned,
			CountedFor: r.countedFor(c, m),
		})
	}
	return err
}

// countedFor returns the shop whose shoppers a click belongs to. Staff who open a link for support are not
// among them. A refused click counts for the shop that it claims to come from, if that has connected Recharge:
// if Shopify's secret is wrong here, all of its shoppers are refused.
func (r *clickRequest) countedFor(c echo.Context, m *merchant.Service) shopify.Shop {
	if r.channel == portal.FromSupport {
		return ""
	}
	claimed, err := shopify.ParseShop(c.QueryParam("shop"))
	if r.shop == "" && err == nil && m.Store.Seen(claimed) != nil {
		return claimed
	}
	return r.shop
}

// answer turns a result into an HTTP answer, for every channel.
func (r *clickRequest) answer(c echo.Context, result portal.Result) error {
	switch api := r.channel == portal.FromAPI; result.Outcome {
	case portal.Redirected, portal.RedirectedByHash:
		if api {
			return c.JSON(http.StatusOK, portalLinkOf(result))
		}
		return r.forward(c, result.Link.URL)
	case portal.SignIn:
		return r.forward(c, r.signIn(result.Merchant)+url.QueryEscape(r.back()))
	case portal.Forbidden:
		if api {
			break
		}
		return r.ownPage(c, http.StatusForbidden, result)
	}
	switch r.channel {
	case portal.FromAPI:
		return answerProblem(c, string(result.Outcome), r.id, "")
	case portal.FromSignedLink, portal.FromSupport:
		return r.ownPage(c, http.StatusOK, result)
	}
	return r.storePage(c, result)
}

// forward sends the browser to target. It does not use http.Redirect, which would clean the path
// and repeat the link in the body.
func (r *clickRequest) forward(c echo.Context, target string) error {
	if !r.byPage {
		return c.Redirect(http.StatusFound, target)
	}
	body, err := r.pages.Forward(target, string(r.visit.Locale))
	if err != nil {
		return fmt.Errorf("draw page that forwards: %w", err)
	}
	c.Response().Header().Set("Content-Security-Policy", r.pages.ForwardPolicy())
	// A script of the store that opened this window must not be able to read it.
	c.Response().Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	return c.HTMLBlob(http.StatusOK, body)
}

// storePage answers with Liquid, which Shopify renders in the store's theme. The status is 200
// because Shopify replaces a 5xx with its own page. Shopify documents the media type without a
// parameter.
func (r *clickRequest) storePage(c echo.Context, result portal.Result) error {
	root := localePrefix(r.path())
	page := templates.Page{
		RequestID: r.id,
		Path:      strings.TrimPrefix(r.path(), root),
		Again:     strings.TrimPrefix(r.pathWith(url.Values{tried: {"1"}}), root),
		SignIn:    r.signIn(result.Merchant),
		Return:    url.QueryEscape(strings.TrimPrefix(r.back(), root)),
	}
	if result.Merchant != nil {
		page.ByEmail = result.Merchant.Client.ByEmail()
	}
	page.First = r.firstWay(result, page.ByEmail != "")
	body, err := r.pages.Liquid(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	return c.Blob(http.StatusOK, "application/liquid", body)
}

// firstWay returns the way on that fits the likely cause. A shopper who has just ordered, or who was signed
// in before the click, has most likely just subscribed, and Recharge needs a moment. One who has just
// chosen an account at the sign-in may have chosen another than the one that subscribed. If asking once
// more has not helped, or cannot help because Recharge refuses the store's token, the shopper still gets
// in by e-mail. The wait that the page names covers every wait that Recharge can ask for.
func (r *clickRequest) firstWay(result portal.Result, byEmail bool) string {
	reason := recharge.ReasonOf(result.Cause)
	nobody, down := result.Outcome == portal.NotASubscriber, result.Outcome == portal.Unavailable
	switch {
	case byEmail && (r.tried && (nobody || down) || down && reason != "" && !reason.Transient()):
		return templates.WayByEmail
	case nobody && (r.tried || r.returned && !r.ordered):
		return templates.WayOtherAccount
	}
	return templates.WayAgain
}

// ownPage answers with a page of our own, for clicks that no store's theme can answer. A refusal is
// the same whichever check failed, except for a link whose signature is right.
func (r *clickRequest) ownPage(c echo.Context, status int, result portal.Result) error {
	page := templates.OwnPage{
		RequestID: r.id, Home: r.home, Storefront: r.channel == portal.FromStorefront,
		Store: r.store.Name, Email: r.store.Email,
		Languages: cmp.Or(r.locale, c.Request().Header.Get("Accept-Language")),
	}
	switch {
	case errors.Is(result.Cause, errUsed):
		page.Reason = "used"
	case errors.Is(result.Cause, portallink.ErrOver):
		page.Reason = "expired"
	}
	body, err := r.pages.Own(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	c.Response().Header().Set("Content-Security-Policy", r.pages.OwnPolicy())
	return c.HTMLBlob(status, body)
}

// localePrefix returns the "/fr" of "/fr/apps/subscriptions". We do not know whether Shopify's
// path_prefix ever has one. storePage removes it, because the page adds the storefront's own.
func localePrefix(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	prefix, _, _ := strings.Cut(rest, "/")
	isPrefix := slices.Contains([]string{"a", "apps", "community", "tools"}, prefix)
	if isPrefix && recharge.ParseLocale(first) != "" {
		return "/" + first
	}
	return ""
}

// Errors answers requests that no handler answered, such as an unknown route or an internal error.
// The answer reveals no details.
func Errors(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed {
			return
		}
		status := http.StatusInternalServerError
		if httpError, ok := errors.AsType[*echo.HTTPError](err); ok {
			status = httpError.Code
		} else {
			log.ErrorContext(c.Request().Context(), "request failed", "error", err)
		}
		_ = c.Blob(status, plainText, []byte(http.StatusText(status)+"\n"))
	}
}

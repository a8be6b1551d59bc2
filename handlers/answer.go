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

	"manage-subscriptions/portal"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

const plainText = "text/plain; charset=utf-8"

// Headers are on every answer of the public listener. A portal link must not be cached or
// passed on as a referrer, and no answer may be taken for another media type.
func Headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store")
		c.Response().Header().Set("Referrer-Policy", "no-referrer")
		c.Response().Header().Set("X-Content-Type-Options", "nosniff")
		return next(c)
	}
}

// StrictTransport makes browsers use https only, if APP_URL does. Answers through the app
// proxy are left out, because a browser gets them from the store's host, whose transport is
// for the store to decide.
func StrictTransport(appURL *url.URL) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if appURL.Scheme != "https" {
			return next // a loopback address, which is a test
		}
		return func(c echo.Context) error {
			if !strings.HasPrefix(c.Request().URL.Path, "/apps/subscriptions") {
				c.Response().Header().Set("Strict-Transport-Security", "max-age=31536000")
			}
			return next(c)
		}
	}
}

// clickRequest is a click at one of the three doors: the storefront, POST
// /api/portal-links or GET /go. It holds what its answer and its record need besides the
// result.
type clickRequest struct {
	id      string         // the request's
	channel portal.Channel // the door
	shop    shopify.Shop   // "": not proven, so not to be trusted, even in the log
	start   time.Time
	trace   *portal.Trace
	pages   *templates.Pages // nil for the API

	// Read from a storefront's request.
	head     bool
	who      store.Shopper
	visit    recharge.Visit
	prefix   string // of the app on the storefront
	deeper   bool   // a destination follows the prefix
	returned bool   // from the sign-in
	legacy   bool   // sign in at /account/login if the shop's setting is not known
	byPage   bool   // forward by a page instead of a 302

	// Read from a signed link.
	locale string
	home   string // the store's address; "": not proven
}

func begin(channel portal.Channel, now func() time.Time, pages *templates.Pages) *clickRequest {
	trace := portal.NewTrace(now)
	return &clickRequest{id: requestID(), channel: channel, start: trace.Now(), trace: trace, pages: pages}
}

// requestID is short enough to be read out on the telephone. It is never taken from the
// request, which could write into the log with it.
func requestID() string { return strings.ToLower(rand.Text()[:10]) }

// finish answers a click and records it. HEAD is not recorded, since it is no click.
func (r *clickRequest) finish(c echo.Context, recorder *portal.Recorder, result portal.Result) error {
	err := r.answer(c, result)
	if !r.head {
		recorder.Record(c.Request().Context(), portal.Click{
			RequestID: r.id, Shop: r.shop, Channel: r.channel, Outcome: result.Outcome, Source: result.Source,
			Start: r.start, Took: r.trace.Now().Sub(r.start), Steps: r.trace.Steps(), Calls: result.Calls,
			Cause: result.Cause, Level: portal.Level(result.Outcome, result.Cause), Counted: result.Merchant != nil,
		})
	}
	return err
}

// answer turns a result into an answer, at every door.
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
		return forbid(c, r.id, r.hint(c))
	}
	switch r.channel {
	case portal.FromAPI:
		return answerProblem(c, string(result.Outcome), r.id, problemOf(result.Outcome))
	case portal.FromSignedLink:
		return r.ownPage(c, result)
	}
	return r.storePage(c, result)
}

// forbid is the same whichever check failed. hint is a line, or "".
func forbid(c echo.Context, id, hint string) error {
	return c.Blob(http.StatusForbidden, plainText, fmt.Appendf(nil, "403 Forbidden\n%sRequest id: %s\n", hint, id))
}

// hint tells a shopper what to do about a signed link that does not work. Clicking it
// twice, or late, is nothing wrong.
func (r *clickRequest) hint(c echo.Context) string {
	if r.channel != portal.FromSignedLink {
		return ""
	}
	text, code := r.pages.Text("forbidden.text", c.Request().Header.Get("Accept-Language"))
	c.Response().Header().Set("Content-Language", code)
	return text + "\n"
}

// forward sends the browser on. The header is set by hand, because http.Redirect would
// clean the path and repeat the link in a body.
func (r *clickRequest) forward(c echo.Context, target string) error {
	if !r.byPage {
		c.Response().Header().Set(echo.HeaderLocation, target)
		return c.NoContent(http.StatusFound)
	}
	body, err := r.pages.Forward(target, string(r.visit.Locale))
	if err != nil {
		return fmt.Errorf("draw page that forwards: %w", err)
	}
	c.Response().Header().Set("Content-Security-Policy", r.pages.ForwardPolicy())
	// If one of the store's scripts opened this window, it must not read it.
	c.Response().Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	return c.HTMLBlob(http.StatusOK, body)
}

// storePage answers with Liquid, which the store draws in its theme. It answers 200, since
// Shopify replaces a 5xx by a page of its own. Shopify documents the media type without
// a parameter.
func (r *clickRequest) storePage(c echo.Context, result portal.Result) error {
	root := localePrefix(r.path())
	page := templates.Page{
		RequestID: r.id,
		Path:      strings.TrimPrefix(r.path(), root),
		SignIn:    r.signIn(result.Merchant),
		Return:    url.QueryEscape(strings.TrimPrefix(r.back(), root)),
	}
	if result.Merchant != nil {
		page.ByEmail = result.Merchant.Client.ByEmail()
	}
	body, err := r.pages.Liquid(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	return c.Blob(http.StatusOK, "application/liquid", body)
}

// ownPage answers with a page of this server's, where no store draws one in its theme.
func (r *clickRequest) ownPage(c echo.Context, result portal.Result) error {
	languages := cmp.Or(r.locale, c.Request().Header.Get("Accept-Language"))
	page := templates.OwnPage{RequestID: r.id, Home: r.home, Languages: languages}
	body, err := r.pages.Own(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	c.Response().Header().Set("Content-Security-Policy", r.pages.OwnPolicy())
	return c.HTMLBlob(http.StatusOK, body)
}

// localePrefix is the "/fr" of "/fr/apps/subscriptions". It is not known whether
// Shopify's path_prefix ever has one. The page adds its own language to its links.
func localePrefix(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	prefix, _, _ := strings.Cut(rest, "/")
	isPrefix := slices.Contains([]string{"a", "apps", "community", "tools"}, prefix)
	if isPrefix && recharge.ParseLocale(first) != "" {
		return "/" + first
	}
	return ""
}

// Errors answers what no handler answered: an unknown route, or a fault of ours. It gives
// nothing away.
func Errors(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed {
			return
		}
		status := http.StatusInternalServerError
		var httpError *echo.HTTPError
		if errors.As(err, &httpError) {
			status = httpError.Code
		} else {
			log.ErrorContext(c.Request().Context(), "request failed", "error", err)
		}
		_ = c.Blob(status, plainText, []byte(http.StatusText(status)+"\n"))
	}
}

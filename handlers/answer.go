package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/templates"
)

// Headers are on every answer of the public listener: a portal link must
// neither be kept by a cache nor passed on as a referrer, and nothing is to be
// taken for something else than it says it is.
func Headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store")
		c.Response().Header().Set("Referrer-Policy", "no-referrer")
		c.Response().Header().Set("X-Content-Type-Options", "nosniff")
		return next(c)
	}
}

// answer turns a result into what the shopper gets.
func (p *Portal) answer(c echo.Context, click clickRequest, result portal.Result) error {
	switch result.Outcome {
	case portal.Redirected, portal.RedirectedByHash:
		return p.forward(c, click, result.Link.URL)
	case portal.SignIn:
		return p.forward(c, click, p.signIn(result.Merchant)+url.QueryEscape(click.back()))
	case portal.Forbidden:
		return forbid(c, click.id)
	}
	return p.page(c, click, result)
}

// forbid is the same whichever check failed.
func forbid(c echo.Context, id string) error {
	return c.Blob(http.StatusForbidden, "text/plain; charset=utf-8", fmt.Appendf(nil, "403 Forbidden\nRequest id: %s\n", id))
}

// forward sends the browser on. The header is set by hand: http.Redirect would
// clean the path and repeat the link in a body.
func (p *Portal) forward(c echo.Context, click clickRequest, target string) error {
	if !p.ByPage {
		c.Response().Header().Set(echo.HeaderLocation, target)
		return c.NoContent(http.StatusFound)
	}
	body, err := p.Pages.Forward(target, string(click.visit.Locale))
	if err != nil {
		return fmt.Errorf("draw page that forwards: %w", err)
	}
	c.Response().Header().Set("Content-Security-Policy", p.Pages.ForwardPolicy())
	// A window that one of the store's scripts has opened is not its to read.
	c.Response().Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	return c.HTMLBlob(http.StatusOK, body)
}

// page answers with Liquid and 200, since Shopify puts a page of its own in the
// place of a 5xx. The media type has no parameter: Shopify documents it bare.
func (p *Portal) page(c echo.Context, click clickRequest, result portal.Result) error {
	root := localePrefix(click.path())
	page := templates.Page{
		RequestID: click.id,
		Path:      strings.TrimPrefix(click.path(), root),
		SignIn:    p.signIn(result.Merchant),
		Return:    url.QueryEscape(strings.TrimPrefix(click.back(), root)),
	}
	if result.Merchant != nil {
		page.ByEmail = result.Merchant.Client.ByEmail()
	}
	body, err := p.Pages.Liquid(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	return c.Blob(http.StatusOK, "application/liquid", body)
}

// localePrefix is the "/fr" of "/fr/apps/subscriptions". Whether Shopify's
// path_prefix ever holds it is not known; the page, which knows the language it
// is drawn in, puts it before its links itself.
func localePrefix(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	prefix, _, _ := strings.Cut(rest, "/")
	if localeShape.MatchString(first) && slices.Contains([]string{"a", "apps", "community", "tools"}, prefix) {
		return "/" + first
	}
	return ""
}

var localeShape = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]+)*$`)

// Errors answers what no handler has answered: no such route, or a fault of
// ours. It gives nothing away.
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
		_ = c.Blob(status, "text/plain; charset=utf-8", []byte(http.StatusText(status)+"\n"))
	}
}

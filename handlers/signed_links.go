package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/shopify"
	"manage-subscriptions/templates"
)

// SignedLinks answers a shopper who follows a link that the shop's own middleware has
// signed: GET /go.
type SignedLinks struct {
	*APIKeyAuth
	Recorder *portal.Recorder
	Pages    *templates.Pages
	Platform shopify.Platform
	Now      func() time.Time
}

// Register adds the route. HEAD has none: it would use the link up.
func (l *SignedLinks) Register(e *echo.Echo) { e.GET("/go", l.handle) }

var errPrefetch = errors.New("the browser only fetches ahead")

func (l *SignedLinks) handle(c echo.Context) error {
	trace, id := portal.NewTrace(l.Now), requestID()
	start := trace.Now()
	result, shop := l.follow(c, trace)
	err := l.answer(c, id, shop, result)
	l.Recorder.Record(c.Request().Context(), clicked(id, shop, portal.FromSignedLink, start, trace, result))
	return err
}

// follow reads what is asked and decides it. The shop is "" where it is not proven.
func (l *SignedLinks) follow(c echo.Context, trace *portal.Trace) (portal.Result, shopify.Shop) {
	start := trace.Now()
	signed, err := portallink.Parse(c.Request().URL.RawQuery)
	if err == nil {
		err = signed.At(l.Now())
	}
	if err == nil {
		err = isClick(c.Request().Header)
	}
	shop, notShop := shopify.ParseShop(signed.Shop)
	who, notShopper := shopperOf(shop, signed.Customer)
	err = errors.Join(err, hide(notShop), notShopper)
	trace.End(portal.StepVerify, start, err)
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}, ""
	}
	proven := func(secrets []portallink.Secret) bool { return signed.SignedBy(secrets...) }
	request := portal.Request{Shopper: who, Visit: visitOf(signed.Destination, signed.Locale)}
	result, trusted := l.resolve(c.Request().Context(), request, trace, proven, func(ctx context.Context) error {
		start := trace.Now()
		first, err := l.Store.UseNonce(ctx, shop, signed.Nonce, signed.Expires)
		trace.End(portal.StepNonce, start, err)
		if err == nil && !first {
			err = errUsed
		}
		return err
	})
	if !trusted {
		shop = ""
	}
	return result, shop
}

var errShop = errors.New("not a shop's name")

// hide keeps what was sent out of the log.
func hide(err error) error {
	if err != nil {
		return errShop
	}
	return nil
}

// isClick returns nil if a shopper is on the way, as far as the browser says. What it
// fetches ahead, or a script asks for, must not use the link up.
func isClick(header http.Header) error {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz"} {
		if strings.Contains(header.Get(name), "prefetch") {
			return errPrefetch
		}
	}
	if !navigates(header) {
		return errNoNavigation
	}
	return nil
}

// answer turns a result into what the shopper gets: no store is there to draw a page
// in its theme.
func (l *SignedLinks) answer(c echo.Context, id string, shop shopify.Shop, result portal.Result) error {
	languages := c.Request().Header.Get("Accept-Language")
	switch result.Outcome {
	case portal.Redirected, portal.RedirectedByHash:
		c.Response().Header().Set(echo.HeaderLocation, result.Link.URL)
		return c.NoContent(http.StatusFound)
	case portal.Forbidden:
		// The same whichever check failed, and yet a way on: who clicks twice, or late,
		// has done nothing wrong.
		text, code := l.Pages.Text("forbidden.text", languages)
		c.Response().Header().Set("Content-Language", code)
		return c.Blob(http.StatusForbidden, "text/plain; charset=utf-8", fmt.Appendf(nil, "403 Forbidden\n%s\nRequest id: %s\n", text, id))
	}
	page := templates.OwnPage{RequestID: id, Languages: languages}
	if signed, err := portallink.Parse(c.Request().URL.RawQuery); err == nil && signed.Locale != "" {
		page.Languages = signed.Locale
	}
	if shop != "" {
		page.Home = l.Platform.ShopURL(shop) + "/"
	}
	body, err := l.Pages.Own(string(result.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", result.Outcome, err)
	}
	c.Response().Header().Set("Content-Security-Policy", l.Pages.OwnPolicy())
	return c.HTMLBlob(http.StatusOK, body)
}

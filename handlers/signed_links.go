package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portallink"
	"manage-subscriptions/shopify"
	"manage-subscriptions/templates"
)

// SignedLinks answers a shopper who follows a link that the shop's own middleware has
// signed: GET /go.
type SignedLinks struct {
	*Vouched
	*Book
	Pages *templates.Pages
	Home  func(shopify.Shop) string // the store's address
}

// Register adds the route. HEAD has none: it would use the link up.
func (l *SignedLinks) Register(e *echo.Echo) { e.GET("/go", l.handle) }

var errPrefetch = errors.New("the browser only fetches ahead")

func (l *SignedLinks) handle(c echo.Context) error {
	start, id := l.Now(), requestID()
	trail, ctx := newTrail(c.Request().Context(), l.Now)
	ending, shop := l.end(ctx, c)
	err := l.answer(c, id, shop, ending)
	l.write(ctx, id, shop, FromSignedLink, start, trail, ending)
	return err
}

// end finds out what is asked and how it ends. The shop is "" where it is not proven.
func (l *SignedLinks) end(ctx context.Context, c echo.Context) (Ending, shopify.Shop) {
	verified := trailOf(ctx).begin(stepVerify)
	signed, err := portallink.Parse(c.Request().URL.RawQuery)
	if err == nil {
		err = signed.At(l.Now())
	}
	if err == nil {
		err = clicked(c.Request().Header)
	}
	shop, notShop := shopify.ParseShop(signed.Shop)
	who, notShopper := shopperOf(shop, signed.Customer)
	err = errors.Join(err, hide(notShop), notShopper)
	verified(err)
	if err != nil {
		return Ending{Outcome: Forbidden, Cause: err}, ""
	}
	proven := func(secrets []portallink.Secret) bool { return signed.SignedBy(secrets...) }
	ending, trusted := l.open(ctx, who, visitOf(signed.Destination, signed.Locale), proven, func(ctx context.Context) error {
		spent := trailOf(ctx).begin(stepSpend)
		first, err := l.Store.Spend(ctx, shop, signed.Nonce, signed.Expires)
		spent(err)
		if err == nil && !first {
			err = errUsed
		}
		return err
	})
	if !trusted {
		shop = ""
	}
	return ending, shop
}

var errShop = errors.New("not a shop's name")

// hide keeps what was sent out of the log.
func hide(err error) error {
	if err != nil {
		return errShop
	}
	return nil
}

// clicked is nil if a shopper is on the way, as far as the browser says. What it
// fetches ahead, or a script asks for, must not use the link up.
func clicked(header http.Header) error {
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

// answer turns an ending into what the shopper gets: no store is there to draw a page
// in its theme.
func (l *SignedLinks) answer(c echo.Context, id string, shop shopify.Shop, ending Ending) error {
	languages := c.Request().Header.Get("Accept-Language")
	switch ending.Outcome {
	case Redirected, RedirectedByHash:
		c.Response().Header().Set(echo.HeaderLocation, ending.Link.URL)
		return c.NoContent(http.StatusFound)
	case Forbidden:
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
		page.Home = l.Home(shop) + "/"
	}
	body, err := l.Pages.Own(string(ending.Outcome), page)
	if err != nil {
		return fmt.Errorf("draw %s: %w", ending.Outcome, err)
	}
	c.Response().Header().Set("Content-Security-Policy", l.Pages.OwnPolicy())
	return c.HTMLBlob(http.StatusOK, body)
}

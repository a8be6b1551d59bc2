package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/templates"
)

// SignedLinks answers GET /go, which shoppers open by a link that the shop's own middleware has
// signed.
type SignedLinks struct {
	*APIKeyAuth
	Recorder *portal.Recorder
	Pages    *templates.Pages
	Platform shopify.Platform
	Now      func() time.Time
}

// Register adds the route. HEAD is not accepted, because it would use up the link.
func (l *SignedLinks) Register(e *echo.Echo) { e.GET("/go", l.handle) }

var (
	errUsed     = errors.New("the link has been used")
	errPrefetch = errors.New("the browser only fetches ahead")
	errShop     = errors.New("not a shop's name")
)

func (l *SignedLinks) handle(c echo.Context) error {
	click := begin(portal.FromSignedLink, l.Now, l.Pages)
	result := l.follow(c, click)
	if click.shop != "" {
		click.home = l.Platform.ShopURL(click.shop) + "/"
	}
	return click.finish(c, l.Recorder, result)
}

// follow reads the link and resolves it.
func (l *SignedLinks) follow(c echo.Context, click *clickRequest) (result portal.Result) {
	defer portal.Recover(&result)
	ctx, cancel := l.limit(c)
	defer cancel()
	start := click.trace.Now()
	signed, who, err := l.read(c.Request())
	click.trace.End(portal.StepVerify, start, err)
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}
	}
	click.locale = signed.Locale
	loaded, err := l.authenticate(ctx, click, who, signed.SignedBy)
	if err == nil {
		err = l.useUp(ctx, click, signed)
	}
	if err != nil {
		return refuse(err)
	}
	visit := visitOf(signed.Destination, signed.Locale)
	return l.Resolver.Resolve(ctx, portal.Request{Shopper: who, Visit: visit, Loaded: loaded}, click.trace)
}

// read parses a link and checks that it is a click and in time. It does not verify the signature.
func (l *SignedLinks) read(request *http.Request) (portallink.Signed, store.Shopper, error) {
	signed, err := portallink.Parse(request.URL.RawQuery)
	if err == nil {
		err = signed.At(l.Now())
	}
	if err == nil {
		err = isClick(request.Header)
	}
	shop, notShop := shopify.ParseShop(signed.Shop)
	if notShop != nil {
		notShop = errShop // keeps the sent text out of the log
	}
	who, notShopper := shopperOf(shop, signed.Customer)
	return signed, who, errors.Join(err, notShop, notShopper)
}

// useUp makes sure that a link works only once.
func (l *SignedLinks) useUp(ctx context.Context, click *clickRequest, signed portallink.Signed) error {
	start := click.trace.Now()
	first, err := l.Store.UseNonce(ctx, click.shop, signed.Nonce, signed.Expires)
	click.trace.End(portal.StepNonce, start, err)
	if err == nil && !first {
		return errUsed
	}
	return err
}

// isClick returns nil if the browser says that a shopper is opening the page. A prefetch or a
// script must not use up the link.
func isClick(header http.Header) error {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		if header.Get(name) != "" { // browsers send them only with a prefetch, a prerender or a preview
			return errPrefetch
		}
	}
	if !navigates(header) {
		return errNoNavigation
	}
	return nil
}

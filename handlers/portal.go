// Package handlers answers requests, one file a route. A handler reads the
// request, asks, and answers; what went wrong becomes an answer in one place.
package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

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
	LegacyAccounts bool // of a shop of which it is not known: sign in at /account/login
	ByPage         bool // forward by a page instead of a 302
	*Book
}

// Register adds the route. Both forms of the path are there, because a redirect
// from one to the other would put Shopify's signature into the address bar.
func (p *Portal) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions", "/apps/subscriptions/", "/apps/subscriptions/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

// handle ends a click, answers it and tells of it.
func (p *Portal) handle(c echo.Context) error {
	start := p.Now()
	asked := asked{id: requestID()}
	trail, ctx := newTrail(c.Request().Context(), p.Now)
	ending := p.end(ctx, c, &asked)
	err := p.answer(c, asked, ending)
	p.write(ctx, asked.id, asked.who.Shop, FromStorefront, start, trail, ending)
	return err
}

// end finds out what is asked and how it ends. A fault of ours ends in a page,
// too: of a 5xx Shopify would make one that says nothing.
func (p *Portal) end(ctx context.Context, c echo.Context, a *asked) (ending Ending) {
	defer func() {
		if value := recover(); value != nil {
			ending = Ending{Outcome: Unavailable, Cause: &panicked{value, debug.Stack()}}
		}
	}()
	verified := trailOf(ctx).begin(stepVerify)
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, c.Param("*"))
	verified(err)
	if err == nil && p.ByPage && !navigates(c.Request().Header) {
		err = errNoNavigation
	}
	if err != nil {
		return Ending{Outcome: Forbidden, Cause: err}
	}
	a.read(request)
	if a.who.Customer == "" {
		return p.nobody(ctx, a)
	}
	return p.Clicks.Open(ctx, a.who, a.visit)
}

// nobody ends the click of a visitor whom Shopify does not know.
func (p *Portal) nobody(ctx context.Context, a *asked) Ending {
	way, err := p.Clicks.Shops.Find(ctx, a.who.Shop)
	switch {
	case err != nil:
		return Ending{Outcome: Unavailable, Cause: err}
	case way == nil:
		return Ending{Outcome: NotConnected}
	case a.returned:
		return Ending{Outcome: SignInFailed, Way: way}
	}
	return Ending{Outcome: SignIn, Way: way}
}

var errNoNavigation = errors.New("a script or a frame asks, not the shopper")

// navigates tells that the browser is on its way to another page, as far as it
// says. A page that forwards is the store's own, so that any of the store's
// scripts could read the portal's address in it. A visit that the store's
// service worker passes on has no destination any more. No script of a page can
// ask in that mode; the worker itself could read the answer, and to refuse it
// would be a dead end for every shopper of that store.
func navigates(header http.Header) bool {
	mode, destination := header.Get("Sec-Fetch-Mode"), header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (destination == "" || destination == "document" || mode == "navigate" && destination == "empty")
}

// asked is what a verified request asks for.
type asked struct {
	id       string // the request's
	who      store.Shopper
	visit    store.Visit
	path     string // this page on the storefront
	back     string // the same, marked as returned from the sign-in
	returned bool   // from there
}

func (a *asked) read(request shopify.ProxyRequest) {
	a.who = store.Shopper{Shop: request.Shop, Customer: request.Customer}
	a.visit = store.Visit{
		To:     recharge.ParseDestination(request.Destination),
		Locale: recharge.ParseLocale(request.Query.Get("locale")),
	}
	a.returned = request.Query.Has(returned)
	path := request.PathPrefix
	if request.Destination != "" {
		path += "/" + string(a.visit.To)
	}
	query := url.Values{}
	if a.visit.Locale != "" {
		query.Set("locale", string(a.visit.Locale))
	}
	a.path = withQuery(path, query)
	query.Set(returned, "1")
	a.back = withQuery(path, query)
}

func withQuery(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// signIn is the storefront's sign-in page, on its own host, up to the path that
// it returns to. Shopify takes only relative ones.
// https://shopify.dev/docs/storefronts/themes/login
func (p *Portal) signIn(way *Way) string {
	if way == nil && p.LegacyAccounts || way != nil && way.LegacyAccounts {
		return "/account/login?return_url="
	}
	return "/customer_authentication/login?return_to="
}

// requestID is short enough to be read out on the telephone. It is never taken
// from the request, which could write into the log with it.
func requestID() string { return strings.ToLower(rand.Text()[:10]) }

// logClick writes a click's one line in the log.
func logClick(ctx context.Context, log *slog.Logger, click Click) {
	if !log.Enabled(ctx, click.Level) {
		return
	}
	attributes := make([]slog.Attr, 0, 9)
	attributes = append(attributes,
		slog.String("request_id", click.RequestID),
		slog.String("outcome", string(click.Outcome)),
		slog.Float64("ms", milliseconds(click.Took)),
	)
	if click.Door != FromStorefront {
		attributes = append(attributes, slog.String("door", string(click.Door)))
	}
	if click.Shop != "" {
		attributes = append(attributes, slog.String("shop", string(click.Shop)))
	}
	if click.Source != "" {
		attributes = append(attributes, slog.String("source", string(click.Source)))
	}
	attributes = append(attributes, slog.String("steps", line(click.Steps)))
	attributes = append(attributes, causes(click.Cause)...)
	log.LogAttrs(ctx, click.Level, "click", attributes...)
}

// causes are what the log says of why something is not as it should be.
func causes(cause error) []slog.Attr {
	if cause == nil {
		return nil
	}
	attributes := []slog.Attr{slog.String("cause", cause.Error())}
	var fault *panicked
	if errors.As(cause, &fault) {
		attributes = append(attributes, slog.String("stack", string(fault.stack)))
	}
	return attributes
}

// panicked is a fault of ours.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// level makes an error of what somebody must look at: Recharge answers with other
// people's records, or a fault of ours.
func level(cause error) slog.Level {
	var fault *panicked
	switch {
	case errors.As(cause, &fault), recharge.Is(cause, recharge.FilterIgnored), recharge.Is(cause, recharge.Foreign), recharge.Is(cause, recharge.LinkRefused):
		return slog.LevelError
	case recharge.Is(cause, recharge.Ambiguous):
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// level adds that a shopper got less than the portal, signed in.
func (e Ending) level() slog.Level {
	lessThanAsked := e.Outcome == Unavailable || e.Outcome == RedirectedByHash && e.Cause != nil
	if lessThanAsked {
		return max(slog.LevelWarn, level(e.Cause))
	}
	return level(e.Cause)
}

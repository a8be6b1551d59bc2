package handlers

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// SignedLinks answers GET /go, which shoppers open by a link that the shop's own middleware has
// signed.
type SignedLinks struct {
	*APIKeyAuth

	Pages *templates.Pages
}

// Register adds the route. HEAD is not accepted, because it would use up the link.
func (l *SignedLinks) Register(e *echo.Echo) { e.GET("/go", l.open(portal.FromSignedLink)) }

// SupportLinks answers GET /go/support, which opens the portal of a customer for the merchant's staff. No
// API key signs its links: only this server can, while the merchant has turned them on.
type SupportLinks struct{ *SignedLinks }

// Register adds the route.
func (l *SupportLinks) Register(e *echo.Echo) {
	e.GET(merchant.SupportPath, l.open(portal.FromSupport))
}

var (
	errUsed     = errors.New("the link has been used")
	errPrefetch = errors.New("the browser only fetches ahead")
	errShop     = errors.New("not a shop's name")
	errErased   = errors.New("the customer was erased")
)

func (l *SignedLinks) open(channel portal.Channel) echo.HandlerFunc {
	return func(c echo.Context) error {
		click := begin(channel, l.Merchant.Now, l.Pages)
		result := l.follow(c, click)
		if click.shop != "" {
			click.home = l.Merchant.Platform.ShopURL(click.shop) + "/"
			if record := l.Merchant.Store.Seen(click.shop); record != nil && record.Connection != nil {
				click.store = record.Connection.Contact
			}
		}
		return click.finish(c, l.Merchant, result)
	}
}

// follow reads the link and resolves it.
func (l *SignedLinks) follow(c echo.Context, click *clickRequest) (result portal.Result) {
	defer portal.Recover(&result)
	ctx, cancel := l.limit(c)
	defer cancel()
	start := click.trace.Now()
	signed, who, err := l.read(c.Request(), click.channel)
	click.trace.End(portal.StepVerify, start, err)
	if err != nil {
		return portal.Result{Outcome: portal.Forbidden, Cause: err}
	}
	loaded, err := l.authenticate(ctx, click, who, signed.SignedBy)
	if err == nil {
		click.locale = signed.Locale
		if click.channel == portal.FromSupport {
			err = l.readSupport(ctx, click, signed, who, loaded)
		}
	}
	if err == nil {
		err = l.useUp(ctx, click, signed, fingerprint(c.Request()))
	}
	if err != nil {
		return refuse(err)
	}
	visit := visitOf(signed.Destination, signed.Locale, signed.Country, signed.ReturnTo)
	return l.Merchant.Resolve(ctx, portal.Request{Shopper: who, Visit: visit, Loaded: loaded}, click.trace)
}

// read parses a link and checks that it is a click. It does not verify the signature. Only a browser that says
// so opens a link for support, because staff may paste it into a chat, whose server fetches it for a preview.
func (l *SignedLinks) read(request *http.Request, channel portal.Channel) (portallink.Signed, store.Shopper, error) {
	signed, err := portallink.Parse(request.URL.RawQuery)
	if err == nil {
		err = isClick(request.Header)
	}
	if err == nil && channel == portal.FromSupport && request.Header.Get("Sec-Fetch-Mode") != "navigate" {
		err = errNoNavigation
	}
	shop, notShop := shopify.ParseShop(signed.Shop)
	if notShop != nil {
		notShop = errShop // keeps the sent text out of the log
	}
	who, notShopper := shopperOf(shop, signed.Customer)
	return signed, who, errors.Join(err, notShop, notShopper)
}

// useUp makes sure that a link works only for its time, and only once. A double click counts as one.
// It comes after the check of the signature, because its errors are shown to the shopper.
func (l *SignedLinks) useUp(ctx context.Context, click *clickRequest, signed portallink.Signed, browser string) error {
	start, longest := click.trace.Now(), portallink.Longest
	if click.channel == portal.FromSupport {
		longest = merchant.SupportLife
	}
	if err := signed.Within(start, longest); err != nil {
		return err
	}
	opens, err := l.Merchant.Store.UseNonce(ctx, click.shop, signed.Nonce, browser, signed.Expires)
	click.trace.End(portal.StepNonce, start, err)
	if err == nil && !opens {
		return errUsed
	}
	return err
}

// readSupport notes in the log that a link for support is opened, and refuses one for a customer who was
// erased. Only a click of the customer's own may cache them again.
func (l *SignedLinks) readSupport(
	ctx context.Context, click *clickRequest, signed portallink.Signed, who store.Shopper, loaded *store.Loaded,
) error {
	l.Merchant.Log.InfoContext(ctx, "support link opened",
		"request_id", click.id, "shop", string(click.shop), "link", merchant.SupportID(signed))
	erased, err := l.Merchant.Store.IsRedacted(ctx, loaded.Record, who)
	if err == nil && erased {
		return errErased
	}
	return err
}

// fingerprint returns a digest that is the same for two clicks on one link in the same browser. Its
// key is the link, which Redis does not hold, so it reveals no address and differs for each link.
// X-Forwarded-For comes from a proxy in front of the server, or from the client. It only counts
// beside the address of the connection, so that a client who invents one matches nobody else.
func fingerprint(r *http.Request) string {
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	mac := hmac.New(sha256.New, []byte(r.URL.RawQuery))
	for _, part := range append(r.Header.Values("X-Forwarded-For"), address, r.UserAgent()) {
		_, _ = io.WriteString(mac, part+"\n") // no header contains a line break
	}
	return string(mac.Sum(nil)[:16])
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

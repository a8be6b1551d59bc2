package shopify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	goshopify "github.com/bold-commerce/go-shopify/v4"
)

const (
	// grantScope is all that the app ever asks for.
	grantScope = "write_app_proxy"
	// grantTimeout is for the exchange of the code.
	grantTimeout = 10 * time.Second
)

// Grant is the authorization code grant. Here it only proves who installs: the
// token that it yields is thrown away.
// https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant
type Grant struct {
	options GrantOptions
	apps    []goshopify.App
	now     func() time.Time
}

// GrantOptions are all needed but Platform and HTTP.
type GrantOptions struct {
	ClientID    string
	Secrets     []string // the first exchanges; all verify
	CallbackURL string
	Platform    Platform
	HTTP        http.RoundTripper // nil: the default one
	Now         func() time.Time
}

// NewGrant refuses an empty client id or secret.
func NewGrant(o GrantOptions) (*Grant, error) {
	if o.ClientID == "" || len(o.Secrets) == 0 || slices.Contains(o.Secrets, "") {
		return nil, errors.New("the client id or a client secret is empty")
	}
	if o.HTTP == nil {
		o.HTTP = http.DefaultTransport
	}
	g := &Grant{options: o, now: o.Now}
	for _, secret := range o.Secrets {
		g.apps = append(g.apps, goshopify.App{ApiKey: o.ClientID, ApiSecret: secret, RedirectUrl: o.CallbackURL, Scope: grantScope})
	}
	return g, nil
}

// AuthorizeURL is where the merchant approves, and comes back from with the
// state.
func (g *Grant) AuthorizeURL(shop Shop, state string) string {
	query := url.Values{"client_id": {g.options.ClientID}, "scope": {grantScope}, "redirect_uri": {g.options.CallbackURL}, "state": {state}}
	return g.options.Platform.ShopURL(shop) + "/admin/oauth/authorize?" + query.Encode()
}

// Callback is what Shopify sends the merchant's browser back with.
type Callback struct {
	Shop        Shop
	Code, State string
}

// ErrNoGrant is what VerifyCallback fails with. Which check it was stands behind
// it, for the log.
var ErrNoGrant = errors.New("authorization refused")

// The shapes of what Shopify signs. go-shopify undoes all escapes before it
// computes the HMAC, so that a "&" or "=" inside a value would stand for itself:
// no value here can have one, but for the "=" at the end of base64. Compiled once
// and never changed.
var (
	codeShape  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
	stateShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	otherShape = regexp.MustCompile(`^[A-Za-z0-9_.,:/+-]*={0,2}$`) // "host" is base64
)

// badCallback names a parameter that is not there once, and in its shape.
func badCallback(query url.Values) string {
	for name, shape := range map[string]*regexp.Regexp{
		"code": codeShape, "hmac": signatureShape, "shop": shopShape, "state": stateShape, "timestamp": timestampShape,
	} {
		if len(query[name]) != 1 || !shape.MatchString(query.Get(name)) {
			return name
		}
	}
	for name, values := range query {
		if len(values) != 1 || name == "signature" || !otherShape.MatchString(name) || !otherShape.MatchString(values[0]) {
			return "another parameter"
		}
	}
	return ""
}

// VerifyCallback reads the query that Shopify sends the browser back with: each
// of its parameters once, signed with one of the app's secrets, and just now.
func (g *Grant) VerifyCallback(rawQuery string) (Callback, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Callback{}, fmt.Errorf("%w: query", ErrNoGrant)
	}
	if bad := badCallback(query); bad != "" {
		return Callback{}, fmt.Errorf("%w: %s", ErrNoGrant, bad)
	}
	seconds, _ := strconv.ParseInt(query.Get("timestamp"), 10, 64)
	if age := g.now().Sub(time.Unix(seconds, 0)); age.Abs() > maxAge {
		return Callback{}, fmt.Errorf("%w: timestamp", ErrNoGrant)
	}
	if !g.signed(rawQuery) {
		return Callback{}, fmt.Errorf("%w: hmac", ErrNoGrant)
	}
	return Callback{Shop(query.Get("shop")), query.Get("code"), query.Get("state")}, nil
}

// signed tries every secret, found or not, so that its time tells nothing.
func (g *Grant) signed(rawQuery string) bool {
	found := false
	for _, app := range g.apps {
		if ok, err := app.VerifyAuthorizationURL(&url.URL{RawQuery: rawQuery}); ok && err == nil {
			found = true
		}
	}
	return found
}

// Redeem exchanges the code, which proves that Shopify has given it to this app
// for this shop, just now and once. The token is dropped where it arrives.
func (g *Grant) Redeem(ctx context.Context, shop Shop, code string) error {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	app := g.apps[0]
	// A client of its own: go-shopify's share state, and one is asked for one shop.
	client, err := goshopify.NewClient(app, string(shop), "", goshopify.WithHTTPClient(&http.Client{
		Transport:     exchange{g.options.HTTP, g.options.Platform, shop},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return fmt.Errorf("%w: client", ErrNoGrant)
	}
	app.Client = client
	token, err := app.GetAccessToken(ctx, string(shop), code)
	switch {
	case err != nil: // go-shopify repeats the answer in it
		return fmt.Errorf("%w: the code was not exchanged", ErrNoGrant)
	case token == "":
		return fmt.Errorf("%w: no token came for the code", ErrNoGrant)
	}
	return nil
}

// exchange sends go-shopify's request to the shop, bounded, and nowhere else.
type exchange struct {
	next     http.RoundTripper
	platform Platform
	shop     Shop
}

func (e exchange) RoundTrip(request *http.Request) (*http.Response, error) {
	to, err := url.Parse(e.platform.ShopURL(e.shop))
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = to.Scheme, to.Host, to.Host
	response, err := e.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, 64<<10), response.Body}
	return response, nil
}
